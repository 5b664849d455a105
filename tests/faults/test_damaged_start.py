"""A start among damaged files: each is set aside under a name and told of, and capture goes on."""

import json
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.settings import Settings
from drivers.clock import SystemClock
from drivers.gain_map import GainMaps
from drivers.simulated import SimulatedCamera, SimulatedDevice

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.faults.conftest import Eventually, MakeDaemon, MakeService, MakeSettings, RunningService
    from tests.test_daemon.conftest import Subscriber

    Subscribe = Callable[[int], Subscriber]

BACK_WITHIN_S = 10.0
OVERWRITES = 200
SERIAL = "T2S00001"


def scattered(path: Path, times: int = OVERWRITES) -> None:
    """Random overwrites of 64 bytes, all over the file."""
    data, dice = bytearray(path.read_bytes()), random.Random(1)
    for _ in range(times):
        at = dice.randrange(max(1, len(data) - 64))
        data[at : at + 64] = dice.randbytes(64)
    path.write_bytes(data)


def zeroed(path: Path) -> None:
    """As long as before, and nothing in it, as after some power cuts."""
    path.write_bytes(bytes(path.stat().st_size))


def halved(path: Path) -> None:
    """Cut in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    """Not a byte left."""
    path.write_bytes(b"")


Damage = Callable[[Path], None]


def database(how: Damage) -> Damage:
    """Damage the database; what is in its log belongs to it."""

    def damage(data_dir: Path) -> None:
        with closing(sqlite3.connect(data_dir / "vivarium.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        how(data_dir / "vivarium.db")

    return damage


def closed_recording(how: Damage, *suffixes: str) -> Damage:
    """Damage files of the recording that is closed."""

    def damage(data_dir: Path) -> None:
        (path,) = (data_dir / "recordings").rglob("*.mkv")
        for suffix in suffixes:
            how(path.with_suffix(suffix))

    return damage


def leftover(how: Damage, *suffixes: str) -> Damage:
    """Make the closed recording what a crash leaves, and damage files of that."""

    def damage(data_dir: Path) -> None:
        (path,) = (data_dir / "recordings").rglob("*.mkv")
        path.rename(path.with_suffix(".part.mkv"))
        path.with_suffix(".json").rename(path.with_suffix(".part.jsonl"))
        for suffix in suffixes:
            how(path.with_suffix(suffix))

    return damage


def outbox(data_dir: Path) -> None:
    """A topic that is no text, one that MQTT forbids, and a payload that is no JSON."""
    with closing(sqlite3.connect(data_dir / "vivarium.db", isolation_level=None)) as connection:
        rows = connection.execute("SELECT id FROM outbox ORDER BY id").fetchall()
        assert len(rows) >= 2, "messages wait for the broker"
        insert = "INSERT INTO outbox (topic, payload, priority, created_utc_ns) VALUES (CAST(? AS TEXT), ?, 1, 0)"
        connection.execute("UPDATE outbox SET topic = CAST(? AS TEXT) WHERE id = ?", (b"event/\xff\xfe", rows[0][0]))
        connection.execute(insert, (b"event/#", b"{}"))
        connection.execute(insert, (b"event/camera_found", b'{"schema": 1, \x00'))


def gain_map(data_dir: Path) -> None:
    """The kept map of a v2 camera."""
    (data_dir / "camera").mkdir()
    (data_dir / "camera" / f"gain-map-{SERIAL}.bin").write_bytes(bytes(5000))


def everything(data_dir: Path) -> None:
    """All of it at once."""
    leftover(zeroed, ".part.mkv", ".part.jsonl")(data_dir)
    gain_map(data_dir)
    database(scattered)(data_dir)


@pytest.fixture
def settings(make_settings: "MakeSettings", mosquitto: "Mosquitto") -> Settings:
    return make_settings(mqtt={"broker": "external", "port": mosquitto.port})


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Filled by the first test that needs it."""
    return tmp_path_factory.mktemp("sound") / "data"


@pytest.fixture
def sound(
    sound_folder: Path,
    settings: Settings,
    make_service: "MakeService",
    open_camera: Callable[[], SimulatedCamera],
    eventually: "Eventually",
    free_port: int,
) -> Path:
    """What a service has left that never met a broker: database, a closed recording, messages that wait."""
    if not sound_folder.exists():
        lonely = settings.mqtt.model_copy(update={"port": free_port})
        box = settings.box.model_copy(update={"data_dir": sound_folder})
        with make_service(settings.model_copy(update={"mqtt": lonely, "box": box}), open_camera=open_camera) as running:
            eventually(lambda: running.evidence.newest_frame() >= 10, "rows")
    return sound_folder


@pytest.fixture
def open_camera(settings: Settings) -> Callable[[], SimulatedCamera]:
    device = SimulatedDevice(clock=SystemClock(), seed=5)

    def opened() -> SimulatedCamera:
        GainMaps(settings.camera_dir).load(SERIAL)  # as the driver of a v2 does when it has read the serial number
        return SimulatedCamera(device, clock=SystemClock())

    return opened


@contextmanager
def started(
    settings: Settings,
    make_service: "MakeService",
    open_camera: Callable[[], SimulatedCamera],
    eventually: "Eventually",
) -> Iterator[tuple["RunningService", float]]:
    """A service that captures, and how long it took until it did."""
    start, start_ns = time.monotonic(), time.time_ns()
    with make_service(settings, open_camera=open_camera) as running:
        eventually(
            lambda: bool(running.evidence.rows("SELECT 1 FROM frame WHERE captured_utc_ns > ?", start_ns)), "capture"
        )
        yield running, time.monotonic() - start


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        pytest.param(database(scattered), ["database"], id=f"database, {OVERWRITES} random overwrites"),
        pytest.param(database(halved), ["database"], id="database, cut in half"),
        pytest.param(database(zeroed), ["database"], id="database, zero bytes"),
        pytest.param(database(emptied), ["database"], id="database, empty"),
        pytest.param(closed_recording(zeroed, ".json"), ["sidecar"], id="sidecar"),
        pytest.param(closed_recording(zeroed, ".json", ".mkv"), ["recording", "sidecar"], id="sidecar and recording"),
        pytest.param(leftover(scattered, ".part.jsonl"), ["journal"], id="journal of a leftover"),
        pytest.param(leftover(zeroed, ".part.mkv", ".part.jsonl"), ["journal", "recording"], id="leftover"),
        pytest.param(outbox, ["outbox"], id="outbox"),
        pytest.param(gain_map, ["gain_map"], id="gain map"),
        pytest.param(everything, ["database", "gain_map", "journal", "recording"], id="everything at once"),
    ],
)
def test_what_is_damaged_is_set_aside_and_told_and_capture_goes_on(
    damage: Damage,
    what: Sequence[str],
    sound: Path,
    settings: Settings,
    make_service: "MakeService",
    open_camera: Callable[[], SimulatedCamera],
    mosquitto: "Mosquitto",
    subscribe: "Subscribe",
    eventually: "Eventually",
) -> None:
    shutil.copytree(sound, settings.box.data_dir)
    damage(settings.box.data_dir)
    subscriber = subscribe(mosquitto.port)

    def told() -> list[dict[str, object]]:
        payloads = subscriber.payloads("vivarium/box1/event/set_aside")
        return list({payload: json.loads(payload)["data"] for payload in payloads}.values())

    with started(settings, make_service, open_camera, eventually) as (running, capture_s):
        eventually(lambda: len(told()) >= len(what), f"told of {', '.join(what)}", BACK_WITHIN_S)
        assert sorted(str(each["what"]) for each in told()) == what
        assert all(Path(str(each["file"])).exists() for each in told() if "file" in each)
        reasons = [str(reason) for reason in running.service.status().reasons if reason.code == "set_aside"]
        assert len(reasons) == len(what)
        if "outbox" in what:
            assert running.evidence.rows("SELECT count(*) FROM dead_letter") == [(3,)]
            eventually(lambda: running.evidence.rows("SELECT count(*) FROM outbox") == [(0,)], "the others are sent")
            assert subscriber.payloads("vivarium/box1/event/camera_found")
    assert running.evidence.is_sound()
    assert running.evidence.unfinished() == []
    assert capture_s < BACK_WITHIN_S
    print(f"{', '.join(what)} damaged: set aside and told, capturing after {capture_s:.1f} s")  # noqa: T201
    if len(what) > 2:
        heard = len(told())
        with started(settings, make_service, open_camera, eventually) as (again, _):
            assert [reason.code for reason in again.service.status().reasons if reason.code == "set_aside"] == []
        assert len(told()) == heard, "what was set aside is told once"


def test_a_damaged_config_is_replaced_by_the_last_good_one(
    make_settings: "MakeSettings",
    make_daemon: "MakeDaemon",
    eventually: "Eventually",
    tmp_path: Path,
) -> None:
    daemon, kept = make_daemon(make_settings()), tmp_path / "last-good.toml"
    start = time.monotonic()
    daemon.start("--last-good", kept)
    eventually(lambda: daemon.must_run() and daemon.evidence.newest_frame() > 0, "rows")
    sound_s = time.monotonic() - start
    eventually(kept.exists, "the copy")
    assert daemon.end(signal.SIGTERM) == 0
    good = daemon.config.read_bytes()
    assert kept.read_bytes() == good
    zeroed(daemon.config)
    newest, start = daemon.evidence.newest_frame(), time.monotonic()
    daemon.start("--last-good", kept)
    eventually(lambda: daemon.must_run() and daemon.evidence.newest_frame() > newest, "rows with the last good config")
    back_s = time.monotonic() - start
    eventually(
        lambda: daemon.evidence.rows("SELECT count(*) FROM event WHERE kind = 'config_damaged'") == [(1,)], "the event"
    )
    [(data_json, config_hash)] = daemon.evidence.rows(
        "SELECT data_json, config_hash FROM event JOIN run ON run.id = run_id WHERE kind = 'config_damaged'"
    )
    data = json.loads(data_json)
    assert (data["rule"], data["config_sha256"]) == ("config_damaged", config_hash)
    assert str(daemon.config) in data["problem"]
    eventually(lambda: "act | " in daemon.log and "the last good one is in force" in daemon.log, "the verdict")
    daemon.config.write_bytes(good)
    daemon.send(signal.SIGHUP)
    eventually(lambda: "the config was read again" in daemon.log, "the mended config")
    assert daemon.end(signal.SIGTERM) == 0
    assert kept.read_bytes() == good
    assert "Traceback" not in daemon.log
    assert back_s < max(BACK_WITHIN_S, 2 * sound_s)  # on a busy machine the interpreter alone takes longer
    print(  # noqa: T201
        f"config damaged: capturing with the last good one after {back_s:.1f} s, with a sound one after {sound_s:.1f} s"
    )
