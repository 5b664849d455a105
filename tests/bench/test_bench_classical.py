"""How long finding and measuring an animal takes; the limit is 8 ms of one core."""

from itertools import cycle

import cv2
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from daemon.measure import measure
from daemon.observation import FrameObservation
from daemon.track import Tracker
from daemon.vision.classical import ClassicalSegmenter
from drivers.clock import SimulatedClock
from drivers.frame import ThermalFrame
from drivers.simulated import SimulatedCamera
from tests.bench.limits import told_beside_limit

DISTINCT_FRAMES = 16
BETWEEN_FRAMES_S = 37.0
LIMIT_MS = 8.0


@pytest.fixture(scope="module")
def frames() -> list[ThermalFrame]:
    """One rat in different postures."""
    clock = SimulatedClock(1_750_000_000_000_000_000)
    taken = []
    with SimulatedCamera.create(clock=clock) as camera:
        for _ in range(DISTINCT_FRAMES):
            clock.advance(BETWEEN_FRAMES_S)
            taken.append(camera.read(timeout_s=1))
    return taken


def test_segment_number_and_measure_one_frame(benchmark: BenchmarkFixture, frames: list[ThermalFrame]) -> None:
    segmenter, tracker, endless = ClassicalSegmenter(1, 150), Tracker(1), cycle(frames)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)

    def one() -> FrameObservation:
        frame = next(endless)
        segmentation = segmenter.segment(frame.celsius)
        following = tracker.follow(segmentation, frame.celsius, frame.captured_monotonic_ns)
        numbers = {instance: followed.track for instance, followed in following.instances.items()}
        return measure(frame, segmentation, numbers=numbers, mm_per_px=1.0, block_key=None, planned_utc_ns=None)

    try:
        observation = benchmark(one)
    finally:
        cv2.setNumThreads(threads)
    told_beside_limit(benchmark, LIMIT_MS)
    assert len(observation.animals) == 1
    assert len(observation.animals[0].parts) == 3
