"""Offline analysis with networks: masks and tables at the material's own size, and they agree."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.cli import main
from daemon.vision.parts import BodyPart
from tests.models import write_model

FIGURE = 5e-5
"""Figures in the tables have four decimals."""


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    """Options that name two small models."""
    unet = write_model(tmp_path / "unet.onnx")
    panoptic = write_model(tmp_path / "panoptic.onnx", "panoptic")
    return ["--unet", str(unet), "--panoptic", str(panoptic)]


def picture(height: int, width: int, shift: int = 0) -> NDArray[np.float32]:
    """A box with one animal and a little noise."""
    celsius = np.random.default_rng(1).normal(23, 0.05, (height, width)).astype(np.float32)
    top, bottom, left = round(0.44 * height), round(0.56 * height), round(0.3 * width) + shift
    head, body, tail = (left + round(share * width) for share in (0.06, 0.24, 0.4))
    celsius[top:bottom, left:head] += 11
    celsius[top:bottom, head:body] += 7
    celsius[(top + bottom) // 2 : (top + bottom) // 2 + max(2, height // 60), body:tail] += 2.2
    return celsius


def vivarium(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["vivarium", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "animals.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("height", "width"), [(192, 256), (120, 160), (480, 640), (300, 200), (77, 301)])
@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_masks_and_table_of_an_array_of_any_size_agree_pixel_by_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: list[str], height: int, width: int, suffix: str
) -> None:
    celsius: NDArray[np.floating] = picture(height, width)
    path = tmp_path / f"degrees.{suffix}"
    if suffix == "npy":
        np.save(path, celsius)
    else:
        np.savetxt(path, celsius, delimiter=",", fmt="%.4f")
        celsius = np.loadtxt(path, delimiter=",")
    assert vivarium(monkeypatch, "analyze", path, "--output", tmp_path / "out", *models) == 0
    with np.load(tmp_path / "out" / "parts.npz") as maps:
        parts, instances = maps["parts"], maps["instances"]
    assert (parts.dtype, instances.dtype) == (np.uint8, np.uint8)
    assert parts.shape == instances.shape == (height, width)
    table = rows(tmp_path / "out")
    assert [row["part"] for row in table] == ["head", "body", "tail"]
    assert {row["animal"] for row in table} == {"1"}
    for row in table:
        mask = (instances == 1) & (parts == BodyPart[row["part"].upper()])
        y, x = np.nonzero(mask)
        wanted = {
            "area_px": len(x), "valid_px": len(x), "x_px": x.mean(), "y_px": y.mean(),
            "mean_c": celsius[mask].mean(dtype=np.float64), "median_c": np.median(celsius[mask]),
            "p95_c": np.percentile(celsius[mask], 95), "sd_c": celsius[mask].std(dtype=np.float64),
            "min_c": celsius[mask].min(), "max_c": celsius[mask].max(),
        }  # fmt: skip
        assert {name: float(row[name]) for name in wanted} == pytest.approx(wanted, abs=2 * FIGURE)
    assert (tmp_path / "out" / "overlay.png").exists()


def test_an_animal_keeps_its_number_in_masks_and_tables_from_frame_to_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: list[str]
) -> None:
    first, second = picture(192, 256), picture(192, 256, 40)
    second[10:50, 20:60] = 30  # another one, which is the larger
    np.save(tmp_path / "degrees.npy", np.stack([first, first, second]))
    unet_alone = [*models[:2], "--panoptic", "off"]
    assert vivarium(monkeypatch, "analyze", tmp_path / "degrees.npy", "--output", tmp_path / "out", *unet_alone) == 0
    with np.load(tmp_path / "out" / "parts.npz") as maps:
        instances = maps["instances"]
    assert instances.shape == (3, 192, 256)
    assert instances[0].max() == 1
    assert set(np.unique(instances[2])) == {0, 1, 2}
    for row in rows(tmp_path / "out"):
        mask = instances[int(row["frame"])] == int(row["animal"])
        assert mask[round(float(row["y_px"])), round(float(row["x_px"]))]


def test_without_networks_animals_are_found_by_their_warmth_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "degrees.npy", picture(192, 256))
    off = ["--unet", "off", "--panoptic", "off"]
    assert vivarium(monkeypatch, "analyze", tmp_path / "degrees.npy", "--output", tmp_path / "off", *off) == 0
    assert "found by their warmth alone: the networks are switched off" in capsys.readouterr().err
    assert vivarium(monkeypatch, "analyze", tmp_path / "degrees.npy", "--output", tmp_path / "out", "--classical") == 0
    assert "warmth" not in capsys.readouterr().err
    with np.load(tmp_path / "off" / "parts.npz") as first, np.load(tmp_path / "out" / "parts.npz") as second:
        assert first["parts"].any()
        np.testing.assert_array_equal(first["parts"], second["parts"])


def test_a_bad_model_stops_the_analysis_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "degrees.npy", picture(192, 256))
    bad = write_model(tmp_path / "bad.onnx", input_unit="kelvin")
    code = vivarium(monkeypatch, "analyze", tmp_path / "degrees.npy", "--output", tmp_path / "out", "--unet", bad)
    assert code == 2
    assert "input_unit: expected celsius, got 'kelvin'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
