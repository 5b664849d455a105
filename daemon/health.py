"""Whether the service makes progress, and telling systemd so."""

import logging
import socket
import threading
from collections.abc import Mapping

from drivers.clock import NS_PER_S, Clock

logger = logging.getLogger(__name__)

STALLED_AFTER_S = 15.0
"""A thread that has not finished a unit of work for so long is stuck; opening a hanging camera takes 7 s."""

SCHEDULE_STALLED_AFTER_S = 45.0
"""The same for the schedule, which is looked at every 10 s."""

RECORDER_STALLED_AFTER_S = 120.0
"""The same for the recorder, which reads a closed recording through for its checksum: up to 1.1 GB from a slow card."""

PUBLISHER_STALLED_AFTER_S = 120.0
"""The same for the publisher: it pauses for 30 s, and a name server that does not answer keeps it for a minute."""

CARETAKER_STALLED_AFTER_S = 900.0
"""The same for the caretaker, which looks at every recording in turn and removes many at once, on slow disks too."""

TELL_S = 1.0
"""So long the service manager has to take a message: one that has stopped reading would keep the sender for ever."""


class Heartbeats:
    """When each thread last finished a unit of work.

    Parameters
    ----------
    patience_s : mapping of str to float
        The threads by name, and after how long without a beat each is stuck.
    clock : Clock
        Its monotonic time counts.
    """

    def __init__(self, patience_s: Mapping[str, float], clock: Clock) -> None:
        self._clock = clock
        self._patience_ns = {name: round(seconds * NS_PER_S) for name, seconds in patience_s.items()}
        self._lock = threading.Lock()
        now_ns = clock.monotonic_ns()
        self._last_ns = dict.fromkeys(patience_s, now_ns)

    def beat(self, name: str) -> None:
        """A unit of work is done."""
        with self._lock:
            self._last_ns[name] = self._clock.monotonic_ns()

    def stalled(self) -> list[str]:
        """Names of the threads that make no progress."""
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            return [name for name, last_ns in self._last_ns.items() if now_ns - last_ns > self._patience_ns[name]]


class Progress:
    """Whether what waits to be done also gets done: a thread may be busy and still not do it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._done = -1
        self._changed_ns = clock.monotonic_ns()

    def stalled(self, *, done: int, waiting: int) -> bool:
        """True when something waits and nothing has been done for a while."""
        now_ns = self._clock.monotonic_ns()
        if done != self._done or waiting == 0:
            self._done, self._changed_ns = done, now_ns
        return now_ns - self._changed_ns > STALLED_AFTER_S * NS_PER_S


class ServiceManager:
    """The notification protocol of systemd (man 3 sd_notify); silent where there is no socket to talk to."""

    def __init__(self, notify_socket: str | None) -> None:
        # A leading @ stands for the zero byte of an abstract socket.
        self._address = notify_socket and ("\0" + notify_socket[1:] if notify_socket[0] == "@" else notify_socket)

    def tell(self, **states: str | int) -> None:
        """Send assignments such as `READY=1`; a manager that does not listen is no error."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in states.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.settimeout(TELL_S)
                connection.connect(self._address)
                connection.sendall(message.encode())
        except OSError as error:
            logger.debug("the service manager does not listen: %s", error)
