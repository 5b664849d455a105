"""Events as rows."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, or_, select

from daemon.events import IDENTITY_CORRECTION, Event, EventKind, EventState, NumberedEvent, Severity
from daemon.store.counters import EVENT_SEQ, count, counted
from daemon.store.schema import corrected_event, event, identity_correction, run

_NS_PER_MS = 1_000_000


def insert_events(connection: Connection, events: Sequence[Event], *, run_id: int) -> list[NumberedEvent]:
    """Store events in their order; each gets the next number, which is also its primary key.

    The number is counted apart from the rows: it does not come again when the newest of them are deleted.
    """
    if not events:
        return []
    boot_id = connection.execute(select(run.c.boot_id).where(run.c.id == run_id)).scalar() or ""
    first = _last_seq(connection) + 1
    numbered = [NumberedEvent(event=each, seq=seq, boot_id=boot_id) for seq, each in enumerate(events, start=first)]
    connection.execute(insert(event), [_row(each, run_id) for each in numbered])
    count(connection, EVENT_SEQ, numbered[-1].seq - counted(connection, EVENT_SEQ))
    return numbered


def _last_seq(connection: Connection) -> int:
    """Number of the newest event; events of a database from before the counter count by their rows."""
    return counted(connection, EVENT_SEQ) or connection.execute(select(func.max(event.c.id))).scalar() or 0


def number_on_from(connection: Connection, utc_ns: int) -> None:
    """Let the numbers of a new database go on above those of the one it replaces, which cannot be asked.

    They begin at the present in milliseconds since the Unix epoch: far above what is reached by counting.
    """
    count(connection, EVENT_SEQ, utc_ns // _NS_PER_MS)


def _row(numbered: NumberedEvent, run_id: int) -> dict[str, object]:
    each = numbered.event
    return {
        "id": numbered.seq,
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


_CORRECTION = (
    select(func.max(corrected_event.c.correction_id))
    .join(identity_correction, identity_correction.c.id == corrected_event.c.correction_id)
    .where(corrected_event.c.event_id == event.c.id, identity_correction.c.undone_utc_ns.is_(None))
    .correlate(event)
    .scalar_subquery()
)
"""Number of the newest correction in effect that changed what an event rests on."""

_EVENT = select(
    event.c.id,
    event.c.run_id,
    event.c.event_id,
    event.c.kind,
    event.c.state,
    event.c.severity,
    event.c.at_utc_ns,
    event.c.animal,
    event.c.data_json,
    event.c.opened_event_id,
    _CORRECTION.label("correction_id"),
)


def open_events(connection: Connection) -> list[Event]:
    """See `Store.open_events`."""
    end = event.alias()
    closed = (
        select(end.c.id).where(end.c.opened_event_id == event.c.event_id, end.c.state == EventState.CLOSED).exists()
    )
    return _events(connection, _EVENT.where(event.c.state == EventState.OPENED, ~closed).order_by(event.c.id))


def event_histories(connection: Connection, since_utc_ns: int | None) -> list[Event]:
    """See `Store.event_histories`."""
    ids = [each.event_id for each in open_events(connection)]
    wanted = or_(event.c.event_id.in_(ids), event.c.opened_event_id.in_(ids))
    if since_utc_ns is not None:
        wanted = or_(wanted, event.c.at_utc_ns >= since_utc_ns)
    elif not ids:
        return []
    return _events(connection, _EVENT.where(wanted).order_by(event.c.id))


def events_of_animals(
    connection: Connection, animals: Collection[int], *, since_utc_ns: int
) -> list[tuple[int, Event]]:
    """Events about these animals from a time on, with their numbers, in their order."""
    of_them = _EVENT.where(event.c.animal.in_(animals), event.c.at_utc_ns >= since_utc_ns)
    return [(row.id, _event(row)) for row in connection.execute(of_them.order_by(event.c.id))]


def recent_events(connection: Connection, limit: int) -> list[Event]:
    """See `Store.recent_events`."""
    return _events(connection, _EVENT.order_by(event.c.id.desc()).limit(limit))


def events_after(connection: Connection, seq: int, limit: int) -> list[NumberedEvent]:
    """See `Store.events_after`."""
    statement = _EVENT.add_columns(run.c.boot_id).join(run, run.c.id == event.c.run_id)
    rows = connection.execute(statement.where(event.c.id > seq).order_by(event.c.id).limit(limit))
    return [NumberedEvent(event=_event(row), seq=row.id, boot_id=row.boot_id) for row in rows]


def last_event_seq(connection: Connection) -> int | None:
    """See `Store.last_event_seq`."""
    return connection.execute(select(func.max(event.c.id))).scalar()


def _events(connection: Connection, statement: Select[*tuple[Any, ...]]) -> list[Event]:
    return [_event(row) for row in connection.execute(statement)]


def _event(row: Row[*tuple[Any, ...]]) -> Event:
    data = json.loads(row.data_json)
    if row.correction_id is not None:
        data[IDENTITY_CORRECTION] = row.correction_id
    return Event(
        event_id=row.event_id,
        kind=EventKind(row.kind),
        state=EventState(row.state),
        severity=Severity(row.severity),
        at_utc_ns=row.at_utc_ns,
        animal=row.animal,
        data=data,
        opened_event_id=row.opened_event_id,
    )
