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


def odd_stand_in(number: int) -> int:
    return number + 1001


def longer(earlier: str, later: str) -> str | None:
    """Tells rows of lost letters as one, at most four in each."""
    return earlier + later if len(earlier + later) <= 4 else None


def test_a_stand_in_takes_the_place_of_what_gave_way() -> None:
    items: HandOff[int] = HandOff(2, even, odd_stand_in)
    for number in (1, 2, 3, 4, 6, 8):
        items.put(number)
    assert len(items) == 6
    assert [items.get(0) for _ in range(6)] == [1, 1003, 3, 1005, 6, 8]


def test_stand_ins_in_a_row_are_told_as_one() -> None:
    items: HandOff[str] = HandOff(2, str.islower, str.upper, longer)
    for letter in "abcdefgh":
        items.put(letter)
    assert items.dropped == 6
    assert [items.get(0) for _ in range(5)] == ["ABCD", "EF", "g", "h", None]


def test_what_is_put_in_is_told_with_the_one_before_but_never_past_something_that_may_be_lost() -> None:
    items: HandOff[str] = HandOff(2, str.islower, str.upper, longer)
    for letter in "AaBCbDc":
        items.put(letter)
    assert [items.get(0) for _ in range(4)] == ["AABC", "b", "D", "c"]


def test_what_waits_does_not_grow_while_the_consumer_stands_still() -> None:
    items: HandOff[tuple[int, ...]] = HandOff(
        4, lambda item: item[0] >= 0, lambda item: (-1, *item), lambda earlier, later: (*earlier[:2], later[-1])
    )
    for number in range(10_000):
        items.put((number,))
    assert items.dropped == 9_996
    assert [items.get(0) for _ in range(5)] == [(-1, 0, 9_995), (9_996,), (9_997,), (9_998,), (9_999,)]


def test_giving_way_looks_at_each_item_only_a_few_times() -> None:
    looked = 0

    def counted(number: int) -> bool:
        nonlocal looked
        looked += 1
        return even(number)

    items: HandOff[int] = HandOff(4, counted, odd_stand_in)
    for number in range(20_000):
        items.put(number)
    assert looked < 5 * 20_000
