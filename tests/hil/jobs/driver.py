"""The product's own driver on the virtual camera: start-up, rate, shutter, degrees; left in /share for the host."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from daemon.cameras import usb_camera_device
from daemon.settings import CameraSettings
from drivers.clock import SystemClock
from drivers.errors import FrameRejectedError
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.gain_map import GainMaps
from drivers.start_up import Stage
from drivers.t2s_plus import T2SPlusCamera
from drivers.t2s_protocol import FRAME_RATE_HZ
from drivers.v4l2 import BUFFERS
from drivers.virtual.control_socket import Operator
from tests.hil.jobs.pictures import SIMULATED_DISTANCE, Pictures
from tests.hil.jobs.plain_reader import await_node

_START_S = 30.0
_SETTLED_AFTER_S = 7.0
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
        kept = [camera.read(_READ_S) for _ in range(_KEPT)]
        pictures = Pictures(strip)
        for attempt in range(1, _ATTEMPTS + 1):  # see `tests.hil.jobs.smoke`
            lost = operator("state")["lost"]
            figures = _figures(_watch(camera), pictures)
            figures |= {"lost_by_device": operator("state")["lost"] - lost, "attempt": attempt}
            if figures["lost_by_device"] == figures["missing"] == 0:
                break
        np.savez(Path("/share/driver.npz"), celsius=np.stack([frame.celsius for frame in kept]))
        found = {
            "numbers": [pictures.number(frame.transfer.tobytes()) for frame in kept],
            "flags": sorted({int(frame.flags) for frame in kept}),
            "variant": camera.variant,
            "serial": camera.info.serial,
            "notes": list(camera.notes),
            "sent": camera.control.sent,
            "failed": camera.control.failed,
        }
    return found | start | figures | {"words": _words(operator)}


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


def _watch(camera: T2SPlusCamera) -> list[RawFrame]:
    count = round(_WATCHED_S * FRAME_RATE_HZ)
    for _ in range(BUFFERS):  # what has waited while frames were decoded
        camera.read_raw(_READ_S)
    return [_as_raw(camera.read(_READ_S)) for _ in range(count)]


def _as_raw(frame: ThermalFrame) -> RawFrame:
    return RawFrame(
        sequence=frame.sequence,
        captured_utc_ns=frame.captured_utc_ns,
        captured_monotonic_ns=frame.captured_monotonic_ns,
        payload=frame.transfer.tobytes(),
    )


def _figures(frames: list[RawFrame], pictures: Pictures) -> dict[str, Any]:
    numbers = [pictures.number(frame.payload) for frame in frames]
    known = [number for number in numbers if number is not None]
    span_s = (frames[-1].captured_monotonic_ns - frames[0].captured_monotonic_ns) / 1e9
    return {
        "rate_hz": round((len(frames) - 1) / span_s, 3),
        "sequence_gaps": frames[-1].sequence - frames[0].sequence - len(frames) + 1,
        "missing": pictures.missing(known),
        "unknown": len(numbers) - len(known),
    }


def _words(operator: Operator) -> list[int]:
    return [word for word, _ in operator("words")["words"]]
