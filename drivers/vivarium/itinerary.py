"""Where each animal of a box is when, and what it does there: a pure function of time.

Time is cut into cycles of ten minutes. Where an animal is at the border of two cycles follows from the seed and the
number of the border alone: in the nest, or somewhere else in the middle of a night out. What it does in between is
planned for a cycle at a time, so any moment of any day can be asked for, and only the latest plans are kept. Sleepers
of one nest lie together; animals that are out go around one another mostly, climb over one another now and then, and
meet nose to nose.
"""

import bisect
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH
from drivers.vivarium.dice import Axis, generator
from drivers.vivarium.housing import WALL_PX
from drivers.vivarium.posture import Posture, Stance, drawn
from drivers.vivarium.rhythm import CYCLE_S, Rhythm
from drivers.vivarium.shapes import Points
from drivers.vivarium.way import Range, Way, legs

SETTLING_S = {Stance.CURLED: 12.0}
SETTLING_OTHERWISE_S = 2.0
"""So long an animal takes to lie down, and to get up."""

_MARGIN, _REST_MARGIN = 0.28, 0.5
"""The middle of an animal keeps so far from the walls while it walks, and while it rests; shares of its length."""
_RADIUS = 0.3
"""Of the bends of a way, as a share of the length, and how much of it is left where there is no room:"""
_SMALLER_RADII = (1.0, 0.6, 0.3)
_CANDIDATES = 16
_SPEED = 0.45
"""Lengths per second, the median of walks: 8 cm/s for a rat. In the middle of a walk it is half as much more."""
_SPEED_SPREAD = 0.45
_SPEED_RANGE = (0.15, 0.9)
_NEST_STAYS_CYCLES = 24
_TURNS_OVER_CYCLES = 3
_ELSEWHERE_SHARE = 0.12
"""So often an animal sleeps apart from the others."""
_NEST_RADIUS = (0.0, 0.16, 0.19, 0.23, 0.27, 0.30)
"""Of the ring on which they sleep, by their number from 1, as a share of their length: they touch and overlap."""
_OUT_SHARE = 0.55
_MEETS_SHARE = 0.8
_MEETING_S = (150.0, 430.0)
_MEETING_LASTS_S = (6.0, 40.0)
_NOSES_APART = 0.46
"""Middle of an animal to the place where two meet."""
_HOME_BEFORE_S = (35.0, 120.0)
_LEAVES_AFTER_S = (15.0, 90.0)
_PAUSES = (Stance.RESTING, Stance.GROOMING, Stance.REARING, Stance.STRETCHED)
_PAUSE_SHARES = (0.36, 0.22, 0.2, 0.22)
_PAUSES_UP_TO = (np.cumsum(_PAUSE_SHARES) / np.cumsum(_PAUSE_SHARES)[-1]).tolist()
"""As `Generator.choice` would draw them, which takes ten times as long."""
_PAUSE_S = {Stance.RESTING: 9.0, Stance.GROOMING: 18.0, Stance.REARING: 2.5, Stance.STRETCHED: 3.0}
"""Mean, above the least."""
_LEAST_PAUSE_S = 1.2
_NO_PAUSE_SHARE = 0.35
_CLOSE = 0.75
"""Middles that are nearer than this share of the length are in one another's way, the more the nearer."""
_SHYNESS = 2.0
"""How much that counts against a way, by the length of the animal that another way is longer, times four."""
_TOO_MUCH, _WAITS_SHARE, _WAITS_S = 0.5, 0.85, (0.8, 3.0)
"""With so much in the way of the best way an animal mostly waits instead, for so long."""
_SHARES = np.linspace(0, 1, 7)[1:]
_PAUSE_SAMPLES = np.array((0.3, 0.65, 1.0))
_KNOWN_SHARES = np.linspace(0, 1, 7)[1:]
_LEAST_WALK_S = 0.5
_CYCLES_KEPT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and how an animal lies when it does not lie on its way."""

    x_px: float
    y_px: float
    heading_rad: float
    posture: Posture


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meeting:
    """Two animals nose to nose."""

    numbers: tuple[int, int]
    at_s: float
    lasts_s: float
    x_px: float
    y_px: float
    angle_rad: float
    """Direction of the first one's nose; the other one's is against it."""

    def place(self, number: int, length_px: float, posture: Posture) -> Place:
        """Where one of them stands."""
        angle, behind_px = self.angle_rad + math.pi * self.numbers.index(number), _NOSES_APART * length_px
        x, y = self.x_px - behind_px * math.cos(angle), self.y_px - behind_px * math.sin(angle)
        return Place(x_px=x, y_px=y, heading_rad=angle, posture=posture)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trip:
    """Walks, each from a time to a time and from a point of the way to another, with pauses between them."""

    way: Way
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    way_px: NDArray[np.float64]
    """At the start of each walk; one more for the end of the last."""
    pauses: tuple[Posture, ...]
    """After each walk but the last."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """One animal's cycle: places, and the trips between them (one fewer)."""

    cycle: int
    places: tuple[Place, ...]
    trips: tuple[Trip, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """A time without walking, in a plan."""

    start_s: float
    end_s: float
    """May be infinite at a border of the cycle: it began before, it goes on after."""
    x_px: float
    y_px: float
    heading_rad: float
    stance: Stance


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Doing:
    """What an animal does at a moment."""

    trip: Trip | None
    """The trip on whose way it lies; none if it sleeps all the cycle."""
    way_px: float
    speed_px_s: float
    rest: Posture | None
    """How it holds itself where it is; none while it walks."""
    settled: float
    """How far it has taken that posture, 0..1."""
    place: Place | None
    """Where it has lain down."""
    lain: float
    """How far it has turned from its way to how it lies in that place, 0..1."""


class Itinerary:
    """Plans of all animals of a box.

    Parameters
    ----------
    seed : int
        Of the scene.
    rhythms : sequence of Rhythm
        Of the animals, by number from 1.
    length_px : float
        Of the animals, about.
    """

    def __init__(self, seed: int, rhythms: Sequence[Rhythm], *, length_px: float) -> None:
        self._seed, self._rhythms, self._length_px = seed, tuple(rhythms), length_px
        self._roamed, self._rested = _inside(_MARGIN * length_px), _inside(_REST_MARGIN * length_px)
        box = generator(seed, Axis.WAY)
        far = _inside(0.62 * length_px)
        first = far.draw(box, 1)[0]
        others = far.draw(box, 16)
        second = others[int(np.argmax(np.hypot(*(others - first).T)))]
        self.nests: Points = np.stack((first, second))
        """Where they sleep: the middles of two places, shape (2, 2)."""
        self._plans = lru_cache(maxsize=_CYCLES_KEPT)(self._planned)

    def _home(self, number: int, border: int) -> Place:
        """Where an animal sleeps at a border of two cycles."""
        border = self._rhythms[number - 1].held(border)
        night, turned = border // _NEST_STAYS_CYCLES, border // _TURNS_OVER_CYCLES
        common = generator(self._seed, Axis.ARRANGEMENT, 0, night)
        nest, first = int(common.integers(2)), common.uniform(0, 2 * math.pi)
        apart = common.random(len(self._rhythms)) < _ELSEWHERE_SHARE
        order = common.permutation(len(self._rhythms))
        mine = apart == apart[number - 1]
        mates = [int(other) for other in order if mine[other]]
        radius = _NEST_RADIUS[len(mates) - 1] * self._length_px
        angle = first + 2 * math.pi * mates.index(number - 1) / len(mates)
        x, y = self.nests[(nest + int(apart[number - 1])) % 2] + radius * np.array((math.cos(angle), math.sin(angle)))
        own = generator(self._seed, Axis.ARRANGEMENT, number, turned)
        heading = angle + (math.pi / 2 if own.random() < 0.5 else -math.pi / 2) + own.uniform(-0.7, 0.7)
        return Place(x_px=float(x), y_px=float(y), heading_rad=heading, posture=_drawn(own, Stance.CURLED))

    def _place(self, number: int, border: int) -> Place:
        """Where an animal is at a border: at home, or anywhere during a night out."""
        rhythm = self._rhythms[number - 1]
        still = any(rhythm.still_from(cycle) is not None for cycle in (border - 1, border))
        if still or not (rhythm.level(border - 1) and rhythm.level(border)):
            return self._home(number, border)
        own = generator(self._seed, Axis.ARRANGEMENT, number, border, 1)
        if own.random() > _OUT_SHARE:
            return self._home(number, border)
        homes = [self._home(other + 1, border) for other in range(len(self._rhythms))]
        taken = np.array([(home.x_px, home.y_px) for home in homes])
        points = self._rested.draw(own, 8)
        free = np.linalg.norm(points[:, None] - taken[None], axis=2).min(axis=1)
        x, y = points[int(np.argmax(free))].tolist()
        stance = Stance.RESTING if own.random() < 0.6 else Stance.GROOMING
        return Place(x_px=x, y_px=y, heading_rad=own.uniform(0, 2 * math.pi), posture=_drawn(own, stance))

    def _meeting(self, cycle: int) -> _Meeting | None:
        """Who meets in a cycle, if any."""
        rng = generator(self._seed, Axis.ARRANGEMENT, 0, cycle, 2)
        out = [
            number for number, rhythm in enumerate(self._rhythms, start=1)
            if rhythm.level(cycle) and rhythm.still_from(cycle) is None
        ]  # fmt: skip
        if len(out) < 2 or rng.random() > _MEETS_SHARE:
            return None
        one, other = rng.choice(out, 2, replace=False).tolist()
        where, angles = self._rested.draw(rng, _CANDIDATES), rng.uniform(0, 2 * math.pi, _CANDIDATES)
        aside = _NOSES_APART * self._length_px * np.stack((np.cos(angles), np.sin(angles)), axis=1)
        fits = self._rested.holds(where + aside) & self._rested.holds(where - aside)
        chosen = int(np.argmax(fits))
        if not fits[chosen]:
            return None
        return _Meeting(
            numbers=(one, other), at_s=cycle * CYCLE_S + rng.uniform(*_MEETING_S),
            lasts_s=rng.uniform(*_MEETING_LASTS_S), x_px=float(where[chosen, 0]), y_px=float(where[chosen, 1]),
            angle_rad=float(angles[chosen]),
        )  # fmt: skip

    def plan(self, number: int, cycle: int) -> Plan:
        """What an animal does in a cycle."""
        return self._plans(cycle)[number - 1]

    def _planned(self, cycle: int) -> tuple[Plan, ...]:
        """All plans of a cycle: leg by leg, whoever is first to go on, each knowing where the others will be."""
        travellers = [self._traveller(number, cycle) for number in range(1, len(self._rhythms) + 1)]
        while (first := min(travellers, key=lambda one: one.now_s, default=None)) and math.isfinite(first.now_s):
            first.go_on([other for other in travellers if other is not first])
        return tuple(traveller.plan(cycle) for traveller in travellers)

    def _traveller(self, number: int, cycle: int) -> "_Traveller":
        rng = generator(self._seed, Axis.WAY, number, cycle, 1)
        start_s, end_s = cycle * CYCLE_S, (cycle + 1) * CYCLE_S
        rhythm = self._rhythms[number - 1]
        first, last = self._place(number, cycle), self._place(number, cycle + 1)
        level, still_s = rhythm.level(cycle), rhythm.still_from(cycle)
        moves = level or math.hypot(first.x_px - last.x_px, first.y_px - last.y_px) > 1.0
        leaves_s = start_s + rng.uniform(*_LEAVES_AFTER_S)
        back_s = end_s - rng.uniform(*_HOME_BEFORE_S)
        if still_s is not None:
            back_s = max(leaves_s + 1.0, still_s - 20.0)
        elif not level:
            leaves_s = start_s + rng.uniform(100, 400)
            back_s = leaves_s + 1.0  # straight to the other nest
        stops, meeting = [_Stop(place=last, arrive_s=back_s)], self._meeting(cycle)
        if meeting is not None and number in meeting.numbers:
            there = meeting.place(number, self._length_px, _drawn(rng, Stance.STRETCHED))
            stops.insert(0, _Stop(place=there, arrive_s=meeting.at_s, lasts_s=meeting.lasts_s))
        return _Traveller(
            rng, first, stops if moves else stops[-1:], leaves_s=leaves_s if moves else math.inf,
            roamed=self._roamed, length_px=self._length_px, level=level or 0.5,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    """Where an animal has to be, and about when."""

    place: Place
    arrive_s: float
    lasts_s: float = math.inf
    """How long it stays after that."""


class _Traveller:
    """Makes the plan of one animal for one cycle, a leg at a time."""

    def __init__(
        self, rng: np.random.Generator, start: Place, stops: Sequence[_Stop], *, leaves_s: float, roamed: Range,
        length_px: float, level: float,
    ) -> None:  # fmt: skip
        self._rng, self._stops, self._roamed = rng, deque(stops), roamed
        self._length_px, self._level = length_px, level
        self._last = stops[-1].place
        self._places, self._trips = [start], list[Trip]()
        self.now_s = leaves_s
        """When it next decides where to go; infinite when it has come where it stays."""
        self._known: list[tuple[float, float, float]] = [(leaves_s, start.x_px, start.y_px)]
        self._known_array = np.empty((0, 3))
        self._set_out()

    def _set_out(self) -> None:
        place = self._places[-1]
        self._line: list[Points] = [np.array(((place.x_px, place.y_px),))]
        self._heading = place.heading_rad
        self._starts, self._ends, self._way = list[float](), list[float](), [0.0]
        self._pauses: list[Posture] = []

    def plan(self, cycle: int) -> Plan:
        """The whole plan, when it has come where it stays."""
        places = self._places if self._trips else [*self._places, self._last]
        return Plan(cycle=cycle, places=tuple(places), trips=tuple(self._trips))

    def middles(self, utc_s: NDArray[np.float64]) -> Points:
        """Where its middle will be at times, as far as it has decided."""
        if len(self._known) > len(self._known_array):
            self._known_array = np.array(self._known)
        times, x, y = self._known_array.T
        points = np.empty((*utc_s.shape, 2))
        points[..., 0], points[..., 1] = np.interp(utc_s, times, x), np.interp(utc_s, times, y)
        return points

    def go_on(self, others: Sequence["_Traveller"]) -> None:
        """Decide on the next leg: to anywhere while there is time, or to the next stop."""
        stop, here = self._stops[0], self._line[-1][-1]
        target = np.array((stop.place.x_px, stop.place.y_px))
        speed = self._speed()
        pause_s, pause = self._pause()
        leg = self._wander(here, others, speed, pause_s)
        if leg is not None:
            points, arrives_rad, in_the_way = leg
            home_s = (float(np.linalg.norm(points[-1] - target)) / self._length_px + 2.5) / _SPEED
            if self.now_s + len(points) / speed + pause_s + home_s < stop.arrive_s:
                if in_the_way > _TOO_MUCH and self._rng.random() < _WAITS_SHARE:
                    self.now_s += self._rng.uniform(*_WAITS_S)
                    return
                self._walk(points, arrives_rad, speed)
                self._pauses.append(pause)
                self.now_s += pause_s
                return
        points, arrives_rad = self._towards(here, target)
        self._walk(points, arrives_rad, max(speed, _SPEED * self._length_px))
        self._arrive()

    def _walk(self, points: Points, arrives_rad: float, speed: float) -> None:
        here = self._line[-1][-1]
        steps = points.copy()
        steps[0] -= here
        steps[1:] -= points[:-1]
        length = float(np.hypot(steps[:, 0], steps[:, 1]).sum())
        end_s = self.now_s + max(length / speed, _LEAST_WALK_S)
        self._known.append((self.now_s, float(here[0]), float(here[1])))
        at = np.minimum(_KNOWN_SHARES * len(points), len(points) - 1).astype(np.intp)
        for share, (x, y) in zip(_KNOWN_SHARES.tolist(), points[at].tolist(), strict=True):
            self._known.append((self.now_s + share * (end_s - self.now_s), x, y))
        self._starts.append(self.now_s)
        self._ends.append(end_s)
        self._way.append(self._way[-1] + length)
        self._line.append(points)
        self._heading, self.now_s = arrives_rad, end_s

    def _arrive(self) -> None:
        stop = self._stops.popleft()
        self._trips.append(
            Trip(
                way=Way(np.concatenate(self._line), self._places[-1].heading_rad, self._heading),
                start_s=np.array(self._starts), end_s=np.array(self._ends), way_px=np.array(self._way),
                pauses=tuple(self._pauses),
            )
        )  # fmt: skip
        self._places.append(stop.place)
        self.now_s = max(stop.arrive_s, self.now_s + 2 * SETTLING_OTHERWISE_S) + stop.lasts_s
        self._set_out()

    def _speed(self) -> float:
        lengths_s = _SPEED * math.exp(self._rng.normal(0, _SPEED_SPREAD))
        slowest, fastest = _SPEED_RANGE
        return self._length_px * min(max(lengths_s, slowest), fastest)

    def _pause(self) -> tuple[float, Posture]:
        stance = _PAUSES[bisect.bisect_right(_PAUSES_UP_TO, self._rng.random())]
        posture = _drawn(self._rng, stance)
        if self._rng.random() < _NO_PAUSE_SHARE * self._level:
            return 0.0, posture
        return _LEAST_PAUSE_S + self._rng.exponential(_PAUSE_S[stance]) / self._level, posture

    def _wander(
        self, here: NDArray[np.float64], others: Sequence["_Traveller"], speed: float, pause_s: float
    ) -> tuple[Points, float, float] | None:
        """A way to somewhere, the direction on arrival, and how much others are in the way: as little as can be."""
        for smaller in _SMALLER_RADII:
            targets = self._roamed.draw(self._rng, _CANDIDATES)
            possible = legs(here, self._heading, targets, smaller * _RADIUS * self._length_px)
            along = possible.along(_SHARES)
            fits = np.isfinite(possible.length_px) & self._roamed.holds(along).all(axis=1)
            if fits.any():
                length = np.where(fits, possible.length_px, 0.0)
                times = self.now_s + np.concatenate(
                    (length[:, None] / speed * _SHARES, length[:, None] / speed + pause_s * _PAUSE_SAMPLES), axis=1
                )
                points = np.concatenate((along, np.repeat(along[:, -1:], len(_PAUSE_SAMPLES), axis=1)), axis=1)
                cost = np.zeros(_CANDIDATES)
                for other in others:
                    gap = _lengths(points - other.middles(times)) / self._length_px
                    cost += np.maximum((_CLOSE - gap) / _CLOSE, 0).sum(axis=1)
                liked = _SHYNESS * cost + self._rng.exponential(0.5, _CANDIDATES) + length / (4 * self._length_px)
                index = int(np.argmin(np.where(fits, liked, np.inf)))
                return possible.points(index), possible.end_heading_rad(index), float(cost[index])
        return None

    def _towards(self, here: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[Points, float]:
        """The way to a place, with a detour if it cannot turn there at once."""
        for smaller in _SMALLER_RADII[:-1]:
            radius = smaller * _RADIUS * self._length_px
            direct = legs(here, self._heading, target[None], radius)
            if np.isfinite(direct.length_px[0]) and self._roamed.holds(direct.along(_SHARES)).all():
                return direct.points(0), direct.end_heading_rad(0)
            first = legs(here, self._heading, self._roamed.draw(self._rng, _CANDIDATES), radius)
            fits = np.isfinite(first.length_px) & self._roamed.holds(first.along(_SHARES)).all(axis=1)
            for index in np.flatnonzero(fits).tolist():
                points, heading = first.points(index), first.end_heading_rad(index)
                second = legs(points[-1], heading, target[None], radius)
                if np.isfinite(second.length_px[0]) and self._roamed.holds(second.along(_SHARES)).all():
                    return np.concatenate((points, second.points(0))), second.end_heading_rad(0)
        tight = legs(here, self._heading, target[None], _SMALLER_RADII[-1] * _RADIUS * self._length_px)
        if np.isfinite(tight.length_px[0]):
            return tight.points(0), tight.end_heading_rad(0)
        steps = np.linspace(0, 1, max(round(float(np.linalg.norm(target - here))), 1) + 1)[1:, None]
        return here + steps * (target - here), math.atan2(target[1] - here[1], target[0] - here[0])


def rests(plan: Plan) -> list[Rest]:
    """The times without walking of a plan, in their order."""
    found = []
    for index, place in enumerate(plan.places if plan.trips else plan.places[:1]):
        start = float(plan.trips[index - 1].end_s[-1]) if index else -math.inf
        end = float(plan.trips[index].start_s[0]) if index < len(plan.trips) else math.inf
        found.append(
            Rest(
                start_s=start, end_s=end, x_px=place.x_px, y_px=place.y_px, heading_rad=place.heading_rad,
                stance=place.posture.stance,
            )
        )  # fmt: skip
        if index < len(plan.trips):
            trip = plan.trips[index]
            for number, posture in enumerate(trip.pauses):
                (x, y), (ahead_x, ahead_y) = trip.way.at(trip.way_px[number + 1] + np.array((0.0, 4.0)))
                found.append(
                    Rest(
                        start_s=float(trip.end_s[number]), end_s=float(trip.start_s[number + 1]), x_px=float(x),
                        y_px=float(y), heading_rad=math.atan2(ahead_y - y, ahead_x - x), stance=posture.stance,
                    )
                )  # fmt: skip
    return found


def doing(plan: Plan, utc_s: float) -> Doing:
    """What an animal does at a moment of a plan's cycle."""
    before: Trip | None = None
    for index, trip in enumerate(plan.trips):
        if utc_s < trip.start_s[0]:
            return _lying(plan.places[index], before, trip, utc_s)
        if utc_s < trip.end_s[-1]:
            return _on_trip(trip, utc_s)
        before = trip
    if before is not None:
        return _lying(plan.places[-1], before, None, utc_s)
    return _turning_over(plan, utc_s)


def _lying(place: Place, came: Trip | None, leaves: Trip | None, utc_s: float) -> Doing:
    settling_s = SETTLING_S.get(place.posture.stance, SETTLING_OTHERWISE_S)
    lies = 1.0 if came is None else (utc_s - float(came.end_s[-1])) / settling_s
    stays = 1.0 if leaves is None else (float(leaves.start_s[0]) - utc_s) / settling_s
    share = _smooth(min(lies, stays))
    on_arrival = leaves is None or (came is not None and lies <= stays)
    trip = came if on_arrival else leaves
    assert trip is not None
    return Doing(
        trip=trip, way_px=float(trip.way.length_px) if on_arrival else 0.0, speed_px_s=0.0, rest=place.posture,
        settled=share, place=place, lain=share,
    )  # fmt: skip


def _on_trip(trip: Trip, utc_s: float) -> Doing:
    index = int(np.searchsorted(trip.start_s, utc_s, side="right")) - 1
    start, end = float(trip.way_px[index]), float(trip.way_px[index + 1])
    began, ended = float(trip.start_s[index]), float(trip.end_s[index])
    if utc_s < ended:
        progress = (utc_s - began) / (ended - began)
        return Doing(
            trip=trip, way_px=start + (end - start) * _smooth(progress),
            speed_px_s=6 * (end - start) * progress * (1 - progress) / (ended - began), rest=None, settled=0.0,
            place=None, lain=0.0,
        )  # fmt: skip
    least_s = min(utc_s - ended, float(trip.start_s[index + 1]) - utc_s)
    return Doing(
        trip=trip, way_px=end, speed_px_s=0.0, rest=trip.pauses[index],
        settled=_smooth(least_s / SETTLING_OTHERWISE_S), place=None, lain=0.0,
    )  # fmt: skip


def _turning_over(plan: Plan, utc_s: float) -> Doing:
    """An animal that sleeps all the cycle, from one posture to the next."""
    first, last = plan.places
    middle = (plan.cycle + 0.5) * CYCLE_S
    share = _smooth(0.5 + (utc_s - middle) / (2 * SETTLING_S[Stance.CURLED]))
    turn = math.remainder(last.heading_rad - first.heading_rad, 2 * math.pi)
    place = replace(
        first, heading_rad=first.heading_rad + share * turn, posture=first.posture.towards(last.posture, share)
    )  # fmt: skip
    return Doing(
        trip=None, way_px=0.0, speed_px_s=0.0, rest=place.posture, settled=1.0, place=place, lain=1.0
    )  # fmt: skip


def _drawn(rng: np.random.Generator, stance: Stance) -> Posture:
    # A tail that changes between under and over the body would jump.
    return replace(drawn(rng, stance), tail_on_top=False)


def _inside(margin_px: float) -> Range:
    edge = WALL_PX + margin_px
    middle_x, middle_y = IMAGE_WIDTH / 2, IMAGE_HEIGHT / 2
    return Range(
        left_px=min(edge, middle_x - 1), top_px=min(edge, middle_y - 1), right_px=max(IMAGE_WIDTH - edge, middle_x + 1),
        bottom_px=max(IMAGE_HEIGHT - edge, middle_y + 1),
    )  # fmt: skip


def _lengths(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(vectors[..., 0] ** 2 + vectors[..., 1] ** 2))


def _smooth(share: float) -> float:
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)
