"""When people work at the cage: minutes that count for no rule, no measure and no baseline."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from daemon.events import Event, EventKind, EventState, Severity
from daemon.minute_series import MINUTE_NS
from daemon.minute_value import MinuteValue
from daemon.rule_settings import LONGEST_MAINTENANCE_MINUTES, WEEKDAYS, MaintenanceSettings
from drivers.clock import NS_PER_S


class Reason(StrEnum):
    """What is done at the cage."""

    CAGE_CHANGE = "cage_change"
    DOSING = "dosing"
    WEIGHING = "weighing"
    OTHER = "other"


SCHEDULE = "schedule"
"""Who begins what the config plans."""

LOOK_BACK_NS = LONGEST_MAINTENANCE_MINUTES * MINUTE_NS
"""Nothing that began before can still go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """One stretch of it."""

    event_id: str
    """Of the event that tells of its begin; also its name in the database."""
    reason: Reason
    start_utc_ns: int
    end_utc_ns: int
    """When it ends, or ended: it may be ended before its time, never after."""
    by: str
    """Who said so; `schedule` for what the config plans."""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.start_utc_ns <= self.end_utc_ns <= self.start_utc_ns + LOOK_BACK_NS:
            raise ValueError(
                f"expected maintenance of 0 to {LONGEST_MAINTENANCE_MINUTES} minutes, got "
                f"{(self.end_utc_ns - self.start_utc_ns) / MINUTE_NS:g}"
            )

    def is_on(self, utc_ns: int) -> bool:
        """Whether it is going on."""
        return self.start_utc_ns <= utc_ns < self.end_utc_ns


def begun(reason: Reason, *, at_utc_ns: int, end_utc_ns: int, by: str, note: str = "") -> tuple[Maintenance, Event]:
    """Maintenance that begins now, and the event that tells of it."""
    stretch = Maintenance(
        event_id=uuid.uuid4().hex, reason=reason, start_utc_ns=at_utc_ns, end_utc_ns=end_utc_ns, by=by, note=note
    )
    event = Event(
        kind=EventKind.MAINTENANCE,
        state=EventState.OPENED,
        severity=Severity.NOTICE,
        at_utc_ns=at_utc_ns,
        event_id=stretch.event_id,
        data={"reason": reason.value, "by": by, "note": note, "until_utc_ns": end_utc_ns},
    )
    return stretch, event


def ended(stretch: Maintenance, *, at_utc_ns: int, by: str | None = None) -> tuple[Maintenance, Event]:
    """The same, ended by somebody or by its time, and the event that tells of it."""
    end_utc_ns = max(stretch.start_utc_ns, min(at_utc_ns, stretch.end_utc_ns))
    event = Event(
        kind=EventKind.MAINTENANCE,
        state=EventState.CLOSED,
        severity=Severity.NOTICE,
        at_utc_ns=at_utc_ns,
        data={
            "reason": stretch.reason.value,
            "by": by or stretch.by,
            "lasted_minutes": round((end_utc_ns - stretch.start_utc_ns) / MINUTE_NS, 1),
        },
        opened_event_id=stretch.event_id,
    )
    return replace(stretch, end_utc_ns=end_utc_ns), event


def planned_at(utc_ns: int, plan: Iterable[MaintenanceSettings], zone: ZoneInfo) -> Iterator[tuple[Reason, int, int]]:
    """What the config plans for this moment: the reason, begin and end, UTC ns."""
    now = datetime.fromtimestamp(utc_ns / NS_PER_S, zone)
    for each in plan:
        hours, minutes = map(int, each.at.split(":"))
        for day in (now.date(), now.date() - timedelta(days=1)):  # also what began before midnight
            if WEEKDAYS[day.weekday()] not in each.days:
                continue
            start = datetime(day.year, day.month, day.day, hours, minutes, tzinfo=zone)
            start_utc_ns = round(start.timestamp()) * NS_PER_S
            end_utc_ns = start_utc_ns + each.minutes * MINUTE_NS
            if start_utc_ns <= utc_ns < end_utc_ns:
                yield Reason(each.reason), start_utc_ns, end_utc_ns


def any_between(stretches: Iterable[Maintenance], start_utc_ns: int, end_utc_ns: int) -> Maintenance | None:
    """Maintenance that goes on at some moment from a start to before an end; None where there is none."""
    return next(
        (
            each
            for each in stretches
            if each.start_utc_ns < end_utc_ns and each.end_utc_ns > max(start_utc_ns, each.start_utc_ns)
        ),
        None,
    )


def in_minute(stretches: Iterable[Maintenance], minute_utc_ns: int) -> Maintenance | None:
    """Maintenance that goes on at some moment of the minute that begins then."""
    return any_between(stretches, minute_utc_ns, minute_utc_ns + MINUTE_NS)


def without_maintenance(values: Iterable[MinuteValue], stretches: Sequence[Maintenance]) -> Iterator[MinuteValue]:
    """The same values; those of minutes with maintenance in them are empty and rest on nothing."""
    for value in values:
        if stretches and in_minute(stretches, value.minute_utc_ns) is not None:
            yield replace(value, value=None, uncertainty=None, coverage=0.0, samples=0)
        else:
            yield value


def overlapping(stretches: Sequence[Maintenance], minutes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these minutes, counted from the Unix epoch, have maintenance in them."""
    found = np.zeros(minutes.shape, np.bool_)
    for each in stretches:
        first, last = each.start_utc_ns // MINUTE_NS, (each.end_utc_ns - 1) // MINUTE_NS
        if each.end_utc_ns > each.start_utc_ns:
            found |= (minutes >= first) & (minutes <= last)
    return found


def minutes_at_work(stretches: Sequence[Maintenance], start_utc_ns: int, end_utc_ns: int) -> int:
    """How many of the minutes that begin from a start to before an end have maintenance in them."""
    first, last = -(-start_utc_ns // MINUTE_NS), -(-end_utc_ns // MINUTE_NS)
    return int(np.count_nonzero(overlapping(stretches, np.arange(first, last))))


def in_words(stretches: Sequence[Maintenance], zone: ZoneInfo) -> str | None:
    """What goes on, for a picture: `maintenance since 10:02, by Ana: cage change`; None when nothing does."""
    if not stretches:
        return None
    since = min(each.start_utc_ns for each in stretches)
    local = datetime.fromtimestamp(since / NS_PER_S, zone)
    who = ", ".join(dict.fromkeys(each.by for each in stretches))
    what = ", ".join(dict.fromkeys(each.reason.replace("_", " ") for each in stretches))
    return f"maintenance since {local:%H:%M}, by {who}: {what}"
