"""What a training learns from, and what is held back of it."""

import pytest

from training.material import FIRST_VALIDATION_SEED, divided
from training.samples import DataError


def test_fresh_scenes_alone_hold_nothing_back() -> None:
    found = divided(["scenes"], seed=0)
    assert found.material.scenes_weight == 1
    assert found.material.portions == ()
    assert found.held_back == ()


def test_a_fifth_of_other_pictures_is_held_back_and_weights_are_kept() -> None:
    found = divided(["scenes?weight=3", "scenes:800000+40?weight=0.5"], seed=1)
    (portion,), (held,) = found.material.portions, found.held_back
    assert (found.material.scenes_weight, portion.weight) == (3, 0.5)
    assert (len(portion.source), len(held)) == (32, 8)
    learned = {portion.source.moment(index).session for index in range(32)}
    watched = {held.moment(index).session for index in range(8)}
    assert not learned & watched


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        pytest.param([f"scenes:{FIRST_VALIDATION_SEED - 1}+2"], "for watching and judging", id="watched scenes"),
        pytest.param(["scenes:989999+2"], "for watching and judging", id="test scenes"),
        pytest.param(["scenes?weight=-1"], "positive weight", id="negative"),
        pytest.param(["scenes?weight=much"], "positive weight", id="no number"),
        pytest.param([], "at least one source", id="nothing"),
        pytest.param(["/no/such/folder"], "no such file", id="absent"),
    ],
)
def test_material_that_must_not_or_cannot_be_learned_from_is_refused(specs: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        divided(specs, seed=0)
