"""The queue of messages that must arrive: a table, seen from the publisher's side."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class Priority(IntEnum):
    """What gives way first when the outbox is full: the lowest number, oldest first. `ALARM` is never dropped."""

    ROUTINE = 0
    NOTICE = 1
    ALARM = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """A message to be stored in the same transaction as what it tells of."""

    topic: str
    """Below the base topic of the box, for instance `event/camera_lost`."""
    payload: bytes
    created_utc_ns: int
    priority: Priority = Priority.NOTICE


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedMessage:
    """A stored message on its way."""

    message_id: int
    """Rising in the order of creation."""
    topic: str
    payload: bytes


class OutboxStore(Protocol):
    """What the publisher needs of the database. All methods may be called from any thread.

    A method that cannot work at present raises `drivers.errors.StoreError`; the publisher calls it again later.
    """

    def queued_messages(self, *, after_id: int, limit: int) -> Sequence[QueuedMessage]:
        """Unacknowledged messages with a greater id, oldest first."""
        ...

    def acknowledge_messages(self, message_ids: Sequence[int]) -> None:
        """The broker has taken responsibility for these: they leave the queue."""
        ...

    def outbox_depth(self) -> int:
        """How many messages wait."""
        ...

    def outbox_dropped(self) -> int:
        """How many messages gave way to the limit since the database was made."""
        ...
