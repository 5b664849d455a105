"""`vivarium camera`: the real camera from the terminal."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from daemon.cameras import usb_camera_device
from daemon.emulate_cli import emulate_command, operate_command
from daemon.selftest_cli import selftest_command
from daemon.settings import Settings, T2SPlusSettings, load_settings
from drivers.clock import NS_PER_S, Clock, SystemClock
from drivers.errors import CameraLostError, FrameRejectedError, FrameTimeoutError
from drivers.frame import FrameFlag, ThermalFrame
from drivers.gain_map import GainMaps
from drivers.start_up import Stage
from drivers.t2s_plus import T2SPlusCamera
from drivers.usb import UsbBus, UsbCamera

camera_app = typer.Typer(help="The T2S+ camera on USB: find it, look at it, calibrate it.", no_args_is_help=True)
camera_app.command(name="selftest")(selftest_command)
camera_app.command(name="emulate")(emulate_command)
camera_app.command(name="operate")(operate_command)

PortOption = Annotated[str, typer.Option("--port", help="USB port as `camera list` prints it; the only camera's.")]
SerialOption = Annotated[str, typer.Option("--serial", help="USB serial number, in place of the port.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Config file that names the camera and keeps its gain map.")
]

_READ_S = 0.5
_START_UP_S = 15.0
"""A camera just plugged in calibrates itself for nine seconds."""
_CALIBRATION_S = 8.0
"""A command that hangs is given up after 5 to 7 s."""
_MS_PER_S = 1000


@dataclass(slots=True)
class Look:
    """What was seen of a camera in a while."""

    frames: list[ThermalFrame] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    timeouts: int = 0

    @property
    def rate_hz(self) -> float:
        """Good frames per second."""
        if len(self.frames) < 2:
            return 0.0
        span_ns = self.frames[-1].captured_monotonic_ns - self.frames[0].captured_monotonic_ns
        return (len(self.frames) - 1) * NS_PER_S / max(span_ns, 1)

    @property
    def longest_gap_s(self) -> float:
        """Longest time between two good frames."""
        gaps = (after.captured_monotonic_ns - before.captured_monotonic_ns for before, after in pairwise(self.frames))
        return max(gaps, default=0) / NS_PER_S

    @property
    def frozen(self) -> int:
        """Frames that repeat the one before, or show the shutter."""
        return sum(FrameFlag.SHUTTER in frame.flags for frame in self.frames)


@camera_app.command(name="list")
def list_command() -> None:
    """Print every camera of the family on the bus; none of them is opened."""
    bus = UsbBus()
    cameras = bus.cameras()
    if not cameras:
        Console().print("no T2S+ camera is attached")
        raise typer.Exit(1)
    table = Table("port", "id", "product", "serial", "expected", "stream", "node", "state", box=None, pad_edge=False)
    for camera in cameras:
        table.add_row(
            camera.port,
            f"{camera.vendor_id:04x}:{camera.product_id:04x}",
            camera.product,
            camera.serial or "(none)",
            camera.expected_variant,
            _stream_text(camera),
            _node_text(bus, camera),
            camera.fault or "usable",
        )
    Console().print(table)


@camera_app.command()
def probe(
    port: PortOption = "",
    serial: SerialOption = "",
    seconds: Annotated[float, typer.Option(help="For how long to read.", min=1, max=3600)] = 5.0,
    config: ConfigOption = None,
) -> None:
    """Open the camera, start it up and say what it sends. The service must not run."""
    clock = SystemClock()
    with _opened(port, serial, config, clock) as camera:
        start_up = look_at(camera, clock, _START_UP_S, until_ready=True)
        look = look_at(camera, clock, seconds)
        _print_rows(probe_report(camera, start_up, look))
    if not look.frames:
        raise typer.Exit(1)


@camera_app.command()
def calibrate(port: PortOption = "", serial: SerialOption = "", config: ConfigOption = None) -> None:
    """Run one shutter cycle and say how it went. The service must not run."""
    clock = SystemClock()
    with _opened(port, serial, config, clock) as camera:
        look_at(camera, clock, _START_UP_S, until_ready=True)
        camera.commands_done(_CALIBRATION_S)
        seen, rows = calibrate_report(camera, clock)
        _print_rows(rows)
    if not seen:
        raise typer.Exit(1)


def calibrate_report(camera: T2SPlusCamera, clock: Clock) -> tuple[bool, list[tuple[str, str]]]:
    """Run a shutter cycle on an open camera: whether it was seen, and what is to be told of it."""
    before, asked_ns = camera.control, clock.monotonic_ns()
    camera.calibrate()
    look = look_at(camera, clock, _CALIBRATION_S)
    camera.commands_done(_CALIBRATION_S)
    after = camera.control
    rows = [("command", "taken" if after.sent > before.sent else f"failed: {after.last_error}")]
    closed = [
        frame for frame in look.frames if FrameFlag.SHUTTER in frame.flags and frame.captured_monotonic_ns > asked_ns
    ]
    if closed:
        first_ms, last_ms = (
            (frame.captured_monotonic_ns - asked_ns) * _MS_PER_S // NS_PER_S for frame in (closed[0], closed[-1])
        )
        rows.append(("shutter", f"{len(closed)} frames, {first_ms} to {last_ms} ms after the command"))
    else:
        rows.append(("shutter", "not seen: no frame repeated or showed it"))
    return bool(closed), rows + [("note", note) for note in camera.notes]


def _stream_text(camera: UsbCamera) -> str:
    if camera.description is None:
        return "?"
    sizes = ", ".join(f"{size.width}x{size.height} {size.rate_hz:.0f} Hz" for size in camera.description.sizes)
    return f"{camera.description.transfer} {sizes}"


def _node_text(bus: UsbBus, camera: UsbCamera) -> str:
    try:
        return str(bus.video_node(camera).path)
    except CameraLostError:
        return "none"


@contextmanager
def _opened(port: str, serial: str, config: Path | None, clock: Clock) -> Iterator[T2SPlusCamera]:
    settings = Settings() if config is None else load_settings(config)
    wanted = settings.camera.t2s_plus
    if port or serial:  # the command line goes before the config
        wanted = T2SPlusSettings(port=port, serial=serial, range=wanted.range)
    with T2SPlusCamera(
        usb_camera_device(wanted),
        clock=clock,
        high_range=wanted.range == "high",
        overrides=settings.camera.environment.overrides(),
        gain_maps=GainMaps(None if config is None else settings.camera_dir),
    ) as opened:
        yield opened


def look_at(camera: T2SPlusCamera, clock: Clock, duration_s: float, *, until_ready: bool = False) -> Look:
    """Read an open camera for a while, or until its start-up is over."""
    look = Look()
    deadline_ns = clock.monotonic_ns() + round(duration_s * NS_PER_S)
    while clock.monotonic_ns() < deadline_ns and not (until_ready and camera.stage is Stage.READY):
        try:
            look.frames.append(camera.read(_READ_S))
        except FrameTimeoutError:
            look.timeouts += 1
        except FrameRejectedError as error:
            look.rejected[error.reason] += 1
    return look


def probe_report(camera: T2SPlusCamera, start_up: Look, look: Look) -> list[tuple[str, str]]:
    """What is to be told of an open camera that was looked at."""
    info, control = camera.info, camera.control
    rows = [
        ("camera", f"{info.product} {info.serial} firmware {info.firmware or '?'} at {info.location}"),
        ("variant", str(camera.variant or "no good frame came")),
        ("start-up", f"{camera.stage}, {len(start_up.frames)} frames, {sum(start_up.rejected.values())} refused"),
        ("rate", f"{look.rate_hz:.2f} frames/s, longest gap {look.longest_gap_s * _MS_PER_S:.0f} ms"),
        ("frames", f"{len(look.frames)} good, {look.frozen} frozen, {camera.missing_frames} missing"),
        ("refused", ", ".join(f"{reason} {count}" for reason, count in look.rejected.items()) or "none"),
        ("commands", f"{control.sent} taken, {control.failed} failed"),
    ]
    if look.frames:
        frame = look.frames[-1]
        rows += [
            ("detector", f"{frame.metadata.fpa_celsius:.2f} °C, shutter {frame.calibration.shutter_celsius:.2f} °C"),
            ("picture", f"{_span(frame)} °C"),
            ("flags", str(frame.flags.name or "NONE")),
        ]
    return rows + [("note", note) for note in camera.notes]


def _span(frame: ThermalFrame) -> str:
    known = frame.celsius[np.isfinite(frame.celsius)]
    return f"{known.min():.1f} to {known.max():.1f}" if known.size else "no"


def _print_rows(rows: list[tuple[str, str]]) -> None:
    table = Table("what", "found", box=None, pad_edge=False, show_header=False)
    for name, value in rows:
        table.add_row(f"[bold]{name}[/]", value)
    Console().print(table)
