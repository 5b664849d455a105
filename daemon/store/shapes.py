"""How animals hold themselves, and what a frame says about nest and references."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from daemon.observation import AnimalObservation, FrameObservation
from daemon.posture import Posture
from daemon.store.schema import scene_observation, shape_observation
from daemon.vision.parts import BodyPart

_MOST_IDS = 500
"""In one statement: databases limit how many values one may name."""

_OUTLINES = {part: f"{part.name.lower()}_outline_px" for part in BodyPart}

AnyRow = Row[*tuple[Any, ...]]


def insert_shapes(connection: Connection, frame_ids: Sequence[int], observations: Sequence[FrameObservation]) -> None:
    """Store the shapes of the animals in these frames."""
    rows = [
        _shape_row(frame_id, animal)
        for frame_id, each in zip(frame_ids, observations, strict=True)
        for animal in each.animals
        if animal.posture is not None or any(part.outline_px is not None for part in animal.parts)
    ]
    if rows:
        connection.execute(insert(shape_observation), rows)


def _shape_row(frame_id: int, animal: AnimalObservation) -> dict[str, object]:
    posture, outlines = animal.posture, {part.part: part.outline_px for part in animal.parts}
    return {
        "frame_id": frame_id,
        "subject": animal.key,
        "nose_x_px": None if posture is None else posture.nose_x_px,
        "nose_y_px": None if posture is None else posture.nose_y_px,
        "length_px": None if posture is None else posture.length_px,
        "curl": None if posture is None else posture.curl,
        **{name: outlines.get(part) for part, name in _OUTLINES.items()},
    }


def insert_scenes(connection: Connection, frame_ids: Sequence[int], observations: Sequence[FrameObservation]) -> None:
    """Store what these frames say about nest and references."""
    rows = [
        {
            "frame_id": frame_id,
            "nest_celsius": each.nest_celsius,
            "reference_offset_celsius": each.reference_offset_celsius,
            "reference_uncertainty_celsius": each.reference_uncertainty_celsius,
        }
        for frame_id, each in zip(frame_ids, observations, strict=True)
        if each.nest_celsius is not None or each.reference_offset_celsius is not None
    ]
    if rows:
        connection.execute(insert(scene_observation), rows)


def shapes_of(connection: Connection, frame_ids: Sequence[int]) -> dict[tuple[int, int], AnyRow]:
    """What is stored of shapes in these frames, by frame and subject."""
    return {
        (row.frame_id, row.subject): row
        for ids in pieces(frame_ids)
        for row in connection.execute(select(shape_observation).where(shape_observation.c.frame_id.in_(ids)))
    }


def posture_in(row: AnyRow | None) -> Posture | None:
    """The posture in a row of shapes."""
    if row is None or row.length_px is None:
        return None
    return Posture(nose_x_px=row.nose_x_px, nose_y_px=row.nose_y_px, length_px=row.length_px, curl=row.curl)


def outline_in(row: AnyRow | None, part: BodyPart) -> int | None:
    """How much of a part lies on the outline, by a row of shapes."""
    return None if row is None else getattr(row, _OUTLINES[part])


def scenes_of(connection: Connection, frame_ids: Sequence[int]) -> dict[int, AnyRow]:
    """What is stored of nest and references in these frames, by frame."""
    return {
        row.frame_id: row
        for ids in pieces(frame_ids)
        for row in connection.execute(select(scene_observation).where(scene_observation.c.frame_id.in_(ids)))
    }


def pieces(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Ids in so small parts that one statement may name them all."""
    return (ids[start : start + _MOST_IDS] for start in range(0, len(ids), _MOST_IDS))
