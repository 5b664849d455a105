"""USB/IP on the wire: what the kernel's vhci_hcd asks of a device, and how it is answered.

Every message begins with 48 bytes, big-endian. Layout: the kernel's Documentation/usb/usbip_protocol.rst.
"""

import functools
import struct
from dataclasses import dataclass
from typing import BinaryIO

_SUBMIT, _UNLINK, _SUBMITTED, _UNLINKED = 1, 2, 3, 4
_HEADER_BYTES = 48
_BASIC = struct.Struct(">IIIII")  # command, sequence, device, direction, endpoint
_SUBMIT_PART = struct.Struct(">IiiiI8s")  # flags, length, start frame, packets, interval, setup
_UNLINK_PART = struct.Struct(">I24x")
_SUBMITTED_PART = struct.Struct(">iiiiI8x")  # status, length, start frame, packets, errors
_UNLINKED_PART = struct.Struct(">i24x")
_PACKET_WORDS = 4  # offset, length, actual length, status
_PACKET_BYTES = 4 * _PACKET_WORDS

STALLED = -32
"""-EPIPE: the device does not know such a request."""
CANCELLED = -104
"""-ECONNRESET: the request was taken back before it was answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """One transfer (URB) that the kernel wants done."""

    sequence: int
    endpoint: int
    to_host: bool
    length: int
    """Bytes at most."""
    start_frame: int
    packet_lengths: tuple[int, ...]
    """Isochronous: room in each packet; empty for other transfers."""
    setup: bytes
    """Control transfers: the 8 bytes of the request."""
    data: bytes
    """What the host sends along."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlink:
    """The kernel takes a transfer back."""

    sequence: int
    victim: int
    """Sequence of the transfer."""


class WireError(Exception):
    """The kernel sent something that is no USB/IP request."""


def read_request(stream: BinaryIO) -> Submit | Unlink | None:
    """Wait for the next request; None when the line is closed.

    Raises
    ------
    WireError
        If it is none.
    """
    head = stream.read(_HEADER_BYTES)
    if len(head) < _HEADER_BYTES:
        return None
    command, sequence, _device, direction, endpoint = _BASIC.unpack_from(head)
    if command == _UNLINK:
        return Unlink(sequence=sequence, victim=_UNLINK_PART.unpack_from(head, _BASIC.size)[0])
    if command != _SUBMIT:
        raise WireError(f"expected command {_SUBMIT} or {_UNLINK}, got {command}")
    _flags, length, start_frame, packets, _interval, setup = _SUBMIT_PART.unpack_from(head, _BASIC.size)
    to_host = direction == 1
    return Submit(
        sequence=sequence,
        endpoint=endpoint,
        to_host=to_host,
        length=length,
        start_frame=start_frame,
        setup=setup,
        data=b"" if to_host else stream.read(length),
        packet_lengths=_packet_lengths(stream.read(_PACKET_BYTES * packets)) if packets > 0 else (),
    )


@functools.lru_cache(maxsize=64)  # the kernel asks for the same packets again and again
def _packet_lengths(blob: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(blob) // 4}I", blob)[1::_PACKET_WORDS]


def submitted(request: Submit, *, data: bytes = b"", status: int = 0) -> bytes:
    """The answer to a control or bulk transfer; one that took data from the host says that it took all."""
    length = len(data) if request.to_host else len(request.data)
    head = _BASIC.pack(_SUBMITTED, request.sequence, 0, 0, 0)
    return head + _SUBMITTED_PART.pack(status, length if status == 0 else 0, 0, 0, 0) + data


def submitted_packets(request: Submit, packets: list[bytes]) -> bytes:
    """The answer to an isochronous transfer, with one entry for each packet that was asked for."""
    lengths = tuple(map(len, packets))
    head = _BASIC.pack(_SUBMITTED, request.sequence, 0, 0, 0)
    part = _SUBMITTED_PART.pack(0, sum(lengths), request.start_frame, len(lengths), 0)
    return b"".join((head, part, *packets, _packet_table(request.packet_lengths, lengths)))


@functools.lru_cache(maxsize=512)  # nearly all of them are full or empty
def _packet_table(room: tuple[int, ...], lengths: tuple[int, ...]) -> bytes:
    table, offset = [], 0
    for size, length in zip(room, lengths, strict=True):
        table += [offset, size, length, 0]
        offset += size
    return struct.pack(f">{len(table)}I", *table)


def unlinked(request: Unlink, *, status: int) -> bytes:
    """The answer to a request to take a transfer back: `CANCELLED`, or 0 when it had been answered already."""
    return _BASIC.pack(_UNLINKED, request.sequence, 0, 0, 0) + _UNLINKED_PART.pack(status)
