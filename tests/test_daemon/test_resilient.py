"""Networks that are slow or fail: what happens to the frames, and how they come back."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.events import EventKind, EventState, Severity
from daemon.vision import resilient
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.onnx_file import ModelError
from daemon.vision.parts import Segmentation
from daemon.vision.resilient import (
    FIRST_CALM_S,
    FIRST_RETRY_S,
    LONGEST_CALM_S,
    LONGEST_RETRY_S,
    MODEL_SLOW,
    MOST_EVERY,
    MOST_FAILURES,
    MOST_FAILURES_OF_WINDOW,
    Load,
    Mode,
    ResilientSegmenter,
    VisionState,
)
from daemon.vision.segmenter import Hardware, Model, NetworkSegmenter, load_model
from daemon.vision_events import VisionEvents
from drivers.clock import NS_PER_S, Clock, SimulatedClock, SystemClock
from drivers.frame import ThermalFrame
from drivers.simulated import SimulatedCamera
from tests.models import write_model

CPU = Hardware(provider="cpu", threads=1)
FATAL_CELSIUS = 60.0

Make = Callable[..., ResilientSegmenter]


class Networks(NetworkSegmenter):
    """One real network that takes a stated time by the clock, and notes when it was tried."""

    def __init__(self, model: Model, clock: Clock) -> None:
        super().__init__(unet=model, panoptic=None)
        self._clock = clock
        self.cost_s = 0.0
        self.tried_s: list[float] = []

    def segment(self, celsius: NDArray[np.float32]) -> Segmentation:
        """See `NetworkSegmenter`."""
        self.tried_s.append(self._clock.monotonic_ns() / NS_PER_S)
        if self.cost_s:
            self._clock.wait(self.cost_s)
        return super().segment(celsius)


class ByWarmth(ClassicalSegmenter):
    """The AI-free path, which looks once at a picture that is brought a thousand times."""

    def __init__(self) -> None:
        super().__init__(animals=1, min_area_px=150)
        self._latest: tuple[NDArray[np.float32], Segmentation] | None = None

    def segment(self, celsius: NDArray[np.float32]) -> Segmentation:
        """See `ClassicalSegmenter`."""
        if self._latest is None or self._latest[0] is not celsius:
            self._latest = celsius, super().segment(celsius)
        return self._latest[1]


def networks_of(segmenter: ResilientSegmenter) -> Networks:
    """What `make` gave it."""
    assert isinstance(segmenter.networks, Networks)
    return segmenter.networks


class Feed:
    """Brings the same picture at a steady rate, however long measuring takes."""

    def __init__(self, segmenter: ResilientSegmenter, frame: ThermalFrame, clock: SimulatedClock) -> None:
        self._segmenter, self._frame, self._clock = segmenter, frame, clock
        self._captured_ns = clock.monotonic_ns()

    def next(self, interval_s: float) -> str | None:
        """Take the next frame; why it is left out."""
        self._captured_ns += round(interval_s * NS_PER_S)
        self._clock.advance(max(0.0, (self._captured_ns - self._clock.monotonic_ns()) / NS_PER_S))
        why = self._segmenter.left_out(replace(self._frame, captured_monotonic_ns=self._captured_ns))
        if why is None:
            self._segmenter.segment(self._frame.celsius)
        return why


def fed(load: Load, *, interval_s: float, cost_s: float, frames: int = 40, from_s: float = 0.0) -> int:
    """The n of every n-th after so many frames, the first of them at this time."""
    now_ns = round(from_s * NS_PER_S)
    for index in range(frames):
        load.frame(now_ns)
        if index % load.every == 0:
            load.run(cost_s)
        now_ns += round(interval_s * NS_PER_S)
    return load.every


@pytest.mark.parametrize(
    ("interval_s", "cost_s", "every"),
    [
        pytest.param(0.04, 0.02, 1, id="half of the time"),
        pytest.param(0.04, 0.031, 1, id="nearly too much"),
        pytest.param(0.04, 0.04, 2, id="all of the time"),
        pytest.param(0.04, 0.2, 7, id="five times too slow"),
        pytest.param(1.0, 0.5, 1, id="slow, but seldom"),
        pytest.param(1.0, 30.0, 38, id="hopeless"),
    ],
)
def test_as_many_frames_are_left_out_as_the_time_asks_for(interval_s: float, cost_s: float, every: int) -> None:
    assert fed(Load(), interval_s=interval_s, cost_s=cost_s) == every


def test_fewer_frames_are_left_out_again_when_there_is_time_and_not_at_once() -> None:
    load = Load()
    assert fed(load, interval_s=0.04, cost_s=0.1) == 4
    assert fed(load, interval_s=0.04, cost_s=0.08, frames=400, from_s=2) == 4  # two thirds of the time of three frames
    assert fed(load, interval_s=0.04, cost_s=0.02, frames=200, from_s=18) == 4  # calm for 8 s
    assert fed(load, interval_s=0.04, cost_s=0.02, frames=100, from_s=26) == 1


def test_networks_that_are_too_slow_now_and_then_change_ever_more_rarely() -> None:
    load, now_s, changes, every = Load(), 0.0, [], 1
    while now_s < 3600:
        for cost_s, frames in ((0.04, 25), (0.01, 500)):  # busy for 1 s, idle for 20 s
            if fed(load, interval_s=0.04, cost_s=cost_s, frames=frames, from_s=now_s) != every:
                every = load.every
                changes.append(now_s)
            now_s += 0.04 * frames
    assert changes[:2] == [0.0, 1.0]
    assert len(changes) <= 4
    fed(load, interval_s=0.04, cost_s=0.01, frames=round((LONGEST_CALM_S + 10) / 0.04), from_s=now_s)
    assert load.every == 1


def test_one_late_frame_or_run_changes_nothing() -> None:
    load = Load()
    fed(load, interval_s=0.04, cost_s=0.02)
    assert load.run(5.0) == 1


@pytest.fixture
def frame() -> ThermalFrame:
    """One rat."""
    clock = SimulatedClock(1_750_000_000_000_000_000)
    with SimulatedCamera.create(clock=clock) as camera:
        return camera.read(timeout_s=1)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a segmenter whose network fails on hot pictures, and can be slow on others."""
    with ExitStack() as stack:

        def make(clock: Clock, **faults: float) -> ResilientSegmenter:
            path = write_model(tmp_path / "model.onnx", fails_above_celsius=FATAL_CELSIUS, **faults)  # type: ignore[arg-type]
            networks = Networks(load_model(path, CPU), clock)
            return stack.enter_context(ResilientSegmenter(networks, ByWarmth(), clock=clock))

        yield make


def fatal() -> NDArray[np.float32]:
    """A picture that the network fails on."""
    celsius = np.full((192, 256), 23, np.float32)
    celsius[80:110, 100:160] = FATAL_CELSIUS + 5
    return celsius


def test_a_failure_is_told_and_the_next_frame_may_do(make: Make, frame: ThermalFrame) -> None:
    segmenter = make(SimulatedClock(0))
    for _ in range(10):
        for _ in range(MOST_FAILURES - 1):
            with pytest.raises(ModelError):
                segmenter.segment(fatal())
        for _ in range(18):
            assert segmenter.segment(frame.celsius).parts.any()
    assert segmenter.state == VisionState(mode=Mode.NETWORKS, every=1, reason=None, degraded=False)


def fed_with_failures(segmenter: ResilientSegmenter, frame: ThermalFrame, *, good_after: int, frames: int) -> None:
    """Two pictures that fail, and then some that do not, again and again until the networks give way."""
    for index in range(frames):
        picture = frame.celsius if index % (2 + good_after) >= 2 else fatal()
        with suppress(ModelError):
            segmenter.segment(picture)
        if segmenter.state.mode is Mode.CLASSICAL:
            return


@pytest.mark.parametrize(("good_after", "degrades"), [(1, True), (4, True), (18, False)])
def test_failures_in_between_good_frames_degrade_when_they_are_many(
    make: Make, frame: ThermalFrame, good_after: int, degrades: bool
) -> None:
    segmenter = make(SimulatedClock(0))
    fed_with_failures(segmenter, frame, good_after=good_after, frames=100)
    assert segmenter.state.degraded is degrades
    assert (segmenter.state.mode is Mode.CLASSICAL) is degrades
    if degrades:
        assert f"the networks failed on {MOST_FAILURES_OF_WINDOW} of the latest" in str(segmenter.state.reason)


def test_networks_that_fail_now_and_then_are_taken_up_ever_more_rarely(make: Make, frame: ThermalFrame) -> None:
    clock = SimulatedClock(0)
    segmenter = make(clock)
    waits: list[float] = []
    for _ in range(4):
        fed_with_failures(segmenter, frame, good_after=1, frames=100)
        assert segmenter.state.mode is Mode.CLASSICAL
        gave_way_ns = clock.monotonic_ns()
        while segmenter.state.mode is Mode.CLASSICAL:
            clock.advance(5)
            segmenter.segment(frame.celsius)
        waits.append((clock.monotonic_ns() - gave_way_ns) / NS_PER_S)
    assert waits == [60, 120, 240, 480]


def test_each_picture_says_who_found_the_animals(make: Make, frame: ThermalFrame) -> None:
    segmenter = make(SimulatedClock(0))
    assert segmenter.segment(frame.celsius).by == "thresholds-1"
    for _ in range(MOST_FAILURES - 1):
        with pytest.raises(ModelError):
            segmenter.segment(fatal())
    assert segmenter.segment(fatal()).by == "classical-1"
    assert segmenter.segment(frame.celsius).by == "classical-1"
    assert segmenter.name == "thresholds-1"  # of the run


def test_less_than_was_asked_for_stays_degraded_after_frames_were_left_out(make: Make, frame: ThermalFrame) -> None:
    clock = SimulatedClock(0)
    segmenter = make(clock)
    segmenter.adopt(segmenter.networks, "the other one is missing", degraded=True)
    feed, networks = Feed(segmenter, frame, clock), networks_of(segmenter)
    networks.cost_s = 0.1
    told = [feed.next(0.04) for _ in range(120)]
    assert segmenter.state.mode is Mode.THINNED
    assert segmenter.left_out_frames == told.count(MODEL_SLOW) > 0
    networks.cost_s = 0.001
    for _ in range(round((FIRST_CALM_S + 5) / 0.04)):
        feed.next(0.04)
    assert segmenter.state == VisionState(mode=Mode.NETWORKS, every=1, reason="the other one is missing", degraded=True)


def test_after_several_failures_the_ai_free_path_measures_and_the_networks_come_back(
    make: Make, frame: ThermalFrame, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimulatedClock(0)
    segmenter = make(clock)
    with caplog.at_level(logging.INFO, "daemon.vision.resilient"):
        for _ in range(MOST_FAILURES - 1):
            with pytest.raises(ModelError):
                segmenter.segment(fatal())
        assert segmenter.segment(fatal()).instances.any()  # by its warmth, in the very frame
        assert segmenter.state.mode is Mode.CLASSICAL
        assert segmenter.state.degraded
        assert "the networks fail" in str(segmenter.state.reason)
        clock.advance(FIRST_RETRY_S - 1)
        by_warmth = ClassicalSegmenter(animals=1, min_area_px=150).segment(frame.celsius)
        np.testing.assert_array_equal(segmenter.segment(frame.celsius).parts, by_warmth.parts)
        clock.advance(1)
        assert segmenter.segment(fatal()).instances.any()  # the next try, and it fails too
        clock.advance(FIRST_RETRY_S)
        np.testing.assert_array_equal(segmenter.segment(frame.celsius).parts, by_warmth.parts)
        clock.advance(FIRST_RETRY_S)
        assert not np.array_equal(segmenter.segment(frame.celsius).parts, by_warmth.parts)
    assert segmenter.state == VisionState(mode=Mode.NETWORKS, every=1, reason=None, degraded=False)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_tries_become_rare_but_never_end(make: Make) -> None:
    clock = SimulatedClock(0)
    segmenter = make(clock)
    for _ in range(MOST_FAILURES - 1):
        with pytest.raises(ModelError):
            segmenter.segment(fatal())
    networks, picture = networks_of(segmenter), fatal()
    networks.tried_s.clear()
    for _ in range(800):
        segmenter.segment(picture)
        clock.advance(5)
    waits = np.diff(networks.tried_s)
    np.testing.assert_allclose(waits[:4], [60, 120, 240, 480], atol=5)
    np.testing.assert_allclose(waits[4:], LONGEST_RETRY_S, atol=5)
    assert len(waits) > 8


def test_a_run_that_does_not_end_is_broken_off(
    make: Make, frame: ThermalFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resilient, "RUN_LIMIT_S", 0.2)
    segmenter = make(SystemClock(), slow_steps=10_000_000, slow_above_celsius=40.0)
    hot = np.where(frame.celsius > 30, np.float32(45), frame.celsius)
    assert segmenter.segment(hot).instances.any()
    assert segmenter.state.mode is Mode.CLASSICAL
    assert "more than 0.2 s for one frame" in str(segmenter.state.reason)


def test_slow_networks_measure_every_nth_frame(make: Make, frame: ThermalFrame) -> None:
    clock = SimulatedClock(0)
    segmenter = make(clock)
    feed, networks = Feed(segmenter, frame, clock), networks_of(segmenter)
    networks.cost_s = 0.1
    told = [feed.next(0.04) for _ in range(120)]
    assert segmenter.state.mode is Mode.THINNED
    assert segmenter.state.every == 4  # 0.1 s of work every 0.04 s, at 80 %
    assert told[-12:].count(None) == 3
    assert set(told) == {None, MODEL_SLOW}
    networks.cost_s = 0.001
    for _ in range(round((FIRST_CALM_S + 5) / 0.04)):
        feed.next(0.04)
    assert segmenter.state == VisionState(mode=Mode.NETWORKS, every=1, reason=None, degraded=False)


def test_hopelessly_slow_networks_give_way_and_come_back(make: Make, frame: ThermalFrame) -> None:
    clock = SimulatedClock(0)
    segmenter = make(clock)
    feed, networks = Feed(segmenter, frame, clock), networks_of(segmenter)
    networks.cost_s = 0.04 * MOST_EVERY
    for _ in range(200):
        feed.next(0.04)
    assert segmenter.state.mode is Mode.CLASSICAL
    assert f"too long even for one of {MOST_EVERY} frames" in str(segmenter.state.reason)
    networks.cost_s = 0.001
    clock.advance(LONGEST_RETRY_S)
    feed.next(0.04)
    assert segmenter.state == VisionState(mode=Mode.NETWORKS, every=1, reason=None, degraded=False)


def test_networks_that_stay_hopelessly_slow_are_tried_ever_more_rarely_and_never_taken_up(
    make: Make, frame: ThermalFrame
) -> None:
    clock = SimulatedClock(0)
    segmenter = make(clock)
    feed, networks = Feed(segmenter, frame, clock), networks_of(segmenter)
    networks.cost_s = MOST_EVERY
    while segmenter.state.mode is not Mode.CLASSICAL:
        feed.next(1.0)
    networks.tried_s.clear()
    for _ in range(1800):
        feed.next(1.0)
        assert segmenter.state.mode is Mode.CLASSICAL
    waits = np.diff(networks.tried_s)
    np.testing.assert_allclose(waits[:3], [120, 240, 480], rtol=0.1)
    np.testing.assert_allclose(waits[3:], LONGEST_RETRY_S, rtol=0.1)


def test_other_networks_are_given_a_new_chance(make: Make, frame: ThermalFrame) -> None:
    segmenter = make(SimulatedClock(0))
    for _ in range(MOST_FAILURES - 1):
        with pytest.raises(ModelError):
            segmenter.segment(fatal())
    segmenter.segment(fatal())
    segmenter.adopt(segmenter.networks)
    assert segmenter.state == WELL
    segmenter.adopt(None, "switched off")
    assert segmenter.state == VisionState(mode=Mode.CLASSICAL, every=1, reason="switched off", degraded=False)
    assert segmenter.name == "classical-1"
    assert segmenter.segment(frame.celsius).parts.any()


WELL = VisionState(mode=Mode.NETWORKS, every=1, reason=None, degraded=False)
THINNED = VisionState(mode=Mode.THINNED, every=3, reason="they take 99 ms", degraded=True)
AWAY = VisionState(mode=Mode.CLASSICAL, every=1, reason="they fail", degraded=True)
NONE = VisionState(mode=Mode.CLASSICAL, every=1, reason="switched off", degraded=False)


def test_events_open_and_close_with_the_condition() -> None:
    states = [WELL, WELL, THINNED, THINNED, AWAY, WELL, NONE]
    current = iter(states)
    events = VisionEvents(lambda: next(current))
    told = [events.update(moment) for moment in range(len(states))]
    assert [[(event.state, event.severity) for event in each] for each in told] == [
        [],
        [],
        [(EventState.OPENED, Severity.NOTICE)],
        [],
        [(EventState.CLOSED, Severity.ALERT), (EventState.OPENED, Severity.ALERT)],
        [(EventState.CLOSED, Severity.NOTICE)],
        [],
    ]
    opened, (closed, opened_again), (closed_again,) = told[2][0], told[4], told[5]
    assert opened.kind is EventKind.VISION_DEGRADED
    assert dict(opened.data) == {
        "rule": "vision_degraded",
        "measure": "networks_share",
        "comparison": "below",
        "value": 0.333,
        "threshold": 1.0,
        "coverage": None,
        "since_utc_ns": 2,
        "mode": "thinned",
        "one_frame_of": 3,
        "reason": "they take 99 ms",
    }
    assert [event.data["value"] for event in (closed, opened_again, closed_again)] == [0.0, 0.0, 1.0]
    assert (closed.opened_event_id, closed_again.opened_event_id) == (opened.event_id, opened_again.event_id)
    assert (opened.at_utc_ns, closed_again.at_utc_ns) == (2, 5)


def test_a_condition_that_becomes_worse_or_better_is_updated() -> None:
    worse = replace(THINNED, every=6, reason="they take 180 ms")
    states = iter([THINNED, worse, worse, THINNED, WELL])
    events = VisionEvents(lambda: next(states))
    told = [event for moment in range(5) for event in events.update(moment)]
    assert [(event.state, event.data["one_frame_of"], event.at_utc_ns) for event in told] == [
        (EventState.OPENED, 3, 0),
        (EventState.UPDATED, 6, 1),
        (EventState.UPDATED, 3, 3),
        (EventState.CLOSED, 1, 4),
    ]
    assert {event.opened_event_id for event in told[1:]} == {told[0].event_id}


@pytest.mark.parametrize(("state", "closes"), [(AWAY, False), (WELL, True), (NONE, True)])
def test_a_condition_that_was_open_before_a_restart_is_told_once(state: VisionState, closes: bool) -> None:
    before = VisionEvents(lambda: AWAY)
    (opened,) = before.update(1)
    after = VisionEvents(lambda: state)
    after.restore([opened])
    assert [event.opened_event_id for event in after.update(2)] == ([opened.event_id] if closes else [])
