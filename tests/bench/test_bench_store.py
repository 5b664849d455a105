"""What the store takes in a second, every commit waiting for the disk."""

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from daemon.messaging.outbox import OutboxMessage
from daemon.minute_value import MinuteValue
from daemon.minute_values import MinuteCollector
from daemon.observation import AnimalObservation, FrameObservation, PartObservation
from daemon.settings import ZoneSettings
from daemon.store.repository import Store, open_store
from daemon.store.retention import MINUTE_VALUE_BYTES
from daemon.vision.parts import BodyPart
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag
from drivers.t2s_protocol import Constants, Environment
from drivers.thermometry import Calibration
from tests.bench.limits import beside_limit
from tests.observations import frame, rat

FRAMES_A_SECOND = 25
COMMIT_INTERVAL_S = 0.2
ANIMALS = 6
TARGET_PARTS_A_SECOND = 5000

FRAMES_A_BATCH = round(FRAMES_A_SECOND * COMMIT_INTERVAL_S)
PARTS_A_BATCH = FRAMES_A_BATCH * ANIMALS * len(BodyPart)

WINDOW = 200
"""Messages that the publisher has in flight."""


def observation(number: int) -> FrameObservation:
    """A frame with the most animals a box may have, all parts seen."""
    parts = tuple(
        PartObservation(
            part=part,
            x_px=100.25,
            y_px=80.5,
            x_mm=200.5,
            y_mm=161.0,
            area_px=600,
            area_mm2=2400.0,
            valid_px=590,
            mean_celsius=33.1,
            median_celsius=33.0,
            p95_celsius=34.9,
            min_celsius=30.2,
            max_celsius=35.0,
        )
        for part in BodyPart
    )
    return FrameObservation(
        sequence=number,
        captured_utc_ns=1_795_000_000 * NS_PER_S + number * NS_PER_S // FRAMES_A_SECOND,
        captured_monotonic_ns=number * NS_PER_S // FRAMES_A_SECOND,
        flags=FrameFlag.NONE,
        calibration=Calibration(
            constants=Constants(reference_count=6000, a=0.0125, b=1.5, ka=1e-3, kb=-2e-4, kc=0.97),
            shutter_celsius=27.125,
            fpa_celsius=31.5,
            environment=Environment(),
        ),
        fpa_celsius=31.6,
        shutter_celsius=27.2,
        background_celsius=24.5,
        animals=tuple(AnimalObservation(animal=animal, parts=parts) for animal in range(1, ANIMALS + 1)),
        not_measured=None,
        block_key=None,
        planned_utc_ns=None,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store in a new file."""
    with open_store(f"sqlite:///{tmp_path / 'vivarium.db'}", outbox_limit=100_000) as store:
        yield store


@pytest.fixture
def ids(store: Store) -> tuple[int, int]:
    """Run and camera."""
    run_id = store.start_run(
        version="", config_hash="", config_json="{}", segmenter="", host="", boot_id="", started_utc_ns=0
    )
    info = CameraInfo(kind="simulated", product="", serial="", firmware="", location="", frame_rate_hz=25.0)
    return run_id, store.register_camera(info, "v1")


def test_part_observations_a_second(
    benchmark: BenchmarkFixture, store: Store, ids: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, camera_id = ids
    batch = [observation(number) for number in range(FRAMES_A_BATCH)]
    benchmark(store.add, batch, run_id=run_id, camera_id=camera_id)
    assert benchmark.stats is not None
    rate = PARTS_A_BATCH / benchmark.stats["mean"]
    benchmark.extra_info["part_observations_per_s"] = round(rate)
    with capsys.disabled():
        told = beside_limit(rate, TARGET_PARTS_A_SECOND, at_least=True)
        print(f" [part-observations/s in commits of {PARTS_A_BATCH}: {told}]")  # noqa: T201 - the figure
    assert store.counts().part_observations % PARTS_A_BATCH == 0


def test_outbox_messages_a_second(
    benchmark: BenchmarkFixture, store: Store, ids: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    messages = [OutboxMessage(topic="event/x", payload=bytes(300), created_utc_ns=0) for _ in range(10_000)]

    def fill() -> None:
        store.add([], run_id=ids[0], camera_id=None, messages=messages)

    def drain() -> int:
        drained = after_id = 0
        while waiting := store.queued_messages(after_id=after_id, limit=WINDOW):
            after_id = waiting[-1].message_id
            store.acknowledge_messages([message.message_id for message in waiting])
            drained += len(waiting)
        return drained

    drained = benchmark.pedantic(drain, setup=fill, rounds=3)  # type: ignore[no-untyped-call]  # the plugin's gap
    assert benchmark.stats is not None
    rate = drained / benchmark.stats["mean"]
    benchmark.extra_info["messages_per_s"] = round(rate)
    with capsys.disabled():
        print(f" [{rate:,.0f} messages/s read and acknowledged in windows of {WINDOW}]")  # noqa: T201 - the figure
    assert drained == len(messages)
    assert store.outbox_depth() == 0


RESIDENTS = 4
ZONES = tuple(
    ZoneSettings(name=kind, kind=kind, polygon=((x, 10), (x + 50, 10), (x + 50, 90), (x, 90)))
    for kind, x in (("nest", 5), ("food", 70), ("water", 130))
)
BLOCK_MINUTES, OUTSIDE_MINUTES = 240, 1200
"""Of a day of the default plan: 8 blocks of 30 minutes at one frame a second, one frame in 5 seconds in between."""


def frames_of(minutes: int, period_s: int, dice: random.Random) -> list[FrameObservation]:
    """Frames of four animals that walk about and change their warmth, so that no value is a round number."""
    return [
        frame(
            second,
            *(
                rat(
                    number,
                    at=(50 * number + dice.gauss(0, 9), 90 + dice.gauss(0, 9)),
                    head=34 + dice.random(),
                    body=32 + dice.random(),
                    tail=27 + dice.random(),
                    eye=36 + dice.random(),
                )
                for number in range(1, RESIDENTS + 1)
            ),
            ambient=22 + dice.random(),
            nest=25 + dice.random(),
            block_key=None,
        )
        for second in range(0, minutes * 60, period_s)
    ]


def collected(frames: list[FrameObservation], period_s: int) -> list[MinuteValue]:
    """What the service makes of them."""
    minutes = MinuteCollector(animals=RESIDENTS, zones=ZONES, mm_per_px=1.5, due=lambda _minute: 60 / period_s)
    return [value for each in frames for value in minutes.add(each)] + minutes.finish()


def page_bytes(database: Path) -> Counter[str]:
    """Bytes of the pages of each table and index."""
    with closing(sqlite3.connect(database)) as connection:
        return Counter(dict(connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name")))


def test_what_a_day_takes_in_the_database(
    store: Store, ids: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes of the pages of each table, for each frame and each value; times those of a day of the default plan."""
    run_id, camera_id = ids
    dice, empty = random.Random(4), page_bytes(tmp_path / "vivarium.db")
    shown, in_block = frames_of(20, 1, dice), collected(frames_of(20, 1, dice), 1)
    outside = collected(frames_of(20, 5, dice), 5)
    for first in range(0, len(shown), 60):
        store.add(shown[first : first + 60], run_id=run_id, camera_id=camera_id)
    for minute in sorted({each.minute_utc_ns for each in in_block}):  # a minute in a transaction, as the worker does
        store.add([], run_id=run_id, camera_id=None, minute_values=[v for v in in_block if v.minute_utc_ns == minute])
    sizes = page_bytes(tmp_path / "vivarium.db") - empty
    of_values = sizes["minute_value"] + sizes["ix_minute_value_measure"]
    per_value = of_values / len(in_block)
    per_frame = (sum(sizes.values()) - of_values) / len(shown)
    rows = (
        BLOCK_MINUTES * Counter(each.minute_utc_ns for each in in_block).most_common(1)[0][1]
        + OUTSIDE_MINUTES * Counter(each.minute_utc_ns for each in outside).most_common(1)[0][1]
    )
    frames = BLOCK_MINUTES * 60 + OUTSIDE_MINUTES * 12
    with capsys.disabled():
        print(  # noqa: T201 - the figures
            f"\n{RESIDENTS} animals, {len(ZONES)} zones, a day of the default plan:\n"
            f"  {frames:,} frames x {per_frame:,.0f} bytes = {frames * per_frame / 1e6:,.1f} MB\n"
            f"  {rows:,} values of minutes x {per_value:,.1f} bytes = {rows * per_value / 1e6:,.1f} MB"
        )
    assert 0.8 * MINUTE_VALUE_BYTES < per_value < 1.1 * MINUTE_VALUE_BYTES, "the forecast reckons with another figure"
