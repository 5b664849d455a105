"""The embedded broker."""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from daemon.messaging import topics
from daemon.messaging.broker import BrokerStartError, EmbeddedBroker
from daemon.messaging.publisher import Publisher
from daemon.settings import MqttSettings
from drivers.errors import ConfigError, VivariumError

if TYPE_CHECKING:
    from tests.test_daemon.conftest import ListOutbox, Subscriber

    Subscribe = Callable[[int], Subscriber]

DEADLINE_S = 15.0


def answer_to_connect(port: int, username: str | None, password: str | None) -> str:
    """What the broker says to a client of MQTT 3.1.1 with these credentials."""
    answers: list[str] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
    client.on_connect = lambda client, userdata, flags, reason, properties: answers.append(str(reason))
    if username is not None:
        client.username_pw_set(username, password)
    client.connect("127.0.0.1", port)
    while not answers:
        assert client.loop(DEADLINE_S) == paho.MQTT_ERR_SUCCESS or answers
    client.disconnect()
    return answers[0]


def test_it_carries_the_publishers_messages(free_port: int, subscribe: "Subscribe", outbox: "ListOutbox") -> None:
    with EmbeddedBroker("127.0.0.1", free_port):
        subscriber = subscribe(free_port)
        outbox.add("event/x", [b"event"])
        with Publisher(MqttSettings(port=free_port), box="box1", store=outbox) as publisher:
            publisher.set_retained(topics.INFO, b"info")
            publisher.publish_observation(b"observation")
            subscriber.wait_for(lambda messages: len(messages) >= 4, "status, info, event, observation")
            outbox.wait_depth(0)
            assert publisher.state.protocol == "3.1.1"
            late = subscribe(free_port)
            late.wait_for(lambda messages: {m[0] for m in messages} >= {"vivarium/box1/info"}, "retained info")
            late.close()
        subscriber.wait_for(lambda messages: b'"offline"' in messages[-1][1], "the goodbye")
        assert json.loads(subscriber.messages[-1][1])["reason"] == "stopped"
        subscriber.close()


def heard(port: int, topic: str) -> list[str]:
    """Topics that a new client hears that subscribes to one and, when that is granted, publishes to it."""
    topics_heard: list[str] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
    client.on_connect = lambda client, userdata, flags, reason, properties: client.subscribe(topic)
    client.on_subscribe = lambda client, userdata, mid, reasons, properties: client.publish(topic, b"last")
    client.on_message = lambda client, userdata, message: topics_heard.append(
        "last" if message.payload == b"last" else message.topic
    )
    client.connect("127.0.0.1", port)
    while "last" not in topics_heard:
        assert client.loop(DEADLINE_S) == paho.MQTT_ERR_SUCCESS
    client.disconnect()
    return topics_heard


def test_a_client_hears_what_is_retained_of_its_own_subscriptions_only_and_once(
    free_port: int, subscribe: "Subscribe", outbox: "ListOutbox"
) -> None:
    with (
        EmbeddedBroker("127.0.0.1", free_port),
        Publisher(MqttSettings(port=free_port), box="box1", store=outbox) as publisher,
    ):
        subscriber = subscribe(free_port)
        publisher.set_retained(topics.INFO, b"info")
        subscriber.wait_for(lambda messages: any(m[0].endswith("/info") for m in messages), "info")
        assert heard(free_port, "elsewhere") == ["last"]
        assert heard(free_port, "vivarium/box1/info") == ["vivarium/box1/info", "last"]
        subscriber.close()


def test_it_can_be_stopped_and_started_on_the_same_port(free_port: int) -> None:
    for _ in range(2):
        with EmbeddedBroker("127.0.0.1", free_port):
            assert answer_to_connect(free_port, None, None) == "Success"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port), DEADLINE_S)


def test_stopping_lets_go_of_clients_and_threads(free_port: int) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
    greeted, left = threading.Event(), threading.Event()
    client.on_connect = lambda *_: greeted.set()
    client.on_disconnect = lambda *_: left.set()
    with EmbeddedBroker("127.0.0.1", free_port), socket.create_connection(("127.0.0.1", free_port)) as mute:
        client.connect("127.0.0.1", free_port)
        client.loop_start()
        assert greeted.wait(DEADLINE_S)
        assert mute.fileno() > 0
    assert left.wait(DEADLINE_S)
    client.loop_stop()
    assert "mqtt-broker" not in [thread.name for thread in threading.enumerate()]


def test_rubbish_from_the_network_is_survived_without_a_word(free_port: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), EmbeddedBroker("127.0.0.1", free_port):
        for rubbish in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\xff", b"\x00" * 100):
            with socket.create_connection(("127.0.0.1", free_port), DEADLINE_S) as other:
                other.sendall(rubbish)
        assert answer_to_connect(free_port, None, None) == "Success"
    assert caplog.records == []


def test_a_taken_port_is_named_with_what_to_do(free_port: int, caplog: pytest.LogCaptureFixture) -> None:
    with (
        socket.create_server(("127.0.0.1", free_port)),
        pytest.raises(BrokerStartError, match=rf"another program has port {free_port}.*mqtt\.broker.*mqtt\.port"),
        EmbeddedBroker("127.0.0.1", free_port),
    ):
        pytest.fail("it must not start")
    assert issubclass(BrokerStartError, VivariumError)
    assert caplog.records == []


def test_an_address_of_another_machine_is_named(free_port: int) -> None:
    broker = EmbeddedBroker("203.0.113.7", free_port, username="u", password="p")
    with pytest.raises(BrokerStartError, match="does not have that address"), broker:
        pytest.fail("it must not start")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "box.local", "::", ""])
def test_it_is_not_open_to_other_machines_without_a_password(host: str, free_port: int) -> None:
    with pytest.raises(ConfigError, match="without a password"):
        EmbeddedBroker(host, free_port)


def test_a_user_without_a_password_is_refused(free_port: int) -> None:
    with pytest.raises(ConfigError, match="VIVARIUM_MQTT_PASSWORD"):
        EmbeddedBroker("0.0.0.0", free_port, username="vivarium")


@pytest.fixture
def guarded_port(free_port: int) -> Iterator[int]:
    with EmbeddedBroker("0.0.0.0", free_port, username="vivarium", password="secret"):
        yield free_port


@pytest.mark.parametrize(
    ("username", "password", "answer"),
    [
        pytest.param("vivarium", "secret", "Success", id="right"),
        pytest.param("vivarium", "wrong", "Not authorized", id="wrong password"),
        pytest.param("other", "secret", "Not authorized", id="wrong user"),
        pytest.param("vivarium", None, "Not authorized", id="no password"),
        pytest.param(None, None, "Not authorized", id="anonymous"),
    ],
)
def test_only_the_one_user_comes_in(guarded_port: int, username: str | None, password: str | None, answer: str) -> None:
    assert answer_to_connect(guarded_port, username, password) == answer


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_every_name_of_this_machine_works(host: str, free_port: int) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    with EmbeddedBroker(host, free_port), socket.create_connection((host, free_port), DEADLINE_S) as client:
        assert client.getpeername()[1] == free_port


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
