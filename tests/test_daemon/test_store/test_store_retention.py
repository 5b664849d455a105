"""What gives way, and in which order; pins, dead letters and freed recordings as rows."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.events import Event, EventKind, EventState, Severity
from daemon.messaging.outbox import OutboxMessage
from daemon.messaging.payloads import event_message
from daemon.schedule import PlannedBlock
from daemon.store.recordings import FreedRecording
from daemon.store.repository import RecordingState, Store, attach_store, open_store
from daemon.store.retention import (
    FEWEST_FRAMES,
    GB,
    MARGIN,
    Candidate,
    Level,
    Limits,
    Pin,
    Sacrifice,
    Why,
    bytes_per_frame,
    days_until_full,
    min_free_bytes,
    names_of,
    plan,
    trusted_day,
)
from drivers.errors import StoreError, StoreRejectedError

TODAY = date(2026, 11, 26)
LIMITS = Limits(min_free_bytes=100)


def recording(age_days: int, size_bytes: int = 10, *, pinned: bool = False, in_use: bool = False) -> Candidate:
    day = TODAY - timedelta(days=age_days)
    return Candidate(
        path=Path(f"{day}.mkv"),
        level=Level.RECORDING,
        size_bytes=size_bytes,
        day=day,
        written_ns=-age_days,
        pinned=pinned,
        in_use=in_use,
    )


def other(level: Level, name: str, size_bytes: int = 10) -> Candidate:
    return Candidate(path=Path(name), level=level, size_bytes=size_bytes)


def told(chosen: list[Sacrifice]) -> list[tuple[str, str]]:
    return [(each.candidate.path.stem, each.why.value) for each in chosen]


def test_the_order_of_sacrifice_is_fixed() -> None:
    everything = [
        recording(1),
        recording(9),
        other(Level.SET_ASIDE, "damaged"),
        other(Level.DATABASE_COPY, "copy"),
        other(Level.TEMPORARY, "temporary"),
    ]
    chosen = plan(everything, free_bytes=0, limits=LIMITS, today=TODAY)
    assert told(chosen) == [
        ("temporary", "min_free"),
        ("copy", "min_free"),
        ("damaged", "min_free"),
        ("2026-11-17", "min_free"),
        ("2026-11-25", "min_free"),
    ]


def test_nothing_gives_way_while_there_is_room() -> None:
    assert plan([recording(9)], free_bytes=100, limits=LIMITS, today=TODAY) == []


def test_no_more_gives_way_than_brings_the_minimum_and_its_margin() -> None:
    old = [recording(age, size_bytes=3) for age in range(9, 3, -1)]
    chosen = plan(old, free_bytes=99, limits=LIMITS, today=TODAY)
    assert [stem for stem, _ in told(chosen)] == ["2026-11-17", "2026-11-18"]
    assert 99 + 3 * len(chosen) >= 100 * MARGIN > 99 + 3 * (len(chosen) - 1)


def test_room_for_the_ballast_is_made_as_well() -> None:
    assert plan([recording(9)], free_bytes=100, limits=LIMITS, today=TODAY, more_bytes=5)


def test_the_budget_counts_pinned_recordings_and_takes_others() -> None:
    kept, old, new = recording(9, pinned=True), recording(8), recording(1)
    limits = Limits(min_free_bytes=0, budget_bytes=20)
    assert told(plan([kept, old, new], free_bytes=0, limits=limits, today=TODAY)) == [("2026-11-18", "budget")]


def test_recordings_of_earlier_days_than_are_kept_give_way_with_room_to_spare() -> None:
    limits = Limits(min_free_bytes=0, keep_days=5)
    chosen = plan([recording(6), recording(5), recording(7, pinned=True)], free_bytes=9, limits=limits, today=TODAY)
    assert told(chosen) == [("2026-11-20", "keep_days")]


def test_what_lies_on_another_file_system_never_gives_way_for_free_space() -> None:
    away, here = replace(recording(9), elsewhere=True), recording(8)
    assert told(plan([away, here], free_bytes=0, limits=LIMITS, today=TODAY)) == [("2026-11-18", "min_free")]
    limits = Limits(min_free_bytes=100, budget_bytes=10)
    assert told(plan([away, here], free_bytes=99, limits=limits, today=TODAY)) == [
        ("2026-11-17", "budget"),
        ("2026-11-18", "min_free"),
    ]


@pytest.mark.parametrize(
    ("wall_day", "newest_day", "elapsed_days", "trusted"),
    [
        pytest.param(TODAY, TODAY - timedelta(days=1), 0, TODAY, id="as it is"),
        pytest.param(TODAY, None, 0, TODAY, id="no recordings"),
        pytest.param(date(2099, 1, 1), TODAY, 0, TODAY + timedelta(days=1), id="a wrong clock"),
        pytest.param(date(2099, 1, 1), TODAY, 30, TODAY + timedelta(days=31), id="a wrong clock, later"),
        pytest.param(TODAY, date(2099, 1, 1), 0, TODAY, id="the clock was wrong before"),
    ],
)
def test_the_day_that_ages_count_from_is_not_far_after_the_newest_recording(
    wall_day: date, newest_day: date | None, elapsed_days: int, trusted: date
) -> None:
    assert trusted_day(wall_day, newest_day, elapsed_days) == trusted


candidate_lists = st.lists(
    st.builds(recording, st.integers(0, 400), st.integers(0, 50), pinned=st.booleans(), in_use=st.booleans()),
    max_size=30,
    unique_by=lambda each: each.path,
)


@given(candidate_lists, st.integers(0, 300), st.none() | st.integers(0, 200), st.none() | st.integers(1, 300))
def test_pinned_and_open_recordings_never_give_way_and_older_ones_go_first(
    candidates: list[Candidate], free_bytes: int, budget_bytes: int | None, keep_days: int | None
) -> None:
    limits = Limits(min_free_bytes=100, budget_bytes=budget_bytes, keep_days=keep_days)
    chosen = {each.candidate.path for each in plan(candidates, free_bytes=free_bytes, limits=limits, today=TODAY)}
    may_go = sorted((each for each in candidates if not each.pinned and not each.in_use), key=lambda each: each.path)
    assert chosen <= {each.path for each in may_go}
    assert [each.path for each in may_go[: len(chosen)]] == sorted(chosen), "the oldest, without a gap"
    left = [each for each in may_go if each.path not in chosen]
    freed = sum(each.size_bytes for each in candidates if each.path in chosen)
    assert not left or free_bytes + freed >= 100
    taken = sum(each.size_bytes for each in candidates if each.path not in chosen)
    assert not left or budget_bytes is None or taken <= budget_bytes


@pytest.mark.parametrize(
    ("wanted_gb", "total_gb", "expected_gb"), [(2.0, 64, 2.0), (2.0, 8, 2.0), (2.0, 4, 1.0), (0.5, 1, 0.25)]
)
def test_on_a_small_disk_a_quarter_is_kept_free(wanted_gb: float, total_gb: int, expected_gb: float) -> None:
    assert min_free_bytes(wanted_gb, total_gb * GB) == round(expected_gb * GB)


def test_the_forecast_counts_down_to_the_minimum() -> None:
    assert days_until_full(1100, LIMITS, 50.0) == 20
    assert days_until_full(50, LIMITS, 50.0) == 0
    assert days_until_full(1100, LIMITS, None) is None
    assert days_until_full(1100, LIMITS, 0.0) is None
    assert bytes_per_frame(FEWEST_FRAMES * 7, FEWEST_FRAMES) == 7
    assert bytes_per_frame(700, FEWEST_FRAMES - 1) is None


@pytest.mark.parametrize(
    ("pin", "covered"),
    [
        pytest.param(Pin(name="a", block_key="2026-11-20/night-1"), True, id="its block"),
        pytest.param(Pin(name="a", block_key="2026-11-20/night-1~1"), True, id="its block under a changed plan"),
        pytest.param(Pin(name="a", block_key="2026-11-20/night-2"), False, id="another block"),
        pytest.param(Pin(name="a", first_day=date(2026, 11, 20), last_day=date(2026, 11, 20)), True, id="its day"),
        pytest.param(Pin(name="a", first_day=date(2026, 11, 21), last_day=date(2026, 12, 1)), False, id="later days"),
    ],
)
def test_a_pin_covers_a_block_or_days(pin: Pin, covered: bool) -> None:
    assert names_of([pin], date(2026, 11, 20), "2026-11-20/night-1") == (frozenset({"a"}) if covered else frozenset())


# Rows


def test_pins_survive_and_a_name_is_taken_once(store: Store) -> None:
    pins = [
        Pin(name="A", reason="paper", created_utc_ns=5, block_key="2026-11-20/night-1"),
        Pin(name="A", reason="paper", created_utc_ns=5, first_day=date(2026, 11, 1), last_day=date(2026, 11, 3)),
    ]
    store.add_pins(pins)
    assert store.pins() == pins
    with pytest.raises(StoreRejectedError, match="there is a pin 'A' already"):
        store.add_pins(pins[:1])
    assert store.remove_pins("A") == 2
    assert (store.pins(), store.remove_pins("A")) == ([], 0)


@dataclass(frozen=True)
class File:
    """A recording's file."""

    path: Path
    sha256: str | None = "a" * 64
    frames: int = 400
    size_bytes: int = 8000


def test_a_freed_recording_keeps_its_row_and_is_told_of(
    store: Store, ids: tuple[int, int], planned_block: Callable[..., PlannedBlock]
) -> None:
    run_id, block = ids[0], planned_block()
    store.open_block(block, run_id=run_id, at_utc_ns=block.start_utc_ns)
    for name in ("a.mkv", "b.mkv"):
        store.add_recording(block.key, File(Path(name)))
    event = Event(kind=EventKind.RECORDINGS_FREED, state=EventState.OCCURRED, severity=Severity.NOTICE, at_utc_ns=9)
    freed = [FreedRecording(path=Path(name), at_utc_ns=9, why=Why.BUDGET) for name in ("a.mkv", "unknown.mkv")]
    assert store.free_recordings(freed, run_id=run_id, events=[event], tell=event_message) == 1
    first, second = store.recordings(block.key)
    assert (first.state, first.freed_utc_ns, first.freed_reason) == (RecordingState.FREED, 9, "budget")
    assert (first.size_bytes, first.sha256) == (8000, "a" * 64)
    assert second.state is RecordingState.COMPLETE
    assert [each.kind for each in store.recent_events(5)] == [EventKind.RECORDINGS_FREED]
    assert store.outbox_depth() == 1
    assert store.freed_count() == 1
    assert store.recorded_since(0).frames == 800
    assert store.free_recordings(freed) == 0, "once"
    assert [each.path.name for each in store.all_recordings()] == ["a.mkv", "b.mkv"]


def test_messages_that_cannot_be_read_do_not_keep_the_others(
    store: Store, ids: tuple[int, int], database_path: Path
) -> None:
    messages = [OutboxMessage(topic=f"event/{name}", payload=b"{}", created_utc_ns=5) for name in "abcdef"]
    store.add([], run_id=ids[0], camera_id=None, messages=messages)
    damage: list[tuple[str, bytes | str]] = [
        ("topic = CAST(? AS TEXT)", b"\xff\xfe"),
        ("topic = CAST(? AS TEXT)", b"event/#"),
        ("topic = CAST(? AS TEXT)", b""),
        ("payload = ?", b"{\x00"),
        ("payload = ?", b"[1]"),
    ]
    with closing(sqlite3.connect(database_path, isolation_level=None)) as connection:
        for number, (change, value) in enumerate(damage, start=1):
            connection.execute(f"UPDATE outbox SET {change} WHERE id = ?", (value, number))
    assert [each.topic for each in store.queued_messages(after_id=0, limit=1)] == ["event/d"]
    assert store.set_aside_unreadable_messages(at_utc_ns=7) == len(damage)
    assert [each.topic for each in store.queued_messages(after_id=0, limit=10)] == ["event/f"]
    with closing(sqlite3.connect(database_path)) as connection:
        rows = connection.execute("SELECT topic, set_aside_utc_ns, reason FROM dead_letter ORDER BY id").fetchall()
    assert [(topic, at_ns) for topic, at_ns, _ in rows][:3] == [(b"\xff\xfe", 7), (b"event/#", 7), (b"", 7)]
    assert all(reason for _, _, reason in rows)
    assert store.set_aside_unreadable_messages(at_utc_ns=8) == 0


def test_a_command_works_beside_the_service_and_never_makes_or_changes_a_database(
    url: str, database_path: Path
) -> None:
    with pytest.raises(StoreError, match="there is no database"), attach_store(url, outbox_limit=1):
        pass
    assert not database_path.exists()
    with open_store(url, outbox_limit=1) as service, attach_store(url, outbox_limit=1) as command:
        command.add_pins([Pin(name="A", block_key="k")])
        assert [each.name for each in service.pins()] == ["A"]
    with closing(sqlite3.connect(database_path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()
    with pytest.raises(StoreError, match="start the service once"), attach_store(url, outbox_limit=1):
        pass
