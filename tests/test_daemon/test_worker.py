"""The worker: everything is written once, in order, however the database fares, and told only afterwards."""

import dataclasses
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.events import Event, EventKind, EventState, Severity
from daemon.handoff import HandOff
from daemon.minute_value import MinuteValue
from daemon.observation import FrameObservation
from daemon.open_events import open_now
from daemon.pipeline import Measured, Pipeline
from daemon.rules import AlertRules
from daemon.sampling import (
    BlockEnded,
    BlockPassed,
    BlockStarted,
    CameraFound,
    CameraLost,
    Item,
    MissingSamples,
    Sample,
    may_be_lost,
    overrun,
)
from daemon.schedule import PlannedBlock
from daemon.settings import AlertSettings
from daemon.store.repository import Coverage, Store, open_store
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.parts import Segmentation
from daemon.worker import ERROR, NOT_STORED, RETRY_S, SERVICE_DOWN, Worker
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.decoder import FrameDecoder
from drivers.errors import StoreError
from drivers.frame import RawFrame, ThermalFrame

START_UTC_NS = 1_795_000_000 * NS_PER_S
COMMIT_S = 0.2
BLOCK = PlannedBlock(
    day=date(2026, 11, 18),
    stratum="morning",
    number=1,
    start_utc_ns=START_UTC_NS,
    duration_ns=20 * NS_PER_S,
    period_ns=NS_PER_S,
)
CAMERA = CameraInfo(kind="simulated", product="T2S+", serial="S1", firmware="1", location="seed 1", frame_rate_hz=25)


class UnreliableDatabase:
    """The store, but while `error` is set nothing can be written; counts what is asked of it."""

    _WRITES = ("add", "open_block", "record_missing", "finish_block", "miss_block", "open_gap", "close_gaps")

    def __init__(self, store: Store) -> None:
        self.error: StoreError | None = None
        self.calls: list[str] = []
        self.refused = 0
        self.largest = 0
        """Most observations in one transaction."""
        self._store = store

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)
        if name not in self._WRITES:
            return method

        def call(*args: object, **options: object) -> object:
            if self.error is not None:
                self.refused += 1
                raise self.error
            result = method(*args, **options)
            self.calls.append(name)
            if name == "add":
                self.largest = max(self.largest, len(cast(list[FrameObservation], args[0])))
            return result

        return call


class Listener:
    """An announcer that writes down what it hears, and what was not yet stored by then."""

    def __init__(self, newest_stored: Callable[[], int]) -> None:
        self.heard: list[str] = []
        self.unstored: list[int] = []
        self._newest_stored = newest_stored

    def observed(self, observation: FrameObservation) -> None:
        """See `Announcer`."""
        self.heard.append(f"frame {observation.sequence}")
        if observation.sequence > self._newest_stored():
            self.unstored.append(observation.sequence)

    def measured(self, values: Iterable[MinuteValue]) -> None:
        """See `Announcer`."""
        self.heard.append(f"minute of {len(list(values))}")

    def block_changed(self, block: PlannedBlock, state: str, coverage: Coverage) -> None:
        """See `Announcer`."""
        self.heard.append(f"block {state} {coverage.captured}/{coverage.expected}")

    def events_stored(self) -> None:
        """See `Announcer`."""
        self.heard.append("events")


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    return tmp_path / "vivarium.db"


@pytest.fixture
def store(database_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{database_path}", outbox_limit=100_000) as store:
        yield store


@pytest.fixture
def sample(golden: Path) -> Callable[..., Sample]:
    """Makes a sample of so many seconds after the start, of the block unless told otherwise."""
    payload = np.load(golden / "g2_eps095_d1.npz")["frame"].tobytes()
    frame = FrameDecoder().decode(RawFrame(sequence=0, captured_utc_ns=0, captured_monotonic_ns=0, payload=payload))

    def make(second: int, *, in_block: bool = True) -> Sample:
        at_ns = second * NS_PER_S
        own: ThermalFrame = dataclasses.replace(
            frame, sequence=second, captured_utc_ns=START_UTC_NS + at_ns, captured_monotonic_ns=at_ns
        )
        if not in_block:
            return Sample(frame=own, block_key=None, planned_utc_ns=None)
        return Sample(frame=own, block_key=BLOCK.key, planned_utc_ns=START_UTC_NS + at_ns)

    return make


class Moody:
    """A segmenter that fails while `error` is set."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._segmenter = ClassicalSegmenter(animals=1, min_area_px=20_000)

    @property
    def name(self) -> str:
        """See `Segmenter`."""
        return self._segmenter.name

    def segment(self, celsius: NDArray[np.float32]) -> Segmentation:
        """See `Segmenter`."""
        if self.error is not None:
            raise self.error
        return self._segmenter.segment(celsius)


class Bench:
    """A worker on a simulated clock, and the database behind it."""

    def __init__(self, store: Store, path: Path) -> None:
        self.clock = SimulatedClock(START_UTC_NS)
        self.store = store
        self.path = path
        self.database = UnreliableDatabase(store)
        self.listener = Listener(lambda: self.rows("SELECT coalesce(max(sequence), -1) FROM frame")[0][0])
        self.segmenter = Moody()
        self.shown: list[FrameObservation] = []
        self.measured = 0
        self.beats = 0
        self.run_id = store.start_run(
            version="1",
            config_hash="h",
            config_json="{}",
            segmenter="classical",
            host="box",
            boot_id="b",
            started_utc_ns=START_UTC_NS,
        )
        self.worker = self.make()

    def make(self) -> Worker:
        """A worker; the next one is the one after a restart."""
        settings = AlertSettings(not_seen_after_s=60)
        still_open = self.store.open_events()
        worker = Worker(
            pipeline=Pipeline(self.segmenter, animals=1, mm_per_px=None),
            rules=AlertRules(settings, animals=1, still_open=open_now(self.store.event_histories())),
            store=cast(Store, self.database),
            run_id=self.run_id,
            clock=self.clock,
            announcer=self.listener,
            commit_interval_s=COMMIT_S,
            on_measured=self._show,
            beat=lambda: self._count("beats"),
        )
        worker.restore(still_open)
        return worker

    def _show(self, _frame: ThermalFrame, measured: Measured) -> None:
        self.shown.append(measured.observation)
        self._count("measured")

    def _count(self, name: str) -> None:
        setattr(self, name, getattr(self, name) + 1)

    def handle(self, *items: Item, pause_s: float = 1.0) -> None:
        """Hand over items, a while apart, as the thread does."""
        for item in items:
            self.worker.handle(item)
            self.clock.advance(pause_s)
            self.worker.write_if_due()

    def recover(self) -> None:
        """The database can be written again, and the worker has noticed."""
        self.database.error = None
        self.clock.advance(RETRY_S)
        self.worker.write_if_due()

    def events(self) -> list[Event]:
        """All events, oldest first."""
        return self.store.recent_events(1000)[::-1]

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What another process sees in the file."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def bench(store: Store, database_path: Path) -> Bench:
    return Bench(store, database_path)


def started() -> BlockStarted:
    return BlockStarted(block=BLOCK, at_utc_ns=START_UTC_NS)


def ended() -> BlockEnded:
    return BlockEnded(block=BLOCK, at_utc_ns=BLOCK.end_utc_ns)


def found(second: float = 0, away_s: float = 0) -> CameraFound:
    return CameraFound(at_utc_ns=START_UTC_NS + round(second * NS_PER_S), info=CAMERA, variant="v1", away_s=away_s)


def lost(second: float) -> CameraLost:
    return CameraLost(at_utc_ns=START_UTC_NS + round(second * NS_PER_S), reason="camera_lost")


def missing(first: int, last: int, reason: str = "shutter") -> MissingSamples:
    planned = tuple(START_UTC_NS + second * NS_PER_S for second in range(first, last + 1))
    return MissingSamples(block_key=BLOCK.key, planned_utc_ns=planned, reason=reason)


def test_a_block_is_written_in_order_and_told_after_it_is_stored(bench: Bench, sample: Callable[..., Sample]) -> None:
    bench.handle(found(), started(), *(sample(s) for s in range(12)), missing(12, 14), *(sample(s) for s in (15, 16)))
    bench.handle(ended())
    coverage = bench.store.coverage(BLOCK.key)
    assert (coverage.captured, coverage.missing_by_reason) == (14, {"shutter": 3, SERVICE_DOWN: 3})
    assert [name for name in bench.database.calls if name.endswith("block")] == ["open_block", "finish_block"]
    assert bench.listener.heard[0] == "events"
    assert bench.listener.heard[1] == "block open 0/20"
    assert bench.listener.heard[-2:] == ["block finished 14/20", "events"]
    assert [heard for heard in bench.listener.heard if heard.startswith("frame")] == [
        f"frame {second}" for second in (*range(12), 15, 16)
    ]
    assert bench.listener.unstored == []
    assert bench.measured == 14


def test_start_and_end_of_a_block_are_events_with_its_coverage(bench: Bench, sample: Callable[..., Sample]) -> None:
    bench.handle(found(), started(), sample(0), sample(1), missing(2, 5), ended())
    start, end = [event for event in bench.events() if event.kind.value.startswith("block")]
    assert start.kind is EventKind.BLOCK_STARTED
    assert start.data["planned_frames"] == 20
    assert end.kind is EventKind.BLOCK_FINISHED
    assert dict(end.data) == {
        "block": BLOCK.key,
        "state": "finished",
        "expected": 20,
        "captured": 2,
        "missing_shutter": 4,
        "missing_service_down": 14,
    }


def test_every_event_has_its_message_in_the_same_transaction(bench: Bench, sample: Callable[..., Sample]) -> None:
    seen: list[tuple[set[object], set[object]]] = []

    def watched(method: Callable[..., object]) -> Callable[..., object]:
        """Looks at the file after each commit."""

        def call(*args: object, **options: object) -> object:
            result = method(*args, **options)
            ids = {row[0] for row in bench.rows("SELECT event_id FROM event")}
            payloads = bench.rows("SELECT CAST(payload AS TEXT) FROM outbox")
            seen.append((ids, {json.loads(str(row[0]))["event_id"] for row in payloads}))
            return result

        return call

    bench.store.add = watched(bench.store.add)  # type: ignore[method-assign,assignment]
    bench.store.finish_block = watched(bench.store.finish_block)  # type: ignore[method-assign,assignment]
    bench.handle(found(), started(), sample(0), lost(1), found(3, away_s=2), ended())
    assert len(seen) >= 4
    assert all(ids == told for ids, told in seen)
    assert len(seen[-1][0]) == 5


def test_commits_are_gathered_for_the_configured_interval(bench: Bench, sample: Callable[..., Sample]) -> None:
    bench.handle(found())
    before = len(bench.database.calls)
    bench.handle(*(sample(second, in_block=False) for second in range(20)), pause_s=COMMIT_S / 5)
    assert len(bench.database.calls) - before == 4
    assert bench.store.counts().frames == 20


def test_nothing_is_lost_while_the_database_cannot_be_written_and_it_is_said_once(
    bench: Bench, sample: Callable[..., Sample], caplog: pytest.LogCaptureFixture
) -> None:
    bench.handle(found(), started(), sample(0))
    bench.database.error = StoreError("disk full")
    with caplog.at_level(logging.WARNING):
        bench.handle(
            sample(1), missing(2, 3), lost(4), found(5, away_s=1), *(sample(second) for second in range(6, 20))
        )
        bench.handle(ended())
        assert bench.store.counts().frames == 1
        bench.recover()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    coverage = bench.store.coverage(BLOCK.key)
    assert (coverage.captured, dict(coverage.missing_by_reason)) == (16, {"shutter": 2, SERVICE_DOWN: 2})
    assert [event.kind.value for event in bench.events()] == [
        "camera_found",
        "block_started",
        "camera_lost",
        "camera_found",
        "block_finished",
    ]
    assert bench.worker.lost_observations == 0
    assert bench.listener.unstored == []


def test_a_database_that_refuses_is_not_asked_at_each_item(bench: Bench, sample: Callable[..., Sample]) -> None:
    bench.handle(found())
    bench.database.error = StoreError("disk full")
    bench.handle(*(sample(second, in_block=False) for second in range(100)), pause_s=0.1)
    assert bench.database.refused <= 10 / RETRY_S + 1
    bench.recover()
    assert bench.store.counts().frames == 100


def test_what_has_waited_is_written_in_steps_of_bounded_size(
    bench: Bench, sample: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.worker.BATCH_OBSERVATIONS", 50)
    bench.handle(found())
    bench.database.error = StoreError("disk full")
    one = sample(0, in_block=False)
    for _ in range(120):
        bench.worker.handle(one)
    bench.database.error, bench.beats = None, 0
    bench.worker.write()
    assert bench.store.counts().frames == 120
    assert bench.database.largest == 50
    assert bench.beats >= 3


def test_memory_is_bounded_and_what_is_given_up_is_missing_with_a_reason(
    bench: Bench, sample: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.worker.MAX_WAITING_OBSERVATIONS", 10)
    bench.handle(found(), started())
    bench.database.error = StoreError("disk full")
    bench.handle(*(sample(second) for second in range(16)))
    assert bench.worker.lost_observations == 6
    bench.recover()
    bench.handle(*(sample(second) for second in range(16, 20)), ended())
    coverage = bench.store.coverage(BLOCK.key)
    assert (coverage.captured, dict(coverage.missing_by_reason)) == (14, {NOT_STORED: 6})


def test_a_refused_row_is_lost_alone_and_holds_nothing_up(
    bench: Bench, sample: Callable[..., Sample], caplog: pytest.LogCaptureFixture
) -> None:
    bench.handle(found(), started())
    wrong = dataclasses.replace(sample(3), planned_utc_ns=START_UTC_NS + 1)  # not a planned moment
    for second in range(8):
        bench.worker.handle(sample(second) if second != 3 else wrong)
    bench.worker.handle(lost(8))
    with caplog.at_level(logging.ERROR):
        bench.handle(found(9, away_s=1))
    assert bench.store.counts().frames == 7
    assert bench.store.coverage(BLOCK.key).captured == 7
    assert [event.kind.value for event in bench.events()][-2:] == ["camera_lost", "camera_found"]
    assert bench.worker.lost_observations == 1
    assert caplog.text.count("is lost") == 2  # the row, and that its moment cannot be accounted for either
    bench.handle(*(sample(second) for second in range(9, 20)))
    assert bench.store.counts().frames == 18


def test_refused_observations_do_not_use_up_the_memory_that_others_wait_in(
    bench: Bench, sample: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.worker.MAX_WAITING_OBSERVATIONS", 5)
    bench.handle(*(sample(second) for second in range(12)))  # neither camera nor block are known
    assert bench.worker.lost_observations == 12
    bench.handle(found(), started(), *(sample(second) for second in range(12)))
    assert bench.store.counts().frames == 12
    assert bench.worker.lost_observations == 12


def test_a_camera_that_is_found_closes_the_event_of_its_loss_and_the_gap(bench: Bench) -> None:
    bench.handle(found(), lost(5), found(8, away_s=3))
    first, gone, back = bench.events()
    assert (first.state, first.opened_event_id) == (EventState.OCCURRED, None)
    assert (gone.state, back.state) == (EventState.OPENED, EventState.CLOSED)
    assert back.opened_event_id == gone.event_id
    assert back.data["away_s"] == 3
    (gap,) = bench.store.gaps()
    assert (gap.start_utc_ns, gap.end_utc_ns) == (START_UTC_NS + 5 * NS_PER_S, START_UTC_NS + 8 * NS_PER_S)
    assert bench.store.open_events() == []


def test_a_loss_from_before_a_restart_is_closed_after_it(bench: Bench) -> None:
    bench.handle(found(), lost(5))
    bench.worker = bench.make()
    bench.handle(found(8, away_s=0))
    _, gone, back = bench.events()
    assert back.opened_event_id == gone.event_id
    assert bench.store.open_events() == []


def test_a_camera_that_is_still_away_after_a_restart_is_lost_once(bench: Bench) -> None:
    bench.handle(found(), lost(5))
    bench.worker = bench.make()
    bench.handle(lost(7))
    assert [event.state for event in bench.store.open_events()] == [EventState.OPENED]
    assert len(bench.store.gaps(open_only=True)) == 2
    bench.handle(found(9, away_s=2))
    assert bench.store.open_events() == []
    assert bench.store.gaps(open_only=True) == []
    assert [event.kind.value for event in bench.events()] == ["camera_found", "camera_lost", "camera_found"]


def test_an_alert_of_an_animal_that_was_taken_out_is_closed_at_the_next_start(bench: Bench) -> None:
    opened = Event(
        kind=EventKind.ANIMAL_TOO_COLD,
        state=EventState.OPENED,
        severity=Severity.ALERT,
        at_utc_ns=START_UTC_NS,
        animal=2,
    )
    bench.store.add([], run_id=bench.run_id, camera_id=None, events=[opened])
    bench.worker = bench.make()
    bench.worker.write()
    assert bench.store.open_events() == []
    assert bench.events()[-1].data == {"rule": "animal_too_cold", "reason": "not_watched"}
    assert bench.store.outbox_depth() == 1


def test_an_alert_is_stored_with_its_message_and_logged(
    bench: Bench, sample: Callable[..., Sample], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="daemon.worker"):
        bench.handle(found(), *(sample(second, in_block=False) for second in range(0, 70, 10)))  # none is so large
    assert [event.kind for event in bench.events()] == [EventKind.CAMERA_FOUND, EventKind.ANIMAL_NOT_SEEN]
    assert bench.store.outbox_depth() == 2
    assert "animal_not_seen opened" in caplog.text


def test_a_block_that_nobody_was_there_for_is_accounted_for(bench: Bench) -> None:
    bench.handle(BlockPassed(block=BLOCK, at_utc_ns=BLOCK.end_utc_ns, reason="clock_step"))
    coverage = bench.store.coverage(BLOCK.key)
    assert (coverage.captured, dict(coverage.missing_by_reason)) == (0, {"clock_step": 20})
    (end,) = bench.events()
    assert (end.kind, end.at_utc_ns) == (EventKind.BLOCK_FINISHED, BLOCK.end_utc_ns)
    assert dict(end.data) == {
        "block": BLOCK.key,
        "state": "missed",
        "expected": 20,
        "captured": 0,
        "missing_clock_step": 20,
    }
    assert bench.store.outbox_depth() == 1
    assert bench.listener.heard == ["block missed 0/20", "events"]


def test_a_passed_block_that_had_begun_keeps_what_it_has(bench: Bench, sample: Callable[..., Sample]) -> None:
    bench.handle(found(), started(), sample(0))
    bench.handle(BlockPassed(block=BLOCK, at_utc_ns=BLOCK.end_utc_ns, reason=SERVICE_DOWN))
    end = bench.events()[-1]
    assert (end.data["state"], end.data["captured"], end.data["missing_service_down"]) == ("finished", 1, 19)
    assert bench.listener.heard[-2:] == ["block finished 1/20", "events"]


def test_the_end_of_a_passed_block_is_told_in_the_transaction_that_stores_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_connection: object, _messages: object, *, limit: int) -> None:
        raise StoreError(f"no room among {limit}")

    monkeypatch.setattr("daemon.store.repository.outbox.enqueue", refuse)
    bench.handle(BlockPassed(block=BLOCK, at_utc_ns=BLOCK.end_utc_ns, reason=SERVICE_DOWN))
    assert bench.rows("SELECT count(*) FROM block") == [(0,)]
    monkeypatch.undo()
    bench.recover()
    assert bench.rows("SELECT state FROM block") == [("missed",)]
    assert [event.kind for event in bench.events()] == [EventKind.BLOCK_FINISHED]


def test_a_frame_whose_measuring_fails_is_stored_without_animals_and_the_next_is_measured(
    bench: Bench, sample: Callable[..., Sample], caplog: pytest.LogCaptureFixture
) -> None:
    bench.handle(found(), started(), sample(0))
    with caplog.at_level(logging.ERROR):
        bench.segmenter.error = ArithmeticError("no such number")
        bench.handle(sample(1), sample(2))
        bench.segmenter.error = MemoryError("all used")
        bench.handle(sample(3))
        bench.segmenter.error = None
        bench.handle(sample(4), ended())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ArithmeticError, MemoryError]
    reasons = [observation.not_measured for observation in bench.store.block_observations(BLOCK.key)]
    assert reasons == [None, ERROR, ERROR, ERROR, None]
    assert [observation.not_measured for observation in bench.shown] == reasons
    assert (bench.worker.measured_frames, bench.worker.failed_frames) == (5, 3)


def test_what_was_asked_for_and_fails_is_logged_and_holds_nothing_up(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OSError("nobody expected this")

    done: list[int] = []
    bench.worker.soon(fail)
    bench.worker.soon(lambda: done.append(1))
    bench.worker.tick()
    assert done == [1]
    assert "nobody expected this" in caplog.text


def test_what_waits_is_written_although_something_unexpected_ends_the_thread(
    bench: Bench, sample: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    items: HandOff[Item] = HandOff(64, may_be_lost, overrun)
    in_order: list[Item] = [found(), *(sample(second, in_block=False) for second in range(3)), lost(4), sample(5)]
    for item in in_order:
        items.put(item)
    items.close()

    def stumble(_item: CameraLost) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr(bench.worker, "_lose_camera", stumble)
    with pytest.raises(RuntimeError, match="unexpected"):
        bench.worker.run(items)
    assert bench.store.counts().frames == 3


def test_an_unexpected_error_while_writing_loses_nothing_else_and_writes_nothing_twice(
    bench: Bench, sample: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    items: HandOff[Item] = HandOff(64, may_be_lost, overrun)
    in_order: list[Item] = [found(), started(), *(sample(second) for second in range(3)), ended()]
    for item in in_order:
        items.put(item)
    items.close()
    observed = bench.listener.observed

    def stumble(observation: FrameObservation) -> None:
        if observation.sequence == 1:
            raise RuntimeError("unexpected")
        observed(observation)

    monkeypatch.setattr(bench.listener, "observed", stumble)
    with pytest.raises(RuntimeError, match="unexpected"):
        bench.worker.run(items)
    assert bench.store.counts().frames == 3
    assert bench.events()[-1].data["captured"] == 3


def test_what_waits_belongs_to_the_run_it_was_measured_in(bench: Bench, sample: Callable[..., Sample]) -> None:
    bench.handle(found())
    first = bench.run_id
    bench.database.error = StoreError("disk full")
    passed, other = (
        BlockPassed(
            block=dataclasses.replace(BLOCK, number=number, start_utc_ns=START_UTC_NS - 60 * number * NS_PER_S),
            at_utc_ns=START_UTC_NS,
            reason=SERVICE_DOWN,
        )
        for number in (2, 3)
    )
    bench.handle(started(), sample(0), lost(1), ended(), passed)
    second = bench.worker.run_id = bench.store.start_run(
        version="1",
        config_hash="other",
        config_json="{}",
        segmenter="classical",
        host="box",
        boot_id="b",
        started_utc_ns=START_UTC_NS,
    )
    bench.handle(sample(2, in_block=False), found(3), other)
    bench.recover()
    assert bench.rows("SELECT sequence, run_id FROM frame ORDER BY id") == [(0, first), (2, second)]
    assert bench.rows("SELECT kind, run_id FROM event ORDER BY id") == [
        ("camera_found", first),
        ("block_started", first),
        ("camera_lost", first),
        ("block_finished", first),
        ("block_finished", first),
        ("camera_found", second),
        ("block_finished", second),
    ]
    assert bench.rows("SELECT run_id FROM block ORDER BY id") == [(first,), (first,), (second,)]
    assert bench.rows("SELECT run_id, end_run_id FROM gap") == [(first, second)]


def test_a_new_run_begins_a_new_transaction(bench: Bench, sample: Callable[..., Sample]) -> None:
    bench.handle(found(), started())
    bench.worker.handle(sample(0))
    bench.worker.run_id = second = bench.store.start_run(
        version="1",
        config_hash="other",
        config_json="{}",
        segmenter="classical",
        host="box",
        boot_id="b",
        started_utc_ns=START_UTC_NS,
    )
    bench.worker.handle(sample(1))
    bench.worker.write()
    assert bench.rows("SELECT run_id FROM frame ORDER BY id") == [(bench.run_id,), (second,)]


def test_missing_moments_that_wait_become_one_write_for_each_reason(
    bench: Bench, sample: Callable[..., Sample]
) -> None:
    bench.handle(found(), started())
    bench.database.error = StoreError("disk full")
    for second in range(0, 18, 3):
        bench.handle(missing(second, second, "shutter"), missing(second + 1, second + 1, "no_frame"))
        bench.handle(sample(second + 2))
    bench.database.calls.clear()
    bench.recover()
    assert bench.database.calls == ["record_missing", "record_missing", "add"]
    bench.handle(ended())
    coverage = bench.store.coverage(BLOCK.key)
    assert dict(coverage.missing_by_reason) == {"no_frame": 6, SERVICE_DOWN: 2, "shutter": 6}
    assert coverage.captured == 6


def test_missing_moments_that_are_refused_take_nothing_with_them(
    bench: Bench, sample: Callable[..., Sample], caplog: pytest.LogCaptureFixture
) -> None:
    bench.handle(found(), started())
    bench.worker.handle(MissingSamples(block_key="unknown", planned_utc_ns=(START_UTC_NS,), reason="shutter"))
    with caplog.at_level(logging.ERROR):
        bench.handle(missing(0, 1), sample(2))
    assert caplog.text.count("is lost") == 1
    coverage = bench.store.coverage(BLOCK.key)
    assert (coverage.captured, dict(coverage.missing_by_reason)) == (1, {"shutter": 2})


def test_how_much_waits_and_why_can_be_asked(bench: Bench, sample: Callable[..., Sample]) -> None:
    bench.handle(found(), sample(0, in_block=False))
    assert (bench.worker.waiting, bench.worker.write_error) == (0, None)
    bench.database.error = StoreError("disk full")
    bench.handle(*(sample(second, in_block=False) for second in range(1, 4)))
    assert (bench.worker.waiting, bench.worker.write_error) == (3, "disk full")
    bench.recover()
    assert (bench.worker.waiting, bench.worker.write_error) == (0, None)


def test_samples_that_gave_way_are_missing_with_their_reason_also_at_the_end_of_a_block(
    bench: Bench, sample: Callable[..., Sample]
) -> None:
    items: HandOff[Item] = HandOff(4, may_be_lost, overrun)
    in_order: list[Item] = [found(), started(), *(sample(second) for second in range(20)), ended()]
    for item in in_order:
        items.put(item)
    for second in range(20, 23):
        items.put(sample(second, in_block=False))
    items.close()
    bench.worker.run(items)
    coverage = bench.store.coverage(BLOCK.key)
    assert (coverage.captured, dict(coverage.missing_by_reason)) == (1, {"overrun": 19})
    assert bench.store.counts().frames == 4


def test_the_thread_writes_everything_before_it_ends(bench: Bench, sample: Callable[..., Sample]) -> None:
    items: HandOff[Item] = HandOff(64, may_be_lost, overrun)
    thread = threading.Thread(target=bench.worker.run, args=(items,))
    thread.start()
    in_order: list[Item] = [found(), started(), *(sample(second) for second in range(20)), ended()]
    for item in in_order:
        items.put(item)
    items.close()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert bench.store.coverage(BLOCK.key).captured == 20
    assert bench.events()[-1].kind is EventKind.BLOCK_FINISHED
    assert bench.beats > 0


def test_what_is_lost_because_the_database_stays_away_to_the_end_is_said(
    bench: Bench, sample: Callable[..., Sample], caplog: pytest.LogCaptureFixture
) -> None:
    items: HandOff[Item] = HandOff(64, may_be_lost, overrun)
    for second in range(3):
        items.put(sample(second, in_block=False))
    items.close()
    bench.database.error = StoreError("disk full")
    with caplog.at_level(logging.ERROR):
        bench.worker.run(items)
    assert "3 observations are lost" in caplog.text
