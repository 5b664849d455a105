"""Which animal is which over time: what is followed, what has met, and how sure it is who came out of it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from daemon.appearance import Appearance, log_likelihoods
from daemon.candidates import CONFIDENT, UNLIKELY, Candidates, united
from daemon.heading import Heading
from daemon.motion import Motion
from daemon.sighting import Sighting, sightings
from daemon.vision.parts import BodyPart, Segmentation
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

_NS_PER_S = 1_000_000_000

_GATE = 16.0
"""Squared distance in variances beyond which a sighting is no continuation, unless the masks overlap."""
_CAP = 30.0
"""What one pair costs at most in one respect."""
_OVERLAP = 8.0
"""What full overlap of the masks speaks for a pair, as long as no time has passed."""
_OVERLAP_S = 0.25
"""Masks say less about each other after longer."""
_SIZE_SD = 0.3
"""Spread of the logarithm of a trunk's pixels from frame to frame."""
_CELSIUS_SD = 0.6
"""Spread of a part's mean temperature from frame to frame."""
_UNSURE = 0.02
"""If two tracks may have changed places with more than this probability, they have become candidates for each other."""
_MERGED_OVERLAP = 0.35
"""Share of an animal's pixels that the instance covers in which it went up."""
_MERGED_SIZE = 0.25
"""That instance must have grown by so much of the animal: else this one lies under the other unseen."""
_GROWN_SIZE = 0.5
"""By so much where the animal came from farther away."""
_REACH_PX = 20.0
_REACH_PX_S = 150.0
"""A running rat comes no farther in a picture of a housing box."""
_REMEMBERS_S = 4.0
"""Where animals went before they met says nothing after so long."""
_STRAIGHT_SHARE = 0.7
"""So often animals that meet go on as they came; else they come out anywhere."""
_LOOK_S = 2.0
"""Looks nearer in time than this say the same about who it is."""
_MOST_LOOKS = 4.0
"""So many looks count at most: how an animal looks differs from day to day more than from look to look."""
_SIZE_FOLLOWS = 0.1
_ANYWHERE = -5.0
"""Natural logarithm of how often an animal turns up where it could not be expected."""
_NOT_SPLIT_PX = 12.0
"""A group's new instance appears within about so many pixels of it."""

_Pixels = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What became of one instance of a frame."""

    track: int
    animal: int | None
    """None while it is not known, and for a group."""
    probability: float | None
    candidates: tuple[int, ...]
    size: int
    """How many animals it is; more than one is a group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What is known of one frame."""

    segmentation: Segmentation
    """With heads and tails that were the wrong way round put right."""
    instances: dict[int, Followed]
    """By instance; those that are nobody are missing."""


@dataclass(slots=True, eq=False)
class _Track:
    number: int
    motion: Motion
    pixels: _Pixels
    trunk_px: float
    celsius: dict[BodyPart, float]
    seen_s: float
    animal: int | None
    probability: float
    size: int = 1
    hidden: bool = False
    looks: float = 0.0
    """How many looks at it were weighed since it is not known who it is."""
    heading: Heading = field(default_factory=Heading)


@dataclass(slots=True)
class _Before:
    """Where an animal went before it met others."""

    motion: Motion
    at_s: float


class Tracker:
    """Follows the animals of one box; belongs to one thread.

    Parameters
    ----------
    animals : int
        How many live in the box. Numbers run from 1 to this, in the order in which they are first seen.

    Notes
    -----
    Tracks and instances are assigned by least cost (`scipy.optimize.linear_sum_assignment`), the cost being the
    negative logarithm of what speaks for a pair: expected place, overlap of the masks, size, temperature of the parts.
    All that depends on time is scaled by the time since the last frame. Where another assignment is nearly as likely,
    where instances merge, or where one of several that were out of sight comes back, the tracks become candidates for
    the same animals (`daemon.candidates`), and stay so until how they look and went says who is who.
    """

    def __init__(self, animals: int) -> None:
        if animals < 1:
            raise ValueError(f"animals must be at least 1, got {animals}")
        self._animals = animals
        self._tracks: list[_Track] = []
        self._pools: list[Candidates] = []
        self._looks = {animal: Appearance() for animal in range(1, animals + 1)}
        self._before: dict[int, _Before] = {}
        self._begun = 0
        self._named = 0
        self._at_s: float | None = None
        self._area_px, self._width_px = float(IMAGE_HEIGHT * IMAGE_WIDTH), IMAGE_WIDTH

    def follow(self, segmentation: Segmentation, celsius: NDArray[np.float32], at_monotonic_ns: int) -> Following:
        """Take in the next frame.

        Parameters
        ----------
        segmentation : Segmentation
            What is where in it.
        celsius : (height, width) float32
            °C, NaN allowed.
        at_monotonic_ns : int
            When it was captured.
        """
        at_s = at_monotonic_ns / _NS_PER_S
        elapsed_s = 0.0 if self._at_s is None else max(at_s - self._at_s, 0.0)
        self._at_s = at_s
        for track in self._tracks:
            track.motion.predict(elapsed_s)
        found = sightings(segmentation, celsius)
        self._area_px, self._width_px = float(segmentation.instances.size), segmentation.instances.shape[1]
        pairs = self._continued(found, segmentation, elapsed_s)
        self._merge(found, pairs, segmentation, at_s)
        for index in sorted(set(range(len(found))) - set(pairs), key=lambda each: -found[each].trunk_px):
            newcomer = self._newcomer(found[index], set(map(id, pairs.values())), at_s)
            if newcomer is not None:
                pairs[index] = newcomer
        swapped = [found[index].instance for index, track in pairs.items() if self._see(track, found[index], at_s)]
        seen = set(map(id, pairs.values()))
        for track in self._tracks:
            track.hidden = id(track) not in seen
        self._settle()
        posterior = {track: shares for pool in self._pools for track, shares in pool.posterior().items()}
        return Following(
            segmentation=_ends_swapped(segmentation, swapped),
            instances={found[index].instance: _told(track, posterior) for index, track in sorted(pairs.items())},
        )

    # From frame to frame

    def _continued(self, found: Sequence[Sighting], segmentation: Segmentation, elapsed_s: float) -> dict[int, _Track]:
        """Sightings that go on from tracks that were in sight."""
        tracks = [track for track in self._tracks if not track.hidden]
        if not tracks or not found:
            return {}
        flat = segmentation.instances.ravel()
        weight = math.exp(-elapsed_s / _OVERLAP_S)
        costs = np.full((len(tracks), len(found)), np.inf)
        for row, track in enumerate(tracks):
            overlaps = np.bincount(flat[track.pixels], minlength=256)
            for column, seen in enumerate(found):
                inside = int(overlaps[seen.instance])
                overlap = inside / (track.pixels.size + seen.pixels.size - inside)
                costs[row, column] = _cost(track, seen, overlap, weight)
        impossible = ~np.isfinite(costs)
        finite = np.where(impossible, 0, costs)
        rows, columns = linear_sum_assignment(np.where(impossible, np.abs(finite).sum() + 1e6, costs))
        taken = [
            (int(row), int(column)) for row, column in zip(rows, columns, strict=True) if not impossible[row, column]
        ]
        for index, (row, column) in enumerate(taken):
            for other_row, other_column in taken[index + 1 :]:
                worse = (
                    costs[row, other_column]
                    + costs[other_row, column]
                    - costs[row, column]
                    - costs[other_row, other_column]
                )
                if math.isfinite(worse):
                    self._confuse(tracks[row], tracks[other_row], 1 / (1 + math.exp(min(max(float(worse), 0.0), 50.0))))
        return {column: tracks[row] for row, column in taken}

    def _confuse(self, one: _Track, other: _Track, swapped: float) -> None:
        if swapped > _UNSURE and one.size == other.size == 1:
            one.looks = other.looks = 0.0
            self._together((one, other)).mix(one.number, other.number, swapped)

    def _merge(
        self, found: Sequence[Sighting], pairs: dict[int, _Track], segmentation: Segmentation, at_s: float
    ) -> None:
        """Tracks that went up in the instance of another make a group with it."""
        seen = set(map(id, pairs.values()))
        flat = segmentation.instances.ravel()
        for track in [each for each in self._tracks if not each.hidden and id(each) not in seen]:
            overlaps = np.bincount(flat[track.pixels], minlength=256)
            reach_px = _REACH_PX + _REACH_PX_S * (at_s - track.seen_s)
            best: tuple[float, int] | None = None
            for index, into in pairs.items():
                covered = overlaps[found[index].instance] / max(track.pixels.size, 1)
                grown = (found[index].trunk_px - into.trunk_px) / max(track.trunk_px, 1)
                within = _distance_px(track.motion, found[index].pixels, self._width_px) <= reach_px
                if within and grown >= (_MERGED_SIZE if covered >= _MERGED_OVERLAP else _GROWN_SIZE):
                    best = max(best or (0.0, index), (covered + grown, index))
            if best is not None:
                index = best[1]
                pairs[index] = self._group(pairs[index], track, found[index], at_s)

    def _group(self, one: _Track, other: _Track, seen: Sighting, at_s: float) -> _Track:
        for track in (one, other):
            if track.animal is not None:
                self._before[track.animal] = _Before(replace(track.motion), at_s)
        pool = self._together((one, other))
        group = self._begin(seen, at_s, animal=None, probability=0.0)
        group.size = one.size + other.size
        pool.weights[group.number] = pool.pooled((one.number, other.number))
        for track in (one, other):
            self._tracks.remove(track)
            del pool.sizes[track.number]
            pool.weights.pop(track.number, None)
        pool.sizes[group.number] = group.size
        return group

    # Those that come into sight

    def _newcomer(self, seen: Sighting, taken: set[int], at_s: float) -> _Track | None:
        """The track of a sighting that continues none in sight; None where there is nobody it could be."""
        uniform = -math.log(self._area_px)
        options: list[tuple[float, _Track | None]] = []
        for track in self._tracks:
            if track.size > 1:
                reach = math.sqrt(seen.pixels.size / math.pi)
                away = max(0.0, _distance_px(seen, track.pixels, self._width_px) - reach)
                near = -((away / _NOT_SPLIT_PX) ** 2) / 2 - math.log(2 * math.pi * _NOT_SPLIT_PX**2)
                options.append((float(np.logaddexp(near, uniform + _ANYWHERE)), track))
            elif id(track) not in taken:
                place = track.motion.log_density(seen.x_px, seen.y_px)
                options.append((float(np.logaddexp(place, uniform + _ANYWHERE)), track))
        if self._named < self._animals:
            options.append((uniform, None))
        if not options:
            return None
        best, chosen = max(options, key=lambda option: option[0])
        if chosen is None and all(track is None or best - weight > -math.log(_UNSURE) for weight, track in options):
            self._named += 1
            return self._begin(seen, at_s, animal=self._named, probability=1.0)
        return self._one_of(seen, [(weight - best, track) for weight, track in options], at_s)

    def _one_of(self, seen: Sighting, options: Sequence[tuple[float, _Track | None]], at_s: float) -> _Track:
        """The track of a sighting that may be any of these."""
        likely = [(weight, track) for weight, track in options if weight >= math.log(_UNSURE)]
        tracks = []
        for weight, track in likely:
            if track is None:
                self._named += 1
                unseen = self._begin(seen, at_s, animal=self._named, probability=1.0)
                unseen.motion.place = self._area_px
                tracks.append((weight, unseen))
            else:
                tracks.append((weight, track))
        _, chosen = max(tracks, key=lambda each: each[0])
        if len(tracks) == 1 and chosen.size == 1:
            return chosen
        pool = self._together([track for _, track in tracks])
        numbers = [track.number for _, track in tracks]
        rows = {number: pool.row(number) for number in numbers}
        weights = {
            animal: float(np.logaddexp.reduce([weight + rows[track.number][animal] for weight, track in tracks]))
            for animal in pool.animals
        }
        if len(tracks) > 1:  # whoever this is, the others are the rest
            either = pool.pooled(numbers)
            pool.weights |= {number: dict(either) for number in numbers}
        if chosen.size > 1:
            chosen.size -= 1
            pool.sizes[chosen.number] -= 1
            chosen = self._begin(seen, at_s, animal=None, probability=0.0)
            pool.sizes[chosen.number] = 1
        pool.weights[chosen.number] = weights
        self._went_straight(pool, chosen.number, seen.x_px, seen.y_px, at_s)
        return chosen

    def _went_straight(self, pool: Candidates, track: int, x_px: float, y_px: float, at_s: float) -> None:
        """Weigh where those that met were going."""
        weights = {}
        for animal in pool.animals:
            before = self._before.get(animal)
            if before is None or at_s - before.at_s > _REMEMBERS_S:
                return
            ahead = replace(before.motion)
            ahead.predict(at_s - before.at_s)
            share = math.log(_STRAIGHT_SHARE) + ahead.log_density(x_px, y_px)
            weights[animal] = float(
                np.logaddexp(share, math.log(1 - _STRAIGHT_SHARE) - math.log(2 * math.pi * ahead.variance) - 1)
            )
        pool.add(track, weights)

    def _begin(self, seen: Sighting, at_s: float, *, animal: int | None, probability: float) -> _Track:
        self._begun += 1
        track = _Track(
            number=self._begun,
            motion=Motion(seen.x_px, seen.y_px),
            pixels=seen.pixels,
            trunk_px=float(seen.trunk_px),
            celsius=dict(seen.celsius),
            seen_s=at_s,
            animal=animal,
            probability=probability,
        )
        self._tracks.append(track)
        return track

    # What is learnt

    def _see(self, track: _Track, seen: Sighting, at_s: float) -> bool:
        """Take a sighting into its track; whether its head and tail are the wrong way round."""
        elapsed_s = at_s - track.seen_s
        track.motion.update(seen.x_px, seen.y_px)
        track.pixels, track.celsius, track.seen_s = seen.pixels, dict(seen.celsius), at_s
        if track.hidden or track.size > 1:
            track.trunk_px = float(seen.trunk_px)
        else:
            track.trunk_px += _SIZE_FOLLOWS * (seen.trunk_px - track.trunk_px)
        if track.size > 1:
            return False
        if track.animal is not None:
            self._looks[track.animal].learn(seen, at_s)
        elif track.looks < _MOST_LOOKS:
            self._weigh_looks(track, seen, at_s, min(max(elapsed_s, 0.0) / _LOOK_S, 1.0))
        velocity = track.motion.x_px_s, track.motion.y_px_s
        return track.heading.look(seen, velocity, elapsed_s)

    def _weigh_looks(self, track: _Track, seen: Sighting, at_s: float, looks: float) -> None:
        pool = self._pool_of(track)
        if pool is None or not looks:
            return
        weights = log_likelihoods({animal: self._looks[animal] for animal in pool.animals}, seen, at_s)
        if weights:
            pool.add(track.number, {animal: looks * weight for animal, weight in weights.items()})
            track.looks += looks

    # Who is who

    def _pool_of(self, track: _Track) -> Candidates | None:
        return next((pool for pool in self._pools if track.number in pool.sizes), None)

    def _together(self, tracks: Iterable[_Track]) -> Candidates:
        """The candidates of all these tracks as one."""
        parts: list[Candidates] = []
        for track in tracks:
            pool = self._pool_of(track)
            if pool is None:
                if track.animal is None:
                    raise ValueError(f"track {track.number} is no animal and has no candidates")
                pool = Candidates((track.animal,), {track.number: 1})
                track.animal, track.looks = None, 0.0
            if pool not in parts:
                parts.append(pool)
        if len(parts) == 1 and parts[0] in self._pools:
            return parts[0]
        whole = united(parts)
        self._pools = [pool for pool in self._pools if pool not in parts]
        self._pools.append(whole)
        return whole

    def _settle(self) -> None:
        """Name the tracks of which it is sure enough who they are."""
        tracks = {track.number: track for track in self._tracks}
        for pool in list(self._pools):
            for number, shares in pool.posterior().items():
                animal, share = max(shares.items(), key=lambda each: each[1])
                track = tracks[number]
                if track.size == 1 and share >= CONFIDENT and animal in pool.animals:
                    track.animal = animal
                    track.probability = min(share, pool.certainty)
                    pool.take_out(number, animal, track.probability)
            if not pool.sizes:
                self._pools.remove(pool)


def _cost(track: _Track, seen: Sighting, overlap: float, overlap_weight: float) -> float:
    """Negative logarithm of what speaks for a sighting being this track, up to a constant; inf where nothing does."""
    if track.motion.squared_distance(seen.x_px, seen.y_px) > _GATE and overlap == 0:
        return math.inf
    cost = min(-track.motion.log_density(seen.x_px, seen.y_px), _CAP) - overlap_weight * _OVERLAP * overlap
    if track.size == 1 and track.trunk_px > 0 and seen.trunk_px > 0:
        cost += min((math.log(seen.trunk_px / track.trunk_px) / _SIZE_SD) ** 2 / 2, 4.0)
        for part, celsius in track.celsius.items():
            if part in seen.celsius:
                cost += min(((seen.celsius[part] - celsius) / _CELSIUS_SD) ** 2 / 2, 2.0)
    return cost


def _distance_px(place: Sighting | Motion, pixels: _Pixels, width_px: int) -> float:
    """From a place to the nearest pixel of a mask."""
    rows, columns = np.divmod(pixels, width_px)
    return float(np.sqrt(((rows - place.y_px) ** 2 + (columns - place.x_px) ** 2).min()))


def _told(track: _Track, posterior: dict[int, dict[int, float]]) -> Followed:
    shares = posterior.get(track.number, {})
    if track.animal is not None:
        return Followed(track=track.number, animal=track.animal, probability=track.probability, candidates=(), size=1)
    return Followed(
        track=track.number,
        animal=None,
        probability=max(shares.values()) if track.size == 1 else None,
        candidates=tuple(sorted(animal for animal, share in shares.items() if share >= UNLIKELY)),
        size=track.size,
    )


def _ends_swapped(segmentation: Segmentation, instances: Sequence[int]) -> Segmentation:
    """With head and tail changed in these instances."""
    if not instances:
        return segmentation
    parts = segmentation.parts.copy()
    for instance in instances:
        own = segmentation.instances == instance
        head, tail = own & (segmentation.parts == BodyPart.HEAD), own & (segmentation.parts == BodyPart.TAIL)
        if head.any() and tail.any():
            parts[head], parts[tail] = BodyPart.TAIL, BodyPart.HEAD
    return replace(segmentation, parts=parts)
