"""The caretaker thread: keeps room on the disk, and tells of what was set aside.

It looks at the free space each second and at all files each minute, or at once when room is short. Capture never waits
for it, and the database only for the short transactions that note what was freed.
"""

import logging
import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

from daemon.ballast import MB, URGENT_SHARE, Ballast
from daemon.disk_events import facts_of, free_bytes_of, freed_event, in_short, set_aside_event
from daemon.disk_evidence import DiskEvidence
from daemon.disk_files import (
    Identity,
    RecordingOnDisk,
    candidates,
    mark_pinned,
    new_files,
    recordings_on_disk,
    set_aside_files,
)
from daemon.event_severities import EventSeverities
from daemon.events import Event, EventKind, EventState
from daemon.evidence import EvidenceFolder
from daemon.messaging.payloads import event_message
from daemon.minute_values import MINUTE_S
from daemon.open_events import OpenEvent
from daemon.quiet_hours import QuietHours
from daemon.rule_state import UPDATE_MINUTES
from daemon.schedule import StratifiedDay
from daemon.settings import Settings
from daemon.status import DiskStatus
from daemon.store.backup import checksum_file
from daemon.store.engine import checked_url, sqlite_path
from daemon.store.recordings import FreedRecording
from daemon.store.repository import RecordingState, Store
from daemon.store.retention import (
    GB,
    MARGIN,
    MINUTE_VALUE_BYTES,
    Level,
    Limits,
    Pin,
    Sacrifice,
    Why,
    bytes_per_frame,
    days_until_full,
    min_free_bytes,
    names_of,
    plan,
    trusted_day,
)
from drivers.clock import NS_PER_S, Clock
from drivers.closing import RecordingFiles
from drivers.durable import sync_directory
from drivers.errors import ConfigError, StoreError

logger = logging.getLogger(__name__)

TICK_S = 1.0
PASS_S = 60.0
"""Between two looks at all files while there is room; also how long nothing more gives way after it was in vain."""
SHORT_PASS_S = 5.0
"""The same while room is short and nothing more may give way, and at the start: a camera sets its files aside late."""
FIRST_PASSES = 3
START_ROOM_BYTES = 64 * MB
"""Made free before a start when less than a quarter of it is; never more than the minimum that is to be kept free."""
FILES_A_PASS = 200
"""Given up before the database is told."""
WORSE_SHARE = 0.5
"""A disk that is low is told of again when no more than this of what was last told is free."""
MEASURED_DAYS = 7
"""The growth is measured over the recordings of so many days."""

_DAY_NS = 86_400 * NS_PER_S
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSurvey:
    """The disk and what is on it, at one moment."""

    free_bytes: int
    total_bytes: int
    limits: Limits
    recordings: Sequence[RecordingOnDisk]
    pins: Sequence[Pin]

    @property
    def newest_day(self) -> date | None:
        """Of the newest closed recording."""
        return self.recordings[-1].day if self.recordings else None

    @property
    def recordings_bytes(self) -> int:
        """What the closed recordings take."""
        return sum(each.size_bytes for each in self.recordings)

    @property
    def pinned_bytes(self) -> int:
        """What those take that are pinned."""
        return sum(
            each.size_bytes
            for each in self.recordings
            if each.pins is not None or names_of(self.pins, each.day, each.block_key)
        )


def survey(settings: Settings, pins: Sequence[Pin]) -> DiskSurvey:
    """Look at the disk.

    Raises
    ------
    OSError
        If it cannot be looked at.
    """
    usage = shutil.disk_usage(settings.box.data_dir)
    return DiskSurvey(
        free_bytes=usage.free,
        total_bytes=usage.total,
        limits=limits_of(settings, usage.total),
        recordings=recordings_on_disk(settings.recordings_dir),
        pins=pins,
    )


def limits_of(settings: Settings, total_bytes: int) -> Limits:
    """The limits of the config for a disk of this size."""
    disk = settings.disk
    return Limits(
        min_free_bytes=min_free_bytes(disk.min_free_gb, total_bytes),
        budget_bytes=None if disk.budget_gb is None else round(disk.budget_gb * GB),
        keep_days=disk.keep_days,
    )


def choose(
    settings: Settings,
    found: DiskSurvey,
    *,
    now_ns: int,
    more_bytes: int = 0,
    why: Why = Why.MIN_FREE,
    today: date | None = None,
) -> list[Sacrifice]:
    """What gives way now; see `daemon.store.retention.plan`."""
    if today is None:
        today = trusted_day(_local_day(settings, now_ns), found.newest_day)
    return plan(
        candidates(
            settings.box.data_dir, found.recordings, database=database_file(settings), pins=found.pins, now_ns=now_ns
        ),
        free_bytes=found.free_bytes,
        limits=found.limits,
        today=today,
        more_bytes=more_bytes,
        why=why,
    )


def give_up(sacrifice: Sacrifice, refused: Callable[[str], None] = logger.error) -> bool:
    """Remove the file; False when it got a mark meanwhile, or cannot be removed, which `refused` is told."""
    path = sacrifice.candidate.path
    if path.with_name(RecordingFiles.of(path).name + ".pin").exists():
        return False
    try:
        path.unlink(missing_ok=True)
        if sacrifice.candidate.level is Level.DATABASE_COPY:
            checksum_file(path).unlink(missing_ok=True)
    except OSError as error:
        refused(f"{path} cannot be given up: {error}")
        return False
    return True


def make_room_to_start(settings: Settings, *, now_ns: int) -> list[Sacrifice]:
    """On a disk where not even the database can be opened: give up the little that it takes; what is gone then.

    Pins are in the database: here only the marks beside recordings keep them.

    Raises
    ------
    OSError
        If the disk cannot be looked at.
    """
    found = survey(settings, ())
    wanted = min(START_ROOM_BYTES, found.limits.min_free_bytes)
    if found.free_bytes >= wanted * URGENT_SHARE:
        return []
    found = replace(found, limits=Limits(min_free_bytes=wanted))
    return [each for each in choose(settings, found, now_ns=now_ns) if give_up(each)]


def freed_rows(given_up: Sequence[Sacrifice], at_utc_ns: int) -> list[FreedRecording]:
    """What the database is to note of them."""
    return [
        FreedRecording(path=each.candidate.path, at_utc_ns=at_utc_ns, why=each.why)
        for each in given_up
        if each.candidate.level is Level.RECORDING
    ]


def database_file(settings: Settings) -> Path | None:
    """The database, when it is a file."""
    return sqlite_path(checked_url(settings.database_url))


def bytes_per_day(settings: Settings, store: Store, *, now_ns: int) -> float | None:
    """What a planned day takes, as much as is known of it.

    Bytes of a recorded and of a stored frame, times how many are planned for today, and the values of its minutes.

    Raises
    ------
    StoreError
        If the database cannot be read.
    """
    try:
        day = StratifiedDay.of(_local_day(settings, now_ns), settings.schedule, settings.zone)
    except ConfigError:
        return None
    outside_s = _DAY_S - sum(block.duration_s for block in day)
    outside_rate_hz, counts, total = settings.measure.outside_rate_hz, store.counts(), 0.0
    if database_bytes := _database_bytes(settings):
        stored = bytes_per_frame(max(0, database_bytes - MINUTE_VALUE_BYTES * counts.minute_values), counts.frames)
        total += 0.0 if stored is None else stored * (day.frames + max(0, outside_s) * outside_rate_hz)
        minutes_s = _DAY_S if outside_rate_hz * MINUTE_S >= 1 else _DAY_S - outside_s
        rows = store.minute_values_a_minute(now_ns - _DAY_NS) or 0.0
        total += rows * MINUTE_VALUE_BYTES * minutes_s / MINUTE_S
    if not settings.recording.enabled or not day.frames:
        return total or None
    recorded = store.recorded_since(now_ns - MEASURED_DAYS * _DAY_NS)
    each = bytes_per_frame(recorded.size_bytes, recorded.frames)
    return None if each is None else total + each * day.frames


def look_at_disk(settings: Settings, store: Store, *, now_ns: int, ballast: bool) -> DiskStatus:
    """What the status says of the disk; that it is low is known to the caretaker only.

    Raises
    ------
    StoreError
        If the database cannot be read.
    OSError
        If the disk cannot be looked at.
    """
    return _status(settings, store, survey(settings, store.pins()), now_ns=now_ns, ballast=ballast, low=False)


def _status(
    settings: Settings, store: Store, found: DiskSurvey, *, now_ns: int, ballast: bool, low: bool
) -> DiskStatus:
    growth = bytes_per_day(settings, store, now_ns=now_ns)
    return DiskStatus(
        low=low,
        min_free_bytes=found.limits.min_free_bytes,
        recordings_bytes=found.recordings_bytes,
        pinned_bytes=found.pinned_bytes,
        freed_recordings=store.freed_count(),
        bytes_per_day=growth,
        full_in_days=days_until_full(found.free_bytes, found.limits, growth),
        ballast=ballast,
    )


def _local_day(settings: Settings, now_ns: int) -> date:
    return datetime.fromtimestamp(now_ns / NS_PER_S, UTC).astimezone(settings.zone).date()


def _database_bytes(settings: Settings) -> int:
    path = database_file(settings)
    return path.stat().st_size if path is not None and path.exists() else 0


@dataclass(slots=True)
class _Untold:
    """What is done but not yet in the database."""

    freed: list[FreedRecording] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Caretaker:
    """Keeps room, makes and gives up the ballast, marks pinned recordings, tells of what was set aside.

    Parameters
    ----------
    settings : Settings
        May be replaced while it runs.
    store, clock
        Of the service.
    run_id : callable
        The run that events belong to.
    told : callable
        Called after events were stored.
    set_aside_before : mapping
        From `set_aside_files`, before the service began to start.
    still_open : sequence of OpenEvent
        Conditions that an earlier run left open.
    first_events : sequence of Event
        Of the start, to be stored.
    freed_at_start : sequence of Sacrifice
        From `make_room_to_start`, to be noted.
    beat : callable
        Told again and again as long as the thread goes on.
    evidence : EvidenceFolder, optional
        Keeps the plots of events.
    severities : EventSeverities, optional
        What the config says of them; belongs to this thread from now on.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        clock: Clock,
        run_id: Callable[[], int],
        told: Callable[[], None],
        set_aside_before: Mapping[Identity, str],
        still_open: Sequence[OpenEvent] = (),
        first_events: Sequence[Event] = (),
        freed_at_start: Sequence[Sacrifice] = (),
        beat: Callable[[], None] = lambda: None,
        evidence: EvidenceFolder | None = None,
        severities: EventSeverities | None = None,
    ) -> None:
        self.settings = settings
        self._severities = severities or EventSeverities((), {}, animals=0, quiet_hours=QuietHours(None, settings.zone))
        self._store = store
        self._clock = clock
        self._run_id = run_id
        self._told = told
        self._beat = beat
        self._known_set_aside = dict(set_aside_before)
        self.set_aside = tuple(in_short(each) for each in first_events if each.kind is EventKind.SET_ASIDE)
        """What was set aside since the start began, each with its name."""
        self.status = DiskStatus()
        """The disk, as last looked at; replaced as a whole."""
        self._evidence = DiskEvidence(settings.zone, evidence)
        low = next((each for each in still_open if each.opened.kind is EventKind.DISK_LOW), None)
        self._low_event = None if low is None else low.opened
        """What opened it."""
        self._low_told = 0 if low is None else free_bytes_of(low.newest), clock.monotonic_ns()
        """Free bytes that were last told while the disk is low, and when."""
        self._untold = _Untold(events=[self._severities.told(each) for each in first_events])
        self._note(freed_at_start, clock.utc_ns())
        self._pins: Sequence[Pin] = ()
        self._pass_at_ns, self._passes = clock.monotonic_ns(), 0
        self._stopping = threading.Event()
        self._complaints: deque[str] = deque(maxlen=8)
        self._reconciled = False
        self._newest_known: tuple[date, int] | None = None
        """Day of the newest recording when recordings were first seen, and that moment."""
        self._futile_until_ns = clock.monotonic_ns()
        """Until then nothing gives way for free space: what gave way last made no room."""
        self._refused: str | None = None
        self._ballast = ballast_of(settings)

    def run(self) -> None:
        """Take care until stopped; what is done by then is noted."""
        while True:
            self._beat()
            self.tick()
            if self._clock.wait(TICK_S, until=self._stopping):
                break
        try:
            self._flush()
        except StoreError as error:
            logger.error("what became of the disk last is not in the database: %s", error)

    def stop(self) -> None:
        """End `run` soon."""
        self._stopping.set()

    def tick(self) -> None:
        """Look at the free space, and at all files when that is due."""
        try:
            found = self._keep_room()
            self._flush()
            if found is not None:
                self._reconcile()
                self.status = self._status_of(found)
            self._complaints.clear()
        except (OSError, StoreError) as error:  # the disk fails, or the database waits for room: again in a moment
            self._complain(f"the disk cannot be looked after at present: {error}")

    def _complain(self, sentence: str) -> None:
        """Log an error once, not each second."""
        if sentence not in self._complaints:
            self._complaints.append(sentence)
            logger.error("%s", sentence)

    def _keep_room(self) -> DiskSurvey | None:
        """Give up what the limits ask for; what is on the disk then, when all files were looked at."""
        settings = self.settings
        if self._ballast.size_bytes != settings.disk.ballast_mb * MB:
            self._ballast = ballast_of(settings)
        usage = shutil.disk_usage(settings.box.data_dir)
        limits = limits_of(settings, usage.total)
        now_ns, short = self._clock.monotonic_ns(), usage.free < limits.min_free_bytes
        urgent = self._ballast.is_urgent(usage.free)
        if urgent:
            logger.warning("the disk is full (%d MB free): the ballast is given up", usage.free // MB)
            self._ballast.release()
        found, exhausted = None, False
        if now_ns >= self._pass_at_ns or urgent or (short and self._low_event is None):
            self._passes += 1
            soon = short or self._passes < FIRST_PASSES
            self._pass_at_ns = now_ns + round((SHORT_PASS_S if soon else PASS_S) * NS_PER_S)
            found, made_room = self._pass()
            exhausted = short and not made_room
            usage = shutil.disk_usage(settings.box.data_dir)
        self._ballast.make_if_room(usage.free, usage.total)
        self._evidence.note(self._clock.utc_ns(), usage.free)
        self._judge(usage.free, limits, found if exhausted else None)
        return found

    def _pass(self) -> tuple[DiskSurvey, bool]:
        """Look at all files, and give up what the plan says; what is there then, and whether that made room."""
        now_ns = self._clock.utc_ns()
        self._report_set_aside(now_ns)
        self._read_pins()
        found = survey(self.settings, self._pins)
        free_bytes, gone = found.free_bytes, self._let_go(found, now_ns)
        if gone:
            found = survey(self.settings, self._pins)
        made_room = bool(gone) and found.free_bytes > free_bytes
        if not made_room and any(each.why is Why.MIN_FREE for each in gone):
            self._futile_until_ns = self._clock.monotonic_ns() + round(PASS_S * NS_PER_S)
            self._complain("what gave way made no room: its space is held elsewhere, or filled at once")
        try:
            mark_pinned(found.recordings, self._pins)
        except OSError as error:
            self._complain(f"a pinned recording is kept but not yet marked: {error}")
        return found, made_room

    def _let_go(self, found: DiskSurvey, now_ns: int) -> list[Sacrifice]:
        """Give up what the plan says; what is gone then."""
        more = self._ballast.lacking_bytes(found.total_bytes)
        if self._clock.monotonic_ns() < self._futile_until_ns:
            found, more = replace(found, limits=replace(found.limits, min_free_bytes=0)), 0
        chosen = choose(self.settings, found, now_ns=now_ns, more_bytes=more, today=self._today(found, now_ns))
        gone: list[Sacrifice] = []
        refused: list[str] = []
        for first in range(0, len(chosen), FILES_A_PASS):
            gone += self._give_up(chosen[first : first + FILES_A_PASS], now_ns, refused.append)
        if refused and refused[0] != self._refused:
            logger.error("%s (%d files in all)", refused[0], len(refused))
        self._refused = refused[0] if refused else None
        return gone

    def _today(self, found: DiskSurvey, now_ns: int) -> date:
        """The day that ages are counted from."""
        monotonic_ns = self._clock.monotonic_ns()
        if self._newest_known is None and found.newest_day is not None:
            self._newest_known = found.newest_day, monotonic_ns
        newest_day, since_ns = self._newest_known or (None, monotonic_ns)
        return trusted_day(_local_day(self.settings, now_ns), newest_day, (monotonic_ns - since_ns) // _DAY_NS)

    def _status_of(self, found: DiskSurvey) -> DiskStatus:
        return _status(
            self.settings,
            self._store,
            found,
            now_ns=self._clock.utc_ns(),
            ballast=self._ballast.in_place,
            low=self._low_event is not None,
        )

    def _read_pins(self) -> None:
        """The pins of the database; as long as it cannot be read those that were read last, and the marks."""
        try:
            self._pins = self._store.pins()
        except StoreError as error:
            self._complain(f"the pins are not read: {error}")

    def _give_up(self, chosen: Sequence[Sacrifice], now_ns: int, refused: Callable[[str], None]) -> list[Sacrifice]:
        """Remove files and note it; those that are gone."""
        gone = [each for each in chosen if not self._stopping.is_set() and give_up(each, refused)]
        for folder in sorted({each.candidate.path.parent for each in gone}):
            sync_directory(folder)
        self._note(gone, now_ns)
        if gone:
            recordings = [each for each in gone if each.candidate.level is Level.RECORDING]
            logger.warning(
                "%d files of %d MB gave way (%s), %d of them recordings: %s to %s",
                len(gone),
                sum(each.candidate.size_bytes for each in gone) // MB,
                ", ".join(sorted({each.why.value for each in gone})),
                len(recordings),
                gone[0].candidate.path.name,
                gone[-1].candidate.path.name,
            )
        self._try_to_flush()
        return gone

    def _note(self, gone: Sequence[Sacrifice], now_ns: int) -> None:
        """What the database is to be told next."""
        self._untold.freed += freed_rows(gone, now_ns)
        recordings = [each for each in gone if each.candidate.level is Level.RECORDING]
        if recordings:
            self._tell(freed_event(recordings, now_ns, self._space()))

    def _space(self) -> dict[str, int | None]:
        """The free space and its limits; nothing where the disk cannot be looked at."""
        try:
            usage = shutil.disk_usage(self.settings.box.data_dir)
        except OSError:
            return {}
        limits = limits_of(self.settings, usage.total)
        return {
            "free_bytes": usage.free,
            "min_free_bytes": limits.min_free_bytes,
            "budget_bytes": limits.budget_bytes,
            "keep_days": limits.keep_days,
        }

    def _reconcile(self) -> None:
        """Once a start: a recording whose file is gone while its sidecar is there is noted as freed."""
        if self._reconciled:
            return
        missing = [
            FreedRecording(path=each.path, at_utc_ns=self._clock.utc_ns(), why=Why.FILE_MISSING)
            for each in self._store.all_recordings()
            if each.state not in (RecordingState.FREED, RecordingState.UNFINISHED)
            and not each.path.exists()
            and RecordingFiles.of(each.path).sidecar.exists()
        ]
        if missing:
            logger.warning("%d recordings have lost their files, the first is %s", len(missing), missing[0].path)
        self._untold.freed += missing
        self._reconciled = True

    def _judge(self, free_bytes: int, limits: Limits, exhausted: DiskSurvey | None) -> None:
        """Open, update or close the condition that the disk is low; between the two limits it stays as it is.

        Parameters
        ----------
        free_bytes, limits
            As they are now.
        exhausted : DiskSurvey or None
            What there is, when room was short, and nothing was found that may give way and makes room.
        """
        low = self._low_event
        if low is None and exhausted is not None and free_bytes < limits.min_free_bytes:
            self._low_event = self._tell_disk(EventKind.DISK_LOW, EventState.OPENED, free_bytes, limits, exhausted)
            logger.error("only %d MB of disk are free, and nothing more may give way", free_bytes // MB)
            self.status = self.status.model_copy(update={"low": True})
        elif low is not None and free_bytes >= limits.min_free_bytes * MARGIN:
            self._tell_disk(EventKind.DISK_OK, EventState.CLOSED, free_bytes, limits)
            self._low_event = None
            logger.warning("there is room on the disk again: %d MB", free_bytes // MB)
            self.status = self.status.model_copy(update={"low": False})
        elif low is not None and free_bytes < self._low_told[0] * WORSE_SHARE:
            told_s = (self._clock.monotonic_ns() - self._low_told[1]) / NS_PER_S
            if told_s >= UPDATE_MINUTES * 60:
                self._tell_disk(EventKind.DISK_LOW, EventState.UPDATED, free_bytes, limits, reason="worse")
        for event in self._severities.tick(self._clock.utc_ns()):
            if event.state is EventState.UPDATED:  # with its newest numbers
                self._tell_disk(event.kind, event.state, free_bytes, limits, reason=str(event.data["reason"]))
            else:
                self._tell(event)
        if self.status.ballast != self._ballast.in_place:
            self.status = self.status.model_copy(update={"ballast": self._ballast.in_place})

    def _tell_disk(
        self,
        kind: EventKind,
        state: EventState,
        free_bytes: int,
        limits: Limits,
        found: DiskSurvey | None = None,
        **more: str,
    ) -> Event:
        """An event about the free space; its forecast is that of `found`, or of the last look at all files."""
        status = self.status
        if found is not None:
            try:
                status = self._status_of(found)
            except (OSError, StoreError) as error:
                self._complain(f"when the disk will be full cannot be told: {error}")
        event = self._evidence.event(
            kind,
            state,
            self._clock.utc_ns(),
            free_bytes=free_bytes,
            limits=limits,
            status=status,
            opened=self._low_event,
            **more,
        )
        self._low_told = free_bytes, self._clock.monotonic_ns()
        self._tell(event)
        return event

    def _tell(self, event: Event) -> None:
        self._untold.events.append(self._severities.told(event))

    def _report_set_aside(self, now_ns: int) -> None:
        present = set_aside_files(self.settings.box.data_dir, database_file(self.settings))
        for identity in new_files(present, self._known_set_aside):
            what, path = present[identity], identity[0]
            self._known_set_aside[identity] = what
            self.set_aside += (f"{what} {path.name}",)
            self._tell(set_aside_event(what, now_ns, file=str(path), **facts_of(path)))

    def _try_to_flush(self) -> None:
        try:
            self._flush()
        except StoreError as error:
            self._complain(f"what was freed is not yet in the database: {error}")

    def _flush(self) -> None:
        """Note what was done and tell of it, all or nothing."""
        untold = self._untold
        if not (untold.freed or untold.events):
            return
        self._store.free_recordings(
            untold.freed,
            run_id=self._run_id(),
            events=untold.events,
            tell=event_message,
        )
        self._untold = _Untold()
        for event in untold.events:
            logger.info("event %s %s %s", event.kind, event.state, event.data_json())
        self._told()


def ballast_of(settings: Settings) -> Ballast:
    """The ballast that these settings ask for."""
    return Ballast(settings.box.data_dir, settings.disk.ballast_mb * MB)
