"""How often a doubt is settled rightly by who lay still through it, on what the shipped networks find."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.identity_cli import _FIRST_UTC_S, Masks, _by_networks
from daemon.picture_eyes import RememberedScene
from daemon.steadiness import Place, Steadiness
from daemon.track import Tracker
from drivers.clock import NS_PER_S
from tests.bench.test_bench_parting import ANIMALS, MINUTES, RATE_HZ, SEED, owner

DOUBT = 0.05
"""Smaller ones do not count here."""
STILL = 0.5
"""An animal has lain still of which so much shows the same as before."""


class Watched(Steadiness):
    """Compares what it settles with the truth."""

    def __init__(self, animals: int) -> None:
        super().__init__(animals)
        self.truth = np.zeros((0, 0), np.uint8)
        self.rightly: list[bool] = []
        """Of each doubt that was settled, if those that lay still are seen alone: whether they are who they were."""
        self._were: dict[int, int | None] = {}
        self._weighed_last: tuple[float, list[int], list[int]] | None = None

    def see(
        self,
        places: Sequence[Place],
        instances: NDArray[np.uint8],
        celsius: NDArray[np.float32],
        names: NDArray[np.float64],
        at_s: float,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """See `Steadiness`."""
        self._weighed_last = None
        settled = super().see(places, instances, celsius, names, at_s)
        are = {place.bodies[0]: owner(place.pixels, self.truth) for place in places if len(place.bodies) == 1}
        if settled is not None and self._weighed_last is not None:
            doubt, way, still = self._weighed_last
            pairs = [(self._were.get(was), are.get(way.index(was))) for was in still]
            if doubt > DOUBT and pairs and all(None not in pair for pair in pairs):
                self.rightly.append(all(was == now for was, now in pairs))
            self._were = {body: self._were.get(was) for body, was in enumerate(way)}
        self._were |= {body: are.get(body) for body, lay in self._lay.items() if lay.at_s == at_s}
        return settled

    def _weighed(self, there: NDArray[np.float64], at_s: float) -> NDArray[np.float64]:
        went = super()._weighed(there, at_s)
        still = np.flatnonzero((there > STILL).any(axis=1) & self._in_question())
        self._weighed_last = 1 - self._went.shares.max(), self._went.orders[went.argmax()].tolist(), still.tolist()
        return went


class WatchedTracker(Tracker):
    """Follows as ever."""

    def __init__(self, animals: int) -> None:
        super().__init__(animals)
        self._steadiness = self.watched = Watched(animals)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_doubts_are_settled_rightly_by_who_lay_still() -> None:
    tracker, scene = WatchedTracker(ANIMALS), RememberedScene(SEED, ANIMALS)
    watched = tracker.watched
    moments = [_FIRST_UTC_S + step / RATE_HZ for step in range(round(MINUTES * 60 * RATE_HZ))]
    for look in _by_networks(scene, moments, SEED, ANIMALS):
        watched.truth = look.truth.instances
        tracker.follow(look.segmentation, look.celsius, round((look.truth.utc_s - _FIRST_UTC_S) * NS_PER_S))
    said, rightly = len(watched.rightly), sum(watched.rightly)
    print(f"seed {SEED}, {MINUTES:g} min at {RATE_HZ:g} fps, masks: {Masks.NETWORKS}")  # noqa: T201
    print(f"  {said} doubts of more than {DOUBT:.0%} are settled by who lay still, {rightly} rightly")  # noqa: T201
    assert said >= 5
    assert rightly >= 0.99 * said
