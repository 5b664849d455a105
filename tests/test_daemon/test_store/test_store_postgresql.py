"""The same store in a PostgreSQL server: the tests start one of their own where its programs are installed."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from daemon.events import Event, EventKind, EventState, Severity
from daemon.maintenance import Reason, begun
from daemon.messaging.outbox import OutboxMessage, Priority
from daemon.messaging.payloads import event_message
from daemon.observation import FrameObservation
from daemon.schedule import PlannedBlock
from daemon.store import engine
from daemon.store.engine import Database
from daemon.store.repository import Counts, Store, attach_store, open_store
from daemon.store.schema import metadata
from daemon.store.server import look_at
from drivers.clock import NS_PER_S
from drivers.errors import StoreError, StoreRejectedError
from tests.databases import Server, change, rows_of

ROOT = Path(__file__).parents[3]

BeginRun = Callable[[Store], tuple[int, int]]
MakeObservation = Callable[..., FrameObservation]
PlanBlock = Callable[..., PlannedBlock]


@pytest.fixture
def url(postgresql: Server) -> Iterator[str]:
    """A database in a server, without tables."""
    with postgresql.database(tables=False) as url:
        yield url


def fever(at_utc_ns: int) -> Event:
    """An event of the first animal."""
    return Event(
        kind=EventKind.ANIMAL_TOO_HOT,
        state=EventState.OPENED,
        severity=Severity.ALERT,
        at_utc_ns=at_utc_ns,
        animal=1,
        data={"p95_celsius": 39.4, "reason": "ü"},
    )


def defined(url: str) -> list[tuple[object, ...]]:
    """All columns, constraints and indexes."""
    return [
        *rows_of(
            url,
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
            " WHERE table_schema = 'public' ORDER BY 1, 2",
        ),
        *rows_of(
            url,
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
        ),
        *rows_of(url, "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"),
    ]


def test_revisions_lead_to_the_schema_of_the_program(postgresql: Server, url: str) -> None:
    metadata.create_all(create_engine(url, poolclass=NullPool))
    of_program = defined(url)
    with postgresql.database() as migrated:
        of_revisions = [row for row in defined(migrated) if "alembic_version" not in str(row)]
    assert of_revisions == of_program


def test_a_block_is_stored_and_read_as_it_was_written(
    url: str, begin_run: BeginRun, observation: MakeObservation, planned_block: PlanBlock
) -> None:
    block = planned_block()
    frames = [observation(second, block_key=block.key) for second in range(6)]
    with open_store(url, outbox_limit=100) as store:
        run_id, camera_id = begin_run(store)
        store.open_block(block, run_id=run_id, at_utc_ns=block.start_utc_ns)
        store.add(frames, run_id=run_id, camera_id=camera_id)
        coverage = store.finish_block(block.key, at_utc_ns=block.end_utc_ns, reason_for_unaccounted="service_down")
        assert (coverage.captured, coverage.missing_by_reason) == (6, {"service_down": 4})
    with open_store(url, outbox_limit=100) as store:
        assert store.block_observations(block.key) == frames
        assert store.counts() == Counts(
            frames=6, part_observations=6, minute_values=0, events=0, outbox=0, outbox_dropped=0
        )
        assert (store.set_aside, store.copy) == (None, None)


def test_an_event_and_its_message_are_stored_together_and_leave_the_outbox_in_order(
    store: Store, begin_run: BeginRun
) -> None:
    run_id, _ = begin_run(store)
    for number in range(5):
        message = OutboxMessage(
            topic=f"event/{number}", payload=b"\x00\xff", created_utc_ns=number, priority=Priority.ALARM
        )
        store.add([], run_id=run_id, camera_id=None, events=[fever(number)], messages=[message])
    queued = store.queued_messages(after_id=0, limit=10)
    assert [message.topic for message in queued] == [f"event/{number}" for number in range(5)]
    assert queued[0].payload == b"\x00\xff"
    store.acknowledge_messages([message.message_id for message in queued])
    assert store.outbox_depth() == 0
    assert [event.at_utc_ns for event in store.recent_events(10)] == [4, 3, 2, 1, 0]


def test_a_refused_row_takes_its_batch_with_it(store: Store, begin_run: BeginRun, observation: MakeObservation) -> None:
    _, camera_id = begin_run(store)
    with pytest.raises(StoreRejectedError, match="fk_frame_run_id"):
        store.add([observation()], run_id=77, camera_id=camera_id)
    assert store.counts().frames == 0


def test_what_is_read_together_is_one_state(
    url: str, store: Store, begin_run: BeginRun, observation: MakeObservation
) -> None:
    run_id, camera_id = begin_run(store)
    done, seen = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            seen.append(store.counts())

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for second in range(200):
            store.add([observation(second)], run_id=run_id, camera_id=camera_id)
    finally:
        done.set()
        reader.join()
    print(f"{len(seen)} looks beside 200 writes")  # noqa: T201  # the figure
    assert [counts for counts in seen if counts.frames != counts.part_observations] == []


def test_readers_cannot_write(url: str, store: Store) -> None:
    database = Database(make_url(url))
    try:
        with pytest.raises(StoreError, match="read-only transaction"), database.reading("write by mistake") as reader:
            reader.exec_driver_sql("DELETE FROM run")
    finally:
        database.close()


def test_a_server_that_goes_and_comes_back_is_used_again(
    postgresql: Server, url: str, begin_run: BeginRun, observation: MakeObservation
) -> None:
    with open_store(url, outbox_limit=100) as store:
        run_id, camera_id = begin_run(store)
        store.add([observation(0)], run_id=run_id, camera_id=camera_id)
        postgresql.stop()
        failed = 0
        try:
            for _ in range(3):
                with pytest.raises(StoreError) as refused:
                    store.add([observation(1)], run_id=run_id, camera_id=camera_id)
                assert not isinstance(refused.value, StoreRejectedError)
                failed += 1
        finally:
            postgresql.start()
        store.add([observation(1)], run_id=run_id, camera_id=camera_id)
        assert store.counts().frames == 2
        postgresql.stop()
        postgresql.start()
        assert store.counts().frames == 2, "nobody asked while it was away: nobody notices"
        store.add([observation(2)], run_id=run_id, camera_id=camera_id)
        print(f"{failed} writes refused while the server was away, the next one after its return stored")  # noqa: T201


def test_the_sample_dashboard_asks_what_the_tables_answer(
    url: str, begin_run: BeginRun, observation: MakeObservation, planned_block: PlanBlock
) -> None:
    block = planned_block()
    with open_store(url, outbox_limit=100) as store:
        run_id, camera_id = begin_run(store)
        store.open_block(block, run_id=run_id, at_utc_ns=block.start_utc_ns)
        frames = [observation(second, block_key=block.key) for second in range(6)]
        store.add(frames, run_id=run_id, camera_id=camera_id, events=[fever(block.start_utc_ns)])
        store.finish_block(block.key, at_utc_ns=block.end_utc_ns, reason_for_unaccounted="service_down")
        [rat] = (seen := observation(7)).animals
        hand = replace(rat, parts=(replace(rat.parts[0], max_celsius=45.0),))
        store.add([replace(seen, animals=(hand,))], run_id=run_id, camera_id=camera_id)
        start_utc_ns = frames[-1].captured_utc_ns + 1
        work, begin = begun(Reason.CAGE_CHANGE, at_utc_ns=start_utc_ns, end_utc_ns=block.end_utc_ns, by="Ana")
        store.keep_maintenance(work, run_id=run_id, event=begin, tell=event_message)
    dashboard = json.loads((ROOT / "containers/grafana/dashboards/vivarium.json").read_text())
    grafana, answers = create_engine(url), {}
    [shaded] = dashboard["annotations"]["list"]
    asked = [(panel["title"], *panel["targets"]) for panel in dashboard["panels"]]
    with grafana.connect() as connection:
        for title, target in (*asked, (shaded["name"], shaded["target"])):
            # What Grafana puts in place of its macro.
            within = rf"\1 >= {block.start_utc_ns} AND \1 <= {block.end_utc_ns}"
            statement = re.sub(r"\$__unixEpochNanoFilter\(([\w.]+)\)", within, target["rawSql"])
            assert "$" not in statement
            rows = connection.execute(text(statement)).mappings().all()
            answers[title] = [{name: row[name] for name in row if name != "time"} for row in rows]
            assert all(row["time"].timestamp() > 1.79e9 for row in rows)
    grafana.dispose()
    assert answers == {
        "Surface temperature by part, hottest of each minute": [{"metric": "animal 1 head", "celsius": 35.0}],
        "Share of planned seconds captured, by hour": [{"captured": Decimal("0.6")}],
        "Missing seconds by reason": [{"metric": "service_down", "seconds": 4}],
        "Maintenance": [
            {"timeend": datetime.fromtimestamp(block.end_utc_ns / NS_PER_S, UTC), "text": "cage change, by Ana"}
        ],
        "Events": [
            {
                "severity": "notice",
                "kind": "maintenance",
                "state": "opened",
                "animal": None,
                "data_json": begin.data_json(),
            },
            {
                "severity": "alert",
                "kind": "animal_too_hot",
                "state": "opened",
                "animal": 1,
                "data_json": '{"p95_celsius":39.4,"reason":"\\u00fc"}',
            },
        ],
    }


def test_who_waits_too_long_for_another_writer_is_told_so_and_may_try_again(
    url: str, store: Store, begin_run: BeginRun, observation: MakeObservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, camera_id = begin_run(store)
    other = Database(make_url(url))
    try:
        with other.writing("take long"):
            monkeypatch.setattr("daemon.store.engine._BEGIN_WRITING", engine._BEGIN_WRITING.replace("2000", "50"))  # noqa: SLF001
            with pytest.raises(
                StoreError, match=r"cannot store 1 frames .*: the database is locked by another"
            ) as told:
                store.add([observation(0)], run_id=run_id, camera_id=camera_id)
            assert not isinstance(told.value, StoreRejectedError)
        store.add([observation(0)], run_id=run_id, camera_id=camera_id)
        assert store.counts().frames == 1
    finally:
        other.close()


def test_what_only_the_server_can_mend_is_tried_again(
    postgresql: Server, url: str, store: Store, begin_run: BeginRun, observation: MakeObservation
) -> None:
    run_id, camera_id = begin_run(store)
    change(url, "CREATE ROLE guest LOGIN", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest")
    try:
        guest = url.replace("vivarium@", "guest@")
        with attach_store(guest, outbox_limit=100) as reader:
            assert reader.counts().frames == 0
            with pytest.raises(StoreError, match="permission denied") as told:
                reader.add([observation(0)], run_id=run_id, camera_id=camera_id)
            assert not isinstance(told.value, StoreRejectedError)
        found = look_at(make_url(guest), count_rows=True)
        assert found.why_not_written == "guest may not change its tables"
        assert found.rows["run"] == 1
        assert "fsync" in found.not_durable, "of the tests' own server"
    finally:
        change(url, "DROP OWNED BY guest", "DROP ROLE guest")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_server_that_cannot_keep_every_text_is_refused(postgresql: Server, encoding: str) -> None:
    options = f"TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
    with (
        postgresql.database(tables=False, options=options) as other,
        pytest.raises(StoreError, match=f"encoding UTF8, database_.* has {encoding}: make another one"),
        open_store(other, outbox_limit=1),
    ):
        pass


def test_options_in_the_url_hold_for_reader_and_writer(
    url: str, begin_run: BeginRun, observation: MakeObservation
) -> None:
    change(url, "CREATE SCHEMA box")
    with open_store(f"{url}?options=-csearch_path%3Dbox", outbox_limit=100) as store:
        run_id, camera_id = begin_run(store)
        store.add([observation(0)], run_id=run_id, camera_id=camera_id)
        assert store.counts().frames == 1
    assert rows_of(url, "SELECT count(*) FROM box.frame") == [(1,)]


def test_defaults_of_the_server_do_not_count(url: str, begin_run: BeginRun, observation: MakeObservation) -> None:
    name = make_url(url).database
    change(url, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    change(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with open_store(url, outbox_limit=100) as store, open_store(url, outbox_limit=100) as other:
        run_id, camera_id = begin_run(store)
        for second in range(3):
            for one in (store, other):
                one.add([observation(second)], run_id=run_id, camera_id=camera_id, events=[fever(second)])
        assert [each.seq for each in store.events_after(0, limit=10)] == [1, 2, 3, 4, 5, 6]
