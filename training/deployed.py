"""Networks as they are shipped: degrees in, labels out, everything in between inside the graph.

The outputs are those of `daemon.vision.model_card`. Labels are chosen by comparisons and before the pixels are
unfolded: an arg-max over the channels of the whole picture takes onnxruntime longer than a third of the network.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from drivers.palettes import known_palettes
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH
from training.panoptic import PanopticNet, heat, pixels
from training.recipe import Kind, Recipe
from training.unet import CLASSES, UNet
from training.window import Window

PUBLISHED_SIDE_PX = 512
PUBLISHED_ORDER = (0, 3, 2, 1)
"""Where background, head, body and tail stand in the published masks, which have 1 for the tail and 3 for the head."""
_PUBLISHED_PALETTE = "xinfrared_rainbow"
_LEAST_SPAN_CELSIUS = 0.1

Labels = tuple[Tensor, Tensor]
"""`parts` (N, H, W) uint8 and `confidence` (N, H, W) float32."""


class Deployed(nn.Module):
    """A network with its window in front and the choice of labels behind it.

    Parameters
    ----------
    network : UNet or PanopticNet
        Trained on the views of `Window`.
    recipe : Recipe, optional
        What it was trained with, where that is known.
    """

    input_size = (IMAGE_HEIGHT, IMAGE_WIDTH)
    """Height and width of the pictures."""

    def __init__(self, network: UNet | PanopticNet, recipe: Recipe | None = None) -> None:
        super().__init__()
        self.window = Window()
        self.network = network
        self.recipe = recipe

    @property
    def kind(self) -> Kind:
        """Which outputs it has."""
        return Kind.UNET if isinstance(self.network, UNet) else Kind.PANOPTIC

    @property
    def stride(self) -> int | None:
        """Pixels per cell of centre and offset; None where there are none."""
        return self.network.stride if isinstance(self.network, PanopticNet) else None

    def forward(self, celsius: Tensor) -> tuple[Tensor, ...]:
        """Parts and confidence, and of a panoptic network centre and offset, of degrees (N, 1, H, W), NaN allowed."""
        views = self.window(celsius)
        trunk = self.network if isinstance(self.network, UNet) else self.network.trunk
        features = trunk.features(views)
        labels = chosen(trunk.conv_last(features), trunk.shape.stem)
        if isinstance(self.network, UNet):
            return labels
        branch = self.network.branch(features)
        return *labels, heat(self.network.centre(branch)), pixels(self.network.offset(branch))


class DeployedPublished(nn.Module):
    """A network of the published system, made to take degrees.

    It was trained on the colours of the vendor's app, in which the coldest and the hottest point of the picture have
    the ends of the palette, squashed to 512 x 512 pixels and scaled to -1 to 1. So that is done here.
    """

    input_size = (IMAGE_HEIGHT, IMAGE_WIDTH)
    kind = Kind.UNET
    stride = None
    recipe = None

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network
        colours = torch.from_numpy(known_palettes()[_PUBLISHED_PALETTE].colours.copy())
        self.register_buffer("colours", colours / 127.5 - 1, persistent=False)

    def forward(self, celsius: Tensor) -> Labels:
        """Parts and confidence at the size of the degrees (N, 1, H, W), NaN allowed."""
        unknown = torch.isnan(celsius)
        coldest = torch.where(unknown, torch.inf, celsius).amin((2, 3), keepdim=True)
        hottest = torch.where(unknown, -torch.inf, celsius).amax((2, 3), keepdim=True)
        position = (celsius - coldest) / (hottest - coldest).clamp(_LEAST_SPAN_CELSIUS)
        position = torch.where(torch.isfinite(position), position, 0.0)[:, 0]
        colours = cast(Tensor, self.colours)
        index = (position * (len(colours) - 1)).round().clamp(0, len(colours) - 1).long()
        picture = colours[index].movedim(3, 1)
        squashed = functional.interpolate(picture, (PUBLISHED_SIDE_PX, PUBLISHED_SIDE_PX), mode="bilinear")
        logits = self.network(squashed)[:, list(PUBLISHED_ORDER)]
        return chosen(functional.interpolate(logits, celsius.shape[2:], mode="bilinear"), 1)


def chosen(folded: Tensor, stem: int) -> Labels:
    """The likeliest label of each pixel and its probability; of equal ones the first.

    Parameters
    ----------
    folded : (N, 4 * stem², H / stem, W / stem) float
        Logits of background, head, body and tail, the pixels of a square in channels.
    """
    none, head, body, tail = folded.chunk(CLASSES, 1)
    lower, upper = torch.maximum(none, head), torch.maximum(body, tail)
    highest = torch.maximum(lower, upper)
    zero, one, two, three = (torch.full_like(none, number) for number in range(CLASSES))
    label = torch.where(upper > lower, torch.where(tail > body, three, two), torch.where(head > none, one, zero))
    total = sum((torch.exp(each - highest) for each in (head, body, tail)), torch.exp(none - highest))
    return unfolded(label, stem).to(torch.uint8), unfolded(total.reciprocal(), stem)


def unfolded(square: Tensor, stem: int) -> Tensor:
    """(N, H, W) from (N, stem², H / stem, W / stem)."""
    return (functional.pixel_shuffle(square, stem) if stem > 1 else square)[:, 0]
