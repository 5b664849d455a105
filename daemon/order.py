"""What one thread asks of another: placed without waiting, taken once, answered once."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an order."""

    state: Literal["done", "refused", "failed"]
    reason: str = ""
    """One word for programs; empty when it is done."""
    message: str = ""
    """A sentence for people."""
    data: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    """The state that it led to, or found: numbers with their units in the names."""


class Order:
    """One thing to be done by the thread that can. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcome: Outcome | None = None

    @property
    def outcome(self) -> Outcome | None:
        """The answer; None while there is none."""
        with self._lock:
            return self._outcome

    def answer(self, outcome: Outcome) -> bool:
        """Answer it, unless it is answered: then nothing changes, and False says so."""
        with self._lock:
            if self._outcome is not None:
                return False
            self._outcome = outcome
            return True


class OrderSlot:
    """Room for one order that waits to be taken. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Order | None = None

    def place(self, order: Order) -> bool:
        """Leave an order; False when another one waits. One that was answered meanwhile waits no longer."""
        with self._lock:
            if self._waiting is not None and self._waiting.outcome is None:
                return False
            self._waiting = order
            return True

    def take(self) -> Order | None:
        """The order that waits, once; None when there is none, or it was answered before anybody took it."""
        with self._lock:
            order, self._waiting = self._waiting, None
        return None if order is None or order.outcome is not None else order
