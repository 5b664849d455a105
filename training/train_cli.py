"""`vivarium train`: teach the networks that find animals and their parts."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from daemon.logs import configure_logging
from daemon.settings import LogSettings
from drivers.errors import ConfigError
from training.datasets import SPEC_HELP
from training.recipe import Kind, Preset, Recipe, changed, overridden
from training.recipe import preset as preset_recipe
from training.train import Accelerator, Precision, Run, stored_recipe, train

PresetOption = Annotated[
    Preset, typer.Option("--preset", help="quick: minutes, shows that it works; full: as shipped.")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder of the training; runs/KIND-PRESET when left out.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the training in the folder.")]
EpochsOption = Annotated[
    int | None, typer.Option(min=1, help="In all; with --resume the plateau before the decay becomes longer.")
]
PicturesOption = Annotated[int | None, typer.Option(min=1, help="Pictures of an epoch.")]
StartOption = Annotated[
    Path | None, typer.Option("--from", metavar="CHECKPOINT", help="Begin with the weights of another training.")
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="SPEC",
        help=f"What to learn from, several are mixed: scenes (fresh ones without an end), or {SPEC_HELP}. "
        "A fifth of each but scenes is held back, by session or by blocks of time.",
    ),
]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Of weights, pictures and their order.")]
PatienceOption = Annotated[
    int | None, typer.Option(min=0, help="Stop after so many epochs without a better mean IoU; 0: never.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Anything else of the recipe: dice_weight=0, augmentation.moved=1."
    ),
]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Threads of each training process.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that make pictures, for each training process.")]
DevicesOption = Annotated[int, typer.Option(min=1, help="Training processes, each on a GPU where there are some.")]
AcceleratorOption = Annotated[Accelerator, typer.Option(help="Where the network is; a GPU if there is one.")]
PrecisionOption = Annotated[Precision, typer.Option(help="Of the sums; mixed ones are faster.")]


def train_command(
    kind: Annotated[Kind, typer.Argument(help="unet labels head, body and tail; panoptic also tells animals apart.")],
    preset: PresetOption = Preset.QUICK,
    output: OutputOption = None,
    resume: ResumeOption = False,
    epochs: EpochsOption = None,
    pictures: PicturesOption = None,
    start: StartOption = None,
    data: DataOption = None,
    seed: SeedOption = None,
    patience: PatienceOption = None,
    settings: SetOption = None,
    threads: ThreadsOption = 1,
    workers: WorkersOption = 1,
    devices: DevicesOption = 1,
    accelerator: AcceleratorOption = Accelerator.AUTO,
    precision: PrecisionOption = Precision.BF16_MIXED,
) -> None:
    """Teach a network on scenes that are made on the way, or on pictures of yours; it can be stopped and resumed."""
    configure_logging(LogSettings(level="info"))
    run = Run(
        folder=output or Path("runs") / f"{kind}-{preset}",
        resume=resume,
        start=start,
        threads=threads,
        workers=workers,
        devices=devices,
        accelerator=accelerator,
        precision=precision,
        progress=sys.stdout.isatty(),
    )
    wanted = {
        "epochs": epochs,
        "pictures_per_epoch": pictures,
        "data": tuple(data) if data else None,
        "seed": seed,
        "patience_epochs": patience,
    }
    recipe = stored_recipe(run) if resume else preset_recipe(preset, kind)
    if recipe.kind is not kind:
        raise ConfigError(f"{run.folder}: a training of the {recipe.kind} network, not of {kind}")
    recipe = changed(recipe, **{name: value for name, value in wanted.items() if value is not None})
    recipe = with_settings(recipe, settings or [])
    outcome = train(recipe, run)
    if outcome.is_first_process:
        typer.echo(
            f"{outcome.epochs} epochs: mean IoU of head, body and tail {outcome.mean_iou:.3f} on "
            f"{recipe.validation_scenes} unseen scenes; {outcome.checkpoint}"
        )


def with_settings(recipe: Recipe, settings: list[str]) -> Recipe:
    """The recipe with what `--set` says.

    Raises
    ------
    ConfigError
        If that does not fit.
    """
    try:
        return overridden(recipe, settings)
    except ValueError as error:
        raise ConfigError(f"--set: {error}") from error
