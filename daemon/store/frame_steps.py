"""Stored frames in steps of a few seconds, as those need them who look back on what frames showed."""

from collections import defaultdict

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select

from daemon.frame_step import AnimalStep, FrameStep
from daemon.store.identity_spans import numbers_of
from daemon.store.schema import frame, identity_observation, part_observation
from daemon.vision.parts import BY_SHAPE, BodyPart


def frame_steps(
    connection: Connection, *, since_utc_ns: int, until_utc_ns: int, step_ns: int, without_flags: int
) -> list[FrameStep]:
    """See `Store.frame_steps`."""
    step = (frame.c.captured_utc_ns // step_ns).label("step")
    there = and_(frame.c.captured_utc_ns >= since_utc_ns, frame.c.captured_utc_ns <= until_utc_ns)
    measured = and_(there, frame.c.not_measured.is_(None))
    found: dict[int, FrameStep] = {}
    counted = (
        func.count().label("frames"),
        func.count().filter(frame.c.not_measured.is_(None)).label("measured"),
        func.count().filter(frame.c.segmenter != BY_SHAPE).label("by_networks"),
    )
    for row in connection.execute(select(step, *counted).where(there).group_by(step).order_by(step)):
        found[row.step] = FrameStep(row.step, frames=row.frames, measured=row.measured, by_networks=row.by_networks)
    _add_seen(connection, found, step, measured)
    believed = and_(measured, frame.c.flags.op("&")(without_flags) == 0)
    _add_warm(connection, found, step, believed)
    return list(found.values())


def _add_seen(
    connection: Connection, found: dict[int, FrameStep], step: ColumnElement[int], measured: ColumnElement[bool]
) -> None:
    """Frames that show each animal: by its number, or as one of several that it may be."""
    named = (
        select(step, part_observation.c.animal, func.count(part_observation.c.frame_id.distinct()).label("frames"))
        .join_from(part_observation, frame)
        .where(measured, part_observation.c.animal.is_not(None))
        .group_by(step, part_observation.c.animal)
    )
    for row in connection.execute(named):
        found[row.step].animals.setdefault(row.animal, AnimalStep()).seen += row.frames
    unsure = (
        select(step, identity_observation.c.frame_id, identity_observation.c.candidates)
        .join_from(identity_observation, frame)
        .where(measured, identity_observation.c.candidates != "")
    )
    maybe: dict[tuple[int, int], set[int]] = defaultdict(set)
    for number, frame_id, candidates in connection.execute(unsure):
        maybe[number, frame_id].update(numbers_of(candidates))
    beside = (
        select(step, part_observation.c.frame_id, part_observation.c.animal)
        .join_from(part_observation, frame)
        .where(
            measured,
            part_observation.c.animal.is_not(None),
            exists().where(
                identity_observation.c.frame_id == part_observation.c.frame_id, identity_observation.c.candidates != ""
            ),
        )
    )
    for number, frame_id, animal in connection.execute(beside):
        maybe[number, frame_id].discard(animal)  # counted by its number
    for (number, _), animals in maybe.items():
        for each in animals:
            found[number].animals.setdefault(each, AnimalStep()).seen += 1


def _add_warm(
    connection: Connection, found: dict[int, FrameStep], step: ColumnElement[int], believed: ColumnElement[bool]
) -> None:
    """The warmer of head and body of each animal in each frame, and of these the extremes."""
    parts = part_observation.c
    trunks = (
        select(step, parts.animal, func.max(parts.p95_celsius).label("celsius"))
        .join_from(part_observation, frame)
        .where(
            believed,
            parts.animal.is_not(None),
            parts.p95_celsius.is_not(None),
            parts.part.in_((BodyPart.HEAD.value, BodyPart.BODY.value)),
        )
        .group_by(step, parts.animal, parts.frame_id)
        .subquery()
    )
    extremes = select(
        trunks.c.step,
        trunks.c.animal,
        func.count().label("warm"),
        func.max(trunks.c.celsius).label("hottest"),
        func.min(trunks.c.celsius).label("coldest"),
    ).group_by(trunks.c.step, trunks.c.animal)
    for row in connection.execute(extremes):
        seen = found[row.step].animals.setdefault(row.animal, AnimalStep())
        seen.warm, seen.hottest_celsius, seen.coldest_celsius = row.warm, row.hottest, row.coldest
