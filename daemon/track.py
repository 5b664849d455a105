"""Which animal is which over time: what is followed, what has met, and how sure it is who came out of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from daemon.appearance import Look, features
from daemon.candidates import CONFIDENT, MOST_TOGETHER, UNLIKELY, Way, may_have_moved, only
from daemon.heading import Heading
from daemon.medians import median_of
from daemon.motion import RESTING_SD_PX, Gait, Motion
from daemon.naming import Naming
from daemon.sighting import Sighting, sightings
from daemon.steadiness import Place, Steadiness, as_before
from daemon.vision.parts import BodyPart, Segmentation
from daemon.vision.regions import Regions
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

_NS_PER_S = 1_000_000_000

_GATE = 16.0
"""Squared distance in variances beyond which a sighting is no continuation, unless the masks overlap: it came from
somewhere, and may be any that is not in sight."""
_OVERLAP = 8.0
"""What full overlap of the masks speaks for a pair, as long as no time has passed."""
_OVERLAP_S = 2.5
"""Masks say less about each other after longer."""
_CHANGE = np.array([0.06, 0.12, 0.15, 0.15, 0.02])
"""Spread of each feature's change from frame to frame, of an animal that is seen alone."""
_CLOSE_CHANGE = 2.0
"""So many times more where another lies against it or on it."""
_MOST_CHANGE = 4.0
"""One feature's change never costs more."""
_UNSURE = 0.02
"""If one that comes into sight may be another with more than this probability, this is weighed."""
_SURETY_LOST_S = 0.8
"""What speaks against another way counts half after so long: at one frame a second animals were found to have changed
places more often than the costs say, above all by networks' masks."""
_LEAST_SWAPPED = 1e-6
"""Ways to go on that are less likely are not weighed."""
_CLOSE_PX = 3
"""An animal is seen alone if no other is so near."""
_HARDLY_TOUCHED = 1.0
"""With no more pixels near another, as a multiple of the root of all, an animal looks as it does alone."""
_MERGED_OVERLAP = 0.35
"""Share of an animal's pixels that the instance covers in which it went up."""
_MERGED_SIZE = 0.15
"""That instance must have grown by so much of the animal: else this one lies under the other unseen."""
_GROWN_SIZE = 0.5
"""By so much where the animal came from farther away."""
_REACH_PX = 20.0
_REACH_PX_S = 150.0
"""A running rat comes no farther in a picture of a housing box."""
_REMEMBERS_S = 60.0
"""Where animals went before they met says nothing after so long."""
_STRAY_SHARE = 0.03
_STRAYS_S = 15.0
"""So often animals that met come out elsewhere than their places and masks say, long after they were last seen apart,
and for about so long less often; but within their reach: ..."""
_STRAYS_PX_S = 50.0
"""... in a frame or two at 25 a second nobody takes another's place."""
_STRAIGHT_PLACE = 0.1
"""So much of what the places say of those that come out is to be believed; ..."""
_STRAIGHT_OVERLAP = 9.0
"""... this is what full overlap with the mask from before they met speaks for one, and less, the less the masks overlap
by the likeliest way (how often they tell rightly: `tests/bench/test_bench_parting.py`); ..."""
_STRAIGHT_SIZE = 4.0
"""... and this speaks against it where its mask is e times as large as before, or as small."""
_SIZE_FOLLOWS_S = 10.0
"""The size of an animal that is in sight follows what is seen of it within about so long."""
_ANYWHERE = -5.0
"""Natural logarithm of how often an animal turns up where it could not be expected, ..."""
_FAR_AWAY = -15.0
"""... and of how often it, or what is taken for it, is farther away than a rat runs."""
_RUNS_PX_S = 100.0
"""Hardly ever is the centre of a running rat farther away a second later."""
_NOT_SPLIT_PX = 12.0
"""A group's new instance appears within about so many pixels of it."""
_RESTORED_STEP_S = 0.04
"""The first frame that is known of the last run stands for so long."""
_SPLIT_REACH_PX = 60.0
"""The centre of an animal that was taken for a part of another is about so near to this one's mask, once they part."""
_SURROUNDINGS_STEP = 8
"""Every so many rows and columns of the background tell how warm it is."""

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
    doubts: int
    """How often the track may have changed places with another since it began, each time with a probability of more
    than 1 - `CONFIDENT`, whether or not it was found out later who it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What is known of one frame."""

    segmentation: Segmentation
    """With heads and tails that were the wrong way round put right."""
    regions: Regions | None = None
    """Of the segmentation; None where nothing was followed."""
    instances: dict[int, Followed]
    """By instance; those that are nobody are missing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownThen:
    """One animal in one frame of the last run."""

    animal: int
    """Its number, from 1."""
    at_s: float
    """When, by the monotonic clock of this run; before its start perhaps."""
    sighting: Sighting
    features: NDArray[np.float64]
    """See `daemon.appearance`."""
    apart: bool
    """Whether no other was near."""


@dataclass(slots=True, eq=False)
class _Track:
    number: int
    bodies: list[int]
    """Whose places it is, from 0; more than one is a group."""
    motion: Motion
    pixels: _Pixels
    trunk_px: float
    features: NDArray[np.float64]
    close: bool
    """Whether another lay against it when it was last seen."""
    seen_s: float
    steady_since_s: float
    """From when on it has been cut out as it is."""
    hidden: bool = False
    stays: float = 1.0
    """Probability that it has not changed places with another since the last doubt, or since it began..."""
    doubts: int = 0
    """...and how many doubts there were."""
    gait: Gait = field(default_factory=Gait)
    heading: Heading = field(default_factory=Heading)

    @property
    def size(self) -> int:
        return len(self.bodies)

    def may_have_changed(self, share: float) -> None:
        """Places with another, with this probability."""
        self.stays *= 1.0 - min(share, 1.0)
        if self.stays < CONFIDENT:
            self.stays, self.doubts = 1.0, self.doubts + 1


@dataclass(slots=True)
class _Before:
    """Where a body went before it met others."""

    motion: Motion
    pixels: _Pixels
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """One instance of this frame."""

    sighting: Sighting
    features: NDArray[np.float64]
    touched: float
    """Pixels near another, as a multiple of the square root of all."""

    @property
    def close(self) -> bool:
        """Whether another lies against it."""
        return self.touched > 0

    @property
    def alone(self) -> bool:
        """Whether it looks as it does where no other is near."""
        return self.touched <= _HARDLY_TOUCHED


class Tracker:
    """Follows the animals of one box; belongs to one thread.

    Parameters
    ----------
    animals : int
        How many live in the box, 1..6. Numbers run from 1 to this, in the order in which they are first seen.

    Notes
    -----
    Tracks and instances are assigned by least cost (`scipy.optimize.linear_sum_assignment`), the cost being the
    negative logarithm of what speaks for a pair: expected place, overlap of the masks, size, temperature of the parts.
    All that depends on time is scaled by the time since the last frame. Every other way in which the animals may have
    gone on counts by its probability, as does every body that one which comes into sight may be: so there is, at any
    moment, a probability for each way to name all bodies (`daemon.candidates`). By each of them it is learnt how the
    animals look, and what is seen next speaks for those by which it fits (`daemon.naming`).
    """

    def __init__(self, animals: int) -> None:
        if not 1 <= animals <= MOST_TOGETHER:
            raise ValueError(f"animals must be 1..{MOST_TOGETHER}, got {animals}")
        self._animals = animals
        self._tracks: list[_Track] = []
        self._naming = Naming(animals)
        self._steadiness = Steadiness(animals)
        self._before: dict[int, _Before] = {}
        self._begun = 0
        self._bodies = 0
        """So many have been seen; the others are yet to come."""
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
        self._area_px, self._width_px = float(segmentation.instances.size), segmentation.instances.shape[1]
        regions = Regions.of(segmentation)
        surroundings = _surroundings(segmentation, celsius)
        found = _seen(segmentation, regions, celsius, surroundings)
        pairs = self._continued(found, segmentation, elapsed_s, at_s)
        self._exchange(found, pairs, elapsed_s, at_s)
        for index in sorted(set(range(len(found))) - set(pairs), key=lambda each: -found[each].sighting.trunk_px):
            newcomer = self._newcomer(found[index], pairs, found, at_s)
            if newcomer is not None:
                pairs[index] = newcomer
        swapped = [
            found[index].sighting.instance for index, track in pairs.items() if self._see(track, found[index], at_s)
        ]
        seen = set(map(id, pairs.values()))
        for track in self._tracks:
            track.hidden = id(track) not in seen
        apart = {
            track.bodies[0]: _look(track, found[index]) if found[index].alone else None
            for index, track in pairs.items()
            if track.size == 1
        }
        self._reconsider(found, pairs, segmentation, celsius - surroundings, at_s)
        posterior = self._naming.see(apart, at_s, elapsed_s)
        put_right = _ends_swapped(segmentation, swapped)
        return Following(
            segmentation=put_right,
            regions=regions if put_right is segmentation else Regions.of(put_right),
            instances={
                found[index].sighting.instance: self._told(track, posterior) for index, track in sorted(pairs.items())
            },
        )

    def restore(self, known: Sequence[KnownThen]) -> None:
        """Go on from what was known before a restart, before the first frame: all animals, by time, or nothing."""
        for at_s, together in groupby(known, key=lambda each: each.at_s):
            elapsed_s = _RESTORED_STEP_S if self._at_s is None else max(at_s - self._at_s, 0.0)
            looks = {each.animal - 1: Look(each.features) if each.apart else None for each in together}
            self._at_s = at_s
            self._naming.see(looks, at_s, elapsed_s)
        for each in {each.animal: each for each in known}.values():
            seen = _Seen(sighting=each.sighting, features=each.features, touched=0.0 if each.apart else math.inf)
            track = self._begin(seen, each.at_s, [each.animal - 1])
            track.hidden = True
            track.motion.predict(max((self._at_s or 0.0) - each.at_s, 0.0))
            self._bodies = self._animals
            self._naming.all_have_numbers()

    # From frame to frame

    def _continued(
        self, found: Sequence[_Seen], segmentation: Segmentation, elapsed_s: float, at_s: float
    ) -> dict[int, _Track]:
        """Sightings that go on from tracks that were in sight, some of which have gone up in another."""
        tracks = [track for track in self._tracks if not track.hidden]
        if not tracks or not found:
            return {}
        weight = math.exp(-elapsed_s / _OVERLAP_S)
        overlaps = _overlaps(tracks, found, segmentation)
        costs = _costs(tracks, found, overlaps, weight, self._unexpected(tracks, found, elapsed_s))
        taken = {int(row): int(column) for row, column in zip(*linear_sum_assignment(costs), strict=True)}
        pairs = {
            column: tracks[row]
            for row, column in taken.items()
            if overlaps[row][column] > 0 or _within_reach(tracks[row].motion, found[column].sighting)
        }
        for row, column in taken.items():
            if not as_before(overlaps[row][column]):
                tracks[row].steady_since_s = at_s
        self._merge(found, pairs, segmentation, at_s)
        went = {tracks[row].bodies[0]: column for row, column in taken.items()}
        went |= {body: column for column, track in pairs.items() for body in track.bodies}
        self._other_ways(tracks, costs, went, elapsed_s)
        return pairs

    def _other_ways(
        self, tracks: Sequence[_Track], costs: NDArray[np.float64], went: Mapping[int, int], elapsed_s: float
    ) -> None:
        """Weigh all other ways in which those in sight may have gone on, or out of sight, instead.

        `went` is the column of each body that is seen; several that went up in one instance have the same.
        """
        rows = [row for row, track in enumerate(tracks) if track.size == 1]
        columns = [went.get(tracks[row].bodies[0]) for row in rows]
        seen = {column for column in columns if column is not None}
        if len(rows) < 2 or not seen:
            return
        square = np.zeros((len(rows), len(rows)))
        for place, column in enumerate(columns):
            if column is not None:
                square[:, place] = costs[rows, column]
        together = [[place for place, each in enumerate(columns) if each == column] for column in seen]
        ways = may_have_moved(square, least=_LEAST_SWAPPED, surety=_surety(elapsed_s), together=together)
        if len(ways) > 1:
            self._move(only(self._animals, [tracks[row].bodies[0] for row in rows], ways))

    def _merge(self, found: Sequence[_Seen], pairs: dict[int, _Track], segmentation: Segmentation, at_s: float) -> None:
        """Tracks that went up in the instance of another make a group with it."""
        seen = set(map(id, pairs.values()))
        flat = segmentation.instances.ravel()
        for track in [each for each in self._tracks if not each.hidden and id(each) not in seen]:
            overlaps = np.bincount(flat[track.pixels], minlength=256)
            reach_px = _REACH_PX + _REACH_PX_S * (at_s - track.seen_s)
            best: tuple[float, int] | None = None
            for index, into in pairs.items():
                sighting = found[index].sighting
                covered = overlaps[sighting.instance] / max(track.pixels.size, 1)
                grown = (sighting.trunk_px - into.trunk_px) / max(track.trunk_px, 1)
                away_px = _distance_px(track.motion, sighting.pixels, self._width_px)
                there = covered >= _MERGED_OVERLAP or away_px <= _CLOSE_PX
                if away_px <= reach_px and grown >= (_MERGED_SIZE if there else _GROWN_SIZE):
                    best = max(best or (0.0, index), (covered + grown, index))
            if best is not None:
                index = best[1]
                pairs[index] = self._group(pairs[index], track, found[index], at_s)

    def _exchange(self, found: Sequence[_Seen], pairs: dict[int, _Track], elapsed_s: float, at_s: float) -> None:
        """One of a group may be with another now: that has grown by as much as the group has shrunk."""
        for left, group in list(pairs.items()):
            one_px = group.trunk_px / group.size
            if group.size == 1 or group.trunk_px - found[left].sighting.trunk_px < _GROWN_SIZE * one_px:
                continue
            for index, joined in list(pairs.items()):
                sighting = found[index].sighting
                within = _distance_px(sighting, group.pixels, self._width_px) <= _REACH_PX + _REACH_PX_S * elapsed_s
                if joined is group or not within or sighting.trunk_px - joined.trunk_px < _GROWN_SIZE * one_px:
                    continue
                body = group.bodies[0]
                self._move(self._swaps(body, dict.fromkeys(group.bodies, 1 / group.size)))
                gone = replace(group, bodies=[body])
                group.bodies = group.bodies[1:]
                group.stays, group.doubts = 1.0, 0
                group.trunk_px = float(found[left].sighting.trunk_px)
                group.steady_since_s = at_s
                self._tracks.append(gone)
                pairs[index] = self._group(joined, gone, found[index], at_s)
                del self._before[body]  # place and mask were the group's: they say nothing of who comes out
                break

    def _group(self, one: _Track, other: _Track, seen: _Seen, at_s: float) -> _Track:
        together = one.bodies + other.bodies
        for track in (one, other):
            if track.size == 1:
                self._before[track.bodies[0]] = _Before(replace(track.motion), track.pixels, at_s)
            self._tracks.remove(track)
        return self._begin(seen, at_s, together)

    # Those that come into sight

    def _newcomer(self, seen: _Seen, pairs: dict[int, _Track], found: Sequence[_Seen], at_s: float) -> _Track | None:
        """The track of a sighting that continues none in sight; None where there is nobody it could be."""
        options = self._may_be(seen.sighting, set(map(id, pairs.values())))
        if not options:
            return None
        best = max(weight for weight, _ in options)
        likely = [(weight - best, option) for weight, option in options if weight - best >= math.log(_UNSURE)]
        _, chosen = max(likely, key=lambda each: each[0])
        rest = next((found[index] for index, track in pairs.items() if track is chosen), None)
        shares: dict[int, float] = {}
        for weight, option in likely:
            if option is None:
                shares[self._bodies] = math.exp(weight)
                continue
            for body, share in self._gone_straight(option, seen, rest if option is chosen else None, at_s).items():
                shares[body] = math.exp(weight) * share
        was_group = chosen is not None and chosen.size > 1
        newcomer = self._taken_out(chosen, seen, rest, shares, at_s)
        if len(shares) > 1:
            whole = sum(shares.values())
            ways = self._swaps(newcomer.bodies[0], {other: share / whole for other, share in shares.items()})
            self._move(ways)
        self._doubt_unlikely(options, best, newcomer)
        for track in (newcomer, chosen):
            if track is not None and track.size == 1 and (was_group or chosen is None):
                track.stays, track.doubts = 1.0, 0  # who it is may be open, but it has not changed since it is one
        return newcomer

    def _doubt_unlikely(self, options: Sequence[tuple[float, _Track | None]], best: float, newcomer: _Track) -> None:
        """What is too unlikely to be weighed adds up: one that comes into sight may yet be another each time."""
        whole = sum(math.exp(weight - best) for weight, _ in options)
        for weight, option in options:
            if weight - best < math.log(_UNSURE):
                share = math.exp(weight - best) / whole
                newcomer.may_have_changed(share)
                if option is not None and option.size == 1 and option is not newcomer:
                    option.may_have_changed(share)

    def _move(self, ways: Mapping[Way, float]) -> None:
        """Bodies may have changed places."""
        self._naming.move(ways)
        self._steadiness.move(ways)
        for track in self._tracks:
            if track.size > 1:
                continue
            body = track.bodies[0]
            track.may_have_changed(sum(share for way, share in ways.items() if way[body] != body))

    def _may_be(self, sighting: Sighting, taken: set[int]) -> list[tuple[float, _Track | None]]:
        """Tracks that one that came into sight may be or part from, None for one never seen, and what speaks for it."""
        options: list[tuple[float, _Track | None]] = []
        for track in self._tracks:
            if track.size > 1:
                reach = math.sqrt(sighting.pixels.size / math.pi)
                away = max(0.0, _distance_px(sighting, track.pixels, self._width_px) - reach)
                near = -((away / _NOT_SPLIT_PX) ** 2) / 2 - math.log(2 * math.pi * _NOT_SPLIT_PX**2)
                options.append((float(np.logaddexp(near, self._anywhere)), track))
            elif id(track) not in taken:
                options.append((self._may_be_at(track.motion, sighting), track))
        if self._bodies < self._animals:
            options.append((self._anywhere - _ANYWHERE, None))
        return options

    def _taken_out(
        self, chosen: _Track | None, seen: _Seen, rest: _Seen | None, shares: dict[int, float], at_s: float
    ) -> _Track:
        """The track of one that came into sight: a new one, unless it is one that was out of sight."""
        if chosen is None:
            near = (
                other
                for track in self._tracks
                if _distance_px(seen.sighting, track.pixels, self._width_px) <= _SPLIT_REACH_PX
                for other in track.bodies
            )
            self._naming.forget(near)
            self._bodies += 1
            return self._begin(seen, at_s, [self._bodies - 1])
        chosen.steady_since_s = at_s
        if chosen.size == 1:
            return chosen
        body = max(chosen.bodies, key=lambda each: shares[each])
        chosen.bodies.remove(body)
        if rest is not None:
            chosen.trunk_px = float(rest.sighting.trunk_px)
        return self._begin(seen, at_s, [body])

    def _swaps(self, body: int, shares: dict[int, float]) -> dict[Way, float]:
        """The ways in which one body has changed places with each of these, or with none."""
        ways = {}
        for other, share in shares.items():
            way = list(range(self._animals))
            way[body], way[other] = other, body
            ways[tuple(way)] = share
        return ways

    def _gone_straight(self, track: _Track, seen: _Seen, rest: _Seen | None, at_s: float) -> dict[int, float]:
        """Which of a track's bodies one that parts from it is, by where those that met were and were going."""
        before = [each for body in track.bodies if (each := self._before.get(body)) is not None]
        if track.size == 1 or len(before) < track.size or any(at_s - each.at_s > _REMEMBERS_S for each in before):
            return dict.fromkeys(track.bodies, 1 / track.size)
        ahead = [replace(each.motion) for each in before]
        for motion, each in zip(ahead, before, strict=True):
            motion.predict(at_s - each.at_s)
        came_out = [seen.sighting]
        if track.size == 2 and rest is not None:
            came_out.append(rest.sighting)  # of more than two it is not known which of them are left
        expected, overlaps, strayed = np.zeros((3, track.size))
        for sighting, step in zip(came_out, (1, -1), strict=False):  # what is left is the other one
            for body, (motion, each) in enumerate(zip(ahead[::step], before[::step], strict=True)):
                expected[body] += _STRAIGHT_PLACE * self._may_be_at(motion, sighting)
                expected[body] -= _STRAIGHT_SIZE * abs(math.log(sighting.pixels.size / each.pixels.size))
                overlaps[body] += _overlap(each, sighting)
                strayed[body] += _strayed(motion, sighting)
        expected += _STRAIGHT_OVERLAP * (2 / len(came_out)) * overlaps.max() * overlaps
        stray = _STRAY_SHARE * (1 - math.exp(-max(motion.unseen_s for motion in ahead) / _STRAYS_S))
        shares = (1 - stray) * _softmax(expected) + stray / track.size * np.exp(strayed)
        return dict(zip(track.bodies, (shares / shares.sum()).tolist(), strict=True))

    def _may_be_at(self, motion: Motion, sighting: Sighting) -> float:
        """What speaks for one being there, where it was expected or anywhere else; a natural logarithm."""
        return float(np.logaddexp(motion.log_density(sighting.x_px, sighting.y_px), self._anywhere))

    def _unexpected(self, tracks: Sequence[_Track], found: Sequence[_Seen], elapsed_s: float) -> NDArray[np.float64]:
        """What speaks for each sighting, the column, being each track that was not expected there."""
        were = np.array([(track.motion.seen_x_px, track.motion.seen_y_px) for track in tracks])
        are = np.array([(seen.sighting.x_px, seen.sighting.y_px) for seen in found])
        away_px = np.linalg.norm(are - were[:, np.newaxis], axis=-1)
        far = away_px > _REACH_PX + _RUNS_PX_S * elapsed_s
        return np.where(far, self._anywhere + _FAR_AWAY - _ANYWHERE, self._anywhere)

    @property
    def _anywhere(self) -> float:
        """What speaks for an animal at a place where it could not be expected; a natural logarithm of 1/px²."""
        return _ANYWHERE - math.log(self._area_px)

    def _begin(self, seen: _Seen, at_s: float, bodies: list[int]) -> _Track:
        self._begun += 1
        sighting = seen.sighting
        track = _Track(
            number=self._begun,
            bodies=bodies,
            motion=Motion(sighting.x_px, sighting.y_px),
            pixels=sighting.pixels,
            trunk_px=float(sighting.trunk_px),
            features=seen.features,
            close=seen.close,
            seen_s=at_s,
            steady_since_s=at_s,
        )
        self._tracks.append(track)
        return track

    def _reconsider(
        self,
        found: Sequence[_Seen],
        pairs: Mapping[int, _Track],
        segmentation: Segmentation,
        above: NDArray[np.float32],
        at_s: float,
    ) -> None:
        """Weigh doubts by who has lain still since before them; `above` is °C above the surroundings."""
        places = [
            Place(
                bodies=track.bodies,
                instance=found[index].sighting.instance,
                pixels=track.pixels,
                steady_s=at_s - track.steady_since_s,
            )
            for index, track in pairs.items()
        ]
        instances, names = segmentation.instances.ravel(), self._naming.shares
        settled = self._steadiness.see(places, instances, above.ravel(), names, at_s)
        if settled is not None:
            self._naming.weigh(*settled)
            self._steadiness.go_on(self._naming.shares)

    # What is learnt

    def _see(self, track: _Track, seen: _Seen, at_s: float) -> bool:
        """Take a sighting into its track; whether its head and tail are the wrong way round."""
        elapsed_s = at_s - track.seen_s
        sighting = seen.sighting
        track.motion.update(sighting.x_px, sighting.y_px)
        track.pixels, track.features, track.seen_s = sighting.pixels, seen.features, at_s
        track.close = seen.close
        if track.hidden or track.size > 1:
            track.trunk_px = float(sighting.trunk_px)
        else:
            track.trunk_px += (1 - math.exp(-elapsed_s / _SIZE_FOLLOWS_S)) * (sighting.trunk_px - track.trunk_px)
        if track.size > 1:
            track.gait = Gait()
            return False
        track.gait.see(sighting.x_px, sighting.y_px, at_s)
        velocity = track.motion.x_px_s, track.motion.y_px_s
        return track.heading.look(sighting, velocity, elapsed_s)

    def _told(self, track: _Track, posterior: NDArray[np.float64]) -> Followed:
        shares = posterior[track.bodies].sum(axis=0)
        animal = int(shares.argmax())
        probability = min(float(shares[animal]), 1.0) if track.size == 1 else None
        if probability is not None and probability >= CONFIDENT and animal not in self._naming.doubted:
            return Followed(
                track=track.number,
                animal=animal + 1,
                probability=probability,
                candidates=(),
                size=1,
                doubts=track.doubts,
            )
        may_be = {each for each, share in enumerate(shares.tolist()) if share >= UNLIKELY}
        if may_be & self._naming.doubted:
            probability, may_be = None, may_be | self._naming.doubted
        return Followed(
            track=track.number,
            animal=None,
            probability=probability,
            candidates=tuple(sorted(each + 1 for each in may_be)),
            size=track.size,
            doubts=track.doubts,
        )


def _look(track: _Track, seen: _Seen) -> Look:
    return Look(seen.features, goes=track.gait.goes, rested_s=track.gait.rested_s)


def _surroundings(segmentation: Segmentation, celsius: NDArray[np.float32]) -> float:
    """°C beside the animals."""
    step = _SURROUNDINGS_STEP
    beside = celsius[::step, ::step][segmentation.instances[::step, ::step] == 0]
    return median_of(beside[np.isfinite(beside)])


def _seen(
    segmentation: Segmentation, regions: Regions, celsius: NDArray[np.float32], surroundings: float
) -> list[_Seen]:
    """All instances of a frame, by number."""
    found = sightings(regions, celsius)
    if not found:
        return []
    bordered = np.pad(segmentation.instances, _CLOSE_PX)
    boxes = [_box(regions, sighting.instance) for sighting in found]
    return [
        _Seen(
            sighting=sighting,
            features=features(sighting, surroundings),
            touched=_touched(sighting, bordered, boxes[index])
            if any(_near(boxes[index], other) for place, other in enumerate(boxes) if place != index)
            else 0.0,
        )
        for index, sighting in enumerate(found)
    ]


def _box(regions: Regions, instance: int) -> tuple[int, int, int, int]:
    """First and last row, first and last column."""
    own = regions.whole(instance)
    rows, columns = regions.rows[own], regions.columns[own]
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


def _near(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    top, bottom, left, right = one
    reach = _CLOSE_PX
    return (
        top <= other[1] + reach
        and other[0] <= bottom + reach
        and left <= other[3] + reach
        and other[2] <= right + reach
    )


def _touched(seen: Sighting, instances: NDArray[np.uint8], box: tuple[int, int, int, int]) -> float:
    """Pixels with another instance as near as `_CLOSE_PX`, in a row, a column or cornerwise, by the root of all.

    The picture has a border of so many pixels; the box is without it.
    """
    top, bottom, left, right = box
    reach, rows, columns = _CLOSE_PX, bottom - top + 1, right - left + 1
    around = instances[top : bottom + 1 + 2 * reach, left : right + 1 + 2 * reach]
    others = (around != 0) & (around != seen.instance)
    near = np.zeros((rows, columns), bool)
    for down in (0, reach, 2 * reach):
        for across in (0, reach, 2 * reach):
            near |= others[down : down + rows, across : across + columns]
    own = around[reach:-reach, reach:-reach] == seen.instance
    return float(np.count_nonzero(near & own) / math.sqrt(seen.pixels.size))


def _overlaps(tracks: Sequence[_Track], found: Sequence[_Seen], segmentation: Segmentation) -> list[list[float]]:
    """What the masks of each track and of each sighting have in common, as a share of both together."""
    flat = segmentation.instances.ravel()
    shares = []
    for track in tracks:
        inside = np.bincount(flat.take(track.pixels), minlength=256).tolist()
        both = [inside[seen.sighting.instance] for seen in found]
        shares.append(
            [one / (track.pixels.size + seen.sighting.pixels.size - one) for one, seen in zip(both, found, strict=True)]
        )
    return shares


def _costs(
    tracks: Sequence[_Track],
    found: Sequence[_Seen],
    overlaps: Sequence[Sequence[float]],
    overlap_weight: float,
    unexpected: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Negative logarithm of what speaks for each sighting, the column, being each track."""
    places = [(seen.sighting.x_px, seen.sighting.y_px) for seen in found]
    looks = np.array([seen.features for seen in found]) - np.array([track.features for track in tracks])[:, np.newaxis]
    close = np.logical_or.outer([track.close for track in tracks], [seen.close for seen in found])
    changes = looks / (_CHANGE * np.where(close, _CLOSE_CHANGE, 1.0)[..., np.newaxis])
    odd = np.nansum(np.minimum(changes**2 / 2, _MOST_CHANGE), axis=-1)
    alone = np.array([track.size == 1 for track in tracks])
    expected = np.array([track.motion.log_densities(places) for track in tracks])
    costs: NDArray[np.float64] = (
        np.where(alone[:, np.newaxis], odd, 0.0)
        - np.logaddexp(expected, unexpected)
        - overlap_weight * _OVERLAP * np.array(overlaps)
    )
    return costs


def _within_reach(motion: Motion, sighting: Sighting) -> bool:
    return motion.squared_distance(sighting.x_px, sighting.y_px) <= _GATE


def _overlap(before: _Before, sighting: Sighting) -> float:
    """What the masks have in common, as a share of both together."""
    both = np.intersect1d(before.pixels, sighting.pixels, assume_unique=True).size
    return float(both / (before.pixels.size + sighting.pixels.size - both))


def _softmax(speaks: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.exp(speaks - speaks.max())
    return np.asarray(shares / shares.sum())


def _strayed(motion: Motion, sighting: Sighting) -> float:
    """What speaks for one that comes out here, having been where it was seen last; a natural logarithm."""
    away_px = math.hypot(sighting.x_px - motion.seen_x_px, sighting.y_px - motion.seen_y_px)
    return -((away_px / (RESTING_SD_PX + _STRAYS_PX_S * motion.unseen_s)) ** 2) / 2


def _surety(elapsed_s: float) -> float:
    """How much of what one frame says is to be believed, so long after the last."""
    return 1 / (1 + elapsed_s / _SURETY_LOST_S)


def _distance_px(place: Sighting | Motion, pixels: _Pixels, width_px: int) -> float:
    """From a place to the nearest pixel of a mask."""
    rows, columns = np.divmod(pixels, width_px)
    return float(np.sqrt(((rows - place.y_px) ** 2 + (columns - place.x_px) ** 2).min()))


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
