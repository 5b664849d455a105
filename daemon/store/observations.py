"""Frames, the parts seen in them, and the calibration each was measured with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, insert, select, update

from daemon.observation import AnimalObservation, FrameObservation, GroupObservation, PartObservation
from daemon.store.blocks import StoredBlock, accounted, known_block, settle_again
from daemon.store.counters import FRAMES, PART_OBSERVATIONS, count
from daemon.store.identities import groups_in, identities_of, insert_identities
from daemon.store.identity_spans import numbers_of
from daemon.store.schema import CALIBRATION_VALUES, block, calibration, frame, part_observation, planned_sample
from daemon.store.shapes import insert_scenes, insert_shapes, outline_in, pieces, posture_in, scenes_of, shapes_of
from daemon.vision.parts import BodyPart
from drivers.errors import StoreRejectedError
from drivers.frame import FrameFlag
from drivers.t2s_protocol import Constants, Environment
from drivers.thermometry import Calibration

LATEST_FRAMES = 1000
"""How far back the latest observation of an animal is looked for: 17 minutes at one frame a second."""

AnyRow = Row[*tuple[Any, ...]]

CalibrationIds = dict[tuple[int, Calibration], int]
"""Ids of stored calibrations by camera and value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestObservation:
    """Where and how warm an animal was when it was last seen."""

    captured_utc_ns: int
    flags: FrameFlag
    animal: AnimalObservation


def insert_observations(
    connection: Connection,
    observations: Sequence[FrameObservation],
    *,
    run_id: int,
    camera_id: int,
    known_calibrations: Mapping[tuple[int, Calibration], int],
) -> tuple[list[int], CalibrationIds]:
    """Store frames with all that belongs to them.

    Returns
    -------
    list of int
        The frame ids, in the order of the observations.
    CalibrationIds
        Calibrations that were not among the known ones; to be kept once the transaction is committed.
    """
    new_calibrations: CalibrationIds = {}
    rows = []
    for each in observations:
        key = (camera_id, each.calibration)
        calibration_id = known_calibrations.get(key) or new_calibrations.get(key)
        if calibration_id is None:
            calibration_id = new_calibrations[key] = _calibration_id(connection, camera_id, each.calibration)
        rows.append(_frame_row(each, run_id, camera_id, calibration_id))
    statement = insert(frame).returning(frame.c.id, sort_by_parameter_order=True)
    frame_ids = list(connection.execute(statement, rows).scalars())
    parts = [
        _part_row(frame_id, animal, part)
        for frame_id, each in zip(frame_ids, observations, strict=True)
        for animal in each.animals
        for part in animal.parts
    ]
    if parts:
        connection.execute(insert(part_observation), parts)
    insert_identities(connection, frame_ids, observations)
    insert_shapes(connection, frame_ids, observations)
    insert_scenes(connection, frame_ids, observations)
    _account(connection, observations, frame_ids)
    count(connection, FRAMES, len(frame_ids))
    count(connection, PART_OBSERVATIONS, len(parts))
    return frame_ids, new_calibrations


def _calibration_id(connection: Connection, camera_id: int, value: Calibration) -> int:
    values = {"camera_id": camera_id, **_calibration_values(value)}
    same = and_(*(calibration.columns[name] == values[name] for name in CALIBRATION_VALUES))
    known = connection.execute(select(calibration.c.id).where(same)).scalar()
    if known is not None:
        return known
    return connection.execute(insert(calibration).values(values).returning(calibration.c.id)).scalar_one()


def _calibration_values(value: Calibration) -> dict[str, float]:
    constants, environment = value.constants, value.environment
    return {
        "shutter_celsius": value.shutter_celsius,
        "fpa_celsius": value.fpa_celsius,
        "reference_count": constants.reference_count,
        "a": constants.a,
        "b": constants.b,
        "ka": constants.ka,
        "kb": constants.kb,
        "kc": constants.kc,
        "correction_celsius": environment.correction_celsius,
        "reflected_celsius": environment.reflected_celsius,
        "air_celsius": environment.air_celsius,
        "humidity": environment.humidity,
        "emissivity": environment.emissivity,
        "distance_m": environment.distance_m,
    }


def _frame_row(each: FrameObservation, run_id: int, camera_id: int, calibration_id: int) -> dict[str, object]:
    return {
        "run_id": run_id,
        "camera_id": camera_id,
        "calibration_id": calibration_id,
        "sequence": each.sequence,
        "captured_utc_ns": each.captured_utc_ns,
        "captured_monotonic_ns": each.captured_monotonic_ns,
        "flags": int(each.flags),
        "fpa_celsius": each.fpa_celsius,
        "shutter_celsius": each.shutter_celsius,
        "background_celsius": each.background_celsius,
        "not_measured": each.not_measured,
        "segmenter": each.segmenter,
    }


def _part_row(frame_id: int, animal: AnimalObservation, part: PartObservation) -> dict[str, object]:
    return {
        "frame_id": frame_id,
        "subject": animal.key,
        "animal": animal.animal,
        "part": int(part.part),
        "x_px": part.x_px,
        "y_px": part.y_px,
        "x_mm": part.x_mm,
        "y_mm": part.y_mm,
        "area_px": part.area_px,
        "area_mm2": part.area_mm2,
        "valid_px": part.valid_px,
        "mean_celsius": part.mean_celsius,
        "median_celsius": part.median_celsius,
        "p95_celsius": part.p95_celsius,
        "min_celsius": part.min_celsius,
        "max_celsius": part.max_celsius,
    }


def _account(connection: Connection, observations: Sequence[FrameObservation], frame_ids: Sequence[int]) -> None:
    """Let frames stand for the moments they were planned for; the first frame of a moment stays."""
    captured: dict[str, dict[int, int]] = {}
    for frame_id, each in zip(frame_ids, observations, strict=True):
        if (each.block_key is None) != (each.planned_utc_ns is None):
            raise StoreRejectedError(
                f"frame {each.sequence}: expected block_key and planned_utc_ns both or none, "
                f"got {each.block_key!r} and {each.planned_utc_ns}"
            )
        if each.block_key is not None and each.planned_utc_ns is not None:
            captured.setdefault(each.block_key, {}).setdefault(each.planned_utc_ns, frame_id)
    for key, frames in captured.items():
        _account_block(connection, known_block(connection, key), frames)


def _account_block(connection: Connection, stored: StoredBlock, frames: Mapping[int, int]) -> None:
    for moment in frames:
        stored.check_planned(moment)
    known = accounted(connection, stored.block_id, min(frames), max(frames))
    new = [
        {"block_id": stored.block_id, "planned_utc_ns": moment, "frame_id": frame_id}
        for moment, frame_id in frames.items()
        if moment not in known
    ]
    if new:
        connection.execute(insert(planned_sample), new)
    for moment, frame_id in frames.items():
        if moment in known and known[moment] is None:  # it was given up, but came all the same
            connection.execute(
                update(planned_sample)
                .where(planned_sample.c.block_id == stored.block_id, planned_sample.c.planned_utc_ns == moment)
                .values(frame_id=frame_id, missing_reason=None)
            )
    settle_again(connection, stored)


def latest_observations(connection: Connection) -> list[LatestObservation]:
    """See `Store.latest_observations`."""
    newest = connection.execute(select(func.max(frame.c.id))).scalar()
    if newest is None:
        return []
    recent = part_observation.c.frame_id > newest - LATEST_FRAMES
    last_seen = (
        select(part_observation.c.animal, func.max(part_observation.c.frame_id).label("frame_id"))
        .where(recent, part_observation.c.animal.is_not(None))
        .group_by(part_observation.c.animal)
        .subquery()
    )
    statement = (
        select(part_observation, frame.c.captured_utc_ns, frame.c.flags)
        .join(
            last_seen,
            and_(part_observation.c.animal == last_seen.c.animal, part_observation.c.frame_id == last_seen.c.frame_id),
        )
        .join(frame, part_observation.c.frame_id == frame.c.id)
        .order_by(part_observation.c.animal, part_observation.c.part)
    )
    return [
        LatestObservation(
            captured_utc_ns=rows[0].captured_utc_ns,
            flags=FrameFlag(rows[0].flags),
            animal=AnimalObservation(animal=animal, parts=tuple(map(_part, rows))),
        )
        for animal, rows in _grouped(connection, statement, "animal")
    ]


def block_observations(connection: Connection, stored: StoredBlock) -> list[FrameObservation]:
    """See `Store.block_observations`."""
    samples = _SAMPLES.where(planned_sample.c.block_id == stored.block_id).order_by(planned_sample.c.planned_utc_ns)
    parts = (
        select(part_observation)
        .join(planned_sample, planned_sample.c.frame_id == part_observation.c.frame_id)
        .where(planned_sample.c.block_id == stored.block_id)
        .order_by(part_observation.c.frame_id, part_observation.c.subject, part_observation.c.part)
    )
    return list(_found(connection, samples, parts).values())


def observations_by_id(connection: Connection, frame_ids: Sequence[int]) -> dict[int, FrameObservation]:
    """Stored frames by their ids, in the order of these, as they were handed to `Store.add`."""
    found: dict[int, FrameObservation] = {}
    for ids in pieces(frame_ids):
        samples = _SAMPLES.where(frame.c.id.in_(ids)).order_by(frame.c.id)
        parts = (
            select(part_observation)
            .where(part_observation.c.frame_id.in_(ids))
            .order_by(part_observation.c.frame_id, part_observation.c.subject, part_observation.c.part)
        )
        found |= _found(connection, samples, parts)
    return found


_SAMPLES = (
    select(
        frame.c.id.label("frame_id"),
        frame.c.sequence,
        frame.c.captured_utc_ns,
        frame.c.captured_monotonic_ns,
        frame.c.flags,
        frame.c.fpa_celsius.label("frame_fpa_celsius"),
        frame.c.shutter_celsius.label("frame_shutter_celsius"),
        frame.c.background_celsius,
        frame.c.not_measured,
        frame.c.segmenter,
        frame.c.calibration_id,
        planned_sample.c.planned_utc_ns,
        block.c.key.label("block_key"),
        *(calibration.columns[name] for name in CALIBRATION_VALUES),
    )
    .select_from(frame)
    .join(calibration, frame.c.calibration_id == calibration.c.id)
    .outerjoin(planned_sample, planned_sample.c.frame_id == frame.c.id)
    .outerjoin(block, planned_sample.c.block_id == block.c.id)
)


def _found(
    connection: Connection, samples: Select[*tuple[Any, ...]], parts: Select[*tuple[Any, ...]]
) -> dict[int, FrameObservation]:
    by_frame = dict(_grouped(connection, parts, "frame_id"))
    rows = connection.execute(samples).all()
    ids = [row.frame_id for row in rows]
    shapes, identities, scenes = shapes_of(connection, ids), identities_of(connection, ids), scenes_of(connection, ids)
    calibrations: dict[int, Calibration] = {}
    found = {}
    for row in rows:
        number = row.frame_id
        if row.calibration_id not in calibrations:
            calibrations[row.calibration_id] = _calibration(row)
        followed = identities.get(number, {})
        found[number] = _observation(
            row,
            calibrations[row.calibration_id],
            _animals(by_frame.get(number, ()), shapes, followed),
            groups_in(followed),
            scenes.get(number),
        )
    return found


def _grouped(
    connection: Connection, statement: Select[*tuple[Any, ...]], column: str
) -> list[tuple[int, list[AnyRow]]]:
    rows = connection.execute(statement)
    return [(value, list(group)) for value, group in groupby(rows, key=lambda row: getattr(row, column))]


def _animals(
    rows: Sequence[AnyRow], shapes: Mapping[tuple[int, int], AnyRow], followed: Mapping[int, AnyRow]
) -> tuple[AnimalObservation, ...]:
    animals = []
    for subject, group in groupby(rows, key=lambda row: int(row.subject)):
        of_part = list(group)
        shape, known = shapes.get((of_part[0].frame_id, subject)), followed.get(subject)
        animals.append(
            AnimalObservation(
                animal=of_part[0].animal,
                parts=tuple(_part(row, outline_in(shape, BodyPart(row.part))) for row in of_part),
                posture=posture_in(shape),
                track=None if known is None else subject,
                probability=None if known is None else known.probability,
                candidates=() if known is None else numbers_of(known.candidates),
                correction=None if known is None else known.correction_id,
                doubts=0 if known is None else known.doubts or 0,
                group=None if known is None or known.group_size is None else subject,
            )
        )
    animals.sort(key=lambda each: (each.animal is None, each.animal or each.key))
    return tuple(animals)


def _part(row: AnyRow, outline_px: int | None = None) -> PartObservation:
    return PartObservation(
        part=BodyPart(row.part),
        x_px=row.x_px,
        y_px=row.y_px,
        x_mm=row.x_mm,
        y_mm=row.y_mm,
        area_px=row.area_px,
        area_mm2=row.area_mm2,
        valid_px=row.valid_px,
        mean_celsius=row.mean_celsius,
        median_celsius=row.median_celsius,
        p95_celsius=row.p95_celsius,
        min_celsius=row.min_celsius,
        max_celsius=row.max_celsius,
        outline_px=outline_px,
    )


def _observation(
    row: AnyRow,
    calibrated: Calibration,
    animals: tuple[AnimalObservation, ...],
    groups: tuple[GroupObservation, ...],
    scene: AnyRow | None,
) -> FrameObservation:
    return FrameObservation(
        sequence=row.sequence,
        captured_utc_ns=row.captured_utc_ns,
        captured_monotonic_ns=row.captured_monotonic_ns,
        flags=FrameFlag(row.flags),
        calibration=calibrated,
        fpa_celsius=row.frame_fpa_celsius,
        shutter_celsius=row.frame_shutter_celsius,
        background_celsius=row.background_celsius,
        animals=animals,
        not_measured=row.not_measured,
        block_key=row.block_key,
        planned_utc_ns=row.planned_utc_ns,
        segmenter=row.segmenter,
        nest_celsius=None if scene is None else scene.nest_celsius,
        reference_offset_celsius=None if scene is None else scene.reference_offset_celsius,
        reference_uncertainty_celsius=None if scene is None else scene.reference_uncertainty_celsius,
        groups=groups,
    )


def _calibration(row: AnyRow) -> Calibration:
    return Calibration(
        constants=Constants(reference_count=row.reference_count, a=row.a, b=row.b, ka=row.ka, kb=row.kb, kc=row.kc),
        shutter_celsius=row.shutter_celsius,
        fpa_celsius=row.fpa_celsius,
        environment=Environment(
            correction_celsius=row.correction_celsius,
            reflected_celsius=row.reflected_celsius,
            air_celsius=row.air_celsius,
            humidity=row.humidity,
            emissivity=row.emissivity,
            distance_m=row.distance_m,
        ),
    )
