"""What a training learns from, and what is held back of it."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.material import FIRST_VALIDATION_SEED, divided
from training.samples import DataError, Source


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


def write_frames(folder: Path, names: Iterable[str]) -> Path:
    """Pictures with masks, all alike."""
    folder.mkdir()
    for name in names:
        np.save(folder / f"{name}.npy", np.full((192, 256), 23.0, np.float32))
        cv2.imwrite(str(folder / f"{name}-parts.png"), np.zeros((192, 256), np.uint8))
    return folder


def numbers_of(source: Source) -> set[float]:
    return {source.moment(index).position_s for index in range(len(source))}


def test_frames_of_one_session_are_held_back_in_blocks_wherever_their_number_stands(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "rats", (f"night3_{number:04d}_left" for number in range(60)))
    found = divided([str(folder)], seed=0)
    learned, watched = numbers_of(found.material.portions[0].source), numbers_of(found.held_back[0])
    assert len(watched) == 12
    assert min(abs(one - other) for one in learned for other in watched) >= 2, "none is next to another"


def test_blocks_are_as_long_as_is_said_once_the_rate_is_known(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "rats", (f"a_{number}" for number in range(0, 600, 10)))
    found = divided([f"{folder}?fps=10&block_s=15"], seed=0)
    watched = sorted(numbers_of(found.held_back[0]))
    assert len(watched) == 15, "a block of 15 s of 60: nearest to a fifth"
    assert watched[-1] - watched[0] == 14
    with pytest.raises(DataError, match=r"at least two blocks of 600 s, got 1; use shorter ones; see session=, fps="):
        divided([f"{folder}?fps=10"], seed=0)
    with pytest.raises(DataError, match="block_s needs fps="):
        divided([f"{folder}?block_s=15"], seed=0)


def test_sessions_are_found_as_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"{number * 7919 % 97:x}x-rat{number % 5}-{'abcdefgh'[number % 8]}" for number in range(40)]
    folder = write_frames(tmp_path / "rats", names)
    held = divided([f"{folder}?session=rat([0-9])"], seed=0).held_back[0]
    assert {held.moment(index).session for index in range(len(held))} < set("01234")
    assert len(held) == 8
    many = tmp_path / "sessions"
    many.mkdir()
    for night in ("one", "two", "three"):
        write_frames(many / night, ("0", "1", "2"))
    assert len(divided([f"{many}?session=folder"], seed=0).held_back[0]) == 3
    assert caplog.text == ""
    divided([str(write_frames(tmp_path / "unnamed", "abcd"))], seed=0)
    assert "each picture is a session of its own" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("fps=0", "positive number such as fps=25"),
        ("block_s=long", "positive number such as block_s=600"),
        ("session=(", "expected session=folder, or session=REGEX"),
        ("session=mouse", "finds nothing in this name"),
        ("session=folder", "expected a folder for each session"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: str, words: str) -> None:
    folder = write_frames(tmp_path / "rats", ("a_1", "a_2"))
    with pytest.raises(DataError, match=words):
        divided([f"{folder}?{options}"], seed=0)
    with pytest.raises(DataError, match="say how names of pictures are read"):
        divided(["scenes:5+9?fps=25"], seed=0)
