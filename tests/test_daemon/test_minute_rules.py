"""Rules over minutes: what is usual, what is left out of it, and what a restart must not change."""

import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from daemon.events import Event, EventKind, EventState
from daemon.maintenance import Maintenance, Reason
from daemon.minute_rules import LATE_MINUTES, MOST_LIVE_MINUTES, MinuteRules
from daemon.minute_series import (
    DAY_MINUTES,
    MAD_TO_SPREAD,
    MINUTE_NS,
    LocalTime,
    MinuteSeries,
    band_of,
    running_means,
    strata_of_day,
)
from daemon.minute_value import MinuteValue, Scope
from daemon.rule import Condition, Rule
from daemon.rule_settings import BaselineSettings, RulesSettings
from daemon.rule_state import Look, RuleState, Verdict
from daemon.settings import ScheduleSettings

ZONE = ZoneInfo("Europe/Berlin")
FIRST = int(datetime(2026, 3, 20, tzinfo=UTC).timestamp()) // 60
"""Minutes since the epoch; on 2026-03-29 the clocks go forward."""
SCHEDULE = ScheduleSettings()
BASELINE = BaselineSettings(days=5, least_days=3, z=3, least_spread=0.1, least_change=0.8)
FEVER = Rule(
    name="fever",
    kind=EventKind.FEVER,
    subject=Scope.ANIMAL,
    conditions=(Condition(measure="skin", comparison="above", baseline=BASELINE, hysteresis=0.2),),
    for_minutes=20,
    clear_minutes=20,
    cool_down_minutes=0,
)
HOT = Rule(
    name="cage_too_hot",
    kind=EventKind.CAGE_TOO_HOT,
    subject=Scope.CAGE,
    conditions=(Condition(measure="ambient", comparison="above", value=28, hysteresis=0.5, over_minutes=5),),
    for_minutes=10,
    clear_minutes=10,
    cool_down_minutes=0,
)


def rules(*which: Rule, animals: int = 1, **settings: object) -> MinuteRules:
    return MinuteRules(
        which, animals=animals, schedule=SCHEDULE, zone=ZONE, settings=RulesSettings.model_validate(settings)
    )


def value(
    minute: int, number: float | None, *, measure: str = "skin", animal: int | None = 1, coverage: float = 1.0
) -> MinuteValue:
    return MinuteValue(
        measure=measure,
        minute_utc_ns=minute * MINUTE_NS,
        animal=animal,
        value=number,
        uncertainty=None,
        coverage=coverage,
        samples=round(60 * coverage),
    )


def rhythm(minute: int) -> float:
    """36 °C at noon UTC and 37 °C at midnight, and a little of what looks like noise."""
    return 36.5 + 0.5 * float(np.cos(2 * np.pi * minute / DAY_MINUTES)) + 0.1 * float(np.sin(minute * 1.7))


def days(count: float, change: Callable[[int], float | None] = lambda _: 0.0) -> list[MinuteValue]:
    """So many days of animal 1; what is added may depend on the minute from `FIRST`, None leaves it out."""
    found = []
    for offset in range(round(count * DAY_MINUTES)):
        added = change(offset)
        if added is not None:
            found.append(value(FIRST + offset, rhythm(FIRST + offset) + added))
    return found


def told(events: Sequence[Event]) -> list[tuple[str, float]]:
    """State, and hours since `FIRST`."""
    return [(event.state.value, (event.at_utc_ns // MINUTE_NS - FIRST) / 60) for event in events]


def after(values: Sequence[MinuteValue]) -> MinuteRules:
    """The fever rule at the end of this past."""
    judged = rules(FEVER)
    judged.load(values)
    return judged


def fever(offset: int) -> float:
    """1.5 °C in the night of the sixth day, from 120 h to 124 h."""
    return 1.5 if 120 * 60 <= offset < 124 * 60 else 0.0


def test_a_fever_against_own_nights_opens_once_and_closes() -> None:
    events = rules(FEVER).update(days(6, fever))
    assert told(events) == [("opened", 120 + 20 / 60), ("closed", 124 + 20 / 60)]
    opened = events[0]
    assert opened.data["usual"] == pytest.approx(37.0, abs=0.1)
    assert opened.data["value"] == pytest.approx(38.5, abs=0.15)
    assert opened.data["usual_days"] == 5
    assert opened.data["coverage"] == 1.0


def test_with_too_few_days_it_cannot_tell() -> None:
    young = rules(FEVER)
    assert young.update(days(2, lambda offset: 1.5 if offset > 40 * 60 else 0.0)) == []
    [standing] = young.standing
    assert standing.verdict is Verdict.CANNOT_TELL


def test_seen_too_little_it_cannot_tell_and_never_that_all_is_well() -> None:
    judged = after(days(6))
    [opened] = judged.update([value(FIRST + 6 * DAY_MINUTES + k, 39.5) for k in range(22)])
    poorly = [value(FIRST + 6 * DAY_MINUTES + 22 + k, 36.5, coverage=0.2) for k in range(60)]
    events = judged.update(poorly)
    assert [event.data.get("reason") for event in events] == ["cannot_tell"]
    assert events[0].data["why_not"] == "low_coverage"
    [standing] = judged.standing
    assert standing.open_event_id == opened.event_id


def test_minutes_that_bring_nothing_are_judged_when_time_passes() -> None:
    judged = after(days(6))
    judged.update([value(FIRST + 6 * DAY_MINUTES + k, 39.5) for k in range(25)])
    later_ns = (FIRST + 6 * DAY_MINUTES + 90) * MINUTE_NS
    events = judged.advance(later_ns)
    assert [event.data.get("why_not") for event in events] == ["no_value"]
    assert judged.standing[0].verdict is Verdict.CANNOT_TELL


def test_days_with_an_open_event_of_the_rule_are_no_example() -> None:
    """A fever of every night would make itself usual."""

    def nightly(offset: int) -> float:
        day, minute = divmod(offset, DAY_MINUTES)
        return 1.5 if day >= 5 and minute < 240 else 0.0

    values = days(8.5, nightly)
    judged = rules(FEVER)
    judged.load(values[: 5 * DAY_MINUTES])
    events = judged.update(values[5 * DAY_MINUTES :])
    assert [hours for state, hours in told(events) if state == "opened"] == [
        pytest.approx(day * 24 + 20 / 60) for day in (5, 6, 7)
    ]
    assert judged.standing[0].verdict is Verdict.CANNOT_TELL  # of the five days before only two are an example


def test_maintenance_is_judged_by_no_rule_and_no_example() -> None:
    def heated(offset: int) -> float:
        return 3.0 if offset in range(5 * DAY_MINUTES + 600, 5 * DAY_MINUTES + 700) else 0.0

    stretches = [
        Maintenance(
            event_id=f"{day:032x}",
            reason=Reason.CAGE_CHANGE,
            start_utc_ns=(FIRST + day * DAY_MINUTES + 600) * MINUTE_NS,
            end_utc_ns=(FIRST + day * DAY_MINUTES + 700) * MINUTE_NS,
            by="Ana",
        )
        for day in range(7)
    ]
    values = days(6, heated)
    judged, other = rules(FEVER), rules(FEVER)
    judged.set_maintenance(stretches)
    for each in (judged, other):
        each.load(values[: 5 * DAY_MINUTES])
    assert judged.update(values[5 * DAY_MINUTES :]) == []
    assert other.update(values[5 * DAY_MINUTES :])[0].state is EventState.OPENED
    hot = [value(FIRST + 6 * DAY_MINUTES + k, rhythm(FIRST + k) + 1.5 * (k >= 720)) for k in range(780)]
    assert told(judged.update(hot)) == [("opened", 6 * 24 + 12 + 20 / 60)]


def test_a_restart_in_the_middle_of_a_fever_resumes_and_tells_nothing_twice() -> None:
    values = days(5.3, fever)
    start = 118 * 60
    whole = after(values[:start]).update(values[start:])
    for minute in (119 * 60, 120 * 60 + 10, 121 * 60, 124 * 60 + 10):
        before = after(values[:start])
        first = before.update(values[start:minute])
        first += before.advance((FIRST + minute) * MINUTE_NS)
        again = rules(FEVER)
        again.restore(first)
        again.load(values[:minute])
        second = again.update(values[minute:])
        assert told([*first, *second]) == told(whole), minute
        assert [event.data.get("value") for event in [*first, *second]] == [event.data["value"] for event in whole]


def test_what_a_rule_of_another_config_left_open_is_closed() -> None:
    judged = after(days(5))
    [opened] = judged.update([value(FIRST + 5 * DAY_MINUTES + k, 39.5) for k in range(30)])
    other = rules(HOT)
    other.restore([opened])
    [closed] = other.orphans(5)
    assert (closed.state, closed.opened_event_id, closed.at_utc_ns) == (EventState.CLOSED, opened.event_id, 5)
    assert closed.data["reason"] == "not_watched"
    assert other.orphans(6) == []


def test_a_mean_of_minutes_is_judged_by_its_coverage() -> None:
    cage = rules(HOT)
    hot = [value(FIRST + k, 30.0, measure="ambient", animal=None) for k in range(30)]
    events = cage.update(hot)
    assert told(events) == [("opened", 12 / 60)]  # two of five minutes are not there at first: 0.4 is too little
    assert events[0].animal is None


def test_conditions_must_hold_together() -> None:
    both = dataclasses.replace(
        HOT,
        subject=Scope.ANIMAL,
        conditions=(
            Condition(measure="tail", comparison="below", value=25),
            Condition(measure="skin", comparison="above", value=37),
        ),
    )

    def feed(tail: float | None, skin: float) -> list[Event]:
        judged, events = rules(both), []
        for minute in range(FIRST, FIRST + 20):
            events += judged.update([value(minute, tail, measure="tail"), value(minute, skin)])
        return events

    assert told(feed(24, 38)) == [("opened", 10 / 60)]
    assert feed(24, 36) == feed(26, 38) == feed(None, 38) == []
    assert feed(24, 38)[0].data["also_skin"] == 38


def test_each_animal_has_its_own_past_and_its_own_event() -> None:
    judged = rules(FEVER, animals=2)
    values = [
        each
        for offset in range(round(5.2 * DAY_MINUTES))
        for each in (
            value(FIRST + offset, rhythm(FIRST + offset)),
            value(FIRST + offset, rhythm(FIRST + offset) + 2 + fever(offset), animal=2),
        )
    ]
    past = 2 * 118 * 60
    judged.load(values[:past])
    assert [(event.state, event.animal) for event in judged.update(values[past:])] == [
        (EventState.OPENED, 2),
        (EventState.CLOSED, 2),
    ]


def test_a_clock_that_is_set_back_silences_nothing() -> None:
    judged = rules(HOT)
    judged.update([value(FIRST + k, 20, measure="ambient", animal=None) for k in range(300)])
    back = [value(FIRST + 100 + k, 31, measure="ambient", animal=None) for k in range(30)]
    assert [event.state for event in judged.update(back)] == [EventState.OPENED]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The minutes that are judged."""
    seen: list[int] = []
    look = RuleState.look

    def noted(state: RuleState, new: Look, *, quiet: bool = False, rehearsal: bool = False) -> list[Event]:
        seen.append(new.minute)
        return look(state, new, quiet=quiet, rehearsal=rehearsal)

    monkeypatch.setattr(RuleState, "look", noted)
    return seen


def live(*which: Rule) -> MinuteRules:
    return MinuteRules(
        which, animals=1, schedule=SCHEDULE, zone=ZONE, settings=RulesSettings(), most_at_once=MOST_LIVE_MINUTES
    )


def hot(first: int, minutes: int) -> list[MinuteValue]:
    return [value(first + k, 31, measure="ambient", animal=None) for k in range(minutes)]


def test_a_clock_that_comes_from_1970_makes_nobody_judge_half_a_century(looks: list[int]) -> None:
    judged = live(HOT)
    judged.update_live(hot(70, 8))
    looks.clear()
    assert told(judged.update_live(hot(FIRST, DAY_MINUTES))) == [("opened", (DAY_MINUTES - MOST_LIVE_MINUTES + 9) / 60)]
    last = FIRST + DAY_MINUTES - 1  # waits for what else may come of it
    assert looks == [77, *range(last - MOST_LIVE_MINUTES, last)]
    looks.clear()
    unsure = judged.advance((FIRST + 3 * DAY_MINUTES) * MINUTE_NS)
    assert [(event.state, event.data["reason"]) for event in unsure] == [(EventState.UPDATED, "cannot_tell")]
    assert len(looks) == 1 + MOST_LIVE_MINUTES


@pytest.mark.parametrize("hours", [3, 20, 24 * 365 * 50])
def test_minutes_of_a_leap_that_were_judged_as_missing_are_not_judged_again(hours: int, looks: list[int]) -> None:
    judged = live(HOT)
    start = FIRST + DAY_MINUTES - 60 * hours
    (opened,) = judged.update_live(hot(start - 30, 30))
    assert opened.state is EventState.OPENED
    events = judged.advance((FIRST + DAY_MINUTES) * MINUTE_NS)  # a frame from before the leap is still at hand
    looks.clear()
    empty = [value(start + k, None, measure="ambient", animal=None) for k in range(60 * hours)[-DAY_MINUTES:]]
    events += judged.update_live(empty)
    events += judged.update_live(hot(FIRST + DAY_MINUTES, 1))
    assert len(looks) <= LATE_MINUTES
    assert [event.data["reason"] for event in events] == ["cannot_tell"]
    for minute in range(FIRST + DAY_MINUTES + 1, FIRST + DAY_MINUTES + 10):
        events += judged.update_live(hot(minute, 1))
    assert [(event.state, event.data.get("reason")) for event in events] == [
        (EventState.UPDATED, "cannot_tell"),
        (EventState.UPDATED, "can_tell"),
    ]
    assert looks == sorted(looks)


def test_quiet_hours_go_by_the_local_clock() -> None:
    at_night = [value(FIRST + k, 31, measure="ambient", animal=None) for k in range(9 * 60)]
    events = rules(HOT, quiet_hours=("22:00", "06:30")).update(at_night)
    assert told(events) == [("opened", 12 / 60), ("updated", 5.5 + 1 / 60)]  # 06:30 in Berlin is 05:30 UTC


def test_strata_divide_the_day_by_what_began_last() -> None:
    strata = strata_of_day(ScheduleSettings(strata={"night": ("00:30", "03:00"), "morning": ("07:00",)}))
    assert [strata[minute] for minute in (0, 29, 30, 200, 419, 420, 1439)] == [1, 1, 0, 0, 0, 1, 1]
    shifted = strata_of_day(
        ScheduleSettings(times="zeitgeber", lights_on="06:00", strata={"dark": ("12:00",), "light": ("00:00",)})
    )
    assert [shifted[minute] for minute in (0, 359, 360, 1079, 1080)] == [0, 0, 1, 1, 0]


def test_a_band_is_of_the_same_time_of_day_over_a_change_of_the_clock() -> None:
    local, series = LocalTime(ZONE, SCHEDULE), MinuteSeries(12 * DAY_MINUTES)
    for minute in range(FIRST, FIRST + 11 * DAY_MINUTES):
        series.put(minute, float(local(minute) % DAY_MINUTES), 1.0)
    settings = BaselineSettings(days=4, least_days=4, within_minutes=5)
    now = FIRST + 11 * DAY_MINUTES - 700  # 2026-03-30, after the change
    band = band_of(series, now, settings, local=local)
    assert band is not None
    assert band.median == local(now) % DAY_MINUTES
    assert band.spread == pytest.approx(MAD_TO_SPREAD * 3)  # of -5 ... 5 the median distance is 3


def test_a_band_stays_in_its_stratum() -> None:
    local, series = LocalTime(ZoneInfo("UTC"), SCHEDULE), MinuteSeries(10 * DAY_MINUTES)
    for minute in range(FIRST, FIRST + 9 * DAY_MINUTES):
        series.put(minute, 1.0 if minute % DAY_MINUTES < 19 * 60 else 5.0, 1.0)
    settings = BaselineSettings(days=4, within_minutes=90)
    just_before = band_of(series, FIRST + 8 * DAY_MINUTES + 19 * 60 - 10, settings, local=local)
    just_after = band_of(series, FIRST + 8 * DAY_MINUTES + 19 * 60 + 10, settings, local=local)
    assert just_before is not None and just_after is not None
    assert (just_before.median, just_before.spread) == (1.0, 0.0)
    assert (just_after.median, just_after.spread) == (5.0, 0.0)


def test_running_means_are_the_means_minute_by_minute() -> None:
    dice = np.random.default_rng(1)
    values = np.where(dice.random(200) < 0.3, np.nan, dice.normal(size=200))
    coverage = np.where(np.isfinite(values), dice.random(200), 0.0)
    series = MinuteSeries(500)
    for minute in range(200):
        series.put(minute, None if np.isnan(values[minute]) else values[minute], coverage[minute])
    for weighted in (True, False):
        means, covered = running_means(values, coverage, 7, weighted=weighted)
        for minute in range(200):
            mean, share = series.mean(minute, 7, weighted=weighted)
            assert mean == (None if np.isnan(means[minute]) else pytest.approx(means[minute]))
            assert share == pytest.approx(covered[minute])


def test_a_series_forgets_what_is_too_old_and_knows_nothing_of_what_never_came() -> None:
    series = MinuteSeries(10)
    series.put(5, 1.0, 0.5)
    series.put(15, 2.0, 0.5)
    assert series.get(5) == (None, 0.0)
    assert series.get(15) == (2.0, 0.5)
    assert series.get(16) == (None, 0.0)
    assert series.mean(20, 5) == (None, 0.0)
