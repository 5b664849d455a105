"""Which frames are kept: one for each planned moment of a block, a few outside, and a reason for each that is missing.

The sampler stands between capture and everything behind it. What it passes on are `Item`s, in one order for all sinks.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from daemon.order import Outcome
from daemon.schedule import PlannedBlock
from daemon.timetable import BlockChange, BlockClosed, BlockMissed, BlockOpened, Cause
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag, ThermalFrame
from drivers.t2s_protocol import FRAME_RATE_HZ


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """A frame to be measured; within a block also to be recorded."""

    frame: ThermalFrame
    block_key: str | None
    planned_utc_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingSamples:
    """Planned moments of the open block that no frame stands for."""

    block_key: str
    planned_utc_ns: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStarted:
    """From here on samples belong to this block."""

    block: PlannedBlock
    at_utc_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEnded:
    """No sample of this block follows."""

    block: PlannedBlock
    """One that was stopped is as long as it became."""
    at_utc_ns: int
    stopped: bool = False
    """Somebody ended it before its time: what was planned after that is not planned any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPassed:
    """A block of which nothing was captured, because the service was not there."""

    block: PlannedBlock
    at_utc_ns: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraTrouble:
    """What is known of a camera that gives no good frames."""

    why: str | None = None
    """In a sentence."""
    frame_age_s: float | None = None
    """Age of the last good, changing frame; None before the first."""
    patience_s: float | None = None
    """How old it may become."""
    step: str | None = None
    """What was tried last to get it back; None before the first attempt, and while it is well."""
    tries: int = 0
    """How often something was tried since it was lost."""
    failures: int = 0
    """How often what was to be tried could not be done."""
    good_frames: int = 0
    """Since the start."""
    refused: int = 0
    """Transfers that were no good frames, since the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraLost:
    """No good, changing frame any more."""

    at_utc_ns: int
    reason: str
    trouble: CameraTrouble = CameraTrouble()


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraAway:
    """It is still lost, for twice as long as was last told."""

    at_utc_ns: int
    away_s: float
    trouble: CameraTrouble


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFound:
    """A good frame again, or for the first time."""

    at_utc_ns: int
    info: CameraInfo
    variant: str
    away_s: float
    """How long there was none; 0 at the first start."""
    trouble: CameraTrouble = CameraTrouble()
    """As it was until it came back."""


Item = Sample | MissingSamples | BlockStarted | BlockEnded | BlockPassed | CameraLost | CameraAway | CameraFound


def may_be_lost(item: Item) -> bool:
    """Frames may give way when a consumer is too slow; what tells about them may not."""
    return isinstance(item, Sample)


def overrun(item: Item) -> Item | None:
    """What takes the place of a sample that gave way: its planned moment is missing, and why."""
    if not isinstance(item, Sample) or item.block_key is None or item.planned_utc_ns is None:
        return None
    return MissingSamples(block_key=item.block_key, planned_utc_ns=(item.planned_utc_ns,), reason=OVERRUN)


CLOCK_STEP_S = 2.0
"""Difference between wall and monotonic time, between two looks at both, that counts as a step of the wall clock."""

EVERY_FRAME_NS = round(1.5 * NS_PER_S / FRAME_RATE_HZ)
"""A plan whose moments are closer together than this wants every frame of the camera."""

NO_FRAME = "no_frame"
OVERRUN = "overrun"
SHUTTER = "shutter"
CLOCK_STEP = "clock_step"


class Sampler:
    """Chooses frames and accounts for every planned moment. Thread-safe: capture and schedule both talk to it.

    Parameters
    ----------
    sinks : sequence of callables
        Each receives every item, in the same order; they must not wait.
    outside_rate_hz : float
        Frames per second passed on outside blocks; 0 for none.
    """

    def __init__(self, sinks: Sequence[Callable[[Item], None]], *, outside_rate_hz: float) -> None:
        self._sinks = tuple(sinks)
        self._outside_period_ns = round(NS_PER_S / outside_rate_hz) if outside_rate_hz else None
        self._next_outside_ns: int | None = None
        self._block: PlannedBlock | None = None
        self._next_index = 0
        self._condition: str | None = None
        self._last_look: tuple[int, int] | None = None
        self._one_is_wanted = False
        self._lock = threading.Lock()
        self.taken = 0
        """Frames passed on so far."""

    @property
    def block(self) -> PlannedBlock | None:
        """The open block."""
        return self._block

    @property
    def progress(self) -> int:
        """How many planned moments of the open block are accounted for."""
        return self._next_index

    def start_block(
        self, block: PlannedBlock, *, at_utc_ns: int, lost_utc_ns: Sequence[int] = (), reason: str = NO_FRAME
    ) -> None:
        """Open a block.

        Parameters
        ----------
        block : PlannedBlock
            Of one that began earlier only the moments from now on can still be captured.
        at_utc_ns : int
            Now.
        lost_utc_ns : sequence of int
            Planned moments that have passed; missing, with this reason, unless they were captured before a restart.
        """
        with self._lock:
            self._block = block
            passed = at_utc_ns - block.start_utc_ns
            self._next_index = max(0, passed // block.period_ns)
            self._send(BlockStarted(block=block, at_utc_ns=at_utc_ns))
            if lost_utc_ns:
                self._send(MissingSamples(block_key=block.key, planned_utc_ns=tuple(lost_utc_ns), reason=reason))

    def end_block(self, *, at_utc_ns: int) -> None:
        """Close the open block, if any; moments that have passed without a frame are missing."""
        with self._lock:
            block = self._block
            if block is None:
                return
            if at_utc_ns < block.start_utc_ns:  # the clock was set back out of it: it never opens again
                self._miss_until(block, block.frames, CLOCK_STEP)
            self._miss_until(block, self._index_at(block, at_utc_ns), self._condition or NO_FRAME)
            self._send(BlockEnded(block=block, at_utc_ns=at_utc_ns))
            self._block = None

    def stop_block(self, *, at_utc_ns: int) -> PlannedBlock | None:
        """Close the open block before its time; it ends with the window of its last planned moment that has passed.

        Returns
        -------
        PlannedBlock or None
            The block as it became, at least one planned moment long; None when none is open.
        """
        with self._lock:
            block = self._block
            if block is None:
                return None
            passed = block.frames if at_utc_ns >= block.end_utc_ns else self._index_at(block, at_utc_ns)
            self._miss_until(block, max(passed, 1), self._condition or NO_FRAME)
            duration_ns = min(self._next_index * block.period_ns, block.duration_ns)
            shortened = replace(block, duration_ns=duration_ns)
            self._send(BlockEnded(block=shortened, at_utc_ns=at_utc_ns, stopped=True))
            self._block = None
            return shortened

    def take_one(self) -> None:
        """Pass on the next good frame also if no plan wants it."""
        with self._lock:
            self._one_is_wanted = True

    def passed_block(self, block: PlannedBlock, *, at_utc_ns: int, reason: str) -> None:
        """Account for a block that nobody was there for."""
        with self._lock:
            self._send(BlockPassed(block=block, at_utc_ns=at_utc_ns, reason=reason))

    def camera(self, item: CameraLost | CameraAway | CameraFound) -> None:
        """Pass on that the camera went, stays away or came, in its place among the samples."""
        with self._lock:
            self._condition = item.reason if isinstance(item, CameraLost) else self._condition
            self._send(item)

    def trouble(self, reason: str) -> None:
        """Remember why no frame is good at present: the reason of moments that pass until one is."""
        with self._lock:
            self._condition = reason

    def look(self, *, utc_ns: int, monotonic_ns: int) -> None:
        """Account for the moments that have passed; to be called about once a second while no frame comes."""
        with self._lock:
            self._look(utc_ns, monotonic_ns)

    def wanted_in_s(self, *, utc_ns: int, monotonic_ns: int) -> float | None:
        """How long until the next frame is wanted, as things are; None when none is."""
        with self._lock:
            block = self._block
            if block is not None and self._next_index < block.frames and not self._is_set_back(block, utc_ns):
                return max(0, block.start_utc_ns + self._next_index * block.period_ns - utc_ns) / NS_PER_S
            if self._outside_period_ns is None:
                return None
            return max(0, (self._next_outside_ns or monotonic_ns) - monotonic_ns) / NS_PER_S

    def offer(self, frame: ThermalFrame) -> bool:
        """Take the frame if it is wanted; True when it was passed on."""
        with self._lock:
            self._look(frame.captured_utc_ns, frame.captured_monotonic_ns)
            if frame.flags & FrameFlag.SHUTTER:
                self._condition = SHUTTER
                return False
            block = self._block
            if block is not None and block.start_utc_ns <= frame.captured_utc_ns < block.end_utc_ns:
                return self._offer_to_block(frame, block)
            return self._offer_outside(frame)

    def _offer_to_block(self, frame: ThermalFrame, block: PlannedBlock) -> bool:
        index = self._index_at(block, frame.captured_utc_ns)
        if index == self._next_index - 1 < block.frames - 1 and _wants_every_frame(block):
            # Plan and camera run on different clocks: two frames in one window, and soon a window without any.
            index = self._next_index
        if index < self._next_index:
            beside = self._one_is_wanted or self._is_set_back(block, frame.captured_utc_ns)
            return beside and self._offer_outside(frame)
        planned = block.start_utc_ns + index * block.period_ns
        self._next_index = index + 1
        self._condition, self._one_is_wanted = None, False
        self._send(Sample(frame=frame, block_key=block.key, planned_utc_ns=planned))
        self.taken += 1
        return True

    def _is_set_back(self, block: PlannedBlock, utc_ns: int) -> bool:
        """Whether the clock went back in the block: this moment and its next one are accounted for already.

        Until it has caught up nothing can be captured for the block, but the animals are watched as outside of one.
        """
        ahead = 2 if _wants_every_frame(block) else 1
        return self._index_at(block, utc_ns) < self._next_index - ahead

    def _offer_outside(self, frame: ThermalFrame) -> bool:
        if not self._one_is_wanted and not self._is_due_outside(frame.captured_monotonic_ns):
            return False
        self._condition, self._one_is_wanted = None, False
        self._send(Sample(frame=frame, block_key=None, planned_utc_ns=None))
        self.taken += 1
        return True

    def _is_due_outside(self, now: int) -> bool:
        """Whether the frame of this moment is one of the few outside; the answer yes counts as taken."""
        if self._outside_period_ns is None:
            return False
        if self._next_outside_ns is not None and now < self._next_outside_ns:
            return False
        late = self._next_outside_ns is None or now - self._next_outside_ns > self._outside_period_ns
        self._next_outside_ns = (now if late else self._next_outside_ns or now) + self._outside_period_ns
        return True

    def _look(self, utc_ns: int, monotonic_ns: int) -> None:
        stepped = False
        if self._last_look is not None:
            difference = (utc_ns - self._last_look[0]) - (monotonic_ns - self._last_look[1])
            stepped = abs(difference) > CLOCK_STEP_S * NS_PER_S
        self._last_look = (utc_ns, monotonic_ns)
        if self._block is not None:
            reason = CLOCK_STEP if stepped else self._condition or NO_FRAME
            self._miss_until(self._block, self._index_at(self._block, utc_ns), reason)

    def _index_at(self, block: PlannedBlock, utc_ns: int) -> int:
        """Number of the planned moment whose window holds this time; the count of all when the block is over."""
        index = (utc_ns - block.start_utc_ns) // block.period_ns
        return min(max(index, 0), block.frames)

    def _miss_until(self, block: PlannedBlock, index: int, reason: str) -> None:
        if index <= self._next_index:
            return
        missed = tuple(block.start_utc_ns + k * block.period_ns for k in range(self._next_index, index))
        self._next_index = index
        self._send(MissingSamples(block_key=block.key, planned_utc_ns=missed, reason=reason))

    def _send(self, item: Item) -> None:
        for sink in self._sinks:
            sink(item)


def _wants_every_frame(block: PlannedBlock) -> bool:
    return block.period_ns < EVERY_FRAME_NS


MERGED_MOMENTS = 1024
"""Bounds what joining two of them costs."""


def told_together(earlier: Item, later: Item) -> Item | None:
    """One item for moments of one block that are missing for one reason; None when they must stay apart."""
    if not isinstance(earlier, MissingSamples) or not isinstance(later, MissingSamples):
        return None
    if (earlier.block_key, earlier.reason) != (later.block_key, later.reason):
        return None
    planned = (*earlier.planned_utc_ns, *later.planned_utc_ns)
    if len(planned) > MERGED_MOMENTS:
        return None
    return MissingSamples(block_key=earlier.block_key, planned_utc_ns=planned, reason=earlier.reason)


def carry_out(changes: Sequence[BlockChange], sampler: Sampler) -> None:
    """Tell the sampler what the timetable has decided."""
    for change in changes:
        match change:
            case BlockOpened(block=block, at_utc_ns=at_utc_ns, cause=cause, lost_utc_ns=lost, order=order):
                sampler.start_block(block, at_utc_ns=at_utc_ns, lost_utc_ns=lost, reason=cause.value)
                if order is not None:
                    order.answer(Outcome("done", data=block.facts()))
            case BlockClosed(at_utc_ns=at_utc_ns, cause=Cause.STOPPED, order=order):
                stopped = sampler.stop_block(at_utc_ns=at_utc_ns)
                if order is not None:
                    order.answer(Outcome("done", data={} if stopped is None else stopped.facts()))
            case BlockClosed(at_utc_ns=at_utc_ns):
                sampler.end_block(at_utc_ns=at_utc_ns)
            case BlockMissed(block=block, at_utc_ns=at_utc_ns, cause=cause):
                sampler.passed_block(block, at_utc_ns=at_utc_ns, reason=cause.value)
