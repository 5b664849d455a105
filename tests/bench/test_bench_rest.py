"""Ways and rests of simulated rats by what the shipped networks find in pictures, against those by their true masks."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.behaviour import Point, Step, Way
from daemon.measure import unmeasurable
from daemon.networks import open_networks
from daemon.picture_eyes import RememberedScene
from daemon.settings import Settings
from daemon.vision.parts import BodyPart
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.simulated import SimulatedCamera, SimulatedDevice

MINUTES = 12
BEGINNINGS = {"in the dark": (121, 1_790_046_300), "in the light": (122, 1_790_085_600)}
"""Seed of the box, and UTC seconds; lights go on at 06:00."""


def centre(parts: NDArray[np.uint8], instances: NDArray[np.uint8]) -> Point | None:
    """Of head and body together, as `trunk_centre` has it; of the one animal there is."""
    y, x = np.nonzero(((parts == BodyPart.HEAD) | (parts == BodyPart.BODY)) & (instances > 0))
    return (float(x.mean()), float(y.mean())) if len(x) else None


def both(seed: int, begin_utc_s: int) -> Iterator[tuple[int, Point | None, Point | None]]:
    """Time, true place and found place, once a second."""
    segmenter = open_networks(Settings().vision, most=1).segmenter
    assert segmenter is not None
    clock = SimulatedClock(begin_utc_s * NS_PER_S)
    device = SimulatedDevice(seed=seed, scene=RememberedScene(seed, 1), clock=clock)
    with SimulatedCamera(device, clock=clock) as camera:
        for second in range(60 * MINUTES):
            clock.advance(max(0.0, begin_utc_s + second - clock.utc_ns() / NS_PER_S))
            frame = camera.read(2.0)
            if not unmeasurable(frame.flags):
                truth, found = camera.truth(frame), segmenter.segment(frame.celsius)
                at_ns = round(truth.utc_s * NS_PER_S)
                yield at_ns, centre(truth.parts, truth.instances), centre(found.parts, found.instances)


def shares(steps: Sequence[Step]) -> tuple[float, float, float]:
    """Shares of time immobile and at rest, and the way, px."""
    seconds = sum(each.seconds for each in steps)
    immobile_s = sum(each.seconds * each.immobile for each in steps)
    return immobile_s / seconds, sum(each.resting_s for each in steps) / seconds, sum(each.way_px for each in steps)


@pytest.mark.slow
@pytest.mark.parametrize("when", BEGINNINGS)
def test_rest_by_the_networks_is_that_of_the_truth(when: str) -> None:
    ways = Way(), Way()
    steps: tuple[list[Step], list[Step]] = ([], [])
    for at_ns, *places in both(*BEGINNINGS[when]):
        for way, told, place in zip(ways, steps, places, strict=True):
            step = None if place is None else way.add(at_ns, place)
            if step is not None:
                told.append(step)
    true, found = map(shares, steps)
    for name, (immobile, rest, way_px) in (("true masks", true), ("networks", found)):
        print(f"{when}, {name}: immobile {immobile:.3f}, rest {rest:.3f}, way {way_px:.0f} px")  # noqa: T201
    assert abs(found[0] - true[0]) < 0.1
    assert abs(found[1] - true[1]) < 0.1
