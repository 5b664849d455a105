"""False-colour pictures back to degrees: which palette, where along it, how many degrees that is.

A false-colour picture is a photograph of a screen, not a measurement. What comes out is an estimate, and says so.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from drivers.errors import MaterialError
from drivers.palettes import BLACK_HOT, STEPS, WHITE_HOT, Palette, known_palettes
from drivers.placement import Placement

logger = logging.getLogger(__name__)

RESIDUAL_MAX_LEVELS = 14.0
"""A picture whose colours are on average farther from a palette (of 255) is not painted in it. With burnt-in text and
JPEG rendered and real pictures stay below 9."""

_RECOGNITION_BITS = 5
_RECOGNITION_SHARE = 0.8
"""Recognition leaves out the farthest fifth of the colours by weight: burnt-in text and its smear."""

_COLOUR_BITS = 7
"""Colours are looked up with so many bits a channel; the rest is below the noise of JPEG."""
_COLOUR_CELLS = 1 << _COLOUR_BITS
_COLOUR_SHIFT = 8 - _COLOUR_BITS

_OFF_PALETTE_LEVELS = 32.0
"""Farther from the palette a pixel is paint, not temperature; JPEG moves colours by up to about 20."""

_ENLARGED_FROM = 2.5
"""From so many picture pixels per sensor pixel on, whatever is sharper than the sensor can see was painted on."""
_SHARP_SIGMA_PX = 0.35
"""Width of the smoothing that takes nothing from the sensor's own picture, in sensor pixels."""
_SHARP_SIGMA_MIN = 0.7
_SHARP_SHARE = 0.25
"""Departure from the smoothed position, as a share of the range of positions around, that a lens cannot make. In a
real enlarged picture 19 of 20 pixels of the sharpest edges of a rat stay below 0.23, half of a cross-hair is above."""
_SHARP_FLOOR = 0.01
"""Departures below this are noise."""
_SHARP_WINDOW_PX = 1.25
"""Window of that range, in sensor pixels."""
_SHARP_NATIVE = 0.15
"""Departure that only paint makes on the sensor's own grid, where noise and small warm things are as sharp."""
_STROKE_PX = 2.25
"""Widest stroke of text and cross-hairs, in sensor pixels."""
_MARGIN_PX = 0.5
"""What is masked around paint, in sensor pixels: JPEG smears it."""

_FILL_ROUNDS = 40
"""Rounds of relaxation: the widest gap is a line of text, about ten pixels."""

AMBIENT_SIGMA_CELSIUS = 2.8
"""How far the surroundings may read from the room: ±2 °C of the camera, ±2 °C of the surfaces themselves."""
_READING_SIGMA_CELSIUS = 0.1
"""Rounding of the printed number, and what changed until it was painted."""
_MARKER_REACH_PX = 6.0
"""A marker lies within so many sensor pixels of the colour it tells of: it covers it, and lags behind the picture."""
_POSITION_SIGMA_MIN = 0.005
_EXTREME_MARGIN = 0.02
_FIT_ROUNDS = 8
_NORMAL_IQR = 1.349
"""Interquartile range of a normal distribution of sigma 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A temperature that a person has read off a picture."""

    x: float
    """Column, in pixels of the picture."""
    y: float
    """Row, in pixels of the picture."""
    celsius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseColourScale:
    """What the user knows about the colours: either a range or at least two readings.

    Raises
    ------
    MaterialError
        If it is neither or both, or cannot be true.
    """

    range_celsius: tuple[float, float] | None = None
    """Temperatures of the coldest and the hottest colour of the palette."""
    readings: tuple[Reading, ...] = ()
    """Points of the picture with their temperature."""
    ambient_celsius: float | None = 25.0
    """Room temperature, °C. Weak knowledge beside readings, see `fit_scale`; None does without."""
    palette: str | None = None
    """Name of the palette where it shall not be recognised; needed for `black_hot` with a range."""

    def __post_init__(self) -> None:
        if (self.range_celsius is None) == (not self.readings):
            raise MaterialError("the scale of false colours is either a range or readings; give one of them")
        values = list(self.range_celsius or ()) + [reading.celsius for reading in self.readings]
        if self.ambient_celsius is not None:
            values.append(self.ambient_celsius)
        if not all(map(math.isfinite, values)):
            raise MaterialError(f"the scale of false colours must be finite, got {values}")
        if self.range_celsius is not None and not self.range_celsius[0] < self.range_celsius[1]:
            raise MaterialError(f"the range of false colours must rise, got {self.range_celsius}")
        if self.readings and len({reading.celsius for reading in self.readings}) < 2:
            raise MaterialError("at least two readings of different temperature are needed; add one or give the range")
        if self.palette is not None and self.palette not in known_palettes():
            raise MaterialError(f"palette must be one of {', '.join(known_palettes())}, got {self.palette!r}")


class Recognition(NamedTuple):
    """Which palette a picture is painted in."""

    palette: Palette
    residual_levels: float
    """Root mean square distance of its colours from the palette, of 255; see `recognise`."""


def recognise(picture: NDArray[np.uint8], source: str, *, name: str | None = None) -> Recognition:
    """Find the palette of a picture by the distance of its colours to each palette's curve.

    White-hot and black-hot are the same colours; a gray picture is taken for white-hot.

    Parameters
    ----------
    picture : (height, width, 3) uint8
        RGB.
    source : str
        For the error message.
    name : str, optional
        The palette, where it is known: only the residual is found out.

    Raises
    ------
    MaterialError
        If the colours are those of no known palette.
    """
    colours, weight = _common_colours(picture)
    palettes = known_palettes()
    candidates = [palettes[name]] if name else [palette for key, palette in palettes.items() if key != BLACK_HOT]
    ranked = []
    for palette in candidates:
        distance = np.asarray(_tree(palette.name).query(colours)[0])
        order = np.argsort(distance)
        kept = order[: 1 + np.searchsorted(np.cumsum(weight[order]), _RECOGNITION_SHARE * weight.sum())]
        ranked.append(Recognition(palette, float(np.sqrt(np.average(distance[kept] ** 2, weights=weight[kept])))))
    best = min(ranked, key=lambda candidate: candidate.residual_levels)
    if best.residual_levels > RESIDUAL_MAX_LEVELS:
        raise MaterialError(
            f"{source}: the colours fit no known palette: expected at most {RESIDUAL_MAX_LEVELS:.0f} levels of "
            f"distance, the nearest is {best.palette.name} with {best.residual_levels:.0f}; known are "
            f"{', '.join(palettes)}. Paint the picture in one of these, crop what is not thermal, or replay the "
            "radiometric file"
        )
    return best


def _common_colours(picture: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The colours of a picture, (n, 3), and what each weighs.

    The square root of the area: else the few colours of the floor, which many palettes share, outvote the animal.
    """
    shift = 8 - _RECOGNITION_BITS
    cells = (picture >> shift).reshape(-1, 3).astype(np.int32)
    codes = cells[:, 0] << 2 * _RECOGNITION_BITS | cells[:, 1] << _RECOGNITION_BITS | cells[:, 2]
    count = np.bincount(codes, minlength=1 << 3 * _RECOGNITION_BITS).astype(np.float64)
    present = np.flatnonzero(count)
    total = [np.bincount(codes, weights=channel, minlength=len(count))[present] for channel in picture.reshape(-1, 3).T]
    return np.stack(total, axis=1) / count[present, np.newaxis], np.sqrt(count[present])


@cache
def _tree(name: str) -> KDTree:
    return KDTree(known_palettes()[name].colours)


def positions(
    picture: NDArray[np.uint8], palette: Palette, *, pixels_per_sensor_pixel: float = 1.0
) -> NDArray[np.float32]:
    """Where along the palette each pixel is, and NaN where something is painted over the temperature.

    Parameters
    ----------
    picture : (height, width, 3) uint8
        RGB.
    palette : Palette
        From `recognise`.
    pixels_per_sensor_pixel : float
        How much the picture was enlarged. In an enlarged picture burnt-in strokes are known by their sharp edges even
        where their colour belongs to the palette.

    Returns
    -------
    (height, width) float32
        0 the coldest to 1 the hottest colour.
    """
    cells = picture >> _COLOUR_SHIFT
    codes = (cells[..., 0].astype(np.int32) << 2 * _COLOUR_BITS) | (cells[..., 1].astype(np.int32) << _COLOUR_BITS)
    codes |= cells[..., 2]
    present = np.flatnonzero(np.bincount(codes.ravel(), minlength=_COLOUR_CELLS**3))
    colours = np.stack([present >> 2 * _COLOUR_BITS, present >> _COLOUR_BITS, present], axis=1) % _COLOUR_CELLS
    distance, step = _tree(palette.name).query((colours + 0.5) * (1 << _COLOUR_SHIFT) - 0.5)
    table = np.zeros(_COLOUR_CELLS**3, np.float32)
    table[present] = step / (STEPS - 1)
    far = np.zeros(_COLOUR_CELLS**3, np.uint8)
    far[present] = distance > _OFF_PALETTE_LEVELS
    found: NDArray[np.float32] = table[codes]
    found[_painted(found, far[codes], pixels_per_sensor_pixel)] = np.nan
    return found


def _painted(
    position: NDArray[np.float32], off_palette: NDArray[np.uint8], pixels_per_sensor_pixel: float
) -> NDArray[np.bool_]:
    """Burnt-in text and cross-hairs: colours that are no temperature, and edges that no lens can draw."""
    scale = max(1.0, pixels_per_sensor_pixel)
    enlarged = scale >= _ENLARGED_FROM
    smooth = cv2.GaussianBlur(position, (0, 0), max(_SHARP_SIGMA_MIN, _SHARP_SIGMA_PX * scale))
    departure = np.abs(position - smooth)
    if enlarged:
        window = _square(_SHARP_WINDOW_PX * scale)
        around = cv2.dilate(position, window) - cv2.erode(position, window)
        sharp = departure > _SHARP_SHARE * around + _SHARP_FLOOR
    else:
        sharp = departure > _SHARP_NATIVE
    painted = off_palette | sharp.astype(np.uint8)
    if enlarged:
        # The edges of a stroke are sharp, its inside may have the colour of a temperature.
        painted = cv2.morphologyEx(painted, cv2.MORPH_CLOSE, _square(_STROKE_PX * scale))
    return np.asarray(cv2.dilate(painted, _square(2 * _MARGIN_PX * scale + 1)), bool)


def _square(side_px: float) -> NDArray[np.uint8]:
    side = 2 * round((side_px - 1) / 2) + 1
    return np.ones((side, side), np.uint8)


def filled(field: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    """Fill the gaps inside the picture from their surroundings; the bars around it stay NaN.

    Parameters
    ----------
    field : (192, 256) float32
        On the frame; NaN where something was masked.
    """
    rows = slice(placement.top, placement.top + placement.height)
    columns = slice(placement.left, placement.left + placement.width)
    inside = field[rows, columns]
    gaps = np.isnan(inside)
    whole = field.copy()
    if gaps.any() and not gaps.all():
        whole[rows, columns] = _relaxed(inside, gaps)
    return whole


def _relaxed(field: NDArray[np.float32], gaps: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Gaps take the nearest value and then settle to the mean of their neighbours: smooth, without new extremes."""
    nearest = distance_transform_edt(gaps, return_distances=False, return_indices=True)
    settled: NDArray[np.float32] = field[tuple(nearest)]
    for _ in range(_FILL_ROUNDS):
        settled[gaps] = cv2.blur(settled, (3, 3))[gaps]
    return settled


@dataclass(frozen=True, slots=True, kw_only=True)
class DegreeScale:
    """Degrees along a palette: a straight line."""

    coldest_celsius: float
    """At position 0."""
    hottest_celsius: float
    """At position 1."""

    def celsius(self, position: NDArray[np.floating]) -> NDArray[np.float32]:
        """Degrees at positions along the palette; NaN stays NaN."""
        span = self.hottest_celsius - self.coldest_celsius
        return (self.coldest_celsius + span * position).astype(np.float32)


class _Observation(NamedTuple):
    position: float
    position_sigma: float
    celsius: float
    celsius_sigma: float


def fit_scale(
    field: NDArray[np.float32], placement: Placement, palette: Palette, scale: FalseColourScale, source: str
) -> DegreeScale:
    """Degrees along the palette from what the user knows.

    Parameters
    ----------
    field : (192, 256) float32
        Positions along the palette, gaps filled.
    placement : Placement
        Where the picture lies in it.
    palette : Palette
        In white-hot, readings may also say that dark is hot.
    scale : FalseColourScale
        A range is taken as it is.
    source : str
        For messages.

    Raises
    ------
    MaterialError
        If a reading is outside the picture, or hotter readings lie at colder colours.

    Notes
    -----
    Readings give a weighted straight line (errors in both variables, weights from the line itself). The colour of a
    reading is uncertain by the spread of colours around its marker, because markers lag behind a moving picture; an
    exception is the highest (lowest) reading near the hottest (coldest) colour of the picture: cameras mark these
    themselves, so it is taken to be that colour.

    Two readings on a warm animal leave the cold end open: an error of a tenth between them is half a degree there. So
    the surroundings, the picture's median colour, are one more observation: they read room temperature within
    `AMBIENT_SIGMA_CELSIUS`. It weighs little where readings lie far apart and decides only what they leave open.
    """
    if scale.range_celsius is not None:
        return DegreeScale(coldest_celsius=scale.range_celsius[0], hottest_celsius=scale.range_celsius[1])
    observations = [_observe(field, placement, palette, reading, scale, source) for reading in scale.readings]
    _, free_slope = _line(observations)
    if free_slope <= 0 and not (palette.name == WHITE_HOT and free_slope < 0):
        raise MaterialError(
            f"{source}: hotter readings must lie at hotter colours, got "
            + ", ".join(f"{o.celsius:g} °C at {o.position:.2f} of the palette" for o in observations)
            + "; check the points and the palette"
        )
    if scale.ambient_celsius is not None:
        surroundings = float(np.nanmedian(field))
        sigma = max(palette.position_sigma, _POSITION_SIGMA_MIN)
        observations.append(_Observation(surroundings, sigma, scale.ambient_celsius, AMBIENT_SIGMA_CELSIUS))
    offset, slope = _line(observations)
    if slope * free_slope <= 0:
        raise MaterialError(
            f"{source}: the readings contradict a room of {scale.ambient_celsius} °C; give the room's temperature"
        )
    for observation in observations:
        logger.info(
            "%s: %.1f °C at %.3f of the palette comes out as %.1f °C",
            source,
            observation.celsius,
            observation.position,
            offset + slope * observation.position,
        )
    return DegreeScale(coldest_celsius=offset, hottest_celsius=offset + slope)


def _observe(
    field: NDArray[np.float32],
    placement: Placement,
    palette: Palette,
    reading: Reading,
    scale: FalseColourScale,
    source: str,
) -> _Observation:
    """The colour that a reading tells of, and how sure that is."""
    if not (0 <= reading.x < placement.source_width and 0 <= reading.y < placement.source_height):
        raise MaterialError(
            f"{source}: the reading of {reading.celsius:g} °C at ({reading.x:g}, {reading.y:g}) is outside the picture "
            f"of {placement.source_width} x {placement.source_height} pixels"
        )
    x, y = placement.point_to_frame(reading.x, reading.y)
    rows, columns = np.indices(field.shape)
    near = np.where(np.hypot(columns - x, rows - y) <= _MARKER_REACH_PX, field, np.nan)
    celsius = [other.celsius for other in scale.readings]
    for is_outermost, extreme in (
        (reading.celsius == max(celsius), np.nanmax),
        (reading.celsius == min(celsius), np.nanmin),
    ):
        if is_outermost and abs(extreme(field) - extreme(near)) <= _EXTREME_MARGIN:
            return _Observation(float(extreme(field)), _POSITION_SIGMA_MIN, reading.celsius, _READING_SIGMA_CELSIUS)
    lower, upper = np.nanpercentile(near, (25, 75))
    spread = math.hypot(float(upper - lower) / _NORMAL_IQR, palette.position_sigma)
    here = float(field[round(y), round(x)])
    return _Observation(here, max(spread, _POSITION_SIGMA_MIN), reading.celsius, _READING_SIGMA_CELSIUS)


def _line(observations: Sequence[_Observation]) -> tuple[float, float]:
    """Offset and slope; errors of the position count with the slope, so a few rounds are needed."""
    position, position_sigma, celsius, celsius_sigma = np.array(observations, np.float64).T
    if np.ptp(position) < _POSITION_SIGMA_MIN:
        return float(celsius.mean()), 0.0
    design = np.stack([np.ones_like(position), position], axis=1)
    slope, solution = 0.0, np.zeros(2)
    for _ in range(_FIT_ROUNDS):
        weight = 1 / np.hypot(celsius_sigma, slope * position_sigma)
        solution = np.linalg.lstsq(design * weight[:, np.newaxis], celsius * weight, rcond=None)[0]
        slope = float(solution[1])
    return float(solution[0]), slope


class FalseColourReader:
    """Turns the pictures of one video or folder into degrees.

    Palette and scale are found at the first picture and then kept: they hold as long as the camera's own scale stands
    still.
    """

    def __init__(self, scale: FalseColourScale) -> None:
        self._scale = scale
        self._recognition: Recognition | None = None
        self._degrees: DegreeScale | None = None

    @property
    def recognition(self) -> Recognition | None:
        """The palette; None before the first picture."""
        return self._recognition

    @property
    def degrees(self) -> DegreeScale | None:
        """The scale; None before the first picture."""
        return self._degrees

    def celsius(self, picture: NDArray[np.uint8], source: str) -> NDArray[np.float32]:
        """Degrees on the frame.

        Parameters
        ----------
        picture : (height, width, 3) uint8
            RGB.
        source : str
            For messages.

        Returns
        -------
        (192, 256) float32
            °C; what was painted over is filled from its surroundings; NaN outside the picture.

        Raises
        ------
        MaterialError
            If the palette is not known or the scale does not fit.
        """
        height, width = picture.shape[:2]
        placement = Placement.fit(width, height)
        if self._recognition is None:
            self._recognition = recognise(picture, source, name=self._scale.palette)
            logger.info(
                "%s: palette %s, residual %.1f levels",
                source,
                self._recognition.palette.name,
                self._recognition.residual_levels,
            )
        palette = self._recognition.palette
        found = positions(picture, palette, pixels_per_sensor_pixel=placement.scale)
        field = filled(placement.field_to_frame(found), placement)
        if np.isnan(field).all():
            raise MaterialError(f"{source}: no pixel has a colour of the palette {palette.name}")
        if self._degrees is None:
            self._degrees = fit_scale(field, placement, palette, self._scale, source)
        return self._degrees.celsius(field)
