"""Alert rules: thresholds with patience and hysteresis, per animal."""

import math
from collections.abc import Callable, Iterable, Iterator

from daemon.events import Event, EventKind, EventState
from daemon.frame_condition import FrameCondition, Reading
from daemon.observation import AnimalObservation, FrameObservation
from daemon.open_events import OpenEvent
from daemon.settings import AlertSettings, LimitSettings
from daemon.vision.parts import BodyPart
from drivers.frame import FrameFlag

CANNOT_TELL_AFTER_S = 60.0
"""A gap between measured frames after which a condition's patience starts anew: nobody saw what was in between."""

CANNOT_TELL_AFTER_SAMPLES = 3
"""The same where frames are measured so rarely that this many intervals are longer: one lost frame is no gap."""

NOT_WATCHED = "not_watched"
"""Why a condition is closed that nothing looks at any more."""


_MEASURES = {
    EventKind.ANIMAL_TOO_HOT: ("trunk_p95_celsius", "above"),
    EventKind.ANIMAL_TOO_COLD: ("trunk_p95_celsius", "below"),
    EventKind.ANIMAL_NOT_SEEN: ("not_seen_s", "above"),
}
"""What each compares, and which side of the threshold is wrong."""

NOT_A_TEMPERATURE = FrameFlag.SETTLING
"""Flags of frames that show where an animal is but not yet how warm it is."""


def trunk_p95_celsius(animal: AnimalObservation) -> float | None:
    """The warmer of the 95th percentiles of head and body, °C; None when neither has a temperature."""
    values = [
        part.p95_celsius
        for part in animal.parts
        if part.part in (BodyPart.HEAD, BodyPart.BODY) and part.p95_celsius is not None
    ]
    return max(values, default=None)


def animals_there(observation: FrameObservation) -> set[int]:
    """Numbers of the animals that a frame shows, if only in a group or as one of several."""
    named = {animal.animal for animal in observation.animals if animal.animal is not None}
    return named.union(*(animal.candidates for animal in observation.animals))


def trunks_celsius(observation: FrameObservation) -> dict[int, float]:
    """How warm the animals are, by number, °C; without those that no temperature of this frame is to be believed of."""
    if observation.not_measured is not None or observation.flags & NOT_A_TEMPERATURE:
        return {}
    found = {each.animal: trunk_p95_celsius(each) for each in observation.animals if each.animal is not None}
    return {animal: celsius for animal, celsius in found.items() if celsius is not None}


class AlertRules:
    """Turns measured frames into events that open and close.

    Parameters
    ----------
    settings : AlertSettings
        Thresholds and durations.
    animals : int
        How many animals are expected; each that is not seen is missed by its number.
    still_open : iterable of OpenEvent
        Conditions that were open when the service last stopped.
    sample_interval_s : float
        Longest regular time between two measured frames; 0 where frames come at no rate at all for a while.
    cools : callable
        Whether a condition of this kind and animal has closed so lately that it is not to open at this time.

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
        still_open: Iterable[OpenEvent] = (),
        sample_interval_s: float = 5.0,
        cools: Callable[[EventKind, int, int], bool] = lambda _kind, _animal, _utc_ns: False,
    ) -> None:
        if not (math.isfinite(sample_interval_s) and sample_interval_s >= 0):
            raise ValueError(f"sample_interval_s must be finite and at least 0, got {sample_interval_s}")
        self.settings = settings
        self._animals = animals
        self._cools = cools
        self._not_watched: list[Event] = []
        gap_s = max(CANNOT_TELL_AFTER_S, CANNOT_TELL_AFTER_SAMPLES * sample_interval_s)
        self._conditions = {
            (kind, animal): FrameCondition(kind, animal, measure=measure, comparison=comparison, gap_s=gap_s)
            for kind, (measure, comparison) in _MEASURES.items()
            for animal in range(1, animals + 1)
        }
        for found in still_open:
            event = found.opened
            condition = self._conditions.get((event.kind, event.animal or 0))
            if condition is not None:
                condition.restore(found)
            elif event.kind in _MEASURES:
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
                data={"rule": event.kind.value, "reason": NOT_WATCHED},
                opened_event_id=event.event_id,
            )
            for event in self._not_watched
        ]

    def renewed(self, update: Event) -> Event:
        """An update of what is open with the numbers that it has now."""
        condition = self._conditions.get((update.kind, update.animal or 0))
        return update if condition is None else condition.renewed(update)

    def update(self, observation: FrameObservation) -> list[Event]:
        """Judge one frame. Frames that could not be measured say nothing, neither good nor bad."""
        there = None if observation.not_measured is not None else animals_there(observation)
        celsius = trunks_celsius(observation)
        return [
            event
            for number in range(1, self._animals + 1)
            for event in (
                self._judge_absence(observation, number, None if there is None else number in there),
                *self._judge_warmth(observation, number, celsius.get(number)),
            )
            if event is not None
        ]

    def _judge_absence(self, observation: FrameObservation, number: int, there: bool | None) -> Event | None:
        condition = self._conditions[EventKind.ANIMAL_NOT_SEEN, number]
        at_utc_ns, at_monotonic_ns = observation.captured_utc_ns, observation.captured_monotonic_ns
        if there is None:
            return condition.pass_over(at_utc_ns, at_monotonic_ns)
        missing = Reading(at_utc_ns=at_utc_ns, at_monotonic_ns=at_monotonic_ns, beyond=not there, back=there)
        may_open = not self._cools(EventKind.ANIMAL_NOT_SEEN, number, at_utc_ns)
        return condition.update(missing, self.settings.not_seen_after_s, may_open=may_open)

    def _judge_warmth(
        self, observation: FrameObservation, number: int, celsius: float | None
    ) -> Iterator[Event | None]:
        at_utc_ns, at_monotonic_ns = observation.captured_utc_ns, observation.captured_monotonic_ns
        for kind, limit, sign in (
            (EventKind.ANIMAL_TOO_HOT, self.settings.too_hot, 1.0),
            (EventKind.ANIMAL_TOO_COLD, self.settings.too_cold, -1.0),
        ):
            condition = self._conditions[kind, number]
            if celsius is None:
                yield condition.pass_over(at_utc_ns, at_monotonic_ns)
                continue
            excess = _excess(celsius, limit, sign)
            reading = Reading(
                at_utc_ns=at_utc_ns,
                at_monotonic_ns=at_monotonic_ns,
                beyond=excess > 0,
                back=excess <= -limit.hysteresis_celsius,
                celsius=round(celsius, 3),
                threshold_celsius=limit.celsius,
                excess=excess,
                rise=limit.hysteresis_celsius,
            )
            may_open = not self._cools(kind, number, at_utc_ns)
            yield condition.update(reading, limit.duration_s, may_open=may_open)


def _excess(celsius: float, limit: LimitSettings, sign: float) -> float:
    return sign * (celsius - limit.celsius)
