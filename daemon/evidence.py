"""What an event shows for itself: a plot and frames as PNG files, and not more of them than the disk is to hold."""

import logging
import shutil
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from daemon.events import Event, Scalar
from drivers.clock import NS_PER_S
from drivers.durable import write_together

logger = logging.getLogger(__name__)

FOLDER = "evidence"
"""Below the data directory."""

MOST_FRAMES = 3
PICTURES = ("plot", *(f"frame_{number}" for number in range(1, MOST_FRAMES + 1)))
"""Names of the files, without their ending."""
_ERROR = "evidence_error"
RECENT_MINUTES, OLDER_MINUTES, KEPT_MINUTES = 10, 10, 60
"""One a minute of the latest ten, one in ten of those before. All would fill 11 MB over an hour, like a leak."""

MB = 1_000_000


class FrameAlbum:
    """Pictures of the last hour, older ones fewer, as PNG files in memory."""

    def __init__(self) -> None:
        self._pictures: list[tuple[int, bytes]] = []

    def wants(self, utc_ns: int) -> bool:
        """Whether this moment is in a minute without a picture; after the clock was set back, too."""
        return not self._pictures or _minute(utc_ns) != _minute(self._pictures[-1][0])

    def add(self, utc_ns: int, png: bytes) -> None:
        """Keep one, and of the older ones fewer."""
        kept: list[tuple[int, bytes]] = []
        for each in self._pictures[-KEPT_MINUTES:]:  # not more, however often the clock is set
            age = _minute(utc_ns) - _minute(each[0])
            slot = _minute(each[0]) // OLDER_MINUTES
            if abs(age) < RECENT_MINUTES or (
                abs(age) < KEPT_MINUTES and (not kept or _minute(kept[-1][0]) // OLDER_MINUTES != slot)
            ):
                kept.append(each)
        self._pictures = [*kept, (utc_ns, png)]

    def choose(self, since_utc_ns: int, until_utc_ns: int) -> list[tuple[int, bytes]]:
        """Up to three from begin, middle and end of this time; of an older one the oldest there is."""
        pictures = [each for each in self._pictures if each[0] <= until_utc_ns]
        inside = [each for each in pictures if each[0] >= since_utc_ns] or pictures[-1:]
        if len(inside) <= MOST_FRAMES:
            return inside
        return [inside[0], inside[len(inside) // 2], inside[-1]]


def _minute(utc_ns: int) -> int:
    return utc_ns // (60 * NS_PER_S)


def without_pictures(data: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The data of an event without what is said of its pictures."""
    times = {f"{name}_utc_ns" for name in PICTURES}
    return {name: value for name, value in data.items() if name not in (*PICTURES, *times, _ERROR)}


class EvidenceFolder:
    """Writes what belongs to an event, and removes the oldest when there is too much; from any thread.

    Parameters
    ----------
    data_dir : Path
        The folder `evidence` in it is used.
    most_bytes : int
        What all files may take together; 0 writes none.
    """

    def __init__(self, data_dir: Path, most_bytes: int) -> None:
        self._data_dir = data_dir
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: deque[tuple[Path, int]] | None = None
        """Folders and how many bytes are in them, oldest first; None before they were looked at."""

    def attach(self, event: Event, *, plot: bytes | None, frames: list[tuple[int, bytes]]) -> Event:
        """The event with the paths of its files, relative to the data directory; why there are none, if there are none.

        An event without its pictures is better than none: this raises nothing.
        """
        files = {"plot": plot} if plot is not None else {}
        files |= {f"frame_{number}": png for number, (_, png) in enumerate(frames, start=1)}
        if not files or not self._most_bytes:
            return event
        day = datetime.fromtimestamp(event.at_utc_ns / NS_PER_S, UTC).date().isoformat()
        folder = Path(FOLDER) / day / event.event_id
        try:
            with self._lock:
                self._write(folder, files)
        except OSError as error:
            logger.error("event %s %s has no evidence on disk: %s", event.kind, event.event_id, error)
            return replace(event, data=dict(event.data) | {_ERROR: error.strerror or str(error)})
        paths = {name: str(folder / f"{name}.png") for name in files}
        times = {f"frame_{number}_utc_ns": at for number, (at, _) in enumerate(frames, start=1)}
        return replace(event, data=dict(event.data) | paths | times)

    def _write(self, folder: Path, files: Mapping[str, bytes]) -> None:
        size = sum(map(len, files.values()))
        if size > self._most_bytes:
            raise OSError(0, f"{size} bytes are more than rules.evidence_mb allows")
        if self._kept is None:
            self._kept = self._found()
        _make_room(self._kept, self._most_bytes - size)
        target = self._data_dir / folder
        target.mkdir(parents=True, exist_ok=True)
        try:
            write_together(target, {f"{name}.png": content for name, content in files.items()})
        except OSError:
            shutil.rmtree(target, ignore_errors=True)
            raise
        self._kept.append((target, size))

    def _found(self) -> deque[tuple[Path, int]]:
        """What is there; of many folders that takes longer than a frame, and so is asked only once."""
        found = [
            (folder.stat().st_mtime_ns, folder, sum(file.stat().st_size for file in folder.iterdir()))
            for folder in (self._data_dir / FOLDER).glob("*/*")
            if folder.is_dir()
        ]
        return deque((folder, size) for _, folder, size in sorted(found))


def _make_room(kept: deque[tuple[Path, int]], most_bytes: int) -> None:
    """Remove the oldest until no more than this is left."""
    taken = sum(size for _, size in kept)
    while kept and taken > most_bytes:
        folder, size = kept[0]
        with suppress(FileNotFoundError):  # somebody else has removed it
            shutil.rmtree(folder)
            if not any(folder.parent.iterdir()):
                folder.parent.rmdir()
        kept.popleft()
        taken -= size


class EvidenceFiles:
    """Finds what `EvidenceFolder` has written; from any thread."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def __call__(self, event_id: str, name: str) -> bytes | None:
        """A PNG file; None where there is none, or none any more. Both must be of letters, digits and _ alone."""
        for path in (self._data_dir / FOLDER).glob(f"*/{event_id}/{name}.png"):
            try:
                return path.read_bytes()
            except OSError:
                return None
        return None
