"""Bodies that get names: what is learnt while they are known says who they are when they are not."""

from itertools import permutations

import numpy as np
import pytest

from daemon.appearance import Look
from daemon.candidates import Way
from daemon.naming import Naming

MET: dict[Way, float] = {(0, 1, 2): 0.5, (1, 0, 2): 0.5}
"""The first two may have changed places."""

RATHER_NOT: dict[Way, float] = {(0, 1, 2): 0.96, (1, 0, 2): 0.04}
HARDLY: dict[Way, float] = {(0, 1, 2): 1 - 1e-9, (1, 0, 2): 1e-9}


def look(celsius: float) -> Look:
    """Size, body above surroundings, head and tail above body, share of the head."""
    return Look(np.array([7.4, celsius, 1.0, -4.0, 0.2]))


def known(*celsius: float, seconds: int = 120) -> Naming:
    naming = Naming(len(celsius))
    for second in range(seconds):
        naming.see({body: look(each) for body, each in enumerate(celsius)}, float(second), 1.0)
    return naming


def test_bodies_that_changed_places_are_known_again_by_their_look() -> None:
    naming = known(8.0, 9.0, 8.0)
    naming.move(MET)
    for second in range(120, 200):
        found = naming.see({0: look(9.0), 1: look(8.0)}, float(second), 1.0)
    assert found[0, 1] > 0.99
    assert found[1, 0] > 0.99
    assert found[2, 2] == pytest.approx(1)


def test_who_looks_like_nobody_of_the_others_is_known_by_them() -> None:
    naming = known(8.0, 9.0, 10.0)
    naming.move(dict.fromkeys(permutations(range(3)), 1 / 6))
    for second in range(120, 200):
        found = naming.see({0: look(9.0), 2: look(8.0)}, float(second), 1.0)
    assert found[1, 2] > 0.99


def test_animals_that_look_alike_stay_unknown_however_long_they_are_seen() -> None:
    naming = known(8.0, 8.0, 8.0)
    naming.move(MET)
    luck = np.random.default_rng(3)
    for second in range(120, 1500):
        found = naming.see({body: look(8.0 + luck.normal(0, 0.05)) for body in (0, 1)}, float(second), 1.0)
    assert found[:2, :2].max() < 0.97


def test_a_body_that_another_lies_against_teaches_and_says_nothing() -> None:
    naming = known(8.0, 9.0, 8.0)
    naming.move(MET)
    for second in range(120, 200):
        found = naming.see({0: None, 1: None}, float(second), 1.0)
    assert found[0, 0] == pytest.approx(0.5, abs=1e-6)


def test_what_is_weighed_many_times_in_pieces_counts_once() -> None:
    whole, pieces = known(8.0, 8.15, 8.0), known(8.0, 8.15, 8.0)
    for naming in (whole, pieces):
        naming.move(MET)
    for second in range(120, 200):
        seen = {0: look(8.05), 1: look(8.1)}
        once = whole.see(seen, float(second), 1.0)
        many = pieces.see(seen, float(second), 1.0)
        pieces.move(HARDLY)
    assert 0.5 < once[0, 0] < 0.98
    assert many[0, 0] == pytest.approx(once[0, 0], abs=0.01)


def test_after_a_meeting_the_look_from_before_counts_no_more() -> None:
    naming = known(8.0, 9.0, 8.0)
    naming.move(MET)
    for second in range(120, 125):
        naming.see({0: look(8.0), 1: look(9.0)}, float(second), 1.0)
    naming.move(MET)
    for second in range(200, 290):
        found = naming.see({0: look(9.0), 1: look(8.0)}, float(second), 1.0)
    assert found[0, 1] > 0.99


def test_what_was_learnt_of_several_can_be_forgotten() -> None:
    naming = known(8.0, 9.0, 8.0)
    naming.forget((0, 1, 2))
    naming.move(MET)
    for second in range(120, 200):
        found = naming.see({0: look(9.0), 1: look(8.0)}, float(second), 1.0)
    assert found[0, 0] == pytest.approx(0.5)


def test_minutes_of_odd_looks_are_put_right_by_what_comes_after_them() -> None:
    naming = known(8.0, 9.0, 8.0, seconds=600)
    naming.move(MET)
    for second in range(600, 1080):
        found = naming.see({0: look(9.0), 1: look(8.0)}, float(second), 1.0)
    assert found[0, 1] > 0.99
    for second in range(1080, 2880):
        found = naming.see({0: look(8.0), 1: look(9.0)}, float(second), 1.0)
    assert found[0, 0] > 0.99


def test_a_doubt_about_animals_that_were_just_seen_takes_their_numbers_for_a_while() -> None:
    naming = known(8.0, 8.0, 8.0, seconds=10)
    assert naming.doubted == set()
    naming.move(RATHER_NOT)
    for second in range(10, 60):
        found = naming.see({0: look(8.0), 1: look(8.0), 2: look(8.0)}, float(second), 1.0)
        np.testing.assert_array_equal(found, np.eye(3), "which of the first two is which is ours to say")
        assert (naming.doubted == {0, 1}) == (second < 29)


def test_a_doubt_about_animals_that_were_long_known_stays() -> None:
    naming = known(8.0, 8.0, 8.0)
    naming.move(RATHER_NOT)
    for second in range(120, 300):
        found = naming.see({0: look(8.0), 1: look(8.0)}, float(second), 1.0)
    assert found[0] == pytest.approx([0.96, 0.04, 0], abs=0.01)
    assert naming.doubted == set()


def shares(ways: dict[Way, float], animals: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([ways.get(way, 0.0) for way in permutations(range(animals))])


def test_what_speaks_for_a_way_is_taken_in() -> None:
    naming = known(8.0, 8.0, 8.0)
    naming.move(MET)
    naming.weigh(shares(MET, 3), shares({(1, 0, 2): 1.0}, 3))
    assert naming.shares[2] == pytest.approx(1), "the third way of all: the first two have changed places"


def test_ways_that_were_not_possible_stay_so_and_are_not_weighed_again() -> None:
    naming = known(8.0, 8.0, 8.0)
    naming.move(MET)
    before = np.count_nonzero(naming.shares > 1e-9)
    naming.weigh(shares(MET, 3), shares({(1, 0, 2): 1.0}, 3))
    assert np.count_nonzero(naming.shares > 1e-9) == before


def test_which_of_two_without_numbers_is_which_says_nothing_of_a_third_that_has_one() -> None:
    naming = Naming(3)
    for second in range(120):
        naming.see({0: None, 1: None, 2: look(8.0)}, float(second), 1.0)
    older: dict[Way, float] = {(0, 1, 2): 0.995, (0, 2, 1): 0.005}
    naming.move(older)
    naming.move(MET)
    naming.see({}, 120.0, 1.0)  # of the first two the likelier way is taken
    without = shares({(0, 1, 2): 0.4975, (1, 0, 2): 0.4975, (0, 2, 1): 0.0025, (1, 2, 0): 0.0025}, 3)
    naming.weigh(without, shares({(1, 0, 2): 0.995, (1, 2, 0): 0.005}, 3))
    assert naming.see({}, 121.0, 1.0)[2, 2] == pytest.approx(0.995, abs=0.002)
