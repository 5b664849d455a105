"""One frame on demand: a picture for people, degrees for programs, and what is to be known of both."""

import hashlib
import io
import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from daemon.live import LiveView
from daemon.messaging.payloads import NO_NAMES, AnimalNames, observation_payload
from daemon.order import Order, OrderSlot, Outcome
from daemon.pipeline import Measured
from drivers.clock import NS_PER_S, Clock
from drivers.durable import sync_directory, write_durably
from drivers.frame import ThermalFrame

logger = logging.getLogger(__name__)

MOST_SNAPSHOTS = 1000
"""Kept at most, some 300 MB: nothing that somebody asked for is deleted by itself, so the next one is refused."""

FRESH_S = 0.5
"""A frame may have been on its way for so long when the order came."""

WAIT_S = 0.05
IDLE_S = 0.5


class Snapshots:
    """Takes a frame of the moment of the order or after it, in a thread of its own: disks may be slow.

    Parameters
    ----------
    directory : Path
        One folder a day below it.
    box : str
        Begins every name.
    live : LiveView
        Where measured frames appear.
    take_one : callable
        Has the next good frame measured, also when no plan wants it.
    obstacle : callable
        Why there can be no frame or file now, as one word and a sentence; None when there can.
    clock : Clock
        Monotonic time.
    names : mapping
        Of the animals.
    beat : callable
        Told again and again as long as the thread goes on.
    """

    def __init__(
        self,
        directory: Path,
        *,
        box: str,
        live: LiveView,
        take_one: Callable[[], None],
        obstacle: Callable[[], tuple[str, str] | None],
        clock: Clock,
        names: AnimalNames = NO_NAMES,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._box = box
        self._live = live
        self._take_one = take_one
        self._obstacle = obstacle
        self._clock = clock
        self._names = names
        self._beat = beat
        self._slot = OrderSlot()
        self._news = threading.Event()
        self._stopping = threading.Event()

    def place(self, order: Order) -> None:
        """Ask for a snapshot, from any thread; what cannot be is refused at once."""
        obstacle = self._obstacle()
        if obstacle is not None:
            order.answer(Outcome("refused", *obstacle))
        elif not self._slot.place(order):
            order.answer(Outcome("refused", "busy", "another snapshot is being taken"))
        else:
            self._news.set()

    def stop(self) -> None:
        """End `run` soon."""
        self._stopping.set()
        self._news.set()

    def run(self) -> None:
        """Take what is asked for until stopped."""
        while not self._stopping.is_set():
            self._beat()
            self._news.wait(IDLE_S)
            self._news.clear()
            order = self._slot.take()
            if order is not None:
                self._take(order)

    def _take(self, order: Order) -> None:
        fresh_ns, seen = self._clock.monotonic_ns() - round(FRESH_S * NS_PER_S), self._live.newest
        self._take_one()
        while order.outcome is None and not self._stopping.is_set():
            self._beat()
            newest = self._live.newest
            if newest is None or newest is seen:
                self._stopping.wait(WAIT_S)
            elif newest[0].captured_monotonic_ns >= fresh_ns:
                order.answer(self._keep(*newest))
            else:  # one that had waited to be measured
                seen = newest
                self._take_one()

    def _keep(self, frame: ThermalFrame, measured: Measured) -> Outcome:
        try:
            kept = sum(1 for _ in self._directory.glob("*/*.npy"))
            if kept >= MOST_SNAPSHOTS:
                message = f"{kept} snapshots are in {self._directory}: move or delete some of them"
                return Outcome("refused", "too_many", message, data={"snapshots": kept})
            return Outcome("done", data=self._write(frame, measured))
        except OSError as error:
            logger.warning("a snapshot could not be written: %s", error)
            return Outcome("failed", "disk", f"{self._directory}: {error.strerror or error}")

    def _write(self, frame: ThermalFrame, measured: Measured) -> dict[str, str | int]:
        moment = datetime.fromtimestamp(frame.captured_utc_ns / NS_PER_S, UTC)
        folder = self._directory / f"{moment:%Y-%m-%d}"
        if not folder.exists():
            folder.mkdir(parents=True)
            sync_directory(folder.parent)
        stem = f"{self._box}_{moment:%Y-%m-%dT%H%M%S.%f}Z"
        degrees = io.BytesIO()
        np.save(degrees, frame.celsius)
        picture = self._live.picture_of(frame, measured)
        facts = {
            "degrees": f"{stem}.npy",
            "degrees_sha256": hashlib.sha256(degrees.getvalue()).hexdigest(),
            "picture": f"{stem}.png",
            "picture_sha256": hashlib.sha256(picture).hexdigest(),
        }
        observation = json.loads(observation_payload(measured.observation, self._names))
        write_durably(folder / f"{stem}.npy", degrees.getvalue())
        write_durably(folder / f"{stem}.png", picture)
        write_durably(folder / f"{stem}.json", json.dumps({**facts, "observation": observation}, indent=1).encode())
        place = folder.relative_to(self._directory.parent)
        return {
            "degrees": str(place / facts["degrees"]),
            "picture": str(place / facts["picture"]),
            "degrees_sha256": facts["degrees_sha256"],
            "captured_utc_ns": frame.captured_utc_ns,
            "sequence": frame.sequence,
        }
