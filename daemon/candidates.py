"""Tracks that may be any of some animals, and how likely each is which."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

CONFIDENT = 0.97
"""From this posterior on a track is said to be an animal."""
UNLIKELY = 0.005
"""Below this posterior an animal is no candidate any more."""
NEVER = -30.0
"""Natural logarithm that stands for impossible."""
MOST_TOGETHER = 6
"""So many animals at most are told apart at once: every way to name them is weighed, 720 for six."""


@cache
def _orders(count: int) -> NDArray[np.intp]:
    """All permutations, one a row."""
    return np.array(list(permutations(range(count))), np.intp)


@dataclass(slots=True, eq=False)
class Candidates:
    """As many animals as its tracks stand for together.

    Notes
    -----
    Each way to give every place in every track one animal has the weight of the sum of what speaks for each pair; the
    posterior of a pair is the share of the ways that hold it. Inside a group the places are alike.
    """

    animals: tuple[int, ...]
    sizes: dict[int, int]
    """Track -> how many animals it stands for."""
    weights: dict[int, dict[int, float]] = field(default_factory=dict)
    """Track -> animal -> natural logarithm of what speaks for it, up to a constant per track."""
    certainty: float = 1.0
    """Of the least sure of those that were taken out: who is left over is known no better."""

    def posterior(self) -> dict[int, dict[int, float]]:
        """Track -> animal -> probability that the track is, or holds, this animal."""
        count = len(self.animals)
        if count > MOST_TOGETHER:
            return {track: dict.fromkeys(self.animals, min(1.0, size / count)) for track, size in self.sizes.items()}
        places = [track for track, size in self.sizes.items() for _ in range(size)]
        speaks = np.array(
            [[self.weights.get(track, {}).get(animal, 0.0) for animal in self.animals] for track in places]
        )
        orders = _orders(count)
        totals = speaks[np.arange(count), orders].sum(axis=1)
        shares = np.exp(totals - totals.max())
        shares /= shares.sum()
        found: dict[int, dict[int, float]] = {track: dict.fromkeys(self.animals, 0.0) for track in self.sizes}
        for place, track in enumerate(places):
            of_animal = np.bincount(orders[:, place], shares, count)
            for animal, share in zip(self.animals, of_animal, strict=True):
                found[track][animal] += float(share)
        return found

    def add(self, track: int, weights: Mapping[int, float]) -> None:
        """More speaks for a track being one animal or another."""
        known = self.weights.setdefault(track, {})
        for animal, weight in weights.items():
            known[animal] = known.get(animal, 0.0) + weight

    def mix(self, one: int, other: int, swapped: float) -> None:
        """Two tracks may have changed places with this probability."""
        first, second = self.row(one), self.row(other)
        stay, swap = math.log(1 - swapped), math.log(swapped)
        for track, own, others in ((one, first, second), (other, second, first)):
            self.weights[track] = {
                animal: float(np.logaddexp(stay + own[animal], swap + others[animal])) for animal in self.animals
            }

    def row(self, track: int) -> dict[int, float]:
        """What speaks for each animal, the best as 0."""
        row = {animal: self.weights.get(track, {}).get(animal, 0.0) for animal in self.animals}
        best = max(row.values())
        return {animal: max(weight - best, NEVER) for animal, weight in row.items()}

    def take_out(self, track: int, animal: int, probability: float) -> None:
        """It is settled which animal this track is."""
        self.certainty = min(self.certainty, probability)
        self.animals = tuple(each for each in self.animals if each != animal)
        del self.sizes[track]
        self.weights.pop(track, None)

    def pooled(self, tracks: Iterable[int]) -> dict[int, float]:
        """What speaks for something that may be any of these tracks."""
        rows = [self.row(track) for track in tracks]
        return {animal: float(np.logaddexp.reduce([row[animal] for row in rows])) for animal in self.animals}


def united(several: Iterable[Candidates]) -> Candidates:
    """All their tracks and animals; what was impossible before still is."""
    parts = list(several)
    animals = tuple(sorted(animal for part in parts for animal in part.animals))
    whole = Candidates(
        animals,
        {track: size for part in parts for track, size in part.sizes.items()},
        certainty=min(part.certainty for part in parts),
    )
    for part in parts:
        for track in part.sizes:
            own = part.weights.get(track, {})
            whole.weights[track] = {
                animal: own.get(animal, 0.0) if animal in part.animals else NEVER for animal in animals
            }
    return whole
