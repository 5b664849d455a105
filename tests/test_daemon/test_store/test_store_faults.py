"""Kills, full disks, failing writes and damaged files.

What must happen in a process of its own (kills, limits on the size of files) is in `store_victim.py` beside this file.
"""

import json
import logging
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemon.observation import FrameObservation
from daemon.store.repository import Store, open_store
from daemon.store.sqlite_file import why_damaged
from daemon.store.upgrade import head_revision
from drivers.clock import SimulatedClock
from drivers.errors import StoreError

REPOSITORY = Path(__file__).parents[3]
VICTIM = Path(__file__).with_name("store_victim.py")

NOW_UTC_NS = 1_795_000_000_000_000_000
STAMP = "20261118T110640Z"

KILLS = 20

MakeObservation = Callable[..., FrameObservation]
BeginRun = Callable[[Store], tuple[int, int]]


def victim(*arguments: str) -> dict[str, Any]:
    """Run the process that suffers; its report."""
    done = subprocess.run(
        [sys.executable, "-W", "error", VICTIM, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_kill_loses_no_acknowledged_row(url: str, database_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = victim("kill", url, str(KILLS))
    with capsys.disabled():
        print(f" [{report['acknowledged']} acknowledged frames in {KILLS} kills, {report['stored']} stored]")  # noqa: T201 - the figure of this test
    assert report["kills"] == KILLS
    assert report["acknowledged"] >= KILLS
    assert report["lost"] == []
    assert report["half_written"] == []
    assert report["problems"] == []
    assert report["accounted_twice_or_never"] == []


def test_a_write_that_fails_leaves_nothing_and_can_be_repeated(url: str, database_path: Path) -> None:
    report = victim("limit", url)
    assert report["failed"] >= 10, "the limits must have hit writes of several kinds"
    assert report["half_written"] == []
    assert report["unreadable"] == []
    assert report["not_recovered"] == []
    assert report["problems"] == []
    assert report["frames"] == report["expected"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "vivarium-test", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_survived(small_disk: Path, observation: MakeObservation, begin_run: BeginRun) -> None:
    with open_store(f"sqlite:///{small_disk / 'vivarium.db'}", outbox_limit=100) as store:
        run_id, camera_id = begin_run(store)

        def add(second: int) -> None:
            store.add([observation(second + k) for k in range(50)], run_id=run_id, camera_id=camera_id)

        add(0)
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(4 * 1024**2))
        stored = 50
        with pytest.raises(
            StoreError, match=r"cannot store 50 frames and 0 events: (database or disk is full|disk I/O)"
        ):
            for second in range(50, 100_000, 50):
                add(second)
                stored += 50
        assert store.counts().frames == stored
        ballast.unlink()
        add(stored)
        assert store.counts().frames == stored + 50
        assert store.integrity() == []


def test_a_database_held_by_another_program_is_written_when_it_is_free(
    url: str,
    database_path: Path,
    observation: MakeObservation,
    begin_run: BeginRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.store.engine.BUSY_TIMEOUT_S", 0.02)
    with (
        open_store(url, outbox_limit=100) as store,
        closing(sqlite3.connect(database_path, isolation_level=None)) as other,
    ):
        run_id, camera_id = begin_run(store)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="cannot store 1 frames and 0 events: database is locked"):
            store.add([observation()], run_id=run_id, camera_id=camera_id)
        assert store.counts().frames == 0
        other.execute("ROLLBACK")
        store.add([observation()], run_id=run_id, camera_id=camera_id)
        assert store.counts().frames == 1


@pytest.fixture
def sound(url: str, database_path: Path, observation: MakeObservation, begin_run: BeginRun) -> bytes:
    """The bytes of a sound database with some hundred rows."""
    with open_store(url, outbox_limit=100) as store:
        run_id, camera_id = begin_run(store)
        store.add([observation(second) for second in range(200)], run_id=run_id, camera_id=camera_id)
    return database_path.read_bytes()


def works(url: str, begin_run: BeginRun, observation: MakeObservation) -> tuple[Path | None, int]:
    """Start the service's way and store a frame: what was set aside, and how many frames there are then."""
    with open_store(url, outbox_limit=100, clock=SimulatedClock(NOW_UTC_NS)) as store:
        run_id, camera_id = begin_run(store)
        store.add([observation(1000)], run_id=run_id, camera_id=camera_id)
        return store.set_aside, store.counts().frames


def zero(good: bytes) -> bytes:
    """All bytes zero, as after some power cuts."""
    return bytes(len(good))


def scattered(good: bytes) -> bytes:
    """Two hundred random overwrites."""
    damaged, dice = bytearray(good), random.Random(1)
    for _ in range(200):
        at = dice.randrange(len(good) - 64)
        damaged[at : at + 64] = dice.randbytes(64)
    return bytes(damaged)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda good: b"", id="empty"),
        pytest.param(zero, id="zero bytes"),
        pytest.param(lambda good: good[:50], id="cut in the header"),
        pytest.param(lambda good: good[: len(good) // 2], id="cut in half"),
        pytest.param(lambda good: good[:-1000], id="cut at the end"),
        pytest.param(lambda good: b"not a database" + good[14:], id="other header"),
        pytest.param(lambda good: good[:18] + b"\x03" + good[19:], id="header of a newer SQLite"),
        pytest.param(scattered, id="200 random overwrites"),
        pytest.param(lambda good: good.replace(b"alembic_version", b"alembic_ver\xffion"), id="unreadable names"),
        pytest.param(lambda good: good.replace(b"alembic_version", b"alembic_Xersion"), id="another name of a table"),
        pytest.param(lambda good: good.replace(b"background_celsius", b"background_fahrenh"), id="another column"),
    ],
)
def test_a_damaged_database_is_set_aside_and_a_new_one_begun(
    damage: Callable[[bytes], bytes],
    sound: bytes,
    url: str,
    database_path: Path,
    begin_run: BeginRun,
    observation: MakeObservation,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damaged = damage(sound)
    database_path.write_bytes(damaged)
    aside, frames = works(url, begin_run, observation)
    assert aside == database_path.with_name(f"vivarium.db.damaged-{STAMP}")
    assert aside.stat().st_size == len(damaged)
    assert frames == 1
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert str(aside) in line.getMessage()
    assert works(url, begin_run, observation) == (None, 2)


def test_a_second_damaged_database_does_not_take_the_name_of_the_first(
    url: str, database_path: Path, begin_run: BeginRun, observation: MakeObservation
) -> None:
    names = []
    for _ in range(3):
        database_path.write_bytes(b"rubbish" * 1000)
        aside, _ = works(url, begin_run, observation)
        assert aside is not None
        names.append(aside.name)
    base = f"vivarium.db.damaged-{STAMP}"
    assert names == [base, f"{base}-2", f"{base}-3"]


@pytest.mark.parametrize("damaged_from", [0, 100, 5000], ids=["header", "schema", "tables"])
def test_the_log_of_a_damaged_database_goes_with_it_unchanged(
    damaged_from: int, tmp_path: Path, begin_run: BeginRun, observation: MakeObservation
) -> None:
    live, crashed = tmp_path / "live.db", tmp_path / "crashed.db"
    with open_store(f"sqlite:///{live}", outbox_limit=100) as store:
        begin_run(store)
        log = live.with_name("live.db-wal").read_bytes()
        base = bytearray(live.read_bytes())
    base[damaged_from : damaged_from + 64 * 1024] = b"?" * min(64 * 1024, len(base) - damaged_from)
    crashed.write_bytes(base)
    crashed.with_name("crashed.db-wal").write_bytes(log)
    aside, frames = works(f"sqlite:///{crashed}", begin_run, observation)
    assert aside is not None
    assert aside.read_bytes() == base
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == log
    assert frames == 1


@pytest.mark.parametrize("seed", range(3))
def test_the_service_starts_whatever_bytes_were_overwritten(
    seed: int, sound: bytes, url: str, database_path: Path, begin_run: BeginRun, observation: MakeObservation
) -> None:
    dice = random.Random(seed)
    for _ in range(12):
        damaged = bytearray(sound)
        at = dice.randrange(dice.choice([4096, len(sound)]) - 64)
        damaged[at : at + 64] = dice.randbytes(64)
        for left in database_path.parent.glob("vivarium.db*"):
            left.unlink()
        database_path.write_bytes(damaged)
        aside, frames = works(url, begin_run, observation)
        assert frames >= 1
        assert aside is None or aside.read_bytes() == damaged


def test_a_damaged_log_costs_at_most_what_is_in_it(
    tmp_path: Path, begin_run: BeginRun, observation: MakeObservation
) -> None:
    live, crashed = tmp_path / "live.db", tmp_path / "crashed.db"
    with open_store(f"sqlite:///{live}", outbox_limit=100) as store:
        run_id, camera_id = begin_run(store)
        store.add([observation(second) for second in range(200)], run_id=run_id, camera_id=camera_id)
        log = bytearray(live.with_name("live.db-wal").read_bytes())
        log[len(log) // 2 : len(log) // 2 + 64] = bytes(64)
        crashed.write_bytes(live.read_bytes())
        crashed.with_name("crashed.db-wal").write_bytes(log)
    aside, frames = works(f"sqlite:///{crashed}", begin_run, observation)
    assert aside is None
    assert 1 <= frames < 201


@pytest.fixture
def hidden_damage(sound: bytes, database_path: Path) -> bytes:
    """A database in which the first page of the part observations is none any more."""
    with closing(sqlite3.connect(database_path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'part_observation'").fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    damaged = bytearray(sound)
    damaged[(page - 1) * page_bytes : page * page_bytes] = b"?" * page_bytes
    database_path.write_bytes(damaged)
    return bytes(damaged)


def test_damage_that_is_met_later_is_looked_for_at_the_next_start(
    hidden_damage: bytes,
    url: str,
    database_path: Path,
    begin_run: BeginRun,
    observation: MakeObservation,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patched:
        # As if the budget for the look had been over at once.
        patched.setattr("daemon.store.sqlite_file._why_unsound", lambda connection, budget_s: None)
        with pytest.raises(StoreError, match="malformed"):
            works(url, begin_run, observation)
    assert "it will be looked through at the next start" in caplog.text
    mark = database_path.with_name("vivarium.db.suspect")
    assert mark.exists()
    aside, frames = works(url, begin_run, observation)
    assert aside is not None
    assert aside.exists()
    assert frames == 1
    assert not mark.exists()


def test_a_false_suspicion_is_forgotten(
    sound: bytes, url: str, database_path: Path, begin_run: BeginRun, observation: MakeObservation
) -> None:
    mark = database_path.with_name("vivarium.db.suspect")
    mark.touch()
    assert works(url, begin_run, observation) == (None, 201)
    assert not mark.exists()


def test_a_look_that_takes_too_long_is_cut_short(
    sound: bytes, database_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with closing(sqlite3.connect(database_path)) as connection:
        connection.execute("CREATE TABLE ballast (number INTEGER PRIMARY KEY, text TEXT UNIQUE)")
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)"
            " INSERT INTO ballast SELECT i, hex(i * 7919 % 300007) || '.' || i FROM n"
        )
        connection.commit()
    assert why_damaged(database_path, head_revision(), budget_s=0.001) is None
    assert "looked through for 0.001 s" in caplog.text


def test_a_database_of_something_else_is_refused_and_not_touched(url: str, database_path: Path) -> None:
    with closing(sqlite3.connect(database_path)) as connection:
        connection.execute("CREATE TABLE recipes (name)")
    before = database_path.read_bytes()
    message = r"vivarium.db is a database of something else \(tables recipes\): not touched"
    with pytest.raises(StoreError, match=message), open_store(url, outbox_limit=100):
        pass
    assert database_path.read_bytes() == before


def test_a_directory_in_place_of_the_database_is_refused(url: str, database_path: Path) -> None:
    database_path.mkdir()
    with (
        pytest.raises(StoreError, match=r"cannot open .*vivarium.db: expected a file"),
        open_store(url, outbox_limit=1),
    ):
        pass
    assert database_path.is_dir()


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with (
        pytest.raises(StoreError, match="the directory of the database cannot be made"),
        open_store(f"sqlite:///{tmp_path / 'data' / 'vivarium.db'}", outbox_limit=1),
    ):
        pass
