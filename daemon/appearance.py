"""How each animal looks: size and warmth, learnt while it is known which it is, and how far that can be trusted."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from daemon.sighting import Sighting
from daemon.vision.parts import BodyPart

FEATURES = ("size", "body", "head", "tail")
"""Natural logarithm of the trunk's pixels; body above its surroundings, head above body, tail above body, °C."""
_SPREAD = np.array([0.12, 0.2, 0.25, 0.4])
"""How far an animal's look lies from what was learnt of it, before that has been measured."""
_LEAST_SPREAD = np.array([0.06, 0.06, 0.1, 0.15])
"""It is never taken for less."""
_SPREAD_LOOKS = 6.0
"""So many looks the first guess of it is worth."""
_MOST_SPREAD_LOOKS = 300.0
"""So many looks the measured spread remembers."""
_LEARNS_S = np.array([300.0, 300.0, 300.0, 60.0])
"""What was seen so long ago counts for little; the blood in a tail changes within minutes."""
_DRIFT = np.array([0.08, 0.25, 0.25, 1.2])
"""So far an animal comes from what was learnt of it in the long run ..."""
_DRIFT_S = np.array([3600.0, 3600.0, 3600.0, 400.0])
"""... within such a time."""
_AMONG = np.array([0.2, 0.6, 0.6, 1.2])
"""So far an animal of which nothing is known lies from the mean of the others."""
_LEAST_S = 3.0
"""Before an animal has been seen alone for so long nothing is known of it."""
LOOK_S = 10.0
"""Looks nearer in time than this say the same again."""
_POSTURE_S = 20.0
"""An animal that has been seen for less has shown one posture only."""
_MANY_S = 60.0
"""A mean over so many seconds is about as good as it gets: half of the spread stays for minutes."""
_ODD_SHARE = 0.05
"""So often a feature is not at all as it was learnt: an animal is wet, stretched, hidden in part."""
_MOST = 3.5
"""What is farther off, in standard deviations, counts as that far off for the spread."""

_Vector = NDArray[np.float64]


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
    return np.array(
        [
            size,
            body - surroundings_celsius,
            seen.celsius.get(BodyPart.HEAD, math.nan) - body,
            seen.celsius.get(BodyPart.TAIL, math.nan) - body,
        ]
    )


@dataclass(slots=True, eq=False)
class Look:
    """What was seen of one body since it is no longer sure who it is."""

    means: _Vector = field(default_factory=lambda: np.zeros(len(FEATURES)))
    seconds: _Vector = field(default_factory=lambda: np.zeros(len(FEATURES)))

    def add(self, seen: _Vector, elapsed_s: float) -> None:
        """One more sighting, so long after the last; one second stands for a single one."""
        known = np.isfinite(seen)
        self.seconds += np.where(known, min(max(elapsed_s, 1e-3), 1.0), 0.0)
        share = min(max(elapsed_s, 1e-3), 1.0) / np.maximum(self.seconds, 1e-3)
        self.means += np.where(known, share * (np.nan_to_num(seen) - self.means), 0.0)

    def fade(self, kept: float) -> None:
        """With the rest of the probability it was someone else."""
        self.seconds *= kept


class Appearances:
    """Of all animals of a box.

    Parameters
    ----------
    count : int
        How many animals; they run from 0 here.

    Notes
    -----
    Of each animal an exponential mean of each feature is kept. How far looks of an animal that is known lie from that
    mean is measured on the go, over all animals together: so a segmenter that is less sure of the parts makes them
    less telling. A body that is not known is weighed by the mean of all its looks, not look by look: what is wrong with
    the look of an animal for minutes counts once.
    """

    def __init__(self, count: int) -> None:
        self._means = np.full((count, len(FEATURES)), np.nan)
        self._seconds = np.zeros((count, len(FEATURES)))
        self._at_s = np.zeros((count, len(FEATURES)))
        self._variance = _SPREAD**2
        self._looks = np.full(len(FEATURES), _SPREAD_LOOKS)

    def learn(self, animal: int, seen: _Vector, at_s: float, elapsed_s: float) -> None:
        """It is known to look like this now, so long after its last look."""
        step_s = min(max(elapsed_s, 1e-3), 1.0)
        known = np.isfinite(seen)
        first = known & np.isnan(self._means[animal])
        self._means[animal, first] = seen[first]
        later = known & ~first
        off = np.where(later, seen - self._means[animal], 0.0)
        self._spread(np.where(self._seconds[animal] >= 2 * _POSTURE_S, off, np.nan), step_s)
        self._seconds[animal] += np.where(known, step_s, 0.0)
        passed_s = np.minimum(at_s - self._at_s[animal], _LEARNS_S)
        fading = 1 - np.exp(-np.maximum(np.minimum(passed_s, LOOK_S), step_s) / _LEARNS_S)
        weight = np.maximum(fading, step_s / np.maximum(self._seconds[animal], step_s))
        self._means[animal] += np.where(later, weight * off, 0.0)
        self._at_s[animal] = np.where(known, at_s, self._at_s[animal])

    def seen_s(self, animal: int) -> float:
        """For how long it has been learnt from."""
        return float(self._seconds[animal].max())

    def forget(self, animal: int) -> None:
        """Nothing is known of it any more."""
        self._means[animal] = np.nan
        self._seconds[animal] = 0.0

    def compare(self, look: Look, seen: _Vector, elapsed_s: float) -> None:
        """How far one more sighting of a body lies from its others also says how far looks can be trusted."""
        off = np.where(look.seconds >= 2 * _POSTURE_S, seen - look.means, np.nan)
        self._spread(off, min(max(elapsed_s, 1e-3), 1.0))

    def _spread(self, off: _Vector, step_s: float) -> None:
        looks = np.where(np.isfinite(off), step_s / LOOK_S, 0.0)
        self._looks += looks
        squares = np.minimum(np.nan_to_num(off) ** 2, _MOST**2 * self._variance)
        self._variance = self._variance + looks / np.minimum(self._looks, _MOST_SPREAD_LOOKS) * (
            squares - self._variance
        )

    def log_likelihoods(self, look: Look, may_be: NDArray[np.bool_], at_s: float) -> _Vector:
        """Natural logarithm of how well a body fits each animal, up to a constant.

        Parameters
        ----------
        look : Look
            All that was seen of it.
        may_be : (animals,) bool
            Those that it may be; of the others nothing is said.
        at_s : float
            Now, as the animals were learnt.

        Notes
        -----
        Normal densities with the measured spread, and more the longer ago the animal was learnt. Now and then an animal
        looks as any may: about as the mean of all, with the spread among animals; so does always one of which nothing
        is known yet.
        """
        learnt = self._seconds >= _LEAST_S
        told = (look.seconds > 0) & learnt.any(axis=0)
        found = np.zeros(len(may_be))
        if not told.any():
            return found
        spread = np.maximum(self._variance, _LEAST_SPREAD**2)
        own = spread * (0.5 + 0.5 / (1 + look.seconds / _MANY_S))
        drift = _DRIFT**2 * (1 - np.exp(-np.maximum(at_s - self._at_s, 0.0) / _DRIFT_S))
        usual = np.where(learnt, self._means, 0.0).sum(axis=0) / np.maximum(learnt.sum(axis=0), 1)
        means = np.where(learnt, self._means, usual)
        any_of_them = _log_normal(look.means - usual, own + _AMONG**2)
        as_learnt = _log_normal(look.means - means, own + spread / (1 + self._seconds / _POSTURE_S) + drift)
        speaks = np.where(
            learnt, np.logaddexp(math.log(1 - _ODD_SHARE) + as_learnt, math.log(_ODD_SHARE) + any_of_them), any_of_them
        )
        found[may_be] = speaks[may_be][:, told].sum(axis=1)
        found[may_be] -= found[may_be].max()
        return found


def _log_normal(off: _Vector, variance: _Vector) -> _Vector:
    return np.asarray(-(off**2 / variance + np.log(variance)) / 2)
