"""A U-Net whose width, depth, channels and stem are chosen: the published network at one end, ours at the other.

What is taken from where: the form (encoder, bottleneck, decoder with skips) is that of Ronneberger, Fischer and Brox,
"U-Net", MICCAI 2015. The names of the layers (`enc1` to `enc4`, `bottleneck`, `upconv4` to `upconv1`, `dec4` to `dec1`,
`conv_last`; in each block `0` and `1` a convolution with batch normalisation and ReLU) are those of the checkpoints of
THOTIACORP/strong_vivarium, `src/train/train_unet.py`, so that these load here as they are. The stem that folds 2 x 2
pixels into channels, and the pixel shuffle that unfolds them at the end, are the sub-pixel convolution of Shi et al.,
CVPR 2016: at half resolution a convolution costs a quarter, and nothing of the picture is lost.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 4
"""Background, head, body, tail."""


class Enlarging(StrEnum):
    """How the decoder doubles its resolution."""

    TRANSPOSED = "transposed"
    """A transposed convolution, as published."""
    NEAREST = "nearest"
    """A 1 x 1 convolution and repeated values: faster in eight bits, and free of chequers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetShape:
    """Everything that decides which weights a U-Net has."""

    widths: tuple[int, ...]
    """Channels of each level of the encoder, from fine to coarse; the last one is the bottleneck."""
    channels: int
    """Of the input."""
    stem: int = 1
    """Side of the square of pixels that is folded into channels at the beginning and unfolded at the end."""
    encoder_convolutions: tuple[int, ...] = (2,)
    """Per level, from fine to coarse with the bottleneck at the end; one number is for all."""
    decoder_convolutions: tuple[int, ...] = (2,)
    """Per level, from fine to coarse; one number is for all."""
    enlarging: Enlarging = Enlarging.TRANSPOSED
    bias: bool = True
    """Whether convolutions before a batch normalisation have a bias, which that takes away again."""

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"a U-Net needs at least two levels of at least one channel, got widths {self.widths}")
        if min(self.stem, self.channels, *self.encoder_convolutions, *self.decoder_convolutions) < 1:
            raise ValueError(f"stem, channels and numbers of convolutions must be positive, got {self}")
        if len(self.encoder_convolutions) not in (1, self.depth + 1):
            raise ValueError(f"{self.depth + 1} levels of encoder, got {self.encoder_convolutions} convolutions")
        if len(self.decoder_convolutions) not in (1, self.depth):
            raise ValueError(f"{self.depth} levels of decoder, got {self.decoder_convolutions} convolutions")

    @classmethod
    def doubling(cls, *, width: int, depth: int, channels: int) -> "UNetShape":
        """The classic form: the channels double from level to level; `depth` halvings of the resolution."""
        return cls(widths=tuple(width << level for level in range(depth + 1)), channels=channels)

    @property
    def depth(self) -> int:
        """How often the resolution is halved, the stem not counted."""
        return len(self.widths) - 1

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this."""
        return self.stem << self.depth

    def encoder_layers(self, level: int) -> int:
        """Convolutions of the encoder at a level, 0 the finest, `depth` the bottleneck."""
        return self.encoder_convolutions[level if len(self.encoder_convolutions) > 1 else 0]

    def decoder_layers(self, level: int) -> int:
        """Convolutions of the decoder at a level, 0 the finest."""
        return self.decoder_convolutions[level if len(self.decoder_convolutions) > 1 else 0]


PUBLISHED = UNetShape.doubling(width=64, depth=4, channels=3)
"""The network of the published system: pictures of 512 x 512 in three colours, 31 million weights."""


def _convolution(channels_in: int, channels_out: int, *, bias: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=bias),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def block(channels_in: int, channels_out: int, convolutions: int, *, bias: bool) -> nn.Sequential:
    """Some convolutions of 3 x 3, each with batch normalisation and ReLU."""
    widths = (channels_in, *(channels_out,) * convolutions)
    return nn.Sequential(*(_convolution(first, second, bias=bias) for first, second in pairwise(widths)))


def _enlarging(channels_in: int, channels_out: int, way: Enlarging) -> nn.Module:
    if way is Enlarging.TRANSPOSED:
        return nn.ConvTranspose2d(channels_in, channels_out, 2, stride=2)
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1), nn.Upsample(scale_factor=2, mode="nearest"))


class UNet(nn.Module):
    """Labels for each pixel, as logits.

    Parameters
    ----------
    shape : UNetShape
        Decides every weight and its name.
    """

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.shape = shape
        folded = shape.stem**2
        channels = shape.channels * folded
        for level, width in enumerate(shape.widths):
            name = f"enc{level + 1}" if level < shape.depth else "bottleneck"
            self.add_module(name, block(channels, width, shape.encoder_layers(level), bias=shape.bias))
            channels = width
        for level in reversed(range(shape.depth)):
            width = shape.widths[level]
            self.add_module(f"upconv{level + 1}", _enlarging(channels, width, shape.enlarging))
            self.add_module(f"dec{level + 1}", block(2 * width, width, shape.decoder_layers(level), bias=shape.bias))
            channels = width
        self.conv_last = nn.Conv2d(channels, CLASSES * folded, 1)

    def features(self, picture: Tensor) -> Tensor:
        """What the decoder makes of a picture.

        Parameters
        ----------
        picture : (N, channels, H, W) float
            Height and width multiples of `shape.multiple`.

        Returns
        -------
        (N, widths[0], H / stem, W / stem) float
        """
        if self.shape.stem > 1:
            picture = functional.pixel_unshuffle(picture, self.shape.stem)
        skips: list[Tensor] = []
        for level in range(self.shape.depth):
            picture = self.get_submodule(f"enc{level + 1}")(picture)
            skips.append(picture)
            picture = functional.max_pool2d(picture, 2)
        picture = self.get_submodule("bottleneck")(picture)
        for level in reversed(range(self.shape.depth)):
            picture = self.get_submodule(f"upconv{level + 1}")(picture)
            picture = self.get_submodule(f"dec{level + 1}")(torch.cat((picture, skips[level]), dim=1))
        return picture

    def parts(self, features: Tensor) -> Tensor:
        """Logits (N, 4, H, W) from `features`."""
        logits: Tensor = self.conv_last(features)
        return functional.pixel_shuffle(logits, self.shape.stem) if self.shape.stem > 1 else logits

    def forward(self, picture: Tensor) -> Tensor:
        """Logits (N, 4, H, W) of a picture (N, channels, H, W)."""
        return self.parts(self.features(picture))
