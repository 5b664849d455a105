"""Commands to the camera, sent one at a time by a thread of their own: a hanging control never holds up a frame."""

import errno
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, Self

from drivers.clock import Clock
from drivers.errors import CameraError, ControlError
from drivers.t2s_protocol import Command

logger = logging.getLogger(__name__)

ATTEMPTS = 4
"""A stalled request is repeated: in trials with a stalling camera the fourth got through at the latest."""

END_PATIENCE_S = 0.5
"""How long closing waits for the thread; one that hangs in a call ends when the kernel gives up, after 5 to 7 s."""

_HUNG = frozenset({errno.ETIMEDOUT})


class WordSink(Protocol):
    """What takes a command word; see `drivers.v4l2.ZoomControl`."""

    def send(self, word: int) -> None:
        """Write one word; raises CameraError."""
        ...


OpenControl = Callable[[], AbstractContextManager[WordSink]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlState:
    """How the commands of one connection have done."""

    sent: int
    """Batches that the camera has taken."""
    failed: int
    """Batches that it has not."""
    last_error: str | None
    """Of the last batch that failed."""


@dataclass(frozen=True, slots=True)
class _Job:
    words: tuple[int, ...]
    done: "Future[int]"


class ControlChannel:
    """Sends batches of command words in the order in which they were asked for, from enter to exit.

    Each batch is ended with the harmless word 0x8004, which the kernel repeats to the camera when the machine wakes up.

    Parameters
    ----------
    open_control : callable
        Opens the control; done by the thread, and again after a failure.
    clock : Clock
        Stamps what was sent.
    """

    def __init__(self, open_control: OpenControl, *, clock: Clock) -> None:
        self._open_control = open_control
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._current: _Job | None = None
        self._closing = False
        self._sent = self._failed = 0
        self._last_error: str | None = None
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="camera-control", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._changed:
            self._closing = True
            for job in self._waiting:
                job.done.set_exception(ControlError("the camera was closed before the command was sent"))
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(END_PATIENCE_S)

    @property
    def state(self) -> ControlState:
        """Counts of this connection."""
        with self._changed:
            return ControlState(sent=self._sent, failed=self._failed, last_error=self._last_error)

    def submit(self, word: int, *more: int) -> "Future[int]":
        """Ask for words to be sent, without waiting.

        A batch that is already waiting is not asked for twice, so nothing piles up behind a hanging camera.

        Returns
        -------
        Future
            Monotonic time in nanoseconds at which the camera had taken the words; or a `CameraError`, most of all
            a `ControlError`, which is counted and logged here.
        """
        words = (word, *more)
        with self._changed:
            known = next((job for job in self._waiting if job.words == words), None)
            if known is not None:
                return known.done
            job = _Job(words, Future())
            if self._closing:
                job.done.set_exception(ControlError("the camera is closed: expected an open one to send a command to"))
                return job.done
            self._waiting.append(job)
            self._changed.notify_all()
            return job.done

    def wait_idle(self, timeout_s: float) -> bool:
        """Whether everything asked for was done with in this time (real time, as the kernel takes it)."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and self._current is None, timeout_s)

    def _run(self) -> None:
        try:
            while self._next() is not None:
                self._serve_connection()
        except Exception:  # the top of a thread: without commands the frames still come
            logger.exception("the camera's control thread has failed")

    def _next(self) -> _Job | None:
        """The job to be done, waited for; None when the channel closes."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._closing)
            if self._closing:
                return None
            return self._waiting[0]

    def _serve_connection(self) -> None:
        """Open the control and send batches through it until one fails or the channel closes."""
        job = self._take()
        if job is None:
            return
        try:
            with self._open_control() as control:
                while job is not None:
                    self._send(control, job)
                    if self._next() is None:
                        return
                    job = self._take()
        except CameraError as error:
            if job is not None:
                self._fail(job, error)

    def _take(self) -> _Job | None:
        with self._changed:
            if self._closing or not self._waiting:
                return None
            self._current = self._waiting.popleft()
            return self._current

    def _send(self, control: WordSink, job: _Job) -> None:
        for word in job.words:
            self._send_word(control, word)
        job.done.set_result(self._clock.monotonic_ns())  # they act now, whatever becomes of the word that ends them
        if job.words[-1] != Command.RADIOMETRIC:
            self._send_word(control, Command.RADIOMETRIC)
        with self._changed:
            self._sent += 1
            self._failing = False
            self._current = None
            self._changed.notify_all()

    def _send_word(self, control: WordSink, word: int) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                control.send(word)
            except ControlError as error:
                cause = error.__cause__
                if attempt == ATTEMPTS or (isinstance(cause, OSError) and cause.errno in _HUNG):
                    raise
                logger.debug("attempt %d: %s", attempt, error)
            else:
                return

    def _fail(self, job: _Job, error: CameraError) -> None:
        with self._changed:
            self._failed += 1
            self._last_error = str(error)
            first, self._failing = not self._failing, True
            self._current = None
            if not job.done.done():
                job.done.set_exception(error)
            self._changed.notify_all()
        logger.log(
            logging.WARNING if first else logging.DEBUG,
            "command %s did not reach the camera: %s",
            " ".join(f"{word:#06x}" for word in job.words),
            error,
        )
