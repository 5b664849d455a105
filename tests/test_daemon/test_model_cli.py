"""`vivarium model`: what is printed of a model, and what makes a check fail."""

import sys
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.vision.model_check import checks, part_iou, scenes, speed
from daemon.vision.segmenter import Hardware, NetworkSegmenter, load_model
from tests.models import write_model


def vivarium(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path | int) -> int:
    monkeypatch.setattr(sys, "argv", ["vivarium", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> NetworkSegmenter:
    """One good model."""
    path = write_model(tmp_path_factory.mktemp("model") / "unet.onnx")
    return NetworkSegmenter(unet=load_model(path, Hardware(provider="cpu", threads=1)), panoptic=None)


def test_info_prints_the_card_and_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_model(tmp_path / "model.onnx", "panoptic", metrics={"iou_head": 0.25}, measured_on="three scenes")
    assert vivarium(monkeypatch, "model", "info", path) == 0
    printed = capsys.readouterr().out
    for words in (
        "standard 17; IR version 9; made by tests", "thresholds 1, a panoptic model, float32",
        "192 x 256 pixels of celsius, centres and offsets on every 4. pixel", "0 background, 1 head, 2 body, 3 tail",
        "iou_head 0.25 on three scenes", "It knows thresholds only.", "MIT",
    ):  # fmt: skip
        assert words in printed


def test_info_says_that_a_card_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vivarium(monkeypatch, "model", "info", write_model(tmp_path / "model.onnx", card_text="")) == 0
    assert "none: the service refuses it" in capsys.readouterr().out


def test_check_runs_a_good_model_and_prints_its_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vivarium(monkeypatch, "model", "check", write_model(tmp_path / "model.onnx"), "--scenes", 3) == 0
    printed = capsys.readouterr().out
    assert "median" in printed
    assert "of 3 frames" in printed
    assert "on the CPU" in printed
    assert "wrong" not in printed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"input_unit": "kelvin"}, "expected celsius, got 'kelvin'", id="card"),
        pytest.param({"fails_above_celsius": 31.5}, "thresholds-1 fails", id="fails on scenes"),
        pytest.param({"body_celsius": 22.0}, "pixels of an animal", id="takes the floor for an animal"),
    ],
)
def test_check_fails_with_its_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, float],
    words: str,
) -> None:
    path = write_model(tmp_path / "model.onnx", **changes)  # type: ignore[arg-type]
    assert vivarium(monkeypatch, "model", "check", path, "--scenes", 3) == 1
    printed = capsys.readouterr().out
    assert "wrong" in printed
    assert words in printed


def test_speed_tells_the_median_the_slowest_and_the_networks_alone(segmenter: NetworkSegmenter) -> None:
    quick = speed(segmenter, [each.celsius for each in scenes(3, 0)])
    assert quick.frames == 3
    assert quick.network_ms > 0
    assert 0 < quick.median_ms <= quick.slowest_ms


def test_iou_is_that_of_all_pixels_together(segmenter: NetworkSegmenter) -> None:
    snapshots = scenes(4, 0)
    found = part_iou(segmenter, snapshots)
    both = either = 0
    for snapshot in snapshots:
        head, true_head = segmenter.segment(snapshot.celsius).parts == 1, snapshot.frame.parts == 1
        both += int((head & true_head).sum())
        either += int((head | true_head).sum())
    assert found["head"] == pytest.approx(both / either)
    assert found["mean"] == pytest.approx((found["head"] + found["body"] + found["tail"]) / 3)


def test_every_odd_picture_is_shown(segmenter: NetworkSegmenter) -> None:
    answers = list(checks(segmenter, [scenes(1, 0)[0].celsius]))
    assert len(answers) == 8
    assert all(each.good for each in answers)
