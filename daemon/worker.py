"""The worker thread: measures samples, judges them, stores all in order and only then tells of it."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np

from daemon.camera_events import CameraEvents
from daemon.events import Event, EventKind, EventState, Severity, evidence
from daemon.handoff import HandOff
from daemon.identity_correction import CorrectionsInForce
from daemon.maintenance import Maintenance
from daemon.messaging.payloads import NO_NAMES, AnimalNames, event_message
from daemon.minute_value import MinuteValue
from daemon.minute_values import MinuteCollector
from daemon.observation import FrameObservation
from daemon.pipeline import Measured, Pipeline
from daemon.rules import AlertRules
from daemon.sampling import (
    BlockEnded,
    BlockPassed,
    BlockStarted,
    CameraAway,
    CameraFound,
    CameraLost,
    Item,
    MissingSamples,
    Sample,
)
from daemon.schedule import PlannedBlock
from daemon.store.repository import BlockState, Coverage, Store
from daemon.vision.parts import Segmentation
from daemon.vision_events import VisionEvents
from daemon.watching import Watching
from drivers.clock import NS_PER_S, Clock
from drivers.errors import StoreError, StoreRejectedError
from drivers.frame import ThermalFrame
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

logger = logging.getLogger(__name__)

SERVICE_DOWN = "service_down"
NOT_STORED = "not_stored"

ERROR = "error"
"""Why a frame was not measured whose measuring failed."""

MAX_WAITING_OBSERVATIONS = 10_000
"""Observations kept in memory while the database cannot be written; beyond that the oldest are lost.

Nearly three hours at one a second. Measured with tracemalloc, one observation of three parts with millimetres takes
1.84 kB for one animal and 9.04 kB for six: all together 18 MB to 90 MB.
"""

MAX_WAITING_MINUTE_VALUES = 100_000
"""Values of minutes kept while the database cannot be written: six hours of six animals, 25 MB."""

BATCH_OBSERVATIONS = 500
"""In one transaction: what has waited for the database is written in steps that each take well under a second."""

CLOCK_STEP_NS = NS_PER_S
"""Wall time and monotonic time of a frame do not drift apart by so much between two samples: the clock was set."""

RETRY_S = 1.0

IDLE_S = 0.1
"""How long the worker waits for an item before it looks at the clock."""

LATE_S = 5.0
"""When a minute has been over for so long and no frame waits, none of it is to come."""


class Announcer(Protocol):
    """Whoever tells others; no method waits."""

    def observed(self, observation: FrameObservation) -> None:
        """A stored observation."""
        ...

    def measured(self, values: Iterable[MinuteValue]) -> None:
        """The stored measures of minutes that are over."""
        ...

    def block_changed(self, block: PlannedBlock, state: str, coverage: Coverage) -> None:
        """A block began or ended, and is stored."""
        ...

    def events_stored(self) -> None:
        """The outbox has new messages."""
        ...


@dataclass(slots=True)
class _Batch:
    """What is written together."""

    run_id: int
    """The run that was in force when it came about."""
    observations: list[FrameObservation] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    minutes: list[MinuteValue] = field(default_factory=list)
    missing: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Planned moments without a frame, by block and reason; that the others are stored does not depend on them."""

    def miss(self, block_key: str, reason: str, planned_utc_ns: Sequence[int]) -> None:
        """Note moments as missing."""
        self.missing.setdefault((block_key, reason), []).extend(planned_utc_ns)

    def give_up_oldest(self) -> None:
        """Lose an observation, and note that its moment is missing."""
        lost = self.observations.pop(0)
        if lost.block_key is not None and lost.planned_utc_ns is not None:
            self.miss(lost.block_key, NOT_STORED, [lost.planned_utc_ns])

    def pieces(self) -> "tuple[_Batch, ...]":
        """The same in smaller parts; empty when there is only one thing in it."""
        kinds = [_Batch(self.run_id, missing={key: moments}) for key, moments in self.missing.items()]
        kinds += [_Batch(self.run_id, self.observations)] if self.observations else []
        kinds += [_Batch(self.run_id, events=self.events)] if self.events else []
        kinds += [_Batch(self.run_id, minutes=self.minutes)] if self.minutes else []
        if len(kinds) > 1:
            return tuple(kinds)
        half = max(len(self.observations), len(self.events), len(self.minutes)) // 2
        if not half:
            return ()
        return (
            _Batch(self.run_id, self.observations[:half], self.events[:half], self.minutes[:half]),
            _Batch(self.run_id, self.observations[half:], self.events[half:], self.minutes[half:]),
        )


class Worker:
    """Consumes items in order. Everything it writes waits, in order, until the database takes it."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        rules: AlertRules,
        store: Store,
        run_id: int,
        clock: Clock,
        announcer: Announcer,
        commit_interval_s: float,
        on_measured: Callable[[ThermalFrame, Measured], None],
        beat: Callable[[], None],
        vision: VisionEvents | None = None,
        minutes: MinuteCollector | None = None,
        watching: Watching | None = None,
        names: AnimalNames = NO_NAMES,
    ) -> None:
        self._message = partial(event_message, names=names)
        self.rules = rules
        self.watching = watching
        """Rules over minutes, maintenance and evidence; none where nobody is to be told."""
        self.minutes = minutes
        """Collects the measures; belongs to the worker's thread."""
        self.corrections = CorrectionsInForce()
        """What people have said about who is who; belongs to the worker's thread."""
        self.run_id = run_id
        """What is handled from now on belongs to this run; what waits belongs to the one before."""
        self._pipeline = pipeline
        self._store = store
        self._clock = clock
        self._announcer = announcer
        self._commit_interval_ns = round(commit_interval_s * NS_PER_S)
        self._on_measured = on_measured
        self._beat = beat
        self._vision = vision
        self._next_runs: deque[tuple[int, Callable[[], None]]] = deque()
        self._asked: deque[Callable[[], None]] = deque()
        self._tick_due_ns = 0
        self._writes: deque[_Batch | Callable[[], None]] = deque()
        self._commit_due_ns: int | None = None
        self._retry_at_ns: int | None = None
        self._camera_id: int | None = None
        self._camera = CameraEvents()
        self._last_frame: tuple[int, int] | None = None
        """When it was captured: wall time and monotonic time, ns."""
        self._known_failures: set[type[Exception]] = set()
        self.measured_frames = 0
        """Samples that are done with, measured or not."""
        self.failed_frames = 0
        """Those of them whose measuring ended in an error."""
        self.waiting = 0
        """Observations in memory that are not yet in the database."""
        self.write_attempts = 0
        """How often something was carried out in the database, or at least tried."""
        self.write_error: str | None = None
        """Why the database cannot be written at present; None when it can."""
        self.lost_observations = 0
        """Given up because the database could not be written for too long."""
        self._minute_values_waiting = 0

    @property
    def writes_waiting(self) -> int:
        """Transactions and steps that wait to be carried out; on a database that refuses they wait, and are tried."""
        return len(self._writes)

    def restore(self, open_events: Sequence[Event]) -> None:
        """Go on from conditions that were open when the service stopped; those that nobody watches any more end."""
        self._camera.restore(open_events)
        if self._vision is not None:
            self._vision.restore(open_events)
        now_utc_ns = self._clock.utc_ns()
        watching = self.watching
        restored = [] if watching is None else watching.restore(self._store, now_utc_ns)
        for event in self.rules.orphans(now_utc_ns):
            self._tell(event if watching is None else watching.severities.told(event))
        for event in restored:
            self._tell(event)
        if watching is not None:
            watching.restore_frames(self._store, now_utc_ns)

    def begin_run(self, run_id: int, change: Callable[[], None] = lambda: None) -> None:
        """Carry out a change between two items: what is handled after it belongs to this run. From any thread."""
        self._next_runs.append((run_id, change))

    def _begin_runs(self) -> None:
        while self._next_runs:
            self.run_id, change = self._next_runs.popleft()
            change()

    def soon(self, action: Callable[[], None]) -> None:
        """Do something in the worker's thread, between two items. From any thread."""
        self._asked.append(action)

    def beat(self) -> None:
        """Give a sign of life in the midst of something long that was asked for."""
        self._beat()

    def tick(self) -> None:
        """Do what was asked for, and what the passing of time leads to, that once a second."""
        while self._asked:
            try:
                self._asked.popleft()()
            except Exception:  # whoever asked hears nothing; frames go on being measured
                logger.exception("something that was asked for could not be done")
        now_ns = self._clock.monotonic_ns()
        if self.watching is None or now_ns < self._tick_due_ns:
            return
        self._tick_due_ns = now_ns + NS_PER_S
        utc_ns = self._clock.utc_ns()
        for stretch, event in self.watching.due(utc_ns):
            self.keep_maintenance(stretch, event)
        for event in self.watching.tick(utc_ns):
            self._tell(event)
        for event in self.watching.severities.tick(utc_ns):
            self._tell_with_evidence(self._camera.renewed(self.rules.renewed(event)))

    def minutes_over(self, values: Sequence[MinuteValue]) -> None:
        """Judge minutes that are over."""
        if self.watching is not None:
            for event in self.watching.minutes_over(values):
                self._tell(event)

    def keep_maintenance(self, stretch: Maintenance, event: Event, then: Callable[[], object] = lambda: None) -> None:
        """Store maintenance that begins or ends, tell of it, and call `then` when it is stored."""
        run_id = self.run_id

        def keep() -> None:
            self._store.keep_maintenance(stretch, run_id=run_id, event=event, tell=self._message)
            self._announcer.events_stored()
            then()

        logger.info("event %s %s %s", event.kind, event.state, event.data_json())
        self._later(keep)

    def tell(self, event: Event) -> None:
        """Store an event and tell of it."""
        self._tell(event)

    def tell_and_then(self, event: Event, then: Callable[[], object]) -> None:
        """Store an event, tell of it, and call `then` when it is stored."""
        self._tell(event)
        self._later(then)

    def run(self, items: HandOff[Item]) -> None:
        """Consume until the hand-off is closed and empty; then everything is written, if the database lets us.

        What waits is written also if something unexpected ends it.
        """
        try:
            while not items.exhausted:
                self._beat()
                self._begin_runs()
                item = items.get(IDLE_S)
                if item is not None:
                    self.handle(item)
                elif self.minutes is not None:
                    self._keep(self.minutes.close_until(self._clock.utc_ns() - round(LATE_S * NS_PER_S)))
                self.tick()
                self.write_if_due()
            self.finish_minutes()
            self.write()
        finally:
            self.write()  # goes on after what could not be carried out
            if self._writes:
                logger.error("stopped while the database cannot be written: %d observations are lost", self.waiting)

    def finish_minutes(self) -> None:
        """Nothing more is to come: what there is of the present minute is queued."""
        if self.minutes is not None:
            self._keep(self.minutes.finish())

    def _keep(self, values: Sequence[MinuteValue]) -> None:
        if not values:
            return
        self.minutes_over(values)
        if self._minute_values_waiting + len(values) > MAX_WAITING_MINUTE_VALUES:
            logger.error("%d values of minutes are lost: the database cannot be written", len(values))
            return
        self._batch().minutes.extend(values)
        self._minute_values_waiting += len(values)

    def handle(self, item: Item) -> None:
        """Take one item. What it changes in the database is queued; `write_if_due` and `write` carry it out."""
        self._begin_runs()
        match item:
            case Sample():
                self._measure(item)
            case MissingSamples():
                self._batch().miss(item.block_key, item.reason, item.planned_utc_ns)
            case BlockStarted():
                self._start_block(item)
            case BlockEnded():
                self._end_block(item)
            case BlockPassed():
                self._pass_block(item)
            case CameraLost():
                self._lose_camera(item)
            case CameraAway():
                if event := self._camera.away(item):
                    self._tell_with_evidence(event)
            case CameraFound():
                self._find_camera(item)

    def _measure(self, sample: Sample) -> None:
        self._mark_clock_step(sample.frame)
        measured = self._measured(sample)
        self.measured_frames += 1
        vision_events = [] if self._vision is None else self._vision.update(sample.frame.captured_utc_ns)
        self._batch().observations.append(measured.observation)
        self.waiting += 1
        if self.minutes is not None:
            self._keep(self.minutes.add(measured.observation))
        if self.watching is not None:
            self.watching.see(sample.frame, measured)
        for event in vision_events:
            self._tell_with_evidence(event)
        if self.watching is None or not self.watching.is_maintenance(sample.frame.captured_utc_ns):
            for event in self.rules.update(measured.observation):
                self._tell_with_evidence(event)
        if self.waiting > MAX_WAITING_OBSERVATIONS:
            next(write for write in self._writes if isinstance(write, _Batch) and write.observations).give_up_oldest()
            self._count_lost()
        self._on_measured(sample.frame, measured)

    def _mark_clock_step(self, frame: ThermalFrame) -> None:
        """Tell of it before the first frame with the new time, so that no stored time decreases without a mark."""
        now, before = (frame.captured_utc_ns, frame.captured_monotonic_ns), self._last_frame
        self._last_frame = now
        if before is None:
            return
        apart_ns = now[1] - before[1]
        step_ns = now[0] - before[0] - apart_ns
        if abs(step_ns) < CLOCK_STEP_NS:
            return
        step_s = round(step_ns / NS_PER_S, 3)
        self._tell_with_evidence(
            Event(
                kind=EventKind.CLOCK_STEPPED,
                state=EventState.OCCURRED,
                severity=Severity.NOTICE,
                at_utc_ns=frame.captured_utc_ns,
                data=evidence(
                    EventKind.CLOCK_STEPPED,
                    measure="step_s",
                    comparison="either",
                    value=step_s,
                    threshold=CLOCK_STEP_NS / NS_PER_S,
                    step_s=step_s,
                    first_utc_ns=now[0],
                    first_monotonic_ns=now[1],
                    last_utc_ns=before[0],
                    apart_s=round(apart_ns / NS_PER_S, 3),
                ),
            )
        )

    def _measured(self, sample: Sample) -> Measured:
        try:
            measured = self._pipeline.process(
                sample.frame, block_key=sample.block_key, planned_utc_ns=sample.planned_utc_ns
            )
            return replace(measured, observation=self.corrections.corrected(measured.observation))
        except Exception as error:  # whatever a segmenter makes of one frame, the next one may be measured
            self.failed_frames += 1
            if type(error) not in self._known_failures:
                self._known_failures.add(type(error))
                logger.exception(
                    "frame %d could not be measured; further failures of this kind are only counted",
                    sample.frame.sequence,
                )
            return failed(sample)

    def _start_block(self, item: BlockStarted) -> None:
        block, run_id = item.block, self.run_id

        def begin() -> None:
            self._store.open_block(block, run_id=run_id, at_utc_ns=item.at_utc_ns)
            self._announcer.block_changed(block, BlockState.OPEN, self._store.coverage(block.key))

        self._later(begin)
        self._tell(
            Event(
                kind=EventKind.BLOCK_STARTED,
                state=EventState.OCCURRED,
                severity=Severity.NOTICE,
                at_utc_ns=item.at_utc_ns,
                data={
                    "block": block.key,
                    "planned_frames": len(block.planned_utc_ns),
                    "planned_start_utc_ns": block.start_utc_ns,
                    "planned_end_utc_ns": block.end_utc_ns,
                },
            )
        )

    def _end_block(self, item: BlockEnded) -> None:
        run_id = self.run_id

        def finish() -> None:
            if item.stopped:
                self._store.shorten_block(item.block)
            coverage = self._store.finish_block(
                item.block.key,
                at_utc_ns=item.at_utc_ns,
                reason_for_unaccounted=SERVICE_DOWN,
                run_id=run_id,
                ending=lambda coverage: block_finished(item.block.key, coverage, item.at_utc_ns),
                tell=self._message,
            )
            self._tell_end(item.block, BlockState.FINISHED, coverage)

        self._later(finish)

    def _pass_block(self, item: BlockPassed) -> None:
        run_id = self.run_id

        def miss() -> None:
            coverage = self._store.miss_block(
                item.block,
                run_id=run_id,
                at_utc_ns=item.at_utc_ns,
                reason=item.reason,
                ending=lambda coverage: block_finished(
                    item.block.key, coverage, item.at_utc_ns, state=state_of_passed(coverage)
                ),
                tell=self._message,
            )
            self._tell_end(item.block, state_of_passed(coverage), coverage)

        self._later(miss)

    def _tell_end(self, block: PlannedBlock, state: BlockState, coverage: Coverage) -> None:
        logger.info("block %s %s: %d of %d captured", block.key, state, coverage.captured, coverage.expected)
        self._announcer.block_changed(block, state, coverage)
        self._announcer.events_stored()

    def _lose_camera(self, item: CameraLost) -> None:
        run_id = self.run_id
        self._later(lambda: self._store.open_gap(run_id=run_id, start_utc_ns=item.at_utc_ns, reason=item.reason))
        if event := self._camera.lost(item):
            self._tell_with_evidence(event)

    def _find_camera(self, item: CameraFound) -> None:
        run_id = self.run_id

        def register() -> None:
            self._camera_id = self._store.register_camera(item.info, item.variant)
            self._store.close_gaps(run_id=run_id, end_utc_ns=item.at_utc_ns)

        self._later(register)
        self._tell_with_evidence(self._camera.found(item))

    def _tell_with_evidence(self, event: Event) -> None:
        self._tell(event if self.watching is None else self.watching.as_told(event))

    def _tell(self, event: Event) -> None:
        logger.info("event %s %s %s", event.kind, event.state, event.data_json())
        self._batch().events.append(event)

    def _batch(self) -> _Batch:
        """What is being gathered to be written together: of one run, and after all that was queued before."""
        last, run_id = self._writes[-1] if self._writes else None, self.run_id
        if isinstance(last, _Batch) and last.run_id == run_id and len(last.observations) < BATCH_OBSERVATIONS:
            return last
        batch = _Batch(run_id)
        self._enqueue(batch)
        return batch

    def _later(self, action: Callable[[], object]) -> None:
        self._enqueue(lambda: void(action()))

    def _enqueue(self, write: _Batch | Callable[[], None]) -> None:
        self._writes.append(write)
        if self._commit_due_ns is None:
            self._commit_due_ns = self._clock.monotonic_ns() + self._commit_interval_ns

    def write_if_due(self) -> None:
        """Carry out what is queued when its time has come."""
        now_ns = self._clock.monotonic_ns()
        if self._retry_at_ns is not None and now_ns < self._retry_at_ns:
            return
        if self._commit_due_ns is not None and now_ns >= self._commit_due_ns:
            self.write()

    def write(self) -> None:
        """Carry out everything that is queued, in order; stop at the first thing the database refuses."""
        while self._writes:
            self._beat()
            write = self._writes.popleft()  # what ends in an unexpected error must not stand in the way of the rest
            self.write_attempts += 1
            try:
                self._carry_out(write)
            except StoreRejectedError as error:
                self._refused(write, error)
            except StoreError as error:
                self._writes.appendleft(write)
                if self.write_error is None:
                    logger.error("the database cannot be written, measurements wait in memory: %s", error)
                self.write_error = str(error)
                self._retry_at_ns = self._clock.monotonic_ns() + round(RETRY_S * NS_PER_S)
                return
        if self.write_error is not None:
            logger.warning("the database can be written again; %d observations were lost", self.lost_observations)
        self._commit_due_ns = self._retry_at_ns = self.write_error = None

    def _carry_out(self, write: _Batch | Callable[[], None]) -> None:
        if not isinstance(write, _Batch):
            write()
            return
        for (block_key, reason), planned_utc_ns in write.missing.items():
            self._store.record_missing(block_key, planned_utc_ns, reason)
        if not (write.observations or write.events or write.minutes):
            return
        self._store.add(
            write.observations,
            run_id=write.run_id,
            camera_id=self._camera_id,
            events=write.events,
            minute_values=write.minutes,
            tell=self._message,
        )
        self.waiting -= len(write.observations)
        self._minute_values_waiting -= len(write.minutes)
        for observation in write.observations:
            self._announcer.observed(observation)
        if write.minutes:
            self._announcer.measured(write.minutes)
        if write.events:
            self._announcer.events_stored()

    def _refused(self, write: _Batch | Callable[[], None], error: StoreRejectedError) -> None:
        """A mistake of ours, which no repetition mends: what it concerns is lost, but nothing that came with it."""
        pieces = write.pieces() if isinstance(write, _Batch) else ()
        if pieces:
            self._writes.extendleft(reversed(pieces))
            return
        logger.error("something could not be stored and is lost", exc_info=error)
        if isinstance(write, _Batch):
            self._minute_values_waiting -= len(write.minutes)
        if isinstance(write, _Batch) and write.observations:
            write.give_up_oldest()
            self._count_lost()
            if write.missing:
                self._writes.appendleft(write)

    def _count_lost(self) -> None:
        self.waiting -= 1
        self.lost_observations += 1


def void(_value: object) -> None:
    """Nothing: for an action whose result nobody needs."""


def failed(sample: Sample) -> Measured:
    """What stands for a frame whose measuring ended in an error: all that is known without measuring, no animals."""
    frame = sample.frame
    observation = FrameObservation(
        sequence=frame.sequence,
        captured_utc_ns=frame.captured_utc_ns,
        captured_monotonic_ns=frame.captured_monotonic_ns,
        flags=frame.flags,
        calibration=frame.calibration,
        fpa_celsius=frame.metadata.fpa_celsius,
        shutter_celsius=frame.metadata.shutter_celsius,
        background_celsius=None,
        animals=(),
        not_measured=ERROR,
        block_key=sample.block_key,
        planned_utc_ns=sample.planned_utc_ns,
    )
    empty = np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8)
    return Measured(observation=observation, segmentation=Segmentation(parts=empty, instances=empty))


def state_of_passed(coverage: Coverage) -> BlockState:
    """How a block ended that nobody was there for at its end: missed, unless some of it was captured before."""
    return BlockState.FINISHED if coverage.captured else BlockState.MISSED


def block_finished(key: str, coverage: Coverage, at_utc_ns: int, state: BlockState = BlockState.FINISHED) -> Event:
    """The event that ends a block, with its coverage."""
    return Event(
        kind=EventKind.BLOCK_FINISHED,
        state=EventState.OCCURRED,
        severity=Severity.NOTICE,
        at_utc_ns=at_utc_ns,
        data={
            "block": key,
            "state": state.value,
            "expected": coverage.expected,
            "captured": coverage.captured,
            **{f"missing_{reason}": count for reason, count in sorted(coverage.missing_by_reason.items())},
            **{f"unmeasured_{reason}": count for reason, count in sorted(coverage.unmeasured_by_reason.items())},
        },
    )
