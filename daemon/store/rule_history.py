"""Minute values as rules read them back."""

from collections.abc import Collection

from sqlalchemy import Connection, column, inspect, select, table

from daemon.minute_value import MinuteValue

_VALUES = table(
    "minute_value",
    column("minute_utc_ns"),
    column("animal"),
    column("measure"),
    column("value"),
    column("uncertainty"),
    column("coverage"),
    column("samples"),
)
"""`animal` is 0 for the cage, so that it can be part of the key."""


def rule_history(
    connection: Connection, measures: Collection[str], start_utc_ns: int, end_utc_ns: int
) -> list[MinuteValue]:
    """See `Store.rule_history`."""
    if not inspect(connection).has_table("minute_value"):
        return []
    rows = connection.execute(
        select(_VALUES)
        .where(_VALUES.c.minute_utc_ns >= start_utc_ns, _VALUES.c.minute_utc_ns < end_utc_ns)
        .where(_VALUES.c.measure.in_(measures))
        .order_by(_VALUES.c.minute_utc_ns, _VALUES.c.animal, _VALUES.c.measure)
    )
    return [
        MinuteValue(
            measure=row.measure,
            minute_utc_ns=row.minute_utc_ns,
            animal=row.animal or None,
            value=row.value,
            uncertainty=row.uncertainty,
            coverage=row.coverage,
            samples=row.samples,
        )
        for row in rows
    ]
