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
_DOUBT = 0.001
"""Less is no doubt."""
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
    other they may be cut wrongly in both. So once all are cut steadily again it is asked over the whole time whose
    pixels of before are still there, and as warm: with `P(way)` from the frames, what they speak for it, `L(way)`, and
    the names from before, each way to name all bodies is weighed by the ratio of its probability with and without `L`.
    """

    def __init__(self, animals: int) -> None:
        self._animals = animals
        self._since = Candidates(animals)
        """Of each body, which one of those from before it is."""
        self._names = self._since.shares.copy()
        """How likely each way to name the bodies was then."""
        self._lay: dict[int, _Lay] = {}

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
        if any(place.steady_s < _STEADY_S for place in places):
            return None
        factors = None
        doubted = 1 - self._since.shares.max() > _DOUBT
        if doubted and len(self._lay) == self._animals:
            since_s = at_s - min(lay.at_s for lay in self._lay.values())
            if since_s <= _REMEMBERS_S:
                went = self._weighed(places, instances, celsius, since_s)
                if went.max() < CONFIDENT:
                    return None
                factors = (self._named_by(went) + _LEAST) / (self._named_by(self._since.shares) + _LEAST)
        for place in places:
            if len(place.bodies) == 1:
                self._lay[place.bodies[0]] = _Lay(place.pixels, celsius[place.pixels], at_s)
        self._since = Candidates(self._animals)
        self._names = names.copy() if factors is None else names * factors / (names * factors).sum()
        return factors

    def _weighed(
        self, places: Sequence[Place], instances: NDArray[np.uint8], celsius: NDArray[np.float32], since_s: float
    ) -> NDArray[np.float64]:
        """How likely each way is in which the bodies may have gone, by the frames and by who lay still."""
        ways = np.flatnonzero(self._since.shares > _LEAST)
        there = self._still_there(places, instances, celsius)
        explained = there[self._since.orders[ways], np.arange(self._animals)].sum(axis=1)
        chance = _CHANCE + _LATE_CHANCE * (1 - math.exp(-since_s / _COMES_S))
        fits = np.exp(-_SPEAKS * np.maximum(explained.max() - explained - chance, 0.0))
        went = np.zeros_like(self._since.shares)
        went[ways] = self._since.shares[ways] * ((1 - _STRAY_SHARE) * fits / fits.sum() + _STRAY_SHARE / len(ways))
        return np.asarray(went / went.sum())

    def _still_there(
        self, places: Sequence[Place], instances: NDArray[np.uint8], celsius: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Share of each body's pixels from before, the row, that show the same and are now a body's, the column."""
        there = np.zeros((self._animals, self._animals))
        for body, lay in self._lay.items():
            unmoved = np.abs(celsius[lay.pixels] - lay.celsius) < _UNMOVED_CELSIUS
            counts = np.bincount(instances[lay.pixels[unmoved]], minlength=256)
            for place in places:
                there[body, place.bodies] = counts[place.instance] / lay.pixels.size
        return there

    def _named_by(self, went: NDArray[np.float64]) -> NDArray[np.float64]:
        """How likely each way to name the bodies is, by how likely they went in each of these ways."""
        named = Candidates(self._animals)
        named.shares = self._names.copy()
        likely = np.flatnonzero(went > _LEAST)
        ways = [tuple(order) for order in self._since.orders[likely].tolist()]
        named.move(dict(zip(ways, went[likely].tolist(), strict=True)))
        return named.shares
