"""Which animals are in a random picture, and how they lie to one another."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH
from drivers.vivarium.anatomy import Rodent, Span, Species, rodent
from drivers.vivarium.coat import litter, warmth
from drivers.vivarium.composition import Actor
from drivers.vivarium.dice import Axis, generator
from drivers.vivarium.posture import Pose, Stance, clearance_px, drawn, moved, posed, tilted
from drivers.vivarium.shapes import Points

MAX_ANIMALS = 4

_COUNT_SHARES = (0.06, 0.35, 0.23, 0.17, 0.19)
_LENGTH_PX = {Species.RAT: (40.0, 190.0), Species.MOUSE: (38.0, 130.0)}
_CROWDED_LENGTH_PX = 125.0
"""Four animals that are longer do not fit into one picture."""
_MIXED_SHARE = 0.08
"""So many pictures show rats together with mice."""
_MOUSE_BY_RAT = Span(low=0.45, high=0.6)
_STANCES = tuple(Stance)
_ALONE_SHARES = (0.36, 0.12, 0.19, 0.12, 0.10, 0.11)
_HUDDLED_SHARES = (0.05, 0.02, 0.42, 0.40, 0.02, 0.09)
_TRIES = 14
_BORDER_SHARE = 0.25
_ENTERING_SHARE = 0.13
"""So many animals are hardly in the picture: a head, a rump or a tail is seen."""
_ENTERED = Span(low=0.05, high=0.4)
"""Share of the spine, or of spine and tail, that is then inside."""
_ENTERED_BY_TRUNK_SHARE = 0.8
_OBLIQUE_SHARE = 0.45
"""So many cameras do not look straight down."""
_FORESHORTENED = Span(low=0.7, high=0.97)
_NEARER = Span(low=-0.25, high=0.25)
"""How much larger things are at the side of the picture that is nearer to the camera."""
_SPREADS = {"huddled": 0.3, "litter": 0.6, "strangers": 1.3}
_STRANGERS_SHARE = 0.2
_APART_PX = 4.0
_MIDDLE = IMAGE_WIDTH / 2, IMAGE_HEIGHT / 2
_LEAST_INSIDE = 0.5
"""So much of the body's spine is inside the picture."""


class _Company(StrEnum):
    APART = "apart"
    TOUCHING = "touching"
    HUDDLED = "huddled"
    ANYHOW = "anyhow"


_COMPANY_SHARES = (0.46, 0.26, 0.22, 0.06)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _View:
    """From where the camera looks."""

    towards_rad: float = 0.0
    """Direction in the picture that leads away from the camera."""
    foreshortened: float = 1.0
    nearer: float = 0.0

    def seen(self, pose: Pose, at: tuple[float, float]) -> Pose:
        """A pose as it looks at a place of the picture."""
        ahead = math.cos(self.towards_rad), math.sin(self.towards_rad)
        away = (at[0] / IMAGE_WIDTH - 0.5) * ahead[0] + (at[1] / IMAGE_HEIGHT - 0.5) * ahead[1]
        turn = np.array((ahead, (-ahead[1], ahead[0])))
        return tilted(pose, (1 - self.nearer * away) * turn.T @ np.diag((self.foreshortened, 1.0)) @ turn)


def _view(rng: np.random.Generator) -> _View:
    if rng.random() > _OBLIQUE_SHARE:
        return _View()
    return _View(
        towards_rad=rng.uniform(0, 2 * math.pi), foreshortened=_FORESHORTENED.draw(rng), nearer=_NEARER.draw(rng)
    )


def random_cast(seed: int, floor_celsius: float) -> tuple[Actor, ...]:
    """The animals of a random picture, from the lowest to the one on top."""
    rng = generator(seed, Axis.ARRANGEMENT)
    count = int(rng.choice(MAX_ANIMALS + 1, p=_COUNT_SHARES))
    species = Species.RAT if rng.random() < 0.6 else Species.MOUSE
    low, high = _LENGTH_PX[species]
    length_px = low * (min(high, _CROWDED_LENGTH_PX) / low if count > 2 else high / low) ** rng.random()
    company = tuple(_Company)[int(rng.choice(len(_Company), p=_COMPANY_SHARES))]
    huddled = company is _Company.HUDDLED and count > 1
    view, mixed = _view(rng), count > 1 and rng.random() < _MIXED_SHARE
    common = generator(seed, Axis.INDIVIDUALS, 0)
    strangers = "strangers" if common.random() < _STRANGERS_SHARE else "litter"
    mates = litter(common, floor_celsius, spread=_SPREADS["huddled" if huddled else strangers])
    actors: list[Actor] = []
    for number in range(1, count + 1):
        own = generator(seed, Axis.INDIVIDUALS, number)
        youth = own.uniform(0, 1) if own.random() < 0.25 else 0.0
        size_px = length_px * own.uniform(0.92, 1.08)
        if mixed:
            species = Species.RAT if number % 2 else Species.MOUSE
            size_px = max(length_px, 80.0) * (1.0 if number % 2 else _MOUSE_BY_RAT.draw(own))
        animal = rodent(own, species, size_px, youth=youth)
        stance = _STANCES[int(rng.choice(len(_STANCES), p=_HUDDLED_SHARES if huddled else _ALONE_SHARES))]
        pose = _placed(rng, animal, stance, [actor.pose for actor in actors], company, view)
        heat = warmth(own, floor_celsius, youth=youth, asleep=stance is Stance.CURLED, mates=mates)
        actors.append(Actor(number=number, rodent=animal, pose=pose, warmth=heat))
    return tuple(actors[index] for index in rng.permutation(count))


def _placed(
    rng: np.random.Generator, animal: Rodent, stance: Stance, others: list[Pose], company: _Company, view: _View
) -> Pose:
    """A pose that suits the others; the last try is taken when none does."""
    posture = drawn(rng, stance)
    at_border, entering = bool(rng.random() < _BORDER_SHARE), bool(rng.random() < _ENTERING_SHARE)
    neighbours = [other for other in others if _share_inside(other.body.spine) >= _LEAST_INSIDE]
    for _ in range(_TRIES):
        heading = rng.uniform(0, 2 * math.pi)
        if entering:
            pose = _entering(rng, view.seen(posed(animal, posture, (0.0, 0.0), heading), _MIDDLE))
            if any(clearance_px(pose, other) < _APART_PX for other in others):
                continue
            return pose
        if neighbours and company in (_Company.TOUCHING, _Company.HUDDLED):
            other = neighbours[int(rng.integers(len(neighbours)))]
            pose = view.seen(posed(animal, posture, (0.0, 0.0), heading), other.body.at(0.5))
            pose = moved(pose, _beside(rng, pose, other, others, company))
        else:
            place = _anywhere(rng, animal, at_border)
            pose = view.seen(posed(animal, posture, place, heading), place)
            if company is _Company.APART and any(clearance_px(pose, other) < _APART_PX for other in others):
                continue
        if _share_inside(pose.body.spine) >= (_LEAST_INSIDE if at_border or others else 0.95):
            break
    return pose


def _entering(rng: np.random.Generator, pose: Pose) -> Pose:
    """A pose brought to where only a small share of it is inside one side of the picture."""
    by_trunk = rng.random() < _ENTERED_BY_TRUNK_SHARE
    points = pose.body.spine if by_trunk else np.concatenate((pose.body.spine, pose.tail.spine))
    side = int(rng.integers(4))
    axis, size_px = side % 2, (IMAGE_WIDTH, IMAGE_HEIGHT)[side % 2]
    inwards = 1 if side < 2 else -1
    edge = float(np.quantile(inwards * points[:, axis], 1 - _ENTERED.draw(rng)))
    shift = np.zeros(2)
    shift[axis] = (0 if side < 2 else size_px - 1) - inwards * edge
    inside = points[inwards * points[:, axis] > edge]
    shift[1 - axis] = rng.uniform(0.05, 0.95) * (IMAGE_WIDTH, IMAGE_HEIGHT)[1 - axis] - inside[:, 1 - axis].mean()
    return moved(pose, (float(shift[0]), float(shift[1])))


def _anywhere(rng: np.random.Generator, animal: Rodent, at_border: bool) -> tuple[float, float]:
    margin = 0.0 if at_border else min(0.3 * animal.length_px, 60.0)
    return rng.uniform(margin, IMAGE_WIDTH - margin), rng.uniform(margin, IMAGE_HEIGHT - margin)


def _beside(
    rng: np.random.Generator, pose: Pose, other: Pose, others: list[Pose], company: _Company
) -> tuple[float, float]:
    """How far a pose made around (0, 0) has to go to touch, or partly cover, one of the others."""
    half_px = float(pose.body.half_width_px.max())
    wanted_px = -half_px * float(rng.uniform(0.0, 0.35) if company is _Company.TOUCHING else rng.uniform(0.2, 1.1))
    angle = rng.uniform(0, 2 * math.pi)
    ahead = np.array((math.cos(angle), math.sin(angle)))
    start = other.body.spine[len(other.body.spine) // 2]
    near_px, far_px = 0.0, 400.0
    for _ in range(9):
        middle = (near_px + far_px) / 2
        gap = min(clearance_px(pose, one, shift=start + middle * ahead) for one in others)
        near_px, far_px = (middle, far_px) if gap < wanted_px else (near_px, middle)
    x, y = start + far_px * ahead
    return float(x), float(y)


def _share_inside(spine: Points) -> float:
    inside = (spine >= 0) & (spine < (IMAGE_WIDTH, IMAGE_HEIGHT))
    return float(inside.all(axis=1).mean())
