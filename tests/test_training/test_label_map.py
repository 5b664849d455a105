"""Foreign labels: explained or refused, and doubted where a head is as thin as a tail."""

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.vision.parts import BodyPart
from training.label_map import OWN_LABELS, LabelMap, doubtful_heads, slenderness
from training.samples import DataError


def test_a_map_turns_foreign_numbers_into_parts() -> None:
    labels = LabelMap.parse("1=tail, 2=body,3=Head")
    found = labels.apply(np.array(((0, 1, 2, 3),)), "mask.png")
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, BodyPart.TAIL, BodyPart.BODY, BodyPart.HEAD]]
    assert str(labels) == "1=tail,2=body,3=head"


def test_a_number_may_be_background_and_zero_may_be_a_part() -> None:
    labels = LabelMap.parse("255=background,0=body")
    assert labels.apply(np.array(((0, 255),)), "mask.png").tolist() == [[BodyPart.BODY, 0]]


def test_a_number_without_a_name_is_refused_with_file_and_number() -> None:
    with pytest.raises(DataError, match=r"mask\.png: expected the labels 0, 1, 2, got also 4, 9; name them too"):
        LabelMap.parse("1=tail,2=body").apply(np.array(((1, 9, 4),)), "mask.png")


@pytest.mark.parametrize("text", ["", "1", "tail=1", "1=nose", "1=tail;2=body", "-1=tail", "1=tail,"])
def test_a_text_that_is_no_map_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="expected NUMBER=NAME with background, head, body, tail as names"):
        LabelMap.parse(text)


def drawn(head: int, tail: int) -> NDArray[np.uint8]:
    """A round part and a long, thin one with these labels."""
    mask = np.zeros((192, 256), np.uint8)
    mask[50:74, 40:60] = head
    mask[60:64, 90:150] = tail
    return mask


def test_slenderness_is_length_over_width() -> None:
    mask = drawn(0, 3)
    assert slenderness(mask == 3) == pytest.approx(60 / 4, rel=0.1)
    assert np.isnan(slenderness(mask == 1))


def test_exchanged_labels_are_doubted_and_right_ones_are_not() -> None:
    right, exchanged = drawn(BodyPart.HEAD, BodyPart.TAIL), drawn(BodyPart.TAIL, BodyPart.HEAD)
    assert doubtful_heads([right] * 3) is None
    doubt = doubtful_heads([exchanged] * 3)
    assert doubt is not None
    assert "times longer than wide, which a tail is" in doubt
    assert doubtful_heads([right, right, exchanged]) is None, "one odd picture is no rule"
    assert doubtful_heads([np.zeros_like(right)]) is None


def test_labels_of_the_project_stay_as_they_are() -> None:
    assert OWN_LABELS.apply(np.array(((0, 1, 2, 3),)), "x").tolist() == [[0, 1, 2, 3]]
