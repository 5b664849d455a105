"""Who lay still through a doubt, on pictures of 8 x 40 pixels in which each animal is a block of its own warmth."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.candidates import Candidates, Way
from daemon.steadiness import Place, Steadiness, as_before

SHAPE = (8, 40)
STEADY_S = 1.0
STAYED, SWAPPED = (0, 1, 2), (1, 0, 2)
LEAST = 1e-9

Blocks = Mapping[int, tuple[int, float]]
"""Body -> its first column, and how warm its coldest pixel is."""


def fur(column: int, celsius: float) -> NDArray[np.float32]:
    """A block of 8 x 8 pixels that no other block of another warmth is like."""
    picture = np.zeros(SHAPE, np.float32)
    picture[:, column : column + 8] = celsius + np.arange(64, dtype=np.float32).reshape(8, 8) * 0.05
    return picture.ravel()


class Box:
    """Three animals, of which nobody knows better which is which than by what is told here."""

    def __init__(self) -> None:
        self.steadiness = Steadiness(3)
        self.names = Candidates(3)

    def move(self, ways: Mapping[Way, float]) -> None:
        """A doubt."""
        self.names.move(ways)
        self.steadiness.move(ways)

    def see(
        self, at_s: float, blocks: Blocks, *, groups: Sequence[Sequence[int]] = (), unsteady: Sequence[int] = ()
    ) -> bool:
        """A frame; whether a doubt was settled."""
        celsius, instances = np.zeros(SHAPE, np.float32).ravel(), np.zeros(SHAPE, np.uint8).ravel()
        places = []
        together = [*groups, *([body] for body in blocks if not any(body in group for group in groups))]
        for instance, bodies in enumerate(together, start=1):
            for body in bodies:
                shown = fur(*blocks[body])
                instances[shown > 0] = instance
                celsius += shown
            pixels = np.flatnonzero(instances == instance)
            steady_s = 0.2 if set(bodies) & set(unsteady) else STEADY_S
            places.append(Place(bodies=bodies, instance=instance, pixels=pixels, steady_s=steady_s))
        settled = self.steadiness.see(places, instances, celsius, self.names.shares, at_s)
        if settled is None:
            return False
        without, with_it = settled
        self.names.weigh(np.arange(len(without)), np.log((with_it + LEAST) / (without + LEAST)))
        self.steadiness.go_on(self.names.shares)
        return True

    def share(self, way: Way) -> float:
        """How likely it is that each body has the number that this says."""
        (row,) = np.flatnonzero((self.names.orders == way).all(axis=1))
        return float(self.names.shares[row])


REST: Blocks = {0: (0, 30.0), 1: (10, 32.0), 2: (20, 34.0)}


@pytest.fixture
def box() -> Box:
    """With three that are known."""
    box = Box()
    assert not box.see(0.0, REST)
    return box


@pytest.mark.parametrize("likely", [0.5, 0.3])
def test_who_shows_the_same_pixels_is_who_it_was(box: Box, likely: float) -> None:
    box.move({STAYED: likely, SWAPPED: 1 - likely})
    assert box.see(1.0, REST)
    assert box.share(STAYED) > 0.99


def test_a_body_that_has_the_pixels_of_the_other_is_the_other(box: Box) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    box.see(1.0, {0: REST[1], 1: REST[0], 2: REST[2]})
    assert box.share(SWAPPED) > 0.99


def test_the_one_that_went_is_known_by_who_stayed(box: Box) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    box.see(1.0, {**REST, 1: (30, 32.0)})
    assert box.share(STAYED) > 0.99


def test_another_animal_in_the_same_place_is_nobody_that_lay_there(box: Box) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    assert not box.see(1.0, {0: (0, 36.0), 1: (10, 38.0), 2: REST[2]})
    assert box.share(STAYED) == pytest.approx(0.5)


def test_two_in_one_instance_are_told_from_the_third(box: Box) -> None:
    box.move({STAYED: 0.5, (2, 1, 0): 0.5})
    box.see(1.0, {**REST, 2: (30, 34.0)}, groups=[(0, 1)])
    assert box.share(STAYED) > 0.99


def test_which_of_two_in_one_instance_is_which_stays_open(box: Box) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    assert not box.see(1.0, REST, groups=[(0, 1)])
    assert box.share(STAYED) == pytest.approx(0.5)


def test_it_is_judged_once_all_are_seen_and_those_that_lay_there_are_cut_steadily(box: Box) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    assert not box.see(1.0, REST, unsteady=[0])
    assert not box.see(1.5, {0: REST[0], 1: REST[1]})
    assert box.share(STAYED) == pytest.approx(0.5)
    box.see(2.0, REST)
    assert box.share(STAYED) > 0.99


def test_one_that_runs_need_not_be_cut_steadily(box: Box) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    box.see(1.0, {**REST, 1: (30, 32.0)}, unsteady=[1])
    assert box.share(STAYED) > 0.99


def test_where_nothing_is_left_for_long_it_begins_anew(box: Box) -> None:
    moved: Blocks = {0: (4, 36.0), 1: (14, 38.0), 2: REST[2]}
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    for at_s in (1.0, 3.0, 6.0):
        assert not box.see(at_s, moved)
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    assert box.see(7.0, moved), "compared with what was at 6 s"
    assert box.share(STAYED) == pytest.approx(0.5), "the first doubt stays"


def test_what_is_seen_of_those_in_doubt_is_waited_for(box: Box) -> None:
    covered: Blocks = {0: (4, 30.0), 1: (30, 32.0), 2: REST[2]}
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    for at_s in (1.0, 4.0, 8.0):
        box.see(at_s, covered, unsteady=[0])
    box.see(9.0, {**REST, 1: (30, 32.0)})
    assert box.share(STAYED) > 0.99


def test_one_that_changed_its_place_in_a_group_is_compared_with_where_it_truly_was(box: Box) -> None:
    box.move({STAYED: 0.5, (2, 1, 0): 0.5})
    box.see(1.0, {0: REST[2], 1: REST[1], 2: (30, 30.0)}, groups=[(0, 1)])
    assert box.share((2, 1, 0)) > 0.99, "it is 2 that lies beside 1, and 0 that went"
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    box.see(2.0, {0: REST[2], 1: (1, 38.0), 2: (30, 30.0)})
    assert box.share((2, 1, 0)) > 0.99, "it still lies where 2 lay"


def test_what_shows_hardly_more_than_chance_settles_nothing(box: Box) -> None:
    box.move({STAYED: 0.995, SWAPPED: 0.005})
    assert not box.see(1.0, {0: (7, 30.0), 1: (30, 32.0), 2: REST[2]})
    box.see(2.0, REST)
    assert box.share(SWAPPED) < 1e-4


def test_a_doubt_that_is_left_for_a_name_is_not_settled(box: Box) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    assert not box.see(1.0, {0: (6, 30.0), 1: (30, 32.0), 2: REST[2]})
    box.see(2.0, REST)
    assert box.share(STAYED) > 0.99


def test_small_doubts_add_up_while_one_runs(box: Box) -> None:
    for step in range(1, 5):
        box.move({STAYED: 0.9994, SWAPPED: 0.0006})
        box.see(step, {**REST, 2: (22 + step, 34.0)}, unsteady=[2])
    assert box.share(SWAPPED) < 1e-4


def test_what_is_open_is_compared_with_what_was_before_the_doubt(box: Box) -> None:
    elsewhere: Blocks = {0: (3, 36.0), 1: (13, 38.0), 2: REST[2]}
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    box.see(1.0, elsewhere)
    box.see(2.0, REST)
    assert box.share(STAYED) > 0.99


def test_without_a_doubt_it_is_compared_with_the_newest_frame(box: Box) -> None:
    moved: Blocks = {0: REST[1], 1: REST[0], 2: REST[2]}
    assert not box.see(1.0, moved)
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    box.see(2.0, moved)
    assert box.share(STAYED) > 0.99


def test_after_a_minute_nothing_is_compared_and_it_begins_anew(box: Box) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    assert not box.see(61.0, REST)
    assert box.share(STAYED) == pytest.approx(0.5)
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    assert box.see(62.0, REST)
    assert box.share(STAYED) == pytest.approx(0.5)


@pytest.mark.parametrize(("at_s", "known"), [(1.0, True), (50.0, False)])
def test_what_few_pixels_show_may_be_chance_after_long(box: Box, at_s: float, known: bool) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    assert box.see(at_s, {0: (4, 30.0), 1: (30, 32.0), 2: REST[2]}) is known


def test_names_that_were_open_before_stay_open(box: Box) -> None:
    box.move({STAYED: 0.5, (0, 2, 1): 0.5})
    box.see(61.0, REST)  # too late: it stays open for good which of the bodies 1 and 2 is which
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    box.see(62.0, REST)
    assert box.share(STAYED) == pytest.approx(0.5, abs=0.01)
    assert box.share((0, 2, 1)) == pytest.approx(0.5, abs=0.01)


def test_what_was_learnt_of_looks_meanwhile_counts_too(box: Box) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    box.names.weigh(np.flatnonzero((box.names.orders == SWAPPED).all(axis=1)), np.array([0.0]))
    rows = [int(np.flatnonzero((box.names.orders == way).all(axis=1))[0]) for way in (STAYED, SWAPPED)]
    box.names.weigh(np.array(rows), np.array([0.0, 5.0]))  # by their looks they changed places: e^5 to 1
    before = box.share(STAYED) / box.share(SWAPPED)
    box.see(1.0, REST)
    fits = box.share(STAYED) / box.share(SWAPPED) / before
    assert before == pytest.approx(np.exp(-5), rel=0.01)
    assert fits > 100, "all pixels of two animals speak for it"


@pytest.mark.parametrize(("overlap", "steady"), [(0.9, True), (0.7, True), (0.5, False), (0.0, False)])
def test_a_mask_is_cut_as_before_if_most_of_it_is_the_same(overlap: float, steady: bool) -> None:
    assert as_before(overlap) is steady


def test_one_that_was_covered_until_it_began_anew_is_not_compared_with_what_was_before(box: Box) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    for at_s in (1.0, 7.0):
        box.see(at_s, {0: (30, 36.0), 1: (30, 36.0), 2: REST[2]}, unsteady=[0, 1])
    box.move({STAYED: 0.7, SWAPPED: 0.3})
    assert not box.see(8.0, {0: REST[0], 1: (30, 36.0), 2: REST[2]})


def test_a_clock_that_goes_back_is_a_new_beginning(box: Box) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    assert not box.see(-1000.0, REST)
    assert box.share(STAYED) == pytest.approx(0.5)
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    assert box.see(-999.0, REST)


def test_noise_is_the_same_and_another_fur_is_not(box: Box) -> None:
    box.move({STAYED: 0.5, SWAPPED: 0.5})
    assert not box.see(1.0, {0: (0, 30.6), 1: (10, 32.6), 2: REST[2]})
    assert box.see(2.0, {0: (0, 30.2), 1: (10, 32.2), 2: REST[2]})
