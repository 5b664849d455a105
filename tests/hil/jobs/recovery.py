"""The product's capture loop with its ladder of recovery: unplugging, silence, a hung control."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from daemon.cameras import camera_device, camera_opener
from daemon.capture import CaptureLoop, CaptureSettings
from daemon.sampling import CameraFound, CameraLost, Sampler
from daemon.settings import CameraSettings
from drivers.clock import SystemClock
from drivers.frame import FrameFlag, ThermalFrame
from drivers.virtual.control_socket import Operator
from tests.hil.jobs.plain_reader import await_node

_BETWEEN_S = 0.3
_UNPLUGGED_S = 0.05
_FOREVER_S = 60.0
_STEADY_AFTER = 5
"""Cycles after which descriptors, threads and memory must not grow any more."""


class Witness:
    """Stands where the sampler stands and notes when what came."""

    block = None

    def __init__(self) -> None:
        self.lost_s = self.good_s = self.found_s = 0.0
        self.good = self.lost = 0

    def camera(self, change: CameraFound | CameraLost) -> None:
        """A camera came or went."""
        if isinstance(change, CameraLost):
            self.lost_s = time.monotonic()
            self.lost += 1
        else:
            self.found_s = time.monotonic()

    def offer(self, frame: ThermalFrame) -> None:
        """A good frame."""
        if not frame.flags & FrameFlag.SHUTTER:
            self.good_s = time.monotonic()
            self.good += 1

    def trouble(self, why: str) -> None:
        """No good frame; what matters here is when the loop gives up."""

    def look(self, *, utc_ns: int, monotonic_ns: int) -> None:
        """Time has passed."""


def run(kind: str, cycles: str = "1") -> dict[str, Any]:
    """One kind of trouble, again and again, under a running capture loop."""
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(threadName)s %(message)s")
    await_node()
    settings = CameraSettings(kind="t2s_plus")
    witness = Witness()
    loop = CaptureLoop(
        camera_opener(settings, SystemClock()),
        cast(Sampler, witness),
        clock=SystemClock(),
        settings=CaptureSettings(
            frame_timeout_s=settings.frame_timeout_s,
            retry_max_s=settings.retry_max_s,
            recalibrate_after_s=settings.recalibrate_after_s,
        ),
        beat=lambda: None,
        device=camera_device(settings),
    )
    thread = threading.Thread(target=loop.run, name="capture")
    thread.start()
    try:
        _await(lambda: witness.good_s > 0, "the first frame")
        result = _KINDS[kind](witness, loop, int(cycles))
    finally:
        loop.stop()
        thread.join()
    return result | {"steps": dict(loop.ladder.counts), "failures": dict(loop.ladder.failures)}


def _unplug(witness: Witness, loop: CaptureLoop, cycles: int) -> dict[str, Any]:
    operator, noticed, back, resources = Operator(), [], [], []
    for _ in range(cycles):
        time.sleep(_BETWEEN_S)
        noticed.append(_timed(lambda: operator("unplug"), lambda since_s: witness.lost_s > since_s))
        time.sleep(_UNPLUGGED_S)
        back.append(_timed(lambda: operator("plug"), lambda since_s: witness.good_s > since_s))
        resources.append(_resources())
    return {
        "noticed_s": noticed,
        "back_s": back,
        "before": resources[min(_STEADY_AFTER, cycles) - 1],
        "after": resources[-1],
    }


def _freeze(witness: Witness, loop: CaptureLoop, cycles: int) -> dict[str, Any]:
    operator, noticed, back = Operator(), [], []
    for _ in range(cycles):
        time.sleep(_BETWEEN_S)
        noticed.append(_timed(lambda: operator("freeze"), lambda since_s: witness.lost_s > since_s))
        back.append(_timed(lambda: operator("thaw"), lambda since_s: witness.good_s > since_s))
    return {"noticed_s": noticed, "back_s": back}


def _hung_control(witness: Witness, loop: CaptureLoop, cycles: int) -> dict[str, Any]:
    """The control hangs while frames are read; a shutter cycle is asked for, as a user would."""
    operator = Operator()
    time.sleep(_QUIET_S)  # the commands of the start-up are through
    operator("hangctl")
    camera = loop._camera  # noqa: SLF001 - the loop asks for a cycle by itself only after minutes
    if camera is None:
        raise RuntimeError("the camera is not open")
    good, lost = witness.good, witness.lost
    started_s = time.monotonic()
    camera.calibrate()
    time.sleep(_HUNG_S)
    rate_hz = (witness.good - good) / (time.monotonic() - started_s)
    notes = list(loop.notes)
    operator("unhangctl")
    return {"rate_hz": round(rate_hz, 2), "lost": witness.lost - lost, "notes": notes}


_QUIET_S = 6.0
_HUNG_S = 8.0
_KINDS: dict[str, Callable[[Witness, CaptureLoop, int], dict[str, Any]]] = {
    "unplug": _unplug,
    "freeze": _freeze,
    "hung_control": _hung_control,
}


def _timed(deed: Callable[[], object], done: Callable[[float], bool]) -> float:
    since_s = time.monotonic()
    deed()
    _await(lambda: done(since_s), "the capture loop to notice")
    return round(time.monotonic() - since_s, 3)


def _await(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + _FOREVER_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"waited {_FOREVER_S:g} s for {what}")
        time.sleep(0.01)


def _resources() -> dict[str, int]:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    resident_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return {
        "open_files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": threading.active_count(),
        "resident_kib": resident_kib,
    }
