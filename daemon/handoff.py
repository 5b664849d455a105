"""The bounded hand-off between threads: the producer never waits."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


def _nothing(_item: object) -> None:
    """Nothing stands in for what gave way."""


def _apart(_earlier: object, _later: object) -> None:
    """No two items can be told as one."""


class HandOff(Generic[Item]):
    """A queue that holds at most `limit` items that may be lost; beyond that the oldest of them gives way, counted.

    Giving way costs the same however much is queued: what stands before the oldest item that may be lost is kept apart
    from what comes after, and each item changes over once at most.

    Parameters
    ----------
    limit : int
        Of items that may be lost; the others (few by nature) always find room.
    may_be_lost : callable
        Whether an item is one of those.
    stand_in : callable
        What takes the place of an item that gives way, if anything; it must be one that may not be lost.
    merge : callable
        One item that tells what two neighbours tell that may not be lost, the earlier one first; None when there is
        none. It bounds how many wait while a consumer stands still: stand-ins for a row of lost items become one.
    """

    def __init__(
        self,
        limit: int,
        may_be_lost: Callable[[Item], bool],
        stand_in: Callable[[Item], Item | None] = _nothing,
        merge: Callable[[Item, Item], Item | None] = _apart,
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        self._limit = limit
        self._may_be_lost = may_be_lost
        self._stand_in = stand_in
        self._merge = merge
        self._before: deque[Item] = deque()
        """None of these may be lost; they come first."""
        self._rest: deque[Item] = deque()
        """Begins with an item that may be lost, or is empty."""
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
            lost = None
            if self._may_be_lost(item):
                self._rest.append(item)
                self._losable += 1
                if self._losable > self._limit:
                    lost = self._drop_oldest()
            else:
                self._keep(item, self._rest or self._before)
            self._changed.notify()
            return lost

    def _drop_oldest(self) -> Item:
        lost = self._rest.popleft()
        self._losable -= 1
        self._dropped += 1
        substitute = self._stand_in(lost)
        if substitute is not None:
            self._keep(substitute, self._before)
        self._sort()
        return lost

    def _sort(self) -> None:
        """Let `_rest` begin with an item that may be lost again."""
        while self._rest and not self._may_be_lost(self._rest[0]):
            self._keep(self._rest.popleft(), self._before)

    def _keep(self, item: Item, queue: deque[Item]) -> None:
        """Append an item that may not be lost, or tell it together with the one before."""
        merged = None
        if queue and not self._may_be_lost(queue[-1]):
            merged = self._merge(queue[-1], item)
        if merged is None:
            queue.append(item)
        else:
            queue[-1] = merged

    def get(self, timeout_s: float) -> Item | None:
        """The oldest item; None when nothing came within `timeout_s` or the hand-off is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._before or self._rest or self._closed, timeout=timeout_s)
            if self._before:
                return self._before.popleft()
            if not self._rest:
                return None
            self._losable -= 1
            item = self._rest.popleft()
            self._sort()
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
            return self._closed and not self._before and not self._rest

    def __len__(self) -> int:
        with self._changed:
            return len(self._before) + len(self._rest)
