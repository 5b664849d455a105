"""Giving a running service a command, from outside."""

import json
import queue
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import ValidationError

from daemon.messaging import topics
from daemon.messaging.connection import tls_context
from daemon.messaging.payloads import CommandResultPayload
from daemon.settings import MqttSettings
from drivers.errors import ConfigError, VivariumError

_KEEP_ALIVE_S = 30

REPEAT_S = 2.0
"""So long without a last result, and the command is given again: a reconnect may have lost it, or a limit of rate. The
request makes sure that it is carried out once."""


class CommandError(VivariumError):
    """The command found no way to the service, or no answer."""


def give_command(
    settings: MqttSettings,
    verb: str,
    *,
    password: str | None,
    box: str,
    timeout_s: float,
    values: Mapping[str, object] = MappingProxyType({}),
) -> Generator[CommandResultPayload, None, None]:
    """Publish a command and yield its results, up to the last. MQTT 3.1.1, which every broker speaks.

    It is given again every `REPEAT_S` until the last result is there. `values` are what the verb wants to know.

    Raises
    ------
    ConfigError
        If the verb cannot be part of a topic.
    CommandError
        If there is no broker, it refuses us, or no last result comes in time.
    """
    if topics.command_verb(box, topics.absolute(box, topics.command(verb))) is None:
        raise ConfigError(f"expected a verb of small letters, digits, _ and -, or set/KEY, got {verb!r}")
    request_id = uuid.uuid4().hex
    command = json.dumps({**values, "request_id": request_id, "issued_utc": datetime.now(UTC).isoformat()})
    heard: queue.SimpleQueue[bytes | str] = queue.SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
    if settings.username is not None:
        client.username_pw_set(settings.username, password)
    if settings.tls:
        client.tls_set_context(tls_context(settings))

    def connected(
        client: paho.Client, _data: object, _flags: paho.ConnectFlags, reason: ReasonCode, _more: Properties | None
    ) -> None:
        if reason.is_failure:
            heard.put(f"refused: {reason}")
        else:
            client.subscribe(topics.absolute(box, topics.command_result(verb)), qos=1)

    def subscribed(
        client: paho.Client, _data: object, _mid: int, reasons: list[ReasonCode], _more: Properties | None
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            heard.put(f"the broker does not let us listen for the result: {reasons[0]}")
        else:
            client.publish(topics.absolute(box, topics.command(verb)), command, qos=1)

    client.on_connect, client.on_subscribe = connected, subscribed
    client.on_message = lambda _client, _data, message: heard.put(bytes(message.payload))
    address = f"{settings.host}:{settings.port}"
    try:
        client.connect(settings.host, settings.port, keepalive=_KEEP_ALIVE_S)
    except OSError as error:
        raise CommandError(f"{address}: {error.strerror or error}; is the service running?") from error
    client.loop_start()
    try:
        asked = partial(client.publish, topics.absolute(box, topics.command(verb)), command, qos=1)
        yield from _results(heard, request_id, ask_again=asked, address=address, timeout_s=timeout_s)
    finally:
        client.disconnect()
        client.loop_stop()


def _results(
    heard: "queue.SimpleQueue[bytes | str]",
    request_id: str,
    *,
    ask_again: Callable[[], object],
    address: str,
    timeout_s: float,
) -> Generator[CommandResultPayload, None, None]:
    deadline_s = time.monotonic() + timeout_s
    state = None
    while True:
        remaining_s = deadline_s - time.monotonic()
        try:
            message = heard.get(timeout=max(min(remaining_s, REPEAT_S), 0.001))
        except queue.Empty:
            if remaining_s > REPEAT_S:
                ask_again()
                continue
            raise CommandError(
                f"{address}: no result within {timeout_s:g} s; is the service running, with mqtt.commands = true?"
            ) from None
        if isinstance(message, str):
            raise CommandError(f"{address}: {message}")
        try:
            result = CommandResultPayload.model_validate_json(message)
        except ValidationError:  # of another program, or a newer service
            continue
        if result.request_id == request_id and result.state != state:
            state = result.state
            yield result
            if state != "accepted":
                return
