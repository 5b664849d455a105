"""Boundary F1 and centerline Dice on shapes worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.shape_measures import boundary_f1, centerline_dice

Mask = NDArray[np.bool_]


def box(left: int, top: int, width: int, height: int) -> Mask:
    """A rectangle in a picture of the camera's size, whose reach is 2.4 px."""
    mask = np.zeros((192, 256), bool)
    mask[top : top + height, left : left + width] = True
    return mask


NOTHING = box(0, 0, 0, 0)


@pytest.mark.parametrize("measure", [boundary_f1, centerline_dice])
def test_the_same_shape_is_perfect_and_one_that_is_missing_or_invented_worthless(
    measure: object,
) -> None:
    assert callable(measure)
    assert measure(box(40, 40, 60, 8), box(40, 40, 60, 8)) == 1
    assert measure(box(40, 40, 60, 8), NOTHING) == 0
    assert measure(NOTHING, box(40, 40, 60, 8)) == 0
    assert measure(NOTHING, NOTHING) is None


def test_a_speck_that_thinning_leaves_nothing_of_is_its_own_skeleton() -> None:
    assert centerline_dice(box(40, 40, 60, 4), box(50, 41, 2, 2)) == pytest.approx(2 * (2 / 60) / (1 + 2 / 60), rel=0.1)
    assert centerline_dice(box(40, 40, 2, 2), box(40, 40, 2, 2)) == 1


def test_an_outline_two_pixels_away_is_near_and_one_three_pixels_away_is_not() -> None:
    precision = 1 - 4 / 252  # of the outer outline the four corners lie 2.8 px away
    assert boundary_f1(box(40, 40, 60, 60), box(38, 38, 64, 64)) == pytest.approx(2 * precision / (precision + 1))
    assert boundary_f1(box(40, 40, 60, 60), box(37, 37, 66, 66)) == 0


def test_boundary_f1_of_a_shape_of_which_half_was_found() -> None:
    # Found: the left half of a bar. Its outline has 2 * 30 + 2 * 18 = 96 pixels, of which the 18 of the wrong end, less
    # the 2 * 2 near the true long sides (within 2.4 px of them beside the corners at distances 0, 1, 2), are far.
    true, found = box(40, 40, 60, 20), box(40, 40, 30, 20)
    true_outline, found_outline = 2 * 60 + 2 * 18, 2 * 30 + 2 * 18
    far_found = 18 - 2 * 2
    # Of the true outline the right half is far but for the columns within reach of the found corners.
    far_true = 2 * 30 + 18 - 2 * 2
    precision, recall = 1 - far_found / found_outline, 1 - far_true / true_outline
    assert boundary_f1(true, found) == pytest.approx(2 * precision * recall / (precision + recall))


def test_the_edge_of_the_picture_is_no_outline() -> None:
    # Both fill the left side; their only outline is the right edge, two pixels apart.
    assert boundary_f1(box(0, 0, 50, 192), box(0, 0, 52, 192)) == 1
    assert boundary_f1(box(0, 0, 256, 192), box(0, 0, 256, 192)) == 1


def test_a_tail_of_another_width_has_the_same_centerline() -> None:
    assert centerline_dice(box(40, 40, 100, 7), box(40, 42, 100, 3)) == pytest.approx(1)


def test_a_tail_of_which_half_is_missing_has_the_dice_of_its_length() -> None:
    # All of the found skeleton lies in the true tail; half of the true one in the found: 2 * 0.5 / 1.5.
    assert centerline_dice(box(40, 40, 100, 3), box(40, 40, 50, 3)) == pytest.approx(2 / 3, abs=0.01)


def test_a_broken_tail_costs_its_gap_alone() -> None:
    broken = box(40, 40, 100, 3)
    broken[:, 80:90] = False
    assert centerline_dice(box(40, 40, 100, 3), broken) == pytest.approx(2 * 0.9 / 1.9, abs=0.02)
