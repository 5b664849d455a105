"""The hand-off: bounded, never waiting, nothing lost that may not be lost."""

import threading

import pytest

from daemon.handoff import HandOff


def even(number: int) -> bool:
    return number % 2 == 0


def test_items_come_out_in_the_order_they_went_in() -> None:
    items: HandOff[int] = HandOff(8, even)
    for number in (1, 2, 3, 4):
        items.put(number)
    assert [items.get(0) for _ in range(5)] == [1, 2, 3, 4, None]


def test_beyond_the_limit_the_oldest_that_may_be_lost_gives_way() -> None:
    items: HandOff[int] = HandOff(2, even)
    lost = [items.put(number) for number in (1, 2, 4, 3, 6)]
    assert lost == [None, None, None, None, 2]
    assert items.dropped == 1
    assert [items.get(0) for _ in range(4)] == [1, 4, 3, 6]


def test_what_may_not_be_lost_always_finds_room() -> None:
    items: HandOff[int] = HandOff(1, even)
    for number in range(1, 2001, 2):
        assert items.put(number) is None
    assert len(items) == 1000


def test_a_consumed_item_makes_room_again() -> None:
    items: HandOff[int] = HandOff(1, even)
    items.put(2)
    assert items.get(0) == 2
    assert items.put(4) is None


def test_closing_wakes_a_waiting_consumer_and_leaves_what_is_queued() -> None:
    items: HandOff[int] = HandOff(1, even)
    got: list[int | None] = []
    consumer = threading.Thread(target=lambda: got.append(items.get(60)))
    consumer.start()
    items.close()
    consumer.join(timeout=10)
    assert got == [None]
    items.put(3)
    assert not items.exhausted
    assert items.get(0) == 3
    assert items.exhausted


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        HandOff(0, even)
