"""The axis of one animal and the split along it: head before the neck, then body, then tail."""

import numpy as np
from numpy.typing import NDArray

from daemon.vision.parts import BodyPart
from daemon.vision.shape import Mask, depth_px, geodesic_px, grown, pieces, window

Profile = NDArray[np.float64]

_LINE_SMOOTHING = 0.08
"""The middle line is smoothed over this share of the trunk's length to both sides: less than half a head."""

_LEAST_TRUNK_PX = 50
"""What is left of an animal at the edge of the picture is not told apart when it is less than this."""

_STRIDE_PX = 2
"""The rough course of the axis is found on every second pixel, in a fifth of the time."""

_NECK_BETWEEN = (0.15, 0.45)
"""Where along the trunk, nose to tail base, a neck can be; a rat's head is a quarter to a third of that length."""

_NECK_REACH = 0.08
"""A neck is judged by this share of the trunk's length before and behind it, a third of a head."""

_UNMIXED_DEPTH_PX = 2.0
"""The outermost ring of pixels sees the floor as well: it has no part in the profile of heat."""

_END_SHARE = 0.25
"""How much of the trunk is looked at where only heat can tell which end is the head."""

_END_PERCENTILE = 90
"""Eyes and ears are small and warm: of each end the warmest tenth counts."""

_STEP_TO_SLOPE = 2.0
"""At a true neck heat falls by more than this many times what it falls elsewhere along the trunk."""


def split(animal: Mask, tail: Mask, warm: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Label head, body and tail of one animal.

    Parameters
    ----------
    animal, tail : (height, width) bool
        All of it, and its tail (empty when none is seen).
    warm : (height, width) float32
        Above the background, °C, without NaN.

    Returns
    -------
    (height, width) uint8
        0 outside, otherwise a `BodyPart`.

    Notes
    -----
    The head is at the end of the trunk farthest from the tail, along ways inside it, so that a bent animal is
    measured along its bend. Without a tail the two ends are those farthest from one another, and the warmer one
    is the head. The neck is where heat falls and the outline narrows most. An animal whose front end is cut by the
    edge of the picture has a head only if a neck is plain to see.
    """
    parts = np.where(animal, np.uint8(BodyPart.BODY), np.uint8(0))
    parts[tail] = BodyPart.TAIL
    for trunk in pieces(animal & ~tail, _LEAST_TRUNK_PX)[:1]:
        here = window(trunk)
        labels = parts[here]
        labels[_head(animal[here], trunk[here], tail[here], warm[here])] = BodyPart.HEAD
    return parts


def _head(animal: Mask, trunk: Mask, tail: Mask, warm: NDArray[np.float32]) -> Mask:
    """The head in a window around the trunk that has a margin unless the picture ends there."""
    from_nose = _from_nose(trunk, tail, warm)
    if not (from_nose >= 0).any():
        return np.zeros_like(trunk)
    along = _along(trunk, _middle_line(from_nose))
    length = int(along.max()) + 1
    nose = along == 0
    cut = bool(nose[0].any() or nose[-1].any() or nose[:, 0].any() or nose[:, -1].any())
    unmixed = trunk & (depth_px(animal) >= _UNMIXED_DEPTH_PX)
    width = np.bincount(along[trunk], minlength=length).astype(np.float64)
    heat = _means(along[unmixed], warm[unmixed], length)
    return trunk & (along < _neck_px(width, heat, cut=cut))


def _from_nose(trunk: Mask, tail: Mask, warm: NDArray[np.float32]) -> NDArray[np.int32]:
    """Rough place of every `_STRIDE_PX`th pixel along the trunk, 0 near the nose, in strides; -1 outside.

    Ways to one end alone are shorter along the inside of a bend. Half the difference of the ways to both ends is
    not, and where it is equal lies a line across the animal.
    """
    sparse = slice(None, None, _STRIDE_PX), slice(None, None, _STRIDE_PX)
    base = (trunk & grown(tail, _STRIDE_PX))[sparse]
    trunk, warm = trunk[sparse], warm[sparse]
    if not trunk.any():
        return np.full(trunk.shape, -1, np.int32)
    if base.any():
        from_rump = geodesic_px(trunk, base)
        from_nose = geodesic_px(trunk, _farthest(from_rump))
    else:
        middle = depth_px(trunk)
        one = geodesic_px(trunk, _farthest(geodesic_px(trunk, middle == middle.max())))
        other = geodesic_px(trunk, _farthest(one))
        from_nose, from_rump = (one, other) if _end_heat(one, warm) >= _end_heat(other, warm) else (other, one)
    along = (from_nose - from_rump + from_nose.max()) // 2
    return np.where((from_nose >= 0) & (from_rump >= 0), np.maximum(along, 0), -1).astype(np.int32)


def _along(trunk: Mask, line: NDArray[np.float64]) -> NDArray[np.int32]:
    """Place of each pixel of the trunk: the number of the point of the line that is nearest, from 0; -1 outside."""
    rows, columns = np.nonzero(trunk)
    # |point - line|² without the part that is the same for all of the line: (x, y, 1) times (-2x, -2y, x² + y²).
    points = np.stack((columns, rows, np.ones_like(rows)), axis=1).astype(np.float32)
    against = np.column_stack((-2 * line, np.square(line).sum(axis=1))).astype(np.float32)
    places = (points @ against.T).argmin(axis=1)
    along = np.full(trunk.shape, -1, np.int32)
    along[trunk] = places - places.min()
    return along


def _middle_line(from_nose: NDArray[np.int32]) -> NDArray[np.float64]:
    """The line through the middle of the trunk, points (x, y) one pixel apart, prolonged beyond both ends.

    A principal curve: the means of all pixels at a rough place, smoothed. Nearest to each of its points lies a straight
    line across the animal, wherever the nose was taken to be.
    """
    rows, columns = np.nonzero(from_nose >= 0)
    places = from_nose[rows, columns]
    length = int(places.max()) + 1
    reach = max(round(_LINE_SMOOTHING * length), 1)
    means = [_means(places, _STRIDE_PX * points, length) for points in (columns, rows)]
    if length <= 3 * reach:
        return np.stack(means, axis=1)
    even = np.full(2 * reach + 1, 1 / (2 * reach + 1))
    line = np.stack([np.convolve(mean, even, mode="valid") for mean in means], axis=1)
    # What smoothing takes off each end is put back twice, straight on: pixels beyond the ends need a place too.
    onwards = np.array((2.0, 1.0))[:, None]
    before, behind = onwards * (line[0] - line[reach]), onwards[::-1] * (line[-1] - line[-1 - reach])
    line = np.concatenate((line[0] + before, line, line[-1] + behind))
    way = np.concatenate(((0.0,), np.cumsum(np.hypot(*np.diff(line, axis=0).T))))
    steps = np.arange(int(way[-1]) + 1)
    return np.stack([np.interp(steps, way, line[:, axis]) for axis in (0, 1)], axis=1)


def _farthest(distance: NDArray[np.int32]) -> Mask:
    return np.asarray(distance == distance.max())


def _end_heat(distance: NDArray[np.int32], warm: NDArray[np.float32]) -> float:
    end = (distance >= 0) & (distance <= _END_SHARE * distance.max())
    return float(np.percentile(warm[end], _END_PERCENTILE))


def _means(places: NDArray[np.integer], values: NDArray[np.number], length: int) -> Profile:
    """Mean of the values at each place; between places and beyond the last, what the nearest have."""
    counts = np.bincount(places, minlength=length)
    sums = np.bincount(places, weights=values, minlength=length)
    known = np.flatnonzero(counts)
    if known.size == 0:
        return np.zeros(length)
    return np.interp(np.arange(length), known, sums[known] / counts[known])


def _neck_px(width: Profile, heat: Profile, *, cut: bool) -> int:
    """Distance of the neck from the nose by the profiles along the trunk; 0 where no neck can be told."""
    length = width.size
    reach = max(round(_NECK_REACH * length), 1)
    places = np.arange(reach, length - reach + 1)
    candidates = (places >= _NECK_BETWEEN[0] * length) & (places <= _NECK_BETWEEN[1] * length)
    if not candidates.any():
        return 0
    summed = np.concatenate(((0.0,), np.cumsum(heat)))
    fall = (2 * summed[places] - summed[places - reach] - summed[places + reach]) / reach
    even = _smoothed(width, reach // 2)
    narrowing = (even[places - reach] + even[places + reach - 1]) / 2 - even[np.minimum(places, length - 1)]
    score = np.where(candidates, _in_sigmas(fall, heat) + _in_sigmas(narrowing, width), -np.inf)
    best = int(score.argmax())
    if cut and fall[best] <= _STEP_TO_SLOPE * float(np.median(np.abs(fall))):
        return 0
    return int(places[best])


def _smoothed(profile: Profile, reach: int) -> Profile:
    """Mean over so many places to both sides, fewer at the ends."""
    ones = np.ones(2 * reach + 1)
    return np.convolve(profile, ones, mode="same") / np.convolve(np.ones_like(profile), ones, mode="same")


def _in_sigmas(change: Profile, profile: Profile) -> Profile:
    """A change along a profile in units of how much the profile varies at all."""
    sigma = float(profile.std())
    return change / sigma if sigma > 0 else np.zeros_like(change)
