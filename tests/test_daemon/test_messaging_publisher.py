"""The publisher against a real Mosquitto, through a network that breaks."""

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from paho.mqtt import publish

from daemon.messaging import topics
from daemon.messaging.broker import EmbeddedBroker
from daemon.messaging.incoming import IncomingMessage
from daemon.messaging.outbox import QueuedMessage
from daemon.messaging.probes import ProbeReadings
from daemon.messaging.publisher import MAX_WAITING_OBSERVATIONS, Publisher
from daemon.messaging.window import WINDOW_MESSAGES
from daemon.settings import MqttSettings
from drivers.clock import NS_PER_S, SystemClock
from drivers.errors import ConfigError

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.test_daemon.conftest import FaultProxy, ListOutbox, LogWatch, Subscriber

    MakeMosquitto = Callable[..., Mosquitto]
    MakePublisher = Callable[..., Publisher]
    MakeProxy = Callable[[int], FaultProxy]
    Subscribe = Callable[[int], Subscriber]

DEADLINE_S = 15.0
STATUS = "vivarium/box1/status"
EVENTS = "vivarium/box1/event/"
KEEP_ALIVE_S = 5


def settings_for(port: int, **changes: Any) -> MqttSettings:
    values: dict[str, Any] = {"broker": "external", "port": port, "keep_alive_s": KEEP_ALIVE_S}
    return MqttSettings(**{**values, **changes})


@pytest.fixture
def make_publisher(outbox: "ListOutbox") -> "Iterator[MakePublisher]":
    with ExitStack() as running:

        def make(port: int, *, password: str | None = None, **changes: Any) -> Publisher:
            publisher = Publisher(settings_for(port, **changes), password=password, box="box1", store=outbox)
            return running.enter_context(publisher)

        yield make


def states(payloads: list[bytes]) -> list[str]:
    return [json.loads(payload)["state"] for payload in payloads]


def status_is(subscriber: "Subscriber", state: str, *, count: int = 1) -> None:
    subscriber.wait_for(
        lambda messages: states([payload for topic, payload, _ in messages if topic == STATUS]).count(state) >= count,
        f"{count} x status {state}",
    )


def numbered(first: int, count: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


def store(outbox: "ListOutbox", publisher: Publisher, payloads: list[bytes]) -> None:
    outbox.add("event/x", payloads)
    publisher.notify()


def hears_events(subscriber: "Subscriber", payloads: list[bytes]) -> None:
    wanted = set(payloads)
    subscriber.wait_for(
        # Counted first: asked after every message, the sets alone would make thousands of them slow.
        lambda messages: (
            len(messages) >= len(wanted)
            and wanted <= {payload for topic, payload, _ in messages if topic.startswith(EVENTS)}
        ),
        f"{len(payloads)} events",
    )


def first_hearing(payloads: list[bytes]) -> list[int]:
    return [int(payload) for payload in dict.fromkeys(payloads)]


def test_everything_reaches_a_subscriber_outside(
    mosquitto: "Mosquitto", subscribe: "Subscribe", make_publisher: "MakePublisher", outbox: "ListOutbox"
) -> None:
    subscriber = subscribe(mosquitto.port)
    publisher = make_publisher(mosquitto.port)
    status_is(subscriber, "online")
    publisher.set_retained(topics.INFO, b"info")
    publisher.publish_observation(b"observation")
    store(outbox, publisher, [b"event"])
    subscriber.wait_for(lambda messages: len(messages) >= 4, "status, info, observation, event")
    assert {topic: payload for topic, payload, _ in subscriber.messages if topic != STATUS} == {
        "vivarium/box1/info": b"info",
        "vivarium/box1/observation": b"observation",
        "vivarium/box1/event/x": b"event",
    }
    outbox.wait_depth(0)
    state = publisher.state
    assert (state.connected, state.protocol, state.last_error) == (True, "5", None)
    assert (state.published, state.in_flight, state.reconnects, state.dropped) == (1, 0, 0, 0)


def test_a_contact_probe_is_heard_beside_the_commands(
    mosquitto: "Mosquitto", subscribe: "Subscribe", outbox: "ListOutbox"
) -> None:
    probes, heard = ProbeReadings(["lab/shelf 1/probe"]), threading.Event()
    commands: list[str | None] = []

    def command(message: IncomingMessage) -> None:
        commands.append(message.topic)
        heard.set()

    subscriber = subscribe(mosquitto.port)
    settings = settings_for(mosquitto.port)
    with Publisher(settings, box="box1", store=outbox, on_command=command, probes=probes):
        status_is(subscriber, "online")
        publish.single("lab/shelf 1/probe", b'{"temperature": 30.5}', hostname="127.0.0.1", port=mosquitto.port, qos=1)
        publish.single("vivarium/box1/command/reload", b"{}", hostname="127.0.0.1", port=mosquitto.port, qos=1)
        assert heard.wait(10)
    assert probes.celsius("lab/shelf 1/probe", time.monotonic_ns()) == 30.5
    assert commands == ["vivarium/box1/command/reload"]


def test_a_late_subscriber_finds_the_state_but_no_events(
    mosquitto: "Mosquitto", subscribe: "Subscribe", make_publisher: "MakePublisher", outbox: "ListOutbox"
) -> None:
    early = subscribe(mosquitto.port)
    publisher = make_publisher(mosquitto.port)
    publisher.set_retained(topics.animal(1), b"old")
    publisher.set_retained(topics.animal(1), b"new")
    publisher.set_retained(topics.HEALTH, b"fine")
    store(outbox, publisher, [b"event"])
    hears_events(early, [b"event"])
    early.wait_for(lambda messages: b"new" in [payload for _, payload, _ in messages], "the newest state")
    early.wait_for(lambda messages: b"fine" in [payload for _, payload, _ in messages], "health")
    late = subscribe(mosquitto.port)
    late.wait_for(lambda messages: len(messages) >= 3, "the retained state")
    assert all(retained for _, _, retained in late.messages)
    assert {topic for topic, _, _ in late.messages} == {STATUS, "vivarium/box1/animal/1", "vivarium/box1/health"}
    assert late.payloads("vivarium/box1/animal/1") == [b"new"]


def test_stopping_says_goodbye_after_the_last_event(
    mosquitto: "Mosquitto", subscribe: "Subscribe", make_publisher: "MakePublisher", outbox: "ListOutbox"
) -> None:
    subscriber = subscribe(mosquitto.port)
    publisher = make_publisher(mosquitto.port)
    assert publisher.wait_connected(DEADLINE_S)
    events = numbered(0, 3 * WINDOW_MESSAGES)
    store(outbox, publisher, events)
    publisher.stop()
    status_is(subscriber, "offline")
    assert subscriber.payloads(EVENTS) == events
    assert json.loads(subscriber.messages[-1][1])["reason"] == "stopped"
    assert outbox.outbox_depth() == 0
    assert not publisher.state.connected


def test_the_last_will_speaks_when_the_connection_is_cut(
    mosquitto: "Mosquitto", subscribe: "Subscribe", make_publisher: "MakePublisher", make_proxy: "MakeProxy"
) -> None:
    subscriber = subscribe(mosquitto.port)
    proxy = make_proxy(mosquitto.port)
    publisher = make_publisher(proxy.port)
    publisher.set_retained(topics.INFO, b"info")
    status_is(subscriber, "online")
    proxy.cut()
    status_is(subscriber, "offline")
    status_is(subscriber, "online", count=2)
    subscriber.wait_for(lambda messages: [m[1] for m in messages].count(b"info") == 2, "the state again")
    assert states(subscriber.payloads(STATUS)) == ["online", "offline", "online"]
    assert publisher.state.reconnects == 1


def test_a_stopped_broker_costs_no_event(
    mosquitto: "Mosquitto",
    subscribe: "Subscribe",
    make_publisher: "MakePublisher",
    outbox: "ListOutbox",
    messaging_log: "LogWatch",
) -> None:
    subscriber = subscribe(mosquitto.port)
    publisher = make_publisher(mosquitto.port)
    publisher.set_retained(topics.BLOCK, b"block")
    store(outbox, publisher, numbered(0, 10))
    hears_events(subscriber, numbered(0, 10))
    outbox.wait_depth(0)
    mosquitto.stop()
    messaging_log.wait_for("connection lost")
    store(outbox, publisher, numbered(10, 1000))
    mosquitto.start()
    subscriber.wait_subscribed(times=2)
    late = subscribe(mosquitto.port)
    outbox.wait_depth(0)
    late.wait_for(lambda messages: b"block" in [payload for _, payload, _ in messages], "the state of the block")
    assert publisher.state.published == 1010
    assert sum("no connection" in line or "connection lost" in line for line in messaging_log.lines) <= 2


@pytest.mark.parametrize("round_trip", range(3))
def test_events_sent_into_breaking_connections_arrive_in_order_and_repeat_at_most_a_window(
    mosquitto: "Mosquitto",
    subscribe: "Subscribe",
    make_publisher: "MakePublisher",
    make_proxy: "MakeProxy",
    outbox: "ListOutbox",
    round_trip: int,
) -> None:
    subscriber = subscribe(mosquitto.port)
    proxy = make_proxy(mosquitto.port)
    events = numbered(0, 5000)
    outbox.add("event/x", events)
    publisher = make_publisher(proxy.port)
    hears_events(subscriber, events[: 500 + 700 * round_trip])
    proxy.cut()
    hears_events(subscriber, events)
    outbox.wait_depth(0)
    heard = subscriber.payloads(EVENTS)
    assert first_hearing(heard) == list(range(5000))
    assert len(heard) - len(events) <= WINDOW_MESSAGES * publisher.state.reconnects


def test_a_killed_broker_costs_no_event_that_it_had_not_acknowledged(
    mosquitto: "Mosquitto",
    subscribe: "Subscribe",
    make_publisher: "MakePublisher",
    make_proxy: "MakeProxy",
    outbox: "ListOutbox",
    messaging_log: "LogWatch",
) -> None:
    subscriber = subscribe(mosquitto.port)
    proxy = make_proxy(mosquitto.port)
    outbox.add("event/x", numbered(0, 6000))
    publisher = make_publisher(proxy.port)
    publisher.set_retained(topics.INFO, b"info")
    hears_events(subscriber, numbered(0, 300))
    mosquitto.stop(signal.SIGKILL)
    messaging_log.wait_for("connection lost")
    acknowledged = publisher.state.published  # in order, so these are the first ones
    assert acknowledged < 6000
    proxy.refuse()  # until the subscriber is back, so that it can hear everything
    mosquitto.start()
    subscriber.wait_subscribed(times=2)
    proxy.heal()
    hears_events(subscriber, numbered(acknowledged, 6000 - acknowledged))
    outbox.wait_depth(0)
    late = subscribe(mosquitto.port)
    late.wait_for(lambda messages: b"info" in [payload for _, payload, _ in messages], "the state, made anew")


def test_events_of_an_earlier_process_are_sent(
    mosquitto: "Mosquitto", subscribe: "Subscribe", make_publisher: "MakePublisher", outbox: "ListOutbox"
) -> None:
    subscriber = subscribe(mosquitto.port)
    outbox.add("event/x", numbered(0, 3))
    make_publisher(mosquitto.port)
    hears_events(subscriber, numbered(0, 3))
    outbox.wait_depth(0)


def test_a_wrong_password_is_told_once_and_waited_out(
    tmp_path: Path,
    make_mosquitto: "MakeMosquitto",
    make_publisher: "MakePublisher",
    make_proxy: "MakeProxy",
    messaging_log: "LogWatch",
) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", passwords, "vivarium", "right"], check=True, capture_output=True)
    broker = make_mosquitto(f"allow_anonymous false\npassword_file {passwords}")
    proxy = make_proxy(broker.port)
    publisher = make_publisher(proxy.port, username="vivarium", password="wrong")
    proxy.wait_accepted(3)
    assert not publisher.wait_connected(0)
    assert "Not authorized" in (publisher.state.last_error or "")
    assert sum("Not authorized" in line for line in messaging_log.lines) == 1
    subprocess.run(["mosquitto_passwd", "-b", passwords, "vivarium", "wrong"], check=True, capture_output=True)
    broker.stop()
    broker.start()
    assert publisher.wait_connected(DEADLINE_S)


def test_a_user_without_the_right_to_write_keeps_the_events(
    tmp_path: Path,
    make_mosquitto: "MakeMosquitto",
    make_publisher: "MakePublisher",
    outbox: "ListOutbox",
    messaging_log: "LogWatch",
) -> None:
    rights = tmp_path / "rights"
    rights.write_text("topic read #\n")
    broker = make_mosquitto(f"allow_anonymous true\nacl_file {rights}")
    publisher = make_publisher(broker.port)
    store(outbox, publisher, numbered(0, 3))
    messaging_log.wait_for("the broker refuses messages below vivarium/box1/: Not authorized")
    assert publisher.state.connected
    assert outbox.outbox_depth() == 3
    assert sum("refuses messages" in line for line in messaging_log.lines) == 1


def test_a_half_open_connection_is_given_up(
    mosquitto: "Mosquitto",
    subscribe: "Subscribe",
    make_publisher: "MakePublisher",
    make_proxy: "MakeProxy",
    outbox: "ListOutbox",
    messaging_log: "LogWatch",
) -> None:
    subscriber = subscribe(mosquitto.port)
    proxy = make_proxy(mosquitto.port)
    publisher = make_publisher(proxy.port)
    status_is(subscriber, "online")
    proxy.hang()
    proxy.heal()  # for new connections: ours stays open and silent, and so does the broker's side of it
    store(outbox, publisher, numbered(0, 5))
    publisher.publish_observation(b"into the void")
    messaging_log.wait_for("connection lost")
    hears_events(subscriber, numbered(0, 5))
    status_is(subscriber, "online", count=2)
    # The broker sends the last will when the same client comes again; it must not be what stays.
    assert states(subscriber.payloads(STATUS)) == ["online", "offline", "online"]


def test_a_broker_that_hangs_for_a_while_is_found_again(
    mosquitto: "Mosquitto", make_publisher: "MakePublisher", make_proxy: "MakeProxy", messaging_log: "LogWatch"
) -> None:
    proxy = make_proxy(mosquitto.port)
    publisher = make_publisher(proxy.port)
    assert publisher.wait_connected(DEADLINE_S)
    proxy.cut()
    proxy.hang()
    messaging_log.wait_for("does not answer")
    proxy.heal()
    assert publisher.wait_connected(DEADLINE_S)
    assert publisher.state.protocol == "5"  # to hang is no sign of an older version where a newer one was spoken


def test_a_broker_that_never_answers_does_not_delay_stopping(
    mosquitto: "Mosquitto", make_publisher: "MakePublisher", make_proxy: "MakeProxy"
) -> None:
    proxy = make_proxy(mosquitto.port)
    proxy.hang()
    publisher = make_publisher(proxy.port)
    proxy.wait_accepted(1)
    publisher.stop()
    assert not publisher.state.connected
    assert "mqtt-publisher" not in [thread.name for thread in threading.enumerate()]


def test_stopping_while_nothing_passes_leaves_the_events_and_the_last_will(
    mosquitto: "Mosquitto",
    subscribe: "Subscribe",
    make_publisher: "MakePublisher",
    make_proxy: "MakeProxy",
    outbox: "ListOutbox",
) -> None:
    subscriber = subscribe(mosquitto.port)
    proxy = make_proxy(mosquitto.port)
    publisher = make_publisher(proxy.port)
    status_is(subscriber, "online")
    proxy.hang()
    store(outbox, publisher, numbered(0, 5))
    publisher.stop()
    assert "mqtt-publisher" not in [thread.name for thread in threading.enumerate()]
    assert outbox.outbox_depth() == 5
    proxy.close()
    status_is(subscriber, "offline")
    assert json.loads(subscriber.payloads(STATUS)[-1])["reason"] == "connection_lost"


def test_a_refused_connection_is_told_once(
    mosquitto: "Mosquitto", make_publisher: "MakePublisher", make_proxy: "MakeProxy", messaging_log: "LogWatch"
) -> None:
    proxy = make_proxy(mosquitto.port)
    proxy.refuse()
    publisher = make_publisher(proxy.port)
    messaging_log.wait_for("no connection: Connection refused")
    proxy.heal()
    assert publisher.wait_connected(DEADLINE_S)
    messaging_log.wait_for("connected, MQTT 5")
    assert len(messaging_log.lines) == 2


class ScriptedBroker:
    """A listening socket that says exactly what a test wants."""

    CONNACK_5 = b"\x20\x03\x00\x00\x00"
    CONNACK_3_1_1 = b"\x20\x02\x00\x00"
    WRONG_VERSION = b"\x20\x02\x00\x01"
    SESSION_TAKEN_OVER = b"\xe0\x01\x8e"

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(DEADLINE_S)
        self._clients: list[socket.socket] = []
        self.port: int = self._server.getsockname()[1]

    def accept(self) -> tuple[socket.socket, int]:
        """The next client, and the protocol level in its CONNECT (MQTT 5: 5, MQTT 3.1.1: 4)."""
        client, _ = self._server.accept()
        client.settimeout(DEADLINE_S)
        self._clients.append(client)
        return client, client.recv(1000).partition(b"\x00\x04MQTT")[2][0]

    def close(self) -> None:
        """End."""
        for end in (*self._clients, self._server):
            end.close()


@pytest.fixture
def scripted() -> Iterator[ScriptedBroker]:
    broker = ScriptedBroker()
    yield broker
    broker.close()


def test_two_boxes_of_one_name_are_told(
    scripted: ScriptedBroker, make_publisher: "MakePublisher", messaging_log: "LogWatch"
) -> None:
    publisher = make_publisher(scripted.port)
    client, _ = scripted.accept()
    client.sendall(scripted.CONNACK_5)
    assert publisher.wait_connected(DEADLINE_S)
    client.sendall(scripted.SESSION_TAKEN_OVER)
    messaging_log.wait_for("another client has the same name; give every box its own box.name")


def test_a_refused_version_is_remembered(scripted: ScriptedBroker, make_publisher: "MakePublisher") -> None:
    publisher = make_publisher(scripted.port)
    first, first_level = scripted.accept()
    first.sendall(scripted.WRONG_VERSION)
    second, second_level = scripted.accept()
    second.sendall(scripted.CONNACK_3_1_1)
    assert publisher.wait_connected(DEADLINE_S)
    second.close()
    _, third_level = scripted.accept()
    assert (first_level, second_level, third_level) == (5, 4, 4)


def test_a_broker_that_was_only_silent_is_asked_for_mqtt_5_again(
    scripted: ScriptedBroker, make_publisher: "MakePublisher"
) -> None:
    publisher = make_publisher(scripted.port)
    first, first_level = scripted.accept()
    first.close()
    second, second_level = scripted.accept()
    second.sendall(scripted.CONNACK_3_1_1)
    assert publisher.wait_connected(DEADLINE_S)
    second.close()
    _, third_level = scripted.accept()
    assert (first_level, second_level, third_level) == (5, 4, 5)


class ShiftedClock(SystemClock):
    """The machine's clock, which a test can set forward."""

    shift_s = 0

    def monotonic_ns(self) -> int:
        """See `Clock`."""
        return super().monotonic_ns() + self.shift_s * NS_PER_S


def test_a_broker_that_acknowledges_nothing_is_left(
    scripted: ScriptedBroker, outbox: "ListOutbox", messaging_log: "LogWatch"
) -> None:
    clock = ShiftedClock()
    outbox.add("event/x", numbered(0, 1))
    with Publisher(settings_for(scripted.port), box="box1", store=outbox, clock=clock) as publisher:
        client, _ = scripted.accept()
        client.sendall(scripted.CONNACK_5)
        received = b""
        while b"event/x" not in received:
            received += client.recv(1000)
        clock.shift_s = 60
        publisher.notify()
        messaging_log.wait_for("acknowledged nothing for 7.5 s")
    assert outbox.outbox_depth() == 1


def test_a_mistake_of_ours_does_not_end_the_publisher(
    mosquitto: "Mosquitto",
    subscribe: "Subscribe",
    make_publisher: "MakePublisher",
    outbox: "ListOutbox",
    messaging_log: "LogWatch",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mistake(**_: int) -> list[QueuedMessage]:
        monkeypatch.undo()
        raise RuntimeError("a mistake")

    monkeypatch.setattr(outbox, "queued_messages", mistake)
    subscriber = subscribe(mosquitto.port)
    outbox.add("event/x", numbered(0, 3))
    make_publisher(mosquitto.port)
    hears_events(subscriber, numbered(0, 3))
    messaging_log.wait_for("the publisher failed and starts anew")


def test_an_address_that_swallows_connections_does_not_delay_stopping(outbox: "ListOutbox") -> None:
    """A full listen queue makes the kernel drop what asks for a connection, as a firewall does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as waiting:
        address = server.getsockname()
        for _ in range(3):
            other = waiting.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(address)
        publisher = Publisher(settings_for(address[1]), box="box1", store=outbox)
        publisher.start()
        publisher.stop()
        assert not publisher.state.connected
        publisher.notify()
        publisher.publish_observation(b"too late")


def test_an_unknown_host_is_told_by_its_cause(make_publisher: "MakePublisher", messaging_log: "LogWatch") -> None:
    make_publisher(1883, host="no-such-host.invalid")
    messaging_log.wait_for("no-such-host.invalid:1883: no connection")


def test_what_is_no_broker_is_told_as_such(make_publisher: "MakePublisher", messaging_log: "LogWatch") -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        publisher = make_publisher(server.getsockname()[1])
        for _ in range(2):  # both versions of MQTT are tried
            other, _ = server.accept()
            other.recv(100)
            other.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            other.close()
        messaging_log.wait_for("no connection")
    assert not publisher.state.connected


def test_old_observations_give_way_while_no_broker_is_there(
    mosquitto: "Mosquitto", subscribe: "Subscribe", make_publisher: "MakePublisher", make_proxy: "MakeProxy"
) -> None:
    subscriber = subscribe(mosquitto.port)
    proxy = make_proxy(mosquitto.port)
    proxy.refuse()
    publisher = make_publisher(proxy.port)
    for payload in numbered(0, MAX_WAITING_OBSERVATIONS + 7):
        publisher.publish_observation(payload)
    assert publisher.state.dropped == 7
    proxy.heal()
    subscriber.wait_for(
        lambda messages: sum(topic.endswith("/observation") for topic, _, _ in messages) == MAX_WAITING_OBSERVATIONS,
        "the observations that were kept",
    )
    assert first_hearing(subscriber.payloads("vivarium/box1/observation"))[0] == 7


def test_events_wait_while_the_database_refuses(
    mosquitto: "Mosquitto",
    subscribe: "Subscribe",
    make_publisher: "MakePublisher",
    outbox: "ListOutbox",
    messaging_log: "LogWatch",
) -> None:
    subscriber = subscribe(mosquitto.port)
    outbox.add("event/x", numbered(0, 3))
    outbox.fails = True
    publisher = make_publisher(mosquitto.port)
    messaging_log.wait_for("the outbox cannot be used")
    publisher.publish_observation(b"still here")
    subscriber.wait_for(lambda messages: b"still here" in [payload for _, payload, _ in messages], "an observation")
    outbox.fails = False
    hears_events(subscriber, numbered(0, 3))
    outbox.wait_depth(0)


def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(
    free_port: int, subscribe: "Subscribe", make_publisher: "MakePublisher", outbox: "ListOutbox"
) -> None:
    with EmbeddedBroker("127.0.0.1", free_port):
        subscriber = subscribe(free_port)
        publisher = make_publisher(free_port)
        store(outbox, publisher, numbered(0, 500))
        hears_events(subscriber, numbered(0, 500))
        outbox.wait_depth(0)
        assert publisher.state.protocol == "3.1.1"
        assert first_hearing(subscriber.payloads(EVENTS)) == list(range(500))
        publisher.stop()
        status_is(subscriber, "offline")
        subscriber.close()


def test_a_broker_that_does_not_know_the_only_allowed_version_is_told(
    free_port: int, make_publisher: "MakePublisher", messaging_log: "LogWatch"
) -> None:
    with EmbeddedBroker("127.0.0.1", free_port):
        publisher = make_publisher(free_port, protocol="5")
        messaging_log.wait_for("does not answer to MQTT 5")
        publisher.stop()


def test_version_3_1_1_is_spoken_where_it_is_asked_for(
    mosquitto: "Mosquitto", subscribe: "Subscribe", make_publisher: "MakePublisher"
) -> None:
    subscriber = subscribe(mosquitto.port)
    publisher = make_publisher(mosquitto.port, protocol="3.1.1")
    status_is(subscriber, "online")
    assert publisher.state.protocol == "3.1.1"


@pytest.mark.parametrize("receive_maximum", [1, 20, 65535])
def test_twenty_thousand_events_drain(
    make_mosquitto: "MakeMosquitto",
    make_publisher: "MakePublisher",
    subscribe: "Subscribe",
    outbox: "ListOutbox",
    stopwatch: Callable[[], float],
    receive_maximum: int,
) -> None:
    """The rate is printed; 20 is what Mosquitto allows by default."""
    count = 20_000 if receive_maximum > 1 else 2_000
    broker = make_mosquitto(f"allow_anonymous true\nmax_inflight_messages {receive_maximum}")
    subscriber = subscribe(broker.port)
    events = numbered(0, count)
    outbox.add("event/x", events)
    start_s = stopwatch()
    publisher = make_publisher(broker.port)
    outbox.wait_depth(0)
    elapsed_s = stopwatch() - start_s
    hears_events(subscriber, events)
    print(  # noqa: T201 - the figure is what the test is for
        f"\n{count} events, receive maximum {receive_maximum}: {count / elapsed_s:.0f}/s"
    )
    assert subscriber.payloads(EVENTS) == events
    assert publisher.state.published == count
    assert len(outbox.deletions) <= count / 50


def tls_broker(make_mosquitto: "MakeMosquitto", certificates: Path) -> "Mosquitto":
    return make_mosquitto(
        f"allow_anonymous true\ncafile {certificates}/ca.pem\ncertfile {certificates}/broker.pem\n"
        f"keyfile {certificates}/broker.key\nrequire_certificate true"
    )


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_tls_with_a_client_certificate(
    make_mosquitto: "MakeMosquitto",
    make_publisher: "MakePublisher",
    outbox: "ListOutbox",
    certificates: Path,
    protocol: str,
) -> None:
    broker = tls_broker(make_mosquitto, certificates)
    outbox.add("event/x", numbered(0, 2000))
    publisher = make_publisher(
        broker.port,
        tls=True,
        protocol=protocol,
        ca_file=certificates / "ca.pem",
        certificate_file=certificates / "client.pem",
        key_file=certificates / "client.key",
    )
    outbox.wait_depth(0)
    assert publisher.state.protocol == protocol


def test_a_certificate_of_an_unknown_authority_is_refused(
    make_mosquitto: "MakeMosquitto", make_publisher: "MakePublisher", certificates: Path, messaging_log: "LogWatch"
) -> None:
    broker = tls_broker(make_mosquitto, certificates)
    publisher = make_publisher(broker.port, tls=True, ca_file=certificates / "client.pem")
    messaging_log.wait_for("the broker's certificate is not accepted")
    assert not publisher.state.connected


def test_a_missing_client_certificate_is_named(
    make_mosquitto: "MakeMosquitto", make_publisher: "MakePublisher", certificates: Path, messaging_log: "LogWatch"
) -> None:
    broker = tls_broker(make_mosquitto, certificates)
    make_publisher(broker.port, tls=True, ca_file=certificates / "ca.pem")
    messaging_log.wait_for("does it want a client certificate?")


def test_tls_towards_a_plain_port_is_named(
    mosquitto: "Mosquitto", make_publisher: "MakePublisher", certificates: Path, messaging_log: "LogWatch"
) -> None:
    make_publisher(mosquitto.port, tls=True, ca_file=certificates / "ca.pem")
    messaging_log.wait_for("during the TLS handshake")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"host": ""}, r"mqtt\.host", id="no host"),
        pytest.param({"tls": True, "broker": "embedded"}, "embedded broker has no TLS", id="embedded with TLS"),
        pytest.param({"tls": True, "ca_file": Path("nowhere.pem")}, r"mqtt\.ca_file.*nowhere", id="missing file"),
        pytest.param({"tls": True, "ca_file": Path(__file__)}, "cannot be read as PEM", id="no certificate"),
        pytest.param({"tls": True, "key_file": Path(__file__)}, "needs mqtt.certificate_file", id="key alone"),
        pytest.param({"tls": True, "certificate_file": Path(__file__)}, "cannot be used", id="no client certificate"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(
    outbox: "ListOutbox", changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Publisher(settings_for(1883, **changes), box="box1", store=outbox)


def test_a_publisher_that_was_never_started_can_be_stopped(outbox: "ListOutbox") -> None:
    publisher = Publisher(settings_for(1883), box="box1", store=outbox)
    publisher.publish_observation(b"x")
    publisher.notify()
    publisher.stop()
    assert not publisher.state.connected
