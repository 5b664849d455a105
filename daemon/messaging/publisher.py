"""Publishes to a broker for as long as the service lives, whatever the broker does.

One thread does everything: it connects, sends, reads acknowledgements, keeps the outbox and waits. All other threads
only leave things for it and wake it.
"""

import logging
import random
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from daemon.messaging import topics
from daemon.messaging.connection import (
    SILENCE_FACTOR,
    About,
    BrokerAwayError,
    BrokerRefusedError,
    BrokerSilentError,
    MqttConnection,
    ProtocolVersion,
    VersionRefusedError,
    Will,
    tls_context,
)
from daemon.messaging.contract import (
    CONTENT_TYPE,
    OBSERVATIONS_AT_ONCE,
    OBSERVATIONS_PER_S,
    SCHEMA_PROPERTY,
    channel_of,
)
from daemon.messaging.incoming import IncomingMessage
from daemon.messaging.outbox import OutboxStore
from daemon.messaging.pace import Bucket, Pace
from daemon.messaging.payloads import SCHEMA_VERSION, status_payload
from daemon.messaging.probes import ProbeReadings
from daemon.messaging.window import OutboxWindow
from daemon.settings import MqttSettings
from drivers.clock import NS_PER_S, Clock, SystemClock
from drivers.errors import ConfigError

logger = logging.getLogger(__name__)

RETRY_FIRST_S = 1.0
RETRY_AWAY_MAX_S = 5.0
"""Longest pause between two attempts while no broker is there; with the attempt itself, 10 s from return to finding."""
RETRY_REFUSED_MAX_S = 8.0
"""Longest pause while the broker refuses us: somebody must change something first, and is heard within 10 s."""
_JITTER = 0.5
"""A pause is shortened at random by up to this share, so that many boxes do not return in one moment."""
_MAX_DOUBLINGS = 10
_STABLE_S = 5.0
"""A connection that lasted so long makes the next pause a short one again."""

MAX_WAITING_OBSERVATIONS = 250
"""Ten seconds at the camera's full rate; beyond that the oldest give way."""

BIRTH = b"online"
"""What Home Assistant publishes on its topic when it has come."""

MAX_WAITING_RESULTS = 256
"""Results of commands; beyond that the oldest give way."""

STOP_TIMEOUT_S = 2.0
_STOP_DRAIN_S = 1.2
"""Share of it for what is still to be sent."""
_STOP_FAREWELL_S = 0.4
"""Share of it for the last status message."""

_IDLE_S = 1.0

TELL_AGAIN_S = 10.0
"""Whoever says that it has come hears everything again, but not more often than this, whoever says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherState:
    """How it stands with the broker."""

    connected: bool
    protocol: str | None
    """`5` or `3.1.1`; None while not connected."""
    last_error: str | None
    """Why there is no connection, or what the broker refuses; None when all is well."""
    since_utc_ns: int
    """When `connected` became what it is."""
    reconnects: int
    """Connections after the first."""
    in_flight: int
    """Events sent and not yet acknowledged."""
    published: int
    """Events acknowledged since the start."""
    dropped: int
    """Observations that gave way because no broker took them in time."""


class Publisher:
    """Keeps a broker informed; no public method but `stop` waits.

    Parameters
    ----------
    settings : MqttSettings
        Where the broker is and how to reach it.
    password : str, optional
        Belongs to `settings.username`.
    box : str
        Name of the box: makes the base topic and the client identifier, so two boxes must not share one.
    store : OutboxStore
        Keeps events until the broker has acknowledged them.
    clock : Clock
        For waiting and stamping; sockets are waited for in real time.
    beat : callable
        Told again and again as long as the thread goes on, with and without a broker.
    on_command : callable, optional
        Told every message on `topics.COMMANDS`, in the publisher's thread: it must not wait. Without it no commands
        are listened for.
    probes : ProbeReadings, optional
        Contact probes whose topics are listened to as well.
    birth_topic : str, optional
        In full. Whoever publishes `online` there has just come, and is told everything retained once more.

    Raises
    ------
    ConfigError
        If the settings cannot work: no host, TLS with the embedded broker, TLS files that cannot be used.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        box: str,
        store: OutboxStore,
        password: str | None = None,
        clock: Clock | None = None,
        beat: Callable[[], None] = lambda: None,
        on_command: Callable[[IncomingMessage], None] | None = None,
        probes: ProbeReadings | None = None,
        birth_topic: str | None = None,
    ) -> None:
        _check(settings)
        self._settings = settings
        self._password = password
        self._box = box
        self._clock = clock or SystemClock()
        self._beat = beat
        self._on_command = on_command
        self._probes = probes
        self._birth_topic = birth_topic
        self._pace = Pace(self._clock)
        self._observation_bucket = Bucket(self._clock, at_once=OBSERVATIONS_AT_ONCE, per_s=OBSERVATIONS_PER_S)
        self._told_again_ns: int | None = None
        self._tell_again = False
        self._window = OutboxWindow(store, self._clock)
        self._random = random.Random()

        self._lock = threading.Lock()
        self._retained: dict[str, bytes] = {}
        self._changed: dict[str, None] = {}
        self._observations: deque[bytes] = deque()
        self._results: deque[tuple[str, bytes, bytes | None]] = deque(maxlen=MAX_WAITING_RESULTS)
        self._dropped = 0

        self._state_in_flight: dict[int, tuple[str, int]] = {}
        self._proven = ProtocolVersion.V3_1_1 if settings.broker == "embedded" else None
        self._failures = 0
        self._told: str | None = None
        self._protocol: ProtocolVersion | None = None
        self._last_error: str | None = None
        self._since_utc_ns = self._clock.utc_ns()
        self._connections = 0

        self._wake_write: socket.socket | None = None
        self._connected = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to connect, and go on for ever."""
        wake_read, self._wake_write = socket.socketpair()
        for end in (wake_read, self._wake_write):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, args=(wake_read,), name="mqtt-publisher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send what can still be sent, say goodbye, and end within `STOP_TIMEOUT_S`.

        What the broker has not acknowledged by then stays in the store. Afterwards the store is not touched any more.
        """
        if self._thread is None or self._wake_write is None:
            return
        self._stopping.set()
        self._wake()
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():  # inside the operating system's connect: it ends with that, touching nothing
            logger.warning("MQTT %s: stopped while an attempt to connect was under way", self._address)
        self._wake_write.close()

    def notify(self) -> None:
        """The outbox has new messages: call it after the commit. From any thread."""
        self._window.notify()
        self._wake()

    def publish_observation(self, payload: bytes) -> None:
        """Send it if a broker is there, QoS 0; the oldest waiting one gives way. From any thread."""
        with self._lock:
            if len(self._observations) >= MAX_WAITING_OBSERVATIONS:
                self._observations.popleft()
                self._dropped += 1
            self._observations.append(payload)
        self._wake()

    def publish_result(self, topic: str, payload: bytes, correlation: bytes | None) -> None:
        """Answer a command when a broker is there, QoS 1; the oldest waiting one gives way. From any thread."""
        with self._lock:
            self._results.append((topic, payload, correlation))
        self._wake()

    def set_retained(self, topic: str, payload: bytes) -> None:
        """Make this the state of a topic, now and after every reconnect; only the newest counts. From any thread.

        Parameters
        ----------
        topic : str
            Below the base topic of the box, see `topics`.
        payload : bytes
            Empty removes the topic from the broker.
        """
        self.set_retained_elsewhere(topics.absolute(self._box, topic), payload)

    def set_retained_elsewhere(self, topic: str, payload: bytes) -> None:
        """The same for a topic in full, outside the base topic of the box."""
        with self._lock:
            if self._retained.get(topic) == payload:
                return
            self._retained[topic] = payload
            self._changed[topic] = None
        self._wake()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until there is a connection; False when there is none in time."""
        return self._connected.wait(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def state(self) -> PublisherState:
        """A snapshot. From any thread."""
        with self._lock:
            return PublisherState(
                connected=self._protocol is not None,
                protocol=None if self._protocol is None else self._protocol.value,
                last_error=self._last_error,
                since_utc_ns=self._since_utc_ns,
                reconnects=max(self._connections - 1, 0),
                in_flight=self._window.in_flight,
                published=self._window.confirmed,
                dropped=self._dropped,
            )

    def _wake(self) -> None:
        if self._wake_write is not None:
            with suppress(OSError):  # full of wake-ups already, or stopped
                self._wake_write.send(b"\0")

    @property
    def _address(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    # From here on everything runs in the publisher's own thread.

    def _run(self, wake: socket.socket) -> None:
        with wake:
            while not self._stopping.is_set():
                longest_s = RETRY_REFUSED_MAX_S
                self._beat()
                try:
                    self._connect_and_serve(wake)
                except BrokerAwayError as error:
                    self._set_away(str(error))
                    longest_s = RETRY_AWAY_MAX_S
                except (BrokerRefusedError, ConfigError) as error:
                    self._set_away(str(error))
                except Exception as error:  # the top of the thread: a mistake of ours must not end all messages
                    logger.exception("MQTT %s: the publisher failed and starts anew", self._address)
                    self._set_away(f"{type(error).__name__}: {error}")
                self._clock.wait(self._next_pause_s(longest_s), until=self._stopping)

    def _next_pause_s(self, longest_s: float) -> float:
        pause_s = min(RETRY_FIRST_S * 2.0**self._failures, longest_s)
        self._failures = min(self._failures + 1, _MAX_DOUBLINGS)
        return pause_s * self._random.uniform(1 - _JITTER, 1)

    def _connect_and_serve(self, wake: socket.socket) -> None:
        connection = self._connect(wake)
        connected_ns = self._clock.monotonic_ns()
        goodbye = False
        try:
            self._set_connected(connection.version)
            self._serve(connection)
            goodbye = self._take_leave(connection)
        finally:
            connection.close(goodbye=goodbye)
            self._window.flush()
            self._window.restart()
            self._state_in_flight.clear()
            if self._clock.monotonic_ns() - connected_ns >= _STABLE_S * NS_PER_S:
                self._failures = 0
        self._set_away(None)

    def _connect(self, wake: socket.socket) -> MqttConnection:
        """Connect with the configured version of MQTT, or with the newest that the broker speaks."""
        if self._settings.protocol != "auto":
            version = ProtocolVersion(self._settings.protocol)
            try:
                return self._connect_with(version, wake)
            except VersionRefusedError as error:
                raise BrokerRefusedError(
                    f'the broker does not speak MQTT {version.value}; set mqtt.protocol to "auto"'
                ) from error
        if self._proven is not None:
            with suppress(VersionRefusedError):  # another broker stands there now
                return self._connect_with(self._proven, wake)
        return self._find_version(wake)

    def _find_version(self, wake: socket.socket) -> MqttConnection:
        self._proven = None
        try:
            connection = self._connect_with(ProtocolVersion.V5, wake)
        except VersionRefusedError:
            connection = self._connect_with_older(wake)
        except BrokerSilentError:
            return self._connect_with_older(wake)  # perhaps it was only busy: MQTT 5 gets another chance next time
        self._proven = connection.version
        return connection

    def _connect_with_older(self, wake: socket.socket) -> MqttConnection:
        try:
            return self._connect_with(ProtocolVersion.V3_1_1, wake)
        except VersionRefusedError as error:
            raise BrokerRefusedError("the broker speaks neither MQTT 5 nor MQTT 3.1.1") from error

    def _connect_with(self, version: ProtocolVersion, wake: socket.socket) -> MqttConnection:
        connection = MqttConnection(
            self._settings,
            password=self._password,
            client_id=f"vivarium-{self._box}",
            version=version,
            will=Will(
                topic=topics.absolute(self._box, topics.STATUS),
                payload=status_payload("offline", "connection_lost"),
                about=self._about(topics.absolute(self._box, topics.STATUS)),
            ),
            wake=wake,
            clock=self._clock,
        )
        try:
            connection.connect(cancelled=self._stopping.is_set)
        except BaseException:
            connection.close(goodbye=False)
            raise
        return connection

    def _serve(self, connection: MqttConnection) -> None:
        """Until the service stops; raises `BrokerAwayError` when the connection is over."""
        self._window.restart()
        for topic in self._listened_to():
            connection.subscribe(topic)
        with self._lock:
            reason: Literal["started", "reconnected"] = "started" if self._connections == 1 else "reconnected"
            self._retained[topics.absolute(self._box, topics.STATUS)] = status_payload(
                "online", reason, at_utc_ns=self._since_utc_ns
            )
        self._tell_all()
        while not self._stopping.is_set():
            self._exchange(connection, _IDLE_S)

    def _listened_to(self) -> list[str]:
        commands = [] if self._on_command is None else [topics.absolute(self._box, each) for each in topics.COMMANDS]
        births = [] if self._birth_topic is None else [self._birth_topic]
        return [*commands, *births, *(() if self._probes is None else self._probes.topics)]

    def _tell_all(self) -> None:
        """Publish everything retained once more, at once; first that we are there."""
        with self._lock:
            self._changed = {topics.absolute(self._box, topics.STATUS): None, **dict.fromkeys(self._retained)}
        self._pace.forget()
        self._tell_again, self._told_again_ns = False, self._clock.monotonic_ns()

    def _tell_again_in_s(self) -> float | None:
        """How long until somebody who has come is to be told everything; None when nobody has."""
        if not self._tell_again or self._told_again_ns is None:
            return None
        return max(self._told_again_ns / NS_PER_S + TELL_AGAIN_S - self._clock.monotonic_ns() / NS_PER_S, 0.0)

    def _exchange(self, connection: MqttConnection, longest_s: float) -> None:
        """Send what can be sent, then wait for something to come."""
        self._beat()
        self._window.flush_if_due()
        if self._tell_again_in_s() == 0:
            self._tell_all()
        self._send_state(connection)
        self._send_results(connection)
        self._send_events(connection)
        self._send_observations(connection)
        self._check_acknowledging()
        connection.pump(self._window.wait_s(self._wait_s(longest_s)))
        self._take_acknowledgements(connection)
        self._take_commands(connection)

    def _wait_s(self, longest_s: float) -> float:
        """How long nothing is to be sent, as far as rates and newcomers go."""
        with self._lock:
            changed, waiting = list(self._changed), bool(self._observations)
        waits = [self._pace.wait_s(topic, self._channel_interval_s(topic)) for topic in changed]
        # What may go now waits for the broker, or came this moment: a wake-up says so.
        waits = [wait_s for wait_s in (*waits, self._tell_again_in_s()) if wait_s]
        if waiting and self._observation_bucket.wait_s():
            waits.append(self._observation_bucket.wait_s())
        return min([longest_s, *waits])

    def _channel_interval_s(self, topic: str) -> float:
        """Least time between two messages of a topic; none while we take leave."""
        channel = channel_of(topic.removeprefix(topics.absolute(self._box, "")))
        return 0.0 if channel is None or self._stopping.is_set() else channel.least_interval_s

    def _about(self, topic: str, correlation: bytes | None = None) -> About:
        channel = channel_of(topic.removeprefix(topics.absolute(self._box, "")))
        return About(
            content_type=CONTENT_TYPE,
            expiry_s=None if channel is None else channel.expiry_s,
            correlation=correlation,
            user=() if channel is None else ((SCHEMA_PROPERTY, str(SCHEMA_VERSION)),),
        )

    def _exchange_until(self, connection: MqttConnection, done: Callable[[], bool], longest_s: float) -> None:
        deadline_ns = self._clock.monotonic_ns() + round(longest_s * NS_PER_S)
        while not done() and (remaining_ns := deadline_ns - self._clock.monotonic_ns()) > 0:
            self._exchange(connection, remaining_ns / NS_PER_S)

    def _has_room(self, connection: MqttConnection) -> bool:
        in_flight = len(self._state_in_flight) + self._window.in_flight
        return connection.writable and in_flight < connection.receive_maximum

    def _send_state(self, connection: MqttConnection) -> None:
        while self._has_room(connection):
            with self._lock:
                due = (each for each in self._changed if not self._pace.wait_s(each, self._channel_interval_s(each)))
                topic = next(due, None)
                if topic is None:
                    return
                payload = self._retained[topic]
            about = self._about(topic) if payload else None
            key = connection.publish(topic, payload, qos=1, retain=True, about=about)
            if key is None:
                return
            self._pace.sent(topic)
            self._state_in_flight[key] = topic, self._clock.monotonic_ns()
            with self._lock:
                if self._retained[topic] == payload:
                    del self._changed[topic]

    def _send_results(self, connection: MqttConnection) -> None:
        while self._has_room(connection):
            with self._lock:
                if not self._results:
                    return
                result_topic, payload, correlation = self._results.popleft()
            topic = topics.absolute(self._box, result_topic)
            key = connection.publish(topic, payload, qos=1, retain=False, about=self._about(topic, correlation))
            if key is None:
                return
            self._state_in_flight[key] = topic, self._clock.monotonic_ns()

    def _send_events(self, connection: MqttConnection) -> None:
        while self._has_room(connection):
            message = self._window.next_message()
            if message is None:
                return
            topic = topics.absolute(self._box, message.topic)
            key = connection.publish(topic, message.payload, qos=1, retain=False, about=self._about(topic))
            if key is None:
                return
            self._window.sent(key)

    def _send_observations(self, connection: MqttConnection) -> None:
        topic = topics.absolute(self._box, topics.OBSERVATION)
        about = self._about(topic)
        while connection.writable and (self._stopping.is_set() or not self._observation_bucket.wait_s()):
            with self._lock:
                if not self._observations:
                    return
                payload = self._observations.popleft()
            self._observation_bucket.take()
            connection.publish(topic, payload, qos=0, retain=False, about=about)

    def _check_acknowledging(self) -> None:
        patience_s = self._settings.keep_alive_s * SILENCE_FACTOR
        oldest_state_ns = next((sent_ns for _, sent_ns in self._state_in_flight.values()), None)
        oldest_ns = [self._window.oldest_sent_monotonic_ns, oldest_state_ns]
        waiting_since_ns = min((sent_ns for sent_ns in oldest_ns if sent_ns is not None), default=None)
        if waiting_since_ns is not None and self._clock.monotonic_ns() - waiting_since_ns > patience_s * NS_PER_S:
            raise BrokerAwayError(f"it has acknowledged nothing for {patience_s:g} s")

    def _take_acknowledgements(self, connection: MqttConnection) -> None:
        while connection.acknowledgements:
            answer = connection.acknowledgements.popleft()
            refusal = answer.refusal
            topic, _ = self._state_in_flight.pop(answer.message_key, (None, 0))
            if topic is None and refusal is None:
                self._window.confirm(answer.message_key)
            elif topic is None:
                self._window.refuse(answer.message_key)
            if refusal is not None:
                self._tell_refusal(topic, refusal)

    def _take_commands(self, connection: MqttConnection) -> None:
        while connection.received:
            message = connection.received.popleft()
            if self._probes is not None and self._probes.take(message, self._clock.monotonic_ns()):
                continue
            if message.topic is not None and message.topic == self._birth_topic:
                self._tell_again = self._tell_again or message.payload == BIRTH
            elif self._on_command is not None:
                self._on_command(message)
        while connection.subscription_refusals:
            refusal = connection.subscription_refusals.popleft()
            error = f"the broker does not let us listen to {refusal.topic}: {refusal.reason}"
            self._tell_error(error, "what is sent there is not taken")

    def _tell_refusal(self, topic: str | None, refusal: str) -> None:
        base = topics.absolute(self._box, "")
        if topic is None or topic.startswith(base):
            self._tell_error(f"the broker refuses messages below {base}: {refusal}", "events wait in the database")
        else:
            self._tell_error(f"the broker refuses {topic}: {refusal}", "who listens there does not hear of us")

    def _tell_error(self, error: str, consequence: str) -> None:
        """Keep it, and log it unless it was the last to be told."""
        with self._lock:
            is_known, self._last_error = error == self._last_error, error
        if not is_known:
            logger.warning("MQTT %s: %s; %s", self._address, error, consequence)

    def _take_leave(self, connection: MqttConnection) -> bool:
        """Send what is left as far as time allows; True when the broker then knows that we are gone."""
        self._exchange_until(connection, self._nothing_left, _STOP_DRAIN_S)
        if not self._has_room(connection):
            return False
        topic = topics.absolute(self._box, topics.STATUS)
        payload = status_payload("offline", "stopped", at_utc_ns=self._clock.utc_ns())
        key = connection.publish(topic, payload, qos=1, retain=True, about=self._about(topic))
        if key is None:
            return False
        self._state_in_flight[key] = topic, self._clock.monotonic_ns()
        deadline_ns = self._clock.monotonic_ns() + round(_STOP_FAREWELL_S * NS_PER_S)
        while key in self._state_in_flight and (left_ns := deadline_ns - self._clock.monotonic_ns()) > 0:
            connection.pump(left_ns / NS_PER_S)
            self._take_acknowledgements(connection)
        return key not in self._state_in_flight

    def _nothing_left(self) -> bool:
        with self._lock:
            waiting = bool(self._changed or self._observations or self._results)
        return not waiting and not self._state_in_flight and self._window.settled

    def _set_connected(self, version: ProtocolVersion) -> None:
        with self._lock:
            self._protocol = version
            self._last_error = None
            self._since_utc_ns = self._clock.utc_ns()
            self._connections += 1
        self._told = None
        self._connected.set()
        logger.info("MQTT %s: connected, MQTT %s", self._address, version.value)

    def _set_away(self, reason: str | None) -> None:
        """Note it, and tell it once: not for every attempt that fails for the same reason."""
        was_connected = self._connected.is_set()
        self._connected.clear()
        with self._lock:
            self._protocol = None
            self._last_error = reason
            if was_connected:
                self._since_utc_ns = self._clock.utc_ns()
        if self._stopping.is_set() or reason == self._told:
            return
        self._told = reason
        what = "connection lost" if was_connected else "no connection"
        logger.warning("MQTT %s: %s: %s; events wait in the database", self._address, what, reason)


def _check(settings: MqttSettings) -> None:
    if not settings.host:
        raise ConfigError("mqtt.host: expected the address of a broker, got nothing")
    if settings.tls and settings.broker == "embedded":
        raise ConfigError('mqtt.tls: the embedded broker has no TLS; set mqtt.broker = "external" or mqtt.tls = false')
    if settings.tls:
        tls_context(settings)
