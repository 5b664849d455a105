"""`vivarium camera` over the fake bus and kernel of the driver's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from daemon.camera_cli import calibrate_report, camera_app, look_at, probe_report
from daemon.cameras import camera_device, camera_opener
from daemon.settings import parse_settings
from drivers.clock import SystemClock
from drivers.errors import CameraAbsentError, ConfigError
from drivers.simulated import Fault
from drivers.start_up import Stage
from drivers.usb import UsbBus

if TYPE_CHECKING:
    from tests.test_drivers.conftest import Bench, FakeSysfs


@pytest.fixture
def runner(sysfs: FakeSysfs, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for module in ("daemon.camera_cli", "daemon.cameras"):
        monkeypatch.setattr(f"{module}.UsbBus", lambda: UsbBus(sysfs=sysfs.root, dev=sysfs.dev))
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner()


def test_the_list_names_port_serial_stream_and_node(sysfs: FakeSysfs, runner: CliRunner) -> None:
    sysfs.plug("1-2.3", serial="KA1213", node=4)
    sysfs.plug("1-1", vendor=0x046D, product_id=0x0825, product="Webcam")
    result = runner.invoke(camera_app, ["list"])
    assert result.exit_code == 0
    (line,) = [line.split() for line in result.stdout.splitlines() if "1-2.3" in line]
    assert line[:5] == ["1-2.3", "1514:0001", "T2S+", "KA1213", "v1"]
    assert line[5:9] == ["isochronous", "256x196", "25", "Hz"]
    assert line[9:] == [str(sysfs.dev / "video4"), "usable"]
    assert "Webcam" not in result.stdout


def test_a_bus_without_camera_is_said_and_an_exit_code(runner: CliRunner) -> None:
    result = runner.invoke(camera_app, ["list"])
    assert (result.exit_code, result.stdout) == (1, "no T2S+ camera is attached\n")


def test_the_probe_counts_frames_gaps_and_refusals(bench: Bench) -> None:
    with bench.v1() as camera:
        start_up = look_at(camera, bench.clock, 15, until_ready=True)
        assert camera.stage is Stage.READY
        bench.device.inject(Fault.TORN, frames=2)
        look = look_at(camera, bench.clock, 8)
        rows = dict(probe_report(camera, start_up, look))
    assert rows["camera"] == "T2S+ SIM00005 firmware 1.00.simulated at USB port 1-2"
    assert rows["variant"] == "v1"
    assert rows["rate"] == "25.00 frames/s, longest gap 40 ms"
    assert rows["refused"] == "statistics 2"
    assert rows["frames"] == "198 good, 30 frozen, 0 missing"
    assert rows["commands"] == "4 taken, 0 failed"
    assert "note" not in rows


def test_a_calibration_is_timed_from_the_command(bench: Bench) -> None:
    with bench.v1() as camera:
        look_at(camera, bench.clock, 8)
        seen, rows = calibrate_report(camera, bench.clock)
    assert seen
    assert dict(rows)["command"] == "taken"
    assert dict(rows)["shutter"].startswith("30 frames, 1")


def test_the_settings_name_the_camera(runner: CliRunner) -> None:
    text = '[camera]\nkind = "t2s_plus"\n[camera.t2s_plus]\nport = "1-2.3"\nrange = "high"\n'
    settings = parse_settings(text, origin="test").camera
    device = camera_device(settings)
    assert device is not None
    with pytest.raises(CameraAbsentError, match=r"at port 1-2\.3"):
        device.find()
    with pytest.raises(CameraAbsentError, match=r"at port 1-2\.3"), camera_opener(settings, SystemClock())():
        pass
    assert camera_device(parse_settings("", origin="test").camera) is None


def test_a_port_that_cannot_be_one_is_refused_by_its_key() -> None:
    with pytest.raises(ConfigError, match=r"camera\.t2s_plus\.port"):
        parse_settings('[camera.t2s_plus]\nport = "/dev/video0"\n', origin="test")
