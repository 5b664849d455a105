"""The panoptic network: parts, the animals' centres, and from each pixel the way to its animal's centre.

Bottom-up as in Cheng et al., "Panoptic-DeepLab", CVPR 2020: no boxes, no operators that ONNX lacks.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from daemon.vision.parts import BodyPart
from training.unet import UNet, UNetShape, block

OFFSET_UNIT_PX = 32.0
"""The network gives offsets in this unit, which keeps its numbers near 1."""

_BRANCH_WIDTH = 32
_CENTRE_SIGMA_PX = 5.0
"""A centre is a hill of this width; animals in a huddle lie some 15 px apart."""
_LEAST_SEEN_PX = 12
"""What shows less of itself than this has no hill: nobody could point to it."""
_RARE_LOGIT = -4.0
"""Of a centre, at the start of a training: most of a picture is none."""


class PanopticLogits(NamedTuple):
    """What the network gives; s is its stride."""

    parts: Tensor
    """(N, 4, H, W): logits of the labels."""
    centre: Tensor
    """(N, 1, H / s, W / s): logit of the heat map."""
    offset: Tensor
    """(N, 2, H / s, W / s): dx and dy to the centre of the cell's animal, in `OFFSET_UNIT_PX`."""


class PanopticNet(nn.Module):
    """A U-Net with a second branch at the resolution of its stem."""

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.shape = shape
        self.trunk = UNet(shape)
        self.branch = block(shape.widths[0], _BRANCH_WIDTH, 1, bias=shape.bias)
        self.centre = nn.Conv2d(_BRANCH_WIDTH, 1, 1)
        self.offset = nn.Conv2d(_BRANCH_WIDTH, 2, 1)
        nn.init.constant_(self.centre.bias, _RARE_LOGIT) if self.centre.bias is not None else None

    @property
    def stride(self) -> int:
        """Pixels per cell of centre and offset."""
        return self.shape.stem

    def forward(self, picture: Tensor) -> PanopticLogits:
        """All outputs for a picture (N, channels, H, W)."""
        features = self.trunk.features(picture)
        branch = self.branch(features)
        return PanopticLogits(self.trunk.parts(features), self.centre(branch), self.offset(branch))


class CentreTruth(NamedTuple):
    """What centre and offset should be in one picture."""

    centre: NDArray[np.float32]
    """(H / s, W / s): 1 at the centre of an animal, falling off around it."""
    offset: NDArray[np.float32]
    """(2, H / s, W / s): dx, dy in pixels from the middle of the cell; 0 outside animals."""
    inside: NDArray[np.bool_]
    """(H / s, W / s): where the offset means something."""


def centre_truth(parts: NDArray[np.uint8], instances: NDArray[np.uint8], stride: int) -> CentreTruth:
    """Centres and offsets from masks.

    The centre of an animal is the middle of what is seen of its body; of its head where no body is seen, and of its
    tail where that is all. So it lies in the picture also when the animal is half outside or half covered, and two
    animals of a huddle have theirs apart.

    Parameters
    ----------
    parts : (H, W) uint8
        Labels as in `BodyPart`.
    instances : (H, W) uint8
        0 background, otherwise the number of the animal.
    stride : int
        Pixels per cell; divides H and W.

    Notes
    -----
    A cell belongs to the animal that has most of its pixels, the one with the smaller number where they are even.
    Cells are `stride` pixels wide and centres of pixels are whole numbers, so the middle of cell (0, 0) is at
    (stride - 1) / 2.
    """
    height, width = parts.shape
    rows, columns = height // stride, width // stride
    middle = (stride - 1) / 2
    x = np.arange(columns, dtype=np.float32) * stride + middle
    y = np.arange(rows, dtype=np.float32) * stride + middle
    centre = np.zeros((rows, columns), np.float32)
    offset = np.zeros((2, rows, columns), np.float32)
    most = np.zeros((rows, columns), np.int32)
    for number in np.flatnonzero(np.bincount(instances.ravel(), minlength=1))[0:]:
        if number == 0:
            continue
        own = instances == number
        centre_x, centre_y, seen_px = _centre(parts, own)
        if seen_px >= _LEAST_SEEN_PX:
            hill = np.exp(-((x - centre_x) ** 2)[None] / (2 * _CENTRE_SIGMA_PX**2)) * np.exp(
                -((y - centre_y) ** 2)[:, None] / (2 * _CENTRE_SIGMA_PX**2)
            )
            np.maximum(centre, hill, out=centre)
        pixels = _summed(own, stride)
        wins = pixels > most
        most[wins] = pixels[wins]
        offset[0][wins] = np.broadcast_to(centre_x - x[None], wins.shape)[wins]
        offset[1][wins] = np.broadcast_to(centre_y - y[:, None], wins.shape)[wins]
    return CentreTruth(centre, offset, most > 0)


def _summed(own: NDArray[np.bool_], stride: int) -> NDArray[np.int32]:
    """How many pixels of each cell: `stride`² sums of whole arrays take a tenth of the time of one over two axes."""
    pixels = np.zeros((own.shape[0] // stride, own.shape[1] // stride), np.int32)
    for row in range(stride):
        for column in range(stride):
            pixels += own[row::stride, column::stride]
    return pixels


def _centre(parts: NDArray[np.uint8], own: NDArray[np.bool_]) -> tuple[float, float, int]:
    """x, y and the number of pixels seen of the whole animal."""
    y, x = np.nonzero(own)
    labels = parts[y, x]
    for part in (BodyPart.BODY, BodyPart.HEAD, BodyPart.TAIL):
        chosen = labels == part
        if chosen.any():
            return float(x[chosen].mean()), float(y[chosen].mean()), len(x)
    return float(x.mean()), float(y.mean()), len(x)


def pixels(offset: Tensor) -> Tensor:
    """Offsets of the network in pixels."""
    return offset * OFFSET_UNIT_PX


def heat(centre: Tensor) -> Tensor:
    """The heat map 0..1 from its logit."""
    return torch.sigmoid(centre)
