"""Time as it is handed to everything that waits or stamps."""

import threading
import time
from typing import Protocol

NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """Wall time for records, monotonic time for durations, and the only way to wait."""

    def utc_ns(self) -> int:
        """Wall time, nanoseconds since the Unix epoch; may step."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never steps back."""
        ...

    def wait(self, duration_s: float, until: threading.Event | None = None) -> bool:
        """Wait for `duration_s` (negative counts as 0) or until the event is set; True when it is set."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def utc_ns(self) -> int:
        """See `Clock`."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """See `Clock`."""
        return time.monotonic_ns()

    def wait(self, duration_s: float, until: threading.Event | None = None) -> bool:
        """See `Clock`."""
        if until is not None:
            return until.wait(max(duration_s, 0.0))
        if duration_s > 0:
            time.sleep(duration_s)
        return False


class SimulatedClock:
    """A clock that jumps instead of waiting, so that a day passes as fast as the machine can work.

    It belongs to one thread: two threads that wait on it would each move the time of the other.
    """

    def __init__(self, utc_ns: int) -> None:
        self._utc_ns = utc_ns
        self._monotonic_ns = 0

    def utc_ns(self) -> int:
        """See `Clock`."""
        return self._utc_ns

    def monotonic_ns(self) -> int:
        """See `Clock`."""
        return self._monotonic_ns

    def wait(self, duration_s: float, until: threading.Event | None = None) -> bool:
        """See `Clock`."""
        if until is not None and until.is_set():
            return True
        self.advance(max(duration_s, 0.0))
        return False

    def advance(self, duration_s: float) -> None:
        """Let time pass on both clocks."""
        if duration_s < 0:
            raise ValueError(f"time passes forwards only, got {duration_s} s; use step_wall for a clock step")
        step_ns = round(duration_s * NS_PER_S)
        self._utc_ns += step_ns
        self._monotonic_ns += step_ns

    def step_wall(self, step_s: float) -> None:
        """Set the wall clock forwards or back, as an administrator or NTP would."""
        self._utc_ns += round(step_s * NS_PER_S)
