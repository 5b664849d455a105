"""The whole service, put together: what goes in at the camera comes out at database, broker, recording and page."""

import json
import logging
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from daemon import app
from daemon.app import Outcome, Service, ServiceError, run_service
from daemon.health import ServiceManager
from daemon.messaging.broker import EmbeddedBroker
from daemon.messaging.probe import probe_broker
from daemon.settings import Settings
from daemon.signals import Signals
from daemon.status import Verdict, status_line
from daemon.web.server import WebServer
from drivers.camera import ThermalCamera
from drivers.clock import SystemClock
from drivers.errors import ConfigError, VivariumError
from drivers.frame import ThermalFrame
from drivers.recording import Recording
from drivers.scene import Scene
from drivers.simulated import SimulatedCamera, SimulatedDevice
from drivers.vivarium.incidents import Incident, IncidentKind
from tests.databases import change
from tests.models import write_model

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.test_daemon.conftest import Subscriber

    Subscribe = Callable[[int], Subscriber]

DEADLINE_S = 30.0
POLL_S = 0.02
STOP_WITHIN_S = 30.0
"""Only against hanging, since the clock also counts what other programs take; tests/faults holds the 5 s."""
PNG = b"\x89PNG\r\n\x1a\n"


def eventually(condition: Callable[[], Any], what: str) -> None:
    """Wait for something that runs by itself."""
    deadline, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        pause.wait(POLL_S)


def started_a_moment_ago() -> str:
    """Clock time, in UTC, of a block that began two seconds ago."""
    return f"{datetime.fromtimestamp(time.time() - 2, UTC):%H:%M:%S}"


MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    """Settings of a service in a block that has just begun; `changes` name whole sections."""
    begin = started_a_moment_ago()

    def make(**changes: Any) -> Settings:
        sections: dict[str, Any] = {
            "box": {"data_dir": tmp_path / "data", "time_zone": "UTC"},
            "schedule": {"rate_hz": 5, "block_minutes": 20, "strata": {"now": [begin]}},
            "mqtt": {"enabled": False},
            "web": {"port": 0},
        }
        return Settings.model_validate({**sections, **changes})

    return make


@pytest.fixture(autouse=True)
def the_log_is_left_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


class Running:
    """A service whose main thread is one of ours."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.service = Service(settings, **options)
        self.signals = Signals()
        self.load: Callable[[], Settings] = lambda: settings
        self.ended: tuple[Outcome, Settings] | None = None
        self.error: Exception | None = None
        self.stop_s = 0.0
        """How long the stop took."""
        self._data_dir = settings.box.data_dir
        self._thread = threading.Thread(target=self._supervise, name="supervisor")

    def _supervise(self) -> None:
        try:
            self.ended = self.service.supervise(self.signals, lambda: self.load())
        except ServiceError as error:
            self.error = error

    def __enter__(self) -> "Running":
        self.service.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        start = time.monotonic()
        self.signals.receive(signal.SIGTERM)
        self._thread.join(DEADLINE_S)
        self.service.__exit__(None, None, None)
        self.stop_s = time.monotonic() - start

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database from outside."""
        return rows(self._data_dir, statement)

    def get(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body of a page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.service.web_port}{path}", timeout=DEADLINE_S) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()

    def post(self, path: str, words: Mapping[str, str]) -> int:
        """Status of the answer to a command given on the page."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.service.web_port}{path}",
            json.dumps(words).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            status: int = answer.status
            return status

    def reload(self, load: Callable[[], Settings]) -> None:
        """As SIGHUP does; returns when the service has looked at the config."""
        looked = threading.Event()

        def loading() -> Settings:
            looked.set()
            return load()

        self.load = loading
        self.signals.receive(signal.SIGHUP)
        assert looked.wait(DEADLINE_S)


def rows(data_dir: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(data_dir / "vivarium.db", timeout=DEADLINE_S)) as connection:
        return connection.execute(statement).fetchall()


def test_what_the_camera_sees_is_stored_published_recorded_and_shown(
    make_settings: MakeSettings, free_port: int, subscribe: "Subscribe", caplog: pytest.LogCaptureFixture
) -> None:
    device = SimulatedDevice(clock=SystemClock(), seed=3)
    settings = make_settings(mqtt={"broker": "embedded", "port": free_port})
    with Running(settings, open_camera=lambda: SimulatedCamera(device, clock=SystemClock())) as running:
        subscriber = subscribe(free_port)
        eventually(lambda: running.rows("SELECT 1 FROM part_observation"), "rows")
        eventually(lambda: len(subscriber.payloads("vivarium/box1/observation")) >= 5, "observations")
        observation = json.loads(subscriber.payloads("vivarium/box1/observation")[0])
        assert [part["part"] for part in observation["animals"][0]["parts"]] == ["head", "body", "tail"]
        eventually(lambda: subscriber.payloads("vivarium/box1/animal/1"), "the animal")
        eventually(lambda: subscriber.payloads("vivarium/box1/block"), "the block")
        eventually(lambda: subscriber.payloads("vivarium/box1/health"), "the health")

        (part,) = running.service.settings.recordings_dir.rglob("*.part.mkv")
        size_bytes = part.stat().st_size
        eventually(lambda: part.stat().st_size > size_bytes, "the recording grows")

        status = running.service.status()
        # The service came into a block that had begun without it, and says so. A busy machine is slow besides.
        assert {reason.code for reason in status.reasons} - {"networks_slow"} == {"low_coverage"}
        assert (status.verdict, status.camera.state, status.mqtt.state) == (Verdict.LOOK, "running", "connected")
        assert 5 < status.camera.frames_per_second < 26
        assert status.animals[0].head_celsius is not None
        assert 30 < status.animals[0].head_celsius < 40
        assert status.block.key is not None
        assert status.block.planned == 6000
        assert status.store.frames > 0

        code, kind, page = running.get("/")
        assert (code, kind.partition(";")[0]) == (200, "text/html")
        assert b"<html" in page
        assert json.loads(running.get("/api/status")[2])["camera"]["serial"] == "SIM00003"
        assert running.get("/api/live.png")[2].startswith(PNG)
        assert json.loads(running.get("/healthz")[2]) == {"verdict": "look"}

        closed = len(subscriber.payloads("vivarium/box1/event/camera_found"))
        device.unplug()
        eventually(lambda: subscriber.payloads("vivarium/box1/event/camera_lost"), "the loss")
        assert running.service.status().verdict is Verdict.ACT
        device.plug()
        eventually(lambda: subscriber.payloads("vivarium/box1/event/camera_found")[closed:], "the return")
        (lost,) = {
            json.loads(payload)["event_id"] for payload in subscriber.payloads("vivarium/box1/event/camera_lost")
        }
        found = json.loads(subscriber.payloads("vivarium/box1/event/camera_found")[-1])
        assert found["opened_event_id"] == lost
        eventually(lambda: running.service.status().verdict is Verdict.LOOK, "nobody has to act any more")
    assert running.ended is not None
    assert running.ended[0] is Outcome.STOPPED
    assert running.stop_s < STOP_WITHIN_S
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def has_banner(png: bytes | None) -> bool:
    """Whether a live picture has the coloured bar at its lower edge."""
    assert png is not None
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return bool((picture[-1] == picture[-1, 0]).all() and picture[-1, 0].max() > 200)


def test_a_clean_stop_leaves_a_closed_recording_and_an_ended_run(make_settings: MakeSettings) -> None:
    settings = make_settings()
    with Running(settings) as running:
        eventually(lambda: running.service.status().store.frames >= 10, "rows")
        assert not has_banner(running.service.live.picture())
        assert running.post("/api/maintenance", {"action": "begin", "reason": "weighing", "by": "Ana"}) == 200
        assert has_banner(running.service.live.picture())
        assert running.service.status().maintenance[0].by == "Ana"
        later = "SELECT 1 FROM frame, maintenance WHERE captured_utc_ns > start_utc_ns"
        eventually(lambda: running.rows(later), "a frame of the time of maintenance")
    assert running.stop_s < STOP_WITHIN_S
    newest = "SELECT max(minute_utc_ns) FROM minute_value"
    of_work = f"SELECT DISTINCT value, coverage FROM minute_value WHERE minute_utc_ns = ({newest})"
    assert running.rows(of_work) == [(None, 0.0)], "the minute in which the animal was weighed counts for nothing"
    (path,) = settings.recordings_dir.rglob("*.mkv")
    with Recording(path) as recording:
        recording.verify()
        assert recording.sidecar is not None
        captured = recording.sidecar.captured
    stored = "SELECT count(*) FROM planned_sample WHERE frame_id IS NOT NULL"
    assert running.rows(stored) == [(captured,)]
    assert running.rows("SELECT frames, state FROM recording") == [(captured, "complete")]
    assert running.rows("SELECT end_reason FROM run WHERE ended_utc_ns IS NOT NULL") == [("stopped",)]
    assert running.rows("SELECT state FROM block") == [("open",)]  # a restart within it goes on with it


def test_events_reach_a_subscriber_that_was_there_before(
    make_settings: MakeSettings, mosquitto: "Mosquitto", subscribe: "Subscribe"
) -> None:
    subscriber = subscribe(mosquitto.port)
    with Running(make_settings(mqtt={"broker": "external", "port": mosquitto.port})) as running:
        eventually(lambda: len(subscriber.payloads("vivarium/box1/event/")) == 2, "the events of the start")
        events = [json.loads(payload) for payload in subscriber.payloads("vivarium/box1/event/")]
        assert {event["kind"] for event in events} == {"block_started", "camera_found"}
        assert {event["event_id"] for event in events} == {row[0] for row in running.rows("SELECT event_id FROM event")}
    # The service is gone when the broker has the last word, and that is on its way to the subscriber.
    eventually(lambda: len(subscriber.payloads("vivarium/box1/status")) == 2, "the last word")
    states = [json.loads(payload)["state"] for payload in subscriber.payloads("vivarium/box1/status")]
    assert states == ["online", "offline"]


def test_a_restart_notes_how_long_nobody_was_there(make_settings: MakeSettings) -> None:
    settings = make_settings()
    for _ in range(2):
        with Running(settings) as running:
            eventually(lambda: running.service.live.newest is not None, "a measured frame")
    ((start_ns, end_ns),) = running.rows("SELECT start_utc_ns, end_utc_ns FROM gap WHERE reason = 'service_down'")
    ((stopped_ns,),) = running.rows("SELECT ended_utc_ns FROM run WHERE id = 1")
    ((found_ns,),) = running.rows("SELECT max(at_utc_ns) FROM event WHERE kind = 'camera_found'")
    assert (start_ns, end_ns) == (stopped_ns, found_ns)


def test_after_a_restart_within_a_block_an_animal_has_no_second_latency(make_settings: MakeSettings) -> None:
    whole = {"name": "box", "kind": "other", "polygon": [[0, 0], [255, 0], [255, 191], [0, 191]]}
    settings = make_settings(zone=[whole], recording={"enabled": False}, web={"enabled": False})
    told = "SELECT count(*) FROM minute_value WHERE measure = 'zone_box_latency_s'"
    seen = (
        "SELECT count(DISTINCT captured_utc_ns / 1000000000) FROM frame JOIN part_observation ON frame_id = frame.id"
        " WHERE animal = 1 AND run_id = (SELECT max(id) FROM run)"
    )
    for latencies in (1, 0):
        with Running(settings) as running:
            eventually(lambda: running.rows(seen)[0][0] >= 4, "an animal that is known for some seconds")
        assert running.rows(told) == [(latencies,)]
        assert running.rows("SELECT count(*) > 0 FROM minute_value WHERE measure = 'zone_box_share'") == [(1,)]
        change(settings.database_url, "DELETE FROM minute_value")  # else what is there of this minute would stay


def test_a_second_service_on_the_same_data_is_refused(make_settings: MakeSettings) -> None:
    settings = make_settings(recording={"enabled": False}, web={"enabled": False})
    with Running(settings), pytest.raises(ConfigError, match=r"box\.data_dir: .* in use by another service"):
        Service(settings).__enter__()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"schedule": {"strata": {"a": ["10:00", "10:10"]}}}, "overlap", id="plan"),
        pytest.param({"database": {"url": "nonsense"}}, r"database\.url", id="database"),
        pytest.param({"box": {"data_dir": "/dev/null/data"}}, r"box\.data_dir: .* cannot be made", id="directory"),
        pytest.param(
            {"camera": {"kind": "replay", "replay": {"path": "/nowhere/rat.png"}}}, r"camera\.replay: .*", id="material"
        ),
        pytest.param({"mqtt": {"host": "0.0.0.0"}}, "would listen on 0.0.0.0 without a password", id="open broker"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(
    make_settings: MakeSettings, changes: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message), Service(make_settings(**changes)):
        pass


def test_a_web_port_that_is_taken_is_told_and_the_animals_are_watched_all_the_same(
    make_settings: MakeSettings, free_port: int, subscribe: "Subscribe", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "WebServer", partial(WebServer, retry_s=0.05))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        why = f"web.port: cannot listen on 127.0.0.1:{port}: Address already in use"
        with Running(make_settings(web={"port": port}, mqtt={"port": free_port})) as running:
            health = partial(subscribe(free_port).payloads, "vivarium/box1/health")
            eventually(lambda: running.rows("SELECT 1 FROM part_observation"), "measurements")
            eventually(health, "the health")
            assert json.loads(health()[0])["no_page"].startswith(why)
            eventually(lambda: running.service.status().mqtt.state == "connected", "the broker")
            status = running.service.status()
            assert status.verdict is Verdict.LOOK
            assert f"there is no status page: {why}" in status_line(status)
            other.close()
            eventually(lambda: "status page" not in status_line(running.service.status()), "the page")
            assert running.get("/api/status")[0] == 200


def test_the_embedded_broker_asks_for_the_configured_password(make_settings: MakeSettings, free_port: int) -> None:
    settings = make_settings(mqtt={"port": free_port, "username": "box"})
    with Running(settings, mqtt_password="secret") as running:
        eventually(lambda: running.service.status().mqtt.state == "connected", "the service itself comes in")
        stranger = Settings.model_validate({"mqtt": {"port": free_port}}).mqtt
        with pytest.raises(VivariumError, match="refuses"):
            probe_broker(stranger, password=None, box="stranger")


def test_a_new_limit_is_in_force_without_interruption_and_belongs_to_a_run_of_its_own(
    make_settings: MakeSettings,
) -> None:
    with Running(make_settings()) as running:
        eventually(lambda: running.rows("SELECT 1 FROM frame"), "rows")
        new = make_settings(alerts={"too_hot": {"celsius": 25, "duration_s": 0}, "too_cold": {"celsius": 20}})
        running.reload(lambda: new)
        eventually(
            lambda: running.rows("SELECT 1 FROM event WHERE kind = 'animal_too_hot'"), "an alert by the new limit"
        )
        assert running.service.settings == new
        assert running.service.status().verdict is Verdict.ACT
    assert running.ended is not None
    assert running.ended[0] is Outcome.STOPPED
    assert running.rows("SELECT count(*) FROM event WHERE kind = 'camera_lost'") == [(0,)]
    runs = running.rows("SELECT id, config_hash, end_reason FROM run ORDER BY id")
    assert [end for _, _, end in runs] == ["reloaded", "stopped"]
    assert runs[1][1] == new.config_hash()
    assert running.rows("SELECT run_id FROM event WHERE kind = 'animal_too_hot'") == [(runs[1][0],)]


def test_a_rising_temperature_and_a_lost_camera_are_told_with_pictures_that_the_page_has(
    make_settings: MakeSettings, free_port: int, subscribe: "Subscribe", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.frame_condition.UPDATE_S", 0.5)
    device = SimulatedDevice(clock=SystemClock(), seed=3)
    settings = make_settings(
        mqtt={"broker": "embedded", "port": free_port},
        alerts={"too_hot": {"celsius": 30, "duration_s": 1}, "too_cold": {"celsius": 20}},
    )

    def heard(kind: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in subscriber.payloads(f"vivarium/box1/event/{kind}")]

    with Running(settings, open_camera=lambda: SimulatedCamera(device, clock=SystemClock())) as running:
        subscriber = subscribe(free_port)
        eventually(lambda: running.rows("SELECT 1 FROM event WHERE kind = 'animal_too_hot'"), "an alert")
        fever = Incident(kind=IncidentKind.FEVER, animal=1, start_utc_s=0.0, duration_s=math.inf, celsius=2.0)
        device.show(Scene(3, 1, script=[fever]))
        eventually(lambda: [each for each in heard("animal_too_hot") if each["state"] == "updated"], "that it is worse")
        opened = next(each for each in heard("animal_too_hot") if each["state"] == "opened")
        updated = next(each for each in heard("animal_too_hot") if each["state"] == "updated")
        assert updated["opened_event_id"] == opened["event_id"]
        assert updated["data"]["worst_excess"] > opened["data"]["worst_excess"] + 0.3
        assert (updated["data"]["reason"], updated["data"]["rule"]) == ("worse", "animal_too_hot")
        for event in (opened, updated):
            assert 0 < event["data"]["coverage"] <= 1
            for name in ("plot", "frame_1"):
                assert (settings.box.data_dir / event["data"][name]).read_bytes().startswith(PNG)
                assert running.get(f"/api/evidence/{event['event_id']}/{name}")[2].startswith(PNG)
        [shown] = json.loads(running.get("/api/status")[2])["open_events"]
        assert {"plot", "frame_1"} <= set(shown["pictures"])
        assert all(running.get(f"/api/evidence/{shown['evidence']}/{each}")[0] == 200 for each in shown["pictures"])

        device.unplug()
        eventually(lambda: heard("camera_lost"), "the loss")
        [lost] = heard("camera_lost")
        assert "unplugged" in lost["data"]["why"]
        assert lost["data"]["value"] >= 0 and lost["data"]["good_frames"] > 0
        assert running.get(f"/api/evidence/{lost['event_id']}/frame_1")[2].startswith(PNG), "the last good frame"
        assert running.get(f"/api/evidence/{lost['event_id']}/plot")[2].startswith(PNG)
        device.plug()
        eventually(lambda: [each for each in heard("camera_found") if each["state"] == "closed"], "the return")
        [found] = [each for each in heard("camera_found") if each["state"] == "closed"]
        assert (found["opened_event_id"], found["data"]["step"]) == (lost["event_id"], "reopen")
    with Running(settings, open_camera=lambda: SimulatedCamera(device, clock=SystemClock())) as running:
        eventually(lambda: running.service.status().store.frames, "frames after a restart")
        eventually(lambda: running.service.status().animals, "an animal after a restart")
        patient_ns = time.time_ns() + 3 * 10**9
        eventually(lambda: running.rows(f"SELECT 1 FROM frame WHERE captured_utc_ns > {patient_ns}"), "3 s of it")
    opened_rows = running.rows("SELECT event_id FROM event WHERE kind = 'animal_too_hot' AND state = 'opened'")
    assert opened_rows == [(opened["event_id"],)], "after a restart it is the same event"


def test_another_rule_for_an_event_of_frames_holds_after_a_reload_for_what_is_open(make_settings: MakeSettings) -> None:
    now = datetime.now(UTC)
    quiet = [f"{now + timedelta(hours=hours):%H:%M}" for hours in (-2, 2)]
    hot: dict[str, Any] = {"name": "animal_too_hot", "value": 25, "for_minutes": 0}
    sections: dict[str, Any] = {"alerts": {"too_cold": {"celsius": 20}}, "rules": {"quiet_hours": quiet}}
    told = "SELECT state, severity FROM event WHERE kind = 'animal_too_hot' AND state != 'closed' ORDER BY id"
    with Running(make_settings(rule=[hot], **sections)) as running:
        eventually(lambda: running.rows(told), "an event")
        new = make_settings(rule=[{**hot, "quiet": False}], **sections)
        running.reload(lambda: new)
        eventually(lambda: running.ended is not None, "the end of the parts")
    assert running.ended == (Outcome.RELOAD, new)
    assert running.rows(told) == [("opened", "notice")]
    with Running(new) as again:
        eventually(lambda: len(again.rows(told)) > 1, "that it is told at its severity")
        shown = json.loads(again.get("/api/status")[2])["open_events"]
    assert again.rows(told) == [("opened", "notice"), ("updated", "alert")]
    assert [each["severity"] for each in shown if each["kind"] == "animal_too_hot"] == ["alert"]


def test_a_wrong_config_is_refused_and_the_old_one_stays(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    def unreadable() -> Settings:
        raise ConfigError("config.toml: camera.knid: unknown key")

    def said(what: str, times: int) -> bool:
        return caplog.text.count(what) == times

    settings = make_settings()
    overlapping = make_settings(schedule={"strata": {"a": ["10:00", "10:10"]}}, measure={"outside_rate_hz": 1})
    with Running(settings) as running:
        for refusals, load in enumerate((unreadable, lambda: overlapping), start=1):
            running.reload(load)
            eventually(partial(said, "is refused, the old one stays in force", refusals), "a refusal")
        assert "camera.knid: unknown key" in caplog.text
        assert running.service.settings == settings
        frames = running.service.store.counts().frames
        eventually(lambda: running.service.store.counts().frames > frames, "rows go on")
    assert running.rows("SELECT count(*) FROM run") == [(1,)]


def test_another_camera_needs_the_parts_anew(make_settings: MakeSettings) -> None:
    new = make_settings(camera={"simulated": {"seed": 9}})
    with Running(make_settings()) as running:
        running.reload(lambda: new)
        eventually(lambda: running.ended is not None, "the end")
    assert running.ended == (Outcome.RELOAD, new)


def test_models_are_checked_before_the_parts_start_anew_and_a_bad_one_changes_only_itself(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    unet = {"unet": str(write_model(tmp_path / "unet.onnx")), "panoptic": "off", "provider": "cpu", "threads": 1}
    bad = {**unet, "unet": str(tmp_path / "bad.onnx")}
    wanted = make_settings(vision=bad, measure={"outside_rate_hz": 1})
    with Running(make_settings(vision=unet)) as running:
        running.reload(lambda: wanted)
        eventually(lambda: running.ended is not None, "the end")
        handed_over, before = running.service.handed_over, running.service.networks
    new = make_settings(vision=unet, measure={"outside_rate_hz": 1})
    assert running.ended == (Outcome.RELOAD, new)
    assert handed_over is not None
    assert before is not None
    assert handed_over.segmenter is not None
    assert handed_over.segmenter is before.segmenter
    assert "bad.onnx" in str(handed_over.refused)
    (tmp_path / "unet.onnx").unlink()  # what is warm is not read again
    with Running(new, networks=handed_over) as anew:
        status = anew.service.status()
        assert status.vision.models == handed_over.segmenter.hashes
        assert "model_refused" in [reason.code for reason in status.reasons]
        eventually(lambda: anew.rows("SELECT 1 FROM frame WHERE run_id = 2 AND segmenter = 'thresholds-1'"), "rows")


class Hanging(SimulatedCamera):
    """A camera whose driver does not return, until it is let go."""

    def __init__(self, device: SimulatedDevice) -> None:
        super().__init__(device, clock=SystemClock())
        self.hang, self.hangs, self.let_go = threading.Event(), threading.Event(), threading.Event()

    def read(self, timeout_s: float) -> ThermalFrame:
        """See `ThermalCamera`."""
        if self.hang.is_set():
            self.hangs.set()
            self.let_go.wait(DEADLINE_S)
        return super().read(timeout_s)


def test_systemd_hears_of_the_start_and_the_stop_and_its_watchdog_starves_while_a_thread_hangs(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("daemon.app.STALLED_AFTER_S", 5.0)
    camera = Hanging(SimulatedDevice(clock=SystemClock()))
    opened: list[ThermalCamera] = [camera]
    with NotifySocket(tmp_path / "notify") as systemd:
        manager = ServiceManager(str(tmp_path / "notify"))
        with Running(make_settings(), manager=manager, open_camera=lambda: opened[0]) as running:
            systemd.wait_for("READY=1")
            systemd.wait_for("STATUS=")
            systemd.wait_for("WATCHDOG=1")
            camera.hang.set()
            eventually(lambda: "no progress: capture" in caplog.text, "the stall is noticed")
            fed = systemd.count("WATCHDOG=1")
            threading.Event().wait(2.5)
            assert systemd.count("WATCHDOG=1") == fed
            assert caplog.text.count("no progress") == 1
            camera.hang.clear()
            camera.let_go.set()
            eventually(lambda: systemd.count("WATCHDOG=1") > fed, "it is fed again")
            running.reload(lambda: running.service.settings)
            systemd.wait_for("RELOADING=1")
            eventually(lambda: systemd.count("READY=1") == 2, "ready again")
        systemd.wait_for("STOPPING=1")


def test_no_service_takes_the_place_of_one_whose_driver_does_not_return(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.threads.STOP_S", 0.5)
    monkeypatch.setattr("daemon.threads.LEFT_S", 0.5)
    camera = Hanging(SimulatedDevice(clock=SystemClock()))
    with Running(make_settings(), open_camera=lambda: camera) as running:
        eventually(lambda: running.service.status().camera.frames_per_second > 0, "frames")
        camera.hang.set()
        assert camera.hangs.wait(DEADLINE_S)
    with pytest.raises(ServiceError, match="does not stop: capture; start the service anew"):
        running.service.await_threads()
    monkeypatch.setattr("daemon.threads.LEFT_S", DEADLINE_S)
    camera.let_go.set()
    running.service.await_threads()


def test_a_part_that_fails_ends_the_service_with_its_name(make_settings: MakeSettings) -> None:
    def broken() -> ThermalCamera:
        raise ZeroDivisionError

    with Running(make_settings(), open_camera=broken) as running:
        eventually(lambda: running.error is not None, "the end")
    assert str(running.error) == "failed: capture: ZeroDivisionError"


class NotifySocket:
    """What systemd listens on; everything that came is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._heard: list[str] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._hear, name="notify-socket")

    def __enter__(self) -> "NotifySocket":
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(0.1)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def _hear(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                self._heard += self._socket.recv(8192).decode().split("\n")

    def count(self, start: str) -> int:
        """How many messages so far have a line that begins so."""
        return sum(line.startswith(start) for line in list(self._heard))

    def wait_for(self, start: str, times: int = 1) -> None:
        """Until so many came."""
        eventually(lambda: self.count(start) >= times, f"{start} {times} times, heard {self._heard}")


class Command:
    """`vivarium run` as systemd starts it."""

    def __init__(self, folder: Path, text: str) -> None:
        self.config = folder / "config.toml"
        self.config.write_text(text)
        self.data_dir = folder / "data"
        self.systemd = NotifySocket(folder / "notify")
        self._log = folder / "log"

    def __enter__(self) -> "Command":
        self.systemd.__enter__()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daemon", "run", "--config", self.config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
                env={**os.environ, "NOTIFY_SOCKET": str(self.systemd.path)},
            )
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        self.systemd.__exit__()

    @property
    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text()

    def hang_up(self, text: str, answer: str) -> None:
        """Change the config, send SIGHUP and wait for the line of the log that answers."""
        self.config.write_text(text)
        before = self.log.count(answer)
        self.process.send_signal(signal.SIGHUP)
        eventually(lambda: self.log.count(answer) > before, f"{answer!r} in the log: {self.log[-3000:]}")


CONFIG = """
[box]
data_dir = "data"
time_zone = "UTC"
[schedule]
rate_hz = 5
[schedule.strata]
now = ["{begin}"]
[mqtt]
enabled = false
[web]
enabled = false
"""


def test_the_command_starts_reloads_and_stops_as_systemd_wants_it(tmp_path: Path) -> None:
    text = CONFIG.format(begin=started_a_moment_ago())
    with Command(tmp_path, text) as command:
        command.systemd.wait_for("READY=1")
        command.systemd.wait_for("WATCHDOG=1")
        eventually(lambda: rows(command.data_dir, "SELECT 1 FROM frame"), "rows")
        command.hang_up(text + "[camara]\n", "did you mean 'camera'")
        limits = "[alerts.too_hot]\ncelsius = 25\nduration_s = 0\n[alerts.too_cold]\ncelsius = 20\n"
        command.hang_up(text + limits, "the config was read again")
        eventually(lambda: rows(command.data_dir, "SELECT 1 FROM event WHERE kind = 'animal_too_hot'"), "the alert")
        assert rows(command.data_dir, "SELECT count(*) FROM run") == [(2,)]
        command.hang_up(text + "[measure]\noutside_rate_hz = 1\n", "needs a restart of the parts")
        eventually(lambda: rows(command.data_dir, "SELECT count(*) FROM run") == [(3,)], "a new run")
        ready = command.systemd.count("READY=1")
        unusable = text.replace("[mqtt]\nenabled = false", '[mqtt]\nhost = "0.0.0.0"')
        command.hang_up(unusable, "the new config does not start, back to the old one")
        eventually(lambda: command.systemd.count("READY=1") > ready, "ready with the old config")
        frames = rows(command.data_dir, "SELECT max(id) FROM frame")
        eventually(lambda: rows(command.data_dir, "SELECT max(id) FROM frame") > frames, "rows go on")
        start = time.monotonic()
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(DEADLINE_S) == 0, command.log
        assert time.monotonic() - start < STOP_WITHIN_S
        command.systemd.wait_for("STOPPING=1")
    assert "Traceback" not in command.log
    assert list((command.data_dir / "recordings").rglob("*.part*")) == []
    assert rows(command.data_dir, "SELECT count(*) FROM run WHERE ended_utc_ns IS NULL") == [(0,)]
    assert rows(command.data_dir, "PRAGMA integrity_check") == [("ok",)]


def test_a_wrong_config_at_the_start_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with Command(tmp_path, "[camera]\nknid = 1\n") as command:
        assert command.process.wait(DEADLINE_S) == 2
    assert "camera.knid: unknown key; did you mean 'kind'" in command.log
    assert "Traceback" not in command.log


def test_the_end_of_the_material_ends_the_service(tmp_path: Path, make_settings: MakeSettings) -> None:
    with Running(make_settings(schedule={"strata": {}}, measure={"outside_rate_hz": 25})) as running:
        eventually(lambda: running.service.live.newest is not None, "a frame")
        newest = running.service.live.newest
        assert newest is not None
    np.save(tmp_path / "raw.npy", np.stack([newest[0].transfer] * 3))
    config = tmp_path / "config.toml"
    config.write_text(
        '[box]\ndata_dir = "replay"\n[camera]\nkind = "replay"\n[camera.replay]\npath = "raw.npy"\nloop = false\n'
        "[measure]\noutside_rate_hz = 25\n[mqtt]\nenabled = false\n[web]\nenabled = false\n"
    )
    assert run_service(config, {}) is Outcome.MATERIAL_OVER
    assert rows(tmp_path / "replay", "SELECT count(*) > 0 FROM frame") == [(1,)]


def test_the_embedded_broker_is_not_started_for_an_external_one(make_settings: MakeSettings, free_port: int) -> None:
    settings = make_settings(mqtt={"broker": "external", "port": free_port})
    with EmbeddedBroker("127.0.0.1", free_port), Running(settings) as running:
        eventually(lambda: running.service.status().mqtt.state == "connected", "the connection")
