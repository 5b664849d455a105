"""Recorded material as a camera: the same bytes, at their own pace, honestly flagged."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.clock import NS_PER_S, SimulatedClock
from drivers.decoder import FrameDecoder
from drivers.errors import (
    CameraLostError,
    FrameRejectedError,
    FrameTimeoutError,
    MaterialError,
    ReplayEndedError,
)
from drivers.false_colour import FalseColourScale, Reading
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.recording import RecordingHeader, RecordingWriter
from drivers.replay import LONGEST_PAUSE_S, ReplayCamera
from drivers.t2s_protocol import IMAGE_HEIGHT, RejectReason, build_transfer, parse_metadata, picture_statistics
from drivers.thermometry import EnvironmentOverrides

START_UTC_NS = 1_790_046_000 * NS_PER_S


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START_UTC_NS)


@pytest.fixture
def transfers(golden: Path) -> NDArray[np.uint16]:
    """Four frames of a v1 camera with a little noise, shape (4, 196, 256)."""
    transfer = np.load(golden / "g2_eps095_d1.npz")["frame"]
    noise = np.random.default_rng(5)
    stack = []
    for _ in range(4):
        image = (transfer[:IMAGE_HEIGHT] + noise.integers(0, 3, transfer[:IMAGE_HEIGHT].shape)).astype(np.uint16)
        metadata = replace(parse_metadata(transfer), statistics=picture_statistics(image))
        stack.append(build_transfer(image, metadata))
    return np.stack(stack)


@pytest.fixture
def stack_file(tmp_path: Path, transfers: NDArray[np.uint16]) -> Path:
    path = tmp_path / "transfers.npy"
    np.save(path, transfers)
    return path


@pytest.fixture
def degrees_file(tmp_path: Path) -> Path:
    """Two different pictures of degrees."""
    warm = np.full((48, 64), 22.0)
    warm[10:20, 10:20] = 35.0
    np.save(tmp_path / "degrees.npy", np.stack([warm, warm + 0.5]))
    return tmp_path / "degrees.npy"


def record(path: Path, transfers: NDArray[np.uint16], at_s: list[float], flags: list[FrameFlag]) -> list[ThermalFrame]:
    """A recording of these transfers with these flags at these seconds."""
    header = RecordingHeader(
        box="box1",
        block_key="b1",
        start_utc_ns=START_UTC_NS,
        end_utc_ns=START_UTC_NS + 3600 * NS_PER_S,
        period_ns=NS_PER_S,
        accounted_from_utc_ns=START_UTC_NS,
    )
    decoder = FrameDecoder(overrides=EnvironmentOverrides(emissivity=0.9))
    frames = []
    with RecordingWriter(path, header, sync_interval_s=None) as writer:
        for index, (transfer, second, flag) in enumerate(zip(transfers, at_s, flags, strict=True)):
            raw = RawFrame(
                sequence=index,
                captured_utc_ns=START_UTC_NS + round(second * NS_PER_S),
                captured_monotonic_ns=round(second * NS_PER_S),
                payload=transfer.tobytes(),
            )
            frames.append(replace(decoder.decode(raw), flags=flag))
            writer.append(frames[-1], planned_utc_ns=None)
    return frames


def test_transfers_come_to_the_byte_numbered_and_stamped_by_the_clock(
    stack_file: Path, transfers: NDArray[np.uint16], clock: SimulatedClock
) -> None:
    clock.advance(5)
    with ReplayCamera(stack_file, clock=clock, loop=False, rate_hz=10) as camera:
        frames = [camera.read(timeout_s=1) for _ in range(4)]
    assert [frame.transfer.tobytes() for frame in frames] == [transfer.tobytes() for transfer in transfers]
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3]
    assert [frame.captured_monotonic_ns for frame in frames] == [round((5 + 0.1 * n) * NS_PER_S) for n in range(4)]
    assert frames[0].captured_utc_ns == START_UTC_NS + 5 * NS_PER_S
    assert {frame.flags for frame in frames} == {FrameFlag.NONE}


def test_at_the_end_it_says_so(stack_file: Path, clock: SimulatedClock) -> None:
    with ReplayCamera(stack_file, clock=clock, loop=False) as camera:
        for _ in range(4):
            camera.read(timeout_s=1)
        for _ in range(2):
            with pytest.raises(ReplayEndedError, match="all 4 frames were played"):
                camera.read(timeout_s=1)


def test_in_a_loop_it_starts_again_and_counts_on(stack_file: Path, clock: SimulatedClock) -> None:
    with ReplayCamera(stack_file, clock=clock, loop=True, rate_hz=10) as camera:
        frames = [camera.read(timeout_s=1) for _ in range(9)]
    assert [frame.sequence for frame in frames] == list(range(9))
    assert frames[4].transfer.tobytes() == frames[0].transfer.tobytes()
    assert frames[8].captured_monotonic_ns == round(0.8 * NS_PER_S)


def test_a_frame_that_is_not_yet_due_is_waited_for_in_vain_and_not_lost(
    stack_file: Path, clock: SimulatedClock
) -> None:
    with ReplayCamera(stack_file, clock=clock, loop=False, rate_hz=1) as camera:
        camera.read(timeout_s=0.25)
        for _ in range(3):
            with pytest.raises(FrameTimeoutError, match=r"not within 0\.25 s"):
                camera.read(timeout_s=0.25)
        frame = camera.read(timeout_s=0.25)
    assert frame.sequence == 1
    assert frame.captured_monotonic_ns == NS_PER_S


def test_a_late_reader_gets_no_burst(stack_file: Path, clock: SimulatedClock) -> None:
    with ReplayCamera(stack_file, clock=clock, loop=False, rate_hz=1) as camera:
        camera.read(timeout_s=1)
        clock.advance(10)
        times_s = [camera.read(timeout_s=1).captured_monotonic_ns / NS_PER_S for _ in range(3)]
    assert times_s == [10, 11, 12]


def test_a_still_repeats_without_being_a_shutter_event(
    tmp_path: Path, transfers: NDArray[np.uint16], clock: SimulatedClock
) -> None:
    np.save(tmp_path / "one.npy", transfers[0])
    with ReplayCamera(tmp_path / "one.npy", clock=clock, loop=True) as camera:
        flags = {camera.read(timeout_s=1).flags for _ in range(5)}
    assert flags == {FrameFlag.NONE}


def test_a_stream_that_stands_still_is_a_shutter_event(
    tmp_path: Path, transfers: NDArray[np.uint16], clock: SimulatedClock
) -> None:
    np.save(tmp_path / "shut.npy", transfers[[0, 1, 1, 2]])
    with ReplayCamera(tmp_path / "shut.npy", clock=clock, loop=False) as camera:
        flags = [camera.read(timeout_s=1).flags for _ in range(4)]
    assert flags == [FrameFlag.NONE, FrameFlag.NONE, FrameFlag.SHUTTER, FrameFlag.SETTLING]


def test_a_bad_transfer_is_refused_and_counted_and_the_next_one_comes(
    tmp_path: Path, transfers: NDArray[np.uint16], clock: SimulatedClock
) -> None:
    transfers[1, :IMAGE_HEIGHT] = 0
    np.save(tmp_path / "bad.npy", transfers)
    with ReplayCamera(tmp_path / "bad.npy", clock=clock, loop=False) as camera:
        camera.read(timeout_s=1)
        with pytest.raises(FrameRejectedError):
            camera.read(timeout_s=1)
        assert camera.read(timeout_s=1).sequence == 2
        assert camera.rejected == {RejectReason.UNIFORM: 1}


def test_degrees_are_estimated_and_the_hosts_values_leave_them_alone(degrees_file: Path, clock: SimulatedClock) -> None:
    overrides = EnvironmentOverrides(emissivity=0.5, correction_celsius=3.0)
    with ReplayCamera(degrees_file, clock=clock, overrides=overrides) as camera:
        frames = [camera.read(timeout_s=1) for _ in range(3)]
    assert {frame.flags for frame in frames} == {FrameFlag.ESTIMATED}
    assert frames[0].celsius.max() == pytest.approx(35.0, abs=0.02)
    assert frames[1].celsius.max() == pytest.approx(35.5, abs=0.02)
    assert camera.info.serial == "ESTIMATED"


def test_the_hosts_values_change_what_is_counted(stack_file: Path, clock: SimulatedClock) -> None:
    overrides = EnvironmentOverrides(emissivity=0.5)
    with ReplayCamera(stack_file, clock=clock, overrides=overrides) as camera:
        frame = camera.read(timeout_s=1)
    assert frame.calibration.environment.emissivity == 0.5


def test_a_recording_gives_the_temperatures_and_flags_of_its_capture(
    tmp_path: Path, transfers: NDArray[np.uint16], clock: SimulatedClock
) -> None:
    flags = [FrameFlag.SETTLING, FrameFlag.NONE, FrameFlag.SHUTTER, FrameFlag.DRIFTED]
    recorded = record(tmp_path / "r.mkv", transfers, [0, 1, 2, 3], flags)
    with ReplayCamera(tmp_path / "r.mkv", clock=clock, loop=False) as camera:
        assert camera.info.frame_rate_hz == 1
        frames = [camera.read(timeout_s=1) for _ in range(4)]
    assert [frame.flags for frame in frames] == flags
    assert [frame.calibration for frame in frames] == [frame.calibration for frame in recorded]
    for frame, original in zip(frames, recorded, strict=True):
        assert np.array_equal(frame.celsius, original.celsius)
        assert np.array_equal(frame.transfer, original.transfer)
    assert [frame.captured_monotonic_ns for frame in frames] == [second * NS_PER_S for second in range(4)]


def test_a_long_gap_in_a_recording_is_not_played_in_full(
    tmp_path: Path, transfers: NDArray[np.uint16], clock: SimulatedClock
) -> None:
    record(tmp_path / "r.mkv", transfers, [0, 1, 600, 601], [FrameFlag.NONE] * 4)
    with ReplayCamera(tmp_path / "r.mkv", clock=clock, loop=False) as camera:
        times_s = [camera.read(timeout_s=2).captured_monotonic_ns / NS_PER_S for _ in range(4)]
    assert times_s == [0, 1, 1 + LONGEST_PAUSE_S, 2 + LONGEST_PAUSE_S]


def test_a_damaged_frame_of_a_recording_is_a_refused_one(
    tmp_path: Path, transfers: NDArray[np.uint16], clock: SimulatedClock
) -> None:
    path = tmp_path / "r.mkv"
    record(path, transfers, [0, 1, 2, 3], [FrameFlag.NONE] * 4)
    content = bytearray(path.read_bytes())
    middle = len(content) * 3 // 8  # inside the second of four frames
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    with ReplayCamera(path, clock=clock, loop=False) as camera:
        assert camera.read(timeout_s=1).sequence == 0
        with pytest.raises(FrameRejectedError, match="length"):
            camera.read(timeout_s=1)
        assert [camera.read(timeout_s=1).sequence for _ in range(2)] == [2, 3]


def test_a_picture_is_understood_once_and_shown_again(tmp_path: Path, clock: SimulatedClock) -> None:
    gray = np.tile(np.arange(256, dtype=np.uint8), (192, 1))
    path = tmp_path / "ramp.png"
    assert cv2.imwrite(str(path), gray)
    scale = FalseColourScale(range_celsius=(20.0, 40.0))
    with ReplayCamera(path, clock=clock, loop=True, scale=scale) as camera:
        first = camera.read(timeout_s=1)
        path.unlink()
        again = camera.read(timeout_s=1)
    assert np.array_equal(first.celsius, again.celsius)
    assert first.celsius[0, 0] == pytest.approx(20.0, abs=0.1)
    assert first.celsius[0, 255] == pytest.approx(40.0, abs=0.1)


def test_the_rooms_temperature_among_the_hosts_values_is_that_of_the_picture(
    tmp_path: Path, clock: SimulatedClock
) -> None:
    gray = np.tile(np.arange(256, dtype=np.uint8), (192, 1))
    assert cv2.imwrite(str(tmp_path / "ramp.png"), gray)
    # Two readings close together leave the rest open: the room decides.
    scale = FalseColourScale(readings=(Reading(x=240, y=90, celsius=31), Reading(x=230, y=90, celsius=30.8)))
    medians = []
    for room in (18.0, 28.0):
        overrides = EnvironmentOverrides(air_celsius=room)
        with ReplayCamera(tmp_path / "ramp.png", clock=clock, scale=scale, overrides=overrides) as camera:
            medians.append(float(np.median(camera.read(timeout_s=1).celsius)))
    assert medians[0] < medians[1]


def test_material_that_vanishes_is_a_lost_camera(tmp_path: Path, stack_file: Path, clock: SimulatedClock) -> None:
    with ReplayCamera(stack_file, clock=clock, loop=True) as camera:
        for _ in range(4):
            camera.read(timeout_s=1)
        stack_file.unlink()
        with pytest.raises(CameraLostError, match="cannot be read any more"):
            camera.read(timeout_s=1)


def test_what_cannot_be_opened_says_why(tmp_path: Path, clock: SimulatedClock) -> None:
    with pytest.raises(MaterialError, match="no such file"), ReplayCamera(tmp_path / "none.npy", clock=clock):
        pass


def test_a_closed_replay_is_not_read(stack_file: Path, clock: SimulatedClock) -> None:
    camera = ReplayCamera(stack_file, clock=clock)
    with pytest.raises(CameraLostError, match="not open"):
        camera.read(timeout_s=1)
    with pytest.raises(CameraLostError, match="not open"):
        _ = camera.info


def test_a_shutter_command_is_taken_and_does_nothing(stack_file: Path, clock: SimulatedClock) -> None:
    with ReplayCamera(stack_file, clock=clock) as camera:
        before = camera.read(timeout_s=1)
        camera.calibrate()
        after = camera.read(timeout_s=1)
    assert (after.sequence, after.flags) == (before.sequence + 1, FrameFlag.NONE)


@pytest.mark.real
def test_the_real_v2_transfer_is_replayed_as_uncertain(real_material: Path, clock: SimulatedClock) -> None:
    path = real_material / "camera" / "real" / "t2s_v2_2024-06-21_frame.npy"
    with ReplayCamera(path, clock=clock) as camera:
        frames = [camera.read(timeout_s=1) for _ in range(3)]
    assert all(frame.flags & FrameFlag.UNCERTAIN for frame in frames)
    assert not any(frame.flags & FrameFlag.SHUTTER for frame in frames)
    assert frames[0].transfer.tobytes() == np.load(path).tobytes()
    assert camera.info.serial == "ME1299"


@pytest.mark.real
def test_the_real_picture_is_replayed_as_estimated(real_material: Path, clock: SimulatedClock) -> None:
    scale = FalseColourScale(readings=(Reading(x=390, y=683, celsius=29.3), Reading(x=714, y=534, celsius=26.3)))
    with ReplayCamera(real_material / "real" / "rat_frame_00001.jpg", clock=clock, scale=scale) as camera:
        frame = camera.read(timeout_s=1)
    assert frame.flags == FrameFlag.ESTIMATED
    assert frame.celsius.max() == pytest.approx(29.3, abs=0.5)
