"""Closing recordings: the last steps of a writer, and what a crash has left open.

The files of a recording NAME: `NAME.part.mkv` and `NAME.part.jsonl` while it grows, `NAME.mkv` and `NAME.json` when it
is closed, `NAME.damaged` for what was of no use. Each step leaves what the next start can finish.
"""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Self

from drivers.clock import NS_PER_S
from drivers.durable import sync_directory
from drivers.errors import RecordingError
from drivers.frame import FrameFlag
from drivers.matroska import TransferReader, TransferWriter, as_recording_error, copy_frames, is_of_the_disk
from drivers.sidecar import (
    FrameFacts,
    JournalContent,
    MissingReason,
    RecordingHeader,
    Sidecar,
    journal_lock,
    read_journal,
)

logger = logging.getLogger(__name__)

NS_PER_MS = 1_000_000

FINAL_SUFFIX, _SIDECAR, PART_SUFFIX, _JOURNAL = ".mkv", ".json", ".part.mkv", ".part.jsonl"
_COPY = ".part.copy"
_DAMAGED, _DAMAGED_JOURNAL, _DAMAGED_SIDECAR = ".damaged", ".damaged.jsonl", ".damaged.json"


@dataclass(frozen=True, slots=True, order=True)
class RecordingFiles:
    """The files of one recording."""

    directory: Path
    name: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """By any of them that a person would name: the Matroska file, growing or closed."""
        return cls(path.parent, path.name.removesuffix(FINAL_SUFFIX).removesuffix(".part"))

    @property
    def final(self) -> Path:
        """As it is called once closed."""
        return self.directory / f"{self.name}{FINAL_SUFFIX}"

    @property
    def sidecar(self) -> Path:
        """The facts beside a closed recording."""
        return self.directory / f"{self.name}{_SIDECAR}"

    @property
    def part(self) -> Path:
        """The Matroska file while it grows."""
        return self.directory / f"{self.name}{PART_SUFFIX}"

    @property
    def journal(self) -> Path:
        """The facts while it grows."""
        return self.directory / f"{self.name}{_JOURNAL}"

    @property
    def copy(self) -> Path:
        """A repaired copy that is being made."""
        return self.directory / f"{self.name}{_COPY}"

    @property
    def all(self) -> tuple[Path, ...]:
        """Every name above, those that are taken last first."""
        return self.final, self.sidecar, self.copy, self.part, self.journal

    def set_aside(self, path: Path, suffix: str) -> Path:
        """Rename a file that is of no use out of the way, to a name that is free."""
        target = self.directory / f"{self.name}{suffix}"
        number = 1
        while target.exists():
            number += 1
            target = self.directory / f"{self.name}{suffix}.{number}"
        path.replace(target)
        sync_directory(self.directory)
        return target


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSummary:
    """What became of a recording."""

    path: Path
    """The Matroska file: closed, or still `.part.mkv` if the disk did not let it be closed."""
    header: RecordingHeader
    frames: int
    """Frames in the file, planned or not."""
    expected: int
    """Planned instants accounted for: captured plus missing."""
    captured: int
    """Planned instants with a frame."""
    missing: Mapping[str, int]
    """Planned instants without one, by reason."""
    size_bytes: int
    sha256: str | None
    """Of the file; None if it could not be closed."""
    duration_s: float
    """From the first to the last frame."""


def duration_between_s(frames: Sequence[FrameFacts]) -> float:
    """From the first to the last frame, seconds; 0 without frames."""
    if not frames:
        return 0.0
    return (frames[-1].captured_monotonic_ns - frames[0].captured_monotonic_ns) / NS_PER_S


def summary_of(names: RecordingFiles, sidecar: Sidecar) -> RecordingSummary:
    """What the sidecar of a closed recording says became of it."""
    return RecordingSummary(
        path=names.final,
        header=sidecar.header,
        frames=len(sidecar.frames),
        expected=sidecar.expected,
        captured=sidecar.captured,
        missing=sidecar.missing_by_reason,
        size_bytes=sidecar.size_bytes,
        sha256=sidecar.sha256,
        duration_s=duration_between_s(sidecar.frames),
    )


def sha256_of(path: Path) -> str:
    """Sum over all bytes of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def new_file(path: Path, header: RecordingHeader) -> TransferWriter:
    """Begin a Matroska file for this header."""
    return TransferWriter(path, header_json=header.to_json(), frame_rate_hz=Fraction(NS_PER_S, header.period_ns))


def give_names(
    names: RecordingFiles,
    source: Path,
    content: JournalContent,
    *,
    lost_reason: str,
    kept_pts_ms: Set[int] | None = None,
) -> RecordingSummary:
    """The last steps of closing: a crash between any two of them leaves what `close_leftovers` can finish.

    Parameters
    ----------
    source : Path
        The complete Matroska file.
    content : JournalContent
        With `ended` set.
    lost_reason : str
        For the frames in the journal that are not in the file.
    kept_pts_ms : set of int, optional
        Presentation times of the frames that are in both; all when left out.
    """
    kept = content.pts_ms if kept_pts_ms is None else kept_pts_ms
    account = content.account(kept_pts_ms=kept, lost_reason=lost_reason)
    _sync_file(source)
    sidecar = Sidecar(
        header=content.header,
        accounted_until_utc_ns=content.accounted_until_utc_ns,
        expected=account.expected,
        captured=account.captured,
        missing=account.missing_ranges(),
        calibrations=tuple(content.calibrations),
        corrections=content.corrections,
        frames=tuple(facts for facts in content.frames if facts.pts_ms in kept),
        size_bytes=source.stat().st_size,
        sha256=sha256_of(source),
    )
    sidecar.write(names.sidecar)
    _tidy(names, source)
    return summary_of(names, sidecar)


def _tidy(names: RecordingFiles, source: Path) -> None:
    """The sidecar of `source` is in place: give it its name, and remove what it was made of."""
    if source != names.final:
        source.replace(names.final)
        sync_directory(names.directory)
    names.part.unlink(missing_ok=True)
    names.journal.unlink(missing_ok=True)
    sync_directory(names.directory)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def finish_by_copy(names: RecordingFiles, content: JournalContent, *, lost_reason: str) -> RecordingSummary:
    """Close a recording whose file is torn: a frame counts when it is whole, and in the journal too."""
    try:
        kept: set[int] = set()
        if names.part.exists():
            if _opens(names.part):
                kept = copy_frames(names.part, names.copy, header_json=content.header.to_json(), wanted=content.pts_ms)
            if not kept:
                aside = names.set_aside(names.part, _DAMAGED)
                logger.warning("%s: no complete frame; set aside as %s", names.part, aside.name)
        if not kept:
            new_file(names.copy, content.header).finish()
        return give_names(names, names.copy, content, lost_reason=lost_reason, kept_pts_ms=kept)
    except (OSError, RecordingError):
        names.copy.unlink(missing_ok=True)
        raise


def _opens(path: Path) -> bool:
    with path.open("rb"):  # not being allowed to is no damage
        pass
    try:
        TransferReader(path).close()
    except RecordingError:
        return False
    return True


def close_leftovers(directory: Path, *, accounted_until_utc_ns: int) -> list[RecordingSummary]:
    """Close the recordings that a crash has left open; for the start of the service.

    Whole frames that are in the file and in the journal count as captured. Planned instants whose frame was lost are
    missing as `lost_in_crash`, those without any record as `service_down`. What is of no use is set aside as
    `NAME.damaged` with a warning, never deleted. A recording that is still being written is left alone.

    Parameters
    ----------
    directory : Path
        Searched with all below it; it need not exist.
    accounted_until_utc_ns : int
        Planned instants before this moment are accounted for: usually now.

    Returns
    -------
    list of RecordingSummary
        Of those that were closed. One that the disk does not let be closed (it is full) is reported in the log and left
        for the next time; one that is too damaged to be closed is set aside as a whole.
    """
    leftovers = {RecordingFiles.of(path) for path in directory.rglob(f"*{PART_SUFFIX}")}
    leftovers |= {RecordingFiles.of(path.with_suffix(FINAL_SUFFIX)) for path in directory.rglob(f"*{_JOURNAL}")}
    summaries = []
    for names in sorted(leftovers):
        try:
            summary = close_leftover(names, accounted_until_utc_ns=accounted_until_utc_ns)
        except RecordingError as error:
            if is_of_the_disk(error):
                logger.warning("%s; left for the next start", error)
            else:
                _set_all_aside(names, error)
        else:
            if summary is not None:
                logger.info("%s: closed after a crash, %d frames", summary.path, summary.frames)
                summaries.append(summary)
    return summaries


def _set_all_aside(names: RecordingFiles, why: RecordingError) -> None:
    """Give up a leftover that no further attempt will close."""
    try:
        for path, suffix in ((names.part, _DAMAGED), (names.journal, _DAMAGED_JOURNAL)):
            if path.exists():
                logger.error("%s; set aside as %s", why, names.set_aside(path, suffix).name)
    except OSError as error:
        logger.warning("%s: cannot be set aside: %s", names.part, error)


def close_leftover(
    names: RecordingFiles, *, accounted_until_utc_ns: int, refused_utc_ns: int | None = None
) -> RecordingSummary | None:
    """Close one of them, as `close_leftovers` does; None when it is being written, or there is nothing of use.

    Parameters
    ----------
    names : RecordingFiles
        Of the recording.
    accounted_until_utc_ns : int
        As with `close_leftovers`.
    refused_utc_ns : int, optional
        See `drivers.recording.RecordingWriter.refused_utc_ns`.

    Raises
    ------
    RecordingError
        The disk does not let it be closed now.
    """
    with as_recording_error(names.part, "close what a crash has left"), journal_lock(names.journal) as free:
        return _close_leftover(names, accounted_until_utc_ns, refused_utc_ns) if free else None


def _close_leftover(names: RecordingFiles, until_utc_ns: int, refused_utc_ns: int | None) -> RecordingSummary | None:
    if names.sidecar.exists() and (summary := _name_what_is_closed(names)) is not None:
        return summary
    if names.final.exists():
        raise RecordingError(f"{names.part} cannot be closed: {names.final} is there and is another recording")
    content = _content_of_leftover(names)
    if content is None:
        return None
    content.refuse(refused_utc_ns)
    if content.ended is None:
        content.ended = min(until_utc_ns, content.header.end_utc_ns), MissingReason.SERVICE_DOWN
    return finish_by_copy(names, content, lost_reason=MissingReason.LOST_IN_CRASH)


def _name_what_is_closed(names: RecordingFiles) -> RecordingSummary | None:
    """The crash came after the sidecar was written: only names are left to be given. None if it was not so."""
    try:
        sidecar = Sidecar.read(names.sidecar)
    except RecordingError as error:
        logger.warning("%s; it is made again", error)
        return None
    for source in (names.final, names.part):
        if source.exists() and source.stat().st_size == sidecar.size_bytes and sha256_of(source) == sidecar.sha256:
            _tidy(names, source)
            return summary_of(names, sidecar)
    return None


def _content_of_leftover(names: RecordingFiles) -> JournalContent | None:
    """What is known of a leftover; None when it is nothing, and then its files are set aside."""
    if names.journal.exists():
        try:
            return read_journal(names.journal)
        except RecordingError as error:
            aside = names.set_aside(names.journal, _DAMAGED_JOURNAL)
            logger.warning("%s; set aside as %s", error, aside.name)
    if not names.part.exists():
        return None
    if _opens(names.part):
        with TransferReader(names.part) as reader, suppress(RecordingError):
            content = content_of_pictures(reader)
            # Without the journal nobody knows which instants the frames stand for.
            content.ended = content.header.end_utc_ns, MissingReason.LOST_IN_CRASH
            if content.frames:
                return content
    aside = names.set_aside(names.part, _DAMAGED)
    logger.warning("%s: no complete frame and no journal; set aside as %s", names.part, aside.name)
    return None


def damaged_sidecars(directory: Path, *, since_day: date) -> list[RecordingFiles]:
    """Closed recordings whose sidecar cannot be read, in the folders of the days since then.

    Parameters
    ----------
    directory : Path
        With one folder a day below it; it need not exist.
    since_day : date
        Folders of earlier days are not looked at.
    """
    damaged = []
    for path in sorted(directory.glob(f"????-??-??/*{_SIDECAR}")):
        if path.parent.name < since_day.isoformat() or path.name.endswith(_DAMAGED_SIDECAR):
            continue
        try:
            Sidecar.read(path)
        except RecordingError as error:
            if is_of_the_disk(error):
                logger.warning("%s", error)
            else:
                damaged.append(RecordingFiles(path.parent, path.stem))
    return damaged


def mend_sidecar(names: RecordingFiles) -> RecordingSummary | None:
    """Set a damaged sidecar aside and make another from the pictures, for what they say of themselves.

    The new one accounts for no planned instant: which of them a frame stands for was in the damaged one, and is in the
    database. None when the pictures say nothing either; then they are set aside, too.

    Raises
    ------
    RecordingError
        The disk refuses.
    """
    with as_recording_error(names.sidecar, "make it anew"):
        aside = names.set_aside(names.sidecar, _DAMAGED_SIDECAR)
        logger.error("%s cannot be read: set aside as %s", names.sidecar, aside.name)
        if not names.final.exists():
            return None
        if _opens(names.final):
            with TransferReader(names.final) as reader, suppress(RecordingError):
                content = content_of_pictures(reader)
                content.ended = content.header.accounted_from_utc_ns, MissingReason.LOST_IN_CRASH
                return give_names(names, names.final, content, lost_reason=MissingReason.LOST_IN_CRASH)
        aside = names.set_aside(names.final, _DAMAGED)
        logger.error("%s cannot be read either: set aside as %s", names.final, aside.name)
        return None


def content_of_pictures(reader: TransferReader) -> JournalContent:
    """What a file without sidecar and journal says of itself: its header, and times to the millisecond."""
    if reader.header_json is None:
        raise RecordingError(f"{reader.path}: neither sidecar nor journal nor a header of its own")
    content = JournalContent(header=RecordingHeader.from_json(reader.header_json))
    for index, (pts_ms, _packet) in enumerate(reader.packets()):
        content.frames.append(facts_of_picture(content.header, index, pts_ms))
    return content


def facts_of_picture(header: RecordingHeader, index: int, pts_ms: int) -> FrameFacts:
    """What a presentation time alone tells about a frame."""
    return FrameFacts(
        pts_ms=pts_ms,
        sequence=index,
        captured_utc_ns=header.start_utc_ns + pts_ms * NS_PER_MS,
        captured_monotonic_ns=pts_ms * NS_PER_MS,
        planned_utc_ns=None,
        flags=FrameFlag.NONE,
        calibration=None,
        correction=None,
    )
