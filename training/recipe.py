"""What a training is made of, as a value that is stored with its results."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from training.augmentation import Augmentation
from training.unet import Enlarging, UNetShape
from training.window import WINDOW_CHANNELS


class Kind(StrEnum):
    """Which network."""

    UNET = "unet"
    PANOPTIC = "panoptic"


class Preset(StrEnum):
    """How much training."""

    QUICK = "quick"
    """Minutes on two cores: shows that everything works."""
    FULL = "full"
    """As the shipped models."""


SMALL = UNetShape(
    widths=(32, 64, 96, 128, 192),
    channels=WINDOW_CHANNELS,
    stem=2,
    encoder_convolutions=(1, 2, 2, 2, 2),
    decoder_convolutions=(2, 1, 1, 1),
    enlarging=Enlarging.NEAREST,
    bias=False,
)
"""Ours; `tests/bench/test_bench_networks_training.py` prints what it and others cost."""

TINY = UNetShape(
    widths=(16, 24, 32, 48),
    channels=WINDOW_CHANNELS,
    stem=2,
    decoder_convolutions=(1,),
    enlarging=Enlarging.NEAREST,
    bias=False,
)
"""For the quick preset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the outcome of a training but the order of sums."""

    kind: Kind
    shape: UNetShape
    epochs: int
    pictures_per_epoch: int
    batch: int = 8
    cut_px: tuple[int, int] | None = (128, 160)
    """Height and width of the window of each picture that is learned from before the decay; None takes the whole."""
    about_animals_share: float = 0.5
    """Of the windows, those about an animal; the others are anywhere."""
    learning_rate: float = 1.5e-3
    """Reached after the warm-up and kept until the decay."""
    warm_up_steps: int = 300
    decay_epochs: int = 20
    """Last epochs, in which the learning rate falls to nothing. More epochs can be put in front of them later."""
    weight_decay: float = 0.01
    average: float = 0.998
    """Of the weights, per step: exponential moving average; the average is what is watched, stored and shipped."""
    dice_weight: float = 1.0
    lovasz_weight: float = 0.0
    label_weights: tuple[float, float, float, float] | None = None
    """Of background, head, body and tail in the cross entropy; None for all alike."""
    centre_weight: float = 1.0
    offset_weight: float = 1.0
    data: tuple[str, ...] = ("scenes",)
    """What is learned from, see `material.divided`."""
    scene_uses: int = 2
    """Pictures made of each scene on the average, each time differently."""
    seed: int = 0
    validation_scenes: int = 192
    patience_epochs: int = 0
    """Stop after so many epochs without a better mean IoU; 0 goes on to the end."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if not 0 <= self.decay_epochs <= self.epochs:
            raise ValueError(f"the decay of {self.decay_epochs} epochs does not fit into {self.epochs}")
        if self.pictures_per_epoch < self.batch:
            raise ValueError(f"an epoch of {self.pictures_per_epoch} pictures is less than a batch of {self.batch}")

    def batches(self, ranks: int = 1) -> int:
        """Steps of an epoch where so many processes share it."""
        return -(-self.pictures_per_epoch // ranks) // self.batch


_STORED = TypeAdapter(Recipe)


def recipe_to_json(recipe: Recipe) -> str:
    """For the run's folder and its checkpoints."""
    return _STORED.dump_json(recipe, indent=1).decode()


def recipe_from_json(text: str) -> Recipe:
    """The way back.

    Raises
    ------
    ValueError
        If it is no recipe.
    """
    return _STORED.validate_json(text)


def preset(name: Preset, kind: Kind) -> Recipe:
    """The recipe of a preset."""
    if name is Preset.FULL:
        return Recipe(kind=kind, shape=SMALL, epochs=100, pictures_per_epoch=2048)
    return Recipe(
        kind=kind,
        shape=TINY,
        epochs=9,
        cut_px=(96, 128),
        about_animals_share=0.75,
        pictures_per_epoch=1024,
        learning_rate=6e-3,
        warm_up_steps=40,
        decay_epochs=2,
        average=0.97,
        scene_uses=6,
        validation_scenes=48,
        augmentation=Augmentation(moved=0.2, painted=0.02),
    )


def overridden(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with values given as text.

    Parameters
    ----------
    settings : sequence of str
        `name=value`, the value as JSON, the name with dots for what lies inside: `augmentation.painted=0`.

    Raises
    ------
    ValueError
        If a name is unknown or a value does not fit.
    """
    values = json.loads(recipe_to_json(recipe))
    for setting in settings:
        name, _, text = setting.partition("=")
        *path, last = name.split(".")
        place = values
        for step in path:
            place = place.get(step)
            if not isinstance(place, dict):
                raise ValueError(f"{name}: there is no such setting")
        if last not in place:
            raise ValueError(f"{name}: there is no such setting; known are {', '.join(sorted(place))}")
        try:
            place[last] = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name}: expected a value as JSON, got {text!r}") from error
    return recipe_from_json(json.dumps(values))


def changed(recipe: Recipe, **values: Any) -> Recipe:
    """The recipe with other values; a decay that no longer fits into the epochs is all of them."""
    epochs = values.get("epochs", recipe.epochs)
    return replace(recipe, decay_epochs=min(recipe.decay_epochs, epochs), **values)
