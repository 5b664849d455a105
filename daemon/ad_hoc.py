"""Recordings that somebody commands, outside the blocks of the schedule.

Such a recording is a block of its own, of the stratum `by_command`: sampled, measured, recorded and accounted for like
any other, joined again after a restart, and over at its end. It is never begun into a block of the schedule, and ends
at the latest when the next one begins.
"""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time
from typing import Protocol

from daemon.order import Order, Outcome
from daemon.schedule import BY_COMMAND, PlannedBlock, next_block
from daemon.settings import Settings
from daemon.store.blocks import StoredBlock
from daemon.timetable import block_is_open
from drivers.clock import NS_PER_S, Clock

LONGEST_S = 3600.0
"""Whoever wants more commands it again: a forgotten recording must not fill the disk."""


class Keeper(Protocol):
    """Opens and closes blocks; `daemon.timetable.TimetableKeeper` is one."""

    def begin(self, block: PlannedBlock, order: Order) -> None:
        """Open a block that is not of the plan."""
        ...

    def end(self, order: Order) -> None:
        """Close one that was begun so."""
        ...


class AdHocRecordings:
    """Judges what is commanded and hands it to the keeper of the timetable. From any thread.

    Parameters
    ----------
    keeper : Keeper
        Answers the orders that it is given.
    settings : callable
        Those in force.
    open_block : callable
        The block that is open now.
    obstacle : callable
        Why nothing could be recorded now, as one word and a sentence; None when it could.
    clock : Clock
        Wall time.
    """

    def __init__(
        self,
        keeper: Keeper,
        *,
        settings: Callable[[], Settings],
        open_block: Callable[[], PlannedBlock | None],
        obstacle: Callable[[], tuple[str, str] | None],
        clock: Clock,
    ) -> None:
        self._keeper = keeper
        self._settings = settings
        self._open_block = open_block
        self._obstacle = obstacle
        self._clock = clock

    def record(self, *, duration_s: float, rate_hz: float | None, order: Order) -> None:
        """Begin a recording now; done when it has begun, with what became of the wish.

        Parameters
        ----------
        duration_s : float
            How long, up to `LONGEST_S`; shorter if a block of the schedule begins before.
        rate_hz : float or None
            Frames per second; None for that of the schedule.
        order : Order
            Answered now or soon.
        """
        settings, now_ns = self._settings(), self._clock.utc_ns()
        obstacle, block = self._obstacle(), self._open_block()
        if obstacle is not None:
            order.answer(Outcome("refused", *obstacle))
            return
        if block is not None:
            order.answer(block_is_open(block))
            return
        period_ns = math.ceil(NS_PER_S / (rate_hz or settings.schedule.rate_hz))
        following = next_block(now_ns, settings.schedule, settings.zone)
        duration_ns = round(duration_s * NS_PER_S)
        if following is not None:
            duration_ns = min(duration_ns, following.start_utc_ns - now_ns)
            if duration_ns < period_ns:
                message = f"block {following.key} of the schedule begins before the first frame would be taken"
                order.answer(Outcome("refused", "block_begins", message, data=following.facts()))
                return
        self._keeper.begin(_block(now_ns, duration_ns, period_ns, settings), order)

    def stop(self, order: Order) -> None:
        """End the recording that was begun by command; done when it has ended, with what became of it."""
        self._keeper.end(order)


def _block(now_ns: int, duration_ns: int, period_ns: int, settings: Settings) -> PlannedBlock:
    """A block from now on; its number is the second of the local day, from 1, so that it needs no memory."""
    now = datetime.fromtimestamp(now_ns / NS_PER_S, settings.zone)
    midnight = datetime.combine(now.date(), time(), settings.zone).astimezone(UTC)
    return PlannedBlock(
        day=now.date(),
        stratum=BY_COMMAND,
        number=1 + int((now.astimezone(UTC) - midnight).total_seconds()),
        start_utc_ns=now_ns,
        duration_ns=duration_ns,
        period_ns=period_ns,
    )


def left_open(blocks: Sequence[StoredBlock], now_ns: int) -> PlannedBlock | None:
    """The recording by command that an earlier start left open and that is not over yet."""
    for stored in blocks:
        if stored.stratum == BY_COMMAND and stored.start_utc_ns <= now_ns < stored.end_utc_ns:
            return PlannedBlock(
                day=stored.day,
                stratum=stored.stratum,
                number=int(stored.key.rpartition("-")[2].partition("~")[0]),
                start_utc_ns=stored.start_utc_ns,
                duration_ns=stored.end_utc_ns - stored.start_utc_ns,
                period_ns=stored.period_ns,
            )
    return None
