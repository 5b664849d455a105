"""How long it takes to follow four animals in one frame; with the measures of a frame the limit is 3 ms of one core."""

from itertools import count

from pytest_benchmark.fixture import BenchmarkFixture

from daemon.track import Following, Tracker
from daemon.vision.parts import Segmentation
from drivers.scene import Scene
from tests.bench.limits import told_beside_limit

ANIMALS = 4
DISTINCT_FRAMES = 25
FIRST_UTC_S = 1_790_046_000
LIMIT_MS = 2.0
"""The measures of the frame have the third (`test_bench_measures.py`)."""


def test_follow_four_animals(benchmark: BenchmarkFixture) -> None:
    scene = Scene(1, ANIMALS)
    pictures = [scene.at(FIRST_UTC_S + step / 25) for step in range(DISTINCT_FRAMES)]
    frames = [(Segmentation(parts=each.parts, instances=each.instances), each.radiometric_celsius) for each in pictures]
    tracker, numbers = Tracker(ANIMALS), count()
    there_and_back = [*range(DISTINCT_FRAMES), *range(DISTINCT_FRAMES - 2, 0, -1)]

    def one() -> Following:
        number = next(numbers)
        segmentation, celsius = frames[there_and_back[number % len(there_and_back)]]
        return tracker.follow(segmentation, celsius, number * 40_000_000)

    following = benchmark(one)
    told_beside_limit(benchmark, LIMIT_MS)
    assert len(following.instances) == ANIMALS
