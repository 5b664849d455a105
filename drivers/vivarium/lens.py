"""What lies between a surface and the detector: mist on the window, the lens's blur and its uneven light."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.vivarium.shapes import SHAPE, Field, blob, cloud, full, ramps

BLUR_SIGMA_PX = 0.6
"""Diffraction of a fast germanium lens at 10 µm on 12 µm pixels, with a little defocus."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lens:
    """One camera's way of seeing."""

    blur_sigma_px: float = BLUR_SIGMA_PX
    vignette_celsius: float = 0.0
    """What the corners read more (or less) than the middle."""
    mist: Field | None = None
    """Share of the picture that is hidden by condensation, 0..1."""
    mist_celsius: float = 0.0

    def seen(self, surface: Field) -> Field:
        """The picture behind the lens; a new array."""
        picture = through_lens(surface, self.blur_sigma_px)
        if self.mist is not None:
            picture += self.mist * (np.float32(self.mist_celsius) - picture)
        if self.vignette_celsius:
            x, y = ramps()
            picture += np.float32(self.vignette_celsius / 2) * (x * x + y * y)
        return picture


def through_lens(surface: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """The picture behind a lens with Gaussian blur; a new array."""
    if sigma_px == 0:
        return surface.copy()
    return np.asarray(cv2.GaussianBlur(surface, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT), np.float32)


def random_lens(rng: np.random.Generator, floor_celsius: float) -> Lens:
    """A lens in focus or not quite, now and then behind a misted window."""
    mist = _mist(rng) if rng.random() < 0.1 else None
    return Lens(
        blur_sigma_px=float(np.clip(rng.gamma(5.0, 0.27), 0.5, 3.0)),
        vignette_celsius=rng.normal(0, 0.35) if rng.random() < 0.7 else 0.0,
        mist=mist,
        mist_celsius=floor_celsius + rng.normal(-0.5, 0.8),
    )


def _mist(rng: np.random.Generator) -> Field:
    """Condensation on a part of the window, uneven as drops are."""
    centre = rng.uniform(0, SHAPE[1]), rng.uniform(0, SHAPE[0])
    half = rng.uniform(30, 110), rng.uniform(25, 80)
    window, soft = blob(centre, half, rng.uniform(0, math.pi), softness_px=24.0)
    around = full(0.0)
    around[window] = soft
    drops = np.clip(1 + np.float32(0.25) * cloud(rng, rng.uniform(3, 14)), 0.3, 1.5)
    return np.asarray(np.clip(np.float32(rng.uniform(0.1, 0.45)) * around * drops, 0, 0.7), np.float32)
