"""The doctor: each finding good and bad, and that looking changes nothing."""

import fcntl
import os
import re
import shutil
import socket
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import time_machine
from fastapi import FastAPI
from sqlalchemy import make_url, text

import daemon.doctor
from daemon.cli import main
from daemon.doctor import Finding, examine, installed_findings
from daemon.lock import DataDirectoryLock
from daemon.messaging.broker import EmbeddedBroker
from daemon.service_status import ServiceState
from daemon.settings import MQTT_PASSWORD_VARIABLE
from daemon.store.engine import migration_engine
from daemon.store.repository import open_store
from daemon.web.server import WebServer
from drivers.usb import UsbBus
from tests.databases import Server

QUIET = {"mqtt": "enabled = false", "web": "enabled = false"}
"""Without network: what a test does not look at cannot disturb it."""


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Writes a config of these sections; box.data_dir is `data` beside it."""

    def write(**sections: str) -> Path:
        text = "".join(f"[{name}]\n{lines}\n" for name, lines in (QUIET | sections).items())
        (tmp_path / "config.toml").write_text(text if "box" in sections else '[box]\ndata_dir = "data"\n' + text)
        return tmp_path / "config.toml"

    return write


def found(config: Path, subject: str, **environment: str) -> Finding:
    """The one finding about a subject."""
    (finding,) = [each for each in examine(config, environment) if each.subject == subject]
    return finding


def exit_code(config: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Of `vivarium doctor`."""
    monkeypatch.setattr(sys, "argv", ["vivarium", "doctor", "--config", str(config)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_box_in_order_has_nothing_wrong_and_nothing_changed(
    config: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = config()
    findings = examine(path, {})
    assert [each.subject for each in findings if each.good is False] == []
    assert {"config", "schedule", "clock", "disk", "models", "database", "camera"} <= {
        each.subject for each in findings
    }
    assert exit_code(path, monkeypatch) == 0
    assert "wrong" not in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["config.toml"], "no directory, lock or database is made"


def test_a_config_that_cannot_be_read_is_the_only_finding(
    config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(camera='kid = "simulated"')
    (finding,) = examine(path, {})
    assert (finding.subject, finding.good) == ("config", False)
    assert "camera.kid: unknown key; did you mean 'kind'?" in finding.found
    assert exit_code(path, monkeypatch) == 1
    printed = capsys.readouterr().out
    assert "wrong" in printed
    assert "vivarium config --explain" in printed


def test_a_config_that_is_not_there_is_found(tmp_path: Path) -> None:
    (finding,) = examine(tmp_path / "none.toml", {})
    assert finding.good is False
    assert "no such file" in finding.found


def test_a_plan_that_overlaps_is_found(config: Callable[..., Path]) -> None:
    good = found(config(), "schedule")
    assert (good.good, good.found) == (True, "8 blocks, 14400 frames today")
    bad = found(config(schedule='[schedule.strata]\nnight = ["01:00", "01:10"]'), "schedule")
    assert bad.good is False
    assert "overlap" in bad.found


@pytest.mark.parametrize(
    ("year", "synchronised", "good"), [(2026, True, True), (2026, False, None), (1970, True, False)]
)
def test_the_clock(
    year: int,
    synchronised: bool,
    good: bool | None,
    config: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mark = tmp_path / "synchronized"
    if synchronised:
        mark.write_text("")
    monkeypatch.setattr(daemon.doctor, "_SYNCHRONISED", (mark,))
    path = config()
    with time_machine.travel(datetime(year, 6, 1, tzinfo=UTC)):
        finding = found(path, "clock")
    assert finding.good is good
    assert (finding.remedy is None) == (good is True)


def test_a_data_directory_that_is_a_file_is_found(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config()
    (tmp_path / "data").write_text("")
    finding = found(path, "disk")
    assert finding.good is False
    assert finding.found == f"{tmp_path / 'data'} is a file, and should be a directory"
    database = found(path, "database")
    assert (database.good, database.found) == (
        False,
        f"{tmp_path / 'data' / 'vivarium.db'} cannot be made: {finding.found}",
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_data_directory_that_cannot_be_written_is_found(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config()
    (tmp_path / "data").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    finding = found(path, "disk")
    assert finding.good is False
    assert finding.found.endswith("cannot be written")


def test_a_disk_that_is_mounted_read_only_is_not_to_be_given_to_another_user(
    config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config()
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_flag=os.ST_RDONLY))
    disk, database = found(path, "disk"), found(path, "database")
    assert (disk.good, database.good) == (False, False)
    assert disk.found == f"{path.parent} is on a disk that is mounted read-only"
    assert disk.remedy is not None
    assert "remount" in disk.remedy
    assert "chown" not in disk.remedy


def test_a_disk_that_is_nearly_full_is_found(config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = config()
    room = found(path, "disk")
    assert room.good is True
    free_gb = shutil.disk_usage(path.parent).free / 1e9
    printed = re.match(r"([\d.]+) GB free for ", room.found)
    assert printed is not None
    assert float(printed[1]) == pytest.approx(free_gb, rel=0.03)  # a GiB is 7 % more
    usage = shutil.disk_usage(path.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=usage.total // 1000))
    finding = found(path, "disk")
    assert finding.good is False
    assert finding.remedy is not None


def test_a_database_that_is_new_sound_or_damaged(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config()
    assert found(path, "database").found.endswith("vivarium.db: will be made")
    (tmp_path / "data").mkdir()
    database = tmp_path / "data" / "vivarium.db"
    with open_store(f"sqlite:///{database}", outbox_limit=10):
        pass
    sound = found(path, "database")
    assert sound.good is True
    assert sound.found.endswith("sound")
    content = bytearray(database.read_bytes())
    content[:4096] = b"\xff" * 4096
    database.write_bytes(content)
    damaged = found(path, "database")
    assert damaged.good is False
    assert damaged.remedy is not None
    assert "restore a backup" in damaged.remedy
    assert database.read_bytes() == content, "the doctor repairs nothing"


def test_a_database_of_another_program_is_found(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config()
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect(tmp_path / "data" / "vivarium.db")) as connection:
        connection.executescript("create table recipe (name text); insert into recipe values ('soup')")
    finding = found(path, "database")
    assert finding.good is False
    assert "a database of something else (tables recipe)" in finding.found


def test_a_database_on_a_server_is_asked(config: Callable[..., Path], postgresql: Server, free_port: int) -> None:
    with postgresql.database(tables=False) as url:
        path = config(database=f'url = "{url}"')
        answers, careless = [each for each in examine(path, {}) if each.subject == "database"]
    assert answers.good
    assert re.search(r"PostgreSQL \d+\.\d+, without tables, they will be made, .* MiB, answers in .* ms", answers.found)
    assert careless.found.startswith("fsync, full_page_writes is off: a power cut can take")
    with postgresql.database() as url:
        with migration_engine(make_url(url)).begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        newer = found(config(database=f'url = "{url}"'), "database")
    assert newer.good is False
    assert "revision 9999, this program knows revisions up to" in newer.found
    away = found(config(database=f'url = "postgresql+psycopg://rat:secret@127.0.0.1:{free_port}/box"'), "database")
    assert away.good is False
    assert "postgresql+psycopg://rat:***@127.0.0.1" in away.found
    assert "Connection refused" in away.found
    assert away.remedy is not None
    assert "start the server" in away.remedy


def test_a_database_address_that_is_none_is_found(config: Callable[..., Path]) -> None:
    finding = found(config(database='url = "no address"'), "database")
    assert finding.good is False


def test_the_simulated_camera_shows_a_temperature(config: Callable[..., Path]) -> None:
    finding = found(config(), "camera")
    assert finding.good is True
    assert finding.found.startswith("simulated: T2S+ SIM00001, centre ")
    assert finding.found.endswith(" °C")


def test_a_replay_without_its_material_is_found_and_mends_when_it_is_there(
    config: Callable[..., Path], golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(camera='kind = "replay"\n[camera.replay]\npath = "rat.npy"')
    bad = found(path, "camera")
    assert bad.good is False
    assert "rat.npy: there is no such file or folder" in bad.found
    assert exit_code(path, monkeypatch) == 1
    np.save(tmp_path / "rat.npy", np.load(golden / "g1_eps100_d1.npz")["frame"])
    good = found(path, "camera")
    assert good.good is True
    assert good.found.startswith("replay: T2S+ ")


def test_what_to_do_is_printed_with_its_brackets(
    config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(camera='kind = "replay"\n[camera.replay]\npath = "rat.npy"')
    assert exit_code(path, monkeypatch) == 1
    assert "check cable, path and [camera]" in capsys.readouterr().out


@contextmanager
def listening() -> Iterator[int]:
    """A program on a port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_ports_that_are_free_or_taken(config: Callable[..., Path], free_port: int) -> None:
    free = found(config(web=f"port = {free_port}"), "web.port")
    assert (free.good, free.found) == (True, f"127.0.0.1:{free_port} is free")
    with listening() as port:
        taken = found(config(web=f"port = {port}"), "web.port")
        broker = found(config(mqtt=f"port = {port}"), "mqtt.port")
    for finding in (taken, broker):
        assert finding.good is False
        assert finding.found == f"127.0.0.1:{port}: Address already in use"


def test_one_port_for_page_and_broker_is_found(config: Callable[..., Path], free_port: int) -> None:
    path = config(web=f"port = {free_port}", mqtt=f"port = {free_port}")
    assert (found(path, "web.port").good, found(path, "mqtt.port").good) == (True, False)


def test_an_address_that_is_not_of_this_machine_is_found(config: Callable[..., Path], free_port: int) -> None:
    finding = found(config(web=f'host = "192.0.2.1"\nport = {free_port}'), "web.port")
    assert finding.good is False


def external(port: int, more: str = "") -> str:
    """Section of an external broker."""
    return f'broker = "external"\nport = {port}\n{more}'


def test_an_external_broker_that_is_there_says_its_version(
    config: Callable[..., Path], make_mosquitto: Callable[..., "object"]
) -> None:
    broker = make_mosquitto()
    port: int = getattr(broker, "port")  # noqa: B009  its class is in conftest.py and cannot be imported
    finding = found(config(mqtt=external(port)), "broker")
    assert (finding.good, finding.found) == (True, f"127.0.0.1:{port} speaks MQTT 5")


def test_an_external_broker_that_is_away_is_found(
    config: Callable[..., Path], free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(mqtt=external(free_port))
    finding = found(path, "broker")
    assert finding.good is False
    assert f"127.0.0.1:{free_port}" in finding.found
    assert finding.remedy == "check [mqtt] and the broker"
    assert exit_code(path, monkeypatch) == 1


def test_an_external_broker_is_asked_with_the_password_of_the_environment(
    config: Callable[..., Path], free_port: int
) -> None:
    with EmbeddedBroker("127.0.0.1", free_port, username="rat", password="cheese"):
        path = config(mqtt=external(free_port, 'username = "rat"\nprotocol = "3.1.1"'))
        right = found(path, "broker", **{MQTT_PASSWORD_VARIABLE: "cheese"})
        wrong = found(path, "broker", **{MQTT_PASSWORD_VARIABLE: "bread"})
    assert right.found == f"127.0.0.1:{free_port} speaks MQTT 3.1.1"
    assert (right.good, wrong.good) == (True, False)


def test_a_certificate_that_is_missing_is_found(config: Callable[..., Path], free_port: int) -> None:
    finding = found(config(mqtt=external(free_port, 'tls = true\nca_file = "none.pem"')), "broker")
    assert finding.good is False
    assert "none.pem" in finding.found


@pytest.mark.parametrize(("mqtt", "words"), [("enabled = false", "switched off"), ("", "embedded, for trials")])
def test_no_broker_of_its_own_is_worth_a_note(
    mqtt: str, words: str, config: Callable[..., Path], free_port: int
) -> None:
    finding = found(config(mqtt=mqtt or f"port = {free_port}"), "broker")
    assert finding.good is None
    assert words in finding.found


def test_a_running_service_keeps_its_camera_and_ports(
    config: Callable[..., Path], tmp_path: Path, free_port: int
) -> None:
    path = config(web=f"port = {free_port}")
    (tmp_path / "data").mkdir()
    with DataDirectoryLock(tmp_path / "data"):
        subjects = {each.subject: each for each in examine(path, {})}
    assert subjects["service"].found.startswith("running")
    assert {"camera", "web.port"}.isdisjoint(subjects)
    assert "service" not in {each.subject for each in examine(path, {})}, "it has stopped"


def test_a_running_service_without_its_page_is_found(
    config: Callable[..., Path], tmp_path: Path, free_port: int
) -> None:
    path = config(web=f"port = {free_port}")
    (tmp_path / "data").mkdir()
    server = partial(WebServer, host="127.0.0.1", port=free_port)
    api = FastAPI()
    box = ["box1"]
    api.get("/api/status")(lambda: {"box": box[0]})
    with DataDirectoryLock(tmp_path / "data"):
        assert found(path, "page").good is False
        with server(api):
            assert found(path, "page").good is True
            box[0] = "box2"
            other = found(path, "page")
    assert (other.good, other.found) == (False, f"127.0.0.1:{free_port} does not answer as the page of box1")


def test_a_service_cannot_start_while_the_doctor_has_its_camera(
    config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config()
    (tmp_path / "data").mkdir()
    lock = tmp_path / "data" / "vivarium.lock"
    lock.write_text("")
    refused = []

    def look(_settings: object) -> list[Finding]:
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                refused.append(error)
        return []

    monkeypatch.setattr(daemon.doctor, "_camera", look)
    examine(path, {})
    assert len(refused) == 1


def test_a_lock_that_cannot_be_opened_is_no_running_service(config: Callable[..., Path], tmp_path: Path) -> None:
    path = config()
    (tmp_path / "data" / "vivarium.lock").mkdir(parents=True)  # a directory cannot be opened, not even by root
    assert "service" not in {each.subject for each in examine(path, {})}


def make_device(root: Path, name: str, vendor: str, product_id: str, product: str) -> None:
    """An entry of /sys/bus/usb/devices."""
    (root / name).mkdir()
    (root / name / "idVendor").write_text(vendor + "\n")
    (root / name / "idProduct").write_text(product_id + "\n")
    (root / name / "busnum").write_text("1\n")
    (root / name / "devnum").write_text(name.rpartition("-")[2] + "\n")
    (root / name / "product").write_text(product + "\n")


def test_cameras_on_the_bus_are_named(
    config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = tmp_path / "sys" / "bus" / "usb" / "devices"
    bus.mkdir(parents=True)
    monkeypatch.setattr(daemon.doctor, "UsbBus", lambda: UsbBus(sysfs=tmp_path / "sys", dev=tmp_path / "dev"))
    path = config()
    assert found(path, "usb").found == "no T2S+ camera is attached"
    make_device(bus, "1-1", "046d", "0825", "a webcam")
    make_device(bus, "1-2", "1514", "0001", "T2S+")
    (bus / "1-0:1.0").mkdir()  # an interface
    (camera,) = [each for each in examine(path, {}) if each.subject == "usb"]
    assert "1-2" in camera.found
    assert "descriptors" in camera.found  # it has none here, and so cannot be used
    assert camera.good is None


def test_no_thread_or_socket_is_left(config: Callable[..., Path], free_port: int) -> None:
    before = threading.active_count()
    examine(config(web=f"port = {free_port}", mqtt=f"port = {free_port}"), {})
    assert threading.active_count() == before
    socket.create_server(("127.0.0.1", free_port)).close()


INSTALLED = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled", "NRestarts": "0"}
MEMBER = frozenset({"video"})


@pytest.mark.parametrize(
    ("changes", "watches", "groups", "wrong"),
    [
        pytest.param({}, True, MEMBER, {}, id="all is well"),
        pytest.param({"LoadState": "not-found"}, True, MEMBER, {"unit": "vivarium service install"}, id="not there"),
        pytest.param(
            {"UnitFileState": "disabled"},
            True,
            MEMBER,
            {"unit": "systemctl enable --now strong-vivarium.service"},
            id="disabled",
        ),
        pytest.param(
            {"ActiveState": "failed"},
            True,
            MEMBER,
            {"unit": "systemctl start strong-vivarium.service; journalctl -u strong-vivarium.service"},
            id="failed",
        ),
        pytest.param(
            {}, False, MEMBER, {"dead-man": "systemctl enable --now strong-vivarium-deadman.timer"}, id="unwatched"
        ),
        pytest.param({}, True, None, {"user": "systemd-sysusers strong-vivarium.conf"}, id="no user"),
        pytest.param(
            {},
            True,
            frozenset({"audio"}),
            {"user": "usermod -aG video strong-vivarium; systemctl restart strong-vivarium.service"},
            id="not in the group",
        ),
    ],
)
def test_an_installed_service_is_examined(
    changes: dict[str, str], watches: bool, groups: frozenset[str] | None, wrong: dict[str, str]
) -> None:
    state = ServiceState("config", {**INSTALLED, **changes}, {})
    found = list(installed_findings(state, deadman_watches=watches, groups=groups))
    assert found
    assert {each.subject: each.remedy for each in found if not each.good} == wrong


def test_a_config_of_a_checkout_has_no_service_to_examine(config: Callable[..., Path]) -> None:
    assert {each.subject for each in examine(config(), {})}.isdisjoint({"unit", "dead-man", "user"})
