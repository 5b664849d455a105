"""How evenly frames are captured, by the capture thread's own times, and how evenly the machine lets anybody run."""

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S, Clock, SimulatedClock, SystemClock
from drivers.errors import FrameTimeoutError
from drivers.frame import FrameFlag, ThermalFrame
from drivers.simulated import SimulatedCamera

PERIOD_NS = NS_PER_S // 25
GAP_LIMIT_S = 0.1
BLOCKED_S = 1.0
"""Less than any time for which something in the service might wait: the shortest is the 2 s of a locked database."""

_REEL_FRAMES = 25
_TICK_S = 0.005
_STALL_NS = 25_000_000


def queued_s(thread: int) -> float:
    """How long a thread has wanted to run and was not let by the machine; 0 where Linux does not tell.

    It is named by its native number; the main thread of a process has the number of the process.
    """
    path = Path(f"/proc/{thread}/schedstat")
    return int(path.read_text().split()[1]) / NS_PER_S if path.exists() else 0.0


class ReelCamera:
    """25 frames a second that cost nothing to make: a simulated camera's second, shown again and again.

    As with a real camera a reader that comes late gets the newest frame, and the others are gone.
    """

    def __init__(self) -> None:
        with SimulatedCamera.create(clock=SimulatedClock(1_790_046_000 * NS_PER_S), seed=5) as camera:
            self._reel = [camera.read(1) for _ in range(_REEL_FRAMES)]
        self.info: CameraInfo = camera.info
        self.captured_ns: list[int] = []
        """When each frame that was read was captured, monotonic."""
        self.clock: Clock = SystemClock()
        """Whose wall time frames have: that of the service, if it is another one."""
        self.calibrations = 0
        """How often the shutter was asked for."""
        self._shut_until = -1
        self._start_ns = self._last = 0

    def __enter__(self) -> "ReelCamera":
        self._start_ns, self._last = time.monotonic_ns(), 0
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def calibrate(self) -> None:
        """See `ThermalCamera`."""
        self.calibrations += 1
        self._shut_until = self._last + 32

    def read(self, timeout_s: float) -> ThermalFrame:
        """See `ThermalCamera`."""
        deadline_ns = time.monotonic_ns() + round(timeout_s * NS_PER_S)
        number = max(self._last + 1, (time.monotonic_ns() - self._start_ns) // PERIOD_NS)
        due_ns = self._start_ns + number * PERIOD_NS
        if due_ns > deadline_ns:
            raise FrameTimeoutError("no frame in time")
        while (left_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / NS_PER_S)
        frame = self._reel[number % _REEL_FRAMES]
        self._last = number
        self.captured_ns.append(due_ns)
        return replace(
            frame,
            sequence=number,
            captured_monotonic_ns=due_ns,
            captured_utc_ns=self.clock.utc_ns() - (time.monotonic_ns() - due_ns),
            flags=frame.flags | FrameFlag.SHUTTER if number <= self._shut_until else frame.flags,
        )


class Pacemaker:
    """A thread of this process that wants to run each 5 ms and notes when it was not let."""

    def __init__(self) -> None:
        self.stalls: list[tuple[int, int]] = []
        """From when to when, monotonic."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pacemaker")

    def __enter__(self) -> "Pacemaker":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        before_ns = time.monotonic_ns()
        while not self._stop.wait(_TICK_S):
            now_ns = time.monotonic_ns()
            if now_ns - before_ns > _STALL_NS:
                self.stalls.append((before_ns, now_ns))
            before_ns = now_ns


class OutsidePacemaker:
    """The same in a process of its own: it sees what the machine does to everybody, and nothing that we do."""

    _SCRIPT = f"""
import sys, time
before = time.monotonic_ns()
while True:
    time.sleep({_TICK_S})
    now = time.monotonic_ns()
    if now - before > {_STALL_NS}:
        print(before, now, flush=True)
    before = now
"""

    def __init__(self) -> None:
        self.stalls: list[tuple[int, int]] = []
        self._reader = threading.Thread(target=self._read, name="outside-pacemaker")

    def __enter__(self) -> "OutsidePacemaker":
        self._process = subprocess.Popen([sys.executable, "-c", self._SCRIPT], stdout=subprocess.PIPE, text=True)
        self._reader.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                before_ns, now_ns = line.split()
                self.stalls.append((int(before_ns), int(now_ns)))


@dataclass(frozen=True)
class Gaps:
    """How evenly frames came in one phase."""

    frames: int
    longest_s: float
    """Between two frames; 0.04 s is none lost, 0.08 s is one."""
    held: int
    """Gaps that reach the limit though the machine let others run meanwhile."""
    excused: int
    """Gaps that reach the limit while the machine let nobody run."""
    longest_held_s: float
    """The longest of those that are not excused."""

    def __str__(self) -> str:
        return f"{self.longest_held_s:.2f} s" + (
            f" ({self.excused} while the machine stood still)" * bool(self.excused)
        )


def gaps_between(captured_ns: Sequence[int], stalls: Sequence[tuple[int, int]], start_ns: int, end_ns: int) -> Gaps:
    """Judge the frames captured between two moments."""
    times = [at_ns for at_ns in list(captured_ns) if start_ns <= at_ns <= end_ns]
    pairs = list(zip([start_ns, *times], [*times, end_ns], strict=True))
    limit_ns = round(GAP_LIMIT_S * NS_PER_S)
    long = [pair for pair in pairs if pair[1] - pair[0] >= limit_ns]
    known = list(stalls)
    excused = [
        (before, after)
        for before, after in long
        if sum(max(0, min(after, end) - max(before, start)) for start, end in known) >= (after - before - limit_ns)
        and any(start < after and end > before for start, end in known)
    ]
    not_excused = [after - before for before, after in pairs if (before, after) not in excused]
    return Gaps(
        frames=len(times),
        longest_s=max(after - before for before, after in pairs) / NS_PER_S,
        held=len(long) - len(excused),
        excused=len(excused),
        longest_held_s=max(not_excused, default=0) / NS_PER_S,
    )
