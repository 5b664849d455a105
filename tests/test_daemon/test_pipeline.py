"""What a frame says of animals that meet: through the whole way from masks to the observation."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from daemon.pipeline import Pipeline
from daemon.vision.parts import BodyPart, Segmentation
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.frame import ThermalFrame
from drivers.simulated import SimulatedCamera


class Told:
    """Says what it is told to."""

    name = "told"

    def __init__(self) -> None:
        self.squares: list[tuple[int, int, int]] = []

    def segment(self, celsius: NDArray[np.float32]) -> Segmentation:
        """Bodies as squares around (x, y)."""
        parts = np.zeros(celsius.shape, np.uint8)
        instances = np.zeros_like(parts)
        for instance, (x, y, half) in enumerate(self.squares, start=1):
            own = slice(y - half, y + half), slice(x - half, x + half)
            parts[own], instances[own] = BodyPart.BODY, instance
        return Segmentation(parts=parts, instances=instances)


def frame_after(frame: ThermalFrame, seconds: float) -> ThermalFrame:
    return dataclasses.replace(frame, captured_monotonic_ns=frame.captured_monotonic_ns + round(seconds * NS_PER_S))


def test_animals_that_meet_are_a_group_without_numbers() -> None:
    segmenter = Told()
    pipeline = Pipeline(segmenter, animals=3, mm_per_px=None)
    with SimulatedCamera.create(clock=SimulatedClock(1_790_046_000 * NS_PER_S)) as camera:
        frame = camera.read(timeout_s=1)
    segmenter.squares = [(60, 60, 8), (84, 60, 8), (200, 150, 8)]
    apart = pipeline.process(frame).observation
    assert [(each.animal, each.track, each.probability) for each in apart.animals] == [(1, 1, 1), (2, 2, 1), (3, 3, 1)]
    assert apart.groups == ()
    segmenter.squares = [(200, 150, 8), (72, 60, 12)]
    together = pipeline.process(frame_after(frame, 0.5)).observation
    third, both = together.animals
    assert (third.animal, third.candidates, third.group) == (3, (), None)
    assert (both.animal, both.candidates, both.group, both.posture) == (None, (1, 2), both.track, None)
    (group,) = together.groups
    assert (group.number, group.members, group.size, group.area_px) == (both.track, (1, 2), 2, 24 * 24)
    assert group.mean_celsius == both.parts[0].mean_celsius
    assert group.max_celsius == both.parts[0].max_celsius
