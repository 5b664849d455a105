"""`vivarium measures` on a database with an hour of two rats, and what its tables hold."""

import csv
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.measures_cli import measures_app
from daemon.minute_tables import block_rows
from daemon.minute_value import MinuteValue
from daemon.minute_values import MinuteCollector
from daemon.schedule import PlannedBlock
from daemon.store.repository import open_store
from drivers.camera import CameraInfo
from tests.databases import KINDS, Server
from tests.observations import MINUTE_NS, SECOND_NS, START_UTC_NS, frame, rat

MINUTES = 32
CAMERA = CameraInfo(kind="simulated", product="T2S+", serial="S1", firmware="1", location="seed 1", frame_rate_hz=25.0)
CONFIG = """
[box]
data_dir = "{data}"
time_zone = "Etc/UTC"

[measure]
animals = 2

[schedule]
lights_on = "00:00"
"""
FROM, TO = "2026-11-18T00:00", "2026-11-19T00:00"


@pytest.fixture(scope="module", params=KINDS)
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The config of a box whose database holds half an hour of two rats in one block, and two minutes more."""
    folder = tmp_path_factory.mktemp("box")
    path = folder / "config.toml"
    with ExitStack() as stack:
        url = f"sqlite:///{folder / 'vivarium.db'}"
        if request.param == "postgresql":
            server: Server = request.getfixturevalue("postgresql")
            url = stack.enter_context(server.database())
        path.write_text(f'{CONFIG.format(data=folder)}[database]\nurl = "{url}"\n')
        fill(url)
        yield path


def fill(url: str) -> None:
    """Store what the box has measured."""
    block = PlannedBlock(
        day=date(2026, 11, 18),
        stratum="night",
        number=1,
        start_utc_ns=START_UTC_NS,
        duration_ns=30 * MINUTE_NS,
        period_ns=SECOND_NS,
    )
    minutes = MinuteCollector(animals=2, mm_per_px=None, due=lambda _minute: 60.0)
    frames = [
        frame(second, rat(1, at=(100 + 2.0 * (second % 20), 100)), rat(2, at=(30, 30), eye=35 + second // 60 * 0.1))
        for second in range(MINUTES * 60)
    ]
    values = [value for each in frames for value in minutes.add(each)] + minutes.finish()
    with open_store(url, outbox_limit=100) as store:
        run_id = store.start_run(
            version="1",
            config_hash="a",
            config_json="{}",
            segmenter="s",
            host="h",
            boot_id="b",
            started_utc_ns=START_UTC_NS,
        )
        camera_id = store.register_camera(CAMERA, "v1")
        store.open_block(block, run_id=run_id, at_utc_ns=START_UTC_NS)
        store.add(frames[:120], run_id=run_id, camera_id=camera_id, minute_values=values)


def table(config: Path, tmp_path: Path, *arguments: str) -> list[dict[str, str]]:
    output = tmp_path / "out.csv"
    options = ["--from", FROM, "--to", TO, "-o", str(output), "-c", str(config)]
    command = (
        [arguments[0], *options, *arguments[1:]] if arguments and arguments[0][0] != "-" else [*options, *arguments]
    )
    result = CliRunner().invoke(measures_app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert f"{len(rows)} rows written" in result.output
    return rows


def test_the_table_of_minutes_has_time_unit_block_and_stratum(config: Path, tmp_path: Path) -> None:
    rows = table(config, tmp_path, "--measure", "skin_max_celsius", "--animal", "2")
    assert len(rows) == MINUTES
    assert rows[3] | {"uncertainty": ""} == {
        "minute_utc": "2026-11-18T11:10:00Z",
        "minute_local": "2026-11-18T11:10:00+00:00",
        "minute_utc_ns": str(START_UTC_NS + 3 * MINUTE_NS),
        "animal": "2",
        "measure": "skin_max_celsius",
        "unit": "Cel",
        "value": "35.3",
        "uncertainty": "",
        "coverage": "1",
        "samples": "60",
        "block": "2026-11-18/night-1",
        "stratum": "night",
        "maintenance": "",
        "correction": "",
    }
    assert float(rows[3]["uncertainty"]) == pytest.approx(0.19, abs=0.03)
    assert [row["block"] for row in rows[-2:]] == ["", ""]


def test_the_table_of_blocks_sums_averages_and_takes_the_last(config: Path, tmp_path: Path) -> None:
    rows = {(row["animal"], row["measure"]): row for row in table(config, tmp_path, "blocks")}
    proxy = rows["2", "skin_max_30min_celsius"]
    assert proxy["of_minutes"] == "last"
    assert float(proxy["value"]) == pytest.approx(35 + 1.45)
    # 1800 seconds: 19 steps of 2 px to one of 38 px back, and no step into the first second.
    way = rows["1", "distance_px"]
    assert way["of_minutes"] == "sum"
    assert float(way["value"]) == pytest.approx(90 * 76 - 38)
    assert (way["minutes"], way["planned_minutes"], way["coverage"]) == ("30", "30", "1")
    assert (rows["1", "body_mean_celsius"]["of_minutes"], rows["1", "body_mean_celsius"]["value"]) == ("mean", "32")
    assert rows["", "frames_coverage"]["value"] == "1"


def test_a_block_whose_last_minute_is_lost_has_no_proxy() -> None:
    block = PlannedBlock(
        day=date(2026, 11, 18),
        stratum="night",
        number=1,
        start_utc_ns=START_UTC_NS,
        duration_ns=30 * MINUTE_NS,
        period_ns=SECOND_NS,
    )

    def proxy(minute: int) -> MinuteValue:
        return MinuteValue(
            measure="skin_max_30min_celsius",
            minute_utc_ns=START_UTC_NS + minute * MINUTE_NS,
            animal=1,
            value=35.0 + minute,
            uncertainty=None,
            coverage=1.0,
            samples=60,
        )

    (row,) = block_rows([proxy(27), proxy(28)], [block], units={})
    assert (row["value"], row["minutes"]) == ("", 2)
    (row,) = block_rows([proxy(28), proxy(29)], [block], units={})
    assert row["value"] == "64"


def test_the_rhythm_says_what_can_be_told(config: Path, tmp_path: Path) -> None:
    rows = table(config, tmp_path, "rhythm")
    assert len(rows) == 48
    by_hour = {(row["animal"], row["zeitgeber_hour"]): row for row in rows}
    assert by_hour["1", "11"]["minutes"] == str(MINUTES)
    assert float(by_hour["1", "11"]["mean"]) == pytest.approx(76 / 20, rel=0.01)
    assert by_hour["1", "12"]["mean"] == ""
    result = CliRunner().invoke(measures_app, ["rhythm", "--from", FROM, "--to", TO, "-c", str(config)])
    assert "cannot tell" in result.output
    assert "1 of 24" in result.output


def test_an_animal_is_chosen_by_its_name_too(config: Path, tmp_path: Path) -> None:
    named = tmp_path / "named.toml"
    animals = '[[animal]]\nname = "anna"\n[[animal]]\nname = "bela"\n'
    named.write_text(config.read_text().replace("animals = 2\n", "") + animals)
    rows = table(named, tmp_path, "--measure", "skin_max_celsius", "--animal", "bela")
    assert {row["animal"] for row in rows} == {"2"}
    nobody = CliRunner().invoke(measures_app, ["--animal", "bella", "-o", str(tmp_path / "x.csv"), "-c", str(named)])
    assert "there is no animal 'bella'; expected 1 to 2, or anna, bela" in str(nobody.exception)


def test_the_map_counts_the_seconds_of_each_cell(config: Path, tmp_path: Path) -> None:
    rows = table(config, tmp_path, "map", "--animal", "2", "--cell", "8")
    assert rows == [{"x_px": "27.5", "y_px": "27.5", "seconds": "119.000", "px_per_s": "0"}]
    moving = table(config, tmp_path, "map", "--animal", "1", "--cell", "8")
    assert sum(float(row["seconds"]) for row in moving) == pytest.approx(119)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--measure", "distance_mm"], "in this box it is distance_px"),
        (["--measure", "core_celsius"], "is not measured"),
        (["--from", "yesterday"], "expected a time like"),
        (["--from", "2026-11-20", "--to", "2026-11-19"], "must lie before"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    config: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = CliRunner().invoke(measures_app, [*arguments, "-o", str(tmp_path / "out.csv"), "-c", str(config)])
    assert result.exit_code == 1
    assert message in str(result.exception)
    assert not (tmp_path / "out.csv").exists()


def test_there_is_no_rhythm_of_what_no_animal_has(config: Path) -> None:
    result = CliRunner().invoke(measures_app, ["rhythm", "--measure", "ambient_celsius", "-c", str(config)])
    assert "'ambient_celsius' is of the cage, expected one of an animal" in str(result.exception)


def test_the_list_tells_formula_source_and_validity() -> None:
    output = CliRunner().invoke(measures_app, ["list"]).output
    assert "skin_max_30min_celsius" in output
    assert "van der Vinne" in output
    assert "zone_NAME_share" in output
