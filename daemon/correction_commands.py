"""`correction`: the running service goes on with what a person has said about who is who."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

from pydantic import Field

from daemon.identity_checks import CorrectionError, Most, TooMuchError
from daemon.identity_corrector import IdentityCorrector
from daemon.messaging.commands import CommandPayload
from daemon.minute_values import collector_of
from daemon.order import Order, Outcome
from daemon.settings import Settings
from daemon.spool import SpoolError
from daemon.store.repository import Store
from daemon.watching import Watching
from daemon.worker import Worker
from drivers.clock import Clock
from drivers.errors import StoreError

WITHIN_S = 20.0
"""Frames since the correction are gone through, and the past of the rules is read anew: seconds."""

LEAD_MINUTES = 10
"""What the collector of the measures is to know of the time before, while frames wait."""

MOST_FRAMES = 150_000
"""More are not gone through while frames wait: 100 minutes at 25 a second. On one core of a busy machine a frame takes
8 µs, and the first of a second, which is measured from, 0.25 ms: 3 s, and 8 s on a computer three times as slow."""

MOST_SAMPLES = 14_400
"""The same for the seconds of these frames: four hours at one frame a second, 4 s, and 11 s on a computer that is three
times as slow. After 15 s without a measured frame the service counts as stuck."""


class CorrectionPayload(CommandPayload):
    """A correction that `vivarium identity` has stored, or undone."""

    correction: Annotated[int, Field(ge=1)]
    """Its number."""


class CorrectionCommands:
    """Each order is carried out by the worker's thread, between two frames.

    Parameters
    ----------
    worker : Worker
        Says of each frame who is who.
    watching : Watching
        Rules, whose past has changed.
    store : Store
        Holds the corrections: what is told is only a number.
    settings : callable
        Those in force.
    run_id : callable
        The run in force.
    told : callable
        Told when something was stored that others are to hear.
    clock : Clock
        Wall time.
    """

    def __init__(
        self,
        *,
        worker: Worker,
        watching: Watching,
        store: Store,
        settings: Callable[[], Settings],
        run_id: Callable[[], int],
        told: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._worker = worker
        self._watching = watching
        self._store = store
        self._settings = settings
        self._run_id = run_id
        self._told = told
        self._clock = clock

    def take_over(self, payload: CorrectionPayload, order: Order) -> None:
        """Go on with a correction, or without it if it was undone. Does not wait."""
        self._worker.soon(partial(self._take_over, payload.correction, order))

    def _take_over(self, number: int, order: Order) -> None:
        if order.outcome is not None:
            return
        self._worker.write()
        if self._worker.writes_waiting:
            why = self._worker.write_error or "it is busy"
            order.answer(Outcome("failed", "not_stored", f"the database cannot be written at present: {why}"))
            return
        try:
            goes_on = self._change(number)
        except TooMuchError as error:
            order.answer(Outcome("refused", "busy", str(error)))
            return
        except CorrectionError as error:
            order.answer(Outcome("refused", "unknown", str(error)))
            return
        except (StoreError, SpoolError) as error:
            order.answer(Outcome("failed", "not_stored", str(error)))
            return
        self._told()
        try:
            events = self._watching.begin_anew(self._store, self._clock.utc_ns())
        except StoreError as error:
            how = f"the service goes on with correction {number} as it is" if goes_on else "frames to come are right"
            message = f"{how}, but its rules could not read the past anew, tell it again: {error}"
            order.answer(Outcome("failed", "not_stored", message))
            return
        for event in events:
            self._worker.tell(event)
        order.answer(Outcome("done", data={"correction": number, "goes_on": goes_on}))

    def _change(self, number: int) -> bool:
        """Whether frames to come are concerned."""
        settings = self._settings()
        with self._store.correction_rows() as rows:
            life = {each.run_id for each in rows.life(self._run_id())}
            of_this_start = any(each.number == number and each.run_id in life for each in rows.corrections())
        corrector = IdentityCorrector(self._store, settings, self._clock)
        now_ns = self._clock.utc_ns()
        if not of_this_start:
            corrector.note_told(number, now_ns)
            return False
        caught_up = corrector.catch_up(
            number,
            told_utc_ns=now_ns,
            collector=collector_of(self._settings, maintenance=lambda: self._watching.stretches),
            lead_minutes=LEAD_MINUTES,
            most=Most(frames=MOST_FRAMES, samples=MOST_SAMPLES),
            on_progress=lambda _utc_ns: self._worker.beat(),
        )
        # The database says from here on that the service was told: nothing that may fail stands before it is true.
        self._worker.corrections.set((each.number, each.correction) for each in caught_up.in_force)
        if self._worker.minutes is not None:
            self._worker.minutes = caught_up.collector
        return number in self._worker.corrections.numbers
