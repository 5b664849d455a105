"""Two T2S+ and a webcam of somebody else on one machine: each reader has its own camera, the webcam is left alone."""

import json
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from daemon.cameras import usb_camera_device
from daemon.settings import T2SPlusSettings
from drivers.clock import SystemClock
from drivers.errors import CameraError, CameraLostError, FrameRejectedError
from drivers.frame import FrameFlag
from drivers.gain_map import GainMaps
from drivers.start_up import Stage
from drivers.t2s_plus import T2SPlusCamera
from drivers.usb import UsbBus
from drivers.virtual.control_socket import Operator
from drivers.virtual.personality import CONFIGURATION, DEVICE, V1
from tests.hil.jobs.more_cameras import another_camera, await_cameras
from tests.hil.jobs.plain_reader import await_node

SECOND = "SECOND"
RATE_HZ = 8
"""An emulated processor cannot be three cameras and two readers at 25 Hz."""

_SETTLED_AFTER_S = 6.0
_TOGETHER_S = 6.0
_ALONE_S = 3.0
_START_S = 40.0
_READ_S = 5.0
_ATTEMPTS = 10
_READER = "import sys, json; from tests.hil.jobs.two_cameras import watch; print(json.dumps(watch(*sys.argv[1:])))"
_WEBCAM = Path("/run/webcam.descriptors")
_GO = Path("/run/two-cameras.go")
"""Is there once both readers have frames: one may need much longer for its start than the other."""


def run(second: str = "v2") -> dict[str, Any]:
    """Both cameras are read at once; then the first is unplugged, and the second must not notice.

    The lost frames of a device are those that the emulated processor left it no time for.
    """
    await_node()
    first = Operator()
    _GO.unlink(missing_ok=True)
    _WEBCAM.write_bytes(_descriptors_of_a_webcam())
    with (
        another_camera(Path("/run/webcam.sock"), "--descriptors", str(_WEBCAM)) as webcam,
        another_camera(Path("/run/second.sock"), "--variant", second, *_options(second)) as other,
    ):
        cameras = await_cameras(2)
        ports = {camera.serial: camera.port for camera in cameras}
        result: dict[str, Any] = {"ports": ports, "ambiguous": _refusal(), "nodes": _video_devices()}
        for operator in (first, other):
            operator(f"fps {RATE_HZ}")
        readers = [_reader("port", ports[""]), _reader("serial", SECOND)]
        for reader in readers:
            _await_line(reader, "together")
        _GO.touch()
        lost_before = [operator("state")["lost"] for operator in (first, other)]
        time.sleep(_TOGETHER_S)
        first("unplug")
        result |= {"first": _result(readers[0]), "second": _result(readers[1])}
        lost = [operator("state")["lost"] for operator in (first, other)]
        result["lost_by_device"] = dict(zip(("first", "second"), np.subtract(lost, lost_before).tolist(), strict=True))
        result["words"] = {name: len(hand("words")["words"]) for name, hand in (("first", first), ("second", other))}
        seen = webcam("state")
        result["webcam"] = {"frames": seen["frames"], "words": webcam("words")["words"], "plugged": seen["plugged"]}
        first("plug")
    return result


def watch(by: str, name: str) -> dict[str, Any]:
    """A process of its own: start a camera up and read it until it is gone, or the other one has been gone a while."""
    settings = T2SPlusSettings(port=name) if by == "port" else T2SPlusSettings(serial=name)
    refused, lost = 0, False
    times: list[float] = []
    with _opened(settings) as camera:
        _start_up(camera)
        print("together", flush=True)  # noqa: T201 - the other process waits for it
        while not _GO.exists():
            with suppress(FrameRejectedError):
                camera.read(_READ_S)
        first = last = camera.read(_READ_S)
        ends_s = time.monotonic() + _TOGETHER_S + _ALONE_S
        while time.monotonic() < ends_s:
            try:
                last = camera.read(_READ_S)
            except FrameRejectedError:
                refused += 1
            except CameraLostError:
                lost = True
                break
            times.append(last.captured_monotonic_ns / 1e9)
        return {
            "serial": camera.info.serial,
            "variant": camera.variant,
            "rate_hz": round((len(times) - 1) / (times[-1] - times[0]), 2),
            "frames": len(times),
            "sequence_gaps": last.sequence - first.sequence - len(times) - refused,
            "refused": refused,
            "lost": lost,
            "flags": int(last.flags & FrameFlag.UNCERTAIN),
        }


@contextmanager
def _opened(settings: T2SPlusSettings) -> Iterator[T2SPlusCamera]:
    """The camera, opened again and again as the capture loop does: one just plugged in may still be busy."""
    device, gain_maps = usb_camera_device(settings), GainMaps(None)
    for attempt in range(1, _ATTEMPTS + 1):
        camera = T2SPlusCamera(device, clock=SystemClock(), gain_maps=gain_maps)
        try:
            camera.__enter__()
        except CameraLostError:
            if attempt == _ATTEMPTS:
                raise
            time.sleep(1.0)
        else:
            break
    try:
        yield camera
    finally:
        camera.__exit__()


def _start_up(camera: T2SPlusCamera) -> None:
    began_s, ready_s = time.monotonic(), None
    while ready_s is None or time.monotonic() - ready_s < _SETTLED_AFTER_S:
        if time.monotonic() - began_s > _START_S:
            raise TimeoutError(f"the camera was not ready within {_START_S:g} s: {camera.stage}")
        try:
            camera.read(_READ_S)
        except FrameRejectedError:
            continue
        if ready_s is None and camera.stage is Stage.READY:
            ready_s = time.monotonic()


def _reader(by: str, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", _READER, by, name], stdout=subprocess.PIPE, text=True)


def _await_line(reader: "subprocess.Popen[str]", line: str) -> None:
    got = reader.stdout.readline().strip() if reader.stdout else ""
    if got != line:
        raise RuntimeError(f"expected {line!r} of the reader, got {got!r}; see job.out")


def _result(reader: "subprocess.Popen[str]") -> dict[str, Any]:
    rest, _ = reader.communicate(timeout=_START_S)
    result: dict[str, Any] = json.loads(rest.splitlines()[-1])
    return result


def _refusal() -> str:
    try:
        UsbBus().choose()
    except CameraError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _options(variant: str) -> tuple[str, ...]:
    return ("--serial", SECOND, *(("--coarse-packets",) if variant == "v1" else ()))


def _video_devices() -> int:
    return sum((folder / "index").read_text().strip() == "0" for folder in Path("/sys/class/video4linux").iterdir())


def _descriptors_of_a_webcam() -> bytes:
    """Everything as of a T2S+ but who it is: the kernel makes a video node of it, with the same control."""
    device, configuration = V1.descriptor(DEVICE, 0), V1.descriptor(CONFIGURATION, 0)
    if device is None or configuration is None:
        raise RuntimeError("a personality without descriptors")
    return device[:8] + struct.pack("<HH", 0x046D, 0x0825) + device[12:] + configuration
