"""What becomes of a snapshot that cannot be; that one can is tested with the whole service."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest

from daemon.live import LiveView
from daemon.order import Order, Outcome
from daemon.pipeline import Pipeline
from daemon.snapshot import Snapshots
from daemon.vision.classical import ClassicalSegmenter
from drivers.clock import SystemClock
from drivers.simulated import SimulatedCamera, SimulatedDevice

Make = Callable[..., Snapshots]


@pytest.fixture
def live() -> LiveView:
    return LiveView()


@pytest.fixture
def make(tmp_path: Path, live: LiveView) -> Iterator[Make]:
    """Snapshots whose thread runs; a frame is shown whenever one is asked for."""
    with (
        ExitStack() as running,
        SimulatedCamera(SimulatedDevice(clock=SystemClock(), seed=1), clock=SystemClock()) as camera,
    ):
        pipeline = Pipeline(ClassicalSegmenter(animals=1, min_area_px=150), animals=1, mm_per_px=None)

        def show_one() -> None:
            frame = camera.read(5)
            live.show(frame, pipeline.process(frame, block_key=None, planned_utc_ns=None))

        def begin(directory: Path = tmp_path / "snapshots", obstacle: tuple[str, str] | None = None) -> Snapshots:
            snapshots = Snapshots(
                directory, box="box1", live=live, take_one=show_one, obstacle=lambda: obstacle, clock=SystemClock()
            )
            thread = Thread(target=snapshots.run)
            thread.start()
            running.callback(thread.join)
            running.callback(snapshots.stop)
            return snapshots

        yield begin


def answer(snapshots: Snapshots) -> Outcome:
    order = Order()
    snapshots.place(order)
    clock = SystemClock()
    while order.outcome is None:
        clock.wait(0.01)
    return order.outcome


def test_three_files_are_written_and_named(make: Make, tmp_path: Path) -> None:
    outcome = answer(make())
    assert outcome.state == "done"
    names = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "snapshots").rglob("*.*"))
    assert {str(outcome.data["degrees"]), str(outcome.data["picture"])} < set(names)
    assert [Path(name).suffix for name in names] == [".json", ".npy", ".png"]


def test_an_obstacle_is_told(make: Make) -> None:
    assert answer(make(obstacle=("disk_low", "too little"))) == Outcome("refused", "disk_low", "too little")


def test_the_thousandth_is_the_last(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.snapshot.MOST_SNAPSHOTS", 1)
    snapshots = make()
    assert answer(snapshots).state == "done"
    outcome = answer(snapshots)
    assert (outcome.state, outcome.reason, outcome.data) == ("refused", "too_many", {"snapshots": 1})
    assert len(list(tmp_path.rglob("*.npy"))) == 1


def test_a_disk_that_refuses_is_told(make: Make, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    outcome = answer(make(blocked / "snapshots"))
    assert (outcome.state, outcome.reason) == ("failed", "disk")
