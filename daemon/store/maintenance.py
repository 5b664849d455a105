"""Maintenance as rows."""

from sqlalchemy import Connection, delete, insert, select

from daemon.maintenance import LOOK_BACK_NS, Maintenance, Reason
from daemon.store.schema import maintenance


def keep(connection: Connection, stretch: Maintenance) -> None:
    """See `Store.keep_maintenance`."""
    connection.execute(delete(maintenance).where(maintenance.c.event_id == stretch.event_id))
    connection.execute(
        insert(maintenance),
        {
            "event_id": stretch.event_id,
            "reason": stretch.reason.value,
            "start_utc_ns": stretch.start_utc_ns,
            "end_utc_ns": stretch.end_utc_ns,
            "by_whom": stretch.by,
            "note": stretch.note,
        },
    )


def between(connection: Connection, start_utc_ns: int, end_utc_ns: int) -> list[Maintenance]:
    """See `Store.maintenance_between`."""
    rows = connection.execute(
        select(maintenance)
        .where(maintenance.c.start_utc_ns >= start_utc_ns - LOOK_BACK_NS)
        .where(maintenance.c.start_utc_ns < end_utc_ns, maintenance.c.end_utc_ns > start_utc_ns)
        .order_by(maintenance.c.start_utc_ns, maintenance.c.event_id)
    )
    return [
        Maintenance(
            event_id=row.event_id,
            reason=Reason(row.reason),
            start_utc_ns=row.start_utc_ns,
            end_utc_ns=row.end_utc_ns,
            by=row.by_whom,
            note=row.note,
        )
        for row in rows
    ]
