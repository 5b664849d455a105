"""Who each followed body is: what is sure, what is weighed, and what is learnt of how animals look meanwhile."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from daemon.appearance import Appearances, Look
from daemon.candidates import Candidates, Way

_FIRM = 0.999
"""From this posterior on an animal's look is learnt."""
_MAY_BE = 1e-4
"""Animals that are less likely are not compared with."""

_LIKELY = 0.95
"""From this posterior on a body is taken for an animal of which too little was learnt to ever know it again ..."""
_LITTLE_S = 120.0
"""... as it was seen alone for less than this while it was known ..."""
_LONG_S = 60.0
"""... if the body has been seen alone for so long since and its look has not told more."""
_AGREED = 12.0
"""What then speaks for it, as a natural logarithm."""
_MAYBE = 0.1
"""What was learnt of an animal that is as likely may be wrong."""

_Matrix = NDArray[np.float64]


@dataclass(slots=True, eq=False)
class _Unsure:
    """What is weighed of a body while it is not sure who it is."""

    taken: _Matrix
    """What of this the candidates hold already, by animal."""
    look: Look = field(default_factory=Look)


class Naming:
    """Names of the bodies of one box.

    Parameters
    ----------
    animals : int
        How many; bodies and animals both run from 0 here, and at first each body has its own number.

    Notes
    -----
    While it is known who a body is, its look teaches how this animal looks. From the moment on at which it may have
    been taken for another it teaches nothing, and all that is seen of it is weighed against what was learnt before. If
    that happens in the first minutes, in which hardly anything is learnt, the likeliest name is kept.
    """

    def __init__(self, animals: int) -> None:
        self._animals = animals
        self._who = Candidates(animals)
        self._looks = Appearances(animals)
        self._unsure: dict[int, _Unsure] = {}
        self._at_s = 0.0

    def move(self, ways: Mapping[Way, float]) -> None:
        """Bodies may have changed places (see `Candidates.move`): by so much less do their looks from before count."""
        moved = {body for way in ways for body, source in enumerate(way) if body != source}
        self._take_in(moved)
        self._who.move(ways)
        for body in moved & self._unsure.keys():
            stayed = sum(share for way, share in ways.items() if way[body] == body)
            self._unsure[body].look.fade(stayed)
            self._unsure[body].taken *= stayed

    def met(self, bodies: Iterable[int]) -> None:
        """These are together: what will be seen of them is not of one."""
        together = set(bodies)
        self._take_in(together)
        for body in together:
            self._unsure.pop(body, None)

    def forget(self, bodies: Iterable[int]) -> None:
        """What was learnt of those that these may be was perhaps learnt of several that lay together."""
        posterior = self._who.posterior()
        for body in bodies:
            for animal in np.flatnonzero(posterior[body] >= _MAYBE).tolist():
                self._looks.forget(animal)

    def see(self, bodies: Mapping[int, NDArray[np.float64] | None], at_s: float, elapsed_s: float) -> _Matrix:
        """Learn how those look that are known, and weigh how the others look.

        Parameters
        ----------
        bodies : mapping of int to array or None
            Each that is seen apart from the others -> its features (see `daemon.appearance`); None if another lies
            against it.
        at_s, elapsed_s : float
            Now, and since the last frame.

        Returns
        -------
        (bodies, animals) float64
            Probability that a body is an animal.
        """
        self._at_s = at_s
        posterior = self._posterior()
        for body, seen in bodies.items():
            animal = int(posterior[body].argmax())
            if posterior[body, animal] >= _FIRM:
                self.met((body,))
                if seen is not None:
                    self._looks.learn(animal, seen, at_s, elapsed_s)
                continue
            unsure = self._unsure.setdefault(body, _Unsure(np.zeros(self._animals)))
            if seen is not None:
                self._looks.compare(unsure.look, seen, elapsed_s)
                unsure.look.add(seen, elapsed_s)
            if posterior[body, animal] >= _LIKELY and unsure.look.seconds.max() >= _LONG_S:
                self._agree(body, animal)
        return self._posterior()

    def _agree(self, body: int, animal: int) -> None:
        """Let a body be an animal that has only just got its number: nothing but this would ever give it a name."""
        if self._looks.seen_s(animal) < _LITTLE_S:
            self._take_in({body})
            speaks = np.zeros((self._animals, self._animals))
            speaks[body, animal] = _AGREED
            self._who.weigh(speaks)

    def _posterior(self) -> _Matrix:
        return self._who.posterior(self._speaks(self._unsure)[0] if self._unsure else None)

    def _speaks(self, bodies: Iterable[int]) -> tuple[_Matrix, dict[int, _Matrix]]:
        """What their looks say of these bodies that the candidates do not hold yet, and what they say in all."""
        speaks, whole = np.zeros((self._animals, self._animals)), {}
        posterior = self._who.posterior()
        for body in bodies:
            unsure = self._unsure[body]
            whole[body] = self._looks.log_likelihoods(unsure.look, posterior[body] >= _MAY_BE, self._at_s)
            speaks[body] = whole[body] - unsure.taken
        return speaks, whole

    def _take_in(self, bodies: set[int]) -> None:
        """Let the candidates hold what the looks of these bodies say."""
        unsure = bodies & self._unsure.keys()
        if not unsure:
            return
        speaks, whole = self._speaks(unsure)
        self._who.weigh(speaks)
        for body in unsure:
            self._unsure[body].taken = whole[body]
