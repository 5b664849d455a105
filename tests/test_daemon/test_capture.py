"""The capture loop: it opens the camera anew for ever, and says what happened meanwhile."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import date
from itertools import pairwise
from typing import Self

import pytest

from daemon.capture import MAX_FREEZE_S, STILL_LOST_S, CaptureLoop, CaptureSettings
from daemon.sampling import CameraAway, CameraFound, CameraLost, Item, MissingSamples, Sample, Sampler
from daemon.schedule import PlannedBlock
from drivers.camera import ThermalCamera
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.errors import CameraError, CameraLostError, FrameTimeoutError, ReplayEndedError
from drivers.frame import FrameFlag, ThermalFrame
from drivers.recovery import FIRST_PAUSE_S
from drivers.simulated import Fault, SimulatedCamera, SimulatedDevice

START_UTC_NS = 1_795_000_000 * NS_PER_S
SETTINGS = CaptureSettings(frame_timeout_s=2, retry_max_s=5, recalibrate_after_s=380)
BLOCK = PlannedBlock(
    day=date(2026, 11, 18),
    stratum="morning",
    number=1,
    start_utc_ns=START_UTC_NS,
    duration_ns=600 * NS_PER_S,
    period_ns=NS_PER_S,
)

Happenings = Mapping[float, Callable[[], object]]


class Run:
    """A capture loop on a simulated clock; the loop's own heartbeat lets things happen, and ends it."""

    def __init__(
        self,
        *,
        device: SimulatedDevice | None = None,
        open_camera: Callable[[], AbstractContextManager[ThermalCamera]] | None = None,
        warm: bool = True,
        settings: CaptureSettings = SETTINGS,
        bus: "Bus | None" = None,
    ) -> None:
        self.clock = SimulatedClock(START_UTC_NS) if bus is None else bus.clock
        # An empty box: what is in the picture does not matter here, and animals take most of the time.
        self.device = device or SimulatedDevice(clock=self.clock, seed=3, animals=0, warm=warm)
        self.items: list[Item] = []
        self.sampler = Sampler([self.items.append], outside_rate_hz=1)
        self._waiting: list[tuple[float, Callable[[], object]]] = []
        self.loop = CaptureLoop(
            open_camera or (lambda: SimulatedCamera(self.device, clock=self.clock)),
            self.sampler,
            clock=self.clock,
            settings=settings,
            beat=self._beat,
            device=bus,
        )

    def until(self, end_s: float, happenings: Happenings | None = None) -> list[Item]:
        """Run so many seconds; what happens at which second is given beside it."""
        self._waiting = [*sorted((happenings or {}).items()), (end_s, self.loop.stop)]
        self.loop.run()
        return self.items

    def _beat(self) -> None:
        while self._waiting and self.now_s >= self._waiting[0][0]:
            self._waiting.pop(0)[1]()

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return (self.clock.utc_ns() - START_UTC_NS) / NS_PER_S

    def told(self) -> list[tuple[str, float]]:
        """What was said of the camera, and at which second."""
        return [
            (type(item).__name__, (item.at_utc_ns - START_UTC_NS) / NS_PER_S)
            for item in self.items
            if isinstance(item, CameraFound | CameraLost)
        ]

    def away_s(self) -> list[float]:
        """How long the camera was away, each time it was found."""
        return [item.away_s for item in self.items if isinstance(item, CameraFound)]

    def missing(self) -> dict[str, int]:
        """Planned moments without a frame, by reason."""
        counts: Counter[str] = Counter()
        for item in self.items:
            if isinstance(item, MissingSamples):
                counts[item.reason] += len(item.planned_utc_ns)
        return dict(counts)


def test_the_first_good_frame_finds_the_camera_once() -> None:
    run = Run()
    run.until(5)
    assert [name for name, _ in run.told()] == ["CameraFound"]
    assert run.away_s() == [0]
    assert run.loop.frames == pytest.approx(5 * 25, abs=2)
    assert run.loop.frames_per_second == pytest.approx(25)
    assert not run.loop.lost


def test_an_unplugged_camera_is_lost_at_once_and_found_after_its_return() -> None:
    run = Run()
    run.sampler.start_block(BLOCK, at_utc_ns=START_UTC_NS)
    run.until(13, {5.0: run.device.unplug, 8.0: run.device.plug})
    (_, _), (lost, lost_s), (found, found_s) = run.told()
    assert (lost, found) == ("CameraLost", "CameraFound")
    assert lost_s == pytest.approx(5, abs=0.1)
    assert 8 <= found_s < 8 + SETTINGS.retry_max_s
    assert run.away_s()[1] == pytest.approx(found_s - lost_s, abs=0.1)
    assert run.missing() == {"camera_lost": int(found_s) - 5 - 1}  # second 5 was captured before the plug was pulled


def test_every_second_of_a_block_is_captured_or_missing_through_an_unplugging() -> None:
    run = Run()
    run.sampler.start_block(BLOCK, at_utc_ns=START_UTC_NS)
    run.until(25, {5.0: run.device.unplug, 12.5: run.device.plug, 20.0: run.device.unplug, 21.0: run.device.plug})
    told = [item.planned_utc_ns for item in run.items if isinstance(item, Sample)]
    told += [moment for item in run.items if isinstance(item, MissingSamples) for moment in item.planned_utc_ns]
    assert sorted(moment for moment in told if moment is not None) == list(BLOCK.planned_utc_ns[: run.sampler.progress])
    assert run.sampler.progress >= 24


def test_a_camera_that_does_not_open_is_tried_with_growing_pauses_and_lost_once() -> None:
    attempts: list[float] = []

    def refuse() -> AbstractContextManager[ThermalCamera]:
        attempts.append(run.now_s)
        raise CameraLostError("nobody there")

    run = Run(open_camera=refuse)
    run.until(30)
    pauses = [round(later - earlier, 3) for earlier, later in pairwise(attempts)]
    assert pauses[:6] == [FIRST_PAUSE_S, 1, 2, 4, SETTINGS.retry_max_s, SETTINGS.retry_max_s]
    assert [name for name, _ in run.told()] == ["CameraLost"]


def test_good_frames_make_the_next_pause_a_short_one_again() -> None:
    run = Run()
    run.until(20, {2.0: run.device.unplug, 12.0: run.device.plug, 18.0: run.device.unplug, 18.2: run.device.plug})
    assert run.away_s()[2] == pytest.approx(FIRST_PAUSE_S, abs=0.1)


def test_a_camera_that_stays_away_is_told_of_after_a_minute_and_twice_the_time() -> None:
    run = Run()
    run.until(700, {5: run.device.unplug, 650: run.device.plug})
    [lost] = [item for item in run.items if isinstance(item, CameraLost)]
    away = [item for item in run.items if isinstance(item, CameraAway)]
    found = [item for item in run.items if isinstance(item, CameraFound)][-1]
    told_s = [STILL_LOST_S / 2, *(item.away_s for item in away)]
    assert len(away) == 4
    for before_s, now_s in pairwise(told_s):
        assert 2 * before_s <= now_s <= 2 * before_s + SETTINGS.retry_max_s + 1, "at the attempt that follows"
    assert lost.trouble.why is not None and "unplugged" in lost.trouble.why
    assert (lost.trouble.step, lost.trouble.tries, lost.trouble.patience_s) == (None, 0, None)
    assert lost.trouble.good_frames == pytest.approx(5 * 25, abs=2)
    troubles = [*(item.trouble for item in away), found.trouble]
    assert [each.step for each in troubles] == ["reopen"] * 5
    tries = [each.tries for each in troubles]
    assert tries == sorted(set(tries)) and tries[-1] == run.loop.ladder.counts["reopen"]
    for each in (away[-1], found):
        assert each.trouble.frame_age_s == pytest.approx(each.away_s, abs=0.2)


def test_a_silent_camera_is_lost_after_its_timeout_and_found_when_it_speaks() -> None:
    run = Run()
    run.until(14, {5.0: lambda: run.device.inject(Fault.FREEZE, duration_s=6)})
    (_, _), (lost, lost_s), (found, found_s) = run.told()
    assert (lost, found) == ("CameraLost", "CameraFound")
    assert lost_s == pytest.approx(5 + SETTINGS.frame_timeout_s, abs=0.6)
    [trouble] = [item.trouble for item in run.items if isinstance(item, CameraLost)]
    assert trouble.patience_s == SETTINGS.frame_timeout_s
    assert trouble.frame_age_s == pytest.approx(SETTINGS.frame_timeout_s, abs=0.6)
    assert trouble.why is not None and "no good frame for 2 s" in trouble.why
    assert found_s == pytest.approx(11, abs=0.6)
    assert run.away_s()[1] == pytest.approx(found_s - lost_s, abs=0.1)


def test_refused_transfers_are_counted_by_reason_and_are_the_reason_of_what_is_missing() -> None:
    run = Run()
    run.sampler.start_block(BLOCK, at_utc_ns=START_UTC_NS)
    run.until(
        10,
        {
            3.92: lambda: run.device.inject(Fault.TRUNCATED, frames=45),
            8.02: lambda: run.device.inject(Fault.TORN, frames=3),
        },
    )
    assert run.loop.rejected == {"length": 45, "statistics": 3}
    assert run.missing() == {"rejected_length": 1}
    assert [name for name, _ in run.told()] == ["CameraFound"]


def test_a_stuck_picture_is_a_lost_camera_until_it_moves_again_and_never_a_measurement() -> None:
    run = Run()
    stuck_s = MAX_FREEZE_S + 4
    run.until(stuck_s + 8, {2.0: lambda: run.device.inject(Fault.STUCK, duration_s=stuck_s)})
    (_, _), (lost, lost_s), (found, found_s) = run.told()
    assert (lost, found) == ("CameraLost", "CameraFound")
    assert lost_s == pytest.approx(2 + MAX_FREEZE_S, abs=0.2)
    assert 2 + stuck_s <= found_s < 2 + stuck_s + SETTINGS.retry_max_s
    taken_s = [(item.frame.captured_utc_ns - START_UTC_NS) / NS_PER_S for item in run.items if isinstance(item, Sample)]
    assert [second for second in taken_s if 2.1 < second < 2 + stuck_s] == []


def test_the_power_up_of_a_cold_camera_loses_nothing_even_with_a_bad_transfer_in_it() -> None:
    run = Run(warm=False)
    run.until(12, {6.0: lambda: run.device.inject(Fault.TRUNCATED, frames=1)})
    assert [name for name, _ in run.told()] == ["CameraFound"]
    assert run.loop.rejected == {"length": 1}


def test_the_end_of_recorded_material_ends_the_loop() -> None:
    def over() -> AbstractContextManager[ThermalCamera]:
        raise ReplayEndedError("over")

    run = Run(open_camera=over)
    run.until(5)
    assert run.loop.ended.is_set()
    assert run.items == []
    assert run.now_s == 0


def test_the_rate_is_zero_while_no_frame_comes() -> None:
    run = Run()
    run.until(5, {2.0: run.device.unplug})
    assert run.loop.frames_per_second == 0
    assert run.loop.lost


@pytest.mark.parametrize(
    ("in_block", "asked_s"), [pytest.param(False, 4, id="outside"), pytest.param(True, 8, id="in")]
)
def test_an_aged_calibration_is_renewed_later_in_a_block_than_outside(in_block: bool, asked_s: float) -> None:
    run = Run(settings=dataclasses.replace(SETTINGS, recalibrate_after_s=4))
    if in_block:
        run.sampler.start_block(BLOCK, at_utc_ns=START_UTC_NS)
    run.until(asked_s + 2)
    assert run.loop.calibrated_at_ns is not None
    assert run.loop.calibrated_at_ns / NS_PER_S == pytest.approx(asked_s, abs=0.2)
    assert any(item.frame.flags & FrameFlag.SETTLING for item in run.items if isinstance(item, Sample))


def test_the_rest_of_a_block_that_the_clock_was_set_back_out_of_is_missing_for_that_reason() -> None:
    run = Run()
    run.sampler.start_block(BLOCK, at_utc_ns=START_UTC_NS)
    run.until(5.5)
    run.sampler.end_block(at_utc_ns=START_UTC_NS - NS_PER_S)
    assert run.missing() == {"clock_step": BLOCK.frames - 6}


# A camera that is a device on a bus


class Bus:
    """A camera on a bus: it answers to the means of the ladder, and notes which were used."""

    def __init__(self) -> None:
        self.clock = SimulatedClock(START_UTC_NS)
        self.device = SimulatedDevice(clock=self.clock, seed=3, animals=0)
        self.done: list[tuple[str, float]] = []
        self.cured_by = ""
        """Until this is done the camera is silent."""
        self.silent = False
        self.plug_ins = 1
        self.away = False
        self.reset_fails = False

    def open(self) -> ThermalCamera:
        """A closed camera."""
        if self.away:
            raise CameraLostError("not on the bus")
        return BusCamera(self)

    def presence(self) -> str | None:
        """See `drivers.recovery.AttachedDevice`."""
        return None if self.away else str(self.plug_ins)

    def usb_reset(self) -> None:
        """See `drivers.recovery.AttachedDevice`."""
        if self.reset_fails:
            raise CameraError("not allowed")
        self.take("usb_reset")

    def reauthorize(self) -> None:
        """See `drivers.recovery.AttachedDevice`."""
        self.take("reauthorize")

    def take(self, means: str) -> None:
        """Note what was done."""
        self.done.append((means, (self.clock.utc_ns() - START_UTC_NS) / NS_PER_S))
        if means == self.cured_by:
            self.silent = False

    def unplug(self) -> None:
        """Take it away."""
        self.away = True
        self.device.unplug()

    def plug(self) -> None:
        """Bring it back."""
        self.away = False
        self.plug_ins += 1
        self.device.plug()


class BusCamera(SimulatedCamera):
    """A connection to a camera on a bus."""

    notes = ("temperatures are uncertain",)

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus.device, clock=bus.clock)
        self._bus = bus

    def __enter__(self) -> Self:
        self._bus.take("open")
        return super().__enter__()

    def restart_stream(self) -> None:
        """See `drivers.recovery.Restartable`."""
        self._bus.take("restart_stream")

    def read(self, timeout_s: float) -> ThermalFrame:
        """See `ThermalCamera`."""
        if self._bus.silent:
            self._bus.clock.wait(timeout_s)
            raise FrameTimeoutError("silent")
        return super().read(timeout_s)


def run_on(bus: Bus) -> Run:
    """A capture loop for the camera on the bus."""
    return Run(device=bus.device, open_camera=bus.open, bus=bus)


def test_a_frozen_camera_is_noticed_and_its_stream_restarted_within_3_s() -> None:
    bus = Bus()
    run = run_on(bus)
    bus.cured_by = "restart_stream"
    run.until(20, {5.0: lambda: setattr(bus, "silent", True)})
    ((opened, _), (restarted, restarted_s)) = bus.done
    assert (opened, restarted) == ("open", "restart_stream")
    assert 2 <= restarted_s - 5 < 3
    assert [name for name, _ in run.told()] == ["CameraFound", "CameraLost", "CameraFound"]
    assert run.loop.ladder.current is None
    assert run.loop.ladder.counts == {"restart_stream": 1}


def test_a_camera_that_stays_silent_gets_ever_stronger_means_and_is_told_lost_once() -> None:
    bus = Bus()
    run = run_on(bus)
    bus.cured_by = "reauthorize"
    run.until(60, {5.0: lambda: setattr(bus, "silent", True)})
    assert [means for means, _ in bus.done] == [
        *("open", "restart_stream", "open", "open"),
        *("usb_reset", "open"),
        *("reauthorize", "open"),
    ]
    assert [name for name, _ in run.told()] == ["CameraFound", "CameraLost", "CameraFound"]
    assert run.loop.ladder.current is None
    assert run.loop.frames_per_second == pytest.approx(25)


def test_a_camera_that_is_beyond_help_is_tried_every_30_s_for_ever() -> None:
    bus = Bus()
    run = run_on(bus)
    run.until(600, {5.0: lambda: setattr(bus, "silent", True)})
    resets = [second for means, second in bus.done if means == "usb_reset"]
    assert len(resets) >= 4
    assert run.loop.ladder.current is not None
    assert {means for means, second in bus.done if second > 300} == {"open", "usb_reset", "reauthorize"}


def test_a_step_that_is_not_allowed_is_counted_and_the_next_one_taken(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus()
    bus.reset_fails, bus.cured_by = True, "reauthorize"
    run = run_on(bus)
    run.until(60, {5.0: lambda: setattr(bus, "silent", True)})
    assert run.loop.ladder.failures == {"usb_reset": 1}
    assert "usb_reset failed: not allowed" in caplog.messages
    assert not run.loop.lost


def test_an_unplugged_camera_is_not_reset_and_opened_within_half_a_second_of_its_return() -> None:
    bus = Bus()
    run = run_on(bus)
    run.until(120, {5.0: bus.unplug, 100.0: bus.plug})
    assert [means for means, _ in bus.done] == ["open", "open"]
    assert bus.done[1][1] == pytest.approx(100.25, abs=0.3)
    (_, _), (_, lost_s), (_, found_s) = run.told()
    assert lost_s == pytest.approx(5, abs=0.1)
    assert 100 <= found_s < 101


def test_every_one_of_thirty_unpluggings_is_recovered_from_at_once() -> None:
    bus = Bus()
    run = run_on(bus)
    happenings: dict[float, Callable[[], object]] = {}
    for number in range(30):
        happenings[2.0 * number + 1] = bus.unplug
        happenings[2.0 * number + 1.5] = bus.plug
    run.until(62, happenings)
    assert [name for name, _ in run.told()] == ["CameraFound", *["CameraLost", "CameraFound"] * 30]
    assert max(run.away_s()) < 0.5 + 0.6
    assert {means for means, _ in bus.done} == {"open"}


def test_what_the_camera_has_to_say_is_passed_on_while_it_is_open() -> None:
    bus = Bus()
    run = run_on(bus)
    said: list[tuple[str, ...]] = []
    run.until(12, {2.0: lambda: said.append(run.loop.notes), 5.0: bus.unplug, 8.0: lambda: said.append(run.loop.notes)})
    assert said == [("temperatures are uncertain",), ()]
