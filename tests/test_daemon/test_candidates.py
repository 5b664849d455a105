"""Who may be whom, worked out by hand."""

import math

import numpy as np
import pytest

from daemon.candidates import Candidates, may_have_moved, only


def speaks(count: int, **rows: tuple[float, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Logarithms of these weights by body, named body0, body1 ...; nothing is said of the others."""
    found = np.zeros((count, count))
    for name, weights in rows.items():
        found[int(name.removeprefix("body"))] = np.log(weights)
    return found


def weigh(who: Candidates, speaks: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    """Of each way what speaks for its names."""
    totals = speaks[np.arange(who.count), who.orders].sum(axis=1)
    who.weigh(np.arange(len(who.shares)), totals)


def mixed(count: int) -> Candidates:
    """All bodies may be all animals."""
    who = Candidates(count)
    if count == 2:
        who.move({(0, 1): 0.5, (1, 0): 0.5})
    else:
        ways = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
        who.move(dict.fromkeys(ways, 1 / 6))
    return who


def test_at_first_each_body_has_its_own_number() -> None:
    np.testing.assert_array_equal(Candidates(3).posterior(), np.eye(3))


def test_what_speaks_for_one_speaks_against_the_other_being_it() -> None:
    who = mixed(2)
    weigh(who, speaks(2, body0=(3, 1), body1=(1, 2)))
    # Two ways: 0 is 0 and 1 is 1, weight 3 x 2; the other way, weight 1 x 1.
    assert who.posterior() == pytest.approx(np.array([[6 / 7, 1 / 7], [1 / 7, 6 / 7]]))


def test_who_is_left_over_is_known_by_who_the_others_are() -> None:
    who = mixed(3)
    weigh(who, speaks(3, body0=(1, 1e6, 1e6), body1=(1e6, 1e9, 1e6)))
    # Body 1 is animal 1, body 0 is not animal 0: so it is animal 2, and body 2, of which nothing is seen, animal 0.
    assert who.posterior()[2, 0] == pytest.approx(1, abs=0.01)


def test_two_that_may_have_changed_places_twice_are_as_sure_as_that() -> None:
    who = Candidates(2)
    for _ in range(2):
        who.move({(0, 1): 0.9, (1, 0): 0.1})
    assert who.posterior()[0] == pytest.approx([0.82, 0.18])


def test_a_turn_of_three_gives_each_body_the_name_of_the_one_it_was() -> None:
    who = Candidates(3)
    who.move({(1, 2, 0): 1.0})
    np.testing.assert_array_equal(who.posterior(), [[0, 1, 0], [0, 0, 1], [1, 0, 0]])


def test_what_was_weighed_stays() -> None:
    who = mixed(2)
    weigh(who, speaks(2, body0=(4, 1)))
    assert who.posterior()[0] == pytest.approx([0.8, 0.2])


def test_what_was_thought_impossible_can_still_be_heard() -> None:
    who = Candidates(2)
    weigh(who, speaks(2))
    weigh(who, speaks(2, body0=(1, 1e15)))
    assert who.posterior()[0, 1] > 0.99


def test_of_some_ways_can_be_said_which_is_the_likelier_and_the_others_stay_as_likely() -> None:
    who = mixed(3)
    who.weigh(np.array([0, 1]), np.log([3.0, 1.0]))
    assert who.shares == pytest.approx([3 / 12, 1 / 12, 1 / 6, 1 / 6, 1 / 6, 1 / 6])


def test_a_move_says_which_way_went_to_which() -> None:
    who = Candidates(2)
    who.move({(0, 1): 0.9, (1, 0): 0.1})
    targets, weights = who.move({(0, 1): 0.8, (1, 0): 0.2})
    np.testing.assert_array_equal(targets, [[0, 1], [1, 0]])
    assert weights == pytest.approx(np.array([[0.72, 0.08], [0.18, 0.02]]))


def test_which_of_some_is_which_can_be_settled() -> None:
    who = Candidates(3)
    who.move({(0, 1, 2): 0.6, (1, 0, 2): 0.3, (0, 2, 1): 0.1})
    assert who.settle({0, 1}) == pytest.approx({0: 0.3, 1: 0.3})
    assert who.posterior() == pytest.approx(np.array([[1, 0, 0], [0, 0.9, 0.1], [0, 0.1, 0.9]]))


def test_the_ways_to_go_have_the_weight_of_what_they_cost() -> None:
    found = may_have_moved(np.array([[0.0, math.log(3)], [0.0, 0.0]]), least=1e-3)
    # Both stayed: weight 1; both changed places: 1/3.
    assert found == pytest.approx({(0, 1): 0.75, (1, 0): 0.25})


def test_unlikely_ways_are_left_out_and_the_rest_is_whole() -> None:
    assert may_have_moved(np.array([[0.0, 9.0], [9.0, 0.0]]), least=1e-3) == {(0, 1): 1.0}


def test_the_ways_of_some_leave_the_others_where_they_were() -> None:
    assert only(4, [3, 1], {(1, 0): 0.2, (0, 1): 0.8}) == {(0, 3, 2, 1): 0.2, (0, 1, 2, 3): 0.8}


def test_more_animals_than_can_be_weighed_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.\.6 animals, got 7"):
        Candidates(7)
