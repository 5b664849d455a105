"""How the self-test pulls a camera's cable: by sysfs, or by the hand of a human."""

from collections.abc import Callable
from typing import Protocol

from drivers.clock import NS_PER_S, Clock
from drivers.errors import CameraAbsentError
from drivers.usb import UsbCamera, UsbCameraDevice

HAND_PATIENCE_S = 120.0
_LOOK_S = 0.02


class Cable(Protocol):
    """Takes a camera off the bus and brings it back."""

    by_hand: bool
    """Whether the camera loses its power, and nobody knows when exactly."""

    def pull(self) -> None:
        """Take it off, or ask for it; raises CameraError."""
        ...

    def put(self) -> None:
        """Bring it back and return when it is there; raises CameraError."""
        ...


class SysfsCable:
    """The kernel is told to let go of the device and to take it again; its power stays on. Needs root."""

    by_hand = False

    def __init__(self, device: UsbCameraDevice) -> None:
        self._device = device
        self._pulled: UsbCamera | None = None

    def pull(self) -> None:
        """See `Cable`."""
        camera = self._device.find()
        self._device.bus.authorize(camera, allowed=False)
        self._pulled = camera

    def put(self) -> None:
        """See `Cable`."""
        if self._pulled is not None:
            self._device.bus.authorize(self._pulled, allowed=True)
            self._pulled = None


class HandCable:
    """A human is asked.

    Parameters
    ----------
    device : UsbCameraDevice
        Which camera.
    clock : Clock
        For how long to wait.
    say : callable
        Shows the human what to do.
    """

    by_hand = True

    def __init__(self, device: UsbCameraDevice, clock: Clock, say: Callable[[str], None]) -> None:
        self._device = device
        self._clock = clock
        self._say = say

    def pull(self) -> None:
        """See `Cable`."""
        self._say(f"Unplug the camera now (within {HAND_PATIENCE_S:g} s).")

    def put(self) -> None:
        """See `Cable`."""
        self._say(f"Plug it in again, at the same port (within {HAND_PATIENCE_S:g} s).")
        deadline_ns = self._clock.monotonic_ns() + round(HAND_PATIENCE_S * NS_PER_S)
        while self._device.presence() is None:
            if self._clock.monotonic_ns() >= deadline_ns:
                raise CameraAbsentError(f"the camera was not plugged in again within {HAND_PATIENCE_S:g} s")
            self._clock.wait(_LOOK_S)
