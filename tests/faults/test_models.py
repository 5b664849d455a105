"""The running service with networks that are slow, fail, are bad or are exchanged: capture never notices."""

import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from daemon.messaging.ask import give_command
from daemon.sampling import OVERRUN
from daemon.settings import Settings
from daemon.status import Verdict
from daemon.store.repository import Store
from daemon.vision import resilient
from daemon.vision.segmenter import THREAD_NAME, Hardware, Model, load_model
from drivers.errors import StoreError
from tests.models import BrokenGpu, write_model

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.faults.conftest import Eventually, MakeService, MakeSettings, RunningService

SLOW_S = 0.5
"""At five samples a second three to ten times too slow for all, on this machine or one three times as fast or slow."""

PUBLISHED_ORDER = ["background", "tail", "body", "head"]


@pytest.fixture(autouse=True)
def the_log_is_left_as_it_was() -> Iterator[None]:
    """A config that is read again sets up the log."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    """A good model."""
    return write_model(tmp_path / "unet.onnx")


@pytest.fixture
def settings(make_settings: "MakeSettings", unet: Path) -> Settings:
    """Of a service with that model on one thread."""
    return make_settings(vision=with_model(unet), recording={"enabled": False})


def with_model(unet: Path | str) -> dict[str, Any]:
    """The section of a config with one network."""
    return {"unet": str(unet), "panoptic": "off", "provider": "cpu", "threads": 1}


def steps_for(seconds: float, folder: Path) -> int:
    """So many steps of the delay take so long here."""
    steps = 20
    model = load_model(write_model(folder / "timed.onnx", slow_steps=steps), Hardware(provider="cpu", threads=1))
    start = time.perf_counter()
    model.run(np.full((1, 192, 256), 30, np.float32))
    return max(1, round(steps * seconds / (time.perf_counter() - start)))


def mode(running: "RunningService") -> str:
    return running.service.status().vision.mode


def hashes(running: "RunningService") -> list[dict[str, str]]:
    """Of the models of each run, in the order of the runs."""
    return [json.loads(row[0]) for row in running.evidence.rows("SELECT models_json FROM run ORDER BY id")]


def events(running: "RunningService") -> list[tuple[str, dict[str, Any]]]:
    """What was told of the networks: state and evidence."""
    rows = running.evidence.rows("SELECT state, data_json FROM event WHERE kind = 'vision_degraded' ORDER BY id")
    return [(state, json.loads(data)) for state, data in rows]


def measured_by_part(running: "RunningService", since: int) -> int:
    """Rows of parts of frames after one."""
    return int(running.evidence.rows("SELECT count(*) FROM part_observation WHERE frame_id > ?", since)[0][0])


def reload_by_signal(running: "RunningService") -> None:
    running.signals.receive(signal.SIGHUP)


def nothing_gave_way(running: "RunningService") -> bool:
    """Whether no planned moment is missing because measuring took too long."""
    became = set(running.evidence.planned().values())
    return "captured" in became and OVERRUN not in became


def test_the_networks_measure_and_the_run_names_their_file(
    settings: Settings, unet: Path, make_service: "MakeService", eventually: "Eventually"
) -> None:
    sha256 = load_model(unet, Hardware(provider="cpu")).sha256
    with make_service(settings) as running:
        assert mode(running) == "networks"  # warm before the first frame
        eventually(lambda: measured_by_part(running, 0) > 5, "measured frames")
        status = running.service.status()
        assert (status.vision.segmenter, status.vision.provider) == ("thresholds-1", "cpu")
        assert status.vision.models == {"unet": sha256}
        assert status.vision.frame_ms is not None
        assert running.evidence.rows("SELECT segmenter FROM run") == [("thresholds-1",)]
        assert hashes(running) == [{"unet": sha256}]
    assert events(running) == []


def test_a_slow_network_measures_some_frames_and_capture_goes_on(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    eventually: "Eventually",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # However slow this machine makes it, it is waited for and not given up: that is another test's.
    monkeypatch.setattr("daemon.reload.WARM_UP_S", 60.0)
    monkeypatch.setattr(resilient, "MOST_EVERY", 1000)
    monkeypatch.setattr(resilient, "RUN_LIMIT_S", 60.0)
    slow = write_model(tmp_path / "slow.onnx", slow_steps=steps_for(SLOW_S, tmp_path))
    settings = make_settings(vision=with_model(slow), recording={"enabled": False})
    with make_service(settings) as running:
        eventually(lambda: mode(running) == "thinned", "frames are left out", 90)  # on a machine that does other things
        since, captured = running.evidence.newest_frame(), running.service.status().camera.frames
        eventually(lambda: running.evidence.newest_frame() > since + 15, "frames are stored")
        rows = running.evidence.rows("SELECT not_measured FROM frame WHERE id > ?", since)
        assert {row[0] for row in rows} == {None, "model_slow"}
        status = running.service.status()
        assert status.camera.frames > captured + 30  # 25 a second, of which 5 are measured
        assert status.verdict is Verdict.LOOK
        assert [reason.code for reason in status.reasons if reason.code != "low_coverage"] == ["networks_slow"]
        write_model(slow, head_celsius=32.0)
        reload_by_signal(running)
        eventually(lambda: mode(running) == "networks", "the quick network")
        eventually(lambda: events(running)[-1][0] == "closed", "the last event")
        assert nothing_gave_way(running)
        left_out = running.evidence.rows("SELECT count(*) FROM frame WHERE not_measured = 'model_slow'")[0][0]
        assert running.service.status().vision.left_out == left_out
    told = [each for each in events(running) if each[0] != "updated"]  # where the machine makes another n of it
    assert [state for state, _ in told] == ["opened", "closed"] * (len(told) // 2)
    assert {evidence["mode"] for state, evidence in told if state == "opened"} == {"thinned"}
    assert all(evidence["one_frame_of"] > 1 for state, evidence in told if state == "opened")


def test_a_failing_network_gives_way_and_comes_back_by_itself(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    eventually: "Eventually",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resilient, "FIRST_RETRY_S", 1.0)
    failing = write_model(tmp_path / "failing.onnx", fails_above_celsius=33.0)  # as warm as the head of the rat
    settings = make_settings(vision=with_model(failing), recording={"enabled": False})
    with make_service(settings) as running:
        eventually(lambda: mode(running) == "classical", "the AI-free path")
        since = running.evidence.newest_frame()
        eventually(lambda: measured_by_part(running, since) > 5, "frames are measured by their warmth")
        status = running.service.status()
        assert status.verdict is Verdict.ACT
        assert "networks_away" in [reason.code for reason in status.reasons]
        assert [state for state, _ in events(running)] == ["opened"]
        rows = running.evidence.rows("SELECT not_measured, count(*) FROM frame GROUP BY not_measured")
        assert dict(rows).get("error", 0) == resilient.MOST_FAILURES - 1
        # The rat cools down: nothing fails any more, and no one has to say so.
        monkeypatch.setattr(
            "daemon.vision.segmenter._without_infinities", lambda celsius: np.minimum(celsius, np.float32(32))
        )
        eventually(lambda: mode(running) == "networks", "the network again")
        eventually(lambda: [state for state, _ in events(running)] == ["opened", "closed"], "the end of it is told")
        assert nothing_gave_way(running)
        assert len(hashes(running)) == 1


def test_a_bad_model_is_refused_and_the_old_one_stays(
    settings: Settings,
    unet: Path,
    make_service: "MakeService",
    eventually: "Eventually",
    caplog: pytest.LogCaptureFixture,
) -> None:
    with make_service(settings) as running:
        eventually(lambda: measured_by_part(running, 0) > 0, "measured frames")
        before = hashes(running)
        write_model(unet, labels=PUBLISHED_ORDER)
        reload_by_signal(running)
        eventually(lambda: "the new model is refused" in caplog.text, "the refusal")
        assert "expected the order background, head, body, tail, got background, tail, body, head" in caplog.text
        since = running.evidence.newest_frame()
        eventually(lambda: measured_by_part(running, since) > 5, "the old network goes on")
        assert mode(running) == "networks"
        assert hashes(running) == before
        write_model(unet, head_celsius=32.0)
        reload_by_signal(running)
        eventually(lambda: len(hashes(running)) == 2, "a run with the new network")
        last, new = before[0], hashes(running)[1]
        assert new != last
        eventually(lambda: running.service.status().vision.models == new, "the new network")
        assert nothing_gave_way(running)
    assert events(running) == []


def test_a_command_exchanges_models_and_tells_why_not(
    settings: Settings, unet: Path, make_service: "MakeService", mosquitto: "Mosquitto", eventually: "Eventually"
) -> None:
    mqtt = settings.mqtt.model_copy(update={"enabled": True, "broker": "external", "port": mosquitto.port})
    settings = settings.model_copy(update={"mqtt": mqtt})

    def reload() -> tuple[str, str | None, str]:
        *_, last = give_command(settings.mqtt, "reload", password=None, box="box1", timeout_s=30)
        return last.state, last.reason, last.message or ""

    before = set(threading.enumerate())

    def threads_of_networks() -> int:
        return sum(thread.name.startswith(THREAD_NAME) for thread in set(threading.enumerate()) - before)

    with make_service(settings) as running:
        eventually(lambda: running.service.status().mqtt.state == "connected", "the broker")
        unet.write_bytes(unet.read_bytes()[:1000])
        state, reason, message = reload()
        assert (state, reason) == ("failed", "model")
        assert "the old model stays in force" in message
        assert "unet.onnx" in message
        write_model(unet, fails_above_celsius=20.0)  # fails in the trial
        state, reason, message = reload()
        assert (state, reason) == ("failed", "model")
        assert "fails" in message
        write_model(unet, head_celsius=32.0)
        assert reload()[0] == "done"
        new = load_model(unet, Hardware(provider="cpu")).sha256
        eventually(lambda: running.service.status().vision.models == {"unet": new}, "the new network")
        assert hashes(running)[-1] == {"unet": new}
        eventually(lambda: threads_of_networks() == 1, "the threads of those that were refused or exchanged have ended")


def test_networks_are_switched_off_and_on_without_a_restart(
    settings: Settings, make_service: "MakeService", eventually: "Eventually"
) -> None:
    off = settings.model_copy(update={"vision": settings.vision.model_copy(update={"unet": "off"})})
    with make_service(settings) as running:
        eventually(lambda: measured_by_part(running, 0) > 0, "measured frames")
        running.load = lambda: off
        reload_by_signal(running)
        eventually(lambda: mode(running) == "classical", "the AI-free path")
        assert running.service.status().verdict is not Verdict.ACT  # as it was asked for
        running.load = lambda: settings
        reload_by_signal(running)
        eventually(lambda: mode(running) == "networks", "the network")
        eventually(lambda: len(hashes(running)) == 3, "three runs")
        assert [bool(each) for each in hashes(running)] == [True, False, True]
        assert [row[0] for row in running.evidence.rows("SELECT segmenter FROM run ORDER BY id")] == [
            "thresholds-1",
            "classical-1",
            "thresholds-1",
        ]
    assert events(running) == []


@pytest.mark.parametrize("fault", ["absent", "damaged", "wrong"])
def test_a_bad_model_at_the_start_keeps_nothing_from_capture(
    make_settings: "MakeSettings", make_service: "MakeService", eventually: "Eventually", tmp_path: Path, fault: str
) -> None:
    path = tmp_path / "model.onnx"
    if fault == "damaged":
        path.write_bytes(b"damaged")
    if fault == "wrong":
        write_model(path, labels=PUBLISHED_ORDER)
    settings = make_settings(vision=with_model(path), recording={"enabled": False})
    with make_service(settings) as running:
        eventually(lambda: measured_by_part(running, 0) > 5, "frames are measured by their warmth")
        status = running.service.status()
        assert status.verdict is Verdict.ACT
        assert "model.onnx" in next(each.detail for each in status.reasons if each.code == "networks_away")
        write_model(path)
        reload_by_signal(running)
        eventually(lambda: mode(running) == "networks", "the mended model")
        eventually(lambda: [state for state, _ in events(running)] == ["opened", "closed"], "both events")


class Gate:
    """Holds up the loading of models: what a very slow one does, for as long as the test needs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open = threading.Event()
        self._open.set()
        self.waiting = threading.Event()
        monkeypatch.setattr("daemon.networks.load_model", self._load)

    def _load(self, path: Path, hardware: Hardware, **others: Any) -> Model:
        self.waiting.set()
        assert self._open.wait(60)
        return load_model(path, hardware, **others)

    def close(self) -> None:
        """Nothing gets through any more."""
        self.waiting.clear()
        self._open.clear()

    def open(self) -> None:
        """What waits goes on."""
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Open until the test closes it."""
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


def segmenters(running: "RunningService") -> dict[int, set[str | None]]:
    """Who measured in each run."""
    found: dict[int, set[str | None]] = {}
    for run, name in running.evidence.rows("SELECT DISTINCT run_id, segmenter FROM frame WHERE not_measured IS NULL"):
        found.setdefault(run, set()).add(name)
    return found


def reasons(running: "RunningService") -> dict[str, str]:
    """Of the verdict."""
    return {reason.code: reason.detail for reason in running.service.status().reasons}


def test_networks_that_get_ready_slowly_delay_neither_capture_nor_readiness(
    settings: Settings,
    make_service: "MakeService",
    eventually: "Eventually",
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.reload.WARM_UP_S", 0.5)
    gate.close()
    with make_service(settings) as running:
        assert gate.waiting.is_set()
        eventually(lambda: measured_by_part(running, 0) > 5, "frames are measured by their warmth")
        assert "the networks are not ready after 0.5 s" in reasons(running)["networks_away"]
        eventually(lambda: [state for state, _ in events(running)] == ["opened"], "it is told")
        gate.open()
        eventually(lambda: mode(running) == "networks", "the networks take over")
        since = running.evidence.newest_frame()
        eventually(lambda: measured_by_part(running, since) > 5, "they measure")
        eventually(lambda: [state for state, _ in events(running)] == ["opened", "closed"], "that is told, too")
        assert nothing_gave_way(running)
    assert [bool(each) for each in hashes(running)] == [False, True]
    assert segmenters(running) == {1: {"classical-1"}, 2: {"thresholds-1"}}


def test_the_first_frames_wait_for_networks_that_are_ready_soon(
    settings: Settings, make_service: "MakeService", eventually: "Eventually", gate: Gate
) -> None:
    gate.close()
    opener = threading.Timer(1.0, gate.open)
    opener.start()
    with make_service(settings) as running:
        eventually(lambda: measured_by_part(running, 0) > 15, "measured frames")
    opener.join()
    assert segmenters(running) == {1: {"thresholds-1"}}
    assert "captured" in running.evidence.planned().values()
    assert events(running) == []


def test_a_reload_tries_new_networks_beside_the_old_ones_and_the_watchdog_is_fed(
    settings: Settings,
    unet: Path,
    make_service: "MakeService",
    eventually: "Eventually",
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr("daemon.health.ServiceManager.tell", lambda _self, **states: told.extend(states))
    with make_service(settings) as running:
        before = running.service.status().vision.models
        write_model(unet, head_celsius=32.0)
        gate.close()
        reload_by_signal(running)
        assert gate.waiting.wait(30)
        fed, since = told.count("WATCHDOG"), running.evidence.newest_frame()
        eventually(lambda: told.count("WATCHDOG") > fed + 2, "the watchdog is fed")
        eventually(lambda: measured_by_part(running, since) > 5, "the old networks measure")
        assert running.service.status().vision.models == before
        gate.open()
        eventually(lambda: running.service.status().vision.models != before, "the new ones")
        assert nothing_gave_way(running)
    assert [len(each) for each in hashes(running)] == [1, 1]
    assert events(running) == []


def test_a_newer_reload_overtakes_one_that_waits_for_its_networks(
    settings: Settings, make_service: "MakeService", eventually: "Eventually", tmp_path: Path, gate: Gate
) -> None:
    slow = settings.model_copy(update={"vision": settings.vision.model_copy(update={"unet": str(tmp_path / "none")})})
    alerts = settings.alerts.model_copy(update={"not_seen_after_s": 7.0})
    with make_service(settings) as running:
        gate.close()
        running.load = lambda: slow
        reload_by_signal(running)
        assert gate.waiting.wait(30)
        running.load = lambda: settings.model_copy(update={"alerts": alerts})
        reload_by_signal(running)
        eventually(lambda: running.service.settings.alerts == alerts, "the newer config")
        gate.open()
        assert mode(running) == "networks"
        assert "model_refused" not in reasons(running)


def test_new_networks_wait_until_their_run_can_be_stored(
    settings: Settings,
    unet: Path,
    make_service: "MakeService",
    eventually: "Eventually",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = threading.Event()

    def starting(start: Any) -> Any:
        def start_run(store: Any, **values: Any) -> int:
            if broken.is_set():
                raise StoreError("cannot start a run: disk I/O error")
            return int(start(store, **values))

        return start_run

    monkeypatch.setattr(Store, "start_run", starting(Store.start_run))
    with make_service(settings) as running:
        eventually(lambda: measured_by_part(running, 0) > 0, "measured frames")
        before = running.service.status().vision.models
        broken.set()
        write_model(unet, head_celsius=32.0)
        reload_by_signal(running)
        eventually(lambda: "change_waits" in reasons(running), "it is told")
        assert "disk I/O error" in reasons(running)["change_waits"]
        since = running.evidence.newest_frame()
        eventually(lambda: measured_by_part(running, since) > 5, "the old networks measure")
        assert running.service.status().vision.models == before
        assert hashes(running) == [before]
        assert running.evidence.rows("SELECT end_reason FROM run") == [(None,)]
        broken.clear()
        eventually(lambda: running.service.status().vision.models != before, "the new networks, by themselves")
        assert hashes(running) == [before, running.service.status().vision.models]
        assert "change_waits" not in reasons(running)


def test_at_the_start_as_well_networks_wait_for_their_run(
    settings: Settings, make_service: "MakeService", eventually: "Eventually", monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_store: Any, _run_id: int, **_values: Any) -> None:
        raise StoreError("cannot name the segmenter: disk I/O error")

    monkeypatch.setattr("daemon.store.repository.Store.name_segmenter", refuse)
    with make_service(settings) as running:
        eventually(lambda: mode(running) == "networks", "the networks")
        since = running.evidence.newest_frame()
        eventually(lambda: measured_by_part(running, since) > 5, "they measure")
    assert [bool(each) for each in hashes(running)] == [False, True]
    assert segmenters(running).get(1, {"classical-1"}) == {"classical-1"}
    assert segmenters(running)[2] == {"thresholds-1"}


@pytest.mark.parametrize("names_it", [True, False], ids=["a bad file is named", "the file in use is damaged"])
def test_a_bad_model_keeps_no_other_change_from_being_in_force(
    settings: Settings,
    unet: Path,
    make_service: "MakeService",
    eventually: "Eventually",
    tmp_path: Path,
    names_it: bool,
) -> None:
    bad = tmp_path / "bad.onnx" if names_it else unet
    alerts = settings.alerts.model_copy(update={"not_seen_after_s": 7.0})
    new = settings.model_copy(
        update={"alerts": alerts, "vision": settings.vision.model_copy(update={"unet": str(bad)})}
    )
    with make_service(settings) as running:
        before = running.service.status().vision.models
        bad.write_bytes(b"damaged")
        running.load = lambda: new
        reload_by_signal(running)
        eventually(lambda: "model_refused" in reasons(running), "the refusal")
        assert bad.name in reasons(running)["model_refused"]
        assert running.service.settings == settings.model_copy(update={"alerts": alerts})
        assert running.service.status().vision.models == before
        since = running.evidence.newest_frame()
        eventually(lambda: measured_by_part(running, since) > 5, "the old network goes on")
        write_model(bad)
        reload_by_signal(running)
        eventually(lambda: "model_refused" not in reasons(running), "the mended file")
        assert running.service.settings == new
    assert events(running) == []


def test_a_missing_model_is_told_and_the_other_one_measures(
    make_settings: "MakeSettings", unet: Path, make_service: "MakeService", eventually: "Eventually", tmp_path: Path
) -> None:
    vision = {**with_model(unet), "panoptic": str(tmp_path / "missing.onnx")}
    with make_service(make_settings(vision=vision, recording={"enabled": False})) as running:
        eventually(lambda: measured_by_part(running, 0) > 5, "measured frames")
        status = running.service.status()
        assert (status.vision.mode, status.vision.degraded, status.verdict) == ("networks", True, Verdict.LOOK)
        assert "missing.onnx" in reasons(running)["networks_missing"]
        ((state, evidence),) = events(running)
        assert state == "opened"
        assert "missing.onnx" in evidence["reason"]
        write_model(tmp_path / "missing.onnx", "panoptic")
        reload_by_signal(running)
        eventually(lambda: [state for state, _ in events(running)] == ["opened", "closed"], "its end")
        assert "networks_missing" not in reasons(running)
    assert segmenters(running) == {1: {"thresholds-1"}, 2: {"thresholds-1+thresholds-1"}}


def test_a_gpu_that_breaks_is_left_for_the_cpu(
    make_settings: "MakeSettings",
    unet: Path,
    make_service: "MakeService",
    eventually: "Eventually",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = BrokenGpu.install(monkeypatch)
    vision = {**with_model(unet), "provider": "auto"}
    with make_service(make_settings(vision=vision, recording={"enabled": False})) as running:
        eventually(lambda: measured_by_part(running, 0) > 0, "measured frames")
        assert running.service.status().vision.provider == "cuda"
        gpu.works = False
        eventually(lambda: running.service.status().vision.provider == "cpu", "the CPU")
        eventually(lambda: mode(running) == "networks", "the networks again")
        since = running.evidence.newest_frame()
        eventually(lambda: measured_by_part(running, since) > 5, "they measure")
        eventually(lambda: [state for state, _ in events(running)] == ["opened", "closed"], "both events")
        assert "CUDA failure 700" in events(running)[0][1]["reason"]
        assert nothing_gave_way(running)
    assert len(hashes(running)) == 1  # the same files


def test_opencv_takes_one_thread_as_long_as_the_service_runs(settings: Settings, make_service: "MakeService") -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)  # the tests have one as well
    try:
        with make_service(settings):
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
