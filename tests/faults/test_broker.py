"""The broker fails in every way: nothing is lost, capture never waits, and all is told again when it is back."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.events import Event, EventKind, EventState, Severity
from daemon.messaging.connection import CONNACK_TIMEOUT_S, SILENCE_FACTOR
from daemon.messaging.payloads import event_message
from daemon.messaging.publisher import RETRY_AWAY_MAX_S, RETRY_REFUSED_MAX_S, Publisher
from daemon.messaging.window import WINDOW_MESSAGES
from daemon.settings import MqttSettings
from daemon.store.repository import Store, open_store
from drivers.clock import NS_PER_S

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.faults.conftest import Eventually, JudgeGaps, MakeService, MakeSettings, RunningService
    from tests.faults.timing import Gaps, Pacemaker, ReelCamera
    from tests.test_daemon.conftest import FaultProxy, Subscriber

    MakeMosquitto = Callable[..., Mosquitto]
    MakeProxy = Callable[[int], FaultProxy]
    Subscribe = Callable[[int], Subscriber]

BACK_WITHIN_S = 10.0
TOLD_AGAIN_WITHIN_S = 2.0
BLOCKED_S = 1.0
AWAY_S = 3.0
"""How long each fault lasts: longer than the first pauses between attempts."""
CONTROL_S = 1.5
KEEP_ALIVE_S = 5
NOTICE_SLACK_S = 2.5
"""A keep-alive is counted in whole seconds and looked at each second."""
PASSWORD = "right"

BACKLOG = int(os.environ.get("VIVARIUM_OUTAGE_EVENTS", "90000"))
"""One hour at 25 events a second."""
DRAIN_WITHIN_S = 60.0
PATIENCE_S = 240.0
GROWTH_MB = 20.0
BATCH = 1000

RETAINED = ("status", "info", "block", "health", "animal/1")


def an_event(number: int, severity: Severity = Severity.NOTICE, kind: EventKind = EventKind.CAMERA_FOUND) -> Event:
    """One of many."""
    return Event(
        kind=kind,
        state=EventState.OCCURRED,
        severity=severity,
        at_utc_ns=NS_PER_S * number,
        data={"number": number},
    )


# Fault 9


class Scene:
    """The service at 25 frames a second, a broker behind a network, a subscriber, and somebody with a watch."""

    def __init__(
        self,
        running: "RunningService",
        subscriber: "Subscriber",
        reel: "ReelCamera",
        pacemaker: "Pacemaker",
        gaps_between: "JudgeGaps",
        eventually: "Eventually",
    ) -> None:
        self.running = running
        self.subscriber = subscriber
        self.eventually = eventually
        self._reel, self._pacemaker, self._gaps_between = reel, pacemaker, gaps_between

    @property
    def last_error(self) -> str:
        """Why there is no connection, as the status says."""
        return self.running.service.status().mqtt.last_error or ""

    def heard_topics(self, since: int) -> set[str]:
        """Topics of what the subscriber has heard since so many messages."""
        return {topic.removeprefix("vivarium/box1/") for topic, _, _ in self.subscriber.messages[since:]}

    def is_online_since(self, since: int) -> bool:
        """Whether the subscriber has heard that the service is there, since so many messages."""
        return any(
            topic == "vivarium/box1/status" and json.loads(payload)["state"] == "online"
            for topic, payload, _ in self.subscriber.messages[since:]
        )

    def suffer(self, name: str, fault: Callable[[], None], cure: Callable[[], None], lasts_s: float = AWAY_S) -> None:
        """Let something go wrong for a while, and judge the way back, the state that is told again and capture.

        The cure returns when a broker that works is there again.
        """
        self.eventually(lambda: set(RETAINED) <= self.heard_topics(0), "all retained topics")
        begin_ns = time.monotonic_ns()
        threading.Event().wait(CONTROL_S)
        fault_ns = time.monotonic_ns()
        fault()
        threading.Event().wait(lasts_s)
        heard = len(self.subscriber.messages)
        cure()
        cured_s = time.monotonic()
        self.eventually(lambda: self.is_online_since(heard), f"a connection after: {name}")
        back_s = time.monotonic() - cured_s
        told_s = self.eventually(lambda: set(RETAINED) <= self.heard_topics(heard), f"the state after: {name}")
        end_ns = time.monotonic_ns()
        control = self._judged(begin_ns, fault_ns)
        during = self._judged(fault_ns, end_ns)
        print(  # noqa: T201  # the figures
            f"broker {name}: back after {back_s:.1f} s, retained state told again {told_s:.2f} s later; longest time "
            f"between frames {during}, before the fault {control}"
        )
        assert during.held == 0 or control.held > 0, (name, during, control)
        assert during.longest_held_s < BLOCKED_S, (name, during)
        assert back_s < BACK_WITHIN_S
        assert told_s < TOLD_AGAIN_WITHIN_S

    def _judged(self, start_ns: int, end_ns: int) -> "Gaps":
        return self._gaps_between(self._reel.captured_ns, self._pacemaker.stalls, start_ns, end_ns)


@pytest.fixture
def play(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    subscribe: "Subscribe",
    reel: "ReelCamera",
    pacemaker: "Pacemaker",
    gaps_between: "JudgeGaps",
    eventually: "Eventually",
) -> Iterator[Callable[..., Scene]]:
    """Run the service with a broker at a port and a subscriber at another."""
    with ExitStack() as stack:

        def begin(port: int, listener: int, **mqtt: Any) -> Scene:
            settings = make_settings(
                mqtt={"broker": "external", "port": port, "keep_alive_s": KEEP_ALIVE_S, **mqtt},
                recording={"enabled": False},
            )
            subscriber = subscribe(listener)
            password = PASSWORD if "username" in mqtt else None
            running = stack.enter_context(make_service(settings, open_camera=lambda: reel, mqtt_password=password))
            return Scene(running, subscriber, reel, pacemaker, gaps_between, eventually)

        yield begin


Play = Callable[..., Scene]


def test_a_broker_that_is_killed_is_found_again_and_capture_never_waits(
    play: Play, mosquitto: "Mosquitto", make_proxy: "MakeProxy"
) -> None:
    network = make_proxy(mosquitto.port)
    scene = play(network.port, mosquitto.port)

    def cure() -> None:
        network.refuse()  # until the subscriber is there, so that it hears everything
        mosquitto.start()
        scene.subscriber.wait_subscribed(times=2)
        network.heal()

    scene.suffer("kill -9", lambda: mosquitto.stop(signal.SIGKILL), cure)


def test_a_broker_that_takes_connections_and_says_nothing_is_found_again_and_capture_never_waits(
    play: Play, mosquitto: "Mosquitto", make_proxy: "MakeProxy"
) -> None:
    network = make_proxy(mosquitto.port)
    scene = play(network.port, mosquitto.port)

    def fault() -> None:
        network.cut()
        network.hang()

    scene.suffer("hangs", fault, network.heal, lasts_s=CONNACK_TIMEOUT_S + 1)
    assert 2 * CONNACK_TIMEOUT_S < BACK_WITHIN_S
    assert RETRY_AWAY_MAX_S + CONNACK_TIMEOUT_S < BACK_WITHIN_S  # however long it hangs


def test_a_half_open_connection_is_noticed_and_replaced_and_capture_never_waits(
    play: Play, mosquitto: "Mosquitto", make_proxy: "MakeProxy"
) -> None:
    network = make_proxy(mosquitto.port)
    scene = play(network.port, mosquitto.port)
    noticed_s: list[float] = []

    def fault() -> None:
        network.hang()
        network.heal()  # for new connections: ours stays open and silent
        start_s = time.monotonic()
        scene.eventually(lambda: scene.running.service.status().mqtt.state == "connecting", "the silence is noticed")
        noticed_s.append(time.monotonic() - start_s)

    scene.suffer("half open", fault, lambda: None, lasts_s=0)
    print(f"half open: noticed after {noticed_s[0]:.1f} s with a keep-alive of {KEEP_ALIVE_S} s")  # noqa: T201
    assert noticed_s[0] < SILENCE_FACTOR * KEEP_ALIVE_S + NOTICE_SLACK_S


def two_listeners(tmp_path: Path, make_mosquitto: "MakeMosquitto", free_port: int, options: str) -> "Mosquitto":
    """A broker with a listener for the service that has these options, and an open one for the subscriber."""
    return make_mosquitto(
        f"per_listener_settings true\n{options}\nlistener {free_port} 127.0.0.1\nallow_anonymous true"
    )


def test_a_broker_that_refuses_the_password_is_found_again_when_it_does_not_and_capture_never_waits(
    play: Play, tmp_path: Path, make_mosquitto: "MakeMosquitto", make_proxy: "MakeProxy", free_port: int
) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch()

    def set_password(text: str) -> None:
        subprocess.run(["mosquitto_passwd", "-b", passwords, "box", text], check=True, capture_output=True)

    set_password(PASSWORD)
    broker = two_listeners(tmp_path, make_mosquitto, free_port, f"allow_anonymous false\npassword_file {passwords}")
    network = make_proxy(broker.port)
    scene = play(network.port, free_port, username="box")
    subscriptions = itertools.count(2)

    def restart_with(password: str) -> None:
        network.refuse()
        broker.stop()
        set_password(password)
        broker.start()
        scene.subscriber.wait_subscribed(times=next(subscriptions))
        network.heal()

    scene.suffer("refuses the password", lambda: restart_with("another"), lambda: restart_with(PASSWORD))
    assert RETRY_REFUSED_MAX_S < BACK_WITHIN_S - 1  # however long it refuses


def expired_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of the broker that has had its time, and its key."""
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\ncertificate = ca.pem\n"
        "private_key = ca.key\ndefault_md = sha256\npolicy = p\ncopy_extensions = copy\n[p]\ncommonName = supplied\n"
    )
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    for arguments in (
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=broker "
        "-addext subjectAltName=IP:127.0.0.1 -keyout old.key -out old.csr",
        "ca -batch -config ca.cnf -in old.csr -out old.pem -notext -startdate 20200101000000Z -enddate 20200201000000Z",
    ):
        subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)
    return folder / "old.pem", folder / "old.key"


def test_a_broker_whose_certificate_expires_is_found_again_with_a_new_one_and_capture_never_waits(
    play: Play,
    certificates: Path,
    make_mosquitto: "MakeMosquitto",
    make_proxy: "MakeProxy",
    free_port: int,
) -> None:
    good, in_use = (certificates / "broker.pem", certificates / "broker.key"), certificates / "in_use"
    expired = expired_certificate(certificates)
    in_use.mkdir()

    def present(files: tuple[Path, Path]) -> None:
        for file, name in zip(files, ("broker.pem", "broker.key"), strict=True):
            shutil.copy(file, in_use / name)

    present(good)
    broker = two_listeners(
        certificates,
        make_mosquitto,
        free_port,
        f"allow_anonymous true\ncafile {certificates}/ca.pem\ncertfile {in_use}/broker.pem\n"
        f"keyfile {in_use}/broker.key",
    )
    network = make_proxy(broker.port)
    scene = play(network.port, free_port, tls=True, ca_file=certificates / "ca.pem")
    subscriptions = itertools.count(2)

    def restart_with(files: tuple[Path, Path]) -> None:
        network.refuse()
        broker.stop()
        present(files)
        broker.start()
        scene.subscriber.wait_subscribed(times=next(subscriptions))
        network.heal()

    def expire() -> None:
        restart_with(expired)
        scene.eventually(lambda: "certificate has expired" in scene.last_error, "the status says why")

    scene.suffer("certificate expired", expire, lambda: restart_with(good), lasts_s=AWAY_S / 2)


# Faults 8 and 10


class Listener:
    """A subscriber in a process of its own, so that what it keeps is not taken for ours."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("listener.py"), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.wait_ready()

    def wait_ready(self) -> None:
        """Until it has subscribed, for the first time or once more."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def end(self) -> dict[str, Any]:
        """What it has heard."""
        out, _ = self._process.communicate(timeout=DRAIN_WITHIN_S)
        summary: dict[str, Any] = json.loads(out.splitlines()[-1])
        return summary

    def close(self) -> None:
        """End it also when the test has failed."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def listen() -> Iterator[Callable[[int], Listener]]:
    """Start a subscriber at a port."""
    with ExitStack() as running:

        def begin(port: int) -> Listener:
            listener = Listener(port)
            running.callback(listener.close)
            return listener

        yield begin


@pytest.fixture
def begin_run() -> Callable[[Store], int]:
    """Start a run in a store; its number."""

    def begin(store: Store) -> int:
        return store.start_run(
            version="1",
            config_hash="",
            config_json="{}",
            segmenter="",
            host="box",
            boot_id="boot",
            started_utc_ns=1,
        )

    return begin


def resident_mb() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2


class Memory:
    """The most that this process has in memory, as seen at the moments when somebody looks."""

    def __init__(self) -> None:
        self.start_mb = self.most_mb = resident_mb()

    def look(self) -> bool:
        """True, always: to stand in a condition."""
        self.most_mb = max(self.most_mb, resident_mb())
        return True

    @property
    def growth_mb(self) -> float:
        """The most since the start."""
        return self.most_mb - self.start_mb


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cut", [pytest.param(True, id="cut in the middle"), pytest.param(False, id="left alone")])
def test_an_hour_without_a_broker_at_25_events_a_second_loses_none_and_drains_in_order(
    tmp_path: Path,
    mosquitto: "Mosquitto",
    make_proxy: "MakeProxy",
    listen: Callable[[int], Listener],
    begin_run: Callable[[Store], int],
    eventually: "Eventually",
    queued_s: Callable[[int], float],
    cut: bool,
) -> None:
    network = make_proxy(mosquitto.port)
    settings = MqttSettings(broker="external", port=network.port, keep_alive_s=KEEP_ALIVE_S)
    listener = listen(mosquitto.port)
    with (
        open_store(f"sqlite:///{tmp_path / 'vivarium.db'}", outbox_limit=settings.outbox_limit) as store,
        Publisher(settings, box="box1", store=store) as publisher,
    ):
        run_id = begin_run(store)

        def happen(first: int, count: int) -> None:
            events = [an_event(number) for number in range(first, first + count)]
            store.add([], run_id=run_id, camera_id=None, events=events, tell=event_message)
            publisher.notify()

        happen(0, BATCH)
        eventually(lambda: store.outbox_depth() == 0, "the first events are delivered")
        network.refuse()
        memory, start_s = Memory(), time.monotonic()
        for first in range(BATCH, BATCH + BACKLOG, BATCH):
            happen(first, BATCH)
            memory.look()
        outage_s = time.monotonic() - start_s
        assert store.outbox_depth() == BACKLOG
        network.heal()
        assert publisher.wait_connected(BACK_WITHIN_S)
        (sender,) = [each.native_id or 0 for each in threading.enumerate() if each.name == "mqtt-publisher"]
        start_s, queued_before_s = time.monotonic(), [queued_s(thread) for thread in (sender, mosquitto.pid)]
        eventually(lambda: memory.look() and store.outbox_depth() < BACKLOG // 2, "half of it", PATIENCE_S)
        if cut:
            network.cut()  # once in the middle, so that a window is sent again
        eventually(lambda: memory.look() and store.outbox_depth() == 0, "an empty outbox", PATIENCE_S)
        took_s = time.monotonic() - start_s
        # Sender and broker wait for each other and, on a busy machine, for a processor. The longer of the latter two
        # is not what they need: it is taken off, where Linux tells it.
        queued = [queued_s(thread) for thread in (sender, mosquitto.pid)]
        drained_s = took_s - max(after - before for after, before in zip(queued, queued_before_s, strict=True))
        reconnects = publisher.state.reconnects
        dropped = store.outbox_dropped()
    heard = listener.end()
    total = BATCH + BACKLOG
    duplicates = heard["heard"] - heard["distinct"]
    print(  # noqa: T201  # the figures
        f"broker away while {BACKLOG} events came (in {outage_s:.0f} s): {total - heard['distinct']} lost, "
        f"in order: {heard['in_order']}, {duplicates} repeated in {reconnects - 1} broken connection, drained in "
        f"{drained_s:.1f} s (on the clock {took_s:.1f} s), memory +{memory.growth_mb:.1f} MB"
    )
    assert (heard["distinct"], heard["first"], heard["last"], dropped) == (total, [1], [total], 0)
    assert heard["in_order"]
    assert reconnects == (2 if cut else 1)
    assert duplicates <= WINDOW_MESSAGES * (reconnects - 1)  # and so none where nothing broke
    assert drained_s < DRAIN_WITHIN_S
    assert memory.growth_mb < GROWTH_MB


@pytest.mark.timeout(300)
def test_a_full_outbox_drops_the_oldest_notices_tells_how_many_and_keeps_every_alarm(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    make_proxy: "MakeProxy",
    subscribe: "Subscribe",
    reel: "ReelCamera",
    eventually: "Eventually",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.app.STATUS_INTERVAL_S", 1.0)  # in place of 10 s: health is told so often
    limit, alarms, notices = 100, 60, 200
    network, subscriber = make_proxy(mosquitto.port), subscribe(mosquitto.port)
    settings = make_settings(
        mqtt={"broker": "external", "port": network.port, "outbox_limit": limit},
        recording={"enabled": False},
        vision={"unet": "off", "panoptic": "off"},  # on a busy machine they tell that they are slow
        web={"port": 0},
    )
    with make_service(settings, open_camera=lambda: reel) as running:
        store, prefix = running.service.store, "vivarium/box1/event/"
        eventually(lambda: len(subscriber.payloads(prefix)) >= 2 and store.outbox_depth() == 0, "the first events")
        network.refuse()
        eventually(lambda: running.service.status().mqtt.state == "connecting", "the loss")
        known = len(subscriber.payloads(prefix))
        run_id = running.evidence.rows("SELECT max(id) FROM run")[0][0]
        first_seq = (store.last_event_seq() or 0) + 1
        for number in range(notices + alarms):
            severity = Severity.ALERT if number % ((notices + alarms) // alarms) == 0 else Severity.NOTICE
            store.add([], run_id=run_id, camera_id=None, events=[an_event(number, severity)], tell=event_message)
        sent = store.events_after(first_seq - 1, limit=1000)
        dropped = store.outbox_dropped()
        assert store.outbox_depth() == limit
        assert dropped == len(sent) - limit
        network.heal()
        eventually(lambda: store.outbox_depth() == 0, "an empty outbox")
        eventually(lambda: told_dropped(subscriber) == dropped, "health tells how many gave way")
        heard = [json.loads(payload) for payload in subscriber.payloads(prefix)[known:]]
        missed = missed_by(heard, first_seq, running)
    urgent = [numbered.seq for numbered in sent if numbered.event.severity is Severity.ALERT]
    kept = [numbered.seq for numbered in sent if numbered.event.severity is Severity.NOTICE][-(limit - len(urgent)) :]
    assert [event["seq"] for event in heard] == sorted(urgent + kept)
    assert sorted(missed + [event["seq"] for event in heard]) == [numbered.seq for numbered in sent]
    print(  # noqa: T201  # the figures
        f"outbox limit {limit}, {len(sent)} events: {dropped} notices gave way, the oldest; told so by health; "
        f"{len(urgent)} of {len(urgent)} alarms kept; the {len(missed)} missed ones found by their numbers in the API"
    )


def told_dropped(subscriber: "Subscriber") -> int:
    """Events that gave way, as the newest health message says."""
    payloads = subscriber.payloads("vivarium/box1/health")
    return int(json.loads(payloads[-1])["outbox_dropped"]) if payloads else -1


def missed_by(heard: list[dict[str, Any]], first_seq: int, running: "RunningService") -> list[int]:
    """What a listener who sees jumps in the numbers fetches from the API."""
    found: list[int] = []
    expected = first_seq
    for event in heard:
        if event["seq"] > expected:
            query = f"after={expected - 1}&limit={event['seq'] - expected}"
            url = f"http://127.0.0.1:{running.service.web_port}/api/events?{query}"
            with urllib.request.urlopen(url, timeout=BACK_WITHIN_S) as answer:
                found += [each["seq"] for each in json.load(answer)["events"]]
        expected = event["seq"] + 1
    return found
