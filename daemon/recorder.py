"""The recorder thread: raw transfers of the open block to disk."""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from daemon.handoff import HandOff
from daemon.sampling import BlockEnded, BlockPassed, BlockStarted, Item, MissingSamples, Sample
from daemon.store.blocks import BlockPlan
from daemon.store.repository import Store
from drivers.clock import NS_PER_S, Clock
from drivers.closing import RecordingFiles, close_leftover, summary_of
from drivers.errors import RecordingError, StoreError, StoreRejectedError
from drivers.matroska import as_recording_error
from drivers.recording import SYNC_INTERVAL_S, RecordingSummary, RecordingWriter
from drivers.sidecar import MissingReason, RecordingHeader, Sidecar
from drivers.t2s_protocol import Metadata

logger = logging.getLogger(__name__)

NOT_RECORDED = "not_recorded"

RETRY_S = 5.0
"""After an error of the disk a new segment is tried at this interval, and a row after one of the database."""

IDLE_S = 0.2

SEGMENT_FRAMES = 7500
"""A segment is closed after so many frames, and the block goes on in the next: five minutes at the camera's full rate.

At 1 fps a block of two hours is one file. A segment takes memory for each of its frames, 40 bytes of index while it is
written and all facts at once when it is closed, and that must not grow with the length of a block.
"""

SEGMENT_CORRECTIONS = 32
"""And after so many host corrections of a v2, for the same reason: each is 90 kB. A warm camera gets ten an hour."""

BLOCKS_REMEMBERED = 64
"""Blocks whose missing moments wait for a disk that takes nothing: eight days of eight blocks."""


@dataclass(slots=True)
class _Account:
    """The planned moments of a block that no segment accounts for yet."""

    block: BlockPlan
    from_utc_ns: int
    """Those before are accounted for."""
    missing: list[tuple[range, str]] = field(default_factory=list)
    """Moments in a row, and the reason, in the order in which they were told of."""
    rest: str = MissingReason.SERVICE_DOWN
    """Why the others are missing once the block is over."""

    def miss(self, planned_utc_ns: int, reason: str) -> None:
        """Note why a moment has no frame."""
        after_utc_ns = planned_utc_ns + self.block.period_ns
        if self.missing and self.missing[-1][0].stop == planned_utc_ns and self.missing[-1][1] == reason:
            earlier, _ = self.missing.pop()
            self.missing.append((range(earlier.start, after_utc_ns, self.block.period_ns), reason))
        else:
            self.missing.append((range(planned_utc_ns, after_utc_ns, self.block.period_ns), reason))

    @property
    def moments(self) -> int:
        """How many they are."""
        return max(0, (self.block.planned_utc_ns[-1] - self.from_utc_ns) // self.block.period_ns + 1)

    @property
    def with_reason(self) -> int:
        """Of how many it is known why they are missing."""
        return sum(len(moments) for moments, _ in self.missing)


@dataclass(frozen=True, slots=True)
class _Leftover:
    """A segment that the disk did not let be closed."""

    block_key: str
    names: RecordingFiles
    accounted_until_utc_ns: int
    refused_utc_ns: int | None
    """The planned moment whose frame the disk would not take."""


class BlockRecorder:
    """Writes one recording a block; a new segment after a restart, an error of the disk or many frames.

    The segments of a block account for its planned moments one after the other, each moment once.

    Parameters
    ----------
    directory : Path
        Recordings go into one folder a day below it.
    sync : bool
        Whether to bring frames to the disk twice a second; only a simulated day does without.
    beat : callable
        Told whenever a unit of work is done.
    """

    def __init__(
        self,
        directory: Path,
        *,
        box: str,
        store: Store,
        clock: Clock,
        software_version: str,
        provenance: Mapping[str, str],
        sync: bool = True,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._box = box
        self._store = store
        self._clock = clock
        self._software_version = software_version
        self._provenance = dict(provenance)
        self._sync_interval_s = SYNC_INTERVAL_S if sync else None
        self._beat = beat
        self._account: _Account | None = None
        self._writer: RecordingWriter | None = None
        self._told_until_ns = 0
        self._retry_at_ns: int | None = None
        self._leftovers: list[_Leftover] = []
        self._untold: deque[_Account] = deque()
        self._catch_up_at_ns: int | None = None
        self._unregistered: list[tuple[str, RecordingSummary]] = []
        self._register_at_ns: int | None = None
        self.failed: str | None = None
        """Why nothing is recorded at present."""

    def run(self, items: HandOff[Item]) -> None:
        """Consume until the hand-off is closed and empty, then close the recording."""
        while not items.exhausted:
            self._beat()
            item = items.get(IDLE_S)
            if item is None:
                self._try_again_if_due()
            else:
                self.handle(item)
        self._catch_up()
        self.close()
        self._tell_what_is_lost()

    def handle(self, item: Item) -> None:
        """Take one item."""
        match item:
            case BlockStarted(block=block):
                self.close()
                self._account = _Account(block, self._accounted_until(block))
                self._told_until_ns, self._retry_at_ns = self._account.from_utc_ns, None
            case BlockEnded(block=block, stopped=stopped) if self._is_open(block.key):
                self._told_until_ns = block.end_utc_ns
                if stopped and self._account is not None:
                    self._account.block = block
                self._end_block()
            case BlockPassed(block=block, reason=reason):
                self.pass_block(block, reason)
            case MissingSamples(block_key=key, planned_utc_ns=planned, reason=reason) if self._is_open(key):
                for moment in planned:
                    self._miss(moment, reason)
            case Sample(block_key=key, planned_utc_ns=moment) if moment is not None and self._is_open(key):
                self._record(item, moment)
            case _:
                pass
        self._try_again_if_due()

    def close(self) -> None:
        """Finish the open segment; a block that is not over goes on in the next one."""
        self._close()
        self._register()

    def pass_block(self, block: BlockPlan, reason: str) -> None:
        """Account for what is left of a block that is over: the moments that no earlier segment accounts for.

        Parameters
        ----------
        block : BlockPlan
            Not the open one.
        reason : str
            Why these moments are missing.
        """
        if self._has_leftover(block):
            return  # closing it accounts for the rest of the block
        self._leave_word(_Account(block, self._accounted_until(block), rest=reason))
        if self._unregistered and self._register_at_ns is None:  # the block itself is about to be stored
            self._register_at_ns = self._clock.monotonic_ns() + round(RETRY_S * NS_PER_S)

    def _end_block(self) -> None:
        """Finish the last segment; what it does not account for gets one without frames."""
        self._close()
        account, self._account = self._account, None
        if account is not None:
            self._leave_word(account)
        self._register()

    def _is_open(self, block_key: str | None) -> bool:
        return self._account is not None and self._account.block.key == block_key

    def _close(self) -> None:
        """Finish the open segment: it accounts for the moments that were told of so far, the next one for the rest.

        What its journal does not name was lost while the service was down, and is missing with that reason.
        """
        writer, self._writer = self._writer, None
        account, until_ns = self._account, self._told_until_ns
        if writer is None or account is None:
            return
        account.from_utc_ns, account.missing = until_ns, []
        key, closed = account.block.key, False
        try:
            summary = writer.close(accounted_until_utc_ns=until_ns, reason=MissingReason.SERVICE_DOWN)
        except RecordingError as error:
            logger.error("a recording of block %s was not closed, it is left for later: %s", key, error)
        else:
            closed = summary.sha256 is not None
            self._unregistered.append((key, summary))
        if not closed:
            self._leftovers.append(_Leftover(key, RecordingFiles.of(writer.path), until_ns, writer.refused_utc_ns))

    def _record(self, sample: Sample, planned_utc_ns: int) -> None:
        if self._account is None:
            return
        writer = self._writer or self._open(self._account, sample)
        if writer is None:
            self._miss(planned_utc_ns, NOT_RECORDED)
            return
        # A moment that an earlier segment has captured, before a quick restart: the frame is kept, and stands for none.
        stands_for = planned_utc_ns if planned_utc_ns >= self._account.from_utc_ns else None
        try:
            writer.append(sample.frame, planned_utc_ns=stands_for)
        except RecordingError as error:
            self._tell_of(planned_utc_ns)
            self._fail(error)
        else:
            self._tell_of(planned_utc_ns)
            if writer.frames >= SEGMENT_FRAMES or writer.corrections >= SEGMENT_CORRECTIONS:
                self.close()

    def _open(self, account: _Account, sample: Sample) -> RecordingWriter | None:
        """Start a segment; None when the disk refuses, and then not again for a while."""
        if self._retry_at_ns is not None and self._clock.monotonic_ns() < self._retry_at_ns:
            return None
        try:
            self._writer = self._begin(account, sample.frame.metadata)
        except RecordingError as error:
            self._fail(error)
            return None
        account.missing = []
        if self.failed is not None:
            logger.warning("block %s is recorded again", account.block.key)
        self._disk_works()
        return self._writer

    def _begin(self, account: _Account, camera: Metadata | None) -> RecordingWriter:
        """Start a segment with what is known of its missing moments; when the disk refuses there is nothing of it."""
        writer = RecordingWriter(
            self._free_path(account.block),
            RecordingHeader(
                box=self._box,
                block_key=account.block.key,
                start_utc_ns=account.block.start_utc_ns,
                period_ns=account.block.period_ns,
                accounted_from_utc_ns=account.from_utc_ns,
                end_utc_ns=account.block.end_utc_ns,
                product=camera.product if camera else "",
                serial=camera.serial if camera else "",
                firmware=camera.firmware if camera else "",
                variant=camera.variant if camera else "",
                software_version=self._software_version,
                provenance=self._provenance,
            ),
            sync_interval_s=self._sync_interval_s,
        )
        try:
            for moments, reason in account.missing:
                for planned_utc_ns in moments:
                    writer.missing(planned_utc_ns, reason)
        except RecordingError:
            writer.discard()
            raise
        return writer

    def _leave_word(self, account: _Account) -> None:
        """Account for the moments of a block that is over; while the disk refuses, that waits in memory."""
        if not account.moments:
            return
        try:
            self._write_without_frames(account)
        except RecordingError as error:
            key, moments = account.block.key, account.moments
            logger.warning("block %s: no recording says yet why %d moments are missing: %s", key, moments, error)
            if self._writer is None:
                self.failed = self.failed or str(error)
            self._untold.append(account)
            if len(self._untold) > BLOCKS_REMEMBERED:
                _say_lost(self._untold.popleft())
            self._catch_up_at_ns = self._clock.monotonic_ns() + round(RETRY_S * NS_PER_S)

    def _write_without_frames(self, account: _Account) -> None:
        writer = self._begin(account, None)
        try:
            summary = writer.close(reason=account.rest)
        except RecordingError:
            writer.discard()
            raise
        self._unregistered.append((account.block.key, summary))

    def _catch_up(self) -> None:
        """Bring to the disk what it refused when a block was over."""
        refused: deque[_Account] = deque()
        for account in self._untold:
            try:
                self._write_without_frames(account)
            except RecordingError as error:
                logger.debug("block %s: still not: %s", account.block.key, error)
                refused.append(account)
        came_through = len(refused) < len(self._untold)
        self._untold = refused
        self._catch_up_at_ns = self._clock.monotonic_ns() + round(RETRY_S * NS_PER_S) if refused else None
        if came_through:
            if self.failed is not None:
                logger.warning("recordings can be written again")
            self._disk_works()
            self._register()

    def _disk_works(self) -> None:
        """Go on at once, and close segments that the disk did not let be closed, now that it may."""
        self.failed = self._retry_at_ns = None
        waiting, self._leftovers = self._leftovers, []
        for leftover in waiting:
            try:
                summary = close_leftover(
                    leftover.names,
                    accounted_until_utc_ns=leftover.accounted_until_utc_ns,
                    refused_utc_ns=leftover.refused_utc_ns,
                )
            except RecordingError as error:
                logger.warning("%s; left for later", error)
                self._leftovers.append(leftover)
            else:
                if summary is not None:
                    self._unregistered.append((leftover.block_key, summary))
                    self._register_at_ns = self._clock.monotonic_ns()

    def _segments(self, block: BlockPlan) -> Iterator[RecordingFiles]:
        """The names for recordings of this block, in their order; without end."""
        day, _, name = block.key.partition("/")
        stem = f"{self._box}_{day}_{name}"
        for segment in itertools.count(1):
            yield RecordingFiles(self._directory / day, stem if segment == 1 else f"{stem}_{segment}")

    def _free_path(self, block: BlockPlan) -> Path:
        """The file of this block, or of its next segment."""
        with as_recording_error(self._directory, "look for a free name"):
            return next(names.final for names in self._segments(block) if not _in_use(names))

    def _accounted_until(self, block: BlockPlan) -> int:
        """Up to where segments of earlier runs account for the block: from there on it is ours to do so."""
        until_utc_ns = block.start_utc_ns
        try:
            with as_recording_error(self._directory, "look for earlier recordings"):
                earlier = [
                    names for names in itertools.takewhile(_in_use, self._segments(block)) if names.sidecar.exists()
                ]
            # Each begins where the one before ends, so that the last one of this plan says it for all.
            for names in reversed(earlier):
                until_utc_ns = max(until_utc_ns, _accounted_by(Sidecar.read(names.sidecar), block))
                if until_utc_ns > block.start_utc_ns:
                    break
        except RecordingError as error:
            logger.warning("what earlier recordings of block %s account for is not known: %s", block.key, error)
        return min(until_utc_ns, block.end_utc_ns)

    def _has_leftover(self, block: BlockPlan) -> bool:
        """Whether an earlier run has left a segment open that could not yet be closed."""
        with suppress(OSError):
            return any(_is_leftover(names) for names in itertools.takewhile(_in_use, self._segments(block)))
        return False

    def _tell_of(self, planned_utc_ns: int) -> None:
        if self._account is not None:
            self._told_until_ns = max(self._told_until_ns, planned_utc_ns + self._account.block.period_ns)

    def _miss(self, planned_utc_ns: int, reason: str) -> None:
        account = self._account
        if account is None or planned_utc_ns < account.from_utc_ns:
            return  # not a moment of this segment
        if reason == MissingReason.SERVICE_DOWN:
            self._tell_of(planned_utc_ns)  # closing says so, for a whole day as quickly as for a second
            return
        if self._writer is not None:
            try:
                self._writer.missing(planned_utc_ns, reason)
            except RecordingError as error:
                self._fail(error)
        if self._writer is None:
            account.miss(planned_utc_ns, reason)
        self._tell_of(planned_utc_ns)

    def _fail(self, error: RecordingError) -> None:
        if self.failed is None:
            logger.error("recording stopped, measuring goes on: %s", error)
        self.failed = str(error)
        self._retry_at_ns = self._clock.monotonic_ns() + round(RETRY_S * NS_PER_S)
        self._close()
        self._register()

    def _try_again_if_due(self) -> None:
        now_ns = self._clock.monotonic_ns()
        if self._catch_up_at_ns is not None and now_ns >= self._catch_up_at_ns:
            self._catch_up()
        if self._register_at_ns is not None and now_ns >= self._register_at_ns:
            self._register()

    def _register(self) -> None:
        """Enter closed segments into the database; what it does not take now is tried again later."""
        waiting = [(key, summary) for key, summary in self._unregistered if not self._is_registered(key, summary)]
        self._unregistered = waiting
        self._register_at_ns = self._clock.monotonic_ns() + round(RETRY_S * NS_PER_S) if waiting else None

    def _is_registered(self, block_key: str, summary: RecordingSummary) -> bool:
        try:
            self._store.add_recording(block_key, summary)
        except StoreError as error:  # also as long as the block itself waits to be written
            if self._register_at_ns is None:
                logger.warning("recording %s is not yet in the database: %s", summary.path, error)
            return False
        return True

    def _tell_what_is_lost(self) -> None:
        """Say at the end what is not where it should be."""
        for _, summary in self._unregistered:
            logger.error("recording %s is complete but not in the database", summary.path)
        for account in self._untold:
            _say_lost(account)
        if self._account is not None and self._account.with_reason:
            key, moments = self._account.block.key, self._account.with_reason
            logger.warning("block %s: no recording will say why %d moments are missing, the database may", key, moments)


def _say_lost(account: _Account) -> None:
    key, moments = account.block.key, account.moments
    logger.error("block %s: %d missing moments are in no recording, the disk refused for too long", key, moments)


def _in_use(names: RecordingFiles) -> bool:
    return any(path.exists() for path in (names.final, names.sidecar, names.part, names.journal))


def _is_leftover(names: RecordingFiles) -> bool:
    return not names.sidecar.exists() and (names.part.exists() or names.journal.exists())


def _accounted_by(sidecar: Sidecar, block: BlockPlan) -> int:
    """The first planned moment of the block that a closed segment says nothing of."""
    header = sidecar.header
    if (header.start_utc_ns, header.period_ns) != (block.start_utc_ns, block.period_ns):
        return block.start_utc_ns  # of a former plan
    planned = [facts.planned_utc_ns for facts in sidecar.frames if facts.planned_utc_ns is not None]
    return max(
        sidecar.accounted_until_utc_ns, max(planned, default=block.start_utc_ns - block.period_ns) + block.period_ns
    )


def enter_unknown(directory: Path, store: Store, *, since_day: date) -> list[RecordingSummary]:
    """Enter closed recordings that the database does not know; for the start of the service.

    A service that is killed between closing a recording and storing its row leaves one. What the database refuses is
    reported in the log.

    Parameters
    ----------
    directory : Path
        With one folder a day below it; it need not exist.
    store : Store
        With the blocks that were recorded.
    since_day : date
        Folders of earlier days are not looked at.

    Returns
    -------
    list of RecordingSummary
        Of those that were entered.
    """
    entered = []
    try:
        known = _known_paths(store, since_day)
        for sidecar in sorted(directory.glob("????-??-??/*.json")):
            if sidecar.parent.name >= since_day.isoformat():
                summary = _enter(RecordingFiles(sidecar.parent, sidecar.stem), store, known)
                entered += [] if summary is None else [summary]
    except StoreError as error:
        logger.error("recordings that the database may not know wait for the next start: %s", error)
    return entered


def _known_paths(store: Store, since_day: date) -> frozenset[Path]:
    """Recordings in the database of the blocks since a day, so that few sidecars need to be read."""
    since = datetime.combine(since_day, time(), UTC) - timedelta(days=1)  # in whatever time zone that day began
    keys = store.finished_block_keys(round(since.timestamp()) * NS_PER_S) | {each.key for each in store.open_blocks()}
    return frozenset(recording.path for key in keys for recording in store.recordings(key))


def _enter(names: RecordingFiles, store: Store, known: Collection[Path]) -> RecordingSummary | None:
    """Enter one recording; None when there is no need, or the database has no place for it."""
    try:
        with as_recording_error(names.final, "look for it"):
            if names.final in known or not names.final.exists():
                return None
        summary = summary_of(names, Sidecar.read(names.sidecar))
        key = summary.header.block_key
        if key is None or any(row.path == names.final for row in store.recordings(key)):
            return None
        store.add_recording(key, summary)
    except (RecordingError, StoreRejectedError) as error:
        logger.warning("recording %s is not entered into the database: %s", names.final, error)
        return None
    logger.warning("recording %s was not in the database and is now", names.final)
    return summary
