"""The bounded hand-off between threads: the producer never waits."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


def _nothing(_item: object) -> None:
    """Nothing stands in for what gave way."""


class HandOff(Generic[Item]):
    """A queue that holds at most `limit` items that may be lost; beyond that the oldest of them gives way, counted.

    Parameters
    ----------
    limit : int
        Of items that may be lost; the others (few by nature) always find room.
    may_be_lost : callable
        Whether an item is one of those.
    stand_in : callable
        What takes the place of an item that gives way, if anything; it must be one that may not be lost.
    """

    def __init__(
        self, limit: int, may_be_lost: Callable[[Item], bool], stand_in: Callable[[Item], Item | None] = _nothing
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        self._limit = limit
        self._may_be_lost = may_be_lost
        self._stand_in = stand_in
        self._items: deque[Item] = deque()
        self._losable = 0
        self._dropped = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def dropped(self) -> int:
        """How many items gave way so far."""
        return self._dropped

    def put(self, item: Item) -> Item | None:
        """Add an item without waiting; returns the one that gave way for it, if any."""
        with self._changed:
            self._items.append(item)
            lost = None
            if self._may_be_lost(item):
                self._losable += 1
                if self._losable > self._limit:
                    lost = self._drop_oldest()
            self._changed.notify()
            return lost

    def _drop_oldest(self) -> Item:
        index = next(index for index, item in enumerate(self._items) if self._may_be_lost(item))
        lost = self._items[index]
        substitute = self._stand_in(lost)
        if substitute is None:
            del self._items[index]
        else:
            self._items[index] = substitute
        self._losable -= 1
        self._dropped += 1
        return lost

    def get(self, timeout_s: float) -> Item | None:
        """The oldest item; None when nothing came within `timeout_s` or the hand-off is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout=timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            if self._may_be_lost(item):
                self._losable -= 1
            return item

    def close(self) -> None:
        """Wake the consumer: what is queued can still be taken, then `exhausted` is true."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def exhausted(self) -> bool:
        """Closed, and everything taken."""
        with self._changed:
            return self._closed and not self._items

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)
