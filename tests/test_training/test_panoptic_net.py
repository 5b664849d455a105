"""Centres and offsets: what they should be, and what the network gives."""

import numpy as np
import pytest

from daemon.vision.parts import BodyPart
from training.panoptic import centre_truth


def _picture() -> tuple[np.ndarray, np.ndarray]:
    """Two animals of 16 x 24 pixels: one with head, body and tail in a row, one of which only a tail is seen."""
    parts, instances = np.zeros((16, 24), np.uint8), np.zeros((16, 24), np.uint8)
    parts[2:6, 2:6] = BodyPart.HEAD
    parts[2:6, 6:14] = BodyPart.BODY
    parts[3:5, 14:20] = BodyPart.TAIL
    instances[parts > 0] = 1
    parts[12:14, 4:12] = BodyPart.TAIL
    instances[12:14, 4:12] = 7
    return parts, instances


def test_head_body_and_tail_point_at_the_middle_of_the_body() -> None:
    truth = centre_truth(*_picture(), stride=2)
    # The body covers columns 6 to 13 and rows 2 to 5: its middle is at (9.5, 3.5); that of cell (1, 1) at (2.5, 2.5).
    assert truth.offset[:, 1, 1].tolist() == pytest.approx([7.0, 1.0])
    assert truth.offset[:, 1, 9].tolist() == pytest.approx([9.5 - 18.5, 1.0])
    assert truth.inside[1, 1]
    assert not truth.inside[0, 0]
    assert truth.offset[:, 0, 0].tolist() == [0, 0]


def test_where_only_a_tail_is_seen_it_points_at_its_own_middle() -> None:
    truth = centre_truth(*_picture(), stride=2)
    assert truth.offset[:, 6, 2].tolist() == pytest.approx([7.5 - 4.5, 12.5 - 12.5])


def test_the_heat_map_is_highest_at_the_centres() -> None:
    truth = centre_truth(*_picture(), stride=1)
    assert truth.centre[3, 9] == pytest.approx(np.exp(-0.5 * (0.5**2 + 0.5**2) / 25))
    assert truth.centre[10:].argmax() in {row * 24 + column for row in (2, 3) for column in (7, 8)}
    assert truth.centre.max() <= 1


def test_a_speck_of_an_animal_has_no_hill_but_points_at_itself() -> None:
    parts, instances = np.zeros((16, 24), np.uint8), np.zeros((16, 24), np.uint8)
    parts[4:6, 4:8] = BodyPart.BODY
    instances[4:6, 4:8] = 1
    truth = centre_truth(parts, instances, stride=2)
    assert truth.centre.max() == 0
    assert truth.inside.sum() == 2
    assert truth.offset[0, 2, 2] == pytest.approx(1.0)


def test_a_cell_belongs_to_the_animal_that_has_more_of_it() -> None:
    parts, instances = np.full((4, 4), BodyPart.BODY, np.uint8), np.ones((4, 4), np.uint8)
    instances[:, 3] = 2
    instances[0:1, 2] = 2  # three of the four pixels of the cell at the upper right
    truth = centre_truth(parts, instances, stride=2)
    second = np.argwhere(instances == 2).mean(axis=0)
    assert truth.offset[0, 0, 1] == pytest.approx(second[1] - 2.5)


def test_an_empty_picture_has_neither() -> None:
    truth = centre_truth(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), stride=2)
    assert truth.centre.max() == 0
    assert not truth.inside.any()
