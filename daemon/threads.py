"""The threads of the service: watched while it runs, and stopped within one time for all of them."""

import logging
import threading
from collections.abc import Callable

from drivers.clock import NS_PER_S, Clock
from drivers.errors import VivariumError

logger = logging.getLogger(__name__)

STOP_S = 4.0
"""How long all threads together may take to finish their work when the service stops."""

LEFT_S = 10.0
"""How much longer those are waited for that did not, before others are started in their place."""

LAST_CHANCE_S = 0.2
"""What a thread is given when the others have used up the time."""


class ServiceThreads:
    """Threads that each run a part until it is asked to stop.

    Parameters
    ----------
    clock : Clock
        Its monotonic time limits the stop.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._threads: dict[str, threading.Thread] = {}
        self._stop_by_ns: int | None = None
        self.failed: list[str] = []
        """What threads have failed of: part and error."""

    def start(self, name: str, work: Callable[[], None], stop: Callable[[], None]) -> Callable[[], None]:
        """Run a part in its own thread; what comes back asks it to stop and waits for it."""

        def top() -> None:
            try:
                work()
            except VivariumError as error:
                logger.error("the %s thread has failed: %s", name, error)
                self.failed.append(f"{name}: {error}")
            except Exception as error:  # the top of a thread: log it, and let the service manager start us anew
                logger.exception("the %s thread has failed", name)
                self.failed.append(f"{name}: {type(error).__name__}")

        thread = threading.Thread(target=top, name=name, daemon=True)

        def end() -> None:
            stop()
            thread.join(timeout=self._stop_time_left_s())
            if thread.is_alive():
                logger.error("the %s thread does not stop", name)

        self._threads[name] = thread
        thread.start()
        return end

    @property
    def ended(self) -> list[str]:
        """The parts whose threads are not alive."""
        return [name for name, thread in self._threads.items() if not thread.is_alive()]

    def await_end(self) -> list[str]:
        """Wait for threads that did not stop in time; the parts whose threads still run after that."""
        end_ns = self._clock.monotonic_ns() + round(LEFT_S * NS_PER_S)
        for thread in self._threads.values():
            thread.join(timeout=max(end_ns - self._clock.monotonic_ns(), 0) / NS_PER_S)
        return [name for name, thread in self._threads.items() if thread.is_alive()]

    def _stop_time_left_s(self) -> float:
        now_ns = self._clock.monotonic_ns()
        if self._stop_by_ns is None:
            self._stop_by_ns = now_ns + round(STOP_S * NS_PER_S)
        return max((self._stop_by_ns - now_ns) / NS_PER_S, LAST_CHANCE_S)
