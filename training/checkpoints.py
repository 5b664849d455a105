"""Trained weights on disk: ours with their recipe, and those of the published system."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drivers.errors import VivariumError
from training.deployed import Deployed, DeployedPublished
from training.history import History, Origin, history_from_json, untold, version_of
from training.panoptic import PanopticNet
from training.recipe import Kind, Recipe, recipe_from_json
from training.unet import CLASSES, UNet, UNetShape

RECIPE_KEY = "recipe"
"""In our checkpoints; its value is JSON."""
HISTORY_KEY = "history"
"""Likewise; absent in those from before it was kept."""
_NETWORK = "network."
_TRUNK = "trunk."
PUBLISHED_KEY = "model_state_dict"


class CheckpointError(VivariumError):
    """A file that no network can be made of."""


def load(path: Path) -> Deployed | DeployedPublished:
    """The network of a checkpoint, as it is shipped and in evaluation mode.

    Parameters
    ----------
    path : Path
        A checkpoint of `vivarium train`, whose averaged weights are taken, or one of the published system: a
        dictionary with `model_state_dict`, of a U-Net of any width and depth for three colours.

    Raises
    ------
    CheckpointError
        If the file cannot be read or holds something else.
    """
    stored = _read(path)
    try:
        if PUBLISHED_KEY in stored:
            return DeployedPublished(_published(stored[PUBLISHED_KEY])).eval()
        recipe = recipe_from_json(stored[RECIPE_KEY])
        network = untrained(recipe)
        network.load_state_dict(_of_network(stored))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: expected a checkpoint of `vivarium train`: {error}") from error
    return Deployed(network, recipe).eval()


def untrained(recipe: Recipe) -> UNet | PanopticNet:
    """The network of a recipe, with random weights."""
    return UNet(recipe.shape) if recipe.kind is Kind.UNET else PanopticNet(recipe.shape)


def recipe_of(path: Path) -> Recipe:
    """What a checkpoint of ours was trained with.

    Raises
    ------
    CheckpointError
        If the file cannot be read or holds none.
    """
    try:
        return recipe_from_json(_read(path)[RECIPE_KEY])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: expected a checkpoint of `vivarium train`: {error}") from error


def history_of(path: Path) -> History:
    """What a checkpoint of ours went through; of an older one what its recipe says.

    Raises
    ------
    CheckpointError
        If the file cannot be read or is none of ours.
    """
    return _history(_read(path), path)


def epochs_of(path: Path) -> int | None:
    """How many epochs a checkpoint of ours was trained for; None where it does not say.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    return _epochs(_read(path))


def origin_of(path: Path) -> Origin:
    """A checkpoint of ours as what another training begins with.

    Raises
    ------
    CheckpointError
        If the file cannot be read or is none of ours.
    """
    stored = _read(path)
    history = _history(stored, path)
    kind = recipe_from_json(stored[RECIPE_KEY]).kind
    return Origin(version=version_of(path), kind=str(kind), epochs=_epochs(stored), history=history)


def _history(stored: Mapping[str, Any], path: Path) -> History:
    try:
        if HISTORY_KEY in stored:
            return history_from_json(stored[HISTORY_KEY])
        return untold(recipe_from_json(stored[RECIPE_KEY]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: expected a checkpoint of `vivarium train`: {error}") from error


def _epochs(stored: Mapping[str, Any]) -> int | None:
    epoch = stored.get("epoch")
    return epoch + 1 if isinstance(epoch, int) else None


def start_from(network: UNet | PanopticNet, path: Path) -> None:
    """Give a network the weights of another training; a U-Net takes the trunk of a panoptic network, and gives one.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or is of a network of another shape.
    """
    stored = _read(path)
    try:
        weights = _of_network(stored)
        if isinstance(network, UNet):
            weights = {name.removeprefix(_TRUNK): value for name, value in weights.items() if not _is_branch(name)}
            network.load_state_dict(weights)
        elif any(name.startswith(_TRUNK) for name in weights):
            network.load_state_dict(weights)
        else:
            network.trunk.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its weights do not fit: {error}") from error


def _of_network(stored: Mapping[str, Any]) -> dict[str, Tensor]:
    weights: Mapping[str, Tensor] = stored["state_dict"]
    return {name.removeprefix(_NETWORK): value for name, value in weights.items() if name.startswith(_NETWORK)}


def _is_branch(name: str) -> bool:
    return name.split(".")[0] in ("branch", "centre", "offset")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's words are about its developers
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: it is torn, or none") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {error}") from error
    if not isinstance(stored, Mapping):
        raise CheckpointError(f"{path}: expected a dictionary, got {type(stored).__name__}")
    return stored


def _published(weights: Mapping[str, Tensor]) -> UNet:
    """A classic U-Net that fits the weights: width, depth and channels are read off their shapes."""
    depth = sum(name.startswith("enc") and name.endswith(".0.0.weight") for name in weights)
    width, channels = weights["enc1.0.0.weight"].shape[:2]
    if weights["conv_last.weight"].shape[0] != CLASSES:
        raise ValueError(f"{CLASSES} labels are needed, got {weights['conv_last.weight'].shape[0]}")
    if channels != 3:
        raise ValueError(f"pictures of three colours are needed, got {channels} channels")
    network = UNet(UNetShape.doubling(width=int(width), depth=depth, channels=int(channels)))
    network.load_state_dict(dict(weights))
    return network
