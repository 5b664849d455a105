"""An animal that lives in the box: how it lies and how warm it is at any moment."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from drivers.vivarium.anatomy import SPINE_SHARE, TAIL_SHARE, Rodent, Species, rodent
from drivers.vivarium.coat import Warmth
from drivers.vivarium.composition import Actor
from drivers.vivarium.dice import Axis, generator
from drivers.vivarium.figure import ScenePart
from drivers.vivarium.incidents import Incident, effects
from drivers.vivarium.itinerary import Doing
from drivers.vivarium.posture import Pose, Posture, Stance, posed
from drivers.vivarium.rhythm import Rhythm

_SPREAD = 0.3
"""Residents are typical animals, as they come from one breeder at one age."""
_SIZE_SPREAD = 0.05
_WALKING_SPEED = 0.3
"""Lengths per second at which an animal is stretched half-way between its shortest and its longest."""
_STRIDE = 0.32
_TAIL_WAVE = 1.2
"""Lengths of a stride and of the tail's wave, as shares of the animal's."""
_HEAD_SWAY_RAD = 0.14
_TAIL_SWAY_RAD = 0.35
_LIMP = 0.3
"""Spine and tail follow the mean direction of the way over so much of the animal's length."""
_TAIL_BENT_RAD = 1.9
_MOST_BENT_RAD = 1.8
"""Where the way bends more over the length of a body, the animal cuts the corner."""
_NAMED_FROM = 0.1
"""An animal that has settled so far is said to rest, or not yet to walk."""
_GROOMS_HZ, _GROOMS_RAD = 1.3, 0.22
_BREATHES_HZ, _BREATHES = 1.5, 0.012

_USUAL_CORE_CELSIUS = 37.4
_FUR_FOLLOWS = 0.7
"""Of a change inside, so much is seen on the back."""
_TAIL_DILATION_CELSIUS = 3.0
_FOOT_DILATION_CELSIUS = 2.0
_EAR_DILATION_CELSIUS = 1.0
_CLOSED, _OPEN = -0.35, 1.3
"""Dilation of a tail whose vessels an illness closes or opens; the healthy one stays within 0 and 1."""
_INJURY_AT = 0.35, 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Skin:
    """Temperatures of an animal's surface, without looking at its pixels."""

    hottest_celsius: float
    """Of its eyes and ears."""
    surface_celsius: dict[ScenePart, float]
    """Mean of each part seen from above."""


class Resident:
    """One animal: build, coat and temperatures all follow from a seed.

    Parameters
    ----------
    seed, number : int
        Of the scene and the animal.
    species : Species
        Of which kind.
    length_px : float
        From nose to tail base, about.
    floor_celsius : float
        Of the box.
    rhythm : Rhythm
        Its core temperature when healthy.
    incidents : iterable of Incident
        What happens to it.
    """

    def __init__(
        self, seed: int, number: int, *, species: Species, length_px: float, floor_celsius: float, rhythm: Rhythm,
        incidents: Iterable[Incident] = (),
    ) -> None:  # fmt: skip
        rng = generator(seed, Axis.INDIVIDUALS, number)
        self.number = number
        size_px = length_px * rng.uniform(1 - _SIZE_SPREAD, 1 + _SIZE_SPREAD)
        build = rodent(rng, species, size_px, spread=_SPREAD)
        self.rodent: Rodent = replace(build, neck_bow=_SPREAD * build.neck_bow)
        self._phase = rng.uniform(0.0, 2 * math.pi, size=6)
        self._warmth = _typical(rng, floor_celsius)
        self._rhythm = rhythm
        self._incidents = tuple(incidents)

    def absent(self, utc_s: float) -> bool:
        """Whether it has been taken out of the box."""
        return effects(self._incidents, utc_s).absent

    def actor(self, doing: Doing, utc_s: float) -> Actor:
        """The animal at a moment."""
        return Actor(
            number=self.number, rodent=self.rodent, pose=self.pose(doing, utc_s), warmth=self.warmth(utc_s)
        )  # fmt: skip

    def warmth(self, utc_s: float) -> Warmth:
        """Its temperatures: all follow the core, and those of tail, feet and ears the blood that comes to them."""
        done, usual = effects(self._incidents, utc_s), self._warmth
        core = self._rhythm.core_celsius(utc_s) + done.core_celsius
        inside = core - _USUAL_CORE_CELSIUS
        open_ = self.dilation(utc_s) - 0.5
        return replace(
            usual,
            core_celsius=core,
            fur_celsius=usual.fur_celsius + _FUR_FOLLOWS * inside,
            eye_celsius=usual.eye_celsius + inside,
            ear_celsius=usual.ear_celsius + inside + _EAR_DILATION_CELSIUS * open_,
            foot_celsius=usual.foot_celsius + _FOOT_DILATION_CELSIUS * open_,
            tail_base_celsius=usual.tail_base_celsius + _TAIL_DILATION_CELSIUS * open_,
            tail_tip_celsius=usual.tail_tip_celsius + 0.6 * _TAIL_DILATION_CELSIUS * open_,
            injury_celsius=done.tail_celsius,
        )

    def dilation(self, utc_s: float) -> float:
        """How open the vessels of the tail are: 0 to 1 in health, wandering within tens of minutes."""
        first, second = self._phase[2:4]
        wander = math.sin(2 * math.pi * utc_s / 1150 + first) + 0.7 * math.sin(2 * math.pi * utc_s / 2690 + second)
        healthy = 0.5 + wander / 3.4
        vessels = effects(self._incidents, utc_s).vessels
        return healthy + abs(vessels) * ((_OPEN if vessels > 0 else _CLOSED) - healthy)

    def pose(self, doing: Doing, utc_s: float) -> Pose:
        """Where and how it lies: on the way it has come, bent by what it does."""
        walking = self._walking(doing, utc_s)
        posture = walking if doing.rest is None else _settled(walking, self._alive(doing.rest, utc_s), doing.settled)
        if doing.trip is None:
            assert doing.place is not None
            return posed(self.rodent, posture, (doing.place.x_px, doing.place.y_px), doing.place.heading_rad)
        length = self.rodent.length_px * posture.stretch
        tail_px, limp_px = self.rodent.length_px * self.rodent.tail, _LIMP * self.rodent.length_px
        spine_angles = doing.trip.way.heading_rad(doing.way_px + length * (0.5 - SPINE_SHARE), limp_px)
        tail_angles = doing.trip.way.heading_rad(doing.way_px - 0.5 * length - tail_px * TAIL_SHARE, limp_px)
        heading = float(spine_angles[len(spine_angles) // 2])
        x, y = doing.trip.way.at(np.array((doing.way_px,)))[0].tolist()
        if doing.place is not None:
            heading += doing.lain * math.remainder(doing.place.heading_rad - heading, 2 * math.pi)
        straighter = min(1.0, _MOST_BENT_RAD / max(float(np.ptp(spine_angles)), 1e-6))
        looser = min(1.0, _TAIL_BENT_RAD / max(float(np.ptp(tail_angles)), 1e-6))
        on_way = 1 - doing.lain
        return posed(
            self.rodent,
            posture,
            (x, y),
            heading,
            spine_turn=on_way * straighter * (spine_angles - spine_angles[len(spine_angles) // 2]),
            tail_turn=on_way * looser * (tail_angles - tail_angles[0]),
        )

    def skin(self, pose: Pose, warmth: Warmth) -> Skin:
        """How warm its surface is, from its build alone: within some tenths of a degree of what its pixels are."""
        half_px = pose.body.half_width_px
        bare_fur, tail = np.split(warmth.along(_PLACES), (len(SPINE_SHARE),))
        fur = bare_fur - _mean_rim(half_px, warmth)
        neck = int(np.searchsorted(SPINE_SHARE, self.rodent.head))  # the first point that is not of the head
        tail_px = pose.tail.half_width_px
        thick = min(max((float(np.median(tail_px)) - 0.9) / 1.2, 0.0), 1.0)
        if warmth.tail_edge and thick:
            tail = tail + warmth.tail_edge * thick * _mean_decay(tail_px, 1.0) * (warmth.air_celsius - tail)
        head_px2 = float(2 * half_px[:neck].sum()) * self.rodent.length_px / len(SPINE_SHARE)
        length, mean_head = self.rodent.length_px, _mean(fur[:neck], half_px[:neck])
        bare = ((self.rodent.ear * length, warmth.ear_celsius), (self.rodent.eye * length, warmth.eye_celsius))
        for radius_px, celsius in bare:
            share = min(_BARE_PIECE * 2 * math.pi * (0.75 * radius_px) ** 2 * 2 / head_px2, 0.5)
            mean_head += share * (celsius - mean_head)
        return Skin(
            hottest_celsius=max(warmth.eye_celsius, warmth.ear_celsius),
            surface_celsius={
                ScenePart.HEAD: mean_head,
                ScenePart.BODY: _mean(fur[neck:], half_px[neck:]),
                ScenePart.TAIL: _mean(tail, tail_px),
            },
        )

    def _walking(self, doing: Doing, utc_s: float) -> Posture:
        first, second = self._phase[:2]
        sway = 0.6 * math.sin(2 * math.pi * 0.31 * utc_s + first) + 0.4 * math.sin(2 * math.pi * 0.137 * utc_s + second)
        way, speed = doing.way_px / self.rodent.length_px, doing.speed_px_s / self.rodent.length_px
        fast = speed / (speed + _WALKING_SPEED)
        return Posture(
            stance=Stance.WALKING,
            stretch=0.9 + 0.2 * fast,
            girth=1.04 - 0.08 * fast,
            head_turn_rad=_HEAD_SWAY_RAD * sway,
            feet=0.3 + 0.5 * fast,
            step=2 * math.pi * way / _STRIDE,
            tail_wave_rad=_TAIL_SWAY_RAD,
            tail_phase_rad=2 * math.pi * way / _TAIL_WAVE + float(self._phase[4]),
        )

    def _alive(self, posture: Posture, utc_s: float) -> Posture:
        """A posture with what moves in it: breath, and the head of an animal that grooms."""
        breath = math.sin(2 * math.pi * _BREATHES_HZ * utc_s + float(self._phase[5]))
        grooms = _GROOMS_RAD * math.sin(2 * math.pi * _GROOMS_HZ * utc_s) if posture.stance is Stance.GROOMING else 0.0
        return replace(
            posture, girth=posture.girth * (1 + _BREATHES * breath), head_turn_rad=posture.head_turn_rad + grooms
        )  # fmt: skip


_PLACES = np.concatenate((SPINE_SHARE, np.maximum(1 + TAIL_SHARE, 1.002))).astype(np.float32)
_BARE_PIECE = 0.8
"""So much of ears and eyes lies on the head's own pixels."""


def _mean(values: NDArray[np.floating], weights: NDArray[np.float64]) -> float:
    return float((values * weights).sum() / weights.sum())


def _mean_decay(half_px: NDArray[np.float64], depth_px: float) -> NDArray[np.float64]:
    """Mean of exp(-(depth - 1) / depth_px) over the width of strips, the first pixel having the depth 1."""
    return np.asarray(depth_px / half_px * (np.exp(0.5 / depth_px) - np.exp((0.5 - half_px) / depth_px)))


def _mean_rim(half_px: NDArray[np.float64], warmth: Warmth) -> NDArray[np.float64]:
    return warmth.rim_drop_celsius * _mean_decay(half_px, warmth.rim_px)


def _settled(walking: Posture, resting: Posture, share: float) -> Posture:
    """A posture between two."""
    mixed = walking.towards(resting, share)
    return replace(mixed, stance=walking.stance) if share < _NAMED_FROM else mixed


def _typical(rng: np.random.Generator, floor: float) -> Warmth:
    """A healthy adult at rest, half-way between its warmest and its coldest hour."""
    fur = floor + 8.0 + rng.uniform(-0.4, 0.4)
    return Warmth(
        core_celsius=_USUAL_CORE_CELSIUS,
        fur_celsius=fur,
        head_rise_celsius=rng.uniform(1.3, 1.8),
        rump_drop_celsius=rng.uniform(0.1, 0.5),
        eye_celsius=rng.uniform(36.3, 36.8),
        ear_celsius=rng.uniform(34.4, 35.2),
        foot_celsius=floor + rng.uniform(5.0, 6.0),
        rim_drop_celsius=rng.uniform(1.7, 2.3),
        rim_px=2.0,
        tail_base_celsius=floor + 6.2,
        tail_tip_celsius=floor + 3.0,
        tail_fall=1.0,
        air_celsius=floor,
        texture_celsius=0.08,
        blotch_celsius=0.15,
        texture_at=(int(rng.integers(256)), int(rng.integers(256))),
        injury_at=rng.uniform(*_INJURY_AT),
    )
