"""Commands: one at a time, in order, ended harmlessly, and never in the way of frames."""

import errno
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest

from drivers.clock import SystemClock
from drivers.control import ATTEMPTS, ControlChannel, WordSink
from drivers.errors import CameraLostError, CameraRefusedError, ControlError
from drivers.t2s_protocol import Command

DEADLINE_S = 10.0
"""No test waits longer for a thread; it is no measurement."""


def refusal(number: int) -> ControlError:
    """What the device layer raises for an errno."""
    error = ControlError("command refused")
    error.__cause__ = OSError(number, "scripted")
    return error


class Sink:
    """Takes words; hangs or refuses when told to."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.errors: deque[ControlError | CameraLostError] = deque()
        self.opening_errors: deque[ControlError | CameraRefusedError] = deque()
        self.openings = 0
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Event()

    def open(self) -> AbstractContextManager[WordSink]:
        """See `drivers.control.OpenControl`."""
        self.openings += 1
        if self.opening_errors:
            raise self.opening_errors.popleft()
        return nullcontext(self)

    def send(self, word: int) -> None:
        """See `drivers.control.WordSink`."""
        self.entered.set()
        assert self.free.wait(DEADLINE_S)
        if self.errors:
            raise self.errors.popleft()
        self.words.append(word)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def channel(sink: Sink) -> Iterator[ControlChannel]:
    with ControlChannel(sink.open, clock=SystemClock()) as channel:
        yield channel


def test_batches_are_sent_in_order_and_each_ends_with_the_harmless_word(channel: ControlChannel, sink: Sink) -> None:
    channel.submit(Command.NORMAL_RANGE)
    channel.submit(0x1033, 0x1133)
    channel.submit(Command.RADIOMETRIC)
    assert channel.wait_idle(DEADLINE_S)
    assert sink.words == [0x8020, 0x8004, 0x1033, 0x1133, 0x8004, 0x8004]
    assert (channel.state.sent, channel.state.failed, channel.state.last_error) == (3, 0, None)
    assert sink.openings == 1


def test_the_time_of_a_command_is_that_at_which_the_camera_had_taken_it(channel: ControlChannel, sink: Sink) -> None:
    clock = SystemClock()
    sink.free.clear()
    taken = channel.submit(Command.SHUTTER)
    assert sink.entered.wait(DEADLINE_S)
    before_ns = clock.monotonic_ns()
    sink.free.set()
    assert taken.result(DEADLINE_S) >= before_ns


def test_a_stalled_word_is_repeated(channel: ControlChannel, sink: Sink) -> None:
    sink.errors.extend(refusal(errno.EPIPE) for _ in range(ATTEMPTS - 1))
    channel.submit(Command.SHUTTER).result(DEADLINE_S)
    assert channel.wait_idle(DEADLINE_S)
    assert sink.words == [0x8000, 0x8004]


def test_a_word_that_stalls_for_ever_is_an_error_and_the_next_batch_is_sent(
    channel: ControlChannel, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    sink.errors.extend(refusal(errno.EPIPE) for _ in range(ATTEMPTS))
    with pytest.raises(ControlError, match="refused"):
        channel.submit(Command.SHUTTER).result(DEADLINE_S)
    channel.submit(Command.NORMAL_RANGE).result(DEADLINE_S)
    assert channel.wait_idle(DEADLINE_S)
    assert sink.words == [0x8020, 0x8004]
    assert (channel.state.sent, channel.state.failed, channel.state.last_error) == (1, 1, "command refused")
    assert "command 0x8000 did not reach the camera: command refused" in caplog.messages


def test_a_word_that_hung_is_not_repeated(channel: ControlChannel, sink: Sink) -> None:
    sink.errors.append(refusal(errno.ETIMEDOUT))
    with pytest.raises(ControlError):
        channel.submit(Command.SHUTTER).result(DEADLINE_S)
    assert channel.wait_idle(DEADLINE_S)
    assert sink.words == []


def test_a_command_counts_as_taken_although_the_word_that_ends_it_failed(channel: ControlChannel, sink: Sink) -> None:
    original = sink.send

    def send(word: int) -> None:
        if word == Command.RADIOMETRIC:
            raise refusal(errno.ETIMEDOUT)
        original(word)

    sink.send = send  # type: ignore[method-assign]  # the sink of this one test
    assert channel.submit(Command.SHUTTER).result(DEADLINE_S) > 0
    assert channel.wait_idle(DEADLINE_S)
    assert (sink.words, channel.state.failed) == ([0x8000], 1)


def test_nothing_piles_up_behind_a_hanging_camera(channel: ControlChannel, sink: Sink) -> None:
    sink.free.clear()
    channel.submit(Command.RADIOMETRIC)
    assert sink.entered.wait(DEADLINE_S)
    asked = [channel.submit(Command.SHUTTER) for _ in range(100)]
    assert len({id(future) for future in asked}) == 1
    assert not channel.wait_idle(0)
    sink.free.set()
    assert channel.wait_idle(DEADLINE_S)
    assert sink.words == [0x8004, 0x8000, 0x8004]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(lambda: refusal(errno.ETIMEDOUT), id="hangs"),
        pytest.param(lambda: CameraRefusedError("clamps"), id="refused"),
    ],
)
def test_a_control_that_does_not_open_is_opened_again_for_the_next_batch(
    channel: ControlChannel, sink: Sink, error: Callable[[], ControlError | CameraRefusedError]
) -> None:
    sink.opening_errors.append(error())
    with pytest.raises((ControlError, CameraRefusedError)):
        channel.submit(Command.RADIOMETRIC).result(DEADLINE_S)
    channel.submit(Command.RADIOMETRIC).result(DEADLINE_S)
    assert sink.openings == 2


def test_closing_does_not_wait_for_a_hanging_camera_and_refuses_what_waits(sink: Sink) -> None:
    with ControlChannel(sink.open, clock=SystemClock()) as channel:
        sink.free.clear()
        channel.submit(Command.RADIOMETRIC)
        assert sink.entered.wait(DEADLINE_S)
        waiting = channel.submit(Command.SHUTTER)
    with pytest.raises(ControlError, match="closed before"):
        waiting.result(0)
    with pytest.raises(ControlError, match="closed"):
        channel.submit(Command.SHUTTER).result(0)
    sink.free.set()  # the kernel gives up: the thread ends
