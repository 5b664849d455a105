"""The part of the outbox that is on its way: what may be sent next, and what the broker has confirmed."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from daemon.messaging.outbox import OutboxStore, QueuedMessage
from drivers.clock import NS_PER_S, Clock
from drivers.errors import StoreError

logger = logging.getLogger(__name__)

WINDOW_MESSAGES = 200
"""Messages sent but not yet deleted; so many at most are sent twice after a reconnect or a crash.

Measured: paho's own queue of 90,000 drains at 140/s, an outbox with this window at 9,900/s.
"""

FLUSH_MESSAGES = 100
"""Confirmed messages that are deleted in one transaction at once; fewer wait for `FLUSH_AFTER_S`."""

FLUSH_AFTER_S = 0.2
"""How long a confirmed message may wait for others before it is deleted."""

STORE_RETRY_S = 1.0
"""Pause after the database refused."""

REFUSED_PAUSE_S = 30.0
"""Pause after the broker refused a message, for instance for want of a right."""


@dataclass(frozen=True, slots=True)
class _InFlight:
    message: QueuedMessage
    sent_monotonic_ns: int


class OutboxWindow:
    """Walks through the outbox in order. Except for `notify` and the counters it belongs to one thread."""

    def __init__(self, store: OutboxStore, clock: Clock) -> None:
        self.confirmed = 0
        """Messages that a broker took, since the start."""
        self._store = store
        self._clock = clock
        self._news = threading.Event()
        self._fetched: deque[QueuedMessage] = deque()
        self._fetched_up_to = 0
        self._in_flight: dict[int, _InFlight] = {}
        self._undeleted: dict[int, None] = {}
        self._flush_at_ns: int | None = None
        self._store_retry_at_ns: int | None = None
        self._refused_until_ns: int | None = None

    def notify(self) -> None:
        """The store has new messages. From any thread."""
        self._news.set()

    @property
    def in_flight(self) -> int:
        """Messages sent and not yet confirmed."""
        return len(self._in_flight)

    @property
    def oldest_sent_monotonic_ns(self) -> int | None:
        """When the message was sent that waits longest for its confirmation."""
        first = next(iter(self._in_flight.values()), None)
        return None if first is None else first.sent_monotonic_ns

    @property
    def settled(self) -> bool:
        """Whether all that is known to be in the outbox has been confirmed."""
        return not self._in_flight and not self._fetched and not self._news.is_set()

    def restart(self) -> None:
        """A new connection: whatever was in flight is sent again, from the oldest on."""
        self._in_flight.clear()
        self._refused_until_ns = None
        self._rewind()

    def _rewind(self) -> None:
        self._fetched.clear()
        self._fetched_up_to = 0
        self._news.set()

    def next_message(self) -> QueuedMessage | None:
        """What to send now; None when there is nothing, or the window is full. Follow it with `sent`."""
        if self._paused() or len(self._in_flight) + len(self._undeleted) >= WINDOW_MESSAGES:
            return None
        if not self._fetched:
            self._fetch()
        return self._fetched[0] if self._fetched else None

    def _paused(self) -> bool:
        if self._refused_until_ns is None:
            return False
        if self._in_flight or self._clock.monotonic_ns() < self._refused_until_ns:
            return True
        self._refused_until_ns = None
        self._rewind()
        return False

    def _fetch(self) -> None:
        if not self._news.is_set():
            return
        self._news.clear()  # before the query: what is stored meanwhile sets it again

        def query() -> None:
            messages = self._store.queued_messages(after_id=self._fetched_up_to, limit=WINDOW_MESSAGES)
            if messages:
                self._fetched_up_to = messages[-1].message_id
                self._news.set()
            self._fetched.extend(message for message in messages if message.message_id not in self._undeleted)

        if not self._with_store(query):
            self._news.set()

    def sent(self, key: int) -> None:
        """The message of `next_message` is on its way; `key` is what the broker will confirm."""
        self._in_flight[key] = _InFlight(self._fetched.popleft(), self._clock.monotonic_ns())

    def confirm(self, key: int) -> None:
        """The broker took the message; keys of other messages are ignored."""
        entry = self._in_flight.pop(key, None)
        if entry is None:
            return
        self.confirmed += 1
        self._undeleted[entry.message.message_id] = None
        if self._flush_at_ns is None:
            self._flush_at_ns = self._clock.monotonic_ns() + round(FLUSH_AFTER_S * NS_PER_S)

    def refuse(self, key: int) -> QueuedMessage | None:
        """The broker did not take it. The message stays in the outbox and is tried again, with all behind it, later."""
        entry = self._in_flight.pop(key, None)
        if entry is None:
            return None
        self._refused_until_ns = self._clock.monotonic_ns() + round(REFUSED_PAUSE_S * NS_PER_S)
        return entry.message

    def flush_if_due(self) -> None:
        """Delete confirmed messages when there are enough of them, or one has waited long enough."""
        due = self._flush_at_ns is not None and self._clock.monotonic_ns() >= self._flush_at_ns
        if due or len(self._undeleted) >= FLUSH_MESSAGES:
            self.flush()

    def flush(self) -> None:
        """Delete all confirmed messages in one transaction."""
        if self._undeleted and self._with_store(lambda: self._store.acknowledge_messages(list(self._undeleted))):
            self._undeleted.clear()
            self._flush_at_ns = None

    def wait_s(self, longest_s: float) -> float:
        """How long nothing is to be done here, at most `longest_s`."""
        now_ns = self._clock.monotonic_ns()
        retry_ns = self._store_retry_at_ns or now_ns
        moments = []
        if self._flush_at_ns is not None:
            moments.append(max(self._flush_at_ns, retry_ns))
        if self._refused_until_ns is not None and not self._in_flight:
            moments.append(self._refused_until_ns)
        if retry_ns > now_ns:
            moments.append(retry_ns)
        return max(min([longest_s, *((moment - now_ns) / NS_PER_S for moment in moments)]), 0.0)

    def _with_store(self, action: Callable[[], None]) -> bool:
        """Run it; False when the database refuses now, or did so a moment ago."""
        now_ns = self._clock.monotonic_ns()
        if self._store_retry_at_ns is not None and now_ns < self._store_retry_at_ns:
            return False
        try:
            action()
        except StoreError as error:
            if self._store_retry_at_ns is None:
                logger.error("the outbox cannot be used, events wait: %s", error)
            self._store_retry_at_ns = now_ns + round(STORE_RETRY_S * NS_PER_S)
            return False
        if self._store_retry_at_ns is not None:
            logger.info("the outbox can be used again")
            self._store_retry_at_ns = None
        return True
