"""`vivarium camera selftest`: what the user's own camera does, in one report to send in."""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from daemon.cameras import usb_camera_device
from daemon.selftest import Verdict
from daemon.selftest_cable import Cable, HandCable, SysfsCable
from daemon.selftest_report import as_report, machine, summary_lines, write_report
from daemon.selftest_run import Plan, SelfTest
from daemon.settings import Settings, T2SPlusSettings, load_settings
from drivers.clock import Clock, SystemClock
from drivers.gain_map import GainMaps
from drivers.t2s_plus import T2SPlusCamera
from drivers.usb import UsbCameraDevice
from drivers.v4l2 import SystemIo

OpenCamera = Callable[[], T2SPlusCamera]

_COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.NOT_TESTED: "yellow"}


class Unplug(StrEnum):
    """How the camera is unplugged."""

    NONE = "none"
    SYSFS = "sysfs"
    HAND = "hand"


def selftest_command(
    port: Annotated[str, typer.Option(help="USB port as `camera list` prints it; the only camera's.")] = "",
    serial: Annotated[str, typer.Option(help="USB serial number, in place of the port.")] = "",
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Config file that names the camera and keeps its gain map.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="For how long frames and their drift are watched.", min=5, max=7200)
    ] = 60.0,
    range_switch: Annotated[
        bool, typer.Option("--range", help="Also switch to the high range and back; readings need 2 minutes after it.")
    ] = False,
    unplug: Annotated[
        Unplug, typer.Option(help="Pull the cable: by the kernel (needs root), by your hand, or not.")
    ] = Unplug.NONE,
    times: Annotated[int, typer.Option(help="How often the cable is pulled.", min=1, max=1000)] = 3,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The report; named by the time if left out.")
    ] = (None),
) -> None:
    """Test the attached camera and write a report to send in. The service must not run.

    Nothing is stored in the camera; only the shutter and, with --range, the temperature range are commanded.
    """
    console, clock = Console(highlight=False), SystemClock()
    device, open_camera = _camera(port, serial, config, clock)
    started = datetime.now(UTC)
    say = partial(_say, console)
    test = SelfTest(
        device,
        open_camera=open_camera,
        clock=clock,
        io=SystemIo(),
        say=say,
        cable=_cable(unplug, device, clock, console),
    )
    plan = Plan(watch_s=seconds, range_switch=range_switch, unplugs=0 if unplug is Unplug.NONE else times)
    findings = test.run(plan)
    for line, check in zip(summary_lines(findings.checks)[1:], findings.checks, strict=True):
        console.print(f"[{_COLOURS[check.verdict]}]{escape(line)}[/]", soft_wrap=True)
    path = output or Path(f"selftest-{started:%Y%m%dT%H%M%SZ}.json")
    write_report(path, as_report(findings, started_utc=started.isoformat(timespec="seconds"), machine=machine()))
    console.print(f"report: {path}", soft_wrap=True)
    if any(check.verdict is Verdict.FAIL for check in findings.checks):
        raise typer.Exit(1)


def _camera(port: str, serial: str, config: Path | None, clock: Clock) -> tuple[UsbCameraDevice, OpenCamera]:
    settings = Settings() if config is None else load_settings(config)
    wanted = settings.camera.t2s_plus
    if port or serial:  # the command line goes before the config
        wanted = T2SPlusSettings(port=port, serial=serial)
    device = usb_camera_device(wanted)
    gain_maps = GainMaps(None if config is None else settings.camera_dir)
    overrides = settings.camera.environment.overrides()
    return device, lambda: T2SPlusCamera(device, clock=clock, overrides=overrides, gain_maps=gain_maps)


def _say(console: Console, what: str) -> None:
    console.print(f"... {what}", soft_wrap=True)


def _cable(unplug: Unplug, device: UsbCameraDevice, clock: Clock, console: Console) -> Cable | None:
    if unplug is Unplug.SYSFS:
        return SysfsCable(device)
    if unplug is Unplug.HAND:
        return HandCable(device, clock, lambda what: console.print(f"[bold]{escape(what)}[/]", soft_wrap=True))
    return None
