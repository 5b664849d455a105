"""How many labelled random scenes one core makes in a second: at least 40, by CPU time."""

import time

from drivers.vivarium.snapshot import random_scene
from tests.bench.limits import beside_limit

SCENES = 200
LEAST_PER_S = 40


def test_labelled_scenes_per_second_and_core() -> None:
    random_scene(0)  # what all scenes share is made once
    start = time.process_time()
    for seed in range(SCENES):
        random_scene(seed)
    per_s = SCENES / (time.process_time() - start)
    print(f"labelled scenes per second of CPU time: {beside_limit(per_s, LEAST_PER_S, at_least=True)}")  # noqa: T201
    assert per_s > LEAST_PER_S
