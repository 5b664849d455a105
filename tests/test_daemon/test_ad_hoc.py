"""Recordings by command: judged, opened between blocks, stopped, and resumed, by simulated time."""

from dataclasses import replace
from datetime import date
from zoneinfo import ZoneInfo

import pytest

from daemon.ad_hoc import LONGEST_S, AdHocRecordings, left_open
from daemon.order import Order, Outcome
from daemon.schedule import BY_COMMAND, PlannedBlock, check_plan
from daemon.settings import ScheduleSettings, Settings
from daemon.store.blocks import StoredBlock
from daemon.store.schema import BlockState
from daemon.timetable import BlockClosed, BlockOpened, Cause, Timetable
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.errors import ConfigError

MIDNIGHT_NS = 1_795_651_200 * NS_PER_S
"""2026-11-26T00:00 UTC; the first block of the default plan begins at 00:30."""
MINUTE_NS = 60 * NS_PER_S
SETTINGS = Settings.model_validate({"box": {"time_zone": "UTC"}})


class Bench:
    """What is commanded, and a timetable that it reaches at once."""

    def __init__(self, at_ns: int = MIDNIGHT_NS + 10 * MINUTE_NS, settings: Settings = SETTINGS) -> None:
        self.clock = SimulatedClock(at_ns)
        self.timetable = Timetable(settings.schedule, settings.zone)
        self.timetable.update(at_ns)
        self.obstacle: tuple[str, str] | None = None
        self.recordings = AdHocRecordings(
            self,
            settings=lambda: settings,
            open_block=lambda: self.timetable.open_block,
            obstacle=lambda: self.obstacle,
            clock=self.clock,
        )
        self.changes: list[object] = []

    def begin(self, block: PlannedBlock, order: Order) -> None:
        """As the keeper does."""
        self.timetable.begin(block, order)
        self.ask()

    def end(self, order: Order) -> None:
        """As the keeper does."""
        self.timetable.stop(order)
        self.ask()

    def ask(self, later_s: float = 0) -> None:
        """The clock goes on and the timetable is asked."""
        self.clock.advance(later_s)
        self.changes += self.timetable.update(self.clock.utc_ns())

    def record(self, duration_s: float = 60, rate_hz: float | None = None) -> Outcome | None:
        """Command a recording: the answer, None when it is left to whoever carries it out."""
        order = Order()
        self.recordings.record(duration_s=duration_s, rate_hz=rate_hz, order=order)
        return order.outcome

    def stop(self) -> Outcome | None:
        """Command the end."""
        order = Order()
        self.recordings.stop(order)
        return order.outcome


def test_a_recording_is_opened_at_once_and_closed_at_its_end() -> None:
    bench = Bench()
    assert bench.record(60, 5) is None
    [opened] = bench.changes
    assert isinstance(opened, BlockOpened)
    block = opened.block
    assert (block.key, block.frames, block.duration_s) == ("2026-11-26/by_command-601", 300, 60)
    assert (block.start_utc_ns, opened.lost_utc_ns) == (
        bench.clock.utc_ns(),
        range(block.start_utc_ns, block.start_utc_ns, block.period_ns),
    )
    bench.ask(59.9)
    assert len(bench.changes) == 1
    bench.ask(0.1)
    closed = bench.changes[1]
    assert isinstance(closed, BlockClosed)
    assert (closed.block, closed.cause) == (block, Cause.SCHEDULE)


def test_without_a_rate_it_is_that_of_the_schedule() -> None:
    bench = Bench()
    bench.record(60)
    assert bench.timetable.open_block is not None
    assert bench.timetable.open_block.period_ns == NS_PER_S


def test_a_recording_ends_when_the_next_block_begins() -> None:
    bench = Bench(MIDNIGHT_NS + 29 * MINUTE_NS)
    bench.record(LONGEST_S)
    assert bench.timetable.open_block is not None
    assert bench.timetable.open_block.end_utc_ns == MIDNIGHT_NS + 30 * MINUTE_NS
    bench.ask(60)
    assert [type(change) for change in bench.changes] == [BlockOpened, BlockClosed, BlockOpened]
    assert bench.timetable.open_block.key == "2026-11-26/night-1"


def test_just_before_a_block_nothing_is_begun() -> None:
    bench = Bench(MIDNIGHT_NS + 30 * MINUTE_NS - NS_PER_S // 2)
    outcome = bench.record()
    assert outcome is not None
    assert (outcome.state, outcome.reason) == ("refused", "block_begins")
    assert outcome.data["block"] == "2026-11-26/night-1"


@pytest.mark.parametrize("minute", [10, 40])
def test_where_a_block_is_open_none_is_begun(minute: int) -> None:
    bench = Bench(MIDNIGHT_NS + minute * MINUTE_NS)
    if minute == 10:
        bench.record()
    outcome = bench.record()
    assert outcome is not None
    assert (outcome.state, outcome.reason) == ("refused", "block_open")
    assert outcome.data["block"] == ("2026-11-26/by_command-601" if minute == 10 else "2026-11-26/night-1")


def test_a_block_that_opens_between_judging_and_beginning_is_not_disturbed() -> None:
    bench = Bench(MIDNIGHT_NS + 40 * MINUTE_NS)
    order = Order()
    block = PlannedBlock(
        day=date(2026, 11, 26),
        stratum=BY_COMMAND,
        number=1,
        start_utc_ns=bench.clock.utc_ns(),
        duration_ns=MINUTE_NS,
        period_ns=NS_PER_S,
    )
    bench.begin(block, order)
    assert order.outcome is not None
    assert order.outcome.reason == "block_open"
    assert bench.changes == []


def test_an_obstacle_is_told() -> None:
    bench = Bench()
    bench.obstacle = "camera_lost", "there is no camera at present"
    assert bench.record() == Outcome("refused", "camera_lost", "there is no camera at present")


def test_a_recording_is_stopped_and_its_key_never_opens_again() -> None:
    bench = Bench()
    bench.record()
    bench.ask(5)
    assert bench.stop() is None
    closed = bench.changes[-1]
    assert isinstance(closed, BlockClosed)
    assert closed.cause is Cause.STOPPED
    assert closed.order is not None
    assert bench.timetable.open_block is None
    outcome = bench.stop()
    assert outcome is not None
    assert (outcome.reason, outcome.data) == ("no_recording", {})


def test_a_block_of_the_schedule_is_not_stopped() -> None:
    bench = Bench(MIDNIGHT_NS + 40 * MINUTE_NS)
    outcome = bench.stop()
    assert outcome is not None
    assert (outcome.state, outcome.reason, outcome.data["block"]) == ("refused", "no_recording", "2026-11-26/night-1")
    assert bench.timetable.open_block is not None


def test_an_order_that_was_given_up_meanwhile_opens_nothing() -> None:
    bench = Bench()
    order = Order()
    order.answer(Outcome("failed", "timeout"))
    block = PlannedBlock(
        day=date(2026, 11, 26), stratum=BY_COMMAND, number=1, start_utc_ns=1, duration_ns=9, period_ns=1
    )
    bench.begin(block, order)
    assert bench.changes == []


def stored(**changes: object) -> StoredBlock:
    block = StoredBlock(
        block_id=1,
        run_id=1,
        key="2026-11-26/by_command-601",
        stratum=BY_COMMAND,
        day=date(2026, 11, 26),
        start_utc_ns=MIDNIGHT_NS,
        end_utc_ns=MIDNIGHT_NS + MINUTE_NS,
        period_ns=NS_PER_S,
        expected=60,
        state=BlockState.OPEN,
        opened_utc_ns=MIDNIGHT_NS,
    )
    return replace(block, **changes)  # type: ignore[arg-type]  # of any of the fields


def test_what_an_earlier_start_left_open_is_joined_where_it_stands() -> None:
    resumed = left_open([stored(stratum="night", key="2026-11-26/night-1"), stored()], MIDNIGHT_NS + 20 * NS_PER_S)
    assert resumed is not None
    assert (resumed.key, resumed.planned_utc_ns) == (stored().key, stored().planned_utc_ns)
    timetable = Timetable(SETTINGS.schedule, ZoneInfo("UTC"), resumed=resumed)
    [opened] = timetable.update(MIDNIGHT_NS + 20 * NS_PER_S + 1)
    assert isinstance(opened, BlockOpened)
    assert (opened.block, opened.cause, len(opened.lost_utc_ns)) == (resumed, Cause.SERVICE_DOWN, 20)
    [closed] = timetable.update(MIDNIGHT_NS + MINUTE_NS)
    assert isinstance(closed, BlockClosed)


def test_what_is_over_is_not_joined() -> None:
    assert left_open([stored()], MIDNIGHT_NS + MINUTE_NS) is None
    assert left_open([], MIDNIGHT_NS) is None
    late = Timetable(SETTINGS.schedule, ZoneInfo("UTC"), resumed=left_open([stored()], MIDNIGHT_NS))
    assert late.update(MIDNIGHT_NS + 2 * MINUTE_NS) == []


def test_no_plan_has_a_stratum_of_that_name() -> None:
    with pytest.raises(ConfigError, match="recordings by command are called so"):
        check_plan(ScheduleSettings(strata={BY_COMMAND: ("00:30",)}))


def test_the_hour_that_occurs_twice_gives_every_recording_its_own_key() -> None:
    berlin = Settings.model_validate({"box": {"time_zone": "Europe/Berlin"}, "schedule": {"strata": {}}})
    first_ns = 1_792_888_200 * NS_PER_S  # 2026-10-25T00:30 UTC, 02:30 in Berlin for the first time
    keys = []
    for at_ns in (first_ns, first_ns + 60 * MINUTE_NS):
        bench = Bench(at_ns, berlin)
        bench.record()
        assert bench.timetable.open_block is not None
        keys.append(bench.timetable.open_block.key)
    assert keys == ["2026-10-25/by_command-9001", "2026-10-25/by_command-12601"]
