"""Simulated days: every planned second accounted for, recordings to the bit, the same degrees when measured again."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

import daemon.simulate
from daemon.pipeline import Pipeline
from daemon.settings import CameraSettings, Settings, parse_settings
from daemon.simulate import DaySimulation, SimulatedDays, segmenter_of
from daemon.store.repository import Store, open_store
from drivers.camera import ThermalCamera
from drivers.clock import NS_PER_S, Clock
from drivers.decoder import FrameDecoder
from drivers.errors import ConfigError, StoreError
from drivers.frame import RawFrame
from drivers.material import open_material
from drivers.recording import Recording
from drivers.replay import decode_material
from drivers.simulated import SimulatedCamera, SimulatedDevice
from drivers.t2s_protocol import IMAGE_HEIGHT

DAY = date(2026, 6, 1)
BLOCKS = {"2026-06-01/night-1": 60, "2026-06-01/afternoon-1": 60}
HOUR_NS = 3600 * NS_PER_S

PLAN = """
[box]
time_zone = "Europe/Berlin"
[schedule]
block_minutes = {minutes}
[schedule.strata]
{strata}
[measure]
outside_rate_hz = {outside_rate_hz}
[camera.simulated]
seed = {seed}
"""


def settings_of(
    strata: str = 'night = ["00:30"]\nafternoon = ["13:00"]',
    *,
    minutes: float = 1,
    outside_rate_hz: float = 1 / 7200,
    seed: int = 7,
) -> Settings:
    """A short plan; in the same test the same plan again."""
    text = PLAN.format(strata=strata, minutes=minutes, outside_rate_hz=outside_rate_hz, seed=seed)
    return parse_settings(text, origin="test")


def simulate(settings: Settings, output: Path, day: date = DAY) -> SimulatedDays:
    """One day."""
    return DaySimulation(settings, first_day=day, days=1, output=output, version="test").run(lambda _utc_ns: None)


class OverheardCamera(SimulatedCamera):
    """A simulated camera whose transfers somebody writes down."""

    def __init__(self, device: SimulatedDevice, clock: Clock, sent: dict[int, bytes]) -> None:
        super().__init__(device, clock=clock)
        self._sent = sent

    def read_raw(self, timeout_s: float) -> RawFrame:
        """See `SimulatedCamera`."""
        raw = super().read_raw(timeout_s)
        self._sent[raw.captured_utc_ns] = raw.payload
        return raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A simulated day, what its camera sent, and what `on_progress` heard."""

    result: SimulatedDays
    sent: dict[int, bytes] = field(default_factory=dict)
    progress: list[int] = field(default_factory=list)

    def recordings(self) -> Iterator[tuple[str, Path]]:
        """Block keys with their recordings."""
        for path in sorted(self.result.recordings.rglob("*.mkv")):
            yield f"{path.parent.name}/{path.stem.rpartition('_')[2]}", path


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A day with two blocks of one minute."""
    sent: dict[int, bytes] = {}
    progress: list[int] = []

    def overheard(settings: CameraSettings, clock: Clock) -> Callable[[], ThermalCamera]:
        device = SimulatedDevice(seed=settings.simulated.seed, clock=clock)
        return lambda: OverheardCamera(device, clock, sent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemon.simulate, "camera_opener", overheard)
        simulation = DaySimulation(
            settings_of(), first_day=DAY, days=1, output=tmp_path_factory.mktemp("day"), version="test"
        )
        result = simulation.run(progress.append)
    assert progress[-1] == simulation.stop_utc_ns
    return Simulated(result=result, sent=sent, progress=progress)


@pytest.fixture
def store(simulated: Simulated) -> Iterator[Store]:
    """The database of the simulated day."""
    with open_store(f"sqlite:///{simulated.result.database}", outbox_limit=1000) as store:
        yield store


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def test_every_planned_second_is_captured_or_missing_for_a_reason(simulated: Simulated, store: Store) -> None:
    found = {key: store.coverage(key) for key in BLOCKS}
    assert {key: coverage.expected for key, coverage in found.items()} == BLOCKS
    for key, coverage in found.items():
        assert coverage.captured + sum(coverage.missing_by_reason.values()) == BLOCKS[key]
        assert coverage.captured >= BLOCKS[key] - 2, coverage  # a shutter cycle takes 1.3 s
        assert set(coverage.missing_by_reason) <= {"shutter"}
        assert store.unaccounted(key) == []
    per_block = rows(simulated.result.database, "select count(*) from planned_sample group by block_id")
    assert per_block == [(60,), (60,)]
    assert simulated.result.blocks == 2
    assert simulated.result.expected == 120
    assert simulated.result.captured == sum(coverage.captured for coverage in found.values())
    assert simulated.result.recorded == simulated.result.captured


def test_the_sidecars_account_for_the_same_seconds_as_the_database(simulated: Simulated, store: Store) -> None:
    for key, path in simulated.recordings():
        with Recording(path) as recording:
            captured = {frame.planned_utc_ns for frame in recording.frames}
            missing = recording.sidecar.missing if recording.sidecar is not None else {}
        observations = store.block_observations(key)
        assert captured == {observation.planned_utc_ns for observation in observations}
        assert len(captured) + len(missing) == BLOCKS[key]
        (stored,) = store.recordings(key)
        assert (stored.path, stored.frames) == (path, len(captured))


def test_recordings_hold_what_the_camera_sent_to_the_bit(simulated: Simulated) -> None:
    recorded = 0
    for _, path in simulated.recordings():
        for item in open_material(path):
            assert item.raw.payload == simulated.sent[item.raw.captured_utc_ns]
            recorded += 1
    assert recorded == simulated.result.captured


def test_measuring_the_recordings_again_gives_exactly_the_database(simulated: Simulated, store: Store) -> None:
    parts, segmenter = 0, segmenter_of(settings_of())
    for key, path in simulated.recordings():
        stored = store.block_observations(key)
        decoder, pipeline = FrameDecoder(), Pipeline(segmenter, animals=1, mm_per_px=None)
        for item, observation in zip(open_material(path), stored, strict=True):
            frame = decode_material(decoder, item)
            again = pipeline.process(frame, block_key=key, planned_utc_ns=observation.planned_utc_ns).observation
            assert again == observation  # every float of every part, flags and calibration too
            parts += sum(len(animal.parts) for animal in observation.animals)
    assert parts >= 2 * simulated.result.captured


def test_frames_outside_blocks_are_measured_and_not_recorded(simulated: Simulated) -> None:
    outside = rows(
        simulated.result.database,
        "select count(*) from frame where id not in (select frame_id from planned_sample where frame_id is not null)",
    )
    assert outside[0][0] in range(11, 15)  # one in two hours


def test_a_shutter_cycle_that_was_asked_for_is_seen_to_its_end(simulated: Simulated) -> None:
    """Whole cycles are in what was read: 31 equal pictures in a row, and then a new calibration."""
    repeats, run, last = [], 1, b""
    for _, payload in sorted(simulated.sent.items()):
        image = payload[: IMAGE_HEIGHT * 512]
        run = run + 1 if image == last else 1
        repeats.append(run)
        last = image
    cycles = repeats.count(31)
    assert cycles >= 2
    assert max(repeats) == 31
    calibrations = rows(simulated.result.database, "select count(*) from calibration")
    assert calibrations[0][0] >= 2
    assert len(simulated.sent) < 120 + 12 + cycles * 45, "frames are rendered that nobody needs"


def test_events_tell_of_camera_and_blocks_and_nothing_else_happened(simulated: Simulated) -> None:
    kinds = Counter(kind for (kind,) in rows(simulated.result.database, "select kind from event"))
    assert kinds == {"camera_found": 1, "block_started": 2, "block_finished": 2}
    assert rows(simulated.result.database, "select count(*) from gap") == [(0,)]
    assert rows(simulated.result.database, "pragma integrity_check") == [("ok",)]
    ended = rows(simulated.result.database, "select ended_utc_ns from run")
    assert ended == [(simulated.progress[-1],)]


SAME_QUERIES = (
    "select sequence, captured_utc_ns, captured_monotonic_ns, flags, background_celsius, not_measured from frame",
    "select * from part_observation",
    "select * from planned_sample",
    "select * from calibration",
    "select kind, state, severity, at_utc_ns, animal, data_json from event",
)


def test_the_same_seed_gives_the_same_day_and_another_seed_another(simulated: Simulated, tmp_path: Path) -> None:
    again = simulate(settings_of(), tmp_path / "again")
    for query in SAME_QUERIES:
        assert rows(again.database, query) == rows(simulated.result.database, query)
    for (_, one), other in zip(simulated.recordings(), sorted(again.recordings.rglob("*.mkv")), strict=True):
        assert [item.raw for item in open_material(one)] == [item.raw for item in open_material(other)]
    short = [
        simulate(settings_of('night = ["00:30"]', minutes=0.1, outside_rate_hz=0, seed=seed), tmp_path / str(seed))
        for seed in (7, 8)
    ]
    one_seed, other_seed = (rows(result.database, SAME_QUERIES[1]) for result in short)
    assert one_seed
    assert one_seed != other_seed


@pytest.mark.parametrize(
    ("day", "hours", "starts"),
    [
        # In the gap the clock jumps from 02:00 to 03:00: the block of 02:30 begins then.
        pytest.param(date(2026, 3, 29), 23, ["00:30 +0100", "03:00 +0200", "13:00 +0200"], id="spring, 23 hours"),
        # 02:30 comes twice: only the first is meant.
        pytest.param(date(2026, 10, 25), 25, ["00:30 +0200", "02:30 +0200", "13:00 +0100"], id="autumn, 25 hours"),
    ],
)
def test_days_on_which_the_clock_changes_have_each_block_once(
    day: date, hours: int, starts: list[str], tmp_path: Path
) -> None:
    settings = settings_of('night = ["00:30", "02:30"]\nday = ["13:00"]', minutes=0.1, outside_rate_hz=0)
    simulation = DaySimulation(settings, first_day=day, days=1, output=tmp_path / "day", version="test")
    assert simulation.stop_utc_ns - simulation.start_utc_ns == hours * HOUR_NS
    result = simulation.run(lambda _utc_ns: None)
    assert (result.blocks, result.captured, result.expected, result.recorded) == (3, 18, 18, 18)
    stored = rows(result.database, "select start_utc_ns from block order by start_utc_ns")
    local = [_local(start, settings) for (start,) in stored]
    assert local == starts


def _local(utc_ns: int, settings: Settings) -> str:
    return f"{datetime.fromtimestamp(utc_ns // NS_PER_S, UTC).astimezone(settings.zone):%H:%M %z}"


def test_a_block_that_goes_on_into_the_next_day_is_cut_and_accounted_for(tmp_path: Path) -> None:
    settings = settings_of('evening = ["23:59:54"]', minutes=0.2, outside_rate_hz=0)
    result = simulate(settings, tmp_path / "day")
    with open_store(f"sqlite:///{result.database}", outbox_limit=10) as store:
        before, cut = store.coverage("2026-05-31/evening-1"), store.coverage("2026-06-01/evening-1")
        assert store.open_blocks() == []
    assert (before.captured, before.expected, sum(before.missing_by_reason.values())) == (6, 12, 6)
    assert (cut.captured, cut.expected, cut.missing_by_reason) == (6, 12, {"service_down": 6})
    assert (result.blocks, result.captured, result.recorded) == (2, 12, 12)


def test_a_block_that_begins_with_the_next_day_is_not_begun(tmp_path: Path) -> None:
    settings = settings_of('night = ["00:00"]\nevening = ["23:59:54"]', minutes=0.1, outside_rate_hz=0)
    result = simulate(settings, tmp_path / "day")
    assert (result.blocks, result.captured, result.expected) == (2, 12, 12)


def test_without_recording_there_are_measurements_only(tmp_path: Path) -> None:
    settings = settings_of('night = ["00:30"]', minutes=0.1, outside_rate_hz=0)
    settings = settings.model_copy(update={"recording": settings.recording.model_copy(update={"enabled": False})})
    result = simulate(settings, tmp_path / "day")
    assert (result.captured, result.recorded) == (6, 0)
    assert not result.recordings.exists()


def test_a_cold_camera_does_not_keep_a_day_from_being_accounted_for(tmp_path: Path) -> None:
    settings = settings_of('night = ["00:00"]', minutes=0.5, outside_rate_hz=0)
    cold = settings.camera.simulated.model_copy(update={"warm": False})
    settings = settings.model_copy(update={"camera": settings.camera.model_copy(update={"simulated": cold})})
    result = simulate(settings, tmp_path / "day")
    reasons = dict(
        rows(result.database, "select missing_reason, count(*) from planned_sample where frame_id is null group by 1")
    )
    assert result.expected == 30
    assert result.captured + sum(reasons.values()) == 30
    assert set(reasons) == {"no_frame", "shutter"}  # it sends nothing for 2 s, and then its closed shutter until 9.1 s
    assert 15 <= result.captured <= 22


def test_an_earlier_simulation_is_never_overwritten(simulated: Simulated) -> None:
    output = simulated.result.database.parent
    before = simulated.result.database.stat()
    with pytest.raises(ConfigError, match="holds an earlier simulation: choose another directory"):
        DaySimulation(settings_of(), first_day=DAY, days=1, output=output, version="test")
    assert simulated.result.database.stat() == before


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file: cannot be made a directory"):
        DaySimulation(settings_of(), first_day=DAY, days=1, output=tmp_path / "file", version="test")


def test_only_a_simulated_camera_can_be_asked_for_days(tmp_path: Path) -> None:
    settings = parse_settings('[camera]\nkind = "replay"\n[camera.replay]\npath = "x.npy"', origin="test")
    with pytest.raises(ConfigError, match="needs 'simulated', got 'replay'"):
        DaySimulation(settings, first_day=DAY, days=1, output=tmp_path / "day", version="test")
    assert not (tmp_path / "day").exists()


def test_a_plan_that_cannot_be_carried_out_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    settings = settings_of('night = ["00:30", "00:31"]', minutes=5)
    with pytest.raises(ConfigError, match="overlap"):
        DaySimulation(settings, first_day=DAY, days=1, output=tmp_path / "day", version="test")
    assert not (tmp_path / "day").exists()


def test_whoever_stops_it_gets_the_thread_back(tmp_path: Path) -> None:
    """Ctrl-C while the bar is drawn; the fixture for threads sees whether one is left."""
    settings = settings_of('night = ["00:00"]', minutes=1)

    def interrupt(_utc_ns: int) -> None:
        raise KeyboardInterrupt

    simulation = DaySimulation(settings, first_day=DAY, days=1, output=tmp_path / "day", version="test")
    with pytest.raises(KeyboardInterrupt):
        simulation.run(interrupt)


def test_a_database_that_fails_ends_the_simulation_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_kwargs: object) -> list[int]:
        raise StoreError("database or disk is full")

    monkeypatch.setattr(Store, "add", full)
    settings = settings_of('night = ["00:00"]', minutes=0.1, outside_rate_hz=0)
    with pytest.raises(StoreError, match="expected 6 measured frames in the database, got 0"):
        simulate(settings, tmp_path / "day")
