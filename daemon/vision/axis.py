"""The axis of one animal and the split along it: head before the neck, then body, then tail."""

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.vision.parts import BodyPart
from daemon.vision.shape import Mask, depth_px, geodesic_px, grown, window

Profile = NDArray[np.float64]

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


_LINE_SMOOTHING = 0.08


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
    trunk = animal & ~tail
    if not trunk.any():
        return parts
    here = window(trunk)
    trunk_parts = parts[here]
    trunk_parts[_head(animal[here], trunk[here], tail[here], warm[here])] = BodyPart.HEAD
    return parts


def _head(animal: Mask, trunk: Mask, tail: Mask, warm: NDArray[np.float32]) -> Mask:
    """The head in a window around the trunk that has a margin unless the picture ends there."""
    distance = _from_nose(trunk, tail, warm)
    distance = _along_middle_line(distance)
    length = int(distance.max()) + 1
    nose = distance == 0
    cut = bool(nose[0].any() or nose[-1].any() or nose[:, 0].any() or nose[:, -1].any())
    unmixed = (distance >= 0) & (depth_px(animal) >= _UNMIXED_DEPTH_PX)
    width = np.bincount(distance[distance >= 0], minlength=length).astype(np.float64)
    heat = _means(distance[unmixed], warm[unmixed], length)
    neck = _neck_px(width, heat, cut=cut)
    return np.asarray((distance >= 0) & (distance < neck))


def _from_nose(trunk: Mask, tail: Mask, warm: NDArray[np.float32]) -> NDArray[np.int32]:
    """Place of each pixel along the trunk's axis in pixels, 0 at the nose; -1 outside.

    Ways to one end alone are shorter along the inside of a bend. Half the difference of the ways to both ends is
    not, and where it is equal lies a line across the animal.
    """
    base = trunk & grown(tail, 2)
    if base.any():
        from_rump = geodesic_px(trunk, base)
        from_nose = geodesic_px(trunk, _farthest(from_rump))
    else:
        depth = depth_px(trunk)
        one = geodesic_px(trunk, _farthest(geodesic_px(trunk, depth == depth.max())))
        other = geodesic_px(trunk, _farthest(one))
        from_nose, from_rump = (one, other) if _end_heat(one, warm) >= _end_heat(other, warm) else (other, one)
    along = (from_nose - from_rump + from_nose.max()) // 2
    return np.where((from_nose >= 0) & (from_rump >= 0), np.maximum(along, 0), -1).astype(np.int32)


def _along_middle_line(distance: NDArray[np.int32]) -> NDArray[np.int32]:
    """Places along the axis again, now by the nearest point of the line through the middle of the animal.

    A principal curve: the means of all pixels at a place, smoothed, form a line, on which each pixel finds its place
    anew. Places equally far then lie on straight lines across the animal, wherever its nose was taken to be.
    """
    trunk = distance >= 0
    rows, columns = np.nonzero(trunk)
    line = np.rint(_middle_line(columns, rows, distance[trunk])).astype(np.intp)
    inside = ((line >= 0) & (line < (distance.shape[1], distance.shape[0]))).all(axis=1)
    x, y = line[inside].T
    elsewhere = np.ones(distance.shape, np.uint8)
    elsewhere[y, x] = 0
    _, nearest = cv2.distanceTransformWithLabels(elsewhere, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    place_of = np.zeros(int(nearest.max()) + 1, np.int32)
    place_of[nearest[y, x]] = np.arange(x.size)
    places = place_of[nearest]
    return np.where(trunk, places - places[trunk].min(), -1).astype(np.int32)


def _middle_line(x: NDArray[np.intp], y: NDArray[np.intp], places: NDArray[np.int32]) -> NDArray[np.float64]:
    """The smoothed means of the points at each place, (n, 2), a pixel apart and prolonged beyond both ends."""
    length = int(places.max()) + 1
    window = 2 * max(round(_LINE_SMOOTHING * length), 1) + 1
    means = [_means(places, points, length) for points in (x, y)]
    if length <= window:
        return np.stack(means, axis=1)
    smooth = np.stack([np.convolve(mean, np.full(window, 1 / window), mode="valid") for mean in means], axis=1)
    head_on, rump_on = smooth[0] - smooth[window // 2], smooth[-1] - smooth[-1 - window // 2]
    beyond = np.array((2.0, 1.0))[:, None]
    line = np.concatenate((smooth[0] + beyond * head_on, smooth, smooth[-1] + beyond[::-1] * rump_on))
    way = np.concatenate(((0.0,), np.cumsum(np.hypot(*np.diff(line, axis=0).T))))
    steps = np.arange(0.0, way[-1])
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
    """Distance of the neck from the nose by the profiles along the trunk; 0 for a cut animal without a plain neck."""
    length = width.size
    reach = max(round(_NECK_REACH * length), 1)
    places = np.arange(reach, length - reach + 1)
    candidates = (places >= _NECK_BETWEEN[0] * length) & (places <= _NECK_BETWEEN[1] * length)
    if not candidates.any():
        return 0 if cut else length
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
