"""Random scenes as files: degrees, masks, truth and a sheet for the eye."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from daemon.cli import app
from drivers.errors import ConfigError
from drivers.vivarium.snapshot import random_scene


def vivarium_scene(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["scene", *arguments])


def test_each_seed_becomes_degrees_masks_and_truth(tmp_path: Path) -> None:
    result = vivarium_scene("--seed", "7", "--count", "3", "--output", str(tmp_path / "new"))
    assert result.exit_code == 0, result.output
    assert "3 scenes from seed 7" in result.output
    assert len(list((tmp_path / "new").iterdir())) == 3 * 4 + 1
    snapshot = random_scene(8)
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "8.npy"), snapshot.celsius)
    for name in ("parts", "instances"):
        mask = cv2.imread(str(tmp_path / "new" / f"8-{name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, getattr(snapshot.frame, name))
    truth = json.loads((tmp_path / "new" / "8.json").read_text())
    assert truth["contact"] == snapshot.frame.contact()
    assert [animal["core_celsius"] for animal in truth["animals"]] == [
        animal.core_celsius for animal in snapshot.frame.animals
    ]
    assert {part["part"] for part in truth["visible_parts"]} <= {"head", "body", "tail"}


@pytest.mark.parametrize(("count", "shape"), [(1, (264, 176)), (7, (528, 1056))])
def test_the_sheet_shows_picture_and_labels_of_each(count: int, shape: tuple[int, int], tmp_path: Path) -> None:
    assert vivarium_scene("--count", str(count), "--sheet-only", "-o", str(tmp_path)).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape[:2] == shape


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = vivarium_scene("-o", str(tmp_path / "file"))
    assert isinstance(result.exception, ConfigError)
    assert "cannot be written" in str(result.exception)
