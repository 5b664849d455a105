"""Recordings of blocks as rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, insert, select, update

from daemon.store.blocks import StoredBlock
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
    state: RecordingState


def add_recording(connection: Connection, stored: StoredBlock, file: RecordingFile, state: RecordingState) -> int:
    """See `Store.add_recording`."""
    values = {
        "block_id": stored.block_id,
        "path": str(file.path),
        "sha256": file.sha256,
        "frames": file.frames,
        "size_bytes": file.size_bytes,
        "state": RecordingState.UNFINISHED.value if file.sha256 is None else state.value,
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


def recordings(connection: Connection, block_key: str) -> list[StoredRecording]:
    """See `Store.recordings`."""
    statement = (
        select(
            recording.c.id,
            recording.c.path,
            recording.c.sha256,
            recording.c.frames,
            recording.c.size_bytes,
            recording.c.state,
        )
        .join(block, recording.c.block_id == block.c.id)
        .where(block.c.key == block_key)
        .order_by(recording.c.id)
    )
    return [
        StoredRecording(
            recording_id=row.id,
            block_key=block_key,
            path=Path(row.path),
            sha256=row.sha256,
            frames=row.frames,
            size_bytes=row.size_bytes,
            state=RecordingState(row.state),
        )
        for row in connection.execute(statement)
    ]
