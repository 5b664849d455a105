"""What frames showed, in steps: read from the database it is what was noted when they came."""

import random
from collections.abc import Callable
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from daemon.frame_series import FrameSeries
from daemon.frame_step import FrameStep
from daemon.observation import AnimalObservation, FrameObservation
from daemon.rules import NOT_A_TEMPERATURE
from daemon.store.repository import Store
from daemon.vision.parts import BY_SHAPE
from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag
from tests.observations import SECOND_NS, START_UTC_NS, frame, rat

Ids = tuple[int, int]
ANIMALS = 3


def some_frames(seconds: int) -> list[FrameObservation]:
    """Frames of all kinds: animals named, one of several or not there; settling, by warmth, not measured."""
    dice, frames = random.Random(3), []
    for number in range(seconds):
        shown: list[AnimalObservation] = []
        for animal in range(1, ANIMALS + 1):
            warm = rat(animal, head=dice.uniform(30, 40), body=dice.uniform(30, 40), tail=dice.uniform(41, 45), eye=46)
            kind = dice.choice(["named", "named", "one of two", "away"])
            if kind == "named":
                shown.append(replace(warm, track=animal, probability=1.0))
            elif kind == "one of two":
                either = tuple(sorted({animal, animal % ANIMALS + 1}))
                shown.append(replace(warm, animal=None, track=animal, probability=0.5, candidates=either))
        flags = FrameFlag.SETTLING if dice.random() < 0.2 else FrameFlag.NONE
        by = dice.choice([BY_SHAPE, "unet-1", "unet-1"])
        one = replace(frame(number, *shown, flags=flags), sequence=number, segmenter=by)
        if dice.random() < 0.1:
            one = replace(one, animals=(), not_measured="model_slow", segmenter=None)
        frames.append(one)
    return frames


def figures(steps: list[FrameStep]) -> list[tuple[object, ...]]:
    """For comparison: the database may hold less of a number than a float does."""
    return [
        (
            step.number,
            step.frames,
            step.measured,
            step.by_networks,
            {
                animal: (
                    each.seen,
                    each.warm,
                    pytest.approx(each.hottest_celsius, abs=1e-4),
                    pytest.approx(each.coldest_celsius, abs=1e-4),
                )
                for animal, each in sorted(step.animals.items())
            },
        )
        for step in steps
    ]


def test_the_stored_past_is_what_was_noted_when_it_was_the_present(
    store: Store, begin_run: Callable[[Store], Ids]
) -> None:
    run_id, camera_id = begin_run(store)
    frames, series = some_frames(300), FrameSeries(ZoneInfo("UTC"), interval_s=5.0)
    store.add(frames, run_id=run_id, camera_id=camera_id)
    for each in frames:
        series.add(each)
    restored = store.frame_steps(
        since_utc_ns=0, until_utc_ns=START_UTC_NS + 300 * SECOND_NS, step_ns=series.step_s * NS_PER_S,
        without_flags=NOT_A_TEMPERATURE,
    )  # fmt: skip
    assert len(restored) == 30
    assert figures(restored) == figures(list(series.steps))
    some = store.frame_steps(
        since_utc_ns=START_UTC_NS + 100 * SECOND_NS, until_utc_ns=START_UTC_NS + 199 * SECOND_NS, step_ns=10 * NS_PER_S,
        without_flags=NOT_A_TEMPERATURE,
    )  # fmt: skip
    assert figures(some) == figures(restored[10:20])
