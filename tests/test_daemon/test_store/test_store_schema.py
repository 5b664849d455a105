"""Tables, their constraints, and the way from an older schema to the newest."""

import logging
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, make_url

from daemon.events import EventState
from daemon.store.engine import Database
from daemon.store.repository import Coverage, RecordingState, Store, open_store
from daemon.store.schema import CALIBRATION_VALUES, metadata
from daemon.store.upgrade import MIGRATIONS, head_revision, upgrade
from drivers.clock import NS_PER_S
from drivers.errors import ConfigError, StoreError
from tests.databases import change

NOW_UTC_NS = 1_795_000_000_000_000_000
STAMP = "20261118T110640Z"


def schema_of(path: Path) -> dict[str, str]:
    """The SQL of all tables and indexes, each line alone, in any order of lines.

    Columns that were added to a table stand in one line with the last one before them.
    """
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {
        name: "\n".join(
            sorted(line.strip().rstrip(",") for line in re.sub(r"(?m), (?=(\w+ [A-Z]+, *)+$)", "\n", sql).splitlines())
        )
        for name, sql in rows
        if name != "alembic_version"
    }


def test_revisions_lead_to_the_schema_of_the_program(store: Store, database_path: Path, tmp_path: Path) -> None:
    direct = tmp_path / "direct.db"
    engine = create_engine(f"sqlite:///{direct}")
    metadata.create_all(engine)
    engine.dispose()
    assert schema_of(database_path) == schema_of(direct)


def test_alembic_sees_nothing_left_to_migrate(store: Store, url: str) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_opening_again_keeps_the_data_and_makes_no_copy(
    url: str, database_path: Path, begin_run: Callable[[Store], tuple[int, int]]
) -> None:
    with open_store(url, outbox_limit=100) as store:
        run_id, _ = begin_run(store)
    with open_store(url, outbox_limit=100) as store:
        assert begin_run(store)[0] == run_id + 1
        assert store.set_aside is None
        assert store.copy is None
    assert [path.name for path in database_path.parent.iterdir()] == [database_path.name]


def test_directory_of_the_database_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep 100%" / "vivarium.db"
    with open_store(f"sqlite:///{path}", outbox_limit=100):
        assert path.exists()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A plain connection to a database in which run, camera, calibration, block and frame 1 exist."""
    path = tmp_path_factory.mktemp("filled") / "vivarium.db"
    with open_store(f"sqlite:///{path}", outbox_limit=100):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        for table, values in (
            ("run", "1, '0.1.0', 'abc', '{}', 'classical', '{}', 'box', 'boot', 0, NULL, NULL"),
            ("camera", "1, 'simulated', 'T2S+', 'S1', '1.0', 'seed 1', 'v1', 25.0"),
            ("calibration", f"1, 1, 6000, {', '.join(['0.5'] * 13)}"),
            ("block", "1, 1, 'k', 'night', '2026-11-18', 0, 10, 1, 10, 'open', NULL, NULL, 0, NULL"),
            ("frame", "1, 1, 1, 1, 0, 0, 0, 0, 30.0, 30.0, NULL, NULL, NULL"),
        ):
            connection.execute(f"INSERT INTO {table} VALUES ({values})")
        yield connection


@pytest.fixture
def rows(filled: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """The same, as if nobody had written to it."""
    filled.execute("BEGIN")
    yield filled
    filled.execute("ROLLBACK")


PART_COLUMNS = (
    "frame_id, subject, part, x_px, y_px, x_mm, y_mm, area_px, area_mm2, valid_px, "
    "mean_celsius, median_celsius, p95_celsius, min_celsius, max_celsius"
)
IDENTITY_COLUMNS = "frame_id, track, animal, probability, candidates, group_size, group_area_px"
SAMPLE_COLUMNS = "block_id, planned_utc_ns, frame_id, missing_reason"
BLOCK_COLUMNS = (
    "run_id, key, stratum, day, start_utc_ns, end_utc_ns, period_ns, expected, state, captured, missing, "
    "opened_utc_ns, finished_utc_ns"
)
FRAME_COLUMNS = (
    "run_id, camera_id, calibration_id, sequence, captured_utc_ns, captured_monotonic_ns, flags, fpa_celsius, "
    "shutter_celsius"
)
EVENT_COLUMNS = "event_id, run_id, kind, state, severity, at_utc_ns, data_json, opened_event_id"
CAMERA_COLUMNS = "kind, product, serial, firmware, location, variant, frame_rate_hz"
RUN_COLUMNS = "version, config_hash, config_json, segmenter, models_json, host, boot_id, started_utc_ns, end_reason"
FIGURES = "30.0, 30.0, 31.0, 29.0, 32.0"

GOOD_ROWS = [
    ("part_observation", PART_COLUMNS, f"1, 1, 1, 2.0, 3.0, NULL, NULL, 10, NULL, 9, {FIGURES}"),
    ("part_observation", PART_COLUMNS, "1, 1, 1, 2.0, 3.0, 1.0, 1.0, 10, 5.0, 0, NULL, NULL, NULL, NULL, NULL"),
    ("identity_observation", IDENTITY_COLUMNS, "1, 1, 1, 0.99, '', NULL, NULL"),
    ("identity_observation", IDENTITY_COLUMNS, "1, 1, NULL, 0.5, '1,2', NULL, NULL"),
    ("identity_observation", IDENTITY_COLUMNS, "1, 1, NULL, NULL, '1,2', 2, 900"),
    ("planned_sample", SAMPLE_COLUMNS, "1, 0, 1, NULL"),
    ("planned_sample", SAMPLE_COLUMNS, "1, 0, NULL, 'camera_lost'"),
    ("block", BLOCK_COLUMNS, "1, 'j', 'night', '2026-11-18', 0, 10, 1, 10, 'finished', 4, 6, 0, 11"),
    ("frame", FRAME_COLUMNS, "1, 1, 1, 0, 0, 0, 0, 30.0, 30.0"),
    ("event", EVENT_COLUMNS, "'e', 1, 'camera_lost', 'opened', 'alert', 0, '{}', NULL"),
    ("recording", "block_id, path, frames, size_bytes, state", "1, 'a.part.mkv', 1, 1, 'unfinished'"),
    ("gap", "run_id, start_utc_ns, end_utc_ns, end_run_id, reason", "1, 5, 3, 1, 'clock set back'"),
]

BAD_ROWS = [
    ("part_observation", PART_COLUMNS, f"1, 1, 4, 2.0, 3.0, NULL, NULL, 10, NULL, 9, {FIGURES}", "ck.*_part"),
    ("part_observation", PART_COLUMNS, f"1, 0, 1, 2.0, 3.0, NULL, NULL, 10, NULL, 9, {FIGURES}", "subject"),
    ("part_observation", PART_COLUMNS, f"1, 1, 1, 2.0, 3.0, NULL, NULL, -1, NULL, 0, {FIGURES}", "CHECK"),
    ("part_observation", PART_COLUMNS, f"1, 1, 1, 2.0, 3.0, NULL, NULL, 10, -1.0, 9, {FIGURES}", "area_mm2"),
    ("part_observation", PART_COLUMNS, f"1, 1, 1, 2.0, 3.0, NULL, NULL, 10, NULL, 11, {FIGURES}", "valid_px"),
    ("part_observation", PART_COLUMNS, f"1, 1, 1, 2.0, 3.0, 1.0, NULL, 10, NULL, 9, {FIGURES}", "mm"),
    ("part_observation", PART_COLUMNS, f"1, 1, 1, 2.0, 3.0, NULL, NULL, 10, NULL, 0, {FIGURES}", "figures"),
    (
        "part_observation",
        PART_COLUMNS,
        "1, 1, 1, 2.0, 3.0, NULL, NULL, 10, NULL, 9, 30.0, NULL, 31.0, 29.0, 32.0",
        "figures",
    ),
    (
        "part_observation",
        PART_COLUMNS,
        "1, 1, 1, 2.0, 3.0, NULL, NULL, 10, NULL, 9, 30.0, 30.0, 31.0, 33.0, 32.0",
        "range",
    ),
    ("part_observation", PART_COLUMNS, f"1, 1, 1, NULL, 3.0, NULL, NULL, 10, NULL, 9, {FIGURES}", "NOT NULL.*x_px"),
    ("part_observation", PART_COLUMNS, f"9, 1, 1, 2.0, 3.0, NULL, NULL, 10, NULL, 9, {FIGURES}", "FOREIGN KEY"),
    ("identity_observation", IDENTITY_COLUMNS, "1, 1, 1, 1.01, '', NULL, NULL", "probability"),
    ("identity_observation", IDENTITY_COLUMNS, "1, 1, 1, 0.5, '1,2', NULL, NULL", "known"),
    ("identity_observation", IDENTITY_COLUMNS, "1, 1, 1, 0.5, '', 2, 900", "known"),
    ("identity_observation", IDENTITY_COLUMNS, "1, 1, NULL, NULL, '1,2', 2, NULL", "group"),
    ("planned_sample", SAMPLE_COLUMNS, "1, 0, 1, 'camera_lost'", "captured_xor_missing"),
    ("planned_sample", SAMPLE_COLUMNS, "1, 0, NULL, NULL", "captured_xor_missing"),
    ("planned_sample", SAMPLE_COLUMNS, "1, 0, NULL, ''", "reason"),
    ("planned_sample", SAMPLE_COLUMNS, "2, 0, NULL, 'camera_lost'", "FOREIGN KEY"),
    ("block", BLOCK_COLUMNS, "1, 'k', 'n', 'd', 0, 10, 1, 10, 'open', NULL, NULL, 0, NULL", "UNIQUE.*key"),
    ("block", BLOCK_COLUMNS, "1, 'j', 'n', 'd', 0, 10, 1, 10, 'closed', 4, 6, 0, 11", "state"),
    ("block", BLOCK_COLUMNS, "1, 'j', 'n', 'd', 0, 10, 1, 10, 'finished', 4, 5, 0, 11", "accounted"),
    ("block", BLOCK_COLUMNS, "1, 'j', 'n', 'd', 0, 10, 1, 10, 'open', 4, 6, 0, NULL", "accounted"),
    ("block", BLOCK_COLUMNS, "1, 'j', 'n', 'd', 0, 10, 1, 10, 'missed', 4, 6, 0, 11", "missed"),
    ("block", BLOCK_COLUMNS, "1, 'j', 'n', 'd', 10, 10, 1, 10, 'open', NULL, NULL, 0, NULL", "end"),
    ("frame", FRAME_COLUMNS, "1, 2, 1, 0, 0, 0, 0, 30.0, 30.0", "FOREIGN KEY"),
    ("frame", FRAME_COLUMNS, "1, 1, 1, 0, 0, 0, -1, 30.0, 30.0", "flags"),
    ("frame", FRAME_COLUMNS, "1, 1, 1, 0, 'yesterday', 0, 0, 30.0, 30.0", "TEXT value in INTEGER"),
    ("event", EVENT_COLUMNS, "'e', 1, 'camera_lost', 'begun', 'alert', 0, '{}', NULL", "state"),
    ("event", EVENT_COLUMNS, "'e', 1, 'camera_lost', 'opened', 'panic', 0, '{}', NULL", "severity"),
    ("event", EVENT_COLUMNS, "'e', 1, 'camera_lost', 'opened', 'alert', 0, '{}', 'd'", "closed"),
    ("recording", "block_id, path, sha256, frames, size_bytes, state", "1, 'a', 'x', 1, 1, 'complete'", "sha256"),
    ("recording", "block_id, path, frames, size_bytes, state", "1, 'a', 1, 1, 'complete'", "unfinished"),
    ("camera", CAMERA_COLUMNS, "'', '', '', '', '', 'v3', 25.0", "variant"),
    ("counter", "name, value", "'frames', -1", "value"),
    ("run", RUN_COLUMNS, "'', '', '', '', '', '', '', 0, 'stopped'", "end"),
    ("gap", "run_id, start_utc_ns, end_utc_ns, reason", "1, 0, 1, 'camera_lost'", "end"),
]


@pytest.mark.parametrize(("table", "columns", "values"), GOOD_ROWS)
def test_a_row_that_makes_sense_is_taken(rows: sqlite3.Connection, table: str, columns: str, values: str) -> None:
    assert rows.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})").rowcount == 1


@pytest.mark.parametrize(("table", "columns", "values", "constraint"), BAD_ROWS)
def test_a_row_that_contradicts_itself_is_refused(
    rows: sqlite3.Connection, table: str, columns: str, values: str, constraint: str
) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=constraint):
        rows.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})")


def test_a_part_of_an_animal_occurs_once_in_a_frame(rows: sqlite3.Connection) -> None:
    table, columns, values = GOOD_ROWS[0]
    statement = f"INSERT INTO {table} ({columns}) VALUES ({values})"
    rows.execute(statement)
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        rows.execute(statement)


def test_a_numpy_integer_is_refused_rather_than_stored_as_bytes(rows: sqlite3.Connection) -> None:
    statement = f"INSERT INTO frame ({FRAME_COLUMNS}) VALUES (1, 1, 1, ?, 0, 0, 0, 30.0, 30.0)"
    with pytest.raises(sqlite3.IntegrityError, match="BLOB value in INTEGER"):
        rows.execute(statement, (np.int64(5),))


@pytest.fixture
def database(store: Store, url: str, database_path: Path) -> Iterator[Database]:
    """Connections like those of the store."""
    database = Database(make_url(url))
    yield database
    database.close()


@pytest.mark.parametrize(
    ("pragma", "expected"), [("synchronous", 2), ("journal_mode", "wal"), ("foreign_keys", 1), ("query_only", 0)]
)
def test_the_writer_waits_for_the_disk_and_watches_references(
    database: Database, pragma: str, expected: int | str
) -> None:
    with database.writing("look at a setting") as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == expected


def test_readers_cannot_write(database: Database) -> None:
    with (
        pytest.raises(StoreError, match="cannot write by mistake: attempt to write a readonly database"),
        database.reading("write by mistake") as connection,
    ):
        connection.exec_driver_sql("DELETE FROM run")


@pytest.fixture
def newer_migrations(tmp_path: Path) -> Path:
    """The revisions of this program and one more, which adds a column."""
    location = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, location, ignore=shutil.ignore_patterns("__pycache__"))
    (location / "versions" / "r9999_note.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        f"revision, down_revision = '9999', '{head_revision()}'\n"
        "def upgrade():\n"
        "    with op.batch_alter_table('run') as batch:\n"
        "        batch.add_column(sa.Column('note', sa.Text()))\n"
        "        batch.alter_column('host', nullable=True)\n"
    )
    return location


@pytest.fixture
def old_database(url: str, database_path: Path, begin_run: Callable[[Store], tuple[int, int]]) -> Path:
    """A database with a run and a camera, closed."""
    with open_store(url, outbox_limit=100) as store:
        begin_run(store)
    return database_path


def rows_of(path: Path, statement: str) -> list[tuple[object, ...]]:
    """What a plain connection reads."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def test_an_older_database_is_copied_and_then_upgraded(
    old_database: Path, url: str, newer_migrations: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = schema_of(old_database)
    copy = upgrade(make_url(url), utc_ns=NOW_UTC_NS, location=newer_migrations)
    assert copy == old_database.with_name(f"vivarium.db.before-9999-{STAMP}")
    assert rows_of(old_database, "SELECT id, host, note FROM run") == [(1, "box", None)]
    assert schema_of(copy) == before
    assert rows_of(copy, "SELECT id, host FROM run") == [(1, "box")]
    assert str(copy) in caplog.text
    assert upgrade(make_url(url), utc_ns=NOW_UTC_NS, location=newer_migrations) is None


def from_revision(number: int) -> list[str]:
    """Names of the revisions from this one on."""
    found = sorted(path.name for path in (MIGRATIONS / "versions").glob("r*.py"))
    return [name for name in found if int(name[1:5]) >= number]


def test_events_of_an_older_database_are_kept_and_may_be_acknowledged(
    url: str, database_path: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    shutil.copytree(MIGRATIONS, older, ignore=shutil.ignore_patterns("__pycache__", *from_revision(6)))
    upgrade(make_url(url), utc_ns=NOW_UTC_NS, location=older)
    columns = f"id, {EVENT_COLUMNS}"
    with closing(sqlite3.connect(database_path, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO run VALUES (1, '0.1.0', 'abc', '{}', 'unet-1', '{}', 'box', 'boot', 0, NULL, NULL)"
        )
        opened = "7, 'e1', 1, 'animal_too_hot', 'opened', 'alert', 5, '{}', NULL"
        connection.execute(f"INSERT INTO event ({columns}) VALUES ({opened})")
    upgrade(make_url(url), utc_ns=NOW_UTC_NS)
    with closing(sqlite3.connect(database_path, isolation_level=None)) as connection:
        acknowledged = "8, 'e2', 1, 'animal_too_hot', 'acknowledged', 'alert', 6, '{}', 'e1'"
        connection.execute(f"INSERT INTO event ({columns}) VALUES ({acknowledged})")
    assert rows_of(database_path, "SELECT id, state, opened_event_id FROM event") == [
        (7, "opened", None),
        (8, "acknowledged", "e1"),
    ]
    with open_store(url, outbox_limit=100) as store:
        assert [event.event_id for event in store.open_events()] == ["e1"]


def test_parts_and_shapes_of_an_older_database_are_still_read(url: str, database_path: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(MIGRATIONS, older, ignore=shutil.ignore_patterns("__pycache__", *from_revision(6)))
    upgrade(make_url(url), utc_ns=NOW_UTC_NS, location=older)
    with closing(sqlite3.connect(database_path, isolation_level=None)) as connection:
        for table, values in (
            ("run", "1, '0.1.0', 'abc', '{}', 'classical', '{}', 'box', 'boot', 0, NULL, NULL"),
            ("camera", "1, 'simulated', 'T2S+', 'S1', '1.0', 'seed 1', 'v1', 25.0"),
            ("calibration", f"1, 1, 6000, {', '.join(['0.5'] * 13)}"),
            ("block", "1, 1, 'k', 'night', '2026-11-18', 0, 10, 1, 10, 'open', NULL, NULL, 0, NULL"),
            ("frame", "1, 1, 1, 1, 0, 0, 0, 0, 30.0, 30.0, NULL, NULL, NULL"),
            ("planned_sample", "1, 0, 1, NULL"),
            ("part_observation", "1, 2, 1, 2.0, 3.0, NULL, NULL, 10, NULL, 9, 30.0, 30.0, 31.0, 29.0, 32.0"),
            ("shape_observation", "1, 2, 4.0, 5.0, 60.0, 0.25, 7, NULL, NULL"),
        ):
            connection.execute(f"INSERT INTO {table} VALUES ({values})")
    with open_store(url, outbox_limit=100) as store:
        ((animal,),) = (each.animals for each in store.block_observations("k"))
    assert (animal.animal, animal.track, animal.probability, animal.candidates) == (2, None, None, ())
    assert (animal.parts[0].x_px, animal.parts[0].max_celsius, animal.parts[0].outline_px) == (2.0, 32.0, 7)
    assert animal.posture is not None
    assert animal.posture.length_px == 60


ROWS = {
    1: (
        (
            "run (version, config_hash, config_json, segmenter, models_json, host, boot_id, started_utc_ns)",
            "'0.1.0', 'abc', '{}', 'classical', '{}', 'box', 'boot', 0",
        ),
        (
            "camera (kind, product, serial, firmware, location, variant, frame_rate_hz)",
            "'simulated', 'T2S+', 'S1', '1.0', 'seed 1', 'v1', 25.0",
        ),
        (f"calibration ({', '.join(CALIBRATION_VALUES)})", f"1, 27.0, 31.5, 6000, {', '.join(['0.5'] * 11)}"),
        (
            "block (run_id, key, stratum, day, start_utc_ns, end_utc_ns, period_ns, expected, state, opened_utc_ns)",
            "1, 'k', 'night', '2026-11-18', 0, 10, 5, 2, 'open', 0",
        ),
        (
            "frame (run_id, camera_id, calibration_id, sequence, captured_utc_ns, captured_monotonic_ns, flags,"
            " fpa_celsius, shutter_celsius)",
            "1, 1, 1, 0, 1, 0, 0, 30.0, 30.0",
        ),
        ("planned_sample", "1, 0, 1, NULL"),
        ("planned_sample", "1, 5, NULL, 'no_frame'"),
        ("part_observation", "1, 2, 1, 2.0, 3.0, NULL, NULL, 10, NULL, 9, 30.0, 30.0, 31.0, 29.0, 32.0"),
        (f"event (id, {EVENT_COLUMNS})", "1, 'e1', 1, 'animal_too_hot', 'opened', 'alert', 5, '{}', NULL"),
        ("outbox (topic, payload, priority, created_utc_ns)", "'a', CAST('{}' AS BYTES), 3, 4"),
        ("recording (block_id, path, sha256, frames, size_bytes, state)", f"1, 'a', '{'a' * 64}', 8, 9, 'complete'"),
        ("gap (run_id, start_utc_ns, reason)", "1, 7, 'camera_lost'"),
        ("counter", "'frames', 1"),
    ),
    4: (
        ("minute_value", "60000000000, 2, 'body_mean_celsius', 1, 31.5, NULL, 0.5, 30"),
        ("shape_observation", "1, 2, 4.0, 5.0, 60.0, 0.25, 7, NULL, NULL"),
        ("scene_observation", "1, 33.0, NULL, NULL"),
    ),
    5: (
        ("maintenance", "'m1', 'dosing', 100, 200, 'Ana', ''"),
        (f"event (id, {EVENT_COLUMNS})", "2, 'e2', 1, 'animal_too_hot', 'acknowledged', 'alert', 6, '{}', 'e1'"),
    ),
    6: (("identity_observation", "1, 2, 2, 0.9, '', NULL, NULL, NULL, NULL"),),
}
"""What is stored in a database of a revision, beside what is there already."""


def test_rows_of_every_revision_are_brought_to_the_newest(bare_url: str, tmp_path: Path) -> None:
    as_bytes = "BLOB" if bare_url.startswith("sqlite") else "BYTEA"
    for number, rows in ROWS.items():
        older = tmp_path / f"revision-{number}"
        shutil.copytree(MIGRATIONS, older, ignore=shutil.ignore_patterns("__pycache__", *from_revision(number + 1)))
        upgrade(make_url(bare_url), utc_ns=NOW_UTC_NS + number * NS_PER_S, location=older)
        values = (f"INSERT INTO {table} VALUES ({values})".replace("BYTES", as_bytes) for table, values in rows)
        change(bare_url, *values)
    with open_store(bare_url, outbox_limit=100) as store:
        [found] = store.block_observations("k")
        (animal,) = found.animals
        assert (animal.animal, animal.track, animal.probability, animal.correction) == (2, 2, 0.9, None)
        assert (animal.parts[0].max_celsius, animal.parts[0].outline_px, found.nest_celsius) == (32.0, 7, 33.0)
        assert animal.posture is not None
        assert store.coverage("k") == Coverage(expected=2, captured=1, missing_by_reason={"no_frame": 1})
        assert [(each.event_id, each.state) for each in store.recent_events(9)] == [
            ("e2", EventState.ACKNOWLEDGED),
            ("e1", EventState.OPENED),
        ]
        assert [(each.state, each.freed_utc_ns) for each in store.all_recordings()] == [(RecordingState.COMPLETE, None)]
        assert [(each.topic, each.payload) for each in store.queued_messages(after_id=0, limit=9)] == [("a", b"{}")]
        assert [each.reason for each in store.gaps(open_only=True)] == ["camera_lost"]
        assert [each.by for each in store.maintenance_between(0, 1000)] == ["Ana"]
        [value] = store.minute_values(since_utc_ns=0, until_utc_ns=10**12)
        assert (value.animal, value.value, value.samples) == (2, 31.5, 30)
        assert store.counts().frames == 1
        with store.correction_rows() as rows_of_corrections:
            assert [each.said.animal for each in rows_of_corrections.identities(0, 9)] == [2]
    engine = create_engine(bare_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_what_measured_the_frames_of_an_older_database_is_not_known(
    url: str, database_path: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    shutil.copytree(MIGRATIONS, older, ignore=shutil.ignore_patterns("__pycache__", *from_revision(3)))
    upgrade(make_url(url), utc_ns=NOW_UTC_NS, location=older)
    with closing(sqlite3.connect(database_path, isolation_level=None)) as connection:
        for table, values in (
            ("run", "1, '0.1.0', 'abc', '{}', 'unet-1', '{}', 'box', 'boot', 0, NULL, NULL"),
            ("camera", "1, 'simulated', 'T2S+', 'S1', '1.0', 'seed 1', 'v1', 25.0"),
            ("calibration", f"1, 1, 6000, {', '.join(['0.5'] * 13)}"),
            ("frame", "1, 1, 1, 1, 0, 0, 0, 0, 30.0, 30.0, NULL, NULL"),
        ):
            connection.execute(f"INSERT INTO {table} VALUES ({values})")
    assert upgrade(make_url(url), utc_ns=NOW_UTC_NS) is not None
    assert rows_of(database_path, "SELECT id, run_id, segmenter FROM frame") == [(1, 1, None)]


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    old_database: Path, url: str, newer_migrations: Path
) -> None:
    revision = newer_migrations / "versions" / "r9999_note.py"
    revision.write_text(revision.read_text() + "    op.execute('INSERT INTO absent VALUES (1)')\n")
    before = schema_of(old_database)
    with pytest.raises(StoreError, match=r"cannot bring the database .* up to date: no such table: absent"):
        upgrade(make_url(url), utc_ns=NOW_UTC_NS, location=newer_migrations)
    assert schema_of(old_database) == before
    assert rows_of(old_database, "SELECT version_num FROM alembic_version") == [(head_revision(),)]


def test_an_upgrade_that_leaves_dangling_references_is_undone(
    old_database: Path, url: str, newer_migrations: Path
) -> None:
    revision = newer_migrations / "versions" / "r9999_note.py"
    revision.write_text(
        revision.read_text()
        + "    op.execute(\"INSERT INTO gap (run_id, start_utc_ns, reason) VALUES (77, 0, 'x')\")\n"
    )
    with pytest.raises(StoreError, match="1 rows that refer to nothing"):
        upgrade(make_url(url), utc_ns=NOW_UTC_NS, location=newer_migrations)
    assert rows_of(old_database, "SELECT version_num FROM alembic_version") == [(head_revision(),)]


def test_a_database_of_a_newer_program_is_refused_and_not_touched(
    old_database: Path, url: str, newer_migrations: Path
) -> None:
    upgrade(make_url(url), utc_ns=NOW_UTC_NS, location=newer_migrations)
    message = r"has revision 9999, this program knows .* install the newer version again"
    with pytest.raises(StoreError, match=message), open_store(url, outbox_limit=100):
        pass
    assert rows_of(old_database, "SELECT version_num FROM alembic_version") == [("9999",)]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("sqlite://", "the path of a file", id="in memory"),
        pytest.param("sqlite:///:memory:", "the path of a file", id="in memory by name"),
        pytest.param("vivarium.db", "expected for instance sqlite:///", id="a bare path"),
        pytest.param("sqlite+nothing:////tmp/x.db", "no driver", id="unknown driver"),
        pytest.param("mysql://rat@db/box", "expected sqlite.* got one that begins with mysql://", id="another kind"),
        pytest.param("postgresql://db/box?password=x", "expected the password as in", id="a password that is shown"),
    ],
)
def test_a_url_that_leads_nowhere_is_a_mistake_in_the_config(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message), open_store(url, outbox_limit=100):
        pass
