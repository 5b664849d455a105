"""The running service with networks that are slow, fail, are bad or are exchanged: capture never notices."""

import json
import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from daemon.messaging.ask import give_command
from daemon.settings import Settings
from daemon.status import Verdict
from daemon.vision import resilient
from daemon.vision.segmenter import Hardware, load_model
from tests.models import write_model

if TYPE_CHECKING:
    from tests.faults.conftest import Eventually, MakeService, MakeSettings, RunningService
    from tests.test_daemon.conftest import Mosquitto

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


def nothing_was_lost(running: "RunningService") -> bool:
    """Whether every planned moment from the first captured one on was captured."""
    became = [what for _, what in sorted(running.evidence.planned().items())]
    return "captured" in became and set(became[became.index("captured") :]) == {"captured"}


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
    make_settings: "MakeSettings", make_service: "MakeService", eventually: "Eventually", tmp_path: Path
) -> None:
    slow = write_model(tmp_path / "slow.onnx", slow_steps=steps_for(SLOW_S, tmp_path))
    settings = make_settings(vision=with_model(slow), recording={"enabled": False})
    with make_service(settings) as running:
        eventually(lambda: mode(running) == "thinned", "frames are left out")
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
        eventually(lambda: len(events(running)) == 2, "both events")
        assert nothing_was_lost(running)
    (opened, evidence), (closed, _) = events(running)
    assert (opened, closed) == ("opened", "closed")
    assert evidence["mode"] == "thinned"
    assert evidence["one_frame_of"] > 1


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
        assert nothing_was_lost(running)
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
        assert nothing_was_lost(running)
    assert events(running) == []


def test_a_command_exchanges_models_and_tells_why_not(
    settings: Settings, unet: Path, make_service: "MakeService", mosquitto: "Mosquitto", eventually: "Eventually"
) -> None:
    mqtt = settings.mqtt.model_copy(update={"enabled": True, "broker": "external", "port": mosquitto.port})
    settings = settings.model_copy(update={"mqtt": mqtt})

    def reload() -> tuple[str, str | None, str]:
        *_, last = give_command(settings.mqtt, "reload", password=None, box="box1", timeout_s=30)
        return last.state, last.reason, last.message or ""

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
