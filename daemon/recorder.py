"""The recorder thread: raw transfers of the open block to disk."""

import logging
from collections.abc import Mapping
from pathlib import Path

from daemon.handoff import HandOff
from daemon.sampling import BlockEnded, BlockStarted, Item, MissingSamples, Sample
from daemon.schedule import PlannedBlock
from daemon.store.repository import Store
from drivers.clock import NS_PER_S, Clock
from drivers.errors import RecordingError, StoreError
from drivers.recording import SYNC_INTERVAL_S, RecordingSummary, RecordingWriter
from drivers.sidecar import RecordingHeader

logger = logging.getLogger(__name__)

NOT_RECORDED = "not_recorded"
OVERRUN = "overrun"

RETRY_S = 5.0
"""After an error of the disk a new segment is tried at this interval."""

IDLE_S = 0.2


class BlockRecorder:
    """Writes one recording a block; a new segment after a restart or an error of the disk.

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
        self._missing: list[tuple[int, str]] = []
        self._retry_at_ns: int | None = None
        self.failed: str | None = None
        """Why nothing is recorded at present."""

    def run(self, items: HandOff[Item]) -> None:
        """Consume until the hand-off is closed and empty, then close the recording."""
        while not items.exhausted:
            item = items.get(IDLE_S)
            if item is not None:
                self.handle(item)
        self.close()

    def handle(self, item: Item) -> None:
        """Take one item."""
        match item:
            case BlockStarted(block=block, at_utc_ns=at_utc_ns):
                self.close()
                self._block, self._missing = block, []
                self._accounted_from_ns = at_utc_ns - (at_utc_ns - block.start_utc_ns) % block.period_ns
                self._retry_at_ns = None
            case BlockEnded():
                self.close()
                self._block = None
            case MissingSamples(planned_utc_ns=planned, reason=reason):
                for moment in planned:
                    self._miss(moment, reason)
            case Sample(block_key=key) if key is not None and self._block is not None and key == self._block.key:
                self._record(item)
            case _:
                pass

    def sample_gave_way(self, sample: Sample) -> None:
        """A sample was dropped because the disk is too slow."""
        if sample.planned_utc_ns is not None:
            self._missing.append((sample.planned_utc_ns, OVERRUN))

    def close(self) -> None:
        """Finish the open segment."""
        writer, self._writer = self._writer, None
        if writer is None or self._block is None:
            return
        try:
            self._register(writer.close(accounted_until_utc_ns=self._clock.utc_ns()))
        except RecordingError as error:
            logger.error("the recording of block %s was not closed cleanly: %s", self._block.key, error)

    def _record(self, sample: Sample) -> None:
        if self._writer is None and not self._open(sample):
            self._miss(sample.planned_utc_ns, NOT_RECORDED)
            return
        assert self._writer is not None
        try:
            self._writer.append(sample.frame, planned_utc_ns=sample.planned_utc_ns)
        except RecordingError as error:
            self._fail(error)
            self._miss(sample.planned_utc_ns, NOT_RECORDED)

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
        self._missing, self.failed, self._retry_at_ns = [], None, None
        return True

    def _free_path(self, block: PlannedBlock) -> Path:
        """The file of this block, or of its next segment."""
        day, _, name = block.key.partition("/")
        folder = self._directory / day
        stem = f"{self._box}_{day}_{name}"
        segment = 1
        while True:
            path = folder / (f"{stem}.mkv" if segment == 1 else f"{stem}_{segment}.mkv")
            if not path.exists() and not path.with_suffix(".part.mkv").exists():
                return path
            segment += 1

    def _miss(self, planned_utc_ns: int | None, reason: str) -> None:
        if planned_utc_ns is None or planned_utc_ns < self._accounted_from_ns:
            return  # not a moment of this segment
        if self._writer is None:
            self._missing.append((planned_utc_ns, reason))
            return
        try:
            self._writer.missing(planned_utc_ns, reason)
        except RecordingError as error:
            self._fail(error)
            self._missing.append((planned_utc_ns, reason))

    def _fail(self, error: RecordingError) -> None:
        if self.failed is None:
            logger.error("recording stopped, measuring goes on: %s", error)
        self.failed = str(error)
        self._retry_at_ns = self._clock.monotonic_ns() + round(RETRY_S * NS_PER_S)
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                self._register(writer.close(accounted_until_utc_ns=self._clock.utc_ns(), reason=NOT_RECORDED))
            except RecordingError as close_error:
                logger.debug("the broken segment stays a leftover for the next start: %s", close_error)

    def _register(self, summary: RecordingSummary) -> None:
        assert self._block is not None
        try:
            self._store.add_recording(self._block.key, summary)
        except StoreError as error:
            logger.error("recording %s is complete but not in the database: %s", summary.path, error)
