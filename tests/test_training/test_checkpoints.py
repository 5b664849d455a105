"""Weights on disk: ours, and those of the published system."""

from pathlib import Path

import pytest
import torch

from training.checkpoints import RECIPE_KEY, CheckpointError, load, recipe_of, start_from, untrained
from training.deployed import Deployed, DeployedPublished
from training.recipe import TINY, Kind, Recipe, changed, recipe_to_json
from training.unet import UNet, UNetShape


def _recipe(kind: Kind) -> Recipe:
    return Recipe(kind=kind, shape=TINY, epochs=20, pictures_per_epoch=64, data=("scenes?weight=2", "scenes:5+9"))


def _stored(kind: Kind, path: Path) -> Path:
    """What a training writes, as far as reading it is concerned."""
    weights = {f"network.{name}": value for name, value in untrained(_recipe(kind)).state_dict().items()}
    torch.save({"state_dict": weights, RECIPE_KEY: recipe_to_json(_recipe(kind)), "epoch": 3}, path)
    return path


@pytest.mark.parametrize("kind", list(Kind))
def test_a_checkpoint_of_ours_gives_its_network_and_recipe(kind: Kind, tmp_path: Path) -> None:
    path = _stored(kind, tmp_path / "last.ckpt")
    network = load(path)
    assert isinstance(network, Deployed)
    assert network.kind is kind
    assert network.recipe == recipe_of(path) == _recipe(kind)
    assert not network.training
    wanted = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(value, wanted[f"network.{name}"]) for name, value in network.network.state_dict().items())


@pytest.mark.parametrize(("width", "depth"), [(4, 4), (6, 2)])
def test_a_checkpoint_of_the_published_system_gives_a_network_of_its_width_and_depth(
    width: int, depth: int, tmp_path: Path
) -> None:
    original = UNet(UNetShape.doubling(width=width, depth=depth, channels=3))
    path = tmp_path / "unet_checkpoint_epoch_10.pth"
    optimizer = torch.optim.Adam(original.parameters(), lr=1e-4)
    content = {"model_state_dict": original.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "epoch": 9}
    torch.save(content, path)
    network = load(path)
    assert isinstance(network, DeployedPublished)
    assert network.network.shape.widths == tuple(width << level for level in range(depth + 1))
    with torch.inference_mode():
        parts, confidence = network(torch.rand(1, 1, 96, 128) * 10 + 22)
    assert tuple(parts.shape) == tuple(confidence.shape) == (1, 96, 128)


def test_a_unet_begins_with_the_trunk_of_a_panoptic_network(tmp_path: Path) -> None:
    path = _stored(Kind.PANOPTIC, tmp_path / "last.ckpt")
    network = untrained(_recipe(Kind.UNET))
    start_from(network, path)
    wanted = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(value, wanted[f"network.trunk.{name}"]) for name, value in network.state_dict().items())


def test_a_panoptic_network_begins_with_a_unet_as_its_trunk(tmp_path: Path) -> None:
    path = _stored(Kind.UNET, tmp_path / "last.ckpt")
    network = untrained(_recipe(Kind.PANOPTIC))
    branch = network.get_submodule("offset").state_dict()["weight"].clone()
    start_from(network, path)
    wanted = torch.load(path, weights_only=True)["state_dict"]
    trunk = network.get_submodule("trunk").state_dict()
    assert all(torch.equal(value, wanted[f"network.{name}"]) for name, value in trunk.items())
    assert torch.equal(network.get_submodule("offset").state_dict()["weight"], branch)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = _stored(Kind.UNET, tmp_path / "last.ckpt")
    other = changed(_recipe(Kind.UNET), shape=UNetShape(widths=(8, 8), channels=3))
    with pytest.raises(CheckpointError, match="do not fit"):
        start_from(untrained(other), path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param({"weights": 1}, "expected a checkpoint of `vivarium train`", id="something else"),
        pytest.param([1, 2], "expected a dictionary", id="no dictionary"),
        pytest.param({"model_state_dict": {"enc1.0.0.weight": torch.zeros(4, 3, 3, 3)}}, "expected", id="a piece"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(content: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=words):
        load(path)


@pytest.mark.parametrize("content", [b"", b"no weights at all"], ids=["empty", "text"])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "absent.ckpt")
