"""A changed config and other networks: made ready beside what runs, and put in force between two frames."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

from daemon.caretaker import Caretaker
from daemon.current_run import CurrentRun
from daemon.logs import configure_logging
from daemon.networks import Networks, Preparation, file_hashes, find_networks, on_cpu
from daemon.order import Order, Outcome
from daemon.schedule import check_plan
from daemon.settings import AlertSettings, Settings
from daemon.status_board import StatusBoard
from daemon.timetable import TimetableKeeper
from daemon.vision.resilient import ResilientSegmenter
from daemon.worker import Worker
from drivers.clock import NS_PER_S, Clock
from drivers.errors import ConfigError, StoreError

logger = logging.getLogger(__name__)

WARM_UP_S = 4.0
"""So long measuring, and being ready, waits for the networks at the start; capture does not. At the camera's full rate
the hand-off to the worker holds five seconds.
"""

STORE_RETRY_S = 1.0

_END_S = 1.0
"""How long networks that are being loaded may take to stop."""

LIVE_SECTIONS = ("alerts", "disk", "log", "schedule", "vision")
"""Sections of the config that take effect without interrupting capture."""

NOT_READY = "the networks are not ready yet"

Ready = Callable[[Networks], Settings | None]
"""What to do with networks; settings when the parts are to start anew with them."""


def first_networks(settings: Settings, handed_over: Networks | None) -> Preparation:
    """Begin to make ready what a service starts with: what the one before hands over, or what the config names."""
    most = settings.animal_count
    if handed_over is None:
        return Preparation(lambda given_up: find_networks(settings.vision, most=most, given_up=given_up))
    segmenter = handed_over.segmenter
    same = replace(handed_over, segmenter=None if segmenter is None else segmenter.of_most(most))
    return Preparation(lambda _given_up: same)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """What is put in force with the next run."""

    networks: Networks
    alerts: AlertSettings


class Reloader:
    """Exchanges config and networks. Belongs to the supervising thread, which calls `step` again and again.

    No method but `warm_up` waits for networks. Opened by `with`, so that nothing is loaded any more when it is closed.

    Parameters
    ----------
    settings : Settings
        Those in force.
    first : Preparation
        Of the networks that they name.
    run : CurrentRun
        Changed with the networks.
    segmenter, worker, keeper, caretaker, board
        The parts that a changed config concerns.
    clock : Clock
        Its monotonic time counts for retries.
    tell : callable
        Tells the service manager.
    changed : callable
        Told when a run with other networks or another config has begun.
    on_reloaded : callable
        Told when a changed config is in force without a restart of the parts.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        first: Preparation,
        run: CurrentRun,
        segmenter: ResilientSegmenter,
        worker: Worker,
        keeper: TimetableKeeper,
        caretaker: Caretaker,
        board: StatusBoard,
        clock: Clock,
        tell: Callable[..., None],
        changed: Callable[[], None],
        on_reloaded: Callable[[], None],
    ) -> None:
        self.settings = settings
        """In force; of the networks it names what was last accepted."""
        self.in_force = Networks(segmenter=None, why_none=NOT_READY, problem=NOT_READY)
        """The networks that measure, or why none do."""
        self.handed_over: Networks | None = None
        """What the parts are to start anew with, once `step` has returned settings."""
        self._run = run
        self._segmenter = segmenter
        self._worker = worker
        self._keeper = keeper
        self._caretaker = caretaker
        self._board = board
        self._clock = clock
        self._tell = tell
        self._changed = changed
        self._on_reloaded = on_reloaded
        self._from_file = True
        self._first: Preparation | None = first
        """Of the start, as long as it lasts."""
        self._preparing: tuple[Preparation, Ready] | None = (first, self._late)
        self._given_up: list[Preparation] = []
        self._order: Order | None = None
        """Of the reload that waits for its networks."""
        self._due: _Due | None = None
        self._retry_at_ns = 0
        self._cpu_fails = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._preparing is not None:
            self._given_up.append(self._preparing[0])
        for each in self._given_up:
            each.end(_END_S)

    @property
    def busy(self) -> bool:
        """Whether something is being made ready, and `step` is wanted soon."""
        return self._preparing is not None

    def warm_up(self) -> None:
        """Wait for the networks of the start, not for long; to be called before anything is measured."""
        networks = None if self._preparing is None else self._preparing[0].take(WARM_UP_S)
        if networks is None:
            why = f"the networks are not ready after {WARM_UP_S:g} s, and take over when they are"
            logger.warning("%s", why)
            self._segmenter.adopt(None, why, degraded=True)
            return
        self._preparing = self._first = None
        _log_found(networks)
        self._board.model_refused = networks.refused
        try:
            if networks.segmenter is not None:
                self._run.name_networks(networks.segmenter)
        except StoreError as error:
            self._segmenter.adopt(None, f"the run of the networks cannot be stored: {error}", degraded=True)
            self._wait_for_store(_Due(networks=networks, alerts=self.settings.alerts), error)
            return
        self.in_force = networks
        _adopt(self._segmenter, networks)
        self._changed()

    def request(self, load: Callable[[], Settings], order: Order, *, from_file: bool = True) -> Settings | None:
        """Read the config and begin to make its networks ready; see `step`. An earlier request gives way to it.

        What is not `from_file` says nothing of the config file, neither that it is wrong nor that it is right.
        """
        self._from_file = from_file
        self._tell(RELOADING=1, MONOTONIC_USEC=self._clock.monotonic_ns() // 1000)
        try:
            new = load()
            check_plan(new.schedule)
        except ConfigError as error:
            order.answer(self._refused_config(error))
            self._tell(READY=1)
            return None
        if self._order is not None:
            self._order.answer(Outcome("failed", "superseded", "the config was read once more before it was done"))
        self._order = order
        ready = partial(self._ready, new, order)
        same = new.vision == self.settings.vision
        if same and self._first is not None:
            self._preparing = self._first, ready
        else:
            before = self.in_force if same and not self._segmenter.state.degraded else None
            self._prepare(partial(_networks_of, new, before), ready)
        return self.step()

    def step(self) -> Settings | None:
        """Do what can be done now; the settings when the parts are to start anew with them."""
        if self._due is not None and self._clock.monotonic_ns() >= self._retry_at_ns:
            self._put_in_force(self._due)
        if self._segmenter.gpu_fails and self._preparing is None and not self._cpu_fails:
            self._leave_gpu()
        networks = None if self._preparing is None else self._preparing[0].take(0)
        if networks is None or self._preparing is None:
            return None
        ready = self._preparing[1]
        self._preparing = self._first = None
        return ready(networks)

    def _prepare(self, work: Callable[[threading.Event], Networks], ready: Ready) -> None:
        if self._preparing is not None:
            self._preparing[0].give_up()
            self._given_up = [each for each in self._given_up if not each.over] + [self._preparing[0]]
        self._first = None
        self._preparing = Preparation(work), ready

    def _late(self, networks: Networks) -> None:
        """The networks of the start have come when measuring had begun without them."""
        _log_found(networks)
        self._board.model_refused = networks.refused
        if networks.segmenter is None:  # it is the run of none already
            self.in_force = networks
            self._worker.begin_run(self._run.id, partial(_adopt, self._segmenter, networks))
        else:
            self._put_in_force(_Due(networks=networks, alerts=self.settings.alerts))

    def _ready(self, wanted: Settings, order: Order, networks: Networks) -> Settings | None:
        """The networks of a changed config have been looked at: they are warm, or to be refused."""
        self._order = None
        new, before = wanted, self.in_force
        # Who measures with less than was asked for has nothing to lose.
        refused = networks.problem if before.problem is None else None
        if refused is None:
            if networks.segmenter is not before.segmenter:
                _log_found(networks)
        else:
            logger.error("the new model is refused, the old one stays in force: %s", refused)
            new = wanted.model_copy(update={"vision": self.settings.vision})
            networks = replace(before, refused=refused)
        outcome = self._outcome(wanted, new, networks)
        self._board.model_refused = refused
        interrupts = new.model_copy(update={name: getattr(self.settings, name) for name in LIVE_SECTIONS})
        if interrupts != self.settings:
            logger.info("the config has changed in a way that needs a restart of the parts")
            anew = "the parts of the service start anew with the new config"
            order.answer(replace(outcome, message="; ".join(filter(None, (anew, outcome.message)))))
            self.handed_over = networks
            return new
        if refused is None or new != self.settings:
            outcome = self._change(new, networks) or outcome
        order.answer(outcome)
        self._tell(READY=1)
        return None

    def _outcome(self, wanted: Settings, new: Settings, networks: Networks) -> Outcome:
        """What is answered when all goes well from here."""
        problem = networks.refused or networks.problem
        if problem is None:
            return Outcome("done")
        old = "the old model stays in force" if networks.refused else "not all networks that were asked for are there"
        asked = wanted.vision != self.settings.vision or new == self.settings
        return Outcome("failed" if asked else "done", "model" if asked else "", f"{old}: {problem}")

    def _change(self, new: Settings, networks: Networks) -> Outcome | None:
        """Put a config in force that interrupts nothing; what has kept it, or a part of it, from being."""
        try:
            self._keeper.replace_plan(new.schedule, new.zone)
        except ConfigError as error:
            return self._refused_config(error)
        configure_logging(new.log)
        self.settings = self._board.settings = self._caretaker.settings = new
        if self._from_file:
            self._board.config_problem = None
        if self._from_file and networks.refused is None:
            self._on_reloaded()
        why = self._put_in_force(_Due(networks=networks, alerts=new.frame_alerts))
        if why is not None:
            return Outcome("failed", "store", f"networks and alert rules wait until their run can be stored: {why}")
        logger.info("the config was read again" if self._from_file else "a setting was changed by command")
        return None

    def _refused_config(self, error: ConfigError) -> Outcome:
        if self._from_file:
            self._board.config_problem = str(error)
        logger.error("the new config is refused, the old one stays in force: %s", error)
        return Outcome("failed", "config", f"the old config stays in force: {error}")

    def _put_in_force(self, due: _Due) -> StoreError | None:
        """Change networks and rules with the run, or neither; the worker does it between two frames."""
        try:
            self._run.follow(self.settings, due.networks.segmenter)
        except StoreError as error:
            self._wait_for_store(due, error)
            return error
        before = self.in_force
        others = due.networks.segmenter is not before.segmenter or due.networks.problem != before.problem

        def change() -> None:
            if others:
                _adopt(self._segmenter, due.networks)
            self._worker.rules.settings = due.alerts

        self._due = self._board.change_waits = None
        self.in_force = due.networks
        self._cpu_fails = False
        self._worker.begin_run(self._run.id, change)
        self._changed()
        return None

    def _wait_for_store(self, due: _Due, error: StoreError) -> None:
        if self._board.change_waits is None:
            logger.error("the run of a change cannot be stored, it waits: %s", error)
        self._board.change_waits = str(error)
        self._due = due
        self._retry_at_ns = self._clock.monotonic_ns() + round(STORE_RETRY_S * NS_PER_S)

    def _leave_gpu(self) -> None:
        """Load the same files on the CPU: it is the same run, whose models have the same hashes."""
        networks = self.in_force.segmenter
        if networks is None:
            return
        logger.error("the networks fail on the GPU: they are loaded on the CPU")
        self._prepare(lambda given_up: on_cpu(networks, self.settings.vision, given_up=given_up), self._on_cpu)

    def _on_cpu(self, networks: Networks) -> None:
        if networks.segmenter is None:
            self._cpu_fails = True
            logger.error("the networks cannot be loaded on the CPU: %s", networks.problem)
            return
        logger.warning("the networks go on on the CPU")
        self.in_force = replace(self.in_force, segmenter=networks.segmenter)
        self._worker.begin_run(self._run.id, partial(_adopt, self._segmenter, self.in_force))


def _networks_of(new: Settings, before: Networks | None, given_up: threading.Event) -> Networks:
    """The networks that a config names: those in force where their files are the same."""
    if before is not None:
        hashes = {} if before.segmenter is None else before.segmenter.hashes
        if file_hashes(new.vision) == hashes:
            return before
    return find_networks(new.vision, most=new.animal_count, given_up=given_up)


def _adopt(segmenter: ResilientSegmenter, networks: Networks) -> None:
    why = networks.problem or networks.why_none
    segmenter.adopt(networks.segmenter, why, degraded=networks.problem is not None)


def _log_found(networks: Networks) -> None:
    if networks.segmenter is not None and networks.problem is None:
        logger.info("other networks are in force: %s", networks.segmenter.name)
    elif networks.segmenter is not None:
        logger.error("%s; animals are found by %s alone", networks.problem, networks.segmenter.name)
    elif networks.problem is not None:
        logger.error("%s; animals are found without networks", networks.problem)
    else:
        logger.warning("animals are found by their warmth alone: %s", networks.why_none)
