"""Copies of the database: made beside a writer, checked, found out when bad, put back after a failed upgrade."""

import errno
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from daemon.store import backup
from daemon.store.backup import (
    checksum_file,
    copies,
    copy_name,
    prune,
    read_contents,
    stored_bytes,
    verified_copy,
    verify,
)
from daemon.store.repository import Store, open_store
from daemon.store.upgrade import MIGRATIONS, head_revision, upgrade
from drivers.clock import NS_PER_S
from drivers.errors import StoreError

NOW_UTC_NS = 1_795_000_000 * NS_PER_S
STAMP = "20261118T110640Z"

BeginRun = Callable[[Store], tuple[int, int]]


@pytest.fixture
def filled(url: str, database_path: Path, begin_run: BeginRun, observation: Callable[..., object]) -> Path:
    """A database with 200 frames, closed."""
    with open_store(url, outbox_limit=100) as store:
        run_id, camera_id = begin_run(store)
        store.add([observation(second) for second in range(200)], run_id=run_id, camera_id=camera_id)  # type: ignore[misc]
    return database_path


@pytest.fixture
def failing_migrations(tmp_path: Path) -> Callable[[str], Path]:
    """Makes the revisions of this program and one more, which adds a column and then does something else."""

    def make(then: str) -> Path:
        location = tmp_path / "migrations"
        shutil.copytree(MIGRATIONS, location, ignore=shutil.ignore_patterns("__pycache__"))
        (location / "versions" / "r9999_note.py").write_text(
            "import os\n"
            "import sqlalchemy as sa\n"
            "from alembic import op\n"
            f"revision, down_revision = '9999', '{head_revision()}'\n"
            "def upgrade():\n"
            "    op.add_column('run', sa.Column('note', sa.Text()))\n"
            f"    {then}\n"
        )
        return location

    return make


def test_a_copy_has_what_the_database_has_and_its_checksum_beside_it(filled: Path) -> None:
    copy = verified_copy(filled, copy_name(filled, "before-0.2.0", NOW_UTC_NS))
    assert copy == filled.with_name(f"vivarium.db.before-0.2.0-{STAMP}")
    assert read_contents(copy) == read_contents(filled)
    assert read_contents(copy).rows["frame"] == 200
    done = subprocess.run(
        ["sha256sum", "-c", checksum_file(copy).name], cwd=copy.parent, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"{copy.name}: OK\n")
    verdict = verify(copy)
    assert (verdict.problems, verdict.recorded) == ((), True)
    assert sorted(path.name for path in copy.parent.iterdir()) == sorted(
        [filled.name, copy.name, checksum_file(copy).name]
    )


def test_a_copy_made_while_frames_are_written_is_one_state_of_the_database(
    url: str, database_path: Path, begin_run: BeginRun, observation: Callable[..., object]
) -> None:
    with open_store(url, outbox_limit=100) as store:
        run_id, camera_id = begin_run(store)
        done, stored = threading.Event(), 0

        def write() -> None:
            nonlocal stored
            while not done.is_set():
                store.add([observation(stored)], run_id=run_id, camera_id=camera_id)  # type: ignore[list-item]
                stored += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            made = [verified_copy(database_path, database_path.with_name(f"copy{k}.db")) for k in range(20)]
        finally:
            done.set()
            writer.join()
        frames = [read_contents(copy).rows["frame"] for copy in made]
        print(f"20 copies beside a writer of {stored} frames: {frames[0]} to {frames[-1]} frames in them")  # noqa: T201
        assert [verify(copy).problems for copy in made] == [()] * 20
        assert frames == sorted(frames)
        assert 0 < frames[-1] <= stored
        for copy in made:
            found = read_contents(copy).rows
            assert found["part_observation"] == found["frame"]  # one part a frame, in one transaction


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda good: good[:9000] + b"?" + good[9001:], "it is not the file that was copied", id="a byte"),
        pytest.param(lambda good: good[: len(good) // 2], "not the file that was copied", id="half of it"),
        pytest.param(lambda good: b"", "not the file that was copied", id="nothing"),
        pytest.param(lambda good: b"rubbish" * 1000, "file is not a database", id="rubbish"),
    ],
)
def test_a_copy_that_has_changed_is_found_out(
    damage: Callable[[bytes], bytes], message: str, filled: Path, tmp_path: Path
) -> None:
    copy = verified_copy(filled, tmp_path / "copy.db")
    copy.write_bytes(damage(copy.read_bytes()))
    assert any(message in problem for problem in verify(copy).problems)


def test_a_copy_without_its_checksum_is_still_looked_through(filled: Path, tmp_path: Path) -> None:
    copy = verified_copy(filled, tmp_path / "copy.db")
    checksum_file(copy).unlink()
    assert (verify(copy).problems, verify(copy).recorded) == ((), False)
    damaged = bytearray(copy.read_bytes())
    damaged[8192:12288] = b"?" * 4096
    copy.write_bytes(damaged)
    assert verify(copy).problems != ()


def test_a_copy_with_a_row_that_refers_to_nothing_is_not_good(filled: Path, tmp_path: Path) -> None:
    copy = verified_copy(filled, tmp_path / "copy.db")
    checksum_file(copy).unlink()
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("DELETE FROM camera")
        connection.commit()
    assert any("refers to a row of camera" in problem for problem in verify(copy).problems)


def test_a_damaged_database_is_not_copied(filled: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(filled)) as connection:
        (captured,) = connection.execute("SELECT captured_utc_ns FROM frame WHERE id = 100").fetchone()
    key = captured.to_bytes(8, "big")
    good = filled.read_bytes()
    assert good.count(key) >= 2  # in the table and in its index
    damaged = good.replace(key, (captured + 1).to_bytes(8, "big"), 1)
    filled.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"the copy of .* is not sound, nothing was changed"):
        verified_copy(filled, tmp_path / "copy.db")
    assert filled.read_bytes() == damaged
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []


def test_a_copy_with_fewer_rows_than_the_database_is_refused(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = backup._problems  # noqa: SLF001  # the one moment between copying and counting

    def lose_a_row(connection: sqlite3.Connection) -> list[str]:
        connection.execute("DELETE FROM part_observation WHERE frame_id = 1")
        return sound(connection)

    monkeypatch.setattr(backup, "_problems", lose_a_row)
    with pytest.raises(StoreError, match="has not what the database has"):
        verified_copy(filled, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_copy_takes_nobodys_place(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("something of the user's")
    with pytest.raises(StoreError, match="the file exists"):
        verified_copy(filled, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "something of the user's"


def test_a_copy_is_readable_by_whom_the_database_is(filled: Path, tmp_path: Path) -> None:
    filled.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(filled, 12345, 12345)
    copy = verified_copy(filled, tmp_path / "copy.db")
    for path in (copy, checksum_file(copy)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert (path.stat().st_uid, path.stat().st_gid) == (filled.stat().st_uid, filled.stat().st_gid)


def test_links_that_were_put_in_the_way_of_a_copy_are_not_followed(filled: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(filled, 12345, 12345)
    other = tmp_path / "shadow"
    other.write_text("")  # SQLite would take an empty file for a new database
    before = other.stat()
    copy = tmp_path / "copy.db"
    for planted in (copy.with_name("copy.db.part"), checksum_file(copy)):
        planted.symlink_to(other)
    assert verify(verified_copy(filled, copy)).problems == ()
    assert not copy.is_symlink()
    assert not checksum_file(copy).is_symlink()
    after = other.stat()
    assert (after.st_size, after.st_uid, after.st_mode) == (0, before.st_uid, before.st_mode)


def test_a_copy_that_is_exchanged_while_it_is_made_is_refused(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, sound = tmp_path / "shadow", backup._problems  # noqa: SLF001  # the one moment between copying and handing over
    other.write_text("of root")
    before = other.stat()

    def exchange(connection: sqlite3.Connection) -> list[str]:
        found = sound(connection)
        unfinished = tmp_path / "copy.db.part"
        unfinished.unlink()
        unfinished.symlink_to(other)
        return found

    monkeypatch.setattr(backup, "_problems", exchange)
    with pytest.raises(StoreError, match=r"something else took the place of .*copy\.db\.part meanwhile"):
        verified_copy(filled, tmp_path / "copy.db")
    assert other.read_text() == "of root"
    assert (other.stat().st_uid, other.stat().st_mode) == (before.st_uid, before.st_mode)
    assert not list(tmp_path.glob("copy*"))


@pytest.fixture
def little_room(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Says how often the database would fit on what is free of the disk."""
    usage = namedtuple("usage", "total used free")

    def set_room(times: float) -> None:
        free = round(times * stored_bytes(filled)) + backup._SPARE_BYTES  # noqa: SLF001
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, free))

    return set_room


def test_without_room_no_copy_is_begun(filled: Path, tmp_path: Path, little_room: Callable[[float], None]) -> None:
    little_room(0.9)
    with pytest.raises(StoreError, match=r"cannot copy .*: 17 MB must be free in .*, 17 MB are; nothing was changed"):
        verified_copy(filled, tmp_path / "copy.db")
    assert not list(tmp_path.glob("copy*"))
    little_room(1.0)
    assert verified_copy(filled, tmp_path / "copy.db").exists()


def test_without_room_for_copy_and_transaction_no_upgrade_is_begun(
    filled: Path, url: str, little_room: Callable[[float], None], failing_migrations: Callable[[str], Path]
) -> None:
    before = filled.read_bytes()
    little_room(1.9)
    location = failing_migrations("pass")
    with pytest.raises(StoreError, match=r"cannot bring the database .* up to date: .* must be free"):
        upgrade(make_url(url), utc_ns=NOW_UTC_NS, location=location)
    assert filled.read_bytes() == before
    assert copies(filled) == []
    little_room(2.0)
    assert upgrade(make_url(url), utc_ns=NOW_UTC_NS, location=location) is not None


def test_a_service_that_tries_a_failing_upgrade_again_and_again_leaves_no_copies(
    filled: Path, url: str, failing_migrations: Callable[[str], Path]
) -> None:
    location = failing_migrations("op.execute('INSERT INTO absent VALUES (1)')")
    before = read_contents(filled)
    for attempt in range(3):
        with pytest.raises(StoreError, match="no such table: absent"):
            upgrade(make_url(url), utc_ns=NOW_UTC_NS + attempt * NS_PER_S, location=location)
    assert read_contents(filled) == before
    assert [path.name for path in filled.parent.glob("vivarium.db*")] == ["vivarium.db"]


def test_an_upgrade_that_commits_half_way_is_undone_from_the_copy(
    filled: Path, url: str, failing_migrations: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    location = failing_migrations(
        "op.execute('DELETE FROM part_observation'); op.execute('COMMIT'); op.execute('INSERT INTO absent VALUES (1)')"
    )
    before = read_contents(filled)
    with pytest.raises(StoreError):
        upgrade(make_url(url), utc_ns=NOW_UTC_NS, location=location)
    assert read_contents(filled) == before
    assert "had gone half-way: the copy was put back" in caplog.text
    assert [path.name for path in filled.parent.glob("vivarium.db*")] == ["vivarium.db"]
    with open_store(url, outbox_limit=100) as store:
        assert store.counts().frames == 200
        assert store.integrity() == []


def test_an_upgrade_that_is_killed_leaves_the_database_as_it_was(
    filled: Path, url: str, failing_migrations: Callable[[str], Path]
) -> None:
    location = failing_migrations("op.execute('DELETE FROM part_observation'); os.kill(os.getpid(), 9)")
    before = read_contents(filled)
    victim = (
        "from pathlib import Path; from sqlalchemy import make_url; from daemon.store.upgrade import upgrade; "
        f"upgrade(make_url({url!r}), utc_ns={NOW_UTC_NS}, location=Path({str(location)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", victim], cwd=MIGRATIONS.parents[2], timeout=60)
    assert done.returncode == -9
    assert read_contents(filled) == before
    [copy] = copies(filled)
    assert verify(copy).problems == ()
    assert read_contents(copy) == before


def test_only_the_oldest_copies_of_the_same_kind_are_removed(filled: Path) -> None:
    made = [
        verified_copy(filled, copy_name(filled, f"before-0.{9 + k}.0", NOW_UTC_NS + k * NS_PER_S)) for k in range(4)
    ]
    others = [
        verified_copy(filled, copy_name(filled, "backup", NOW_UTC_NS)),
        filled.with_name(f"vivarium.db.damaged-{STAMP}"),
        filled.with_name("vivarium.db.before-the-move"),
        filled.with_name(f"other.db.before-0.1.0-{STAMP}"),
    ]
    for other in others[1:]:
        other.write_text("not ours to remove")
    assert copies(filled) == sorted([*made, others[0]], key=lambda copy: (copy.name[-16:], copy.name))
    assert prune(filled, label="before", keep=2) == made[:2]
    assert copies(filled, "before") == made[2:]
    assert all(other.exists() for other in others)
    assert not any(checksum_file(copy).exists() for copy in made[:2])


def test_a_disk_that_is_read_only_is_told_of_in_words(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StoreError, match=r"cannot copy .* Read-only file system"):
        verified_copy(filled, tmp_path / "copy.db")
