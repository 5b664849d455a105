"""The curves of a training, from the files that it leaves."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivers.errors import ConfigError
from training.curves import CurvesError, draw_run, read_run
from training.curves_cli import curves


def write_run(folder: Path, epochs: int = 12) -> None:
    """Files as Lightning's CSV logger and the training write them: figures of one epoch stand in several lines."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["epoch,step,train_parts,train_centre,val_miou_all,val_miou_apart,lr"]
    for epoch in range(epochs):
        lines.append(f"{epoch},{epoch * 10 + 9},,,{0.9 - 0.5 * 0.7**epoch},{0.95 - 0.5 * 0.7**epoch},")
        lines.append(f"{epoch},{epoch * 10 + 9},{0.7**epoch + 0.1},{0.5 * 0.8**epoch},,,")
        where = folder / "epochs" / f"{epoch:03d}"
        where.mkdir(parents=True, exist_ok=True)
        classes = {
            name: {"iou": 0.9 - 0.4 * 0.7**epoch - tail} for name, tail in (("head", 0), ("body", 0), ("tail", 0.1))
        }
        (where / "metrics_multiclass.json").write_text(json.dumps({"classes": {"background": {"iou": 0.99}} | classes}))
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def test_figures_of_an_epoch_are_gathered_from_all_lines(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    found = read_run(tmp_path / "run")
    assert set(found.losses) == {"parts", "centre"}
    assert set(found.overlaps) == {"mean, all", "mean, apart", "head", "body", "tail"}
    assert found.losses["parts"][0] == pytest.approx(1.1)
    assert found.overlaps["tail"][3] == pytest.approx(0.8 - 0.4 * 0.7**3)
    assert all(sorted(series) == list(range(12)) for series in (*found.losses.values(), *found.overlaps.values()))


def test_a_resumed_training_is_one_curve(tmp_path: Path) -> None:
    for version, epochs in (("version_0", (0, 1, 2)), ("version_1", (2, 3))):
        folder = tmp_path / version
        folder.mkdir()
        rows = "\n".join(f"{epoch},{10 * int(version[-1]) + epoch}" for epoch in epochs)
        (folder / "metrics.csv").write_text(f"epoch,train_parts\n{rows}\n")
    assert read_run(tmp_path).losses["parts"] == {0: 0, 1: 1, 2: 12, 3: 13}


def test_the_picture_is_small_and_shows_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", epochs=60)
    curves(tmp_path / "run", tmp_path / "docs" / "run.png")
    assert (tmp_path / "docs" / "run.png").stat().st_size < 60_000
    assert "drawn to" in capsys.readouterr().out
    picture = cv2.imread(str(tmp_path / "docs" / "run.png"))
    assert picture is not None
    assert picture.shape == (360, 900, 3)
    empty = tmp_path / "empty.png"
    draw_run(read_run(tmp_path / "run").__class__(losses={}, overlaps={}), "run", empty)
    blank = cv2.imread(str(empty))
    assert blank is not None
    for half in (slice(0, 450), slice(450, 900)):
        differing = np.abs(picture[:, half].astype(int) - blank[:, half]).max(axis=2) > 60
        assert differing.mean() > 0.005, "each side has lines"


def test_a_training_that_has_not_come_far_is_seen_too(tmp_path: Path) -> None:
    lines = "\n".join(f"{epoch},{0.1 + 0.02 * epoch}" for epoch in range(5))
    (tmp_path / "metrics.csv").write_text(f"epoch,val_miou_all\n{lines}\n")
    draw_run(read_run(tmp_path), "run", tmp_path / "run.png")
    picture = cv2.imread(str(tmp_path / "run.png"))
    assert picture is not None
    plot = picture[60:300, 510:850]  # the right one, without its legend
    assert np.count_nonzero((plot < 60).all(axis=-1)) > 300, "a black line"


def test_a_folder_without_logs_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(CurvesError, match=r"expected metrics\.csv with columns train_\* and val_miou\*"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("metrics.csv", "epoch,train_parts\n0,many\n", "expected a table of numbers", id="words"),
        pytest.param("epochs/3/metrics_multiclass.json", "{}", "expected measures of each label", id="no labels"),
        pytest.param("epochs/3/metrics_multiclass.json", "{", "expected measures of each label", id="no JSON"),
    ],
)
def test_a_file_that_is_damaged_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(CurvesError, match=message) as caught:
        read_run(tmp_path)
    assert name in str(caught.value)


def test_a_missing_folder_and_another_kind_of_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        curves(tmp_path / "nowhere", tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"expected a file ending in \.png"):
        curves(tmp_path, tmp_path / "a.svg")
