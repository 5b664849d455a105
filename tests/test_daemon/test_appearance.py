"""How animals are known again by size and warmth, against the normal density by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.appearance import Appearances, Look, features
from daemon.sighting import Sighting
from daemon.vision.parts import BodyPart

NAN = math.nan


def warm(celsius: float, *, goes: bool = False, rested_s: float = 0.0) -> Look:
    """Only a body is seen, so much above its surroundings."""
    return Look(np.array([NAN, celsius, NAN, NAN, NAN]), goes=goes, rested_s=rested_s)


def learn(looks: Appearances, animal: int, celsius: float, at_s: float) -> None:
    looks.learn(np.array([0]), np.array([animal]), warm(celsius), at_s, 1.0, likeliest=0)


def learnt(*celsius: float, seconds: int = 600) -> Appearances:
    """By the only way that is thought of."""
    looks = Appearances(1, len(celsius))
    for second in range(seconds):
        for animal, degrees in enumerate(celsius):
            learn(looks, animal, degrees, float(second))
    return looks


def speaks(looks: Appearances, celsius: float, at_s: float = 599.0, elapsed_s: float = 1.0) -> NDArray[np.float64]:
    """What one look says for the first two animals, less that for the likelier."""
    found = looks.log_likelihoods(np.array([0, 0]), np.array([0, 1]), warm(celsius), at_s, elapsed_s)
    return np.asarray(found - found.max())


def test_the_features_are_size_differences_of_warmth_and_the_share_of_the_head() -> None:
    sighting = Sighting(
        instance=1,
        pixels=np.arange(4),
        x_px=0,
        y_px=0,
        trunk_px=100,
        head_px=20,
        centres={BodyPart.BODY: (0, 0), BodyPart.HEAD: (9, 0)},
        celsius={BodyPart.BODY: 31.0, BodyPart.HEAD: 32.5, BodyPart.TAIL: 27.0},
    )
    assert features(sighting, 23.0) == pytest.approx([math.log(100), 8.0, 1.5, -4.0, 0.2])


def test_what_is_not_seen_is_no_feature() -> None:
    nothing = Sighting(instance=1, pixels=np.arange(4), x_px=0, y_px=0, trunk_px=0, head_px=0, centres={}, celsius={})
    assert np.isnan(features(nothing, 23.0)).all()


def normal(off: float, variance: float) -> float:
    return math.exp(-(off**2) / variance / 2) / math.sqrt(variance)


def test_the_nearer_is_the_likelier_by_the_normal_density() -> None:
    # Steady animals: the least spread of 0.06 °C, and what is left of it in a mean over 600 s, 1 / sqrt(1 + 600 / 60).
    own = 0.06**2 * (1 + 1 / math.sqrt(11))
    odd = 0.05 * normal(-0.05, 0.06**2 + 0.6**2)
    near, far = (0.95 * normal(off, own) + odd for off in (0.05, 0.15))
    # A second of 60 in which looks say the same again.
    assert speaks(learnt(8.0, 8.2), 8.05) == pytest.approx([0, math.log(far / near) / 60], rel=1e-2)


def test_one_feature_is_never_proof_and_what_fits_none_tells_nothing() -> None:
    looks = learnt(8.0, 9.0)
    assert -7 < 60 * speaks(looks, 8.0)[1] < -3
    assert speaks(looks, 8.5) == pytest.approx([0, 0], abs=1e-3)


def test_what_was_learnt_long_ago_says_less() -> None:
    soon, late = (speaks(learnt(8.0, 8.2), 8.0, at_s)[1] for at_s in (599.0, 7200.0))
    assert soon < 3 * late < 0


def test_looks_count_by_the_time_that_they_take() -> None:
    looks = learnt(8.0, 8.2)
    assert speaks(looks, 8.0, elapsed_s=0.04)[1] == pytest.approx(0.04 * speaks(looks, 8.0)[1])
    assert speaks(looks, 8.0, elapsed_s=30.0)[1] == pytest.approx(speaks(looks, 8.0)[1])


def test_looks_of_one_that_goes_about_say_more_and_teach_more() -> None:
    looks = learnt(8.0, 8.2)
    one, both = np.array([0, 0]), np.array([0, 1])
    came, going = (looks.log_likelihoods(one, both, warm(8.0, goes=goes), 599.0, 1.0) for goes in (False, True))
    assert going == pytest.approx(2 * came)
    walked = Appearances(1, 1)
    for second in range(10):
        walked.learn(np.array([0]), np.array([0]), warm(8.0, goes=True), float(second), 1.0, likeliest=0)
    assert walked.seen_s(0, 0) == pytest.approx(20)
    assert learnt(8.0, seconds=10).seen_s(0, 0) == pytest.approx(10)


def test_all_looks_of_one_rest_together_are_worth_one_and_a_minute_of_seeing() -> None:
    looks, rested = learnt(8.0, 8.2), Appearances(1, 1)
    one, both = np.array([0, 0]), np.array([0, 1])
    whole = np.zeros(2)
    for second in range(3600):
        whole += looks.log_likelihoods(one, both, warm(8.0, rested_s=second), 599.0, 1.0)
        rested.learn(np.array([0]), np.array([0]), warm(8.0, rested_s=second), float(second), 1.0, likeliest=0)
    assert whole == pytest.approx(60 * looks.log_likelihoods(one, both, warm(8.0), 599.0, 1.0), rel=0.02)
    assert rested.seen_s(0, 0) == pytest.approx(60, rel=0.02)


def test_animals_that_change_their_look_are_told_apart_by_less() -> None:
    restless = Appearances(1, 2)
    luck = np.random.default_rng(1)
    for second in range(0, 3000, 10):
        for animal, degrees in enumerate((8.0, 8.5)):
            learn(restless, animal, degrees + luck.normal(0, 0.5), float(second))
    steady = learnt(8.0, 8.5, seconds=3000)
    assert speaks(steady, 8.0, 2999.0)[1] < 3 * speaks(restless, 8.0, 2999.0)[1] < 0


def test_one_that_does_not_look_like_those_that_are_known_is_the_one_that_is_not() -> None:
    looks = Appearances(1, 2)
    for second in range(600):
        learn(looks, 0, 8.0, float(second))
    assert 60 * speaks(looks, 9.0)[0] < -2
    assert 60 * speaks(looks, 8.0)[1] < -1


def test_nothing_is_told_while_nothing_is_known_or_seen() -> None:
    assert not speaks(Appearances(1, 2), 8.0).any()
    assert not speaks(learnt(8.0, 9.0), NAN).any()


def test_what_was_learnt_can_be_forgotten() -> None:
    looks = learnt(8.0, 9.0)
    assert looks.seen_s(0, 1) == pytest.approx(600)
    looks.forget(0)
    looks.forget(1)
    assert looks.seen_s(0, 1) == 0
    assert not speaks(looks, 8.0).any()


def test_what_is_known_by_ways_that_become_one_is_mixed_by_how_likely_they_were() -> None:
    looks = Appearances(2, 1)
    for way, celsius in enumerate((8.0, 9.0)):
        for second in range(100):
            looks.learn(np.array([way]), np.array([0]), warm(celsius), float(second), 1.0, likeliest=0)
    looks.mix(np.array([[0, 1], [1, 0]]), np.array([[0.75, 0.0], [0.0, 0.25]]))
    both = np.array([0, 1])
    found = [looks.log_likelihoods(both, np.array([0, 0]), warm(celsius), 99.0, 1.0) for celsius in (8.25, 9.0)]
    assert found[0][0] > found[0][1], "the first way has the mean of both"
    assert found[1][1] > found[1][0], "the second, to which none has gone, what it had"


def test_a_way_by_which_nothing_was_learnt_yet_says_nothing_against_the_body() -> None:
    looks = Appearances(2, 2)
    for second in range(10):
        for animal in (0, 1):
            looks.learn(np.array([0]), np.array([animal]), warm(8.0), float(second), 1.0, likeliest=0)
    assert not looks.log_likelihoods(np.array([0, 1]), np.array([0, 0]), warm(8.0), 9.0, 1.0).any()
