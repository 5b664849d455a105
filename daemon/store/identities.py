"""Who the tracks are, and which of them are groups."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from daemon.observation import AnimalObservation, FrameObservation, GroupObservation
from daemon.store.identity_spans import SpanMaker, keep_span, numbers_of, text_of
from daemon.store.schema import identity_observation
from daemon.store.shapes import pieces

AnyRow = Row[*tuple[Any, ...]]


def insert_identities(
    connection: Connection, frame_ids: Sequence[int], observations: Sequence[FrameObservation]
) -> None:
    """Store who the tracks of these frames are, and what corrections in force have changed of it."""
    rows = [
        _row(frame_id, animal, {group.number: group for group in each.groups})
        for frame_id, each in zip(frame_ids, observations, strict=True)
        for animal in each.animals
        if animal.track is not None
    ]
    if rows:
        connection.execute(insert(identity_observation), rows)
    spans = SpanMaker()
    for frame_id, each in zip(frame_ids, observations, strict=True):
        for animal in each.animals:
            for before, after in pairwise((*animal.before, animal.identity)):
                spans.add(frame_id, animal.key, followed=True, before=before, after=after)
    for span in spans.finish():
        if span.after.correction is not None:
            keep_span(connection, span.after.correction, span)


def _row(frame_id: int, animal: AnimalObservation, groups: Mapping[int, GroupObservation]) -> dict[str, object]:
    group = None if animal.group is None else groups[animal.group]
    return {
        "frame_id": frame_id,
        "track": animal.track,
        "animal": animal.animal,
        "probability": animal.probability,
        "candidates": text_of(animal.candidates),
        "correction_id": animal.correction,
        "doubts": animal.doubts,
        "group_size": None if group is None else group.size,
        "group_area_px": None if group is None else group.area_px,
        "group_mean_celsius": None if group is None else group.mean_celsius,
        "group_max_celsius": None if group is None else group.max_celsius,
    }


def identities_of(connection: Connection, frame_ids: Sequence[int]) -> dict[int, dict[int, AnyRow]]:
    """What is stored of who the tracks are in these frames, by frame and track."""
    rows: dict[int, dict[int, AnyRow]] = defaultdict(dict)
    for ids in pieces(frame_ids):
        for row in connection.execute(select(identity_observation).where(identity_observation.c.frame_id.in_(ids))):
            rows[row.frame_id][row.track] = row
    return rows


def groups_in(rows: Mapping[int, AnyRow]) -> tuple[GroupObservation, ...]:
    """The groups among the tracks of one frame."""
    return tuple(
        GroupObservation(
            number=track,
            members=numbers_of(row.candidates),
            size=row.group_size,
            area_px=row.group_area_px,
            mean_celsius=row.group_mean_celsius,
            max_celsius=row.group_max_celsius,
        )
        for track, row in sorted(rows.items())
        if row.group_size is not None
    )
