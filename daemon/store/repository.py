"""The store: everything the service remembers, behind one thread-safe object."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from daemon.events import Event, NumberedEvent
from daemon.frame_step import FrameStep
from daemon.maintenance import Maintenance
from daemon.messaging.outbox import OutboxMessage, QueuedMessage
from daemon.minute_value import MinuteValue
from daemon.observation import FrameObservation
from daemon.store import blocks, maintenance, minutes, outbox, pins, recordings, runs
from daemon.store.blocks import BlockPlan, Coverage, StoredBlock
from daemon.store.corrections import CorrectionRows, StoredCorrection
from daemon.store.counters import (
    EVENTS,
    FRAMES,
    MESSAGES_DROPPED,
    MESSAGES_SET_ASIDE,
    MINUTE_VALUES,
    PART_OBSERVATIONS,
    count,
    counted,
)
from daemon.store.engine import Database, checked_url, is_sqlite, sqlite_path
from daemon.store.events import (
    event_histories,
    events_after,
    insert_events,
    last_event_seq,
    number_on_from,
    open_events,
    recent_events,
)
from daemon.store.frame_steps import frame_steps
from daemon.store.observations import (
    CalibrationIds,
    LatestObservation,
    block_observations,
    insert_observations,
    latest_observations,
)
from daemon.store.recordings import FreedRecording, Recorded, RecordingFile, StoredRecording
from daemon.store.retention import Pin
from daemon.store.runs import Gap
from daemon.store.schema import BlockState, RecordingState
from daemon.store.sightings import SeenThen, seen_since
from daemon.store.sqlite_file import set_aside, why_damaged
from daemon.store.upgrade import head_revision, require_newest, upgrade
from drivers.camera import CameraInfo
from drivers.clock import Clock, SystemClock
from drivers.durable import sync_directory
from drivers.errors import StoreError, StoreRejectedError
from drivers.frame import FrameFlag
from drivers.t2s_protocol import Variant

__all__ = [
    "BlockState",
    "Counts",
    "Coverage",
    "Gap",
    "LatestObservation",
    "RecordingState",
    "Store",
    "StoredBlock",
    "StoredRecording",
    "open_store",
]

logger = logging.getLogger(__name__)

_KNOWN_CALIBRATIONS = 256
"""Ids kept in memory; a camera makes about ten calibrations an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much has been stored since the database was made, and what waits."""

    frames: int
    part_observations: int
    minute_values: int
    events: int
    outbox: int
    """Messages that the broker has not acknowledged."""
    outbox_dropped: int
    """Messages that gave way to the limit."""


class Store:
    """The database of one box; also the `daemon.messaging.outbox.OutboxStore` of its publisher.

    All methods may be called from any thread: writes come one after the other, reads go beside them. What a method
    has written is on the disk when it returns, and after an error nothing of it is there.

    Every method raises `StoreRejectedError` if what it is given contradicts what is stored, which no repetition
    helps, and otherwise `StoreError` if the database cannot be used at present (disk full, input/output error): the
    same call may be made again later.
    """

    def __init__(self, database: Database, *, outbox_limit: int, set_aside: Path | None, copy: Path | None) -> None:
        self.set_aside = set_aside
        """The damaged database that this one replaces."""
        self.copy = copy
        """The copy that was made of an older database before its upgrade."""
        self._database = database
        self._outbox_limit = outbox_limit
        self._calibration_ids: CalibrationIds = {}

    # Runs, cameras, gaps

    def start_run(
        self,
        *,
        version: str,
        config_hash: str,
        config_json: str,
        segmenter: str,
        host: str,
        boot_id: str,
        started_utc_ns: int,
        models: Mapping[str, str] | None = None,
        after: int | None = None,
    ) -> int:
        """Begin a run of the service; everything stored later names it.

        Parameters
        ----------
        version : str
            Of this program.
        config_hash, config_json : str
            The settings, without secrets, and their hash.
        segmenter : str
            What does the segmenting, with its version.
        host, boot_id : str
            The machine, and which of its boots: monotonic times can be compared within one boot only.
        started_utc_ns : int
            Now.
        models : mapping of str to str
            Hashes of the models by their names.
        after : int, optional
            A run that ends with this beginning, because something is reloaded: both, or nothing.
        """
        with self._database.writing("start a run") as connection:
            if after is not None:
                runs.end_run(connection, after, ended_utc_ns=started_utc_ns, reason="reloaded")
            return runs.start_run(
                connection,
                version=version,
                config_hash=config_hash,
                config_json=config_json,
                segmenter=segmenter,
                models=models or {},
                host=host,
                boot_id=boot_id,
                started_utc_ns=started_utc_ns,
            )

    def name_segmenter(self, run_id: int, *, segmenter: str, models: Mapping[str, str]) -> None:
        """Say what does the segmenting in a run that was begun before it was known.

        Raises
        ------
        StoreRejectedError
            If the run has frames already.
        """
        with self._database.writing("name the segmenter") as connection:
            runs.name_segmenter(connection, run_id, segmenter=segmenter, models=models)

    def end_run(self, run_id: int, *, ended_utc_ns: int, reason: str) -> None:
        """End a run in an orderly way; one that died has no end."""
        with self._database.writing("end the run") as connection:
            runs.end_run(connection, run_id, ended_utc_ns=ended_utc_ns, reason=reason)

    def register_camera(self, info: CameraInfo, variant: Variant | str) -> int:
        """Id of a camera; the same values give the same id."""
        with self._database.writing("register the camera") as connection:
            try:
                known_variant = Variant(variant)
            except ValueError as error:
                raise StoreRejectedError(f"cannot register the camera: {error}") from error
            return runs.register_camera(connection, info, known_variant)

    def open_gap(self, *, run_id: int, start_utc_ns: int, reason: str, end_utc_ns: int | None = None) -> int:
        """Note that frames stopped; with an end, that they stopped and came back."""
        with self._database.writing("open a gap") as connection:
            return runs.open_gap(
                connection, run_id=run_id, start_utc_ns=start_utc_ns, reason=reason, end_utc_ns=end_utc_ns
            )

    def close_gap(self, gap_id: int, *, run_id: int, end_utc_ns: int) -> None:
        """Note that frames came back."""
        with self._database.writing("close a gap") as connection:
            runs.close_gap(connection, gap_id, run_id=run_id, end_utc_ns=end_utc_ns)

    def close_gaps(self, *, run_id: int, end_utc_ns: int) -> int:
        """Note that frames came back: ends all open gaps, of earlier runs too; how many there were."""
        with self._database.writing("close the gaps") as connection:
            return runs.close_gaps(connection, run_id=run_id, end_utc_ns=end_utc_ns)

    def gaps(self, *, open_only: bool = False) -> list[Gap]:
        """The gaps in the order in which they were noted."""
        with self._database.reading("read the gaps") as connection:
            return runs.gaps(connection, open_only=open_only)

    def last_sign_of_life_utc_ns(self) -> int | None:
        """The latest moment of which anything is stored; at a start, when the service was last there."""
        with self._database.reading("read the last sign of life") as connection:
            return runs.last_sign_of_life(connection)

    # Blocks

    def open_block(self, block: BlockPlan, *, run_id: int, at_utc_ns: int) -> int:
        """Begin a block, or go on with it after a restart; one that was closed before its end is open again.

        If the key is known with other planned moments, because the configuration was changed, the block that has it
        is ended and renamed to KEY~1; its data stay.
        """
        with self._database.writing(f"open block {block.key}") as connection:
            return blocks.open_block(connection, block, run_id=run_id, at_utc_ns=at_utc_ns)

    def record_missing(self, block_key: str, planned_utc_ns: Sequence[int], reason: str) -> int:
        """Account for planned moments without a frame; those already accounted for stay. How many were new."""
        with self._database.writing(f"record what block {block_key} misses") as connection:
            stored = blocks.known_block(connection, block_key)
            return blocks.record_missing(connection, stored, planned_utc_ns, reason)

    def finish_block(
        self,
        key: str,
        *,
        at_utc_ns: int,
        reason_for_unaccounted: str,
        state: BlockState | str = BlockState.FINISHED,
        run_id: int | None = None,
        ending: Callable[[Coverage], Event] | None = None,
        tell: Callable[[NumberedEvent], OutboxMessage] | None = None,
    ) -> Coverage:
        """End a block and account for every planned moment that has no row; one that is over stays as it is.

        A frame that comes later all the same takes the place of its missing moment.

        Parameters
        ----------
        key : str
            Of the block.
        at_utc_ns : int
            Now.
        reason_for_unaccounted : str
            Why moments without a row have none.
        state : BlockState or str
            How it ended.
        run_id : int, optional
            Of the run that tells of it; needed with `ending`.
        ending : callable, optional
            Makes the event of the end from what the block has; stored together with the end.
        tell : callable, optional
            See `add`.
        """
        with self._database.writing(f"finish block {key}") as connection:
            coverage = blocks.finish_block(
                connection,
                blocks.known_block(connection, key),
                at_utc_ns=at_utc_ns,
                reason=reason_for_unaccounted,
                state=BlockState(state),
            )
            self._insert_end(connection, coverage, run_id=run_id, ending=ending, tell=tell)
            return coverage

    def shorten_block(self, block: BlockPlan) -> None:
        """Give an open block an earlier end, because somebody stopped it: what it planned after that is withdrawn.

        One that has moments after that end already keeps its own; so does one that is over.
        """
        with self._database.writing(f"shorten block {block.key}") as connection:
            stored = blocks.known_block(connection, block.key)
            if stored.state is BlockState.OPEN:
                blocks.shorten_block(connection, stored, block)

    def miss_block(
        self,
        block: BlockPlan,
        *,
        run_id: int,
        at_utc_ns: int,
        reason: str,
        ending: Callable[[Coverage], Event] | None = None,
        tell: Callable[[NumberedEvent], OutboxMessage] | None = None,
    ) -> Coverage:
        """Account for a block that nobody was there for; one that had begun keeps what it has.

        `ending` and `tell` are those of `finish_block`.
        """
        with self._database.writing(f"account for block {block.key}") as connection:
            coverage = blocks.miss_block(connection, block, run_id=run_id, at_utc_ns=at_utc_ns, reason=reason)
            self._insert_end(connection, coverage, run_id=run_id, ending=ending, tell=tell)
            return coverage

    def _insert_end(
        self,
        connection: Connection,
        coverage: Coverage,
        *,
        run_id: int | None,
        ending: Callable[[Coverage], Event] | None,
        tell: Callable[[NumberedEvent], OutboxMessage] | None,
    ) -> None:
        """Store what is told of a block's end, in the transaction that ends it."""
        if ending is not None and run_id is not None:
            self._insert_events(connection, [ending(coverage)], run_id=run_id, tell=tell)

    def unaccounted(self, key: str) -> list[int]:
        """Planned moments of a block that nothing is known of."""
        with self._database.reading(f"read block {key}") as connection:
            return blocks.unaccounted(connection, blocks.known_block(connection, key))

    def coverage(self, key: str) -> Coverage:
        """How much of a block is there."""
        with self._database.reading(f"read block {key}") as connection:
            return blocks.coverage(connection, blocks.known_block(connection, key))

    def coverage_since(self, since_utc_ns: int) -> Coverage:
        """How much is there of the planned moments since then that are accounted for, over all blocks."""
        with self._database.reading("read the coverage") as connection:
            return blocks.coverage_since(connection, since_utc_ns)

    def open_blocks(self) -> list[StoredBlock]:
        """Blocks that are not over; at a start, those that a crash or stop left open."""
        with self._database.reading("read the open blocks") as connection:
            return blocks.open_blocks(connection)

    def blocks_within(self, since_utc_ns: int, until_utc_ns: int) -> list[StoredBlock]:
        """Blocks that lie, or reach, between two times, in their order."""
        with self._database.reading("read blocks") as connection:
            return blocks.blocks_within(connection, since_utc_ns, until_utc_ns)

    def finished_block_keys(self, since_utc_ns: int) -> frozenset[str]:
        """Keys of the blocks that are over, finished or missed, and ended since then."""
        with self._database.reading("read the finished blocks") as connection:
            return blocks.finished_block_keys(connection, since_utc_ns)

    def is_finished(self, key: str) -> bool:
        """Whether the block of this key is over, finished or missed."""
        with self._database.reading(f"read block {key}") as connection:
            stored = blocks.find_block(connection, key)
            return stored is not None and stored.state is not BlockState.OPEN

    def accounted_until(self) -> int | None:
        """End of the last block that is over, otherwise start of the first run; None in a new database.

        At a start, blocks planned between then and now that are not in the database were missed.
        """
        with self._database.reading("read the finished blocks") as connection:
            return blocks.accounted_until(connection)

    # Observations

    def add(
        self,
        observations: Sequence[FrameObservation],
        *,
        run_id: int,
        camera_id: int | None,
        events: Sequence[Event] = (),
        messages: Sequence[OutboxMessage] = (),
        minute_values: Sequence[MinuteValue] = (),
        tell: Callable[[NumberedEvent], OutboxMessage] | None = None,
    ) -> list[int]:
        """Store measured frames and what they led to, all or nothing.

        Parameters
        ----------
        observations : sequence of FrameObservation
            Frames in the order of capture. The first that stands for a planned moment accounts for it; a second one
            is stored without.
        run_id : int
            From `start_run`.
        camera_id : int or None
            From `register_camera`; None is allowed without observations.
        events : sequence of Event
            What happened; each gets its number here.
        messages : sequence of OutboxMessage
            To be sent, for what is no event.
        minute_values : sequence of MinuteValue
            What was collected; of a minute that is stored already the value with more samples stays.
        tell : callable, optional
            Makes the message that tells of an event; stored together with it.

        Returns
        -------
        list of int
            The frame ids, in the order of the observations.
        """
        if observations and camera_id is None:
            raise StoreRejectedError(f"cannot store {len(observations)} frames without knowing their camera")
        new_calibrations: CalibrationIds = {}
        frame_ids: list[int] = []
        with self._database.writing(f"store {len(observations)} frames and {len(events)} events") as connection:
            if observations and camera_id is not None:
                frame_ids, new_calibrations = insert_observations(
                    connection,
                    observations,
                    run_id=run_id,
                    camera_id=camera_id,
                    known_calibrations=self._calibration_ids,
                )
            minutes.insert_minute_values(connection, minute_values, run_id=run_id)
            self._insert_events(connection, events, messages, run_id=run_id, tell=tell)
        self._remember(new_calibrations)
        return frame_ids

    def _insert_events(
        self,
        connection: Connection,
        events: Sequence[Event],
        messages: Sequence[OutboxMessage] = (),
        *,
        run_id: int,
        tell: Callable[[NumberedEvent], OutboxMessage] | None,
    ) -> None:
        numbered = insert_events(connection, events, run_id=run_id)
        count(connection, EVENTS, len(events))
        told = [] if tell is None else [tell(each) for each in numbered]
        outbox.enqueue(connection, [*messages, *told], limit=self._outbox_limit)

    def _remember(self, calibrations: CalibrationIds) -> None:
        """Keep ids in a new mapping, so that no thread sees one that changes."""
        if calibrations:
            known = self._calibration_ids if len(self._calibration_ids) < _KNOWN_CALIBRATIONS else {}
            self._calibration_ids = known | calibrations

    def latest_observations(self) -> list[LatestObservation]:
        """For each animal the newest frame it was seen in, within the last thousand frames."""
        with self._database.reading("read the latest observations") as connection:
            return latest_observations(connection)

    def block_observations(self, key: str) -> list[FrameObservation]:
        """The captured moments of a block, as they were handed to `add`."""
        with self._database.reading(f"read the observations of block {key}") as connection:
            return block_observations(connection, blocks.known_block(connection, key))

    def seen_since(self, since_utc_ns: int, *, at_most: int) -> list[SeenThen]:
        """Measured frames since a time, by time; of more than `at_most` every so many, and always the newest."""
        with self._database.reading("read what was seen lately") as connection:
            return seen_since(connection, since_utc_ns, at_most=at_most)

    def frame_steps(
        self, *, since_utc_ns: int, until_utc_ns: int, step_ns: int, without_flags: FrameFlag
    ) -> list[FrameStep]:
        """What the frames of a time showed, in steps; temperatures without those of frames with one of these flags."""
        with self._database.reading("read what frames showed lately") as connection:
            return frame_steps(
                connection,
                since_utc_ns=since_utc_ns,
                until_utc_ns=until_utc_ns,
                step_ns=step_ns,
                without_flags=int(without_flags),
            )

    # Values of minutes

    def minute_values(
        self,
        *,
        since_utc_ns: int,
        until_utc_ns: int,
        animals: Sequence[int | None] | None = None,
        measures: Collection[str] | None = None,
    ) -> Iterator[MinuteValue]:
        """Values of the minutes that begin from one time to before another, in the order of time, animal and measure.

        Rows are read as they are asked for. `animals` are numbers, with None for the cage; left out, all of them.
        Values of minutes with maintenance in them are empty, whatever is stored.
        """
        with self._database.reading("read the values of minutes") as connection:
            yield from minutes.minute_values(
                connection, since_utc_ns=since_utc_ns, until_utc_ns=until_utc_ns, animals=animals, measures=measures
            )

    def minute_values_a_minute(self, since_utc_ns: int) -> float | None:
        """How many values there are of a minute since a time, on average; None where there are none."""
        with self._database.reading("count the values of minutes") as connection:
            return minutes.rows_a_minute(connection, since_utc_ns)

    def trunk_places(
        self, animal: int, *, since_utc_ns: int, until_utc_ns: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """When and where the centre of an animal's trunk (head and body by area) was: (n,) UTC ns, (n, 2) pixels.

        Times of maintenance are left out.
        """
        with self._database.reading(f"read the places of animal {animal}") as connection:
            return minutes.trunk_places(connection, animal, since_utc_ns=since_utc_ns, until_utc_ns=until_utc_ns)

    # Corrections of who is who

    def corrections(self) -> list[StoredCorrection]:
        """All corrections, undone ones too, in the order in which they were made."""
        with self._database.reading("read the corrections") as connection:
            return CorrectionRows(connection).corrections()

    def corrected_minutes(self, since_utc_ns: int, until_utc_ns: int) -> dict[tuple[int, int], set[int]]:
        """Numbers of the corrections that changed frames, by minute and animal: see `CorrectionRows`."""
        with self._database.reading("read which minutes are corrected") as connection:
            return CorrectionRows(connection).corrected_minutes(since_utc_ns, until_utc_ns)

    @contextmanager
    def correction_rows(self) -> Iterator[CorrectionRows]:
        """What a correction looks at, in one snapshot; not to be held for long, as it keeps the log from being cut."""
        with self._database.reading("read who is who") as connection:
            yield CorrectionRows(connection)

    @contextmanager
    def correcting(
        self,
        *,
        run_id: int,
        events: Sequence[Event] = (),
        tell: Callable[[NumberedEvent], OutboxMessage] | None = None,
    ) -> Iterator[CorrectionRows]:
        """One transaction in which identities are changed with all that rests on them: all of it, or nothing.

        Parameters
        ----------
        run_id : int
            That tells of it.
        events : sequence of Event
            Stored at the end; may be filled meanwhile.
        tell : callable, optional
            See `add`.
        """
        with self._database.writing("correct who is who") as connection:
            yield CorrectionRows(connection)
            self._insert_events(connection, events, run_id=run_id, tell=tell)

    # Events, recordings

    def open_events(self) -> list[Event]:
        """Conditions that were opened and not closed, oldest first."""
        with self._database.reading("read the open events") as connection:
            return open_events(connection)

    def event_histories(self, since_utc_ns: int | None = None) -> list[Event]:
        """All events of what is open, its opening and whatever followed, and all since a moment, in their order."""
        with self._database.reading("read the open events") as connection:
            return event_histories(connection, since_utc_ns)

    def recent_events(self, limit: int) -> list[Event]:
        """The newest events, newest first."""
        with self._database.reading("read the newest events") as connection:
            return recent_events(connection, limit)

    def events_after(self, seq: int, *, limit: int) -> list[NumberedEvent]:
        """Events with a greater number, in their order: what a listener has missed."""
        with self._database.reading("read events") as connection:
            return events_after(connection, seq, limit)

    def last_event_seq(self) -> int | None:
        """Number of the newest event; None before the first."""
        with self._database.reading("read the newest event") as connection:
            return last_event_seq(connection)

    def add_recording(
        self, block_key: str, file: RecordingFile, *, state: RecordingState | str = RecordingState.COMPLETE
    ) -> int:
        """Store what became of a recording; for a path that is known, in place of what was stored.

        One without a checksum counts as unfinished, whatever the state.
        """
        with self._database.writing(f"store recording {file.path}") as connection:
            stored = blocks.known_block(connection, block_key)
            return recordings.add_recording(connection, stored, file, RecordingState(state))

    def update_recording(self, path: Path, *, state: RecordingState | str) -> None:
        """Change what may be expected of a recording."""
        with self._database.writing(f"update recording {path}") as connection:
            recordings.update_recording(connection, path, RecordingState(state))

    def recordings(self, block_key: str) -> list[StoredRecording]:
        """Recordings of a block in the order of their making."""
        with self._database.reading(f"read the recordings of block {block_key}") as connection:
            return recordings.recordings(connection, block_key)

    def all_recordings(self) -> list[StoredRecording]:
        """Every recording, freed ones too, in the order of their blocks."""
        with self._database.reading("read the recordings") as connection:
            return recordings.all_recordings(connection)

    def recorded_since(self, since_utc_ns: int) -> Recorded:
        """What the recordings of blocks that ended since then took, freed ones too."""
        with self._database.reading("read the size of the recordings") as connection:
            return recordings.recorded_since(connection, since_utc_ns)

    def freed_count(self) -> int:
        """How many recordings were freed since the database was made."""
        with self._database.reading("count the freed recordings") as connection:
            return recordings.freed_count(connection)

    def free_recordings(
        self,
        freed: Sequence[FreedRecording],
        *,
        run_id: int | None = None,
        events: Sequence[Event] = (),
        tell: Callable[[NumberedEvent], OutboxMessage] | None = None,
    ) -> int:
        """Note that the files of these are gone, and tell of it in the same transaction; how many rows that changed.

        Rows and sidecars stay, so that no gap is silent. A recording without a row (its database was set aside) is
        passed over. `run_id` is needed with events; `tell` is that of `add`.
        """
        with self._database.writing(f"note that {len(freed)} recordings are freed") as connection:
            changed = recordings.free_recordings(connection, freed)
            if run_id is not None:
                self._insert_events(connection, events, run_id=run_id, tell=tell)
            return changed

    # Maintenance

    def keep_maintenance(
        self,
        stretch: Maintenance,
        *,
        run_id: int,
        event: Event,
        tell: Callable[[NumberedEvent], OutboxMessage] | None = None,
    ) -> None:
        """Store a stretch, in place of the one of this id, and tell of it in the same transaction."""
        with self._database.writing("store maintenance") as connection:
            maintenance.keep(connection, stretch)
            self._insert_events(connection, [event], run_id=run_id, tell=tell)

    def maintenance_between(self, start_utc_ns: int, end_utc_ns: int) -> list[Maintenance]:
        """Stretches that overlap this time, in the order of their begin."""
        with self._database.reading("read the maintenance") as connection:
            return maintenance.between(connection, start_utc_ns, end_utc_ns)

    # Pins

    def add_pins(self, new: Sequence[Pin]) -> None:
        """Keep what these name; a name that is taken is refused."""
        with self._database.writing("pin recordings") as connection:
            pins.add_pins(connection, new)

    def remove_pins(self, name: str) -> int:
        """Let go of what this name keeps; how many rows there were."""
        with self._database.writing(f"unpin {name}") as connection:
            return pins.remove_pins(connection, name)

    def pins(self) -> list[Pin]:
        """All pins, in the order of their making."""
        with self._database.reading("read the pins") as connection:
            return pins.pins(connection)

    # Outbox

    def set_aside_unreadable_messages(self, *, at_utc_ns: int) -> int:
        """Move messages that cannot be sent as they are from the outbox to the dead letters; how many there were.

        Bytes that changed within a value are no damage that SQLite sees; such a message must not keep the others.
        """
        with self._database.writing("look through the outbox") as connection:
            moved = outbox.set_aside_unreadable(connection, at_utc_ns=at_utc_ns)
            count(connection, MESSAGES_SET_ASIDE, moved)
            return moved

    def queued_messages(self, *, after_id: int, limit: int) -> list[QueuedMessage]:
        """See `daemon.messaging.outbox.OutboxStore`."""
        with self._database.reading("read the outbox") as connection:
            return outbox.queued(connection, after_id=after_id, limit=limit)

    def acknowledge_messages(self, message_ids: Sequence[int]) -> None:
        """See `daemon.messaging.outbox.OutboxStore`."""
        if message_ids:
            with self._database.writing("take messages off the outbox") as connection:
                outbox.acknowledge(connection, message_ids)

    def outbox_depth(self) -> int:
        """See `daemon.messaging.outbox.OutboxStore`."""
        with self._database.reading("read the outbox") as connection:
            return outbox.depth(connection)

    def outbox_dropped(self) -> int:
        """See `daemon.messaging.outbox.OutboxStore`."""
        with self._database.reading("read the outbox") as connection:
            return counted(connection, MESSAGES_DROPPED)

    # The database itself

    def counts(self) -> Counts:
        """How much has been stored; quick at any size."""
        with self._database.reading("read the counters") as connection:
            return Counts(
                frames=counted(connection, FRAMES),
                part_observations=counted(connection, PART_OBSERVATIONS),
                minute_values=counted(connection, MINUTE_VALUES),
                events=counted(connection, EVENTS),
                outbox=outbox.depth(connection),
                outbox_dropped=counted(connection, MESSAGES_DROPPED),
            )

    def integrity(self) -> list[str]:
        """What is wrong with the database; empty when all is well. Reads everything: minutes if large.

        A database on a server is left to the server's own means.
        """
        if not is_sqlite(self._database.url):
            return []
        with self._database.reading("check the database") as connection:
            found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
            dangling = [
                f"table {table}: row {row} refers to a row of {target} that is not there"
                for table, row, target, _ in connection.exec_driver_sql("PRAGMA foreign_key_check")
            ]
        return [problem for problem in found if problem != "ok"] + dangling


@contextmanager
def attach_store(url: str, *, outbox_limit: int) -> Iterator[Store]:
    """Open the database beside the service, for a command: it is never made, upgraded or set aside.

    Raises
    ------
    ConfigError
        If the URL is wrong, or there is no driver for it.
    StoreError
        If there is no database, it belongs to another version of the program, or cannot be opened.
    """
    checked = checked_url(url)
    path = sqlite_path(checked)
    if path is not None and not path.is_file():
        raise StoreError(f"there is no database {path}: the service makes it at its first start")
    require_newest(checked)
    database = Database(checked)
    try:
        yield Store(database, outbox_limit=outbox_limit, set_aside=None, copy=None)
    finally:
        database.close()


@contextmanager
def open_store(url: str, *, outbox_limit: int, clock: Clock | None = None) -> Iterator[Store]:
    """Open the database, made or brought up to date as needed; closed when the block is left.

    A damaged SQLite file does not keep the service from starting: it is renamed and a new database takes its place.
    An older one is copied before its schema is changed. Both are in the attributes of the store.

    Parameters
    ----------
    url : str
        SQLAlchemy URL, for instance sqlite:////srv/vivarium.db.
    outbox_limit : int
        Messages kept for a broker that is away.
    clock : Clock or None
        For the names of what is set aside or copied; None takes the machine's.

    Raises
    ------
    ConfigError
        If the URL is wrong, or there is no driver for it.
    StoreError
        If the database cannot be opened, or belongs to a newer program.
    """
    checked = checked_url(url)
    path, utc_ns = sqlite_path(checked), (clock or SystemClock()).utc_ns()
    damaged = None if path is None else _set_aside_if_damaged(path, utc_ns)
    copy = upgrade(checked, utc_ns=utc_ns)
    if path is not None:
        try:
            sync_directory(path.parent)
        except OSError as error:
            raise StoreError(f"the directory of the database cannot be brought to the disk: {error}") from error
    database = Database(checked)
    try:
        if damaged is not None:
            with database.writing("number events on") as connection:
                number_on_from(connection, utc_ns)
        database.open_readers()
        yield Store(database, outbox_limit=outbox_limit, set_aside=damaged, copy=copy)
    finally:
        database.close()


def _set_aside_if_damaged(path: Path, utc_ns: int) -> Path | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the directory of the database cannot be made: {error}") from error
    reason = why_damaged(path, head_revision())
    if reason is None:
        return None
    aside = set_aside(path, utc_ns)
    logger.error("database %s is damaged (%s): set aside as %s, starting with a new one", path, reason, aside)
    return aside
