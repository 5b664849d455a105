"""How long the measures of a frame take with four animals; the limit is 1 ms of one core."""

import math
from itertools import count

import cv2
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from daemon.minute_values import MinuteCollector
from daemon.posture import posture_of
from daemon.settings import ZoneSettings
from daemon.vision.parts import BodyPart
from tests.observations import frame, rat

ANIMALS = 4
ZONES = tuple(
    ZoneSettings(name=f"zone{number}", kind=kind, polygon=((x, 10), (x + 50, 10), (x + 60, 90), (x + 20, 120), (x, 60)))
    for number, (kind, x) in enumerate((("nest", 5), ("food", 70), ("water", 130)))
)


def collector() -> MinuteCollector:
    return MinuteCollector(animals=ANIMALS, zones=ZONES, mm_per_px=1.5, due=lambda _minute: 60.0)


@pytest.mark.parametrize("rate_hz", [1, 25])
def test_collect_one_frame_of_four_animals(benchmark: BenchmarkFixture, rate_hz: int) -> None:
    minutes, numbers = collector(), count()
    animals = [
        tuple(rat(n, at=(60 * n + 9 * math.sin(step), 90 + 9 * math.cos(step))) for n in range(1, ANIMALS + 1))
        for step in range(60)
    ]
    frames = (frame(number / rate_hz, *animals[number % 60], nest=25.0) for number in numbers)
    taken = [next(frames) for _ in range(20_000)]
    endless = iter(taken)

    def one() -> int:
        return len(minutes.add(next(endless)))

    benchmark.pedantic(one, rounds=6000)  # type: ignore[no-untyped-call]  # whole minutes are among them


def test_close_a_minute_of_four_animals(benchmark: BenchmarkFixture) -> None:
    frames = [frame(second, *(rat(n, at=(60.0 * n, 90)) for n in range(1, ANIMALS + 1))) for second in range(60)]

    def filled() -> tuple[tuple[MinuteCollector], dict[str, object]]:
        minutes = collector()
        for each in frames:
            minutes.add(each)
        return (minutes,), {}

    values = benchmark.pedantic(MinuteCollector.finish, setup=filled, rounds=50)  # type: ignore[no-untyped-call]
    assert len(values) > 100


def test_posture_of_one_animal(benchmark: BenchmarkFixture) -> None:
    picture = np.zeros((192, 256), np.uint8)
    cv2.ellipse(picture, (120, 100), (45, 18), 20, 0, 360, int(BodyPart.BODY), -1)
    cv2.ellipse(picture, (75, 84), (14, 10), 20, 0, 360, int(BodyPart.HEAD), -1)
    cv2.line(picture, (160, 116), (230, 150), int(BodyPart.TAIL), 4)
    parts = {part: np.nonzero(picture == part) for part in BodyPart}
    found = benchmark(lambda: posture_of({part: (rows, columns) for part, (rows, columns) in parts.items()}))
    assert found is not None
