"""The moving vivarium as files."""

import json
from pathlib import Path

import cv2
from typer.testing import CliRunner

from daemon.cli import app
from drivers.errors import ConfigError
from drivers.scene import Scene


def test_a_film_is_a_strip_and_a_line_of_truth_for_each_moment(tmp_path: Path) -> None:
    arguments = ["--seed", "3", "--animals", "2", "--start", "2026-09-22T03:00:00", "--step-s", "2", "--count", "7"]
    result = CliRunner().invoke(app, ["film", *arguments, "-o", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (tmp_path / "new" / "moments.jsonl").read_text().splitlines()]
    assert [line["utc_s"] for line in lines] == [1_790_046_000.0 + 2 * index for index in range(7)]
    told = Scene(3, 2).moment(1_790_046_004.0).animals[1]
    assert lines[2]["animals"][1]["snout"] == list(told.snout)
    assert set(lines[2]["animals"][1]["surface_celsius"]) == {"head", "body", "tail"}
    strip = cv2.imread(str(tmp_path / "new" / "strip.png"))
    assert strip is not None
    assert strip.shape == (264, 1056, 3)


def test_the_truth_alone_needs_no_pictures(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["film", "--truth-only", "--count", "3", "-o", str(tmp_path)]).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["moments.jsonl"]


def test_a_film_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["film", "--count", "1", "-o", str(tmp_path / "file")])
    assert isinstance(result.exception, ConfigError)
