"""What happened, in the words that database, MQTT and page share."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Scalar = str | int | float | bool | None

IDENTITY_CORRECTION = "identity_correction"
"""In the data of an event: number of the correction after which what it rests on is not what it was."""


class EventKind(StrEnum):
    """All kinds; the value is the last part of the MQTT topic."""

    CAMERA_LOST = "camera_lost"
    CAMERA_FOUND = "camera_found"
    BLOCK_STARTED = "block_started"
    BLOCK_FINISHED = "block_finished"
    ANIMAL_TOO_HOT = "animal_too_hot"
    ANIMAL_TOO_COLD = "animal_too_cold"
    ANIMAL_NOT_SEEN = "animal_not_seen"
    CLOCK_STEPPED = "clock_stepped"
    """The wall clock was set: times before and after it do not follow each other."""
    DISK_LOW = "disk_low"
    DISK_OK = "disk_ok"
    RECORDINGS_FREED = "recordings_freed"
    SET_ASIDE = "set_aside"
    """Something was damaged: it is kept under another name, and the service goes on without."""
    VISION_DEGRADED = "vision_degraded"
    """The networks do not measure every frame: they are slow, fail, or could not be loaded."""
    CONFIG_DAMAGED = "config_damaged"
    """The service started with the last good copy of the config."""
    FEVER = "fever"
    """The skin is warmer than on the days before at this time."""
    HYPOTHERMIA = "hypothermia"
    """The skin is colder than on the days before at this time."""
    INACTIVITY = "inactivity"
    """An animal does not move for longer than sleep lasts."""
    ACTIVITY_DROP = "activity_drop"
    """An animal moves much less than in its own nights."""
    TAIL_COLD_BODY_HOT = "tail_cold_body_hot"
    """Heat is kept in while the body warms up: fever rises."""
    TAIL_COLD = "tail_cold"
    """The tail is colder against the body than on the days before."""
    CAGE_TOO_HOT = "cage_too_hot"
    CAGE_TOO_COLD = "cage_too_cold"
    COVERAGE_LOW = "coverage_low"
    """So few frames are measured that the rules cannot tell."""
    RULE = "rule"
    """A rule of the config's own; its name is in the data."""
    IDENTITY_CORRECTED = "identity_corrected"
    """A person said who is who, or took it back: numbers of the past have changed."""
    MAINTENANCE = "maintenance"
    """People work at the cage: no rule is judged meanwhile."""


JUDGED_ON_FRAMES = (EventKind.ANIMAL_TOO_HOT, EventKind.ANIMAL_TOO_COLD, EventKind.ANIMAL_NOT_SEEN)
"""Kinds that are judged on each frame; their rules have the same names."""

OF_THE_DEVICE = (
    EventKind.CAMERA_LOST,
    EventKind.CAMERA_FOUND,
    EventKind.CLOCK_STEPPED,
    EventKind.DISK_LOW,
    EventKind.DISK_OK,
    EventKind.RECORDINGS_FREED,
    EventKind.SET_ASIDE,
    EventKind.VISION_DEGRADED,
    EventKind.CONFIG_DAMAGED,
)
"""Kinds that the service says of itself; so that all evidence has one form, their rules have the same names, too."""


class Severity(StrEnum):
    """How soon somebody should look."""

    NOTICE = "notice"
    ALERT = "alert"
    EMERGENCY = "emergency"


class EventState(StrEnum):
    """A condition opens, may be updated and acknowledged, and closes; anything else simply occurred."""

    OPENED = "opened"
    UPDATED = "updated"
    """It goes on, but is worse, more severe, or cannot be judged any more."""
    ACKNOWLEDGED = "acknowledged"
    """Somebody has seen it, and says who."""
    CLOSED = "closed"
    OCCURRED = "occurred"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change worth telling."""

    kind: EventKind
    state: EventState
    severity: Severity
    at_utc_ns: int
    animal: int | None = None
    data: Mapping[str, Scalar] = field(default_factory=dict)
    """The evidence: numbers with their units in the names."""
    event_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Unique for ever: a consumer that sees it twice has seen one event."""
    opened_event_id: str | None = None
    """For `UPDATED`, `ACKNOWLEDGED` and `CLOSED`: the event that opened the condition."""

    def data_json(self) -> str:
        """The evidence as compact JSON with sorted keys."""
        return json.dumps(dict(self.data), separators=(",", ":"), sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedEvent:
    """A stored event with its place among all events of the box."""

    event: Event
    seq: int
    """Rises by one from event to event, over restarts too: a jump is an event that was not heard."""
    boot_id: str
    """The boot of the machine that it happened in."""


def evidence(
    kind: EventKind,
    *,
    measure: str,
    comparison: str,
    value: float | None,
    threshold: float | None,
    coverage: float | None = None,
    **more: Scalar,
) -> dict[str, Scalar]:
    """What an event that the service says of itself rests on, in the words that events of rules have.

    Parameters
    ----------
    kind : EventKind
        Its rule has the same name.
    measure, comparison, value, threshold
        What is compared, which side of the threshold is wrong, and how it stands.
    coverage : float, optional
        How much was seen of what it rests on, 0 to 1; None where nothing was to be seen.
    **more
        Numbers with their units in the names.
    """
    return {
        "rule": kind.value,
        "measure": measure,
        "comparison": comparison,
        "value": value,
        "threshold": threshold,
        "coverage": coverage,
        **more,
    }


def since_of(event: Event) -> int:
    """Since when it has been wrong, UTC ns; what does not say so began when it was opened."""
    since = event.data.get("since_utc_ns")
    return since if isinstance(since, int) else event.at_utc_ns


def correction_of(event: Event) -> int | None:
    """Number of the correction after which what an event rests on is not what it was; None where there is none."""
    number = event.data.get(IDENTITY_CORRECTION)
    return number if isinstance(number, int) else None
