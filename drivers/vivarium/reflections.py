"""Animals mirrored in floor and walls: fainter, blurred, beside the animal or beyond a wall's foot."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.vivarium.shapes import Field, Window, within


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """One mirror image of everything warm."""

    flip_axis: int | None
    """0 mirrors up and down, 1 left and right, None shifts only, as a floor seen at an angle does."""
    offset_px: tuple[float, float]
    """Shift (x, y) after the flip about the picture's first row or column."""
    share: float
    """So much of the warmth above the floor comes back."""
    blur_px: float

    def image(self, excess: Field, source: Window) -> tuple[Window, NDArray[np.float32]]:
        """What the mirror adds to the picture, in the window where that is not nothing.

        Parameters
        ----------
        excess : (192, 256) float32
            The warmth of the animals above the floor.
        source : Window
            Where that is not nothing.
        """
        rows, columns = source
        across, down = self.offset_px
        sign_x, sign_y = (-1 if self.flip_axis == 1 else 1), (-1 if self.flip_axis == 0 else 1)
        reach = math.ceil(3 * self.blur_px) + 1
        xs = sorted((sign_x * columns.start + across, sign_x * (columns.stop - 1) + across))
        ys = sorted((sign_y * rows.start + down, sign_y * (rows.stop - 1) + down))
        window = within(
            math.floor(ys[0]) - reach,
            math.ceil(ys[1]) + reach + 1,
            math.floor(xs[0]) - reach,
            math.ceil(xs[1]) + reach + 1,
        )
        height, width = (side.stop - side.start for side in window)
        if not height or not width:
            return window, np.zeros((height, width), np.float32)
        matrix = np.array(((sign_x, 0, across - window[1].start), (0, sign_y, down - window[0].start)), np.float64)
        moved = cv2.warpAffine(excess, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=0.0)
        return window, np.asarray(np.float32(self.share) * cv2.GaussianBlur(moved, (0, 0), self.blur_px), np.float32)


def random_mirrors(rng: np.random.Generator, walls: tuple[tuple[int, float], ...], length_px: float) -> list[Mirror]:
    """Mirrors of a box: some have a smooth floor, some walls shine."""
    mirrors = []
    for _ in range(int(rng.choice((0, 1, 2), p=(0.35, 0.4, 0.25)))):
        offset = rng.normal(0, 0.17 * length_px, 2)
        mirrors.append(
            Mirror(
                flip_axis=None,
                offset_px=(float(offset[0]), float(offset[1])),
                share=_share(rng),
                blur_px=rng.uniform(0.6, 3.5),
            )
        )
    for axis, foot in walls:
        if rng.random() < 0.7:
            mirrors.append(wall_mirror(axis, foot, share=_share(rng), blur_px=rng.uniform(0.6, 3.0)))
    return mirrors


def _share(rng: np.random.Generator) -> float:
    """How well something mirrors heat: plastic little, polished steel at a flat angle a lot."""
    return 0.04 + 0.44 * rng.beta(1.0, 1.8)


def wall_mirror(axis: int, foot_px: float, *, share: float, blur_px: float) -> Mirror:
    """The mirror image in a wall whose foot is at `foot_px` of an axis (0 for y, 1 for x)."""
    offset = (2 * foot_px, 0.0) if axis == 1 else (0.0, 2 * foot_px)
    return Mirror(flip_axis=axis, offset_px=offset, share=share, blur_px=blur_px)
