"""What has been counted since the database was made, without counting rows."""

from sqlalchemy import Connection, insert, select, update

from daemon.store.schema import counter

FRAMES = "frames"
PART_OBSERVATIONS = "part_observations"
EVENTS = "events"
EVENT_SEQ = "event_seq"
"""Number of the newest event."""
MINUTE_VALUES = "minute_values"
"""Rows that there are; made when the first ones are stored, or, in a database from before it, counted then."""
MESSAGES_DROPPED = "messages_dropped"
MESSAGES_SET_ASIDE = "messages_set_aside"


def count(connection: Connection, name: str, number: int) -> None:
    """Add to a counter."""
    if (
        number
        and not connection.execute(
            update(counter).where(counter.c.name == name).values(value=counter.c.value + number)
        ).rowcount
    ):
        connection.execute(insert(counter).values(name=name, value=number))


def counted(connection: Connection, name: str) -> int:
    """The value of a counter."""
    return connection.execute(select(counter.c.value).where(counter.c.name == name)).scalar() or 0
