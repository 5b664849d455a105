"""What is known about a recording beside its pictures: its header, the journal while it grows, the sidecar once closed.

Both files are JSON; floats are written so that they are read back exactly. Times are integer nanoseconds, which need
64-bit integers in whatever reads them.
"""

import fcntl
import json
import logging
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from drivers.corrections import Corrections, StoredCorrection
from drivers.durable import write_durably
from drivers.errors import RecordingError
from drivers.frame import FrameFlag
from drivers.t2s_protocol import Constants, Environment
from drivers.thermometry import Calibration

logger = logging.getLogger(__name__)

FORMAT = "strong-vivarium recording"
FORMAT_VERSION = 1

MOST_INSTANTS = 10_000_000
"""Four days at the camera's full rate; more stands in a damaged header only, and would take all the memory."""


class MissingReason(StrEnum):
    """Reasons that recordings themselves give; callers have others, for instance `camera_lost`."""

    SERVICE_STOPPED = "service_stopped"
    """The recording was closed before its end."""
    SERVICE_DOWN = "service_down"
    """Nothing ran at that moment."""
    LOST_IN_CRASH = "lost_in_crash"
    """Captured, but the frame had not reached the disk when the service or the power went."""
    WRITE_FAILED = "write_failed"
    """Captured, but the disk would not take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingHeader:
    """What a recording is of. The planned instants are start + k x period, k = 0, 1, ..., below the end."""

    box: str
    """Name of the box."""

    block_key: str | None
    """Key of the block that is recorded; None outside blocks."""

    start_utc_ns: int
    """Start of the block: the first planned instant, and zero of the presentation times."""

    period_ns: int
    """Distance of planned instants."""

    accounted_from_utc_ns: int
    """This file accounts for the planned instants from here on; those before belong to an earlier segment."""

    end_utc_ns: int
    """End of the block; no instant is planned at or after it."""

    product: str = ""
    serial: str = ""
    firmware: str = ""
    variant: str = ""
    """Which of the two cameras of that name: a `drivers.t2s_protocol.Variant`."""

    software_version: str = ""
    """Of the program that wrote the file."""

    provenance: Mapping[str, str] = field(default_factory=dict)
    """Anything else worth knowing in ten years: host, boot id, hash of the configuration."""

    def __post_init__(self) -> None:
        for name in ("start_utc_ns", "period_ns", "accounted_from_utc_ns", "end_utc_ns"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} must be a whole number, got {getattr(self, name)!r}")
        if self.period_ns <= 0:
            raise ValueError(f"period_ns must be positive, got {self.period_ns}")
        if not self.start_utc_ns <= self.accounted_from_utc_ns <= self.end_utc_ns:
            raise ValueError(
                "start_utc_ns <= accounted_from_utc_ns <= end_utc_ns expected, "
                f"got {self.start_utc_ns}, {self.accounted_from_utc_ns}, {self.end_utc_ns}"
            )
        if (self.end_utc_ns - self.start_utc_ns) // self.period_ns > MOST_INSTANTS:
            raise ValueError(f"at most {MOST_INSTANTS} planned instants, got one each {self.period_ns} ns")

    def first_index_from(self, utc_ns: int) -> int:
        """Number k of the first planned instant at or after a moment, as if the plan had no end."""
        return max(0, -((self.start_utc_ns - utc_ns) // self.period_ns))

    @property
    def accounted_indices(self) -> range:
        """Numbers k of the planned instants this file accounts for."""
        return range(self.first_index_from(self.accounted_from_utc_ns), self.first_index_from(self.end_utc_ns))

    def planned_index(self, planned_utc_ns: int) -> int:
        """Number k of a planned instant.

        Raises
        ------
        ValueError
            If it is not an instant this file accounts for.
        """
        index, off_grid_ns = divmod(planned_utc_ns - self.start_utc_ns, self.period_ns)
        if off_grid_ns or index not in self.accounted_indices:
            raise ValueError(
                f"{planned_utc_ns} is no planned instant of this recording: expected {self.start_utc_ns} + k x "
                f"{self.period_ns} at or after {self.accounted_from_utc_ns} and before {self.end_utc_ns}"
            )
        return index

    def planned_utc_ns(self, index: int) -> int:
        """The planned instant with number k."""
        return self.start_utc_ns + index * self.period_ns

    def to_json(self) -> str:
        """Compact JSON, for the file's own tags."""
        return _compact(_header_record(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`.

        Raises
        ------
        RecordingError
            If it is not a header.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise RecordingError(f"expected the header of a recording as JSON, got {text[:80]!r}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFacts:
    """What is kept about one recorded frame; its place in the list is its place in the file."""

    pts_ms: int
    """Presentation time in the file, rising from frame to frame: capture time since the start of the block."""
    sequence: int
    captured_utc_ns: int
    captured_monotonic_ns: int
    planned_utc_ns: int | None
    """The planned instant the frame stands for; None when it was recorded without one."""
    flags: FrameFlag
    calibration: int | None
    """Place in the list of calibrations; None when it is not known."""
    correction: int | None
    """Number of the host correction; None when there was none, or it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingRange:
    """Planned instants in a row that were not captured, all for the same reason."""

    reason: str
    first_utc_ns: int
    last_utc_ns: int
    """The last planned instant of the range, included."""
    count: int


class PlanAccount:
    """Which planned instants of a recording were captured, and why the others were not.

    What was captured stays captured, and the first reason given for a missing instant stays.
    """

    _OPEN, _CAPTURED, _FIRST_REASON = 0, 1, 2

    def __init__(self, header: RecordingHeader) -> None:
        self._header = header
        self._indices = header.accounted_indices
        self._states = array("H", bytes(2 * len(self._indices)))
        self._reasons: list[str] = []

    def capture(self, planned_utc_ns: int) -> None:
        """A frame stands for this instant."""
        self._states[self._place(planned_utc_ns)] = self._CAPTURED

    def miss(self, planned_utc_ns: int, reason: str) -> None:
        """No frame stands for this instant."""
        self._miss(self._place(planned_utc_ns), self._state_for(reason))

    def settle(self, *, until_utc_ns: int, reason: str) -> None:
        """All instants before a moment that nothing is known of are missing for this reason."""
        state = self._state_for(reason)
        end = self._header.first_index_from(until_utc_ns) - self._indices.start
        for place in range(min(end, len(self._states))):
            self._miss(place, state)

    @property
    def expected(self) -> int:
        """Number of instants that are accounted for, one way or the other."""
        return len(self._states) - self._states.count(self._OPEN)

    @property
    def captured(self) -> int:
        """Number of instants with a frame."""
        return self._states.count(self._CAPTURED)

    def missing_ranges(self) -> tuple[MissingRange, ...]:
        """The missing instants in the order of time."""
        ranges = []
        place = 0
        for state, run in groupby(self._states):
            count = len(list(run))
            if state >= self._FIRST_REASON:
                first = self._indices.start + place
                ranges.append(
                    MissingRange(
                        reason=self._reasons[state - self._FIRST_REASON],
                        first_utc_ns=self._header.planned_utc_ns(first),
                        last_utc_ns=self._header.planned_utc_ns(first + count - 1),
                        count=count,
                    )
                )
            place += count
        return tuple(ranges)

    def _place(self, planned_utc_ns: int) -> int:
        return self._header.planned_index(planned_utc_ns) - self._indices.start

    def _state_for(self, reason: str) -> int:
        if reason not in self._reasons:
            self._reasons.append(str(reason))
        return self._FIRST_REASON + self._reasons.index(reason)

    def _miss(self, place: int, state: int) -> None:
        if self._states[place] == self._OPEN:
            self._states[place] = state


def _compact(record: Mapping[str, Any]) -> str:
    try:
        return json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise RecordingError(f"only finite numbers can be recorded, got {record}") from error


def _header_record(header: RecordingHeader) -> dict[str, Any]:
    return asdict(header) | {"provenance": dict(header.provenance)}


def _calibration_from(record: Mapping[str, Any]) -> Calibration:
    return Calibration(
        constants=Constants(**record["constants"]),
        environment=Environment(**record["environment"]),
        shutter_celsius=record["shutter_celsius"],
        fpa_celsius=record["fpa_celsius"],
    )


def _check_format(record: Mapping[str, Any]) -> None:
    found = (record.get("format"), record.get("version"))
    if found != (FORMAT, FORMAT_VERSION):
        raise ValueError(f"expected {FORMAT!r} version {FORMAT_VERSION}, got {found[0]!r} version {found[1]!r}")


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class Journal:
    """The facts of a growing recording, one line each, in the order in which they happen.

    Each line goes to the kernel at once, so that a killed process loses none. The file is locked while it is open: a
    recording whose journal is locked is being written.
    """

    def __init__(self, path: Path, header: RecordingHeader) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._line("header", {"format": FORMAT, "version": FORMAT_VERSION, "header": _header_record(header)})
            os.fsync(self._descriptor)
        except OSError:
            os.close(self._descriptor)
            path.unlink(missing_ok=True)
            raise
        self._closed = False

    def calibration(self, index: int, calibration: Calibration) -> None:
        """A calibration occurs for the first time."""
        self._line("calibration", {"index": index, **asdict(calibration)})

    def correction_words(self, words_sum: str, text: str) -> None:
        """Words of a host correction occur for the first time; see `drivers.corrections`."""
        self._line("correction_words", {"sha256": words_sum, "zlib_base64": text})

    def correction(self, index: int, stored: StoredCorrection) -> None:
        """A host correction occurs for the first time; its words are there."""
        self._line("correction", {"index": index, **asdict(stored)})

    def frame(self, index: int, facts: FrameFacts) -> None:
        """A frame is about to be written."""
        self._line("frame", {"index": index, **asdict(facts), "flags": int(facts.flags)})

    def missing(self, planned_utc_ns: int, reason: str) -> None:
        """A planned instant has no frame."""
        self._line("missing", {"planned_utc_ns": planned_utc_ns, "reason": reason})

    def ended(self, accounted_until_utc_ns: int, reason: str) -> None:
        """The recording is complete; what is unknown before that moment is missing for this reason."""
        # The empty line keeps it readable after a line that a full disk has cut short.
        _write_all(self._descriptor, b"\n")
        self._line("ended", {"accounted_until_utc_ns": accounted_until_utc_ns, "reason": reason})

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Give up the lock; a second time does nothing."""
        if not self._closed:
            self._closed = True
            os.close(self._descriptor)

    def _line(self, kind: str, record: Mapping[str, Any]) -> None:
        _write_all(self._descriptor, f"{_compact({'kind': kind, **record})}\n".encode())


@contextmanager
def journal_lock(path: Path) -> Iterator[bool]:
    """Hold the lock of a journal; gives False while a writer holds it. A journal that is not there counts as free."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@dataclass(slots=True, kw_only=True)
class JournalContent:
    """A journal read back."""

    header: RecordingHeader
    calibrations: list[Calibration] = field(default_factory=list)
    corrections: Corrections = field(default_factory=Corrections)
    frames: list[FrameFacts] = field(default_factory=list)
    missing: list[tuple[int, str]] = field(default_factory=list)
    """Planned instants with the reason."""
    ended: tuple[int, str] | None = None
    """Moment up to which all is accounted for, and the reason for what is unknown before it; None after a crash."""

    @property
    def pts_ms(self) -> set[int]:
        """Presentation times of all frames."""
        return {facts.pts_ms for facts in self.frames}

    @property
    def accounted_until_utc_ns(self) -> int:
        """From `ended`; nothing is accounted for as long as it is not set."""
        return self.header.accounted_from_utc_ns if self.ended is None else self.ended[0]

    def refuse(self, planned_utc_ns: int | None) -> None:
        """The disk would not take the frame for this planned instant, if it is one: missing unless it is there."""
        if planned_utc_ns is not None:
            self.missing.append((planned_utc_ns, MissingReason.WRITE_FAILED))

    def account(self, *, kept_pts_ms: Set[int], lost_reason: str) -> PlanAccount:
        """The planned instants, given which frames are really in the file.

        Parameters
        ----------
        kept_pts_ms : set of int
            Presentation times of the frames in the file.
        lost_reason : str
            Why the others are not there.
        """
        account = PlanAccount(self.header)
        planned = [(facts.planned_utc_ns, facts.pts_ms in kept_pts_ms) for facts in self.frames]
        for planned_utc_ns, kept in planned:
            if planned_utc_ns is not None and kept:
                account.capture(planned_utc_ns)
        for planned_utc_ns, reason in self.missing:
            account.miss(planned_utc_ns, reason)
        for planned_utc_ns, kept in planned:
            if planned_utc_ns is not None and not kept:
                account.miss(planned_utc_ns, lost_reason)
        if self.ended is not None:
            until_utc_ns, reason = self.ended
            account.settle(until_utc_ns=until_utc_ns, reason=reason)
        return account


def read_journal(path: Path) -> JournalContent:
    """Read a journal; a line that a crash has torn is left out.

    Raises
    ------
    RecordingError
        If its first line is not the header of a recording.
    OSError
        If it cannot be read at all.
    """
    with path.open("rb") as lines:  # one after the other: a segment at full rate has thousands
        first = lines.readline()
        try:
            record = json.loads(first)
            _check_format(record)
            content = JournalContent(header=RecordingHeader(**record["header"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordingError(f"{path}: the first line is not the header of a recording: {error}") from error
        unreadable = 0
        for line in lines:
            if line.strip():
                try:
                    _take(content, json.loads(line))
                except (ValueError, TypeError, KeyError, AttributeError):
                    unreadable += 1
    if unreadable:
        logger.warning("%s: %d unreadable lines left out", path, unreadable)
    return content


def _take(content: JournalContent, record: Mapping[str, Any]) -> None:
    match record["kind"]:
        case "frame":
            facts = _facts_from(record, calibrations=len(content.calibrations))
            if facts.planned_utc_ns is not None:
                content.header.planned_index(facts.planned_utc_ns)
            if facts.correction is not None and facts.correction not in content.corrections.stored:
                facts = replace(facts, correction=None)
            content.frames.append(facts)
        case "calibration":
            if record["index"] != len(content.calibrations):
                raise ValueError(f"expected calibration {len(content.calibrations)}, got {record['index']}")
            content.calibrations.append(_calibration_from(record))
        case "correction_words":
            content.corrections.take_words(record["sha256"], record["zlib_base64"])
        case "correction":
            content.corrections.take(record)
        case "missing":
            content.header.planned_index(record["planned_utc_ns"])
            content.missing.append((record["planned_utc_ns"], str(record["reason"])))
        case "ended":
            content.ended = int(record["accounted_until_utc_ns"]), str(record["reason"])
        case kind:
            raise ValueError(f"unknown kind of line {kind!r}")


_OPTIONAL_COLUMNS = ("planned_utc_ns", "calibration", "correction")
_FACT_COLUMNS = ("pts_ms", "sequence", "captured_utc_ns", "captured_monotonic_ns", *_OPTIONAL_COLUMNS)


def _facts_from(record: Mapping[str, Any], *, calibrations: int) -> FrameFacts:
    values = {name: record[name] for name in _FACT_COLUMNS if name != "correction"}
    values["correction"] = record.get("correction")  # which older files do not have
    for name, value in values.items():
        if not isinstance(value, int) and not (name in _OPTIONAL_COLUMNS and value is None):
            raise ValueError(f"{name} must be a whole number, got {value!r}")
    if values["calibration"] is not None and not 0 <= values["calibration"] < calibrations:
        values["calibration"] = None
    return FrameFacts(**values, flags=FrameFlag(record["flags"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """All facts of a closed recording."""

    header: RecordingHeader
    accounted_until_utc_ns: int
    """Planned instants from the header's `accounted_from_utc_ns` up to here (not included) are accounted for."""
    expected: int
    """Planned instants accounted for: captured plus missing."""
    captured: int
    """Planned instants with a frame in the file."""
    missing: tuple[MissingRange, ...]
    calibrations: tuple[Calibration, ...]
    """Those that occur, in the order of their first frame."""
    corrections: Corrections
    """Host corrections of a v2 that occur."""
    frames: tuple[FrameFacts, ...]
    """One for each frame of the file, in its order."""
    size_bytes: int
    sha256: str
    """Of the Matroska file."""

    @property
    def missing_by_reason(self) -> dict[str, int]:
        """Number of missing planned instants by reason."""
        return missing_by_reason(self.missing)

    def write(self, path: Path) -> None:
        """Put it into place in one step that survives a power cut: the whole file or the one before."""
        write_durably(path, f"{_compact(self._record())}\n".encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a sidecar.

        Raises
        ------
        RecordingError
            If it cannot be read or is not a sidecar this program understands.
        """
        try:
            record = json.loads(path.read_bytes())
            _check_format(record)
            calibrations = tuple(map(_calibration_from, record["calibrations"]))
            columns = record["frames"]
            rows = zip(*columns.values(), strict=True)
            return cls(
                header=RecordingHeader(**record["header"]),
                accounted_until_utc_ns=record["accounted_until_utc_ns"],
                expected=record["expected"],
                captured=record["captured"],
                missing=tuple(MissingRange(**entry) for entry in record["missing"]),
                calibrations=calibrations,
                corrections=Corrections.from_records(record.get("corrections"), record.get("correction_words")),
                frames=tuple(
                    _facts_from(dict(zip(columns, row, strict=True)), calibrations=len(calibrations)) for row in rows
                ),
                size_bytes=record["size_bytes"],
                sha256=record["sha256"],
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordingError(f"{path}: not the sidecar of a recording: {error}") from error

    def _record(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "header": _header_record(self.header),
            "accounted_until_utc_ns": self.accounted_until_utc_ns,
            "expected": self.expected,
            "captured": self.captured,
            "missing_by_reason": self.missing_by_reason,
            "missing": [asdict(entry) for entry in self.missing],
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "calibrations": [asdict(calibration) for calibration in self.calibrations],
            "corrections": self.corrections.records(),
            "correction_words": self.corrections.words,
            "frames": {name: [getattr(facts, name) for facts in self.frames] for name in _FACT_COLUMNS}
            | {"flags": [int(facts.flags) for facts in self.frames]},
        }


def missing_by_reason(ranges: Sequence[MissingRange]) -> dict[str, int]:
    """Number of missing planned instants by reason."""
    counts: Counter[str] = Counter()
    for entry in ranges:
        counts[entry.reason] += entry.count
    return dict(counts)
