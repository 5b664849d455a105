"""How each animal looks: size and warmth, by each way to name the bodies, and how far that can be trusted."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.sighting import Sighting
from daemon.vision.parts import BodyPart

FEATURES = ("size", "body", "head", "tail", "head share")
"""Natural logarithm of the trunk's pixels; body above its surroundings, head above body, tail above body, °C; share of
the head in the trunk."""
_SPREAD = np.array([0.12, 0.2, 0.25, 0.4, 0.02])
"""How far an animal's look lies from what was learnt of it, before that has been measured."""
_LEAST_SPREAD = np.array([0.06, 0.06, 0.1, 0.15, 0.003])
"""It is never taken for less."""
_SPREAD_LOOKS = 6.0
"""So many looks the first guess of it is worth."""
_MOST_SPREAD_LOOKS = 300.0
"""So many looks the measured spread remembers."""
_LEARNS_S = np.array([7200.0, 600.0, 2400.0, 60.0, 7200.0])
"""What was seen before so many seconds of seeing counts for little: a build stays, the blood in a tail does not."""
_DRIFT = np.array([0.05, 0.2, 0.2, 1.2, 0.003])
"""So far an animal comes from what was learnt of it in the long run ..."""
_DRIFT_S = np.array([3600.0, 3600.0, 3600.0, 400.0, 3600.0])
"""... within such a time."""
_AMONG = np.array([0.2, 0.6, 0.6, 1.2, 0.03])
"""So far an animal of which nothing is known lies from the mean of the others."""
_LEAST_S = 3.0
"""Before an animal has been seen alone for so many seconds of seeing nothing is known of it."""
_SAME_GOING_S = np.array([3.0, 30.0, 4.0, 100.0, 2.0])
"""For about so long looks of an animal that goes about say the same again: outline and head change with each step, the
warmth of body and tail does not."""
_SAME_RESTING_S = np.array([60.0, 60.0, 60.0, 100.0, 40.0])
"""Of one that has just come to rest. What is odd about a posture lasts: all looks of one rest are worth one."""
_MOST_RESTED = 20.0
"""After so many times that, a look is worth nothing."""
_USUAL_S = 60.0
"""Looks of so many seconds that say the same again count as so many seconds of seeing."""
_LOOK_S = 10.0
"""What passed since the last look counts for no more, and the spread of looks is measured by one in so long."""
_POSTURE_S = 20.0
"""An animal that has been seen for fewer seconds of seeing has shown one posture only."""
_MANY_S = 60.0
"""A mean over three times as many seconds varies half as much as one look does: what is odd about a posture lasts."""
_ODD_SHARE = 0.05
"""So often a feature is not at all as it was learnt: an animal is wet, stretched, hidden in part."""
_MOST = 3.0
"""A look that is farther off, in standard deviations, counts as one that is that far off."""
_MOST_SPREAD = 2.0
"""For the spread itself what is farther off than so much counts as that: odd looks have a share of their own."""
_KEPT_SPREAD = 0.92
"""Of the variance of a normal density that leaves so much."""

_Vector = NDArray[np.float64]
_BODY = FEATURES.index("body")


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """How one animal looks in one frame."""

    features: _Vector
    """In the order of `FEATURES`; NaN for what is not seen."""
    goes: bool = False
    """Whether it goes about, and so changes its posture."""
    rested_s: float = 0.0
    """Else, for how long it has not: the longer, the less is new in a look."""

    @property
    def same_s(self) -> _Vector:
        """By feature: for about so long looks like this say the same again."""
        if self.goes:
            return _SAME_GOING_S
        return np.asarray(_SAME_RESTING_S * np.exp(np.minimum(self.rested_s / _SAME_RESTING_S, _MOST_RESTED)))


def features(seen: Sighting, surroundings_celsius: float) -> _Vector:
    """What tells one animal from another, in the order of `FEATURES`; NaN for what is not seen.

    Parameters
    ----------
    seen : Sighting
        One instance.
    surroundings_celsius : float
        Of what is no animal: what the camera reads too warm or too cold as a whole is left out by it.
    """
    body = seen.celsius.get(BodyPart.BODY, math.nan)
    size = math.log(seen.trunk_px) if seen.trunk_px > 0 and BodyPart.BODY in seen.centres else math.nan
    both = seen.trunk_px > 0 and BodyPart.HEAD in seen.centres and BodyPart.BODY in seen.centres
    return np.array(
        [
            size,
            body - surroundings_celsius,
            seen.celsius.get(BodyPart.HEAD, math.nan) - body,
            seen.celsius.get(BodyPart.TAIL, math.nan) - body,
            seen.head_px / seen.trunk_px if both else math.nan,
        ]
    )


class Appearances:
    """Of all animals of a box, for each way to name the bodies that is thought possible.

    Parameters
    ----------
    ways, count : int
        How many ways to name them, and how many animals; both run from 0 here.

    Notes
    -----
    By each way of each animal an exponential mean of each feature is kept, of the looks of the bodies that it names so.
    How far looks lie from that mean is measured on the go, over all animals together: so a segmenter that is less sure
    of the parts makes them less telling.
    """

    def __init__(self, ways: int, count: int) -> None:
        shape = (ways, count, len(FEATURES))
        self._means = np.zeros(shape)
        self._seconds = np.zeros(shape)
        self._at_s = np.zeros(shape)
        self._variance = _SPREAD**2
        self._looks = np.full(len(FEATURES), _SPREAD_LOOKS)

    def mix(self, targets: NDArray[np.intp], weights: NDArray[np.float64]) -> None:
        """What is known by one way is known by others from now on.

        Parameters
        ----------
        targets, weights : (steps, ways)
            In each step the row goes to this one with this weight; no two to the same.
        """
        shape = (*self._means.shape[:1], 1, 1)
        whole, seconds, at_s = np.zeros(shape), np.zeros_like(self._seconds), np.zeros_like(self._at_s)
        means, known = np.zeros_like(self._means), np.zeros_like(self._means)
        for target, weight in zip(targets, weights, strict=True):
            rows = weight[:, np.newaxis, np.newaxis]
            learnt = rows * (self._seconds > 0)
            whole[target] += rows
            seconds[target] += rows * self._seconds
            known[target] += learnt
            means[target] += learnt * self._means
            at_s[target] += learnt * self._at_s
        there, some = whole > 0, known > 0
        self._seconds = np.where(there, seconds / np.where(there, whole, 1), self._seconds)
        self._means = np.where(some, means / np.where(some, known, 1), self._means)
        self._at_s = np.where(some, at_s / np.where(some, known, 1), self._at_s)

    def seen_s(self, way: int, animal: int) -> float:
        """For how long it has been learnt from, in seconds of seeing."""
        return float(self._seconds[way, animal, _BODY])

    def forget(self, animal: int) -> None:
        """Nothing is known of it any more."""
        self._seconds[:, animal] = 0.0

    def log_likelihoods(
        self, ways: NDArray[np.intp], animals: NDArray[np.intp], look: Look, at_s: float, elapsed_s: float
    ) -> _Vector:
        """Natural logarithm of how well one look fits, by each of these ways, up to a constant.

        Parameters
        ----------
        ways, animals : (ways,) int
            By each way, which animal the body is.
        look : Look
            What is seen of it.
        at_s, elapsed_s : float
            Now, as the animals were learnt, and since the last look, of which it is a part.

        Notes
        -----
        Normal densities with the measured spread, and more the less was learnt and the longer ago. Now and then an
        animal looks as any may: about as the mean of all, with the spread among animals; so does always one of which
        nothing is known yet.
        """
        learnt = self._seconds[ways] >= _LEAST_S
        seen = look.features
        told = np.isfinite(seen) & learnt.any(axis=1).all(axis=0)
        if not told.any():
            return np.zeros(len(ways))
        learnt, rows = learnt[:, :, told], np.arange(len(ways))
        means, at = self._means[ways][:, :, told], self._at_s[ways, animals][:, told]
        known, seconds, seen = learnt[rows, animals], self._seconds[ways, animals][:, told], seen[told]
        usual = np.where(learnt, means, 0.0).sum(axis=1) / np.maximum(learnt.sum(axis=1), 1)
        spread = np.maximum(self._variance, _LEAST_SPREAD**2)[told]
        drift = _DRIFT[told] ** 2 * (1 - np.exp(-np.maximum(at_s - at, 0.0) / _DRIFT_S[told]))
        own = spread * (1 + _left(np.minimum(seconds, 2 * _LEARNS_S[told]))) + drift
        any_of_them = _log_normal(seen - usual, spread + _AMONG[told] ** 2)
        as_learnt = _log_normal(seen - means[rows, animals], own)
        speaks = np.where(
            known, np.logaddexp(math.log(1 - _ODD_SHARE) + as_learnt, math.log(_ODD_SHARE) + any_of_them), any_of_them
        )
        return np.asarray((min(elapsed_s, 1.0) / look.same_s[told] * speaks).sum(axis=1))

    def learn(
        self,
        ways: NDArray[np.intp],
        animals: NDArray[np.intp],
        look: Look,
        at_s: float,
        elapsed_s: float,
        *,
        likeliest: int,
    ) -> None:
        """By each of these ways this animal looks like this now, so long after its last look.

        Parameters
        ----------
        likeliest : int
            Place of the likeliest of these ways: it tells how far looks lie from what was learnt.
        """
        step_s = min(max(elapsed_s, 1e-3), 1.0)
        seeing_s = step_s * _USUAL_S / look.same_s
        seen, known = look.features, np.isfinite(look.features)
        means, seconds = self._means[ways, animals], self._seconds[ways, animals]
        passed_s = np.clip(at_s - self._at_s[ways, animals], step_s, _LOOK_S)
        off = np.where(known & (seconds > 0), seen - means, 0.0)
        self._spread(np.where(known & (seconds[likeliest] >= 2 * _POSTURE_S), off[likeliest], np.nan), step_s)
        most = _MOST * np.sqrt(np.maximum(self._variance, _LEAST_SPREAD**2))
        off = np.where(seconds >= _POSTURE_S, np.clip(off, -most, most), off)
        fading = 1 - np.exp(-passed_s * _USUAL_S / look.same_s / _LEARNS_S)
        weight = np.maximum(fading, seeing_s / (seconds + seeing_s))
        self._means[ways, animals] = np.where(known, np.where(seconds > 0, means + weight * off, seen), means)
        self._seconds[ways, animals] = seconds + np.where(known, seeing_s, 0.0)
        self._at_s[ways, animals] = np.where(known, at_s, self._at_s[ways, animals])

    def _spread(self, off: _Vector, step_s: float) -> None:
        looks = np.where(np.isfinite(off), step_s / _LOOK_S, 0.0)
        self._looks += looks
        trusted = np.maximum(self._variance, _LEAST_SPREAD**2)
        squares = np.minimum(np.nan_to_num(off) ** 2, _MOST_SPREAD**2 * trusted) / _KEPT_SPREAD
        self._variance = self._variance + looks / np.minimum(self._looks, _MOST_SPREAD_LOOKS) * (
            squares - self._variance
        )


def _left(seconds: _Vector) -> _Vector:
    """Of the variance of single looks, so much is left in their mean over so many seconds."""
    return np.asarray(1 / np.sqrt(1 + seconds / _MANY_S))


def _log_normal(off: _Vector, variance: _Vector) -> _Vector:
    return np.asarray(-(off**2 / variance + np.log(variance)) / 2)
