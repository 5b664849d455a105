"""What the newest frames showed, in steps of a few seconds: the past of what is judged on each frame, for its plots."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from daemon.events import EventKind
from daemon.frame_step import AnimalStep, FrameStep
from daemon.maintenance import Maintenance, overlapping
from daemon.observation import FrameObservation
from daemon.plot_data import PlotData
from daemon.rules import animals_there, trunks_celsius
from daemon.vision.parts import BY_SHAPE
from drivers.clock import NS_PER_S

LEAST_STEP_S = 5
STEPS = 720
"""So many are kept: of five seconds an hour, of those of rare frames more; 0.6 MB with six animals."""

BEFORE_S = 1200
"""A plot begins so long before it was wrong."""

LEAST_SHOWN_S = 1800
"""And shows at least so much."""

_MEASURES = {
    EventKind.ANIMAL_TOO_HOT: "trunk_p95_celsius, highest",
    EventKind.ANIMAL_TOO_COLD: "trunk_p95_celsius, lowest",
    EventKind.ANIMAL_NOT_SEEN: "share of frames that show it",
    EventKind.CAMERA_LOST: "frames a minute",
    EventKind.CAMERA_FOUND: "frames a minute",
    EventKind.VISION_DEGRADED: "share of frames measured by the networks",
}
"""What the plots of events show."""


class FrameSeries:
    """Bounded; belongs to one thread.

    Parameters
    ----------
    zone : ZoneInfo
        Of the housing room.
    interval_s : float
        Longest regular time between two frames; 0 where there is none.
    """

    def __init__(self, zone: ZoneInfo, *, interval_s: float) -> None:
        self.step_s = max(LEAST_STEP_S, math.ceil(2 * interval_s))
        """Two frames at least, so that none is without just because frames are rare."""
        self._zone = zone
        self._steps: deque[FrameStep] = deque(maxlen=STEPS)

    @property
    def steps(self) -> Sequence[FrameStep]:
        """What is kept, oldest first."""
        return self._steps

    def add(self, observation: FrameObservation) -> None:
        """Note a frame, also one that was not measured."""
        step = self._step(observation.captured_utc_ns // (self.step_s * NS_PER_S))
        step.frames += 1
        if observation.not_measured is not None:
            return
        step.measured += 1
        step.by_networks += observation.segmenter not in (None, BY_SHAPE)
        for number in animals_there(observation):
            step.animals.setdefault(number, AnimalStep()).seen += 1
        for number, celsius in trunks_celsius(observation).items():
            animal = step.animals[number]
            animal.warm += 1
            animal.hottest_celsius = max(animal.hottest_celsius, celsius)
            animal.coldest_celsius = min(animal.coldest_celsius, celsius)

    def restore(self, steps: Iterable[FrameStep]) -> None:
        """Take up the past, in its order, in place of what there is."""
        self._steps.clear()
        self._steps.extend(steps)

    def plot_data(
        self,
        kind: EventKind,
        animal: int | None,
        *,
        since_utc_ns: int,
        until_utc_ns: int,
        threshold: float | None,
        maintenance: Iterable[Maintenance] = (),
    ) -> PlotData | None:
        """What the plot of an event shows; None for events of a kind that has none here, and before the first frame."""
        measure = _MEASURES.get(kind)
        if measure is None:
            return None
        step_ns = self.step_s * NS_PER_S
        last = until_utc_ns // step_ns
        lasted_s = max(0, until_utc_ns - since_utc_ns) // NS_PER_S
        count = max(1, min(max(lasted_s + BEFORE_S, LEAST_SHOWN_S) // self.step_s, STEPS))
        steps = np.arange(last - count + 1, last + 1)
        values, coverage = np.full(count, np.nan), np.zeros(count)
        for step in self._steps:
            place = step.number - int(steps[0])
            if 0 <= place < count:
                values[place], coverage[place] = self._shown(kind, animal, step)
        if kind in (EventKind.CAMERA_LOST, EventKind.CAMERA_FOUND) and self._steps:
            before = np.arange(count) < self._steps[0].number - int(steps[0])
            values[np.isnan(values) & ~before] = 0.0
        if not any(steps[0] <= step.number <= last for step in self._steps):
            return None
        local_s = [
            at_s + round(offset.total_seconds())
            for at_s in (steps * self.step_s).tolist()
            if (offset := datetime.fromtimestamp(at_s, self._zone).utcoffset()) is not None
        ]
        nothing = np.full(count, np.nan)
        return PlotData(
            title=kind.value + ("" if animal is None else f", animal {animal}"),
            measure=measure,
            steps=steps,
            step_s=self.step_s,
            values=values,
            coverage=coverage,
            low=nothing,
            high=nothing,
            thresholds=nothing if threshold is None else np.full(count, threshold),
            at_work=overlapping(list(maintenance), steps * self.step_s // 60),
            since=since_utc_ns // step_ns,
            local_s=np.array(local_s),
        )

    def _step(self, number: int) -> FrameStep:
        while self._steps and self._steps[-1].number > number:  # the clock was set back
            self._steps.pop()
        if not self._steps or self._steps[-1].number != number:
            self._steps.append(FrameStep(number))
        return self._steps[-1]

    def _shown(self, kind: EventKind, animal: int | None, step: FrameStep) -> tuple[float, float]:
        """Value and coverage of a step."""
        measured = step.measured / step.frames if step.frames else 0.0
        seen = step.animals.get(animal or 0, AnimalStep())
        match kind:
            case EventKind.ANIMAL_TOO_HOT | EventKind.ANIMAL_TOO_COLD:
                hot = kind is EventKind.ANIMAL_TOO_HOT
                celsius = seen.hottest_celsius if hot else seen.coldest_celsius
                return celsius if seen.warm else math.nan, seen.warm / step.frames if step.frames else 0.0
            case EventKind.ANIMAL_NOT_SEEN:
                return seen.seen / step.measured if step.measured else math.nan, measured
            case EventKind.VISION_DEGRADED:
                return step.by_networks / step.frames if step.frames else math.nan, measured
            case _:
                return step.frames * 60 / self.step_s, measured
