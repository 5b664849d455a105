"""A real broker, a subscriber outside the service, a network that can be broken, and an outbox in memory."""

import logging
import queue
import selectors
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from daemon.messaging.outbox import QueuedMessage
from drivers.errors import StoreError
from tests import ports
from tests.brokers import Mosquitto, mosquitto_program

DEADLINE_S = 15.0
"""No test waits longer for anything; it is no measurement."""


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listens on."""
    return ports.free_port()


@pytest.fixture
def make_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Start a Mosquitto with these lines of configuration in place of `allow_anonymous true`."""
    program = mosquitto_program()
    if program is None:
        pytest.skip("mosquitto is not installed (Debian: apt install mosquitto)")
    with ExitStack() as running:

        def make(options: str = "") -> Mosquitto:
            port = ports.free_port()
            lines = [
                f"listener {port} 127.0.0.1",
                "user root",
                "persistence false",
                "max_queued_messages 1000000",  # by default 1000: what a slow subscriber has not read yet is dropped
                "log_type information",
                options or "allow_anonymous true",
            ]
            broker = Mosquitto(program, tmp_path, port, "\n".join(lines))
            broker.start()
            running.callback(broker.stop)
            return broker

        yield make


@pytest.fixture
def mosquitto(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """An open Mosquitto."""
    return make_mosquitto()


class Subscriber:
    """A client outside the service that writes down all it hears; it subscribes after every connect."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        """Topic, payload, whether it was a retained one."""
        self._changed = threading.Condition()
        self._subscriptions = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("vivarium/#", qos=1)
        self._client.on_subscribe = self._count
        self._client.on_message = self._hear
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.wait_subscribed()

    def _count(self, *_: object) -> None:
        with self._changed:
            self._subscriptions += 1
            self._changed.notify_all()

    def _hear(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.messages.append((message.topic, bytes(message.payload), message.retain))
            self._changed.notify_all()

    def wait_subscribed(self, *, times: int = 1) -> None:
        """Until it has subscribed so often: once more after each time the broker was away."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._subscriptions >= times, DEADLINE_S), "no broker found"

    def wait_for(self, heard: Callable[[list[tuple[str, bytes, bool]]], bool], what: str) -> None:
        """Until the messages so far fulfil the condition."""
        with self._changed:
            assert self._changed.wait_for(lambda: heard(self.messages), DEADLINE_S), (
                f"not heard: {what}; heard {len(self.messages)}, last {self.messages[-5:]}"
            )

    def payloads(self, topic: str) -> list[bytes]:
        """All that came on a topic, or on those below it when it ends in a slash."""
        with self._changed:
            return [
                payload
                for heard, payload, _ in self.messages
                if heard == topic or (topic.endswith("/") and heard.startswith(topic))
            ]

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def subscribe() -> Iterator[Callable[[int], Subscriber]]:
    """Subscribe to everything below `vivarium/` at a port."""
    with ExitStack() as open_subscribers:

        def make(port: int) -> Subscriber:
            subscriber = Subscriber(port)
            open_subscribers.callback(subscriber.close)
            return subscriber

        yield make


class FaultProxy:
    """TCP between client and broker, with faults: refuse, cut, hang, half-open."""

    def __init__(self, upstream_port: int) -> None:
        self.port = ports.free_port()
        self.accepted = 0
        self._upstream_port = upstream_port
        self._selector = selectors.DefaultSelector()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._held: list[socket.socket] = []
        self._swallowing = False
        self._orders: queue.Queue[tuple[Callable[[], None], threading.Event]] = queue.Queue()
        self._wake_read, self._wake_write = socket.socketpair()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self._changed = threading.Condition()
        self._running = True
        self._listen()
        self._thread = threading.Thread(target=self._run, name="fault-proxy")
        self._thread.start()

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _deafen(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _run(self) -> None:
        while self._running:
            for key, _ in self._selector.select():
                if key.fileobj is self._wake_read:
                    self._wake_read.recv(1)
                    order, done = self._orders.get_nowait()
                    order()
                    done.set()
                elif key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._peers:
                    self._forward(key.fileobj)

    def _accept(self) -> None:
        assert self._listener is not None
        client, _ = self._listener.accept()
        if self._swallowing:
            self._held.append(client)
        else:
            try:
                broker = socket.create_connection(("127.0.0.1", self._upstream_port), DEADLINE_S)
            except ConnectionRefusedError:
                client.close()
                return
            for one, other in ((client, broker), (broker, client)):
                self._peers[one] = other
                self._selector.register(one, selectors.EVENT_READ)
        with self._changed:
            self.accepted += 1
            self._changed.notify_all()

    def _forward(self, source: socket.socket) -> None:
        try:
            data = source.recv(65536)
            if data:
                self._peers[source].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(source)

    def _drop(self, source: socket.socket) -> None:
        for end in (source, self._peers[source]):
            self._selector.unregister(end)
            end.close()
            del self._peers[end]

    def _order(self, order: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.put((order, done))
        self._wake_write.send(b"\0")
        assert done.wait(DEADLINE_S)

    def wait_accepted(self, count: int) -> None:
        """Until so many connections were taken."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.accepted >= count, DEADLINE_S)

    def cut(self) -> None:
        """Break all connections; new ones are welcome."""

        def order() -> None:
            while self._peers:
                self._drop(next(iter(self._peers)))

        self._order(order)

    def refuse(self) -> None:
        """Break all connections and take no new ones."""
        self._order(self._deafen)
        self.cut()

    def hang(self) -> None:
        """Open connections stay open but nothing passes any more; new ones are taken and never answered."""

        def order() -> None:
            self._swallowing = True
            while self._peers:
                one, other = next(iter(self._peers.items()))
                for end in (one, other):
                    self._selector.unregister(end)
                    self._held.append(end)
                    del self._peers[end]

        self._order(order)

    def heal(self) -> None:
        """Work again; connections that hung are left hanging."""

        def order() -> None:
            self._swallowing = False
            self._listen()

        self._order(order)

    def close(self) -> None:
        """End everything."""

        def order() -> None:
            self._running = False

        if not self._running:
            return
        self.refuse()
        self._order(order)
        self._thread.join()
        for end in (*self._held, self._wake_read, self._wake_write):
            end.close()
        self._selector.close()


@pytest.fixture
def make_proxy() -> Iterator[Callable[[int], FaultProxy]]:
    """A proxy in front of a port."""
    with ExitStack() as open_proxies:

        def make(upstream_port: int) -> FaultProxy:
            proxy = FaultProxy(upstream_port)
            open_proxies.callback(proxy.close)
            return proxy

        yield make


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A certificate authority, a broker's certificate for 127.0.0.1 and a client's, in one folder."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed (Debian: apt install openssl)")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    authority = ["-CA", "ca.pem", "-CAkey", "ca.key"]
    for name, extra in (
        ("ca", ["-addext", "basicConstraints=critical,CA:TRUE"]),
        ("broker", [*authority, "-addext", "subjectAltName=IP:127.0.0.1"]),
        ("client", authority),
    ):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(
            [openssl, "req", "-x509", *key, "-subj", f"/CN={name}", *files, *extra],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    return tmp_path


class ListOutbox:
    """Keeps the promise of `OutboxStore` in a SQLite table in memory."""

    def __init__(self) -> None:
        self.deletions: list[int] = []
        """How many messages each call of `acknowledge_messages` deleted."""
        self.fails = False
        """Refuse everything, as a database on a full disk does."""
        self._changed = threading.Condition()
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute("create table outbox (id integer primary key autoincrement, topic text, payload blob)")

    def add(self, topic: str, payloads: Sequence[bytes]) -> None:
        """Store messages; the publisher must be notified afterwards."""
        with self._changed, self._database:
            self._database.executemany(
                "insert into outbox (topic, payload) values (?, ?)", [(topic, payload) for payload in payloads]
            )

    def queued_messages(self, *, after_id: int, limit: int) -> Sequence[QueuedMessage]:
        """See `OutboxStore`."""
        with self._changed:
            self._check()
            rows = self._database.execute(
                "select id, topic, payload from outbox where id > ? order by id limit ?", (after_id, limit)
            ).fetchall()
        return [QueuedMessage(message_id=row[0], topic=row[1], payload=row[2]) for row in rows]

    def acknowledge_messages(self, message_ids: Sequence[int]) -> None:
        """See `OutboxStore`."""
        with self._changed:
            self._check()
            with self._database:
                self._database.executemany("delete from outbox where id = ?", [(number,) for number in message_ids])
            self.deletions.append(len(message_ids))
            self._changed.notify_all()

    def outbox_depth(self) -> int:
        """See `OutboxStore`."""
        with self._changed:
            return self._depth()

    def outbox_dropped(self) -> int:
        """See `OutboxStore`."""
        return 0

    def wait_depth(self, depth: int) -> None:
        """Until so many messages are left."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._depth() <= depth, DEADLINE_S), f"{self._depth()} are left"

    def close(self) -> None:
        """End."""
        self._database.close()

    def _depth(self) -> int:
        depth: int = self._database.execute("select count(*) from outbox").fetchone()[0]
        return depth

    def _check(self) -> None:
        if self.fails:
            raise StoreError("disk full")


@pytest.fixture
def outbox() -> Iterator[ListOutbox]:
    """An empty outbox."""
    store = ListOutbox()
    yield store
    store.close()


class LogWatch(logging.Handler):
    """Log lines as they come."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        with self._changed:
            self.lines.append(record.getMessage())
            self._changed.notify_all()

    def wait_for(self, text: str, *, count: int = 1) -> None:
        """Until so many lines contain the text."""

        def seen() -> bool:
            return sum(text in line for line in self.lines) >= count

        with self._changed:
            assert self._changed.wait_for(seen, DEADLINE_S), f"not logged: {text}; logged: {self.lines}"


@pytest.fixture
def messaging_log() -> Iterator[LogWatch]:
    """What the messaging modules log."""
    watch, messaging = LogWatch(), logging.getLogger("daemon.messaging")
    level = messaging.level
    messaging.addHandler(watch)
    messaging.setLevel(logging.INFO)
    yield watch
    messaging.removeHandler(watch)
    messaging.setLevel(level)


@pytest.fixture
def stopwatch() -> Callable[[], float]:
    """Seconds since the start of the test, for figures that are printed and not asserted."""
    start = time.monotonic()
    return lambda: time.monotonic() - start
