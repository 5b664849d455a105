"""What animals and people leave in the box: warm patches, urine, droppings, and warm things that are no animal."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH
from drivers.vivarium.housing import Cover
from drivers.vivarium.shapes import SHAPE, Field, arc, blob, cloud, disc, ellipse, full, polygon, stroke

_HALF = 0.5

BODY_PATCH_CELSIUS = 3.0
"""How much warmer than before the floor is where an animal has lain for long, at the moment it leaves."""
PATCH_WARMS_IN_S = 180.0
PATCH_COOLS_IN_S = 75.0
"""Time constants of plastic under a few millimetres of bedding."""

URINE_CELSIUS = 9.0
"""Fresh urine above the floor, at the skin of the drop."""
URINE_COOLS_IN_S = 40.0
URINE_DRIES_IN_S = 900.0
URINE_CHILL_CELSIUS = 1.6
"""Wet bedding is so much below the floor while it dries."""


def patch_rise_celsius(lain_s: float, left_s: float) -> float:
    """How much warmer the floor is than before, after an animal lay there for `lain_s` and left `left_s` ago."""
    warmed = 1 - math.exp(-max(lain_s, 0.0) / PATCH_WARMS_IN_S)
    return BODY_PATCH_CELSIUS * warmed * math.exp(-max(left_s, 0.0) / PATCH_COOLS_IN_S)


def urine_rise_celsius(age_s: float) -> float:
    """Urine above the floor at an age: first warm, then, while it dries, cold, then gone."""
    if age_s < 0:
        return 0.0
    chill = URINE_CHILL_CELSIUS * (1 - math.exp(-age_s / URINE_COOLS_IN_S)) * math.exp(-age_s / URINE_DRIES_IN_S)
    return URINE_CELSIUS * math.exp(-age_s / URINE_COOLS_IN_S) - chill


def warm_patch(
    field: Field, centre: tuple[float, float], half_px: tuple[float, float], angle_rad: float, rise_celsius: float
) -> None:
    """Where an animal has lain."""
    window, soft = blob(centre, half_px, angle_rad, softness_px=0.35 * half_px[1] + 1.5)
    field[window] += np.float32(rise_celsius) * soft


def puddle(field: Field, rng: np.random.Generator, centre: tuple[float, float], size_px: float) -> None:
    """Some drops that ran together: adds 1 where it is wet."""
    wet = np.zeros(SHAPE, np.float32)
    for _ in range(int(rng.integers(1, 5))):
        place = tuple(value + rng.normal(0, 0.8 * size_px) for value in centre)
        half = size_px * rng.uniform(0.4, 1.0), size_px * rng.uniform(0.3, 0.8)
        ellipse(wet, (place[0], place[1]), half, rng.uniform(0, math.pi), 1.0)
    field += cv2.GaussianBlur(wet, (0, 0), 0.6 + 0.12 * size_px)


def dropping(
    field: Field, rng: np.random.Generator, centre: tuple[float, float], length_px: float, celsius: float
) -> None:
    """A dropping: dried, it is cooler than the floor."""
    half = length_px / 2
    ellipse(field, centre, (half, max(0.4 * half, 0.6)), rng.uniform(0, math.pi), celsius)


def random_clutter(field: Field, rng: np.random.Generator, floor_celsius: float, length_px: float) -> None:
    """Traces of animals of a length on the floor."""

    def anywhere() -> tuple[float, float]:
        return rng.uniform(0, IMAGE_WIDTH), rng.uniform(0, IMAGE_HEIGHT)

    while rng.random() < 0.4:
        half = length_px * rng.uniform(0.2, 0.5), length_px * rng.uniform(0.12, 0.2)
        rise = patch_rise_celsius(rng.exponential(240), rng.exponential(60))
        warm_patch(field, anywhere(), half, rng.uniform(0, math.pi), rise)
    while rng.random() < 0.3:
        wet = np.zeros(SHAPE, np.float32)
        puddle(wet, rng, anywhere(), length_px * rng.uniform(0.015, 0.07))
        field += np.float32(urine_rise_celsius(rng.exponential(240))) * wet
    if rng.random() < 0.12:
        _trail(field, rng, length_px)
    if rng.random() < 0.55:
        for _ in range(int(rng.integers(1, 22))):
            cool = floor_celsius - rng.uniform(0.8, 3.6)
            dropping(field, rng, anywhere(), length_px * rng.uniform(0.025, 0.06), cool)


def _trail(field: Field, rng: np.random.Generator, length_px: float) -> None:
    """A mark of urine drawn along the way of an animal."""
    x, y = rng.uniform(20, IMAGE_WIDTH - 20), rng.uniform(20, IMAGE_HEIGHT - 20)
    angle, length = rng.uniform(0, 2 * math.pi), length_px * rng.uniform(0.3, 1.3)
    line = arc((x, y), (x + length * math.cos(angle), y + length * math.sin(angle)), rng.normal(0, 0.15) * length)
    wet = np.zeros(SHAPE, np.float32)
    stroke(wet, line, max(0.02 * length_px, 1.0), 1.0)
    field += np.float32(urine_rise_celsius(rng.uniform(5, 400))) * cv2.GaussianBlur(wet, (0, 0), 0.9)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WarmThing:
    """Something warm that is no animal."""

    share: Field
    """How much of it is seen at each pixel, 0..1."""
    celsius: Field
    """Its temperature; NaN where nothing of it is seen."""
    flat: bool
    """It cannot lie over an animal."""

    def onto(self, field: Field) -> None:
        """Lay it on a floor."""
        seen = self.share > 0
        field[seen] += self.share[seen] * (self.celsius[seen] - field[seen])

    def cover(self) -> Cover:
        """The same thing over the animals."""
        return Cover(mask=self.share > _HALF, celsius=self.celsius)


def warm_thing(rng: np.random.Generator, floor_celsius: float) -> WarmThing:
    """One of: a hand, a bottle of warm water, a tube, the edge of a heater, a lamp's spot or a cup."""
    kind = int(rng.choice(len(_THINGS) + 1, p=_THING_SHARES))
    if kind == len(_THINGS):
        return _heater(rng, floor_celsius)
    celsius = full(math.nan)
    _THINGS[kind](celsius, rng, floor_celsius)
    inside = (~np.isnan(celsius)).astype(np.uint8)
    # Warm at heart, cooler at the edges, uneven: as real things are, and animals.
    depth_px = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    above = celsius - np.float32(floor_celsius)
    drop, reach_px = np.float32(rng.uniform(0.0, 0.5)), np.float32(rng.uniform(0.8, 5.0))
    celsius -= above * drop * np.exp((1 - depth_px) / reach_px)
    celsius += np.float32(rng.uniform(0.0, 0.5)) * cloud(rng, rng.uniform(12, 60))
    return WarmThing(share=inside.astype(np.float32), celsius=celsius, flat=False)


def _from_outside(rng: np.random.Generator) -> tuple[tuple[float, float], float]:
    """A point on the border and a direction that leads inwards."""
    side, share = int(rng.integers(4)), rng.uniform(0.1, 0.9)
    x, y = ((share * IMAGE_WIDTH, 0.0), (0.0, share * IMAGE_HEIGHT),
            (share * IMAGE_WIDTH, float(IMAGE_HEIGHT)), (float(IMAGE_WIDTH), share * IMAGE_HEIGHT))[side]  # fmt: skip
    return (x, y), math.atan2(IMAGE_HEIGHT / 2 - y, IMAGE_WIDTH / 2 - x) + rng.normal(0, 0.35)


def _hand(field: Field, rng: np.random.Generator, floor_celsius: float) -> None:
    """A forearm and a hand with fingers: as warm as an animal, and warmer."""
    (x, y), angle = _from_outside(rng)
    scale = rng.uniform(9, 28)
    warm = max(rng.uniform(27, 35), floor_celsius + 1.5)  # gloved or bare
    reach = rng.uniform(0.3, 5.0) * scale
    wrist = x + reach * math.cos(angle), y + reach * math.sin(angle)
    arm = np.array(((x - 6 * scale * math.cos(angle), y - 6 * scale * math.sin(angle)), wrist))
    stroke(field, arm, rng.uniform(1.1, 1.6) * scale, warm - rng.uniform(0, 4) * (rng.random() < 0.5))  # sleeve or skin
    ellipse(field, wrist, (1.2 * scale, 0.95 * scale), angle, warm)
    spread, cool = rng.uniform(0.06, 0.3), rng.uniform(-0.5, 2.5)
    bent = rng.uniform(0.5, 1.0)
    for finger, length in zip((-2, -1, 0, 1, 2), (1.3, 1.9, 2.1, 1.9, 1.5), strict=True):
        way = angle + finger * spread
        length *= scale * rng.uniform(0.7, 1.1) * bent
        root = (
            wrist[0] + 0.7 * scale * math.cos(angle + 0.4 * finger),
            wrist[1] + 0.7 * scale * math.sin(angle + 0.4 * finger),
        )
        line = arc(
            root,
            (root[0] + length * math.cos(way), root[1] + length * math.sin(way)),
            rng.normal(0, 0.1) * scale,
            6,
        )
        stroke(field, line, 0.42 * scale, warm - cool)
        disc(field, (float(line[-1, 0]), float(line[-1, 1])), 0.21 * scale, warm - cool)


def _bottle(field: Field, rng: np.random.Generator, floor_celsius: float) -> None:
    """A bottle or heat pack that lies in the box: an even rectangle with round ends."""
    (x, y), angle = _from_outside(rng)
    reach = rng.uniform(0, 70)
    end = x + reach * math.cos(angle), y + reach * math.sin(angle)
    half, length = rng.uniform(6, 20), rng.uniform(20, 70)
    way = angle + rng.normal(0, 0.8)
    warm = floor_celsius + rng.gamma(3.0, 2.2) + 1
    stroke(field, np.array((end, (end[0] - length * math.cos(way), end[1] - length * math.sin(way)))), 2 * half, warm)
    if rng.random() < 0.5:
        ellipse(field, end, (half, half), 0.0, warm - rng.uniform(0, 1.5))


def _tube(field: Field, rng: np.random.Generator, floor_celsius: float) -> None:
    """A warm cable or hose across the picture: as thin as a tail, but it ends nowhere."""
    (x, y), _ = _from_outside(rng)
    (u, v), _ = _from_outside(rng)
    line = arc((x, y), (u, v), rng.normal(0, 30), 24)
    stroke(field, line, rng.uniform(1.5, 9), floor_celsius + rng.uniform(0.8, 9))


def _heater(rng: np.random.Generator, floor_celsius: float) -> WarmThing:
    """The edge of a heating plate, or of a lamp's light, along one side: hot, and the floor beside it warm."""
    (x, y), angle = _from_outside(rng)
    depth = rng.uniform(2, 26)
    ahead, aside = np.array((math.cos(angle), math.sin(angle))), np.array((-math.sin(angle), math.cos(angle)))
    edge = np.array((x, y)) + depth * ahead
    half = rng.uniform(20, 160)
    corners = np.stack(
        (edge + half * aside, edge - half * aside, edge - half * aside - 80 * ahead, edge + half * aside - 80 * ahead)
    )
    hot = np.zeros(SHAPE, np.float32)
    polygon(hot, corners, 1.0)
    rise = rng.gamma(2.5, 2.4) + 1
    share = 0.2 * cv2.blur(hot, (41, 41)) + 0.8 * cv2.GaussianBlur(hot, (0, 0), 1.0)
    return WarmThing(share=np.asarray(share, np.float32), celsius=full(floor_celsius + 1.25 * rise), flat=True)


def _spot(field: Field, rng: np.random.Generator, floor_celsius: float) -> None:
    """Something round and warm: a cup, a motor, a lamp's reflection."""
    (x, y), angle = _from_outside(rng)
    reach, radius = rng.uniform(0, 80), rng.uniform(3, 15)
    disc(
        field,
        (x + reach * math.cos(angle), y + reach * math.sin(angle)),
        radius,
        floor_celsius + rng.uniform(1, 12),
    )


_THINGS = (_hand, _bottle, _tube, _spot)
_THING_SHARES = (0.36, 0.18, 0.18, 0.1, 0.18)
"""The last one is the heater's."""
