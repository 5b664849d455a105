"""How an animal holds itself, and the bent strips that follow from it."""

import math
from dataclasses import dataclass, fields, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from drivers.vivarium.anatomy import SPINE_POINTS, SPINE_SHARE, TAIL_POINTS, TAIL_SHARE, Rodent, Span
from drivers.vivarium.shapes import Points

MIN_TAIL_HALF_WIDTH_PX = 0.6
"""A thinner tail still takes a pixel of a hard-edged picture."""

_REARED_SHARE = 0.62
"""So much of the body stands up when the animal rears."""

# What of a posture depends on the place along spine and tail alone.
_STANDING_UP = np.clip((_REARED_SHARE - SPINE_SHARE) / 0.25, 0, 1)
_RAISED = np.clip((_REARED_SHARE - SPINE_SHARE) / _REARED_SHARE, 0, 1)
_TRUNK = np.clip((SPINE_SHARE - 0.1) / 0.8, 0, 1)
_NECK = np.clip(1 - SPINE_SHARE / 0.42, 0, 1) ** 0.7
_S = np.sin(2 * math.pi * SPINE_SHARE)
_LOOSER = np.sqrt(TAIL_SHARE)
_TAIL_ALONG = 1 + TAIL_SHARE


class Stance(StrEnum):
    """What an animal is doing."""

    WALKING = "walking"
    STRETCHED = "stretched"
    RESTING = "resting"
    """Hunched on its feet."""
    CURLED = "curled"
    """Asleep, head by the tail."""
    REARING = "rearing"
    GROOMING = "grooming"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posture:
    """A stance in numbers."""

    stance: Stance
    stretch: float = 1.0
    """Length of the spine by that at ease."""
    girth: float = 1.0
    """Width by that at ease."""
    curl_rad: float = 0.0
    """Turn of the body from rump to head; positive curls to the left of the picture's y-down way."""
    head_turn_rad: float = 0.0
    """Turn of head and neck against the chest."""
    bend: float = 1.0
    """Where the body curls: 1 evenly, below 1 by the shoulders, above 1 by the rump."""
    sway_rad: float = 0.0
    """Size of an S in the spine."""
    rear: float = 0.0
    """How steeply it stands on its hind legs, 0..1: the front is foreshortened and near the camera."""
    feet: float = 0.0
    """How far the feet stick out, 0..1."""
    step: float = 0.0
    """Phase of the gait, radians."""
    tail_turn_rad: float = 0.0
    """Turn of the whole tail, spread evenly."""
    tail_wave_rad: float = 0.0
    tail_phase_rad: float = 0.0
    tail_on_top: bool = False
    """The tail lies over the body where they cross."""

    def towards(self, other: "Posture", share: float) -> "Posture":
        """A posture between this one (0) and another (1), with the other's name; nothing jumps on the way."""
        mixed = {name: (1 - share) * getattr(self, name) + share * getattr(other, name) for name in _MEASURES}
        for name in _PHASES:
            turn = math.remainder(getattr(other, name) - getattr(self, name), 2 * math.pi)
            mixed[name] = getattr(self, name) + share * turn
        return replace(other, **mixed)


_PHASES = ("step", "tail_phase_rad")
_MEASURES = tuple(
    field.name for field in fields(Posture) if field.name not in ("stance", "tail_on_top", *_PHASES)
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ribbon:
    """A bent strip: a spine with a half width at each of its points."""

    spine: Points
    """From nose to tail base, or from tail base to tip."""
    normals: Points
    """Unit vectors to the right of the way from tail to nose."""
    half_width_px: NDArray[np.float64]
    along: NDArray[np.float64]
    """Place on the animal: 0 nose, 1 tail base, 2 tip of the tail."""

    def at(self, along: float, side: float = 0.0) -> tuple[float, float]:
        """The point (x, y) at a place of the spine, `side` half widths beside it."""
        index = int(np.argmin(np.abs(self.along - along)))
        x, y = self.spine[index] + side * self.half_width_px[index] * self.normals[index]
        return float(x), float(y)

    def point(self, along: float) -> tuple[float, float]:
        """The point (x, y) of the spine at a place, also between its points."""
        x, y = (float(np.interp(along, self.along, self.spine[:, axis])) for axis in (0, 1))
        return x, y

    def heading_rad(self, along: float) -> float:
        """Direction towards the nose at a place of the spine."""
        x, y = self.normals[int(np.argmin(np.abs(self.along - along)))]
        return math.atan2(-float(x), float(y))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pose:
    """Where an animal is and how it is bent."""

    tail: Ribbon
    body: Ribbon
    """Head and body, from nose to tail base."""
    posture: Posture


_NONE = Span(low=0.0, high=0.0)
_A_LITTLE = Span(low=-0.4, high=0.4)
_LOOSE = Span(low=-1.2, high=1.2)
_WAVY = Span(low=0.0, high=0.7)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Habit:
    """From where to where the numbers of a stance vary; turns are to the same side."""

    stretch: Span
    girth: Span
    curl_rad: Span
    head_turn_rad: Span = _A_LITTLE
    rear: Span = _NONE
    feet: Span
    tail_turn_rad: Span = _LOOSE
    """Positive goes on with the body's curl."""
    tail_wave_rad: Span = _WAVY
    tail_on_top_share: float = 0.0


_HABITS = {
    Stance.WALKING: _Habit(
        stretch=Span(low=0.94, high=1.06),
        girth=Span(low=0.94, high=1.02),
        curl_rad=Span(low=-0.7, high=0.7),
        feet=Span(low=0.4, high=1.0),
    ),
    Stance.STRETCHED: _Habit(
        stretch=Span(low=1.06, high=1.22),
        girth=Span(low=0.82, high=1.0),
        curl_rad=Span(low=-0.3, high=0.3),
        feet=Span(low=0.2, high=1.0),
    ),
    Stance.RESTING: _Habit(
        stretch=Span(low=0.68, high=0.88),
        girth=Span(low=1.04, high=1.2),
        curl_rad=Span(low=0.0, high=1.2),
        tail_turn_rad=Span(low=0.0, high=2.6),
        feet=Span(low=0.0, high=0.4),
    ),
    Stance.CURLED: _Habit(
        stretch=Span(low=0.84, high=1.02),
        girth=Span(low=1.02, high=1.4),
        curl_rad=Span(low=2.1, high=4.7),
        head_turn_rad=Span(low=0.1, high=0.8),
        feet=Span(low=0.0, high=0.4),
        tail_turn_rad=Span(low=1.2, high=3.0),
        tail_wave_rad=Span(low=0.0, high=0.2),
        tail_on_top_share=0.3,
    ),
    Stance.REARING: _Habit(
        stretch=Span(low=0.94, high=1.06),
        girth=Span(low=1.0, high=1.12),
        curl_rad=Span(low=-0.4, high=0.4),
        rear=Span(low=0.4, high=1.0),
        feet=Span(low=0.0, high=0.6),
    ),
    Stance.GROOMING: _Habit(
        stretch=Span(low=0.66, high=0.8),
        girth=Span(low=1.1, high=1.22),
        curl_rad=Span(low=0.3, high=1.4),
        head_turn_rad=Span(low=0.6, high=1.5),
        feet=Span(low=0.0, high=0.5),
    ),
}


def drawn(rng: np.random.Generator, stance: Stance) -> Posture:
    """A posture of a stance, different each time."""
    habit, side = _HABITS[stance], 1.0 if rng.random() < 0.5 else -1.0
    return Posture(
        stance=stance,
        stretch=habit.stretch.draw(rng),
        girth=habit.girth.draw(rng),
        curl_rad=side * habit.curl_rad.draw(rng),
        head_turn_rad=side * habit.head_turn_rad.draw(rng),
        bend=rng.uniform(0.6, 1.6),
        sway_rad=rng.normal(0, 0.13),
        rear=habit.rear.draw(rng),
        feet=habit.feet.draw(rng),
        step=rng.uniform(0, 2 * math.pi),
        tail_turn_rad=-side * habit.tail_turn_rad.draw(rng),
        tail_wave_rad=habit.tail_wave_rad.draw(rng),
        tail_phase_rad=rng.uniform(0, 2 * math.pi),
        tail_on_top=rng.random() < habit.tail_on_top_share,
    )


def usual(stance: Stance) -> Posture:
    """The middle of a stance, without sway."""
    habit = _HABITS[stance]
    return Posture(
        stance=stance,
        stretch=habit.stretch.middle,
        girth=habit.girth.middle,
        curl_rad=habit.curl_rad.middle,
        head_turn_rad=habit.head_turn_rad.middle,
        rear=habit.rear.middle,
        feet=habit.feet.middle,
        tail_turn_rad=-habit.tail_turn_rad.middle,
        tail_wave_rad=habit.tail_wave_rad.middle,
    )


def posed(
    animal: Rodent,
    posture: Posture,
    centre: tuple[float, float],
    heading_rad: float,
    *,
    spine_turn: NDArray[np.float64] | None = None,
    tail_turn: NDArray[np.float64] | None = None,
) -> Pose:
    """The pose of an animal.

    Parameters
    ----------
    animal : Rodent
        Whose.
    posture : Posture
        How it holds itself.
    centre : (x, y)
        The middle of its spine.
    heading_rad : float
        Direction from tail to nose at the middle of the spine; 0 looks right, a quarter turn down.
    spine_turn, tail_turn : (40,), (28,) float64, optional
        Turn against the heading at each point of spine and tail, added to what the posture does: a walking animal lies
        on the way it has come.
    """
    foreshortened = 1 - 0.62 * posture.rear * _STANDING_UP
    near = 1 + 0.3 * posture.rear * _RAISED
    angles = heading_rad + _spine_turn(posture) + (0 if spine_turn is None else spine_turn)
    step_px = animal.length_px * posture.stretch / (SPINE_POINTS - 1)
    spine = _integrated(angles, step_px * foreshortened)
    spine += np.array(centre) - spine[SPINE_POINTS // 2]
    body = _ribbon(spine, animal.length_px * posture.girth * near * animal.half_width, SPINE_SHARE)

    base_angle = float(angles[-1])
    tail_angles = base_angle + posture.tail_turn_rad * TAIL_SHARE
    tail_angles = (
        tail_angles + posture.tail_wave_rad * np.sin(2 * math.pi * TAIL_SHARE + posture.tail_phase_rad) * _LOOSER
    )
    if tail_turn is not None:
        tail_angles = tail_angles + tail_turn
    tail = _integrated(tail_angles, np.full(TAIL_POINTS, animal.length_px * animal.tail / (TAIL_POINTS - 1)))
    # The tail begins under the rump, where the outline has closed.
    tail += spine[-1] + 0.03 * animal.length_px * np.array((math.cos(base_angle), math.sin(base_angle)))
    width_px = np.maximum(animal.length_px * animal.tail_half_width, MIN_TAIL_HALF_WIDTH_PX)
    return Pose(body=body, tail=_ribbon(tail, width_px, _TAIL_ALONG), posture=posture)


def moved(pose: Pose, shift_px: tuple[float, float]) -> Pose:
    """The same pose elsewhere."""
    tail = replace(pose.tail, spine=pose.tail.spine + shift_px)
    return replace(pose, tail=tail, body=replace(pose.body, spine=pose.body.spine + shift_px))


def tilted(pose: Pose, matrix: NDArray[np.float64]) -> Pose:
    """A pose as a camera sees it that does not look straight down.

    Parameters
    ----------
    pose : Pose
        As seen from above.
    matrix : (2, 2) float64
        What the camera makes of lengths on the floor. The middle of the spine stays where it is.
    """
    middle = pose.body.spine[SPINE_POINTS // 2]

    def seen(ribbon: Ribbon) -> Ribbon:
        spine = middle + (ribbon.spine - middle) @ matrix.T
        ahead = np.stack((ribbon.normals[:, 1], -ribbon.normals[:, 0]), axis=1)
        across = abs(np.linalg.det(matrix)) / np.linalg.norm(ahead @ matrix.T, axis=1)
        # A flat strip would be so much narrower; a trunk is as high as it is wide.
        across = (across + math.sqrt(abs(np.linalg.det(matrix)))) / 2
        return _ribbon(spine, ribbon.half_width_px * across, ribbon.along)

    return replace(pose, tail=seen(pose.tail), body=seen(pose.body))


def clearance_px(one: Pose, other: Pose, shift: Points | float = 0.0, *, tails: bool = True) -> float:
    """Distance between the outlines of two animals, the first one shifted; negative when they overlap."""
    points, radii = _outline(one, tails)
    others, other_radii = _outline(other, tails)
    between = (points + shift)[:, None] - others[None]
    gaps = np.sqrt(between[..., 0] ** 2 + between[..., 1] ** 2) - radii[:, None] - other_radii[None]
    return float(gaps.min())


def _outline(pose: Pose, tails: bool) -> tuple[Points, Points]:
    """Discs that fill an animal: centres and radii."""
    body, tail = pose.body, pose.tail
    if not tails:
        return body.spine[::4], body.half_width_px[::4]
    return (
        np.concatenate((body.spine[::4], tail.spine[2::6])),
        np.concatenate((body.half_width_px[::4], tail.half_width_px[2::6])),
    )


def _spine_turn(posture: Posture) -> NDArray[np.float64]:
    """Turn at each point of the spine against its middle; curls sit in the trunk, a turned head in the neck."""
    turn = posture.curl_rad * (0.5**posture.bend - _TRUNK**posture.bend)
    turn = turn + posture.head_turn_rad * _NECK
    return np.asarray(turn + posture.sway_rad * _S)


def _integrated(angles: NDArray[np.float64], steps_px: NDArray[np.float64]) -> Points:
    """Points one after the other, each against the direction of its angle from the one before; the first is (0, 0)."""
    steps = np.empty((len(angles), 2))
    steps[:, 0], steps[:, 1] = np.cos(angles), np.sin(angles)
    steps *= -steps_px[:, None]
    points: Points = np.zeros_like(steps)
    np.cumsum((steps[1:] + steps[:-1]) / 2, axis=0, out=points[1:])
    return points


def _ribbon(spine: Points, half_width_px: NDArray[np.float64], along: NDArray[np.float64]) -> Ribbon:
    # As `np.gradient` and `np.linalg.norm` have it, which take three times as long for so few points.
    ahead = np.empty_like(spine)
    ahead[1:-1] = (spine[:-2] - spine[2:]) / 2
    ahead[0], ahead[-1] = spine[0] - spine[1], spine[-2] - spine[-1]
    ahead /= np.maximum(np.sqrt(ahead[:, :1] ** 2 + ahead[:, 1:] ** 2), 1e-9)
    # To the right of the way ahead, with y down: (x, y) -> (-y, x).
    normals = np.empty_like(ahead)
    normals[:, 0], normals[:, 1] = -ahead[:, 1], ahead[:, 0]
    return Ribbon(spine=spine, normals=normals, half_width_px=half_width_px, along=along)
