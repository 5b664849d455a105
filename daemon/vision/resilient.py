"""The networks with a safety net: slow ones skip frames, failing ones give way to the AI-free path, and come back."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median
from typing import Self

import numpy as np
from numpy.typing import NDArray

from daemon.vision.parts import Segmentation, Segmenter
from daemon.vision.segmenter import NetworkSegmenter
from drivers.clock import NS_PER_S, Clock
from drivers.frame import ThermalFrame

logger = logging.getLogger(__name__)

MODEL_SLOW = "model_slow"
"""Why a frame was not measured that was left out because the networks are too slow for all."""

MOST_EVERY = 10
"""When not even every tenth frame can be measured by the networks they give way to the AI-free path."""

BUSY_SHARE = 0.8
"""The networks may take so much of the time between two frames; the rest is for measuring and storing."""

RELAXED_SHARE = 0.6
"""Fewer frames are left out again only when the networks would take no more than this."""

FIRST_CALM_S = 10.0
LONGEST_CALM_S = 600.0
"""And only when that has been so for this long; for twice as long when they were too slow again soon after."""

SOON = 10
"""Within so many times the calm that was waited for."""

RUN_LIMIT_S = 5.0
"""A run that takes longer is broken off: well before a part of the service counts as stuck."""

MOST_FAILURES = 3
"""After so many failures in a row the networks give way to the AI-free path."""

WINDOW = 30
"""Latest frames over which failures are counted that do not come in a row."""

MOST_FAILURES_OF_WINDOW = 6
"""After so many of them, a fifth, they give way as well: what is lost is not random, but certain pictures."""

FIRST_RETRY_S = 60.0
LONGEST_RETRY_S = 600.0
"""Then they are tried again on one frame, after twice the time at each further try, up to this."""

_REMEMBERED = 15
"""Frames over whose median the load is judged: one late frame changes nothing."""

_LOOK_S = 0.25
"""How often the thread that breaks off runs looks at the clock."""


class Mode(StrEnum):
    """What finds the animals."""

    NETWORKS = "networks"
    THINNED = "thinned"
    """The networks, on every n-th frame; the others are not measured."""
    CLASSICAL = "classical"
    """The AI-free path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionState:
    """How the animals are found at present."""

    mode: Mode
    every: int
    """One frame of so many is measured."""
    reason: str | None
    """Why it is not all networks on every frame; None when it is."""
    degraded: bool
    """Whether that is worse than what was asked for."""


class Load:
    """How many frames must be left out so that the networks keep up: the n of every n-th."""

    def __init__(self) -> None:
        self._costs_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._intervals_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._last_ns: int | None = None
        self._calm_s = FIRST_CALM_S
        self._calm_since_ns: int | None = None
        self._relaxed_ns: int | None = None
        self.every = 1

    @property
    def cost_s(self) -> float | None:
        """Median of the latest runs; None before the first."""
        return median(self._costs_s) if self._costs_s else None

    def frame(self, monotonic_ns: int) -> None:
        """A frame that could be measured was captured at this moment."""
        if self._last_ns is not None and monotonic_ns > self._last_ns:
            self._intervals_s.append((monotonic_ns - self._last_ns) / NS_PER_S)
        self._last_ns = monotonic_ns

    def run(self, cost_s: float) -> int:
        """The networks took so long for one; the new n, which may be more than `MOST_EVERY`."""
        self._costs_s.append(cost_s)
        if not self.judged or self._last_ns is None:
            return self.every
        share = median(self._costs_s) / median(self._intervals_s)
        if share > BUSY_SHARE * self.every:
            self._too_slow(self._last_ns)
            self.every = math.ceil(share / BUSY_SHARE)
        elif self.every == 1 or share >= RELAXED_SHARE * (self.every - 1):
            self._calm_since_ns = None
        elif self._calm_since_ns is None:
            self._calm_since_ns = self._last_ns
        elif self._last_ns - self._calm_since_ns >= self._calm_s * NS_PER_S:
            self._calm_since_ns, self._relaxed_ns = None, self._last_ns
            self.every = max(1, math.ceil(share / RELAXED_SHARE))
        return self.every

    def _too_slow(self, now_ns: int) -> None:
        """Wait longer for calm the next time if the last was deceptive."""
        self._calm_since_ns = None
        if self._relaxed_ns is None:
            return
        soon = now_ns - self._relaxed_ns < SOON * self._calm_s * NS_PER_S
        self._calm_s = min(2 * self._calm_s, LONGEST_CALM_S) if soon else FIRST_CALM_S
        self._relaxed_ns = None

    @property
    def judged(self) -> bool:
        """Whether enough runs have been seen since the start, or since they were forgotten."""
        return len(self._costs_s) >= _REMEMBERED // 2 and len(self._intervals_s) >= _REMEMBERED // 2

    def bears(self, cost_s: float) -> bool:
        """Whether every `MOST_EVERY`-th frame could be measured at this cost."""
        return not self._intervals_s or cost_s <= BUSY_SHARE * MOST_EVERY * median(self._intervals_s)

    def forget(self) -> None:
        """Start anew, as with other networks."""
        self._costs_s.clear()
        self._calm_s, self._calm_since_ns, self._relaxed_ns = FIRST_CALM_S, None, None
        self.every = 1


class _Deadline:
    """A thread that breaks off runs that take too long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: tuple[NetworkSegmenter, float] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vision-deadline", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    @contextmanager
    def limit(self, networks: NetworkSegmenter) -> Iterator[None]:
        with self._lock:
            self._running = networks, time.monotonic() + RUN_LIMIT_S
        try:
            yield
        finally:
            with self._lock:
                self._running = None

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_S):
            with self._lock:
                if self._running is not None and time.monotonic() > self._running[1]:
                    self._running[0].interrupt()


class ResilientSegmenter:
    """What the service uses; fulfils `daemon.vision.parts.Segmenter`. Opened by `with`.

    Belongs to one thread; `state`, `networks`, `name` and `cost_s` may be read from any.

    Parameters
    ----------
    networks : NetworkSegmenter or None
        None measures without from the start.
    fallback : Segmenter
        The AI-free path.
    clock : Clock
        Its monotonic time counts for load and retries.
    why : str, optional
        Why there are no networks, or not all that were asked for.
    degraded : bool
        Whether that is worse than what was asked for.
    """

    def __init__(
        self,
        networks: NetworkSegmenter | None,
        fallback: Segmenter,
        *,
        clock: Clock,
        why: str | None = None,
        degraded: bool = False,
    ) -> None:
        self._networks = networks
        self.fallback = fallback
        self._clock = clock
        self._deadline = _Deadline()
        self._failures = 0
        self._failed: deque[bool] = deque(maxlen=WINDOW)
        """Whether each of the latest frames failed."""
        self._retry_at_ns = 0
        self._retry_s = FIRST_RETRY_S
        self._since_measured = 0
        self._load = Load()
        self.cost_s: float | None = None
        """What the networks take for one frame, median of the latest; None before they have run."""
        self.left_out_frames = 0
        """Frames that could have been measured and were not, since the start."""
        self.gpu_fails = False
        """Whether they gave way because they fail on a GPU: others, on the CPU, may do."""
        self._at_best = _at_best(networks, why, degraded=degraded)
        self.state = self._at_best
        """How the animals are found at present."""

    def __enter__(self) -> Self:
        self._deadline.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._deadline.stop()

    @property
    def networks(self) -> NetworkSegmenter | None:
        """Those in force, also while they give way."""
        return self._networks

    @property
    def name(self) -> str:
        """See `Segmenter`: of the networks also while they give way."""
        networks = self._networks
        return self.fallback.name if networks is None else networks.name

    @property
    def numbers(self) -> dict[str, str | int | float | None]:
        """How they do, for the evidence of events."""
        networks, cost_s = self._networks, self.cost_s
        return {
            "frame_ms": None if cost_s is None else round(1000 * cost_s, 1),
            "left_out_frames": self.left_out_frames,
            "failed_lately": sum(self._failed),
            "provider": None if networks is None else networks.provider,
        }

    def adopt(self, networks: NetworkSegmenter | None, why: str | None = None, *, degraded: bool = False) -> None:
        """Use other networks, or none, from the next frame on; `why` and `degraded` as at the start."""
        self._networks = networks
        self._load.forget()
        self.cost_s = None
        self._failures, self._retry_s = 0, FIRST_RETRY_S
        self._failed.clear()
        self.gpu_fails = False
        self.state = self._at_best = _at_best(networks, why, degraded=degraded)

    def left_out(self, frame: ThermalFrame) -> str | None:
        """Why a frame that could be measured is not to be; None when it is."""
        self._load.frame(frame.captured_monotonic_ns)
        if self.state.mode is not Mode.THINNED:
            return None
        self._since_measured += 1
        if self._since_measured < self.state.every:
            self.left_out_frames += 1
            return MODEL_SLOW
        self._since_measured = 0
        return None

    def segment(self, celsius: NDArray[np.float32]) -> Segmentation:
        """See `Segmenter`.

        Raises
        ------
        ModelError
            If the networks fail on this frame, which may be an accident: the next one may do.
        """
        networks = self._networks
        if networks is None or (self.state.mode is Mode.CLASSICAL and self._clock.monotonic_ns() < self._retry_at_ns):
            return self._by_warmth(celsius)
        start_ns = self._clock.monotonic_ns()
        try:
            with self._deadline.limit(networks):
                segmentation = networks.segment(celsius)
        except Exception as error:  # whatever networks make of a frame: capture and measuring go on
            took_s = (self._clock.monotonic_ns() - start_ns) / NS_PER_S
            self._failures += 1
            self._failed.append(True)
            if took_s > RUN_LIMIT_S:
                self._give_way(f"the networks took more than {RUN_LIMIT_S:g} s for one frame")
            elif self._failures >= MOST_FAILURES or self.state.mode is Mode.CLASSICAL:
                self._give_way(f"the networks fail: {error}")
            elif (failed := self._failed.count(True)) >= MOST_FAILURES_OF_WINDOW:
                self._give_way(f"the networks failed on {failed} of the latest {len(self._failed)} frames: {error}")
            else:
                raise
            self.gpu_fails = networks.provider == "cuda"
            return self._by_warmth(celsius)
        self._succeeded((self._clock.monotonic_ns() - start_ns) / NS_PER_S)
        return replace(segmentation, by=networks.name)

    def _by_warmth(self, celsius: NDArray[np.float32]) -> Segmentation:
        return replace(self.fallback.segment(celsius), by=self.fallback.name)

    def _succeeded(self, took_s: float) -> None:
        self._failures = 0
        self._failed.append(False)
        every = self._load.run(took_s)
        self.cost_s = self._load.cost_s or took_s
        takes = f"the networks take {1000 * self.cost_s:.0f} ms for one frame"
        if every > MOST_EVERY or (self.state.mode is Mode.CLASSICAL and not self._load.bears(took_s)):
            self._give_way(f"{takes}, too long even for one of {MOST_EVERY} frames")
            self._load.forget()
            return
        if self._load.judged and len(self._failed) == WINDOW:
            self._retry_s = FIRST_RETRY_S
        if every == self.state.every and self.state.mode is not Mode.CLASSICAL:
            return
        if every == 1:
            logger.info("the networks measure every frame again")
            self.state = self._at_best
            return
        logger.warning("%s: one frame of %d is measured", takes, every)
        self._since_measured = 0
        self.state = VisionState(mode=Mode.THINNED, every=every, reason=takes, degraded=True)

    def _give_way(self, reason: str) -> None:
        """Measure without the networks until the next try."""
        if self.state.mode is not Mode.CLASSICAL:
            logger.error("%s; animals are found without them, and they are tried again", reason)
        self._failed.clear()
        self._retry_at_ns = self._clock.monotonic_ns() + round(self._retry_s * NS_PER_S)
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)
        self.state = VisionState(mode=Mode.CLASSICAL, every=1, reason=reason, degraded=True)


def _at_best(networks: NetworkSegmenter | None, why: str | None, *, degraded: bool) -> VisionState:
    """How animals are found as long as nothing is slow or fails."""
    mode = Mode.CLASSICAL if networks is None else Mode.NETWORKS
    return VisionState(mode=mode, every=1, reason=why, degraded=degraded)
