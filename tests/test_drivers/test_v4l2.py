"""Video capture and the control, against a kernel that keeps its promises, and against the kernel's own header."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivers import v4l2_abi as abi
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.errors import CameraError, CameraLostError, CameraRefusedError, ControlError, FrameTimeoutError
from drivers.t2s_protocol import TRANSFER_BYTES, Command
from drivers.usb import VideoNode
from drivers.v4l2 import BUFFERS, SystemIo, VideoStream, ZoomControl

if TYPE_CHECKING:
    from tests.test_drivers.conftest import FakeKernel

Script = Callable[..., None]

NODE = VideoNode(path=Path("/dev/video0"), device_number="81:0")


def payload(number: int) -> bytes:
    """A frame of the right length that can be told from others."""
    return bytes((number + 1,)) * TRANSFER_BYTES


@pytest.fixture
def closed_stream(kernel: FakeKernel, clock: SimulatedClock) -> VideoStream:
    return VideoStream(NODE, clock=clock, io=kernel)


@pytest.fixture
def stream(closed_stream: VideoStream) -> Iterator[VideoStream]:
    with closed_stream:
        closed_stream.start()
        yield closed_stream


# The kernel's interface

_HEADER_PROGRAM = """
#include <linux/videodev2.h>
#include <stddef.h>
#include <stdio.h>
int main(void) {
    printf("%lu %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu ", (unsigned long)VIDIOC_QUERYCAP, (unsigned long)VIDIOC_S_FMT,
           (unsigned long)VIDIOC_REQBUFS, (unsigned long)VIDIOC_QUERYBUF, (unsigned long)VIDIOC_QBUF,
           (unsigned long)VIDIOC_DQBUF, (unsigned long)VIDIOC_STREAMON, (unsigned long)VIDIOC_STREAMOFF,
           (unsigned long)VIDIOC_S_CTRL, (unsigned long)VIDIOC_QUERYCTRL, (unsigned long)VIDIOC_ENUM_FRAMESIZES);
    printf("%zu %zu %zu %zu %zu", offsetof(struct v4l2_buffer, timestamp), offsetof(struct v4l2_buffer, sequence),
           offsetof(struct v4l2_buffer, m), offsetof(struct v4l2_buffer, length), offsetof(struct v4l2_format, fmt));
    return 0;
}
"""


def test_requests_and_structures_are_those_of_the_kernels_header(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None or not Path("/usr/include/linux/videodev2.h").exists():
        pytest.skip("no C compiler or no kernel headers: apt install gcc linux-libc-dev")
    source, program = tmp_path / "abi.c", tmp_path / "abi"
    source.write_text(_HEADER_PROGRAM)
    subprocess.run([compiler, "-o", program, source], check=True)
    numbers = [int(word) for word in subprocess.run([program], capture_output=True, check=True).stdout.split()]
    assert numbers == [
        abi.VIDIOC_QUERYCAP,
        abi.VIDIOC_S_FMT,
        abi.VIDIOC_REQBUFS,
        abi.VIDIOC_QUERYBUF,
        abi.VIDIOC_QBUF,
        abi.VIDIOC_DQBUF,
        abi.VIDIOC_STREAMON,
        abi.VIDIOC_STREAMOFF,
        abi.VIDIOC_S_CTRL,
        abi.VIDIOC_QUERYCTRL,
        abi.VIDIOC_ENUM_FRAMESIZES,
        *(
            getattr(structure, name).offset
            for structure, name in (
                (abi.Buffer, "timestamp"),
                (abi.Buffer, "sequence"),
                (abi.Buffer, "m"),
                (abi.Buffer, "length"),
                (abi.Format, "fmt"),
            )
        ),
    ]


def test_the_machines_own_calls_refuse_what_is_no_video_device() -> None:
    io = SystemIo()
    descriptor = io.open("/dev/null")
    try:
        assert io.device_number(descriptor) == "1:3"
        with pytest.raises(OSError, match="Inappropriate ioctl"):
            io.ioctl(descriptor, abi.VIDIOC_QUERYCAP, abi.Capability())
        assert io.poll(descriptor, 0) != 0
    finally:
        io.close(descriptor)


# Frames


def test_frames_come_with_the_kernels_number_and_time(stream: VideoStream, script: Script) -> None:
    script(*({"payload": payload(number)} for number in range(3 * BUFFERS)))
    taken = [stream.read(1) for _ in range(3 * BUFFERS)]
    assert [transfer.payload for transfer in taken] == [payload(number) for number in range(3 * BUFFERS)]
    assert [transfer.sequence for transfer in taken] == list(range(3 * BUFFERS))
    assert [transfer.arrived_ns for transfer in taken] == [
        round(0.04 * NS_PER_S) * (number + 1) for number in range(3 * BUFFERS)
    ]
    assert not any(transfer.damaged for transfer in taken)


def test_a_frame_stays_as_it_is_when_its_buffer_is_filled_again(stream: VideoStream, script: Script) -> None:
    script(*({"payload": payload(number)} for number in range(BUFFERS + 1)))
    first = stream.read(1)
    for _ in range(BUFFERS):
        stream.read(1)
    assert first.payload == payload(0)


def test_a_frame_that_the_kernel_dropped_is_a_gap_in_the_numbers(stream: VideoStream, script: Script) -> None:
    script({"payload": payload(0)}, {"lost": True}, {"lost": True}, {"payload": payload(3)})
    assert [stream.read(1).sequence for _ in range(2)] == [0, 3]


def test_a_reader_that_comes_late_finds_the_oldest_frames_and_a_gap(
    stream: VideoStream, script: Script, clock: SimulatedClock
) -> None:
    script(*({"payload": payload(number)} for number in range(2)))
    stream.read(1)
    clock.advance(5)
    late = stream.read(1)
    assert late.sequence == 1
    assert clock.monotonic_ns() - late.arrived_ns == 0  # time passes for this camera only while somebody waits


def test_a_short_and_a_damaged_buffer_are_handed_on_as_such(stream: VideoStream, script: Script) -> None:
    script({"payload": b"x" * 512}, {"payload": payload(1), "damaged": True})
    short, damaged = stream.read(1), stream.read(1)
    assert (len(short.payload), short.damaged) == (512, False)
    assert (len(damaged.payload), damaged.damaged) == (TRANSFER_BYTES, True)


def test_a_silent_camera_is_a_timeout_after_exactly_the_timeout_and_may_be_read_again(
    stream: VideoStream, script: Script, clock: SimulatedClock
) -> None:
    script({"payload": payload(0), "after_s": 0.7})
    with pytest.raises(FrameTimeoutError, match=r"no frame within 0\.5 s"):
        stream.read(0.5)
    assert clock.monotonic_ns() == round(0.5 * NS_PER_S)
    assert stream.read(0.5).payload == payload(0)


def test_time_from_another_clock_is_replaced_by_the_time_of_reading(
    stream: VideoStream, kernel: FakeKernel, script: Script, clock: SimulatedClock
) -> None:
    kernel.timestamp_flags = 0
    script({"payload": payload(0)})
    assert stream.read(1).arrived_ns == clock.monotonic_ns()


def test_an_unplugged_camera_is_lost_at_once(stream: VideoStream, kernel: FakeKernel, clock: SimulatedClock) -> None:
    kernel.gone = True
    with pytest.raises(CameraLostError, match="No such device"):
        stream.read(1)
    assert clock.monotonic_ns() == 0


def test_a_stream_that_failed_in_the_kernel_is_lost(stream: VideoStream, script: Script) -> None:
    script({"failure": errno.EIO})
    with pytest.raises(CameraLostError, match="VIDIOC_DQBUF: Input/output error"):
        stream.read(1)


def test_a_stream_that_does_not_run_is_lost_and_does_not_spin(closed_stream: VideoStream) -> None:
    with closed_stream, pytest.raises(CameraLostError, match="the stream has failed"):
        closed_stream.read(1)


def test_a_stream_may_be_stopped_and_started_again(stream: VideoStream, script: Script) -> None:
    script(*({"payload": payload(number)} for number in range(4)))
    stream.read(1)
    stream.stop()
    stream.start()
    again = stream.read(1)
    assert (again.sequence, again.payload) == (0, payload(1))


def test_a_closed_stream_refuses_to_read(closed_stream: VideoStream) -> None:
    with pytest.raises(CameraLostError, match="use `with`"):
        closed_stream.read(1)


# Opening and closing


@pytest.mark.parametrize("gone", [False, True], ids=["attached", "unplugged"])
def test_closing_leaves_nothing_open(closed_stream: VideoStream, kernel: FakeKernel, gone: bool) -> None:
    with closed_stream:
        closed_stream.start()
        assert (len(kernel.opened), kernel.mapped) == (1, BUFFERS)
        kernel.gone = gone
    assert (kernel.opened, kernel.mapped) == ({}, 0)


@pytest.mark.parametrize(
    "request_number",
    [
        pytest.param(abi.VIDIOC_QUERYCAP, id="querycap"),
        pytest.param(abi.VIDIOC_ENUM_FRAMESIZES, id="enum"),
        pytest.param(abi.VIDIOC_S_FMT, id="format"),
        pytest.param(abi.VIDIOC_REQBUFS, id="buffers"),
        pytest.param(abi.VIDIOC_QUERYBUF, id="querybuf"),
    ],
)
def test_an_opening_that_fails_anywhere_leaves_nothing_open(
    closed_stream: VideoStream, kernel: FakeKernel, request_number: int
) -> None:
    kernel.call_failures[request_number] = errno.EIO
    with pytest.raises(CameraLostError, match="Input/output error"), closed_stream:
        pass
    assert (kernel.opened, kernel.mapped) == ({}, 0)


def test_another_webcam_is_asked_for_its_sizes_and_set_to_nothing(
    closed_stream: VideoStream, kernel: FakeKernel
) -> None:
    kernel.sizes = [(640, 480), (1280, 720)]
    with pytest.raises(CameraRefusedError, match=r"expected 256x196 YUYV, it offers \[\(640, 480\)"), closed_stream:
        pass
    assert kernel.events == []


def test_a_node_that_gives_no_pictures_is_refused(closed_stream: VideoStream, kernel: FakeKernel) -> None:
    kernel.capabilities = 0x0020_0000  # metadata capture
    with pytest.raises(CameraRefusedError, match="expected a node that streams video"), closed_stream:
        pass


def test_a_driver_that_changes_the_size_is_refused(closed_stream: VideoStream, kernel: FakeKernel) -> None:
    kernel.granted_size = (256, 192)
    with pytest.raises(CameraRefusedError, match="asked for 256x196 YUYV in 100352 bytes, got 256x192"), closed_stream:
        pass


def test_a_node_whose_name_went_to_another_device_is_not_touched(
    closed_stream: VideoStream, kernel: FakeKernel
) -> None:
    kernel.device_number_now = "81:7"
    with pytest.raises(CameraLostError, match="expected device 81:0, got 81:7"), closed_stream:
        pass
    assert kernel.opened == {}


def test_a_camera_that_another_program_streams_from_is_refused_with_advice(
    stream: VideoStream, kernel: FakeKernel, clock: SimulatedClock
) -> None:
    with (
        pytest.raises(CameraRefusedError, match="another program has the camera"),
        VideoStream(NODE, clock=clock, io=kernel),
    ):
        pass
    assert len(kernel.opened) == 1


# The control


def test_words_reach_the_camera_as_they_are(kernel: FakeKernel) -> None:
    with ZoomControl(NODE, io=kernel) as control:
        control.send(Command.SHUTTER)
        control.send(Command.RADIOMETRIC)
    assert kernel.words == [0x8000, 0x8004]
    assert kernel.opened == {}


@pytest.mark.parametrize(
    "zoom_range",
    [
        pytest.param((0, 100, 1), id="clamps"),
        pytest.param((1, 0xFFFF, 1), id="no zero"),
        pytest.param((0, 0xFFFF, 16), id="rounds"),
        pytest.param((0, 0x80FE, 1), id="one short"),
    ],
)
def test_a_range_that_would_change_words_is_refused(kernel: FakeKernel, zoom_range: tuple[int, int, int]) -> None:
    kernel.zoom_range = zoom_range
    with pytest.raises(CameraRefusedError, match="commands would be changed"), ZoomControl(NODE, io=kernel):
        pass
    assert (kernel.words, kernel.opened) == ([], {})


def test_the_smallest_range_that_is_enough_is_taken(kernel: FakeKernel) -> None:
    kernel.zoom_range = (0, 0x80FF, 1)
    with ZoomControl(NODE, io=kernel) as control:
        control.send(Command.SAVE)
    assert kernel.words == [0x80FF]


def test_a_camera_without_the_control_is_refused(kernel: FakeKernel) -> None:
    kernel.zoom_range = None
    with pytest.raises(CameraRefusedError, match="zoom_absolute"), ZoomControl(NODE, io=kernel):
        pass


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        pytest.param(errno.EPIPE, ControlError, id="stalls"),
        pytest.param(errno.ETIMEDOUT, ControlError, id="hangs"),
        pytest.param(errno.EIO, ControlError, id="fails"),
        pytest.param(errno.ENODEV, CameraLostError, id="gone"),
    ],
)
def test_a_word_that_does_not_get_through_says_why(kernel: FakeKernel, failure: int, kind: type[CameraError]) -> None:
    kernel.control_failures.append(failure)
    with ZoomControl(NODE, io=kernel) as control:
        with pytest.raises(kind, match="command 0x8000"):
            control.send(Command.SHUTTER)
        control.send(Command.SHUTTER)
    assert kernel.words == [0x8000]
