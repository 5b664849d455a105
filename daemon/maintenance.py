"""When people work at the cage: minutes that count for no rule and no baseline."""

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


def overlapping(stretches: Sequence[Maintenance], minutes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these minutes, counted from the Unix epoch, have maintenance in them."""
    found = np.zeros(minutes.shape, np.bool_)
    for each in stretches:
        first, last = each.start_utc_ns // MINUTE_NS, (each.end_utc_ns - 1) // MINUTE_NS
        if each.end_utc_ns > each.start_utc_ns:
            found |= (minutes >= first) & (minutes <= last)
    return found
