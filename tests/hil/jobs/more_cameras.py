"""Further virtual cameras beside the one of the job, and what the bus says of them."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drivers.errors import CameraLostError
from drivers.usb import UsbBus, UsbCamera
from drivers.virtual.control_socket import Operator

_START_S = 60.0


@contextmanager
def another_camera(socket: Path, *options: str) -> Iterator[Operator]:
    """A virtual camera of its own process, plugged in, until the end of the block."""
    command = [sys.executable, "-m", "drivers.virtual", "--reel", "/share/reel.npz", "--socket", str(socket)]
    with subprocess.Popen([*command, *options]) as process:
        try:
            deadline_s = time.monotonic() + _START_S
            while not socket.exists():
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise RuntimeError(f"the camera at {socket} did not start (status {process.poll()})")
                time.sleep(0.1)
            operator = Operator(socket)
            yield operator
        finally:
            try:
                Operator(socket)("quit")
            except OSError:
                process.kill()


def await_cameras(count: int) -> list[UsbCamera]:
    """The cameras on the bus, once there are so many and each has its video node."""
    bus, deadline_s = UsbBus(), time.monotonic() + _START_S
    while True:
        cameras = bus.cameras()
        try:
            if len(cameras) == count and all(bus.video_node(camera).path.exists() for camera in cameras):
                return cameras
        except CameraLostError:
            pass
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"expected {count} cameras with their nodes, found {cameras}")
        time.sleep(0.1)
