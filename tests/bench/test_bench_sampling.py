"""What samples a second or two apart miss of simulated rats' ways: the bias of each measure of movement, in one run.

`VIVARIUM_BENCH_MINUTES` (10) says how long, from the dark on, when rats walk most.
"""

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest

from daemon.behaviour import IMMOBILE_PX_PER_S, REST_AFTER_S, Point, Visits, Way, inside
from drivers.clock import NS_PER_S
from drivers.scene import Scene

MINUTES = float(os.environ.get("VIVARIUM_BENCH_MINUTES", "10"))
RATE_HZ = 25
ANIMALS = 3
SEEDS = (21, 22)
FIRST_UTC_S = 1_790_046_000
ZONE: Sequence[Point] = ((0, 0), (128, 0), (128, 96), (0, 96))
"""A quarter of the picture."""


@dataclass(slots=True)
class Sums:
    """Of one animal."""

    way_px: float = 0.0
    immobile_s: float = 0.0
    rest_s: float = 0.0
    fastest_px_s: float = 0.0
    within_s: float = 0.0
    entries: int = 0


def true_sums(places: Sequence[Point]) -> Sums:
    """From all moments."""
    found, still_s, before = Sums(), 0.0, inside(ZONE, places[0])
    for one, other in pairwise(places):
        step_px = math.dist(one, other)
        found.way_px += step_px
        found.fastest_px_s = max(found.fastest_px_s, step_px * RATE_HZ)
        still_s = still_s + 1 / RATE_HZ if step_px * RATE_HZ < IMMOBILE_PX_PER_S else 0.0
        found.immobile_s += 1 / RATE_HZ if still_s else 0.0
        found.rest_s += 1 / RATE_HZ if still_s > REST_AFTER_S else 0.0
        within = inside(ZONE, other)
        found.within_s += within / RATE_HZ
        found.entries += within and not before
        before = within
    return found


def sampled_sums(places: Sequence[Point], every: int) -> Sums:
    """As the service has it, from one moment in so many."""
    found, way, visits = Sums(), Way(), Visits()
    for number in range(0, len(places), every):
        at_ns = round(number * NS_PER_S / RATE_HZ)
        within = inside(ZONE, places[number])
        found.entries += visits.add(at_ns, within)[0]
        found.within_s += within * every / RATE_HZ
        step = way.add(at_ns, places[number])
        if step is not None:
            found.way_px += step.way_px
            found.fastest_px_s = max(found.fastest_px_s, step.speed_px_per_s)
            found.immobile_s += step.seconds * step.immobile
            found.rest_s += step.resting_s
    return found


@pytest.mark.timeout(3600)
def test_what_samples_a_second_apart_miss_of_ways_and_rests() -> None:
    totals: defaultdict[str, list[Sums]] = defaultdict(list)
    for seed in SEEDS:
        scene = Scene(seed, ANIMALS)
        places: defaultdict[int, list[Point]] = defaultdict(list)
        for step in range(round(MINUTES * 60 * RATE_HZ)):
            for animal in scene.moment(FIRST_UTC_S + step / RATE_HZ).animals:
                places[animal.animal].append(animal.middle)
        for each in places.values():
            totals["25 Hz, true"].append(true_sums(each))
            totals["1 s"].append(sampled_sums(each, RATE_HZ))
            totals["2 s"].append(sampled_sums(each, 2 * RATE_HZ))
    true = totals["25 Hz, true"]
    print(f"\n{len(true)} rats, {MINUTES:g} min each; of samples: less or more than the truth")  # noqa: T201  # the figures
    for name in ("way_px", "immobile_s", "rest_s", "fastest_px_s", "within_s", "entries"):
        whole = sum(getattr(each, name) for each in true)
        told = [f"{name:13} true {whole:10.1f}"]
        for period in ("1 s", "2 s"):
            sampled = sum(getattr(each, name) for each in totals[period])
            told.append(f"{period}: {sampled:10.1f} ({sampled / whole - 1:+.1%})" if whole else f"{period}: {sampled}")
        print("   ".join(told))  # noqa: T201  # the figures
    ways = [(sampled.way_px, whole.way_px) for sampled, whole in zip(totals["1 s"], true, strict=True)]
    assert all(sampled <= whole for sampled, whole in ways), "straight lines are no longer than the way"
