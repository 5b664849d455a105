"""Non-uniformity correction on the host, for the v2 camera, which sends bare sensor counts.

Offset from the closed shutter, gain per pixel, column stripes, dead pixels. Integer arithmetic throughout, so that
the result is the same to the bit everywhere. Source: the steps of diminDDL/InfiCamPlus, which follow the vendor's app.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.t2s_protocol import COUNT_LEVELS, IMAGE_HEIGHT, IMAGE_WIDTH

GAIN_ONE = 16_384
"""Gain words are Q14; 0 marks a dead pixel."""

_STRIPE_REACH = 8
_STRIPE_TOLERANCE_COUNTS = 16
_STRIPE_MAX_VOTES = 5


def average_offset(shutter_frames: Sequence[NDArray[np.uint16]]) -> NDArray[np.uint16]:
    """The offset B: pixel-wise mean of frames of the closed shutter, halves rounded up, column stripes removed.

    Parameters
    ----------
    shutter_frames : sequence of (192, 256) uint16
        Counts of the frames received while the shutter was closed (350 to 800 ms after the command).

    Raises
    ------
    ValueError
        If there is no frame.
    """
    if not shutter_frames:
        raise ValueError("at least one frame of the closed shutter is needed, got none: send the command again")
    count = len(shutter_frames)
    total = np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH), dtype=np.int64)
    for frame in shutter_frames:
        total += frame
    return destripe(((2 * total + count) // (2 * count)).astype(np.uint16))


def destripe(image: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Remove column stripes: each column moves by what its pixels' similar horizontal neighbours say.

    Of the 17 neighbours (-8..+8, mirrored at the borders) those within 16 counts are kept; a pixel votes with the
    mean distance to them, at most 5 votes each; the column moves by the mean vote, truncated.
    """
    values = image.astype(np.int32)
    padded = np.pad(values, ((0, 0), (_STRIPE_REACH, _STRIPE_REACH)), mode="reflect")
    kept = np.zeros_like(values)
    total = np.zeros_like(values)
    for shift in range(2 * _STRIPE_REACH + 1):
        difference = padded[:, shift : shift + values.shape[1]] - values
        near = np.abs(difference) <= _STRIPE_TOLERANCE_COUNTS
        kept += near
        total += np.where(near, difference, 0)
    votes = np.minimum(kept, _STRIPE_MAX_VOTES)
    reciprocal = -(-65_536 // kept)
    contribution = (total.astype(np.int64) * votes * reciprocal) >> 16
    column = np.trunc(contribution.sum(axis=0) / votes.sum(axis=0)).astype(np.int32)
    destriped: NDArray[np.uint16] = np.clip(values + column, 0, COUNT_LEVELS - 1).astype(np.uint16)
    return destriped


def fill_dead_pixels(image: NDArray[np.uint16], dead: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Replace dead pixels by the rounded mean of their valid neighbours.

    The neighbourhood grows from 3 x 3 until it holds a valid pixel; a smaller square is counted again with each
    larger one, borders are mirrored, and pixels are taken in raster order. A filled pixel stays invalid for others.
    """
    filled = image.copy()
    rows, columns = image.shape
    for y, x in np.argwhere(dead):
        total = count = reach = 0
        while count == 0:
            reach += 1
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    row, column = _mirrored(int(y) + dy, rows), _mirrored(int(x) + dx, columns)
                    if not dead[row, column]:
                        total += int(image[row, column])
                        count += 1
        filled[y, x] = (2 * total + count) // (2 * count)
    return filled


def _mirrored(index: int, length: int) -> int:
    if index < 0:
        return -index
    return 2 * (length - 1) - index if index >= length else index


def non_uniformity(
    image: NDArray[np.uint16], offset: NDArray[np.uint16], gain: NDArray[np.uint16], pedestal: int
) -> NDArray[np.uint16]:
    """P + trunc((raw - B)*k / 16384), within 0..16383."""
    difference = image.astype(np.int64) - offset
    scaled = difference * gain
    moved = pedestal + np.sign(scaled) * (np.abs(scaled) // GAIN_ONE)
    corrected: NDArray[np.uint16] = np.clip(moved, 0, COUNT_LEVELS - 1).astype(np.uint16)
    return corrected


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostCorrection:
    """What one shutter event and one gain map give: everything to correct the pictures that follow."""

    offset: NDArray[np.uint16]
    """From `average_offset`, shape (192, 256)."""

    gain: NDArray[np.uint16] | None
    """Gain words, shape (192, 256); None when the map could not be had: the gain is then taken as 1 everywhere."""

    def __post_init__(self) -> None:
        for name, words in (("offset", self.offset), ("gain", self.gain)):
            if words is not None and (words.dtype != np.uint16 or words.shape != (IMAGE_HEIGHT, IMAGE_WIDTH)):
                raise ValueError(
                    f"{name} must be ({IMAGE_HEIGHT}, {IMAGE_WIDTH}) uint16, got {words.dtype} {words.shape}"
                )
        if self.gain is not None and np.count_nonzero(self.gain) <= self.gain.size // 2:
            raise ValueError(
                f"a gain map has few dead pixels, this one has {self.gain.size - np.count_nonzero(self.gain)} "
                f"of {self.gain.size}: fetch it from the camera again"
            )

    @property
    def has_gain(self) -> bool:
        """Whether the degrees can be trusted away from the shutter's temperature."""
        return self.gain is not None

    def apply(self, image: NDArray[np.uint16], pedestal: int) -> NDArray[np.uint16]:
        """Corrected counts, shape (192, 256); `pedestal` is cal_00 of the range in use."""
        gain = np.full_like(image, GAIN_ONE) if self.gain is None else self.gain
        corrected = destripe(non_uniformity(image, self.offset, gain, pedestal))
        return fill_dead_pixels(corrected, gain == 0)
