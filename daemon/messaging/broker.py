"""A small broker inside the service, so that the demo needs nothing installed. In production use Mosquitto.

It is amqtt: MQTT 3.1.1 over TCP, nothing kept on disk.
"""

import asyncio
import errno
import hmac
import ipaddress
import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

from drivers.errors import ConfigError, VivariumError

logger = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 3.0
"""For its clients to be let go; what hangs after that is cancelled."""

_NOISY_LOGGERS = ("amqtt", "transitions")

_LISTENER = "default"


class BrokerStartError(VivariumError):
    """The embedded broker cannot listen: say where, why and what to do."""


class PasswordCheck(BaseAuthPlugin):  # type: ignore[misc]  # amqtt carries no types
    """Lets in who knows the one user name and password."""

    @dataclass
    class Config:
        """What amqtt hands to the plugin."""

        username: str = ""
        password: str = ""

    async def authenticate(self, *, session: Session) -> bool:
        """Whether this client may come in."""
        expected = (self._get_config_option("username"), self._get_config_option("password"))
        given = (session.username or "", session.password or "")
        # Both are compared in full, so that the time it takes tells nothing.
        return all([hmac.compare_digest(a.encode(), b.encode()) for a, b in zip(given, expected, strict=True)])


class EmbeddedBroker:
    """Runs from `with` to its end, in a thread of its own.

    Parameters
    ----------
    host : str
        Address to listen on.
    port : int
        Port to listen on.
    username, password : str, optional
        The only user; without one everybody on this machine may connect.

    Raises
    ------
    ConfigError
        If it would be open to other machines without a password.
    """

    def __init__(self, host: str, port: int, *, username: str | None = None, password: str | None = None) -> None:
        if username is None and not _is_loopback(host):
            raise ConfigError(
                f"mqtt.host: the embedded broker would listen on {host} without a password; set mqtt.username and "
                'VIVARIUM_MQTT_PASSWORD, or mqtt.host = "127.0.0.1", or mqtt.broker = "external"'
            )
        if username is not None and not password:
            raise ConfigError("mqtt.username is set for the embedded broker, but VIVARIUM_MQTT_PASSWORD is not")
        self._host = host
        self._port = port
        self._credentials = None if username is None else (username, password or "")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start.

        Raises
        ------
        BrokerStartError
            If it cannot listen there.
        """
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="mqtt-broker", daemon=True)
        self._thread.start()
        try:
            started.result()
        except OSError as error:
            self._thread.join()
            raise BrokerStartError(self._explain(error)) from error
        logger.info("embedded MQTT broker listens on %s:%d, MQTT 3.1.1", self._host, self._port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self, started: "Future[None]") -> None:
        try:
            asyncio.run(self._serve(started))
        except Exception as error:  # the top of the thread
            if started.done():
                logger.exception("the embedded MQTT broker failed")
            else:
                started.set_exception(error)

    async def _serve(self, started: "Future[None]") -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        for name in _NOISY_LOGGERS:  # it tells of every client, and of its own start what we raise
            logging.getLogger(name).setLevel(logging.CRITICAL)
        broker = _Broker(self._config())
        await broker.start()
        server = await asyncio.start_server(_Reception(broker), self._host, self._port)
        started.set_result(None)
        await self._stopping.wait()
        for listener in server.sockets:
            self._loop.remove_reader(listener)
        await asyncio.sleep(0)  # Python 3.11 loses the socket of a client whom a closed server was just accepting
        server.close()
        try:
            await asyncio.wait_for(broker.shutdown(), _STOP_TIMEOUT_S)
        except TimeoutError:
            logger.warning("embedded MQTT broker: clients hung, they were cut off")

    def _config(self) -> dict[str, Any]:
        if self._credentials is None:
            check: dict[str, Any] = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        else:
            username, password = self._credentials
            plugin = f"{PasswordCheck.__module__}.{PasswordCheck.__qualname__}"
            check = {plugin: {"username": username, "password": password}}
        return {"listeners": {_LISTENER: {"type": "external"}}, "plugins": check}

    def _explain(self, error: OSError) -> str:
        where = f"the embedded MQTT broker cannot listen on {self._host}:{self._port}"
        match error.errno:
            case errno.EADDRINUSE:
                return (
                    f"{where}: another program has port {self._port}, perhaps Mosquitto; to use that one set "
                    'mqtt.broker = "external", otherwise set another mqtt.port'
                )
            case errno.EACCES:
                return f"{where}: ports below 1024 need more rights; set another mqtt.port"
            case errno.EADDRNOTAVAIL:
                return f"{where}: this machine does not have that address; set mqtt.host to one of its own"
        return f"{where}: {error.strerror or error}"


class _Broker(Broker):  # type: ignore[misc]  # amqtt carries no types
    """amqtt 0.12 gives each client that connects the retained messages of what others have subscribed to."""

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        if any(each is session for each, _qos in self._subscriptions.get(subscription[0], ())):
            await super()._publish_retained_messages_for_subscription(subscription, session)


class _Reception:
    """Leads clients to amqtt and closes behind them; its own listener forgets those that never say CONNECT."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._clients: set[asyncio.Task[None]] = set()

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.create_task(self._serve(reader, writer))
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)
        client.add_done_callback(lambda _: writer.close())  # also for one that is cancelled before it begins

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._broker.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), _LISTENER)
        except Exception:  # the top of a task: what one client sends must not end the broker
            logger.debug("embedded MQTT broker: a client was dropped", exc_info=True)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
