"""How animals are known again by size and warmth, against the normal density by hand."""

import math

import numpy as np
import pytest

from daemon.appearance import Appearance, log_likelihoods
from daemon.sighting import Sighting
from daemon.vision.parts import BodyPart


def warm(celsius: float) -> Sighting:
    """A body without a size that counts."""
    return Sighting(
        instance=1,
        pixels=np.arange(4),
        x_px=0,
        y_px=0,
        trunk_px=0,
        centres={BodyPart.BODY: (0, 0)},
        celsius={BodyPart.BODY: celsius},
    )


def learnt(celsius: float, looks: int = 50) -> Appearance:
    look = Appearance()
    for step in range(looks):
        look.learn(warm(celsius), 2.0 * step)
    return look


def test_a_steady_animal_has_the_least_spread() -> None:
    assert learnt(33.0).figure("body", 98.0) == pytest.approx((33.0, 0.5))


def test_what_was_learnt_long_ago_is_less_sure() -> None:
    _, spread = learnt(33.0).figure("body", 98.0 + 3600) or (0, 0)
    assert spread == pytest.approx(math.hypot(0.5, 0.6))


def test_little_seen_is_nothing_known() -> None:
    assert learnt(33.0, looks=15).figure("body", 30.0) is None
    assert log_likelihoods({1: learnt(33.0, looks=15), 2: Appearance()}, warm(33.0), 30.0) == {}


def test_the_nearer_is_the_likelier_by_the_normal_density() -> None:
    found = log_likelihoods({1: learnt(33.0), 2: learnt(34.0)}, warm(33.2), 98.0)
    assert found[1] - found[2] == pytest.approx(((0.8 / 0.5) ** 2 - (0.2 / 0.5) ** 2) / 2)


def test_against_one_that_is_not_known_nothing_is_told() -> None:
    assert log_likelihoods({1: learnt(33.0), 2: Appearance()}, warm(33.6), 98.0) == {}


def test_no_temperature_tells_nothing() -> None:
    nothing = Sighting(instance=1, pixels=np.arange(4), x_px=0, y_px=0, trunk_px=0, centres={}, celsius={})
    assert log_likelihoods({1: learnt(33.0), 2: learnt(34.0)}, nothing, 98.0) == {}
