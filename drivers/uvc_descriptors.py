"""What a USB video camera says of itself: its descriptors as bytes, read into what the driver needs.

Layouts: USB 2.0, section 9.6, and the USB Device Class Definition for Video Devices 1.0/1.1, section 3 and
its payload document for uncompressed video.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from drivers.errors import CameraRefusedError

_INTERFACE, _ENDPOINT, _CLASS_SPECIFIC_INTERFACE = 4, 5, 0x24
_VIDEO_CLASS = 0x0E
_VIDEO_CONTROL, _VIDEO_STREAMING = 1, 2
_INPUT_TERMINAL = 0x02  # in a VideoControl interface
_FORMAT_UNCOMPRESSED, _FRAME_UNCOMPRESSED = 0x04, 0x05  # in a VideoStreaming interface
_CAMERA_TERMINAL_TYPE = 0x0201
_ZOOM_ABSOLUTE_BIT = 9

_INTERFACE_LAYOUT = struct.Struct("<5xBB")  # class, subclass
_ENDPOINT_LAYOUT = struct.Struct("<2xBBHB")  # address, attributes, largest packet, interval
_INPUT_TERMINAL_LAYOUT = struct.Struct("<3xBH8xB")  # id, type, size of the control bitmap
_FORMAT_LAYOUT = struct.Struct("<3xBx16s")  # index, number of frames, GUID
_FRAME_LAYOUT = struct.Struct("<3xBxHH8xII")  # index, capabilities, width, height, bit rates, bytes, interval

_TRANSFER_TYPE_MASK = 0x03
_INPUT_ENDPOINT = 0x80
_PACKET_BYTES, _MORE_PACKETS_BIT = 0x7FF, 11
"""High speed: up to two more packets of the same size in a microframe."""

_GUID_YUY2 = bytes.fromhex("59555932 0000 1000 8000 00aa00389b71")


class TransferType(StrEnum):
    """How pictures travel."""

    ISOCHRONOUS = "isochronous"
    BULK = "bulk"


_TRANSFER_TYPES = {1: TransferType.ISOCHRONOUS, 2: TransferType.BULK}


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSize:
    """One size that the camera offers as YUY2."""

    format_index: int
    frame_index: int
    width: int
    height: int
    frame_bytes: int
    interval_100ns: int
    """Default time between frames, in units of 100 ns."""

    @property
    def rate_hz(self) -> float:
        """Frames per second."""
        return 1e7 / self.interval_100ns if self.interval_100ns else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoDescription:
    """What the descriptors of a USB video camera say."""

    control_interface: int
    """Number of the VideoControl interface."""
    camera_terminal: int | None
    """Id of the camera terminal; None when there is none."""
    zoom: bool
    """Whether the camera terminal has the control Zoom (Absolute)."""
    streaming_interface: int
    sizes: tuple[PictureSize, ...]
    """Of the uncompressed format YUY2."""
    endpoint: int
    """Address of the endpoint that sends the pictures."""
    transfer: TransferType
    packet_bytes: int
    """Isochronous: most bytes in a packet, over all alternate settings; bulk: packet size on the wire."""
    packet_interval: int
    """Isochronous: a packet in each 2^(interval - 1) microframes."""

    def size(self, width: int, height: int) -> PictureSize | None:
        """The size with these pixels, if the camera offers it."""
        return next((size for size in self.sizes if (size.width, size.height) == (width, height)), None)


@dataclass(slots=True)
class _Reading:
    control_interface: int | None = None
    camera_terminal: int | None = None
    zoom: bool = False
    streaming_interface: int | None = None
    format_index: int | None = None
    endpoint: tuple[int, TransferType] | None = None
    packet_bytes: int = 0
    packet_interval: int = 1


def read_descriptors(blob: bytes) -> VideoDescription:
    """Read device and configuration descriptors, one after the other as sysfs gives them.

    Raises
    ------
    CameraRefusedError
        If they are damaged or not those of a video camera.
    """
    reading = _Reading()
    sizes: list[PictureSize] = []
    interface = (0, 0, 0)
    for kind, descriptor in _descriptors(blob):
        try:
            if kind == _INTERFACE:
                interface = descriptor[2], *_INTERFACE_LAYOUT.unpack_from(descriptor)
                _take_interface(reading, *interface)
            elif kind == _ENDPOINT and interface[1:] == (_VIDEO_CLASS, _VIDEO_STREAMING):
                _take_endpoint(reading, descriptor)
            elif kind == _CLASS_SPECIFIC_INTERFACE and interface[1:] == (_VIDEO_CLASS, _VIDEO_CONTROL):
                _take_terminal(reading, descriptor)
            elif kind == _CLASS_SPECIFIC_INTERFACE and interface[1:] == (_VIDEO_CLASS, _VIDEO_STREAMING):
                sizes += _sizes_in(reading, descriptor)
        except (struct.error, IndexError) as error:
            raise CameraRefusedError(
                f"USB descriptors are damaged: type {kind:#04x} is too short with {len(descriptor)} bytes"
            ) from error
    if reading.control_interface is None or reading.streaming_interface is None or reading.endpoint is None:
        raise CameraRefusedError("USB descriptors are not those of a video camera: no interface that sends pictures")
    return VideoDescription(
        control_interface=reading.control_interface,
        camera_terminal=reading.camera_terminal,
        zoom=reading.zoom,
        streaming_interface=reading.streaming_interface,
        sizes=tuple(sizes),
        endpoint=reading.endpoint[0],
        transfer=reading.endpoint[1],
        packet_bytes=reading.packet_bytes,
        packet_interval=reading.packet_interval,
    )


def _descriptors(blob: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(blob):
        length = blob[at]
        if length < 2 or at + length > len(blob):
            raise CameraRefusedError(f"USB descriptors are damaged: length {length} at byte {at} of {len(blob)}")
        yield blob[at + 1], blob[at : at + length]
        at += length


def _take_interface(reading: _Reading, number: int, interface_class: int, subclass: int) -> None:
    if interface_class != _VIDEO_CLASS:
        return
    # A camera with several functions repeats these; the first pair is the one that uvcvideo makes node 0 of.
    if subclass == _VIDEO_CONTROL and reading.control_interface is None:
        reading.control_interface = number
    elif subclass == _VIDEO_STREAMING and reading.streaming_interface is None:
        reading.streaming_interface = number


def _take_endpoint(reading: _Reading, descriptor: bytes) -> None:
    address, attributes, largest_packet, interval = _ENDPOINT_LAYOUT.unpack_from(descriptor)
    transfer = _TRANSFER_TYPES.get(attributes & _TRANSFER_TYPE_MASK)
    if reading.endpoint is None and address & _INPUT_ENDPOINT and transfer is not None:
        reading.endpoint = address, transfer
    if reading.endpoint is None or address != reading.endpoint[0]:
        return
    packet_bytes = (largest_packet & _PACKET_BYTES) * (1 + (largest_packet >> _MORE_PACKETS_BIT & 3))
    if packet_bytes > reading.packet_bytes:
        reading.packet_bytes, reading.packet_interval = packet_bytes, max(interval, 1)


def _take_terminal(reading: _Reading, descriptor: bytes) -> None:
    if descriptor[2] != _INPUT_TERMINAL or reading.camera_terminal is not None:
        return
    terminal, terminal_type, control_bytes = _INPUT_TERMINAL_LAYOUT.unpack_from(descriptor)
    if terminal_type != _CAMERA_TERMINAL_TYPE:
        return
    first = _INPUT_TERMINAL_LAYOUT.size
    controls = int.from_bytes(descriptor[first : first + control_bytes], "little")
    reading.camera_terminal, reading.zoom = terminal, bool(controls >> _ZOOM_ABSOLUTE_BIT & 1)


def _sizes_in(reading: _Reading, descriptor: bytes) -> Iterator[PictureSize]:
    if descriptor[2] == _FORMAT_UNCOMPRESSED:
        index, guid = _FORMAT_LAYOUT.unpack_from(descriptor)
        reading.format_index = index if guid == _GUID_YUY2 else None
    elif descriptor[2] == _FRAME_UNCOMPRESSED and reading.format_index is not None:
        index, width, height, frame_bytes, interval = _FRAME_LAYOUT.unpack_from(descriptor)
        yield PictureSize(
            format_index=reading.format_index,
            frame_index=index,
            width=width,
            height=height,
            frame_bytes=frame_bytes,
            interval_100ns=interval,
        )
