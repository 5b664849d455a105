"""The camera freezes, sends rubbish, hangs or shows what is no scene: noticed in time, tried again, never measured.

The product's capture loop and driver, over the fake bus and kernel of the driver's tests: frames by script, on a clock
that jumps. What the same faults do on a real kernel is tested in `tests/hil`.
"""

import errno
import importlib.util
import itertools
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daemon.capture import CaptureLoop, CaptureSettings
from daemon.events import Event, EventKind
from daemon.pipeline import Pipeline
from daemon.rules import AlertRules
from daemon.sampling import CameraFound, CameraLost, Item, MissingSamples, Sample, Sampler
from daemon.schedule import PlannedBlock
from daemon.settings import AlertSettings, TooColdSettings, TooHotSettings
from daemon.vision.classical import ClassicalSegmenter
from drivers.clock import NS_PER_S
from drivers.recovery import LONGEST_PAUSE_S
from drivers.scene import Scene
from drivers.simulated import Fault, SimulatedDevice
from drivers.vivarium.incidents import Incident, IncidentKind

# The fake bus and kernel of the driver's tests; a conftest is visible in its folder only.
_SPEC = importlib.util.spec_from_file_location(
    "vivarium_driver_fixtures", Path(__file__).parents[1] / "test_drivers" / "conftest.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
_DRIVER: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_DRIVER)
clock, kernel, sysfs, bench = _DRIVER.clock, _DRIVER.kernel, _DRIVER.sysfs, _DRIVER.bench
Scripted = _DRIVER.Scripted

START_UTC_NS: int = _DRIVER.START_UTC_NS
FAULT_S = 8.0
"""When the fault begins; the start-up and its shutter cycle are over."""
NOTICED_WITHIN_S = 3.0
LOST_WITHIN_S = 0.5
FLAGGED_WITHIN_S = 2.0
COMMAND_WITHIN_S = 8.0
KERNEL_PATIENCE_S = 5.2
"""After so long the kernel gives up a control request that is not answered; measured in a guest."""
BESIDE = 75
"""Frames that are read while a command hangs."""

SETTINGS = CaptureSettings(frame_timeout_s=2, retry_max_s=5, recalibrate_after_s=380)
BLOCK = PlannedBlock(
    day=date(2026, 11, 18),
    stratum="morning",
    number=1,
    start_utc_ns=START_UTC_NS,
    duration_ns=1200 * NS_PER_S,
    period_ns=NS_PER_S,
)


class Watched:
    """The capture loop on a scripted camera; its own heartbeat lets things happen."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        self.items: list[Item] = []
        self.sampler = Sampler([self.items.append], outside_rate_hz=1)
        self.bench.v1()
        self._good_source = bench.kernel.source
        self._waiting: list[tuple[float, Callable[[], object]]] = []
        self.loop = CaptureLoop(
            bench.camera,
            self.sampler,
            clock=bench.clock,
            settings=SETTINGS,
            beat=self._beat,
            device=bench.usb,
        )
        self.started_ns = bench.clock.monotonic_ns()

    def until(
        self,
        end_s: float,
        happenings: Mapping[float, Callable[[], object]],
        *,
        well_after_s: float = math.inf,
    ) -> None:
        """Run so many seconds; what happens at which second is given beside it.

        It ends early when the camera is well again after `well_after_s`.
        """
        self._well_after_s = well_after_s
        self._waiting = [*sorted(happenings.items()), (end_s, self.loop.stop)]
        self.loop.run()

    def send(self, *steps: dict[str, Any]) -> None:
        """From now on the camera does this, again and again."""
        turn = itertools.cycle([{"after_s": 0.04, **step} for step in steps])
        self.bench.kernel.source = lambda number: Scripted(**next(turn))

    def fall_silent(self) -> None:
        """From now on the camera sends nothing."""
        self.bench.kernel.source = lambda number: None

    def be_well(self) -> None:
        """From now on the camera is a good one again."""
        self.bench.kernel.source = _DRIVER._stream_of(self.bench.device, self.bench.kernel)  # noqa: SLF001

    def _beat(self) -> None:
        while self._waiting and self.now_s >= self._waiting[0][0]:
            self._waiting.pop(0)[1]()
        if self.now_s > self._well_after_s and self.loop.ladder.current is None:
            self.loop.stop()

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return float(self.bench.clock.monotonic_ns() - self.started_ns) / NS_PER_S

    def lost_s(self) -> list[float]:
        """When the camera was said to be lost."""
        return [(item.at_utc_ns - START_UTC_NS) / NS_PER_S for item in self.items if isinstance(item, CameraLost)]

    def found_s(self) -> list[float]:
        """When it was said to be found."""
        return [(item.at_utc_ns - START_UTC_NS) / NS_PER_S for item in self.items if isinstance(item, CameraFound)]

    def taken_s(self) -> list[float]:
        """When the frames that are measured were captured."""
        frames = [item.frame for item in self.items if isinstance(item, Sample)]
        return [(frame.captured_utc_ns - START_UTC_NS) / NS_PER_S for frame in frames]

    def missing(self) -> Counter[str]:
        """Planned moments without a frame, by reason."""
        counts: Counter[str] = Counter()
        for item in self.items:
            if isinstance(item, MissingSamples):
                counts[item.reason] += len(item.planned_utc_ns)
        return counts


@pytest.fixture
def watched(bench: Any) -> Watched:
    return Watched(bench)


_RUBBISH = random.Random(5).randbytes(100_352)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        pytest.param("silence", [], id="freeze"),
        pytest.param("short frames", [{"payload": bytes(512)}], id="short"),
        pytest.param("garbage", [{"payload": _RUBBISH}], id="garbage"),
        pytest.param("zeros", [{"payload": bytes(100_352)}], id="zero"),
        pytest.param(
            "frames that the kernel calls damaged", [{"payload": bytes(100_352), "damaged": True}], id="error"
        ),
        pytest.param(
            "all of them in turn",
            [{"payload": bytes(512)}, {"payload": _RUBBISH}, {"payload": bytes(100_352), "damaged": True}],
            id="mixed",
        ),
    ],
)
def test_a_camera_without_good_frames_is_noticed_and_tried_ever_more_slowly_until_it_is_well(
    watched: Watched, name: str, steps: list[dict[str, Any]]
) -> None:
    watched.sampler.start_block(BLOCK, at_utc_ns=START_UTC_NS)
    cured_s = 300.0
    watched.until(
        cured_s + 60,
        {FAULT_S: (lambda: watched.send(*steps)) if steps else watched.fall_silent, cured_s: watched.be_well},
        well_after_s=cured_s + 1,
    )
    (lost_s,), (_, found_s) = watched.lost_s(), watched.found_s()
    ladder, told = watched.loop.ladder, sum(watched.missing().values())
    print(  # noqa: T201 - the figure of the test
        f"{name}: noticed after {lost_s - FAULT_S:.2f} s, back {found_s - cured_s:.1f} s after its cure; "
        f"{dict(ladder.counts)}; {told} planned seconds missing, all with a reason"
    )
    assert lost_s - FAULT_S < NOTICED_WITHIN_S
    assert found_s - cured_s < LONGEST_PAUSE_S + 5
    assert set(ladder.counts) == {"restart_stream", "reopen", "usb_reset", "reauthorize"}
    # Each round of the strong means takes up to three of the longest pauses: no storm of resets.
    assert 3 <= ladder.counts["usb_reset"] <= (cured_s - FAULT_S) / LONGEST_PAUSE_S
    assert len(watched.bench.resets) == ladder.counts["usb_reset"]
    assert ladder.current is None
    assert told == pytest.approx(found_s - FAULT_S, abs=3)
    taken_s = [
        (item.frame.captured_utc_ns - START_UTC_NS) / NS_PER_S for item in watched.items if isinstance(item, Sample)
    ]
    assert [second for second in taken_s if FAULT_S + 0.1 < second < cured_s] == []


def test_the_weakest_means_come_first(watched: Watched) -> None:
    steps: list[tuple[float, str]] = []
    ladder = watched.loop.ladder

    def look() -> None:
        if ladder.current is not None and (not steps or steps[-1][1] != ladder.current):
            steps.append((round(watched.now_s - FAULT_S, 1), ladder.current))

    watched.until(70, {FAULT_S: watched.fall_silent} | {FAULT_S + tenth / 10: look for tenth in range(1, 590)})
    print(f"steps after the freeze, s: {steps}")  # noqa: T201 - the figure of the test
    assert [step for _, step in steps[:4]] == ["restart_stream", "reopen", "usb_reset", "reauthorize"]
    assert steps[0][0] < NOTICED_WITHIN_S


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EIO], ids=["ENODEV", "EIO"])
def test_an_error_of_the_kernel_is_noticed_at_once(watched: Watched, number: int) -> None:
    watched.until(FAULT_S + 8, {FAULT_S: lambda: watched.send({"failure": number}), FAULT_S + 0.3: watched.be_well})
    (lost_s,), (_, found_s) = watched.lost_s(), watched.found_s()
    print(  # noqa: T201 - the figure of the test
        f"{errno.errorcode[number]}: noticed after {lost_s - FAULT_S:.2f} s, frames again "
        f"{found_s - FAULT_S:.2f} s after it"
    )
    assert lost_s - FAULT_S < LOST_WITHIN_S
    assert found_s - FAULT_S < 5


def test_a_slow_camera_is_shown_as_slow_and_is_not_lost(watched: Watched) -> None:
    rates: list[float] = []
    good = watched.bench.kernel.source

    def slow(number: int) -> Any:
        frame = good(number)
        return Scripted(after_s=0.5, payload=frame.payload)

    watched.until(
        FAULT_S + 40,
        {
            FAULT_S: lambda: setattr(watched.bench.kernel, "source", slow),
            FAULT_S + 39: lambda: rates.append(watched.loop.frames_per_second),
        },
    )
    print(f"slow: {rates[0]:.2f} frames a second, {watched.loop.rejected.total()} refused")  # noqa: T201 - the figure
    assert rates[0] == pytest.approx(2, rel=0.1)
    assert watched.lost_s() == []


@pytest.mark.parametrize("step_s", [7200.0, -18_000.0], ids=["two hours on", "five hours back"])
def test_a_jump_of_the_wall_clock_loses_no_camera(watched: Watched, step_s: float) -> None:
    frames: list[int] = []
    watched.until(
        FAULT_S + 12,
        {
            FAULT_S: lambda: watched.bench.clock.step_wall(step_s),
            FAULT_S + 1: lambda: frames.append(watched.loop.frames),
            FAULT_S + 11: lambda: frames.append(watched.loop.frames),
        },
    )
    print(f"wall clock {step_s:+.0f} s: {frames[1] - frames[0]} frames in the 10 s after")  # noqa: T201 - the figure
    assert frames[1] - frames[0] == pytest.approx(250, abs=3)
    assert watched.lost_s() == []
    assert watched.loop.ladder.counts == {}


def test_a_hung_control_gives_an_error_in_time_and_takes_no_frame(bench: Any) -> None:
    camera = bench.v1()
    with camera:
        for _ in range(250):
            camera.read(1.0)
        bench.kernel.before_poll = lambda: None  # frames do not wait for commands any more
        failed, missing = camera.control.failed, camera.missing_frames
        bench.kernel.hang.set()
        began_s = time.monotonic()
        gives_up = threading.Timer(KERNEL_PATIENCE_S, bench.kernel.unhang.set)
        gives_up.start()
        camera.calibrate()
        sequences = [camera.read(1.0).sequence for _ in range(BESIDE)]
        during_s = time.monotonic() - began_s
        assert camera.commands_done(COMMAND_WITHIN_S + 1)
        answered_s = time.monotonic() - began_s
        control, lost = camera.control, camera.missing_frames - missing
        bench.kernel.hang.clear()
    gives_up.join()
    print(  # noqa: T201 - the figure of the test
        f"hung control: error after {answered_s:.1f} s ({control.last_error}), "
        f"{len(sequences)} frames in {during_s:.1f} s beside it, {lost} lost"
    )
    assert control.failed == failed + 1
    assert answered_s < COMMAND_WITHIN_S
    assert during_s < KERNEL_PATIENCE_S  # they did not wait for it
    assert sequences == list(range(sequences[0], sequences[0] + BESIDE))
    assert lost == 0


@pytest.mark.parametrize(("stalls", "failed"), [(3, 0), (40, 1)], ids=["three times", "for ever"])
def test_a_stalled_control_is_tried_again_and_takes_no_frame(bench: Any, stalls: int, failed: int) -> None:
    camera = bench.v1()
    with camera:
        for _ in range(250):
            camera.read(1.0)
        before = camera.control
        bench.kernel.control_failures.extend([errno.EPIPE] * stalls)
        began_s = time.monotonic()
        camera.calibrate()
        assert camera.commands_done(COMMAND_WITHIN_S)
        answered_s = time.monotonic() - began_s
        sequences = [camera.read(1.0).sequence for _ in range(100)]
        after = camera.control
        bench.kernel.control_failures.clear()
    print(  # noqa: T201 - the figure of the test
        f"control stalled {stalls} times: answered after {answered_s:.3f} s, {after.failed - before.failed} error"
    )
    assert after.failed - before.failed == failed
    assert after.sent - before.sent == 1 - failed
    assert answered_s < COMMAND_WITHIN_S
    assert sequences == list(range(sequences[0], sequences[0] + 100))


ALERTS = AlertSettings(
    too_hot=TooHotSettings(celsius=34.2, duration_s=0.0), too_cold=TooColdSettings(celsius=32.6, duration_s=0.0)
)
"""So tight (the animal of these pictures reads 33.3 to 33.5) that a single false reading would be an event."""


def temperature_events(items: list[Item]) -> tuple[int, list[Event]]:
    """What the AI-free measuring and the rules make of the samples: how many were measured, and the events."""
    pipeline, rules = (
        Pipeline(ClassicalSegmenter(animals=1, min_area_px=60), animals=1, mm_per_px=None),
        AlertRules(ALERTS, animals=1),
    )
    measured, events = 0, []
    for item in items:
        if isinstance(item, Sample):
            observation = pipeline.process(item.frame).observation
            measured += observation.not_measured is None and bool(observation.animals)
            events += rules.update(observation)
    return measured, [event for event in events if event.kind is not EventKind.ANIMAL_NOT_SEEN]


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        pytest.param(lambda device: device.inject(Fault.STUCK, duration_s=9), "shutter", id="stuck"),
        pytest.param(lambda device: device.inject(Fault.ALL_ZERO, frames=250), "rejected_uniform", id="all-zero"),
        pytest.param(lambda device: device.inject(Fault.TRUNCATED, frames=250), "rejected_length", id="wrong size"),
        pytest.param(lambda device: device.inject(Fault.WRONG_MODE, frames=250), "rejected_output_mode", id="mode"),
        pytest.param(lambda device: device.close_shutter(), "shutter", id="NUC pause"),
    ],
)
def test_what_is_no_scene_is_flagged_in_time_and_makes_no_temperature_event(
    watched: Watched, begin: Callable[[SimulatedDevice], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[float, str]] = []
    trouble = watched.sampler.trouble

    def note(why: str) -> None:
        told.append((watched.now_s, why))
        trouble(why)

    monkeypatch.setattr(watched.sampler, "trouble", note)
    watched.sampler.start_block(BLOCK, at_utc_ns=START_UTC_NS)
    watched.until(FAULT_S + 20, {FAULT_S: lambda: begin(watched.bench.device)})
    flagged_s, first_reason = next((at_s - FAULT_S, why) for at_s, why in told if at_s >= FAULT_S)
    measured, events = temperature_events(watched.items)
    print(  # noqa: T201 - the figure of the test
        f"flagged {first_reason!r} after {flagged_s:.2f} s; planned seconds lost {dict(watched.missing())}; "
        f"{measured} measured, {len(events)} temperature events"
    )
    assert flagged_s < FLAGGED_WITHIN_S
    assert first_reason == reason
    assert measured >= 10
    assert events == []


def test_the_rules_of_that_test_do_tell_a_fever(watched: Watched) -> None:
    fever = Incident(kind=IncidentKind.FEVER, animal=1, start_utc_s=0.0, duration_s=math.inf, celsius=2.0)
    feverish = Scene(5, 1, script=[fever])
    watched.sampler.start_block(BLOCK, at_utc_ns=START_UTC_NS)
    watched.until(FAULT_S + 10, {FAULT_S: lambda: watched.bench.device.show(feverish)})
    measured, events = temperature_events(watched.items)
    assert measured >= 10
    assert [event.kind for event in events][:1] == [EventKind.ANIMAL_TOO_HOT]
