"""The worker stores values of minutes with what they were made of, also when the database refuses for a while."""

from collections.abc import Callable, Iterator
from typing import cast

import pytest

from daemon.handoff import HandOff
from daemon.messaging.announcer import Silence
from daemon.minute_value import MinuteValue
from daemon.minute_values import MINUTE_NS, MinuteCollector
from daemon.pipeline import Pipeline
from daemon.rules import AlertRules
from daemon.sampling import CameraFound, Item, Sample, may_be_lost, overrun
from daemon.settings import AlertSettings
from daemon.store.repository import Store, open_store
from daemon.vision.classical import ClassicalSegmenter
from daemon.worker import LATE_S, Worker
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.errors import StoreError
from drivers.simulated import SimulatedCamera
from tests.databases import ON_BOTH

START_UTC_NS = 1_795_000_020 * NS_PER_S // MINUTE_NS * MINUTE_NS
INTERVAL_S = 5


class Refusing:
    """The store, but `add` fails while it is told to."""

    def __init__(self, store: Store) -> None:
        self.refuses = False
        self._store = store

    def __getattr__(self, name: str) -> object:
        if name == "add" and self.refuses:
            raise StoreError("no space left")
        return getattr(self._store, name)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with open_store(database_url, outbox_limit=100) as store:
        yield store


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START_UTC_NS)


def make_worker(store: Store, clock: SimulatedClock, beat: Callable[[], None] = lambda: None) -> Worker:
    run_id = store.start_run(
        version="1",
        config_hash="h",
        config_json="{}",
        segmenter="classical",
        host="box",
        boot_id="b",
        started_utc_ns=START_UTC_NS,
    )
    return Worker(
        pipeline=Pipeline(ClassicalSegmenter(animals=1, min_area_px=150), animals=1, mm_per_px=None),
        rules=AlertRules(AlertSettings(), animals=1),
        minutes=MinuteCollector(animals=1, mm_per_px=None, due=lambda _minute: 60 / INTERVAL_S),
        store=store,
        run_id=run_id,
        clock=clock,
        announcer=Silence(),
        commit_interval_s=0.2,
        on_measured=lambda _frame, _measured: None,
        beat=beat,
    )


def frames_of(clock: SimulatedClock, seconds: int) -> Iterator[Item]:
    """A rat, one frame every five seconds, as the service would get them."""
    with SimulatedCamera.create(clock=clock) as camera:
        yield CameraFound(info=camera.info, variant="v1", at_utc_ns=clock.utc_ns(), away_s=0.0)
        for _ in range(0, seconds, INTERVAL_S):
            yield Sample(frame=camera.read(timeout_s=1), block_key=None, planned_utc_ns=None)
            clock.advance(INTERVAL_S - 0.04)


def stored(store: Store) -> list[MinuteValue]:
    return list(store.minute_values(since_utc_ns=START_UTC_NS, until_utc_ns=START_UTC_NS + 60 * MINUTE_NS))


@ON_BOTH
def test_a_minute_is_stored_when_it_is_over_and_the_last_one_at_the_end(store: Store, clock: SimulatedClock) -> None:
    worker = make_worker(store, clock)
    for item in frames_of(clock, 90):
        worker.handle(item)
        worker.write()
    assert {value.minute_utc_ns for value in stored(store)} == {START_UTC_NS}
    worker.finish_minutes()
    worker.write()
    values = {(v.animal, v.measure, v.minute_utc_ns): v for v in stored(store)}
    first = values[None, "frames_coverage", START_UTC_NS]
    assert first.value == 1
    assert first.samples + values[None, "frames_coverage", START_UTC_NS + MINUTE_NS].samples == 18
    skin = values[1, "skin_max_celsius", START_UTC_NS]
    assert skin.value is not None
    assert 34 < skin.value < 39
    assert skin.uncertainty is not None


def test_minutes_wait_for_a_database_that_refuses(store: Store, clock: SimulatedClock) -> None:
    database = Refusing(store)
    worker = make_worker(cast(Store, database), clock)
    database.refuses = True
    for item in frames_of(clock, 70):
        worker.handle(item)
        worker.write()
    assert stored(store) == []
    database.refuses = False
    clock.advance(2)
    worker.write()
    assert {value.minute_utc_ns for value in stored(store)} == {START_UTC_NS}


def test_a_minute_is_closed_though_no_frame_follows(store: Store, clock: SimulatedClock) -> None:
    items: HandOff[Item] = HandOff(100, may_be_lost, overrun)
    for item in frames_of(clock, 60):
        items.put(item)
    beats = 0

    def end_after_a_while() -> None:
        nonlocal beats
        beats += 1
        if beats == 20:  # all frames are handled, and the clock goes on
            clock.advance(LATE_S + 1)
        if beats == 24:
            items.close()

    make_worker(store, clock, end_after_a_while).run(items)
    assert {value.minute_utc_ns for value in stored(store) if value.measure == "frames_coverage"} == {
        START_UTC_NS,
        START_UTC_NS + MINUTE_NS,
    }
