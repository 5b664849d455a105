"""A trained network as an ONNX file that keeps the contract of `daemon.vision.model_card`, and the proof that it does.

The graph takes degrees and gives labels. What lies between, from the window on the degrees to the choice of the label,
is the module's own; here convolutions are fused with their batch normalisations, which changes no result but for
rounding, and the card is written into the file.
"""

import copy
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from daemon.vision.model_card import CARD_KEY, INPUT_NAME, ModelCard, expected_outputs
from daemon.vision.onnx_file import ModelError
from daemon.vision.segmenter import Hardware, load_model

OPSET = 18
"""Of the standard operators; onnxruntime knows it since 1.15."""

PARITY_FRAMES = 200
MOST_DIFFERENT = 1e-4
"""Share of pixels whose label may differ between torch and onnxruntime."""

_COMPARED_TOGETHER = 8

_TRACED_PICTURES = 2
"""One picture alone would be taken for a size that never changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far a file and the network it was made from agree."""

    frames: int
    pixels: int
    different: int
    """Pixels with another label."""

    @property
    def share(self) -> float:
        """Of the pixels, those with another label."""
        return self.different / self.pixels

    @property
    def good(self) -> bool:
        """Whether that is rounding and nothing else."""
        return self.share < MOST_DIFFERENT

    def __str__(self) -> str:
        return f"{self.different} of {self.pixels} pixels in {self.frames} frames have another label ({self.share:.2e})"


def export_onnx(network: nn.Module, card: ModelCard, path: Path) -> None:
    """Write a network as an ONNX file.

    Parameters
    ----------
    network : torch module
        Takes degrees C (N, 1, H, W) float32, NaN allowed; gives the outputs of the card's kind, in the order and with
        the types of `daemon.vision.model_card.expected_outputs`. It is left as it is.
    card : ModelCard
        What goes into the file's metadata; its opset must be `OPSET`.
    path : Path
        Where to; replaced if it is there.

    Raises
    ------
    ModelError
        If the network does not keep the contract, or the file cannot be written.
    """
    if card.opset != OPSET:
        raise ModelError(f"{path}: the card says opset {card.opset}, and {OPSET} is what is exported")
    prepared = fused(network)
    pictures = torch.full((_TRACED_PICTURES, 1, card.input_height, card.input_width), 25.0)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages that nobody needs here
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about itself
        program = torch.onnx.export(
            prepared,
            (pictures,),
            input_names=[INPUT_NAME],
            output_names=list(expected_outputs(card)),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    if program is None:
        raise ModelError(f"{path}: torch gave no ONNX program")
    write_with_card(program.model_proto, card, path)
    load_model(path, Hardware(provider="cpu"))


def write_with_card(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
    """Write a graph with a card, and with nothing of where and how it was made.

    Raises
    ------
    ModelError
        If the file cannot be written.
    """
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
    onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.checker.check_model(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString())
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be written: {error.strerror}") from error


def fused(network: nn.Module) -> nn.Module:
    """A copy for inference in which each convolution has taken up the batch normalisation that follows it."""
    prepared: nn.Module = copy.deepcopy(network).eval()
    for module in list(prepared.modules()):
        if isinstance(module, nn.Sequential):
            for index in range(len(module) - 1):
                first, second = module[index], module[index + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    module[index] = fuse_conv_bn_eval(first, second)
                    module[index + 1] = nn.Identity()
    return prepared


def parity(network: nn.Module, path: Path, frames: Sequence[NDArray[np.float32]]) -> Parity:
    """Compare the labels of a file with those of the network it was made from.

    Raises
    ------
    ModelError
        If the file cannot be used.
    """
    model = load_model(path, Hardware(provider="cpu"))
    original = copy.deepcopy(network).eval()
    different = pixels = 0
    for first in range(0, len(frames), _COMPARED_TOGETHER):
        batch = np.stack(frames[first : first + _COMPARED_TOGETHER]).astype(np.float32, copy=False)
        with torch.inference_mode():
            wanted = original(torch.from_numpy(batch[:, np.newaxis].copy()))[0].numpy()
        got = model.run(batch)["parts"]
        different += int(np.count_nonzero(got != wanted))
        pixels += got.size
    return Parity(frames=len(frames), pixels=pixels, different=different)
