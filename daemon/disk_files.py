"""What is on the disk: recordings with the marks that keep them, and what may give way.

All of it is read from names, so that it holds also when the database was set aside: a recording lies in the folder of
its local day and is called `BOX_DAY_BLOCK[_SEGMENT].mkv`; `NAME.pin` beside it says which pins keep it.
"""

import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from daemon.store.retention import Candidate, Level, Pin, names_of
from drivers.clock import NS_PER_S
from drivers.closing import FINAL_SUFFIX, PART_SUFFIX, RecordingFiles
from drivers.durable import write_durably

logger = logging.getLogger(__name__)

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_SEGMENT = re.compile(r"_\d+$")
_OPEN_SUFFIXES = (PART_SUFFIX, ".part.jsonl")
_PIN_SUFFIX = ".pin"
_BLOCK_BYTES = 512
"""The unit of `st_blocks`, whatever the file system's."""

_TEMPORARY = re.compile(r"\.part\.copy$|\.tmp$|\.part$")
_TEMPORARY_AFTER_S = 3600
_SET_ASIDE = re.compile(r"\.damaged(\.jsonl|\.json)?([.-]\d+)?$")
_SET_ASIDE_AFTER_S = 30 * 86_400
_DATABASE_COPY = re.compile(r"^\.before-[A-Za-z0-9.+~_-]*-(\d{8}T\d{6}Z)(-\d+)?$")
_COMPANION = re.compile(r"-(wal|shm|journal)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingOnDisk:
    """A closed recording, by its name."""

    path: Path
    day: date
    block_key: str
    size_bytes: int
    written_ns: int
    device: int
    """The file system that it is on."""
    is_open: bool
    """Whether a further segment of its block is being written."""
    pins: frozenset[str] | None
    """Names in its mark; None without one, empty when the mark is damaged: it keeps the recording all the same."""

    @property
    def mark(self) -> Path:
        """The file that says which pins keep it."""
        return self.path.with_name(RecordingFiles.of(self.path).name + _PIN_SUFFIX)


def recordings_on_disk(directory: Path) -> list[RecordingOnDisk]:
    """All closed recordings, oldest first."""
    found: list[RecordingOnDisk] = []
    for folder in _subfolders(directory):
        if _DAY.fullmatch(folder.name):
            with suppress(ValueError):  # a name like 2026-99-99
                found += _recordings_of(folder, date.fromisoformat(folder.name))
    return sorted(found, key=lambda each: (each.day, each.written_ns, each.path))


def _recordings_of(folder: Path, day: date) -> Iterator[RecordingOnDisk]:
    names = {path.name for path in folder.iterdir()}
    open_blocks = {
        _SEGMENT.sub("", name.removesuffix(suffix))
        for name in names
        for suffix in _OPEN_SUFFIXES
        if name.endswith(suffix)
    }
    for name in names:
        stem = name.removesuffix(FINAL_SUFFIX)
        block = _SEGMENT.sub("", stem)
        if not name.endswith(FINAL_SUFFIX) or name.endswith(PART_SUFFIX):
            continue
        with suppress(FileNotFoundError):  # freed meanwhile
            status = (folder / name).stat()
            yield RecordingOnDisk(
                path=folder / name,
                day=day,
                block_key=_block_key(folder.name, block),
                size_bytes=status.st_blocks * _BLOCK_BYTES,
                written_ns=status.st_mtime_ns,
                device=status.st_dev,
                is_open=block in open_blocks,
                pins=_read_mark(folder / f"{stem}{_PIN_SUFFIX}") if f"{stem}{_PIN_SUFFIX}" in names else None,
            )


def candidates(
    data_dir: Path, recordings: Sequence[RecordingOnDisk], *, database: Path | None, pins: Sequence[Pin], now_ns: int
) -> list[Candidate]:
    """What may give way, and the recordings that may not.

    Parameters
    ----------
    data_dir : Path
        With `recordings/` and `camera/`.
    recordings : sequence of RecordingOnDisk
        From `recordings_on_disk`.
    database : Path or None
        Its file, for the copies beside it.
    pins : sequence of Pin
        As the database knows them; marks count as well.
    now_ns : int
        Wall time.
    """
    newest = recordings[-1].block_key if recordings else None
    device = data_dir.stat().st_dev
    found = [
        Candidate(
            path=each.path,
            level=Level.RECORDING,
            size_bytes=each.size_bytes,
            day=each.day,
            written_ns=each.written_ns,
            pinned=each.pins is not None or bool(names_of(pins, each.day, each.block_key)),
            in_use=each.is_open or each.block_key == newest,
            elsewhere=each.device != device,
        )
        for each in recordings
    ]
    folders = [data_dir, data_dir / "camera", *_subfolders(data_dir / "recordings")]
    for folder in folders:
        found += _old_files(folder, _TEMPORARY, Level.TEMPORARY, now_ns - _TEMPORARY_AFTER_S * NS_PER_S, device)
    for folder in folders[1:]:
        old = _old_files(folder, _SET_ASIDE, Level.SET_ASIDE, now_ns - _SET_ASIDE_AFTER_S * NS_PER_S, device)
        found += [each for each in old if not _is_pinned(each.path, pins)]
    return found + ([] if database is None else _database_copies(database, device))


def _old_files(folder: Path, name: re.Pattern[str], level: Level, before_ns: int, device: int) -> Iterator[Candidate]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if name.search(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_mtime_ns < before_ns:
                        yield _file(Path(entry.path), level, status, device)


def _is_pinned(set_aside: Path, pins: Sequence[Pin]) -> bool:
    """Whether a pin covers the block that a file beside recordings was set aside from."""
    day = set_aside.parent.name
    if not _DAY.fullmatch(day):
        return False
    try:
        local_day = date.fromisoformat(day)
    except ValueError:  # a name like 2026-99-99: not ours, so nobody can say that it is of no use
        return True
    stem = set_aside.name.partition(".damaged")[0]
    return set_aside.with_name(stem + _PIN_SUFFIX).exists() or bool(
        names_of(pins, local_day, _block_key(day, _SEGMENT.sub("", stem)))
    )


def _block_key(day: str, block: str) -> str:
    """The key of a block from the names of folder and file."""
    return f"{day}/{block.partition(f'_{day}_')[2]}"


def _database_copies(database: Path, device: int) -> list[Candidate]:
    """Copies made before upgrades, but the newest; backups that somebody made are not among them."""
    copies = [
        (match[1], path)
        for path in database.parent.glob(f"{database.name}.*")
        if (match := _DATABASE_COPY.search(path.name.removeprefix(database.name))) and path.is_file()
    ]
    return [_file(path, Level.DATABASE_COPY, path.stat(), device) for _, path in sorted(copies)[:-1]]


def _file(path: Path, level: Level, status: os.stat_result, device: int) -> Candidate:
    return Candidate(
        path=path,
        level=level,
        size_bytes=status.st_blocks * _BLOCK_BYTES,
        written_ns=status.st_mtime_ns,
        elsewhere=status.st_dev != device,
    )


def _subfolders(directory: Path) -> list[Path]:
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    return []


# Marks


def _read_mark(path: Path) -> frozenset[str]:
    try:
        return frozenset(map(str, json.loads(path.read_bytes())["pins"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.debug("%s: %s; it keeps its recording all the same", path, error)
        return frozenset()


def mark_pinned(recordings: Sequence[RecordingOnDisk], pins: Sequence[Pin]) -> int:
    """Leave marks beside recordings that pins cover; how many were written.

    Raises
    ------
    OSError
        If one cannot be written.
    """
    written = 0
    for each in recordings:
        known = each.pins or frozenset()
        wanted = known | names_of(pins, each.day, each.block_key)
        if wanted != known:
            write_durably(each.mark, json.dumps({"pins": sorted(wanted)}).encode() + b"\n")
            written += 1
    return written


def unmark(recordings: Sequence[RecordingOnDisk], name: str) -> int:
    """Take a pin's name off all marks, and remove those that say nothing any more; how many recordings it kept.

    Raises
    ------
    OSError
        If a mark cannot be written or removed.
    """
    kept = [each for each in recordings if each.pins is not None and name in each.pins]
    for each in kept:
        left = sorted((each.pins or frozenset()) - {name})
        if left:
            write_durably(each.mark, json.dumps({"pins": left}).encode() + b"\n")
        else:
            each.mark.unlink(missing_ok=True)
    return len(kept)


# What was set aside

Identity = tuple[Path, int, int]


def set_aside_files(data_dir: Path, database: Path | None) -> dict[Identity, str]:
    """Everything that was set aside as damaged, and what it was: database, recording, sidecar, journal or gain map."""
    found: dict[Identity, str] = {}
    for folder in (data_dir / "camera", *_subfolders(data_dir / "recordings")):
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                if _SET_ASIDE.search(entry.name):
                    _enter(found, Path(entry.path), _kind(entry.name, folder == data_dir / "camera"))
    if database is not None:
        for path in database.parent.glob(f"{database.name}.damaged-*"):
            if not _COMPANION.search(path.name):
                _enter(found, path, "database")
    return found


def _enter(found: dict[Identity, str], path: Path, what: str) -> None:
    with suppress(FileNotFoundError):
        status = path.stat()
        found[path, status.st_ino, status.st_mtime_ns] = what


def _kind(name: str, in_camera: bool) -> str:
    if in_camera:
        return "gain_map"
    return "journal" if ".damaged.jsonl" in name else "sidecar" if ".damaged.json" in name else "recording"


def new_files(now: Collection[Identity], before: Collection[Identity]) -> list[Identity]:
    """Those that were not there before, in the order of their names."""
    return sorted(set(now) - set(before))
