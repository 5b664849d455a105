"""Rules that tell of one illness: one event with the evidence of all, also over a restart."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from daemon.default_rules import DEFAULT_RULES, in_force
from daemon.events import Event, EventKind, EventState, Severity
from daemon.minute_rules import MinuteRules
from daemon.minute_series import MINUTE_NS
from daemon.minute_value import MinuteValue, Scope
from daemon.open_events import open_now
from daemon.rule import Condition, Rule
from daemon.rule_settings import RuleSettings, RulesSettings
from daemon.rules_replay import TrueIllness, score
from daemon.settings import ScheduleSettings
from drivers.errors import ConfigError

FIRST = 29_800_000
"""Minutes since the epoch: 2026-08-29 10:40 UTC."""
HOT = Rule(
    name="hot",
    kind=EventKind.FEVER,
    subject=Scope.ANIMAL,
    conditions=(Condition(measure="skin", comparison="above", value=38),),
    for_minutes=10,
    clear_minutes=10,
    cool_down_minutes=60,
    joins=("rising",),
)
RISING = Rule(
    name="rising",
    kind=EventKind.FEVER,
    subject=Scope.ANIMAL,
    conditions=(Condition(measure="tail", comparison="below", value=25),),
    for_minutes=5,
    clear_minutes=5,
    cool_down_minutes=60,
    joins=("hot",),
)
WELL, BOTH, HOT_ALONE, COLD_TAIL = (37.0, 27.0), (39.0, 24.0), (39.0, 27.0), (37.0, 24.0)
ILLNESS = [WELL] * 10 + [BOTH] * 20 + [HOT_ALONE] * 20 + [WELL] * 20
"""From minute 10 on: the tail is cold until 30, the skin hot until 50."""

Minutes = Sequence[tuple[float, float]]


def rules(*which: Rule, animals: int = 1, **settings: object) -> MinuteRules:
    return MinuteRules(
        which or (HOT, RISING),
        animals=animals,
        schedule=ScheduleSettings(),
        zone=ZoneInfo("UTC"),
        settings=RulesSettings.model_validate(settings),
    )


def values(minutes: Minutes, *, first: int = 0, animal: int = 1) -> list[MinuteValue]:
    return [
        MinuteValue(
            measure=measure,
            minute_utc_ns=(FIRST + minute) * MINUTE_NS,
            animal=animal,
            value=number,
            uncertainty=None,
            coverage=1.0,
            samples=60,
        )
        for minute, numbers in enumerate(minutes, start=first)
        for measure, number in zip(("skin", "tail"), numbers, strict=True)
    ]


def feed(judged: MinuteRules, minutes: Minutes, *, first: int = 0, animal: int = 1) -> list[Event]:
    events = judged.update(values(minutes, first=first, animal=animal))
    return events + judged.advance((FIRST + first + len(minutes)) * MINUTE_NS)


def told(events: Sequence[Event]) -> list[tuple[str, object, object, int]]:
    """State, rule, reason and minute."""
    return [
        (event.state.value, event.data["rule"], event.data.get("reason"), event.at_utc_ns // MINUTE_NS - 1 - FIRST)
        for event in events
    ]


def test_the_second_rule_adds_its_evidence_to_the_event_of_the_first() -> None:
    events = feed(rules(), ILLNESS)
    assert told(events) == [
        ("opened", "rising", None, 14),
        ("updated", "hot", "joined", 19),
        ("updated", "rising", "left", 34),
        ("closed", "hot", None, 59),
    ]
    opened = events[0]
    assert {event.opened_event_id for event in events[1:]} == {opened.event_id}
    assert events[1].data["value"] == 39
    assert events[1].data["threshold"] == 38
    assert open_now(events) == []
    assert [each.newest for each in open_now(events[:3])] == [events[2]]


def test_after_the_event_no_rule_of_it_opens_another_until_it_has_cooled_down() -> None:
    judged = rules()
    feed(judged, ILLNESS)
    assert feed(judged, [COLD_TAIL] * 45, first=70) == []
    assert told(feed(judged, [COLD_TAIL] * 10, first=115)) == [("opened", "rising", None, 119)]


def test_an_event_of_another_animal_or_of_a_rule_that_is_not_named_is_not_joined() -> None:
    judged = rules(animals=2)
    feed(judged, [BOTH] * 7)
    assert told(feed(judged, [HOT_ALONE] * 20, first=7, animal=2))[0] == ("opened", "hot", None, 16)
    alone = dataclasses.replace(HOT, joins=())
    assert [state for state, *_ in told(feed(rules(alone, RISING), [BOTH] * 12))] == ["opened", "opened"]


@pytest.mark.parametrize("minute", [12, 15, 19, 20, 34, 35, 50, 60])
def test_a_restart_tells_nothing_twice_and_forgets_no_part(minute: int) -> None:
    whole = told(feed(rules(), ILLNESS))
    first = feed(rules(), ILLNESS[:minute])
    again = rules()
    again.restore(first)
    assert again.orphans(0) == []
    again.load(values(ILLNESS[:minute]))
    assert told(first) + told(feed(again, ILLNESS[minute:], first=minute)) == whole


def test_what_was_acknowledged_is_not_made_louder_by_what_joins() -> None:
    louder = dataclasses.replace(HOT, escalate_after_minutes=10)
    for acknowledged in (True, False):
        judged = rules(louder, RISING)
        [opened] = feed(judged, ILLNESS[:16])
        said = [opened]
        if acknowledged:
            judged.acknowledge(opened.event_id)
            said.append(
                dataclasses.replace(
                    opened, state=EventState.ACKNOWLEDGED, event_id="a" * 32, opened_event_id=opened.event_id, data={}
                )
            )
        restored = rules(louder, RISING)
        restored.restore(said)
        restored.load(values(ILLNESS[:16]))
        for each in (judged, restored):
            reasons = [event.data.get("reason") for event in feed(each, ILLNESS[16:45], first=16)]
            assert ("escalated" in reasons) is not acknowledged


def test_when_quiet_hours_are_over_it_is_told_once() -> None:
    events = feed(rules(quiet_hours=("10:00", "11:05")), ILLNESS)
    assert [(event.severity, event.data.get("reason")) for event in events] == [
        (Severity.NOTICE, None),
        (Severity.NOTICE, "joined"),
        (Severity.ALERT, "quiet_hours_over"),
        (Severity.ALERT, "left"),
        (Severity.ALERT, None),
    ]
    closed_in_quiet = feed(rules(quiet_hours=("10:00", "11:45")), ILLNESS)
    assert [event.state for event in closed_in_quiet if event.severity is Severity.ALERT] == [EventState.OCCURRED]


def test_an_illness_is_caught_by_a_rule_that_joins_and_one_event_is_one_alert() -> None:
    start = datetime.fromtimestamp((FIRST + 5) * 60, UTC)
    illness = TrueIllness(kind="heat", animal=1, start=start, end=start + timedelta(hours=1), rules=("hot",))
    found = score(
        feed(rules(), ILLNESS),
        [illness],
        animals=1,
        start_utc_ns=FIRST * MINUTE_NS,
        end_utc_ns=(FIRST + 70) * MINUTE_NS,
    )
    [(caught, event)] = found.caught
    assert (caught, event.data["rule"], event.data["reason"]) == (illness, "hot", "joined")
    assert found.false == ()


def test_the_shipped_rules_of_a_fever_tell_of_it_as_one() -> None:
    by_name = {rule.name: rule for rule in DEFAULT_RULES}
    assert by_name["fever"].kind is by_name["tail_cold_body_hot"].kind
    assert "tail_cold_body_hot" in by_name["fever"].joins
    assert "fever" in by_name["tail_cold_body_hot"].joins
    assert "fever" not in by_name["hypothermia"].joins


def test_a_config_names_what_a_rule_joins_and_no_rule_that_is_not_there() -> None:
    own = {"name": "warm", "measure": "skin_max_celsius", "comparison": "above", "value": 36.5}
    [warm] = [
        rule
        for rule in in_force([RuleSettings.model_validate(own | {"joins": ["fever"]})], defaults=True)
        if rule.name == "warm"
    ]
    assert warm.joins == ("fever",)
    with pytest.raises(ConfigError, match=r"warm.*fevre"):
        in_force([RuleSettings.model_validate(own | {"joins": ["fevre"]})], defaults=True)


MILD_TAIL = dataclasses.replace(RISING, severity=Severity.NOTICE)
NIGHT = ["10:00", "13:00"]


@pytest.mark.parametrize("restart", [None, 35, 45, 60, 100])
@pytest.mark.parametrize("opens_first", [True, False], ids=["alert first", "notice first"])
def test_an_alert_that_a_notice_outlasts_at_night_is_told_in_the_morning(
    restart: int | None, opens_first: bool
) -> None:
    first = [HOT_ALONE] if opens_first else [COLD_TAIL]
    night = [*first * 15, *[BOTH] * 15, *[COLD_TAIL] * 25, *[WELL] * 100]
    judged, cut = rules(HOT, MILD_TAIL, quiet_hours=NIGHT), len(night) if restart is None else restart
    events = feed(judged, night[:cut])
    if restart is not None:
        judged = rules(HOT, MILD_TAIL, quiet_hours=NIGHT)
        judged.restore(events)
        judged.load(values(night[:cut]))
        events += feed(judged, night[cut:], first=cut)
    assert [(event.state, event.severity) for event in events if event.severity is not Severity.NOTICE] == [
        (EventState.OCCURRED, Severity.ALERT)
    ]
    late = events[-1]
    assert (late.data["rule"], late.data["opened_event"]) == ("hot", events[0].event_id)


@pytest.mark.parametrize("restart", [None, 17, 30, 55, 80])
def test_an_event_that_was_told_before_quiet_hours_is_no_less_severe_at_night_and_not_told_again(
    restart: int | None,
) -> None:
    days_and_night = [*[HOT_ALONE] * 15, *[BOTH] * 15, *[COLD_TAIL] * 35, *[WELL] * 100]
    quiet = ["10:52", "12:30"]
    judged, cut = rules(quiet_hours=quiet), len(days_and_night) if restart is None else restart
    events = feed(judged, days_and_night[:cut])
    if restart is not None:
        judged = rules(quiet_hours=quiet)
        judged.restore(events)
        judged.load(values(days_and_night[:cut]))
        events += feed(judged, days_and_night[cut:], first=cut)
    assert told(events) == [
        ("opened", "hot", None, 9),
        ("updated", "rising", "joined", 19),
        ("updated", "hot", "left", 39),
        ("closed", "rising", None, 69),
    ]
    assert {event.severity for event in events} == {Severity.ALERT}
