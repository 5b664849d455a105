"""Runs of the service, the cameras they met, and the gaps in what they saw."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, insert, select, update

from daemon.store.schema import camera, event, frame, gap, run
from drivers.camera import CameraInfo
from drivers.errors import StoreRejectedError
from drivers.t2s_protocol import Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A stretch without frames."""

    gap_id: int
    run_id: int
    """The run that was there when it began."""
    start_utc_ns: int
    end_utc_ns: int | None
    """None while it lasts."""
    reason: str


def start_run(
    connection: Connection,
    *,
    version: str,
    config_hash: str,
    config_json: str,
    segmenter: str,
    models: Mapping[str, str],
    host: str,
    boot_id: str,
    started_utc_ns: int,
) -> int:
    """See `Store.start_run`."""
    statement = insert(run).values(
        version=version,
        config_hash=config_hash,
        config_json=config_json,
        segmenter=segmenter,
        models_json=_json(models),
        host=host,
        boot_id=boot_id,
        started_utc_ns=started_utc_ns,
    )
    return connection.execute(statement.returning(run.c.id)).scalar_one()


def name_segmenter(connection: Connection, run_id: int, *, segmenter: str, models: Mapping[str, str]) -> None:
    """See `Store.name_segmenter`."""
    measured = connection.execute(select(frame.c.id).where(frame.c.run_id == run_id).limit(1)).scalar()
    if measured is not None:
        raise StoreRejectedError(f"run {run_id} has frames: they were not measured by {segmenter}")
    statement = update(run).where(run.c.id == run_id).values(segmenter=segmenter, models_json=_json(models))
    if connection.execute(statement).rowcount != 1:
        raise StoreRejectedError(f"cannot name the segmenter of run {run_id}: there is no such run")


def _json(models: Mapping[str, str]) -> str:
    return json.dumps(dict(models), separators=(",", ":"), sort_keys=True)


def end_run(connection: Connection, run_id: int, *, ended_utc_ns: int, reason: str) -> None:
    """See `Store.end_run`."""
    statement = update(run).where(run.c.id == run_id).values(ended_utc_ns=ended_utc_ns, end_reason=reason)
    if connection.execute(statement).rowcount != 1:
        raise StoreRejectedError(f"cannot end run {run_id}: there is no such run")


def register_camera(connection: Connection, info: CameraInfo, variant: Variant) -> int:
    """See `Store.register_camera`."""
    values = {
        "kind": info.kind,
        "product": info.product,
        "serial": info.serial,
        "firmware": info.firmware,
        "location": info.location,
        "variant": variant.value,
        "frame_rate_hz": info.frame_rate_hz,
    }
    same = and_(*(camera.columns[name] == value for name, value in values.items()))
    known = connection.execute(select(camera.c.id).where(same)).scalar()
    if known is not None:
        return known
    return connection.execute(insert(camera).values(values).returning(camera.c.id)).scalar_one()


def open_gap(connection: Connection, *, run_id: int, start_utc_ns: int, reason: str, end_utc_ns: int | None) -> int:
    """See `Store.open_gap`."""
    statement = insert(gap).values(
        run_id=run_id,
        start_utc_ns=start_utc_ns,
        reason=reason,
        end_utc_ns=end_utc_ns,
        end_run_id=None if end_utc_ns is None else run_id,
    )
    return connection.execute(statement.returning(gap.c.id)).scalar_one()


def close_gaps(connection: Connection, *, run_id: int, end_utc_ns: int) -> int:
    """See `Store.close_gaps`."""
    statement = update(gap).where(gap.c.end_utc_ns.is_(None)).values(end_utc_ns=end_utc_ns, end_run_id=run_id)
    return connection.execute(statement).rowcount


def close_gap(connection: Connection, gap_id: int, *, run_id: int, end_utc_ns: int) -> None:
    """See `Store.close_gap`."""
    statement = (
        update(gap)
        .where(gap.c.id == gap_id, gap.c.end_utc_ns.is_(None))
        .values(end_utc_ns=end_utc_ns, end_run_id=run_id)
    )
    if connection.execute(statement).rowcount != 1:
        raise StoreRejectedError(f"cannot close gap {gap_id}: there is no such open gap")


def gaps(connection: Connection, *, open_only: bool) -> list[Gap]:
    """See `Store.gaps`."""
    statement = select(gap).order_by(gap.c.id)
    if open_only:
        statement = statement.where(gap.c.end_utc_ns.is_(None))
    return [
        Gap(
            gap_id=row.id,
            run_id=row.run_id,
            start_utc_ns=row.start_utc_ns,
            end_utc_ns=row.end_utc_ns,
            reason=row.reason,
        )
        for row in connection.execute(statement)
    ]


def last_sign_of_life(connection: Connection) -> int | None:
    """See `Store.last_sign_of_life_utc_ns`."""
    newest = (
        select(func.max(frame.c.captured_utc_ns)),
        select(func.max(run.c.started_utc_ns)),
        select(func.max(run.c.ended_utc_ns)),
        select(event.c.at_utc_ns).order_by(event.c.id.desc()).limit(1),
    )
    moments = [connection.execute(statement).scalar() for statement in newest]
    return max((moment for moment in moments if moment is not None), default=None)
