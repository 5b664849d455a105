"""Fault 18: a thread of the real service process hangs or dies, and the service manager learns of it."""

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.app import TICK_S
from daemon.health import PUBLISHER_STALLED_AFTER_S, STALLED_AFTER_S
from daemon.messaging.publisher import Publisher
from daemon.service_status import read_heartbeat
from daemon.settings import MqttSettings
from daemon.store.repository import open_store

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.faults.conftest import Eventually, MakeSettings

VICTIM = Path(__file__).with_name("watchdog_victim.py")
UNIT = Path(__file__).parents[2] / "systemd" / "strong-vivarium.service"

READY_AGAIN_S = 10.0
"""After the watchdog's time is over, with the pause before a restart."""

START_S = 60.0
"""A start on a machine that does several other things; it is no measurement."""

END_S = 15.0
"""A process whose thread has died is gone by then: noticed within a second, and four to stop the others."""

SLACK_S = 2.5
"""Of a supervisor that looks once a second, on a busy machine."""


def of_unit(key: str) -> float:
    """A number of seconds in the unit file."""
    found = re.search(rf"(?m)^{key}=(\d+)$", UNIT.read_text())
    assert found is not None
    return float(found[1])


class Manager:
    """What systemd is to the service: it starts it, hears what it says, and sees it end."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.heard: list[tuple[float, str]] = []
        """What the service said, with the time."""
        self.log = folder / f"{name}.log"
        self.trigger = folder / f"{name}.trigger"
        self.heartbeat = folder / f"{name}.heartbeat"
        self._config = folder / f"{name}.toml"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / f"{name}.notify"))
        self._socket.settimeout(0.2)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, name=f"manager {name}")
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Manager":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        self._stopping.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                message = self._socket.recv(4096).decode()
            except TimeoutError:
                continue
            self.heard.append((time.monotonic(), message))

    def start(self, fault: str, config: str) -> None:
        """Start the service with a fault that waits for its trigger."""
        self._config.write_text(config)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, VICTIM, fault, self.trigger, "run", "-c", self._config, "--heartbeat", self.heartbeat],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
                env={**os.environ, "NOTIFY_SOCKET": self._socket.getsockname(), "PYTHONFAULTHANDLER": "1"},
            )

    def times(self, state: str, since: float = 0.0) -> list[float]:
        """When it said so."""
        return [at for at, message in self.heard if at >= since and state in message.splitlines()]

    def break_it(self) -> float:
        """Let the fault happen; the time."""
        self.trigger.touch()
        return time.monotonic()


MakeManager = Callable[[str], Manager]


@pytest.fixture
def make_manager(tmp_path: Path) -> Iterator[MakeManager]:
    """A service manager, with everything ended afterwards."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(Manager(tmp_path, name))


@pytest.fixture
def config(make_settings: "MakeSettings", tmp_path: Path) -> Callable[..., str]:
    """A config in a block that has begun; nobody listens at the port of its broker unless another is named.

    Where several services share two cores they go without networks, which alone would fill them.
    """

    def make(name: str, *, port: int = 1, data_dir: Path | None = None, networks: bool = True) -> str:
        schedule = make_settings(block_s=3600).schedule
        return (
            f'[box]\ndata_dir = "{data_dir or tmp_path / name}"\ntime_zone = "UTC"\n'
            f"[schedule]\nrate_hz = {schedule.rate_hz}\nblock_minutes = {schedule.block_minutes}\n"
            f"[schedule.strata]\nfaults = {list(schedule.strata['faults'])!r}\n"
            f'[mqtt]\nbroker = "external"\nport = {port}\n'
            "[web]\nport = 0\n" + ("" if networks else '[vision]\nunet = "off"\npanoptic = "off"\n')
        )

    return make


@pytest.mark.timeout(240)
def test_a_thread_that_hangs_stops_the_watchdog_and_a_restart_is_ready_in_time(
    make_manager: MakeManager,
    config: Callable[..., str],
    eventually: "Eventually",
    queued_s: Callable[[int], float],
) -> None:
    faults = {"supervisor": "hang:supervisor", "capture": "hang:capture", "worker": "hang:worker"}
    faults["commands"] = "hang:commands"
    faults["storing"] = "idle:worker"  # alive and busy, but nothing is written any more
    limits_s = dict.fromkeys(faults, STALLED_AFTER_S + TICK_S + SLACK_S) | {"supervisor": TICK_S + SLACK_S}
    managers = {name: make_manager(name) for name in faults}
    for name, manager in managers.items():
        manager.start(faults[name], config(name, networks=False))
    for name, manager in managers.items():
        eventually(lambda m=manager: len(m.times("WATCHDOG=1")) >= 3, f"{name}: fed watchdog", START_S)
    broken = {name: manager.break_it() for name, manager in managers.items()}
    threading.Event().wait(max(limits_s.values()) + 3)

    fed_s = {
        name: max(manager.times("WATCHDOG=1", broken[name]), default=broken[name]) - broken[name]
        for name, manager in managers.items()
    }
    for name, manager in managers.items():
        assert manager.process is not None
        assert manager.process.poll() is None, f"{name} has ended: {manager.log.read_text()[-2000:]}"
        assert fed_s[name] <= limits_s[name], name
    for name in ("capture", "worker", "commands", "storing"):
        assert name in read_heartbeat(managers[name].heartbeat)["stalled"], name

    hung = managers["capture"]
    assert hung.process is not None
    hung.process.send_signal(signal.SIGABRT)
    assert hung.process.wait(30) == -signal.SIGABRT
    assert "_hang" in hung.log.read_text()  # where it hung is in the journal
    for manager in managers.values():  # a box has one service, not five
        assert manager.process is not None
        manager.process.kill()
        manager.process.wait(30)
    hung.trigger.unlink()
    again = time.monotonic()
    hung.start(faults["capture"], config("capture"))
    eventually(lambda: bool(hung.times("READY=1", again)), "READY again", START_S)
    assert hung.process is not None
    waited_s = queued_s(hung.process.pid)
    wall_s = hung.times("READY=1", again)[0] - again
    ready_s = wall_s - waited_s + of_unit("RestartSec")
    print(  # noqa: T201  # the figures
        "the watchdog was last fed "
        + ", ".join(f"{seconds:.1f} s after the {name} hung" for name, seconds in fed_s.items())
        + f"; READY {ready_s:.1f} s after the watchdog's {of_unit('WatchdogSec'):g} s, allowed {READY_AGAIN_S:g} s "
        f"(without {waited_s:.1f} s in which others had the processors)"
    )
    assert ready_s < READY_AGAIN_S


@pytest.mark.timeout(240)
def test_a_thread_that_dies_ends_the_process_with_an_error(
    make_manager: MakeManager, config: Callable[..., str], eventually: "Eventually"
) -> None:
    faults = {name: f"die:{name}" for name in ("capture", "worker", "recorder", "publisher", "caretaker", "commands")}
    faults |= {"mistake": "err:worker", "mistake at the top": "err:supervisor"}
    said = {"mistake": "worker: RuntimeError", "mistake at the top": "the service has failed"}
    managers = {name: make_manager(name) for name in faults}
    for name, manager in managers.items():
        manager.start(faults[name], config(name, networks=False))
    for name, manager in managers.items():
        eventually(lambda m=manager: len(m.times("WATCHDOG=1")) >= 2, f"{name}: fed watchdog", START_S)
    ended_s = {}
    for name, manager in managers.items():
        assert manager.process is not None
        start = manager.break_it()
        code = manager.process.wait(60)
        ended_s[name] = time.monotonic() - start
        assert code not in (0, -signal.SIGABRT), name
        assert said.get(name, f"the {name} thread has died") in manager.log.read_text()
    print(  # noqa: T201  # the figures
        "the process ended " + ", ".join(f"{seconds:.1f} s after the {name}" for name, seconds in ended_s.items())
    )
    assert max(ended_s.values()) < END_S


def test_a_thread_that_does_not_stop_aborts_no_process(
    make_manager: MakeManager, config: Callable[..., str], eventually: "Eventually"
) -> None:
    manager = make_manager("churn")
    manager.start("churn:worker", config("churn"))
    eventually(lambda: len(manager.times("WATCHDOG=1")) >= 2, "fed watchdog", START_S)
    assert manager.process is not None
    manager.break_it()
    threading.Event().wait(1)
    manager.process.terminate()
    assert manager.process.wait(60) == 0
    assert "the worker thread does not stop" in manager.log.read_text()


@pytest.mark.timeout(240)
def test_a_full_disk_without_a_broker_is_no_reason_to_be_killed(
    small_disk: Path,  # first, and so taken away last
    fill: Callable[[Path], None],
    make_manager: MakeManager,
    config: Callable[..., str],
    eventually: "Eventually",
) -> None:
    manager = make_manager("full")
    manager.start("hang:worker", config("full", data_dir=small_disk / "data"))
    eventually(lambda: len(manager.times("WATCHDOG=1")) >= 3, "fed watchdog", START_S)
    ballast = small_disk / "ballast"
    full_s = STALLED_AFTER_S + 5
    start = time.monotonic()
    while time.monotonic() - start < full_s:
        fill(ballast)
        threading.Event().wait(0.5)
    end = time.monotonic()
    assert "cannot be written" in manager.log.read_text()
    fed = [start, *(at for at in manager.times("WATCHDOG=1", start) if at <= end), end]
    longest_s = max(later - earlier for earlier, later in itertools.pairwise(fed))
    print(f"disk full for {full_s:g} s without a broker: the watchdog was fed every {longest_s:.1f} s or less")  # noqa: T201
    assert longest_s < of_unit("WatchdogSec") / 2
    assert read_heartbeat(manager.heartbeat)["stalled"] == ""
    assert manager.process is not None
    assert manager.process.poll() is None


@pytest.mark.parametrize("there", [pytest.param(True, id="with a broker"), pytest.param(False, id="without")])
def test_the_publisher_beats_with_and_without_a_broker(
    mosquitto: "Mosquitto", tmp_path: Path, eventually: "Eventually", there: bool
) -> None:
    beats: list[float] = []
    settings = MqttSettings(broker="external", port=mosquitto.port if there else 1)  # nobody listens there
    with (
        open_store(f"sqlite:///{tmp_path / 'beats.db'}", outbox_limit=100) as store,
        Publisher(settings, box="box1", store=store, beat=lambda: beats.append(time.monotonic())) as publisher,
    ):
        eventually(lambda: len(beats) >= 4, "beats of a publisher")
        assert publisher.alive
    assert not publisher.alive
    assert max(later - earlier for earlier, later in itertools.pairwise(beats)) < PUBLISHER_STALLED_AFTER_S / 4
