"""When a shutter cycle is asked for, and that it costs no planned moment where it can be helped."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from typing import Self

import pytest

from daemon.capture import CaptureLoop, CaptureSettings
from daemon.recalibration import (
    FREEZE_S,
    MIN_RECALIBRATION_INTERVAL_S,
    PLACEMENT_PATIENCE_S,
    RecalibrationPolicy,
    costs_nothing,
)
from daemon.sampling import SHUTTER, Item, MissingSamples, Sampler
from daemon.schedule import PlannedBlock
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.device_timeline import Timeline
from drivers.frame import FrameFlag, ThermalFrame
from drivers.sensor_model import Warmth
from drivers.simulated import SimulatedCamera
from drivers.t2s_protocol import FRAME_RATE_HZ, fpa_raw
from drivers.thermometry import Calibration

START_UTC_NS = 1_795_000_000 * NS_PER_S
WARM_UP_S = 600


def block_of(period_s: float) -> PlannedBlock:
    return PlannedBlock(
        day=date(2026, 11, 18),
        stratum="morning",
        number=1,
        start_utc_ns=START_UTC_NS,
        duration_ns=WARM_UP_S * NS_PER_S,
        period_ns=round(period_s * NS_PER_S),
    )


@pytest.fixture
def frame() -> Callable[..., ThermalFrame]:
    """Makes a frame of so many seconds after the start whose detector has drifted since its calibration."""
    with SimulatedCamera.create(clock=SimulatedClock(START_UTC_NS)) as camera:
        original = camera.read(timeout_s=1)

    def make(at_s: float, *, drift_celsius: float = 0) -> ThermalFrame:
        calibration: Calibration = dataclasses.replace(
            original.calibration, fpa_celsius=original.metadata.fpa_celsius - drift_celsius
        )
        return dataclasses.replace(original, captured_monotonic_ns=round(at_s * NS_PER_S), calibration=calibration)

    return make


def asked_of(policy: RecalibrationPolicy, frame: ThermalFrame, *, in_block: bool) -> bool:
    due = policy.due(frame, in_block=in_block)
    if due:
        policy.calibrated(frame.captured_monotonic_ns)
    return due


def test_calibration_is_asked_for_by_age_with_double_patience_in_a_block(frame: Callable[..., ThermalFrame]) -> None:
    policy = RecalibrationPolicy(after_s=100)
    assert [second for second in range(0, 450, 10) if asked_of(policy, frame(second), in_block=False)] == [
        100,
        200,
        300,
        400,
    ]
    policy = RecalibrationPolicy(after_s=100)
    assert [second for second in range(0, 450, 10) if asked_of(policy, frame(second), in_block=True)] == [200, 400]


@pytest.mark.parametrize("in_block", [False, True])
def test_drift_is_corrected_soon_but_never_twice_in_quick_succession(
    frame: Callable[..., ThermalFrame], in_block: bool
) -> None:
    policy = RecalibrationPolicy(after_s=100)
    asked = [
        second
        for second in range(40)
        if asked_of(policy, frame(second, drift_celsius=-0.3 if second > 3 else 0.2), in_block=in_block)
    ]
    assert asked == [MIN_RECALIBRATION_INTERVAL_S, 2 * MIN_RECALIBRATION_INTERVAL_S]


def test_patience_begins_anew_with_each_cycle_that_is_due(frame: Callable[..., ThermalFrame]) -> None:
    policy = RecalibrationPolicy(after_s=100)
    policy.due(frame(0), in_block=False)
    assert not policy.out_of_patience(0)
    for second in (100, 105):
        assert policy.due(frame(second), in_block=False)
        assert not policy.out_of_patience(second * NS_PER_S)
    assert policy.out_of_patience(round((100 + PLACEMENT_PATIENCE_S) * NS_PER_S))
    policy.calibrated(111 * NS_PER_S)
    assert not policy.out_of_patience(200 * NS_PER_S)


def at(frame: ThermalFrame, second: float) -> ThermalFrame:
    """A frame at this second of the block."""
    ns = round(second * NS_PER_S)
    return dataclasses.replace(frame, captured_monotonic_ns=ns, captured_utc_ns=START_UTC_NS + ns)


def harmless_seconds(sampler: Sampler, frame: ThermalFrame, seconds: Iterable[float]) -> list[float]:
    harmless = []
    for second in seconds:
        shown = at(frame, second)
        sampler.offer(shown)
        if costs_nothing(shown, sampler, lambda _utc_ns: None):
            harmless.append(second)
    return harmless


@pytest.mark.parametrize(
    ("period_s", "harmless"),
    [
        pytest.param(1.0, [0.0, 0.2, 0.4], id="each second: early in a window, when its picture is taken"),
        pytest.param(10.0, [0.0, 0.2, 0.4, 0.6, 0.8], id="each ten seconds: at any time"),
        pytest.param(0.04, [0.0, 0.2, 0.4, 0.6, 0.8], id="each frame: some are lost wherever it is put"),
    ],
)
def test_a_cycle_is_put_where_the_next_planned_moment_keeps_its_picture(
    frame: Callable[..., ThermalFrame], period_s: float, harmless: list[float]
) -> None:
    sampler = Sampler([], outside_rate_hz=1)
    sampler.start_block(block_of(period_s), at_utc_ns=START_UTC_NS)
    assert harmless_seconds(sampler, frame(0), [0.0, 0.2, 0.4, 0.6, 0.8]) == harmless


def test_no_cycle_begins_just_before_a_block(frame: Callable[..., ThermalFrame]) -> None:
    sampler, start_ns = Sampler([], outside_rate_hz=1), START_UTC_NS + 10 * NS_PER_S
    waits = [
        second
        for second in (0.0, 8.0, 9.0, 9.9)
        if not costs_nothing(at(frame(0), second), sampler, lambda _utc_ns: start_ns)
    ]
    assert waits == [second for second in (0.0, 8.0, 9.0, 9.9) if 10 - second < FREEZE_S] == [9.0, 9.9]


class WarmingCamera:
    """A camera that warms up and obeys shutter commands; its frames have the flags and numbers, and no new pictures."""

    def __init__(self, template: ThermalFrame, clock: SimulatedClock) -> None:
        self._template = template
        self._clock = clock
        self._timeline = Timeline(number=0, started_ns=clock.monotonic_ns(), warmth=Warmth(start_rise_celsius=0.0))
        self._frame = -1
        self.info = CameraInfo(
            kind="simulated", product="", serial="", firmware="", location="", frame_rate_hz=FRAME_RATE_HZ
        )
        self.cycles = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def calibrate(self) -> None:
        """See `ThermalCamera`."""
        self._timeline.close_shutter(self._clock.monotonic_ns())
        self.cycles += 1

    def read(self, timeout_s: float) -> ThermalFrame:
        """See `ThermalCamera`."""
        self._frame += 1
        due_ns = self._timeline.arrival_ns(self._frame)
        self._clock.wait((due_ns - self._clock.monotonic_ns()) / NS_PER_S)
        picture = self._timeline.picture_of(self._frame)
        fpa = self._timeline.warmth.fpa_celsius(self._timeline.powered_s(picture))
        return dataclasses.replace(
            self._template,
            sequence=self._frame,
            captured_monotonic_ns=self._clock.monotonic_ns(),
            captured_utc_ns=self._clock.utc_ns(),
            metadata=dataclasses.replace(self._template.metadata, fpa_raw=fpa_raw(fpa)),
            calibration=dataclasses.replace(
                self._template.calibration, fpa_celsius=self._timeline.last_event(picture).fpa_celsius
            ),
            flags=FrameFlag.NONE if picture == self._frame else FrameFlag.SHUTTER,
        )


class WarmUp:
    """The capture loop over a camera that warms up, for one block."""

    def __init__(self, template: ThermalFrame, period_s: float) -> None:
        clock, items = SimulatedClock(START_UTC_NS), list[Item]()
        sampler = Sampler([items.append], outside_rate_hz=1)
        camera = WarmingCamera(template, clock)
        loop = CaptureLoop(
            lambda: camera,
            sampler,
            clock=clock,
            settings=CaptureSettings(frame_timeout_s=2, retry_max_s=5, recalibrate_after_s=380),
            beat=lambda: None,
        )
        block = block_of(period_s)
        sampler.start_block(block, at_utc_ns=START_UTC_NS)
        while clock.utc_ns() < block.end_utc_ns:
            loop.step(camera)
        sampler.end_block(at_utc_ns=block.end_utc_ns)
        self.planned, self.cycles = block.frames, camera.cycles
        self.lost: Counter[str] = Counter()
        for item in items:
            if isinstance(item, MissingSamples):
                self.lost[item.reason] += len(item.planned_utc_ns)


def test_a_warm_up_block_loses_no_planned_second_to_shutter_cycles(frame: Callable[..., ThermalFrame]) -> None:
    run = WarmUp(frame(0), period_s=1.0)
    print(  # noqa: T201 - the figure of the test
        f"{run.cycles} shutter cycles in {run.planned} planned seconds of a warm-up: lost {dict(run.lost)}"
    )
    assert run.cycles >= 20
    assert run.lost == {}


def test_a_block_of_every_frame_loses_just_those_of_the_shutter_cycles(frame: Callable[..., ThermalFrame]) -> None:
    run = WarmUp(frame(0), period_s=0.04)
    assert set(run.lost) == {SHUTTER}
    assert run.lost[SHUTTER] == 30 * run.cycles  # the first of the 31 frames is new
