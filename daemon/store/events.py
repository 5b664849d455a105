"""Events as rows."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, insert, select

from daemon.events import Event, EventKind, EventState, Severity
from daemon.store.schema import event


def insert_events(connection: Connection, events: Sequence[Event], *, run_id: int) -> None:
    """Store events in their order."""
    if events:
        connection.execute(insert(event), [_row(each, run_id) for each in events])


def _row(each: Event, run_id: int) -> dict[str, object]:
    return {
        "event_id": each.event_id,
        "run_id": run_id,
        "kind": each.kind.value,
        "state": each.state.value,
        "severity": each.severity.value,
        "at_utc_ns": each.at_utc_ns,
        "animal": each.animal,
        "data_json": each.data_json(),
        "opened_event_id": each.opened_event_id,
    }


_EVENT = select(
    event.c.event_id,
    event.c.kind,
    event.c.state,
    event.c.severity,
    event.c.at_utc_ns,
    event.c.animal,
    event.c.data_json,
    event.c.opened_event_id,
)


def open_events(connection: Connection) -> list[Event]:
    """See `Store.open_events`."""
    end = event.alias()
    closed = select(end.c.id).where(end.c.opened_event_id == event.c.event_id).exists()
    return _events(connection, _EVENT.where(event.c.state == EventState.OPENED, ~closed).order_by(event.c.id))


def recent_events(connection: Connection, limit: int) -> list[Event]:
    """See `Store.recent_events`."""
    return _events(connection, _EVENT.order_by(event.c.id.desc()).limit(limit))


def _events(connection: Connection, statement: Select[*tuple[Any, ...]]) -> list[Event]:
    return [
        Event(
            event_id=row.event_id,
            kind=EventKind(row.kind),
            state=EventState(row.state),
            severity=Severity(row.severity),
            at_utc_ns=row.at_utc_ns,
            animal=row.animal,
            data=json.loads(row.data_json),
            opened_event_id=row.opened_event_id,
        )
        for row in connection.execute(statement)
    ]
