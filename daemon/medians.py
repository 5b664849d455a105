"""The median of many pixels, exactly and without sorting them all."""

import math

import numpy as np
from numpy.typing import NDArray

from daemon.vision.shape import Mask

_STEP = 4
"""Every so many rows and columns of a picture say about where its median is."""
_MARGIN = 0.04
"""It lies within this share of their number around theirs; else all are sorted."""


def median_of(values: NDArray[np.float32]) -> float:
    """The median; NaN of none. All must be finite."""
    ascending = np.sort(values, axis=None)
    return _middle(ascending, 0, len(ascending))


def median_where(picture: NDArray[np.float32], where: Mask) -> float | None:
    """The median of the finite pixels in a mask; None where there is none."""
    known = np.isfinite(picture) & where
    count = int(np.count_nonzero(known))
    some = np.sort(picture[::_STEP, ::_STEP][known[::_STEP, ::_STEP]])
    if not len(some):
        return median_of(picture[known]) if count else None
    low, high = (some[min(int((0.5 + margin) * len(some)), len(some) - 1)] for margin in (-_MARGIN, _MARGIN))
    lower = (picture < low) & known
    below = int(np.count_nonzero(lower))
    near = np.sort(picture[(picture <= high) & known & ~lower])
    if below <= (count - 1) // 2 and count // 2 < below + len(near):
        return _middle(near, below, count)
    return median_of(picture[known])


def _middle(ascending: NDArray[np.float32], below: int, count: int) -> float:
    """Of so many sorted values, of which these are those from a place on, the middle one or the mean of two."""
    if not count:
        return math.nan
    lower, upper = ascending[(count - 1) // 2 - below], ascending[count // 2 - below]
    return float(upper) if count % 2 else float((lower + upper) / 2)
