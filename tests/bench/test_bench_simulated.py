"""What a simulated frame costs, of one animal and of several, and what a moment without a picture."""

from itertools import count

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from drivers.clock import NS_PER_S, SimulatedClock
from drivers.scene import Scene
from drivers.simulated import SimulatedCamera
from tests.bench.limits import told_beside_limit

NIGHT_UTC_S = 1_790_046_000
LIMIT_SCENE_MS = 4.0
LIMIT_FRAME_MS = 8.0
"""From scene to degrees."""
LIMIT_CROWDED_FRAME_MS = 25.0
"""The same with several animals: 40 frames a second on one core."""


@pytest.mark.parametrize("animals", [1, 3, 6])
def test_one_picture_of_the_scene(benchmark: BenchmarkFixture, animals: int) -> None:
    scene, ticks = Scene(1, animals), count()
    frame = benchmark(lambda: scene.at(NIGHT_UTC_S + next(ticks) * 0.04))
    if animals == 1:
        told_beside_limit(benchmark, LIMIT_SCENE_MS)
    assert len(frame.animals) == animals


def test_the_truth_of_one_moment_of_three_animals(benchmark: BenchmarkFixture) -> None:
    scene, ticks = Scene(1, 3), count()
    moment = benchmark(lambda: scene.moment(NIGHT_UTC_S + next(ticks)))
    assert len(moment.animals) == 3


@pytest.mark.parametrize("animals", [1, 3, 6])
def test_one_frame_rendered_encoded_and_decoded(benchmark: BenchmarkFixture, animals: int) -> None:
    with SimulatedCamera.create(clock=SimulatedClock(NIGHT_UTC_S * NS_PER_S), animals=animals) as camera:
        frame = benchmark(lambda: camera.read(timeout_s=1))
    told_beside_limit(benchmark, LIMIT_FRAME_MS if animals == 1 else LIMIT_CROWDED_FRAME_MS)
    assert frame.sequence > 0


def test_one_frame_of_a_reader_that_takes_one_in_a_second(benchmark: BenchmarkFixture) -> None:
    clock = SimulatedClock(NIGHT_UTC_S * NS_PER_S)

    with SimulatedCamera.create(clock=clock) as camera:

        def next_second() -> int:
            clock.advance(1.0)
            return camera.read(timeout_s=1).sequence

        assert benchmark(next_second) > 0
