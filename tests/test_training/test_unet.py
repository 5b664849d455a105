"""The U-Net: from the published network to ours."""

import pytest
import torch

from training.recipe import SMALL, TINY
from training.unet import PUBLISHED, Enlarging, UNet, UNetShape

PUBLISHED_WEIGHTS = 31_043_716
"""Of 18 convolutions of 3 x 3 and 4 transposed ones from 3 to 64 to 1024 channels and back, with four labels."""


def test_width_64_with_three_channels_has_the_layers_of_the_published_network() -> None:
    with torch.device("meta"):
        weights = UNet(PUBLISHED).state_dict()
    blocks = [*(f"enc{level}" for level in range(1, 5)), "bottleneck", *(f"dec{level}" for level in range(1, 5))]
    expected = {f"upconv{level}.{kind}" for level in range(1, 5) for kind in ("weight", "bias")}
    expected |= {"conv_last.weight", "conv_last.bias"}
    for block in blocks:
        for number in (0, 1):
            expected |= {f"{block}.{number}.0.{kind}" for kind in ("weight", "bias")}
            expected |= {f"{block}.{number}.1.{kind}" for kind in ("weight", "bias", "running_mean", "running_var")}
            expected.add(f"{block}.{number}.1.num_batches_tracked")
    assert set(weights) == expected
    assert tuple(weights["enc1.0.0.weight"].shape) == (64, 3, 3, 3)
    assert tuple(weights["bottleneck.0.0.weight"].shape) == (1024, 512, 3, 3)
    assert tuple(weights["upconv4.weight"].shape) == (1024, 512, 2, 2)
    assert tuple(weights["dec1.0.0.weight"].shape) == (64, 128, 3, 3)
    assert tuple(weights["conv_last.weight"].shape) == (4, 64, 1, 1)


def test_the_published_network_has_31_million_weights() -> None:
    with torch.device("meta"):
        assert sum(weight.numel() for weight in UNet(PUBLISHED).parameters()) == PUBLISHED_WEIGHTS


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(UNetShape.doubling(width=4, depth=2, channels=3), id="classic"),
        pytest.param(TINY, id="tiny"),
        pytest.param(SMALL, id="ours"),
        pytest.param(UNetShape(widths=(4, 6), channels=1, stem=4, enlarging=Enlarging.NEAREST), id="stem of four"),
    ],
)
def test_logits_have_the_size_of_the_picture(shape: UNetShape) -> None:
    height, width = 2 * shape.multiple, 3 * shape.multiple
    logits = UNet(shape).eval()(torch.zeros(2, shape.channels, height, width))
    assert tuple(logits.shape) == (2, 4, height, width)


def test_each_level_has_the_layers_that_its_shape_says() -> None:
    shape = UNetShape(widths=(4, 6, 8), channels=1, encoder_convolutions=(1, 2, 3), decoder_convolutions=(2, 1))
    network = UNet(shape)
    assert [len(list(network.get_submodule(name).children())) for name in ("enc1", "enc2", "bottleneck")] == [1, 2, 3]
    assert [len(list(network.get_submodule(name).children())) for name in ("dec1", "dec2")] == [2, 1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param({"widths": (8,)}, "at least two levels", id="one level"),
        pytest.param({"stem": 0}, "must be positive", id="no stem"),
        pytest.param({"encoder_convolutions": (1, 2)}, "3 levels of encoder", id="encoder"),
        pytest.param({"decoder_convolutions": (1, 2, 3)}, "2 levels of decoder", id="decoder"),
    ],
)
def test_a_shape_that_is_none_is_refused(values: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        UNetShape(**({"widths": (4, 8, 16), "channels": 1} | values))  # type: ignore[arg-type]
