"""What holds for every camera; a new driver only adds a row."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from drivers.camera import ThermalCamera
from drivers.clock import NS_PER_S, Clock, SimulatedClock
from drivers.decoder import FrameDecoder
from drivers.errors import CameraError, FrameTimeoutError
from drivers.frame import RawFrame
from drivers.replay import ReplayCamera
from drivers.simulated import SimulatedCamera
from drivers.t2s_protocol import FRAME_RATE_HZ, TRANSFER_BYTES

OpenCamera = Callable[[pytest.FixtureRequest, Path, Clock], ThermalCamera]

START_UTC_NS = 1_790_046_000 * NS_PER_S


def _simulated(request: pytest.FixtureRequest, folder: Path, clock: Clock) -> ThermalCamera:
    return SimulatedCamera.create(clock=clock, seed=7)


def _t2s_plus(request: pytest.FixtureRequest, folder: Path, clock: Clock) -> ThermalCamera:
    camera: ThermalCamera = request.getfixturevalue("bench").v1()
    return camera


def _replay(request: pytest.FixtureRequest, folder: Path, clock: Clock) -> ThermalCamera:
    with SimulatedCamera.create(clock=SimulatedClock(START_UTC_NS), seed=8) as source:
        transfers = [source.read(timeout_s=1).transfer for _ in range(12)]
    path = folder / "transfers.npz"
    np.savez(path, transfers=np.stack(transfers))
    return ReplayCamera(path, clock=clock)


CAMERAS = [
    pytest.param(_simulated, id="simulated"),
    pytest.param(_replay, id="replay"),
    pytest.param(_t2s_plus, id="t2s_plus"),
]


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START_UTC_NS)


@pytest.fixture(params=CAMERAS)
def closed_camera(request: pytest.FixtureRequest, tmp_path: Path, clock: SimulatedClock) -> ThermalCamera:
    open_camera: OpenCamera = request.param
    return open_camera(request, tmp_path, clock)


@pytest.fixture
def camera(closed_camera: ThermalCamera) -> Iterator[ThermalCamera]:
    with closed_camera:
        yield closed_camera


def test_sequence_counts_up_from_zero(camera: ThermalCamera) -> None:
    assert [camera.read(timeout_s=1).sequence for _ in range(3)] == [0, 1, 2]


def test_a_frame_cannot_be_painted_over(camera: ThermalCamera) -> None:
    frame = camera.read(timeout_s=1)
    for pixels in (frame.celsius, frame.transfer, frame.counts):
        with pytest.raises(ValueError, match="read-only"):
            pixels[0, 0] = 37


def test_a_frame_stays_as_it_is_when_the_next_one_comes(camera: ThermalCamera) -> None:
    first = camera.read(timeout_s=1)
    celsius, transfer = first.celsius.copy(), first.transfer.copy()
    camera.read(timeout_s=1)
    np.testing.assert_array_equal(first.celsius, celsius)
    np.testing.assert_array_equal(first.transfer, transfer)


def test_times_rise_at_the_cameras_rate(camera: ThermalCamera, clock: SimulatedClock) -> None:
    frames = [camera.read(timeout_s=1) for _ in range(4)]
    steps_s = [(b.captured_monotonic_ns - a.captured_monotonic_ns) / NS_PER_S for a, b in pairwise(frames)]
    assert steps_s == pytest.approx([1 / camera.info.frame_rate_hz] * 3)
    assert all(a.captured_utc_ns < b.captured_utc_ns for a, b in pairwise(frames))
    assert frames[-1].captured_monotonic_ns <= clock.monotonic_ns()


def test_the_transfer_decodes_to_the_same_degrees(camera: ThermalCamera) -> None:
    frame = camera.read(timeout_s=1)
    payload = frame.transfer.astype("<u2").tobytes()
    raw = RawFrame(
        sequence=frame.sequence,
        captured_utc_ns=frame.captured_utc_ns,
        captured_monotonic_ns=frame.captured_monotonic_ns,
        payload=payload,
    )
    again = FrameDecoder().decode(raw, calibration=frame.calibration)
    assert len(payload) == TRANSFER_BYTES
    np.testing.assert_array_equal(again.celsius, frame.celsius)
    assert again.metadata == frame.metadata


def test_nothing_within_the_timeout_is_a_timeout_and_reading_again_is_allowed(camera: ThermalCamera) -> None:
    camera.read(timeout_s=1)
    with pytest.raises(FrameTimeoutError):
        camera.read(timeout_s=0.1 / FRAME_RATE_HZ)
    assert camera.read(timeout_s=1).sequence == 1


def test_an_open_camera_says_who_it_is(camera: ThermalCamera) -> None:
    info = camera.info
    assert info.kind in ("simulated", "replay", "t2s_plus")
    assert info.product
    assert info.location
    assert info.frame_rate_hz > 0


def test_calibrating_is_allowed_on_every_camera(camera: ThermalCamera) -> None:
    camera.read(timeout_s=1)
    camera.calibrate()
    assert camera.read(timeout_s=1).sequence == 1


def test_a_closed_camera_refuses_to_read_and_says_so(closed_camera: ThermalCamera) -> None:
    with pytest.raises(CameraError, match="open"):
        closed_camera.read(timeout_s=1)
    with closed_camera:
        closed_camera.read(timeout_s=1)
    with pytest.raises(CameraError, match="open"):
        closed_camera.read(timeout_s=1)


def test_a_camera_opened_again_counts_from_zero_again(closed_camera: ThermalCamera) -> None:
    with closed_camera:
        closed_camera.read(timeout_s=1)
        closed_camera.read(timeout_s=1)
    with closed_camera:
        assert closed_camera.read(timeout_s=1).sequence == 0
