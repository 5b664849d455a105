"""Eight bits: written when it costs little, refused with the figures when it costs much."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from daemon.vision.model_card import LABELS, ModelCard, TrainedOn
from daemon.vision.model_check import scenes
from daemon.vision.onnx_file import ModelError, read_onnx
from daemon.vision.segmenter import Hardware, load_model
from export.onnx import OPSET, export_onnx
from export.quantize import MOST_LOST_IOU, quantize
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

    def forward(self, celsius: Tensor) -> tuple[Tensor, Tensor]:
        """Parts and confidence."""
        known = torch.where(torch.isnan(celsius), torch.zeros_like(celsius), celsius)
        return chosen(self.last(torch.relu(self.second(torch.relu(self.first(known))))), 1)


def exported(folder: Path, spread: float) -> Path:
    path = folder / "float.onnx"
    export_onnx(Lines(spread), CARD, path)
    return path


def test_a_network_that_bears_it_is_written_in_eight_bits(tmp_path: Path) -> None:
    path, output = exported(tmp_path, spread=1.0), tmp_path / "out" / "int8.onnx"
    calibration = [each.celsius for each in scenes(6, 930_000)]
    result = quantize(path, output, calibration=calibration, validation=scenes(12, 940_000))
    assert result.good
    assert result.before > 0.2
    assert result.lost < MOST_LOST_IOU
    found, card = read_onnx(output), load_model(output, Hardware(provider="cpu")).card
    assert found.operators["QuantizeLinear"] > 0
    assert found.operators["DequantizeLinear"] > 0
    assert card == CARD.model_copy(update={"precision": "int8"})
    assert f"mean IoU {result.before:.4f} -> {result.after:.4f}" in str(result)


def test_a_network_that_does_not_is_refused_with_the_figures_and_nothing_is_written(tmp_path: Path) -> None:
    path, output = exported(tmp_path, spread=300.0), tmp_path / "int8.onnx"
    calibration = [each.celsius for each in scenes(6, 930_000)]
    with pytest.raises(ModelError) as refused:
        quantize(path, output, calibration=calibration, validation=scenes(12, 940_000))
    said = str(refused.value)
    assert "int8.onnx: not written: eight bits may cost 0.005 of the mean IoU on 12 scenes, got mean IoU 0." in said
    assert "all convolutions in eight bits; mean IoU 0." in said
    assert "first and last convolutions in float" in said
    assert not output.exists()
    assert [each.name for each in tmp_path.iterdir()] == ["float.onnx"]
