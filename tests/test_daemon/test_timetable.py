"""Blocks open, close and are missed exactly once, whatever the clock does."""

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
import time_machine
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from daemon.schedule import PlannedBlock, StratifiedDay, block_at, blocks_between
from daemon.settings import ScheduleSettings
from daemon.timetable import (
    BlockChange,
    BlockClosed,
    BlockMissed,
    BlockOpened,
    Cause,
    Timetable,
    TimetableKeeper,
)
from drivers.clock import NS_PER_S, SimulatedClock, SystemClock
from drivers.errors import ConfigError

UTC_ZONE = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
DEFAULT = ScheduleSettings()
MINUTE_NS = 60 * NS_PER_S
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
PATIENCE_S = 20.0
"""For a thread to do what it should do at once."""


def utc_ns(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_S


MONDAY = utc_ns("2026-01-05T00:00")


def told(changes: Iterable[BlockChange]) -> list[str]:
    return [f"{type(change).__name__[5:].lower()} {change.block.key[5:]} {change.cause}" for change in changes]


def timetable(settings: ScheduleSettings = DEFAULT, zone: ZoneInfo = UTC_ZONE) -> Timetable:
    return Timetable(settings, zone)


# A clock that runs on


def test_a_day_opens_and_closes_its_eight_blocks_in_time() -> None:
    day = timetable()
    changes = [change for second in range(0, 86_400, 10) for change in day.update(MONDAY + second * NS_PER_S)]
    blocks = list(StratifiedDay.of(date(2026, 1, 5), DEFAULT, UTC_ZONE))
    assert [change.block for change in changes] == [block for block in blocks for _ in range(2)]
    assert [type(change) for change in changes] == [BlockOpened, BlockClosed] * 8
    assert [change.at_utc_ns for change in changes] == [
        moment for block in blocks for moment in (block.start_utc_ns, block.end_utc_ns)
    ]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        pytest.param("Europe/Berlin", date(2026, 3, 29), 23, id="Berlin spring"),
        pytest.param("Europe/Berlin", date(2026, 10, 25), 25, id="Berlin autumn"),
        pytest.param("America/New_York", date(2026, 11, 1), 25, id="New York autumn"),
        pytest.param("America/Sao_Paulo", date(2018, 11, 4), 23, id="Sao Paulo spring"),
        pytest.param("Australia/Lord_Howe", date(2026, 10, 4), 23.5, id="Lord Howe spring"),
        pytest.param("Asia/Kathmandu", date(2026, 6, 1), 24, id="Kathmandu"),
    ],
)
def test_short_and_long_days_open_eight_blocks(zone: str, day: date, hours: float) -> None:
    first = StratifiedDay.of(day, DEFAULT, ZoneInfo(zone)).blocks[0].start_utc_ns
    box = timetable(zone=ZoneInfo(zone))
    ticks = range(first, first + round((hours - 1) * HOUR_NS), 15 * NS_PER_S)
    changes = [change for tick in ticks for change in box.update(tick)]
    opened = [change.block for change in changes if isinstance(change, BlockOpened)]
    assert [(block.day, block.frames) for block in opened] == [(day, 1800)] * 8
    assert len({block.key for block in opened}) == 8
    assert not any(isinstance(change, BlockMissed) for change in changes)


def test_a_block_is_joined_where_the_service_starts_in_it() -> None:
    box = timetable()
    [opened] = box.update(MONDAY + 40 * MINUTE_NS + 500_000_000)
    assert isinstance(opened, BlockOpened)
    assert told([opened]) == ["opened 01-05/night-1 service_down"]
    assert opened.lost_utc_ns == opened.block.planned_utc_ns[:600]
    assert box.open_block == opened.block
    assert told(box.update(MONDAY + 60 * MINUTE_NS)) == ["closed 01-05/night-1 schedule"]
    assert box.open_block is None


def test_an_opening_within_the_first_window_loses_nothing() -> None:
    box = timetable()
    box.update(MONDAY)
    [opened] = box.update(MONDAY + 30 * MINUTE_NS + 900_000_000)
    assert isinstance(opened, BlockOpened)
    assert (opened.cause, len(opened.lost_utc_ns)) == (Cause.SCHEDULE, 0)


def test_a_question_that_comes_late_says_so() -> None:
    box = timetable()
    box.update(MONDAY + 30 * MINUTE_NS - 5 * NS_PER_S)
    [opened] = box.update(MONDAY + 30 * MINUTE_NS + 9 * NS_PER_S)
    assert isinstance(opened, BlockOpened)
    assert (opened.cause, len(opened.lost_utc_ns)) == (Cause.LATE, 9)


def test_a_block_between_two_questions_is_missed() -> None:
    box = timetable(ScheduleSettings(strata={"s": ("00:30",)}, block_minutes=0.1))
    box.update(MONDAY + 30 * MINUTE_NS - 5 * NS_PER_S)
    [missed] = box.update(MONDAY + 30 * MINUTE_NS + 9 * NS_PER_S)
    assert told([missed]) == ["missed 01-05/s-1 late"]


def test_blocks_back_to_back_close_before_they_open() -> None:
    box = timetable(ScheduleSettings(strata={"a": ("07:00", "07:30")}))
    box.update(MONDAY + 7 * HOUR_NS)
    changes = box.update(MONDAY + 7 * HOUR_NS + 30 * MINUTE_NS + NS_PER_S // 2)
    assert [type(change) for change in changes] == [BlockClosed, BlockOpened]


def test_a_plan_without_blocks_never_changes() -> None:
    box = timetable(ScheduleSettings(strata={}))
    assert [box.update(MONDAY + hour * HOUR_NS) for hour in range(48)] == [[]] * 48
    assert box.next_boundary(MONDAY) is None


def test_the_next_boundary_is_a_start_or_an_end() -> None:
    box = timetable()
    box.update(MONDAY)
    assert box.next_boundary(MONDAY) == MONDAY + 30 * MINUTE_NS
    box.update(MONDAY + 30 * MINUTE_NS)
    assert box.next_boundary(MONDAY + 30 * MINUTE_NS) == MONDAY + 60 * MINUTE_NS


# A clock that is set


def test_two_hours_forward_close_the_open_block_and_miss_the_one_in_between() -> None:
    box = timetable(ScheduleSettings(strata={"s": ("00:30", "01:15", "02:30")}))
    box.update(MONDAY + 40 * MINUTE_NS)
    assert told(box.update(MONDAY + 160 * MINUTE_NS)) == [
        "closed 01-05/s-1 clock_step",
        "missed 01-05/s-2 clock_step",
        "opened 01-05/s-3 clock_step",
    ]
    assert told(box.update(MONDAY + 161 * MINUTE_NS)) == []


def test_a_step_over_several_blocks_misses_each_of_them_once() -> None:
    box = timetable()
    box.update(MONDAY)
    assert len(told(box.update(MONDAY + 3 * DAY_NS))) == 24
    assert box.update(MONDAY + 3 * DAY_NS + NS_PER_S) == []


def test_a_step_back_out_of_a_block_closes_it_for_good() -> None:
    box = timetable()
    box.update(MONDAY + 15 * MINUTE_NS)
    assert told(box.update(MONDAY + 30 * MINUTE_NS)) == ["opened 01-05/night-1 schedule"]
    assert told(box.update(MONDAY + 40 * MINUTE_NS - 5 * HOUR_NS)) == ["closed 01-05/night-1 clock_step"]
    minutes = [told(box.update(MONDAY + minute * MINUTE_NS)) for minute in range(-259, 181)]
    assert [changes for changes in minutes if changes] == [
        ["opened 01-04/evening-2 schedule"],  # at 22:00, which this service had not seen
        ["closed 01-04/evening-2 schedule"],
        ["opened 01-05/night-2 schedule"],
    ]


def test_a_step_back_within_the_block_leaves_it_open() -> None:
    box = timetable()
    box.update(MONDAY + 50 * MINUTE_NS)
    assert box.update(MONDAY + 35 * MINUTE_NS) == []
    assert box.open_block is not None
    assert told(box.update(MONDAY + 60 * MINUTE_NS)) == ["closed 01-05/night-1 schedule"]
    assert box.open_block is None


def test_a_clock_set_to_1970_and_back_repeats_nothing() -> None:
    box = timetable()
    box.update(MONDAY - 3 * DAY_NS)
    box.update(MONDAY + 45 * MINUTE_NS)
    assert told(box.update(0)) == ["closed 01-05/night-1 clock_step"]
    assert told(box.update(10 * NS_PER_S)) == []
    assert told(box.update(MONDAY + 46 * MINUTE_NS)) == []
    assert told(box.update(MONDAY + 4 * HOUR_NS)) == ["missed 01-05/night-2 clock_step"]


def test_blocks_passed_while_the_clock_stood_in_1970_are_missed() -> None:
    box = timetable()
    box.update(MONDAY)
    box.update(12 * HOUR_NS)
    assert told(box.update(MONDAY + 7 * HOUR_NS + NS_PER_S)) == [
        "missed 01-05/night-1 clock_step",
        "missed 01-05/night-2 clock_step",
        "opened 01-05/morning-1 clock_step",
    ]


def test_a_first_start_in_1970_invents_no_past() -> None:
    box = timetable()
    assert box.update(10 * NS_PER_S) == []
    assert told(box.update(MONDAY + 7 * HOUR_NS)) == ["opened 01-05/morning-1 schedule"]


def test_a_first_start_in_1970_invents_no_past_either_when_the_clock_is_set_twice() -> None:
    box = timetable()
    box.update(60 * NS_PER_S)
    assert box.update(MONDAY + 12 * HOUR_NS) == []
    assert told(box.update(MONDAY + 7 * HOUR_NS + 20 * MINUTE_NS)) == ["opened 01-05/morning-1 clock_step"]
    # Blocks that pass from here on are accounted for as ever.
    changes = told(box.update(MONDAY + 12 * HOUR_NS))
    assert changes == ["closed 01-05/morning-1 clock_step", "missed 01-05/morning-2 clock_step"]


def test_a_start_in_1970_still_accounts_for_the_time_the_service_was_down() -> None:
    box = Timetable(DEFAULT, UTC_ZONE, accounted_until_utc_ns=MONDAY + 6 * HOUR_NS)
    assert box.update(10 * NS_PER_S) == []
    assert told(box.update(MONDAY + 12 * HOUR_NS)) == [
        "missed 01-05/morning-1 clock_step",
        "missed 01-05/morning-2 clock_step",
    ]


def test_a_clock_that_stood_in_the_future_and_came_back_still_opens_blocks() -> None:
    future = MONDAY + 3_650 * DAY_NS
    box = Timetable(DEFAULT, UTC_ZONE, accounted_until_utc_ns=future)
    box.update(MONDAY)
    assert told(box.update(MONDAY + 30 * MINUTE_NS)) == ["opened 01-05/night-1 schedule"]
    assert told(box.update(MONDAY + 4 * HOUR_NS)) == [
        "closed 01-05/night-1 clock_step",
        "missed 01-05/night-2 clock_step",
    ]


# A service that was away


def test_blocks_during_downtime_are_missed_once() -> None:
    box = Timetable(DEFAULT, UTC_ZONE, accounted_until_utc_ns=MONDAY + 45 * MINUTE_NS)
    assert told(box.update(MONDAY + 7 * HOUR_NS + MINUTE_NS)) == [
        "missed 01-05/night-1 service_down",
        "missed 01-05/night-2 service_down",
        "opened 01-05/morning-1 service_down",
    ]
    assert box.update(MONDAY + 7 * HOUR_NS + 2 * MINUTE_NS) == []
    assert box.accounted_until_utc_ns == MONDAY + 7 * HOUR_NS + 2 * MINUTE_NS


def test_finished_blocks_are_not_missed_or_opened_again_after_a_restart() -> None:
    finished = {"2026-01-05/night-1", "2026-01-05/morning-1"}
    box = Timetable(
        DEFAULT, UTC_ZONE, accounted_until_utc_ns=MONDAY + 45 * MINUTE_NS, is_finished=finished.__contains__
    )
    assert told(box.update(MONDAY + 7 * HOUR_NS + MINUTE_NS)) == ["missed 01-05/night-2 service_down"]


def test_downtime_is_looked_back_on_for_sixty_days() -> None:
    box = Timetable(DEFAULT, UTC_ZONE, accounted_until_utc_ns=MONDAY)
    missed = box.update(MONDAY + 200 * DAY_NS)
    assert len(missed) == 60 * 8
    assert {type(change) for change in missed} == {BlockMissed}


def test_the_first_start_ever_has_missed_nothing() -> None:
    assert timetable().update(MONDAY + 20 * HOUR_NS) == []


def test_an_update_that_fails_has_changed_nothing() -> None:
    database = {"up": False}

    def is_finished(_key: str) -> bool:
        if not database["up"]:
            raise OSError("the database is away")
        return False

    box = Timetable(DEFAULT, UTC_ZONE, accounted_until_utc_ns=MONDAY, is_finished=is_finished)
    with pytest.raises(OSError, match="away"):
        box.update(MONDAY + 4 * HOUR_NS)
    database["up"] = True
    assert told(box.update(MONDAY + 4 * HOUR_NS)) == [
        "missed 01-05/night-1 service_down",
        "missed 01-05/night-2 service_down",
    ]


def test_what_the_memory_lets_go_the_database_still_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.timetable.REMEMBERED_KEYS", 10)
    finished: set[str] = set()
    looked_up: list[str] = []

    def is_finished(key: str) -> bool:
        looked_up.append(key)
        return key in finished

    box = Timetable(DEFAULT, UTC_ZONE, is_finished=is_finished)
    box.update(MONDAY)
    finished |= {change.block.key for change in box.update(MONDAY + 2 * DAY_NS)}
    looked_up.clear()
    assert box.update(MONDAY + 2 * DAY_NS - NS_PER_S) == []
    assert looked_up == [block.key for block in blocks_between(MONDAY, MONDAY + 18 * HOUR_NS, DEFAULT, UTC_ZONE)]


# A plan that is replaced


def test_an_open_block_ends_as_it_was_begun_and_the_new_plan_follows() -> None:
    box = timetable()
    [opened] = box.update(MONDAY + 30 * MINUTE_NS)
    box.replace_plan(ScheduleSettings(strata={"new": ("00:35", "00:50", "01:10")}, block_minutes=12), UTC_ZONE)
    assert box.update(MONDAY + 40 * MINUTE_NS) == []
    assert box.open_block == opened.block
    assert told(box.update(MONDAY + 50 * MINUTE_NS)) == ["missed 01-05/new-1 clock_step"]
    assert told(box.update(MONDAY + 60 * MINUTE_NS)) == [
        "closed 01-05/night-1 schedule",
        "opened 01-05/new-2 clock_step",
    ]


def test_a_new_plan_opens_the_block_that_it_has_now() -> None:
    box = timetable()
    box.update(MONDAY + 10 * MINUTE_NS)
    box.replace_plan(ScheduleSettings(strata={"new": ("00:05",)}), UTC_ZONE)
    [opened] = box.update(MONDAY + 10 * MINUTE_NS + NS_PER_S)
    assert isinstance(opened, BlockOpened)
    assert (opened.block.key, opened.cause, len(opened.lost_utc_ns)) == ("2026-01-05/new-1", Cause.PLAN_CHANGED, 301)


def test_a_new_plan_has_missed_nothing_before_it_came() -> None:
    box = timetable()
    for hour in range(13):
        box.update(MONDAY + hour * HOUR_NS)
    box.replace_plan(ScheduleSettings(strata={"new": ("01:00", "05:00")}), UTC_ZONE)
    assert box.update(MONDAY + 12 * HOUR_NS + NS_PER_S) == []
    assert box.update(MONDAY + 12 * HOUR_NS) == []  # not even when the clock steps back a little


def test_a_zone_change_repeats_no_block_of_a_local_day() -> None:
    box = timetable(zone=BERLIN)
    night = utc_ns("2026-01-04T23:30")
    keys = [change.block.key for change in box.update(night)]
    box.replace_plan(DEFAULT, ZoneInfo("America/Sao_Paulo"))
    for minute in range(1, 24 * 60):
        changes = box.update(night + minute * MINUTE_NS)
        keys += [change.block.key for change in changes if isinstance(change, BlockOpened | BlockMissed)]
    assert keys[0] == "2026-01-05/night-1"
    assert len(keys) == len(set(keys))
    assert keys[1:4] == ["2026-01-04/evening-2", "2026-01-05/night-2", "2026-01-05/morning-1"]


def test_the_same_plan_again_changes_nothing() -> None:
    box = timetable()
    box.update(MONDAY)
    box.replace_plan(ScheduleSettings(), UTC_ZONE)
    assert told(box.update(MONDAY + 4 * HOUR_NS)) == [
        "missed 01-05/night-1 clock_step",
        "missed 01-05/night-2 clock_step",
    ]


def test_a_wrong_plan_is_refused_and_the_old_one_stays() -> None:
    wrong = ScheduleSettings(strata={"s": ("01:00", "01:10")})
    with pytest.raises(ConfigError, match="overlap"):
        timetable(wrong)
    box = timetable()
    box.update(MONDAY)
    with pytest.raises(ConfigError, match="overlap"):
        box.replace_plan(wrong, UTC_ZONE)
    assert told(box.update(MONDAY + 30 * MINUTE_NS)) == ["opened 01-05/night-1 schedule"]


# Whatever the clock does


PLACES = (
    ("Europe/Berlin", "2026-03-28T12:00"),
    ("Europe/Berlin", "2026-10-24T12:00"),
    ("America/Sao_Paulo", "2018-11-03T12:00"),
    ("America/St_Johns", "2010-11-06T12:00"),
    ("Australia/Lord_Howe", "2026-04-04T06:00"),
    ("Pacific/Apia", "2011-12-29T20:00"),
    ("Asia/Kathmandu", "2026-06-01T00:00"),
)

MOVES_S = st.one_of(
    st.integers(1, 15),  # the clock runs on
    st.integers(-15, 0),  # it is slewed back
    st.integers(-5 * 3600, 5 * 3600),
    st.integers(-3 * 86_400, 3 * 86_400),
    st.sampled_from([2 * 3600, -5 * 3600]),
)


@st.composite
def sparse_plans(draw: st.DrawFn) -> ScheduleSettings:
    hours = draw(st.sets(st.integers(0, 23), min_size=1, max_size=10))
    minute = draw(st.integers(0, 59))
    return ScheduleSettings(
        strata={"a": tuple(f"{hour:02d}:{minute:02d}" for hour in hours)},
        block_minutes=draw(st.sampled_from([1, 20, 60])),
        rate_hz=1 / 60,
        times=draw(st.sampled_from(["local", "zeitgeber"])),
    )


@dataclass
class Ledger:
    """What a sequence of answers adds up to."""

    opened: list[PlannedBlock] = field(default_factory=list)
    missed: list[PlannedBlock] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)

    def enter(self, changes: Iterable[BlockChange]) -> None:
        """Check and add up one answer."""
        for change in changes:
            if isinstance(change, BlockOpened):
                assert change.block.key not in self.finished
                assert change.block.start_utc_ns <= change.at_utc_ns < change.block.end_utc_ns
                self.opened.append(change.block)
                continue
            assert change.block.key not in self.finished, "a block was finished twice"
            self.finished.add(change.block.key)
            if isinstance(change, BlockMissed):
                self.missed.append(change.block)


def passed_by(block: PlannedBlock, before_ns: int, now_ns: int) -> bool:
    """Whether the clock went over or into the block."""
    return (
        min(before_ns, now_ns) < block.end_utc_ns
        and block.start_utc_ns <= now_ns
        and (before_ns <= now_ns or now_ns < block.end_utc_ns)
    )


@hypothesis_settings(max_examples=200, deadline=None, database=None)
@given(settings=sparse_plans(), place=st.sampled_from(PLACES), moves_s=st.lists(MOVES_S, max_size=25))
def test_every_planned_moment_that_the_clock_passes_is_opened_or_missed_once(
    settings: ScheduleSettings, place: tuple[str, str], moves_s: list[int]
) -> None:
    zone, now_ns = ZoneInfo(place[0]), utc_ns(place[1])
    box, ledger, moments = timetable(settings, zone), Ledger(), [now_ns]
    for move_s in [0, *moves_s]:
        now_ns += move_s * NS_PER_S
        moments.append(now_ns)
        ledger.enter(box.update(now_ns))
        current = block_at(now_ns, settings, zone)
        assert box.open_block == (None if current is None or current.key in ledger.finished else current)
    covered = blocks_between(min(moments) - DAY_NS, max(moments) + DAY_NS, settings, zone)
    expected = [block for block in covered if any(passed_by(block, *pair) for pair in pairwise(moments))]
    accounted = sorted(ledger.opened + ledger.missed, key=lambda block: block.start_utc_ns)
    assert accounted == expected
    planned = [moment for block in accounted for moment in block.planned_utc_ns]
    assert all(earlier < later for earlier, later in pairwise(planned))


@hypothesis_settings(max_examples=100, deadline=None, database=None)
@given(
    settings=sparse_plans(),
    place=st.sampled_from(PLACES),
    lives_s=st.lists(st.lists(MOVES_S, min_size=1, max_size=6), max_size=5),
)
def test_restarts_finish_every_block_once(
    settings: ScheduleSettings, place: tuple[str, str], lives_s: list[list[int]]
) -> None:
    zone, now_ns = ZoneInfo(place[0]), utc_ns(place[1])
    ledger, moments, accounted_ns, left_open = Ledger(), [now_ns], None, []
    for moves_s in [[0], *lives_s]:
        box = Timetable(
            settings, zone, accounted_until_utc_ns=accounted_ns, is_finished=frozenset(ledger.finished).__contains__
        )
        for move_s in moves_s:
            now_ns += move_s * NS_PER_S
            moments.append(now_ns)
            ledger.enter(box.update(now_ns))
        accounted_ns = box.accounted_until_utc_ns
        left_open += [] if box.open_block is None else [box.open_block.key]
    covered = blocks_between(min(moments) - DAY_NS, max(moments) + DAY_NS, settings, zone)
    expected = {block.key for block in covered if any(passed_by(block, *pair) for pair in pairwise(moments))}
    assert ledger.finished | set(left_open) == expected
    opened = [block.key for block in ledger.opened]
    assert all(opened.count(key) - 1 <= left_open.count(key) for key in opened)


@hypothesis_settings(max_examples=100, deadline=None, database=None)
@given(
    settings=sparse_plans(),
    place=st.sampled_from(PLACES),
    step_s=st.integers(-3 * 86_400, 3 * 86_400),
    phase_s=st.integers(1, 15),
)
def test_a_block_is_open_fifteen_seconds_after_the_clock_was_set_into_it(
    settings: ScheduleSettings, place: tuple[str, str], step_s: int, phase_s: int
) -> None:
    zone, start_ns = ZoneInfo(place[0]), utc_ns(place[1])
    box = timetable(settings, zone)
    known = {change.block.key for change in box.update(start_ns)}
    set_ns = start_ns + step_s * NS_PER_S
    due_block = block_at(set_ns, settings, zone)
    box.update(set_ns + phase_s * NS_PER_S)  # asked every 15 s, so at most so long after the step
    if due_block is not None and due_block.end_utc_ns > set_ns + phase_s * NS_PER_S and due_block.key not in known:
        assert box.open_block == due_block


# The scheduler that asks


class Listener:
    """Collects what the keeper reports, and lets a test wait for it."""

    def __init__(self, failures: int = 0) -> None:
        self.calls: list[list[str]] = []
        self._failures = failures
        self._condition = threading.Condition()

    def __call__(self, changes: Sequence[BlockChange]) -> None:
        """Be `on_change`."""
        with self._condition:
            self.calls.append(told(changes))
            self._condition.notify_all()
            if len(self.calls) <= self._failures:
                raise OSError("disk full")

    def wait_for(self, *call: str, times: int = 1) -> None:
        """Wait until these changes came in one call, so many times."""
        with self._condition:
            reached = self._condition.wait_for(lambda: self.calls.count(list(call)) >= times, timeout=PATIENCE_S)
        assert reached, f"waited for {call}, got {self.calls}"


class RunningClock(SystemClock):
    """The machine's clock, as if it were another time."""

    def __init__(self, utc_ns: int) -> None:
        self._offset_ns = utc_ns - super().monotonic_ns()

    def utc_ns(self) -> int:
        """See `Clock`."""
        return super().monotonic_ns() + self._offset_ns


class CountingClock(SystemClock):
    """The machine's clock, which counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)

    def utc_ns(self) -> int:
        """See `Clock`."""
        self.asked.release()
        return super().utc_ns()


def test_the_keeper_asks_at_once_and_follows_the_clock() -> None:
    clock, listener = SimulatedClock(MONDAY + 40 * MINUTE_NS), Listener()
    with TimetableKeeper(timetable(), clock, listener, interval_s=0.02):
        listener.wait_for("opened 01-05/night-1 service_down")
        clock.step_wall(2 * 3600)
        listener.wait_for("closed 01-05/night-1 clock_step")
        clock.step_wall(20 * 60)
        listener.wait_for("opened 01-05/night-2 schedule")
        clock.step_wall(-5 * 3600)
        listener.wait_for("closed 01-05/night-2 clock_step", "opened 01-04/evening-2 schedule")
    assert len(listener.calls) == 4


def test_the_keeper_is_in_time_at_a_boundary_however_long_its_interval() -> None:
    clock, listener = RunningClock(MONDAY + 30 * MINUTE_NS - NS_PER_S // 5), Listener()
    plan = ScheduleSettings(strata={"s": ("00:30",)}, block_minutes=0.025, rate_hz=0.5)
    with TimetableKeeper(timetable(plan), clock, listener, interval_s=15):
        listener.wait_for("opened 01-05/s-1 schedule")
        listener.wait_for("closed 01-05/s-1 schedule")


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(timedelta(hours=2), id="two hours forward"),
        pytest.param(timedelta(hours=-5), id="five hours back"),
        pytest.param(timedelta(days=-56 * 365), id="to 1970"),
        pytest.param(timedelta(days=50 * 365), id="fifty years forward"),
    ],
)
def test_the_keeper_goes_on_asking_after_the_machines_clock_is_set(step: timedelta) -> None:
    clock = CountingClock()
    keeper = TimetableKeeper(timetable(ScheduleSettings(strata={})), clock, Listener(), interval_s=0.02)
    with time_machine.travel(datetime(2026, 1, 5, tzinfo=UTC)) as machine, keeper:
        assert clock.asked.acquire(timeout=PATIENCE_S)
        for shift in (step, -step):
            machine.shift(shift)
            assert all(clock.asked.acquire(timeout=PATIENCE_S) for _ in range(10))


def test_changes_that_could_not_be_carried_out_come_again(caplog: pytest.LogCaptureFixture) -> None:
    clock, listener = SimulatedClock(MONDAY + 40 * MINUTE_NS), Listener(failures=2)
    with caplog.at_level(logging.ERROR), TimetableKeeper(timetable(), clock, listener, interval_s=0.02):
        listener.wait_for("opened 01-05/night-1 service_down", times=3)
        clock.step_wall(20 * 60)
        listener.wait_for("closed 01-05/night-1 schedule")
    assert len(listener.calls) == 4
    assert [record.message for record in caplog.records] == ["a change of the open block could not be carried out"] * 2


def test_a_new_plan_is_asked_for_at_once() -> None:
    clock, listener = SimulatedClock(MONDAY + 40 * MINUTE_NS), Listener()
    with TimetableKeeper(timetable(), clock, listener, interval_s=15) as keeper:
        listener.wait_for("opened 01-05/night-1 service_down")
        clock.step_wall(20 * 60)
        keeper.replace_plan(ScheduleSettings(strata={"new": ("00:45",)}), UTC_ZONE)
        listener.wait_for("closed 01-05/night-1 schedule", "opened 01-05/new-1 plan_changed")
        with pytest.raises(ConfigError, match="overlap"):
            keeper.replace_plan(ScheduleSettings(strata={"s": ("01:00", "01:10")}), UTC_ZONE)


def test_a_keeper_starts_once_and_stops_as_often_as_it_is_told() -> None:
    clock, listener = SimulatedClock(MONDAY + 40 * MINUTE_NS), Listener()
    keeper = TimetableKeeper(timetable(), clock, listener, interval_s=0.02)
    keeper.stop()
    keeper.start()
    listener.wait_for("opened 01-05/night-1 service_down")
    with pytest.raises(RuntimeError, match="started already"):
        keeper.start()
    keeper.stop()
    keeper.stop()
    clock.step_wall(3600)
    assert len(listener.calls) == 1
    with keeper:
        listener.wait_for("closed 01-05/night-1 clock_step")


def test_stopping_waits_for_the_change_that_is_being_carried_out() -> None:
    entered, release, left = threading.Event(), threading.Event(), threading.Event()

    def slow(_changes: Sequence[BlockChange]) -> None:
        entered.set()
        release.wait(PATIENCE_S)
        left.set()

    keeper = TimetableKeeper(timetable(), SimulatedClock(MONDAY + 40 * MINUTE_NS), slow, interval_s=0.02)
    keeper.start()
    assert entered.wait(PATIENCE_S)
    stopping = threading.Thread(target=keeper.stop)
    stopping.start()
    release.set()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()
    assert left.is_set()


@pytest.mark.parametrize("interval_s", [0.0, -1.0, 15.1, float("nan")])
def test_an_interval_that_is_too_long_for_a_clock_step_is_refused(interval_s: float) -> None:
    with pytest.raises(ValueError, match=r"interval_s must be in \(0, 15\]"):
        TimetableKeeper(timetable(), SystemClock(), Listener(), interval_s=interval_s)
