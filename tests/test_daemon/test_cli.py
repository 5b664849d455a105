"""The command line as a user meets it: what it prints where, and its exit codes."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.config_keys import describe_keys
from daemon.settings import Settings, parse_settings

DEADLINE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def vivarium(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["vivarium", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Ended(code=int(ended.value.code or 0), out=printed.out, err=printed.err)

    return run


def in_process(folder: Path, *arguments: str) -> Ended:
    """Run `python -m daemon` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "daemon", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=os.environ | {"COLUMNS": "100"},
    )
    return Ended(code=done.returncode, out=done.stdout, err=done.stderr)


def test_help_is_the_map_of_the_product(tmp_path: Path) -> None:
    ended = in_process(tmp_path, "--help")
    assert ended.code == 0
    for command in (
        "run",
        "doctor",
        "watch",
        "inspect",
        "analyze",
        "simulate",
        "scene",
        "config",
        "version",
        "schedule",
    ):
        assert f"│ {command} " in ended.out
    assert ended.err == ""


@pytest.mark.parametrize(
    "command", ["run", "doctor", "watch", "inspect", "analyze", "simulate", "scene", "config", "version", "schedule"]
)
def test_every_command_explains_itself(command: str, vivarium: Run) -> None:
    ended = vivarium(command, "--help")
    assert ended.code == 0
    assert f"Usage: vivarium {command} " in ended.out


def test_without_a_command_the_map_is_shown(vivarium: Run) -> None:
    assert "Commands" in vivarium().out


def test_the_version_is_that_of_the_package(vivarium: Run) -> None:
    assert vivarium("version").out == importlib.metadata.version("strong-vivarium") + "\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param('[camera]\nkid = "x"', "camera.kid: unknown key; did you mean 'kind'?", id="unknown key"),
        pytest.param("[schedule]\nblock_minutes = -1", "schedule.block_minutes: ", id="value out of range"),
        pytest.param("[box", "not valid TOML: ", id="no TOML"),
    ],
)
def test_a_wrong_config_is_an_error_that_names_file_and_key(text: str, line: str, vivarium: Run) -> None:
    Path("config.toml").write_text(text)
    ended = vivarium("config")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: config.toml:")
    assert line in ended.err
    assert len(ended.err.splitlines()) <= 2, "the file and the key"


def test_a_wrong_config_ends_the_service_without_traceback(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[camera]\nkid = "x"')
    ended = in_process(tmp_path, "run")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: config.toml:\n  camera.kid: unknown key; did you mean 'kind'?\n"


@pytest.mark.parametrize("command", [["run"], ["config"], ["watch"], ["schedule", "show"]], ids=" ".join)
def test_without_a_config_one_is_offered(command: list[str], vivarium: Run) -> None:
    ended = vivarium(*command)
    assert ended.code == 2
    assert ended.err == "error: config.toml: no such file; `vivarium config --example > config.toml` writes one\n"


def test_names_with_brackets_are_printed_whole(vivarium: Run) -> None:
    assert vivarium("config", "--config", "[red]box[/red].toml").err.startswith("error: [red]box[/red].toml: no such")


def test_the_config_in_force_is_printed_as_json(vivarium: Run) -> None:
    Path("config.toml").write_text('[box]\nname = "left"')
    ended = vivarium("config")
    assert ended.code == 0
    values = json.loads(ended.out)
    assert values["box"]["name"] == "left"
    assert values["box"]["data_dir"] == str(Path("var").resolve())
    assert set(values) == {field.alias or name for name, field in Settings.model_fields.items()}


def test_the_config_in_force_is_printed_by_the_keys_of_the_file_with_all_animals_and_no_password(vivarium: Run) -> None:
    Path("config.toml").write_text(
        '[[animal]]\nname = "anna"\n[[animal]]\nname = "bela"\n'
        + '[[zone]]\nname = "nest"\npolygon = [[1, 1], [9, 1], [9, 9]]\n'
        + '[database]\nurl = "postgresql+psycopg://box:secret@host/rats"\n'
    )
    ended = vivarium("config")
    values = json.loads(ended.out)
    assert [zone["name"] for zone in values["zone"]] == ["nest"]
    assert values["measure"]["animals"] == 2
    assert "secret" not in ended.out


def test_a_plan_that_cannot_be_carried_out_is_no_good_config(vivarium: Run) -> None:
    Path("config.toml").write_text('[schedule]\nstrata = { day = ["07:00", "07:20"] }')
    ended = vivarium("config")
    assert (ended.code, ended.out) == (2, "")
    assert "day-1 at 07:00 and day-2 at 07:20 overlap" in ended.err


def test_every_key_is_explained_with_its_default_and_meaning(vivarium: Run) -> None:
    ended = vivarium("config", "--explain")
    lines = ended.out.splitlines()
    for key in describe_keys():
        heading = f"{key.key} = {key.default}" if key.default else key.key
        (at,) = [number for number, line in enumerate(lines) if line == f"{heading}  {key.kind}"]
        assert lines[at + 1] == f"    {key.description}"
        assert len(key.description) > 8
    assert "[[camera.replay.readings]]  list of tables" in lines


def test_the_example_is_a_config_with_every_default(vivarium: Run) -> None:
    ended = vivarium("config", "--example")
    assert parse_settings(ended.out, origin="example") == Settings()
    tomllib.loads(ended.out)
    Path("config.toml").write_text(ended.out)
    assert vivarium("config").code == 0


def schedule(vivarium: Run, day: str, text: str = "") -> list[str]:
    """Lines of `schedule show`."""
    Path("config.toml").write_text(f'[box]\ntime_zone = "Europe/Berlin"\n{text}')
    ended = vivarium("schedule", "show", "--date", day)
    assert (ended.code, ended.err) == (0, "")
    return [line.rstrip() for line in ended.out.splitlines()]


def test_the_schedule_of_a_day_on_which_the_clock_goes_back(vivarium: Run) -> None:
    lines = schedule(vivarium, "2026-10-25")
    assert lines[0] == "2026-10-25 in Europe/Berlin"
    assert lines[1].split() == ["block", "local", "start", "local", "end", "ZT", "UTC", "start", "frames"]
    assert lines[2].split() == [
        "night-1",
        "2026-10-25",
        "00:30",
        "+0200",
        "01:00",
        "+0200",
        "ZT17:30",
        "22:30:00",
        "1800",
    ]
    assert lines[3].split() == [
        "night-2",
        "2026-10-25",
        "03:00",
        "+0100",
        "03:30",
        "+0100",
        "ZT20:00",
        "02:00:00",
        "1800",
    ]
    assert lines[-1] == "8 blocks, 14400 frames"


def test_the_schedule_of_a_day_on_which_the_clock_goes_forward(vivarium: Run) -> None:
    lines = schedule(vivarium, "2026-03-29", '[schedule]\nblock_minutes = 20\n[schedule.strata]\nnight = ["02:30"]')
    assert lines[2].split()[:6] == ["night-1", "2026-03-29", "03:00", "+0200", "03:20", "+0200"]
    assert lines[-1] == "1 block, 1200 frames"


def test_a_schedule_by_zeitgeber_time_counts_from_lights_on(vivarium: Run) -> None:
    text = '[schedule]\ntimes = "zeitgeber"\nlights_on = "06:00"\n[schedule.strata]\nday = ["02:30"]'
    lines = schedule(vivarium, "2026-06-01", text)
    assert lines[2].split() == [
        "day-1",
        "2026-06-01",
        "08:30",
        "+0200",
        "09:00",
        "+0200",
        "ZT02:30",
        "06:30:00",
        "1800",
    ]


def test_a_date_that_is_none_is_refused_with_its_form(vivarium: Run) -> None:
    Path("config.toml").write_text("")
    ended = vivarium("schedule", "show", "--date", "29.3.2026")
    assert ended.code == 2
    assert "%Y-%m-%d" in ended.err


SHORT_PLAN = """
[box]
time_zone = "Europe/Berlin"
[schedule]
block_minutes = 0.1
[schedule.strata]
night = ["00:30"]
"""


def test_simulate_prints_its_result_and_draws_its_bar_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(SHORT_PLAN)
    command = ("simulate", "--from", "2026-06-01", "--outside-rate-hz", "0", "-c", "plan.toml", "-o", "out")
    ended = in_process(tmp_path, *command)
    assert ended.code == 0
    assert ended.out == (
        "1 block, 6 of 6 planned frames captured, 6 recorded\ndatabase   out/vivarium.db\nrecordings out/recordings\n"
    )
    assert "simulated seconds" in ended.err
    assert "86400/86400" in ended.err
    again = in_process(tmp_path, *command)
    assert (again.code, again.out) == (2, "")
    assert again.err == "error: out holds an earlier simulation: choose another directory\n"


def test_simulate_takes_seed_and_days(vivarium: Run) -> None:
    Path("plan.toml").write_text(SHORT_PLAN)
    ended = vivarium(
        *("simulate", "--from", "2026-06-01", "--days", "2", "--seed", "5", "--outside-rate-hz", "0"),
        *("-c", "plan.toml", "-o", "out"),
    )
    assert ended.out.startswith("2 blocks, 12 of 12 planned frames captured, 12 recorded\n")
    names = sorted(str(path.relative_to("out/recordings")) for path in Path("out/recordings").rglob("*.mkv"))
    assert names == [
        "2026-06-01/box1_2026-06-01_night-1.mkv",
        "2026-06-02/box1_2026-06-02_night-1.mkv",
    ]
    inspected = vivarium("inspect", f"out/recordings/{names[0]}", "--frame", "5")
    assert "serial SIM00005" in inspected.out


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("analyze",), id="nothing to analyze"),
        pytest.param(("analyze", "x.npy"), id="no output"),
        pytest.param(("analyze", "x.npy", "-o", "out", "--animals", "0"), id="no animals"),
        pytest.param(("inspect",), id="nothing to inspect"),
        pytest.param(("inspect", "x.npy", "--emissivity", "2"), id="emissivity"),
        pytest.param(("simulate", "-o", "out", "--days", "0"), id="no days"),
        pytest.param(("no-such-command",), id="no such command"),
    ],
)
def test_misuse_is_explained_with_exit_code_2(arguments: tuple[str, ...], vivarium: Run) -> None:
    ended = vivarium(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Usage: vivarium" in ended.err
    assert list(Path().iterdir()) == []


def test_lines_that_go_into_a_file_are_not_broken(vivarium: Run, golden: Path) -> None:
    ended = vivarium("inspect", str(golden / "g1_eps100_d1.npz"))
    (line,) = [line for line in ended.out.splitlines() if line.startswith("degrees from")]
    assert len(line) > 150
    assert "first valid count" in line
