"""Degrees of animals, freed from the floor that the pixels on their outline see as well."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.vision.regions import Regions
from daemon.vision.shape import Mask

_RIM_SHARE = np.float32(0.5)
"""How much of the fall of temperature before the outline goes on in it; see `unmixed`."""

_NEIGHBOURS = np.ones((3, 3), np.uint8)

_OUTLINE, _SECOND, _DEEP = 1, 2, 3
"""Rings of an animal from outside; what is no animal, or lies beyond the picture, has 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unmixed:
    """Of the pixels of `Regions`, in their order."""

    celsius: NDArray[np.float32]
    """°C, NaN where there is no temperature."""
    outline: Mask
    """Whether background is among the eight neighbours; beyond the picture there is none."""


def unmixed(celsius: NDArray[np.float32], instances: NDArray[np.uint8], regions: Regions) -> Unmixed:
    """The degrees of all animals in a frame.

    Parameters
    ----------
    celsius : (height, width) float32
        °C, NaN allowed.
    instances : (height, width) uint8
        0 background, otherwise the number of an animal.
    regions : Regions
        Of these instances.

    Returns
    -------
    Unmixed
        As `celsius`, but each pixel of an animal's outline (one with background among its eight neighbours) has what
        its inner neighbours have, less half of what these have lost against theirs. One without inner neighbours,
        as on the tip of a tail, keeps its own value, and one without a temperature stays without.

    Notes
    -----
    A pixel on the outline sees animal and floor at once (the partial volume effect). Half of all pixels of a tail
    four pixels wide lie there and would pull its mean down by 0.4 °C. To leave them out would be as wrong: the mean
    would then be that of a tail's thick, warm base, and of a head without its cooler rim. So they are counted,
    with the temperature of the animal beside them. Coat cools towards the rim: a part of the fall seen in the next
    ring is this, the other part is the lens's blur, so half of it is continued outwards, and never a rise.
    On simulated rats this keeps the means of all parts within 0.2 °C for a blur (sigma) of 0.4 to 0.8 px. Through a
    lens that is out of focus thin parts still come out too cold: a tail by 0.25 °C at 1 px.
    The border between two parts or two animals is no outline, nor is the edge of the picture.
    """
    count = len(regions.pixels)
    ring = np.zeros(count + 1, np.uint8)
    values = np.full(count + 1, np.nan, np.float32)
    ring[1:], values[1:] = _rings(instances).take(regions.pixels), celsius.take(regions.pixels)
    known = np.isfinite(values)
    outline, second = np.flatnonzero(ring == _OUTLINE), np.flatnonzero(ring == _SECOND)
    around_outline, around_second = _neighbours(regions, instances.shape, outline, second)

    inside, within = _mean(around_outline, values, (ring >= _SECOND) & known)
    deeper, within_deeper = _mean(around_second, values, (ring == _DEEP) & known)
    told = np.zeros_like(known)
    told[second] = known[second] & within_deeper
    falls = np.zeros_like(values)
    falls[second] = np.minimum(values[second] - deeper, 0)
    fall, _ = _mean(around_outline, falls, told)
    freed = within & known[outline]
    values[outline[freed]] = (inside + _RIM_SHARE * fall)[freed]
    return Unmixed(celsius=values[1:], outline=ring[1:] == _OUTLINE)


def _rings(instances: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The ring of each pixel of an animal, whichever it is."""
    animal = (instances != 0).view(np.uint8)
    # Beyond the picture OpenCV counts as animal here, so the edge of the picture is not eroded.
    whole = cv2.erode(animal, _NEIGHBOURS)
    return np.asarray(animal + whole + cv2.erode(whole, _NEIGHBOURS), np.uint8)


def _neighbours(regions: Regions, size: tuple[int, ...], *pixels: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The eight neighbours of some pixels, (8, n).

    Pixels are counted in the order of the regions, from 1; 0 is all that is no animal or lies beyond the picture.
    """
    width = size[1] + 2
    spots = regions.pixels + 2 * regions.rows + width + 1  # in a picture with one more pixel on each side
    numbers = np.zeros((size[0] + 2) * width, np.min_scalar_type(len(spots)))
    numbers[spots] = np.arange(1, len(spots) + 1, dtype=numbers.dtype)
    steps = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    return [numbers.take(spots.take(each - 1) + steps[:, np.newaxis]).astype(np.intp) for each in pixels]


def _mean(
    around: NDArray[np.intp], values: NDArray[np.float32], used: Mask
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean of the used among the neighbours of each pixel, 0 where there is none; and where there is one."""
    counts = np.add.reduce(used.astype(np.float32).take(around), axis=0)
    exact = np.where(used, values, np.float32(0)).astype(np.float64)
    sums = np.add.reduce(exact.take(around), axis=0).astype(np.float32)
    return np.asarray(sums / np.maximum(counts, 1), np.float32), counts > 0
