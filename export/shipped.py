"""The networks that come with the package, from nothing: steps that can be stopped anywhere and go on from there."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from drivers.errors import ConfigError
from export.model_file import VALIDATION_SCENES, write_model
from training.checkpoints import epochs_of, history_of
from training.curves import draw_run, read_run
from training.history import version_of
from training.recipe import Kind, Recipe, recipe_to_json
from training.train import CHECKPOINTS, Run, stored_recipe, train

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """What is made, and where."""

    recipe: Recipe
    """Of the panoptic network. The U-Net begins with the trunk of that at the end of its plateau, and has the same
    recipe but for its kind, its seed, and the plateau, which is behind it: one epoch, then the decay."""
    run: Run
    """How; in its folder each network has one of its own."""
    output: Path
    """Folder of `unet.onnx` and `panoptic.onnx`."""
    int8: bool = True
    validation: int = VALIDATION_SCENES
    """Scenes on which the files are measured."""

    def __post_init__(self) -> None:
        if self.recipe.kind is not Kind.PANOPTIC:
            raise ValueError("the panoptic network comes first: the other one begins with its trunk")
        if self.recipe.decay_epochs >= self.recipe.epochs:
            raise ConfigError(
                f"the U-Net begins at the end of the plateau: expected more than the {self.recipe.decay_epochs} epochs "
                f"of the decay, got {self.recipe.epochs}"
            )
        if not self.recipe.decay_epochs:
            raise ConfigError("what is shipped ends with a decay: decay_epochs must be at least 1")
        if self.recipe.patience_epochs:
            raise ConfigError("what is shipped is trained to the end: patience_epochs must be 0")


def make_shipped(shipment: Shipment, say: Say) -> list[Path]:
    """Train both networks and write their files; what is done already is not done again.

    Returns
    -------
    list of Path
        `unet.onnx` and `panoptic.onnx`.

    Raises
    ------
    ConfigError
        If the folder holds trainings of something else.
    VivariumError
        If a training or an export fails.
    """
    recipe = shipment.recipe
    panoptic = _trained(recipe, shipment.run, None, say)
    start = panoptic.parent / f"epoch={recipe.epochs - recipe.decay_epochs - 1:03d}.ckpt"
    epochs = recipe.decay_epochs + 1
    warm_up = min(recipe.warm_up_steps, recipe.batches())  # over when the decay begins
    rest = replace(recipe, kind=Kind.UNET, seed=recipe.seed + 1, epochs=epochs, warm_up_steps=warm_up)
    unet = _trained(rest, shipment.run, start, say)
    files = []
    for kind, checkpoint in ((Kind.UNET, unet), (Kind.PANOPTIC, panoptic)):
        file = shipment.output / f"{kind}.onnx"
        model = write_model(checkpoint, file, int8=shipment.int8, validation=shipment.validation, say=say)
        say(f"{file}: {model.card.title}, {file.stat().st_size / 1e6:.2f} MB")
        files.append(file)
    return files


def _trained(recipe: Recipe, run: Run, start: Path | None, say: Say) -> Path:
    """The last checkpoint of a training that is done, goes on, or begins."""
    folder = run.folder / recipe.kind
    run = replace(run, folder=folder, start=start)
    if run.last.is_file():
        run = replace(run, resume=True, start=None)
        _require_same(recipe, stored_recipe(run), folder)
        origin = history_of(run.last).origin
        if start is not None and (origin is None or origin.version != version_of(start)):
            raise ConfigError(f"{folder}: begun with other weights than {start}; choose another folder or remove it")
    done = (epochs_of(run.last) or 0) if run.resume else 0
    if done < recipe.epochs:
        say(f"{recipe.kind}: epochs {done + 1} to {recipe.epochs}, in {folder / CHECKPOINTS}")
        outcome = train(recipe, run)
        say(f"{recipe.kind}: mean IoU of head, body and tail {outcome.mean_iou:.3f} on scenes it was watched with")
    else:
        say(f"{recipe.kind}: all {done} epochs are done, in {folder / CHECKPOINTS}")
    draw_run(read_run(folder), str(recipe.kind), folder / "curves.png")
    return run.last


def _require_same(wanted: Recipe, stored: Recipe, folder: Path) -> None:
    values, others = (json.loads(recipe_to_json(recipe)) for recipe in (wanted, stored))
    different = [name for name in values if values[name] != others[name]]
    if different:
        told = ", ".join(f"{name} is {others[name]} there and {values[name]} here" for name in different)
        raise ConfigError(f"{folder}: a training by another recipe: {told}; choose another folder or the same recipe")
