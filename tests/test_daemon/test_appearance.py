"""How animals are known again by size and warmth, against the normal density by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.appearance import Appearances, Look, features
from daemon.sighting import Sighting
from daemon.vision.parts import BodyPart

NAN = math.nan
BOTH = np.array([True, True])


def warm(celsius: float) -> NDArray[np.float64]:
    """Only a body is seen, so much above its surroundings."""
    return np.array([NAN, celsius, NAN, NAN])


def learnt(*celsius: float, seconds: int = 600) -> Appearances:
    looks = Appearances(len(celsius))
    for second in range(seconds):
        for animal, degrees in enumerate(celsius):
            looks.learn(animal, warm(degrees), float(second), 1.0)
    return looks


def seen(celsius: float, seconds: int = 600) -> Look:
    look = Look()
    for _ in range(seconds):
        look.add(warm(celsius), 1.0)
    return look


def test_the_features_are_size_and_differences_of_warmth() -> None:
    sighting = Sighting(
        instance=1,
        pixels=np.arange(4),
        x_px=0,
        y_px=0,
        trunk_px=100,
        centres={BodyPart.BODY: (0, 0)},
        celsius={BodyPart.BODY: 31.0, BodyPart.HEAD: 32.5, BodyPart.TAIL: 27.0},
    )
    assert features(sighting, 23.0) == pytest.approx([math.log(100), 8.0, 1.5, -4.0])


def test_what_is_not_seen_is_no_feature() -> None:
    nothing = Sighting(instance=1, pixels=np.arange(4), x_px=0, y_px=0, trunk_px=0, centres={}, celsius={})
    assert np.isnan(features(nothing, 23.0)).all()


def normal(off: float, variance: float) -> float:
    return math.exp(-(off**2) / variance / 2) / math.sqrt(variance)


def test_the_nearer_is_the_likelier_by_the_normal_density() -> None:
    found = learnt(8.0, 8.2).log_likelihoods(seen(8.05), BOTH, 599.0)
    # Steady animals: the least spread of 0.06 °C; of the mean of 600 s (0.5 + 0.5 / 11), of what was learnt 1 / 31.
    own, learnt_one = 0.06**2 * (0.5 + 0.5 / 11), 0.06**2 / 31
    odd = 0.05 * normal(0.05, own + 0.6**2)
    near, far = (0.95 * normal(off, own + learnt_one) + odd for off in (0.05, 0.15))
    assert found == pytest.approx([0, math.log(far / near)], rel=1e-3)


def test_one_feature_is_never_proof_and_what_fits_none_tells_nothing() -> None:
    looks = learnt(8.0, 9.0)
    assert -7 < looks.log_likelihoods(seen(8.0), BOTH, 599.0)[1] < -3
    assert looks.log_likelihoods(seen(8.5), BOTH, 599.0) == pytest.approx([0, 0], abs=1e-3)


def test_more_of_the_same_says_hardly_more() -> None:
    looks = learnt(8.0, 8.1)
    short, long = (looks.log_likelihoods(seen(8.0, seconds), BOTH, 599.0)[1] for seconds in (60, 6000))
    assert 1 < long / short < 1.6


def test_what_was_learnt_long_ago_says_less() -> None:
    looks = learnt(8.0, 8.2)
    soon, late = (looks.log_likelihoods(seen(8.0), BOTH, at_s)[1] for at_s in (599.0, 7200.0))
    assert soon < 5 * late < 0


def test_animals_that_change_their_look_are_told_apart_by_less() -> None:
    restless = Appearances(2)
    luck = np.random.default_rng(1)
    for second in range(0, 3000, 10):
        for animal, degrees in enumerate((8.0, 8.5)):
            restless.learn(animal, warm(degrees + luck.normal(0, 0.5)), float(second), 1.0)
    steady = learnt(8.0, 8.5, seconds=3000)
    look = seen(8.0)
    assert steady.log_likelihoods(look, BOTH, 2999.0)[1] < 3 * restless.log_likelihoods(look, BOTH, 2999.0)[1] < 0


def test_one_that_does_not_look_like_those_that_are_known_is_the_one_that_is_not() -> None:
    looks = Appearances(2)
    for second in range(600):
        looks.learn(0, warm(8.0), float(second), 1.0)
    assert looks.log_likelihoods(seen(9.0), BOTH, 599.0)[0] < -2
    assert looks.log_likelihoods(seen(8.0), BOTH, 599.0)[1] < -1


def test_nothing_is_told_while_nothing_is_known_or_seen() -> None:
    assert not Appearances(2).log_likelihoods(seen(8.0), BOTH, 0.0).any()
    assert not learnt(8.0, 9.0).log_likelihoods(Look(), BOTH, 599.0).any()


def test_what_was_learnt_can_be_forgotten() -> None:
    looks = learnt(8.0, 9.0)
    looks.forget(0)
    looks.forget(1)
    assert not looks.log_likelihoods(seen(8.0), BOTH, 599.0).any()


def test_of_animals_that_it_cannot_be_nothing_is_said() -> None:
    found = learnt(8.0, 8.1, 20.0).log_likelihoods(seen(8.0), np.array([True, True, False]), 599.0)
    assert found[2] == 0
