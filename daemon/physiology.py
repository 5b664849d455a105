"""Thermal physiology by surface temperatures: uncertainty of a part, heat loss by the tail, fever, wetting. Pure.

All of it compares an animal with itself. Nothing here is a core temperature.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

KELVIN = 273.15

PIXEL_NOISE_CELSIUS = 0.025
"""Temporal noise of one pixel, rms: 1.25 counts, measured on a sibling of the T2S+ (zzh315/ThermalView, DEVICE.md)."""

FRAME_NOISE_CELSIUS = 0.010
"""Wander of a whole picture from second to second, rms; measured there, too."""

INDEPENDENT_SHARE = 0.25
"""The camera smooths in space: of so many pixels of a part one counts as independent. A cautious assumption."""

DRIFT_CELSIUS_PER_CELSIUS = 1.2
"""Change of a reading per degree of the detector since the last shutter event; measured there, too."""

EMISSIVITY_UNCERTAINTY = 0.015
"""Standard uncertainty of the emissivity of coat and skin against the one set: ears of pigs 0.978, their hairy
shoulders 0.946 (Soerensen et al. 2014, Comput Electron Agric 109:52), human skin 0.98."""

LENS_SIGMA_PX = 0.8
"""Blur of a lens that is focused by hand, Gaussian sigma; an ideal one has 0.6."""

PIXEL_VARIANCE_PX2 = 1 / 12
"""Of a square pixel, for its own share of the blur."""

LEAST_TAIL_PX = 12
"""A tail of fewer valid pixels says nothing about its temperature."""

HEAD_SHARES = 0.05, 0.30
"""A head is that much of an animal's pixels. With less, eyes and ears lie under another animal and the hottest pixel is
that of the back, 4 °C colder; with more, the head of another is taken for its own. Simulated rats that are seen whole
have 0.13 to 0.25; two heads in one animal of a huddle were 0.32 to 0.36."""

LEAST_BODY_EXCESS_CELSIUS = 2.0
"""A body less warm than this above the background makes the heat loss index a quotient of noise."""

PROXY_MINUTES = 30
LEAST_PROXY_MINUTES = 20

VASOMOTION_CELSIUS = 1.5
"""Change of the tail that is an onset. Vasodilation warms a rat's tail by several degrees within minutes."""

VASOMOTION_REARM_CELSIUS = 0.75
VASOMOTION_OVER_MINUTES = 10
_VASOMOTION_MEDIAN_MINUTES = 3
_LEAST_VASOMOTION_MINUTES = 2

FEVER_OVER_MINUTES = 60
_LEAST_FEVER_TAIL_MINUTES = 10

_COOLING_BEFORE = range(-7, -2)
"""Minutes, counted from the one that is judged, that a fall is measured from."""
_LEAST_COOLING_MINUTES = 3

Series = Mapping[int, float]
"""Values by number of the minute; a minute without a value is not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureUncertainty:
    """Standard uncertainty of a part's mean temperature by its causes, °C.

    What the camera is off as a whole (±2 °C is usual for its class) is not in it: it does not change an animal
    against itself. A reference in the scene removes that as well.
    """

    noise: float
    drift: float
    """Since the last calibration, or of the reference that replaces it."""
    emissivity: float
    size: float
    """Of a part so narrow that its pixels see what lies beside it."""

    @property
    def total(self) -> float:
        """Of the temperature itself: root of the sum of the squares (JCGM 100:2008, 5.1.2)."""
        return math.hypot(self.noise, self.drift, self.emissivity, self.size)

    @property
    def within_frame(self) -> float:
        """Of a difference to something else in the same frame: drift is common to both and cancels."""
        return math.hypot(self.noise, self.emissivity, self.size)


def noise_celsius(pixels: float, frames: int) -> float:
    """Standard uncertainty by noise of the mean over a part's pixels and over frames a second apart, °C.

    Parameters
    ----------
    pixels : float
        Mean number of valid pixels of the part, above 0.
    frames : int
        How many frames the mean is taken over, at least 1. Frames a second apart are independent: the camera's own
        filter in time reaches over ten frames, less than half a second.

    Notes
    -----
    u² = (u_pixel² / max(1, pixels / 4) + u_frame²) / frames.
    """
    if not pixels > 0 or frames < 1:
        raise ValueError(f"pixels must be above 0 and frames at least 1, got {pixels} and {frames}")
    independent = max(1.0, pixels * INDEPENDENT_SHARE)
    return math.sqrt((PIXEL_NOISE_CELSIUS**2 / independent + FRAME_NOISE_CELSIUS**2) / frames)


def drift_celsius(fpa_celsius: float, calibrated_fpa_celsius: float) -> float:
    """Standard uncertainty by what the detector has warmed or cooled since the calibration, °C.

    Notes
    -----
    The reading may be off by anything from 0 to 1.2 times the change of the detector's temperature, to the side that is
    not known here: a rectangular distribution of that half-width, u = 1.2 |ΔT| / sqrt(3) (JCGM 100:2008, 4.3.7).
    """
    return DRIFT_CELSIUS_PER_CELSIUS * abs(fpa_celsius - calibrated_fpa_celsius) / math.sqrt(3)


def emissivity_celsius(surface_celsius: float, *, emissivity: float, reflected_celsius: float) -> float:
    """Standard uncertainty by that of the emissivity, °C.

    Parameters
    ----------
    surface_celsius : float
        Temperature of the part.
    emissivity : float
        The one that was set, in (0, 1].
    reflected_celsius : float
        Of what the part mirrors.

    Notes
    -----
    From the grey-body balance T_app⁴ = ε T⁴ + (1 - ε) T_refl⁴ (kelvin) with T_app fixed: dT/dε = (T_refl⁴ - T⁴) /
    (4 ε T³), times the standard uncertainty of ε. 33 °C before walls of 22 °C: 0.16 °C.
    """
    if not 0 < emissivity <= 1:
        raise ValueError(f"emissivity must be in (0, 1], got {emissivity}")
    surface, reflected = surface_celsius + KELVIN, reflected_celsius + KELVIN
    return abs(reflected**4 - surface**4) / (4 * emissivity * surface**3) * EMISSIVITY_UNCERTAINTY


def width_px(area_px: float, outline_px: float) -> float:
    """Width of a long part: a strip of width w has two of its w pixels across on the outline.

    Parameters
    ----------
    area_px, outline_px : float
        All its pixels, and those with background among their eight neighbours; 0 of these for a part whose outline is
        nowhere in the picture.

    Returns
    -------
    float
        In pixels, exact for strips of 2 px and more; infinite without an outline.
    """
    return 2 * area_px / outline_px if outline_px > 0 else math.inf


def mixed_share(width: float) -> float:
    """Share of what lies beside it that a pixel in the middle of a long part sees through the lens, 0 to 1.

    Notes
    -----
    A strip of width w behind a Gaussian blur of sigma s keeps erf(w / (2 sqrt(2) s)) of its contrast on its middle;
    s² is the lens's 0.8² and the pixel's 1/12. A tail 3 px wide loses 7.8 %, one of 2 px 24 %, a body none.
    """
    sigma = math.sqrt(LENS_SIGMA_PX**2 + PIXEL_VARIANCE_PX2)
    return math.erfc(width / (2 * math.sqrt(2) * sigma))


def size_celsius(width: float, contrast_celsius: float) -> float:
    """Standard uncertainty of a narrow part's temperature by what its pixels see beside it, °C.

    Notes
    -----
    The measured means are freed of the outline's mixing (`daemon.unmixing`), the inner pixels' remains.
    How sharp the lens is is not known: anything between no mixing and `mixed_share` of the contrast, so the half-width
    of the rectangle is half of that, and its middle is not corrected for: u² = half-width² (1/3 + 1).
    """
    half = mixed_share(width) * abs(contrast_celsius) / 2
    return half * math.sqrt(4 / 3)


def heat_loss_index(tail_celsius: float, body_celsius: float, ambient_celsius: float) -> float | None:
    """(tail - ambient) / (body - ambient); None where the body is hardly warmer than its surroundings."""
    excess = body_celsius - ambient_celsius
    return (tail_celsius - ambient_celsius) / excess if excess >= LEAST_BODY_EXCESS_CELSIUS else None


def heat_loss_index_uncertainty(index: float, excess_celsius: float, *, tail: float, body: float) -> float:
    """Standard uncertainty of the index from those (within a frame, °C) of tail and body.

    Notes
    -----
    First-order propagation (JCGM 100:2008, 5.1.2) of H = (t - a) / (b - a) with a's own uncertainty neglected: it is
    the median of many thousand pixels. u² = (u_t² + H² u_b²) / (b - a)².
    """
    return math.hypot(tail, index * body) / excess_celsius


def skin_max_30min(maxima: Series, minute: int) -> float | None:
    """Mean of the per-minute skin maxima of the 30 minutes that end with this one.

    The proxy of van der Vinne et al. 2020 (mice): it follows the rhythm of an animal's core temperature and says
    nothing about its height. At the last minute of a block of 30 minutes it is the block's value. None with fewer than
    20 minutes.
    """
    values = _between(maxima, minute - PROXY_MINUTES + 1, minute)
    return fmean(values) if len(values) >= LEAST_PROXY_MINUTES else None


def shows_head(head_px: int, animal_px: int) -> bool:
    """Whether the hottest pixel of an animal is that of its own eyes or ears, by `HEAD_SHARES`."""
    low, high = HEAD_SHARES
    return low * animal_px <= head_px <= high * animal_px and head_px > 0


def tail_change(tail_minus_ambient: Series, minute: int) -> float | None:
    """How much the tail's excess has changed over 10 minutes, each end the median over 3 minutes, °C."""
    now = _between(tail_minus_ambient, minute - _VASOMOTION_MEDIAN_MINUTES + 1, minute)
    then_last = minute - VASOMOTION_OVER_MINUTES
    then = _between(tail_minus_ambient, then_last - _VASOMOTION_MEDIAN_MINUTES + 1, then_last)
    if min(len(now), len(then)) < _LEAST_VASOMOTION_MINUTES:
        return None
    return median(now) - median(then)


class Vasomotion:
    """Tells the onset of a change of the tail, once for each, from its changes minute by minute."""

    def __init__(self) -> None:
        self._armed = {1: True, -1: True}

    def onset(self, change: float | None) -> int | None:
        """1 where vasodilation begins, -1 for vasoconstriction, 0 for neither, None where nothing can be told."""
        if change is None:
            return None
        begun = 0
        for sign in (1, -1):
            if self._armed[sign] and sign * change >= VASOMOTION_CELSIUS:
                self._armed[sign] = False
                begun = sign
            elif sign * change < VASOMOTION_REARM_CELSIUS:
                self._armed[sign] = True
        return begun


def fever_signature(proxy: Series, tail_minus_ambient: Series, minute: int) -> float | None:
    """Rise of the skin-maximum proxy over an hour while the tail did not warm with it, °C; 0 where there is none.

    Notes
    -----
    proxy(m) - proxy(m - 60) if that is positive and the mean of the tail's excess over the last 30 minutes is not above
    that of the 30 minutes an hour before. An animal that runs, or a room that warms, opens the tail.
    """
    now, before = proxy.get(minute), proxy.get(minute - FEVER_OVER_MINUTES)
    tail_now = _between(tail_minus_ambient, minute - PROXY_MINUTES + 1, minute)
    then = minute - FEVER_OVER_MINUTES
    tail_before = _between(tail_minus_ambient, then - PROXY_MINUTES + 1, then)
    if now is None or before is None or min(len(tail_now), len(tail_before)) < _LEAST_FEVER_TAIL_MINUTES:
        return None
    return max(0.0, now - before) if fmean(tail_now) <= fmean(tail_before) else 0.0


def cooling(body: Series, minute: int) -> float | None:
    """How far the body's surface has fallen within minutes, °C; 0 where it has not.

    Notes
    -----
    Median over the minutes m - 7 to m - 3, less minute m. A coat that got wet evaporates: it falls by 1.5 °C and more.
    """
    now = body.get(minute)
    before = [body[minute + offset] for offset in _COOLING_BEFORE if minute + offset in body]
    if now is None or len(before) < _LEAST_COOLING_MINUTES:
        return None
    return max(0.0, median(before) - now)


def _between(series: Series, first: int, last: int) -> Sequence[float]:
    return [series[minute] for minute in range(first, last + 1) if minute in series]
