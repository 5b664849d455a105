"""Who may be whom, worked out by hand."""

import math

import pytest

from daemon.candidates import NEVER, Candidates, united


def test_nothing_known_is_shared_equally() -> None:
    found = Candidates((1, 2), {7: 1, 8: 1}).posterior()
    assert found == {7: {1: 0.5, 2: 0.5}, 8: {1: 0.5, 2: 0.5}}


def test_what_speaks_for_one_speaks_against_the_other_being_it() -> None:
    pool = Candidates((1, 2), {7: 1, 8: 1})
    pool.add(7, {1: math.log(3), 2: 0.0})
    pool.add(8, {1: 0.0, 2: math.log(2)})
    found = pool.posterior()
    # Two ways: 7 is 1 and 8 is 2, weight 3 x 2; the other way, weight 1 x 1.
    assert found[7][1] == found[8][2] == pytest.approx(6 / 7)
    assert found[7][2] == found[8][1] == pytest.approx(1 / 7)


def test_a_group_holds_those_that_are_left() -> None:
    pool = Candidates((1, 2, 3), {5: 2, 6: 1})
    pool.add(6, {1: math.log(8), 2: 0.0, 3: 0.0})
    found = pool.posterior()
    assert found[6] == pytest.approx({1: 0.8, 2: 0.1, 3: 0.1})
    assert found[5] == pytest.approx({1: 0.2, 2: 0.9, 3: 0.9})


def test_two_that_may_have_changed_places_are_as_sure_as_that() -> None:
    pool = united([Candidates((1,), {7: 1}), Candidates((2,), {8: 1})])
    pool.mix(7, 8, 0.1)
    # Both stayed 0.9 x 0.9, both changed 0.1 x 0.1.
    assert pool.posterior()[7][1] == pytest.approx(0.81 / 0.82)


def test_what_was_impossible_before_is_still() -> None:
    pool = united([Candidates((1,), {7: 1}), Candidates((2, 3), {8: 1, 9: 1})])
    assert pool.posterior()[7] == pytest.approx({1: 1, 2: 0, 3: 0}, abs=math.exp(NEVER))
    assert pool.posterior()[8] == pytest.approx({1: 0, 2: 0.5, 3: 0.5})


def test_who_is_left_over_is_no_surer_than_those_that_were_told_from_it() -> None:
    pool = Candidates((1, 2), {7: 1, 8: 1})
    pool.take_out(7, 2, 0.975)
    assert (pool.animals, pool.posterior(), pool.certainty) == ((1,), {8: {1: 1.0}}, 0.975)
