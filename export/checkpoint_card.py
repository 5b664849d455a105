"""What a checkpoint says about itself, as the card of a model."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from daemon.vision.model_card import LABELS, ModelCard, TrainedOn
from daemon.vision.onnx_file import ModelError
from export.onnx import OPSET
from training.deployed import Deployed, DeployedPublished
from training.recipe import Kind, Recipe

LICENCE = "MIT"
LIMITS = (
    "Trained on synthetic pictures alone: how it does on a real box must be looked at there.",
    "Rats and mice seen from above, about 40 to 160 pixels from nose to tail base at 256 x 192 pixels.",
    "It knows nothing of hands, other animals, and young that still lie in the nest.",
    "Where animals lie on one another their outlines are guesses; whose a covered tail is cannot be seen.",
    "A tail as cold as the floor is not in the picture, and not found.",
    "It names parts, not animals: which animal is which is not its business.",
)
PUBLISHED_LIMITS = (
    "A network of the published system, trained on false-colour pictures of one animal; only converted here.",
    "It sees colours relative to the coldest and the hottest point of each picture.",
)

_ROOT = Path(__file__).resolve().parents[1]
_GENERATOR = ("drivers/vivarium",)
_CODE = ("training", "drivers/vivarium", "daemon/vision")


def card_of_network(network: Deployed | DeployedPublished, checkpoint: Path, *, epochs: int | None) -> ModelCard:
    """A card for the ONNX file that a checkpoint becomes.

    Parameters
    ----------
    network : Deployed or DeployedPublished
        What `training.checkpoints.load` made of the checkpoint.
    checkpoint : Path
        Its file: the first letters of its SHA-256 are the model's version.
    epochs : int or None
        How many it was trained for, by the checkpoint; None where that is not known.

    Raises
    ------
    ModelError
        If the checkpoint cannot be read.
    """
    try:
        version = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:8]
    except OSError as error:
        raise ModelError(f"{checkpoint}: cannot be read: {error.strerror}") from error
    height, width = network.input_size
    published = network.recipe is None
    return ModelCard(
        name="published-unet" if published else f"vivarium-{network.kind}",
        kind="unet" if network.kind is Kind.UNET else "panoptic",
        version=version,
        labels=LABELS,
        input_height=height,
        input_width=width,
        input_unit="celsius",
        stride=network.stride,
        opset=OPSET,
        precision="float32",
        trained_on=_trained_on(network.recipe, epochs),
        code_hash=sources_hash(_CODE),
        metrics={},
        measured_on="",
        limits=PUBLISHED_LIMITS if published else LIMITS,
        licence=LICENCE,
    )


def _trained_on(recipe: Recipe | None, epochs: int | None) -> TrainedOn:
    if recipe is None:
        return TrainedOn(text="the published system's own pictures", scenes=0, seeds="", generator_hash="")
    done = recipe.epochs if epochs is None else epochs
    scenes = done * -(-recipe.pictures_per_epoch // recipe.scene_uses)
    return TrainedOn(
        text=f"synthetic scenes, {done} of {recipe.epochs} epochs of {recipe.pictures_per_epoch} augmented pictures",
        scenes=scenes,
        seeds=f"{recipe.seed} to {recipe.seed + max(scenes - 1, 0)}",
        generator_hash=sources_hash(_GENERATOR),
    )


def sources_hash(folders: Iterable[str]) -> str:
    """SHA-256 over the names and contents of the Python files in some folders of the program, as they are now."""
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted((_ROOT / folder).rglob("*.py")):
            total.update(f"{path.relative_to(_ROOT)}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def measured(card: ModelCard, metrics: Mapping[str, float], measured_on: str) -> ModelCard:
    """The card with what was measured of the file."""
    return card.model_copy(update={"metrics": dict(metrics), "measured_on": measured_on})
