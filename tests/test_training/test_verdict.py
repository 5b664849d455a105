"""One picture judged: parts, animals, ends, and the degrees that a wrong mask costs."""

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.vision.parts import BodyPart
from drivers.vivarium.truth import Contact
from training.samples import Sample
from training.verdict import Found, judge

Labels = NDArray[np.uint8]
SHAPE = (192, 256)


def animal(parts: Labels, instances: Labels, number: int, left: int, top: int) -> None:
    """Paint one that looks to the left: head 10 x 10, body 30 x 10, tail 20 x 2."""
    parts[top : top + 10, left : left + 10] = BodyPart.HEAD
    parts[top : top + 10, left + 10 : left + 40] = BodyPart.BODY
    parts[top + 4 : top + 6, left + 40 : left + 60] = BodyPart.TAIL
    instances[top : top + 10, left : left + 40] = number
    instances[top + 4 : top + 6, left + 40 : left + 60] = number


def two() -> tuple[Labels, Labels]:
    """Two animals, far apart."""
    parts, instances = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    animal(parts, instances, 1, 20, 20)
    animal(parts, instances, 2, 20, 100)
    return parts, instances


def warm(parts: Labels) -> NDArray[np.float32]:
    """Floor 23 °C, head 32, body 30, tail 26."""
    return np.array((23, 32, 30, 26), np.float32)[parts]


def truth(parts: Labels, instances: Labels | None, **more: object) -> Sample:
    """A picture of them without noise."""
    celsius = warm(parts)
    return Sample(
        name="by hand",
        celsius=celsius + np.float32(0.5),
        parts=parts,
        instances=instances,
        surface_celsius=celsius,
        contact=Contact.APART,
        **more,  # type: ignore[arg-type]
    )


def test_labels_that_are_right_are_perfect() -> None:
    parts, instances = two()
    verdict = judge(truth(parts, instances), Found(parts=parts.copy(), instances=instances.copy()))
    assert verdict.score == 1
    assert set(verdict.part_iou.values()) == set(verdict.boundary_f1.values()) == {1.0}
    assert verdict.tail_centerline_dice == 1
    assert verdict.animals is not None
    assert verdict.animals.count_error == 0
    assert verdict.animals.instance_iou == (1, 1)
    assert verdict.animals.ends_right == (True, True)
    assert [one.error_celsius for one in verdict.animals.temperatures] == [0] * 6


def test_the_confusion_counts_pixels_of_the_true_label_by_row() -> None:
    parts, instances = two()
    found = parts.copy()
    found[20:30, 20:25] = BodyPart.BODY
    verdict = judge(truth(parts, instances), Found(parts=found, instances=instances))
    assert verdict.confusion.sum() == 192 * 256
    assert verdict.confusion[BodyPart.HEAD].tolist() == [0, 150, 50, 0]
    assert verdict.part_iou[BodyPart.HEAD] == pytest.approx(150 / 200)
    assert verdict.part_iou[BodyPart.BODY] == pytest.approx(600 / 650)


def test_a_mask_that_takes_in_floor_makes_its_part_too_cold_by_its_share() -> None:
    parts, instances = two()
    found, found_instances = parts.copy(), instances.copy()
    found[18:20, 30:60] = BodyPart.BODY  # 60 pixels of floor on 300 of body
    found_instances[18:20, 30:60] = 1
    verdict = judge(truth(parts, instances), Found(parts=found, instances=found_instances))
    assert verdict.animals is not None
    errors = {(index // 3, one.part): one.error_celsius for index, one in enumerate(verdict.animals.temperatures)}
    assert errors[0, BodyPart.BODY] == pytest.approx(60 / 360 * (23 - 30))
    assert [error for key, error in errors.items() if key != (0, BodyPart.BODY)] == pytest.approx([0] * 5)


def test_a_part_that_was_not_found_has_no_temperature_but_is_counted() -> None:
    parts, instances = two()
    found, found_instances = parts.copy(), instances.copy()
    found_instances[found == BodyPart.TAIL] = 0
    found[found == BodyPart.TAIL] = 0
    verdict = judge(truth(parts, instances), Found(parts=found, instances=found_instances))
    assert verdict.animals is not None
    tails = [one.error_celsius for one in verdict.animals.temperatures if one.part is BodyPart.TAIL]
    assert tails == [None, None]
    assert verdict.tail_centerline_dice == 0
    assert verdict.animals.ends_right == (), "without a tail nobody knows"


def test_colours_without_a_scale_have_no_temperature_error() -> None:
    parts, instances = two()
    verdict = judge(truth(parts, instances, degrees_known=False), Found(parts=parts, instances=instances))
    assert verdict.animals is not None
    assert verdict.animals.temperatures == ()


def test_two_animals_taken_for_one_are_one_too_few() -> None:
    parts, instances = two()
    verdict = judge(truth(parts, instances), Found(parts=parts, instances=(instances > 0).astype(np.uint8)))
    assert verdict.animals is not None
    assert verdict.animals.count_error == -1
    assert sorted(verdict.animals.instance_iou) == [0, 0.5]
    assert verdict.score == 0, "its labels are right, but no animal is"


def test_a_tail_given_to_the_wrong_animal_is_a_false_tail() -> None:
    parts, instances = two()
    exchanged = instances.copy()
    exchanged[parts == BodyPart.TAIL] = 3 - instances[parts == BodyPart.TAIL]
    verdict = judge(truth(parts, instances), Found(parts=parts, instances=exchanged))
    assert verdict.animals is not None
    assert verdict.animals.part_overlaps[BodyPart.HEAD].tolist() == [[1, 0], [0, 1]]
    assert verdict.animals.part_overlaps[BodyPart.TAIL].tolist() == [[0, 1], [1, 0]]


def test_a_head_at_the_tail_is_at_the_wrong_end() -> None:
    parts, instances = two()
    turned = parts.copy()
    first = instances == 1
    turned[first & (parts == BodyPart.HEAD)] = BodyPart.TAIL
    turned[first & (parts == BodyPart.TAIL)] = BodyPart.HEAD
    verdict = judge(truth(parts, instances), Found(parts=turned, instances=instances))
    assert verdict.animals is not None
    assert verdict.animals.ends_right == (False, True)


@pytest.mark.parametrize("moved", [BodyPart.HEAD, BodyPart.TAIL], ids=["head", "tail"])
def test_both_ends_must_be_right(moved: BodyPart) -> None:
    parts, instances = two()
    first, wrong = instances == 1, parts.copy()
    wrong[first & (parts == moved)] = BodyPart.BODY
    end = first & (parts == (BodyPart.HEAD if moved is BodyPart.TAIL else BodyPart.TAIL))
    rows, columns = np.nonzero(end)
    wrong[rows[: len(rows) // 2], columns[: len(rows) // 2]] = moved  # beside the other one, which stays
    verdict = judge(truth(parts, instances), Found(parts=wrong, instances=instances))
    assert verdict.animals is not None
    assert verdict.animals.ends_right == (False, True)


def test_an_animal_is_as_sure_as_its_pixels_are_on_average() -> None:
    parts, instances = two()
    confidence = np.full(SHAPE, 0.9, np.float32)
    confidence[instances == 2] = 0.6
    verdict = judge(truth(parts, instances), Found(parts=parts, instances=instances, confidence=confidence))
    assert verdict.animals is not None
    assert verdict.animals.detections.scores == pytest.approx((0.9, 0.6))


def test_an_empty_box_seen_as_empty_is_perfect_and_with_an_invented_animal_worthless() -> None:
    empty = np.zeros(SHAPE, np.uint8)
    right = judge(truth(empty, empty.copy()), Found(parts=empty, instances=empty))
    assert right.score == 1
    assert right.animals is not None
    assert right.animals.count_error == 0
    parts, instances = two()
    wrong = judge(truth(empty, empty.copy()), Found(parts=parts, instances=instances))
    assert wrong.score == 0


def test_without_animals_told_apart_only_pixels_are_judged() -> None:
    parts, _ = two()
    verdict = judge(truth(parts, None), Found(parts=parts, instances=parts))
    assert verdict.animals is None
    assert verdict.score == 1


def test_labels_of_another_size_are_refused() -> None:
    parts, instances = two()
    with pytest.raises(ValueError, match=r"by hand: expected parts of shape \(192, 256\), got \(96, 128\)"):
        judge(truth(parts, instances), Found(parts=parts[::2, ::2], instances=instances[::2, ::2]))
