"""A video reader that shares no code with the driver under test: what the kernel gives, by bare ioctl.

Layouts are those of x86-64; source: linux/videodev2.h.
"""

import fcntl
import mmap
import os
import select
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

WIDTH, HEIGHT, FRAME_BYTES = 256, 196, 100_352
_YUYV = 0x56595559
_ZOOM_ABSOLUTE = 0x009A090D
_BUFFERS = 8
_ERROR_FLAG = 0x40
_NS_PER_S, _NS_PER_US = 1_000_000_000, 1000


def _request(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("V") << 8 | number


_S_FMT, _REQBUFS = _request(3, 5, 208), _request(3, 8, 20)
_QUERYBUF, _QBUF, _DQBUF = _request(3, 9, 88), _request(3, 15, 88), _request(3, 17, 88)
_STREAMON, _S_CTRL = _request(1, 18, 4), _request(3, 28, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """One frame as the kernel gave it."""

    data: bytes
    sequence: int
    taken_ns: int
    """Monotonic time of its first packet."""
    error: bool


class PlainReader:
    """A stream, from its making to `close`.

    Parameters
    ----------
    path : Path
        Of the video node.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._maps: list[mmap.mmap] = []
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def send(self, word: int) -> None:
        """Write a command word; raises OSError."""
        fcntl.ioctl(self._file, _S_CTRL, struct.pack("<II", _ZOOM_ABSOLUTE, word))

    def read(self, timeout_s: float = 2.0) -> Buffer:
        """The next frame; raises TimeoutError, or OSError when the camera is gone."""
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            raise TimeoutError(f"no frame within {timeout_s:g} s")
        buffer = _buffer(0)
        fcntl.ioctl(self._file, _DQBUF, buffer)
        index, _kind, used, flags = struct.unpack_from("<IIII", buffer)
        seconds, microseconds = struct.unpack_from("<qq", buffer, 24)
        (sequence,) = struct.unpack_from("<I", buffer, 56)
        data = self._maps[index][:used]
        fcntl.ioctl(self._file, _QBUF, buffer)
        return Buffer(
            data=data,
            sequence=sequence,
            taken_ns=seconds * _NS_PER_S + microseconds * _NS_PER_US,
            error=bool(flags & _ERROR_FLAG),
        )

    def close(self) -> None:
        """End the stream; may be done twice."""
        for mapped in self._maps:
            mapped.close()
        self._maps = []
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _begin(self) -> None:
        picture = bytearray(208)
        struct.pack_into("<I4xIIIIIII", picture, 0, 1, WIDTH, HEIGHT, _YUYV, 1, 2 * WIDTH, FRAME_BYTES, 0)
        fcntl.ioctl(self._file, _S_FMT, picture)
        got = struct.unpack_from("<III", picture, 8)
        if got != (WIDTH, HEIGHT, _YUYV):
            raise ValueError(f"asked for {WIDTH}x{HEIGHT} YUYV, got {got}")
        wanted = bytearray(struct.pack("<IIIII", _BUFFERS, 1, 1, 0, 0))
        fcntl.ioctl(self._file, _REQBUFS, wanted)
        for index in range(struct.unpack_from("<I", wanted)[0]):
            buffer = _buffer(index)
            fcntl.ioctl(self._file, _QUERYBUF, buffer)
            (offset,) = struct.unpack_from("<I", buffer, 64)
            (length,) = struct.unpack_from("<I", buffer, 72)
            self._maps.append(mmap.mmap(self._file, length, offset=offset))
            fcntl.ioctl(self._file, _QBUF, buffer)
        fcntl.ioctl(self._file, _STREAMON, struct.pack("<i", 1))


def _buffer(index: int) -> bytearray:
    buffer = bytearray(88)
    struct.pack_into("<II", buffer, 0, index, 1)
    struct.pack_into("<I", buffer, 60, 1)
    return buffer


def video_node() -> Path | None:
    """The capture node of the virtual camera, if there is one; the guest has no other camera."""
    for node in sorted(Path("/sys/class/video4linux").glob("video*")):
        try:
            if (node / "index").read_text(encoding="ascii").strip() == "0" and Path("/dev", node.name).exists():
                return Path("/dev", node.name)
        except OSError:  # unplugged meanwhile
            continue
    return None


def await_node(timeout_s: float = 20.0) -> Path:
    """Wait until there is one; raises TimeoutError."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        node = video_node()
        if node is not None:
            return node
        time.sleep(0.05)
    raise TimeoutError(f"no video node within {timeout_s:g} s")
