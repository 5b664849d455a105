"""`vivarium recordings`, and the marks beside recordings that keep them when the database is gone."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from daemon.ballast import Ballast
from daemon.caretaker import choose, database_file, give_up, survey
from daemon.cli import main
from daemon.disk_files import candidates, new_files, recordings_on_disk, set_aside_files
from daemon.settings import Settings, load_settings
from daemon.store.backup import checksum_file
from daemon.store.repository import open_store
from daemon.store.retention import Candidate, Level, Sacrifice, Why

HOUR_S = 3600
TODAY = date(2026, 11, 26)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('[box]\ndata_dir = "data"\ntime_zone = "UTC"\n[disk]\nmin_free_gb = 0.001\n')
    return path


@pytest.fixture
def settings(config: Path) -> Settings:
    settings = load_settings(config)
    settings.recordings_dir.mkdir(parents=True)
    with open_store(settings.database_url, outbox_limit=10):
        pass
    return settings


def make(settings: Settings, age_days: int, name: str = "night-1", segment: str = "") -> Path:
    """A recording of an earlier day, not in the database; 64 kB."""
    day = TODAY - timedelta(days=age_days)
    path = settings.recordings_dir / day.isoformat() / f"box1_{day.isoformat()}_{name}{segment}.mkv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(os.urandom(65536))
    path.with_suffix(".json").write_text("{}")
    aged_s = time.time() - 86_400 * age_days
    os.utime(path, (aged_s, aged_s))
    return path


Run = Callable[..., str]


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command as in a terminal: what it prints; a code that is not the expected one fails."""

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["vivarium", "recordings", *arguments, "--config", str(config)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert ended.value.code == code, printed.err
        return printed.out + printed.err

    return run


def test_what_is_pinned_stays_also_without_the_database(settings: Settings, run: Run) -> None:
    paths = [make(settings, age_days) for age_days in (9, 8, 7, 6, 5)]
    assert "1 recordings are kept by A" in run("pin", "A", "--block", "2026-11-17/night-1", "--reason", "figure 3")
    assert "2 recordings are kept by B" in run("pin", "B", "--first-day", "2026-11-18", "--last-day", "2026-11-19")
    listed = run("list")
    assert "pin A: 2026-11-17/night-1 (figure 3)" in listed
    assert "pin B: 2026-11-18 to 2026-11-19" in listed
    assert [path.with_suffix(".pin").exists() for path in paths] == [True, True, True, False, False]

    settings.box.data_dir.joinpath("vivarium.db").unlink()
    with open_store(settings.database_url, outbox_limit=10):
        pass
    assert "1 files of 0.1 MB would give way" in run("prune", "--dry-run", "--free-gb", "90000")
    assert all(path.exists() for path in paths)
    assert "1 files of 0.1 MB gave way" in run("prune", "--free-gb", "90000")
    # The newest one is in use, three are marked.
    assert [path.exists() for path in paths] == [True, True, True, False, True]
    assert paths[3].with_suffix(".json").exists()

    assert "1 recordings may give way" in run("unpin", "A")
    assert "2 recordings may give way" in run("unpin", "B")
    assert "there is no pin 'B'" in run("unpin", "B", code=2)
    assert not list(settings.recordings_dir.rglob("*.pin"))


def test_a_mark_that_cannot_be_read_keeps_its_recording(settings: Settings, run: Run) -> None:
    old, _ = make(settings, 9), make(settings, 5)
    old.with_suffix(".pin").write_bytes(bytes(10))
    assert "0 files" in run("prune", "--free-gb", "90000")
    assert "a mark that cannot be read" in run("list")
    assert old.exists()


def test_a_pin_of_a_block_without_a_recording_says_so(settings: Settings, run: Run) -> None:
    make(settings, 9)
    said = run("pin", "A", "--block", "2026-11-17/night-1", "--block", "2026-11-17/nigth-2")
    assert "1 recordings are kept by A" in said
    assert said.splitlines()[1:] == [
        "there is no recording of 2026-11-17/nigth-2 yet; `vivarium recordings list` prints the keys"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("pin", "A"), "expected either --block, or --first-day", id="nothing"),
        pytest.param(("pin", "A", "--block", "k", "--first-day", "2026-01-01"), "expected either", id="both"),
        pytest.param(
            ("pin", "A", "--first-day", "2026-01-02", "--last-day", "2026-01-01"), "must not be after", id="order"
        ),
        pytest.param(("pin", " ", "--block", "k"), "needs a name", id="no name"),
    ],
)
def test_a_pin_of_nothing_is_refused(settings: Settings, run: Run, arguments: tuple[str, ...], message: str) -> None:
    assert message in run(*arguments, code=2)


def test_a_command_without_a_database_says_what_to_do(run: Run) -> None:
    assert "the service makes it at its first start" in run("list", code=2)


# What is found on the disk


def test_segments_open_blocks_and_the_newest_block_are_known_by_their_names(settings: Settings) -> None:
    make(settings, 9), make(settings, 9, segment="_2"), make(settings, 9, name="night-2")
    day = settings.recordings_dir / (TODAY - timedelta(days=9)).isoformat()
    (day / f"box1_{day.name}_night-1_3.part.jsonl").touch()
    newest = make(settings, 1)
    found = recordings_on_disk(settings.recordings_dir)
    assert [(each.block_key.partition("/")[2], each.is_open) for each in found] == [
        ("night-1", True),
        ("night-1", True),
        ("night-2", False),
        ("night-1", False),
    ]
    in_use = [each.path for each in candidates_of(settings) if each.in_use]
    assert newest in in_use
    assert len(in_use) == 3


def candidates_of(settings: Settings) -> list[Candidate]:
    """All that may give way now."""
    found = recordings_on_disk(settings.recordings_dir)
    return list(
        candidates(settings.box.data_dir, found, database=database_file(settings), pins=(), now_ns=time.time_ns())
    )


def test_measurements_and_what_is_young_are_no_candidates(settings: Settings) -> None:
    data, day = settings.box.data_dir, settings.recordings_dir / "2026-11-01"
    day.mkdir()
    (data / "camera").mkdir()
    no_day = settings.recordings_dir / "2026-99-99"
    no_day.mkdir()
    old = [
        data / "vivarium.db.before-0002-20261101T000000Z",
        data / "vivarium.db.before-0002-20261101T000000Z.part",
        day / "box1_2026-11-01_night-1.damaged",
        day / "box1_2026-11-01_night-1.damaged.jsonl.2",
        day / "box1_2026-11-01_night-1.json.tmp",
        day / "box1_2026-11-01_night-1.part.copy",
        data / "camera" / "gain-map-X.damaged",
    ]
    kept = [
        data / "vivarium.db.before-0003-20261102T000000Z",
        data / "vivarium.db.damaged-20261101T000000Z",
        data / "vivarium.db.backup-20261001T000000Z",
        day / "box1_2026-11-01_night-1.json",
        data / "camera" / "gain-map-X.bin",
        no_day / "box1_2026-99-99_night-1.damaged",
    ]
    young = [day / "box1_2026-11-01_night-2.damaged", day / "box1_2026-11-01_night-2.json.tmp"]
    for path in (*old, *kept, *young):
        path.write_bytes(b"x" * 5000)
    for path in (*old, *kept):
        os.utime(path, (time.time() - 40 * 24 * HOUR_S,) * 2)
    found = candidates(data, [], database=database_file(settings), pins=(), now_ns=time.time_ns())
    assert {each.path for each in found} == set(old)
    assert {each.level for each in found} == {Level.TEMPORARY, Level.DATABASE_COPY, Level.SET_ASIDE}
    assert choose(settings, survey(settings, ()), now_ns=time.time_ns()) == []


def test_recordings_on_another_file_system_make_no_room_beside_the_database(settings: Settings) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == settings.box.data_dir.stat().st_dev:
        pytest.skip("there is no second file system here")
    make(settings, 9), make(settings, 8)
    assert [each.elsewhere for each in candidates_of(settings)] == [False, False]
    with TemporaryDirectory(dir=shared) as folder:
        shutil.copytree(settings.recordings_dir, folder, dirs_exist_ok=True)
        shutil.rmtree(settings.recordings_dir)
        settings.recordings_dir.symlink_to(folder)
        assert [each.elsewhere for each in candidates_of(settings)] == [True, True]
        found = survey(settings, ())
        short = replace(found, limits=replace(found.limits, min_free_bytes=found.total_bytes))
        assert choose(settings, short, now_ns=time.time_ns()) == []


def test_a_copy_of_the_database_gives_way_with_its_checksum(settings: Settings) -> None:
    database = settings.box.data_dir / "vivarium.db"
    old, new = (
        database.with_name(f"{database.name}.before-{version}-202611{day}T000000Z")
        for version, day in (("0.2.0", "01"), ("0.10.0~rc1", "02"))
    )
    for copy in (old, new):
        copy.write_bytes(b"x" * 5000)
        checksum_file(copy).touch()
    (found,) = candidates_of(settings)
    assert give_up(Sacrifice(candidate=found, why=Why.MIN_FREE))
    assert [old.exists(), checksum_file(old).exists()] == [False, False]
    assert [new.exists(), checksum_file(new).exists()] == [True, True]


def test_what_was_set_aside_is_found_once_also_under_a_name_that_was_used_before(settings: Settings) -> None:
    camera = settings.camera_dir
    camera.mkdir()
    aside = camera / "gain-map-X.damaged"
    aside.write_bytes(b"first")
    before = set_aside_files(settings.box.data_dir, database_file(settings))
    assert list(before.values()) == ["gain_map"]
    (camera / "other").write_bytes(b"second")
    (camera / "other").replace(aside)
    (settings.box.data_dir / "vivarium.db.damaged-20261101T000000Z").touch()
    (settings.box.data_dir / "vivarium.db.damaged-20261101T000000Z-wal").touch()
    after = set_aside_files(settings.box.data_dir, database_file(settings))
    assert [after[each] for each in new_files(after, before)] == ["gain_map", "database"]


# The ballast


def test_the_ballast_takes_real_blocks_and_gives_them_back(tmp_path: Path) -> None:
    ballast, size = Ballast(tmp_path, 1_000_000), 1_000_000
    assert ballast.lacking_bytes(100 * size) == size
    ballast.make_if_room(2 * size, 100 * size)
    assert not ballast.in_place, "it is not made of the last room"
    ballast.make_if_room(3 * size, 100 * size)
    assert ballast.in_place
    assert (tmp_path / "ballast.bin").stat().st_blocks * 512 >= size
    assert not ballast.is_urgent(size)
    assert ballast.is_urgent(size // 5)
    ballast.release()
    assert not ballast.in_place


def test_a_small_disk_has_no_ballast_and_a_new_size_replaces_the_old_one(tmp_path: Path) -> None:
    assert Ballast(tmp_path, 1_000_000).lacking_bytes(5_000_000) == 0
    Ballast(tmp_path, 1_000_000).make_if_room(10**9, 10**9)
    assert Ballast(tmp_path, 1_000_000).in_place
    assert not Ballast(tmp_path, 2_000_000).in_place
    assert Ballast(tmp_path, 0).lacking_bytes(10**9) == 0


def test_marks_hold_the_names_of_their_pins(settings: Settings, run: Run) -> None:
    path = make(settings, 9)
    for name in ("A", "B"):
        run("pin", name, "--block", "2026-11-17/night-1")
    assert json.loads(path.with_suffix(".pin").read_text()) == {"pins": ["A", "B"]}
    run("unpin", "A")
    assert json.loads(path.with_suffix(".pin").read_text()) == {"pins": ["B"]}
