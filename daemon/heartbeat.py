"""A sign of life for whoever watches from outside: a small file, written again and again.

The dead-man script (systemd/strong-vivarium-deadman.sh) reads it. Times are seconds since the machine's start, which no
setting of the clock moves.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from drivers.clock import NS_PER_S

logger = logging.getLogger(__name__)


def uptime_s() -> float:
    """Seconds since the machine's start, as the first number of /proc/uptime."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Heartbeat:
    """Writes the file; each time it is either the old one or the new one.

    Parameters
    ----------
    path : Path
        The file; on a file system in memory, since it is written every second.
    version : str
        Of the program.
    uptime : callable
        Seconds since the machine's start.
    """

    def __init__(self, path: Path, *, version: str, uptime: Callable[[], float] = uptime_s) -> None:
        self._path = path
        self._version = version
        self._uptime = uptime
        self._started_s = uptime()
        self._failing = False

    def write(self, *, now_monotonic_ns: int, last_good_monotonic_ns: int | None, stalled: Sequence[str]) -> None:
        """Say that the service lives; a file that cannot be written is told once and tried again.

        Parameters
        ----------
        now_monotonic_ns : int
            Now, on the clock of the next.
        last_good_monotonic_ns : int or None
            Of the last good, changing frame.
        stalled : sequence of str
            Parts that make no progress.
        """
        now_s = self._uptime()
        lines = {
            "uptime_s": f"{now_s:.3f}",
            "started_uptime_s": f"{self._started_s:.3f}",
            "stalled": ", ".join(stalled),
            "version": self._version,
            "pid": str(os.getpid()),
        }
        if last_good_monotonic_ns is not None:
            age_s = (now_monotonic_ns - last_good_monotonic_ns) / NS_PER_S
            lines["last_good_frame_uptime_s"] = f"{max(now_s - age_s, 0):.3f}"
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            new.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="utf-8")
            new.chmod(0o644)  # for everybody: there is nothing secret in it
            new.replace(self._path)
        except OSError as error:
            if not self._failing:
                logger.error("the sign of life %s cannot be written: %s", self._path, error.strerror)
            self._failing = True
        else:
            self._failing = False
