"""Recordings of blocks as rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Select, func, insert, select, update

from daemon.store.blocks import StoredBlock
from daemon.store.retention import Why
from daemon.store.schema import RecordingState, block, recording
from drivers.errors import StoreRejectedError


class RecordingFile(Protocol):
    """What the store needs to know of a recording; `drivers.recording.RecordingSummary` is one."""

    @property
    def path(self) -> Path:
        """Where the file is."""
        ...

    @property
    def sha256(self) -> str | None:
        """Of the file, hexadecimal; None if it could not be closed."""
        ...

    @property
    def frames(self) -> int:
        """How many frames are in it."""
        ...

    @property
    def size_bytes(self) -> int:
        """Its size."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecording:
    """A recording as the database knows it."""

    recording_id: int
    block_key: str
    path: Path
    sha256: str | None
    frames: int
    size_bytes: int
    """Of a freed one: the size that it had."""
    state: RecordingState
    freed_utc_ns: int | None = None
    freed_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """How much was recorded."""

    frames: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FreedRecording:
    """A recording whose file was given up."""

    path: Path
    at_utc_ns: int
    why: Why


def add_recording(connection: Connection, stored: StoredBlock, file: RecordingFile, state: RecordingState) -> int:
    """See `Store.add_recording`."""
    values = {
        "block_id": stored.block_id,
        "path": str(file.path),
        "sha256": file.sha256,
        "frames": file.frames,
        "size_bytes": file.size_bytes,
        "state": RecordingState.UNFINISHED.value if file.sha256 is None else state.value,
        "freed_utc_ns": None,
        "freed_reason": None,
    }
    # While it was unfinished it may have been stored under the name that growing recordings have.
    names = (str(file.path), str(file.path.with_suffix(".part.mkv")))
    known = connection.execute(select(recording.c.id).where(recording.c.path.in_(names))).scalar()
    if known is not None:
        connection.execute(update(recording).where(recording.c.id == known).values(values))
        return known
    return connection.execute(insert(recording).values(values).returning(recording.c.id)).scalar_one()


def update_recording(connection: Connection, path: Path, state: RecordingState) -> None:
    """See `Store.update_recording`."""
    changed = connection.execute(update(recording).where(recording.c.path == str(path)).values(state=state.value))
    if changed.rowcount != 1:
        raise StoreRejectedError(f"no recording {path} is in the database: add it first")


def free_recordings(connection: Connection, freed: Sequence[FreedRecording]) -> int:
    """See `Store.free_recordings`."""
    changed = 0
    for each in freed:
        changed += connection.execute(
            update(recording)
            .where(recording.c.path == str(each.path), recording.c.state.in_(_WITH_FILE))
            .values(state=RecordingState.FREED.value, freed_utc_ns=each.at_utc_ns, freed_reason=each.why.value)
        ).rowcount
    return changed


_WITH_FILE = (RecordingState.COMPLETE.value, RecordingState.RECOVERED.value, RecordingState.DAMAGED.value)


def recorded_since(connection: Connection, since_utc_ns: int) -> Recorded:
    """See `Store.recorded_since`."""
    frames, size_bytes = connection.execute(
        select(func.coalesce(func.sum(recording.c.frames), 0), func.coalesce(func.sum(recording.c.size_bytes), 0))
        .join(block, recording.c.block_id == block.c.id)
        .where(block.c.end_utc_ns >= since_utc_ns)
    ).one()
    return Recorded(frames=int(frames), size_bytes=int(size_bytes))


def freed_count(connection: Connection) -> int:
    """See `Store.freed_count`."""
    return connection.execute(
        select(func.count()).select_from(recording).where(recording.c.state == RecordingState.FREED.value)
    ).scalar_one()


_STORED = select(recording, block.c.key.label("block_key")).join(block, recording.c.block_id == block.c.id)


def recordings(connection: Connection, block_key: str) -> list[StoredRecording]:
    """See `Store.recordings`."""
    return _stored(connection, _STORED.where(block.c.key == block_key).order_by(recording.c.id))


def all_recordings(connection: Connection) -> list[StoredRecording]:
    """See `Store.all_recordings`."""
    return _stored(connection, _STORED.order_by(block.c.start_utc_ns, recording.c.id))


def _stored(connection: Connection, statement: Select[*tuple[Any, ...]]) -> list[StoredRecording]:
    return [
        StoredRecording(
            recording_id=row.id,
            block_key=row.block_key,
            path=Path(row.path),
            sha256=row.sha256,
            frames=row.frames,
            size_bytes=row.size_bytes,
            state=RecordingState(row.state),
            freed_utc_ns=row.freed_utc_ns,
            freed_reason=row.freed_reason,
        )
        for row in connection.execute(statement)
    ]
