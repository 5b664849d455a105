"""Values of whole minutes: written once, read by animal, measure and time."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, delete, distinct, func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from daemon.maintenance import any_between, without_maintenance
from daemon.minute_series import MINUTE_NS
from daemon.minute_value import MinuteValue
from daemon.store.counters import MINUTE_VALUES, count
from daemon.store.maintenance import between as maintenance_between
from daemon.store.schema import counter, frame, minute_value, part_observation
from daemon.vision.parts import BodyPart

CAGE = 0
"""Stands for the cage where an animal's number stands."""


def insert_minute_values(connection: Connection, values: Sequence[MinuteValue], *, run_id: int) -> None:
    """Store values. Of a minute that is there already (a restart in its midst) the value with more samples stays."""
    if not values:
        return
    insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    statement = insert(minute_value)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["minute_utc_ns", "animal", "measure"],
        set_={name: new[name] for name in ("run_id", "value", "uncertainty", "coverage", "samples")},
        where=new.samples > minute_value.c.samples,
    )
    connection.execute(statement, [_row(each, run_id) for each in values])
    count_rows(connection, len(values))


def count_rows(connection: Connection, more: int) -> None:
    """So many rows more, or fewer; a minute that is stored twice around a restart counts twice."""
    if connection.execute(select(counter.c.value).where(counter.c.name == MINUTE_VALUES)).scalar() is None:
        more = connection.execute(select(func.count()).select_from(minute_value)).scalar_one()
    count(connection, MINUTE_VALUES, more)


def _row(value: MinuteValue, run_id: int) -> dict[str, object]:
    return {
        "minute_utc_ns": value.minute_utc_ns,
        "animal": CAGE if value.animal is None else value.animal,
        "measure": value.measure,
        "run_id": run_id,
        "value": value.value,
        "uncertainty": value.uncertainty,
        "coverage": value.coverage,
        "samples": value.samples,
    }


def minute_values(
    connection: Connection,
    *,
    since_utc_ns: int,
    until_utc_ns: int,
    animals: Sequence[int | None] | None,
    measures: Collection[str] | None,
) -> Iterator[MinuteValue]:
    """See `Store.minute_values`."""
    statement = select(minute_value).where(*within(since_utc_ns, until_utc_ns, animals))
    if measures is not None:
        statement = statement.where(minute_value.c.measure.in_(list(measures)))
    ordered = statement.order_by(minute_value.c.minute_utc_ns, minute_value.c.animal, minute_value.c.measure)
    values = (
        MinuteValue(
            measure=row.measure,
            minute_utc_ns=row.minute_utc_ns,
            animal=row.animal or None,
            value=row.value,
            uncertainty=row.uncertainty,
            coverage=row.coverage,
            samples=row.samples,
        )
        for row in connection.execute(ordered.execution_options(yield_per=5000))
    )
    return without_maintenance(values, maintenance_between(connection, since_utc_ns, until_utc_ns + MINUTE_NS))


def within(since_utc_ns: int, until_utc_ns: int, animals: Sequence[int | None] | None) -> list[Any]:
    """What holds for the values of these animals in this time; None stands for all of them."""
    conditions: list[Any] = [minute_value.c.minute_utc_ns >= since_utc_ns, minute_value.c.minute_utc_ns < until_utc_ns]
    if animals is not None:
        conditions.append(minute_value.c.animal.in_([CAGE if each is None else each for each in animals]))
    return conditions


def clear_minute_values(
    connection: Connection,
    *,
    since_utc_ns: int,
    until_utc_ns: int,
    animals: Sequence[int | None],
    run_ids: Collection[int],
) -> None:
    """Take away all that these runs have stored of these animals (None: the cage) in this time."""
    of_runs = minute_value.c.run_id.in_(run_ids)
    gone = connection.execute(
        delete(minute_value).where(*within(since_utc_ns, until_utc_ns, animals), of_runs)
    ).rowcount
    count_rows(connection, -gone)


def rows_a_minute(connection: Connection, since_utc_ns: int) -> float | None:
    """See `Store.minute_values_a_minute`."""
    minute = minute_value.c.minute_utc_ns
    rows, minutes = connection.execute(
        select(func.count(), func.count(distinct(minute))).where(minute >= since_utc_ns)
    ).one()
    return rows / minutes if minutes else None


def trunk_places(
    connection: Connection, animal: int, *, since_utc_ns: int, until_utc_ns: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """See `Store.trunk_places`."""
    area, part = func.sum(part_observation.c.area_px), part_observation.c.part
    statement: Select[*tuple[Any, ...]] = (
        select(
            frame.c.captured_utc_ns,
            func.sum(part_observation.c.area_px * part_observation.c.x_px) / area,
            func.sum(part_observation.c.area_px * part_observation.c.y_px) / area,
        )
        .join(frame, part_observation.c.frame_id == frame.c.id)
        .where(
            frame.c.captured_utc_ns >= since_utc_ns,
            frame.c.captured_utc_ns < until_utc_ns,
            part_observation.c.animal == animal,
            part.in_([int(BodyPart.HEAD), int(BodyPart.BODY)]),
        )
        .group_by(part_observation.c.frame_id, frame.c.captured_utc_ns)
        .having(func.max(part) == int(BodyPart.BODY))
        .order_by(frame.c.captured_utc_ns)
    )
    at_work = maintenance_between(connection, since_utc_ns, until_utc_ns)
    rows = [row for row in connection.execute(statement) if any_between(at_work, row[0], row[0] + 1) is None]
    return (
        np.array([row[0] for row in rows], np.int64),
        np.array([(row[1], row[2]) for row in rows], np.float64).reshape(-1, 2),
    )
