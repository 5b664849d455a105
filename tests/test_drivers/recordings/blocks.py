"""What tests of recordings do with them."""

import resource
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av

from drivers.clock import NS_PER_S
from drivers.frame import ThermalFrame
from drivers.recording import (
    SYNC_INTERVAL_S,
    Recording,
    RecordingHeader,
    RecordingSummary,
    RecordingWriter,
)

START_UTC_NS = 1_700_000_000 * NS_PER_S
SIMPLE_BLOCK_HEADER_BYTES = 4


def planned(second: int) -> int:
    return START_UTC_NS + second * NS_PER_S


def append_all(writer: RecordingWriter, frames: Sequence[ThermalFrame]) -> None:
    for frame in frames:
        writer.append(frame, planned_utc_ns=planned(frame.sequence - 100))


def record(
    path: Path,
    header: RecordingHeader,
    frames: Sequence[ThermalFrame],
    *,
    sync_interval_s: float | None = SYNC_INTERVAL_S,
) -> RecordingSummary:
    with RecordingWriter(path, header, sync_interval_s=sync_interval_s) as writer:
        append_all(writer, frames)
        return writer.close()


def crash(
    directory: Path,
    header: RecordingHeader,
    frames: Sequence[ThermalFrame],
    *,
    sync_interval_s: float | None = SYNC_INTERVAL_S,
) -> Path:
    """What a killed writer leaves in a directory: the files as the kernel has them before they are closed."""
    directory.mkdir()
    alive = directory.with_name("alive") / "block.mkv"
    with RecordingWriter(alive, header, sync_interval_s=sync_interval_s) as writer:
        append_all(writer, frames)
        for suffix in (".part.mkv", ".part.jsonl"):
            shutil.copy(directory.with_name("alive") / f"block{suffix}", directory)
    return directory / "block.mkv"


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def transfers(recording: Recording) -> list[bytes]:
    return [frame.raw.payload for frame in recording]


def payloads(frames: Sequence[ThermalFrame]) -> list[bytes]:
    return [frame.transfer.tobytes() for frame in frames]


def picture_ends(path: Path) -> list[int]:
    """Where each picture ends in the file."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        return [(packet.pos or 0) + SIMPLE_BLOCK_HEADER_BYTES + packet.size for packet in packets]


def from_first_cluster(path: Path) -> bytes:
    """All of a file but its head, in which FFmpeg gives it a random number."""
    content = path.read_bytes()
    return content[content.index(b"\x1f\x43\xb6\x75") :]


def flip(path: Path, position: int, mask: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ mask]))


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """No file may grow beyond this, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
