"""The ladder: what is tried with a camera that gives nothing, in which order and after which pauses."""

import pytest

from drivers.recovery import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    ON_THE_BUS,
    OPEN_ANEW,
    RecoveryLadder,
    Step,
)

RESTART, OPEN, RESET, BACK = Step.RESTART_STREAM, Step.REOPEN, Step.USB_RESET, Step.REAUTHORIZE


@pytest.fixture
def ladder() -> RecoveryLadder:
    return RecoveryLadder(ON_THE_BUS, longest_pause_s=LONGEST_PAUSE_S)


def test_an_open_camera_has_its_stream_restarted_at_once_and_then_ever_stronger_means(ladder: RecoveryLadder) -> None:
    assert ladder.restart_is_next
    attempts = [ladder.next(open_now=True), *(ladder.next() for _ in range(4))]
    assert [attempt.step for attempt in attempts] == [RESTART, OPEN, OPEN, RESET, BACK]
    assert [attempt.pause_s for attempt in attempts] == [0, 0.5, 1, 2, 4]


def test_after_the_last_step_the_strong_means_go_round_for_ever_every_30_s(ladder: RecoveryLadder) -> None:
    attempts = [ladder.next() for _ in range(300)]
    assert [attempt.step for attempt in attempts[:10]] == [
        OPEN,
        OPEN,
        RESET,
        BACK,
        OPEN,
        RESET,
        BACK,
        OPEN,
        RESET,
        BACK,
    ]
    assert {attempt.pause_s for attempt in attempts[7:]} == {LONGEST_PAUSE_S}
    assert ladder.counts == {OPEN: 101, RESET: 100, BACK: 99}
    assert sum(ladder.counts.values()) == 300


def test_a_camera_that_cannot_be_restarted_because_it_is_closed_is_opened(ladder: RecoveryLadder) -> None:
    assert ladder.next(open_now=False).step is OPEN
    assert not ladder.restart_is_next


def test_a_camera_that_is_not_on_the_bus_is_waited_for_and_never_reset(ladder: RecoveryLadder) -> None:
    assert {ladder.next(attached=False).step for _ in range(20)} == {OPEN}
    ladder.found_anew()
    assert ladder.next(open_now=True).step is RESTART


def test_a_camera_plugged_in_begins_at_the_weakest_means_with_a_short_pause(ladder: RecoveryLadder) -> None:
    for _ in range(10):
        ladder.next()
    ladder.found_anew()
    attempt = ladder.next()
    assert (attempt.step, attempt.pause_s) == (OPEN, FIRST_PAUSE_S)
    assert ladder.current is OPEN


def test_what_is_no_device_is_opened_again_with_growing_pauses() -> None:
    ladder = RecoveryLadder(OPEN_ANEW, longest_pause_s=5)
    attempts = [ladder.next() for _ in range(6)]
    assert {attempt.step for attempt in attempts} == {OPEN}
    assert [attempt.pause_s for attempt in attempts] == [0.5, 1, 2, 4, 5, 5]


def test_recovery_is_over_when_the_camera_is_well_and_what_was_done_stays_counted(ladder: RecoveryLadder) -> None:
    ladder.next(open_now=True)
    ladder.failed(RESTART)
    assert ladder.current is RESTART
    ladder.recovered()
    assert ladder.current is None
    assert (dict(ladder.counts), dict(ladder.failures)) == ({RESTART: 1}, {RESTART: 1})
    assert ladder.restart_is_next


def test_a_ladder_without_opening_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="at least the step reopen"):
        RecoveryLadder((RESET,), longest_pause_s=5)
