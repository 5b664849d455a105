"""`vivarium export`: trained networks as ONNX files (needs the extras training and export)."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daemon.logs import configure_logging
from daemon.networks import SHIPPED_DIR
from daemon.settings import LogSettings
from export.model_file import VALIDATION_SCENES, write_model
from export.shipped import Shipment, make_shipped
from training.evaluate_cli import evaluate
from training.recipe import Kind, Preset, changed, preset
from training.source_spec import DEFAULT_SCENES
from training.train import Accelerator, Precision, Run
from training.train_cli import (
    AcceleratorOption,
    EpochsOption,
    PicturesOption,
    PrecisionOption,
    PresetOption,
    SetOption,
    ThreadsOption,
    WorkersOption,
    with_settings,
)

_WIDTH = 10_000
"""Columns: lines are not broken."""

export_app = typer.Typer(help="Trained networks in standard formats.", no_args_is_help=True)

ValidationOption = Annotated[int, typer.Option(help="Scenes on which a file is measured.", min=1)]


@export_app.callback()
def export() -> None:
    """Trained networks in standard formats."""


@export_app.command()
def onnx(
    checkpoint: Annotated[Path, typer.Argument(help="Of `vivarium train`, or of the published system.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file; replaced if it is there.")],
    int8: Annotated[bool, typer.Option("--int8", help="In eight bits; refused where that costs too much.")] = False,
    validation: ValidationOption = VALIDATION_SCENES,
    licence: Annotated[
        str | None,
        typer.Option(help="Of the model; left out, ours if all it learned from are our scenes, else unknown."),
    ] = None,
) -> None:
    """Write a network as an ONNX file with its card, and prove that it does what the network does."""
    console = _console()
    model = write_model(checkpoint, output, int8=int8, validation=validation, licence=licence, say=console.print)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in model.card.metrics.items())
    console.print(f"{output}: {model.card.title}, {output.stat().st_size / 1e6:.2f} MB, {figures}", soft_wrap=True)


@export_app.command()
def shipped(
    runs: Annotated[Path, typer.Option(help="Folder of both trainings.")] = Path("runs/shipped"),
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the ONNX files.")] = SHIPPED_DIR,
    preset_name: PresetOption = Preset.FULL,
    epochs: EpochsOption = None,
    pictures: PicturesOption = None,
    settings: SetOption = None,
    int8: Annotated[bool, typer.Option(help="In eight bits; refused where that costs too much.")] = True,
    validation: ValidationOption = VALIDATION_SCENES,
    judged: Annotated[int, typer.Option(help="Scenes on which both together are judged.", min=1)] = DEFAULT_SCENES,
    threads: ThreadsOption = 1,
    workers: WorkersOption = 1,
    accelerator: AcceleratorOption = Accelerator.AUTO,
    precision: PrecisionOption = Precision.BF16_MIXED,
) -> None:
    """Make the networks that come with the package from nothing; given again, it goes on where it was stopped.

    The panoptic network to its end, the U-Net from its trunk at the end of the plateau, both as ONNX files, and both
    together judged: exit code 1 if they miss what is asked.
    """
    configure_logging(LogSettings(level="info"))
    console = _console()
    wanted = {"epochs": epochs, "pictures_per_epoch": pictures}
    recipe = changed(
        preset(preset_name, Kind.PANOPTIC), **{name: value for name, value in wanted.items() if value is not None}
    )
    shipment = Shipment(
        recipe=with_settings(recipe, settings or []),
        run=Run(
            folder=runs,
            threads=threads,
            workers=workers,
            accelerator=accelerator,
            precision=precision,
            progress=sys.stdout.isatty(),
        ),
        output=output,
        int8=int8,
        validation=validation,
    )
    files = make_shipped(shipment, console.print)
    evaluate(runs / "evaluation", files, count=judged, accept=True)


def _console() -> Console:
    return Console(width=_WIDTH, highlight=False, markup=False)
