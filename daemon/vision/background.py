"""How much warmer each pixel is than the empty box behind it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SAMPLE_STEP_PX = 6
"""Every sixth pixel in both directions: over a thousand samples are plenty for six coefficients."""

_FIT_ROUNDS = 12
"""Enough to settle: each round leaves out what is warmer than the one before."""

_CLIP_SIGMAS = 2.5
"""Samples farther from the surface than this do not take part in the next round."""

_FLOOR_PERCENTILE = 40
"""Where the fit starts: even six animals cover less than half of the picture, so this is floor."""

_MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation, normal distribution."""

_LEAST_SIGMA_CELSIUS = 0.02
"""Below the resolution of any such camera; keeps a picture without noise from clipping itself away."""

_LEAST_SAMPLES = 60
"""Ten for each coefficient."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Excess:
    """A frame with its background taken away."""

    celsius: NDArray[np.float32]
    """Above the background, °C, shape (height, width); NaN where the frame has no temperature."""

    sigma_celsius: float
    """Spread of the background about its surface: noise, and what structure the box itself shows."""


def excess_over_background(celsius: NDArray[np.float32]) -> Excess | None:
    """Take a smooth background away.

    Parameters
    ----------
    celsius : (height, width) float32
        °C, NaN allowed.

    Returns
    -------
    Excess or None
        None when too few pixels have a temperature to say what the background is.

    Notes
    -----
    The background is a surface of second order in x and y: a floor that is warmer towards one side and the darker
    corners of a lens are of this kind. It is fitted by least squares, again and again, each time without the samples
    that lie too far from the last surface. Animals are warm, so the spread is taken from the samples below
    the surface alone: these are background, while above it anything may lie.
    """
    y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in celsius.shape)
    samples = celsius[::_SAMPLE_STEP_PX, ::_SAMPLE_STEP_PX]
    known = np.isfinite(samples)
    if np.count_nonzero(known) < _LEAST_SAMPLES:
        return None
    rows, columns = np.nonzero(known)
    u, v = x[::_SAMPLE_STEP_PX][columns].astype(np.float64), y[::_SAMPLE_STEP_PX][rows].astype(np.float64)
    terms = np.stack((np.ones_like(u), u, v, u * u, u * v, v * v), axis=1)
    coefficients, sigma = _fitted(terms, samples[known].astype(np.float64))
    one, c_x, c_y, c_xx, c_xy, c_yy = coefficients.astype(np.float32)
    surface = one + (c_x * x + c_xx * x * x) + (c_y * y + c_yy * y * y)[:, None] + c_xy * y[:, None] * x
    return Excess(celsius=celsius - surface, sigma_celsius=sigma)


def _fitted(terms: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Coefficients and spread of the surface that the colder, agreeing samples lie on."""
    coefficients: NDArray[np.float64] = np.zeros(terms.shape[1])
    coefficients[0] = np.percentile(values, _FLOOR_PERCENTILE)
    kept = np.empty(0, bool)
    sigma = _LEAST_SIGMA_CELSIUS
    for _ in range(_FIT_ROUNDS):
        residuals = values - terms @ coefficients
        below = residuals[residuals <= 0]
        spread = _MAD_TO_SIGMA * float(np.median(-below)) if below.size else 0.0
        sigma = max(spread, _LEAST_SIGMA_CELSIUS)
        agreeing = np.abs(residuals) <= _CLIP_SIGMAS * sigma
        if np.array_equal(agreeing, kept) or np.count_nonzero(agreeing) < _LEAST_SAMPLES:
            break
        kept = agreeing
        used = terms[kept]
        # Normal equations: six well-scaled columns; lstsq for material that fills only a stripe of the picture.
        coefficients = np.asarray(np.linalg.lstsq(used.T @ used, used.T @ values[kept], rcond=None)[0], np.float64)
    return coefficients, sigma
