"""The way of a command from a broker to the publisher's listener, and of its result back."""

import json
import queue
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from daemon.messaging.ask import REPEAT_S, give_command
from daemon.messaging.incoming import MOST_PAYLOAD_BYTES, IncomingMessage
from daemon.messaging.payloads import CommandResultPayload
from daemon.messaging.publisher import Publisher
from daemon.settings import MqttSettings

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.test_daemon.conftest import FaultProxy, ListOutbox, LogWatch

    MakeProxy = Callable[[int], FaultProxy]

DEADLINE_S = 15.0
COMMAND = "vivarium/box1/command/act"
RESULT = "vivarium/box1/command/act/result"

Heard = queue.SimpleQueue[IncomingMessage]


@pytest.fixture
def listening(outbox: "ListOutbox") -> Iterator[Callable[..., tuple[Publisher, Heard]]]:
    """A publisher that listens to commands at a port, and what it hears."""
    with ExitStack() as running:

        def make(port: int, **changes: Any) -> tuple[Publisher, Heard]:
            heard: Heard = queue.SimpleQueue()
            settings = MqttSettings(broker="external", port=port, keep_alive_s=5, **changes)
            publisher = Publisher(settings, box="box1", store=outbox, on_command=heard.put)
            return running.enter_context(publisher), heard

        yield make


class Asker:
    """Somebody outside who speaks MQTT 5."""

    def __init__(self, port: int) -> None:
        self.results: queue.SimpleQueue[paho.MQTTMessage] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(RESULT, qos=1)
        self._client.on_subscribe = lambda *_: self._ready.put(None)
        self._client.on_message = lambda _client, _data, message: self.results.put(message)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._ready.get(timeout=DEADLINE_S)

    def ask(self, payload: bytes, *, topic: str = COMMAND, retain: bool = False, correlation: bytes = b"") -> None:
        """Publish a command."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if correlation:
            properties.CorrelationData = correlation
        self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def asker(mosquitto: "Mosquitto") -> Iterator[Asker]:
    asker = Asker(mosquitto.port)
    yield asker
    asker.close()


def heard_until(heard: Heard, asker: Asker, last: bytes) -> list[IncomingMessage]:
    """What was heard, up to a payload that is asked again until it comes: the subscription takes its time."""
    messages: list[IncomingMessage] = []
    while not messages or messages[-1].payload != last:
        asker.ask(last)
        try:
            messages.append(heard.get(timeout=0.2))
        except queue.Empty:
            continue
    return messages


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_commands_are_heard_on_every_connection_but_results_are_not(
    mosquitto: "Mosquitto",
    make_proxy: "MakeProxy",
    listening: Callable[..., tuple[Publisher, Heard]],
    asker: Asker,
    messaging_log: "LogWatch",
    protocol: str,
) -> None:
    network = make_proxy(mosquitto.port)
    publisher, heard = listening(network.port, protocol=protocol)
    assert publisher.wait_connected(DEADLINE_S)
    heard_until(heard, asker, b"first")
    network.cut()
    messaging_log.wait_for("connected, MQTT", count=2)
    publisher.publish_result("command/act/result", b"result", None)
    assert asker.results.get(timeout=DEADLINE_S).payload == b"result"
    messages = heard_until(heard, asker, b"second")
    assert {message.topic for message in messages} == {COMMAND}
    assert b"result" not in [message.payload for message in messages]


def test_correlation_data_go_there_and_back(
    mosquitto: "Mosquitto", listening: Callable[..., tuple[Publisher, Heard]], asker: Asker
) -> None:
    publisher, heard = listening(mosquitto.port)
    heard_until(heard, asker, b"ready")
    asker.ask(b"{}", correlation=b"\x00c1")
    while (message := heard.get(timeout=DEADLINE_S)).payload != b"{}":
        pass
    assert message.correlation == b"\x00c1"
    publisher.publish_result("command/act/result", b"answer", message.correlation)
    result = asker.results.get(timeout=DEADLINE_S)
    assert (result.payload, result.retain) == (b"answer", False)
    assert getattr(result.properties, "CorrelationData", None) == b"\x00c1"


def test_a_retained_command_is_known_as_one_at_once_and_again_on_return(
    mosquitto: "Mosquitto", make_proxy: "MakeProxy", listening: Callable[..., tuple[Publisher, Heard]], asker: Asker
) -> None:
    network = make_proxy(mosquitto.port)
    _, heard = listening(network.port)
    heard_until(heard, asker, b"ready")
    asker.ask(b"for ever", retain=True)
    for _ in range(2):
        while (message := heard.get(timeout=DEADLINE_S)).payload != b"for ever":
            pass
        assert message.retained
        network.cut()


def test_of_a_large_payload_only_the_size_is_kept(
    mosquitto: "Mosquitto", listening: Callable[..., tuple[Publisher, Heard]], asker: Asker
) -> None:
    _, heard = listening(mosquitto.port)
    heard_until(heard, asker, b"ready")
    for size_bytes in (MOST_PAYLOAD_BYTES, MOST_PAYLOAD_BYTES + 1, 1024**2):
        asker.ask(bytes(size_bytes))
        while (message := heard.get(timeout=DEADLINE_S)).size_bytes != size_bytes:
            pass
        assert len(message.payload) == (size_bytes if size_bytes <= MOST_PAYLOAD_BYTES else 0)


def test_a_broker_that_does_not_let_us_listen_is_told_once(
    listening: Callable[..., tuple[Publisher, Heard]], messaging_log: "LogWatch"
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S)
        publisher, _ = listening(server.getsockname()[1])
        broker, _ = server.accept()
        with broker:
            broker.settimeout(DEADLINE_S)
            broker.recv(1000)
            broker.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK
            heard = b""
            while b"command/+" not in heard:
                heard += broker.recv(1000)
            request = heard[heard.index(b"\x82") + 2 :][:2]
            broker.sendall(b"\x90\x04" + request + b"\x00\x87")  # SUBACK: not authorized
            messaging_log.wait_for("does not let us listen to vivarium/box1/command/+: Not authorized")
            assert "does not let us listen" in (publisher.state.last_error or "")
            publisher.notify()
            publisher.stop()
    assert sum("does not let us listen" in line for line in messaging_log.lines) == 1


def test_a_command_that_is_lost_on_the_way_is_given_again_and_its_results_are_told_once(
    listening: Callable[..., tuple[Publisher, Heard]], mosquitto: "Mosquitto"
) -> None:
    publisher, heard = listening(mosquitto.port)
    assert publisher.wait_connected(DEADLINE_S)

    def result(request_id: str, state: str, *, repeated: bool = False) -> bytes:
        return CommandResultPayload(
            verb="act",
            request_id=request_id,
            state=state,
            reason=None,
            message=None,
            repeated=repeated,
            at="2026-11-26T12:00:00Z",
            at_utc_ns=0,
        ).to_json()

    def answer_from_the_second_on() -> None:
        given = [json.loads(heard.get(timeout=DEADLINE_S).payload)["request_id"] for _ in range(2)]
        assert given[0] == given[1]
        for answer in (result(given[0], "accepted"), result(given[0], "accepted", repeated=True)):
            publisher.publish_result("command/act/result", answer, None)
        publisher.publish_result("command/act/result", result(given[0], "done"), None)

    settings = MqttSettings(broker="external", port=mosquitto.port)
    with ThreadPoolExecutor(1) as pool:
        answered = pool.submit(answer_from_the_second_on)
        results = give_command(settings, "act", password=None, box="box1", timeout_s=REPEAT_S + DEADLINE_S)
        assert [each.state for each in results] == ["accepted", "done"]
        answered.result(DEADLINE_S)
