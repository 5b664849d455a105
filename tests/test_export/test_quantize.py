"""Eight bits: written when it costs little, refused with the figures when it costs much."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from daemon.vision.model_card import LABELS, ModelCard, TrainedOn
from daemon.vision.model_check import scenes
from daemon.vision.onnx_file import ModelError, read_onnx
from daemon.vision.segmenter import Hardware, NetworkSegmenter, load_model
from drivers.vivarium.snapshot import Snapshot
from export.onnx import OPSET, export_onnx
from export.quantize import MOST_LOST_IOU, MOST_LOST_PQ, Quantized, Scores, quantize, scores
from training.deployed import chosen

CARD = ModelCard(
    name="lines",
    kind="unet",
    version="1",
    labels=LABELS,
    input_height=192,
    input_width=256,
    input_unit="celsius",
    opset=OPSET,
    precision="float32",
    trained_on=TrainedOn(text="nothing", scenes=0, seeds="", generator_hash=""),
    code_hash="0",
    metrics={},
    measured_on="",
    limits=(),
    licence="MIT",
)


class Lines(nn.Module):
    """Labels by temperature: four lines, of which the highest wins; tail from 25 °C, body from 27, head from 32.

    `spread` is how far a useless channel lies from the useful one: eight bits must hold both.
    """

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.second = nn.Conv2d(2, 2, 3, padding=1)
        self.last = nn.Conv2d(2, 4, 1)
        slopes, crossings = torch.tensor((0.0, 1.0, 2.0, 3.0)), torch.tensor((25.0, 27.0, 32.0))
        heights = -torch.cat((torch.zeros(1), crossings)).cumsum(0)
        order = [0, 3, 2, 1]  # the steepest is the head
        with torch.no_grad():
            for layer in (self.first, self.second, self.last):
                layer.weight.zero_()
                assert layer.bias is not None
                layer.bias.zero_()
            self.first.weight[0, 0, 1, 1] = 1
            self.first.weight[1, 0, 1, 1] = spread
            self.second.weight[0, 0, 1, 1] = self.second.weight[1, 1, 1, 1] = 1
            self.last.weight[:, 0, 0, 0] = slopes[order]
            assert self.last.bias is not None
            self.last.bias.copy_(heights[order])

    def forward(self, celsius: Tensor) -> tuple[Tensor, ...]:
        """Parts and confidence."""
        known = torch.where(torch.isnan(celsius), torch.zeros_like(celsius), celsius)
        return chosen(self.last(torch.relu(self.second(torch.relu(self.first(known))))), 1)


def painted(first_seed: int, count: int) -> list[Snapshot]:
    """Scenes in which each part has one temperature, the middle between those at which `Lines` changes its mind."""
    celsius = np.array((22.0, 34.0, 29.5, 26.0), np.float32)
    return [replace(each, celsius=celsius[each.frame.parts]) for each in scenes(count, first_seed)]


def as_labelled_by(path: Path, snapshots: list[Snapshot]) -> list[Snapshot]:
    """The same pictures with what a model finds in them for their truth: it is right in all of them."""
    model = load_model(path, Hardware(provider="cpu"))
    is_unet = model.card.kind == "unet"
    segmenter = NetworkSegmenter(unet=model if is_unet else None, panoptic=None if is_unet else model)
    found = [(each, segmenter.segment(each.celsius)) for each in snapshots]
    return [
        replace(each, frame=replace(each.frame, parts=said.parts, instances=said.instances)) for each, said in found
    ]


def exported(folder: Path, spread: float) -> Path:
    path = folder / "float.onnx"
    export_onnx(Lines(spread), CARD, path)
    return path


def test_a_network_that_bears_it_is_written_in_eight_bits(tmp_path: Path) -> None:
    path, output = exported(tmp_path, spread=1.0), tmp_path / "out" / "int8.onnx"
    calibration = [each.celsius for each in painted(930_000, 6)]
    result = quantize(path, output, calibration=calibration, validation=painted(940_000, 12))
    assert result.good
    assert result.before.mean_iou > 0.99, "all but specks, which are no animals"
    assert result.before.pq is None
    assert result.lost_iou < MOST_LOST_IOU
    found, card = read_onnx(output), load_model(output, Hardware(provider="cpu")).card
    assert found.operators["QuantizeLinear"] > 0
    assert found.operators["DequantizeLinear"] > 0
    assert card == CARD.model_copy(update={"precision": "int8"})
    assert f"mean IoU {result.before.mean_iou:.4f} -> mean IoU {result.after.mean_iou:.4f}" in str(result)


def test_a_network_that_does_not_is_refused_with_the_figures_and_nothing_is_written(tmp_path: Path) -> None:
    path, output = exported(tmp_path, spread=300.0), tmp_path / "int8.onnx"
    calibration = [each.celsius for each in scenes(6, 930_000)]
    with pytest.raises(ModelError) as refused:
        quantize(path, output, calibration=calibration, validation=painted(940_000, 12))
    said = str(refused.value)
    assert (
        "int8.onnx: not written: eight bits may cost 0.005 of the mean IoU and 0.005 of the PQ on 12 scenes, got mean"
        in said
    )
    assert "all convolutions in eight bits; mean IoU 0.99" in said
    assert "first and last convolutions in float" in said
    assert not output.exists()
    assert [each.name for each in tmp_path.iterdir()] == ["float.onnx"]


class LinesAndCentres(Lines):
    """The same labels, and the warmest place for the centre of all animals; only that does not bear eight bits."""

    def __init__(self, spread: float) -> None:
        super().__init__(spread=1.0)
        self.ahead = nn.Conv2d(1, 2, 1)
        self.heat = nn.Conv2d(2, 2, 1)
        self.behind = nn.Conv2d(2, 1, 1)
        with torch.no_grad():
            for layer in (self.ahead, self.heat, self.behind):
                layer.weight.zero_()
                assert layer.bias is not None
                layer.bias.zero_()
            self.ahead.weight[:, 0, 0, 0] = torch.tensor((1.0, spread))
            self.heat.weight[0, 0, 0, 0] = self.heat.weight[1, 1, 0, 0] = 1
            self.behind.weight[0, 0, 0, 0] = 1

    def forward(self, celsius: Tensor) -> tuple[Tensor, ...]:
        """Parts, confidence, centre and offset."""
        known = torch.where(torch.isnan(celsius), torch.zeros_like(celsius), celsius)
        blurred = nn.functional.avg_pool2d(known, 31, stride=1, padding=15)
        above = self.behind(self.heat(self.ahead(torch.relu(blurred - 22.0))))
        centre = (above / 12.0).clamp(0, 1)
        return *super().forward(celsius), centre, torch.cat((centre, centre), 1) * 0


def test_eight_bits_that_lose_animals_are_refused_with_the_figures(tmp_path: Path) -> None:
    path, output = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    export_onnx(LinesAndCentres(spread=1000.0), CARD.model_copy(update={"kind": "panoptic", "stride": 1}), path)
    calibration = [each.celsius for each in scenes(6, 930_000)]
    some = as_labelled_by(path, scenes(12, 940_000))
    assert scores(path, some) == Scores(mean_iou=1.0, pq=1.0)
    with pytest.raises(ModelError, match=r"0\.005 of the PQ on 12 scenes, got mean IoU 1\.0+ and PQ 1\.0+ -> ") as why:
        quantize(path, output, calibration=calibration, validation=some)
    first = re.search(r"mean IoU (\S+) and PQ (\S+) -> mean IoU (\S+) and PQ (\S+),", str(why.value))
    assert first is not None
    _, quality, _, quality_after = map(float, first.groups())
    assert quality - quality_after > MOST_LOST_PQ
    assert not output.exists()


@pytest.mark.parametrize(
    ("iou", "quality", "good"),
    [(0.796, 0.697, True), (0.794, 0.697, False), (0.796, 0.694, False), (0.796, None, True)],
)
def test_both_overlap_and_panoptic_quality_must_hold(iou: float, quality: float | None, good: bool) -> None:
    before = Scores(mean_iou=0.8, pq=None if quality is None else 0.7)
    result = Quantized(ends_in_float=False, before=before, after=Scores(mean_iou=iou, pq=quality))
    assert result.good is good
