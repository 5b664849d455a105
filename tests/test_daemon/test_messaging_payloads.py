"""What stands in the messages, and under which topics."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from daemon.events import Event, EventKind, EventState, NumberedEvent, Severity
from daemon.messaging import topics
from daemon.messaging.outbox import Priority
from daemon.messaging.payloads import (
    animal_payload,
    block_payload,
    event_message,
    flag_names,
    health_payload,
    info_payload,
    iso_utc,
    observation_payload,
    status_payload,
)
from daemon.observation import AnimalObservation, FrameObservation, GroupObservation, PartObservation
from daemon.vision.parts import BodyPart
from drivers.camera import CameraInfo
from drivers.frame import FrameFlag
from drivers.t2s_protocol import Constants, Environment
from drivers.thermometry import Calibration

CAPTURED_UTC_NS = 1_732_345_678_123_456_789
CAPTURED = "2024-11-23T07:07:58.123456Z"

HEAD = PartObservation(
    part=BodyPart.HEAD,
    x_px=120.123,
    y_px=80.0,
    x_mm=None,
    y_mm=None,
    area_px=90,
    area_mm2=None,
    valid_px=90,
    mean_celsius=35.12345,
    median_celsius=35.2,
    p95_celsius=36.0,
    min_celsius=33.1,
    max_celsius=36.4,
)

OBSERVATION = FrameObservation(
    sequence=7,
    captured_utc_ns=CAPTURED_UTC_NS,
    captured_monotonic_ns=5,
    flags=FrameFlag.SETTLING | FrameFlag.OVER_RANGE,
    calibration=Calibration(
        constants=Constants(reference_count=6000, a=1.0, b=1.0, ka=1.0, kb=1.0, kc=1.0),
        shutter_celsius=29.5,
        fpa_celsius=31.0,
        environment=Environment(),
    ),
    fpa_celsius=31.25,
    shutter_celsius=29.5,
    background_celsius=22.4,
    animals=(
        AnimalObservation(animal=1, track=4, probability=0.98765, parts=(HEAD,)),
        AnimalObservation(animal=None, track=7, group=7, candidates=(2, 3), parts=()),
    ),
    groups=(GroupObservation(number=7, members=(2, 3), size=2, area_px=900, mean_celsius=31.25, max_celsius=36.5),),
    not_measured=None,
    block_key="2024-11-23/morning/1",
    planned_utc_ns=CAPTURED_UTC_NS - 123_456_789,
)


def test_an_observation_reads_as_written_here() -> None:
    """The head's uncertainty is that of 0.25 °C of the detector, 0.173, and of the emissivity, 0.147."""
    assert json.loads(observation_payload(OBSERVATION)) == {
        "schema": 1,
        "sequence": 7,
        "captured": CAPTURED,
        "captured_utc_ns": CAPTURED_UTC_NS,
        "flags": ["settling", "over_range"],
        "not_measured": None,
        "block": "2024-11-23/morning/1",
        "planned": "2024-11-23T07:07:58.000000Z",
        "planned_utc_ns": CAPTURED_UTC_NS - 123_456_789,
        "fpa_celsius": 31.25,
        "shutter_celsius": 29.5,
        "background_celsius": 22.4,
        "animals": [
            {
                "animal": 1,
                "name": None,
                "parts": [
                    {
                        "part": "head",
                        "x_px": 120.12,
                        "y_px": 80.0,
                        "x_mm": None,
                        "y_mm": None,
                        "area_px": 90,
                        "area_mm2": None,
                        "valid_px": 90,
                        "mean_celsius": 35.123,
                        "median_celsius": 35.2,
                        "p95_celsius": 36.0,
                        "min_celsius": 33.1,
                        "max_celsius": 36.4,
                        "uncertainty_celsius": 0.228,
                    }
                ],
                "track": 4,
                "probability": 0.9877,
                "candidates": [],
                "group": None,
                "correction": None,
            },
            {
                "animal": None,
                "name": None,
                "parts": [],
                "track": 7,
                "probability": None,
                "candidates": [2, 3],
                "group": 7,
                "correction": None,
            },
        ],
        "groups": [
            {"group": 7, "members": [2, 3], "size": 2, "area_px": 900, "mean_celsius": 31.25, "max_celsius": 36.5}
        ],
    }


def test_an_animal_that_is_not_known_has_no_message_of_its_own() -> None:
    with pytest.raises(ValueError, match="track 7 is no known animal"):
        animal_payload(OBSERVATION, OBSERVATION.animals[1])


def test_an_animal_stands_alone_with_the_time_of_its_frame() -> None:
    payload = json.loads(animal_payload(OBSERVATION, OBSERVATION.animals[0]))
    assert (payload["animal"], payload["captured"], payload["parts"][0]["part"]) == (1, CAPTURED, "head")


@pytest.mark.parametrize("absent", [math.nan, math.inf, -math.inf, float(np.float32("nan"))])
def test_what_is_no_number_becomes_null(absent: float) -> None:
    head = replace(HEAD, mean_celsius=absent, x_px=absent)
    observation = replace(
        OBSERVATION, fpa_celsius=absent, animals=(AnimalObservation(animal=1, parts=(head,)),), background_celsius=None
    )
    payload = observation_payload(observation)
    assert b"NaN" not in payload
    assert b"Infinity" not in payload
    decoded = json.loads(payload)
    assert decoded["fpa_celsius"] is None
    assert decoded["animals"][0]["parts"][0]["mean_celsius"] is None
    assert decoded["animals"][0]["parts"][0]["x_px"] is None


def test_a_frame_outside_blocks_without_animals_has_nulls() -> None:
    payload = json.loads(
        observation_payload(
            replace(OBSERVATION, animals=(), not_measured="shutter", block_key=None, planned_utc_ns=None)
        )
    )
    assert (payload["animals"], payload["not_measured"], payload["block"]) == ([], "shutter", None)
    assert (payload["planned"], payload["planned_utc_ns"]) == (None, None)


def test_an_event_becomes_a_message_for_the_outbox() -> None:
    event = Event(
        kind=EventKind.ANIMAL_TOO_HOT,
        state=EventState.OPENED,
        severity=Severity.EMERGENCY,
        at_utc_ns=CAPTURED_UTC_NS,
        animal=1,
        data={"limit_celsius": 39.0, "p95_celsius": math.nan, "sure": True, "rule": "too_hot"},
        event_id="e1",
    )
    message = event_message(NumberedEvent(event=event, seq=7, boot_id="b1"))
    assert (message.topic, message.priority) == ("event/animal_too_hot", Priority.ALARM)
    assert message.created_utc_ns == CAPTURED_UTC_NS
    assert json.loads(message.payload) == {
        "schema": 1,
        "event_id": "e1",
        "seq": 7,
        "boot_id": "b1",
        "kind": "animal_too_hot",
        "state": "opened",
        "severity": "emergency",
        "at": CAPTURED,
        "at_utc_ns": CAPTURED_UTC_NS,
        "animal": 1,
        "animal_name": None,
        "opened_event_id": None,
        "data": {"limit_celsius": 39.0, "p95_celsius": None, "sure": True, "rule": "too_hot"},
    }


@pytest.mark.parametrize(
    ("state", "severity", "priority"),
    [
        pytest.param(EventState.OCCURRED, Severity.NOTICE, Priority.NOTICE, id="a notice may give way"),
        pytest.param(EventState.OPENED, Severity.ALERT, Priority.ALARM, id="an alert may not"),
        pytest.param(EventState.CLOSED, Severity.NOTICE, Priority.ALARM, id="nor may its end"),
    ],
)
def test_priority_follows_severity(state: EventState, severity: Severity, priority: Priority) -> None:
    event = Event(kind=EventKind.CAMERA_LOST, state=state, severity=severity, at_utc_ns=0)
    assert event_message(NumberedEvent(event=event, seq=1, boot_id="b1")).priority is priority


@pytest.mark.parametrize(
    ("utc_ns", "text"),
    [
        pytest.param(0, "1970-01-01T00:00:00.000000Z", id="the epoch"),
        pytest.param(1_999_999_999_999_999_999, "2033-05-18T03:33:19.999999Z", id="cut off, not rounded up"),
        pytest.param(-1, "1969-12-31T23:59:59.999999Z", id="before the epoch"),
    ],
)
def test_moments_are_written_in_utc_to_the_microsecond(utc_ns: int, text: str) -> None:
    assert iso_utc(utc_ns) == text


def test_every_flag_has_a_name() -> None:
    assert flag_names(FrameFlag.NONE) == ()
    assert len(flag_names(~FrameFlag.NONE)) == len(FrameFlag)


def test_the_last_will_knows_no_time() -> None:
    assert json.loads(status_payload("offline", "connection_lost")) == {
        "schema": 1,
        "state": "offline",
        "reason": "connection_lost",
        "at": None,
        "at_utc_ns": None,
    }


def test_info_names_the_camera_once_there_is_one() -> None:
    camera = CameraInfo(
        kind="simulated", product="T2S+", serial="s1", firmware="f", location="seed 1", frame_rate_hz=25
    )
    unknown = json.loads(info_payload(box="box1", version="0.1.0", started_utc_ns=0))
    known = json.loads(info_payload(box="box1", version="0.1.0", started_utc_ns=0, run=3, camera=camera))
    assert (unknown["camera_kind"], known["camera_kind"], known["camera_serial"]) == (None, "simulated", "s1")
    assert (known["box"], known["run"], known["started"]) == ("box1", 3, "1970-01-01T00:00:00.000000Z")


@pytest.mark.parametrize(
    ("expected", "captured", "coverage"),
    [
        pytest.param(1800, 1799, 0.9994, id="one frame missing"),
        pytest.param(0, 0, None, id="nothing planned"),
    ],
)
def test_a_block_tells_its_coverage(expected: int, captured: int, coverage: float | None) -> None:
    payload = json.loads(
        block_payload(
            block="b",
            state="finished",
            start_utc_ns=0,
            end_utc_ns=1_800_000_000_000,
            expected=expected,
            captured=captured,
            missing_by_reason={"torn": 1},
        )
    )
    assert payload["coverage"] == coverage
    assert (payload["missing_frames"], payload["end"]) == ({"torn": 1}, "1970-01-01T00:30:00.000000Z")


def test_health_counts_what_gave_way() -> None:
    payload = json.loads(
        health_payload(
            at_utc_ns=0,
            last_frame_age_s=None,
            coverage=1 / 3,
            frames_dropped=1,
            frames_rejected={"uniform": 2},
            vision="thinned",
            vision_degraded=True,
            outbox_depth=3,
            outbox_dropped=4,
            observations_dropped=5,
            commands={"received": 2, "accepted": 2},
            no_page="web.port: cannot listen",
        )
    )
    assert payload["no_page"] == "web.port: cannot listen"
    assert (payload["last_frame_age_s"], payload["coverage"]) == (None, 0.3333)
    assert (payload["outbox_depth"], payload["outbox_dropped"], payload["observations_dropped"]) == (3, 4, 5)
    assert (payload["vision"], payload["vision_degraded"]) == ("thinned", True)


def test_topics_stand_below_the_box() -> None:
    assert topics.absolute("box1", topics.STATUS) == "vivarium/box1/status"
    assert topics.animal(2) == "animal/2"
    assert {topics.event(kind) for kind in EventKind} == {f"event/{kind}" for kind in EventKind}


def test_there_is_no_animal_zero() -> None:
    with pytest.raises(ValueError, match="from 1"):
        topics.animal(0)
