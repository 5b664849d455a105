"""Where and how warm the animals were, frame by frame, as those need it who follow them on."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection, func, select

from daemon.observation import AnimalObservation
from daemon.store.observations import parts_of
from daemon.store.schema import frame, part_observation
from daemon.store.shapes import pieces

_MOST_FRAMES = 20_000
"""No more are looked through: 13 minutes at 25 a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenThen:
    """One measured frame."""

    captured_utc_ns: int
    background_celsius: float | None
    animals: tuple[AnimalObservation, ...]
    """With their parts; `animal` is None while it was not known."""


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
            animals=animals.get(row.id, ()),
        )
        for row in kept
    ]


def _animals(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[AnimalObservation, ...]]:
    found = {}
    for some in pieces(ids):
        rows = connection.execute(
            select(part_observation)
            .where(part_observation.c.frame_id.in_(some))
            .order_by(part_observation.c.frame_id, part_observation.c.subject, part_observation.c.part)
        )
        for frame_id, of_frame in groupby(rows, key=lambda row: row.frame_id):
            found[frame_id] = parts_of(list(of_frame))
    return found
