"""Pins as rows."""

from collections.abc import Sequence
from datetime import date

from sqlalchemy import Connection, delete, insert, select

from daemon.store.retention import Pin
from daemon.store.schema import pin
from drivers.errors import StoreRejectedError


def add_pins(connection: Connection, pins: Sequence[Pin]) -> None:
    """See `Store.add_pins`."""
    taken = connection.execute(select(pin.c.name).where(pin.c.name.in_({each.name for each in pins}))).scalars().first()
    if taken is not None:
        raise StoreRejectedError(f"there is a pin {taken!r} already: unpin it, or choose another name")
    connection.execute(
        insert(pin),
        [
            {
                "name": each.name,
                "reason": each.reason,
                "created_utc_ns": each.created_utc_ns,
                "block_key": each.block_key,
                "first_day": None if each.first_day is None else each.first_day.isoformat(),
                "last_day": None if each.last_day is None else each.last_day.isoformat(),
            }
            for each in pins
        ],
    )


def remove_pins(connection: Connection, name: str) -> int:
    """See `Store.remove_pins`."""
    return connection.execute(delete(pin).where(pin.c.name == name)).rowcount


def pins(connection: Connection) -> list[Pin]:
    """See `Store.pins`."""
    return [
        Pin(
            name=row.name,
            reason=row.reason,
            created_utc_ns=row.created_utc_ns,
            block_key=row.block_key,
            first_day=None if row.first_day is None else date.fromisoformat(row.first_day),
            last_day=None if row.last_day is None else date.fromisoformat(row.last_day),
        )
        for row in connection.execute(select(pin).order_by(pin.c.id))
    ]
