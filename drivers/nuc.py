"""Non-uniformity correction on the host, for the v2 camera, which sends bare sensor counts.

Offset from the closed shutter, gain per pixel, column stripes, dead pixels. Integer arithmetic throughout, so that
the result is the same to the bit everywhere. Source: the steps of diminDDL/InfiCamPlus, which follow the vendor's app.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.t2s_protocol import COUNT_LEVELS, IMAGE_HEIGHT, IMAGE_WIDTH

GAIN_ONE = 16_384
"""Gain words are Q14; 0 marks a dead pixel."""

_GAIN_BITS = 14

_STRIPE_REACH = 8
_STRIPE_TOLERANCE_COUNTS = 16
_STRIPE_MAX_VOTES = 5
_SHIFTS_IN_A_BYTE = 3
"""Of so many shifts, two neighbours each, the distances within the tolerance add up to less than 128."""


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

    Parameters
    ----------
    image : (height, width) uint16
        Counts of 14 bits.
    """
    values = image.view(np.int16)
    width = values.shape[1]
    padded = cv2.copyMakeBorder(values, 0, 0, _STRIPE_REACH, _STRIPE_REACH, cv2.BORDER_REFLECT_101)
    kept, total = _kept_neighbours(padded.reshape(-1).view(np.int16))
    inner = slice(_STRIPE_REACH, _STRIPE_REACH + width)
    kept = np.ascontiguousarray(kept.reshape(padded.shape)[:, inner])
    factors: NDArray[np.int32] = cv2.LUT(kept, _VOTES_BY_RECIPROCAL).view(np.int32)
    contribution = total.reshape(padded.shape)[:, inner] * factors
    contribution >>= 16
    votes = cv2.reduce(np.minimum(kept, _STRIPE_MAX_VOTES), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[0]
    column = np.trunc(contribution.sum(axis=0, dtype=np.int32) / votes).astype(np.int16)
    destriped: NDArray[np.int16] = np.clip(values + column, 0, COUNT_LEVELS - 1)
    return destriped.view(np.uint16)


def _kept_neighbours(line: NDArray[np.int16]) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """For each place on a line: how many places within reach are similar, itself included, and their summed distance.

    The rows of a picture may follow one another: what crosses from one to the next touches their borders only. A pair
    of places is looked at once, for both of them, and in bytes: a distance beyond the tolerance is as good as any.
    """
    kept = np.ones(line.size, np.uint8)
    total = np.zeros(line.size, np.int16)
    part = np.zeros(line.size, np.int8)
    words, distances = np.empty_like(total), np.empty_like(part)
    magnitudes, nears = np.empty_like(part), np.empty(line.size, np.bool_)
    beyond = _STRIPE_TOLERANCE_COUNTS + 1
    for shift in range(1, _STRIPE_REACH + 1):
        pairs = line.size - shift
        word, distance, near = words[:pairs], distances[:pairs], nears[:pairs]
        np.subtract(line[shift:], line[:-shift], out=word)
        np.copyto(distance, np.clip(word, -beyond, beyond, out=word), casting="unsafe")
        np.less_equal(np.abs(distance, out=magnitudes[:pairs]), _STRIPE_TOLERANCE_COUNTS, out=near)
        distance *= near.view(np.int8)
        kept[:-shift] += near.view(np.uint8)
        kept[shift:] += near.view(np.uint8)
        part[:-shift] += distance
        part[shift:] -= distance
        if shift % _SHIFTS_IN_A_BYTE == 0 or shift == _STRIPE_REACH:
            total += part
            part[:] = 0
    return kept, total


def _votes_by_reciprocal() -> NDArray[np.int32]:
    """By how many neighbours are kept: the votes times the reciprocal of that number, Q16, rounded up."""
    kept = np.maximum(np.arange(256, dtype=np.int32), 1)
    factors: NDArray[np.int32] = np.minimum(kept, _STRIPE_MAX_VOTES) * -(-65_536 // kept)
    return factors


_VOTES_BY_RECIPROCAL = _votes_by_reciprocal()


class DeadPixels:
    """Replaces dead pixels by the rounded mean of their valid neighbours.

    The neighbourhood grows from 3 x 3 until it holds a valid pixel; borders are mirrored. A filled pixel stays invalid
    for others, so the order does not matter. Which neighbours a pixel has is found once.

    Parameters
    ----------
    dead : (height, width) bool
        Where they are; not all of them.
    """

    def __init__(self, dead: NDArray[np.bool_]) -> None:
        if dead.all():
            raise ValueError(f"expected a valid pixel among {dead.size}, all are dead")
        self._targets = np.flatnonzero(dead)
        sources = [_valid_neighbours(dead, *divmod(int(target), dead.shape[1])) for target in self._targets]
        self._counts = np.array([len(source) for source in sources], dtype=np.int64)
        self._sources = np.concatenate(sources) if sources else np.empty(0, np.int64)
        self._starts = np.cumsum(self._counts) - self._counts

    def fill(self, image: NDArray[np.uint16]) -> None:
        """Replace them in a picture, in place."""
        if self._targets.size == 0:
            return
        flat = image.reshape(-1)
        totals = np.add.reduceat(flat[self._sources], self._starts, dtype=np.int64)
        flat[self._targets] = (2 * totals + self._counts) // (2 * self._counts)


def _valid_neighbours(dead: NDArray[np.bool_], row: int, column: int) -> NDArray[np.int64]:
    """Flat places in the smallest square around a pixel that holds a valid one; mirrored ones count again."""
    reach = 0
    while True:
        reach += 1
        span = np.arange(-reach, reach + 1)
        rows, columns = _mirrored(row + span, dead.shape[0]), _mirrored(column + span, dead.shape[1])
        square = (rows[:, np.newaxis] * dead.shape[1] + columns).ravel()
        valid: NDArray[np.int64] = square[~dead.reshape(-1)[square]]
        if valid.size:
            return valid


def _mirrored(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Places beyond the borders, mirrored without repeating the border."""
    period = 2 * (length - 1)
    folded: NDArray[np.int64] = np.abs(index) % period
    return np.minimum(folded, period - folded)


def non_uniformity(
    image: NDArray[np.uint16], offset: NDArray[np.uint16], gain: NDArray[np.uint16], pedestal: int
) -> NDArray[np.uint16]:
    """P + trunc((raw - B)*k / 16384), within 0..16383; picture and offset of 14 bits."""
    return _scaled(image, offset.view(np.int16), gain.astype(np.int32), pedestal)


def _scaled(
    image: NDArray[np.uint16], offset: NDArray[np.int16], gain: NDArray[np.int32], pedestal: int
) -> NDArray[np.uint16]:
    words = (image.view(np.int16) - offset) * gain  # 15 bits times 16 bits
    words += (words >> 31) & (GAIN_ONE - 1)  # the shift that follows rounds down, also below 0
    words >>= _GAIN_BITS
    words += pedestal
    return np.clip(words, 0, COUNT_LEVELS - 1, out=words).astype(np.uint16)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostCorrection:
    """What one shutter event and one gain map give: everything to correct the pictures that follow."""

    offset: NDArray[np.uint16]
    """From `average_offset`, shape (192, 256)."""

    gain: NDArray[np.uint16] | None
    """Gain words, shape (192, 256); None when the map could not be had: the gain is then taken as 1 everywhere."""

    _gain_words: NDArray[np.int32] = field(init=False)
    _offset_words: NDArray[np.int16] = field(init=False)
    _dead: DeadPixels = field(init=False)

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
        gain = np.full((IMAGE_HEIGHT, IMAGE_WIDTH), GAIN_ONE, np.uint16) if self.gain is None else self.gain
        object.__setattr__(self, "_gain_words", gain.astype(np.int32))
        object.__setattr__(self, "_offset_words", self.offset.view(np.int16))
        object.__setattr__(self, "_dead", DeadPixels(gain == 0))

    @property
    def has_gain(self) -> bool:
        """Whether the degrees can be trusted away from the shutter's temperature."""
        return self.gain is not None

    def apply(self, image: NDArray[np.uint16], pedestal: int) -> NDArray[np.uint16]:
        """Corrected counts, shape (192, 256); `pedestal` is cal_00 of the range in use."""
        corrected = destripe(_scaled(image, self._offset_words, self._gain_words, pedestal))
        self._dead.fill(corrected)
        return corrected
