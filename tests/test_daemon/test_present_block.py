"""A restart in the midst of a block: who was in which zone before it, as far as that is known."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from daemon.identity_correction import Correction, CorrectionKind
from daemon.identity_corrector import IdentityCorrector
from daemon.minute_value import MinuteValue
from daemon.minute_values import collector_of
from daemon.observation import FrameObservation
from daemon.present_block import MOST_SAMPLES, go_on_with_block
from daemon.schedule import PlannedBlock
from daemon.settings import parse_settings
from daemon.store.repository import Store, open_store
from drivers.camera import CameraInfo
from drivers.clock import SimulatedClock
from tests.followed import followed
from tests.observations import MINUTE_NS, SECOND_NS, START_UTC_NS, frame, rat

CONFIG = """
[box]
time_zone = "UTC"
[measure]
animals = {animals}
outside_rate_hz = 1
[[zone]]
name = "nest"
kind = "nest"
polygon = [[10, 10], [60, 10], [60, 60], [10, 60]]
"""
CAMERA = CameraInfo(kind="simulated", product="T2S+", serial="S", firmware="", location="", frame_rate_hz=25.0)
BLOCK = PlannedBlock(
    day=date(2026, 11, 18),
    stratum="night",
    number=1,
    start_utc_ns=START_UTC_NS,
    duration_ns=30 * MINUTE_NS,
    period_ns=SECOND_NS,
)
NEST, AWAY = (30.0, 30.0), (100.0, 150.0)


def shown(second: int) -> FrameObservation:
    """Rat 1 is in the nest from second 20 to 30 and from 90 on, rat 2 from 100 on."""
    one = NEST if 20 <= second < 30 or second >= 90 else (100.0, 50.0)
    two = NEST if second >= 100 else AWAY
    return frame(second, followed(rat(1, at=one), 1), followed(rat(2, at=two), 2), block_key=BLOCK.key)


class Box:
    """A database, and starts of the service within a block."""

    def __init__(self, store: Store, *, animals: int = 2) -> None:
        self.store = store
        self.settings = parse_settings(CONFIG.format(animals=animals), origin="test")
        self._opened = False

    def start(self, first_s: int, end_s: int, *, numbers_go_on: bool = True) -> None:
        """The service runs for so long, and ends without notice."""
        run_id = self.store.start_run(
            version="1",
            config_hash="h",
            config_json=self.settings.to_json(),
            segmenter="s",
            host="box",
            boot_id="b",
            started_utc_ns=START_UTC_NS + first_s * SECOND_NS,
        )
        camera_id = self.store.register_camera(CAMERA, "v1")
        collector = collector_of(lambda: self.settings)
        animals = self.settings.animal_count
        go_on_with_block(collector, self.store, animals=animals, numbers_go_on=numbers_go_on)
        if not self._opened:
            self.store.open_block(BLOCK, run_id=run_id, at_utc_ns=BLOCK.start_utc_ns)
            self._opened = True
        frames = [shown(second) for second in range(first_s, end_s)]
        minutes = [value for each in frames for value in collector.add(each)]
        self.store.add(frames, run_id=run_id, camera_id=camera_id, minute_values=minutes + collector.finish())

    def latencies(self) -> dict[int | None, list[float | None]]:
        """All that are stored, by animal."""
        found: dict[int | None, list[float | None]] = {}
        values: Iterator[MinuteValue] = iter(self.store.minute_values(since_utc_ns=0, until_utc_ns=2**62))
        for each in values:
            if each.measure == "zone_nest_latency_s":
                found.setdefault(each.animal, []).append(each.value)
        return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path / 'vivarium.db'}", outbox_limit=100) as store:
        yield store


@pytest.mark.parametrize(("numbers_go_on", "expected"), [(True, {1: [20], 2: [100]}), (False, {1: [20]})])
def test_after_a_restart_nobody_has_a_second_latency_nor_one_from_the_restart(
    store: Store, numbers_go_on: bool, expected: dict[int, list[float]]
) -> None:
    box = Box(store)
    box.start(0, 65)
    box.start(70, 180, numbers_go_on=numbers_go_on)
    assert box.latencies() == expected


def test_numbers_that_began_anew_at_an_earlier_start_within_the_block_say_nothing(store: Store) -> None:
    box = Box(store)
    box.start(0, 40)
    box.start(45, 65, numbers_go_on=False)
    box.start(70, 180)
    assert box.latencies() == {1: [20]}


def test_an_animal_alone_is_who_it_was(store: Store) -> None:
    box = Box(store, animals=1)
    box.start(0, 15)
    box.start(17, 65, numbers_go_on=False)
    box.start(70, 180, numbers_go_on=False)
    assert box.latencies() == {1: [20]}


def test_a_block_of_which_nothing_was_seen_before_begins_with_its_first_sample(store: Store) -> None:
    box = Box(store)
    box.start(70, 180, numbers_go_on=False)
    assert box.latencies() == {1: [20], 2: [30]}


def test_more_than_can_be_read_at_a_start_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_SAMPLES > 65
    monkeypatch.setattr("daemon.present_block.MOST_SAMPLES", 64)
    box = Box(store)
    box.start(0, 65)
    box.start(70, 180)
    assert box.latencies() == {1: [20]}


def test_minutes_computed_anew_by_a_correction_after_such_a_restart_have_no_latency_from_the_restart(
    store: Store,
) -> None:
    box = Box(store)
    box.start(0, 65)
    box.start(70, 180)
    clock = SimulatedClock(START_UTC_NS + 200 * SECOND_NS)
    IdentityCorrector(store, box.settings, clock).correct(
        Correction(kind=CorrectionKind.SWAP, animal=1, other=2),
        from_utc_ns=START_UTC_NS + 75 * SECOND_NS,
        until_utc_ns=None,
        by="Ana",
        reason="ear mark",
    )
    assert box.latencies() == {1: [20]}
