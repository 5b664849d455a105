"""Who each followed body is: every way to name them, and what is learnt of how animals look by each of these ways."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from daemon.appearance import Appearances, Look
from daemon.candidates import CONFIDENT, Candidates, Way

_VOID = 0.05
"""What was learnt of animals without a number is void after such a doubt."""
_POSSIBLE = 1e-9
"""Ways that have never been likelier are not weighed, and by them nothing is learnt."""
_FIRST_S = 30.0
"""An animal has its number for good once it has been seen alone for so many seconds of seeing (`Appearances`)."""
_MAYBE = 0.1
"""What was learnt of an animal that is as likely may be wrong."""

_Matrix = NDArray[np.float64]


class Naming:
    """Names of the bodies of one box.

    Parameters
    ----------
    animals : int
        How many; bodies and animals both run from 0 here, and at first each body has its own number.

    Notes
    -----
    A filter over all ways to name the bodies, each with what the animals look like by it (as in interacting multiple
    models, Blom and Bar-Shalom, IEEE Trans. Automatic Control 33 (1988) 780): where bodies may have changed places what
    is known goes on by the ways before and after, mixed by their probability; what is seen speaks for the ways by
    which it fits, and teaches by each of them. As looks are alike for seconds, or for as long as an animal rests, each
    counts for a part of one.

    An animal has its number for good once it has been seen alone for long enough: what was learnt before is too
    little to know it again. Where others may have changed places the likeliest way is taken, nobody is called by their
    numbers from then on until they have been seen for so long, and what was learnt in great doubt is forgotten.
    """

    def __init__(self, animals: int) -> None:
        self._animals = animals
        self._who = Candidates(animals)
        self._looks = Appearances(len(self._who.orders), animals)
        self._numbered = {0} if animals == 1 else set()
        self._doubted: set[int] = set()

    def move(self, ways: Mapping[Way, float]) -> None:
        """Bodies may have changed places (see `Candidates.move`)."""
        self._looks.mix(*self._who.move(ways))

    @property
    def shares(self) -> NDArray[np.float64]:
        """How likely each way to name all bodies is (see `Candidates`)."""
        return self._who.shares

    def weigh(self, without: NDArray[np.float64], with_it: NDArray[np.float64]) -> None:
        """Take in what something speaks for the ways to name all bodies.

        Parameters
        ----------
        without, with_it : (ways,) float64
            How likely each of all ways is, as far as only what it speaks about is known, without and with it.
        """
        orders = self._who.orders.copy()
        new = set(range(self._animals)) - self._numbered
        if len(new) > 1:  # which of these is which has been settled by taking the likeliest way
            orders[np.isin(orders, list(new))] = -1
        _, alike = np.unique(orders, axis=0, return_inverse=True)
        alike = alike.ravel()
        factors = (np.bincount(alike, with_it) + _POSSIBLE) / (np.bincount(alike, without) + _POSSIBLE)
        ways = self._who.likelier_than(_POSSIBLE)
        self._who.weigh(ways, np.log(factors[alike[ways]]))

    def forget(self, bodies: Iterable[int]) -> None:
        """What was learnt of those that these may be was perhaps learnt of several that lay together."""
        posterior = self._who.posterior()
        for body in bodies:
            for animal in np.flatnonzero(posterior[body] >= _MAYBE).tolist():
                self._looks.forget(animal)

    def see(self, bodies: Mapping[int, Look | None], at_s: float, elapsed_s: float) -> _Matrix:
        """Take in how bodies look.

        Parameters
        ----------
        bodies : mapping of int to Look or None
            Each that is seen apart from the others -> how it looks; None if another lies against it.
        at_s, elapsed_s : float
            Now, and since the last frame.

        Returns
        -------
        (bodies, animals) float64
            Probability that a body is an animal.
        """
        looks = {body: seen for body, seen in bodies.items() if seen is not None}
        ways = self._who.likelier_than(_POSSIBLE)
        named = self._who.orders[ways]
        if len(ways) > 1:
            speaks = np.zeros(len(ways))
            for body, seen in looks.items():
                speaks += self._looks.log_likelihoods(ways, named[:, body], seen, at_s, elapsed_s)
            self._who.weigh(ways, speaks)
        posterior = self._who.posterior()
        best = int(self._who.shares[ways].argmax())
        for body, seen in looks.items():
            self._looks.learn(ways, named[:, body], seen, at_s, elapsed_s, likeliest=best)
        return self._posterior_of_numbered(posterior, int(ways[best]))

    @property
    def doubted(self) -> frozenset[int]:
        """Nobody is called by these numbers, but may be any of them: a doubt came before they could be known again."""
        return frozenset(self._doubted - self._numbered)

    def all_have_numbers(self) -> None:
        """They had them before this start."""
        self._numbered = set(range(self._animals))

    def _posterior_of_numbered(self, posterior: _Matrix, best: int) -> _Matrix:
        """The same, once it is settled which is which of those without a number."""
        if len(self._numbered) == self._animals:
            return posterior
        self._numbered |= {
            animal
            for animal in range(self._animals)
            if self._looks.seen_s(best, animal) >= _FIRST_S and posterior[:, animal].max() >= CONFIDENT
        }
        new = set(range(self._animals)) - self._numbered
        if len(new) > 1:
            for animal, doubt in self._who.settle(new).items():
                if doubt > 1 - CONFIDENT:
                    self._doubted.add(animal)
                if doubt > _VOID:
                    self._looks.forget(animal)
        return self._who.posterior()
