"""Who the tracks are, and which of them are groups."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
        "group_size": None if group is None else group.size,
        "group_area_px": None if group is None else group.area_px,
        "group_mean_celsius": None if group is None else group.mean_celsius,
        "group_max_celsius": None if group is None else group.max_celsius,
    }


def add_identities(connection: Connection, found: Mapping[int, FrameObservation]) -> dict[int, FrameObservation]:
    """The frames, by their ids, with what is stored of who their animals are.

    Parameters
    ----------
    connection : Connection
        To the database.
    found : mapping of int to FrameObservation
        Their animals have the number that tells them apart as their track.
    """
    rows: dict[int, dict[int, AnyRow]] = defaultdict(dict)
    for ids in pieces(list(found)):
        for row in connection.execute(select(identity_observation).where(identity_observation.c.frame_id.in_(ids))):
            rows[row.frame_id][row.track] = row
    return {frame_id: _with_identities(each, rows[frame_id]) for frame_id, each in found.items()}


def _with_identities(observation: FrameObservation, rows: Mapping[int, AnyRow]) -> FrameObservation:
    animals = [_with_identity(animal, rows.get(animal.key)) for animal in observation.animals]
    animals.sort(key=lambda each: (each.animal is None, each.animal or each.key))
    groups = tuple(
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
    return replace(observation, animals=tuple(animals), groups=groups)


def _with_identity(animal: AnimalObservation, row: AnyRow | None) -> AnimalObservation:
    if row is None:  # nothing was followed
        return replace(animal, track=None)
    return replace(
        animal,
        probability=row.probability,
        candidates=numbers_of(row.candidates),
        correction=row.correction_id,
        group=row.track if row.group_size is not None else None,
    )
