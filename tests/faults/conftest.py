"""The whole service, as a thread of the test or as a process of its own, and ways to look at what it leaves behind."""

import importlib.util
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from daemon.app import Outcome, Service
from daemon.settings import Settings
from daemon.signals import Signals
from drivers.camera import ThermalCamera
from drivers.clock import Clock, SystemClock
from drivers.recording import Recording
from drivers.sidecar import Sidecar

if TYPE_CHECKING:
    from tests.faults.timing import Gaps, OutsidePacemaker, Pacemaker, ReelCamera


def _load(name: str, path: Path) -> ModuleType:
    """A module of the tests, which are no package."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


# The broker, the subscriber and the breakable network of the daemon's tests; a conftest is visible in its folder only.
_MESSAGING = _load("vivarium_messaging_fixtures", Path(__file__).parents[1] / "test_daemon" / "conftest.py")
make_mosquitto, mosquitto = _MESSAGING.make_mosquitto, _MESSAGING.mosquitto
subscribe, make_proxy, free_port = _MESSAGING.subscribe, _MESSAGING.make_proxy, _MESSAGING.free_port
certificates = _MESSAGING.certificates

_TIMING = _load("vivarium_fault_timing", Path(__file__).with_name("timing.py"))


@pytest.fixture
def reel() -> "ReelCamera":
    """A camera at 25 frames a second that notes when each frame was taken."""
    camera: ReelCamera = _TIMING.ReelCamera()
    return camera


@pytest.fixture
def pacemaker() -> "Iterator[Pacemaker]":
    """Notes when this process was not let run."""
    with _TIMING.Pacemaker() as running:
        yield running


@pytest.fixture
def outside_pacemaker() -> "Iterator[OutsidePacemaker]":
    """Notes when the machine let nobody run."""
    with _TIMING.OutsidePacemaker() as running:
        yield running


@pytest.fixture
def queued_s() -> Callable[[int], float]:
    """How long a thread has wanted to run and was not let by the machine."""
    ask: Callable[[int], float] = _TIMING.queued_s
    return ask


JudgeGaps = Callable[[Sequence[int], Sequence[tuple[int, int]], int, int], "Gaps"]


@pytest.fixture
def gaps_between() -> JudgeGaps:
    """How evenly frames came between two moments."""
    judge: JudgeGaps = _TIMING.gaps_between
    return judge


@pytest.fixture
def the_log_is_left_as_it_was() -> Iterator[None]:
    """A config that is read again sets up the log."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


DEADLINE_S = 30.0
"""No test waits longer for anything; it is no measurement."""

DISK_BYTES = 24 * 1024**2
"""A data directory that a minute does not fill by itself."""

POLL_S = 0.02
RATE_HZ = 5


def _eventually(condition: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S) -> float:
    """Wait until the condition holds; how long it took, in seconds."""
    start, pause = time.monotonic(), threading.Event()
    while not condition():
        assert time.monotonic() - start < timeout_s, f"did not happen within {timeout_s:g} s: {what}"
        pause.wait(POLL_S)
    return time.monotonic() - start


Eventually = Callable[..., float]


@pytest.fixture
def eventually() -> Eventually:
    """Wait for a condition of something that runs by itself."""
    return _eventually


class Evidence:
    """What a service leaves in its data directory, as seen from outside."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.database = data_dir / "vivarium.db"
        self.recordings = data_dir / "recordings"

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database, beside whoever writes it."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=DEADLINE_S)) as connection:
            return connection.execute(statement, values).fetchall()

    def newest_frame(self) -> int:
        """Highest id of a committed frame; 0 without any, or without a database."""
        if not self.database.exists():
            return 0
        try:
            return int(self.rows("SELECT coalesce(max(id), 0) FROM frame")[0][0])
        except sqlite3.OperationalError:  # the tables are being made
            return 0

    def is_sound(self) -> bool:
        """Whether SQLite finds nothing wrong."""
        return self.rows("PRAGMA integrity_check") == [("ok",)] and self.rows("PRAGMA foreign_key_check") == []

    def event_ids(self) -> list[str]:
        """All events in the order of their making."""
        return [str(row[0]) for row in self.rows("SELECT event_id FROM event ORDER BY id")]

    def planned(self) -> dict[int, str]:
        """What became of each planned moment: a reason, or `captured`."""
        rows = self.rows("SELECT planned_utc_ns, coalesce(missing_reason, 'captured') FROM planned_sample")
        told = {int(moment): str(what) for moment, what in rows}
        assert len(told) == len(rows)
        return told

    def sidecars(self) -> list[Sidecar]:
        """Of all recordings, in the order of time; every recording is checked against its own."""
        sidecars = []
        for path in sorted(self.recordings.rglob("*.mkv")):
            with Recording(path) as recording:
                recording.verify()
                assert recording.sidecar is not None
                sidecars.append(recording.sidecar)
        return sorted(sidecars, key=lambda sidecar: sidecar.header.accounted_from_utc_ns)

    def recorded(self) -> dict[int, str]:
        """What became of each planned moment by the sidecars, which must not tell of one twice."""
        told: dict[int, str] = {}
        for sidecar in self.sidecars():
            facts = [(each.planned_utc_ns, "captured") for each in sidecar.frames if each.planned_utc_ns is not None]
            for each in sidecar.missing:
                moments = range(each.first_utc_ns, each.last_utc_ns + 1, sidecar.header.period_ns)
                facts += [(moment, each.reason) for moment in moments]
            for moment, what in facts:
                assert moment not in told, f"{moment} is {told[moment]} and then {what} in {sidecar.header}"
                told[moment] = what
        return told

    def unfinished(self) -> list[str]:
        """Names of files that a recording in progress has."""
        return [path.name for path in self.recordings.rglob("*.part*")]


def clock_time(seconds_from_now: float = 0) -> str:
    """A UTC time of day for the schedule."""
    moment = datetime.fromtimestamp(time.time() + seconds_from_now, UTC)
    return f"{moment:%H:%M:%S}"


MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    """Settings of a service in `tmp_path`, in a block that has just begun; `changes` name whole sections."""

    def make(
        *, data_dir: Path | None = None, block_s: float = 900, starts_in_s: float = -2, **changes: Any
    ) -> Settings:
        sections: dict[str, Any] = {
            "box": {"data_dir": data_dir or tmp_path / "data", "time_zone": "UTC"},
            "schedule": {
                "rate_hz": RATE_HZ,
                "block_minutes": block_s / 60,
                "strata": {"faults": [clock_time(starts_in_s)]},
            },
            "mqtt": {"enabled": False},
            "web": {"enabled": False},
        }
        return Settings.model_validate({**sections, **changes})

    return make


class RunningService:
    """A service in this process, watched over by a thread as the command does by its main thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        open_camera: Callable[[], AbstractContextManager[ThermalCamera]] | None = None,
        clock: Clock | None = None,
        mqtt_password: str | None = None,
        config_problem: str | None = None,
        on_reloaded: Callable[[], None] = lambda: None,
    ) -> None:
        self.service = Service(
            settings,
            open_camera=open_camera,
            clock=clock,
            mqtt_password=mqtt_password,
            config_problem=config_problem,
            on_reloaded=on_reloaded,
        )
        self.signals = Signals()
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.load: Callable[[], Settings] = lambda: self.service.settings
        """Reads the config anew."""
        self.evidence = Evidence(settings.box.data_dir)
        self.stopping_s = 0.0
        """How long the stop took."""
        self._thread = threading.Thread(target=self._supervise, name="supervisor")

    def _supervise(self) -> None:
        try:
            self.outcome, _ = self.service.supervise(self.signals, lambda: self.load())
        except BaseException as error:  # shown to the test
            self.error = error

    def __enter__(self) -> "RunningService":
        self.service.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        start = time.monotonic()
        self.signals.receive(signal.SIGTERM)
        self._thread.join(DEADLINE_S)
        self.service.__exit__(None, None, None)
        self.stopping_s = time.monotonic() - start
        assert self.error is None
        assert self.outcome is Outcome.STOPPED


MakeService = Callable[..., RunningService]


@pytest.fixture
def make_service() -> MakeService:
    """A service of given settings, started by `with`."""
    return RunningService


class DaemonProcess:
    """The command as systemd starts it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.evidence = Evidence(settings.box.data_dir)
        self.config = folder / "config.toml"
        self._log = folder / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.config.write_text(_toml(settings))

    def start(self, *options: str | Path) -> None:
        """Return at once; the options are those of `vivarium run`."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "daemon", "run", "--config", self.config, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def must_run(self) -> bool:
        """True; fails with what it said if it is not there."""
        assert self._process is not None
        assert self._process.poll() is None, f"the daemon has ended: {self.log[-3000:]}"
        return True

    @property
    def log(self) -> str:
        """All that it wrote since the first start."""
        return self._log.read_text() if self._log.exists() else ""

    def send(self, which: signal.Signals) -> None:
        """Send a signal that does not end it."""
        assert self._process is not None
        self._process.send_signal(which)

    def wait(self) -> int:
        """Wait until it ends by itself; the exit status."""
        assert self._process is not None
        code, self._process = self._process.wait(DEADLINE_S), None
        return code

    def end(self, how: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit status."""
        if self._process is None:
            return 0
        self._process.send_signal(how)
        code = self._process.wait(DEADLINE_S)
        self._process = None
        return code


def _toml(settings: Settings) -> str:
    """The settings of a test as config.toml."""
    schedule, mqtt = settings.schedule, settings.mqtt
    strata = "\n".join(f"{name} = {list(times)!r}" for name, times in schedule.strata.items())
    return f"""
[box]
data_dir = "{settings.box.data_dir}"
time_zone = "{settings.box.time_zone}"
[schedule]
rate_hz = {schedule.rate_hz}
block_minutes = {schedule.block_minutes}
[schedule.strata]
{strata}
[mqtt]
enabled = {str(mqtt.enabled).lower()}
broker = "{mqtt.broker}"
port = {mqtt.port}
keep_alive_s = {mqtt.keep_alive_s}
[web]
enabled = false
[disk]
min_free_gb = {settings.disk.min_free_gb}
ballast_mb = {settings.disk.ballast_mb}
"""


MakeDaemon = Callable[[Settings], DaemonProcess]


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[MakeDaemon]:
    """The service as a process; killed at the end of the test if it is still there."""
    with ExitStack() as running:

        def make(settings: Settings) -> DaemonProcess:
            daemon = DaemonProcess(settings, tmp_path)
            running.callback(lambda: daemon.end(signal.SIGKILL))
            return daemon

        yield make


class ShiftedClock(SystemClock):
    """The machine's clock, so many seconds later or earlier."""

    def __init__(self, shift_s: float) -> None:
        self._shift_ns = round(shift_s * 1_000_000_000)

    def utc_ns(self) -> int:
        """See `Clock`."""
        return super().utc_ns() + self._shift_ns


@pytest.fixture
def make_clock() -> Callable[[float], Clock]:
    """A clock that is so many seconds ahead."""
    return ShiftedClock


DISK_BYTES = 24 * 1024**2
"""A data directory that a minute does not fill by itself."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is quickly filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True, timeout=30)


def _fill(path: Path) -> None:
    """Take all the room there is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (65536, 4096, 1):
            try:
                while os.write(descriptor, bytes(size)):
                    pass
            except OSError:
                continue
    finally:
        os.close(descriptor)


@pytest.fixture
def fill() -> Callable[[Path], None]:
    """Take all the room that a file system has, with one file."""
    """Lets a file take all the room that its disk has."""
    return _fill
