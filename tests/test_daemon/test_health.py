"""Health: what systemd is told, when its watchdog is fed, and that two services never share a directory."""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.health import STALLED_AFTER_S, Heartbeats, Progress, ServiceManager
from daemon.lock import DataDirectoryLock
from drivers.clock import SimulatedClock
from drivers.errors import ConfigError

START_UTC_NS = 1_795_000_000_000_000_000


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START_UTC_NS)


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The name of a notification socket, and the socket."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@vivarium-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.settimeout(5)
        yield name, listener


def test_the_service_manager_receives_assignments_line_by_line(systemd: tuple[str, socket.socket]) -> None:
    name, listener = systemd
    manager = ServiceManager(name)
    manager.tell(READY=1, STATUS="fine | 25.0 fps | 38.1 °C")
    manager.tell(WATCHDOG=1)
    assert listener.recv(4096).decode() == "READY=1\nSTATUS=fine | 25.0 fps | 38.1 °C"
    assert listener.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize("name", [None, "", "/nowhere/notify", "@nobody-listens-here"])
def test_nobody_to_tell_is_no_error(name: str | None) -> None:
    ServiceManager(name).tell(READY=1)


def test_a_service_manager_that_reads_no_more_keeps_nobody(
    systemd: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.health.TELL_S", 0.02)
    name, listener = systemd
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.setblocking(False)
        full.connect(name.replace("@", "\0"))
        with pytest.raises(BlockingIOError):
            while True:
                full.send(b"WATCHDOG=1")
    ServiceManager(name).tell(STATUS="lost")
    heard = listener.recv(4096)
    ServiceManager(name).tell(STATUS="heard")
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            heard = listener.recv(4096)
            assert heard != b"STATUS=lost"
    assert heard == b"STATUS=heard"


def test_a_thread_is_stalled_when_it_has_not_beaten_for_long(clock: SimulatedClock) -> None:
    beats = Heartbeats({"capture": STALLED_AFTER_S, "worker": STALLED_AFTER_S}, clock)
    clock.advance(STALLED_AFTER_S)
    assert beats.stalled() == []
    beats.beat("worker")
    clock.advance(0.1)
    assert beats.stalled() == ["capture"]
    beats.beat("capture")
    assert beats.stalled() == []


def test_each_thread_has_the_patience_it_needs(clock: SimulatedClock) -> None:
    beats = Heartbeats({"capture": STALLED_AFTER_S, "recorder": 120}, clock)
    clock.advance(119)
    assert beats.stalled() == ["capture"]
    clock.advance(2)
    assert beats.stalled() == ["capture", "recorder"]


def test_a_step_of_the_wall_clock_stalls_nobody(clock: SimulatedClock) -> None:
    beats, progress = Heartbeats({"capture": STALLED_AFTER_S}, clock), Progress(clock)
    clock.step_wall(86_400)
    assert beats.stalled() == []
    assert not progress.stalled(done=0, waiting=1)


def test_frames_that_go_in_and_do_not_come_out_are_no_progress(clock: SimulatedClock) -> None:
    progress = Progress(clock)
    assert not progress.stalled(done=10, waiting=3)
    clock.advance(STALLED_AFTER_S + 1)
    assert progress.stalled(done=10, waiting=3)
    assert not progress.stalled(done=11, waiting=3)


def test_no_frames_to_finish_is_no_stall(clock: SimulatedClock) -> None:
    progress = Progress(clock)
    progress.stalled(done=10, waiting=0)
    clock.advance(10 * STALLED_AFTER_S)
    assert not progress.stalled(done=10, waiting=0)
    clock.advance(1)
    assert not progress.stalled(done=10, waiting=1)


def test_a_second_service_on_a_data_directory_is_refused(tmp_path: Path) -> None:
    with DataDirectoryLock(tmp_path):
        with pytest.raises(ConfigError, match=r"box\.data_dir: .* is in use by another service; stop it or choose"):
            DataDirectoryLock(tmp_path).__enter__()
        with pytest.raises(ConfigError):
            DataDirectoryLock(tmp_path).__enter__()
    with DataDirectoryLock(tmp_path):
        assert (tmp_path / "vivarium.lock").exists()


def test_a_data_directory_that_cannot_be_written_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "vivarium.lock").mkdir()
    with pytest.raises(ConfigError, match=r"box\.data_dir: .*vivarium\.lock cannot be written: Is a directory"):
        DataDirectoryLock(tmp_path).__enter__()


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_lock_that_leads_to_another_file_is_refused_and_that_file_stays_as_it_is(
    link: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if os.geteuid() == 0:
        os.chown(data, 12345, 12345)
    other = tmp_path / "shadow"
    other.write_text("of root")
    before = other.stat()
    link(data / "vivarium.lock", other)
    with pytest.raises(ConfigError, match=r"box\.data_dir: .*vivarium\.lock must be a plain file of its own"):
        DataDirectoryLock(data).__enter__()
    after = other.stat()
    assert other.read_text() == "of root"
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_a_lock_belongs_to_whom_the_data_directory_belongs(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 12345, 12345)
    with DataDirectoryLock(tmp_path):
        folder, lock = tmp_path.stat(), (tmp_path / "vivarium.lock").stat()
    assert (lock.st_uid, lock.st_gid) == (folder.st_uid, folder.st_gid)
    assert stat.S_IMODE(lock.st_mode) == 0o640
