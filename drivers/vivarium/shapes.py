"""Simple fields and shapes of the size of the picture; all floats are float32."""

import math
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

Field = NDArray[np.float32]
"""Shape (192, 256)."""
Points = NDArray[np.float64]
"""Shape (n, 2): x and y in pixels."""
Window = tuple[slice, slice]
"""Rows and columns, to index a picture."""

SHAPE = IMAGE_HEIGHT, IMAGE_WIDTH

_SUBPIXEL_BITS = 4
_SMOOTH_ENOUGH = 3.0
"""What is softer than this many pixels is drawn smaller and enlarged."""


def full(celsius: float) -> Field:
    """One value everywhere."""
    return np.full(SHAPE, celsius, np.float32)


@cache
def ramps() -> tuple[Field, Field]:
    """Columns and rows as numbers from -1 to 1, as (x, y); read-only."""
    y, x = np.mgrid[-1 : 1 : IMAGE_HEIGHT * 1j, -1 : 1 : IMAGE_WIDTH * 1j].astype(np.float32)
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y


def cloud(rng: np.random.Generator, grain_px: float) -> Field:
    """Smooth noise of standard deviation 1 (about), whose lumps are `grain_px` (at least 1) wide."""
    rows, columns = (max(3, round(size / grain_px) + 1) for size in SHAPE)
    lumps = rng.standard_normal((rows, columns), dtype=np.float32)
    if (rows, columns) == SHAPE:
        return lumps
    return np.asarray(1.4 * cv2.resize(lumps, SHAPE[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def blob(
    centre: tuple[float, float], half_px: tuple[float, float], angle_rad: float, softness_px: float
) -> tuple[Window, NDArray[np.float32]]:
    """An ellipse with a soft edge, 1 inside, in the window of the picture where it is not nothing."""
    coarse = max(1, int(softness_px / _SMOOTH_ENOUGH))
    cells = math.ceil((max(half_px) + 3 * softness_px + 2) / coarse)
    left, top = (round(value) - cells * coarse for value in centre)
    soft = np.zeros((2 * cells + 1, 2 * cells + 1), np.float32)
    # The centre of a large pixel lies at (n + 0.5) * coarse - 0.5 of the small ones.
    x, y = ((value - start + 0.5) / coarse - 0.5 for value, start in zip(centre, (left, top), strict=True))
    a, b = (max(value / coarse - 0.4, 0.2) for value in half_px)  # the outline of a filled ellipse is a pixel wide
    ellipse(soft, (x, y), (a, b), angle_rad, 1.0)
    soft = np.asarray(cv2.GaussianBlur(soft, (0, 0), max(softness_px / coarse, 0.4)), np.float32)
    soft = np.asarray(cv2.resize(soft, None, fx=coarse, fy=coarse, interpolation=cv2.INTER_LINEAR), np.float32)
    window = within(top, top + soft.shape[0], left, left + soft.shape[1])
    rows, columns = window
    return window, soft[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def within(top: int, bottom: int, left: int, right: int) -> Window:
    """The rows and columns of a rectangle that are inside the picture; none of them where it is outside."""
    first_row, last_row = (min(max(value, 0), IMAGE_HEIGHT) for value in (top, bottom))
    first_column, last_column = (min(max(value, 0), IMAGE_WIDTH) for value in (left, right))
    return slice(first_row, last_row), slice(first_column, last_column)


def ellipse(
    field: NDArray[np.float32],
    centre: tuple[float, float],
    half_px: tuple[float, float],
    angle_rad: float,
    value: float,
) -> None:
    """Fill an ellipse with a value."""
    cv2.ellipse(
        field, subpixels(*centre), subpixels(*half_px), float(np.degrees(angle_rad)), 0, 360, value, cv2.FILLED,
        shift=_SUBPIXEL_BITS,
    )  # fmt: skip


def disc(field: NDArray[np.float32], centre: tuple[float, float], radius_px: float, value: float) -> None:
    """Fill a disc with a value."""
    cv2.circle(field, subpixels(*centre), subpixel(radius_px), value, cv2.FILLED, shift=_SUBPIXEL_BITS)


def polygon(field: NDArray[np.float32] | NDArray[np.uint8], corners: Points, value: float) -> None:
    """Fill a polygon of any form with a value."""
    cv2.fillPoly(field, [np.rint(corners * (1 << _SUBPIXEL_BITS)).astype(np.int32)], value, shift=_SUBPIXEL_BITS)


def stroke(field: NDArray[np.float32] | NDArray[np.uint8], line: Points, width_px: float, value: float) -> None:
    """Draw a line of constant width through points."""
    steps = np.diff(line, axis=0, append=2 * line[-1:] - line[-2:-1])
    aside = np.stack((steps[:, 1], -steps[:, 0]), axis=1)
    aside *= width_px / 2 / np.maximum(np.linalg.norm(aside, axis=1, keepdims=True), 1e-6)
    polygon(field, np.concatenate((line + aside, (line - aside)[::-1])), value)


def subpixel(px: float) -> int:
    """A length as OpenCV wants it with `shift=4`."""
    return round(px * (1 << _SUBPIXEL_BITS))


def subpixels(x: float, y: float) -> tuple[int, int]:
    """A point as OpenCV wants it with `shift=4`."""
    return subpixel(x), subpixel(y)


def arc(start: tuple[float, float], end: tuple[float, float], sag_px: float, points: int = 12) -> Points:
    """A slightly bent line: a parabola that leaves the straight one by `sag_px` in the middle."""
    share = np.linspace(0, 1, points)[:, None]
    begin, finish = np.array(start), np.array(end)
    way = finish - begin
    aside = np.array((-way[1], way[0])) / max(float(np.linalg.norm(way)), 1e-6)
    return np.asarray(begin + share * way + 4 * share * (1 - share) * sag_px * aside)
