"""The contract as real subscribers see it: mosquitto_sub and a client of MQTT 5 beside a running service."""

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import jsonschema_rs
import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from daemon.messaging.ask import give_command
from daemon.messaging.contract import CHANNELS, CONTENT_TYPE, Channel, channel_of
from daemon.messaging.discovery import discovery_topic
from daemon.messaging.home_assistant import DeviceDiscovery
from daemon.messaging.payloads import CommandResultPayload
from daemon.messaging.publisher import TELL_AGAIN_S
from daemon.messaging.schemas import message_schemas
from daemon.settings import Settings
from drivers.clock import Clock

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.faults.conftest import Eventually, MakeService, MakeSettings, RunningService
    from tests.faults.timing import ReelCamera
    from tests.test_daemon.conftest import FaultProxy

    MakeProxy = Callable[[int], FaultProxy]

pytestmark = pytest.mark.usefixtures("the_log_is_left_as_it_was")

BASE = "vivarium/box1/"
BIRTH = "homeassistant/status"
OUTSIDE_BLOCKS = {"rate_hz": 5, "block_minutes": 1, "strata": {}}
RECORDED_S = 60


@dataclass(frozen=True)
class Heard:
    """One message with what MQTT 5 says of it."""

    topic: str
    payload: bytes
    retained: bool
    content_type: str | None
    expiry_s: int | None
    user: dict[str, str]
    utf8: bool
    at_s: float
    """When, by the monotonic clock."""


class Listener:
    """A client of MQTT 5 that writes down everything."""

    def __init__(self, port: int) -> None:
        self.heard: list[Heard] = []
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._hear
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(10)

    def _hear(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        properties = message.properties
        self.heard.append(
            Heard(
                topic=message.topic,
                payload=bytes(message.payload),
                retained=message.retain,
                content_type=getattr(properties, "ContentType", None),
                expiry_s=getattr(properties, "MessageExpiryInterval", None),
                user=dict(getattr(properties, "UserProperty", [])),
                utf8=getattr(properties, "PayloadFormatIndicator", 0) == 1,
                at_s=time.monotonic(),
            )
        )

    def say(self, topic: str, payload: bytes) -> None:
        """Publish something."""
        self._client.publish(topic, payload, qos=1).wait_for_publish(10)

    def of(self, topic: str) -> list[Heard]:
        """What came on a topic."""
        return [each for each in list(self.heard) if each.topic == topic]

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def listen() -> Iterator[Callable[[int], Listener]]:
    """Listen to a broker at a port."""
    with ExitStack() as running:

        def begin(port: int) -> Listener:
            listener = Listener(port)
            running.callback(listener.close)
            return listener

        yield begin


def validators() -> dict[str, jsonschema_rs.Validator]:
    return {name: jsonschema_rs.validator_for(schema) for name, schema in message_schemas().items()}


def schema_name(topic: str) -> str:
    """The schema that a message of the box must obey."""
    channel = channel_of(topic.removeprefix(BASE))
    assert channel is not None, f"{topic} is not in the contract"
    return channel.name


def command(settings: Settings, verb: str, **values: object) -> CommandResultPayload:
    """Give a command as the command line does: its last result."""
    results = give_command(settings.mqtt, verb, password=None, box="box1", timeout_s=25, values=values)
    return list(results)[-1]


def connected(running: "RunningService") -> bool:
    return running.service.status().mqtt.state == "connected"


def sees(running: "RunningService") -> bool:
    return running.service.status().camera.last_good_age_s is not None


def by_mosquitto_sub(port: int, seconds: int, *options: str) -> list[tuple[str, str]]:
    """Topic and payload of what the program of Mosquitto hears, retained and live."""
    program = shutil.which("mosquitto_sub")
    if program is None:
        pytest.skip("mosquitto_sub is not installed (Debian: apt install mosquitto-clients)")
    words = [program, "-p", str(port), "-q", "1", "-t", f"{BASE}#", "-F", "%t %p", "-W", str(seconds), *options]
    told = subprocess.run(words, capture_output=True, text=True, timeout=seconds + 20)
    return [(topic, payload) for topic, _, payload in (line.partition(" ") for line in told.stdout.splitlines())]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_every_retained_and_live_message_obeys_its_schema(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    listen: Callable[[int], Listener],
    reel: "ReelCamera",
    eventually: "Eventually",
    make_clock: Callable[[float], Clock],
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
) -> None:
    monkeypatch.setattr("daemon.app.STATUS_INTERVAL_S", 1.0)  # in place of 10 s: health is told so often
    early = listen(mosquitto.port)
    mqtt = {"broker": "external", "port": mosquitto.port, "protocol": protocol}
    settings = make_settings(mqtt=mqtt)
    clock = reel.clock = make_clock(so_that_a_minute_is_soon_over())
    with make_service(settings, open_camera=lambda: reel, clock=clock) as running:
        live = {channel.name for channel in CHANNELS} - (set() if protocol == "5" else {"cage"})

        def heard() -> set[str]:
            return {schema_name(each.topic) for each in list(early.heard) if is_of_the_box(each)}

        eventually(lambda: connected(running) and sees(running), "a frame")
        assert command(settings, "fly").reason == "unknown_verb"
        eventually(lambda: heard() >= live, "every channel", 90)
        if protocol == "5":
            # On a machine that does other things the first minute may hold too little: then the next one counts.
            eventually(lambda: measures_of_an_animal(early), "an animal with measures of a minute", 150)
        retained = dict(by_mosquitto_sub(mosquitto.port, 2, "--retained-only"))
        everything = by_mosquitto_sub(mosquitto.port, 2)
    known = validators()
    for each in filter(is_of_the_box, early.heard):
        known[schema_name(each.topic)].validate(json.loads(each.payload))
        check_properties(each, channel_of(each.topic.removeprefix(BASE)), protocol)
    for topic, payload in (*retained.items(), *everything):
        known[schema_name(topic)].validate(json.loads(payload))
    kept = {channel.name for channel in CHANNELS if channel.retained}
    assert kept & live <= {schema_name(topic) for topic in retained} <= kept
    for topic in {each.topic for each in early.heard if is_of_the_box(each)}:
        check_rate(early.of(topic), channel_of(topic.removeprefix(BASE)))
    assert len(everything) > len(retained)
    (announced, *_) = early.of(discovery_topic(settings))
    known["home_assistant_device"].validate(json.loads(announced.payload))
    DeviceDiscovery.model_validate_json(announced.payload)
    topics = {key for each in early.heard if (key := each.topic).startswith(BASE)}
    wanted = set(re.findall(rf'"({BASE}[^"]+)"', announced.payload.decode()))
    assert wanted <= topics | {f"{BASE}block"}, "Home Assistant is led to topics that are there"
    print(  # noqa: T201  # the figure
        f"MQTT {protocol}: {len(early.heard)} messages heard by paho and {len(everything)} by mosquitto_sub "
        f"({len(retained)} retained), 0 against the schemas"
    )


def is_of_the_box(heard: Heard) -> bool:
    """What the service says, not what it is told."""
    return heard.topic.startswith(BASE) and not re.fullmatch(rf"{BASE}command/[^/]+", heard.topic)


def so_that_a_minute_is_soon_over() -> float:
    """So many seconds later or earlier half of a minute is over, and the time is right to half a minute.

    The rest is enough for its measures, and there is little to wait for.
    """
    shift_s = (30 - time.time()) % 60
    return shift_s if shift_s <= 30 else shift_s - 60


def measures_of_an_animal(listener: Listener) -> dict[str, float | None]:
    """Of the newest message about the first animal, those that have a value; temperatures have an uncertainty."""
    newest = listener.of(f"{BASE}animal/1")[-1:]
    told = json.loads(newest[0].payload) if newest else {}
    found = {name: value for name, value in (told.get("measures") or {}).items() if value is not None}
    assert all(name in told["uncertainties"] for name in found if name.endswith("_mean_celsius"))
    return found


def check_rate(heard: list[Heard], channel: Channel | None) -> None:
    """No more than its limit allows over the whole time; one may have waited, and the network may bunch them."""
    assert channel is not None
    if channel.least_interval_s and channel.name != "observation":  # of these 250 may have waited
        span_s = heard[-1].at_s - heard[0].at_s
        assert len(heard) <= span_s / channel.least_interval_s + 3, f"{heard[0].topic}: {len(heard)} in {span_s:.1f} s"


def check_properties(heard: Heard, channel: Channel | None, protocol: str) -> None:
    assert channel is not None
    if protocol != "5":
        assert (heard.content_type, heard.expiry_s, heard.user) == (None, None, {})
        return
    assert (heard.content_type, heard.user, heard.utf8) == (CONTENT_TYPE, {"schema": "1"}, True)
    if channel.expiry_s is None:
        assert heard.expiry_s is None
    else:
        assert heard.expiry_s is not None
        assert channel.expiry_s - 30 <= heard.expiry_s <= channel.expiry_s


def test_home_assistant_is_told_everything_when_it_comes_and_after_a_reconnect(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    make_proxy: "MakeProxy",
    listen: Callable[[int], Listener],
    eventually: "Eventually",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.messaging.publisher.TELL_AGAIN_S", TELL_AGAIN_S / 10)
    network, listener = make_proxy(mosquitto.port), listen(mosquitto.port)
    settings = make_settings(mqtt={"broker": "external", "port": network.port}, recording={"enabled": False})
    topic = discovery_topic(settings)
    with make_service(settings) as running:
        eventually(lambda: connected(running) and sees(running), "a frame")
        eventually(lambda: listener.of(topic), "the announcement")
        told, states = len(listener.of(topic)), len(listener.of(f"{BASE}status"))
        listener.say(BIRTH, b"offline")
        listener.say(BIRTH, b"online")
        eventually(lambda: len(listener.of(topic)) > told, "the announcement once more")
        eventually(lambda: len(listener.of(f"{BASE}status")) > states, "the state once more")
        many = len(listener.of(topic))
        for _ in range(50):
            listener.say(BIRTH, b"online")
        eventually(lambda: len(listener.of(topic)) > many, "the announcement once more")
        assert len(listener.of(topic)) - many <= 5, "whoever cries birth does not make us cry"
        told = len(listener.of(topic))
        network.cut()
        eventually(lambda: len(listener.of(topic)) > told, "the announcement after a reconnect")
        assert running.service.status().mqtt.commands == {}, "a birth is no command"


def test_a_recording_by_command_is_a_block_of_its_own_until_it_is_stopped(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    reel: "ReelCamera",
    eventually: "Eventually",
) -> None:
    mqtt = {"broker": "external", "port": mosquitto.port}
    settings = make_settings(mqtt=mqtt, schedule=OUTSIDE_BLOCKS)
    with make_service(settings, open_camera=lambda: reel) as running:
        eventually(lambda: connected(running) and sees(running), "a frame")
        refused = command(settings, "stop")
        assert (refused.state, refused.reason) == ("refused", "no_recording")
        begun = command(settings, "record", duration_s=RECORDED_S, rate_hz=5)
        assert begun.state == "done"
        key = str(begun.data["block"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d/by_command-\d+", key)
        assert (begun.data["planned_frames"], begun.data["rate_hz"], begun.data["duration_s"]) == (300, 5.0, RECORDED_S)
        again = command(settings, "record")
        assert (again.state, again.reason, again.data["block"]) == ("refused", "block_open", key)
        counted = "SELECT count(*) FROM planned_sample WHERE frame_id IS NOT NULL"
        eventually(lambda: running.evidence.rows(counted)[0][0] >= 10, "recorded frames")
        stopped = command(settings, "stop")
        assert (stopped.state, stopped.data["block"]) == ("done", key)
        planned = int(str(stopped.data["planned_frames"]))
        assert 10 <= planned < 300
        eventually(lambda: running.evidence.rows("SELECT count(*) FROM recording")[0][0] == 1, "the recording")
    evidence = running.evidence
    (row,) = evidence.rows("SELECT key, state, expected, captured, missing, stratum FROM block")
    assert row[:3] == (key, "finished", planned)
    assert row[3] + row[4] == planned
    assert row[5] == "by_command"
    assert evidence.planned() == evidence.recorded()
    assert len(evidence.planned()) == planned
    assert evidence.is_sound()


def test_a_recording_by_command_goes_on_after_a_restart_and_ends_by_itself(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    reel: "ReelCamera",
    eventually: "Eventually",
) -> None:
    mqtt = {"broker": "external", "port": mosquitto.port}
    settings = make_settings(mqtt=mqtt, schedule=OUTSIDE_BLOCKS)
    with make_service(settings, open_camera=lambda: reel) as running:
        eventually(lambda: connected(running) and sees(running), "a frame")
        begun = command(settings, "record", duration_s=8)
        assert begun.state == "done"
    with make_service(settings, open_camera=lambda: reel) as running:
        eventually(lambda: running.service.status().block.key == begun.data["block"], "the same block")
        finished = "SELECT count(*) FROM block WHERE state = 'finished'"
        eventually(lambda: running.evidence.rows(finished)[0][0] == 1, "its end")
        assert running.service.status().block.key is None
    told = running.evidence.planned()
    assert len(told) == begun.data["planned_frames"]
    assert told == running.evidence.recorded()
    assert list(told.values()).count("captured") > len(told) / 4


def test_no_recording_is_begun_into_a_block_of_the_schedule_or_without_a_camera(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    reel: "ReelCamera",
    eventually: "Eventually",
) -> None:
    mqtt = {"broker": "external", "port": mosquitto.port}
    settings = make_settings(mqtt=mqtt, recording={"enabled": True})
    with make_service(settings, open_camera=lambda: reel) as running:
        eventually(lambda: connected(running) and sees(running), "a frame")
        eventually(lambda: running.service.status().block.key is not None, "the block")
        for verb, reason in (("record", "block_open"), ("stop", "no_recording")):
            result = command(settings, verb)
            assert (result.state, result.reason) == ("refused", reason)
            assert result.data["block"] == running.service.status().block.key
        wrong = command(settings, "record", duration_s=0)
        assert (wrong.reason, wrong.message) == (
            "invalid",
            "duration_s: Input should be greater than or equal to 1",
        )
    settings = make_settings(mqtt=mqtt, recording={"enabled": False}, schedule=OUTSIDE_BLOCKS)
    with make_service(settings, open_camera=lambda: reel) as running:
        eventually(lambda: connected(running) and sees(running), "a frame")
        assert command(settings, "record").reason == "recording_disabled"


def test_a_snapshot_is_a_picture_and_degrees_of_a_frame_after_the_command(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    reel: "ReelCamera",
    eventually: "Eventually",
) -> None:
    settings = make_settings(
        mqtt={"broker": "external", "port": mosquitto.port},
        schedule=OUTSIDE_BLOCKS,
        measure={"outside_rate_hz": 0},
        recording={"enabled": False},
    )
    with make_service(settings, open_camera=lambda: reel) as running:
        eventually(lambda: connected(running) and sees(running), "a frame")
        assert running.service.live.newest is None, "no plan wants a frame"
        taken = command(settings, "snapshot")
        assert taken.state == "done"
        newest = running.service.live.newest
        assert newest is not None
    folder = settings.box.data_dir
    degrees = np.load(folder / str(taken.data["degrees"]))
    assert degrees.dtype == np.float32
    np.testing.assert_array_equal(degrees, newest[0].celsius)
    picture = cv2.imread(str(folder / str(taken.data["picture"])))
    assert picture is not None
    assert picture.shape[:2] == (3 * degrees.shape[0], 3 * degrees.shape[1])
    facts = json.loads((folder / str(taken.data["degrees"])).with_suffix(".json").read_text())
    assert facts["degrees_sha256"] == taken.data["degrees_sha256"]
    assert facts["observation"]["captured_utc_ns"] == taken.data["captured_utc_ns"]
    assert running.evidence.rows("SELECT count(*) FROM frame")[0][0] == 1


def test_a_setting_is_changed_for_now_and_the_config_brings_it_back(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    reel: "ReelCamera",
    eventually: "Eventually",
) -> None:
    settings = make_settings(mqtt={"broker": "external", "port": mosquitto.port}, recording={"enabled": False})
    with make_service(settings, open_camera=lambda: reel) as running:
        running.load = lambda: settings
        eventually(lambda: connected(running) and sees(running), "a frame")
        runs = running.evidence.rows("SELECT count(*) FROM run")[0][0]
        done = command(settings, "set/alerts.not_seen_after_s", value=7.5)
        assert done.state == "done"
        assert done.data == {"key": "alerts.not_seen_after_s", "value": 7.5, "before": 300.0}
        assert done.message is not None
        assert "config.toml" in done.message
        assert running.service.settings.alerts.not_seen_after_s == 7.5
        assert running.evidence.rows("SELECT count(*) FROM run")[0][0] == runs + 1
        for verb, value, reason in (
            ("set/alerts.not_seen_after_s", "soon", "invalid"),
            ("set/alerts.not_seen_after_s", 0, "invalid"),
            ("set/disk.keep_days", 1, "unknown_verb"),
        ):
            assert command(settings, verb, value=value).reason == reason
        assert running.service.settings.alerts.not_seen_after_s == 7.5
        assert command(settings, "reload").state == "done"
        assert running.service.settings == settings


def test_a_setting_by_command_says_nothing_of_the_config_file(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    reel: "ReelCamera",
    eventually: "Eventually",
) -> None:
    settings = make_settings(mqtt={"broker": "external", "port": mosquitto.port}, recording={"enabled": False})
    kept: list[str] = []
    with make_service(
        settings,
        open_camera=lambda: reel,
        config_problem="the file is torn",
        on_reloaded=lambda: kept.append("kept"),
    ) as running:
        running.load = lambda: settings

        def told() -> list[str]:
            return [reason.code for reason in running.service.status().reasons]

        eventually(lambda: connected(running) and sees(running), "a frame")
        assert command(settings, "set/alerts.not_seen_after_s", value=7.5).state == "done"
        assert "config_damaged" in told()
        assert kept == []
        assert command(settings, "reload").state == "done"
        assert "config_damaged" not in told()
        assert kept == ["kept"]
