"""Networks as they are shipped."""

import math

import pytest
import torch
from torch.nn import functional

from training.checkpoints import untrained
from training.deployed import Deployed, DeployedPublished, chosen
from training.recipe import TINY, Kind, Recipe
from training.unet import UNet, UNetShape


def _recipe(kind: Kind) -> Recipe:
    return Recipe(kind=kind, shape=TINY, epochs=20, pictures_per_epoch=64)


@pytest.mark.parametrize("stem", [1, 2])
def test_comparisons_choose_as_arg_max_and_softmax_do(stem: int) -> None:
    folded = torch.randn(2, 4 * stem**2, 6, 8, generator=torch.Generator().manual_seed(5))
    logits = functional.pixel_shuffle(folded, stem)
    label, probability = chosen(folded, stem)
    assert label.dtype == torch.uint8
    assert torch.equal(label.long(), logits.argmax(1))
    assert torch.allclose(probability, logits.softmax(1).amax(1), atol=1e-6)


def test_of_equal_logits_the_first_label_is_chosen() -> None:
    logits = torch.tensor((1.0, 1.0, 1.0, 1.0)).reshape(1, 4, 1, 1)
    label, probability = chosen(logits, 1)
    assert label.item() == 0
    assert probability.item() == pytest.approx(0.25)


@pytest.mark.parametrize("kind", list(Kind))
def test_outputs_are_those_of_the_contract(kind: Kind) -> None:
    network = Deployed(untrained(_recipe(kind)), _recipe(kind)).eval()
    celsius = torch.full((2, 1, 192, 256), 24.0)
    celsius[0, 0, :50] = math.nan
    with torch.inference_mode():
        outputs = network(celsius)
    assert network.kind is kind
    shapes = [(tuple(output.shape), output.dtype) for output in outputs]
    expected: list[tuple[tuple[int, ...], torch.dtype]] = [((2, 192, 256), torch.uint8), ((2, 192, 256), torch.float32)]
    if kind is Kind.PANOPTIC:
        assert network.stride == 2
        expected += [((2, 1, 96, 128), torch.float32), ((2, 2, 96, 128), torch.float32)]
        assert 0 <= outputs[2].min() <= outputs[2].max() <= 1
    else:
        assert network.stride is None
    assert shapes == expected
    assert all(output.isfinite().all() for output in outputs[1:])


def test_the_published_network_is_given_the_colours_of_the_app_and_its_labels_are_put_in_order() -> None:
    network = UNet(UNetShape.doubling(width=4, depth=2, channels=3)).eval()
    seen: list[torch.Tensor] = []

    def tail_everywhere(picture: torch.Tensor) -> torch.Tensor:
        seen.append(picture)
        logits = torch.zeros(len(picture), 4, *picture.shape[2:])
        logits[:, 1] = 5.0  # published: 1 is the tail
        return logits

    network.forward = tail_everywhere  # type: ignore[method-assign]
    celsius = torch.full((1, 1, 192, 256), 22.0)
    celsius[..., 128:] = 32.0
    celsius[..., :5, :5] = math.nan
    parts, confidence = DeployedPublished(network)(celsius)
    assert tuple(seen[0].shape) == (1, 3, 512, 512)
    assert seen[0][0, :, 256, 10].tolist() == pytest.approx(
        [-1, -1, 96 / 127.5 - 1], abs=1e-4
    )  # the coldest: dark blue
    assert seen[0][0, :, 256, 500].tolist() == pytest.approx([252 / 127.5 - 1, -1, -1], abs=1e-4)  # the hottest: red
    assert tuple(parts.shape) == (1, 192, 256)
    assert parts.unique().tolist() == [3]
    assert confidence.min().item() == pytest.approx(math.exp(5) / (math.exp(5) + 3), abs=1e-4)
