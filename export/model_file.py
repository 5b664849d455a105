"""From a checkpoint to the file that leaves: exported, compared with torch, in eight bits if wanted, measured."""

import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx as onnx_format
from numpy.typing import NDArray

from daemon.vision.model_check import part_iou, scenes
from daemon.vision.onnx_file import ModelError
from daemon.vision.segmenter import Hardware, Model, NetworkSegmenter, load_model
from drivers.vivarium.snapshot import Snapshot
from export.checkpoint_card import card_of_network, measured
from export.onnx import MOST_DIFFERENT, PARITY_FRAMES, export_onnx, parity, write_with_card
from export.quantize import quantize
from training.checkpoints import epochs_of, load

CALIBRATION_SEED = 930_000
"""First of the scenes that set the scales of eight bits; these are neither trained nor judged on."""
CALIBRATION_SCENES = 64
VALIDATION_SEED = 940_000
"""First of the scenes on which the file is measured, with the same promise."""
VALIDATION_SCENES = 200
PARITY_SEED = 950_000
"""First of the scenes on which torch and onnxruntime are compared."""


def write_model(
    checkpoint: Path,
    output: Path,
    *,
    int8: bool,
    validation: int = VALIDATION_SCENES,
    licence: str | None = None,
    say: Callable[[str], None] = lambda _words: None,
) -> Model:
    """Write a network as an ONNX file with its card, and prove that it does what the network does.

    Parameters
    ----------
    checkpoint : Path
        Of `vivarium train`, or of the published system.
    output : Path
        Replaced at once when all is done, and left as it is if anything fails.
    int8 : bool
        In eight bits.
    validation : int
        Scenes on which the file is measured.
    licence : str, optional
        See `card_of_network`.
    say : callable
        Told what was measured on the way.

    Returns
    -------
    Model
        The file, loaded.

    Raises
    ------
    ModelError
        If the file differs from torch, eight bits cost too much, or it cannot be written.
    CheckpointError
        If no network can be made of the checkpoint.
    """
    network = load(checkpoint)
    card = card_of_network(network, checkpoint, epochs=epochs_of(checkpoint), licence=licence)
    snapshots = scenes(validation, VALIDATION_SEED)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / output.name
        export_onnx(network, card, made)
        same = parity(network, made, _parity_pictures())
        say(f"parity: {same}")
        if not same.good:
            raise ModelError(
                f"{output}: not written: expected less than {MOST_DIFFERENT:.0e} of the pixels, got {same}"
            )
        if int8:
            float_file, made = made, Path(folder) / f"int8-{output.name}"
            calibration = [each.celsius for each in scenes(CALIBRATION_SCENES, CALIBRATION_SEED)]
            say(f"int8: {quantize(float_file, made, calibration=calibration, validation=snapshots)}")
        _measure(made, output, snapshots)
    return load_model(output, Hardware(provider="cpu"))


@cache
def _parity_pictures() -> tuple[NDArray[np.float32], ...]:
    """Both networks that are shipped are shown the same ones: they are drawn once."""
    return tuple(each.celsius for each in scenes(PARITY_FRAMES, PARITY_SEED))


def _measure(made: Path, output: Path, snapshots: Sequence[Snapshot]) -> None:
    """Write the file with what was measured of it in its card."""
    model = load_model(made, Hardware(provider="cpu"))
    is_unet = model.card.kind == "unet"
    segmenter = NetworkSegmenter(unet=model if is_unet else None, panoptic=None if is_unet else model)
    metrics = {f"iou_{name}": round(score, 4) for name, score in part_iou(segmenter, snapshots).items()}
    where = f"{len(snapshots)} synthetic scenes, seeds {VALIDATION_SEED} to {VALIDATION_SEED + len(snapshots) - 1}"
    part = output.with_name(f"{output.name}.part")
    write_with_card(onnx_format.load(made), measured(model.card, metrics, where), part)
    try:
        part.replace(output)
    except OSError as error:
        raise ModelError(f"{output}: the model cannot be written: {error.strerror}") from error
