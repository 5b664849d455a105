"""The states of one rule: never two openings without an end, never fine because nothing was seen."""

import dataclasses
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from daemon.events import Event, EventKind, EventState, Severity, since_of
from daemon.minute_series import MINUTE_NS
from daemon.minute_value import Scope
from daemon.rule import Condition, Rule
from daemon.rule_state import UNSURE_MINUTES, Look, RuleState, Verdict
from daemon.urgency import QUIET_OVER

RULE = Rule(
    name="fever",
    kind=EventKind.FEVER,
    subject=Scope.ANIMAL,
    conditions=(Condition(measure="skin_max_30min_celsius", comparison="above", value=38.0, hysteresis=0.3),),
    for_minutes=3,
    clear_minutes=3,
    cool_down_minutes=0,
)
BEYOND, BETWEEN, BACK, UNKNOWN, WORK = (
    Verdict.BEYOND,
    Verdict.BETWEEN,
    Verdict.BACK,
    Verdict.CANNOT_TELL,
    Verdict.MAINTENANCE,
)
QUIET_FROM, QUIET_TO = 20, 60


def feed(
    state: RuleState, verdicts: Sequence[Verdict], *, first: int = 0, quiet: Sequence[int] | range = ()
) -> list[Event]:
    """The events of these minutes; those in `quiet` are quiet hours."""
    events = []
    for minute, verdict in enumerate(verdicts, start=first):
        events += state.look(Look(minute=minute, verdict=verdict, excess=0.5), quiet=minute in quiet)
    return events


def told(events: Sequence[Event]) -> list[tuple[str, int]]:
    """State and minute in which it was told."""
    return [(event.state.value, event.at_utc_ns // MINUTE_NS - 1) for event in events]


def test_it_opens_after_its_duration_and_closes_after_as_long_on_the_right_side() -> None:
    events = feed(RuleState(RULE, 1), [BEYOND] * 5 + [BACK] * 5)
    assert told(events) == [("opened", 2), ("closed", 7)]
    opened, closed = events
    assert (opened.kind, opened.animal, opened.severity) == (EventKind.FEVER, 1, Severity.ALERT)
    assert opened.data["since_utc_ns"] == 0
    assert closed.opened_event_id == opened.event_id
    assert closed.data["lasted_minutes"] == 8


def test_hysteresis_keeps_it_open() -> None:
    assert told(feed(RuleState(RULE, 1), [BEYOND] * 3 + [BETWEEN, BACK, BACK] * 20)) == [("opened", 2)]


def test_too_short_is_silence() -> None:
    assert feed(RuleState(RULE, 1), [BEYOND, BEYOND, BETWEEN] * 10) == []


def test_what_cannot_be_told_closes_nothing_and_is_said_after_a_while() -> None:
    state = RuleState(RULE, 1)
    events = feed(state, [BEYOND] * 3 + [UNKNOWN] * 500)
    assert told(events) == [("opened", 2), ("updated", 2 + UNSURE_MINUTES)]
    assert events[1].data["reason"] == "cannot_tell"
    assert state.open_event_id == events[0].event_id
    again = feed(state, [BEYOND], first=503)
    assert [event.data["reason"] for event in again] == ["can_tell"]


def test_a_short_hole_does_not_begin_a_duration_anew_but_a_long_one_does() -> None:
    patient = dataclasses.replace(RULE, for_minutes=40)
    short = [BEYOND] * 20 + [UNKNOWN] * 8 + [BEYOND] * 12
    assert told(feed(RuleState(patient, 1), short)) == [("opened", 39)]
    long = [BEYOND] * 20 + [UNKNOWN] * 12 + [BEYOND] * 39
    assert feed(RuleState(patient, 1), long) == []


def test_a_duration_of_holes_opens_nothing() -> None:
    patient = dataclasses.replace(RULE, for_minutes=40)
    assert feed(RuleState(patient, 1), [BEYOND, UNKNOWN, UNKNOWN, UNKNOWN] * 30) == []


def test_maintenance_begins_a_duration_anew_and_closes_nothing() -> None:
    state = RuleState(RULE, 1)
    assert feed(state, [BEYOND, BEYOND, WORK, BEYOND, BEYOND, WORK]) == []
    assert told(feed(state, [BEYOND] * 3 + [BACK, BACK] + [WORK] * 50 + [BACK, BACK], first=6)) == [("opened", 8)]


def test_after_its_end_it_cools_down() -> None:
    cool = dataclasses.replace(RULE, cool_down_minutes=30)
    events = feed(RuleState(cool, 1), [BEYOND] * 3 + [BACK] * 3 + [BEYOND] * 60)
    assert told(events) == [("opened", 2), ("closed", 5), ("opened", 35)]
    assert events[2].data["since_utc_ns"] == 6 * MINUTE_NS


def test_nobody_who_acknowledges_makes_it_more_severe_once() -> None:
    loud = dataclasses.replace(RULE, escalate_after_minutes=10)
    events = feed(RuleState(loud, 1), [BEYOND] * 100)
    assert told(events) == [("opened", 2), ("updated", 12)]
    assert (events[1].severity, events[1].data["reason"]) == (Severity.EMERGENCY, "escalated")


def test_what_is_acknowledged_is_not_made_more_severe() -> None:
    state = RuleState(dataclasses.replace(RULE, escalate_after_minutes=10), 1)
    assert told(feed(state, [BEYOND] * 4)) == [("opened", 2)]
    state.acknowledge()
    assert feed(state, [BEYOND] * 100, first=4) == []


def test_quiet_hours_make_a_notice_of_it_and_tell_it_when_they_are_over() -> None:
    events = feed(RuleState(RULE, 1), [BEYOND] * 70, quiet=range(60))
    assert told(events) == [("opened", 2), ("updated", 60)]
    assert [event.severity for event in events] == [Severity.NOTICE, Severity.ALERT]
    assert events[1].data["reason"] == QUIET_OVER


def test_what_opened_and_closed_in_quiet_hours_is_told_when_they_are_over() -> None:
    events = feed(RuleState(RULE, 1), [BEYOND] * 5 + [BACK] * 60, quiet=range(60))
    assert told(events) == [("opened", 2), ("closed", 7), ("occurred", 60)]
    assert [event.severity for event in events] == [Severity.NOTICE, Severity.NOTICE, Severity.ALERT]
    assert (events[2].data["since_utc_ns"], events[2].data["until_utc_ns"]) == (0, 8 * MINUTE_NS)


def test_what_came_and_went_twice_in_quiet_hours_is_told_once_with_its_number() -> None:
    verdicts = ([BEYOND] * 4 + [BACK] * 4) * 2
    *before, told_late = feed(RuleState(RULE, 1), [*verdicts, *[BACK] * 60], quiet=range(60))
    assert told(before) == [("opened", 2), ("closed", 6), ("opened", 10), ("closed", 14)]
    assert told([told_late]) == [("occurred", 60)]
    assert (told_late.severity, told_late.data["times"]) == (Severity.ALERT, 2)
    assert (told_late.data["since_utc_ns"], told_late.data["until_utc_ns"]) == (0, 15 * MINUTE_NS)
    assert told_late.data["opened_event"] == before[0].event_id


def test_what_another_rule_goes_on_with_is_not_told_in_the_morning_after_a_restart_either() -> None:
    before, after, other = RuleState(RULE, 1), RuleState(RULE, 1), RuleState(RULE, 1)
    opened, closed = feed(before, [BEYOND] * 4 + [BACK] * 4, quiet=range(60))
    left = before.leave(closed, [other])
    after.restore(opened)
    after.restore(dataclasses.replace(left, state=EventState.CLOSED))
    for state in (before, after):
        assert feed(state, [BACK] * 60, first=8, quiet=range(60)) == []


def test_a_notice_is_told_in_quiet_hours_and_not_again_and_becomes_no_alert_before_they_are_over() -> None:
    mild = dataclasses.replace(RULE, severity=Severity.NOTICE)
    assert told(feed(RuleState(mild, 1), [BEYOND] * 70, quiet=range(60))) == [("opened", 2)]
    loud = dataclasses.replace(mild, escalate_after_minutes=10)
    for quiet in (range(60), range(5, 60)):
        events = feed(RuleState(loud, 1), [BEYOND] * 70, quiet=quiet)
        assert told(events) == [("opened", 2), ("updated", 60)]
        assert (events[1].severity, events[1].data["reason"]) == (Severity.ALERT, "escalated")


def test_an_emergency_knows_no_quiet_hours() -> None:
    emergency = dataclasses.replace(RULE, severity=Severity.EMERGENCY)
    [opened] = feed(RuleState(emergency, 1), [BEYOND] * 5, quiet=range(60))
    assert opened.severity is Severity.EMERGENCY


def test_an_alert_that_becomes_an_emergency_in_quiet_hours_is_told_at_once() -> None:
    loud = dataclasses.replace(RULE, escalate_after_minutes=10)
    events = feed(RuleState(loud, 1), [BEYOND] * 40, quiet=range(100))
    assert [(event.severity, event.at_utc_ns // MINUTE_NS - 1) for event in events] == [
        (Severity.NOTICE, 2),
        (Severity.EMERGENCY, 12),
    ]


def test_it_says_that_it_gets_worse_once_an_hour_at_most() -> None:
    state, events = RuleState(RULE, 1), []
    for minute in range(200):
        events += state.look(Look(minute=minute, verdict=BEYOND, excess=minute / 10))
    assert told(events) == [("opened", 2), ("updated", 62), ("updated", 122), ("updated", 182)]
    assert {event.data.get("reason") for event in events[1:]} == {"worse"}


QUICK = settings(max_examples=100, deadline=None, derandomize=True, phases=(Phase.generate, Phase.shrink))
VERDICTS = st.sampled_from(list(Verdict))
RUNS = st.lists(st.tuples(VERDICTS, st.integers(1, 40)), max_size=8)
"""Minutes as they come: the same for a while."""
RULES = st.builds(
    dataclasses.replace,
    st.just(RULE),
    for_minutes=st.integers(0, 20),
    clear_minutes=st.integers(0, 20),
    cool_down_minutes=st.integers(0, 60),
    escalate_after_minutes=st.integers(0, 40),
    severity=st.sampled_from(list(Severity)),
    quiet=st.booleans(),
)


def minutes_of(runs: Sequence[tuple[Verdict, int]]) -> list[Verdict]:
    return [verdict for verdict, times in runs for _ in range(times)]


@given(rule=RULES, runs=RUNS)
@QUICK
def test_openings_and_ends_alternate_and_whatever_follows_names_its_opening(
    rule: Rule, runs: list[tuple[Verdict, int]]
) -> None:
    state, verdicts = RuleState(rule, 1), minutes_of(runs)
    events = feed(state, verdicts, quiet=range(QUIET_FROM, QUIET_TO))
    turns = [event for event in events if event.state in (EventState.OPENED, EventState.CLOSED)]
    assert all(one.state is not other.state for one, other in pairwise(turns))
    assert not turns or turns[0].state is EventState.OPENED
    now_open: str | None = None
    for event in events:
        minute = event.at_utc_ns // MINUTE_NS - 1
        match event.state:
            case EventState.OPENED:
                now_open = event.event_id
                assert verdicts[minute] is Verdict.BEYOND
            case EventState.CLOSED:
                assert event.opened_event_id == now_open
                assert verdicts[minute] is Verdict.BACK
                now_open = None
            case EventState.UPDATED:
                assert event.opened_event_id == now_open
    assert state.open_event_id == now_open


SWIFT_RULES = st.builds(
    dataclasses.replace,
    RULES,
    for_minutes=st.integers(0, 4),
    clear_minutes=st.integers(0, 4),
    cool_down_minutes=st.integers(0, 8),
    escalate_after_minutes=st.sampled_from([0, 0, 3, 10]),
    severity=st.sampled_from([Severity.ALERT, Severity.NOTICE, Severity.ALERT, Severity.EMERGENCY]),
    quiet=st.just(True),
)
FITS = st.lists(
    st.tuples(st.sampled_from([BACK, BEYOND, BACK, BEYOND, UNKNOWN]), st.integers(3, 15)), min_size=5, max_size=12
)
"""Much comes and goes within the quiet hours."""


@given(rule=SWIFT_RULES, runs=FITS)
@settings(QUICK, max_examples=300)
def test_quiet_hours_lose_nothing(rule: Rule, runs: list[tuple[Verdict, int]]) -> None:
    """All that is told without quiet hours is told with them, at its severity, when they are over at the latest."""
    verdicts = [*minutes_of(runs)[:QUIET_TO], *[BETWEEN] * (QUIET_TO + 5)]
    with_quiet = feed(RuleState(rule, 1), verdicts, quiet=range(QUIET_FROM, QUIET_TO))
    without = feed(RuleState(dataclasses.replace(rule, quiet=False), 1), verdicts)
    opened = [event.at_utc_ns for event in without if event.state is EventState.OPENED]
    assert [event.at_utc_ns for event in with_quiet if event.state is EventState.OPENED] == opened
    assert _loudest(with_quiet) == _loudest(without), "also what has become more severe"
    late = [event for event in with_quiet if event.state is EventState.OCCURRED]
    hushed = [event for event in with_quiet if event.state is EventState.CLOSED and "quiet_severity" in event.data]
    times = [number for event in late if isinstance(number := event.data.get("times", 1), int)]
    assert (sum(times), len(times)) == (len(hushed), len(late)), "each is told once"


def _loudest(events: Sequence[Event]) -> list[int]:
    """Of each event that opened, in their order: the rank of the most severe that was told of it, also late."""
    return [
        max(
            list(Severity).index(event.severity)
            for event in events
            if opened.event_id in (event.event_id, event.opened_event_id)
            or (event.state is EventState.OCCURRED and since_of(event) <= since_of(opened) < event.at_utc_ns)
        )
        for opened in events
        if opened.state is EventState.OPENED
    ]


def test_a_notice_that_would_have_become_an_alert_at_night_and_is_over_is_told_in_the_morning() -> None:
    mild = dataclasses.replace(RULE, severity=Severity.NOTICE, escalate_after_minutes=10)
    verdicts = [*[BEYOND] * 30, *[BACK] * 60]
    *before, late = feed(RuleState(mild, 1), verdicts, quiet=range(5, 60))
    assert told(before) == [("opened", 2), ("closed", 32)]
    assert (told([late]), late.severity) == ([("occurred", 60)], Severity.ALERT)
    state = RuleState(mild, 1)
    feed(state, verdicts[:20], quiet=range(5, 60))
    state.acknowledge()
    assert told(feed(state, verdicts[20:], first=20, quiet=range(5, 60))) == [("closed", 32)], "somebody has seen it"


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restart"])
def test_a_clock_that_is_set_back_ends_a_cool_down_and_puts_off_no_escalation(restart: bool) -> None:
    rule = dataclasses.replace(RULE, escalate_after_minutes=10, cool_down_minutes=60)
    state = RuleState(rule, 1)
    events = feed(state, [BEYOND] * 4 + [BACK] * 3, first=1000)
    if restart:
        state = RuleState(rule, 1)
        for event in events:
            state.restore(event)
    opened = feed(state, [BEYOND] * 8, first=500)
    assert told(opened) == [("opened", 502)]
    if restart:
        state = RuleState(rule, 1)
        for event in [*events, *opened]:
            state.restore(event)
    again = feed(state, [BEYOND] * 20, first=100)
    assert [event.data["reason"] for event in again] == ["escalated"]
    assert told(again) == [("updated", 110 if restart else 105)]


@given(rule=RULES, runs=RUNS, cut=st.integers(0, 200))
@QUICK
def test_a_restart_in_the_middle_changes_nothing_of_what_is_told(
    rule: Rule, runs: list[tuple[Verdict, int]], cut: int
) -> None:
    verdicts = minutes_of(runs)
    quiet = range(QUIET_FROM, QUIET_TO)
    whole = feed(RuleState(rule, 1), verdicts, quiet=quiet)
    before = RuleState(rule, 1)
    first = feed(before, verdicts[:cut], quiet=quiet)
    after = RuleState(rule, 1)
    for event in first:
        after.restore(event)
    since = before.since_minute
    for minute, verdict in enumerate(verdicts[:cut]):
        after.look(Look(minute=minute, verdict=verdict, excess=0.5), rehearsal=True)
    assert after.open_event_id == before.open_event_id
    if before.open_event_id is not None:
        assert after.since_minute == since
    second = feed(after, verdicts[cut:], first=cut, quiet=quiet)
    states = [(told([event])[0], event.severity, event.data.get("reason")) for event in [*first, *second]]
    assert states == [(told([event])[0], event.severity, event.data.get("reason")) for event in whole]


@pytest.mark.parametrize("verdict", [Verdict.CANNOT_TELL, Verdict.MAINTENANCE])
def test_before_anything_is_known_it_is_not_fine(verdict: Verdict) -> None:
    state = RuleState(RULE, 1)
    assert state.verdict is Verdict.CANNOT_TELL
    feed(state, [verdict])
    assert state.verdict is verdict
