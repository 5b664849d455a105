"""What an earlier life of the service has left: a full disk, open recordings and blocks, damage."""

import logging
import shutil
from datetime import date, datetime, timedelta
from functools import partial

from daemon.caretaker import ballast_of, database_file, make_room_to_start
from daemon.disk_events import set_aside_event
from daemon.disk_files import set_aside_files
from daemon.events import Event, EventKind, EventState, Severity
from daemon.messaging.payloads import event_message
from daemon.recorder import enter_unknown
from daemon.schedule import block_at
from daemon.settings import Settings
from daemon.store.repository import RecordingState, Store, StoredBlock
from daemon.store.retention import Sacrifice
from daemon.worker import SERVICE_DOWN, block_finished
from drivers.clock import NS_PER_S
from drivers.closing import damaged_sidecars, mend_sidecar
from drivers.errors import RecordingError, StoreError
from drivers.recording import RecordingSummary, close_leftovers

logger = logging.getLogger(__name__)

RECORDINGS_LOOKED_BACK_DAYS = 7
"""Recordings of so many days are looked for at the start that are whole but not in the database."""

SIDECARS_LOOKED_BACK_DAYS = 1
"""Sidecars of so many days are read at the start, 10 ms each: a power cut damages what was written last."""


class EarlierLife:
    """What is left of it, and how it is brought to an end. Made before the database is opened.

    Parameters
    ----------
    settings : Settings
        Those of the new life.
    started_utc_ns : int
        When the new life began.
    """

    def __init__(self, settings: Settings, *, started_utc_ns: int) -> None:
        self._settings = settings
        self._started_utc_ns = started_utc_ns
        self.set_aside_before = set_aside_files(settings.box.data_dir, database_file(settings))
        """Files that were set aside already."""
        self.ended_blocks: list[StoredBlock] = []
        """Blocks that ended while nobody was there."""
        self.freed: list[Sacrifice] = []
        """Files that gave way on a disk that was full."""

    def give_way_if_full(self) -> None:
        """On a full disk not even the database can be opened: the caretaker makes the ballast again when it can."""
        ballast = ballast_of(self._settings)
        if ballast.is_urgent(shutil.disk_usage(self._settings.box.data_dir).free):
            logger.warning("the disk is full at the start: the ballast is given up")
            ballast.release()
        try:
            self.freed = make_room_to_start(self._settings, now_ns=self._started_utc_ns)
        except OSError as error:
            logger.error("the disk cannot be looked at: %s", error)
        if self.freed:
            logger.warning("the disk is full at the start: %d files gave way", len(self.freed))

    def tidy_up(self, store: Store, *, now_ns: int, run_id: int, last_seen_ns: int | None) -> None:
        """Close what was left open.

        Parameters
        ----------
        store : Store
            In which it was left.
        now_ns : int
            UTC.
        run_id : int
            The run that tells of it.
        last_seen_ns : int or None
            UTC of the last sign of life; None when there was none.
        """
        settings = self._settings
        current = block_at(now_ns, settings.schedule, settings.zone)
        # The moment whose window is not yet over can still be captured.
        until_ns = now_ns if current is None else now_ns - (now_ns - current.start_utc_ns) % current.period_ns
        for summary in close_leftovers(settings.recordings_dir, accounted_until_utc_ns=until_ns):
            logger.warning("recording %s was left open and is closed now: %d frames", summary.path, summary.frames)
            if summary.header.block_key is not None:
                _keep_recording(store, summary.header.block_key, summary)
        today = datetime.fromtimestamp(now_ns / NS_PER_S, settings.zone).date()
        self._mend_sidecars(store, today - timedelta(days=SIDECARS_LOOKED_BACK_DAYS))
        enter_unknown(settings.recordings_dir, store, since_day=today - timedelta(days=RECORDINGS_LOOKED_BACK_DAYS))
        for block in store.open_blocks():
            if block.end_utc_ns <= now_ns:
                self.ended_blocks.append(block)
                store.finish_block(
                    block.key,
                    at_utc_ns=now_ns,
                    reason_for_unaccounted=SERVICE_DOWN,
                    run_id=run_id,
                    ending=partial(block_finished, block.key, at_utc_ns=now_ns),
                    tell=event_message,
                )
        if last_seen_ns is not None and last_seen_ns < self._started_utc_ns:
            store.open_gap(run_id=run_id, start_utc_ns=last_seen_ns, reason=SERVICE_DOWN)

    def _mend_sidecars(self, store: Store, since_day: date) -> None:
        """A sidecar that cannot be read is made anew; a recording that cannot be either is known as damaged."""
        for names in damaged_sidecars(self._settings.recordings_dir, since_day=since_day):
            has_file = names.final.exists()
            try:
                if mend_sidecar(names) is None and has_file:
                    store.update_recording(names.final, state=RecordingState.DAMAGED)
            except (RecordingError, StoreError) as error:
                logger.warning("%s", error)


def _keep_recording(store: Store, block_key: str, summary: RecordingSummary) -> None:
    try:
        store.add_recording(block_key, summary, state=RecordingState.RECOVERED)
    except StoreError as error:  # of a database that was set aside, or one that cannot be written now
        logger.warning("recording %s is not entered into the database: %s", summary.path, error)


def damage_at_start(store: Store, config_problem: str | None, *, now_ns: int, config_sha256: str) -> list[Event]:
    """What was found damaged and has no file of its own; files that were set aside the caretaker finds itself.

    Parameters
    ----------
    store : Store
        Its outbox is looked at.
    config_problem : str or None
        Why the last good config is in force; None when it is the one that was asked for.
    now_ns : int
        UTC.
    config_sha256 : str
        Of the config in force.
    """
    events = []
    messages = store.set_aside_unreadable_messages(at_utc_ns=now_ns)
    if messages:
        logger.error("%d messages of the outbox cannot be read: kept as dead letters", messages)
        events.append(set_aside_event("outbox", now_ns, messages=messages))
    if config_problem is not None:
        events.append(
            Event(
                kind=EventKind.CONFIG_DAMAGED,
                state=EventState.OCCURRED,
                severity=Severity.ALERT,
                at_utc_ns=now_ns,
                data={
                    "rule": EventKind.CONFIG_DAMAGED.value,
                    "problem": config_problem,
                    "config_sha256": config_sha256,
                },
            )
        )
    return events
