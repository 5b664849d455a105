"""Splits: what is judged on was never nearly seen in training."""

import numpy as np
import pytest

from training.samples import DataError, Moment
from training.split import Split, split_by_session, split_by_time


def frames(session: str, count: int, period_s: float = 1.0, start_s: float = 0.0) -> list[Moment]:
    """A recording."""
    return [Moment(session=session, position_s=start_s + number * period_s) for number in range(count)]


def nearest_s(moments: list[Moment], split: Split) -> float:
    """The least time between a picture of one side and one of the other in the same session."""
    return min(
        abs(moments[one].position_s - moments[other].position_s)
        for one in split.training
        for other in split.validation
        if moments[one].session == moments[other].session
    )


@pytest.mark.parametrize("seed", range(20))
def test_neighbouring_frames_never_land_on_both_sides(seed: int) -> None:
    moments = frames("a", 400) + frames("b", 300, period_s=0.04) + frames("c", 50, period_s=70)
    split = split_by_time(moments, share=0.3, block_s=20, gap_s=5, seed=seed)
    assert nearest_s(moments, split) >= 5
    sides = {index: "training" for index in split.training} | {index: "validation" for index in split.validation}
    for index in range(len(moments) - 1):
        if moments[index].session == moments[index + 1].session:
            assert {sides.get(index), sides.get(index + 1)} != {"training", "validation"}, index


@pytest.mark.parametrize("seed", range(5))
def test_every_picture_is_on_one_side_or_left_out(seed: int) -> None:
    moments = frames("a", 500) + frames("b", 100)
    split = split_by_time(moments, share=0.2, block_s=25, gap_s=4, seed=seed)
    assert sorted((*split.training, *split.validation, *split.left_out)) == list(range(600))
    assert len(split.validation) == pytest.approx(0.2 * 600, abs=25)
    assert len(split.left_out) < 100


def test_frames_slower_than_the_gap_lose_their_next_neighbour_all_the_same() -> None:
    moments = frames("a", 40, period_s=60)
    split = split_by_time(moments, share=0.5, block_s=600, gap_s=1, seed=0)
    assert split.left_out
    assert nearest_s(moments, split) >= 120


def test_the_order_of_the_pictures_does_not_matter() -> None:
    moments = frames("a", 200)
    shuffled = np.random.default_rng(3).permutation(200)
    plain = split_by_time(moments, share=0.3, block_s=20, gap_s=5, seed=1)
    mixed = split_by_time([moments[index] for index in shuffled], share=0.3, block_s=20, gap_s=5, seed=1)
    assert {int(shuffled[index]) for index in mixed.validation} == set(plain.validation)
    assert {int(shuffled[index]) for index in mixed.training} == set(plain.training)


def test_a_seed_gives_the_same_split_and_another_another() -> None:
    moments = frames("a", 400)
    one, same, other = (split_by_time(moments, share=0.3, block_s=20, gap_s=5, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.validation != other.validation


def test_sessions_stay_whole() -> None:
    moments = [moment for name in "abcdefgh" for moment in frames(name, 10 + ord(name) % 7)]
    split = split_by_session(moments, share=0.3, seed=4)
    training = {moments[index].session for index in split.training}
    validation = {moments[index].session for index in split.validation}
    assert not training & validation
    assert training | validation == set("abcdefgh")
    assert len(split.validation) == pytest.approx(0.3 * len(moments), abs=10)
    assert len(split.training) + len(split.validation) == len(moments)


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_neither_side_is_ever_empty(share: float) -> None:
    split = split_by_session(frames("a", 10) + frames("b", 10), share=share, seed=0)
    assert len(split.training) == len(split.validation) == 10


def test_one_session_cannot_be_split_by_session() -> None:
    with pytest.raises(DataError, match="at least two sessions to split by, got 1; split by blocks of time"):
        split_by_session(frames("a", 10), share=0.2, seed=0)


def test_one_block_cannot_be_split_by_time() -> None:
    with pytest.raises(DataError, match="at least two blocks of 100 s, got 1; use shorter ones"):
        split_by_time(frames("a", 10), share=0.2, block_s=100, gap_s=1, seed=0)


def test_a_gap_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="a gap of 1000 s leaves no picture to train on"):
        split_by_time(frames("a", 100), share=0.2, block_s=20, gap_s=1000, seed=0)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="the share must be between 0 and 1"):
        split_by_session(frames("a", 10) + frames("b", 10), share=share, seed=0)
