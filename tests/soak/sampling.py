"""What is seen of a running service from outside: memory, files and threads in /proc, and its own status by HTTP."""

import csv
import json
import os
import time
import urllib.request
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

_BYTES_PER_KIB = 1024
_BYTES_PER_MB = 1e6
_ANSWER_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at the service."""

    elapsed_s: float
    """Since the first look, monotonic."""
    resident_mb: float
    """Memory of the process that is in use, 1e6 bytes."""
    open_files: float
    threads: float
    processor_s: float
    """Time that the process has spent on processors since its start."""
    frames: float
    """Good frames captured since the start."""
    captured: float
    """Planned moments that were captured."""
    expected: float
    """Planned moments that are over."""
    stored: float
    """Frames in the database."""
    waiting: float
    """Frames between capture and database."""
    outbox: float


def look(pid: int, status_url: str, started_s: float) -> Look:
    """Look once.

    Raises
    ------
    OSError
        If the process is gone or does not answer.
    """
    process = Path("/proc") / str(pid)
    with urllib.request.urlopen(status_url, timeout=_ANSWER_S) as answer:
        status: dict[str, Any] = json.load(answer)
    lines = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    times = (process / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return Look(
        elapsed_s=round(time.monotonic() - started_s, 3),
        resident_mb=round(int(lines["VmRSS"].split()[0]) * _BYTES_PER_KIB / _BYTES_PER_MB, 3),
        open_files=sum(1 for _ in (process / "fd").iterdir()),
        threads=int(lines["Threads"]),
        processor_s=sum(map(int, times)) / os.sysconf("SC_CLK_TCK"),
        frames=status["camera"]["frames"],
        captured=status["block"]["captured_24h"],
        expected=status["block"]["expected_24h"],
        stored=status["store"]["frames"],
        waiting=status["store"]["waiting"],
        outbox=status["store"]["outbox"],
    )


class LookFile:
    """A CSV file with a row per look, written through at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, [field.name for field in fields(Look)])
        self._writer.writeheader()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def add(self, seen: Look) -> None:
        """Write one row."""
        self._writer.writerow(asdict(seen))
        self._file.flush()


def read_looks(path: Path) -> tuple[Look, ...]:
    """All rows of such a file, oldest first."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(Look(**{name: float(value) for name, value in row.items()}) for row in csv.DictReader(file))
