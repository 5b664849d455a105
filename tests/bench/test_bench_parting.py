"""Whether masks from before two animals met say which is which once they part, on what the shipped networks find."""

import os
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.identity_cli import _FIRST_UTC_S, Masks, _by_networks
from daemon.picture_eyes import RememberedScene
from daemon.track import _REMEMBERS_S, Tracker, _overlap, _Seen, _Track
from drivers.clock import NS_PER_S

SEED = int(os.environ.get("VIVARIUM_BENCH_SEED", "125"))
MINUTES = float(os.environ.get("VIVARIUM_BENCH_MINUTES", "120"))
RATE_HZ = float(os.environ.get("VIVARIUM_BENCH_RATE", "1"))
ANIMALS = 3
CLEAR = 0.3
MINE = 0.7
"""A mask shows an animal if it owns so much of its pixels that are animal."""


@dataclass
class Parting:
    """Two that were one instance and part."""

    together_s: float
    bodies: tuple[int, int]
    one: NDArray[np.intp]
    other: NDArray[np.intp]
    """Pixels of the instances they came out as."""
    overlaps: float
    """By how much those cover the first and the second body's masks from before, more than the other way round."""


class Watched(Tracker):
    """Remembers the pairs that part."""

    def __init__(self, animals: int) -> None:
        super().__init__(animals)
        self.partings: list[Parting] = []

    def _gone_straight(self, track: _Track, seen: _Seen, rest: _Seen | None, at_s: float) -> dict[int, float]:
        before = [self._before.get(body) for body in track.bodies]
        if rest is not None and track.size == 2 and before[0] is not None and before[1] is not None:
            one, other = seen.sighting, rest.sighting
            together_s = at_s - max(before[0].at_s, before[1].at_s)
            straight = _overlap(before[0], one) + _overlap(before[1], other)
            swapped = _overlap(before[1], one) + _overlap(before[0], other)
            bodies = track.bodies[0], track.bodies[1]
            self.partings.append(Parting(together_s, bodies, one.pixels, other.pixels, straight - swapped))
        return super()._gone_straight(track, seen, rest, at_s)

    def owners(self, truth: NDArray[np.uint8]) -> dict[int, int | None]:
        """Which true animal each body that is seen by itself is."""
        return {
            each.bodies[0]: owner(each.pixels, truth) for each in self._tracks if each.size == 1 and not each.hidden
        }


def owner(pixels: NDArray[np.intp], truth: NDArray[np.uint8]) -> int | None:
    """The true animal that a mask shows; None where it shows several."""
    counts = np.bincount(truth.ravel()[pixels], minlength=ANIMALS + 1)[1:]
    return int(counts.argmax()) + 1 if counts.max() >= MINE * max(counts.sum(), 1) else None


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_masks_from_before_they_met_tell_which_is_which() -> None:
    tracker, scene = Watched(ANIMALS), RememberedScene(SEED, ANIMALS)
    moments = [_FIRST_UTC_S + step / RATE_HZ for step in range(round(MINUTES * 60 * RATE_HZ))]
    owners: dict[int, int | None] = {}
    pairs: list[tuple[float, float]] = []
    for look in _by_networks(scene, moments, SEED, ANIMALS):
        truth = look.truth.instances
        tracker.follow(look.segmentation, look.celsius, round((look.truth.utc_s - _FIRST_UTC_S) * NS_PER_S))
        for each in tracker.partings:
            were = [owners.get(body) for body in each.bodies]
            are = [owner(each.one, truth), owner(each.other, truth)]
            if None not in were and set(were) == set(are) and len(set(are)) == 2 and each.together_s <= _REMEMBERS_S:
                pairs.append((each.together_s, each.overlaps if were == are else -each.overlaps))
        tracker.partings.clear()
        owners |= tracker.owners(truth)
    found = np.array(pairs).reshape(-1, 2)
    clear = found[np.abs(found[:, 1]) > CLEAR]
    said, right = (int((each[:, 1] > 0).sum()) for each in (found, clear))
    print(f"seed {SEED}, {MINUTES:g} min at {RATE_HZ:g} fps, masks: {Masks.NETWORKS}")  # noqa: T201
    print(f"  {len(found)} pairs part, {said} as the masks say; {len(clear)} clearly, {right} of them rightly")  # noqa: T201
    for least_s, most_s in ((0, 5), (5, 20), (20, 60)):
        some = clear[(clear[:, 0] > least_s) & (clear[:, 0] <= most_s)]
        print(f"  clearly after {least_s} to {most_s} s: {len(some)}, {(some[:, 1] > 0).sum()} rightly")  # noqa: T201
    assert len(clear) >= 10
    assert (clear[:, 1] > 0).mean() > 0.97
