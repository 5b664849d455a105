"""The outbox table: messages stored together with what they tell of, until the broker has them."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, delete, func, insert, select

from daemon.messaging.outbox import OutboxMessage, Priority, QueuedMessage
from daemon.store.counters import MESSAGES_DROPPED, count
from daemon.store.schema import outbox

_IDS_A_STATEMENT = 500
"""Well below the number of parameters that any database takes."""


def enqueue(connection: Connection, messages: Sequence[OutboxMessage], *, limit: int) -> None:
    """Append messages; beyond the limit the oldest of the lowest priority give way, alarms never."""
    if not messages:
        return
    connection.execute(
        insert(outbox),
        [
            {
                "topic": message.topic,
                "payload": message.payload,
                "priority": message.priority.value,
                "created_utc_ns": message.created_utc_ns,
            }
            for message in messages
        ],
    )
    excess = depth(connection) - limit
    if excess > 0:
        giving_way = (
            select(outbox.c.id)
            .where(outbox.c.priority < Priority.ALARM.value)
            .order_by(outbox.c.priority, outbox.c.id)
            .limit(excess)
        )
        dropped = connection.execute(delete(outbox).where(outbox.c.id.in_(giving_way))).rowcount
        count(connection, MESSAGES_DROPPED, dropped)


def queued(connection: Connection, *, after_id: int, limit: int) -> list[QueuedMessage]:
    """See `daemon.messaging.outbox.OutboxStore.queued_messages`."""
    statement = (
        select(outbox.c.id, outbox.c.topic, outbox.c.payload)
        .where(outbox.c.id > after_id)
        .order_by(outbox.c.id)
        .limit(limit)
    )
    return [
        QueuedMessage(message_id=message_id, topic=topic, payload=payload)
        for message_id, topic, payload in connection.execute(statement)
    ]


def acknowledge(connection: Connection, message_ids: Sequence[int]) -> None:
    """See `daemon.messaging.outbox.OutboxStore.acknowledge_messages`."""
    for some in _parts(message_ids):
        connection.execute(delete(outbox).where(outbox.c.id.in_(some)))


def depth(connection: Connection) -> int:
    """How many messages wait."""
    return connection.execute(select(func.count()).select_from(outbox)).scalar_one()


def _parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(ids), _IDS_A_STATEMENT):
        yield ids[first : first + _IDS_A_STATEMENT]
