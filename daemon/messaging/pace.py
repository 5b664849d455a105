"""How often something may be published."""

from drivers.clock import NS_PER_S, Clock


class Pace:
    """When each topic was last published. Belongs to one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent_ns: dict[str, int] = {}

    def sent(self, topic: str) -> None:
        """It was published now."""
        self._sent_ns[topic] = self._clock.monotonic_ns()

    def wait_s(self, topic: str, least_interval_s: float) -> float:
        """How long the topic must wait; 0 when it may be published now."""
        sent_ns = self._sent_ns.get(topic)
        if sent_ns is None:
            return 0.0
        due_ns = sent_ns + round(least_interval_s * NS_PER_S)
        return max(due_ns - self._clock.monotonic_ns(), 0) / NS_PER_S

    def forget(self) -> None:
        """Everything may be published now."""
        self._sent_ns.clear()


class Bucket:
    """So many at once and so many a second. Belongs to one thread."""

    def __init__(self, clock: Clock, *, at_once: int, per_s: float) -> None:
        self._clock = clock
        self._at_once = at_once
        self._per_s = per_s
        self._left = float(at_once)
        self._at_ns = clock.monotonic_ns()

    def wait_s(self) -> float:
        """How long the next one must wait; 0 when it may go now."""
        now_ns = self._clock.monotonic_ns()
        self._left = min(self._at_once, self._left + self._per_s * (now_ns - self._at_ns) / NS_PER_S)
        self._at_ns = now_ns
        return max(1 - self._left, 0.0) / self._per_s

    def take(self) -> bool:
        """One goes now; False when it must wait."""
        if self.wait_s():
            return False
        self._left -= 1
        return True
