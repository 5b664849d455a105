"""A radiometric scene: rats in a box seen from above, in degrees, with the truth about each body part beside it.

A scene is a pure function of time: any moment can be asked for, in any order, and always looks the same. It knows
nothing of counts, sensors and frames; `drivers.simulated` makes a camera's bytes of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.rat import HEAD_SHARE, WARM_SPOTS, Pose, Rat, Ribbon, circadian
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

MAX_ANIMALS = 4

LENS_BLUR_SIGMA_PX = 0.6
"""Diffraction of a fast germanium lens at 10 µm on 12 µm pixels, with a little defocus."""

_SUBPIXEL_BITS = 4
_OUTSIDE = -1.0
_WALL_PX = 8
_WALL_CELSIUS = (21.4, 21.8, 22.3, 21.1)
"""Top, bottom, left, right."""
_FLOOR_CELSIUS = (22.3, 23.6)
_BEDDING_CELSIUS = 0.12
_BEDDING_GRAIN_PX = 3.0
_DRINKER_AT = (214, 15)
_DRINKER_RADIUS_PX = 7
_DRINKER_CELSIUS = 19.8
_ROOM_CIRCADIAN_CELSIUS = -0.2
"""The room is a little cooler when the rats are most active, in the dark."""


class ScenePart(IntEnum):
    """Labels of the truth masks; 0 is background. The numbers are those of every mask in the project."""

    HEAD = 1
    BODY = 2
    TAIL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AnimalState:
    """What is unusual about an animal at a moment."""

    fever_celsius: float = 0.0
    """Added to the temperature of all its parts; negative for a cold animal."""
    hidden: bool = False
    """The animal is out of sight."""


AS_USUAL = AnimalState()


def as_usual(animal: int, utc_s: float) -> AnimalState:
    """Nothing unusual, ever."""
    return AS_USUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTruth:
    """The truth about one visible body part."""

    animal: int
    """Number of the animal, from 1: its label in `SceneFrame.instances`."""
    part: ScenePart
    area_px: int
    x_px: float
    """Centroid of its pixels, column."""
    y_px: float
    """Centroid of its pixels, row."""
    surface_celsius: float
    """Mean of the true surface temperature over its pixels."""
    radiometric_celsius: float
    """The same of what a perfect sensor sees behind the lens, which mixes in what lies beside the part."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SceneFrame:
    """The scene at one moment. All arrays have the shape (192, 256) and are read-only."""

    utc_s: float
    """The moment, seconds since the Unix epoch."""
    surface_celsius: NDArray[np.float32]
    """True surface temperature, °C."""
    radiometric_celsius: NDArray[np.float32]
    """The same behind the lens: blurred, free of noise. A perfect camera reads this."""
    parts: NDArray[np.uint8]
    """0 background, otherwise a `ScenePart`."""
    instances: NDArray[np.uint8]
    """0 background, otherwise the number of the animal, from 1."""
    truths: tuple[PartTruth, ...]
    """Every visible part, by animal and part."""

    def __post_init__(self) -> None:
        for array in (self.surface_celsius, self.radiometric_celsius, self.parts, self.instances):
            array.setflags(write=False)

    def truth(self, part: ScenePart, animal: int = 1) -> PartTruth | None:
        """The truth about one part; None when it cannot be seen."""
        return next((truth for truth in self.truths if truth.part == part and truth.animal == animal), None)


class Scene:
    """A box with rats in it.

    Parameters
    ----------
    seed : int
        The same seed gives the same rats, ways and bedding.
    animals : int
        How many rats, 0..4. They do not yet avoid one another; the one with the higher number lies on top.
    state : callable
        What is unusual about an animal (number from 1) at a moment (UTC seconds), for instance a fever.
    blur_sigma_px : float
        Gaussian blur of the lens; 0 for none.

    Raises
    ------
    ValueError
        If the number of animals or the blur is out of range.
    """

    def __init__(
        self,
        seed: int,
        animals: int = 1,
        *,
        state: Callable[[int, float], AnimalState] = as_usual,
        blur_sigma_px: float = LENS_BLUR_SIGMA_PX,
    ) -> None:
        if not 0 <= animals <= MAX_ANIMALS:
            raise ValueError(f"a scene has 0..{MAX_ANIMALS} animals, got {animals}")
        if not 0 <= blur_sigma_px <= 5:
            raise ValueError(f"blur_sigma_px must be in 0..5, got {blur_sigma_px}")
        self._state = state
        self._blur_sigma_px = blur_sigma_px
        self._box = _box(np.random.default_rng((seed, 0)))
        self._rats = {number: Rat(seed, number) for number in range(1, animals + 1)}

    def at(self, utc_s: float) -> SceneFrame:
        """The scene at a moment, seconds since the Unix epoch."""
        surface = self._box + np.float32(_ROOM_CIRCADIAN_CELSIUS * circadian(utc_s))
        parts = np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8)
        instances = np.zeros_like(parts)
        for number, rat in self._rats.items():
            state = self._state(number, utc_s)
            if not state.hidden:
                _paint_rat(rat, utc_s, state.fever_celsius, number, surface, parts, instances)
        radiometric = through_lens(surface, self._blur_sigma_px)
        return SceneFrame(
            utc_s=utc_s,
            surface_celsius=surface,
            radiometric_celsius=radiometric,
            parts=parts,
            instances=instances,
            truths=_truths(surface, radiometric, parts, instances),
        )


def uniform_scene(utc_s: float, celsius: float) -> SceneFrame:
    """Nothing but one temperature, as when a camera looks at its own shutter."""
    surface = np.full((IMAGE_HEIGHT, IMAGE_WIDTH), celsius, np.float32)
    nothing = np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8)
    return SceneFrame(
        utc_s=utc_s,
        surface_celsius=surface,
        radiometric_celsius=surface.copy(),
        parts=nothing,
        instances=nothing.copy(),
        truths=(),
    )


def through_lens(surface: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """The picture behind a lens with Gaussian blur; a new array."""
    if sigma_px == 0:
        return surface.copy()
    return np.asarray(cv2.GaussianBlur(surface, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT), np.float32)


def _box(rng: np.random.Generator) -> NDArray[np.float32]:
    """The empty box: floor with bedding, walls, a cool drinker."""
    low, high = _FLOOR_CELSIUS
    down, right = np.mgrid[0 : 1 : IMAGE_HEIGHT * 1j, 0 : 1 : IMAGE_WIDTH * 1j]
    box: NDArray[np.float32] = (low + (high - low) * (0.35 * down + 0.65 * right)).astype(np.float32)
    grain = through_lens(rng.standard_normal(box.shape).astype(np.float32), _BEDDING_GRAIN_PX)
    box += np.float32(_BEDDING_CELSIUS) * grain / grain.std()
    top, bottom, left, right_wall = _WALL_CELSIUS
    box[:_WALL_PX], box[-_WALL_PX:] = top, bottom
    box[_WALL_PX:-_WALL_PX, :_WALL_PX], box[_WALL_PX:-_WALL_PX, -_WALL_PX:] = left, right_wall
    cv2.circle(box, _DRINKER_AT, _DRINKER_RADIUS_PX, _DRINKER_CELSIUS, cv2.FILLED)
    box.setflags(write=False)
    return box


def _paint_rat(
    rat: Rat,
    utc_s: float,
    fever_celsius: float,
    number: int,
    surface: NDArray[np.float32],
    parts: NDArray[np.uint8],
    instances: NDArray[np.uint8],
) -> None:
    """Paint one rat over what is there, inside the window it covers."""
    pose = rat.pose(utc_s)
    window, corner = _window(pose)
    along = _paint_places(pose, surface[window].shape, corner)
    covered = along != _OUTSIDE
    places = along[covered]
    rim_px = cv2.distanceTransform(((along >= 0) & (along <= 1)).astype(np.uint8), cv2.DIST_L2, 3)
    warmth = rat.surface_celsius(utc_s, places, rim_px[covered])
    warmth += _warm_spots(pose, corner, along.shape)[covered]
    surface[window][covered] = warmth + np.float32(fever_celsius)
    parts[window][covered] = np.where(
        places < HEAD_SHARE, ScenePart.HEAD, np.where(places <= 1, ScenePart.BODY, ScenePart.TAIL)
    )
    instances[window][covered] = number


def _window(pose: Pose) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """The part of the picture that a rat can touch, and its upper left corner (x, y)."""
    spine = np.concatenate((pose.body.spine, pose.tail.spine))
    margin = float(pose.body.half_width_px.max()) + max(spot.radius_px for spot in WARM_SPOTS)
    left, top = np.clip(np.floor(spine.min(axis=0) - margin), 0, (IMAGE_WIDTH, IMAGE_HEIGHT)).astype(int)
    right, bottom = np.clip(np.ceil(spine.max(axis=0) + margin) + 1, 0, (IMAGE_WIDTH, IMAGE_HEIGHT)).astype(int)
    return (slice(top, bottom), slice(left, right)), (int(left), int(top))


def _paint_places(pose: Pose, shape: tuple[int, ...], corner: tuple[int, int]) -> NDArray[np.float32]:
    """For each pixel of the window the place on the animal (0 nose, 1 tail base, 2 tip), `_OUTSIDE` beside it."""
    places = np.full(shape, _OUTSIDE, np.float32)
    _paint_ribbon(places, pose.tail, corner)
    _paint_ribbon(places, pose.body, corner)
    for spot in WARM_SPOTS:
        x, y = pose.body.at(spot.share, spot.side)
        centre = (_subpixel(x - corner[0]), _subpixel(y - corner[1]))
        cv2.circle(places, centre, _subpixel(spot.radius_px), spot.share, cv2.FILLED, shift=_SUBPIXEL_BITS)
    return places


def _paint_ribbon(places: NDArray[np.float32], ribbon: Ribbon, corner: tuple[int, int]) -> None:
    reach = ribbon.half_width_px[:, None] * ribbon.normals
    centred = ribbon.spine - np.array(corner)
    sides = np.rint(np.stack((centred - reach, centred + reach), axis=1) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    quads = np.concatenate((sides[:-1], sides[1:, ::-1]), axis=1)
    middles = (ribbon.along[1:] + ribbon.along[:-1]) / 2
    for quad, middle in zip(quads, middles.tolist(), strict=True):
        cv2.fillConvexPoly(places, quad, middle, shift=_SUBPIXEL_BITS)


def _subpixel(px: float) -> int:
    return round(px * (1 << _SUBPIXEL_BITS))


def _warm_spots(pose: Pose, corner: tuple[int, int], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Rise of temperature by eyes and ears over the window: a bell around each."""
    rise = np.zeros(shape, np.float32)
    for spot in WARM_SPOTS:
        x, y = pose.body.at(spot.share, spot.side)
        rows, columns = np.arange(shape[0], dtype=np.float32), np.arange(shape[1], dtype=np.float32)
        spread = np.float32(2 * (0.7 * spot.radius_px) ** 2)
        down = np.exp(-((rows - np.float32(y - corner[1])) ** 2) / spread)
        across = np.exp(-((columns - np.float32(x - corner[0])) ** 2) / spread)
        rise += np.float32(spot.rise_celsius) * down[:, None] * across
    return rise


def _truths(
    surface: NDArray[np.float32],
    radiometric: NDArray[np.float32],
    parts: NDArray[np.uint8],
    instances: NDArray[np.uint8],
) -> tuple[PartTruth, ...]:
    """Area, centroid and mean temperatures of every visible part."""
    covered = np.flatnonzero(parts)
    keys = instances.ravel()[covered].astype(np.intp) * len(ScenePart) + parts.ravel()[covered] - 1
    areas = np.bincount(keys)

    def means(values: NDArray[np.generic]) -> NDArray[np.float64]:
        return np.bincount(keys, weights=values).astype(np.float64) / np.maximum(areas, 1)

    columns, rows = means(covered % IMAGE_WIDTH), means(covered // IMAGE_WIDTH)
    true, seen = means(surface.ravel()[covered]), means(radiometric.ravel()[covered])
    return tuple(
        PartTruth(
            animal=int(key) // len(ScenePart),
            part=ScenePart(int(key) % len(ScenePart) + 1),
            area_px=int(areas[key]),
            x_px=float(columns[key]),
            y_px=float(rows[key]),
            surface_celsius=float(true[key]),
            radiometric_celsius=float(seen[key]),
        )
        for key in np.flatnonzero(areas)
    )
