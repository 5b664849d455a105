"""The main job on real input: a published picture of a rat and a raw v2 transfer, through the running service."""

import csv
import json
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pytest

from daemon.analyze import AnalysisSettings, analysis_targets, analyze
from daemon.settings import ReadingSettings
from daemon.vision.parts import BodyPart

pytestmark = pytest.mark.real

DEADLINE_S = 30.0
STOP_S = 10.0

READINGS = ((390, 683, 29.3), (714, 534, 26.3))
"""Column, row and °C of the two cross-hairs burnt into the picture whose place and number can both be read."""

PUBLISHED_LABELS = {3: BodyPart.HEAD, 2: BodyPart.BODY, 1: BodyPart.TAIL}
"""Of the published mask, against what its own text says; see the README beside it."""

Messages = list[tuple[str, bytes, bool]]


class Subscriber(Protocol):
    """What the fixture of conftest.py makes."""

    messages: Messages

    def wait_for(self, heard: Callable[[Messages], bool], what: str) -> None:
        """Until the messages so far fulfil the condition."""

    def payloads(self, topic: str) -> list[bytes]:
        """All that came on a topic."""


class Broker(Protocol):
    """What the fixture of conftest.py makes."""

    port: int


@pytest.fixture
def picture(real_material: Path) -> Path:
    """The published picture."""
    return _present(real_material / "real" / "rat_frame_00001.jpg")


@pytest.fixture
def v2_transfer(real_material: Path) -> Path:
    """The raw transfer of a v2 camera: uncorrected counts of an unknown scene."""
    return _present(real_material / "camera" / "real" / "t2s_v2_2024-06-21_frame.npy")


def _present(file: Path) -> Path:
    if not file.is_file():
        pytest.skip(f"real material is not present: {file}")
    return file


class RunningService:
    """`python -m daemon run` in a process of its own."""

    def __init__(self, config: Path) -> None:
        self.log: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "run", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read, name="service log")
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, text: str) -> None:
        """Until a line of the log contains this."""
        while True:
            line = self._lines.get(timeout=DEADLINE_S)
            assert line is not None, f"ended before {text!r}: {''.join(self.log)}"
            self.log.append(line)
            if text in line:
                return

    def end(self) -> int:
        """Wait until it has ended by itself; its exit code."""
        return self._process.wait(DEADLINE_S)

    def stop(self) -> int:
        """End it as a service manager does; its exit code."""
        self._process.send_signal(signal.SIGTERM)  # without effect on one that has ended
        try:
            code = self._process.wait(STOP_S)
        finally:
            self._process.kill()
            self._reader.join(STOP_S)
        while not self._lines.empty():
            self.log.append(self._lines.get() or "")
        return code


@pytest.fixture
def start(tmp_path: Path, mosquitto: Broker) -> Iterator[Callable[[str], RunningService]]:
    """Starts the service on material, with the external broker; its data are in `data`."""
    running: list[RunningService] = []

    def run(camera: str) -> RunningService:
        config = tmp_path / "config.toml"
        config.write_text(
            f"""
[box]
name = "real"
data_dir = "data"
[camera]
kind = "replay"
{camera}
[measure]
outside_rate_hz = 5
[mqtt]
broker = "external"
port = {mosquitto.port}
[web]
port = 0
"""
        )
        service = RunningService(config)
        running.append(service)
        return service

    yield run
    for service in running:
        service.stop()


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def observations(subscriber: Subscriber) -> list[dict[str, Any]]:
    """All that were published."""
    return [json.loads(payload) for payload in subscriber.payloads("vivarium/real/observation")]


def many_observations(messages: Messages) -> bool:
    """Whether enough have come to see that it goes on."""
    return sum(topic == "vivarium/real/observation" for topic, _, _ in messages) >= 10


def test_the_published_rat_goes_through_the_running_service(
    picture: Path,
    start: Callable[[str], RunningService],
    mosquitto: Broker,
    subscribe: Callable[[int], Subscriber],
    tmp_path: Path,
) -> None:
    subscriber = subscribe(mosquitto.port)
    points = ", ".join(f"{{ x = {x}, y = {y}, celsius = {celsius} }}" for x, y, celsius in READINGS)
    service = start(f'[camera.replay]\npath = "{picture}"\nrate_hz = 5\nreadings = [{points}]')
    service.wait_for("camera found")
    subscriber.wait_for(many_observations, "ten observations")
    subscriber.wait_for(
        lambda messages: any(topic == "vivarium/real/event/camera_found" for topic, _, _ in messages), "camera_found"
    )
    for observation in observations(subscriber):
        (animal,) = observation["animals"]
        parts = {part["part"]: part for part in animal["parts"]}
        assert set(parts) == {"head", "body", "tail"}
        assert "estimated" in observation["flags"]
        assert observation["not_measured"] is None
        assert max(part["max_celsius"] for part in parts.values()) == pytest.approx(29.3, abs=0.5)
        for name, low, high in (("head", 26.5, 29.3), ("body", 26.0, 29.0), ("tail", 24.0, 29.0)):
            assert low < parts[name]["mean_celsius"] < high
        assert parts["head"]["x_px"] < parts["body"]["x_px"] < parts["tail"]["x_px"], "it looks to the left"
        assert 20 < observation["background_celsius"] < 26
    assert service.stop() == 0, "".join(service.log)
    assert not [line for line in service.log if " ERROR " in line or "Traceback" in line]
    database = tmp_path / "data" / "vivarium.db"
    assert rows(database, "pragma integrity_check") == [("ok",)]
    ((frames,),) = rows(database, "select count(*) from frame where not_measured is null")
    assert frames >= len(observations(subscriber)), "a row is stored before it is told"
    per_part = rows(
        database, "select part, count(*), min(mean_celsius), max(mean_celsius) from part_observation group by 1"
    )
    assert [row[:2] for row in per_part] == [(part.value, frames) for part in BodyPart]
    assert all(low == high for _, _, low, high in per_part), "one picture, one answer"
    kinds = {kind for (kind,) in rows(database, "select kind from event")}
    assert "camera_found" in kinds
    assert kinds.isdisjoint({"animal_too_hot", "animal_too_cold", "animal_not_seen", "camera_lost"})
    assert rows(database, "select ended_utc_ns is not null, end_reason from run") == [(1, "stopped")]
    assert rows(database, "select count(*) from outbox") == [(0,)]
    subscriber.wait_for(lambda messages: messages[-1][0] == "vivarium/real/status", "the last word, the status")
    assert json.loads(subscriber.messages[-1][1])["state"] == "offline"


def test_a_raw_v2_transfer_is_uncertain_and_nothing_is_invented(
    v2_transfer: Path,
    start: Callable[[str], RunningService],
    mosquitto: Broker,
    subscribe: Callable[[int], Subscriber],
    tmp_path: Path,
) -> None:
    subscriber = subscribe(mosquitto.port)
    service = start(f'[camera.replay]\npath = "{v2_transfer}"\nrate_hz = 5')
    service.wait_for("camera found")
    subscriber.wait_for(many_observations, "ten observations")
    for observation in observations(subscriber):
        assert observation["animals"] == []
        assert observation["not_measured"] == "uncertain"
        assert "uncertain" in observation["flags"]
        assert observation["background_celsius"] is None
    assert subscriber.payloads("vivarium/real/animal/") == []
    assert service.stop() == 0, "".join(service.log)
    assert not [line for line in service.log if " ERROR " in line or "Traceback" in line]
    database = tmp_path / "data" / "vivarium.db"
    assert rows(database, "select distinct not_measured from frame") == [("uncertain",)]
    assert rows(database, "select count(*) from part_observation") == [(0,)]
    assert rows(database, "select serial, variant from camera") == [("ME1299", "v2")]
    kinds = {kind for (kind,) in rows(database, "select kind from event")}
    assert kinds <= {"camera_found", "block_started", "block_finished"}


def test_the_published_rat_without_readings_does_not_start_the_service(
    picture: Path, start: Callable[[str], RunningService]
) -> None:
    service = start(f'[camera.replay]\npath = "{picture}"')
    service.wait_for("has colours, not degrees: give the range of its palette, or at least two readings")
    assert service.end() == 2


def overlap(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """Intersection over union of two masks."""
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


LEAST_OVERLAP = {BodyPart.HEAD: 0.65, BodyPart.BODY: 0.75, BodyPart.TAIL: 0.5}
"""A tail is five pixels wide: an edge that lies half a pixel elsewhere takes a third of it."""


def test_the_parts_of_the_published_rat_lie_where_its_mask_says(
    picture: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    published = cv2.imread(str(_present(picture.with_name("rat_frame_00001_mask.png"))), cv2.IMREAD_UNCHANGED)
    assert published is not None
    readings = tuple(ReadingSettings(x=x, y=y, celsius=celsius) for x, y, celsius in READINGS)
    (target,) = analysis_targets([picture], tmp_path / "out")
    analyze(target, AnalysisSettings(readings=readings))
    with np.load(tmp_path / "out" / "parts.npz") as archive:
        parts, instances = archive["parts"], archive["instances"]
    colours = cv2.imread(str(picture))
    assert colours is not None
    assert parts.shape == instances.shape == colours.shape[:2]
    # The published mask is squashed; ours is squashed alike.
    squashed = cv2.resize(parts, published.shape[::-1], interpolation=cv2.INTER_NEAREST)
    whole = overlap(published > 0, squashed > 0)
    found = {part: overlap(published == label, squashed == part) for label, part in PUBLISHED_LABELS.items()}
    with capsys.disabled():
        print(f"\nanimal {whole:.3f}, " + ", ".join(f"{part.name.lower()} {iou:.3f}" for part, iou in found.items()))  # noqa: T201
    assert whole >= 0.8
    for part, iou in found.items():
        assert iou >= LEAST_OVERLAP[part], part
    assert set(np.unique(instances)) == {0, 1}


def test_without_readings_the_shape_of_the_rat_is_found_all_the_same(picture: Path, tmp_path: Path) -> None:
    published = cv2.imread(str(_present(picture.with_name("rat_frame_00001_mask.png"))), cv2.IMREAD_UNCHANGED)
    assert published is not None
    (target,) = analysis_targets([picture], tmp_path / "out")
    result = analyze(target, AnalysisSettings())
    assert result.notes[0].startswith("no temperatures")
    with np.load(tmp_path / "out" / "parts.npz") as archive:
        squashed = cv2.resize(archive["parts"], published.shape[::-1], interpolation=cv2.INTER_NEAREST)
    assert overlap(published > 0, squashed > 0) >= 0.8
    with (tmp_path / "out" / "parts.csv").open(newline="") as file:
        assert {row["mean_celsius"] for row in csv.DictReader(file)} == {""}
