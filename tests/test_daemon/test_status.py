"""What a technician is told: fine, look or act, and why."""

from dataclasses import replace
from typing import Any, get_args

import pytest

from daemon.events import Severity
from daemon.status import (
    FILLING_DAYS,
    LATE_FRAME_S,
    AnimalStatus,
    BlockStatus,
    CameraStatus,
    DiskStatus,
    MqttStatus,
    Reason,
    ReasonCode,
    Status,
    StoreStatus,
    Verdict,
    VisionStatus,
    judge,
    status_line,
)
from daemon.status_board import unnamed_animals
from tests.observations import frame, rat

FREE_BYTES = 50_000_000_000

CAMERA = CameraStatus(
    frames=100,
    state="running",
    kind="simulated",
    serial="SIM00001",
    frames_per_second=24.96,
    last_good_age_s=0.1,
    rejected={},
)
STORE = StoreStatus(frames=60, part_observations=180, events=2, outbox=0, waiting=0, lost=0, write_error=None)
MQTT = MqttStatus(state="connected", broker="127.0.0.1:1883", protocol="5", published=2, last_error=None)
VISION = VisionStatus(mode="networks", segmenter="unet-1", provider="cpu", frame_ms=17.4)
BLOCK = BlockStatus(key=None, accounted=0, planned=0, next_start_utc_ns=None, captured_24h=14_000, expected_24h=14_400)


def judged(**changes: Any) -> tuple[Verdict, tuple[Reason, ...]]:
    """A box in order, with these changes."""
    values: dict[str, Any] = {
        "camera": CAMERA,
        "block": BLOCK,
        "store": STORE,
        "mqtt": MQTT,
        "vision": VISION,
        "recording_error": None,
        "not_measured": None,
        "disk_free_bytes": FREE_BYTES,
        "open_alerts": (),
        "disk": DiskStatus(),
    }
    return judge(**(values | changes))


def verdict_of(**changes: Any) -> tuple[Verdict, list[str]]:
    """Of a box in order, with these changes: the verdict and the codes of its reasons."""
    verdict, reasons = judged(**changes)
    return verdict, [reason.code for reason in reasons]


def camera(**changes: Any) -> CameraStatus:
    """The camera with these changes."""
    return CAMERA.model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "verdict", "codes"),
    [
        pytest.param({}, Verdict.FINE, [], id="in order"),
        pytest.param({"camera": camera(state="starting", last_good_age_s=None)}, Verdict.FINE, [], id="starting"),
        pytest.param({"mqtt": MQTT.model_copy(update={"state": "off"})}, Verdict.FINE, [], id="without MQTT"),
        pytest.param(
            {"mqtt": MQTT.model_copy(update={"state": "connecting"})}, Verdict.LOOK, ["no_broker"], id="no broker"
        ),
        pytest.param(
            {"store": STORE.model_copy(update={"write_error": "disk full"})},
            Verdict.ACT,
            ["not_stored"],
            id="not stored",
        ),
        pytest.param({"not_measured": "uncertain"}, Verdict.LOOK, ["not_measured"], id="not measured"),
        pytest.param(
            {"block": BLOCK.model_copy(update={"captured_24h": 13_000})}, Verdict.LOOK, ["low_coverage"], id="coverage"
        ),
        pytest.param(
            {"block": BLOCK.model_copy(update={"captured_24h": 0, "expected_24h": 0})}, Verdict.FINE, [], id="no plan"
        ),
        pytest.param({"vision": VisionStatus(reason="none here")}, Verdict.FINE, [], id="no networks were asked for"),
        pytest.param(
            {"vision": VisionStatus(degraded=True, reason="they fail"), "open_alerts": ("vision_degraded",)},
            Verdict.ACT,
            ["networks_away"],
            id="the networks fail, said once",
        ),
        pytest.param(
            {
                "vision": VisionStatus(mode="thinned", one_frame_of=3, degraded=True, reason="they take 99 ms"),
                "not_measured": "model_slow",
                "open_alerts": ("vision_degraded",),
            },
            Verdict.LOOK,
            ["networks_slow"],
            id="the networks are slow, said once",
        ),
        pytest.param(
            {"vision": VisionStatus(mode="networks", degraded=True, reason="one is missing")},
            Verdict.LOOK,
            ["networks_missing"],
            id="a network is missing",
        ),
        pytest.param({"disk": DiskStatus(low=True)}, Verdict.ACT, ["low_disk"], id="low disk"),
        pytest.param(
            {"disk": DiskStatus(low=True), "open_alerts": ("disk_low",)},
            Verdict.ACT,
            ["low_disk"],
            id="low disk, said once",
        ),
        pytest.param({"disk": DiskStatus(full_in_days=FILLING_DAYS)}, Verdict.FINE, [], id="weeks of room"),
        pytest.param(
            {"disk": DiskStatus(full_in_days=FILLING_DAYS - 1)}, Verdict.LOOK, ["disk_filling"], id="the disk fills"
        ),
        pytest.param(
            {"disk": DiskStatus(full_in_days=0.0, freed_recordings=1)}, Verdict.FINE, [], id="recordings give way"
        ),
        pytest.param(
            {"notices": (Reason(code="set_aside", detail="database x"), Reason(code="config_damaged", detail="y"))},
            Verdict.ACT,
            ["config_damaged", "set_aside"],
            id="damaged config and database",
        ),
        pytest.param({"camera": camera(last_good_age_s=LATE_FRAME_S)}, Verdict.FINE, [], id="just in time"),
        pytest.param({"camera": camera(last_good_age_s=LATE_FRAME_S + 1)}, Verdict.ACT, ["late_frame"], id="late"),
        pytest.param(
            {"camera": camera(state="lost", last_good_age_s=99.0)}, Verdict.ACT, ["camera_lost"], id="camera lost"
        ),
        pytest.param(
            {"camera": camera(state="lost"), "open_alerts": ("camera_lost",)},
            Verdict.ACT,
            ["camera_lost"],
            id="camera lost, said once",
        ),
        pytest.param(
            {
                "camera": camera(state="lost"),
                "disk": DiskStatus(low=True),
                "vision": VisionStatus(degraded=True, reason="they fail"),
                "told": dict.fromkeys(("camera_lost", "disk_low", "vision_degraded"), Severity.NOTICE),
            },
            Verdict.LOOK,
            ["camera_lost", "networks_away", "low_disk"],
            id="all that is wrong is a notice, at night or by the config",
        ),
        pytest.param(
            {
                "vision": VisionStatus(mode="thinned", one_frame_of=3, degraded=True, reason="they take 99 ms"),
                "told": {"vision_degraded": Severity.ALERT},
            },
            Verdict.ACT,
            ["networks_slow"],
            id="slow networks are an alert by the config",
        ),
        pytest.param(
            {"open_alerts": ("camera_lost",)}, Verdict.ACT, ["open_alert"], id="an alert that nobody has closed"
        ),
        pytest.param(
            {"store": STORE.model_copy(update={"lost": 3})}, Verdict.ACT, ["observations_lost"], id="observations lost"
        ),
        pytest.param({"recording_error": "disk full"}, Verdict.ACT, ["not_recorded"], id="not recorded"),
        pytest.param(
            {
                "recording_error": "disk full",
                "disk": DiskStatus(low=True),
                "open_alerts": ("animal_too_hot (animal 1)",),
            },
            Verdict.ACT,
            ["open_alert", "not_recorded", "low_disk"],
            id="worst first",
        ),
    ],
)
def test_the_verdict(changes: dict[str, Any], verdict: Verdict, codes: list[str]) -> None:
    assert verdict_of(**changes) == (verdict, codes)


def test_free_disk_is_told_in_the_unit_of_the_config() -> None:
    assert [str(each) for each in judged(disk=DiskStatus(low=True), disk_free_bytes=1_500_000_000)[1]] == [
        "only 1.5 GB of disk are free, and nothing more may give way"
    ]


@pytest.mark.parametrize("code", get_args(ReasonCode))
def test_every_reason_has_a_sentence(code: ReasonCode) -> None:
    text = str(Reason(code=code, detail="DETAIL"))
    assert len(text) > 10
    assert "{" not in text


def a_status(**changes: Any) -> Status:
    """A box in order."""
    values: dict[str, Any] = {
        "box": "box1",
        "version": "1.2.3",
        "verdict": Verdict.FINE,
        "reasons": (),
        "uptime_s": 60.0,
        "camera": CAMERA,
        "block": BlockStatus(
            key="2026-11-23/night-1",
            accounted=58,
            planned=1800,
            next_start_utc_ns=None,
            captured_24h=58,
            expected_24h=58,
        ),
        "animals": (
            AnimalStatus(animal=1, age_s=0.1, head_celsius=32.66, body_celsius=30.94, tail_celsius=None),
            AnimalStatus(animal=2, age_s=0.1, head_celsius=None, body_celsius=31.0, tail_celsius=27.0),
        ),
        "background_celsius": 22.8,
        "store": STORE,
        "mqtt": MQTT,
        "vision": VISION,
        "recording_error": None,
        "disk_free_bytes": FREE_BYTES,
        "open_alerts": (),
    }
    return Status(**(values | changes))


def test_the_line_for_the_terminal_says_everything_in_one_line() -> None:
    assert status_line(a_status()) == (
        "fine | camera running 25.0 fps | networks on cpu 17 ms | "
        "animal 1: head 32.7, body 30.9 °C; animal 2: body 31.0, tail 27.0 °C | "
        "block 2026-11-23/night-1 58/1800 | 60 frames stored | mqtt connected"
    )


def test_the_line_ends_with_what_is_wrong() -> None:
    status = a_status(
        verdict=Verdict.ACT,
        reasons=(Reason(code="camera_lost", detail=""), Reason(code="low_disk", detail="1.5")),
        animals=(),
        block=BlockStatus(key=None, accounted=0, planned=0, next_start_utc_ns=None, captured_24h=0, expected_24h=0),
    )
    assert status_line(status) == (
        "act | camera running 25.0 fps | networks on cpu 17 ms | no animal | no block | 60 frames stored | "
        "mqtt connected | "
        "the camera is lost; only 1.5 GB of disk are free, and nothing more may give way"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"in_groups": 2}, "2 in a group", id="a group"),
        pytest.param({"in_groups": 2, "unnamed": 1}, "2 in a group; 1 not known which", id="one beside a group"),
        pytest.param({}, "no animal", id="none"),
    ],
)
def test_animals_that_are_not_told_apart_are_not_absent(changes: dict[str, int], words: str) -> None:
    assert status_line(a_status(animals=(), **changes)).split(" | ")[3] == words


def test_an_animal_without_a_name_is_not_one_of_a_group() -> None:
    named = rat(1)
    unnamed = replace(rat(2, at=(50.0, 50.0)), animal=None, track=7)
    group = replace(rat(3, at=(150.0, 150.0)), animal=None, track=8, group=8)
    assert unnamed_animals(frame(0, named, unnamed, group)) == 1


def test_the_line_says_when_the_disk_will_be_full() -> None:
    line = status_line(a_status(disk=DiskStatus(full_in_days=119.6)))
    assert line.endswith("mqtt connected | disk full in 120 days")


@pytest.mark.parametrize(
    ("vision", "words"),
    [
        pytest.param(VisionStatus(), "no networks", id="none"),
        pytest.param(VisionStatus(mode="networks", provider="cuda"), "networks on cuda", id="not yet run"),
        pytest.param(
            VisionStatus(mode="thinned", one_frame_of=3, provider="cpu", frame_ms=99),
            "networks on cpu 99 ms, 1 of 3",
            id="thinned",
        ),
    ],
)
def test_the_line_says_what_finds_the_animals(vision: VisionStatus, words: str) -> None:
    assert status_line(a_status(vision=vision)).split(" | ")[2] == words


def test_it_survives_json() -> None:
    assert Status.model_validate_json(a_status().model_dump_json()) == a_status()
