"""The product's own driver on the virtual camera: start-up, rate, shutter, degrees; left in /share for the host."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from daemon.cameras import usb_camera_device
from daemon.settings import CameraSettings
from drivers.clock import SystemClock
from drivers.errors import FrameRejectedError
from drivers.frame import FrameFlag, ThermalFrame
from drivers.gain_map import GainMaps
from drivers.start_up import Stage
from drivers.t2s_plus import T2SPlusCamera
from drivers.t2s_protocol import FRAME_RATE_HZ
from tests.hil.jobs.pictures import SIMULATED_DISTANCE, Pictures
from tests.hil.jobs.plain_reader import await_node
from tests.hil.virtual.control_socket import Operator

_START_S = 30.0
_SETTLED_AFTER_S = 5.0
_WATCHED_S = 10.0
_ATTEMPTS = 3
_KEPT = 8
_READ_S = 5.0


def run(strip: str = "normal") -> dict[str, Any]:
    """What came; the degrees of a few frames are in a file."""
    await_node()
    operator = Operator()
    device = usb_camera_device(CameraSettings().t2s_plus)
    with T2SPlusCamera(device, clock=SystemClock(), overrides=SIMULATED_DISTANCE, gain_maps=GainMaps(None)) as camera:
        start = _start(camera)
        for _ in range(_ATTEMPTS):
            lost, missing = operator("state")["lost"], camera.missing_frames
            frames = _watch(camera)
            lost_by_device = operator("state")["lost"] - lost
            if lost_by_device == 0:
                break
        found = {
            "variant": camera.variant,
            "serial": camera.info.serial,
            "notes": list(camera.notes),
            "sent": camera.control.sent,
            "failed": camera.control.failed,
            "missing_frames": camera.missing_frames - missing,
        }
    return found | start | _figures(frames, Pictures(strip), lost_by_device) | {"words": _words(operator)}


def _start(camera: T2SPlusCamera) -> dict[str, Any]:
    """Until the start-up is over and its shutter event has passed."""
    began_s, shutter, refused, ready_s = time.monotonic(), 0, 0, None
    while ready_s is None or time.monotonic() - ready_s < _SETTLED_AFTER_S:
        if time.monotonic() - began_s > _START_S:
            raise TimeoutError(f"the camera was not ready within {_START_S:g} s: {camera.stage}")
        try:
            shutter += bool(camera.read(_READ_S).flags & FrameFlag.SHUTTER)
        except FrameRejectedError:
            refused += 1
        if ready_s is None and camera.stage is Stage.READY:
            ready_s = time.monotonic()
    return {"ready_s": round(ready_s - began_s, 2), "shutter_frames": shutter, "refused_at_start": refused}


def _watch(camera: T2SPlusCamera) -> list[ThermalFrame]:
    return [camera.read(_READ_S) for _ in range(round(_WATCHED_S * FRAME_RATE_HZ))]


def _figures(frames: list[ThermalFrame], pictures: Pictures, lost_by_device: int) -> dict[str, Any]:
    numbers = [pictures.number(frame.transfer.tobytes()) for frame in frames]
    known = [number for number in numbers if number is not None]
    span_s = (frames[-1].captured_monotonic_ns - frames[0].captured_monotonic_ns) / 1e9
    kept = frames[:_KEPT]
    np.savez(Path("/share/driver.npz"), celsius=np.stack([frame.celsius for frame in kept]))
    return {
        "rate_hz": round((len(frames) - 1) / span_s, 3),
        "sequence_gaps": frames[-1].sequence - frames[0].sequence - len(frames) + 1,
        "missing": pictures.missing(known),
        "unknown": len(numbers) - len(known),
        "lost_by_device": lost_by_device,
        "flags": sorted({int(frame.flags) for frame in frames}),
        "numbers": numbers[:_KEPT],
    }


def _words(operator: Operator) -> list[int]:
    return [word for word, _ in operator("words")["words"]]
