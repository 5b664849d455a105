"""One cluster of a Matroska file with one picture, byte for byte as FFmpeg writes it (RFC 9559, 5.1.3; RFC 8794)."""

import struct
import zlib

_CLUSTER, _CRC_32, _TIMESTAMP, _SIMPLE_BLOCK = b"\x1f\x43\xb6\x75", b"\xbf", b"\xe7", b"\xa3"
_FIRST_TRACK_KEY_FRAME = b"\x81\x00\x00\x80"
"""Head of a block: track 1, at the time of its cluster, a key frame."""

_MOST_SIZE_BYTES = 8

HEAD_BYTES = len(_CLUSTER) + _MOST_SIZE_BYTES
"""So much of a cluster says how long it is."""


def cluster_of(picture: bytes, pts_ms: int) -> bytes:
    """The cluster that holds this encoded picture and no other.

    Parameters
    ----------
    picture : bytes
        A key frame of the first track.
    pts_ms : int
        Its presentation time; the file counts milliseconds.
    """
    content = _element(_TIMESTAMP, _number(pts_ms)) + _element(_SIMPLE_BLOCK, _FIRST_TRACK_KEY_FRAME + picture)
    return _element(_CLUSTER, _element(_CRC_32, struct.pack("<I", zlib.crc32(content))) + content)


def length_of(head: bytes) -> int | None:
    """Of a cluster, all its bytes, by its first `HEAD_BYTES`; None when no cluster begins so."""
    size = head[len(_CLUSTER) :]
    if not head.startswith(_CLUSTER) or not size or not size[0]:
        return None
    width = _MOST_SIZE_BYTES + 1 - size[0].bit_length()
    if len(size) < width:
        return None
    return len(_CLUSTER) + width + (int.from_bytes(size[:width], "big") & ((1 << 7 * width) - 1))


def _element(name: bytes, content: bytes) -> bytes:
    return name + _size(len(content)) + content


def _size(number: int) -> bytes:
    """In as few bytes as hold it; all ones would mean that it is not known."""
    width = next(width for width in range(1, _MOST_SIZE_BYTES + 1) if number < (1 << 7 * width) - 1)
    return (number | 1 << 7 * width).to_bytes(width, "big")


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
