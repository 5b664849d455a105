"""Numbers that stay with their animals as long as position can tell."""

import numpy as np
import pytest

from daemon.track import NearestNumbering
from daemon.vision.parts import BodyPart, Segmentation


def picture(*animals: tuple[int, int], tail_at: tuple[int, int] | None = None) -> Segmentation:
    """Animals as squares around (x, y), the first is instance 1; it may have a large tail elsewhere."""
    parts = np.zeros((192, 256), np.uint8)
    instances = np.zeros_like(parts)
    for instance, (x, y) in enumerate(animals, start=1):
        parts[y - 2 : y + 3, x - 2 : x + 3] = BodyPart.BODY
        instances[y - 2 : y + 3, x - 2 : x + 3] = instance
    if tail_at is not None:
        x, y = tail_at
        parts[y - 5 : y + 6, x - 5 : x + 6] = BodyPart.TAIL
        instances[y - 5 : y + 6, x - 5 : x + 6] = 1
    return Segmentation(parts=parts, instances=instances)


def test_numbers_begin_with_one_in_the_order_of_the_instances() -> None:
    assert NearestNumbering(3).number(picture((20, 20), (200, 20), (100, 100))) == {1: 1, 2: 2, 3: 3}


def test_a_number_stays_with_its_animal_when_the_instances_change_places() -> None:
    numbering = NearestNumbering(2)
    numbering.number(picture((20, 20), (200, 20)))
    assert numbering.number(picture((190, 25), (30, 25))) == {1: 2, 2: 1}


def test_the_assignment_has_the_least_sum_of_distances() -> None:
    numbering = NearestNumbering(2)
    numbering.number(picture((100, 50), (130, 50)))
    # Instance 1 is nearest to where animal 2 was (7 px), but so is instance 2 (20 px), and together they are
    # closest the other way round: 23 + 20 = 43 px against 7 + 50 = 57 px.
    assert numbering.number(picture((123, 50), (150, 50))) == {1: 1, 2: 2}


def test_a_hidden_animal_keeps_its_number() -> None:
    numbering = NearestNumbering(2)
    numbering.number(picture((20, 20), (200, 20)))
    for _ in range(50):
        assert numbering.number(picture((202, 20))) == {1: 2}
    assert numbering.number(picture((200, 20), (40, 40))) == {1: 2, 2: 1}


def test_an_animal_far_from_all_that_were_seen_is_a_new_one_while_there_is_one() -> None:
    numbering = NearestNumbering(2, gate_px=64)
    numbering.number(picture((20, 20)))
    assert numbering.number(picture((200, 20))) == {1: 2}
    assert numbering.number(picture((20, 22), (200, 22))) == {1: 1, 2: 2}


def test_a_single_animal_is_always_number_one_however_far_it_went() -> None:
    numbering = NearestNumbering(1)
    numbering.number(picture((20, 20)))
    assert numbering.number(picture((230, 170))) == {1: 1}


def test_all_numbers_taken_a_far_animal_is_the_hidden_one() -> None:
    numbering = NearestNumbering(2)
    numbering.number(picture((20, 20), (60, 20)))
    assert numbering.number(picture((22, 20), (230, 170))) == {1: 1, 2: 2}


def test_more_instances_than_animals_leave_the_farthest_without_a_number() -> None:
    numbering = NearestNumbering(2)
    numbering.number(picture((20, 20), (200, 20)))
    assert numbering.number(picture((100, 170), (20, 25), (200, 25))) == {2: 1, 3: 2}


def test_a_swinging_tail_does_not_move_its_animal() -> None:
    numbering = NearestNumbering(2)
    numbering.number(picture((100, 50), (130, 50), tail_at=(40, 50)))
    assert numbering.number(picture((100, 50), (130, 50), tail_at=(160, 50))) == {1: 1, 2: 2}


def test_an_animal_of_which_only_the_tail_is_seen_is_where_its_tail_is() -> None:
    numbering = NearestNumbering(2)
    numbering.number(picture((20, 20), (200, 20)))
    assert numbering.number(picture(tail_at=(190, 30))) == {1: 2}


def test_nothing_seen_is_nobody() -> None:
    numbering = NearestNumbering(2)
    assert numbering.number(picture()) == {}
    numbering.number(picture((20, 20)))
    assert numbering.number(picture()) == {}
    assert numbering.number(picture((25, 20))) == {1: 1}


@pytest.mark.parametrize(("animals", "gate_px"), [(0, 64.0), (1, 0.0), (1, float("nan"))])
def test_impossible_settings_are_refused(animals: int, gate_px: float) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        NearestNumbering(animals, gate_px)
