"""The outbox table: messages stored together with what they tell of, until the broker has them."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, LargeBinary, delete, func, insert, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from daemon.messaging.outbox import OutboxMessage, Priority, QueuedMessage
from daemon.store.counters import MESSAGES_DROPPED, count
from daemon.store.schema import Whole, dead_letter, outbox

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
    statement = _STORED.where(outbox.c.id > after_id).order_by(outbox.c.id).limit(limit)
    found: list[QueuedMessage] = []
    while not found:  # a run of unreadable ones as long as the limit must not look like the end
        rows = connection.execute(statement.where(outbox.c.id > after_id)).all()
        found = [
            QueuedMessage(message_id=row.id, topic=row.topic.decode(), payload=row.payload)
            for row in rows
            if _why_no_topic(row.topic) is None  # the next start sets the others aside
        ]
        if len(rows) < limit:
            break
        after_id = rows[-1].id
    return found


class _Bytes(FunctionElement[bytes]):
    """Text as the bytes that it is stored as: text that is none would end the query."""

    type = LargeBinary()
    inherit_cache = True
    name = "bytes"


@compiles(_Bytes)
def _cast(element: _Bytes, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS BLOB)"


@compiles(_Bytes, "postgresql")
def _convert(element: _Bytes, compiler: SQLCompiler, **options: Any) -> str:
    # A cast would take each backslash for the beginning of an escape.
    return f"convert_to({compiler.process(element.clauses, **options)}, 'UTF8')"


_TOPIC = _Bytes(outbox.c.topic)
_STORED = select(outbox.c.id, _TOPIC.label("topic"), outbox.c.payload)


_NOT_IN_A_TOPIC = re.compile(r"[\x00-\x1f\x7f+#]")
"""What MQTT forbids in the topic of a message, or may end a connection."""


def _why_no_topic(topic: bytes) -> str | None:
    """Why nothing can be published under this; None when it can."""
    try:
        text = topic.decode()
    except UnicodeDecodeError as error:
        return f"its topic is no text: {error}"
    return f"its topic is none: {text!r}" if not text or _NOT_IN_A_TOPIC.search(text) else None


def _why_unreadable(topic: bytes, payload: bytes) -> str | None:
    """Why a message is not one that this program has made; None when it may be."""
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError) as error:
        return f"its payload is no JSON: {error}"
    return _why_no_topic(topic) or (None if isinstance(body, dict) else f"its payload is no object: {payload[:80]!r}")


def set_aside_unreadable(connection: Connection, *, at_utc_ns: int) -> int:
    """See `Store.set_aside_unreadable_messages`."""
    damaged = [
        {"id": row.id, "reason": reason}
        for row in connection.execute(_STORED.order_by(outbox.c.id))
        if (reason := _why_unreadable(row.topic, row.payload)) is not None
    ]
    for each in damaged:
        found = select(
            _TOPIC,
            outbox.c.payload,
            outbox.c.created_utc_ns,
            literal(at_utc_ns, Whole),
            literal(each["reason"]),
        ).where(outbox.c.id == each["id"])
        columns = ["topic", "payload", "created_utc_ns", "set_aside_utc_ns", "reason"]
        connection.execute(insert(dead_letter).from_select(columns, found))
    acknowledge(connection, [each["id"] for each in damaged])
    return len(damaged)


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
