"""IDF1, swaps and the share that is not known, worked out by hand."""

import pytest

from daemon.identity_score import IdentityCount


def test_names_that_stay_are_right_whatever_they_are() -> None:
    count = IdentityCount()
    for _ in range(10):
        count.add({1: 2, 2: 1})
    score = count.score(rate_hz=1)
    assert (score.idf1, score.wrong_share, score.unresolved_share, score.swaps) == (1, 0, 0, 0)
    assert score.animal_hours == pytest.approx(20 / 3600)


def test_a_swap_counts_for_both_and_what_comes_after_it_is_wrong() -> None:
    count = IdentityCount()
    for frame in range(10):
        count.add({1: 1, 2: 2} if frame < 7 else {1: 2, 2: 1})
    score = count.score(rate_hz=1)
    # IDTP 14, IDFP 6, IDFN 6.
    assert score.idf1 == pytest.approx(28 / 40)
    assert score.wrong_share == pytest.approx(6 / 20)
    assert score.swaps == 2
    assert score.swaps_per_animal_hour == pytest.approx(2 / (20 / 3600))


def test_what_is_not_named_is_missed_but_not_wrong() -> None:
    count = IdentityCount()
    for frame in range(10):
        count.add({1: 1, 2: None if frame < 4 else 2})
    score = count.score(rate_hz=25)
    # IDTP 16, IDFP 0, IDFN 4.
    assert score.idf1 == pytest.approx(32 / 36)
    assert (score.wrong_share, score.unresolved_share, score.swaps) == (0, 0.2, 0)


def test_names_are_matched_one_to_one() -> None:
    count = IdentityCount()
    for _ in range(5):
        count.add({1: 1, 2: 1})
    assert count.score(rate_hz=1).idf1 == pytest.approx(10 / 20)


def test_nothing_seen_has_no_score() -> None:
    score = IdentityCount().score(rate_hz=1)
    assert (score.idf1, score.wrong_share, score.unresolved_share, score.swaps_per_animal_hour) == (None,) * 4
