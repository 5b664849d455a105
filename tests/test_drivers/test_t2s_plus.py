"""The T2S+ over a fake kernel: real bytes from the simulator and the golden vectors, commands that act."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from drivers.clock import NS_PER_S
from drivers.errors import (
    CameraAbsentError,
    CameraLostError,
    CameraRefusedError,
    FrameRejectedError,
    FrameTimeoutError,
)
from drivers.frame import FrameFlag, ThermalFrame
from drivers.gain_map import FETCH_ATTEMPTS, GainMapError
from drivers.shutter import REOPENED_S
from drivers.simulated import Fault
from drivers.start_up import Stage
from drivers.t2s_plus import FrameNumbers, T2SPlusCamera
from drivers.t2s_protocol import IMAGE_HEIGHT, Command, Variant
from drivers.thermometry import EnvironmentOverrides, temperature_table
from drivers.usb import UsbCamera

if TYPE_CHECKING:
    from tests.test_drivers.conftest import Bench

FRAME_S = 0.04
PATIENCE_S = 10.0


def read_for(camera: T2SPlusCamera, duration_s: float) -> list[ThermalFrame]:
    """The good frames of so many seconds."""
    frames = []
    for _ in range(round(duration_s / FRAME_S)):
        try:
            frames.append(camera.read(1))
        except FrameRejectedError:
            continue
    return frames


def flagged(frames: list[ThermalFrame], flag: FrameFlag) -> list[bool]:
    return [flag in frame.flags for frame in frames]


# Start-up


def test_the_first_commands_and_the_stream_come_in_their_order(bench: Bench) -> None:
    with bench.v1() as camera:
        read_for(camera, 2)
        assert camera.stage is Stage.READY
    assert bench.kernel.events == [
        *("format", "0x8004", "start"),
        "0x8004",
        *("0x8020", "0x8004"),
        *("0x8000", "0x8004"),
        "stop",
    ]


def test_frames_are_settling_until_the_first_shutter_cycle_is_over_and_then_free_of_flags(bench: Bench) -> None:
    with bench.v1() as camera:
        frames = read_for(camera, 8)
    settling, frozen = flagged(frames, FrameFlag.SETTLING), flagged(frames, FrameFlag.SHUTTER)
    first_frozen, last_frozen = frozen.index(True), len(frozen) - 1 - frozen[::-1].index(True)
    assert 30 <= frozen.count(True) <= 31
    assert all(settling[:first_frozen])
    assert all(settling[last_frozen + 1 : last_frozen + 75])
    assert not any(settling[last_frozen + 77 :])
    assert frames[-1].flags == FrameFlag.NONE


def test_degrees_are_those_of_the_simulated_scene(bench: Bench) -> None:
    with bench.v1() as camera:
        frame = read_for(camera, 8)[-1]
    truth = bench.device.truth_at(frame.captured_monotonic_ns).radiometric_celsius
    assert float(np.abs(frame.celsius - truth).mean()) < 0.05


def test_the_camera_that_powers_up_is_not_told_to_calibrate(bench: Bench) -> None:
    with bench.v1(warm=False) as camera:
        for _ in range(300):
            try:
                camera.read(0.5)
            except FrameTimeoutError:
                continue
        assert camera.stage is Stage.READY
    assert Command.SHUTTER not in bench.kernel.words
    assert Command.NORMAL_RANGE in bench.kernel.words


def test_who_it_is_comes_from_usb_and_then_from_its_frames(bench: Bench) -> None:
    with bench.v1() as camera:
        before = camera.info
        camera.read(1)
        after = camera.info
    assert (before.kind, before.product, before.serial, before.location) == (
        "t2s_plus",
        "T2S+",
        "KA1213",
        "USB port 1-2",
    )
    assert (after.serial, after.firmware, camera.variant) == ("SIM00005", "1.00.simulated", Variant.V1)


def test_values_of_the_host_go_before_those_of_the_camera(bench: Bench) -> None:
    bench.v1()
    with bench.camera(overrides=EnvironmentOverrides(emissivity=0.5)) as camera:
        assert camera.read(1).calibration.environment.emissivity == 0.5


# Time and numbers


def test_frames_keep_the_kernels_time_on_both_clocks(bench: Bench) -> None:
    with bench.v1() as camera:
        frame = camera.read(1)
        bench.clock.step_wall(-3600)
        later = camera.read(1)
    offset_ns = frame.captured_utc_ns - frame.captured_monotonic_ns
    assert offset_ns == bench.clock.utc_ns() - bench.clock.monotonic_ns() + 3600 * NS_PER_S
    assert later.captured_utc_ns - later.captured_monotonic_ns == offset_ns - 3600 * NS_PER_S
    assert later.captured_monotonic_ns - frame.captured_monotonic_ns == pytest.approx(FRAME_S * NS_PER_S, abs=2000)


def test_a_frame_that_comes_late_keeps_its_number_and_is_missing_no_more() -> None:
    numbers = FrameNumbers()
    assert [numbers.take(kernel_number) for kernel_number in (7, 8, 10, 9, 11)] == [0, 1, 3, 2, 4]
    assert numbers.missing == 0


def test_the_kernels_number_may_run_over() -> None:
    numbers = FrameNumbers()
    assert [numbers.take(kernel_number) for kernel_number in (2**32 - 2, 2**32 - 1, 0, 2)] == [0, 1, 2, 4]
    assert numbers.missing == 1


def test_a_frame_dropped_by_the_kernel_is_a_gap_and_counted(bench: Bench) -> None:
    camera = bench.v1()
    original = bench.kernel.source
    bench.kernel.source = lambda number: _with(original(number), lost=number in (4, 5))
    with camera:
        sequences = [camera.read(1).sequence for _ in range(6)]
        assert camera.missing_frames == 2
    assert sequences == [0, 1, 2, 3, 6, 7]


def _with(scripted: Any, **changes: Any) -> Any:
    return None if scripted is None else replace(scripted, **changes)


# Bad transfers


def test_a_damaged_buffer_is_refused_and_the_next_one_read(bench: Bench) -> None:
    camera = bench.v1()
    original = bench.kernel.source
    bench.kernel.source = lambda number: _with(original(number), damaged=number == 2)
    with camera:
        camera.read(1), camera.read(1)
        with pytest.raises(FrameRejectedError) as refused:
            camera.read(1)
        assert refused.value.reason == "damaged"
        assert camera.read(1).sequence == 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(Fault.TRUNCATED, "length", id="short"),
        pytest.param(Fault.TORN, "statistics", id="torn"),
        pytest.param(Fault.ALL_ZERO, "uniform", id="all zero"),
        pytest.param(Fault.WRONG_MODE, "output_mode", id="another mode"),
    ],
)
def test_bad_transfers_are_refused_by_reason(bench: Bench, fault: Fault, reason: str) -> None:
    with bench.v1() as camera:
        read_for(camera, 2)
        bench.device.inject(fault, frames=3)
        refused: Counter[str] = Counter()
        for _ in range(6):
            try:
                camera.read(1)
            except FrameRejectedError as error:
                refused[error.reason] += 1
    assert refused == {reason: 3}


def test_a_camera_in_another_output_mode_gets_the_mode_asked_for_twice(bench: Bench) -> None:
    with bench.v1() as camera:
        bench.device.inject(Fault.WRONG_MODE, frames=40)
        read_for(camera, 3)
    assert bench.kernel.words[:3] == [0x8004, 0x8004, 0x8020]


# Lost cameras


def test_an_absent_camera_is_told_from_one_that_has_gone(bench: Bench) -> None:
    with pytest.raises(CameraAbsentError), bench.camera():
        pass
    with bench.v1() as camera:
        camera.read(1)
        bench.kernel.gone = True
        with pytest.raises(CameraLostError, match="No such device"):
            camera.read(1)
    assert (bench.kernel.opened, bench.kernel.mapped) == ({}, 0)


def test_a_camera_plugged_in_again_is_the_same_object_on_another_node(bench: Bench) -> None:
    camera = bench.v1()
    with camera:
        camera.read(1)
        bench.kernel.gone = True
        bench.sysfs.unplug()
    bench.kernel.gone = False
    bench.sysfs.plug(node=3)
    bench.kernel.device_number_now = "81:3"
    with camera:
        assert camera.read(1).sequence == 0
    assert (bench.kernel.opened, bench.kernel.mapped) == ({}, 0)


def test_a_restarted_stream_goes_through_the_start_up_again_and_counts_on(bench: Bench) -> None:
    with bench.v1() as camera:
        read_for(camera, 3)
        bench.device.inject(Fault.FREEZE, duration_s=1)
        with pytest.raises(FrameTimeoutError):
            camera.read(0.5)
        last = camera.missing_frames
        camera.restart_stream()
        frames = read_for(camera, 3)
        assert (camera.missing_frames, camera.stage) == (last, Stage.READY)
    assert frames[0].sequence == 75
    assert bench.kernel.events.count("start") == 2
    assert bench.kernel.words.count(0x8020) == 2


def test_a_range_of_the_control_that_clamps_is_refused_before_any_word_and_nothing_stays_open(bench: Bench) -> None:
    bench.kernel.zoom_range = (0, 100, 1)
    with pytest.raises(CameraRefusedError, match="commands would be changed"), bench.v1():
        pass
    assert (bench.kernel.words, bench.kernel.opened, bench.kernel.mapped) == ([], {}, 0)


# Commands


def test_calibrating_returns_at_once_and_the_frames_freeze(bench: Bench) -> None:
    with bench.v1() as camera:
        read_for(camera, 8)
        before_ns = bench.clock.monotonic_ns()
        camera.calibrate()
        assert bench.clock.monotonic_ns() == before_ns
        frames = read_for(camera, 2)
    assert 30 <= flagged(frames, FrameFlag.SHUTTER).count(True) <= 31
    assert all(flagged(frames, FrameFlag.SETTLING)[:2])  # before the freeze: the shutter is on its way
    assert bench.kernel.words[-2:] == [0x8000, 0x8004]


def test_a_hanging_control_costs_no_frame_and_is_counted(bench: Bench) -> None:
    with bench.v1() as camera:
        read_for(camera, 8)
        assert camera.commands_done(PATIENCE_S)
        bench.kernel.before_poll = lambda: None
        bench.kernel.hang.set()
        for _ in range(20):
            camera.calibrate()
        frames = [camera.read(1) for _ in range(150)]
        sequences = [frame.sequence for frame in frames]
        assert sequences == list(range(sequences[0], sequences[0] + 150))
        assert not any(flagged(frames, FrameFlag.SHUTTER))
        bench.kernel.hang.clear()
        bench.kernel.unhang.set()
        assert camera.commands_done(PATIENCE_S)
        assert bench.kernel.hung_calls == 1  # nothing piled up
        assert (camera.control.failed, camera.control.last_error) == (
            1,
            f"{bench.sysfs.dev / 'video0'}: command 0x8000: Connection timed out",
        )
        assert "1 commands did not reach the camera" in camera.notes[0]
        camera.calibrate()
        assert camera.commands_done(PATIENCE_S)
    assert bench.kernel.words[-2:] == [0x8000, 0x8004]


def test_a_camera_that_hangs_at_opening_is_read_all_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.t2s_plus.FIRST_COMMAND_S", 0.05)
    camera = bench.v1()
    bench.kernel.before_poll = lambda: None
    bench.kernel.hang.set()
    with camera:
        assert [camera.read(1).sequence for _ in range(5)] == [0, 1, 2, 3, 4]
        bench.kernel.hang.clear()
        bench.kernel.unhang.set()


def test_a_stalled_command_is_repeated(bench: Bench) -> None:
    bench.kernel.control_failures.extend([errno.EPIPE] * 3)
    with bench.v1() as camera:
        read_for(camera, 2)
        assert camera.control.failed == 0
    assert bench.kernel.words[0] == 0x8004


def test_a_range_switch_sends_range_and_shutter(bench: Bench) -> None:
    with bench.v1() as camera:
        read_for(camera, 3)
        at = len(bench.kernel.words)
        camera.select_range(high=True)
        frames = read_for(camera, 2)
    assert bench.kernel.words[at:] == [0x8021, 0x8004, 0x8000, 0x8004]
    assert all(flagged(frames, FrameFlag.SETTLING)[:12])


def test_the_configured_range_is_set_at_start_up(bench: Bench) -> None:
    bench.v1()
    with bench.camera(high_range=True) as camera:
        read_for(camera, 2)
    assert 0x8021 in bench.kernel.words
    assert 0x8020 not in bench.kernel.words


# The v2


class RawCamera:
    """A v2 made of the golden vectors: the shutter command shows the blade, everything else the scene.

    Every second picture differs in one pixel, since no two pictures of a real sensor are equal.
    """

    CLOSED_S = (0.1, 0.95)

    def __init__(self, bench: Bench, golden: Path, make_descriptors: Callable[..., bytes]) -> None:
        with np.load(golden / "v2_nuc.npz") as vectors:
            self.scene, blade = vectors["scene_frame"], vectors["shutter_frame0"]
            offsets = vectors["shutter_frame_offsets"]
            self.gain, self.final = vectors["gain_k"], vectors["final_counts"]
        self.blades = [blade.copy() for _ in offsets]
        for moved, offset in zip(self.blades, offsets, strict=True):
            image = moved[:IMAGE_HEIGHT]
            image[image > 0] += np.uint16(offset)
        self.not_ready = 0
        """So many shutter commands are answered with nonsense."""
        self._clock = bench.clock
        self._closed_at_ns: int | None = None
        blob = make_descriptors(vendor=0x04B4, product=0x0100, bulk=True)
        bench.sysfs.plug(vendor=0x04B4, product_id=0x0100, product="T2S+", serial="", blob=blob)
        bench.kernel.on_word = self._take
        bench.stream(self._payload)

    def is_scene(self, frame: ThermalFrame) -> bool:
        """Whether a frame is the golden scene to the bit."""
        return np.array_equal(frame.transfer, self.scene)

    def _take(self, word: int) -> None:
        if word == Command.SHUTTER:
            self._closed_at_ns = self._clock.monotonic_ns()
            self.not_ready -= 1

    def _payload(self, number: int, arrival_ns: int) -> bytes:
        since_s = np.inf if self._closed_at_ns is None else (arrival_ns - self._closed_at_ns) / NS_PER_S
        if self.CLOSED_S[0] <= since_s <= self.CLOSED_S[1]:
            transfer = self.blades[number % len(self.blades)]
            if self.not_ready >= 0:
                transfer = transfer.copy()
                transfer[:IMAGE_HEIGHT] = 16_000 + number % 2
                transfer[0, 0] = 1
        else:
            transfer = self.scene
            if number % 2:
                transfer = transfer.copy()
                transfer[10, 10] += 1
        return bytes(transfer.astype("<u2"))


class GainStream:
    """Answers the command for the gain map with its rows, as libusb hands them on."""

    def __init__(self, raw: RawCamera, bench: Bench, *, rows: int = IMAGE_HEIGHT) -> None:
        self.words: list[int] = []
        self._clock = bench.clock
        lines = raw.gain[:rows].astype("<u2")
        self._gain = [_gain_payload(line.tobytes()) for line in lines]
        self._waiting = [_payload(b"", marker=1)] * 3

    def __enter__(self) -> GainStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def command(self, word: int) -> None:
        """See `drivers.libusb.PayloadStream`."""
        self.words.append(word)
        if word == Command.GAIN_MAP:
            self._waiting = [*self._gain]

    def read_payload(self, timeout_s: float) -> bytes | None:
        """See `drivers.libusb.PayloadStream`."""
        self._clock.advance(min(timeout_s, 0.006))
        return self._waiting.pop(0) if self._waiting else None


def _payload(data: bytes, *, marker: int) -> bytes:
    return bytes((12, 0x80, 0, 0, 0, 0, marker, 0, 0, 0, 0, 0)) + data


def _gain_payload(line: bytes) -> bytes:
    return _payload(line + bytes(14_336 - len(line)), marker=2)


@pytest.fixture
def raw(bench: Bench, golden: Path, make_descriptors: Callable[..., bytes]) -> RawCamera:
    return RawCamera(bench, golden, make_descriptors)


SERIAL = "ME1299"


@pytest.fixture
def with_map(bench: Bench, raw: RawCamera) -> T2SPlusCamera:
    """A v2 whose gain map is known."""
    bench.gain_maps.save(SERIAL, raw.gain)
    return bench.camera(open_payloads=_no_payloads)


def _no_payloads(camera: UsbCamera) -> GainStream:
    raise AssertionError(f"the gain map of {camera} is known")


def test_a_v2_is_corrected_with_its_shutter_picture_and_its_gain_map_to_the_golden_counts(
    with_map: T2SPlusCamera, raw: RawCamera
) -> None:
    with with_map as camera:
        frames = read_for(camera, 7)
        assert (camera.variant, camera.notes, camera.info.serial) == (Variant.V2, (), SERIAL)
    good = [frame for frame in frames[-20:] if raw.is_scene(frame)]
    assert len(good) == 10
    for frame in good:
        assert frame.flags == FrameFlag.NONE
        np.testing.assert_array_equal(frame.celsius, temperature_table(frame.calibration)[raw.final])


def test_a_v2_is_uncertain_until_its_shutter_was_seen_and_no_picture_of_the_blade_is_a_measurement(
    with_map: T2SPlusCamera, bench: Bench, raw: RawCamera
) -> None:
    with with_map as camera:
        frames = read_for(camera, 7)
        first = next(frame for frame in frames if frame.flags == FrameFlag.NONE)
        camera.calibrate()
        again = read_for(camera, 2)
    uncertain = flagged(frames, FrameFlag.UNCERTAIN)
    assert uncertain.index(False) < frames.index(first)
    assert not any(uncertain[uncertain.index(False) :])
    shutter = flagged(frames, FrameFlag.SHUTTER)
    assert shutter.count(True) == round(REOPENED_S / FRAME_S)
    assert bench.kernel.words == [0x8004, 0x8004, 0x8020, 0x8004, 0x8000, 0x8004, 0x8000, 0x8004]
    for frame in [*frames, *again]:
        if any(np.array_equal(frame.counts, blade[:IMAGE_HEIGHT]) for blade in raw.blades):
            assert FrameFlag.SHUTTER in frame.flags


def test_a_v2_that_is_not_ready_is_calibrated_again(with_map: T2SPlusCamera, bench: Bench, raw: RawCamera) -> None:
    raw.not_ready = 2
    with with_map as camera:
        read_for(camera, 5)
        assert "not been calibrated yet" in camera.notes[0]
        frames = read_for(camera, 5)
        assert camera.notes == ()
    assert bench.kernel.words.count(0x8000) == 3
    assert frames[-1].flags == FrameFlag.NONE


def test_a_v2_whose_shutter_command_fails_is_calibrated_later(
    with_map: T2SPlusCamera, bench: Bench, raw: RawCamera
) -> None:
    with with_map as camera:
        read_for(camera, 0.6)
        bench.kernel.control_failures.append(errno.ETIMEDOUT)
        frames = read_for(camera, 8)
        assert camera.control.failed == 1
    assert frames[-1].flags == FrameFlag.NONE


def test_the_gain_map_of_an_unknown_v2_is_fetched_once_and_kept_on_disk(
    bench: Bench, raw: RawCamera, tmp_path: Path
) -> None:
    streams: list[GainStream] = []

    def open_payloads(camera: UsbCamera) -> GainStream:
        assert bench.kernel.opened == {}, "the kernel's driver must have let go of the camera"
        streams.append(GainStream(raw, bench))
        return streams[-1]

    camera = bench.camera(open_payloads=open_payloads)
    for _ in range(2):
        with camera:
            frames = read_for(camera, 7)
        assert frames[0].sequence == 0
        assert frames[-1].flags == FrameFlag.NONE
    assert [stream.words for stream in streams] == [[0x8081, 0x8004]]
    assert [path.name for path in (tmp_path / "camera").iterdir()] == [f"gain-map-{SERIAL}.bin"]


def test_a_v2_without_gain_map_is_read_all_the_same_and_uncertain_with_the_reason(bench: Bench, raw: RawCamera) -> None:
    attempts = 0

    def refuse(camera: UsbCamera) -> GainStream:
        nonlocal attempts
        attempts += 1
        raise GainMapError("no rows")

    camera = bench.camera(open_payloads=refuse)
    for _ in range(FETCH_ATTEMPTS + 2):
        with camera:
            frames = read_for(camera, 4)
            assert f"no gain map of {SERIAL}" in camera.notes[0]
        assert all(flagged(frames, FrameFlag.UNCERTAIN))
    assert attempts == FETCH_ATTEMPTS


def test_a_gain_map_that_does_not_come_whole_is_given_up_in_time(bench: Bench, raw: RawCamera) -> None:
    camera = bench.camera(open_payloads=lambda usb: GainStream(raw, bench, rows=100))
    with camera:
        assert FrameFlag.UNCERTAIN in camera.read(1).flags
    assert bench.clock.monotonic_ns() < 10 * NS_PER_S


def test_frames_are_believed_when_the_usb_identity_says_otherwise(
    bench: Bench, raw: RawCamera, caplog: pytest.LogCaptureFixture
) -> None:
    bench.sysfs.unplug()
    bench.sysfs.plug(product="T2S+")  # a v1 by its numbers
    with bench.camera() as camera:
        camera.read(1)
        assert camera.variant is Variant.V2
    (message,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert "its USB identity says v1, its frames say v2; the frames are believed" in message


def test_a_range_switch_of_a_v2_makes_its_offset_void(with_map: T2SPlusCamera) -> None:
    with with_map as camera:
        read_for(camera, 7)
        camera.select_range(high=True)
        assert FrameFlag.UNCERTAIN in camera.read(1).flags
        assert FrameFlag.UNCERTAIN not in read_for(camera, 4)[-1].flags
