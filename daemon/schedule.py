"""The stratified schedule: which moments of a local day are sampled. Pure: no clock, no file, no thread.

A plan is a list of clock times. What they mean on days that are not ordinary:

- A block lasts its length in elapsed time, whatever the clock on the wall does meanwhile.
- A time of day that a change of the clock leaves out begins at once after the gap; one that occurs twice counts
  once, the first time (the rules of cron).
- Where a change of the clock pushes blocks together, the later one begins when the earlier ends, and keeps its
  length. Only a plan that leaves less free time in a day than the clock left out cannot make up for it: what is still
  late by the following day is cut where the day after begins.
- A date that a place never had (Samoa, 2011-12-30) has no blocks.
- Zeitgeber times are clock times counted from lights on: the timer of the lights is taken to follow the local clock,
  and an hour that the clock leaves out is left out of the zeitgeber day too. For lights that ignore daylight saving
  set `box.time_zone` to a zone without it, for instance Etc/GMT+3. The zeitgeber day of a date begins at lights on of
  that date, so its last blocks may lie in the small hours of the next.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from daemon.settings import ScheduleSettings
from drivers.clock import NS_PER_S
from drivers.errors import ConfigError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NS_PER_MICROSECOND = 1_000
_ONE_DAY = timedelta(days=1)
_DAY_NS = 86_400 * NS_PER_S
_MINUTE_NS = 60 * NS_PER_S

_FIRST_YEAR, _LAST_YEAR = 1678, 2261
"""Whole years that 64-bit nanoseconds since the epoch can name."""

_DAYS_BACK = 5
"""Blocks of a date end less than so many days after it: zeitgeber time, a length of a day, a date left out, a push."""

_DAYS_AHEAD = 3
"""Every plan with blocks has one within so many days: the next date may be one that never was."""

BY_COMMAND = "by_command"
"""Stratum of recordings that somebody commands; no plan has one of that name."""

_STRATUM_NAME = re.compile(r"[\w-]{1,32}")
"""Names that may stand in a file name and a topic, in any language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBlock:
    """One stretch of evenly spaced moments, each of which wants a frame."""

    day: date
    """The date of the plan it belongs to, local; in zeitgeber time the date of its lights on."""
    stratum: str
    number: int
    """Within the stratum and day, from 1, in order of time."""
    start_utc_ns: int
    duration_ns: int
    """Elapsed time from start to end."""
    period_ns: int
    """Distance of the planned moments."""

    def __post_init__(self) -> None:
        if self.number < 1 or self.duration_ns <= 0 or self.period_ns <= 0:
            raise ValueError(
                "number, duration_ns and period_ns must be positive, "
                f"got {self.number}, {self.duration_ns}, {self.period_ns}"
            )

    @property
    def key(self) -> str:
        """Unique and stable, for instance `2026-11-23/night-1`."""
        return f"{self.day.isoformat()}/{self.stratum}-{self.number}"

    @property
    def end_utc_ns(self) -> int:
        """First nanosecond after the block."""
        return self.start_utc_ns + self.duration_ns

    @property
    def duration_s(self) -> float:
        """Elapsed time from start to end."""
        return self.duration_ns / NS_PER_S

    @property
    def frames(self) -> int:
        """How many moments are planned."""
        return -(-self.duration_ns // self.period_ns)

    @property
    def planned_utc_ns(self) -> range:
        """The planned moments; nothing is computed before it is asked for."""
        return range(self.start_utc_ns, self.end_utc_ns, self.period_ns)

    def facts(self) -> dict[str, str | int | float]:
        """What is to be known of it, for whoever asked for it."""
        return {
            "block": self.key,
            "start_utc_ns": self.start_utc_ns,
            "end_utc_ns": self.end_utc_ns,
            "duration_s": self.duration_s,
            "rate_hz": round(NS_PER_S / self.period_ns, 3),
            "planned_frames": self.frames,
        }

    def planned_at(self, utc_ns: int) -> int | None:
        """The planned moment whose window, from it to the next one, holds this time; None outside the block."""
        if not self.start_utc_ns <= utc_ns < self.end_utc_ns:
            return None
        return utc_ns - (utc_ns - self.start_utc_ns) % self.period_ns


@dataclass(frozen=True, slots=True)
class _Slot:
    """A start time as the plan has it."""

    stratum: str
    number: int
    offset_ns: int
    """Clock time since midnight of the plan's date; 24 h and more is the next date."""
    text: str
    """As it stands in the config."""

    @property
    def name(self) -> str:
        return f"{self.stratum}-{self.number} at {self.text}"


@dataclass(frozen=True, slots=True)
class _Plan:
    """`ScheduleSettings`, checked and in order of time."""

    slots: tuple[_Slot, ...]
    duration_ns: int
    period_ns: int

    @classmethod
    def of(cls, settings: ScheduleSettings) -> "_Plan":
        zero_ns = _since_midnight_ns(settings.lights_on) if settings.times == "zeitgeber" else 0
        slots: list[_Slot] = []
        for stratum, times in settings.strata.items():
            _check_stratum(stratum, times)
            slots += (
                _Slot(stratum, number, zero_ns + _since_midnight_ns(text), text)
                for number, text in enumerate(sorted(times, key=_since_midnight_ns), start=1)
            )
        plan = cls(
            slots=tuple(sorted(slots, key=lambda slot: slot.offset_ns)),
            duration_ns=round(settings.block_minutes * _MINUTE_NS),
            period_ns=math.ceil(NS_PER_S / settings.rate_hz),
        )
        plan._refuse_overlaps()
        return plan

    def _refuse_overlaps(self) -> None:
        for slot, following in pairwise((*self.slots, *self.slots[:1])):
            next_day_ns = _DAY_NS if following is self.slots[0] else 0
            apart_ns = following.offset_ns + next_day_ns - slot.offset_ns
            if apart_ns < self.duration_ns:
                raise ConfigError(
                    f"schedule.strata: {slot.name} and {following.name} overlap: blocks last "
                    f"{self.duration_ns / _MINUTE_NS:g} min and these begin {apart_ns / _MINUTE_NS:g} min apart; "
                    "move one of them or lower schedule.block_minutes"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class StratifiedDay:
    """The plan of one local date: iterate it for its blocks, in order of time."""

    day: date
    zone: ZoneInfo
    lights_on: time
    """Local clock time of ZT0."""
    blocks: tuple[PlannedBlock, ...]

    @classmethod
    def of(cls, day: date, settings: ScheduleSettings, zone: ZoneInfo) -> "StratifiedDay":
        """Plan a date.

        Raises
        ------
        ConfigError
            If blocks of the plan overlap on an ordinary day, or a stratum has no usable name or no times.
        ValueError
            If 64-bit nanoseconds cannot name the date.
        """
        if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
            raise ValueError(f"expected a date in the years {_FIRST_YEAR} to {_LAST_YEAR}, got {day.isoformat()}")
        return cls(
            day=day,
            zone=zone,
            lights_on=time.fromisoformat(settings.lights_on),
            blocks=_blocks_of_day(_Plan.of(settings), day, zone),
        )

    def __iter__(self) -> Iterator[PlannedBlock]:
        return iter(self.blocks)

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def frames(self) -> int:
        """Planned moments of the whole day."""
        return sum(block.frames for block in self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What a stretch of wall time asks for."""

    passed: tuple[PlannedBlock, ...]
    """Blocks that overlap the stretch and are over at its end, in order of time."""
    current: PlannedBlock | None
    """The block that the end of the stretch lies in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRow:
    """One block as a person reads it."""

    key: str
    stratum: str
    start_local: datetime
    """With the zone, and so with the offset that holds at that moment."""
    end_local: datetime
    zeitgeber: str
    """Clock time since lights on at the start, for instance ZT17:30."""
    frames: int


def check_plan(settings: ScheduleSettings) -> None:
    """Refuse a plan that cannot be carried out.

    Raises
    ------
    ConfigError
        If blocks overlap on an ordinary day, or a stratum has no usable name or no times.
    """
    _Plan.of(settings)


def blocks_between(
    start_utc_ns: int, stop_utc_ns: int, settings: ScheduleSettings, zone: ZoneInfo
) -> tuple[PlannedBlock, ...]:
    """All blocks that share a moment with the stretch from start to before stop, in order of time."""
    blocks = _blocks_around(_Plan.of(settings), zone, start_utc_ns, stop_utc_ns)
    return tuple(block for block in blocks if block.start_utc_ns < stop_utc_ns and block.end_utc_ns > start_utc_ns)


def block_at(utc_ns: int, settings: ScheduleSettings, zone: ZoneInfo) -> PlannedBlock | None:
    """The block that holds this time."""
    return due(utc_ns, utc_ns, settings, zone).current


def next_block(utc_ns: int, settings: ScheduleSettings, zone: ZoneInfo) -> PlannedBlock | None:
    """The first block that starts later than this time; None for a plan without blocks."""
    blocks = _blocks_around(_Plan.of(settings), zone, utc_ns, utc_ns)
    return next((block for block in blocks if block.start_utc_ns > utc_ns), None)


def due(previous_utc_ns: int, now_utc_ns: int, settings: ScheduleSettings, zone: ZoneInfo) -> Due:
    """What the wall clock asks for after it has moved.

    A function of wall time alone, so that no step of the clock can make a scheduler forget or repeat a block. A clock
    that went back (`now_utc_ns` before `previous_utc_ns`) has passed nothing.
    """
    blocks = blocks_between(min(previous_utc_ns, now_utc_ns), now_utc_ns + 1, settings, zone)
    return Due(
        passed=tuple(block for block in blocks if block.end_utc_ns <= now_utc_ns),
        current=next((block for block in blocks if block.end_utc_ns > now_utc_ns), None),
    )


def describe_day(day: StratifiedDay) -> tuple[DayRow, ...]:
    """The plan of a date as rows to be shown, in order of time."""
    return tuple(
        DayRow(
            key=block.key,
            stratum=block.stratum,
            start_local=_local(block.start_utc_ns, day.zone),
            end_local=_local(block.end_utc_ns, day.zone),
            zeitgeber=_zeitgeber(_local(block.start_utc_ns, day.zone), day.lights_on),
            frames=block.frames,
        )
        for block in day
    )


def _check_stratum(stratum: str, times: tuple[str, ...]) -> None:
    if not _STRATUM_NAME.fullmatch(stratum):
        raise ConfigError(
            f"schedule.strata: {stratum!r} names files: expected 1 to 32 letters, digits, underscores or hyphens"
        )
    if stratum == BY_COMMAND:
        raise ConfigError(f"schedule.strata.{stratum}: recordings by command are called so; choose another name")
    if not times:
        raise ConfigError(f"schedule.strata.{stratum}: expected at least one time of day; remove the stratum instead")


def _since_midnight_ns(text: str) -> int:
    clock = time.fromisoformat(text)
    offset = timedelta(hours=clock.hour, minutes=clock.minute, seconds=clock.second, microseconds=clock.microsecond)
    return offset // _MICROSECOND * _NS_PER_MICROSECOND


def _zeitgeber(start_local: datetime, lights_on: time) -> str:
    clock_ns = _since_midnight_ns(start_local.time().isoformat()) - _since_midnight_ns(lights_on.isoformat())
    hours, minutes = divmod(clock_ns % _DAY_NS // _MINUTE_NS, 60)
    return f"ZT{hours:02d}:{minutes:02d}"


def _blocks_around(plan: _Plan, zone: ZoneInfo, start_utc_ns: int, stop_utc_ns: int) -> Iterator[PlannedBlock]:
    """At least the blocks that overlap the stretch, and the next one after it, in order of time."""
    day = _local(start_utc_ns, zone).date() - _DAYS_BACK * _ONE_DAY
    last = _local(stop_utc_ns, zone).date() + _DAYS_AHEAD * _ONE_DAY
    while day <= last:
        yield from _blocks_of_day(plan, day, zone)
        day += _ONE_DAY


@lru_cache(maxsize=512)  # a pure function; more than the days that are looked back on at once
def _blocks_of_day(plan: _Plan, day: date, zone: ZoneInfo) -> tuple[PlannedBlock, ...]:
    if not plan.slots or not _exists(day, zone):
        return ()
    starts = _clock_starts(plan, day, zone)
    free_utc_ns = _end_of(_clock_starts(plan, _neighbour(day, -_ONE_DAY, zone), zone), plan)
    limit_utc_ns = max(_clock_starts(plan, _neighbour(day, _ONE_DAY, zone), zone)[0], _end_of(starts, plan))
    blocks = []
    for slot, clock_start_utc_ns in zip(plan.slots, starts, strict=True):
        start_utc_ns = max(clock_start_utc_ns, free_utc_ns)
        free_utc_ns = min(start_utc_ns + plan.duration_ns, limit_utc_ns)
        if start_utc_ns < free_utc_ns:
            blocks.append(
                PlannedBlock(
                    day=day,
                    stratum=slot.stratum,
                    number=slot.number,
                    start_utc_ns=start_utc_ns,
                    duration_ns=free_utc_ns - start_utc_ns,
                    period_ns=plan.period_ns,
                )
            )
    return tuple(blocks)


def _end_of(starts_utc_ns: tuple[int, ...], plan: _Plan) -> int:
    """When a day's last block ends if only blocks of that day push each other."""
    end_utc_ns = starts_utc_ns[0]
    for start_utc_ns in starts_utc_ns:
        end_utc_ns = max(start_utc_ns, end_utc_ns) + plan.duration_ns
    return end_utc_ns


def _clock_starts(plan: _Plan, day: date, zone: ZoneInfo) -> tuple[int, ...]:
    """When the clock shows the start times: never falling, but equal where one gap swallows several."""
    dates = (day, _neighbour(day, _ONE_DAY, zone))
    starts = []
    for slot in plan.slots:
        days, offset_ns = divmod(slot.offset_ns, _DAY_NS)
        clock = datetime.combine(dates[days], time()) + offset_ns // _NS_PER_MICROSECOND * _MICROSECOND
        starts.append(_first_utc_ns(clock, zone))
    return tuple(starts)


def _neighbour(day: date, step: timedelta, zone: ZoneInfo) -> date:
    """The next date in the direction of `step` that the place had."""
    day += step
    while not _exists(day, zone):
        day += step
    return day


def _exists(day: date, zone: ZoneInfo) -> bool:
    midnight = datetime.combine(day, time())
    return _local(_first_utc_ns(midnight, zone), zone).date() == day


def _first_utc_ns(clock: datetime, zone: ZoneInfo) -> int:
    """When a clock on the wall first shows a time, or jumps over it."""
    first = clock.replace(tzinfo=zone).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == clock:
        return _utc_ns(first)
    # In a gap, fold 1 is read with the offset after it and so lies before it, fold 0 the other way round (PEP 495).
    before_s = _utc_ns(clock.replace(tzinfo=zone, fold=1)) // NS_PER_S
    after_s = -(-_utc_ns(first) // NS_PER_S)
    while after_s - before_s > 1:
        middle_s = (before_s + after_s) // 2
        if _local(middle_s * NS_PER_S, zone).replace(tzinfo=None) > clock:
            after_s = middle_s
        else:
            before_s = middle_s
    return after_s * NS_PER_S


def _utc_ns(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND * _NS_PER_MICROSECOND


def _local(utc_ns: int, zone: ZoneInfo) -> datetime:
    return (_EPOCH + utc_ns // _NS_PER_MICROSECOND * _MICROSECOND).astimezone(zone)
