"""Which end is the head."""

import numpy as np
import pytest

from daemon.heading import Heading
from daemon.sighting import Sighting
from daemon.vision.parts import BodyPart

STILL = (0.0, 0.0)


def labelled(*, head_x: float, tail_x: float, head_celsius: float, tail_celsius: float) -> Sighting:
    """An animal that lies along a row, its body in the middle."""
    return Sighting(
        instance=1,
        pixels=np.arange(10),
        x_px=(head_x + tail_x) / 2,
        y_px=50.0,
        trunk_px=400,
        head_px=80,
        centres={
            BodyPart.HEAD: (head_x, 50.0),
            BodyPart.BODY: ((head_x + tail_x) / 2, 50.0),
            BodyPart.TAIL: (tail_x, 50.0),
        },
        celsius={BodyPart.HEAD: head_celsius, BodyPart.BODY: 32.0, BodyPart.TAIL: tail_celsius},
    )


@pytest.mark.parametrize(("elsewhere_celsius", "swapped"), [(30.5, True), (35.0, False)])
def test_labels_of_one_look_that_turn_round_are_swapped_unless_that_made_the_tail_the_warmer_end(
    elsewhere_celsius: float, swapped: bool
) -> None:
    heading = Heading()
    for _ in range(50):
        assert not heading.look(labelled(head_x=80, tail_x=20, head_celsius=31.0, tail_celsius=30.0), STILL, 0.04)
    turned = labelled(head_x=20, tail_x=80, head_celsius=elsewhere_celsius, tail_celsius=31.0)
    assert heading.look(turned, STILL, 0.04) is swapped


def test_an_end_that_is_much_colder_is_never_the_head() -> None:
    heading = Heading()
    for _ in range(50):
        assert heading.look(labelled(head_x=80, tail_x=20, head_celsius=26.4, tail_celsius=31.0), STILL, 0.04)
