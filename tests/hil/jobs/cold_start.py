"""The product's driver on a v1 that was off for long: silence, its own shutter, and its own first shutter cycle."""

import time
from typing import Any

from daemon.cameras import usb_camera_device
from daemon.settings import CameraSettings
from drivers.clock import SystemClock
from drivers.errors import FrameRejectedError, FrameTimeoutError
from drivers.frame import FrameFlag
from drivers.start_up import Stage
from drivers.t2s_plus import T2SPlusCamera
from drivers.virtual.control_socket import Operator
from tests.hil.jobs.plain_reader import await_node

_LIMIT_S = 30.0
_READ_S = 1.0


def run() -> dict[str, Any]:
    """Seconds after the plug-in, and the commands that the driver sent."""
    operator = Operator()
    operator("plug cold")
    plugged_s = time.monotonic()
    await_node()
    device = usb_camera_device(CameraSettings().t2s_plus)
    first_s = fresh_s = None
    seen = 0
    with T2SPlusCamera(device, clock=SystemClock()) as camera:
        opened_s = time.monotonic() - plugged_s
        while camera.stage is not Stage.READY:
            if time.monotonic() - plugged_s > _LIMIT_S:
                raise TimeoutError(f"the camera was not ready within {_LIMIT_S:g} s: {camera.stage}")
            try:
                frame = camera.read(_READ_S)
            except (FrameTimeoutError, FrameRejectedError):
                continue
            now_s = time.monotonic() - plugged_s
            first_s = first_s or now_s
            seen += 1
            if seen > 1 and fresh_s is None and not frame.flags & FrameFlag.SHUTTER:
                fresh_s = now_s
        ready_s = time.monotonic() - plugged_s
        camera.commands_done(_READ_S)
    words = [word for word, _ in operator("words")["words"]]
    return {"opened_s": opened_s, "first_s": first_s, "fresh_s": fresh_s, "ready_s": ready_s, "words": words}
