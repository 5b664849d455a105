"""The box without its animals: floor, walls, bedding, nest, drinker, food and bars."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH
from drivers.vivarium.shapes import SHAPE, Field, Points, arc, blob, cloud, disc, ellipse, full, polygon, ramps, stroke

WALL_PX = 8.0
"""How far the walls of a tidy box reach into the picture."""

_BOTTOM_RIGHT = np.array((IMAGE_WIDTH, IMAGE_HEIGHT), np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cover:
    """Something between animals and camera: bars, a shelter."""

    mask: NDArray[np.bool_]
    """Where it is."""
    celsius: Field
    """Its temperature there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Housing:
    """The empty box."""

    floor_celsius: float
    """Of the floor, about."""
    celsius: Field
    """Everything that lies under the animals."""
    covers: tuple[Cover, ...] = ()
    mirrors: tuple[tuple[int, float], ...] = ()
    """Walls that mirror: the axis (0 for y, 1 for x) and where on it their foot is."""


def floor(
    rng: np.random.Generator, celsius: float, *, slope_celsius: float, uneven_celsius: float, grain_celsius: float,
    grain_px: float,
) -> Field:  # fmt: skip
    """A floor with a slope of temperature from one side to the other, large soft unevenness and bedding."""
    x, y = ramps()
    angle = rng.uniform(0, 2 * math.pi)
    field = full(celsius) + np.float32(slope_celsius / 2 * math.cos(angle)) * x
    field += np.float32(slope_celsius / 2 * math.sin(angle)) * y
    field += np.float32(uneven_celsius) * cloud(rng, 70.0)
    field += np.float32(grain_celsius) * cloud(rng, grain_px)
    return field


def plain_housing(rng: np.random.Generator, celsius: float, *, nests: Points) -> Housing:
    """A tidy box whose walls are just in the picture, with a drinker, some food, and paper where the animals nest."""
    field = floor(rng, celsius, slope_celsius=1.2, uneven_celsius=0.12, grain_celsius=0.1, grain_px=3.0)
    for x, y in nests.tolist():
        window, heap = blob((x, y), (34.0, 27.0), rng.uniform(0, math.pi), softness_px=5.0)
        field[window] += heap * (np.float32(0.25) + np.float32(0.16) * cloud(rng, 3.0)[window])
    for side in range(4):
        _wall(field, rng, side, width_px=WALL_PX, slant_px=0.0, celsius=celsius + rng.uniform(-1.6, -0.4))
    disc(field, (214.0, 15.0), 7.0, celsius - 3.0)
    _food(field, rng, (24.0, 18.0), pieces=5, size_px=5.0, celsius=celsius - 0.7)
    return Housing(floor_celsius=celsius, celsius=field, mirrors=((0, WALL_PX),))


def random_housing(rng: np.random.Generator, celsius: float) -> Housing:
    """Any box: bare or littered, walls in the picture or not."""
    field = floor(
        rng,
        celsius,
        slope_celsius=rng.gamma(1.6, 0.55),
        uneven_celsius=rng.uniform(0.02, 0.35),
        grain_celsius=float(rng.choice((0.02, 0.06, 0.15, 0.3)) * rng.uniform(0.6, 1.4)),
        grain_px=rng.uniform(1.2, 7.0),
    )
    if rng.random() < 0.35:
        _seam(field, rng)
    mirrors = []
    if rng.random() < 0.6:
        offset = rng.normal(-0.6, 1.0)
        for side in np.flatnonzero(rng.random(4) < 0.6).tolist():
            width = rng.uniform(3, 34) if rng.random() < 0.8 else rng.uniform(34, 62)  # high walls, seen at an angle
            _wall(field, rng, side, width_px=width, slant_px=rng.normal(0, 6),
                  celsius=celsius + offset + rng.normal(0, 0.5))  # fmt: skip
            length = SHAPE[side % 2]
            mirrors.append((side % 2, width if side < 2 else length - width))
    if rng.random() < 0.35:
        _nest(field, rng)
    if rng.random() < 0.3:
        _drinker(field, rng, celsius)
    if rng.random() < 0.3:
        _food(field, rng, _by_the_border(rng), pieces=int(rng.integers(3, 14)), size_px=rng.uniform(2.5, 7),
              celsius=celsius + rng.normal(-0.2, 0.6))  # fmt: skip
    covers = []
    if rng.random() < 0.09:
        covers.append(_bars(rng, celsius + rng.normal(-0.3, 0.8)))
    if rng.random() < 0.08:
        covers.append(_shelter(rng, celsius + rng.normal(0.2, 0.6)))
    return Housing(floor_celsius=celsius, celsius=field, covers=tuple(covers), mirrors=tuple(mirrors))


def _wall(
    field: Field, rng: np.random.Generator, side: int, *, width_px: float, slant_px: float, celsius: float
) -> None:
    """A wall along one side (0 top, 1 left, 2 bottom, 3 right), with the corner where it meets the floor."""
    length = IMAGE_WIDTH if side % 2 == 0 else IMAGE_HEIGHT
    foot = arc((-4.0, width_px - slant_px / 2), (length + 4.0, width_px + slant_px / 2), rng.normal(0, 1.5))
    outline = np.concatenate((foot, [(length + 4.0, -4.0), (-4.0, -4.0)]))
    mask = np.zeros(SHAPE, np.uint8)
    polygon(mask, _turned(outline, side), 1)
    inside = mask > 0
    # A wall takes on some of the room's warmth: it is not of one temperature.
    own = full(celsius) + np.float32(rng.uniform(0.02, 0.25)) * cloud(rng, 48.0)
    field[inside] = own[inside]
    if rng.random() < 0.7:
        corner = float(field.mean()) + rng.normal(0.3, 0.45)
        stroke(field, _turned(foot, side), rng.uniform(1.0, 3.0), corner)


def _turned(points: Points, side: int) -> Points:
    """Points beside the top of the picture, brought to another side of it."""
    along, across = points[:, 0], points[:, 1]
    if side == 0:
        return points
    if side == 1:
        return np.stack((across, along), axis=1)
    if side == 2:
        return np.stack((along, IMAGE_HEIGHT - 1 - across), axis=1)
    return np.stack((IMAGE_WIDTH - 1 - across, along), axis=1)


def _seam(field: Field, rng: np.random.Generator) -> None:
    """The edge of a panel: a slightly bent line across the picture with a step of temperature behind it."""
    flip = bool(rng.random() < 0.5)
    length, breadth = (IMAGE_HEIGHT, IMAGE_WIDTH) if flip else (IMAGE_WIDTH, IMAGE_HEIGHT)
    line = arc((-4.0, rng.uniform(0, breadth)), (length + 4.0, rng.uniform(0, breadth)),
               rng.normal(0, 8))  # fmt: skip
    beyond = np.concatenate((line, [(length + 4.0, breadth + 4.0), (-4.0, breadth + 4.0)]))
    if flip:
        line, beyond = line[:, ::-1], beyond[:, ::-1]
    mask = np.zeros(SHAPE, np.uint8)
    polygon(mask, np.ascontiguousarray(beyond), 1)
    field[mask > 0] += np.float32(rng.normal(0, 0.5))
    ridge = np.zeros(SHAPE, np.float32)
    stroke(ridge, np.ascontiguousarray(line), rng.uniform(0.8, 4.0), rng.normal(0.2, 0.4))
    field += cv2.GaussianBlur(ridge, (0, 0), rng.uniform(0.6, 2.0))


def _nest(field: Field, rng: np.random.Generator) -> None:
    """A heap of shredded paper or wood wool: coarse, a little warmer than the floor."""
    x, y = _by_the_border(rng) if rng.random() < 0.7 else (rng.uniform(40, 216), rng.uniform(40, 152))
    heap = np.zeros(SHAPE, np.float32)
    for _ in range(int(rng.integers(3, 8))):
        centre = x + rng.normal(0, 14), y + rng.normal(0, 14)
        ellipse(heap, centre, (rng.uniform(10, 30), rng.uniform(8, 24)), rng.uniform(0, 3.2), 1.0)
    heap = np.asarray(cv2.GaussianBlur(heap, (0, 0), rng.uniform(1.0, 5.0)), np.float32)
    strands = np.float32(rng.uniform(0.1, 0.7)) * cloud(rng, rng.uniform(2.0, 6.0))
    field += heap * (np.float32(rng.normal(0.4, 0.5)) + strands)


def _drinker(field: Field, rng: np.random.Generator, celsius: float) -> None:
    """A bottle of cool water seen from above or lying across, with a steel spout."""
    x, y = _by_the_border(rng)
    angle = math.atan2(IMAGE_HEIGHT / 2 - y, IMAGE_WIDTH / 2 - x) + rng.normal(0, 0.3)
    ahead, aside = np.array((math.cos(angle), math.sin(angle))), np.array((-math.sin(angle), math.cos(angle)))
    half, length = rng.uniform(5, 16), rng.uniform(10, 50)
    cool = celsius - rng.uniform(0.2, 3.5)
    end = np.array((x, y))
    sides = np.stack((end + half * aside, end - half * aside, end - half * aside - length * ahead,
                      end + half * aside - length * ahead))  # fmt: skip
    polygon(field, sides, cool)
    disc(field, (x, y), half, cool)
    spout = np.stack((end + 0.8 * half * ahead, end + (half + rng.uniform(4, 16)) * ahead))
    stroke(field, spout, rng.uniform(1.5, 4), cool - rng.normal(0.3, 0.5))


def _food(
    field: Field, rng: np.random.Generator, centre: tuple[float, float], *, pieces: int, size_px: float, celsius: float
) -> None:
    """Pellets: short rods at about the temperature of the room."""
    for _ in range(pieces):
        place = tuple(float(value + rng.normal(0, 2.2 * size_px)) for value in centre)
        ellipse(field, (place[0], place[1]), (size_px * rng.uniform(0.6, 1.3), size_px * 0.5),
                rng.uniform(0, math.pi), celsius + rng.normal(0, 0.25))  # fmt: skip


def _bars(rng: np.random.Generator, celsius: float) -> Cover:
    """The wires of a food rack or lid over one side of the picture."""
    mask = np.zeros(SHAPE, np.uint8)
    side, depth = int(rng.integers(4)), rng.uniform(20, 75)
    pitch, width = rng.uniform(7, 16), rng.uniform(1.0, 2.4)
    length = IMAGE_WIDTH if side % 2 == 0 else IMAGE_HEIGHT
    first = rng.uniform(0, length - 60) if rng.random() < 0.6 else 0.0
    last = rng.uniform(first + 60, length)
    for at in np.arange(first, last, pitch):
        stroke(mask, _turned(np.array(((at, -4.0), (at + rng.normal(0, 0.5), depth))), side), width, 1)
    stroke(mask, _turned(np.array(((first, depth), (last, depth))), side), width + 0.8, 1)
    return Cover(mask=mask > 0, celsius=full(celsius) + np.float32(0.15) * cloud(rng, 30.0))


def _shelter(rng: np.random.Generator, celsius: float) -> Cover:
    """A hut or tube that an animal may look out of: opaque for heat."""
    x, y = _by_the_border(rng)
    angle = rng.uniform(0, math.pi)
    mask = np.zeros(SHAPE, np.uint8)
    half = rng.uniform(18, 34), rng.uniform(13, 26)
    turn = np.array(((math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))))
    if rng.random() < 0.5:
        corners = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1))) * half
        polygon(mask, corners @ turn + (x, y), 1)
    else:
        around = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        polygon(mask, np.stack((half[0] * np.cos(around), half[1] * np.sin(around)), axis=1) @ turn + (x, y), 1)
    return Cover(mask=mask > 0, celsius=full(celsius) + np.float32(rng.uniform(0.05, 0.3)) * cloud(rng, 25.0))


def _by_the_border(rng: np.random.Generator) -> tuple[float, float]:
    """A point near one side of the picture."""
    point = rng.uniform(0, 1, 2) * _BOTTOM_RIGHT
    axis = int(rng.integers(2))
    near = rng.uniform(4, 30)
    point[axis] = near if rng.random() < 0.5 else _BOTTOM_RIGHT[axis] - near
    return float(point[0]), float(point[1])
