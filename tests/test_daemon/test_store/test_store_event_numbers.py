"""The numbers of events: one after the other, over restarts, refusals, deletions and a lost database."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.events import Event, EventKind, EventState, NumberedEvent, Severity
from daemon.messaging.outbox import OutboxMessage
from daemon.store.repository import Store, open_store
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.errors import StoreRejectedError
from tests.databases import change

NOW_UTC_NS = 1_795_000_000 * NS_PER_S

BeginRun = Callable[[Store], tuple[int, int]]


def happened(at_utc_ns: int, event_id: str = "") -> Event:
    return Event(
        kind=EventKind.CAMERA_LOST,
        state=EventState.OPENED,
        severity=Severity.ALERT,
        at_utc_ns=at_utc_ns,
        data={"a": 1},
        event_id=event_id or uuid.uuid4().hex,
    )


def seqs(store: Store, after: int = 0) -> list[int]:
    return [numbered.seq for numbered in store.events_after(after, limit=1000)]


def tell(numbered: NumberedEvent) -> OutboxMessage:
    return OutboxMessage(topic="event/x", payload=b"%d" % numbered.seq, created_utc_ns=0)


def test_numbers_rise_by_one_over_restarts_and_events_are_found_by_them(url: str, begin_run: BeginRun) -> None:
    events = [happened(number) for number in range(7)]
    for part in (events[:3], events[3:4], events[4:]):
        with open_store(url, outbox_limit=100) as store:
            run_id, _ = begin_run(store)
            store.add([], run_id=run_id, camera_id=None, events=part)
    with open_store(url, outbox_limit=100) as store:
        assert seqs(store) == [1, 2, 3, 4, 5, 6, 7]
        assert seqs(store, after=5) == [6, 7]
        assert [numbered.seq for numbered in store.events_after(2, limit=2)] == [3, 4]
        assert [numbered.event for numbered in store.events_after(0, limit=10)] == events
        assert {numbered.boot_id for numbered in store.events_after(0, limit=10)} == {"boot"}
        assert store.last_event_seq() == 7
        assert store.events_after(7, limit=10) == []


def test_a_message_carries_the_number_of_its_event(store: Store, ids: tuple[int, int]) -> None:
    store.add([], run_id=ids[0], camera_id=None, events=[happened(1), happened(2)], tell=tell)
    assert [queued.payload for queued in store.queued_messages(after_id=0, limit=9)] == [b"1", b"2"]


def test_what_is_refused_takes_no_number(store: Store, ids: tuple[int, int]) -> None:
    store.add([], run_id=ids[0], camera_id=None, events=[happened(1, "once")])
    with pytest.raises(StoreRejectedError):
        store.add([], run_id=ids[0], camera_id=None, events=[happened(2), happened(1, "once")], tell=tell)
    store.add([], run_id=ids[0], camera_id=None, events=[happened(3)])
    assert seqs(store) == [1, 2]
    assert store.outbox_depth() == 0


def test_numbers_of_deleted_events_do_not_come_again(url: str, begin_run: BeginRun) -> None:
    for number in range(2):
        with open_store(url, outbox_limit=100) as store:
            run_id, _ = begin_run(store)
            store.add([], run_id=run_id, camera_id=None, events=[happened(number), happened(number)])
            found = seqs(store)
        change(url, "DELETE FROM event")
    assert found == [3, 4]


def test_a_database_from_before_the_numbers_goes_on_with_its_rows(url: str, begin_run: BeginRun) -> None:
    with open_store(url, outbox_limit=100) as store:
        run_id, _ = begin_run(store)
        store.add([], run_id=run_id, camera_id=None, events=[happened(1), happened(2)])
    change(url, "DELETE FROM counter WHERE name = 'event_seq'")
    with open_store(url, outbox_limit=100) as store:
        store.add([], run_id=run_id, camera_id=None, events=[happened(3)])
        store.add([], run_id=run_id, camera_id=None, events=[happened(4)])
        assert seqs(store) == [1, 2, 3, 4]


def test_numbers_rise_also_when_a_damaged_database_was_replaced(
    url: str, database_path: Path, begin_run: BeginRun
) -> None:
    last = 0
    for second in range(3):
        with open_store(url, outbox_limit=100, clock=SimulatedClock(NOW_UTC_NS + second * NS_PER_S)) as store:
            run_id, _ = begin_run(store)
            store.add([], run_id=run_id, camera_id=None, events=[happened(second), happened(second)])
            first, second_seq = seqs(store)
        assert first > last
        assert second_seq == first + 1
        last = second_seq
        database_path.write_bytes(b"rubbish" * 1000)
