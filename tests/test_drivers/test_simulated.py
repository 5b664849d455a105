"""The simulated camera: true degrees from the bytes of a T2S+, its shutter and drift, and faults on demand."""

import math
import threading
from itertools import pairwise

import numpy as np
import pytest

from drivers.clock import NS_PER_S, SimulatedClock, SystemClock
from drivers.device_timeline import FRAME_PERIOD_NS, Timeline
from drivers.errors import CameraLostError, FrameRejectedError, FrameTimeoutError
from drivers.frame import FrameFlag, ThermalFrame
from drivers.scene import Scene
from drivers.sensor_model import NOISE_COUNTS, SensorModel, ShutterEvent, Warmth
from drivers.simulated import Fault, SimulatedCamera, SimulatedDevice
from drivers.t2s_protocol import FRAME_RATE_HZ, TRANSFER_BYTES, RejectReason, Variant
from drivers.thermometry import EnvironmentOverrides
from drivers.vivarium.figure import ScenePart
from drivers.vivarium.incidents import Incident, IncidentKind

START_UTC_NS = 1_790_046_000 * NS_PER_S
FRAME_S = 1 / FRAME_RATE_HZ


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START_UTC_NS)


def _frames(camera: SimulatedCamera, count: int) -> list[ThermalFrame]:
    return [camera.read(timeout_s=1) for _ in range(count)]


def _error_celsius(camera: SimulatedCamera, frames: list[ThermalFrame]) -> np.ndarray:
    """Mean error of each pixel over frames."""
    errors = [frame.celsius - camera.truth(frame).radiometric_celsius for frame in frames]
    return np.asarray(np.mean(errors, axis=0))


def _finish_shutter_event(camera: SimulatedCamera, clock: SimulatedClock) -> None:
    """Ask for a shutter event and read on to the first fresh frame after it."""
    camera.calibrate()
    clock.advance(0.1)
    flags = [frame.flags for frame in _frames(camera, 40)]
    assert any(FrameFlag.SHUTTER in flag for flag in flags)
    assert FrameFlag.SHUTTER not in flags[-1]


def test_degrees_are_those_of_the_scene(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock) as camera:
        frames = _frames(camera, 60)
        error = _error_celsius(camera, frames)
    assert np.abs(error).mean() < 0.05
    assert abs(error.mean()) < 0.03
    assert frames[0].flags is FrameFlag.NONE


def test_every_part_reads_as_in_the_truth(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock, seed=3) as camera:
        frame = camera.read(timeout_s=1)
        scene = camera.truth(frame)
    for part in ScenePart:
        truth = scene.truth(part)
        assert truth is not None
        assert frame.celsius[scene.parts == part].mean() == pytest.approx(truth.radiometric_celsius, abs=0.05)


def test_the_noise_is_that_of_the_sensor(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock, animals=0) as camera:
        counts = np.array([frame.counts for frame in _frames(camera, 50)], np.float64)
    noise = counts - counts.mean(axis=0)
    assert noise.std() == pytest.approx(np.hypot(NOISE_COUNTS, 12**-0.5), rel=0.05)  # and rounding to whole counts
    neighbours = np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairwise(noise)])
    assert 0.2 < neighbours < 0.5


def test_the_metadata_rows_are_those_of_a_v1_camera(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock, seed=7) as camera:
        raw = camera.read_raw(timeout_s=1)
        frame = camera.read(timeout_s=1)
    assert len(raw.payload) == TRANSFER_BYTES
    assert frame.metadata.variant is Variant.V1
    assert (
        (frame.metadata.product, frame.metadata.serial)
        == ("T2S+", "SIM00007")
        == (
            camera.info.product,
            camera.info.serial,
        )
    )
    assert frame.metadata.fpa_celsius == pytest.approx(34.0, abs=0.05)
    assert frame.metadata.constants.reference_count == 6000


def test_the_same_seed_and_clock_give_the_same_bytes() -> None:
    def payloads(seed: int) -> list[bytes]:
        clock = SimulatedClock(START_UTC_NS)
        with SimulatedCamera.create(clock=clock, seed=seed) as camera:
            return [camera.read_raw(timeout_s=1).payload for _ in range(3)]

    assert payloads(5) == payloads(5)
    assert payloads(5)[0] != payloads(6)[0]


def test_a_frame_has_the_same_bytes_whether_those_before_it_were_read_or_not() -> None:
    clock, jumping_clock = SimulatedClock(START_UTC_NS), SimulatedClock(START_UTC_NS)
    with SimulatedCamera.create(clock=clock) as patient, SimulatedCamera.create(clock=jumping_clock) as jumping:
        read = [patient.read_raw(timeout_s=1) for _ in range(26)]
        jumping.read_raw(timeout_s=1)
        jumping_clock.advance(1.0)
        late = jumping.read_raw(timeout_s=1)
    assert late.sequence == 25
    assert late.payload == read[25].payload
    assert late.captured_utc_ns == read[25].captured_utc_ns


def test_frames_come_at_25_hz_without_gaps_to_a_reader_that_waits(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock) as camera:
        frames = _frames(camera, 5)
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3, 4]
    assert {b.captured_utc_ns - a.captured_utc_ns for a, b in pairwise(frames)} == {FRAME_PERIOD_NS}


def test_a_day_is_jumped_through_hour_by_hour(clock: SimulatedClock) -> None:
    hour_frames = round(3600 * FRAME_RATE_HZ)
    with SimulatedCamera.create(clock=clock) as camera:
        for hour in range(25):
            frame = camera.read(timeout_s=1)
            assert frame.sequence == hour * hour_frames
            assert frame.captured_utc_ns == START_UTC_NS + hour * 3600 * NS_PER_S
            assert abs(_error_celsius(camera, [frame]).mean()) < 0.15  # not calibrated all day
            clock.advance(3600)


def test_a_step_of_the_wall_clock_does_not_move_the_animal(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock) as camera:
        before = camera.truth(camera.read(timeout_s=1)).utc_s
        clock.step_wall(-3600)
        frame = camera.read(timeout_s=1)
    assert camera.truth(frame).utc_s == pytest.approx(before + FRAME_S, abs=1e-6)
    assert frame.captured_utc_ns == START_UTC_NS + FRAME_PERIOD_NS - 3600 * NS_PER_S


def test_a_calibration_freezes_the_picture_and_then_settles(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock) as camera:
        camera.read(timeout_s=1)
        camera.calibrate()
        frames = _frames(camera, 120)
        shutter = [index for index, frame in enumerate(frames) if FrameFlag.SHUTTER in frame.flags]
        settling = [index for index, frame in enumerate(frames) if frame.flags == FrameFlag.SETTLING]
        assert camera.truth(frames[shutter[0]]).utc_s == camera.truth(frames[shutter[-1]]).utc_s
    assert shutter == list(range(shutter[0], shutter[0] + 30))  # 31 equal frames; the first of them is fresh
    assert 2 <= shutter[0] <= 4  # about 0.1 s after the command
    assert settling == list(range(shutter[-1] + 1, shutter[-1] + 76))  # three seconds
    assert frames[settling[-1] + 1].flags is FrameFlag.NONE


def test_a_second_command_during_a_shutter_event_changes_nothing(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock) as camera:
        camera.read(timeout_s=1)
        camera.calibrate()
        clock.advance(0.5)
        camera.calibrate()
        flags = [frame.flags for frame in _frames(camera, 60)]
    assert sum(FrameFlag.SHUTTER in flag for flag in flags) < 30


def test_a_warming_camera_drifts_and_a_calibration_removes_the_drift(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock, warm=False) as camera:
        clock.advance(70)
        camera.read(timeout_s=1)
        clock.advance(230)
        drifted = camera.read(timeout_s=1)
        before = _error_celsius(camera, [drifted]).mean()
        _finish_shutter_event(camera, clock)
        settled = _frames(camera, 10)
        after = _error_celsius(camera, settled).mean()
    assert FrameFlag.DRIFTED in drifted.flags
    assert before == pytest.approx(-1.2 * 12 * (np.exp(-66 / 600) - np.exp(-300 / 600)), abs=0.1)
    assert abs(after) < 0.03
    assert all(FrameFlag.DRIFTED not in frame.flags for frame in settled)
    assert FrameFlag.SETTLING in settled[-1].flags


def test_the_shutter_register_moves_in_shutter_events_only(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock, warm=False) as camera:
        clock.advance(70)
        first = camera.read(timeout_s=1).metadata
        clock.advance(200)
        second = camera.read(timeout_s=1).metadata
        _finish_shutter_event(camera, clock)
        third = camera.read(timeout_s=1).metadata
    assert first.fpa_celsius < second.fpa_celsius
    assert first.shutter_raw == second.shutter_raw < third.shutter_raw


def test_a_cold_camera_powers_up_as_the_real_one_does(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock, warm=False) as camera:
        with pytest.raises(FrameTimeoutError):
            camera.read(timeout_s=1.5)
        blade = camera.read(timeout_s=1)
        assert blade.captured_monotonic_ns == 2 * NS_PER_S
        clock.advance(6.9)
        still = camera.read(timeout_s=1)
        assert FrameFlag.SHUTTER in still.flags
        np.testing.assert_array_equal(blade.transfer, still.transfer)
        assert blade.celsius.std() < 0.1
        assert camera.truth(blade).truths == ()
        clock.advance(2.0)
        assert camera.truth(camera.read(timeout_s=1)).truths != ()


def test_the_power_up_cycles_are_at_their_times() -> None:
    timeline = Timeline(number=0, started_ns=0, warmth=Warmth(start_rise_celsius=0.0))
    timeline.play_power_up()
    held = [frame for frame in range(25 * 120) if timeline.picture_of(frame) != frame]
    starts = [frame - 1 for frame in held if timeline.picture_of(frame) == frame - 1]
    assert [start * FRAME_S for start in starts] == pytest.approx([2.0, 9.16, 13.12, 37.0, 64.8])
    assert [timeline.last_event(frame).number for frame in (228, 300, 400, 1000, 2000)] == [0, 1, 2, 3, 4]


def test_nothing_within_the_timeout_is_a_timeout_and_the_next_read_succeeds(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock) as camera:
        camera.read(timeout_s=1)
        camera.device.inject(Fault.FREEZE, duration_s=3)
        for _ in range(2):
            with pytest.raises(FrameTimeoutError, match="no frame within 1 s"):
                camera.read(timeout_s=1)
        assert clock.monotonic_ns() == 2 * NS_PER_S
        frame = camera.read(timeout_s=2)
    assert frame.sequence == 75
    assert frame.flags is FrameFlag.NONE


def test_a_stuck_picture_is_flagged_for_as_long_as_it_lasts(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock) as camera:
        first = camera.read(timeout_s=1)
        camera.device.inject(Fault.STUCK, duration_s=0.2)
        frames = _frames(camera, 7)
        assert camera.truth(frames[3]).utc_s == camera.truth(first).utc_s
    assert [FrameFlag.SHUTTER in frame.flags for frame in frames] == [True] * 5 + [False] * 2


def test_late_frames_come_in_order_and_those_they_hold_up_are_lost(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock) as camera:
        camera.read(timeout_s=1)
        clock.advance(0.001)
        camera.device.inject(Fault.LATE, frames=3, duration_s=0.2)
        frames = _frames(camera, 5)
    assert [frame.sequence for frame in frames] == [1, 2, 3, 9, 10]
    assert [frame.captured_monotonic_ns // FRAME_PERIOD_NS for frame in frames] == [6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(Fault.TORN, RejectReason.STATISTICS, id="torn"),
        pytest.param(Fault.TRUNCATED, RejectReason.LENGTH, id="truncated"),
        pytest.param(Fault.ALL_ZERO, RejectReason.UNIFORM, id="all zero"),
        pytest.param(Fault.WRONG_MODE, RejectReason.OUTPUT_MODE, id="wrong mode"),
    ],
)
@pytest.mark.parametrize("animals", [0, 1])
def test_damaged_frames_are_refused_by_reason_and_then_all_is_well(
    clock: SimulatedClock, fault: Fault, reason: RejectReason, animals: int
) -> None:
    with SimulatedCamera.create(clock=clock, animals=animals) as camera:
        camera.read(timeout_s=1)
        camera.device.inject(fault, frames=3)
        for _ in range(3):
            with pytest.raises(FrameRejectedError) as refused:
                camera.read(timeout_s=1)
            assert refused.value.reason == reason
        frame = camera.read(timeout_s=1)
        assert abs(_error_celsius(camera, [frame]).mean()) < 0.03
    assert frame.sequence == 4
    assert frame.flags is FrameFlag.NONE


def test_every_torn_frame_is_noticed_wherever_the_rat_is(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock) as camera:
        for _ in range(20):
            clock.advance(31.0)
            camera.device.inject(Fault.TORN)
            with pytest.raises(FrameRejectedError, match="statistics"):
                camera.read(timeout_s=1)


def test_a_half_torn_frame_is_made_of_two_real_ones(clock: SimulatedClock) -> None:
    with SimulatedCamera.create(clock=clock) as camera:
        camera.device.inject(Fault.TORN)
        torn = np.frombuffer(camera.read_raw(timeout_s=1).payload, "<u2").reshape(196, 256)
    clock_again = SimulatedClock(START_UTC_NS)
    with SimulatedCamera.create(clock=clock_again) as camera:
        whole = camera.read(timeout_s=1).transfer
    agrees = [np.array_equal(torn[half], whole[half]) for half in (slice(0, 96), slice(96, 192), slice(192, 196))]
    assert sorted(agrees[:2]) == [False, True]
    assert agrees[2]


def test_an_unplugged_camera_is_lost_until_it_is_plugged_in_and_opened_anew(clock: SimulatedClock) -> None:
    device = SimulatedDevice(clock=clock)
    with SimulatedCamera(device, clock=clock) as camera:
        frame = camera.read(timeout_s=1)
        device.inject(Fault.UNPLUG)
        for action in (lambda: camera.read(timeout_s=1), camera.calibrate):
            with pytest.raises(CameraLostError, match="unplugged"):
                action()
        with pytest.raises(CameraLostError, match="unplugged"), SimulatedCamera(device, clock=clock):
            pass
        clock.advance(5)
        device.plug()
        with pytest.raises(CameraLostError, match="open it anew"):
            camera.read(timeout_s=1)
    with SimulatedCamera(device, clock=clock) as again:
        fresh = again.read(timeout_s=1)
        assert abs(_error_celsius(again, [fresh]).mean()) < 0.03
        with pytest.raises(ValueError, match="since its last plug-in"):
            again.truth(frame)
    assert (fresh.sequence, fresh.flags) == (0, FrameFlag.NONE)


def test_a_camera_plugged_in_cold_has_cooled_for_as_long_as_it_was_unplugged(clock: SimulatedClock) -> None:
    device = SimulatedDevice(clock=clock)
    device.unplug()
    clock.advance(600)
    device.plug(warm=False)
    clock.advance(70)
    with SimulatedCamera(device, clock=clock) as camera:
        fpa = camera.read(timeout_s=1).metadata.fpa_celsius
    assert fpa == pytest.approx(34 - (12 - 12 / np.e) * np.exp(-70 / 600), abs=0.05)


def test_unplugging_wakes_a_waiting_reader() -> None:
    device = SimulatedDevice(clock=SystemClock())
    device.inject(Fault.FREEZE, duration_s=60)
    ended: list[str] = []

    connected = threading.Event()

    def read() -> None:
        with SimulatedCamera(device, clock=SystemClock()) as camera:
            connected.set()
            try:
                camera.read(timeout_s=60)
            except CameraLostError as error:
                ended.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    assert connected.wait(timeout=30)
    device.unplug()
    reader.join(timeout=30)
    assert len(ended) == 1


def test_another_scene_can_be_shown(clock: SimulatedClock) -> None:
    device = SimulatedDevice(clock=clock)
    with SimulatedCamera(device, clock=clock) as camera:
        usual = camera.read(timeout_s=1)
        clock.advance(0.02)
        absence = Incident(kind=IncidentKind.ABSENCE, animal=1, start_utc_s=0.0, duration_s=math.inf)
        device.show(Scene(1, script=[absence]))
        empty = camera.read(timeout_s=1)
        assert camera.truth(usual).truths != ()
        assert camera.truth(empty).truths == ()
    assert empty.celsius.max() < 26 < usual.celsius.max()


def test_overrides_of_the_host_change_the_degrees(clock: SimulatedClock) -> None:
    device = SimulatedDevice(clock=clock)
    with SimulatedCamera(device, clock=clock, overrides=EnvironmentOverrides(correction_celsius=2.0)) as camera:
        frame = camera.read(timeout_s=1)
        assert _error_celsius(camera, [frame]).mean() == pytest.approx(2.0, abs=0.03)


@pytest.mark.parametrize(
    ("fault", "numbers", "message"),
    [
        pytest.param(Fault.FREEZE, {}, "needs a positive duration_s", id="no duration"),
        pytest.param(Fault.LATE, {"duration_s": -1.0}, "needs a positive duration_s", id="negative"),
        pytest.param(Fault.TORN, {"duration_s": 1.0}, "takes no duration_s", id="needless duration"),
        pytest.param(Fault.TORN, {"frames": 0}, "needs at least one frame", id="no frames"),
        pytest.param(Fault.UNPLUG, {"frames": 2}, "takes no frames", id="needless frames"),
    ],
)
def test_a_fault_without_sense_is_refused(
    clock: SimulatedClock, fault: Fault, numbers: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SimulatedDevice(clock=clock).inject(fault, **numbers)  # type: ignore[arg-type]  # wrong on purpose


def test_counts_stay_within_the_sensors_range() -> None:
    warmth = Warmth(start_rise_celsius=12.0)
    event = ShutterEvent.at(0, 0.0, warmth)
    sensor = SensorModel(1, "SIM00001")
    glowing = sensor.transfer(np.full((192, 256), 300.0, np.float32), 0, 0.0, warmth, event)[:192]
    freezing = sensor.transfer(np.full((192, 256), -200.0, np.float32), 0, 0.0, warmth, event)[:192]
    assert np.all(glowing == 13_700)
    assert 2900 < freezing.min() < 3800
