"""What a virtual T2S+ says of itself on the bus: identity, texts and descriptors of its two kinds.

Layouts: USB 2.0, section 9.6, and the USB Device Class Definition for Video Devices 1.0. The numbers of the v1 are
those of the descriptors of a sibling of the T2S+ (zzh315/ThermalView); no dump of a v2 is public, so what is not known
of it (terminal, formats) is taken from the v1, its payloads from diminDDL/InfiCamPlus. The dump of a real camera takes
the place of all that.
"""

import struct
from dataclasses import dataclass
from typing import Self

from drivers.errors import CameraRefusedError
from drivers.t2s_protocol import FRAME_RATE_HZ, IMAGE_WIDTH, TRANSFER_BYTES, TRANSFER_ROWS, Variant
from drivers.usb import variant_of
from drivers.usb_dump import EVERY_WORD, ControlRange, UsbDump
from drivers.uvc_descriptors import TransferType, read_descriptors

_CONTROL_INTERFACE, _STREAMING_INTERFACE = 0, 1
_CAMERA_TERMINAL, _OUTPUT_TERMINAL = 1, 2
_PICTURE_ENDPOINT = 1
PAYLOAD_HEADER_BYTES = 12
FRAME_INTERVAL_100NS = round(1e7 / FRAME_RATE_HZ)

_LANGUAGES = bytes.fromhex("04030904")  # US English
_YUY2 = bytes.fromhex("59555932 0000 1000 8000 00aa00389b71")
_CLOCK_HZ = 6_000_000
_FOCUS_AND_ZOOM = (0x000220).to_bytes(3, "little")
_MAX_POWER_2MA = 250
_ISOCHRONOUS_ASYNCHRONOUS, _BULK = 0x05, 0x02
_BULK_PACKET_BYTES = 512
_MICROFRAMES_PER_S = 8000

_BULK_PAYLOAD_BYTES = PAYLOAD_HEADER_BYTES + TRANSFER_BYTES // 7

DEVICE, CONFIGURATION, STRING, QUALIFIER = 1, 2, 3, 6
"""Types of descriptors that a host asks for."""

_DEVICE_BYTES = 18
_TEXT_NUMBERS = slice(14, 17)
"""Of manufacturer, product and serial number, in the device descriptor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Personality:
    """One kind of camera on the bus."""

    variant: Variant
    vendor_id: int
    product_id: int
    manufacturer: str
    product: str
    serial: str
    bulk: bool
    payload_bytes: int
    """Largest payload with its header; isochronous: the size of a packet."""
    interval: int = 1
    """Isochronous: a packet in each 2^(interval - 1) microframes of 125 µs."""
    control_interface: int = _CONTROL_INTERFACE
    streaming_interface: int = _STREAMING_INTERFACE
    camera_terminal: int = _CAMERA_TERMINAL
    zoom: ControlRange = EVERY_WORD
    """Of the control that takes commands."""
    descriptors: bytes = b""
    """Device and configuration descriptors of a real camera; made from the other fields where there are none."""

    @classmethod
    def of_dump(cls, dump: UsbDump) -> Self:
        """That of a real camera.

        Raises
        ------
        CameraRefusedError
            If its descriptors are not those of a T2S+.
        """
        seen = read_descriptors(dump.descriptors)
        if seen.size(IMAGE_WIDTH, TRANSFER_ROWS) is None or seen.camera_terminal is None:
            raise CameraRefusedError(
                f"expected descriptors with a camera terminal and a picture of {IMAGE_WIDTH} x {TRANSFER_ROWS} YUY2, "
                f"these have terminal {seen.camera_terminal} and {[(size.width, size.height) for size in seen.sizes]}"
            )
        vendor_id, product_id = dump.vendor_and_product
        bulk = seen.transfer is TransferType.BULK
        return cls(
            variant=variant_of(vendor_id, product_id),
            vendor_id=vendor_id,
            product_id=product_id,
            manufacturer=dump.manufacturer,
            product=dump.product,
            serial=dump.serial,
            bulk=bulk,
            payload_bytes=_BULK_PAYLOAD_BYTES if bulk else seen.packet_bytes,
            interval=seen.packet_interval,
            control_interface=seen.control_interface,
            streaming_interface=seen.streaming_interface,
            camera_terminal=seen.camera_terminal,
            zoom=dump.zoom or EVERY_WORD,
            descriptors=dump.descriptors,
        )

    @property
    def packets_per_s(self) -> float:
        """Isochronous: how many packets the bus gives the camera."""
        return _MICROFRAMES_PER_S / (1 << (self.interval - 1))

    def descriptor(self, kind: int, index: int) -> bytes | None:
        """What the camera answers a request for a descriptor; None when it has no such."""
        if kind == STRING:
            numbers = self._device()[_TEXT_NUMBERS]
            texts = dict(zip(numbers, (self.manufacturer, self.product, self.serial), strict=True))
            text = texts.get(index)
            return _LANGUAGES if index == 0 else _text(text) if text else None
        return {DEVICE: self._device, CONFIGURATION: self._configuration, QUALIFIER: _qualifier}.get(kind, _none)()

    def stream_settings(self) -> bytes:
        """The answer to a probe: the only stream there is (26 bytes, video class 1.0)."""
        return struct.pack(
            "<HBBIHHHHHII", 1, 1, 1, FRAME_INTERVAL_100NS, 0, 0, 0, 0, 0, TRANSFER_BYTES, self.payload_bytes
        )

    def _device(self) -> bytes:
        if self.descriptors:
            return self.descriptors[:_DEVICE_BYTES]
        texts = 1, 2, 3 if self.serial else 0
        return struct.pack(
            "<BBHBBBBHHHBBBB", 18, DEVICE, 0x0200, 0xEF, 2, 1, 64, self.vendor_id, self.product_id, 0x0100, *texts, 1
        )

    def _configuration(self) -> bytes:
        if self.descriptors:
            total = int.from_bytes(self.descriptors[_DEVICE_BYTES + 2 : _DEVICE_BYTES + 4], "little")
            return self.descriptors[_DEVICE_BYTES : _DEVICE_BYTES + total]
        association = struct.pack("<BBBBBBBB", 8, 0x0B, _CONTROL_INTERFACE, 2, 0x0E, 3, 0, 0)
        body = association + _control_interface() + self._streaming_interface()
        return struct.pack("<BBHBBBBB", 9, CONFIGURATION, 9 + len(body), 2, 1, 0, 0x80, _MAX_POWER_2MA) + body

    def _streaming_interface(self) -> bytes:
        formats = _picture_formats()
        head = struct.pack(
            "<BBBBHBBBBBBBB", 14, 0x24, 1, 1, 14 + len(formats), self._address, 0, _OUTPUT_TERMINAL, 0, 0, 0, 1, 0
        )
        if self.bulk:
            endpoint = struct.pack("<BBBBHB", 7, 5, self._address, _BULK, _BULK_PACKET_BYTES, 0)
            return _interface(_STREAMING_INTERFACE, 0, 1, 2) + head + formats + endpoint
        packet = _high_bandwidth(self.payload_bytes)
        endpoint = struct.pack("<BBBBHB", 7, 5, self._address, _ISOCHRONOUS_ASYNCHRONOUS, packet, self.interval)
        idle = _interface(_STREAMING_INTERFACE, 0, 0, 2) + head + formats
        return idle + _interface(_STREAMING_INTERFACE, 1, 1, 2) + endpoint

    @property
    def _address(self) -> int:
        return 0x80 | _PICTURE_ENDPOINT


V1 = Personality(
    variant=Variant.V1,
    vendor_id=0x1514,
    product_id=0x0001,
    manufacturer="Infiray",
    product="T2S+",
    serial="",
    bulk=False,
    payload_bytes=524,
)
"""One row of the picture and a header in each microframe, as the sibling sends it."""

V2 = Personality(
    variant=Variant.V2,
    vendor_id=0x04B4,
    product_id=0x0100,
    manufacturer="Xinfrared",
    product="T2S+",
    serial="",
    bulk=True,
    payload_bytes=_BULK_PAYLOAD_BYTES,
)
"""28 rows and a header in each of 7 payloads."""


def _control_interface() -> bytes:
    camera = struct.pack(
        "<BBBBHBBHHHB3s", 18, 0x24, 2, _CAMERA_TERMINAL, 0x0201, 0, 0, 0, 0, 0, len(_FOCUS_AND_ZOOM), _FOCUS_AND_ZOOM
    )
    output = struct.pack("<BBBBHBBB", 9, 0x24, 3, _OUTPUT_TERMINAL, 0x0101, 0, _CAMERA_TERMINAL, 0)
    head = struct.pack("<BBBHHIBB", 13, 0x24, 1, 0x0100, 13 + len(camera + output), _CLOCK_HZ, 1, _STREAMING_INTERFACE)
    return _interface(_CONTROL_INTERFACE, 0, 0, 1) + head + camera + output


def _picture_formats() -> bytes:
    rate = round(TRANSFER_BYTES * 8 * FRAME_RATE_HZ)
    picture = struct.pack("<BBBBB16sBBBBBB", 27, 0x24, 4, 1, 1, _YUY2, 16, 1, 0, 0, 0, 0)
    size = struct.pack(
        "<BBBBBHHIIIIBI",
        30,
        0x24,
        5,
        1,
        0,
        IMAGE_WIDTH,
        TRANSFER_ROWS,
        rate,
        rate,
        TRANSFER_BYTES,
        FRAME_INTERVAL_100NS,
        1,
        FRAME_INTERVAL_100NS,
    )
    return picture + size


def _interface(number: int, alternate: int, endpoints: int, subclass: int) -> bytes:
    return struct.pack("<BBBBBBBBB", 9, 4, number, alternate, endpoints, 0x0E, subclass, 0, 0)


def _high_bandwidth(packet_bytes: int) -> int:
    """wMaxPacketSize: up to 1024 bytes, or two or three equal parts in a microframe."""
    parts = -(-packet_bytes // 1024)
    return packet_bytes // parts | (parts - 1) << 11


def _qualifier() -> bytes:
    return struct.pack("<BBHBBBBBB", 10, QUALIFIER, 0x0200, 0xEF, 2, 1, 64, 1, 0)


def _none() -> None:
    return None


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-le")
    return bytes((2 + len(encoded), STRING)) + encoded
