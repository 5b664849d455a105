"""The sampler: one frame for each planned moment, and a reason for each that has none."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from daemon.sampling import (
    BlockEnded,
    BlockStarted,
    CameraLost,
    Item,
    MissingSamples,
    Sample,
    Sampler,
)
from daemon.schedule import PlannedBlock
from drivers.clock import NS_PER_S
from drivers.decoder import FrameDecoder
from drivers.frame import FrameFlag, RawFrame, ThermalFrame

START = 1_700_000_000 * NS_PER_S
BLOCK = PlannedBlock(
    day=date(2026, 11, 23),
    stratum="night",
    number=1,
    start_utc_ns=START,
    duration_ns=10 * NS_PER_S,
    period_ns=NS_PER_S,
)
Frames = Callable[..., ThermalFrame]


@pytest.fixture
def frame(golden: Path) -> Frames:
    """Makes a frame captured so many seconds after the start of the block."""
    payload = np.load(golden / "g2_eps095_d1.npz")["frame"].tobytes()

    def make(at_s: float, *, wall_step_s: float = 0, flags: FrameFlag = FrameFlag.NONE) -> ThermalFrame:
        at_ns = round(at_s * NS_PER_S)
        raw = RawFrame(
            sequence=0,
            captured_utc_ns=START + at_ns + round(wall_step_s * NS_PER_S),
            captured_monotonic_ns=at_ns,
            payload=payload,
        )
        return FrameDecoder(base_flags=flags).decode(raw)

    return make


@pytest.fixture
def items() -> list[Item]:
    return []


@pytest.fixture
def sampler(items: list[Item]) -> Sampler:
    return Sampler([items.append], outside_rate_hz=0.2)


def planned(items: list[Item]) -> list[int]:
    """Seconds after the start of the block that samples stand for."""
    return [
        (item.planned_utc_ns - START) // NS_PER_S
        for item in items
        if isinstance(item, Sample) and item.planned_utc_ns is not None
    ]


def missing(items: list[Item]) -> dict[int, str]:
    return {
        (moment - START) // NS_PER_S: item.reason
        for item in items
        if isinstance(item, MissingSamples)
        for moment in item.planned_utc_ns
    }


def missing_moments(items: list[Item]) -> list[int]:
    return [moment for item in items if isinstance(item, MissingSamples) for moment in item.planned_utc_ns]


def test_the_first_frame_of_each_second_is_taken(sampler: Sampler, items: list[Item], frame: Frames) -> None:
    sampler.start_block(BLOCK, at_utc_ns=START)
    taken = [sampler.offer(frame(k * 0.04)) for k in range(250)]
    sampler.end_block(at_utc_ns=BLOCK.end_utc_ns)
    assert [k for k, was in enumerate(taken) if was] == list(range(0, 250, 25))
    assert planned(items) == list(range(10))
    assert missing(items) == {}
    assert isinstance(items[0], BlockStarted)
    assert isinstance(items[-1], BlockEnded)


@pytest.mark.parametrize("phase_s", [0.0, 0.01, 0.02, 0.03, 0.0399])
def test_a_plan_at_the_rate_of_the_camera_takes_every_frame_however_unevenly_they_come(
    sampler: Sampler, items: list[Item], frame: Frames, phase_s: float
) -> None:
    block = replace(BLOCK, period_ns=NS_PER_S // 25)
    unevenly = np.random.default_rng(3).uniform(-0.015, 0.015, 240)
    sampler.start_block(block, at_utc_ns=START)
    taken = [sampler.offer(frame(k * 0.04 + phase_s + float(unevenly[k]))) for k in range(1, 240)]
    sampler.end_block(at_utc_ns=START + 240 * block.period_ns)
    assert all(taken)
    moments = [item.planned_utc_ns or 0 for item in items if isinstance(item, Sample)]
    assert moments == sorted(set(moments))
    assert len(missing_moments(items)) <= 2  # before the first frame, and the first that came late


def test_a_camera_faster_than_the_plan_loses_only_what_the_plan_has_no_moment_for(
    sampler: Sampler, items: list[Item], frame: Frames
) -> None:
    sampler.start_block(replace(BLOCK, period_ns=NS_PER_S // 25), at_utc_ns=START)
    taken = [sampler.offer(frame(k / 25.5)) for k in range(255)]
    assert sum(taken) == 250
    assert missing_moments(items) == []
    assert {item.block_key for item in items if isinstance(item, Sample)} == {BLOCK.key}


def test_seconds_without_a_frame_are_missing_with_the_reason(
    sampler: Sampler, items: list[Item], frame: Frames
) -> None:
    sampler.start_block(BLOCK, at_utc_ns=START)
    sampler.offer(frame(0.0))
    sampler.camera(CameraLost(at_utc_ns=START + NS_PER_S, reason="camera_lost"))
    sampler.look(utc_ns=START + round(2.5 * NS_PER_S), monotonic_ns=round(2.5 * NS_PER_S))
    sampler.offer(frame(4.2))
    sampler.offer(frame(5.0))
    sampler.end_block(at_utc_ns=BLOCK.end_utc_ns)
    assert planned(items) == [0, 4, 5]
    assert missing(items) == {
        1: "camera_lost", 2: "camera_lost", 3: "camera_lost",
        6: "no_frame", 7: "no_frame", 8: "no_frame", 9: "no_frame",
    }  # fmt: skip


def test_what_was_wrong_before_a_block_is_the_reason_of_its_first_seconds(
    sampler: Sampler, items: list[Item], frame: Frames
) -> None:
    sampler.camera(CameraLost(at_utc_ns=START - NS_PER_S, reason="camera_lost"))
    sampler.start_block(BLOCK, at_utc_ns=START)
    sampler.look(utc_ns=START + 2 * NS_PER_S, monotonic_ns=2 * NS_PER_S)
    sampler.offer(frame(2.5))
    sampler.end_block(at_utc_ns=START + 4 * NS_PER_S)
    assert missing(items) == {0: "camera_lost", 1: "camera_lost", 3: "no_frame"}


def test_a_good_frame_before_a_block_ends_what_was_wrong(sampler: Sampler, items: list[Item], frame: Frames) -> None:
    sampler.trouble("rejected_statistics")
    assert sampler.offer(frame(-1))
    sampler.start_block(BLOCK, at_utc_ns=START)
    sampler.look(utc_ns=START + NS_PER_S, monotonic_ns=NS_PER_S)
    assert missing(items) == {0: "no_frame"}


def test_a_second_is_saved_by_a_later_good_frame(sampler: Sampler, items: list[Item], frame: Frames) -> None:
    sampler.start_block(BLOCK, at_utc_ns=START)
    sampler.offer(frame(0.0, flags=FrameFlag.SHUTTER))
    sampler.trouble("rejected_statistics")
    sampler.offer(frame(0.9))
    assert planned(items) == [0]
    assert missing(items) == {}


def test_a_second_with_only_a_closed_shutter_is_missing(sampler: Sampler, items: list[Item], frame: Frames) -> None:
    sampler.start_block(BLOCK, at_utc_ns=START)
    for k in range(31):
        sampler.offer(frame(k * 0.04, flags=FrameFlag.SHUTTER))
    sampler.offer(frame(1.3))
    assert planned(items) == [1]
    assert missing(items) == {0: "shutter"}


def test_a_block_joined_late_accounts_from_then_on(sampler: Sampler, items: list[Item], frame: Frames) -> None:
    sampler.start_block(BLOCK, at_utc_ns=START + round(6.3 * NS_PER_S))
    sampler.offer(frame(6.4))
    sampler.end_block(at_utc_ns=BLOCK.end_utc_ns)
    assert planned(items) == [6]
    assert sorted(missing(items)) == [7, 8, 9]


def test_a_clock_set_forward_leaves_a_reason(sampler: Sampler, items: list[Item], frame: Frames) -> None:
    sampler.start_block(BLOCK, at_utc_ns=START)
    sampler.offer(frame(0.0))
    sampler.offer(frame(1.0))
    sampler.offer(frame(1.04, wall_step_s=5))
    assert planned(items) == [0, 1, 6]
    assert missing(items) == {2: "clock_step", 3: "clock_step", 4: "clock_step", 5: "clock_step"}


def test_a_clock_set_back_within_the_block_repeats_no_second(
    sampler: Sampler, items: list[Item], frame: Frames
) -> None:
    sampler.start_block(BLOCK, at_utc_ns=START)
    for second in range(5):
        sampler.offer(frame(second))
    for second in range(5, 15):
        sampler.offer(frame(second, wall_step_s=-5))
    sampler.end_block(at_utc_ns=BLOCK.end_utc_ns)
    assert planned(items) == list(range(10))
    assert missing(items) == {}


def test_until_a_clock_set_back_has_caught_up_the_animals_are_watched_as_outside_blocks(
    sampler: Sampler, items: list[Item], frame: Frames
) -> None:
    sampler.start_block(BLOCK, at_utc_ns=START)
    for k in range(80):  # 8 s
        sampler.offer(frame(k / 10))
    del items[:]
    now = frame(8, wall_step_s=-7.5)
    assert sampler.wanted_in_s(utc_ns=now.captured_utc_ns, monotonic_ns=now.captured_monotonic_ns) == 0
    for k in range(80, 170):
        sampler.offer(frame(k / 10, wall_step_s=-7.5))
    samples = [item for item in items if isinstance(item, Sample)]
    outside = [item.frame.captured_monotonic_ns / NS_PER_S for item in samples if item.block_key is None]
    assert outside == [8.0, 13.0]  # at their own rate, till 14.5 s, when the second of the last sample is reached
    assert planned(items) == [8, 9]
    assert missing(items) == {}


def test_within_a_block_no_frame_counts_as_outside_of_it(sampler: Sampler, items: list[Item], frame: Frames) -> None:
    sampler.start_block(BLOCK, at_utc_ns=START)
    for k in range(2, 250):
        sampler.look(utc_ns=START + k * NS_PER_S // 25, monotonic_ns=k * NS_PER_S // 25)
        sampler.offer(frame(k / 25 - 0.05))  # some reach us in the second after that of their capture
    assert {item.block_key for item in items if isinstance(item, Sample)} == {BLOCK.key}


def test_outside_blocks_frames_are_taken_at_their_own_rate(sampler: Sampler, items: list[Item], frame: Frames) -> None:
    taken = [k for k in range(500) if sampler.offer(frame(k * 0.04))]
    assert [round(k * 0.04) for k in taken] == [0, 5, 10, 15]
    assert all(isinstance(item, Sample) and item.block_key is None for item in items)


def test_a_rate_of_zero_takes_nothing_outside_blocks(items: list[Item], frame: Frames) -> None:
    sampler = Sampler([items.append], outside_rate_hz=0)
    assert not any(sampler.offer(frame(k)) for k in range(20))
    assert sampler.wanted_in_s(utc_ns=START, monotonic_ns=0) is None


def test_every_sink_gets_the_same_items_in_the_same_order(frame: Frames) -> None:
    first: list[Item] = []
    second: list[Item] = []
    sampler = Sampler([first.append, second.append], outside_rate_hz=0.2)
    sampler.start_block(BLOCK, at_utc_ns=START)
    for k in range(100):
        sampler.offer(frame(k * 0.1))
    sampler.end_block(at_utc_ns=BLOCK.end_utc_ns)
    assert first == second
    assert Counter(type(item) for item in first) == {BlockStarted: 1, Sample: 10, BlockEnded: 1}


def test_each_planned_second_is_in_exactly_one_account(sampler: Sampler, items: list[Item], frame: Frames) -> None:
    random = np.random.default_rng(5)
    sampler.start_block(BLOCK, at_utc_ns=START)
    at_s = 0.0
    while at_s < 10:
        match random.integers(4):
            case 0:
                sampler.trouble("no_frame")
            case 1:
                sampler.look(utc_ns=START + round(at_s * NS_PER_S), monotonic_ns=round(at_s * NS_PER_S))
            case _:
                sampler.offer(frame(at_s))
        at_s += float(random.exponential(0.7))
    sampler.end_block(at_utc_ns=BLOCK.end_utc_ns)
    assert sorted([*planned(items), *missing(items)]) == list(range(10))


def test_a_stopped_block_ends_with_the_window_that_has_passed_or_is_filled(
    sampler: Sampler, items: list[Item], frame: Frames
) -> None:
    sampler.start_block(BLOCK, at_utc_ns=START)
    for second in (0.1, 1.1, 3.1):
        sampler.offer(frame(second))
    stopped = sampler.stop_block(at_utc_ns=START + round(3.5 * NS_PER_S))
    assert stopped == replace(BLOCK, duration_ns=4 * NS_PER_S)
    assert items[-1] == BlockEnded(block=stopped, at_utc_ns=START + round(3.5 * NS_PER_S), stopped=True)
    assert planned(items) == [0, 1, 3]
    assert missing(items) == {2: "no_frame"}
    assert sampler.block is None
    assert sampler.stop_block(at_utc_ns=START) is None


def test_a_block_that_is_stopped_at_once_has_one_moment(sampler: Sampler, items: list[Item]) -> None:
    sampler.start_block(BLOCK, at_utc_ns=START)
    stopped = sampler.stop_block(at_utc_ns=START + 1)
    assert stopped is not None
    assert (stopped.frames, stopped.end_utc_ns) == (1, START + NS_PER_S)
    assert missing(items) == {0: "no_frame"}


def test_a_block_that_is_stopped_at_its_end_is_as_long_as_it_was(sampler: Sampler) -> None:
    uneven = replace(BLOCK, duration_ns=round(9.5 * NS_PER_S))
    sampler.start_block(uneven, at_utc_ns=START)
    assert sampler.stop_block(at_utc_ns=uneven.end_utc_ns) == uneven


def test_one_frame_is_taken_where_no_plan_wants_any(items: list[Item], frame: Frames) -> None:
    sampler = Sampler([items.append], outside_rate_hz=0)
    assert not sampler.offer(frame(0.1))
    sampler.take_one()
    assert not sampler.offer(frame(0.2, flags=FrameFlag.SHUTTER))
    assert [sampler.offer(frame(at_s)) for at_s in (0.3, 0.4)] == [True, False]
    assert [item.block_key for item in items if isinstance(item, Sample)] == [None]


def test_one_frame_is_taken_between_two_moments_of_a_block_and_stands_for_none(
    sampler: Sampler, items: list[Item], frame: Frames
) -> None:
    sampler.start_block(BLOCK, at_utc_ns=START)
    sampler.offer(frame(0.1))
    sampler.take_one()
    assert [sampler.offer(frame(at_s)) for at_s in (0.2, 0.3, 1.1)] == [True, False, True]
    assert planned(items) == [0, 1]
    assert [item.block_key for item in items if isinstance(item, Sample)] == [BLOCK.key, None, BLOCK.key]
