"""The order and the delays of the first commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from drivers.clock import NS_PER_S, SimulatedClock
from drivers.frame import FrameFlag, ThermalFrame
from drivers.simulated import SimulatedCamera
from drivers.start_up import GOOD_FRAMES, Stage, StartUp

MakeFrame = Callable[..., ThermalFrame]
FRAME_S = 0.04


@pytest.fixture(scope="module")
def frame() -> MakeFrame:
    """A good frame, or one that repeats the last picture."""
    with SimulatedCamera.create(clock=SimulatedClock(0)) as camera:
        fresh = camera.read(timeout_s=1)
    return lambda *, frozen=False: replace(fresh, flags=FrameFlag.SHUTTER) if frozen else fresh


class Play:
    """Advances a start-up frame by frame and notes what it sends, with the time in seconds."""

    def __init__(self, start_up: StartUp) -> None:
        self.start_up = start_up
        self.sent = [(0.0, word) for word in start_up.begin(0)]
        self.now_s = 0.0

    def frames(self, count: int, frame: ThermalFrame | None) -> list[tuple[float, int]]:
        """So many of one kind."""
        for _ in range(count):
            self.now_s = round(self.now_s + FRAME_S, 2)
            self.sent += [(self.now_s, word) for word in self.start_up.advance(round(self.now_s * NS_PER_S), frame)]
        return self.sent


def test_a_warm_camera_gets_mode_mode_range_and_shutter(frame: MakeFrame) -> None:
    play = Play(StartUp(high_range=False))
    assert play.frames(60, frame()) == [(0.0, 0x8004), (0.32, 0x8004), (0.44, 0x8020), (0.96, 0x8000)]
    assert play.start_up.stage is Stage.READY


def test_the_high_range_has_its_own_word(frame: MakeFrame) -> None:
    assert [word for _, word in Play(StartUp(high_range=True)).frames(60, frame())] == [0x8004, 0x8004, 0x8021, 0x8000]


def test_a_camera_that_powers_up_is_not_told_to_calibrate(frame: MakeFrame) -> None:
    play = Play(StartUp(high_range=False))
    play.frames(150, frame(frozen=True))
    assert [word for _, word in play.sent] == [0x8004, 0x8004]
    assert [word for _, word in play.frames(60, frame())] == [0x8004, 0x8004, 0x8020]
    assert play.start_up.stage is Stage.READY


def test_a_silent_camera_is_asked_for_its_mode_again_and_for_nothing_more() -> None:
    play = Play(StartUp(high_range=False))
    assert [word for _, word in play.frames(300, None)] == [0x8004, 0x8004]
    assert play.start_up.stage is Stage.AWAITING_FRAMES


def test_refused_transfers_do_not_count_as_frames(frame: MakeFrame) -> None:
    play = Play(StartUp(high_range=False))
    play.frames(10, None)
    play.frames(GOOD_FRAMES - 1, frame())
    play.frames(50, None)
    assert [word for _, word in play.sent] == [0x8004, 0x8004]
    assert play.frames(1, frame())[-1][1] == 0x8020


def test_a_range_switch_is_followed_by_a_shutter_cycle(frame: MakeFrame) -> None:
    play = Play(StartUp(high_range=False))
    play.frames(60, frame())
    now_ns = round(play.now_s * NS_PER_S)
    assert play.start_up.switch_range(now_ns, high_range=True) == (0x8021,)
    assert [word for _, word in play.frames(30, frame())][-1] == 0x8000
    assert play.sent[-1][0] - now_ns / NS_PER_S == pytest.approx(0.52)


def test_a_range_chosen_before_the_first_frames_is_sent_in_its_turn(frame: MakeFrame) -> None:
    play = Play(StartUp(high_range=False))
    assert play.start_up.switch_range(0, high_range=True) == ()
    assert [word for _, word in play.frames(60, frame())] == [0x8004, 0x8004, 0x8021, 0x8000]
