"""Simple fields and shapes of the size of the picture; all floats are float32."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

Field = NDArray[np.float32]
"""Shape (192, 256)."""
Points = NDArray[np.float64]
"""Shape (n, 2): x and y in pixels."""

SHAPE = IMAGE_HEIGHT, IMAGE_WIDTH

_SUBPIXEL_BITS = 4
_COARSE = 4
"""Soft things are drawn at a quarter of the size."""


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


def blob(centre: tuple[float, float], half_px: tuple[float, float], angle_rad: float, softness_px: float) -> Field:
    """An ellipse with a soft edge: 1 inside, 0 outside."""
    coarse = np.zeros((IMAGE_HEIGHT // _COARSE, IMAGE_WIDTH // _COARSE), np.float32)
    # Pixel centres of the coarse picture lie at (n + 0.5) * _COARSE - 0.5 of the fine one.
    x, y = ((value + 0.5) / _COARSE - 0.5 for value in centre)
    a, b = (max(value / _COARSE - 0.4, 0.2) for value in half_px)  # a filled outline is half a pixel wide
    ellipse(coarse, (x, y), (a, b), angle_rad, 1.0)
    soft = cv2.GaussianBlur(coarse, (0, 0), max(softness_px / _COARSE, 0.4), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(soft, SHAPE[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


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
