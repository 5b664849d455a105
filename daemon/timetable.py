"""Which block is open: a state machine over wall time, and the scheduler that asks it.

APScheduler alone does not keep a schedule over clock steps: its dates are wall time while its waits are not, so a step
over a due time is noticed late, after a step back the next run lies in the future until the clock has caught up, and
every run that a step forward passed is enumerated (3.11.3: 4 s for each year at one run in 10 s). So the scheduler only
asks, at least every 15 s, and `Timetable` answers from the wall clock alone.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self
from zoneinfo import ZoneInfo

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from daemon.order import Order, Outcome
from daemon.schedule import BY_COMMAND, PlannedBlock, block_at, check_plan, due, next_block
from daemon.settings import ScheduleSettings
from drivers.clock import NS_PER_S, Clock

logger = logging.getLogger(__name__)

LOOK_BACK_NS = 60 * 86_400 * NS_PER_S
"""Blocks that ended longer ago are not reported as missed: who was away for months knows it."""

LONGEST_INTERVAL_S = 15.0
"""A block must be open so soon after the clock was set into it."""

INTERVAL_S = 10.0
"""How often the timetable is asked; the rest of `LONGEST_INTERVAL_S` is for a busy machine."""

STEP_NS = round(2 * LONGEST_INTERVAL_S * NS_PER_S)
"""A wall clock that moved further since the last question was set, or the machine slept."""

REMEMBERED_KEYS = 20_000
"""Keys of accounted blocks held in memory, under 3 MB: six years of the default plan; `is_finished` knows the rest."""


class Cause(StrEnum):
    """Why a change came, and so why planned moments went by; fit for the database."""

    SCHEDULE = "schedule"
    SERVICE_DOWN = "service_down"
    CLOCK_STEP = "clock_step"
    PLAN_CHANGED = "plan_changed"
    LATE = "late"
    """Nobody looked at the clock in time."""
    STOPPED = "stopped"
    """Somebody ended a recording by command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOpened:
    """A block is to be sampled from now on; with another cause than `SCHEDULE` it was joined after its start."""

    block: PlannedBlock
    at_utc_ns: int
    cause: Cause
    order: Order | None = None
    """Answered by whoever carries the change out."""

    @property
    def lost_utc_ns(self) -> range:
        """Planned moments whose window was over before, and that this opening comes too late for."""
        return self.block.planned_utc_ns[: (self.at_utc_ns - self.block.start_utc_ns) // self.block.period_ns]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockClosed:
    """A block is over and never opens again; with `CLOCK_STEP` the clock was set out of it."""

    block: PlannedBlock
    at_utc_ns: int
    cause: Cause
    order: Order | None = None
    """Answered by whoever carries the change out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockMissed:
    """Wall time has passed over this block and it is not open.

    After a restart moments of it may have been captured before the service went down; all others are lost.
    """

    block: PlannedBlock
    at_utc_ns: int
    cause: Cause

    @property
    def lost_utc_ns(self) -> range:
        """Its planned moments."""
        return self.block.planned_utc_ns


BlockChange = BlockOpened | BlockClosed | BlockMissed


def _nothing_is_finished(_key: str) -> bool:
    return False


def _late(cause: Cause) -> Cause:
    return Cause.LATE if cause is Cause.SCHEDULE else cause


class Timetable:
    """Opens, closes and misses blocks as the wall clock moves, every block once.

    It belongs to one thread. What it decides where a clock or a plan does not run on evenly:

    - A finished or missed block stays so: its key is remembered, and a clock that comes back into it opens nothing.
    - A clock set back out of the open block closes it; one set back within it leaves it open, and its first moments
      come a second time.
    - A clock set forward over blocks misses each of them once. More than 60 days at once while the service runs are
      no absence but a clock that was not set before: only what was unaccounted for at the start is missed then, and a
      clock set back afterwards has passed nothing before that moment.
    - A block that somebody commands opens between those of the plan and never into one; it is closed at its end, or
      when that is commanded.
    - An open block ends as it was begun when the plan or the zone changes; the new plan counts from the last question
      on, for blocks whose keys are not yet used.

    Parameters
    ----------
    settings, zone
        The plan.
    accounted_until_utc_ns : int or None
        From the database: blocks that ended later are missed if the service was down; None on the first start ever.
    resumed : PlannedBlock, optional
        One by command that an earlier start left open; it is joined, unless it is over.
    is_finished : callable
        Whether the block of this key was closed or missed before this start; asked in the thread of `update`. A block
        that was only opened is not finished: a service that was killed in it joins it again.

    Raises
    ------
    ConfigError
        If the plan cannot be carried out.
    """

    def __init__(
        self,
        settings: ScheduleSettings,
        zone: ZoneInfo,
        *,
        accounted_until_utc_ns: int | None = None,
        resumed: PlannedBlock | None = None,
        is_finished: Callable[[str], bool] = _nothing_is_finished,
    ) -> None:
        check_plan(settings)
        self._settings = settings
        self._zone = zone
        self._is_finished = is_finished
        self._accountable_from_ns = accounted_until_utc_ns
        self._clock_set_ns: int | None = None
        """When the clock came to the present from where it stood at the first start."""
        self._last_ns: int | None = None
        self._quiet_until_ns: int | None = None
        self._plan_changed = False
        self._open: PlannedBlock | None = None
        self._commanded: tuple[PlannedBlock, Order | None] | None = None if resumed is None else (resumed, None)
        self._stop: Order | None = None
        self._accounted: dict[str, None] = {}

    @property
    def open_block(self) -> PlannedBlock | None:
        """The block that is open since the last question."""
        return self._open

    @property
    def accounted_until_utc_ns(self) -> int | None:
        """Wall time of the last question; before the first one what the constructor was given."""
        return self._accountable_from_ns if self._last_ns is None else self._last_ns

    def next_boundary(self, now_utc_ns: int) -> int | None:
        """When the answer may change next if the clock runs on evenly; None for a plan without blocks."""
        current = block_at(now_utc_ns, self._settings, self._zone)
        following = next_block(now_utc_ns, self._settings, self._zone)
        ends = [block.end_utc_ns for block in (self._open, current) if block is not None]
        starts = [] if following is None else [following.start_utc_ns]
        return min((boundary for boundary in ends + starts if boundary > now_utc_ns), default=None)

    def replace_plan(self, settings: ScheduleSettings, zone: ZoneInfo) -> None:
        """Take a new plan or zone from the next question on.

        Raises
        ------
        ConfigError
            If the plan cannot be carried out; the old one stays.
        """
        check_plan(settings)
        if (settings, zone) == (self._settings, self._zone):
            return
        self._settings = settings
        self._zone = zone
        self._quiet_until_ns = None
        if self._last_ns is not None:
            self._plan_changed = True
            self._accountable_from_ns = self._last_ns

    def begin(self, block: PlannedBlock, order: Order) -> None:
        """Open a block that is not of the plan with the next question; the order is refused if one is open then."""
        self._commanded, self._quiet_until_ns = (block, order), None

    def stop(self, order: Order) -> None:
        """Close a block that was begun by command with the next question; the order is refused if none is open."""
        self._stop, self._quiet_until_ns = order, None

    def update(self, now_utc_ns: int) -> list[BlockChange]:
        """Answer what changes now: first what closes, then what was missed, then what opens.

        Parameters
        ----------
        now_utc_ns : int
            Wall time; any step in either direction is allowed.
        """
        if not self._may_change(now_utc_ns):
            self._last_ns = now_utc_ns
            return []
        # Everything that can fail comes first: an update that raises has changed nothing.
        asked = due(self._unaccounted_from(now_utc_ns), now_utc_ns, self._settings, self._zone)
        missed = [block for block in asked.passed if not self._is_accounted(block.key)]
        current = None if asked.current is None or self._is_accounted(asked.current.key) else asked.current
        cause = self._cause(now_utc_ns)

        changes: list[BlockChange] = []
        if self._open is not None and not self._open.start_utc_ns <= now_utc_ns < self._open.end_utc_ns:
            changes.append(self._close(self._open, now_utc_ns))
        changes += self._stopped(now_utc_ns)
        changes += (self._miss(block, now_utc_ns, cause) for block in missed)
        changes += self._begun(now_utc_ns, cause, in_the_way=current)
        if self._open is None and current is not None:
            changes.append(self._join(current, now_utc_ns, cause))

        if self._accountable_from_ns is None:
            self._accountable_from_ns = now_utc_ns
        elif self._was_not_set_before(now_utc_ns, self._accountable_from_ns):
            self._clock_set_ns = now_utc_ns
        self._last_ns = now_utc_ns
        self._plan_changed = False
        self._quiet_until_ns = self.next_boundary(now_utc_ns)
        return changes

    def _stopped(self, now_ns: int) -> list[BlockChange]:
        order, self._stop = self._stop, None
        block = self._open
        if order is None or order.outcome is not None:
            return []
        if block is None or block.stratum != BY_COMMAND:
            order.answer(_no_recording_by_command(block))
            return []
        self._remember(block.key)
        self._open = None
        return [BlockClosed(block=block, at_utc_ns=now_ns, cause=Cause.STOPPED, order=order)]

    def _begun(self, now_ns: int, cause: Cause, *, in_the_way: PlannedBlock | None) -> list[BlockChange]:
        """Open what was commanded, or what an earlier start left open."""
        if self._commanded is None:
            return []
        (block, order), self._commanded = self._commanded, None
        if order is None:
            return [self._join(block, now_ns, cause)] if block.start_utc_ns <= now_ns < block.end_utc_ns else []
        if order.outcome is not None:
            return []
        obstacle = self._open or in_the_way
        if obstacle is not None:
            order.answer(block_is_open(obstacle))
            return []
        self._open = block
        return [BlockOpened(block=block, at_utc_ns=now_ns, cause=Cause.SCHEDULE, order=order)]

    def _may_change(self, now_ns: int) -> bool:
        if self._last_ns is None or self._quiet_until_ns is None:
            return True
        return not self._last_ns <= now_ns < self._quiet_until_ns

    def _unaccounted_from(self, now_ns: int) -> int:
        """Since when blocks may lack an answer."""
        last_ns = self._last_ns
        if last_ns is not None and 0 <= now_ns - last_ns <= LOOK_BACK_NS:
            return last_ns
        accountable_ns, set_ns = self._accountable_from_ns, self._clock_set_ns
        if accountable_ns is None:
            return now_ns
        if set_ns is not None and now_ns >= set_ns - LOOK_BACK_NS:
            accountable_ns = max(accountable_ns, set_ns)  # before that it was another time, which nobody lived through
        if last_ns is None or now_ns < last_ns or last_ns < accountable_ns:
            return min(now_ns, max(accountable_ns, now_ns - LOOK_BACK_NS))
        return now_ns

    def _was_not_set_before(self, now_ns: int, accountable_ns: int) -> bool:
        """Whether the clock has only now come to the present, from where the service found it at its first start."""
        return self._last_ns is not None and now_ns - self._last_ns > LOOK_BACK_NS and accountable_ns <= self._last_ns

    def _cause(self, now_ns: int) -> Cause:
        if self._last_ns is None:
            return Cause.SERVICE_DOWN
        if self._plan_changed:
            return Cause.PLAN_CHANGED
        return Cause.SCHEDULE if 0 <= now_ns - self._last_ns <= STEP_NS else Cause.CLOCK_STEP

    def _join(self, block: PlannedBlock, now_ns: int, cause: Cause) -> BlockOpened:
        self._open = block
        in_time = now_ns < block.start_utc_ns + block.period_ns
        return BlockOpened(block=block, at_utc_ns=now_ns, cause=Cause.SCHEDULE if in_time else _late(cause))

    def _miss(self, block: PlannedBlock, now_ns: int, cause: Cause) -> BlockMissed:
        self._remember(block.key)
        return BlockMissed(block=block, at_utc_ns=now_ns, cause=_late(cause))

    def _close(self, block: PlannedBlock, now_ns: int) -> BlockClosed:
        self._remember(block.key)
        self._open = None
        ran_out = block.end_utc_ns <= now_ns <= block.end_utc_ns + STEP_NS
        return BlockClosed(block=block, at_utc_ns=now_ns, cause=Cause.SCHEDULE if ran_out else Cause.CLOCK_STEP)

    def _is_accounted(self, key: str) -> bool:
        is_open = self._open is not None and self._open.key == key
        return is_open or key in self._accounted or self._is_finished(key)

    def _remember(self, key: str) -> None:
        self._accounted[key] = None
        if len(self._accounted) > REMEMBERED_KEYS:
            del self._accounted[next(iter(self._accounted))]


def block_is_open(block: PlannedBlock) -> Outcome:
    """Why no recording can be begun by command."""
    why = "a recording by command is under way" if block.stratum == BY_COMMAND else "a block of the schedule is open"
    return Outcome("refused", "block_open", f"{why}: {block.key}", data=block.facts())


def _no_recording_by_command(block: PlannedBlock | None) -> Outcome:
    if block is None:
        return Outcome("refused", "no_recording", "no recording by command is under way")
    message = f"block {block.key} is of the schedule: only recordings that were begun by command are stopped by one"
    return Outcome("refused", "no_recording", message, data=block.facts())


class _StepProofJobStore(MemoryJobStore):  # type: ignore[misc]  # APScheduler 3 has no types
    """Jobs in memory; after a clock step in either direction an interval job is due at once, and once only."""

    def get_due_jobs(self, now: datetime) -> list[object]:
        """Jobs to be run now; the scheduler asks whenever its wait, which no step can stretch, is over."""
        for job in self.get_all_jobs():
            if isinstance(job.trigger, IntervalTrigger) and abs(job.next_run_time - now) > job.trigger.interval:
                self._scheduler.modify_job(job.id, next_run_time=now)
        due_jobs: list[object] = super().get_due_jobs(now)
        return due_jobs


class _StepProofScheduler(BackgroundScheduler):  # type: ignore[misc]  # APScheduler 3 has no types
    """Looks at its jobs so often at least: a step back while it reckons its wait would stretch that by the step."""

    def __init__(self, longest_wait_s: float, **options: object) -> None:
        super().__init__(**options)
        self._longest_wait_s = longest_wait_s

    def _process_jobs(self) -> float:
        wait_s: float | None = super()._process_jobs()
        return self._longest_wait_s if wait_s is None else min(wait_s, self._longest_wait_s)


class TimetableKeeper:
    """Asks a timetable by APScheduler: at a steady interval, and at each boundary of a block.

    Parameters
    ----------
    timetable : Timetable
        From now on only the keeper's.
    clock : Clock
        Tells the wall time that the timetable is asked with.
    on_change : callable
        Gets all changes of one answer, in the scheduler's thread, never twice at a time. One that raises gets the same
        changes again with the next answer. It must not stop the keeper.
    interval_s : float
        Between two questions, in (0, 15].
    beat : callable
        Told after every question that was answered and carried out.
    """

    def __init__(
        self,
        timetable: Timetable,
        clock: Clock,
        on_change: Callable[[Sequence[BlockChange]], None],
        *,
        interval_s: float = INTERVAL_S,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        if not 0 < interval_s <= LONGEST_INTERVAL_S:
            raise ValueError(f"interval_s must be in (0, {LONGEST_INTERVAL_S:g}], got {interval_s}")
        self._timetable = timetable
        self._clock = clock
        self._on_change = on_change
        self._interval_s = interval_s
        self._beat = beat
        self._pending: list[BlockChange] = []
        self._lock = threading.Lock()
        self._scheduler: _StepProofScheduler | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to ask, the first time at once."""
        with self._lock:
            if self._scheduler is not None:
                raise RuntimeError("the timetable keeper has been started already")
            self._scheduler = _StepProofScheduler(
                self._interval_s,
                jobstores={"default": _StepProofJobStore()},
                executors={"default": ThreadPoolExecutor(max_workers=1)},
                # A question that is late is still to be asked; a boundary may be planned while one is being answered.
                job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 2},
                timezone=UTC,
            )
            self._scheduler.add_job(
                self._ask, "interval", seconds=self._interval_s, id="interval", next_run_time=datetime.now(UTC)
            )
            self._scheduler.start()

    def stop(self) -> None:
        """Ask no more; returns when `on_change` has. An open block stays open, to be joined after a restart."""
        with self._lock:  # behind it no job is added any more: a shutdown waits for its jobs with its own locks held
            scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.shutdown(wait=True)

    def replace_plan(self, settings: ScheduleSettings, zone: ZoneInfo) -> None:
        """Take a new plan or zone and ask at once.

        Raises
        ------
        ConfigError
            If the plan cannot be carried out; the old one stays.
        """
        with self._lock:
            self._timetable.replace_plan(settings, zone)
            self._ask_after(0)

    def begin(self, block: PlannedBlock, order: Order) -> None:
        """Open a block that is not of the plan, now. From any thread."""
        with self._lock:
            self._timetable.begin(block, order)
            self._ask_after(0)

    def end(self, order: Order) -> None:
        """Close a block that was begun by command, now. From any thread."""
        with self._lock:
            self._timetable.stop(order)
            self._ask_after(0)

    def _ask(self) -> None:
        now_utc_ns = self._clock.utc_ns()
        try:
            with self._lock:
                self._pending += self._timetable.update(now_utc_ns)
            if self._pending:
                self._on_change(tuple(self._pending))
                self._pending.clear()
            self._beat()
        except Exception:  # the top of a thread: the next question delivers the same changes again
            logger.exception("a change of the open block could not be carried out")
        self._plan_boundary(now_utc_ns)

    def _plan_boundary(self, asked_utc_ns: int) -> None:
        """Ask once more at the boundary that follows the last question, if it comes before the next one."""
        with self._lock:
            boundary_utc_ns = self._timetable.next_boundary(asked_utc_ns)
            if boundary_utc_ns is not None:
                wait_ns = boundary_utc_ns - self._clock.utc_ns()
                if wait_ns <= self._interval_s * NS_PER_S:
                    self._ask_after(max(wait_ns, 0))

    def _ask_after(self, duration_ns: int) -> None:
        """Ask once more then; the clock handed in may differ from the machine's, which the scheduler goes by."""
        if self._scheduler is not None:
            moment = datetime.now(UTC) + timedelta(microseconds=-(-duration_ns // 1_000))
            self._scheduler.add_job(self._ask, "date", run_date=moment, id="boundary", replace_existing=True)
