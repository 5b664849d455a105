"""`vivarium identity swap`, `assign`, `undo`, `tell` and `corrections` on a database of two minutes."""

import csv
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.identity_checks import CorrectionError
from daemon.identity_corrector import IdentityCorrector
from daemon.lock import DataDirectoryLock, is_held
from daemon.minute_values import collector_of
from daemon.settings import load_settings
from daemon.store.repository import attach_store, open_store
from drivers.camera import CameraInfo
from drivers.clock import SystemClock
from drivers.errors import ConfigError
from tests.databases import ON_BOTH
from tests.followed import film

CAMERA = CameraInfo(kind="simulated", product="T2S+", serial="S", firmware="", location="", frame_rate_hz=25.0)
CONFIG = """
[box]
data_dir = "."
time_zone = "America/Sao_Paulo"
[measure]
outside_rate_hz = 1
[mqtt]
enabled = false
[[animal]]
name = "anna"
[[animal]]
name = "bela"
[[animal]]
name = "caro"
"""
FROM = "2026-11-18T08:07:30"
"""Local time, 30 s after the first frame."""
BY = ("--by", "Ana", "--reason", "ear mark")


def fill(config: Path, seconds: int = 120) -> None:
    """Two minutes for the database of a config, or more."""
    settings, frames = load_settings(config), list(film(seconds))
    collector = collector_of(lambda: settings)
    minutes = [value for each in frames for value in collector.add(each)] + collector.finish()
    with open_store(settings.database_url, outbox_limit=100) as store:
        run_id = store.start_run(
            version="1",
            config_hash="h",
            config_json=settings.to_json(),
            segmenter="s",
            host="box",
            boot_id="b",
            started_utc_ns=frames[0].captured_utc_ns,
        )
        camera_id = store.register_camera(CAMERA, "v1")
        store.add(frames, run_id=run_id, camera_id=camera_id, minute_values=minutes)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and a database."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "config.toml").write_text(CONFIG)
    fill(folder / "config.toml")
    return folder


@pytest.fixture
def config(kept: Path, kind_of_database: str, database_url: str, tmp_path: Path) -> Path:
    """The config of a copy of it, or of the same in a server."""
    if kind_of_database == "sqlite":
        return Path(shutil.copytree(kept, tmp_path / "box")) / "config.toml"
    path = tmp_path / "box" / "config.toml"
    path.parent.mkdir()
    path.write_text(f'{CONFIG}[database]\nurl = "{database_url}"\n')
    fill(path)
    return path


def give(config: Path, *words: str, code: int = 0) -> str:
    """What a command prints."""
    result = CliRunner().invoke(app, ["identity", *words, "-c", str(config)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@ON_BOTH
def test_animals_are_swapped_by_name_listed_shown_in_tables_and_put_back(config: Path, tmp_path: Path) -> None:
    assert give(config, "corrections") == "nothing has been corrected\n"
    said = give(config, "swap", "anna", "bela", "--from", FROM, *BY)
    assert "correction 1: animals 1 and 2 change numbers from 2026-11-18 08:07:30-03:00" in said
    assert "no service runs on this data directory" in said
    listed = give(config, "corrections").splitlines()[1].split()
    assert listed[:9] == ["1", "animals", "1", "and", "2", "change", "numbers", "2026-11-18", "08:07:30-03:00"]
    assert "Ana" in listed
    assert "no service was told" in " ".join(listed)
    table = tmp_path / "minutes.csv"
    day = ["--from", "2026-11-18", "--to", "2026-11-19", "-o", str(table), "-c", str(config)]
    assert CliRunner().invoke(app, ["measures", *day], catch_exceptions=False).exit_code == 0
    with table.open(newline="") as file:
        assert {(row["animal"], row["correction"]) for row in csv.DictReader(file)} == {
            ("", ""), ("1", "1"), ("2", "1"), ("3", ""),
        }  # fmt: skip
    mapped = CliRunner().invoke(app, ["measures", "map", "--animal", "1", *day], catch_exceptions=False)
    assert "correction 1 by Ana: animals 1 and 2 change numbers" in mapped.output
    assert "correction 1 is undone" in give(config, "undo", "1", "--by", "Bia")
    assert "by Bia" in give(config, "corrections")


def test_only_minutes_with_frames_that_a_correction_changed_have_its_number(tmp_path: Path) -> None:
    config, table = tmp_path / "config.toml", tmp_path / "minutes.csv"
    config.write_text(CONFIG)
    fill(config, 290)
    give(config, "assign", "4", "anna", "--from", "2026-11-18T11:08:05Z", *BY)  # named for 20 s, up to a doubt
    give(config, "assign", "5", "caro", "--from", "2026-11-18T11:08:05Z", "--until", "2026-11-18T11:11:00Z", *BY)
    give(config, "swap", "anna", "caro", "--from", "2026-11-18T11:10:30Z", "--until", "2026-11-18T11:10:40Z", *BY)
    day = ["--from", "2026-11-18", "--to", "2026-11-19", "-o", str(table), "-c", str(config)]
    assert CliRunner().invoke(app, ["measures", *day], catch_exceptions=False).exit_code == 0
    with table.open(newline="") as file:
        numbers = {(row["minute_utc"][14:16], row["animal"], row["correction"]) for row in csv.DictReader(file)}
    assert {each for each in numbers if each[2]} == {
        ("08", "1", "1"), ("08", "3", "2"), ("10", "1", "3"), ("10", "3", "3"),
    }  # fmt: skip
    later = ["--from", "2026-11-18T08:09", "--to", "2026-11-18T08:10", *day[4:]]
    mapped = CliRunner().invoke(app, ["measures", "map", "--animal", "1", *later], catch_exceptions=False)
    assert "correction" not in mapped.output


@ON_BOTH
def test_a_track_is_assigned_and_times_with_a_zone_are_taken(config: Path) -> None:
    said = give(config, "assign", "4", "caro", "--from", "2026-11-18T11:08:00Z", *BY)
    assert "correction 1: track 4 is animal 3 from 2026-11-18 08:08:00-03:00 to 2026-11-18 08:08:59-03:00" in said
    assert "from 2026-11-18 08:08:25-03:00 on track 4 may have changed places with another" in said
    assert "no name from 2026-11-18 08:08:25-03:00 on" in give(config, "corrections")
    assert "track 5 is not known" in give(config, "assign", "5", "unknown", "--from", FROM, *BY)


def test_an_undoing_that_the_service_was_not_told_of_is_listed_as_such(config: Path) -> None:
    give(config, "swap", "anna", "bela", "--from", FROM, *BY)
    settings, clock = load_settings(config), SystemClock()
    with attach_store(settings.database_url, outbox_limit=100) as store:
        corrector = IdentityCorrector(store, settings, clock)
        corrector.note_told(1, clock.utc_ns())
        give(config, "undo", "1", *BY[:2])
        assert "by Ana, but the service was not told of that" in give(config, "corrections")
        corrector.note_told(1, clock.utc_ns())
    assert give(config, "corrections").strip().endswith("by Ana")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("swap", "anna", "1", "--from", FROM), "both animal 1", id="the same"),
        pytest.param(
            ("swap", "anna", "zoe", "--from", FROM), "expected 1 to 3, or anna, bela, caro", id="no such name"
        ),
        pytest.param(("assign", "1", "4", "--from", FROM), "there is no animal '4'", id="no such number"),
        pytest.param(("swap", "1", "2", "--from", "noon"), "--from: expected a time like", id="no time"),
        pytest.param(("swap", "1", "2", "--from", FROM, "--by", ""), "--by: expected a name", id="nobody"),
        pytest.param(("swap", "1", "2", "--from", FROM, "--reason", "x" * 201), "--reason: expected", id="too long"),
    ],
)
def test_bad_words_are_refused_with_what_was_expected(config: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises((ConfigError, CorrectionError), match=message):
        give(config, *words)
    settings = load_settings(config)
    with attach_store(settings.database_url, outbox_limit=100) as store:
        assert store.corrections() == []


def test_a_running_service_that_could_not_be_told_is_said_clearly(config: Path) -> None:
    assert not is_held(config.parent)
    with DataDirectoryLock(config.parent):
        assert is_held(config.parent)
        said = give(config, "swap", "anna", "bela", "--from", FROM, *BY, code=1)
        assert "THE RUNNING SERVICE HAS NOT BEEN TOLD: it takes no commands" in said
        assert "vivarium identity tell 1" in said
        assert "HAS NOT BEEN TOLD" in give(config, "tell", "1", code=1)
    assert "there is nobody to tell" in give(config, "tell", "1")


def test_a_change_that_keeps_a_running_service_from_storing_for_long_is_said_before(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.correction_cli.MOST_BESIDE", 50)
    short = give(config, "swap", "1", "2", "--from", FROM, "--until", "2026-11-18T08:08:10", *BY)
    assert "beside a running service" not in short
    with DataDirectoryLock(config.parent):
        few = give(config, "swap", "1", "2", "--from", FROM, "--until", "2026-11-18T08:08:20", *BY, code=1)
        assert "beside a running service" not in few
        said = give(config, "swap", "1", "2", "--from", FROM, "--until", "2026-11-18T08:08:21", *BY, code=1)
        assert said.startswith("51 frames are changed beside a running service")
        assert give(config, "undo", "3", code=1).startswith("51 frames are changed beside a running service")
    assert "beside a running service" not in give(config, "swap", "1", "2", "--from", FROM, *BY)
