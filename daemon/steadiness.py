"""Who lay still through a doubt: what shows the very same pixels as before is the animal that it was.

How often that is right, `tests/bench/test_bench_steadiness.py` prints.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from daemon.candidates import CONFIDENT, Candidates, Way

_STEADY_S = 0.4
"""What is in sight is cut into animals as it was for so long: where they lie on each other it may be cut otherwise with
each frame."""
_STEADY_OVERLAP = 0.7
"""As it was: mask and mask before have so much in common, as a share of both together."""
_UNMOVED_CELSIUS = 0.4
"""A pixel that is as warm as before, against the surroundings, shows the same: noise is a tenth of this; fur differs
by more."""
_CHANCE = 0.1
"""Share of an animal's pixels that others show by chance when they come to lie there, at once ..."""
_LATE_CHANCE = 0.4
"""... and so much more, ..."""
_COMES_S = 20.0
"""... the longer it took."""
_SPEAKS = 20.0
"""What it speaks against a way if another explains where all pixels of one more animal are, beyond chance; a natural
logarithm."""
_STRAY_SHARE = 0.005
"""How likely it is, whatever the pixels say, that they say nothing: then all ways are as likely as before."""
_REMEMBERS_S = 60.0
"""What was before is not compared after so long."""
_GONE_S = 5.0
"""Nor if for so long nothing is left of those in doubt where they were."""
_RENEWED_S = 5.0
"""What is remembered is not older, as long as nothing is in doubt, also where somebody runs all the time."""
_DOUBT = 0.001
"""Less is no doubt, and ways that are less likely are not in question."""
_SETTLED = 5.0
"""A doubt is settled if so small a part of it is left, one of so many, and no name is in doubt for what is left."""
_LEAST = 1e-7
"""Ways that are less likely are not weighed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """What one instance shows."""

    bodies: Sequence[int]
    """From 0; several are a group."""
    instance: int
    pixels: NDArray[np.intp]
    """Flat indices."""
    steady_s: float
    """For how long it has been cut like this (`as_before`)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Lay:
    pixels: NDArray[np.intp]
    """Flat indices."""
    celsius: NDArray[np.float32]
    """Of each of them, above the surroundings."""
    at_s: float
    sure: float = 1.0
    """How likely it still is that it was the body under whose number it is remembered."""

    def unmoved(self, celsius: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of the pixels are as warm as they were."""
        return np.asarray(np.abs(celsius[self.pixels] - self.celsius) < _UNMOVED_CELSIUS)


def as_before(overlap: float) -> bool:
    """Whether an instance is cut as it was in the last frame, by what both masks have in common as a share of all."""
    return overlap >= _STEADY_OVERLAP


class Steadiness:
    """What was last steady and without doubt, and in which ways bodies may have changed places since.

    Parameters
    ----------
    animals : int
        How many, 1..6; bodies run from 0.

    Notes
    -----
    From frame to frame a doubt is weighed by how the animals are cut out in two frames, and where some lie on each
    other they may be cut wrongly in both. So whose pixels of before are still there, and as warm, is asked over the
    whole time, in those that are cut steadily again: with `P(way)` from the frames, what they speak for it, `L(way)`,
    and the names from before, each way to name all bodies is weighed by the ratio of its probability with and without
    `L`. One that went elsewhere is known by who stayed.
    """

    def __init__(self, animals: int) -> None:
        self._animals = animals
        self.forget()

    def forget(self) -> None:
        """Begin without any memory."""
        self._went = Candidates(self._animals)
        """Of each body, how likely it is which one of those from before it is."""
        self._named = self._went.shares.copy()
        """How likely each way to name the bodies was before."""
        self._lay: dict[int, _Lay] = {}
        self._began_s = -math.inf
        self._left_s = 0.0
        """When something of those in doubt was last seen where they were."""

    def move(self, ways: Mapping[Way, float]) -> None:
        """Bodies may have changed places (see `Candidates.move`)."""
        self._went.move(ways)

    def see(
        self,
        places: Sequence[Place],
        instances: NDArray[np.uint8],
        celsius: NDArray[np.float32],
        names: NDArray[np.float64],
        at_s: float,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Take in a frame.

        Parameters
        ----------
        places : sequence of Place
            All that is seen in it.
        instances, celsius : (pixels,)
            Flat: which instance each pixel shows, and how many °C it is above the surroundings.
        names : (ways,) float64
            How likely each way to name the bodies is (`Candidates.shares`).
        at_s : float
            When, by the monotonic clock.

        Returns
        -------
        pair of (ways,) float64, or None
            How likely each way to name the bodies is, by what was known before the doubt and how they went since, first
            without and then with what is known of those that lay still; `go_on` is to be called then. None where
            nothing new is known.
        """
        if at_s < self._began_s:
            self.forget()
        if sorted(body for place in places for body in place.bodies) != list(range(self._animals)):
            return None
        steady = [place for place in places if place.steady_s >= _STEADY_S]
        doubt = 1 - self._went.shares.max()
        if doubt <= _DOUBT:
            if len(steady) == len(places) or at_s - self._began_s > _RENEWED_S:
                self._begin(steady, celsius, names, at_s, sure=1 - doubt)
            return None
        self._lay = {body: lay for body, lay in self._lay.items() if at_s - lay.at_s <= _REMEMBERS_S}
        unmoved = {body: lay.pixels[lay.unmoved(celsius)] for body, lay in self._lay.items()}
        there = self._still_there(places, instances, unmoved)
        matters = (there > _CHANCE) & self._in_question()[:, np.newaxis]
        if matters.any():
            self._left_s = at_s
        elif at_s - self._left_s > _GONE_S:
            self._lay = {}
            self._begin(steady, celsius, names, at_s)
            return None
        if any(matters[:, place.bodies].any() and place not in steady for place in places):
            return None
        went = self._weighed(there, at_s)
        if 1 - went.max() > min(1 - CONFIDENT, doubt / _SETTLED):
            return None
        named = self._named_by(self._went.shares), self._named_by(went)
        way = self._went.orders[went.argmax()].tolist()
        self._lay = {body: self._lay[was] for body, was in enumerate(way) if was in self._lay}
        self._begin(steady, celsius, names, at_s, sure=float(went.max()))
        return named

    def go_on(self, names: NDArray[np.float64]) -> None:
        """From how likely each way to name the bodies is now; (ways,) float64."""
        self._named = names.copy()

    def _begin(
        self,
        places: Sequence[Place],
        celsius: NDArray[np.float32],
        names: NDArray[np.float64],
        at_s: float,
        *,
        sure: float = 1.0,
    ) -> None:
        """From here on, in the belief that nobody has changed places before: `sure` is how likely that is."""
        kept = {body: replace(lay, sure=lay.sure * sure) for body, lay in self._lay.items()}
        self._lay = {body: lay for body, lay in kept.items() if lay.sure >= CONFIDENT}
        for place in places:
            if len(place.bodies) == 1:
                self._lay[place.bodies[0]] = _Lay(place.pixels, celsius[place.pixels], at_s)
        self._went = Candidates(self._animals)
        self.go_on(names)
        self._began_s = self._left_s = at_s

    def _in_question(self) -> NDArray[np.bool_]:
        """(bodies,) bool: which of those from before may be another now."""
        possible = self._went.orders[self._went.shares > _DOUBT]
        now = (possible != possible[0]).any(axis=0)
        question = np.zeros(self._animals, bool)
        question[possible[:, now]] = True
        return question

    def _weighed(self, there: NDArray[np.float64], at_s: float) -> NDArray[np.float64]:
        """(ways,): how likely each is in which the bodies may have gone, by the frames and by who lay still."""
        ways = np.flatnonzero(self._went.shares > _LEAST)
        explained = there[self._went.orders[ways], np.arange(self._animals)].sum(axis=1)
        since_s = max((at_s - lay.at_s for lay in self._lay.values()), default=0.0)
        chance = _CHANCE + _LATE_CHANCE * (1 - math.exp(-since_s / _COMES_S))
        fits = np.exp(-_SPEAKS * np.maximum(explained.max() - explained - chance, 0.0))
        went = np.zeros_like(self._went.shares)
        went[ways] = self._went.shares[ways] * ((1 - _STRAY_SHARE) * fits / fits.sum() + _STRAY_SHARE / len(ways))
        return np.asarray(went / went.sum())

    def _still_there(
        self, places: Sequence[Place], instances: NDArray[np.uint8], unmoved: Mapping[int, NDArray[np.intp]]
    ) -> NDArray[np.float64]:
        """(before, now): share of a body's pixels from before that show the same and are a body's now."""
        there = np.zeros((self._animals, self._animals))
        for body, pixels in unmoved.items():
            counts = np.bincount(instances[pixels], minlength=256)
            for place in places:
                there[body, place.bodies] = counts[place.instance] / self._lay[body].pixels.size
        return there

    def _named_by(self, went: NDArray[np.float64]) -> NDArray[np.float64]:
        """(ways,): how likely each way to name the bodies is, by how likely each is in which they went."""
        named = Candidates(self._animals)
        named.shares = self._named.copy()
        likely = np.flatnonzero(went > _LEAST)
        ways = [tuple(order) for order in self._went.orders[likely].tolist()]
        named.move(dict(zip(ways, went[likely].tolist(), strict=True)))
        return named.shares
