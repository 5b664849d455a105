"""Lossless raw recordings: what the camera sent, frame by frame, and which planned moments are missing and why.

While a recording grows it is `NAME.part.mkv` with a journal `NAME.part.jsonl`; closed, it is `NAME.mkv` with a sidecar
`NAME.json`. `drivers.matroska` is the container, `drivers.sidecar` the facts beside it,
`drivers.closing` the way from the first to the second.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from drivers.clock import NS_PER_S
from drivers.closing import (
    FINAL_SUFFIX,
    NS_PER_MS,
    PART_SUFFIX,
    RecordingFiles,
    RecordingSummary,
    close_leftovers,
    content_of_pictures,
    duration_between_s,
    facts_of_picture,
    finish_by_copy,
    give_names,
    new_file,
    sha256_of,
)
from drivers.corrections import CorrectionNotes, Corrections
from drivers.durable import sync_directory
from drivers.errors import RecordingError
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.matroska import TransferReader, as_recording_error
from drivers.nuc import HostCorrection
from drivers.sidecar import (
    FrameFacts,
    Journal,
    JournalContent,
    MissingReason,
    RecordingHeader,
    Sidecar,
    missing_by_reason,
    read_journal,
)
from drivers.thermometry import Calibration

__all__ = [
    "MissingReason",
    "RecordedFrame",
    "Recording",
    "RecordingHeader",
    "RecordingSummary",
    "RecordingWriter",
    "close_leftovers",
]

logger = logging.getLogger(__name__)

SYNC_INTERVAL_S = 0.45
"""Twice a second, with room for the jitter of a plan of two frames a second.

A power cut loses what was captured since, and what waits in this process: 1.5 s in all, also where a slow processor or
disk takes most of a second for what is quick elsewhere.
"""


class RecordingWriter:
    """Writes one recording; opened and closed by `with`, used by one thread.

    Parameters
    ----------
    path : Path
        `NAME.mkv`, as it is called once closed; its directory is made.
    header : RecordingHeader
        What is recorded.
    sync_interval_s : float or None
        How often all is brought to the disk, by the time of the frames; None leaves that to the system (a simulated
        day is not worth a hundred thousand waits for the disk).

    Raises
    ------
    RecordingError
        If one of the files is already there or cannot be made.
    """

    def __init__(self, path: Path, header: RecordingHeader, *, sync_interval_s: float | None = SYNC_INTERVAL_S) -> None:
        if not path.name.endswith(FINAL_SUFFIX) or path.name.endswith(PART_SUFFIX):
            raise RecordingError(f"a recording is called NAME{FINAL_SUFFIX}, got {path}")
        self._names = names = RecordingFiles.of(path)
        self._header = header
        self._sync_interval_ns = None if sync_interval_s is None else round(sync_interval_s * NS_PER_S)
        self._synced_monotonic_ns: int | None = None
        self._calibrations: dict[Calibration, int] = {}
        self._frames = 0
        self._last_pts_ms = -1
        self._zero_monotonic_ns: int | None = None
        self._failure: RecordingError | None = None
        self._refused_utc_ns: int | None = None
        self._summary: RecordingSummary | None = None
        for existing in (names.final, names.sidecar, names.part, names.journal):
            if existing.exists():
                raise RecordingError(f"{existing} is already there; a recording is never overwritten")
        with as_recording_error(path, "begin a recording"), ExitStack() as undo:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The journal comes first: what happens from here on leaves a leftover that says what it was to be.
            self._journal = Journal(names.journal, header)
            undo.callback(names.journal.unlink, missing_ok=True)
            undo.callback(self._journal.close)
            self._corrections = CorrectionNotes(self._journal.correction_words, self._journal.correction)
            undo.callback(names.part.unlink, missing_ok=True)
            self._video = new_file(names.part, header)
            undo.callback(self._let_go_of_video)
            sync_directory(path.parent)
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """As the file is called once closed."""
        return self._names.final

    @property
    def frames(self) -> int:
        """How many were written."""
        return self._frames

    @property
    def corrections(self) -> int:
        """How many host corrections of a v2 are in it."""
        return len(self._corrections)

    @property
    def refused_utc_ns(self) -> int | None:
        """The planned instant whose frame the disk would not take, and perhaps not even its line in the journal."""
        return self._refused_utc_ns

    def append(self, frame: ThermalFrame, *, planned_utc_ns: int | None) -> None:
        """Write a frame.

        Parameters
        ----------
        frame : ThermalFrame
            Its transfer is what is recorded, and what turned that into degrees.
        planned_utc_ns : int or None
            The planned instant it stands for.

        Raises
        ------
        RecordingError
            The disk did not take it, now or before: close this recording, begin another when there is room.
        ValueError
            If that is no planned instant of this recording.
        """
        self._require_open()
        if planned_utc_ns is not None:
            self._header.planned_index(planned_utc_ns)
        self._refused_utc_ns = planned_utc_ns
        with self._remembering_failure("write a frame"):
            facts = FrameFacts(
                pts_ms=self._pts_ms(frame),
                sequence=frame.sequence,
                captured_utc_ns=frame.captured_utc_ns,
                captured_monotonic_ns=frame.captured_monotonic_ns,
                planned_utc_ns=planned_utc_ns,
                flags=frame.flags,
                calibration=self._number_of(frame.calibration),
                correction=self._corrections.number_of(frame.correction),
            )
            self._journal.frame(self._frames, facts)
            self._video.write(frame.transfer, facts.pts_ms)
            self._last_pts_ms = facts.pts_ms
            self._frames += 1
            self._sync_if_due(frame.captured_monotonic_ns)
            self._refused_utc_ns = None

    def missing(self, planned_utc_ns: int, reason: str) -> None:
        """Say why a planned instant has no frame; a frame that comes for it after all counts, not this.

        Raises
        ------
        RecordingError
            As with `append`.
        ValueError
            If that is no planned instant of this recording.
        """
        self._require_open()
        self._header.planned_index(planned_utc_ns)
        with self._remembering_failure("write to the journal"):
            self._journal.missing(planned_utc_ns, reason)

    def close(
        self, *, accounted_until_utc_ns: int | None = None, reason: str = MissingReason.SERVICE_STOPPED
    ) -> RecordingSummary:
        """Finish the file, write the sidecar, give both their names.

        Parameters
        ----------
        accounted_until_utc_ns : int, optional
            Planned instants before this moment that are neither captured nor reported missing become missing; those
            from there on belong to the next segment. The end of the block when left out.
        reason : str
            For these.

        Returns
        -------
        RecordingSummary
            The same again when it is already closed.

        Raises
        ------
        RecordingError
            The disk did not let it be closed, and no earlier call has said so. What was written stays readable, and
            `close_leftovers` finishes it.
        """
        if self._summary is None:
            told = self._failure is not None
            until = self._header.end_utc_ns if accounted_until_utc_ns is None else accounted_until_utc_ns
            try:
                self._summary = self._finish(until, reason)
            finally:
                self._journal.close()
            if self._summary.sha256 is None and self._failure is not None:
                if not told:
                    raise self._failure
                logger.warning("%s: not closed, left for the next start", self._names.part)
            elif self._failure is not None and not told:
                logger.warning("%s; closed with the frames that are whole", self._failure)
        return self._summary

    def discard(self) -> None:
        """Take back a recording without frames, closed or not, as if it had never been begun.

        What cannot be removed is reported in the log, and closed by the next `close_leftovers`.

        Raises
        ------
        ValueError
            If a frame was written: those are never thrown away.
        """
        if self._frames:
            raise ValueError(f"{self._names.final} holds {self._frames} frames and is not discarded")
        if self._summary is None:
            self._let_go_of_video()
            self._summary = self._unfinished(JournalContent(header=self._header))
        try:
            with as_recording_error(self._names.final, "remove it"):
                for path in self._names.all:
                    path.unlink(missing_ok=True)
                sync_directory(self._names.directory)
        except RecordingError as error:
            logger.warning("a recording without frames is left over: %s", error)
        self._journal.close()

    def _require_open(self) -> None:
        if self._summary is not None:
            raise RecordingError(f"{self._names.final}: the recording is closed")
        if self._failure is not None:
            raise RecordingError(f"{self._names.part}: nothing more can be written") from self._failure

    @contextmanager
    def _remembering_failure(self, doing: str) -> Iterator[None]:
        try:
            with as_recording_error(self._names.part, doing):
                yield
        except RecordingError as error:
            self._failure = self._failure or error
            raise

    def _pts_ms(self, frame: ThermalFrame) -> int:
        """Capture time since the start of the block: by the wall clock at the first frame, by the steady one after."""
        if self._zero_monotonic_ns is None:
            since_start_ns = frame.captured_utc_ns - self._header.start_utc_ns
            self._zero_monotonic_ns = frame.captured_monotonic_ns - max(0, since_start_ns)
        return max(self._last_pts_ms + 1, round((frame.captured_monotonic_ns - self._zero_monotonic_ns) / NS_PER_MS))

    def _number_of(self, calibration: Calibration) -> int:
        """The place of a calibration, which is written when it is new."""
        if calibration not in self._calibrations:
            self._journal.calibration(len(self._calibrations), calibration)
            self._calibrations[calibration] = len(self._calibrations)
        return self._calibrations[calibration]

    def _sync_if_due(self, now_monotonic_ns: int) -> None:
        if self._sync_interval_ns is None:
            return
        synced_ns = self._synced_monotonic_ns
        if synced_ns is None or now_monotonic_ns - synced_ns >= self._sync_interval_ns:
            self._journal.sync()
            self._video.sync()
            self._synced_monotonic_ns = now_monotonic_ns

    def _let_go_of_video(self) -> None:
        with suppress(RecordingError):
            self._video.finish()

    def _finish(self, until_utc_ns: int, reason: str) -> RecordingSummary:
        for step in (self._video.finish, lambda: self._journal.ended(until_utc_ns, reason), self._journal.sync):
            with suppress(RecordingError), self._remembering_failure("finish"):
                step()
        content = JournalContent(header=self._header)
        try:
            with self._remembering_failure("finish"):
                content = read_journal(self._names.journal)
                content.ended = until_utc_ns, reason
                content.refuse(self._refused_utc_ns)
                if self._failure is None and len(content.frames) == self._frames:
                    return give_names(self._names, self._names.part, content, lost_reason=reason)
                return finish_by_copy(self._names, content, lost_reason=MissingReason.WRITE_FAILED)
        except RecordingError:
            return self._unfinished(content)

    def _unfinished(self, content: JournalContent) -> RecordingSummary:
        account = content.account(kept_pts_ms=content.pts_ms, lost_reason=MissingReason.WRITE_FAILED)
        return RecordingSummary(
            path=self._names.part,
            header=self._header,
            frames=len(content.frames),
            expected=account.expected,
            captured=account.captured,
            missing=missing_by_reason(account.missing_ranges()),
            size_bytes=self._names.part.stat().st_size if self._names.part.exists() else 0,
            sha256=None,
            duration_s=duration_between_s(content.frames),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFrame:
    """One frame as it was recorded."""

    index: int
    """Its place in the recording, from 0."""
    raw: RawFrame
    """The transfer with the times of its capture. In a file without facts the sequence is the index, UTC is known to
    the millisecond, and the monotonic time counts from the start of the block."""
    calibration: Calibration | None
    """What turned its counts into degrees; None when that is not known."""
    correction: HostCorrection | None
    """v2: what the counts were corrected with before; None when there was no correction, or it is not known."""
    flags: FrameFlag
    """Those it had when it was captured; `NONE` when they are not known."""
    planned_utc_ns: int | None
    """The planned instant it stands for, if any."""
    pts_ms: int
    """Its presentation time in the file."""


class Recording:
    """Reads a recording, closed or still growing, whole or torn; closed by `with`, used by one thread.

    A file that is not as long as its sidecar says, or has none, is searched for its frames, and the facts are taken
    from what there is: sidecar, journal, or the presentation times alone.

    Parameters
    ----------
    path : Path
        `NAME.mkv` or `NAME.part.mkv`.

    Raises
    ------
    RecordingError
        If it is no recording, or was cut before its first cluster.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sidecar = _sidecar_of(path)
        self._reader: TransferReader | None = None
        self._unpacked: tuple[int | None, HostCorrection | None] = None, None
        with as_recording_error(path, "read it"), ExitStack() as undo:
            if not self._is_known_to_be_empty():  # without any cluster FFmpeg cannot open it
                self._reader = TransferReader(path)
                undo.callback(self._reader.close)
            self._header, self._calibrations, self._corrections, self._frames = self._facts()
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._reader is not None:
            self._reader.close()

    @property
    def header(self) -> RecordingHeader:
        """What it is a recording of."""
        return self._header

    @property
    def sidecar(self) -> Sidecar | None:
        """The facts beside it; None without."""
        return self._sidecar

    @property
    def frames(self) -> Sequence[FrameFacts]:
        """The facts of each frame, without decoding any."""
        return self._frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> RecordedFrame:
        """Decode one frame, in any order; negative numbers count from the end.

        Raises
        ------
        IndexError
            If there is no such frame.
        RecordingError
            If it is damaged. Others can still be read.
        """
        place = range(len(self._frames))[index]
        facts = self._frames[place]
        transfer = self._require_reader().read(facts.pts_ms)
        return RecordedFrame(
            index=place,
            raw=RawFrame(
                sequence=facts.sequence,
                captured_utc_ns=facts.captured_utc_ns,
                captured_monotonic_ns=facts.captured_monotonic_ns,
                payload=transfer.tobytes(),
            ),
            calibration=None if facts.calibration is None else self._calibrations[facts.calibration],
            correction=self._correction(facts.correction),
            flags=facts.flags,
            planned_utc_ns=facts.planned_utc_ns,
            pts_ms=facts.pts_ms,
        )

    def __iter__(self) -> Iterator[RecordedFrame]:
        """All frames in order; ends with RecordingError at a damaged one (those behind it are there by index)."""
        return (self[index] for index in range(len(self)))

    def verify(self) -> None:
        """Compare the file with its sidecar.

        Raises
        ------
        RecordingError
            If there is no sidecar, the sum over all bytes or the number of frames is another, or a host correction is
            damaged.
        """
        if self._sidecar is None:
            raise RecordingError(f"{self._path}: no sidecar to compare it with")
        with as_recording_error(self._path, "read it"):
            sha256 = sha256_of(self._path)
        if sha256 != self._sidecar.sha256:
            raise RecordingError(f"{self._path}: expected SHA-256 {self._sidecar.sha256}, got {sha256}")
        count = 0 if self._reader is None else sum(1 for _packet in self._reader.packets())
        if count != len(self._sidecar.frames):
            raise RecordingError(f"{self._path}: expected {len(self._sidecar.frames)} frames, got {count}")
        for number in sorted({facts.correction for facts in self._sidecar.frames if facts.correction is not None}):
            try:
                self._sidecar.corrections.get(number)
            except RecordingError as error:
                raise RecordingError(f"{self._path}: {error}") from error

    def _is_whole(self, sidecar: Sidecar) -> bool:
        return self._path.stat().st_size == sidecar.size_bytes

    def _is_known_to_be_empty(self) -> bool:
        return self._sidecar is not None and not self._sidecar.frames and self._is_whole(self._sidecar)

    def _require_reader(self) -> TransferReader:
        if self._reader is None:
            raise RecordingError(f"{self._path}: there are no frames")
        return self._reader

    def _correction(self, number: int | None) -> HostCorrection | None:
        """One object for frames in a row; a damaged one is reported and costs the degrees only."""
        if number != self._unpacked[0]:
            correction = None
            try:
                correction = None if number is None else self._corrections.get(number)
            except RecordingError as error:
                logger.warning("%s: %s; its frames are read without it", self._path, error)
            self._unpacked = number, correction
        return self._unpacked[1]

    def _facts(self) -> tuple[RecordingHeader, Sequence[Calibration], Corrections, Sequence[FrameFacts]]:
        sidecar = self._sidecar
        if sidecar is not None and self._is_whole(sidecar):
            return sidecar.header, sidecar.calibrations, sidecar.corrections, sidecar.frames
        if sidecar is not None:
            logger.warning("%s: expected %d bytes; searched for frames", self._path, sidecar.size_bytes)
        reader = self._require_reader()
        source = sidecar or _journal_of(self._path)
        if source is None:
            content = content_of_pictures(reader)
            return content.header, (), content.corrections, content.frames
        known = {facts.pts_ms: facts for facts in source.frames}
        frames = [
            known.get(pts_ms) or facts_of_picture(source.header, index, pts_ms)
            for index, (pts_ms, _packet) in enumerate(reader.packets())
        ]
        return source.header, source.calibrations, source.corrections, frames


def _sidecar_of(path: Path) -> Sidecar | None:
    names = RecordingFiles.of(path)
    if path == names.part or not names.sidecar.exists():
        return None
    try:
        return Sidecar.read(names.sidecar)
    except RecordingError as error:
        logger.warning("%s; read without it", error)
        return None


def _journal_of(path: Path) -> JournalContent | None:
    journal = RecordingFiles.of(path).journal
    if not journal.exists():
        return None
    try:
        return read_journal(journal)
    except RecordingError as error:
        logger.warning("%s; read without it", error)
        return None
