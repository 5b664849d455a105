"""Events of single frames and of the device, through worker, database and files: each state with its evidence."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.events import Event, EventKind, EventState, Severity
from daemon.evidence import FOLDER, PICTURES
from daemon.evidence_plot import plot
from daemon.frame_series import STEPS, FrameSeries
from daemon.minute_series import MINUTE_NS
from daemon.observation import FrameObservation
from daemon.open_events import open_now
from daemon.overlay import draw
from daemon.pipeline import Pipeline
from daemon.sampling import CameraAway, CameraFound, CameraLost, CameraTrouble
from daemon.settings import Settings, parse_settings
from daemon.store.repository import Store, open_store
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.parts import Segmentation
from drivers.clock import NS_PER_S
from drivers.frame import ThermalFrame
from tests.databases import ON_BOTH
from tests.worker_bench import CAMERA, THINNED, WELL, WorkerBench, frame_of, picture

START_UTC_NS = 1_795_000_000 * NS_PER_S // MINUTE_NS * MINUTE_NS
CONFIG = """
[box]
time_zone = "UTC"
[alerts]
not_seen_after_s = 60
[alerts.too_hot]
celsius = 38
hysteresis_celsius = 0.3
duration_s = 30
"""


@pytest.fixture
def template(golden: Path) -> ThermalFrame:
    return frame_of(golden)


class Bench(WorkerBench):
    """`again` is a restart."""

    def __init__(self, store: Store, settings: Settings, template: ThermalFrame) -> None:
        super().__init__(store, settings, template, utc_ns=START_UTC_NS)
        self.find()

    def again(self, *, camera: bool = True) -> None:
        """Stop, and start anew with what is stored; with the camera there or not."""
        self.worker.write()
        self.start(self.settings)
        if camera:
            self.find()

    def find(self) -> None:
        """The camera is there."""
        self.worker.handle(CameraFound(at_utc_ns=self.clock.utc_ns(), info=CAMERA, variant="v1", away_s=0.0))

    def show(self, celsius: float | None, seconds: int = 5, *, every_s: int = 5) -> None:
        """Frames of a rat of this temperature, or of none, for so long; then all is stored."""
        for _ in range(seconds // every_s):
            self.show_one(celsius)
            self.clock.advance(every_s)
        self.worker.write()

    def image(self, event: Event, name: str) -> NDArray[np.uint8]:
        """A picture of an event, from its file."""
        path = self.settings.box.data_dir / str(event.data[name])
        assert path.is_relative_to(self.settings.box.data_dir / FOLDER)
        found = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        assert found is not None
        return np.asarray(found, np.uint8)


@pytest.fixture
def bench(database_url: str, tmp_path: Path, template: ThermalFrame) -> Iterator[Bench]:
    settings = parse_settings(CONFIG, origin="test").resolved(tmp_path)
    with open_store(database_url, outbox_limit=1000) as store:
        yield Bench(store, settings, template)


BLUE, RED, REDDISH = (150, 80, 20), (40, 40, 200), (215, 225, 255)


def has(image: NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    return bool((image == colour).all(axis=2).any())


@ON_BOTH
def test_a_rising_temperature_is_told_with_numbers_coverage_plot_and_frames(bench: Bench) -> None:
    bench.show(36.5, 120)
    bench.show(38.2, 60)
    [opened] = bench.events(EventKind.ANIMAL_TOO_HOT)
    assert (opened.state, opened.data["rule"], opened.data["measure"]) == (
        EventState.OPENED,
        "animal_too_hot",
        "trunk_p95_celsius",
    )
    assert opened.data["value"] == opened.data["celsius"] == pytest.approx(38.2, abs=0.05)
    assert (opened.data["threshold"], opened.data["coverage"], opened.data["verdict"]) == (38, 1.0, "beyond")
    assert opened.data["since_utc_ns"] == START_UTC_NS + 120 * NS_PER_S
    plotted = bench.image(opened, "plot")
    assert has(plotted, BLUE) and has(plotted, RED) and has(plotted, REDDISH)
    newest = max(name for name in opened.data if name.startswith("frame_") and name.endswith("_utc_ns"))
    assert opened.data[newest] == opened.at_utc_ns, "the very frame"
    assert bench.image(opened, newest.removesuffix("_utc_ns")).shape == (384, 512, 3)

    for step in range(15):
        bench.show(38.2 + 0.2 * step, 20)
    updated = bench.events(EventKind.ANIMAL_TOO_HOT)[1:]
    assert {event.state for event in updated} == {EventState.UPDATED}
    assert {(event.data["reason"], event.opened_event_id) for event in updated} == {("worse", opened.event_id)}
    told = [(event.at_utc_ns - START_UTC_NS) / NS_PER_S for event in (opened, *updated)]
    assert told == [150, 220, 280, 340, 400, 460], "when it is worse by more than 0.3, and a minute after the last"
    assert [event.data["worst_excess"] for event in updated] == pytest.approx([0.6, 1.2, 1.8, 2.4, 3.0], abs=0.01)
    assert "frame_1" in updated[-1].data and has(bench.image(updated[-1], "plot"), REDDISH)
    [found] = open_now(bench.store.event_histories())
    assert found.newest == updated[-1]

    bench.show(36.5, 10)
    closed = bench.events(EventKind.ANIMAL_TOO_HOT)[-1]
    assert (closed.state, closed.opened_event_id) == (EventState.CLOSED, opened.event_id)
    assert closed.data["worst_excess"] == pytest.approx(3.0, abs=0.01)
    assert closed.data["lasted_s"] == 60 + 300
    assert has(bench.image(closed, "plot"), BLUE)


def test_the_newest_frame_is_drawn_once_for_all_that_is_told_at_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.show(38.2, 20)
    drawn: list[int] = []

    def counted(
        celsius: NDArray[np.float32], segmentation: Segmentation, shown: FrameObservation, *, scale: int, banner: None
    ) -> NDArray[np.uint8]:
        drawn.append(shown.sequence)
        return draw(celsius, segmentation, shown, scale=scale, banner=banner)

    monkeypatch.setattr("daemon.watching.draw", counted)

    def tell() -> bytes:
        event = Event(
            kind=EventKind.ANIMAL_TOO_HOT,
            state=EventState.OPENED,
            severity=Severity.ALERT,
            at_utc_ns=bench.clock.utc_ns(),
            animal=1,
            data={"rule": "animal_too_hot", "since_utc_ns": START_UTC_NS},
        )
        told = bench.watching.with_evidence(event).data
        return (bench.settings.box.data_dir / str(told[[name for name in PICTURES if name in told][-1]])).read_bytes()

    first = tell()
    assert (tell(), len(drawn)) == (first, 1)
    bench.show(39.2)
    assert tell() != first
    assert len(drawn) == 2


def test_a_restart_goes_on_where_it_was(bench: Bench) -> None:
    bench.show(36.5, 120)
    bench.show(38.2, 60)
    [opened] = bench.events(EventKind.ANIMAL_TOO_HOT)
    bench.clock.advance(20)
    bench.again()
    bench.show(38.4, 120)
    assert bench.events(EventKind.ANIMAL_TOO_HOT) == [opened], "nothing is told twice, and by 0.2 it is not worse"
    bench.show(38.9, 10)
    [updated] = bench.events(EventKind.ANIMAL_TOO_HOT)[1:]
    assert (updated.opened_event_id, updated.data["since_utc_ns"]) == (opened.event_id, opened.data["since_utc_ns"])
    assert updated.data["held_s"] == 60 + 20 + 120
    plotted = bench.image(updated, "plot")
    assert has(plotted[:, :575], BLUE), "also what was before the restart, more than 150 of the 1800 s before the end"
    bench.again()
    bench.show(36.5, 5)
    assert bench.events(EventKind.ANIMAL_TOO_HOT)[-1].opened_event_id == opened.event_id
    assert bench.store.open_events() == []


def test_one_that_is_not_seen_is_told_again_after_twice_the_time(bench: Bench) -> None:
    bench.show(36.5, 60)
    bench.show(None, 1200)
    opened, *updated = bench.events(EventKind.ANIMAL_NOT_SEEN)
    assert [event.data["value"] for event in (opened, *updated)] == [60, 120, 240, 480, 960]
    assert (opened.data["measure"], opened.data["threshold"], opened.data["coverage"]) == ("not_seen_s", 60, 1.0)
    assert has(bench.image(opened, "plot"), BLUE) and "frame_1" in opened.data
    bench.show(36.5, 5)
    closed = bench.events(EventKind.ANIMAL_NOT_SEEN)[-1]
    assert (closed.state, closed.data["lasted_s"], closed.opened_event_id) == (
        EventState.CLOSED,
        1200,
        opened.event_id,
    )


def test_what_cannot_be_told_any_more_is_said_and_that_it_can_again(bench: Bench) -> None:
    bench.show(38.2, 60)
    bench.show(None, 3600)
    bench.show(38.2, 30)
    told = bench.events(EventKind.ANIMAL_TOO_HOT)
    assert [(event.state, event.data.get("reason")) for event in told] == [
        (EventState.OPENED, None),
        (EventState.UPDATED, "cannot_tell"),
        (EventState.UPDATED, "can_tell"),
    ]
    assert told[1].at_utc_ns == START_UTC_NS + (60 + 1800) * NS_PER_S
    assert told[1].data["value"] is None
    assert told[1].data["coverage"] == pytest.approx(12 / (12 + 361), abs=0.001)


def test_months_of_frames_take_no_more_memory_than_some_hours(template: ThermalFrame, bench: Bench) -> None:
    series = FrameSeries(bench.settings.zone, interval_s=5.0)
    [observation] = seen_by(bench, template)
    for number in range(3 * STEPS):
        series.add(dataclasses.replace(observation, captured_utc_ns=START_UTC_NS + number * series.step_s * NS_PER_S))
    assert len(series.steps) == STEPS


def test_frames_that_come_twice_an_hour_have_a_plot_too(template: ThermalFrame, bench: Bench) -> None:
    series = FrameSeries(bench.settings.zone, interval_s=2000.0)
    [observation] = seen_by(bench, template)
    series.add(dataclasses.replace(observation, captured_utc_ns=START_UTC_NS))
    since = until = START_UTC_NS
    shown = series.plot_data(EventKind.ANIMAL_TOO_HOT, 1, since_utc_ns=since, until_utc_ns=until, threshold=36.0)
    assert shown is not None
    assert len(shown.steps) == len(shown.values) == 1
    assert plot(shown).any()


def test_when_the_clock_is_set_back_what_is_newer_than_now_is_forgotten(template: ThermalFrame, bench: Bench) -> None:
    series = FrameSeries(bench.settings.zone, interval_s=5.0)
    [observation] = seen_by(bench, template)
    for second in (*range(0, 600, 10), *range(305, 400, 10)):
        series.add(dataclasses.replace(observation, captured_utc_ns=START_UTC_NS + second * NS_PER_S))
    first = START_UTC_NS // (10 * NS_PER_S)
    assert [step.number - first for step in series.steps] == list(range(40))
    assert [step.frames for step in series.steps] == [1] * 30 + [2] + [1] * 9


def seen_by(bench: Bench, template: ThermalFrame) -> list[FrameObservation]:
    pipeline = Pipeline(ClassicalSegmenter(animals=1, min_area_px=150), animals=1, mm_per_px=None)
    return [pipeline.process(dataclasses.replace(template, celsius=picture(36.5))).observation]


def test_a_lost_camera_shows_its_last_frame_and_is_told_while_it_stays_away(bench: Bench) -> None:
    bench.show(36.5, 300)
    last_utc_ns = bench.clock.utc_ns() - 5 * NS_PER_S
    gone = CameraTrouble(why="no good frame for 2 s", frame_age_s=5.0, patience_s=2.0, good_frames=60, refused=3)
    bench.worker.handle(CameraLost(at_utc_ns=bench.clock.utc_ns(), reason="camera_lost", trouble=gone))
    bench.worker.write()
    [opened] = bench.events(EventKind.CAMERA_LOST)
    expected = {
        "rule": "camera_lost",
        "measure": "frame_age_s",
        "comparison": "above",
        "value": 5.0,
        "threshold": 2.0,
        "why": "no good frame for 2 s",
        "since_utc_ns": last_utc_ns,
        "good_frames": 60,
        "refused": 3,
        "step": None,
    }
    assert expected.items() <= dict(opened.data).items()
    newest = max(name for name in opened.data if name.startswith("frame_") and name.endswith("_utc_ns"))
    assert opened.data[newest] == last_utc_ns, "the very last, not that of the minute"
    assert bench.image(opened, newest.removesuffix("_utc_ns")).shape == (384, 512, 3)
    assert has(bench.image(opened, "plot"), BLUE)
    share = opened.data["coverage"]
    assert isinstance(share, float) and 0.1 < share < 0.3, "five minutes of the half hour that is shown"

    bench.clock.advance(60)
    tried = dataclasses.replace(gone, step="usb_reset", tries=4, failures=1, frame_age_s=65.0)
    bench.worker.handle(CameraAway(at_utc_ns=bench.clock.utc_ns(), away_s=60.0, trouble=tried))
    bench.again(camera=False)  # the loss is the same one after a restart
    bench.worker.handle(CameraLost(at_utc_ns=bench.clock.utc_ns(), reason="camera_lost", trouble=gone))
    back = CameraFound(at_utc_ns=bench.clock.utc_ns(), info=CAMERA, variant="v1", away_s=61.0, trouble=tried)
    bench.worker.handle(back)
    bench.worker.write()
    first, updated, closed = [*bench.events(EventKind.CAMERA_LOST), bench.events(EventKind.CAMERA_FOUND)[-1]]
    assert first == opened
    assert (updated.state, updated.opened_event_id) == (EventState.UPDATED, opened.event_id)
    numbers = {"reason": "worse", "step": "usb_reset", "tries": 4, "failures": 1, "away_s": 60.0, "value": 65.0}
    assert numbers.items() <= dict(updated.data).items()
    assert (closed.state, closed.opened_event_id, closed.data["step"]) == (
        EventState.CLOSED,
        opened.event_id,
        "usb_reset",
    )


def test_networks_that_give_way_have_evidence_like_a_rule(bench: Bench) -> None:
    bench.show(36.5, 60)
    bench.state = THINNED
    bench.show(36.5, 10)
    [opened] = bench.events(EventKind.VISION_DEGRADED)
    expected = {
        "rule": "vision_degraded",
        "measure": "networks_share",
        "value": 0.333,
        "threshold": 1.0,
        "frame_ms": 99,
    }
    assert expected.items() <= dict(opened.data).items()
    assert has(bench.image(opened, "plot"), BLUE) and "frame_1" in opened.data
    bench.again()
    bench.state = dataclasses.replace(THINNED, every=6)
    bench.show(36.5, 10)
    bench.state = WELL
    bench.show(36.5, 10)
    told = bench.events(EventKind.VISION_DEGRADED)
    assert [event.state for event in told] == [EventState.OPENED, EventState.CLOSED]
    assert told[1].data["since_utc_ns"] == opened.at_utc_ns


def test_a_step_of_the_clock_says_how_large_it_is_and_between_which_frames(bench: Bench) -> None:
    bench.show(36.5, 60)
    before = bench.clock.utc_ns() - 5 * NS_PER_S
    bench.clock.step_wall(-100)
    bench.show(36.5, 10)
    [event] = bench.events(EventKind.CLOCK_STEPPED)
    expected = {"rule": "clock_stepped", "value": -100.0, "threshold": 1.0, "last_utc_ns": before, "apart_s": 5.0}
    assert expected.items() <= dict(event.data).items()
    assert event.data["first_utc_ns"] == before - 95 * NS_PER_S
