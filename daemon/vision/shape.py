"""Shapes of masks: openings, pieces, ways inside. The edge of the picture never counts as an edge of the shape."""

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)).astype(np.uint8)
_SQUARE = np.ones((3, 3), np.uint8)

_STEPS_BETWEEN_COUNTS = 8
"""Whether a front still moves is asked after so many steps: asking costs as much as a step."""


def disc(radius_px: int) -> NDArray[np.uint8]:
    """Structuring element of a disc."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1)).astype(np.uint8)


def square(radius_px: int) -> NDArray[np.uint8]:
    """Structuring element of a square, many times faster than a disc of the same reach."""
    return np.ones((2 * radius_px + 1, 2 * radius_px + 1), np.uint8)


def grown(mask: Mask, radius_px: int) -> Mask:
    """A mask and all within this distance of it, by rows and columns."""
    return np.asarray(cv2.dilate(mask.astype(np.uint8), square(radius_px)) > 0)


def depth_px(mask: Mask) -> NDArray[np.float32]:
    """Distance of each pixel of the mask to the nearest pixel outside, float32; 1 on the outline, 0 outside."""
    if mask.all():
        return np.full(mask.shape, float(max(mask.shape)), np.float32)
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


def opened(mask: Mask, depth: NDArray[np.float32], radius_px: float) -> Mask:
    """What of a mask (and its `depth_px`) a disc of this radius can reach without leaving it."""
    core = depth > radius_px
    if not core.any():
        return np.zeros_like(mask)
    return mask & (depth_px(~core) <= radius_px)


def pieces(mask: Mask, least_px: int = 1) -> list[Mask]:
    """The connected pieces (eight neighbours) of at least this area, the largest first."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = statistics[:, cv2.CC_STAT_AREA]
    found = sorted((label for label in range(1, count) if areas[label] >= least_px), key=lambda label: -areas[label])
    return [labels == label for label in found]


def window(mask: Mask, margin_px: int = 1) -> tuple[slice, slice]:
    """The smallest window around a mask that is not empty, with a margin where the picture goes on."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(int(rows[0]) - margin_px, 0), int(rows[-1]) + margin_px + 1),
        slice(max(int(columns[0]) - margin_px, 0), int(columns[-1]) + margin_px + 1),
    )


def geodesic_px(mask: Mask, start: Mask) -> NDArray[np.int32]:
    """Steps inside a mask from the start; -1 where no way leads, and outside.

    Steps go by turns to four and to eight neighbours: places equally far lie on octagons, within 8 % of the true
    length.
    """
    inside = mask.astype(np.uint8)
    front = (start & mask).astype(np.uint8)
    steps_since = front.astype(np.int32)
    reached, step = 0, 0
    while (count := cv2.countNonZero(front)) > reached:
        reached = count
        for _ in range(_STEPS_BETWEEN_COUNTS):
            step += 1
            cv2.dilate(front, _CROSS if step % 2 else _SQUARE, dst=front)
            front &= inside
            steps_since += front
    return np.where(steps_since > 0, step + 1 - steps_since, -1).astype(np.int32)
