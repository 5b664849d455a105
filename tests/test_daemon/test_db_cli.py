"""`vivarium db` as an administrator and the package's scripts meet it."""

import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from daemon import db_cli
from daemon.cli import main
from daemon.lock import DataDirectoryLock
from daemon.store.backup import checksum_file, copies, read_contents, verify
from daemon.store.repository import open_store
from daemon.store.upgrade import MIGRATIONS, head_revision, upgrade
from tests.databases import Server

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config file whose database does not exist yet."""
    path = tmp_path / "config.toml"
    path.write_text('[box]\ndata_dir = "data"\n')
    (tmp_path / "data").mkdir()
    return path


@pytest.fixture
def database(config: Path) -> Path:
    """The database of the config, made."""
    path = config.parent / "data" / "vivarium.db"
    with open_store(f"sqlite:///{path}", outbox_limit=100) as store:
        store.start_run(
            version="0.1.0",
            config_hash="abc",
            config_json="{}",
            segmenter="classical",
            host="box",
            boot_id="boot",
            started_utc_ns=0,
        )
    return path


@pytest.fixture
def db(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `vivarium db` with that config: exit code, standard output and standard error."""
    monkeypatch.chdir(config.parent)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vivarium", "db", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def newer_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command as a later version has it, with one more revision of the schema: the file of that revision."""
    location = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, location, ignore=shutil.ignore_patterns("__pycache__"))
    revision = location / "versions" / "r9999_note.py"
    revision.write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        f"revision, down_revision = '9999', '{head_revision()}'\n"
        "def upgrade():\n"
        "    op.add_column('run', sa.Column('note', sa.Text()))\n"
    )
    monkeypatch.setattr(db_cli, "upgrade", partial(upgrade, location=location))
    monkeypatch.setattr(db_cli, "head_revision", partial(head_revision, location))
    return revision


def test_info_prints_revision_rows_and_copies(db: Run, database: Path) -> None:
    db("backup", "--label", "weekly")
    code, out, _ = db("info")
    assert code == 0
    assert re.search(rf"database +{re.escape(str(database))} *\n", out)
    assert re.search(rf"revision +{head_revision()}, up to date *\n", out)
    assert re.search(r"rows of run +1 *\n", out)
    assert re.search(rf"copy +{re.escape(str(database))}\.weekly-\w+, [\d,]+ bytes", out)
    assert sorted(path.name for path in database.parent.glob("vivarium.db-*")) == []


def test_info_of_a_box_that_has_never_run(db: Run) -> None:
    code, out, _ = db("info")
    assert (code, "not made yet, the service makes it" in out) == (0, True)


def test_a_backup_is_made_while_the_service_holds_the_data_directory(db: Run, database: Path, tmp_path: Path) -> None:
    with DataDirectoryLock(database.parent), open_store(f"sqlite:///{database}", outbox_limit=100):
        code, out, _ = db("backup", "--output", str(tmp_path / "copy.db"))
    assert code == 0
    verdict = verify(tmp_path / "copy.db")
    assert (verdict.problems, verdict.recorded) == ((), True)
    assert f"SHA-256 {verdict.sha256}\n" in out


def test_a_backup_of_nothing_is_refused(db: Run) -> None:
    code, _, err = db("backup")
    assert (code, "there is no database in" in err) == (2, True)


def test_a_database_on_a_server_is_left_to_the_servers_tools(db: Run, config: Path) -> None:
    config.write_text('[database]\nurl = "postgresql+psycopg://rat:secret@db/vivarium"\n')
    code, _, err = db("backup")
    assert code == 2
    assert "postgresql+psycopg://rat:***@db/vivarium is on a server: copy it with the server's own tools" in err


def test_a_database_on_a_server_is_made_and_looked_at(db: Run, config: Path, postgresql: Server) -> None:
    with postgresql.database(tables=False) as url:
        config.write_text(f'[box]\ndata_dir = "data"\n[database]\nurl = "{url}"\n')
        assert "none; this program works with" in db("info")[1]
        assert "was brought from revision none to" in db("migrate")[1]
        assert "up to date" in db("migrate")[1]
        code, out, _ = db("info")
        assert code == 0
        assert re.search(r"server +PostgreSQL \d+\.\d+\s+size +[\d,]+ bytes", out)
        assert re.search(r"rows of minute_before +0\s", out)
        code, _, err = db("verify")
    assert code == 2
    assert "is on a server: check it with the server's own tools (pg_amcheck)" in err


def test_verify_tells_a_good_copy_from_a_changed_one(db: Run, database: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    db("backup", "-o", str(copy))
    code, out, _ = db("verify", str(copy))
    assert (code, out.endswith("the copy is good\n")) == (0, True)
    changed = bytearray(copy.read_bytes())
    changed[-10] ^= 1
    copy.write_bytes(changed)
    code, out, _ = db("verify", str(copy))
    assert code == 1
    assert "it is not the file that was copied" in out
    assert "the copy is good" not in out
    checksum_file(copy).unlink()
    code, out, _ = db("verify", str(copy))
    assert f"no {copy.name}.sha256 beside it to compare with" in out or code == 1


def test_verify_without_a_copy_checks_the_database_itself_also_beside_the_service(db: Run, database: Path) -> None:
    with open_store(f"sqlite:///{database}", outbox_limit=100):
        assert db("verify") == (0, f"{database}: the database is good\n", "")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(
            "INSERT INTO frame (run_id, camera_id, calibration_id, sequence, captured_utc_ns, captured_monotonic_ns,"
            " flags, fpa_celsius, shutter_celsius) VALUES (1, 99, 99, 0, 0, 0, 0, 30.0, 30.0)"
        )
    code, out, _ = db("verify")
    assert code == 1
    assert "wrong table frame: row 1 refers to a row of camera that is not there\n" in out


def test_verify_of_a_file_that_is_not_there(db: Run) -> None:
    code, _, err = db("verify", "absent.db")
    assert (code, "cannot verify absent.db" in err) == (2, True)


def test_migrate_copies_an_older_database_and_brings_it_up_to_date(
    db: Run, database: Path, newer_program: Path
) -> None:
    before = read_contents(database)
    code, out, _ = db("migrate", "--label", "before-0.2.0")
    assert code == 0
    [copy] = copies(database)
    assert copy.name.startswith("vivarium.db.before-0.2.0-")
    assert f"copy of the database, checked: {copy}\n" in out
    assert f"the database was brought from revision {head_revision()} to 9999" in out
    assert (verify(copy).problems, read_contents(copy)) == ((), before)
    assert read_contents(database).revision == "9999"


def test_a_migration_that_fails_leaves_the_database_and_says_why(db: Run, database: Path, newer_program: Path) -> None:
    newer_program.write_text(newer_program.read_text() + "    op.execute('INSERT INTO absent VALUES (1)')\n")
    before = read_contents(database)
    code, _, err = db("migrate", "--label", "before-0.2.0")
    assert code == 2
    assert "no such table: absent" in err
    assert read_contents(database) == before
    assert copies(database) == []


def test_an_older_database_that_cannot_be_copied_is_not_migrated(
    db: Run, database: Path, newer_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.store.backup._SPARE_BYTES", 1 << 60)
    before = database.read_bytes()
    code, _, err = db("migrate", "--label", "before-0.2.0")
    assert code == 2
    assert re.search(r"must be free in .*; nothing was changed", err)
    assert database.read_bytes() == before


def test_a_database_that_is_up_to_date_needs_no_room_for_a_copy(
    db: Run, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.store.backup._SPARE_BYTES", 1 << 60)
    code, out, _ = db("migrate", "--label", "before-0.2.0")
    assert code == 0
    assert "no copy was made, and none is needed" in out
    assert copies(database) == []


def test_older_copies_of_upgrades_give_way_and_no_others(db: Run, database: Path) -> None:
    db("backup", "--label", "weekly")
    for minor in range(5):
        db("migrate", "--label", f"before-0.{minor}.0", "--keep", "2")
    left = [re.sub(r"-\d{8}T\d{6}Z.*", "", copy.name) for copy in copies(database)]
    assert sorted(left) == ["vivarium.db.before-0.3.0", "vivarium.db.before-0.4.0", "vivarium.db.weekly"]


@pytest.mark.parametrize("label", ["b", "before", "before-0", "b-2"])
def test_a_label_that_others_begin_with_does_not_take_their_copies_along(label: str, db: Run, database: Path) -> None:
    for other in ("before_the_move", "beforehand", "b2", "backup"):
        db("backup", "--label", other)
    others = copies(database)
    for _ in range(2):
        assert db("backup", "--label", label, "--keep", "1")[0] == 0
    assert len(others) == 4
    assert all(other.exists() for other in others)
    assert len(copies(database)) == 5


def test_without_a_label_no_copy_is_removed(db: Run, database: Path, tmp_path: Path) -> None:
    for label in ("weekly", "daily"):
        db("backup", "--label", label)
    before = copies(database)
    code, _, err = db("backup", "--label", "", "--output", str(tmp_path / "away.db"), "--keep", "1")
    assert (code, "a copy cannot be called ''" in err) == (2, True)
    assert copies(database) == before


def test_migrate_keeps_away_from_a_running_service(db: Run, database: Path) -> None:
    with DataDirectoryLock(database.parent):
        code, _, err = db("migrate")
    assert (code, "is in use by another service" in err) == (2, True)


def test_migrate_leaves_a_damaged_database_to_the_service(db: Run, database: Path) -> None:
    database.write_bytes(b"rubbish" * 1000)
    code, out, _ = db("migrate")
    assert code == 0
    assert "the service sets it aside when it starts and begins a new one" in out
    assert database.read_bytes() == b"rubbish" * 1000


def test_migrate_before_the_first_start_makes_nothing(db: Run, config: Path) -> None:
    code, out, _ = db("migrate")
    assert (code, "no database yet" in out) == (0, True)
    assert list((config.parent / "data").iterdir()) == []


def test_migrate_refuses_a_database_of_a_newer_program(db: Run, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    code, _, err = db("migrate")
    assert (code, "install the newer version again" in err) == (2, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave files of its own in another user's directory")
def test_files_that_root_makes_belong_to_the_owner_of_the_database(db: Run, database: Path) -> None:
    for path in (database.parent, database):
        os.chown(path, 12345, 12345)
    db("backup")
    db("migrate")
    assert {path.stat().st_uid for path in database.parent.iterdir()} == {12345}
