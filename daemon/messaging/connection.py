"""One connection to a broker, from CONNECT to its end, driven by the thread that opened it.

All that is particular to paho stays here. A connection is never reopened: a new one starts with an empty queue, so
that nothing is sent by paho that the publisher sends again.
"""

import logging
import selectors
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from daemon.messaging.incoming import MOST_CORRELATION_BYTES, MOST_PAYLOAD_BYTES, IncomingMessage
from daemon.settings import MqttSettings
from drivers.clock import NS_PER_S, Clock
from drivers.errors import ConfigError, VivariumError

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 4.0
"""For the TCP connection, and once more for the TLS handshake."""

CONNACK_TIMEOUT_S = 4.0
"""A broker that has not answered CONNECT by then does not know the protocol version, or hangs."""

SILENCE_FACTOR = 1.5
"""A silent connection is given up after so many keep-alive times, the factor that MQTT prescribes for the broker."""

_PAHO_SILENCE_FACTOR = 2
"""paho waits one keep-alive before it asks, and one for the answer."""

_MISC_INTERVAL_S = 1.0
"""How often paho must look at its keep-alive."""

MOST_PACKET_BYTES = 2 * 1024**2
"""A broker of MQTT 5 keeps from us what is larger; with 3.1.1 only its own limit does (Mosquitto:
`message_size_limit`)."""

_UNLIMITED = 65_535
"""Receive maximum where the broker names none (MQTT 5, 3.2.2.3.3)."""

# Reason codes of MQTT 5 (2.4); paho translates those of 3.1.1.
_FIRST_FAILURE_CODE = 0x80
_UNSUPPORTED_VERSION_CODE = 0x84
_TAKEN_OVER_CODE = 0x8E
_PASSING_CODES = {0x88: "unavailable", 0x89: "busy", 0x97: "quota exceeded", 0x9F: "connection rate exceeded"}


class ProtocolVersion(Enum):
    """Versions that we speak; the value is for people."""

    V5 = "5"
    V3_1_1 = "3.1.1"


class BrokerAwayError(VivariumError):
    """No broker there, or the connection broke: try again soon."""


class BrokerSilentError(BrokerAwayError):
    """It took the connection but did not answer CONNECT: perhaps it does not know this version of MQTT."""


class VersionRefusedError(VivariumError):
    """The broker says that it does not know this version of MQTT: try the other one."""


class BrokerRefusedError(VivariumError):
    """It, or TLS, said no: password, rights, certificates. Somebody must change something; try again rarely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What MQTT 5 says of a message beside its payload; MQTT 3.1.1 has no place for it."""

    content_type: str | None = None
    """With one the payload is marked as UTF-8."""
    expiry_s: int | None = None
    """The broker forgets the message after so long."""
    correlation: bytes | None = None
    user: tuple[tuple[str, str], ...] = ()
    """Names and values."""

    def properties(self, packet: int) -> Properties:
        """As paho wants it; made once for what many messages have in common."""
        return self.made(packet) if self.correlation is not None else _shared_properties(self, packet)

    def made(self, packet: int) -> Properties:
        """The same, made anew."""
        properties = Properties(packet)  # type: ignore[no-untyped-call]
        if self.content_type is not None:
            properties.ContentType = self.content_type
            properties.PayloadFormatIndicator = 1
        if self.expiry_s is not None:
            properties.MessageExpiryInterval = self.expiry_s
        if self.correlation is not None:
            properties.CorrelationData = self.correlation
        if self.user:
            properties.UserProperty = list(self.user)
        return properties


class _PackedProperties(Properties):
    """As bytes already: paho packs them anew for each message, for 0.15 ms."""

    def __init__(self, properties: Properties, packet: int) -> None:
        super().__init__(packet)  # type: ignore[no-untyped-call]
        object.__setattr__(self, "_packed", properties.pack())  # type: ignore[no-untyped-call]

    def pack(self) -> bytes:
        """See paho."""
        packed: bytes = object.__getattribute__(self, "_packed")
        return packed


@lru_cache(maxsize=64)
def _shared_properties(about: About, packet: int) -> Properties:
    return _PackedProperties(about.made(packet), packet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes when we vanish."""

    topic: str
    payload: bytes
    about: About = About()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRefusal:
    """The broker does not let us listen."""

    topic: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """The broker's answer to one QoS 1 message."""

    message_key: int
    """As `MqttConnection.publish` returned it."""
    refusal: str | None
    """Why the broker did not take the message; None when it did."""


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """What TLS needs, read anew from the files so that renewed certificates count.

    Raises
    ------
    ConfigError
        If a file is missing, or is not what it should be.
    """
    ca_file, certificate, key = settings.ca_file, settings.certificate_file, settings.key_file
    if key is not None and certificate is None:
        raise ConfigError("mqtt.key_file needs mqtt.certificate_file beside it")
    for name, path in (("ca_file", ca_file), ("certificate_file", certificate), ("key_file", key)):
        if path is not None and not path.is_file():
            raise ConfigError(f"mqtt.{name}: expected a PEM file, there is none at {path}")
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"mqtt.ca_file: {ca_file} cannot be read as PEM certificates: {error}") from error
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password=_refuse_pass_phrase)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"mqtt.certificate_file: {certificate} and its key {key or certificate} cannot be used: {error}"
            ) from error
    context.sslsocket_class = _HandshakeSocket
    return context


class _HandshakeSocket(ssl.SSLSocket):
    """Closed when its handshake fails; paho leaves such a socket to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _refuse_pass_phrase() -> str:
    raise ConfigError("mqtt.key_file: the key is encrypted; a service cannot ask for its pass phrase")


class MqttConnection:
    """Opened with `connect`; then `publish` and `pump` in turn, until `pump` raises or `close`. Not thread-safe."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        password: str | None,
        client_id: str,
        version: ProtocolVersion,
        will: Will,
        wake: socket.socket,
        clock: Clock,
    ) -> None:
        self.version = version
        self.receive_maximum = _UNLIMITED
        """QoS 1 messages that the broker allows in flight."""
        self.acknowledgements: deque[Acknowledgement] = deque()
        """Filled by `pump`, emptied by the caller."""
        self.received: deque[IncomingMessage] = deque()
        """Filled by `pump`, emptied by the caller."""
        self.subscription_refusals: deque[SubscriptionRefusal] = deque()
        """Filled by `pump`, emptied by the caller."""
        self._subscriptions: dict[int | None, str] = {}
        self._settings = settings
        self._clock = clock
        self._wake = wake
        self._selector = selectors.DefaultSelector()
        self._socket: socket.socket | None = None
        self._accepted = False
        self._refusal: ReasonCode | None = None
        self._lost: str | None = None
        self._taken_over = False
        self._last_error: str | None = None
        self._client = self._make_client(password, client_id, will)

    def _make_client(self, password: str | None, client_id: str, will: Will) -> paho.Client:
        is_5 = self.version is ProtocolVersion.V5
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if is_5 else True,
            protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages = 0  # no limit: the publisher keeps the window, and paho's costs O(n) per message
        about = will.about.properties(PacketTypes.WILLMESSAGE) if is_5 else None
        client.will_set(will.topic, will.payload, qos=1, retain=True, properties=about)
        if self._settings.username is not None:
            client.username_pw_set(self._settings.username, password)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_log = self._on_log
        return client

    # Callbacks: they only write down what came. paho calls them from within `pump`, in our own thread.

    def _on_connect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._refusal = reason
            return
        self._accepted = True
        self.receive_maximum = getattr(properties, "ReceiveMaximum", _UNLIMITED)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.value == _TAKEN_OVER_CODE:
            self._taken_over = True
        elif flags.is_disconnect_packet_from_server:
            self._lost = f"the broker ended the connection: {reason}"
        elif str(reason) == "Keep alive timeout":
            self._lost = f"nothing came for {self._settings.keep_alive_s * SILENCE_FACTOR:g} s"
        elif self._lost is None:
            self._lost = self._last_error or "the connection was closed from the other side"

    def _on_publish(
        self, client: paho.Client, userdata: object, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        refusal = str(reason) if reason.value >= _FIRST_FAILURE_CODE else None
        self.acknowledgements.append(Acknowledgement(message_key=mid, refusal=refusal))

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = None
        size_bytes = len(message.payload)
        correlation = getattr(message.properties, "CorrelationData", None)
        self.received.append(
            IncomingMessage(
                topic=topic,
                payload=bytes(message.payload) if size_bytes <= MOST_PAYLOAD_BYTES else b"",
                size_bytes=size_bytes,
                retained=message.retain,
                correlation=correlation if correlation and len(correlation) <= MOST_CORRELATION_BYTES else None,
            )
        )

    def _on_subscribe(
        self,
        client: paho.Client,
        userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        topic = self._subscriptions.pop(mid, "")
        self.subscription_refusals.extend(
            SubscriptionRefusal(topic=topic, reason=str(reason)) for reason in reasons if reason.is_failure
        )

    def _on_log(self, client: paho.Client, userdata: object, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR:
            self._last_error = text

    def connect(self, *, cancelled: Callable[[], bool]) -> None:
        """Connect, and wait until the broker has agreed.

        Parameters
        ----------
        cancelled : () -> bool
            Asked after each wake-up; when it says so the attempt ends as if the broker were away.

        Raises
        ------
        BrokerAwayError
            No address, no connection, or it broke.
        BrokerSilentError
            Connected, but CONNECT found no answer.
        VersionRefusedError
            The broker does not know this version of MQTT.
        BrokerRefusedError
            It does not want us, or TLS failed.
        ConfigError
            The files for TLS cannot be used.
        """
        settings = self._settings
        if settings.tls:
            self._client.tls_set_context(tls_context(settings))
        keep_alive_s = max(1, round(settings.keep_alive_s * SILENCE_FACTOR / _PAHO_SILENCE_FACTOR))
        clean_start = True if self.version is ProtocolVersion.V5 else paho.MQTT_CLEAN_START_FIRST_ONLY
        limits = None
        if self.version is ProtocolVersion.V5:
            limits = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            limits.MaximumPacketSize = MOST_PACKET_BYTES
        try:
            self._client.connect(
                settings.host, settings.port, keepalive=keep_alive_s, clean_start=clean_start, properties=limits
            )
        except ssl.SSLCertVerificationError as error:
            raise BrokerRefusedError(f"the broker's certificate is not accepted: {error.verify_message}") from error
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError) as error:
            raise BrokerAwayError("the connection was closed during the TLS handshake; is this a TLS port?") from error
        except ssl.SSLError as error:
            raise BrokerRefusedError(f"TLS failed, is this a TLS port? {error}") from error
        except (OSError, UnicodeError) as error:
            raise BrokerAwayError(_describe(error)) from error
        self._watch_socket()
        self._await_answer(cancelled)

    def _watch_socket(self) -> None:
        connected = self._client.socket()
        if not isinstance(connected, socket.socket):
            raise self._unanswered()
        self._socket = connected
        self._selector.register(connected, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def _await_answer(self, cancelled: Callable[[], bool]) -> None:
        deadline_ns = self._clock.monotonic_ns() + round(CONNACK_TIMEOUT_S * NS_PER_S)
        while not self._accepted:
            remaining_s = (deadline_ns - self._clock.monotonic_ns()) / NS_PER_S
            if cancelled():
                raise BrokerAwayError("the attempt was cancelled")
            if remaining_s <= 0:
                raise self._silent_error()
            try:
                self.pump(remaining_s)
            except BrokerAwayError as error:
                if self._refusal is None:
                    raise self._unanswered() from error
            if self._refusal is not None:
                raise _refusal_error(self._refusal)
        self._client.on_log = None  # from here on it would only cost time

    def _unanswered(self) -> VivariumError:
        if self._settings.tls and self._settings.certificate_file is None:
            return BrokerSilentError("it ends the TLS connection unasked; does it want a client certificate?")
        if self._last_error is not None and "SSL" in self._last_error:
            return BrokerRefusedError(f"TLS failed: {self._last_error}")
        return self._silent_error()

    def _silent_error(self) -> BrokerSilentError:
        return BrokerSilentError(f"it takes connections but does not answer to MQTT {self.version.value}")

    @property
    def writable(self) -> bool:
        """Whether all that was published so far has gone to the operating system."""
        return not self._client.want_write()

    def subscribe(self, topic: str) -> None:
        """Ask for what is published there, QoS 1; it comes to `received`, as long as this connection lasts."""
        if self.version is ProtocolVersion.V5:
            _, mid = self._client.subscribe(topic, options=SubscribeOptions(qos=1, retainAsPublished=True))
        else:
            _, mid = self._client.subscribe(topic, qos=1)
        self._subscriptions[mid] = topic

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, about: About | None = None) -> int | None:
        """Send one message now.

        Returns
        -------
        int or None
            The key under which a QoS 1 message will be acknowledged; None when the connection cannot take it.
        """
        properties = None
        if about is not None and self.version is ProtocolVersion.V5:
            properties = about.properties(PacketTypes.PUBLISH)
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def pump(self, timeout_s: float) -> None:
        """Wait until something comes, the wake socket is written to, or time is over; read, write, keep alive.

        Raises
        ------
        BrokerAwayError
            The connection is over.
        BrokerRefusedError
            Another client has taken our place.
        """
        for readable, writable in self._wait(min(timeout_s, _MISC_INTERVAL_S)):
            if readable:
                self._client.loop_read()
            if writable:
                self._client.loop_write()
        self._client.loop_misc()
        if self._taken_over:
            raise BrokerRefusedError("another client has the same name; give every box its own box.name")
        if self._client.socket() is None:
            raise BrokerAwayError(self._lost or "what answers there does not speak MQTT")

    def _wait(self, timeout_s: float) -> Iterator[tuple[bool, bool]]:
        if self._socket is None:
            return
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            timeout_s = 0.0  # bytes already decrypted are not seen by the selector
            yield True, False
        if self._client.socket() is None:
            return
        wanted = selectors.EVENT_READ | (0 if self.writable else selectors.EVENT_WRITE)
        self._selector.modify(self._socket, wanted)
        for key, events in self._selector.select(max(timeout_s, 0.0)):
            if key.fileobj is self._wake:
                drain(self._wake)
            else:
                yield bool(events & selectors.EVENT_READ), bool(events & selectors.EVENT_WRITE)

    def close(self, *, goodbye: bool) -> None:
        """End the connection; without a goodbye the broker publishes the last will."""
        self._client.on_disconnect = None
        self._selector.close()
        if goodbye:
            self._client.disconnect()
        if self._socket is not None:
            self._socket.close()


def drain(wake: socket.socket) -> None:
    """Take all wake-up bytes off a non-blocking socket."""
    try:
        while wake.recv(4096):
            pass
    except BlockingIOError:
        return


def _refusal_error(reason: ReasonCode) -> VivariumError:
    if reason.value == _UNSUPPORTED_VERSION_CODE:
        return VersionRefusedError("the broker does not know this version of MQTT")
    if reason.value in _PASSING_CODES:
        return BrokerAwayError(f"the broker refuses us for now: {_PASSING_CODES[reason.value]}")
    return BrokerRefusedError(f"the broker refuses us: {reason}")


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT_S:g} s"
    return getattr(error, "strerror", None) or str(error)
