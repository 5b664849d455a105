"""What gives way when the disk fills: a fixed order, planned here without touching a file.

Nothing in this module reads or deletes anything. `daemon.disk_files` finds the candidates, `daemon.caretaker` carries
out what `plan` says. What is not in `Level` is never given up: measurements and the databases that hold them, values of
minutes included, set aside or not, sidecars, and whatever a pin names.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import IntEnum, StrEnum
from pathlib import Path

GB = 1_000_000_000

MARGIN = 1.05
"""So much more than the minimum is made free at once, and must be there before a low disk counts as well again."""

LARGEST_SHARE_KEPT_FREE = 0.25
"""A minimum of free space that the disk is too small for counts as this share of the disk."""

MINUTE_VALUE_BYTES = 90
"""What a value of a minute takes in a SQLite file, its index included; `tests/bench/test_bench_store.py` prints it."""

FEWEST_FRAMES = 300
"""Fewer recorded or stored frames do not tell how fast the disk fills."""


class Level(IntEnum):
    """The order of sacrifice: a level is touched when all of the lower ones are gone."""

    TEMPORARY = 1
    """Unfinished copies that a crash has left, older than an hour."""
    DATABASE_COPY = 2
    """Copies made before an upgrade of the database, but the newest."""
    SET_ASIDE = 3
    """What was of no use and set aside beside recordings and the camera's files, older than 30 days."""
    RECORDING = 4
    """Raw recordings, the oldest first; never those of the newest block, of an open one, or pinned ones."""


class Why(StrEnum):
    """Why something was given up; fit for the database."""

    MIN_FREE = "min_free"
    """The disk had less free space than `disk.min_free_gb`."""
    BUDGET = "budget"
    """The recordings took more than `disk.budget_gb`."""
    KEEP_DAYS = "keep_days"
    """It was older than `disk.keep_days`."""
    ASKED = "asked"
    """Somebody asked for room by hand."""
    FILE_MISSING = "file_missing"
    """Its file was gone: removed by hand, or in the moment of a power cut while it was freed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file that may be given up."""

    path: Path
    level: Level
    size_bytes: int
    """On the disk."""
    day: date | None = None
    """Local date of the block; recordings only."""
    written_ns: int = 0
    """When its file was last changed; the order within a level and a day."""
    pinned: bool = False
    in_use: bool = False
    """Of an open block, or of the newest one."""
    elsewhere: bool = False
    """On another file system than the one whose free space counts: giving it up makes no room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the disk is to be kept to."""

    min_free_bytes: int
    budget_bytes: int | None = None
    keep_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sacrifice:
    """A file that is to be given up, and why."""

    candidate: Candidate
    why: Why


def min_free_bytes(wanted_gb: float, total_bytes: int) -> int:
    """The minimum of free space on a disk of this size."""
    return min(round(wanted_gb * GB), round(total_bytes * LARGEST_SHARE_KEPT_FREE))


def plan(
    candidates: Iterable[Candidate],
    *,
    free_bytes: int,
    limits: Limits,
    today: date,
    more_bytes: int = 0,
    why: Why = Why.MIN_FREE,
) -> list[Sacrifice]:
    """Choose what gives way, in the order in which it does.

    Parameters
    ----------
    candidates : iterable of Candidate
        All that there is; pinned ones and those in use count for the budget and stay.
    free_bytes : int
        What the disk has now.
    limits : Limits
        Of age, then of the recordings' total, then of free space.
    today : date
        Local date in the housing room; see `trusted_day`.
    more_bytes : int
        Needed above the minimum: the ballast that is to be made again.
    why : Why
        What is said of files that give way for free space.
    """
    ordered = sorted(candidates, key=lambda each: (each.level, each.day or date.min, each.written_ns, each.path))
    may_go = [each for each in ordered if not each.pinned and not each.in_use]
    chosen: dict[Path, Sacrifice] = {}

    def give_up(each: Candidate, reason: Why) -> None:
        chosen[each.path] = Sacrifice(candidate=each, why=reason)

    if limits.keep_days is not None:
        oldest_kept = today - timedelta(days=limits.keep_days)
        for each in may_go:
            if each.day is not None and each.day < oldest_kept:
                give_up(each, Why.KEEP_DAYS)
    if limits.budget_bytes is not None:
        taken = sum(each.size_bytes for each in ordered if each.level is Level.RECORDING and each.path not in chosen)
        for each in may_go:
            if taken > limits.budget_bytes and each.level is Level.RECORDING and each.path not in chosen:
                give_up(each, Why.BUDGET)
                taken -= each.size_bytes
    free_bytes += sum(each.candidate.size_bytes for each in chosen.values() if not each.candidate.elsewhere)
    needed = limits.min_free_bytes + more_bytes
    if free_bytes < needed:
        for each in may_go:
            if free_bytes < needed * MARGIN and each.path not in chosen and not each.elsewhere:
                give_up(each, why)
                free_bytes += each.size_bytes
    return [chosen[each.path] for each in ordered if each.path in chosen]


def trusted_day(wall_day: date, newest_day: date | None, elapsed_days: int = 0) -> date:
    """The day that ages are counted from: a clock that is wrong by years must not make everything old.

    Parameters
    ----------
    wall_day : date
        What the clock says.
    newest_day : date or None
        Of the newest recording at some moment; None without recordings.
    elapsed_days : int
        Whole days since that moment, by a clock that nobody sets.

    Returns
    -------
    date
        Not later than the day after the newest recording and what has passed since.
    """
    return wall_day if newest_day is None else min(wall_day, newest_day + timedelta(days=elapsed_days + 1))


def bytes_per_frame(size_bytes: int, frames: int) -> float | None:
    """What a frame takes; None when there are too few to say."""
    return size_bytes / frames if frames >= FEWEST_FRAMES else None


def days_until_full(free_bytes: int, limits: Limits, bytes_per_day: float | None) -> float | None:
    """After how many planned days only the minimum is left; None when that cannot be told, or never comes."""
    if bytes_per_day is None or bytes_per_day <= 0:
        return None
    return max(0, free_bytes - limits.min_free_bytes) / bytes_per_day


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What of a study is kept: one block, or all blocks of some local days."""

    name: str
    reason: str = ""
    created_utc_ns: int = 0
    block_key: str | None = None
    first_day: date | None = None
    last_day: date | None = None
    """Included."""

    def covers(self, day: date, block_key: str) -> bool:
        """Whether a recording of this block is kept; what a changed plan renamed (KEY~1) counts as KEY."""
        if self.block_key is not None:
            return self.block_key.partition("~")[0] == block_key
        return self.first_day is not None and self.last_day is not None and self.first_day <= day <= self.last_day


def names_of(pins: Sequence[Pin], day: date, block_key: str) -> frozenset[str]:
    """Names of the pins that cover a recording."""
    return frozenset(pin.name for pin in pins if pin.covers(day, block_key))
