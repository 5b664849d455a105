"""What the operating system asks of the service."""

import queue
import signal
from contextlib import suppress
from types import FrameType
from typing import Self


class Signals:
    """What the operating system asks for; installed from enter to exit, in the main thread."""

    def __init__(self) -> None:
        self.stop = False
        self.reload = False
        # A handler runs in the middle of whatever the main thread does: it must not take a lock that this thread may
        # hold, as an Event has one. Of all queues only this one says that `put` may interrupt its own `get`.
        self._received: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._before[number] = signal.signal(number, self.receive)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def receive(self, number: int, _frame: FrameType | None = None) -> None:
        """Take a signal, as its handler; from any thread."""
        if number == signal.SIGHUP:
            self.reload = True
        else:
            self.stop = True
        self._received.put(number)

    def wait(self, duration_s: float) -> None:
        """Return when a signal has come or time is over."""
        with suppress(queue.Empty):
            self._received.get(timeout=duration_s)
