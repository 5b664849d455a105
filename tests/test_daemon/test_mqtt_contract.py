"""The contract as files: current, valid, and of the same list that the publisher goes by."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from daemon.events import Event, EventKind, EventState, NumberedEvent, Severity
from daemon.messaging import topics
from daemon.messaging.announcer import MqttAnnouncer
from daemon.messaging.contract import CHANNELS, channel_of
from daemon.messaging.pace import Bucket, Pace
from daemon.messaging.payloads import event_message
from daemon.messaging.publisher import Publisher
from daemon.messaging.schemas import ASYNCAPI, asyncapi_document, files, message_schemas, write_files
from daemon.messaging.verbs import VERBS, make_verbs
from daemon.minute_value import MinuteValue
from daemon.observation import AnimalObservation, FrameObservation
from daemon.remote_settings import SETTABLE, changed, value_of
from daemon.settings import Settings, parse_settings
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.errors import ConfigError
from drivers.frame import FrameFlag
from drivers.t2s_protocol import Constants, Environment
from drivers.thermometry import Calibration

ROOT = Path(__file__).parents[2]
OFFICIAL = ROOT / "tests" / "data" / "asyncapi" / "3.0.0.json"


@pytest.mark.parametrize("name", sorted(files()))
def test_the_files_in_docs_are_what_the_program_says_today(name: str) -> None:
    assert (ROOT / "docs" / "mqtt" / name).read_text(encoding="utf-8") == files()[name], (
        "run `vivarium mqtt schemas docs/mqtt`"
    )


def test_docs_hold_no_file_that_the_program_does_not_write() -> None:
    assert {path.name for path in (ROOT / "docs" / "mqtt").iterdir()} == set(files())


def test_all_files_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    written = write_files(tmp_path / "contract")
    assert {path.name for path in written} == set(files())
    assert json.loads((tmp_path / "contract" / ASYNCAPI).read_text()) == asyncapi_document()
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_files(blocked)


@pytest.mark.parametrize("name", sorted(message_schemas()))
def test_every_schema_is_one(name: str) -> None:
    jsonschema_rs.meta.validate(message_schemas()[name])


def official() -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(json.loads(OFFICIAL.read_text(encoding="utf-8")))


def test_the_asyncapi_document_is_valid_by_the_official_schema() -> None:
    assert [str(error) for error in official().iter_errors(asyncapi_document())] == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda document: document.pop("info"), id="no info"),
        pytest.param(lambda document: document["channels"]["status"].update(messages=3), id="messages"),
        pytest.param(lambda document: document["operations"]["sendStatus"].update(action="shout"), id="action"),
        pytest.param(lambda document: document.update(asyncapi="2.6.0"), id="version"),
    ],
)
def test_the_official_schema_finds_what_is_wrong(damage: Any) -> None:
    document = copy.deepcopy(asyncapi_document())
    damage(document)
    assert not official().is_valid(document)


def references(value: object) -> list[str]:
    """All that a document refers to."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [each for inner in value.values() for each in references(inner)]
    return [each for inner in value for each in references(inner)] if isinstance(value, list) else []


def test_all_that_the_asyncapi_document_refers_to_is_in_it() -> None:
    document = asyncapi_document()
    found = set(references(document))
    assert len(found) > len(CHANNELS)
    for reference in found:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


def test_the_asyncapi_document_has_every_topic_and_every_verb() -> None:
    addresses = {channel["address"] for channel in asyncapi_document()["channels"].values()}
    told = {f"vivarium/{{box}}/{channel.address}" for channel in CHANNELS}
    commanded = {f"vivarium/{{box}}/command/{verb}" for verb in (*VERBS, "set/{key}")}
    assert addresses == told | commanded


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        (topics.STATUS, "status"),
        (topics.animal(3), "animal"),
        ("event/camera_lost", "event"),
        (topics.command_result("calibrate"), "command_result"),
        (topics.command_result("set/log.level"), "command_result"),
        ("command/calibrate", None),
        ("animal/1/2", None),
        ("statusx", None),
        ("", None),
    ],
)
def test_a_topic_belongs_to_one_channel(topic: str, name: str | None) -> None:
    channel = channel_of(topic)
    assert (None if channel is None else channel.name) == name
    assert sum(each.matches(topic) for each in CHANNELS) == (name is not None)


def test_a_topic_waits_until_its_interval_is_over() -> None:
    clock = SimulatedClock(0)
    pace = Pace(clock)
    assert pace.wait_s("a", 2) == 0
    pace.sent("a")
    clock.advance(0.5)
    assert (pace.wait_s("a", 2), pace.wait_s("b", 2), pace.wait_s("a", 0)) == (1.5, 0, 0)
    clock.advance(1.5)
    assert pace.wait_s("a", 2) == 0
    pace.sent("a")
    pace.forget()
    assert pace.wait_s("a", 2) == 0


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    clock = SimulatedClock(0)
    bucket = Bucket(clock, at_once=3, per_s=2)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    assert bucket.wait_s() == 0.5
    clock.advance(0.5)
    assert [bucket.take() for _ in range(2)] == [True, False]
    clock.advance(60)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_a_verb_without_anybody_to_carry_it_out_stops_the_start() -> None:
    with pytest.raises(ValueError, match="expected somebody for each of"):
        make_verbs({"calibrate": lambda _payload, _order: None}, lambda _key, _value, _order: None)


def test_the_documents_name_every_verb() -> None:
    root = Path(__file__).parents[2]
    contract, overview = (root / "docs" / "mqtt.md").read_text(), (root / "README.md").read_text()
    for verb in VERBS:
        assert f"\n| `{verb}` |" in contract
        assert f"`{verb}`" in overview.partition("| `command/<verb>` |")[2].partition("\n")[0]


@pytest.mark.parametrize("key", SETTABLE)
def test_a_setting_that_may_be_changed_is_one_and_takes_its_own_value(key: str) -> None:
    settings = Settings()
    assert changed(settings, key, value_of(settings, key)) == settings


def test_a_changed_setting_changes_nothing_else() -> None:
    settings = Settings()
    new = changed(settings, "alerts.too_hot.celsius", 40.5)
    assert new.alerts.too_hot.celsius == 40.5
    assert new.model_copy(update={"alerts": settings.alerts}) == settings
    assert new.config_hash() != settings.config_hash()


def test_a_setting_can_be_changed_beside_one_that_a_rule_of_the_config_says() -> None:
    rules = '[[rule]]\nname = "animal_not_seen"\nfor_minutes = 2\n[[rule]]\nname = "animal_too_cold"\nvalue = 25'
    new = changed(parse_settings(rules, origin="t"), "alerts.too_hot.celsius", 40.5).frame_alerts
    assert (new.too_hot.celsius, new.too_cold.celsius, new.not_seen_after_s) == (40.5, 25, 120)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("alerts.too_hot.celsius", 900, "alerts.too_hot.celsius: Input should be less than or equal to 120; got 900"),
        ("alerts.too_hot.celsius", "warm", "valid number"),
        ("alerts.too_hot.celsius", 26, "got 26 and 26: every animal would be too hot or too cold"),
        ("log.level", "loud", "Input should be 'debug'"),
        ("mqtt.host", "elsewhere", "cannot be set by command; these can: alerts.not_seen_after_s"),
        ("schedule", 1, "cannot be set by command"),
    ],
)
def test_what_may_not_be_set_says_why(key: str, value: str | int, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        changed(Settings(), key, value)


class Kept(Publisher):
    """Keeps what it is to publish."""

    def __init__(self) -> None:
        self.retained: dict[str, dict[str, Any]] = {}
        self.observations: list[dict[str, Any]] = []

    def set_retained(self, topic: str, payload: bytes) -> None:
        """See `Publisher`."""
        self.retained[topic] = json.loads(payload)

    def publish_observation(self, payload: bytes) -> None:
        """See `Publisher`."""
        self.observations.append(json.loads(payload))

    def notify(self) -> None:
        """See `Publisher`."""


def a_value(measure: str, minute: int, animal: int | None, value: float | None) -> MinuteValue:
    return MinuteValue(
        measure=measure,
        minute_utc_ns=minute * 60 * NS_PER_S,
        animal=animal,
        value=value,
        uncertainty=None,
        coverage=1.0,
        samples=60,
    )


OBSERVATION = FrameObservation(
    sequence=7,
    captured_utc_ns=1,
    captured_monotonic_ns=1,
    flags=FrameFlag.NONE,
    calibration=Calibration(
        constants=Constants(reference_count=6000, a=1.0, b=1.0, ka=1.0, kb=1.0, kc=1.0),
        shutter_celsius=29.5,
        fpa_celsius=31.0,
        environment=Environment(),
    ),
    fpa_celsius=31.25,
    shutter_celsius=29.5,
    background_celsius=22.4,
    animals=(AnimalObservation(animal=1, parts=()),),
    not_measured=None,
    block_key=None,
    planned_utc_ns=None,
)


def test_an_animal_carries_its_measures_of_the_newest_minute_and_the_cage_has_its_own() -> None:
    kept = Kept()
    announcer = MqttAnnouncer(kept, lambda: [])
    announcer.measured([a_value("activity_px_per_s", 1, 1, 3.25)])
    assert kept.retained == {}, "an animal that was never seen has no topic"
    announcer.observed(OBSERVATION)
    assert kept.retained["animal/1"]["measures"] == {"activity_px_per_s": 3.25}
    announcer.measured(
        [
            a_value("activity_px_per_s", 3, 1, math.nan),
            a_value("seen_share", 3, 1, 0.5),
            a_value("activity_px_per_s", 2, 1, 9.0),
            a_value("animals_seen", 3, None, 1),
            replace(a_value("body_mean_celsius", 3, 1, 31.5), uncertainty=0.25, coverage=0.75),
        ]
    )
    animal = kept.retained["animal/1"]
    assert animal["measures"] == {"activity_px_per_s": None, "seen_share": 0.5, "body_mean_celsius": 31.5}
    assert animal["uncertainties"] == {"body_mean_celsius": 0.25}
    assert animal["coverages"]["body_mean_celsius"] == 0.75
    assert animal["coverages"].keys() == animal["measures"].keys()
    assert (animal["measures_minute"], animal["measures_minute_utc_ns"]) == (
        "1970-01-01T00:03:00.000000Z",
        180 * NS_PER_S,
    )
    assert kept.retained["cage"]["measures"] == {"animals_seen": 1.0}
    assert (kept.retained["cage"]["uncertainties"], kept.retained["cage"]["coverages"].keys()) == ({}, {"animals_seen"})
    for name, topic in (("animal", "animal/1"), ("cage", "cage")):
        jsonschema_rs.validate(message_schemas()[name], kept.retained[topic])


def test_an_animal_is_told_with_its_name_beside_its_number() -> None:
    opened = Event(
        kind=EventKind.ANIMAL_TOO_HOT,
        state=EventState.OPENED,
        severity=Severity.ALERT,
        at_utc_ns=1,
        animal=1,
        event_id="e1",
    )
    of_cage = replace(opened, kind=EventKind.CAMERA_LOST, animal=None, event_id="e2")
    kept, names = Kept(), {1: "Ana", 2: "Bo"}
    announcer = MqttAnnouncer(kept, lambda: [opened, of_cage], names)
    announcer.observed(
        replace(OBSERVATION, animals=(*OBSERVATION.animals, AnimalObservation(animal=None, parts=(), track=7)))
    )
    announcer.events_stored()
    (observation,) = kept.observations
    assert [(each["animal"], each["name"]) for each in observation["animals"]] == [(1, "Ana"), (None, None)]
    assert (kept.retained["animal/1"]["animal"], kept.retained["animal/1"]["name"]) == (1, "Ana")
    told = [(each["animal"], each["animal_name"]) for each in kept.retained["alert"]["open"]]
    assert told == [(1, "Ana"), (None, None)]
    message = json.loads(event_message(NumberedEvent(seq=1, boot_id="b", event=opened), names).payload)
    assert (message["animal"], message["animal_name"]) == (1, "Ana")
    schemas = message_schemas()
    jsonschema_rs.validate(schemas["observation"], observation)
    jsonschema_rs.validate(schemas["animal"], kept.retained["animal/1"])
    jsonschema_rs.validate(schemas["alert"], kept.retained["alert"])
    jsonschema_rs.validate(schemas["event"], message)
