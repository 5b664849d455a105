"""T2S+ cameras on the USB bus: found by what they are, never by the number of a video node.

Everything is read from sysfs; nothing is opened and no command is sent, so other cameras are left alone.
Identities: the device notes of zzh315/ThermalView, stawel/ht301_hacklib and diminDDL/InfiCamPlus.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import CameraAbsentError, CameraError, CameraLostError, CameraRefusedError
from drivers.t2s_protocol import IMAGE_WIDTH, TRANSFER_ROWS, Variant
from drivers.usb_dump import UsbDump
from drivers.uvc_descriptors import PictureSize, VideoDescription, read_descriptors

logger = logging.getLogger(__name__)

FAMILY_VENDOR = 0x1514
"""The vendor of the cameras that correct their picture themselves; it makes other thermal cameras, too."""

_RAW_CAMERA = (0x04B4, 0x0100)
"""Vendor and product of a v2, which it shares with all kinds of gadgets: its product text decides."""
_RAW_CAMERA_TEXT = re.compile(r"T2(S\+|L|\b)")
"""T2S+, T2S+_V2 and its other suffixes, T2L-A4L, T2 Pro."""

_CAPTURE_NODE_INDEX = "0"
"""uvcvideo makes two nodes for a camera: number 0 gives pictures, number 1 their payload headers."""

_PORT_NAME = re.compile(r"\d+-\d+(\.\d+)*")
_ROOT_HUB = re.compile(r"usb\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbCamera:
    """A thermal camera of the family that is attached now."""

    port: str
    """Where it is plugged in, for instance 1-2.3: bus, port of the root hub, port of the hub behind it."""
    vendor_id: int
    product_id: int
    manufacturer: str
    product: str
    serial: str
    """Empty where the camera's descriptors have none."""
    bus_number: int
    device_number: int
    """The kernel counts it up with every plug-in."""
    description: VideoDescription | None
    """None when the descriptors cannot be read."""
    fault: str | None
    """Why it cannot be used; None when it can."""

    @property
    def expected_variant(self) -> Variant:
        """What the identity promises; the frames decide."""
        return variant_of(self.vendor_id, self.product_id)

    @property
    def video(self) -> VideoDescription:
        """The description of a camera that can be used.

        Raises
        ------
        CameraRefusedError
            If it cannot.
        """
        if self.description is None or self.fault is not None:
            raise CameraRefusedError(f"{self}: {self.fault}")
        return self.description

    def __str__(self) -> str:
        return (
            f"{self.product or 'unnamed camera'} ({self.vendor_id:04x}:{self.product_id:04x}) at USB port {self.port}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoNode:
    """The device file that gives the pictures of a camera."""

    path: Path
    device_number: str
    """Major and minor, as `81:0`: what the opened file must be, since a freed name is soon given to another camera."""


class UsbBus:
    """The USB devices of this machine.

    Parameters
    ----------
    sysfs : Path
        Where the kernel shows its devices.
    dev : Path
        Where the device files are.
    """

    def __init__(self, *, sysfs: Path = Path("/sys"), dev: Path = Path("/dev")) -> None:
        self._devices = sysfs / "bus" / "usb" / "devices"
        self._dev = dev

    def cameras(self) -> list[UsbCamera]:
        """Every thermal camera of the family, usable or not, by port."""
        if not self._devices.is_dir():
            return []
        found = (
            self._camera(folder) for folder in sorted(self._devices.iterdir()) if _PORT_NAME.fullmatch(folder.name)
        )
        return [camera for camera in found if camera is not None]

    def choose(self, *, port: str = "", serial: str = "", even_with_fault: bool = False) -> UsbCamera:
        """The camera at a port, or with a serial, or the only one.

        Raises
        ------
        CameraAbsentError
            If it is not attached.
        CameraRefusedError
            If it cannot be used (unless that does not matter), or several fit.
        """
        attached = self.cameras()
        fitting = [camera for camera in attached if port in ("", camera.port) and serial in ("", camera.serial)]
        usable = [camera for camera in fitting if camera.fault is None]
        if even_with_fault and not usable:
            usable = fitting
        if len(usable) > 1:
            raise CameraRefusedError(
                f"expected one T2S+ camera, {len(usable)} fit: set camera.t2s_plus.port (or serial) to one of "
                + ", ".join(f"{camera.port} ({camera.serial or 'no serial'})" for camera in usable)
            )
        if usable:
            return usable[0]
        if fitting:
            raise CameraRefusedError("; ".join(f"{camera}: {camera.fault}" for camera in fitting))
        wanted = " ".join(part for part in (port and f"at port {port}", serial and f"with serial {serial}") if part)
        there = ", ".join(f"{camera} with serial {camera.serial or '(none)'}" for camera in attached)
        raise CameraAbsentError(f"no T2S+ camera {wanted or 'is'} on the USB bus; found: {there or 'none'}")

    def video_node(self, camera: UsbCamera) -> VideoNode:
        """The device file that gives the camera's pictures.

        Raises
        ------
        CameraLostError
            If the kernel's video driver has made none: just plugged in, or the driver is not there.
        """
        for folder in sorted(self._devices.glob(f"{camera.port}/{camera.port}:*/video4linux/video*")):
            if _text(folder / "index") == _CAPTURE_NODE_INDEX:
                return VideoNode(path=self._dev / folder.name, device_number=_text(folder / "dev"))
        raise CameraLostError(
            f"{camera}: the kernel has made no video node for it (yet); if none comes: modprobe uvcvideo, see dmesg"
        )

    def dump(self, camera: UsbCamera) -> UsbDump:
        """Its descriptors and texts as they are.

        Raises
        ------
        CameraLostError
            If they cannot be read.
        """
        path = self._devices / camera.port / "descriptors"
        try:
            return UsbDump(
                descriptors=path.read_bytes(),
                manufacturer=camera.manufacturer,
                product=camera.product,
                serial=camera.serial,
            )
        except (OSError, ValueError) as error:
            raise CameraLostError(f"{camera}: {path} cannot be read: {error}") from error

    def surroundings(self, camera: UsbCamera) -> dict[str, str]:
        """How it is attached: host controller, speed, version; empty where the kernel does not say."""
        folder = self._devices / camera.port
        place = folder.resolve()
        root = next((parent for parent in (place, *place.parents) if _ROOT_HUB.fullmatch(parent.name)), None)
        return {
            "host_controller": "" if root is None else root.parent.name,
            "host_controller_driver": "" if root is None else _link_name(root.parent / "driver"),
            "port": camera.port,
            "speed_mbps": _text(folder / "speed"),
            "usb_version": _text(folder / "version"),
            "device_version": _text(folder / "bcdDevice"),
            "max_power": _text(folder / "bMaxPower"),
        }

    def authorize(self, camera: UsbCamera, *, allowed: bool) -> None:
        """Let the kernel use the device or not: off and on again is a plug-in without a hand.

        Raises
        ------
        CameraError
            If the kernel refuses: it takes the rights of root.
        """
        path = self._devices / camera.port / "authorized"
        try:
            path.write_text("1" if allowed else "0")
        except OSError as error:
            raise CameraError(f"{camera}: {path} cannot be written: {error.strerror}") from error

    def _camera(self, folder: Path) -> UsbCamera | None:
        try:
            vendor_id, product_id = (int(_text(folder / name), 16) for name in ("idVendor", "idProduct"))
            product = _text(folder / "product")
            if not _is_of_the_family(vendor_id, product_id, product):
                return None
            bus_number, device_number = (int(_text(folder / name)) for name in ("busnum", "devnum"))
        except ValueError:  # unplugged while we read, or no device at all
            return None
        description, fault = _described(folder)
        return UsbCamera(
            port=folder.name,
            vendor_id=vendor_id,
            product_id=product_id,
            manufacturer=_text(folder / "manufacturer"),
            product=product,
            serial=_text(folder / "serial"),
            bus_number=bus_number,
            device_number=device_number,
            description=description,
            fault=fault,
        )


class UsbCameraDevice:
    """One camera on the bus, whether it is attached or not: what can be done to it from outside.

    Parameters
    ----------
    bus : UsbBus
        Where to look.
    reset : callable
        Resets the device with a bus and a device number; see `drivers.libusb.reset_device`.
    port, serial : str
        Which camera; both empty for the only one.
    """

    def __init__(self, bus: UsbBus, *, reset: Callable[[int, int], None], port: str = "", serial: str = "") -> None:
        self.bus = bus
        self._reset = reset
        self._port, self._serial = port, serial
        self._last_port = ""

    def find(self) -> UsbCamera:
        """The camera as it is attached now; raises as `UsbBus.choose` does."""
        camera = self.bus.choose(port=self._port, serial=self._serial)
        self._last_port = camera.port
        return camera

    def attached(self) -> UsbCamera:
        """The camera as it is attached, whether it can be used or not; raises as `UsbBus.choose` does."""
        return self.bus.choose(port=self._port, serial=self._serial, even_with_fault=True)

    def presence(self) -> str | None:
        """Another text after every plug-in; None while there is no such camera."""
        try:
            camera = self.find()
        except CameraError:
            return None
        return f"{camera.port}/{camera.device_number}"

    def usb_reset(self) -> None:
        """Reset the device on its bus.

        Raises
        ------
        CameraError
            If it is not there or cannot be reset.
        """
        camera = self.find()
        logger.warning("resetting %s", camera)
        self._reset(camera.bus_number, camera.device_number)

    def reauthorize(self) -> None:
        """Take the device away from the kernel and give it back.

        Raises
        ------
        CameraError
            If it is not there or the kernel refuses.
        """
        camera = self.find()
        logger.warning("taking %s off the bus and back", camera)
        try:
            self.bus.authorize(camera, allowed=False)
        finally:
            self.bus.authorize(camera, allowed=True)


def variant_of(vendor_id: int, product_id: int) -> Variant:
    """What an identity of the family promises."""
    return Variant.V2 if (vendor_id, product_id) == _RAW_CAMERA else Variant.V1


def _is_of_the_family(vendor_id: int, product_id: int, product: str) -> bool:
    if vendor_id == FAMILY_VENDOR:
        return True
    return (vendor_id, product_id) == _RAW_CAMERA and _RAW_CAMERA_TEXT.match(product) is not None


def _described(folder: Path) -> tuple[VideoDescription | None, str | None]:
    """What the descriptors say, and what is wrong with it."""
    try:
        description = read_descriptors((folder / "descriptors").read_bytes())
    except OSError as error:
        return None, f"its USB descriptors cannot be read: {error.strerror}"
    except CameraRefusedError as error:
        return None, str(error)
    if description.size(IMAGE_WIDTH, TRANSFER_ROWS) is None:
        return description, _wrong_size(description.sizes)
    if description.camera_terminal is None or not description.zoom:
        return description, "expected a camera terminal with Zoom (Absolute), the way of its commands; there is none"
    return description, None


def _wrong_size(sizes: Sequence[PictureSize]) -> str:
    offered = ", ".join(f"{size.width}x{size.height}" for size in sizes) or "no YUY2"
    return f"expected a stream of {IMAGE_WIDTH}x{TRANSFER_ROWS} YUY2, it offers {offered}: another model"


def _link_name(path: Path) -> str:
    return path.resolve().name if path.exists() else ""


def _text(path: Path) -> str:
    """The content of a sysfs file; empty when there is none, as after an unplugging."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
