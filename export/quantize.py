"""Eight bits in place of 32: static quantization with what it costs measured, and refused where it costs too much."""

import daemon.vision.runtime  # noqa: F401 - before anything else of onnxruntime

# isort: split
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from daemon.vision.model_card import INPUT_NAME, ModelCard, card_of
from daemon.vision.model_check import part_iou
from daemon.vision.onnx_file import ModelError, read_onnx
from daemon.vision.segmenter import Hardware, NetworkSegmenter, load_model
from drivers.vivarium.snapshot import Snapshot
from export.onnx import write_with_card
from training.instance_measures import overlaps, panoptic_quality

MOST_LOST_IOU = 0.005
"""So much of the mean IoU of the parts may be lost."""
MOST_LOST_PQ = 0.005
"""So much of the panoptic quality of the animals may be lost, where a model tells them apart."""

_OPERATORS = ["Conv", "MaxPool", "Concat", "Resize"]
"""What is quantized: the convolutions, and what lies between them, so that nothing is unpacked on the way."""

Field = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How good a model is on scenes."""

    mean_iou: float
    """Of the parts."""
    pq: float | None
    """Panoptic quality of the animals; None for a model that does not tell them apart."""

    def __str__(self) -> str:
        return f"mean IoU {self.mean_iou:.4f}" + ("" if self.pq is None else f" and PQ {self.pq:.4f}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """What was gained and lost."""

    ends_in_float: bool
    """Whether the first and the last convolutions were left in float."""
    before: Scores
    """In float."""
    after: Scores
    """In eight bits."""

    @property
    def lost_iou(self) -> float:
        """Of the mean IoU."""
        return self.before.mean_iou - self.after.mean_iou

    @property
    def lost_pq(self) -> float:
        """Of the panoptic quality; 0 where there is none."""
        return (self.before.pq or 0.0) - (self.after.pq or 0.0)

    @property
    def good(self) -> bool:
        """Whether that is little enough."""
        return self.lost_iou < MOST_LOST_IOU and self.lost_pq < MOST_LOST_PQ

    def __str__(self) -> str:
        ends = "first and last convolutions in float" if self.ends_in_float else "all convolutions in eight bits"
        return f"{self.before} -> {self.after}, {ends}"


def quantize(path: Path, output: Path, *, calibration: Sequence[Field], validation: Sequence[Snapshot]) -> Quantized:
    """Write a model in eight bits if it stays as good.

    Static, with quantize and dequantize nodes; a scale for each channel of the weights, one for each activation, from
    the calibration pictures. All convolutions are tried first, then all but the first and the last ones.

    Parameters
    ----------
    path : Path
        A float model.
    output : Path
        Written only if it is accepted.
    calibration : sequence of (H, W) float32
        Pictures whose activations set the scales.
    validation : sequence of Snapshot
        Scenes on which both are compared; others than those of the calibration.

    Raises
    ------
    ModelError
        If too much is lost either way, with the figures; or a file cannot be used.
    """
    card = card_of(read_onnx(path).metadata, str(path))
    before = scores(path, validation)
    tried = []
    with tempfile.TemporaryDirectory() as folder:
        for ends_in_float in (False, True):
            made = Path(folder) / f"{path.stem}-{ends_in_float:d}.onnx"
            _quantize(path, made, card, calibration, ends_in_float=ends_in_float)
            result = Quantized(ends_in_float=ends_in_float, before=before, after=scores(made, validation))
            if result.good:
                output.parent.mkdir(parents=True, exist_ok=True)
                output.write_bytes(made.read_bytes())
                return result
            tried.append(str(result))
    raise ModelError(
        f"{output}: not written: eight bits may cost {MOST_LOST_IOU} of the mean IoU and {MOST_LOST_PQ} of the PQ on "
        f"{len(validation)} scenes, got {'; '.join(tried)}: export without --int8, or train longer"
    )


def scores(path: Path, validation: Sequence[Snapshot]) -> Scores:
    """Judge a file by the labels and animals that the service would make of its outputs.

    Raises
    ------
    ModelError
        If the file cannot be used.
    """
    model = load_model(path, Hardware(provider="cpu"))
    is_unet = model.card.kind == "unet"
    segmenter = NetworkSegmenter(unet=model if is_unet else None, panoptic=None if is_unet else model)
    quality = None
    if not is_unet:
        quality = panoptic_quality(
            [overlaps(each.frame.instances, segmenter.segment(each.celsius).instances) for each in validation]
        )
    return Scores(
        mean_iou=part_iou(segmenter, validation).get("mean", 0.0),
        pq=None if is_unet else 1.0 if quality is None else quality.pq,
    )


def _quantize(path: Path, output: Path, card: ModelCard, calibration: Sequence[Field], *, ends_in_float: bool) -> None:
    logging.getLogger().addFilter(_is_no_advice)
    try:
        quantize_static(
            path,
            output,
            _Pictures(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=_OPERATORS,
            nodes_to_exclude=_ends(path) if ends_in_float else [],
        )
    finally:
        logging.getLogger().removeFilter(_is_no_advice)
    write_with_card(onnx.load(output), card.model_copy(update={"precision": "int8"}), output)


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Whether it is more than the advice to pre-process, which was done by `export.onnx.fused` already."""
    return "pre-processing" not in record.getMessage()


def _ends(path: Path) -> list[str]:
    """Names of the convolutions that no other comes before, or after."""
    graph = onnx.load(path).graph
    makers = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    followed: set[str] = set()
    first: set[str] = set()
    for node in convolutions:
        before = {each.name for each in _convolutions_before(node, makers)}
        followed |= before
        if not before:
            first.add(node.name)
    return sorted(first | {node.name for node in convolutions if node.name not in followed})


def _convolutions_before(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nearest ones on each way back."""
    waiting, seen = list(node.input), set()
    while waiting:
        name = waiting.pop()
        maker = makers.get(name)
        if maker is None or name in seen:
            continue
        seen.add(name)
        if maker.op_type == "Conv":
            yield maker
        else:
            waiting += maker.input


class _Pictures(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Feeds the calibration."""

    def __init__(self, pictures: Sequence[Field]) -> None:
        self._left = iter(pictures)

    def get_next(self) -> dict[str, Field] | None:
        """The next input; None at the end."""
        picture = next(self._left, None)
        return None if picture is None else {INPUT_NAME: picture[np.newaxis, np.newaxis]}
