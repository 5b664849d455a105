"""Who lay still through a doubt: what shows the very same pixels as before is the animal that it was."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
"""... the longer it took (how often they are right: `tests/bench/test_bench_steadiness.py`)."""
_SPEAKS = 20.0
"""What it speaks against a way if another explains where all pixels of one more animal are, beyond chance; a natural
logarithm."""
_STRAY_SHARE = 0.005
"""So often it is a way that nothing speaks for."""
_REMEMBERS_S = 60.0
"""What was before is not compared after so long."""
_GONE_S = 5.0
"""Nor if for so long nothing is left of those in doubt where they were."""
_DOUBT = 0.001
"""Less is no doubt, and ways that are less likely are not in question."""
_SETTLED = 5.0
"""A doubt is settled if it is so many times smaller, and what is left is no doubt for a name either."""
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
    celsius: NDArray[np.float32]
    """Above the surroundings."""
    at_s: float

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
        self._since = Candidates(animals)
        """Of each body, which one of those from before it is."""
        self._names = self._since.shares.copy()
        """How likely each way to name the bodies was then."""
        self._lay: dict[int, _Lay] = {}
        self._there_s = 0.0
        """When something of those in doubt was last seen where they were."""

    def move(self, ways: Mapping[Way, float]) -> None:
        """Bodies may have changed places (see `Candidates.move`)."""
        self._since.move(ways)

    def see(
        self,
        places: Sequence[Place],
        instances: NDArray[np.uint8],
        celsius: NDArray[np.float32],
        names: NDArray[np.float64],
        at_s: float,
    ) -> NDArray[np.float64] | None:
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
            When.

        Returns
        -------
        (ways,) float64 or None
            By what to multiply them; None where nothing new is known.
        """
        if sorted(body for place in places for body in place.bodies) != list(range(self._animals)):
            return None
        steady = [place for place in places if place.steady_s >= _STEADY_S]
        if 1 - self._since.shares.max() <= _DOUBT:
            self._remember(steady, celsius, at_s)
            if len(steady) == len(places):
                self._begin(names)
            return None
        self._lay = {body: lay for body, lay in self._lay.items() if at_s - lay.at_s <= _REMEMBERS_S}
        unmoved = {body: lay.pixels[lay.unmoved(celsius)] for body, lay in self._lay.items()}
        there = self._still_there(places, instances, unmoved)
        matters = (there > _CHANCE) & self._in_question()[:, np.newaxis]
        if matters.any():
            self._there_s = at_s
        elif at_s - self._there_s > _GONE_S:
            self._remember(steady, celsius, at_s)
            self._begin(names)
            return None
        if any(matters[:, place.bodies].any() and place not in steady for place in places):
            return None
        went = self._weighed(there, at_s)
        if 1 - went.max() > min(1 - CONFIDENT, (1 - self._since.shares.max()) / _SETTLED):
            return None
        factors = (self._named_by(went) + _LEAST) / (self._named_by(self._since.shares) + _LEAST)
        way = self._since.orders[went.argmax()].tolist()
        self._lay = {body: self._lay[was] for body, was in enumerate(way) if was in self._lay}
        self._remember(steady, celsius, at_s)
        self._begin(names * factors / (names * factors).sum())
        return factors

    def _remember(self, places: Sequence[Place], celsius: NDArray[np.float32], at_s: float) -> None:
        for place in places:
            if len(place.bodies) == 1:
                self._lay[place.bodies[0]] = _Lay(place.pixels, celsius[place.pixels], at_s)
        self._there_s = at_s

    def _begin(self, names: NDArray[np.float64]) -> None:
        """From here on."""
        self._since = Candidates(self._animals)
        self._names = names.copy()

    def _in_question(self) -> NDArray[np.bool_]:
        """Which bodies from before may be another now."""
        possible = self._since.orders[self._since.shares > _DOUBT]
        now = (possible != possible[0]).any(axis=0)
        question = np.zeros(self._animals, bool)
        question[possible[:, now]] = True
        return question

    def _weighed(self, there: NDArray[np.float64], at_s: float) -> NDArray[np.float64]:
        """How likely each way is in which the bodies may have gone, by the frames and by who lay still."""
        ways = np.flatnonzero(self._since.shares > _LEAST)
        explained = there[self._since.orders[ways], np.arange(self._animals)].sum(axis=1)
        since_s = max((at_s - lay.at_s for lay in self._lay.values()), default=0.0)
        chance = _CHANCE + _LATE_CHANCE * (1 - math.exp(-since_s / _COMES_S))
        fits = np.exp(-_SPEAKS * np.maximum(explained.max() - explained - chance, 0.0))
        went = np.zeros_like(self._since.shares)
        went[ways] = self._since.shares[ways] * ((1 - _STRAY_SHARE) * fits / fits.sum() + _STRAY_SHARE / len(ways))
        return np.asarray(went / went.sum())

    def _still_there(
        self, places: Sequence[Place], instances: NDArray[np.uint8], unmoved: Mapping[int, NDArray[np.intp]]
    ) -> NDArray[np.float64]:
        """Share of each body's pixels from before, the row, that show the same and are now a body's, the column."""
        there = np.zeros((self._animals, self._animals))
        for body, pixels in unmoved.items():
            counts = np.bincount(instances[pixels], minlength=256)
            for place in places:
                there[body, place.bodies] = counts[place.instance] / self._lay[body].pixels.size
        return there

    def _named_by(self, went: NDArray[np.float64]) -> NDArray[np.float64]:
        """How likely each way to name the bodies is, by how likely they went in each of these ways."""
        named = Candidates(self._animals)
        named.shares = self._names.copy()
        likely = np.flatnonzero(went > _LEAST)
        ways = [tuple(order) for order in self._since.orders[likely].tolist()]
        named.move(dict(zip(ways, went[likely].tolist(), strict=True)))
        return named.shares
