"""What a frame of four animals costs once it is segmented: followed, measured, collected and judged by the worker."""

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from daemon.messaging.announcer import Silence
from daemon.minute_rules import MinuteRules
from daemon.minute_series import DAY_MINUTES, MINUTE_NS
from daemon.minute_value import MinuteValue
from daemon.minute_values import collector_of
from daemon.opencv import one_thread
from daemon.pipeline import Pipeline, nests_of
from daemon.reference import References
from daemon.rules import AlertRules
from daemon.sampling import Sample
from daemon.settings import Settings
from daemon.store.repository import open_store
from daemon.vision.parts import Segmentation
from daemon.watching import Watching
from daemon.worker import Worker
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.frame import ThermalFrame
from drivers.scene import Scene
from drivers.simulated import SimulatedCamera
from tests.bench.limits import beside_limit

ANIMALS = 4
SEED = 1
LIMIT_MS = 3.0
START_UTC_S = 1_790_046_000 + 40
"""Tuesday 2026-09-22 03:00 UTC, in the dark, when rats meet; a minute ends 20 seconds later."""
PAST_DAYS = 8
CONFIG = {
    "measure": {"animals": ANIMALS, "mm_per_px": 1.5},
    "zone": [
        {"name": kind, "kind": kind, "polygon": [[x, 10], [x + 50, 10], [x + 50, 90], [x, 90]]}
        for kind, x in (("nest", 5), ("food", 70), ("water", 130))
    ],
    "reference": [{"polygon": [[230, 170], [245, 170], [245, 185], [230, 185]], "celsius": 30.0}],
}


class TrueMasks:
    """Finds in each frame what is there, in no time: what finding costs has benchmarks of its own."""

    name = "truth"

    def __init__(self, template: ThermalFrame) -> None:
        self._scene = Scene(SEED, ANIMALS)
        self._template = template
        self._next = Segmentation(parts=np.zeros((192, 256), np.uint8), instances=np.zeros((192, 256), np.uint8))

    def look(self, utc_ns: int) -> ThermalFrame:
        """The frame of a moment, which is segmented next."""
        shown = self._scene.at(utc_ns / NS_PER_S)
        self._next = Segmentation(parts=shown.parts.copy(), instances=shown.instances.copy())
        celsius = shown.radiometric_celsius.astype(np.float32)
        return replace(self._template, celsius=celsius, captured_utc_ns=utc_ns, captured_monotonic_ns=utc_ns)

    def segment(self, _celsius: object) -> Segmentation:
        """What is in the frame that was looked at last."""
        return self._next


def past_of(rules: MinuteRules) -> Iterator[MinuteValue]:
    """A past of all that the rules look back on, so that each has its baseline."""
    dice, last = random.Random(1), START_UTC_S // 60
    for minute in range(last - PAST_DAYS * DAY_MINUTES, last):
        for measure in sorted(rules.measures):
            cage = measure in ("ambient_celsius", "frames_coverage", "animals_seen")
            for animal in (None,) if cage else range(1, ANIMALS + 1):
                yield MinuteValue(
                    measure=measure,
                    minute_utc_ns=minute * MINUTE_NS,
                    animal=animal,
                    value=dice.gauss(25, 1),
                    uncertainty=None,
                    coverage=1.0,
                    samples=60,
                )


@pytest.mark.benchmark(timer=time.thread_time)
@pytest.mark.parametrize(("rate_hz", "frames"), [pytest.param(25, 900, id="25 fps"), pytest.param(1, 360, id="1 fps")])
def test_a_frame_of_four_animals_is_followed_measured_and_judged(
    benchmark: BenchmarkFixture, rate_hz: int, frames: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seconds of the core that the worker's thread takes, from segmentation to event; the database has its own test."""
    settings = Settings.model_validate({**CONFIG, "box": {"data_dir": tmp_path, "time_zone": "UTC"}})
    clock = SimulatedClock(START_UTC_S * NS_PER_S)
    with SimulatedCamera.create(clock=clock, seed=SEED) as camera:
        masks, watching = TrueMasks(camera.read(timeout_s=1)), Watching(settings)
    watching.rules.load(past_of(watching.rules))
    with one_thread(), open_store(f"sqlite:///{tmp_path / 'vivarium.db'}", outbox_limit=100) as store:
        worker = Worker(
            pipeline=Pipeline(
                masks,
                animals=ANIMALS,
                mm_per_px=settings.measure.mm_per_px,
                references=References(settings.reference),
                nests=nests_of(settings.zones),
            ),
            minutes=collector_of(lambda: settings, maintenance=lambda: watching.stretches),
            rules=AlertRules(settings.frame_alerts, animals=ANIMALS),
            store=store,
            run_id=1,
            clock=clock,
            announcer=Silence(),
            commit_interval_s=settings.database.commit_interval_s,
            on_measured=lambda _frame, _measured: None,
            beat=lambda: None,
            watching=watching,
        )

        def next_frame() -> tuple[tuple[Sample], dict[str, object]]:
            clock.advance(1 / rate_hz)
            return (Sample(frame=masks.look(clock.utc_ns()), block_key=None, planned_utc_ns=None),), {}

        def one(sample: Sample) -> None:
            worker.handle(sample)
            worker.tick()

        benchmark.pedantic(one, setup=next_frame, rounds=frames)  # type: ignore[no-untyped-call]  # the plugin's gap
        assert worker.failed_frames == 0
        assert worker.waiting == worker.measured_frames == frames
        assert len(watching.standing) > len(settings.minute_rules()), "the rules have judged a minute of each animal"
    assert benchmark.stats is not None
    taken_ms = 1e3 * np.array(benchmark.stats.stats.data)
    median, worst = np.percentile(taken_ms, [50, 99])
    with capsys.disabled():
        print(  # noqa: T201 - the figures
            f"\n{ANIMALS} animals at {rate_hz} fps, {frames} frames: median {beside_limit(median, LIMIT_MS, 'ms')}, "
            f"99th percentile {beside_limit(worst, LIMIT_MS, 'ms')}, mean {taken_ms.mean():.2f} ms"
        )
