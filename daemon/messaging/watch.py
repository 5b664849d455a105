"""Looking at what a box publishes."""

import queue
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from daemon.messaging import topics
from daemon.messaging.connection import tls_context
from daemon.settings import MqttSettings
from drivers.errors import VivariumError

_KEEP_ALIVE_S = 30


class WatchError(VivariumError):
    """The broker cannot be watched: it is away or refuses us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedMessage:
    """One message as a subscriber gets it."""

    topic: str
    payload: str
    retained: bool
    """Whether it was there before we came."""


def watch(settings: MqttSettings, *, password: str | None, box: str) -> Generator[WatchedMessage, None, None]:
    """Subscribe to everything of a box; goes on until the caller stops asking. MQTT 3.1.1, which every broker speaks.

    Raises
    ------
    WatchError
        If there is no broker, it refuses us, or the connection breaks.
    """
    messages: queue.SimpleQueue[WatchedMessage | str] = queue.SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
    if settings.username is not None:
        client.username_pw_set(settings.username, password)
    if settings.tls:
        client.tls_set_context(tls_context(settings))

    def connected(
        client: paho.Client, _data: object, _flags: paho.ConnectFlags, reason: ReasonCode, _more: Properties | None
    ) -> None:
        if reason.is_failure:
            messages.put(f"refused: {reason}")
        else:
            client.subscribe(topics.absolute(box, "#"), qos=1)

    def received(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        text = message.payload.decode("utf-8", errors="replace")
        messages.put(WatchedMessage(topic=message.topic, payload=text, retained=message.retain))

    def lost(
        _client: paho.Client,
        _data: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _more: Properties | None,
    ) -> None:
        messages.put(f"the connection broke: {reason}")

    client.on_connect, client.on_message, client.on_disconnect = connected, received, lost
    address = f"{settings.host}:{settings.port}"
    try:
        client.connect(settings.host, settings.port, keepalive=_KEEP_ALIVE_S)
    except OSError as error:
        raise WatchError(f"{address}: {error.strerror or error}; is the service running?") from error
    client.loop_start()
    with closing(_Loop(client)):
        while True:
            message = messages.get()
            if isinstance(message, str):
                raise WatchError(f"{address}: {message}")
            yield message


class _Loop:
    """paho's thread, so that it ends however the watching ends."""

    def __init__(self, client: paho.Client) -> None:
        self._client = client

    def close(self) -> None:
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_stop()
