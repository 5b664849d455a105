"""Which animals are in a random picture, and how they lie to one another."""

import math
from enum import StrEnum

import numpy as np

from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH
from drivers.vivarium.anatomy import Rodent, Species, rodent
from drivers.vivarium.coat import warmth
from drivers.vivarium.composition import Actor
from drivers.vivarium.dice import Axis, generator
from drivers.vivarium.posture import Pose, Stance, drawn, posed
from drivers.vivarium.shapes import Points

MAX_ANIMALS = 4

_COUNT_SHARES = (0.06, 0.35, 0.23, 0.17, 0.19)
_LENGTH_PX = {Species.RAT: (48.0, 160.0), Species.MOUSE: (40.0, 115.0)}
_CROWDED_LENGTH_PX = 125.0
"""Four animals that are longer do not fit into one picture."""
_STANCES = tuple(Stance)
_ALONE_SHARES = (0.36, 0.12, 0.19, 0.12, 0.10, 0.11)
_HUDDLED_SHARES = (0.05, 0.02, 0.42, 0.40, 0.02, 0.09)
_TRIES = 14
_BORDER_SHARE = 0.25
_APART_PX = 4.0
_LEAST_INSIDE = 0.5
"""So much of the body's spine is inside the picture."""


class _Company(StrEnum):
    APART = "apart"
    TOUCHING = "touching"
    HUDDLED = "huddled"
    ANYHOW = "anyhow"


_COMPANY_SHARES = (0.42, 0.26, 0.26, 0.06)


def random_cast(seed: int, floor_celsius: float) -> tuple[Actor, ...]:
    """The animals of a random picture, from the lowest to the one on top."""
    rng = generator(seed, Axis.ARRANGEMENT)
    count = int(rng.choice(MAX_ANIMALS + 1, p=_COUNT_SHARES))
    species = Species.RAT if rng.random() < 0.6 else Species.MOUSE
    low, high = _LENGTH_PX[species]
    length_px = low * (min(high, _CROWDED_LENGTH_PX) / low if count > 2 else high / low) ** rng.random()
    company = tuple(_Company)[int(rng.choice(len(_Company), p=_COMPANY_SHARES))]
    huddled = company is _Company.HUDDLED and count > 1
    actors: list[Actor] = []
    for number in range(1, count + 1):
        own = generator(seed, Axis.INDIVIDUALS, number)
        youth = own.uniform(0, 1) if own.random() < 0.25 else 0.0
        animal = rodent(own, species, length_px * own.uniform(0.92, 1.08), youth=youth)
        stance = _STANCES[int(rng.choice(len(_STANCES), p=_HUDDLED_SHARES if huddled else _ALONE_SHARES))]
        pose = _placed(rng, animal, stance, [actor.pose for actor in actors], company)
        heat = warmth(own, floor_celsius, youth=youth, asleep=stance is Stance.CURLED)
        actors.append(Actor(number=number, rodent=animal, pose=pose, warmth=heat))
    return tuple(actors[index] for index in rng.permutation(count))


def _placed(rng: np.random.Generator, animal: Rodent, stance: Stance, others: list[Pose], company: _Company) -> Pose:
    """A pose that suits the others; the last try is taken when none does."""
    posture = drawn(rng, stance)
    at_border = bool(rng.random() < _BORDER_SHARE)
    for _ in range(_TRIES):
        heading = rng.uniform(0, 2 * math.pi)
        if others and company in (_Company.TOUCHING, _Company.HUDDLED):
            pose = posed(animal, posture, (0.0, 0.0), heading)
            pose = posed(animal, posture, _beside(rng, pose, others, company), heading)
        else:
            pose = posed(animal, posture, _anywhere(rng, animal, at_border), heading)
            if company is _Company.APART and any(_clearance_px(pose, other) < _APART_PX for other in others):
                continue
        if _share_inside(pose.body.spine) >= (_LEAST_INSIDE if at_border or others else 0.95):
            break
    return pose


def _anywhere(rng: np.random.Generator, animal: Rodent, at_border: bool) -> tuple[float, float]:
    margin = 0.0 if at_border else min(0.3 * animal.length_px, 60.0)
    return rng.uniform(margin, IMAGE_WIDTH - margin), rng.uniform(margin, IMAGE_HEIGHT - margin)


def _beside(rng: np.random.Generator, pose: Pose, others: list[Pose], company: _Company) -> tuple[float, float]:
    """Where a pose made around (0, 0) has to go to touch, or partly cover, one of the others."""
    other = others[int(rng.integers(len(others)))]
    half_px = float(pose.body.half_width_px.max())
    wanted_px = -half_px * float(rng.uniform(0.0, 0.35) if company is _Company.TOUCHING else rng.uniform(0.2, 1.1))
    angle = rng.uniform(0, 2 * math.pi)
    ahead = np.array((math.cos(angle), math.sin(angle)))
    start = other.body.spine[len(other.body.spine) // 2]
    near_px, far_px = 0.0, 400.0
    for _ in range(9):
        middle = (near_px + far_px) / 2
        gap = min(_clearance_px(pose, one, shift=start + middle * ahead) for one in others)
        near_px, far_px = (middle, far_px) if gap < wanted_px else (near_px, middle)
    x, y = start + far_px * ahead
    return float(x), float(y)


def _clearance_px(one: Pose, other: Pose, shift: Points | float = 0.0) -> float:
    """Distance between the outlines of two animals, the first one shifted; negative when they overlap."""
    points, radii = _outline(one)
    others, other_radii = _outline(other)
    gaps = np.linalg.norm((points + shift)[:, None] - others[None], axis=2) - radii[:, None] - other_radii[None]
    return float(gaps.min())


def _outline(pose: Pose) -> tuple[Points, Points]:
    body, tail = pose.body, pose.tail
    return (
        np.concatenate((body.spine[::4], tail.spine[2::6])),
        np.concatenate((body.half_width_px[::4], tail.half_width_px[2::6])),
    )


def _share_inside(spine: Points) -> float:
    inside = (spine >= 0) & (spine < (IMAGE_WIDTH, IMAGE_HEIGHT))
    return float(inside.all(axis=1).mean())
