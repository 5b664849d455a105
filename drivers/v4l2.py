"""Video capture and camera control through the kernel, by its V4L2 interface.

The stream is waited for with `poll` and a deadline, buffers keep the kernel's sequence number, time and error flag,
and the memory is mapped once. Source of the interface: the kernel's "Video for Linux API" and linux/videodev2.h.
"""

import ctypes
import errno
import fcntl
import logging
import mmap
import os
import select
from dataclasses import dataclass
from typing import Protocol, Self

from drivers import v4l2_abi as abi
from drivers.clock import NS_PER_S, Clock
from drivers.errors import CameraError, CameraLostError, CameraRefusedError, ControlError, FrameTimeoutError
from drivers.t2s_protocol import IMAGE_WIDTH, TRANSFER_BYTES, TRANSFER_ROWS
from drivers.usb import VideoNode
from drivers.usb_dump import LARGEST_WORD, ControlRange

logger = logging.getLogger(__name__)

BUFFERS = 8
"""Frames that the kernel keeps while nobody reads: a third of a second."""

_GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ESHUTDOWN})
_NS_PER_US = 1000


class Mapping(Protocol):
    """Mapped memory of one buffer."""

    def __getitem__(self, part: slice, /) -> bytes: ...

    def close(self) -> None:
        """Unmap it."""
        ...


class DeviceIo(Protocol):
    """The system calls that a video device needs; each raises OSError."""

    def open(self, path: str) -> int:
        """A file descriptor that does not block."""
        ...

    def close(self, descriptor: int) -> None:
        """Close the file; a call that another thread has under way in it goes on."""
        ...

    def device_number(self, descriptor: int) -> str:
        """Major and minor of an opened device file, as `81:0`."""
        ...

    def ioctl(self, descriptor: int, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        """May change `argument`."""
        ...

    def map(self, descriptor: int, length: int, offset: int) -> Mapping:
        """Memory of the device, shared."""
        ...

    def poll(self, descriptor: int, timeout_s: float) -> int:
        """Events of `select.poll` that are there; 0 when time is over."""
        ...


class SystemIo:
    """The machine's own system calls."""

    def open(self, path: str) -> int:
        """See `DeviceIo`."""
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        """See `DeviceIo`."""
        os.close(descriptor)

    def device_number(self, descriptor: int) -> str:
        """See `DeviceIo`."""
        number = os.fstat(descriptor).st_rdev
        return f"{os.major(number)}:{os.minor(number)}"

    def ioctl(self, descriptor: int, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        """See `DeviceIo`."""
        while True:
            try:
                # Up to 1024 bytes are copied, and other threads run meanwhile: a hanging camera hangs this one only.
                fcntl.ioctl(descriptor, request, argument)
            except InterruptedError:
                continue
            return

    def map(self, descriptor: int, length: int, offset: int) -> Mapping:
        """See `DeviceIo`."""
        return mmap.mmap(descriptor, length, offset=offset)

    def poll(self, descriptor: int, timeout_s: float) -> int:
        """See `DeviceIo`."""
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        events = waiting.poll(timeout_s * 1000)
        return events[0][1] if events else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One buffer that the kernel has filled."""

    payload: bytes
    sequence: int
    """The kernel's number since the stream began; also frames count that it dropped as damaged."""
    arrived_ns: int
    """Monotonic time at which the frame's first packet reached the kernel."""
    damaged: bool
    """The kernel knows that a part is missing."""


class VideoStream:
    """The stream of one camera, from enter to exit.

    Parameters
    ----------
    node : VideoNode
        Of the camera; anything else behind its name is refused.
    clock : Clock
        The machine's.
    io : DeviceIo
        The system calls.
    """

    def __init__(self, node: VideoNode, *, clock: Clock, io: DeviceIo) -> None:
        self._node = node
        self._clock = clock
        self._io = io
        self._descriptor: int | None = None
        self._maps: list[Mapping] = []
        self._owner = False
        """The kernel holds buffers for us; before that nothing was changed that would have to be undone."""

    def __enter__(self) -> Self:
        """Open and set up the node; `start` lets frames come.

        Raises
        ------
        CameraLostError
            If it is gone.
        CameraRefusedError
            If it is another camera, taken by another program, or not allowed to be opened.
        """
        descriptor = _open_node(self._node, self._io)
        self._descriptor = descriptor
        try:
            self._check_capture(descriptor)
            self._check_size(descriptor)
            self._set_format(descriptor)
            self._map_buffers(descriptor)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            if self._owner:
                self._stop(descriptor)
                for mapped in self._maps:
                    mapped.close()
                self._free(descriptor)
        finally:
            self._maps, self._owner = [], False
            self._io.close(descriptor)

    def start(self) -> None:
        """Let frames come, into empty buffers; raises as `with` does."""
        descriptor = self._opened()
        for index in range(len(self._maps)):
            self._call(descriptor, "VIDIOC_QBUF", abi.VIDIOC_QBUF, self._buffer(index))
        kind = ctypes.c_int(abi.BUF_TYPE_VIDEO_CAPTURE)
        self._call(descriptor, "VIDIOC_STREAMON", abi.VIDIOC_STREAMON, kind)

    def stop(self) -> None:
        """Let no more frames come; what is in the buffers is lost. Without effect on a stream that has not begun."""
        self._stop(self._opened())

    def read(self, timeout_s: float) -> Transfer:
        """Wait for the next frame.

        Raises
        ------
        FrameTimeoutError
            Nothing came in time.
        CameraLostError
            The camera or its stream is gone.
        """
        descriptor = self._opened()
        deadline_ns = self._clock.monotonic_ns() + round(timeout_s * NS_PER_S)
        while True:
            left_s = max(0.0, (deadline_ns - self._clock.monotonic_ns()) / NS_PER_S)
            events = self._io.poll(descriptor, left_s)
            if events:
                transfer = self._take(descriptor)
                if transfer is not None:
                    return transfer
                if events & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                    raise CameraLostError(f"{self._node.path}: the stream has failed (poll says {events:#x})")
            if self._clock.monotonic_ns() >= deadline_ns:
                raise FrameTimeoutError(f"{self._node.path}: no frame within {timeout_s:g} s")

    def _take(self, descriptor: int) -> Transfer | None:
        """The frame that is ready, its buffer given back; None if there is none after all."""
        buffer = self._buffer(0)
        try:
            self._io.ioctl(descriptor, abi.VIDIOC_DQBUF, buffer)
        except BlockingIOError:
            return None
        except OSError as error:
            raise CameraLostError(f"{self._node.path}: VIDIOC_DQBUF: {error.strerror}") from error
        payload = self._maps[buffer.index][: buffer.bytesused]
        transfer = Transfer(
            payload=payload,
            sequence=buffer.sequence,
            arrived_ns=self._arrived_ns(buffer),
            damaged=bool(buffer.flags & abi.BUF_FLAG_ERROR),
        )
        self._call(descriptor, "VIDIOC_QBUF", abi.VIDIOC_QBUF, buffer)
        return transfer

    def _arrived_ns(self, buffer: abi.Buffer) -> int:
        """The kernel's time of the frame, or now where it gives none on our clock."""
        if buffer.flags & abi.BUF_FLAG_TIMESTAMP_MASK != abi.BUF_FLAG_TIMESTAMP_MONOTONIC:
            return self._clock.monotonic_ns()
        return buffer.timestamp.tv_sec * NS_PER_S + buffer.timestamp.tv_usec * _NS_PER_US

    def _check_capture(self, descriptor: int) -> None:
        capability = abi.Capability()
        self._call(descriptor, "VIDIOC_QUERYCAP", abi.VIDIOC_QUERYCAP, capability)
        whole = capability.capabilities
        able = capability.device_caps if whole & abi.CAP_DEVICE_CAPS else whole
        wanted = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING
        if able & wanted != wanted:
            raise CameraRefusedError(f"{self._node.path}: expected a node that streams video, got {able:#010x}")

    def _check_size(self, descriptor: int) -> None:
        """Ask before anything is set: a camera without this size is another one and must not be touched."""
        offered = []
        size = abi.FrameSize(index=0, pixel_format=abi.PIX_FMT_YUYV)
        while True:
            try:
                self._io.ioctl(descriptor, abi.VIDIOC_ENUM_FRAMESIZES, size)
            except OSError as error:
                if error.errno == errno.EINVAL:  # the end of the list
                    break
                raise self._translated("VIDIOC_ENUM_FRAMESIZES", error) from error
            offered.append((size.width, size.height))
            if size.type != abi.FRMSIZE_TYPE_DISCRETE:
                break
            size.index += 1
        if (IMAGE_WIDTH, TRANSFER_ROWS) not in offered:
            raise CameraRefusedError(
                f"{self._node.path}: expected {IMAGE_WIDTH}x{TRANSFER_ROWS} YUYV, it offers {offered or 'no YUYV'}"
            )

    def _set_format(self, descriptor: int) -> None:
        wanted = abi.Format(type=abi.BUF_TYPE_VIDEO_CAPTURE)
        picture = wanted.fmt.pix
        picture.width, picture.height = IMAGE_WIDTH, TRANSFER_ROWS
        picture.pixelformat, picture.field = abi.PIX_FMT_YUYV, abi.FIELD_NONE
        self._call(descriptor, "VIDIOC_S_FMT", abi.VIDIOC_S_FMT, wanted)
        got = picture.width, picture.height, picture.pixelformat, picture.sizeimage
        if got[:3] != (IMAGE_WIDTH, TRANSFER_ROWS, abi.PIX_FMT_YUYV) or got[3] < TRANSFER_BYTES:
            raise CameraRefusedError(
                f"{self._node.path}: asked for {IMAGE_WIDTH}x{TRANSFER_ROWS} YUYV in {TRANSFER_BYTES} bytes, "
                f"got {got[0]}x{got[1]} {got[2]:#010x} in {got[3]} bytes"
            )

    def _map_buffers(self, descriptor: int) -> None:
        request = abi.RequestBuffers(count=BUFFERS, type=abi.BUF_TYPE_VIDEO_CAPTURE, memory=abi.MEMORY_MMAP)
        self._call(descriptor, "VIDIOC_REQBUFS", abi.VIDIOC_REQBUFS, request)
        self._owner = True
        for index in range(request.count):
            buffer = self._buffer(index)
            self._call(descriptor, "VIDIOC_QUERYBUF", abi.VIDIOC_QUERYBUF, buffer)
            self._maps.append(self._io.map(descriptor, buffer.length, buffer.m.offset))
        if not self._maps:
            raise CameraRefusedError(f"{self._node.path}: the kernel gave no buffers, {BUFFERS} were asked for")

    def _stop(self, descriptor: int) -> None:
        self._try(descriptor, abi.VIDIOC_STREAMOFF, ctypes.c_int(abi.BUF_TYPE_VIDEO_CAPTURE))

    def _free(self, descriptor: int) -> None:
        request = abi.RequestBuffers(count=0, type=abi.BUF_TYPE_VIDEO_CAPTURE, memory=abi.MEMORY_MMAP)
        self._try(descriptor, abi.VIDIOC_REQBUFS, request)

    def _try(self, descriptor: int, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        """A call on the way out: of a camera that is gone it fails, and there is nothing more to do."""
        try:
            self._io.ioctl(descriptor, request, argument)
        except OSError as error:
            logger.debug("%s: request %#x on the way out: %s", self._node.path, request, error)

    def _call(self, descriptor: int, name: str, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        try:
            self._io.ioctl(descriptor, request, argument)
        except OSError as error:
            raise self._translated(name, error) from error

    def _translated(self, name: str, error: OSError) -> CameraError:
        what = f"{self._node.path}: {name}: {error.strerror}"
        if error.errno == errno.EBUSY:
            return CameraRefusedError(f"{what}: another program has the camera; end it")
        return CameraLostError(what)

    def _buffer(self, index: int) -> abi.Buffer:
        return abi.Buffer(index=index, type=abi.BUF_TYPE_VIDEO_CAPTURE, memory=abi.MEMORY_MMAP)

    def _opened(self) -> int:
        if self._descriptor is None:
            raise CameraLostError(f"{self._node.path}: the stream is not open; use `with`")
        return self._descriptor


class ZoomControl:
    """The control through which the camera takes its commands, from enter to exit, with a file descriptor of its own.

    Every call may hang for 5 to 7 s on a camera that has stopped to answer.
    """

    def __init__(self, node: VideoNode, *, io: DeviceIo) -> None:
        self._node = node
        self._io = io
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Open the node and make sure that each word will reach the camera as it is.

        Raises
        ------
        CameraRefusedError
            If the control is missing or its range would change words.
        CameraLostError, ControlError
            If the camera is gone, or does not answer.
        """
        descriptor = _open_node(self._node, self._io)
        try:
            self._check_range(descriptor)
        except BaseException:
            self._io.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._descriptor is not None:
            self._io.close(self._descriptor)
            self._descriptor = None

    def read_range(self) -> ControlRange:
        """The range of the control, whether it lets every word through or not; opens the node for it.

        Raises
        ------
        CameraError
            If there is no such control or the camera is gone.
        """
        descriptor = _open_node(self._node, self._io)
        try:
            return self._query(descriptor)[0]
        finally:
            self._io.close(descriptor)

    def send(self, word: int) -> None:
        """Write one command word.

        Raises
        ------
        CameraLostError
            If the camera is gone.
        ControlError
            If it refused the word or did not answer; its cause tells which.
        """
        if self._descriptor is None:
            raise ControlError(f"{self._node.path}: the control is not open; use `with`")
        try:
            self._io.ioctl(self._descriptor, abi.VIDIOC_S_CTRL, abi.Control(id=abi.CID_ZOOM_ABSOLUTE, value=word))
        except OSError as error:
            raise self._translated(f"command {word:#06x}", error) from error

    def _check_range(self, descriptor: int) -> None:
        taken, disabled = self._query(descriptor)
        if disabled or not taken.passes_every_word:
            raise CameraRefusedError(
                f"{self._node.path}: zoom_absolute must take 0 to {LARGEST_WORD:#x} in steps of 1, it takes "
                f"{taken.minimum} to {taken.maximum:#x} in steps of {taken.step}: commands would be changed"
            )

    def _query(self, descriptor: int) -> tuple[ControlRange, bool]:
        """The range, and whether the control is disabled."""
        control = abi.QueryControl(id=abi.CID_ZOOM_ABSOLUTE)
        try:
            self._io.ioctl(descriptor, abi.VIDIOC_QUERYCTRL, control)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise CameraRefusedError(
                    f"{self._node.path}: expected the control zoom_absolute, it has none"
                ) from error
            raise self._translated("the range of zoom_absolute", error) from error
        taken = ControlRange(control.minimum, control.maximum, control.step, control.default_value)
        return taken, bool(control.flags & abi.CTRL_FLAG_DISABLED)

    def _translated(self, what: str, error: OSError) -> CameraError:
        message = f"{self._node.path}: {what}: {error.strerror}"
        return CameraLostError(message) if error.errno in _GONE else ControlError(message)


def _open_node(node: VideoNode, io: DeviceIo) -> int:
    try:
        descriptor = io.open(str(node.path))
    except PermissionError as error:
        raise CameraRefusedError(
            f"{node.path}: may not be opened: add this user to the group video, or install the udev rule"
        ) from error
    except OSError as error:
        raise CameraLostError(f"{node.path}: cannot be opened: {error.strerror}") from error
    number = io.device_number(descriptor)
    if number != node.device_number:
        io.close(descriptor)
        raise CameraLostError(f"{node.path}: expected device {node.device_number}, got {number}: plugged in anew")
    return descriptor
