"""Alert rules: patience, hysteresis, and saying nothing when nobody could see."""

import dataclasses
import random

import pytest

from daemon.events import Event, EventKind, EventState, Severity
from daemon.observation import AnimalObservation, FrameObservation, PartObservation
from daemon.open_events import open_now
from daemon.rules import CANNOT_TELL_AFTER_S, NOT_WATCHED, AlertRules
from daemon.settings import AlertSettings, TooColdSettings, TooHotSettings
from daemon.vision.parts import BodyPart
from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag
from drivers.t2s_protocol import Constants, Environment
from drivers.thermometry import Calibration

SETTINGS = AlertSettings(
    too_hot=TooHotSettings(celsius=39, hysteresis_celsius=0.5, duration_s=10),
    too_cold=TooColdSettings(celsius=26, hysteresis_celsius=0.5, duration_s=10),
    not_seen_after_s=30,
)
CALIBRATION = Calibration(
    constants=Constants(reference_count=6000, a=0.2333, b=27.867, ka=4e-5, kb=0.0053, kc=0.5351),
    shutter_celsius=30,
    fpa_celsius=30,
    environment=Environment(),
)


def part(kind: BodyPart, p95_celsius: float | None) -> PartObservation:
    return PartObservation(
        part=kind,
        x_px=10,
        y_px=10,
        x_mm=None,
        y_mm=None,
        area_px=100,
        area_mm2=None,
        valid_px=100 if p95_celsius is not None else 0,
        mean_celsius=p95_celsius,
        median_celsius=p95_celsius,
        p95_celsius=p95_celsius,
        min_celsius=p95_celsius,
        max_celsius=p95_celsius,
    )


def seen(at_s: float, p95_celsius: float | None, **changes: object) -> FrameObservation:
    """A frame with animal 1, its body at this temperature; None leaves the box empty."""
    animals = () if p95_celsius is None else (AnimalObservation(animal=1, parts=(part(BodyPart.BODY, p95_celsius),)),)
    frame = FrameObservation(
        sequence=0,
        captured_utc_ns=round(at_s * NS_PER_S),
        captured_monotonic_ns=round(at_s * NS_PER_S),
        flags=FrameFlag.NONE,
        calibration=CALIBRATION,
        fpa_celsius=30,
        shutter_celsius=30,
        background_celsius=23,
        animals=animals,
        not_measured=None,
        block_key=None,
        planned_utc_ns=None,
    )
    return dataclasses.replace(frame, **changes)  # type: ignore[arg-type]  # names are checked by replace


def told(rules: AlertRules, frames: list[FrameObservation]) -> list[tuple[EventKind, EventState, float]]:
    return [(event.kind, event.state, event.at_utc_ns / NS_PER_S) for frame in frames for event in rules.update(frame)]


def test_heat_is_told_after_its_duration_and_once() -> None:
    rules = AlertRules(SETTINGS, animals=1)
    frames = [seen(second, 39.2) for second in range(0, 40, 5)]
    assert told(rules, frames) == [(EventKind.ANIMAL_TOO_HOT, EventState.OPENED, 10)]


def test_a_short_excess_is_not_told() -> None:
    rules = AlertRules(SETTINGS, animals=1)
    assert told(rules, [seen(0, 39.5), seen(5, 39.5), seen(9, 38.9), seen(10, 39.5), seen(15, 39.5)]) == []


def test_an_alert_closes_only_beyond_the_hysteresis() -> None:
    rules = AlertRules(SETTINGS, animals=1)
    hot = [seen(second, 39.2) for second in range(0, 15, 5)]
    assert told(rules, hot) == [(EventKind.ANIMAL_TOO_HOT, EventState.OPENED, 10)]
    assert told(rules, [seen(20, 38.8), seen(25, 39.1), seen(30, 38.6)]) == []
    assert told(rules, [seen(35, 38.5)]) == [(EventKind.ANIMAL_TOO_HOT, EventState.CLOSED, 35)]


def test_cold_is_told_and_the_closing_names_the_opening() -> None:
    rules = AlertRules(SETTINGS, animals=1)
    events = [event for second in (0, 5, 10, 15) for event in rules.update(seen(second, 25 if second < 15 else 30))]
    opened, closed = events
    assert (opened.kind, opened.data["celsius"], opened.data["threshold_celsius"]) == (
        EventKind.ANIMAL_TOO_COLD,
        25,
        26,
    )
    assert closed.opened_event_id == opened.event_id


@pytest.mark.parametrize("group", [None, 5], ids=["one of several", "in a group"])
def test_an_animal_that_cannot_be_told_from_others_is_seen_but_has_no_temperature(group: int | None) -> None:
    rules = AlertRules(SETTINGS, animals=3)
    hot = (part(BodyPart.BODY, 45),)
    either = AnimalObservation(animal=None, track=5, candidates=(1, 2), group=group, parts=hot)
    frames = [dataclasses.replace(seen(second, None), animals=(either,)) for second in range(0, 60, 5)]
    events = [event for frame in frames for event in rules.update(frame)]
    assert [(event.kind, event.animal) for event in events] == [(EventKind.ANIMAL_NOT_SEEN, 3)]


def test_an_animal_that_is_not_seen_is_missed_by_its_number() -> None:
    rules = AlertRules(SETTINGS, animals=2)
    events = [event for second in range(0, 45, 5) for event in rules.update(seen(second, 30))]
    assert [(event.kind, event.animal) for event in events] == [(EventKind.ANIMAL_NOT_SEEN, 2)]


def test_an_animal_that_comes_back_closes_the_alert() -> None:
    rules = AlertRules(SETTINGS, animals=1)
    frames = [seen(second, None) for second in range(0, 35, 5)] + [seen(35, 30)]
    assert told(rules, frames) == [
        (EventKind.ANIMAL_NOT_SEEN, EventState.OPENED, 30),
        (EventKind.ANIMAL_NOT_SEEN, EventState.CLOSED, 35),
    ]


def test_frames_that_were_not_measured_say_nothing() -> None:
    rules = AlertRules(SETTINGS, animals=1)
    assert told(rules, [seen(second, None, not_measured="shutter") for second in range(0, 100, 5)]) == []


def test_while_the_camera_settles_no_temperature_is_judged() -> None:
    rules = AlertRules(SETTINGS, animals=1)
    assert told(rules, [seen(second, 45, flags=FrameFlag.SETTLING) for second in range(0, 100, 5)]) == []


def test_what_nobody_saw_does_not_count_towards_the_duration() -> None:
    rules = AlertRules(SETTINGS, animals=1)
    assert told(rules, [seen(0, 39.5), seen(5, 39.5), seen(500, 39.5)]) == []


@pytest.mark.parametrize(
    ("sample_interval_s", "apart_s", "told_times"),
    [
        pytest.param(120, 120, 1, id="rare frames are no gap"),
        pytest.param(120, 360, 1, id="two lost frames are none"),
        pytest.param(120, 361, 0, id="more is a gap"),
        pytest.param(5, CANNOT_TELL_AFTER_S, 1, id="a minute at the usual rate is none"),
        pytest.param(5, CANNOT_TELL_AFTER_S + 1, 0, id="more than a minute is a gap"),
        pytest.param(0, CANNOT_TELL_AFTER_S + 1, 0, id="a gap also where no rate is known"),
    ],
)
def test_patience_outlasts_the_time_between_rare_frames(
    sample_interval_s: float, apart_s: float, told_times: int
) -> None:
    rules = AlertRules(SETTINGS, animals=1, sample_interval_s=sample_interval_s)
    assert len(told(rules, [seen(k * apart_s, 39.5) for k in range(4)])) == told_times


@pytest.mark.parametrize("interval_s", [-1.0, float("nan"), float("inf")])
def test_an_interval_that_is_none_is_refused(interval_s: float) -> None:
    with pytest.raises(ValueError, match="sample_interval_s must be finite and at least 0"):
        AlertRules(SETTINGS, animals=1, sample_interval_s=interval_s)


def test_an_alert_of_an_animal_that_is_not_expected_any_more_is_closed() -> None:
    kept, orphan = (
        Event(
            kind=EventKind.ANIMAL_NOT_SEEN,
            state=EventState.OPENED,
            severity=Severity.ALERT,
            at_utc_ns=0,
            animal=animal,
        )
        for animal in (1, 2)
    )
    camera = Event(kind=EventKind.CAMERA_LOST, state=EventState.OPENED, severity=Severity.ALERT, at_utc_ns=0)
    rules = AlertRules(SETTINGS, animals=1, still_open=open_now([kept, orphan, camera]))
    (closed,) = rules.orphans(at_utc_ns=7)
    assert (closed.kind, closed.state, closed.animal) == (EventKind.ANIMAL_NOT_SEEN, EventState.CLOSED, 2)
    assert (closed.at_utc_ns, closed.opened_event_id) == (7, orphan.event_id)
    assert closed.data == {"rule": "animal_not_seen", "reason": NOT_WATCHED}
    (back,) = rules.update(seen(0, 30))
    assert back.opened_event_id == kept.event_id


def test_a_part_without_a_temperature_is_no_alert() -> None:
    rules = AlertRules(SETTINGS, animals=1)
    blind = AnimalObservation(animal=1, parts=(part(BodyPart.BODY, None), part(BodyPart.TAIL, 50.0)))
    assert told(rules, [seen(second, 30, animals=(blind,)) for second in range(0, 100, 5)]) == []


def test_an_alert_that_was_open_at_the_last_stop_is_closed_and_not_opened_again() -> None:
    opened = Event(
        kind=EventKind.ANIMAL_TOO_HOT,
        state=EventState.OPENED,
        severity=Severity.ALERT,
        at_utc_ns=0,
        animal=1,
        event_id="e1",
    )
    rules = AlertRules(SETTINGS, animals=1, still_open=open_now([opened]))
    assert told(rules, [seen(second, 39.5) for second in range(0, 60, 5)]) == []
    (closed,) = rules.update(seen(60, 37.0))
    assert (closed.state, closed.opened_event_id) == (EventState.CLOSED, "e1")


def test_at_full_rate_a_wavering_temperature_is_told_once_and_a_rising_one_once_a_minute() -> None:
    rules, dice = AlertRules(SETTINGS, animals=1), random.Random(1)
    wavering = [seen(number / 25, 39.7 + dice.gauss(0, 0.05)) for number in range(25 * 300)]
    assert told(rules, wavering) == [(EventKind.ANIMAL_TOO_HOT, EventState.OPENED, 10)]
    rising = [seen(300 + number / 25, 40 + number / 25 / 60) for number in range(25 * 300)]  # a degree a minute
    updates = told(rules, rising)
    assert {(kind, state) for kind, state, _ in updates} == {(EventKind.ANIMAL_TOO_HOT, EventState.UPDATED)}
    assert [round(at_s - updates[0][2]) for _, _, at_s in updates] == [0, 60, 120, 180, 240]
