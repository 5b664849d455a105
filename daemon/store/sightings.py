"""Where and how warm the animals were, frame by frame, as those need it who follow them on."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection, func, select

from daemon.store.schema import frame, part_observation
from daemon.store.shapes import pieces
from daemon.vision.parts import BodyPart

_MOST_FRAMES = 20_000
"""No more are looked through: 13 minutes at 25 a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartThen:
    """One part of an animal."""

    part: BodyPart
    x_px: float
    """Centroid of its pixels, column."""
    y_px: float
    """Centroid of its pixels, row."""
    area_px: int
    mean_celsius: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnimalThen:
    """One animal, or several that could not be told apart."""

    key: int
    """What tells it from the others of its frame."""
    animal: int | None
    """Its number, from 1; None while it was not known."""
    parts: tuple[PartThen, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenThen:
    """One measured frame."""

    captured_utc_ns: int
    background_celsius: float | None
    animals: tuple[AnimalThen, ...]


def seen_since(connection: Connection, since_utc_ns: int, *, at_most: int) -> list[SeenThen]:
    """See `Store.seen_since`."""
    newest = connection.execute(select(func.max(frame.c.id))).scalar()
    if newest is None:
        return []
    frames = connection.execute(
        select(frame.c.id, frame.c.captured_utc_ns, frame.c.background_celsius)
        .where(
            frame.c.id > newest - _MOST_FRAMES, frame.c.captured_utc_ns >= since_utc_ns, frame.c.not_measured.is_(None)
        )
        .order_by(frame.c.captured_utc_ns)
    ).all()
    step = max(1, -(-len(frames) // at_most))
    kept = frames[::-1][::step][::-1]  # the newest is always among them
    animals = _animals(connection, [row.id for row in kept])
    return [
        SeenThen(
            captured_utc_ns=row.captured_utc_ns,
            background_celsius=row.background_celsius,
            animals=tuple(animals.get(row.id, ())),
        )
        for row in kept
    ]


def _animals(connection: Connection, ids: Sequence[int]) -> dict[int, list[AnimalThen]]:
    found: dict[int, list[AnimalThen]] = {}
    columns = part_observation.c
    for some in pieces(ids):
        rows = connection.execute(
            select(
                columns.frame_id, columns.subject, columns.animal, columns.part, columns.x_px, columns.y_px,
                columns.area_px, columns.mean_celsius,
            )
            .where(columns.frame_id.in_(some))
            .order_by(columns.frame_id, columns.subject, columns.part)
        )  # fmt: skip
        for (frame_id, subject), group in groupby(rows, key=lambda row: (row.frame_id, row.subject)):
            of_one = list(group)
            parts = tuple(
                PartThen(
                    part=BodyPart(row.part),
                    x_px=row.x_px,
                    y_px=row.y_px,
                    area_px=row.area_px,
                    mean_celsius=row.mean_celsius,
                )
                for row in of_one
            )
            found.setdefault(frame_id, []).append(AnimalThen(key=subject, animal=of_one[0].animal, parts=parts))
    return found
