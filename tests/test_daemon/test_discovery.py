"""What Home Assistant is told, held against its rules; the templates are rendered by the engine that it uses."""

import json
from typing import Any

import jinja2
import pytest
from pydantic import ValidationError

from daemon.default_rules import DEFAULT_RULES
from daemon.events import Event, EventKind, EventState, Severity
from daemon.messaging import home_assistant
from daemon.messaging.discovery import birth_topic, discovery_payload, discovery_topic
from daemon.messaging.home_assistant import Availability, BinarySensor, Device, DeviceDiscovery, Origin, Sensor
from daemon.messaging.payloads import alert_payload, block_payload, status_payload
from daemon.minute_value import Scope
from daemon.settings import Settings
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S

CAMERA = CameraInfo(kind="t2s_plus", product="T2S+", serial="S1", firmware="1.2", location="1-2", frame_rate_hz=25)


def settings_for(**measure: Any) -> Settings:
    return Settings.model_validate({"measure": {"animals": 2, **measure}})


def announced(settings: Settings) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(discovery_payload(settings, version="1.2.3", camera=CAMERA))
    return payload


def rendered(template: str, payload: bytes | dict[str, Any]) -> str:
    """As Home Assistant renders it: the parsed payload is `value_json`."""
    value = json.loads(payload) if isinstance(payload, bytes) else payload
    return jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(template).render(value_json=value)


def animal(**changes: Any) -> dict[str, Any]:
    parts = [{"part": "body", "mean_celsius": 33.25}, {"part": "tail", "mean_celsius": None}]
    facts = {"captured_utc_ns": 90 * NS_PER_S, "measures_minute_utc_ns": 60 * NS_PER_S}
    return {"animal": 1, "parts": parts, "measures": {"activity_mm_per_s": 12.5}, **facts, **changes}


def test_one_box_is_one_device_that_obeys_the_rules() -> None:
    settings = settings_for(mm_per_px=1.2)
    payload = announced(settings)
    told = DeviceDiscovery.model_validate(payload)
    assert told.device.identifiers == ("strong_vivarium_box1",)
    assert (payload["device"]["serial_number"], payload["device"]["sw_version"]) == ("S1", "1.2.3")
    assert payload["origin"]["name"] == "strong-vivarium"
    topic = discovery_topic(settings)
    assert topic == "homeassistant/device/strong_vivarium_box1/config"
    assert home_assistant.TOPIC.fullmatch(topic.removeprefix("homeassistant/"))
    assert birth_topic(settings.mqtt) == "homeassistant/status"
    assert len(discovery_payload(settings, version="1")) < 64 * 1024


def test_each_animal_has_temperatures_activity_and_alerts() -> None:
    components = announced(settings_for(mm_per_px=1.2))["components"]
    for number in (1, 2):
        keys = ("head", "body", "tail", "skin_max_30min", "activity", "animal_too_hot", "animal_not_seen")
        assert all(components[f"animal_{number}_{key}"]["unique_id"] for key in keys)
    assert components["animal_1_body"]["unit_of_measurement"] == "°C"
    assert components["animal_1_activity"]["device_class"] == "speed"
    assert components["animal_1_body"]["state_topic"] == "vivarium/box1/animal/1"
    assert all(components[f"animal_1_{key}"]["expire_after"] == 300 for key in ("body", "skin_max_30min", "activity"))


def test_every_condition_of_an_animal_and_of_the_cage_has_a_sensor_of_its_own() -> None:
    components = announced(settings_for())["components"]
    for rule in DEFAULT_RULES:
        key = rule.kind.value if rule.subject is Scope.CAGE else f"animal_2_{rule.kind.value}"
        assert components[key]["device_class"] == "problem", rule.name


def test_an_animal_with_a_name_is_called_by_it_and_stays_the_same_entity() -> None:
    nameless = announced(settings_for())["components"]
    named = announced(Settings.model_validate({"animal": [{"name": "Ana"}, {"name": "Bo"}]}))["components"]
    assert named["animal_1_head"]["name"] == "Ana (1) head temperature"
    assert named["animal_2_animal_not_seen"]["name"] == "Bo (2) not seen"
    for key, component in named.items():
        assert {**component, "name": ""} == {**nameless[key], "name": ""}


def test_without_a_scale_activity_is_in_pixels_and_of_no_class() -> None:
    activity = announced(settings_for())["components"]["animal_1_activity"]
    assert activity["unit_of_measurement"] == "px/s"
    assert "device_class" not in activity
    assert rendered(activity["value_template"], animal(measures={"activity_px_per_s": 3.5})) == "3.5"


def test_an_animal_that_is_not_expected_any_more_is_taken_back() -> None:
    components = announced(settings_for(animals=1))["components"]
    assert components["animal_2_body"] == {"platform": "sensor"}
    assert components["animal_2_animal_too_hot"] == {"platform": "binary_sensor"}
    assert len(components["animal_1_body"]) > 1


@pytest.mark.parametrize(
    ("key", "payload", "value"),
    [
        ("animal_1_body", animal(), "33.25"),
        pytest.param("animal_1_tail", animal(), "None", id="a tail without temperature is unknown"),
        pytest.param("animal_1_head", animal(), "None", id="a head that was not found is unknown"),
        pytest.param("animal_1_body", animal(measures_minute_utc_ns=None), "33.25", id="in the first minute"),
        pytest.param(
            "animal_1_body", animal(measures_minute_utc_ns=120 * NS_PER_S), "None", id="not known for a whole minute"
        ),
        ("animal_1_activity", animal(), "12.5"),
        pytest.param("animal_1_activity", animal(measures=None), "None", id="before the first minute"),
        pytest.param("animal_1_activity", animal(measures={}), "None", id="a measure that is not made"),
        ("last_frame_age", {"last_frame_age_s": 0.0}, "0.0"),
        ("last_frame_age", {"last_frame_age_s": None}, "None"),
        ("coverage", {"coverage": 0.98765}, "98.8"),
        ("coverage", {"coverage": None}, "None"),
    ],
)
def test_a_template_finds_its_number(key: str, payload: dict[str, Any], value: str) -> None:
    component = announced(settings_for(mm_per_px=1.2))["components"][key]
    assert rendered(component["value_template"], payload) == value


def opened(kind: EventKind, *, animal: int | None = None, severity: Severity = Severity.ALERT) -> Event:
    return Event(kind=kind, state=EventState.OPENED, severity=severity, at_utc_ns=1, animal=animal)


HOT_2 = opened(EventKind.ANIMAL_TOO_HOT, animal=2)
DEGRADED = opened(EventKind.VISION_DEGRADED, severity=Severity.NOTICE)


@pytest.mark.parametrize(
    ("key", "events", "state"),
    [
        ("alert", [], "OFF"),
        ("alert", [HOT_2], "ON"),
        pytest.param("alert", [DEGRADED], "OFF", id="a notice is no alert"),
        ("vision_degraded", [DEGRADED], "ON"),
        ("animal_1_animal_too_hot", [HOT_2], "OFF"),
        ("animal_2_animal_too_hot", [HOT_2], "ON"),
        ("animal_2_animal_too_cold", [HOT_2], "OFF"),
        ("camera_lost", [opened(EventKind.CAMERA_LOST)], "ON"),
    ],
)
def test_a_binary_sensor_is_on_while_its_condition_is_open(key: str, events: list[Event], state: str) -> None:
    component = announced(settings_for())["components"][key]
    payload = alert_payload(events)
    assert rendered(component["value_template"], payload) == state
    attributes = json.loads(rendered(component["json_attributes_template"], payload))
    assert bool(attributes["open"]) == (state == "ON")


def test_the_block_is_named_only_while_it_is_open() -> None:
    template = announced(settings_for())["components"]["block"]["value_template"]
    facts: dict[str, Any] = {"start_utc_ns": 0, "end_utc_ns": 1, "expected": 1, "captured": 1, "missing_by_reason": {}}
    assert rendered(template, block_payload(block="d/night-1", state="open", **facts)) == "d/night-1"
    assert rendered(template, block_payload(block="d/night-1", state="finished", **facts)) == "none"


def test_temperatures_are_available_while_the_box_is_connected_and_sees() -> None:
    payload = announced(settings_for())
    connected, sees = payload["components"]["animal_1_body"]["availability"]
    assert payload["components"]["animal_1_body"]["availability_mode"] == "all"
    assert payload["availability"] == [connected]
    assert (connected["topic"], sees["topic"]) == ("vivarium/box1/status", "vivarium/box1/health")
    assert rendered(connected["value_template"], status_payload("online", "started")) == "online"
    assert rendered(connected["value_template"], status_payload("offline", "connection_lost")) == "offline"
    ages = {0.0: "online", 119.0: "online", 121.0: "offline", None: "offline"}
    assert {age: rendered(sees["value_template"], {"last_frame_age_s": age}) for age in ages} == ages


SENSOR: dict[str, Any] = {"unique_id": "u", "name": "n", "state_topic": "a/b"}


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(lambda: Sensor(**{**SENSOR, "unique_id": ""}), "unique_id", id="no unique_id"),
        pytest.param(
            lambda: Sensor(**SENSOR, device_class="temperature", unit_of_measurement="mm"), "does not fit", id="unit"
        ),
        pytest.param(lambda: Sensor(**SENSOR, device_class="temperature"), "does not fit", id="no unit"),
        pytest.param(lambda: Sensor(**{**SENSOR, "state_topic": "a/#"}), "without wildcards", id="wildcard"),
        pytest.param(lambda: Sensor(**SENSOR, value_template="value"), "expected a template", id="template"),
        pytest.param(lambda: Sensor(**SENSOR, entity_category="config"), "diagnostic", id="category"),
        pytest.param(lambda: BinarySensor(**SENSOR, device_class="fever"), "problem", id="class"),
        pytest.param(lambda: BinarySensor(**SENSOR, icon="run"), "pattern", id="icon"),
        pytest.param(lambda: Sensor(**{**SENSOR, "object_id": "x"}), "Extra inputs", id="removed key"),
        pytest.param(lambda: Device(identifiers=(), name="n"), "at least 1", id="no identifier"),
        pytest.param(lambda: Origin(name=""), "at least 1", id="no origin"),
        pytest.param(
            lambda: DeviceDiscovery(
                device=Device(identifiers=("d",), name="n"),
                origin=Origin(name="o"),
                components={"a": Sensor(**SENSOR), "b": Sensor(**SENSOR)},
            ),
            "unique_id of its own",
            id="the same unique_id twice",
        ),
        pytest.param(
            lambda: DeviceDiscovery(
                device=Device(identifiers=("d",), name="n"), origin=Origin(name="o"), components={}
            ),
            "at least 1",
            id="no components",
        ),
        pytest.param(lambda: Availability(topic=""), "expected a topic", id="no topic"),
    ],
)
def test_what_home_assistant_would_refuse_cannot_be_made(make: Any, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        make()
