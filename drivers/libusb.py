"""What needs libusb (through pyusb): a reset of the device, and the gain map of a v2, whose headers the kernel strips.

For the gain map the kernel's video driver is sent away from the device and called back afterwards: meanwhile there is
no video node. Requests: USB Device Class Definition for Video Devices 1.0/1.1, section 4.
"""

import errno
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

import numpy as np
import usb.core
import usb.util
from numpy.typing import NDArray

from drivers.clock import NS_PER_S, Clock
from drivers.errors import CameraError, CameraLostError, CameraRefusedError, ControlError
from drivers.gain_map import GainMapAssembler, GainMapError
from drivers.t2s_protocol import IMAGE_WIDTH, TRANSFER_ROWS, Command
from drivers.usb import UsbCamera
from drivers.uvc_descriptors import TransferType

logger = logging.getLogger(__name__)

FETCH_S = 8.0
"""192 rows take a little over a second; a service must not stand still for much longer."""

_WARM_UP_S = 0.3
"""From the start of the stream to the command, as InfiCamPlus waits."""

_READ_S = 0.5

_TO_INTERFACE = 0x21  # bmRequestType: class request from the host to an interface
_FROM_INTERFACE = 0xA1
_SET_CUR, _GET_CUR = 0x01, 0x81
_ZOOM_ABSOLUTE, _PROBE, _COMMIT = 0x0B, 0x01, 0x02
_PROBE_LAYOUT = struct.Struct("<HBBIHHHHHII")  # UVC 1.0, 26 bytes
_CONTROL_TIMEOUT_MS = 5000


def reset_device(bus_number: int, device_number: int) -> None:
    """Reset a device on its bus, as if it had been plugged in anew; its video node stays.

    Raises
    ------
    CameraError
        If it is not there, or may not be reset.
    """
    with _usb_errors(f"USB device {bus_number}:{device_number}"):
        device = _device(bus_number, device_number)
        try:
            device.reset()
        finally:
            usb.util.dispose_resources(device)


class PayloadStream(Protocol):
    """A stream whose payloads keep their headers."""

    def command(self, word: int) -> None:
        """Send a command word; raises CameraError."""
        ...

    def read_payload(self, timeout_s: float) -> bytes | None:
        """The next payload, None when none comes; raises CameraError."""
        ...


def fetch_gain_map(stream: PayloadStream, clock: Clock) -> NDArray[np.uint16]:
    """Ask a v2 for its gain map.

    Returns
    -------
    (192, 256) uint16
        Q14 gain words; 0 marks a dead pixel.

    Raises
    ------
    GainMapError
        If it did not come within `FETCH_S`.
    CameraError
        If the camera does not answer.
    """
    start_ns = clock.monotonic_ns()

    def passed_s() -> float:
        return (clock.monotonic_ns() - start_ns) / NS_PER_S

    while passed_s() < _WARM_UP_S:
        stream.read_payload(_WARM_UP_S - passed_s())
    rows = GainMapAssembler()
    try:
        stream.command(Command.GAIN_MAP)
        while passed_s() < FETCH_S:
            payload = stream.read_payload(_READ_S)
            if payload is None:
                continue
            try:
                gain = rows.feed(payload)
            except GainMapError as error:
                logger.warning("%s; asking for it again", error)
                stream.command(Command.GAIN_MAP)
                continue
            if gain is not None:
                return gain
    finally:
        stream.command(Command.RADIOMETRIC)
    raise GainMapError(f"expected a gain map within {FETCH_S:g} s, got {rows.lines} of its rows")


class LibusbStream:
    """The stream of a v2 by bulk transfers, with its payload headers, from enter to exit."""

    def __init__(self, camera: UsbCamera, *, device: Any = None) -> None:
        self._camera = camera
        self._video = camera.video
        self._device = device
        self._taken: list[int] = []
        self._payload_bytes = 0

    def __enter__(self) -> Self:
        """Take the device over from the kernel's driver and start its stream.

        Raises
        ------
        CameraError
            If it is gone, streams by isochronous transfers, or may not be taken.
        """
        if self._video.transfer is not TransferType.BULK:
            raise CameraRefusedError(
                f"{self._camera}: a gain map needs a camera that streams by bulk transfers, got {self._video.transfer}"
            )
        with _usb_errors(str(self._camera)):
            if self._device is None:
                self._device = _device(self._camera.bus_number, self._camera.device_number)
            try:
                self._take_over()
                self._negotiate()
            except BaseException:
                self._give_back()
                raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        with _usb_errors(str(self._camera)):
            self._give_back()

    def command(self, word: int) -> None:
        """See `PayloadStream`."""
        terminal = self._video.camera_terminal or 0
        with _usb_errors(str(self._camera)):
            self._set(_ZOOM_ABSOLUTE, terminal << 8 | self._video.control_interface, struct.pack("<H", word))

    def read_payload(self, timeout_s: float) -> bytes | None:
        """See `PayloadStream`."""
        try:
            with _usb_errors(str(self._camera)):
                data = self._device.read(self._video.endpoint, self._payload_bytes, max(1, round(timeout_s * 1000)))
                return bytes(data)
        except ControlError as error:
            if isinstance(error.__cause__, usb.core.USBTimeoutError):
                return None
            raise

    def _take_over(self) -> None:
        for interface in (self._video.control_interface, self._video.streaming_interface):
            if self._device.is_kernel_driver_active(interface):
                self._device.detach_kernel_driver(interface)
                self._taken.append(interface)
            usb.util.claim_interface(self._device, interface)

    def _negotiate(self) -> None:
        size = self._video.size(IMAGE_WIDTH, TRANSFER_ROWS)
        if size is None:
            raise CameraRefusedError(f"{self._camera}: it has no stream of {IMAGE_WIDTH}x{TRANSFER_ROWS}")
        # The bit says that the interval is to be kept; the size of a payload is the camera's to choose.
        wish = _PROBE_LAYOUT.pack(
            1, size.format_index, size.frame_index, size.interval_100ns, 0, 0, 0, 0, 0, size.frame_bytes, 0
        )
        interface = self._video.streaming_interface
        self._set(_PROBE, interface, wish)
        answer = bytes(
            self._device.ctrl_transfer(
                _FROM_INTERFACE, _GET_CUR, _PROBE << 8, interface, _PROBE_LAYOUT.size, _CONTROL_TIMEOUT_MS
            )
        )
        if len(answer) != _PROBE_LAYOUT.size:
            raise CameraRefusedError(
                f"{self._camera}: expected {_PROBE_LAYOUT.size} bytes of stream settings, got {len(answer)}"
            )
        self._payload_bytes = _PROBE_LAYOUT.unpack(answer)[-1]
        if self._payload_bytes == 0:
            raise CameraRefusedError(f"{self._camera}: it offers payloads of no size")
        self._set(_COMMIT, interface, answer)

    def _set(self, selector: int, index: int, data: bytes) -> None:
        self._device.ctrl_transfer(_TO_INTERFACE, _SET_CUR, selector << 8, index, data, _CONTROL_TIMEOUT_MS)

    def _give_back(self) -> None:
        """Stop the stream and let the kernel's driver have the device again, as far as it is still there."""
        device = self._device
        if device is None:
            return
        steps: list[tuple[Any, tuple[Any, ...]]] = [(device.clear_halt, (self._video.endpoint,))]
        steps += [
            (usb.util.release_interface, (device, interface))
            for interface in (self._video.control_interface, self._video.streaming_interface)
        ]
        # The video driver belongs to the control interface and takes the streaming interface by itself.
        steps += [(device.attach_kernel_driver, (interface,)) for interface in self._taken[:1]]
        for step, arguments in steps:
            try:
                step(*arguments)
            except usb.core.USBError as error:
                logger.debug("%s: on the way out: %s", self._camera, error)
        usb.util.dispose_resources(device)
        self._device, self._taken = None, []


def _device(bus_number: int, device_number: int) -> Any:
    device = usb.core.find(bus=bus_number, address=device_number)
    if device is None:
        raise CameraLostError(f"USB device {bus_number}:{device_number} is gone")
    return device


@contextmanager
def _usb_errors(what: str) -> Iterator[None]:
    """Foreign errors as ours."""
    try:
        yield
    except usb.core.NoBackendError as error:
        raise CameraError(f"{what}: libusb is missing: apt install libusb-1.0-0") from error
    except usb.core.USBError as error:
        if error.errno == errno.ENODEV:
            raise CameraLostError(f"{what}: {error.strerror}") from error
        hint = ": install the udev rule, or run as root" if error.errno == errno.EACCES else ""
        raise ControlError(f"{what}: {error.strerror}{hint}") from error
