"""Sessions and times from the names of pictures."""

import re

import pytest

from training.name_moments import NameRule, moments_of_names
from training.samples import DataError, Moment

PLAIN = NameRule()


@pytest.mark.parametrize(
    ("stem", "session", "number"),
    [
        pytest.param("night3_000017", "night3", 17, id="underscore"),
        pytest.param("rat_frame_00001", "rat_frame", 1, id="published"),
        pytest.param("990003", "", 990003, id="number alone"),
        pytest.param("box-a-7", "box-a", 7, id="hyphen"),
        pytest.param("still", "still", 0, id="no number"),
    ],
)
def test_session_and_place_come_from_the_name(stem: str, session: str, number: int) -> None:
    assert moments_of_names([stem], PLAIN) == [Moment(session=session, position_s=number)]


@pytest.mark.parametrize(
    ("pattern", "session"),
    [
        pytest.param("night3_{:06d}_thermal", "night3_thermal", id="word behind"),
        pytest.param("rat_{}_cam1", "rat_cam1", id="camera behind"),
        pytest.param("2024-05-{:02d} box 7", "2024-05 box 7", id="date in front"),
        pytest.param("cage2/{:04d}", "cage2/", id="folder"),
    ],
)
def test_the_number_that_changes_counts_the_frames(pattern: str, session: str) -> None:
    moments = moments_of_names([pattern.format(number) for number in range(7, 20)], PLAIN)
    assert {moment.session for moment in moments} == {session}
    assert [moment.position_s for moment in moments] == list(range(7, 20))


def test_sessions_of_other_numbers_stay_apart() -> None:
    names = [f"night{night}_{frame}" for night in (3, 4) for frame in range(5)]
    assert [moment.session for moment in moments_of_names(names, PLAIN)] == ["night3"] * 5 + ["night4"] * 5


def test_frames_become_seconds_where_their_rate_is_known() -> None:
    moments = moments_of_names(["a_0", "a_50"], NameRule(fps=25.0))
    assert [moment.position_s for moment in moments] == [0.0, 2.0]


def test_a_session_can_be_found_by_an_expression_or_be_the_folder() -> None:
    names = ["one/x12-rat7-0001", "two/x13-rat7-0002", "two/x14-rat8-0001"]
    told = [
        [moment.session for moment in moments_of_names(names, rule)]
        for rule in (
            NameRule(session=re.compile("rat([0-9]+)")),
            NameRule(session=re.compile("rat[0-9]+")),
            NameRule(by_folder=True),
        )
    ]
    assert told == [["7", "7", "8"], ["rat7", "rat7", "rat8"], ["one", "two", "two"]]
    with pytest.raises(DataError, match=r"one/x12-rat7-0001: session=mouse finds nothing in this name"):
        moments_of_names(names, NameRule(session=re.compile("mouse")))
