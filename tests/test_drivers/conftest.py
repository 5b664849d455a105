"""A kernel and a bus that keep their promises without hardware: file descriptors, buffers, controls, sysfs."""

import ctypes
import errno
import os
import select
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from drivers import v4l2_abi as abi
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.gain_map import GainMaps
from drivers.simulated import SimulatedDevice
from drivers.t2s_plus import T2SPlusCamera
from drivers.t2s_protocol import FRAME_RATE_HZ, Command
from drivers.usb import UsbBus, UsbCameraDevice

START_UTC_NS = 1_795_000_000 * NS_PER_S
NODE_NUMBER = "81:0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """One thing that a fake camera does, so long after the one before."""

    after_s: float
    payload: bytes = b""
    damaged: bool = False
    lost: bool = False
    """The kernel counts a frame that nobody gets."""
    failure: int | None = None
    """From now on taking a buffer fails with this errno."""


Source = Callable[[int], Scripted | None]
"""What a camera does next, by the number of the frame; None for nothing any more."""


@dataclass(slots=True)
class _Opened:
    path: str
    formatted: bool = False
    buffers: list[bytearray] = field(default_factory=list)
    queued: deque[int] = field(default_factory=deque)
    streaming: bool = False
    sequence: int = -1


class _Memory:
    """A mapping of one buffer."""

    def __init__(self, kernel: "FakeKernel", memory: bytearray) -> None:
        self._kernel, self._memory = kernel, memory
        kernel.mapped += 1

    def __getitem__(self, part: slice, /) -> bytes:
        return bytes(self._memory[part])

    def close(self) -> None:
        """Unmap it."""
        self._kernel.mapped -= 1


class FakeKernel:
    """The system calls of one video node; time passes only while somebody waits for a frame.

    As in the kernel, buffers go round between program and driver, frames without a free buffer are counted and lost,
    only one descriptor can stream, and everything on a device that is gone fails with ENODEV.
    """

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock
        self.source: Source = lambda number: None
        self.sizes = [(256, 196)]
        self.capabilities = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING
        self.granted_size = (256, 196)
        self.zoom_range: tuple[int, int, int] | None = (0, 0xFFFF, 1)
        self.device_number_now = NODE_NUMBER
        self.timestamp_flags = abi.BUF_FLAG_TIMESTAMP_MONOTONIC
        self.gone = False
        self.words: list[int] = []
        """Command words that reached the camera."""
        self.events: list[str] = []
        """Commands and stream starts in their order."""
        self.on_word: Callable[[int], None] = lambda word: None
        self.control_failures: deque[int] = deque()
        """An errno for each of the next writes of the control."""
        self.hang = threading.Event()
        """While set, a control does not return."""
        self.hung_calls = 0
        self.unhang = threading.Event()
        self.call_failures: dict[int, int] = {}
        """An errno by request, for every call."""
        self.before_poll: Callable[[], object] = lambda: None
        """What real time does between two frames: commands get through."""
        self.mapped = 0
        self.opened: dict[int, _Opened] = {}
        self._next_descriptor = 1000
        self._produced = 0
        self._ready: deque[tuple[Scripted, int, int]] = deque()
        self._pending: tuple[Scripted, int] | None = None
        self._lock = threading.RLock()

    # The calls

    def open(self, path: str) -> int:
        """See `drivers.v4l2.DeviceIo`."""
        with self._lock:
            if self.gone:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            self._next_descriptor += 1
            self.opened[self._next_descriptor] = _Opened(path)
            return self._next_descriptor

    def close(self, descriptor: int) -> None:
        """See `drivers.v4l2.DeviceIo`."""
        with self._lock:
            del self.opened[descriptor]

    def device_number(self, descriptor: int) -> str:
        """See `drivers.v4l2.DeviceIo`."""
        return self.device_number_now

    def map(self, descriptor: int, length: int, offset: int) -> _Memory:
        """See `drivers.v4l2.DeviceIo`."""
        buffers = self.opened[descriptor].buffers
        assert length == len(buffers[offset])
        return _Memory(self, buffers[offset])

    def poll(self, descriptor: int, timeout_s: float) -> int:
        """See `drivers.v4l2.DeviceIo`."""
        self.before_poll()
        opened = self.opened[descriptor]
        if self.gone:
            return select.POLLERR | select.POLLHUP
        if not opened.streaming:
            return select.POLLERR
        deadline_ns = self.clock.monotonic_ns() + round(timeout_s * NS_PER_S)
        while not self._ready:
            due = self._due()
            if due is None or due[1] > deadline_ns:
                self.clock.advance(max(0, deadline_ns - self.clock.monotonic_ns()) / NS_PER_S)
                return 0
            self.clock.advance(max(0, due[1] - self.clock.monotonic_ns()) / NS_PER_S)
            self._arrive(opened)
        return select.POLLIN

    def ioctl(self, descriptor: int, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        """See `drivers.v4l2.DeviceIo`."""
        if request in (abi.VIDIOC_S_CTRL, abi.VIDIOC_QUERYCTRL):
            self._wait_while_hanging()
        with self._lock:
            opened = self.opened[descriptor]
            if self.gone:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            if request in self.call_failures:
                failure = self.call_failures[request]
                raise OSError(failure, os.strerror(failure))
            self._answers[request](self, opened, argument)

    # What they do

    def _wait_while_hanging(self) -> None:
        if self.hang.is_set():
            self.hung_calls += 1
            self.unhang.wait()
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def _querycap(self, opened: _Opened, argument: abi.Capability) -> None:
        argument.driver = b"uvcvideo"
        argument.capabilities = abi.CAP_DEVICE_CAPS | 0x0080_0000 | self.capabilities
        argument.device_caps = self.capabilities

    def _enum_sizes(self, opened: _Opened, argument: abi.FrameSize) -> None:
        if argument.pixel_format != abi.PIX_FMT_YUYV or argument.index >= len(self.sizes):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        argument.type = abi.FRMSIZE_TYPE_DISCRETE
        argument.width, argument.height = self.sizes[argument.index]

    def _set_format(self, opened: _Opened, argument: abi.Format) -> None:
        picture = argument.fmt.pix
        picture.width, picture.height = self.granted_size
        picture.bytesperline = picture.width * 2
        picture.sizeimage = picture.bytesperline * picture.height
        opened.formatted = True
        self.events.append("format")

    def _request_buffers(self, opened: _Opened, argument: abi.RequestBuffers) -> None:
        if any(other.buffers for other in self.opened.values() if other is not opened):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        assert opened.formatted
        if argument.count == 0:
            assert self.mapped == 0, "buffers are freed while they are mapped"
        opened.buffers = [bytearray(100_352) for _ in range(argument.count)]

    def _query_buffer(self, opened: _Opened, argument: abi.Buffer) -> None:
        argument.length, argument.m.offset = len(opened.buffers[argument.index]), argument.index

    def _queue(self, opened: _Opened, argument: abi.Buffer) -> None:
        assert argument.type == abi.BUF_TYPE_VIDEO_CAPTURE
        assert argument.memory == abi.MEMORY_MMAP
        assert argument.index not in opened.queued, "a buffer is given to the kernel twice"
        opened.queued.append(argument.index)

    def _dequeue(self, opened: _Opened, argument: abi.Buffer) -> None:
        if not self._ready:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        scripted, arrived_ns, sequence = self._ready[0]
        if scripted.failure is not None:
            raise OSError(scripted.failure, os.strerror(scripted.failure))
        self._ready.popleft()
        index = opened.queued.popleft()
        opened.buffers[index][: len(scripted.payload)] = scripted.payload
        argument.index, argument.bytesused, argument.sequence = index, len(scripted.payload), sequence & 0xFFFF_FFFF
        argument.flags = self.timestamp_flags | (abi.BUF_FLAG_ERROR if scripted.damaged else 0)
        argument.timestamp.tv_sec, nanoseconds = divmod(arrived_ns, NS_PER_S)
        argument.timestamp.tv_usec = nanoseconds // 1000

    def _stream_on(self, opened: _Opened, argument: ctypes.c_int) -> None:
        assert argument.value == abi.BUF_TYPE_VIDEO_CAPTURE
        assert opened.queued, "a stream without buffers"
        opened.streaming = True
        opened.sequence = -1
        self.events.append("start")

    def _stream_off(self, opened: _Opened, argument: ctypes.c_int) -> None:
        if opened.streaming:
            self.events.append("stop")
        opened.streaming = False
        opened.queued.clear()
        self._ready.clear()
        self._pending = None

    def _query_control(self, opened: _Opened, argument: abi.QueryControl) -> None:
        if argument.id != abi.CID_ZOOM_ABSOLUTE or self.zoom_range is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        argument.minimum, argument.maximum, argument.step = self.zoom_range

    def _set_control(self, opened: _Opened, argument: abi.Control) -> None:
        assert argument.id == abi.CID_ZOOM_ABSOLUTE
        if self.control_failures:
            failure = self.control_failures.popleft()
            raise OSError(failure, os.strerror(failure))
        self.words.append(argument.value)
        self.events.append(f"{argument.value:#06x}")
        self.on_word(argument.value)

    _answers: ClassVar[dict[int, Callable[..., None]]] = {
        abi.VIDIOC_QUERYCAP: _querycap,
        abi.VIDIOC_ENUM_FRAMESIZES: _enum_sizes,
        abi.VIDIOC_S_FMT: _set_format,
        abi.VIDIOC_REQBUFS: _request_buffers,
        abi.VIDIOC_QUERYBUF: _query_buffer,
        abi.VIDIOC_QBUF: _queue,
        abi.VIDIOC_DQBUF: _dequeue,
        abi.VIDIOC_STREAMON: _stream_on,
        abi.VIDIOC_STREAMOFF: _stream_off,
        abi.VIDIOC_QUERYCTRL: _query_control,
        abi.VIDIOC_S_CTRL: _set_control,
    }

    def _due(self) -> tuple[Scripted, int] | None:
        """What the camera does next, and when."""
        if self._pending is None:
            scripted = self.source(self._produced)
            if scripted is None:
                return None
            self._produced += 1
            self._pending = scripted, self.clock.monotonic_ns() + round(scripted.after_s * NS_PER_S)
        return self._pending

    def _arrive(self, opened: _Opened) -> None:
        assert self._pending is not None
        scripted, arrived_ns = self._pending
        self._pending = None
        opened.sequence += 1
        if not scripted.lost and len(self._ready) < len(opened.queued):
            self._ready.append((scripted, arrived_ns, opened.sequence))


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START_UTC_NS)


@pytest.fixture
def kernel(clock: SimulatedClock) -> FakeKernel:
    return FakeKernel(clock)


@pytest.fixture
def script(kernel: FakeKernel) -> Callable[..., None]:
    """Lets the camera do one thing after the other, each given as the fields of `Scripted`; then it is silent."""

    def write(*steps: dict[str, Any]) -> None:
        plan = [Scripted(**{"after_s": 0.04, **step}) for step in steps]
        kernel.source = lambda number: plan[number] if number < len(plan) else None

    return write


# Descriptors, laid out by hand from the measured ones of a camera of the family: device 1514:0001, UVC 1.00, one camera
# terminal with Focus and Zoom (Absolute), output terminal, one YUY2 format, one frame, 524 bytes x 1 per microframe.

_DEVICE = struct.Struct("<BBHBBBBHHHBBBB")
_GUID_YUY2 = bytes.fromhex("5955593200001000800000aa00389b71")


def descriptors(
    *,
    vendor: int = 0x1514,
    product: int = 0x0001,
    width: int = 256,
    height: int = 196,
    controls: int = 0x000220,
    bulk: bool = False,
    terminal: int = 1,
) -> bytes:
    """Device and configuration descriptors as sysfs gives them."""
    device = _DEVICE.pack(18, 1, 0x0200, 0xEF, 2, 1, 64, vendor, product, 0x0100, 1, 2, 3, 1)
    camera = struct.pack(
        "<BBBBHBBHHHB3s", 18, 0x24, 2, terminal, 0x0201, 0, 0, 0, 0, 0, 3, controls.to_bytes(3, "little")
    )
    output = struct.pack("<BBBBHBBB", 9, 0x24, 3, 2, 0x0101, 0, terminal, 0)
    header = struct.pack("<BBBHHIBB", 13, 0x24, 1, 0x0100, 13 + len(camera + output), 6_000_000, 1, 1)
    frame_bytes = width * height * 2
    form = struct.pack("<BBBBB16sBBBBBB", 27, 0x24, 4, 1, 1, _GUID_YUY2, 16, 1, 0, 0, 0, 0)
    rate = frame_bytes * 8 * 25
    frame = struct.pack(
        "<BBBBBHHIIIIBI", 30, 0x24, 5, 1, 0, width, height, rate, rate, frame_bytes, 400_000, 1, 400_000
    )
    inputs = struct.pack("<BBBBHBBBBBBBB", 14, 0x24, 1, 1, 14 + len(form + frame), 0x81, 0, 2, 0, 0, 0, 1, 0)
    control_interface = struct.pack("<9B", 9, 4, 0, 0, 0, 0x0E, 1, 0, 0)
    streaming = struct.pack("<9B", 9, 4, 1, 0, int(bulk), 0x0E, 2, 0, 0)
    if bulk:
        stream = streaming + inputs + form + frame + struct.pack("<BBBBHB", 7, 5, 0x81, 0x02, 512, 0)
    else:
        alternate = struct.pack("<9B", 9, 4, 1, 1, 1, 0x0E, 2, 0, 0)
        endpoint = struct.pack("<BBBBHB", 7, 5, 0x81, 0x05, 524, 1)
        stream = streaming + inputs + form + frame + alternate + endpoint
    association = struct.pack("<8B", 8, 0x0B, 0, 2, 0x0E, 3, 0, 2)
    body = association + control_interface + header + camera + output + stream
    return device + struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), 2, 1, 0, 0x80, 250) + body


class FakeSysfs:
    """A tree like the kernel's, in which devices are plugged and unplugged."""

    def __init__(self, folder: Path) -> None:
        self.root, self.dev = folder / "sys", folder / "dev"
        self._devices = self.root / "bus" / "usb" / "devices"
        self._devices.mkdir(parents=True)
        self.dev.mkdir()
        self._last_number = 1

    def plug(
        self,
        port: str = "1-2",
        *,
        vendor: int = 0x1514,
        product_id: int = 0x0001,
        product: str = "T2S+",
        serial: str = "KA1213",
        blob: bytes | None = None,
        node: int | None = 0,
    ) -> Path:
        """Attach a device; its folder. `node` is the number of its capture node, None for no driver."""
        self._last_number += 1
        device = self._devices / port
        device.mkdir()
        texts = {
            "idVendor": f"{vendor:04x}",
            "idProduct": f"{product_id:04x}",
            "product": product,
            "manufacturer": "Infiray",
            "serial": serial,
            "busnum": port.partition("-")[0],
            "devnum": str(self._last_number),
            "authorized": "1",
        }
        for name, text in texts.items():
            if text:
                (device / name).write_text(text + "\n")
        whole = descriptors(vendor=vendor, product=product_id) if blob is None else blob
        (device / "descriptors").write_bytes(whole)
        interface = self._devices / f"{port}:1.0"
        interface.mkdir(exist_ok=True)  # listed beside the device, and no device itself
        if node is not None:
            self.bind(port, node)
        return device

    def bind(self, port: str, node: int) -> None:
        """Let the kernel's driver make its two nodes, the second with the smaller number, as happens."""
        for number, index in ((node + 1, 1), (node, 0)):
            folder = self._devices / port / f"{port}:1.0" / "video4linux" / f"video{number}"
            folder.mkdir(parents=True)
            (folder / "index").write_text(f"{index}\n")
            (folder / "dev").write_text(f"81:{number}\n")

    def unplug(self, port: str = "1-2") -> None:
        """Take a device away."""
        for path in sorted((self._devices / port).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (self._devices / port).rmdir()
        (self._devices / f"{port}:1.0").rmdir()


@pytest.fixture
def sysfs(tmp_path: Path) -> FakeSysfs:
    return FakeSysfs(tmp_path)


PATIENCE_S = 10.0
"""No test waits longer for a thread; it is no measurement."""


def _stream_of(device: SimulatedDevice, kernel: FakeKernel) -> Source:
    """The frames of a simulated v1 as the kernel gets them."""
    timeline, last = device.connect(), -1

    def source(number: int) -> Scripted:
        nonlocal last
        now_ns = kernel.clock.monotonic_ns()
        last, arrival_ns = device.next_frame(timeline, max(last, timeline.next_due(now_ns) - 1), now_ns)
        return Scripted(after_s=max(0, arrival_ns - now_ns) / NS_PER_S, payload=device.send(timeline, last))

    return source


class Bench:
    """A T2S+ on a fake bus behind a fake kernel, and what is needed to disturb it."""

    def __init__(self, sysfs: FakeSysfs, kernel: FakeKernel, folder: Path) -> None:
        self.sysfs, self.kernel, self.clock = sysfs, kernel, kernel.clock
        self.gain_maps = GainMaps(folder / "camera")
        self.usb = UsbCameraDevice(UsbBus(sysfs=sysfs.root, dev=sysfs.dev), reset=self._reset)
        self.resets: list[tuple[int, int]] = []
        self.device = SimulatedDevice(clock=self.clock, seed=5)

    def v1(self, *, warm: bool = True) -> T2SPlusCamera:
        """A closed camera of the kind that corrects its picture itself; the shutter command acts."""
        self.device = SimulatedDevice(clock=self.clock, seed=5, warm=warm)
        self.sysfs.plug()
        self.kernel.source = _stream_of(self.device, self.kernel)
        self.kernel.on_word = lambda word: self.device.close_shutter() if word == Command.SHUTTER else None
        return self.camera()

    def stream(self, payload_of: Callable[[int, int], bytes]) -> None:
        """Let the camera send at 25 Hz what is made of a frame's number and its time of arrival (monotonic)."""
        period_s = 1 / FRAME_RATE_HZ

        def source(number: int) -> Scripted:
            arrival_ns = self.clock.monotonic_ns() + round(period_s * NS_PER_S)
            return Scripted(after_s=period_s, payload=payload_of(number, arrival_ns))

        self.kernel.source = source

    def camera(self, **options: Any) -> T2SPlusCamera:
        """A closed connection to whatever is on the bus; commands get through between two frames."""
        camera = T2SPlusCamera(self.usb, clock=self.clock, io=self.kernel, **{"gain_maps": self.gain_maps} | options)
        self.kernel.before_poll = lambda: camera.commands_done(PATIENCE_S) if camera.is_open else None
        return camera

    def _reset(self, *numbers: int) -> None:
        self.resets.append((numbers[0], numbers[1]))


@pytest.fixture
def bench(sysfs: FakeSysfs, kernel: FakeKernel, tmp_path: Path) -> Bench:
    return Bench(sysfs, kernel, tmp_path)


@pytest.fixture
def make_descriptors() -> Callable[..., bytes]:
    """See `descriptors`."""
    return descriptors
