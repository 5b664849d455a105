"""`vivarium export`: trained networks as ONNX files (needs the extras training and export)."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import onnx as onnx_format
import typer
from rich.console import Console

from daemon.vision.model_card import ModelCard
from daemon.vision.model_check import part_iou, scenes
from daemon.vision.onnx_file import ModelError
from daemon.vision.segmenter import Hardware, NetworkSegmenter, load_model
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

_WIDTH = 10_000
"""Columns: lines are not broken."""

export_app = typer.Typer(help="Trained networks in standard formats.", no_args_is_help=True)


@export_app.callback()
def export() -> None:
    """Trained networks in standard formats."""


@export_app.command()
def onnx(
    checkpoint: Annotated[Path, typer.Argument(help="Of `vivarium train`, or of the published system.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file; replaced if it is there.")],
    int8: Annotated[bool, typer.Option("--int8", help="In eight bits; refused where that costs too much.")] = False,
    validation: Annotated[int, typer.Option(help="Scenes on which the file is measured.", min=1)] = VALIDATION_SCENES,
) -> None:
    """Write a network as an ONNX file with its card, and prove that it does what the network does."""
    console = Console(width=_WIDTH, highlight=False)
    network = load(checkpoint)
    card = card_of_network(network, checkpoint, epochs=epochs_of(checkpoint))
    snapshots = scenes(validation, VALIDATION_SEED)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / output.name
        export_onnx(network, card, made)
        same = parity(network, made, [each.celsius for each in scenes(PARITY_FRAMES, PARITY_SEED)])
        console.print(f"parity: {same}")
        if not same.good:
            raise ModelError(
                f"{output}: not written: expected less than {MOST_DIFFERENT:.0e} of the pixels, got {same}"
            )
        if int8:
            float_file, made = made, Path(folder) / f"int8-{output.name}"
            calibration = [each.celsius for each in scenes(CALIBRATION_SCENES, CALIBRATION_SEED)]
            result = quantize(float_file, made, calibration=calibration, validation=snapshots)
            console.print(f"int8: {result}")
        _measure(made, output, snapshots)
    final = load_model(output, Hardware(provider="cpu"))
    figures = ", ".join(f"{name} {value:.4f}" for name, value in final.card.metrics.items())
    console.print(f"{output}: {final.card.title}, {output.stat().st_size / 1e6:.2f} MB, {figures}", soft_wrap=True)


def _measure(made: Path, output: Path, snapshots: Sequence[Snapshot]) -> None:
    """Write the file with what was measured of it in its card."""
    model = load_model(made, Hardware(provider="cpu"))
    is_unet = model.card.kind == "unet"
    segmenter = NetworkSegmenter(unet=model if is_unet else None, panoptic=None if is_unet else model)
    metrics = {f"iou_{name}": round(score, 4) for name, score in part_iou(segmenter, snapshots).items()}
    where = f"{len(snapshots)} synthetic scenes, seeds {VALIDATION_SEED} to {VALIDATION_SEED + len(snapshots) - 1}"
    card: ModelCard = measured(model.card, metrics, where)
    write_with_card(onnx_format.load(made), card, output)
