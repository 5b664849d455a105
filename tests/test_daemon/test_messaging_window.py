"""The window over the outbox, without any broker."""

from typing import TYPE_CHECKING

import pytest

from daemon.messaging.window import FLUSH_AFTER_S, FLUSH_MESSAGES, REFUSED_PAUSE_S, WINDOW_MESSAGES, OutboxWindow
from drivers.clock import SimulatedClock

if TYPE_CHECKING:
    from tests.test_daemon.conftest import ListOutbox


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(0)


@pytest.fixture
def window(outbox: "ListOutbox", clock: SimulatedClock) -> OutboxWindow:
    return OutboxWindow(outbox, clock)


def send_all(window: OutboxWindow) -> list[int]:
    """Send until the window lets no more through; the key of a message is its id."""
    sent = []
    while (message := window.next_message()) is not None:
        window.sent(message.message_id)
        sent.append(message.message_id)
    return sent


def fill(outbox: "ListOutbox", window: OutboxWindow, count: int) -> None:
    outbox.add("event/x", [b"%d" % number for number in range(count)])
    window.notify()


def test_an_empty_outbox_has_nothing_to_send(window: OutboxWindow) -> None:
    window.restart()
    assert window.next_message() is None
    assert window.settled


def test_messages_come_in_order_up_to_the_window(outbox: "ListOutbox", window: OutboxWindow) -> None:
    fill(outbox, window, WINDOW_MESSAGES + 50)
    assert send_all(window) == list(range(1, WINDOW_MESSAGES + 1))
    assert window.in_flight == WINDOW_MESSAGES


def test_a_confirmed_message_makes_room_only_when_it_is_deleted(outbox: "ListOutbox", window: OutboxWindow) -> None:
    fill(outbox, window, WINDOW_MESSAGES + 1)
    send_all(window)
    window.confirm(1)
    assert send_all(window) == []
    window.flush()
    assert send_all(window) == [WINDOW_MESSAGES + 1]


def test_confirmed_messages_are_deleted_together(outbox: "ListOutbox", window: OutboxWindow) -> None:
    fill(outbox, window, FLUSH_MESSAGES)
    for number in send_all(window):
        window.flush_if_due()
        assert outbox.deletions == []
        window.confirm(number)
    window.flush_if_due()
    assert outbox.deletions == [FLUSH_MESSAGES]


def test_a_lonely_message_is_deleted_a_moment_later(
    outbox: "ListOutbox", window: OutboxWindow, clock: SimulatedClock
) -> None:
    fill(outbox, window, 1)
    send_all(window)
    window.confirm(1)
    window.flush_if_due()
    assert outbox.deletions == []
    assert window.wait_s(10) == pytest.approx(FLUSH_AFTER_S)
    clock.advance(FLUSH_AFTER_S)
    window.flush_if_due()
    assert outbox.deletions == [1]
    assert window.wait_s(10) == 10


def test_after_a_restart_only_unconfirmed_messages_are_sent_again(outbox: "ListOutbox", window: OutboxWindow) -> None:
    fill(outbox, window, 5)
    send_all(window)
    window.confirm(1)
    window.confirm(2)
    window.restart()  # not yet deleted, but known to have arrived
    assert send_all(window) == [3, 4, 5]


def test_messages_stored_during_a_walk_are_found(outbox: "ListOutbox", window: OutboxWindow) -> None:
    fill(outbox, window, 2)
    assert send_all(window) == [1, 2]
    outbox.add("event/x", [b"late"])
    assert send_all(window) == []  # nobody told
    window.notify()
    assert send_all(window) == [3]


def test_unknown_confirmations_are_ignored(outbox: "ListOutbox", window: OutboxWindow) -> None:
    window.confirm(99)
    window.flush()
    assert (window.confirmed, outbox.deletions) == (0, [])


def test_a_refused_message_stays_and_is_tried_again_after_a_pause(
    outbox: "ListOutbox", window: OutboxWindow, clock: SimulatedClock
) -> None:
    fill(outbox, window, 3)
    send_all(window)
    window.confirm(1)
    window.refuse(2)
    clock.advance(REFUSED_PAUSE_S)
    assert send_all(window) == []  # the third is still on its way: order is kept
    assert window.wait_s(10) <= 10
    window.confirm(3)
    window.flush()
    assert send_all(window) == [2]
    assert outbox.outbox_depth() == 1


def test_a_failing_store_is_asked_again_later_and_told_of_once(
    outbox: "ListOutbox", window: OutboxWindow, clock: SimulatedClock, caplog: pytest.LogCaptureFixture
) -> None:
    fill(outbox, window, 3)
    outbox.fails = True
    assert send_all(window) == []
    assert 0 < window.wait_s(10) < 10
    for _ in range(3):
        clock.advance(2)
        assert send_all(window) == []
    outbox.fails = False
    clock.advance(2)
    assert send_all(window) == [1, 2, 3]
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


def test_while_deleting_fails_no_more_than_a_window_goes_out(
    outbox: "ListOutbox", window: OutboxWindow, clock: SimulatedClock
) -> None:
    fill(outbox, window, 3 * WINDOW_MESSAGES)
    sent = send_all(window)
    outbox.fails = True
    for number in sent:
        window.confirm(number)
    for _ in range(5):
        clock.advance(2)
        window.flush_if_due()
        sent += send_all(window)
    assert sent == list(range(1, WINDOW_MESSAGES + 1))
    outbox.fails = False
    clock.advance(2)
    window.flush_if_due()
    assert send_all(window)[0] == WINDOW_MESSAGES + 1
