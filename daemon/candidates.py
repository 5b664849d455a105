"""Which animal each of several bodies is: every way to name them at once, and how likely each way is."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache, lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

CONFIDENT = 0.99
"""From this posterior on a body is said to be an animal."""
UNLIKELY = 0.005
"""Below this posterior an animal is no candidate any more."""
MOST_TOGETHER = 6
"""So many animals at most are told apart: every way to name them is weighed, 720 for six."""

_LEAST = 1e-8
"""No way that was ever weighed is ruled out for good: what speaks against a name later can still be heard."""
_DOUBTED = 10.0
"""Natural logarithm: what speaks more than so much against a way is certain, however long no frame was seen."""
_KEPT = 1024

Way = tuple[int, ...]


@cache
def _orders(count: int) -> NDArray[np.intp]:
    """All ways to name so many bodies, one a row: place of the animal by body."""
    return np.array(list(permutations(range(count))), np.intp)


@cache
def _held(count: int) -> NDArray[np.float64]:
    """1 where a way, the row, holds that a body is an animal; the columns are body times count plus animal."""
    orders = _orders(count)
    held = np.zeros((len(orders), count * count))
    for body in range(count):
        held[np.arange(len(orders)), body * count + orders[:, body]] = 1
    return held


@lru_cache(maxsize=_KEPT)
def _moved(count: int, way: Way) -> NDArray[np.intp]:
    """By row: that of the way in which each body has the name of the one that `way` says."""
    scale = count ** np.arange(count)[::-1]
    orders = _orders(count)
    return np.searchsorted(orders @ scale, orders[:, way] @ scale)


class Candidates:
    """Who may be whom among all animals of a box.

    Parameters
    ----------
    count : int
        How many animals, 1..6; bodies and animals both run from 0 here, and at first each body has its own number.

    Notes
    -----
    A probability is kept for each way to give every body one animal, not for each body alone: so that who one of them
    is says who the others are not, and who is left over.
    """

    def __init__(self, count: int) -> None:
        if not 1 <= count <= MOST_TOGETHER:
            raise ValueError(f"expected 1..{MOST_TOGETHER} animals, got {count}")
        self.count = count
        self.orders = _orders(count)
        """All ways, one a row: the animal by body."""
        self.shares = np.zeros(len(self.orders))
        """How likely each is."""
        self.shares[0] = 1.0

    def move(self, ways: Mapping[Way, float]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Bodies may have changed places.

        Parameters
        ----------
        ways : mapping of tuple of int to float
            For each body, the one that it was before -> how likely this is; of all ways together 1.

        Returns
        -------
        (steps, ways) int, (steps, ways) float64
            To which way each has gone in each of these steps, and with which weight.
        """
        targets = np.stack([_moved(self.count, way) for way in ways])
        weights = np.outer(list(ways.values()), self.shares)
        self.shares = np.zeros_like(self.shares)
        np.add.at(self.shares, targets, weights)
        return targets, weights

    def likelier_than(self, least: float) -> NDArray[np.intp]:
        """The ways that are."""
        return np.flatnonzero(self.shares > least)

    def settle(self, animals: Collection[int]) -> dict[int, float]:
        """Take the likeliest of the ways that differ only in which of these animals is which.

        Returns
        -------
        dict of int to float
            Animal -> how likely it was that it is another of them.
        """
        orders = self.orders
        best, of_them = orders[self.shares.argmax()], np.isin(orders, list(animals))
        bodies = np.isin(best, list(animals))
        rows = np.flatnonzero((of_them == bodies).all(axis=1))
        settled = orders[rows].copy()
        settled[:, bodies] = best[bodies]
        changed = settled != orders[rows]
        doubts = {int(animal): float((self.shares[rows] * (changed & (settled == animal)).any(axis=1)).sum())
                  for animal in best[bodies]}  # fmt: skip
        scale = self.count ** np.arange(self.count)[::-1]
        shares = self.shares.copy()
        shares[rows] = 0
        np.add.at(shares, np.searchsorted(orders @ scale, settled @ scale), self.shares[rows])
        self.shares = shares
        return doubts

    def weigh(self, ways: NDArray[np.intp], speaks: NDArray[np.float64]) -> None:
        """Take in what speaks for each of these ways, a natural logarithm; of the others nothing is said."""
        whole = self.shares[ways].sum()
        shares = self.shares[ways] * np.exp(speaks - speaks.max())
        self.shares[ways] = np.maximum(whole * shares / shares.sum(), _LEAST)
        self.shares /= self.shares.sum()

    def posterior(self) -> NDArray[np.float64]:
        """Probability that a body, the row, is an animal, the column."""
        return (self.shares @ _held(self.count)).reshape(self.count, self.count)


def may_have_moved(
    costs: NDArray[np.float64], *, least: float, surety: float = 1.0, together: Sequence[Collection[int]] = ()
) -> dict[Way, float]:
    """How likely bodies went to which places, from what it costs each to be at each.

    Parameters
    ----------
    costs : (bodies, places) float64
        Square, at most six; negative natural logarithms of what speaks for it, up to constants per row and column.
    least : float
        Ways that are less likely are left out.
    surety : float
        How much of the first `_DOUBTED` that speaks against a way is to be believed, 0..1; the rest always is.
    together : sequence of collections of int
        Places that are one: which of its bodies is at which of them is the same.

    Returns
    -------
    dict of tuple of int to float
        For each place, the body that went there -> probability.
    """
    orders = _orders(len(costs))
    totals = costs[orders, np.arange(len(costs))].sum(axis=1)
    against = totals - totals.min()
    shares = np.exp(-(surety * np.minimum(against, _DOUBTED) + np.maximum(against - _DOUBTED, 0.0)))
    shares /= shares.sum()
    kept = np.flatnonzero(shares >= least)
    whole = shares[kept].sum()
    ways: dict[Way, float] = {}
    for row in kept:
        way = _where_they_were(orders[row].tolist(), together)
        ways[way] = ways.get(way, 0.0) + float(shares[row] / whole)
    return ways


def _where_they_were(way: list[int], together: Sequence[Collection[int]]) -> Way:
    """The same way with each body at its own place, of places that are one."""
    for places in together:
        bodies = [way[place] for place in places]
        others = iter([body for body in bodies if body not in places])
        for place in places:
            way[place] = place if place in bodies else next(others)
    return tuple(way)


def only(count: int, bodies: Sequence[int], ways: Mapping[Way, float]) -> dict[Way, float]:
    """Ways of some bodies as ways of all: the others stay what they were."""
    found = {}
    for way, share in ways.items():
        whole = list(range(count))
        for place, source in enumerate(way):
            whole[bodies[place]] = bodies[source]
        found[tuple(whole)] = share
    return found
