"""The self-test of a real camera, step by step; what it finds is judged by `daemon.selftest`."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from daemon.selftest import (
    READY_WITHIN_S,
    Check,
    FrameNote,
    judge_commands,
    judge_control_range,
    judge_drift,
    judge_identity,
    judge_noise,
    judge_range_switch,
    judge_shutter,
    judge_start_up,
    judge_statistics,
    judge_stream,
    judge_unplugging,
    judge_variant,
    judged,
    untested,
)
from daemon.selftest_cable import Cable
from daemon.selftest_watch import READ_S, PixelStatistics, watch
from drivers.clock import NS_PER_S, Clock
from drivers.errors import CameraError, CameraLostError, FrameRejectedError, FrameTimeoutError
from drivers.frame import FrameFlag
from drivers.start_up import Stage
from drivers.t2s_plus import T2SPlusCamera
from drivers.t2s_protocol import FRAME_RATE_HZ
from drivers.usb import UsbCamera, UsbCameraDevice
from drivers.usb_dump import UsbDump
from drivers.v4l2 import DeviceIo, ZoomControl

logger = logging.getLogger(__name__)

_SETTLED_S = 5.0
"""After a shutter cycle: until readings are steady."""
_BEFORE_SHUTTER_S = 1.0
_SHUTTER_S = 6.0
_RANGE_S = 12.0
"""A switch drops frames and is believed after three equal ones; a shutter cycle follows."""
_RAW_TRANSFERS = 3
_BACK_PATIENCE_S = 30.0
_BETWEEN_ATTEMPTS_S = 0.1
_HAND_S = 130.0
_NOTICE_PATIENCE_S = 10.0
_SERIES_STEP_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be tested."""

    watch_s: float = 60.0
    """For how long the stream is watched, and its drift."""
    range_switch: bool = False
    unplugs: int = 0


@dataclass(slots=True, kw_only=True)
class Findings:
    """Everything that goes into the report."""

    checks: list[Check] = field(default_factory=list)
    usb: UsbDump | None = None
    attachment: dict[str, str] = field(default_factory=dict)
    """Host controller, speed and the like."""
    camera: dict[str, Any] = field(default_factory=dict)
    """What the frames say of it."""
    series: list[dict[str, float]] = field(default_factory=list)
    """Each second of the watch: detector, shutter, and reading."""
    shutter: list[dict[str, Any]] = field(default_factory=list)
    """Each frame around a shutter cycle."""
    unplugs: dict[str, list[float]] = field(default_factory=dict)
    transfers: list[bytes] = field(default_factory=list)
    """As they came."""


class SelfTest:
    """One run.

    Parameters
    ----------
    device : UsbCameraDevice
        Which camera.
    open_camera : callable
        Makes a closed connection to it.
    clock : Clock
        What it runs on.
    io : DeviceIo
        The system calls.
    say : callable
        Tells the user what is being done.
    cable : Cable, optional
        How it is unplugged; None for not at all.
    """

    def __init__(
        self,
        device: UsbCameraDevice,
        *,
        open_camera: Callable[[], T2SPlusCamera],
        clock: Clock,
        io: DeviceIo,
        say: Callable[[str], None],
        cable: Cable | None = None,
    ) -> None:
        self._device = device
        self._open_camera = open_camera
        self._clock = clock
        self._io = io
        self._say = say
        self._cable = cable
        self._findings = Findings()

    def run(self, plan: Plan) -> Findings:
        """Do it; a step that fails is a failed check, and the next ones are tried as far as they can be.

        Raises
        ------
        CameraAbsentError
            If there is no such camera.
        CameraRefusedError
            If several fit.
        """
        camera = self._device.attached()
        self._say("looking at the camera on the bus")
        self._look_at_bus(camera)
        if camera.fault is None:
            with self._step("stream"), self._open_camera() as opened:
                self._with_open_camera(opened, camera, plan)
            self._unplug(plan.unplugs)
        return self._findings

    def _look_at_bus(self, camera: UsbCamera) -> None:
        findings = self._findings
        findings.checks.append(judge_identity(camera))
        findings.attachment = self._device.bus.surroundings(camera)
        with self._step("descriptors"):
            findings.usb = self._device.bus.dump(camera)
        with self._step("control range"):
            taken = ZoomControl(self._device.bus.video_node(camera), io=self._io).read_range()
            findings.checks.append(judge_control_range(taken))
            if findings.usb is not None:
                findings.usb = replace(findings.usb, zoom=taken)

    def _with_open_camera(self, opened: T2SPlusCamera, camera: UsbCamera, plan: Plan) -> None:
        checks = self._findings.checks
        self._say("starting the camera up")
        began_ns = self._clock.monotonic_ns()
        start = watch(opened, self._clock, READY_WITHIN_S, until=lambda _frame: opened.stage is Stage.READY)
        ready_s = (self._clock.monotonic_ns() - began_ns) / NS_PER_S if opened.stage is Stage.READY else None
        checks.append(judge_start_up(ready_s, start.rejected))
        checks.append(judge_variant(camera.expected_variant, opened.variant))
        watch(opened, self._clock, _SETTLED_S)  # the shutter cycle of the start-up passes
        self._keep_transfers(opened)
        self._watch_stream(opened, plan.watch_s)
        self._cycle_shutter(opened)
        self._switch_range(opened, wanted=plan.range_switch)
        control = opened.control
        checks.append(judge_commands(control.sent, control.failed, control.last_error))
        self._findings.camera["notes"] = list(opened.notes)

    def _keep_transfers(self, opened: T2SPlusCamera) -> None:
        while len(self._findings.transfers) < _RAW_TRANSFERS:
            try:
                self._findings.transfers.append(opened.read_raw(READ_S).payload)
            except FrameRejectedError as error:
                logger.debug("not kept: %s", error)

    def _watch_stream(self, opened: T2SPlusCamera, duration_s: float) -> None:
        self._say(f"watching its frames for {duration_s:g} s; the scene should be still and of even contrast")
        pixels = PixelStatistics()
        seen = watch(opened, self._clock, duration_s, pixels=pixels)
        findings = self._findings
        findings.checks += judge_stream(seen)
        findings.checks.append(judge_statistics(seen, opened.variant))
        findings.checks += judge_noise(pixels.temporal_mk, pixels.pattern_mk)
        fresh = [note for note in seen.notes if FrameFlag.SHUTTER not in note.flags]
        findings.checks.append(judge_drift(fresh))
        findings.series = _series(fresh)
        findings.camera |= asdict(opened.info) | {"variant": opened.variant, "timeouts": seen.timeouts}

    def _cycle_shutter(self, opened: T2SPlusCamera) -> None:
        self._say("one shutter cycle")
        before = watch(opened, self._clock, _BEFORE_SHUTTER_S)
        commanded_ns = self._clock.monotonic_ns()
        opened.calibrate()
        notes = (*before.notes, *watch(opened, self._clock, _SHUTTER_S).notes)
        self._findings.checks.append(judge_shutter(notes, commanded_ns, opened.variant))
        self._findings.shutter = [
            {
                "after_command_s": round((note.at_ns - commanded_ns) / NS_PER_S, 4),
                "repeated": FrameFlag.SHUTTER in note.flags,
                "median_celsius": _rounded(note.median_celsius),
                "spread_celsius": _rounded(note.spread_celsius),
                "shutter_celsius": _rounded(note.shutter_celsius),
            }
            for note in notes
        ]

    def _switch_range(self, opened: T2SPlusCamera, *, wanted: bool) -> None:
        if not wanted:
            self._findings.checks.append(
                untested("range switch", expected="cal_00 changes with the range", why="not asked for: --range")
            )
            return
        self._say("the high temperature range and back")
        references = [self._reference_count(opened)]
        for high in (True, False):
            opened.select_range(high=high)
            watch(opened, self._clock, _RANGE_S)
            references.append(self._reference_count(opened))
        self._findings.checks.append(
            judge_range_switch([count for count in references if count is not None], opened.variant)
        )

    def _reference_count(self, opened: T2SPlusCamera) -> int | None:
        for _ in range(round(_SETTLED_S * FRAME_RATE_HZ)):
            try:
                return opened.read(READ_S).metadata.constants.reference_count
            except (FrameTimeoutError, FrameRejectedError) as error:
                logger.debug("waiting for a good frame: %s", error)
        return None

    def _unplug(self, times: int) -> None:
        cable = self._cable
        if cable is None or times == 0:
            for name in ("unplugging noticed", "frames after plug-in"):
                self._findings.checks.append(untested(name, expected="", why="not asked for: --unplug sysfs or hand"))
            return
        noticed: list[float] = []
        back: list[float] = []
        with self._step("unplugging"):
            for number in range(1, times + 1):
                self._say(f"unplugging {number} of {times}")
                self._unplug_once(cable, noticed, back)
        self._findings.unplugs = {"noticed_s": noticed, "back_s": back}
        self._findings.checks += judge_unplugging(noticed, back, times, by_hand=cable.by_hand)

    def _unplug_once(self, cable: Cable, noticed: list[float], back: list[float]) -> None:
        with self._open_camera() as opened:
            watch(opened, self._clock, READY_WITHIN_S, until=lambda frame: FrameFlag.SHUTTER not in frame.flags)
            last_ns = self._clock.monotonic_ns()
            cable.pull()
            deadline_ns = last_ns + round((_HAND_S if cable.by_hand else _NOTICE_PATIENCE_S) * NS_PER_S)
            pulled_ns = self._clock.monotonic_ns()
            try:
                while self._clock.monotonic_ns() < deadline_ns:
                    try:
                        last_ns = opened.read(READ_S).captured_monotonic_ns
                    except (FrameTimeoutError, FrameRejectedError):
                        continue
            except CameraLostError:
                since_ns = last_ns if cable.by_hand else pulled_ns
                noticed.append((self._clock.monotonic_ns() - since_ns) / NS_PER_S)
        cable.put()
        there_ns = self._clock.monotonic_ns()
        if self._comes_back():
            back.append((self._clock.monotonic_ns() - there_ns) / NS_PER_S)

    def _comes_back(self) -> bool:
        """Open it again and again until a fresh frame comes."""
        deadline_ns = self._clock.monotonic_ns() + round(_BACK_PATIENCE_S * NS_PER_S)
        while self._clock.monotonic_ns() < deadline_ns:
            try:
                with self._open_camera() as opened:
                    left_s = (deadline_ns - self._clock.monotonic_ns()) / NS_PER_S
                    seen = watch(opened, self._clock, left_s, until=lambda frame: FrameFlag.SHUTTER not in frame.flags)
                    return any(FrameFlag.SHUTTER not in note.flags for note in seen.notes)
            except CameraError as error:
                logger.debug("not back yet: %s", error)
                self._clock.wait(_BETWEEN_ATTEMPTS_S)
        return False

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """A step whose failure is a finding."""
        try:
            yield
        except CameraError as error:
            self._findings.checks.append(
                judged(name, passed=False, expected="no error", found=f"{type(error).__name__}: {error}")
            )


def _series(notes: list[FrameNote]) -> list[dict[str, float]]:
    """About one note a second."""
    rows: list[dict[str, float]] = []
    next_ns = 0
    for note in notes:
        if note.at_ns >= next_ns:
            next_ns = note.at_ns + round(_SERIES_STEP_S * NS_PER_S)
            rows.append(
                {
                    "at_s": _rounded((note.at_ns - notes[0].at_ns) / NS_PER_S),
                    "fpa_celsius": _rounded(note.fpa_celsius),
                    "shutter_celsius": _rounded(note.shutter_celsius),
                    "median_celsius": _rounded(note.median_celsius),
                }
            )
    return rows


def _rounded(value: float) -> float:
    return round(value, 3)
