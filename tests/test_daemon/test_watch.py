"""Looking at what a box publishes, at a real broker."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from daemon.messaging.broker import EmbeddedBroker
from daemon.messaging.watch import WatchedMessage, WatchError, watch
from daemon.settings import MqttSettings

DEADLINE_S = 15.0


class Broker(Protocol):
    """What the fixture of conftest.py makes."""

    port: int

    def stop(self) -> None:
        """End it."""


class Speaker:
    """Publishes to a broker, each message acknowledged before the next."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def say(self, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
        """Return when the broker has it."""
        message = self._client.publish(topic, payload, qos=1, retain=retain)
        message.wait_for_publish(DEADLINE_S)
        assert message.is_published()

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def speaker(mosquitto: Broker) -> Iterator[Speaker]:
    """Publishes."""
    with closing(Speaker(mosquitto.port)) as speaker:
        yield speaker


def external(port: int, **more: object) -> MqttSettings:
    """How to reach a broker."""
    return MqttSettings.model_validate({"broker": "external", "port": port, **more})


def test_retained_and_new_messages_of_the_box_are_shown_in_order(mosquitto: Broker, speaker: Speaker) -> None:
    speaker.say("vivarium/box1/status", '{"state":"online"}', retain=True)
    speaker.say("vivarium/box2/status", "of another box", retain=True)
    with closing(watch(external(mosquitto.port), password=None, box="box1")) as messages:
        assert next(messages) == WatchedMessage(
            topic="vivarium/box1/status", payload='{"state":"online"}', retained=True
        )
        speaker.say("vivarium/box2/observation", "of another box")
        speaker.say("vivarium/box1/event/animal_too_hot", "ü °C")
        speaker.say("vivarium/box1/observation", b"\xff\x00")
        found = [next(messages), next(messages)]
    assert found == [
        WatchedMessage(topic="vivarium/box1/event/animal_too_hot", payload="ü °C", retained=False),
        WatchedMessage(topic="vivarium/box1/observation", payload="\ufffd\x00", retained=False),
    ]


def test_a_broker_that_is_away_is_an_error_with_its_address(free_port: int) -> None:
    with pytest.raises(WatchError, match=rf"127\.0\.0\.1:{free_port}: Connection refused; is the service running\?"):
        next(watch(external(free_port), password=None, box="box1"))


def test_a_wrong_password_is_refused_and_a_right_one_not(free_port: int) -> None:
    settings = external(free_port, username="rat")
    with EmbeddedBroker("127.0.0.1", free_port, username="rat", password="cheese"):
        with pytest.raises(WatchError, match=rf"127\.0\.0\.1:{free_port}: refused: "):
            next(watch(settings, password="bread", box="box1"))
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.username_pw_set("rat", "cheese")
        client.connect("127.0.0.1", free_port)
        client.loop_start()
        client.publish("vivarium/box1/status", "here", qos=1, retain=True).wait_for_publish(DEADLINE_S)
        with closing(watch(settings, password="cheese", box="box1")) as messages:
            assert next(messages).payload == "here"
        client.disconnect()
        client.loop_stop()


def test_a_broker_that_stops_ends_the_watching_with_an_error(
    make_mosquitto: Callable[..., Broker],
) -> None:
    broker = make_mosquitto()
    with closing(Speaker(broker.port)) as speaker:
        speaker.say("vivarium/box1/status", "here", retain=True)
    messages = watch(external(broker.port), password=None, box="box1")
    assert next(messages).payload == "here"
    broker.stop()
    with pytest.raises(WatchError, match="the connection broke"):
        next(messages)


@pytest.fixture
def watching(mosquitto: Broker, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own."""
    config = tmp_path / "config.toml"
    config.write_text(f'[mqtt]\nbroker = "external"\nport = {mosquitto.port}\n')
    command = [sys.executable, "-m", "daemon", "watch", "--config", str(config)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "40"},
        # A test run in the background has SIGINT ignored, which would be inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        yield process
        process.kill()


def test_the_command_prints_a_line_a_message_until_ctrl_c(watching: subprocess.Popen[str], speaker: Speaker) -> None:
    payload = '{"animals":[{"animal":1,"parts":[[]]}],"long":"' + "x" * 200 + '"}'
    speaker.say("vivarium/box1/observation", payload, retain=True)
    assert watching.stdout is not None
    assert watching.stdout.readline() == f"vivarium/box1/observation (retained) {payload}\n"
    speaker.say("vivarium/box1/event/block_started", "[bold]no markup[/]")
    assert watching.stdout.readline() == "vivarium/box1/event/block_started [bold]no markup[/]\n"
    watching.send_signal(signal.SIGINT)
    assert watching.wait(DEADLINE_S) == 0
    assert watching.stderr is not None
    assert watching.stderr.read() == ""


def test_the_command_ends_quietly_when_nobody_reads_any_more(watching: subprocess.Popen[str], speaker: Speaker) -> None:
    speaker.say("vivarium/box1/status", "here", retain=True)
    assert watching.stdout is not None
    watching.stdout.readline()
    watching.stdout.close()
    speaker.say("vivarium/box1/status", "there")
    watching.wait(DEADLINE_S)
    assert watching.stderr is not None
    assert "Traceback" not in watching.stderr.read()
