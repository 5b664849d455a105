"""Alert rules: thresholds with patience and hysteresis, per animal."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from daemon.events import Event, EventKind, EventState, Severity
from daemon.observation import AnimalObservation, FrameObservation
from daemon.settings import AlertSettings, LimitSettings
from daemon.vision.parts import BodyPart
from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag

CANNOT_TELL_AFTER_S = 60.0
"""A gap between measured frames after which a condition's patience starts anew: nobody saw what was in between."""

CANNOT_TELL_AFTER_SAMPLES = 3
"""The same where frames are measured so rarely that this many intervals are longer: one lost frame is no gap."""

NOT_WATCHED = "not_watched"
"""Why a condition is closed that nothing looks at any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """One look at one condition."""

    at_utc_ns: int
    at_monotonic_ns: int
    beyond: bool
    """On the wrong side of the threshold."""
    back: bool
    """Safely on the right side, hysteresis included."""
    celsius: float | None


class _Condition:
    """One condition of one animal: closed, suspected since, or open."""

    def __init__(self, kind: EventKind, severity: Severity, animal: int, *, gap_s: float) -> None:
        self._kind, self._severity, self._animal = kind, severity, animal
        self._gap_ns = round(gap_s * NS_PER_S)
        """Longest time between two looks over which patience goes on."""
        self._since: _Reading | None = None
        self._last_monotonic_ns: int | None = None
        self._opened: str | None = None

    def restore(self, event: Event) -> None:
        """Go on from a condition that was open when the service stopped."""
        self._opened = event.event_id

    def update(self, reading: _Reading, duration_s: float, threshold: float | None) -> Event | None:
        last, self._last_monotonic_ns = self._last_monotonic_ns, reading.at_monotonic_ns
        if last is not None and reading.at_monotonic_ns - last > self._gap_ns:
            self._since = None
        if self._opened is not None:
            return self._close(reading, threshold) if reading.back else None
        if not reading.beyond:
            self._since = None
            return None
        self._since = self._since or reading
        held_s = (reading.at_monotonic_ns - self._since.at_monotonic_ns) / NS_PER_S
        if held_s < duration_s:
            return None
        event = Event(
            kind=self._kind,
            state=EventState.OPENED,
            severity=self._severity,
            at_utc_ns=reading.at_utc_ns,
            animal=self._animal,
            data={
                "since_utc_ns": self._since.at_utc_ns,
                "held_s": round(held_s, 3),
                "celsius": reading.celsius,
                "threshold_celsius": threshold,
                "duration_s": duration_s,
            },
        )
        self._opened, self._since = event.event_id, None
        return event

    def _close(self, reading: _Reading, threshold: float | None) -> Event:
        event = Event(
            kind=self._kind,
            state=EventState.CLOSED,
            severity=self._severity,
            at_utc_ns=reading.at_utc_ns,
            animal=self._animal,
            data={"celsius": reading.celsius, "threshold_celsius": threshold},
            opened_event_id=self._opened,
        )
        self._opened = None
        return event


_SEVERITIES = {
    EventKind.ANIMAL_TOO_HOT: Severity.ALERT,
    EventKind.ANIMAL_TOO_COLD: Severity.ALERT,
    EventKind.ANIMAL_NOT_SEEN: Severity.ALERT,
}

_NOT_A_TEMPERATURE = FrameFlag.SETTLING
"""Flags of frames that show where an animal is but not yet how warm it is."""


def trunk_p95_celsius(animal: AnimalObservation) -> float | None:
    """The warmer of the 95th percentiles of head and body, °C; None when neither has a temperature."""
    values = [
        part.p95_celsius
        for part in animal.parts
        if part.part in (BodyPart.HEAD, BodyPart.BODY) and part.p95_celsius is not None
    ]
    return max(values, default=None)


class AlertRules:
    """Turns measured frames into events that open and close.

    Parameters
    ----------
    settings : AlertSettings
        Thresholds and durations.
    animals : int
        How many animals are expected; each that is not seen is missed by its number.
    still_open : iterable of Event
        Conditions that were open when the service last stopped.
    sample_interval_s : float
        Longest regular time between two measured frames; 0 where frames come at no rate at all for a while.

    Raises
    ------
    ValueError
        If `sample_interval_s` is negative or not finite.
    """

    def __init__(
        self,
        settings: AlertSettings,
        *,
        animals: int,
        still_open: Iterable[Event] = (),
        sample_interval_s: float = 5.0,
    ) -> None:
        if not (math.isfinite(sample_interval_s) and sample_interval_s >= 0):
            raise ValueError(f"sample_interval_s must be finite and at least 0, got {sample_interval_s}")
        self.settings = settings
        self._animals = animals
        self._not_watched: list[Event] = []
        gap_s = max(CANNOT_TELL_AFTER_S, CANNOT_TELL_AFTER_SAMPLES * sample_interval_s)
        self._conditions = {
            (kind, animal): _Condition(kind, severity, animal, gap_s=gap_s)
            for kind, severity in _SEVERITIES.items()
            for animal in range(1, animals + 1)
        }
        for event in still_open:
            condition = self._conditions.get((event.kind, event.animal or 0))
            if condition is not None:
                condition.restore(event)
            elif event.kind in _SEVERITIES:
                self._not_watched.append(event)

    def orphans(self, at_utc_ns: int) -> list[Event]:
        """Events that close what was open for an animal that is not expected any more; to be stored once, at start."""
        return [
            Event(
                kind=event.kind,
                state=EventState.CLOSED,
                severity=event.severity,
                at_utc_ns=at_utc_ns,
                animal=event.animal,
                data={"reason": NOT_WATCHED},
                opened_event_id=event.event_id,
            )
            for event in self._not_watched
        ]

    def update(self, observation: FrameObservation) -> list[Event]:
        """Judge one frame. Frames that could not be measured say nothing, neither good nor bad."""
        if observation.not_measured is not None:
            return []
        seen = {animal.animal: animal for animal in observation.animals if animal.animal is not None}
        there = {number for animal in observation.animals for number in animal.candidates} | set(seen)
        return [
            event
            for number in range(1, self._animals + 1)
            for event in self._judge(observation, seen.get(number), number, there=number in there)
        ]

    def _judge(
        self, observation: FrameObservation, animal: AnimalObservation | None, number: int, *, there: bool
    ) -> Iterator[Event]:
        """One animal: what is seen of it, and whether it is there, if only in a group or as one of several."""

        def look(*, beyond: bool, back: bool, celsius: float | None = None) -> _Reading:
            return _Reading(
                at_utc_ns=observation.captured_utc_ns,
                at_monotonic_ns=observation.captured_monotonic_ns,
                beyond=beyond,
                back=back,
                celsius=celsius,
            )

        missing = look(beyond=not there, back=there)
        not_seen = self._conditions[EventKind.ANIMAL_NOT_SEEN, number]
        if event := not_seen.update(missing, self.settings.not_seen_after_s, None):
            yield event
        celsius = None if animal is None or observation.flags & _NOT_A_TEMPERATURE else trunk_p95_celsius(animal)
        if celsius is None:
            return
        for kind, limit, sign in (
            (EventKind.ANIMAL_TOO_HOT, self.settings.too_hot, 1.0),
            (EventKind.ANIMAL_TOO_COLD, self.settings.too_cold, -1.0),
        ):
            reading = look(
                beyond=_excess(celsius, limit, sign) > 0,
                back=_excess(celsius, limit, sign) <= -limit.hysteresis_celsius,
                celsius=round(celsius, 3),
            )
            if event := self._conditions[kind, number].update(reading, limit.duration_s, limit.celsius):
                yield event


def _excess(celsius: float, limit: LimitSettings, sign: float) -> float:
    return sign * (celsius - limit.celsius)
