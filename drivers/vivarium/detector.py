"""What a microbolometer makes of a picture, in degrees: noise, stripes, fixed pattern, drift, dead pixels, lag.

`drivers.sensor_model` does the same in the counts of one known camera; this is any camera of the kind, for pictures
that a network is to cope with.
"""

import math
from dataclasses import dataclass

import numpy as np

from drivers.vivarium.shapes import SHAPE, Field, cloud


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """Faults of one detector, °C rms unless said otherwise."""

    netd_celsius: float
    """Noise from frame to frame of one pixel, without the temporal filter."""
    pattern_celsius: float
    """Fixed noise from pixel to pixel."""
    column_celsius: float
    row_celsius: float
    shade_celsius: float
    """Soft unevenness over the whole picture, as it grows since the last shutter event."""
    drift_celsius: float
    """Error of all degrees since then."""
    memory: float
    """Share of the frame before that the temporal filter keeps, 0..1."""
    dead: int
    """How many pixels do not answer."""
    step_celsius: float
    """Size of one count."""
    contrast: float = 1.0
    """Differences from the surroundings that are read, by the true ones: with a wrong emissivity they are smaller."""
    surroundings_celsius: float = 0.0

    def read(self, picture: Field, before: Field, rng: np.random.Generator) -> Field:
        """Degrees as the camera gives them, for a picture and the one before it."""
        # The steady state of y = memory * y + (1 - memory) * x has noise smaller by this factor.
        filtered = math.sqrt((1 - self.memory) / (1 + self.memory))
        noise = math.hypot(self.netd_celsius * filtered, self.pattern_celsius)
        read = picture if before is picture else picture + np.float32(self.memory) * (before - picture)
        if self.contrast != 1:
            read = read + np.float32(self.contrast - 1) * (read - np.float32(self.surroundings_celsius))
        read = read + np.float32(noise) * rng.standard_normal(SHAPE, dtype=np.float32)
        read += np.float32(self.column_celsius) * rng.standard_normal((1, SHAPE[1]), dtype=np.float32)
        read += np.float32(self.row_celsius) * rng.standard_normal((SHAPE[0], 1), dtype=np.float32)
        read += np.float32(self.shade_celsius) * cloud(rng, 90.0) + np.float32(self.drift_celsius)
        read = np.rint(read / np.float32(self.step_celsius)) * np.float32(self.step_celsius)
        for row, column, stuck in zip(
            rng.integers(SHAPE[0], size=self.dead).tolist(),
            rng.integers(SHAPE[1], size=self.dead).tolist(),
            rng.uniform(-1, 1, self.dead).tolist(),
            strict=True,
        ):
            read[row, column] = picture[row, column] + 12 * stuck
        return read


def random_detector(rng: np.random.Generator, surroundings_celsius: float) -> Detector:
    """A detector as they are sold, set up well or not quite."""
    return Detector(
        netd_celsius=rng.uniform(0.025, 0.06),
        pattern_celsius=rng.uniform(0.0, 0.045),
        column_celsius=rng.uniform(0.0, 0.04),
        row_celsius=rng.uniform(0.0, 0.015),
        shade_celsius=rng.uniform(0.0, 0.2),
        drift_celsius=float(np.clip(rng.normal(0, 0.5), -1.5, 1.5)),
        memory=rng.uniform(0.0, 0.6),
        dead=int(rng.poisson(0.6)),
        step_celsius=float(rng.choice((0.01, 0.02, 0.04, 0.1), p=(0.4, 0.3, 0.25, 0.05))),
        contrast=float(np.clip(rng.normal(0.97, 0.09), 0.7, 1.15)),
        surroundings_celsius=surroundings_celsius,
    )
