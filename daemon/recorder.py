"""The recorder thread: raw transfers of the open block to disk."""

import itertools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from daemon.handoff import HandOff
from daemon.sampling import BlockEnded, BlockStarted, Item, MissingSamples, Sample
from daemon.schedule import PlannedBlock
from daemon.store.repository import Store
from drivers.clock import NS_PER_S, Clock
from drivers.closing import RecordingFiles
from drivers.errors import RecordingError, StoreError
from drivers.matroska import as_recording_error
from drivers.recording import SYNC_INTERVAL_S, RecordingSummary, RecordingWriter, close_leftovers
from drivers.sidecar import MissingReason, RecordingHeader, Sidecar

logger = logging.getLogger(__name__)

NOT_RECORDED = "not_recorded"

RETRY_S = 5.0
"""After an error of the disk a new segment is tried at this interval, and a row after one of the database."""

IDLE_S = 0.2


class BlockRecorder:
    """Writes one recording a block; a new segment after a restart or an error of the disk.

    The segments of a block account for its planned moments one after the other, each moment once.

    Parameters
    ----------
    directory : Path
        Recordings go into one folder a day below it.
    sync : bool
        Whether to bring each second to the disk; only a simulated day does without.
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
    ) -> None:
        self._directory = directory
        self._box = box
        self._store = store
        self._clock = clock
        self._software_version = software_version
        self._provenance = dict(provenance)
        self._sync_interval_s = SYNC_INTERVAL_S if sync else None
        self._block: PlannedBlock | None = None
        self._writer: RecordingWriter | None = None
        self._accounted_from_ns = 0
        self._told_until_ns = 0
        self._missing: list[tuple[int, str]] = []
        self._retry_at_ns: int | None = None
        self._unregistered: list[tuple[str, RecordingSummary]] = []
        self._register_at_ns: int | None = None
        self.failed: str | None = None
        """Why nothing is recorded at present."""

    def run(self, items: HandOff[Item]) -> None:
        """Consume until the hand-off is closed and empty, then close the recording."""
        while not items.exhausted:
            item = items.get(IDLE_S)
            if item is not None:
                self.handle(item)
            if self._register_at_ns is not None and self._clock.monotonic_ns() >= self._register_at_ns:
                self._register()
        self.close()
        for _, summary in self._unregistered:
            logger.error("recording %s is complete but not in the database", summary.path)

    def handle(self, item: Item) -> None:
        """Take one item."""
        match item:
            case BlockStarted(block=block):
                self.close()
                self._block, self._missing, self._retry_at_ns = block, [], None
                self._accounted_from_ns = self._told_until_ns = self._accounted_until(block)
            case BlockEnded(block=block):
                self._told_until_ns = block.end_utc_ns
                self.close()
                self._block = None
            case MissingSamples(block_key=key, planned_utc_ns=planned, reason=reason) if self._is_open(key):
                for moment in planned:
                    self._miss(moment, reason)
            case Sample(block_key=key, planned_utc_ns=moment) if moment is not None and self._is_open(key):
                self._record(item, moment)
            case _:
                pass

    def close(self) -> None:
        """Finish the open segment."""
        self._close()
        self._register()

    def _is_open(self, block_key: str | None) -> bool:
        return self._block is not None and self._block.key == block_key

    def _close(self) -> None:
        """Finish the open segment: it accounts for the moments that were told of so far, the next one for the rest.

        What its journal does not name was lost while the service was down, and is missing with that reason.
        """
        writer, self._writer = self._writer, None
        if writer is None or self._block is None:
            return
        self._accounted_from_ns, self._missing = self._told_until_ns, []
        try:
            summary = writer.close(accounted_until_utc_ns=self._told_until_ns, reason=MissingReason.SERVICE_DOWN)
        except RecordingError as error:
            logger.error("a recording of block %s was not closed, it is left for later: %s", self._block.key, error)
        else:
            self._unregistered.append((self._block.key, summary))

    def _record(self, sample: Sample, planned_utc_ns: int) -> None:
        if self._writer is None and not self._open(sample):
            self._miss(planned_utc_ns, NOT_RECORDED)
            return
        assert self._writer is not None
        # A moment that an earlier segment has captured, before a quick restart: the frame is kept, and stands for none.
        stands_for = planned_utc_ns if planned_utc_ns >= self._accounted_from_ns else None
        try:
            self._writer.append(sample.frame, planned_utc_ns=stands_for)
        except RecordingError as error:
            self._tell_of(planned_utc_ns)
            self._fail(error)
        else:
            self._tell_of(planned_utc_ns)

    def _open(self, sample: Sample) -> bool:
        """Start a segment; False when the disk refuses, and then not again for a while."""
        now_ns = self._clock.monotonic_ns()
        if self._block is None or (self._retry_at_ns is not None and now_ns < self._retry_at_ns):
            return False
        metadata = sample.frame.metadata
        try:
            writer = RecordingWriter(
                self._free_path(self._block),
                RecordingHeader(
                    box=self._box,
                    block_key=self._block.key,
                    start_utc_ns=self._block.start_utc_ns,
                    period_ns=self._block.period_ns,
                    accounted_from_utc_ns=self._accounted_from_ns,
                    end_utc_ns=self._block.end_utc_ns,
                    product=metadata.product,
                    serial=metadata.serial,
                    firmware=metadata.firmware,
                    variant=metadata.variant,
                    software_version=self._software_version,
                    provenance=self._provenance,
                ),
                sync_interval_s=self._sync_interval_s,
            )
            self._writer = writer
            for planned_utc_ns, reason in self._missing:
                writer.missing(planned_utc_ns, reason)
        except RecordingError as error:
            self._fail(error)
            return False
        if self.failed is not None:
            logger.warning("block %s is recorded again", self._block.key)
            self._close_leftovers(self._block)
        self._missing, self.failed, self._retry_at_ns = [], None, None
        return True

    def _segments(self, block: PlannedBlock) -> Iterator[RecordingFiles]:
        """The names for recordings of this block, in their order; without end."""
        day, _, name = block.key.partition("/")
        stem = f"{self._box}_{day}_{name}"
        for segment in itertools.count(1):
            yield RecordingFiles(self._directory / day, stem if segment == 1 else f"{stem}_{segment}")

    def _free_path(self, block: PlannedBlock) -> Path:
        """The file of this block, or of its next segment."""
        with as_recording_error(self._directory, "look for a free name"):
            return next(names.final for names in self._segments(block) if not _in_use(names))

    def _accounted_until(self, block: PlannedBlock) -> int:
        """Up to where segments of earlier runs account for the block: from there on it is ours to do so."""
        until_utc_ns = block.start_utc_ns
        try:
            with as_recording_error(self._directory, "look for earlier recordings"):
                for names in itertools.takewhile(_in_use, self._segments(block)):
                    if names.sidecar.exists():
                        until_utc_ns = max(until_utc_ns, _accounted_by(Sidecar.read(names.sidecar), block))
        except RecordingError as error:
            logger.warning("what earlier recordings of block %s account for is not known: %s", block.key, error)
        return min(until_utc_ns, block.end_utc_ns)

    def _close_leftovers(self, block: PlannedBlock) -> None:
        """Close segments that the disk did not let be closed, now that it may."""
        folder = next(self._segments(block)).directory
        for summary in close_leftovers(folder, accounted_until_utc_ns=self._accounted_from_ns):
            if summary.header.block_key is not None:
                self._unregistered.append((summary.header.block_key, summary))
                self._register_at_ns = self._clock.monotonic_ns()

    def _tell_of(self, planned_utc_ns: int) -> None:
        if self._block is not None:
            self._told_until_ns = max(self._told_until_ns, planned_utc_ns + self._block.period_ns)

    def _miss(self, planned_utc_ns: int, reason: str) -> None:
        if planned_utc_ns < self._accounted_from_ns:
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
            self._missing.append((planned_utc_ns, reason))
        self._tell_of(planned_utc_ns)

    def _fail(self, error: RecordingError) -> None:
        if self.failed is None:
            logger.error("recording stopped, measuring goes on: %s", error)
        self.failed = str(error)
        self._retry_at_ns = self._clock.monotonic_ns() + round(RETRY_S * NS_PER_S)
        self._close()
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


def _in_use(names: RecordingFiles) -> bool:
    return any(path.exists() for path in (names.final, names.sidecar, names.part, names.journal))


def _accounted_by(sidecar: Sidecar, block: PlannedBlock) -> int:
    """The first planned moment of the block that a closed segment says nothing of."""
    header = sidecar.header
    if (header.start_utc_ns, header.period_ns) != (block.start_utc_ns, block.period_ns):
        return block.start_utc_ns  # of a former plan
    planned = [facts.planned_utc_ns for facts in sidecar.frames if facts.planned_utc_ns is not None]
    return max(
        sidecar.accounted_until_utc_ns, max(planned, default=block.start_utc_ns - block.period_ns) + block.period_ns
    )
