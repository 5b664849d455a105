"""A disk that fills under the running service: old recordings give way, never pinned ones, and the ballast helps."""

import itertools
import json
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.ballast import MB, NAME
from daemon.schedule import PlannedBlock
from daemon.settings import Settings
from daemon.store.repository import open_store
from daemon.store.retention import GB, Pin
from drivers.clock import NS_PER_S, SimulatedClock, SystemClock
from drivers.recording import RecordingHeader, RecordingWriter
from drivers.simulated import SimulatedCamera, SimulatedDevice

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.faults.conftest import Eventually, Evidence, MakeDaemon, MakeService, MakeSettings
    from tests.test_daemon.conftest import Subscriber

    Subscribe = Callable[[int], Subscriber]

OLD_RECORDINGS = 8
FRAMES_EACH = 80
"""About one and a half megabytes."""
PERIOD_NS = NS_PER_S // 25
PINNED = {0, 3}
"""The oldest one, by its block, and one in the middle, by its day."""
MIN_FREE_BYTES = 24 * 1024**2 // 4
"""A quarter of the small disk: more does not count."""
BALLAST_MB = 2
BACK_WITHIN_S = 10.0
LONGEST_GAP_S = 2.0


@pytest.fixture
def open_camera() -> Callable[[], SimulatedCamera]:
    device = SimulatedDevice(clock=SystemClock(), seed=5)
    return lambda: SimulatedCamera(device, clock=SystemClock())


def old_block(number: int) -> PlannedBlock:
    """One block a day, the first of them the longest ago, the last one the day before yesterday."""
    day = date.fromtimestamp(time.time()) - timedelta(days=OLD_RECORDINGS + 1 - number)
    start_ns = round(time.time() - 86_400 * (OLD_RECORDINGS + 1 - number)) * NS_PER_S
    return PlannedBlock(
        day=day,
        stratum="old",
        number=1,
        start_utc_ns=start_ns,
        duration_ns=FRAMES_EACH * PERIOD_NS,
        period_ns=PERIOD_NS,
    )


def make_old_recordings(settings: Settings) -> list[Path]:
    """Recordings of earlier days, in the database, oldest first; two are pinned."""
    paths = []
    with SimulatedCamera.create(clock=SimulatedClock(old_block(0).start_utc_ns), seed=1) as camera:
        frames = [camera.read(1) for _ in range(FRAMES_EACH)]
    with open_store(settings.database_url, outbox_limit=100) as store:
        run_id = store.start_run(
            version="0", config_hash="", config_json="{}", segmenter="", host="h", boot_id="b", started_utc_ns=1
        )
        for number in range(OLD_RECORDINGS):
            block = old_block(number)
            store.open_block(block, run_id=run_id, at_utc_ns=block.start_utc_ns)
            path = settings.recordings_dir / block.day.isoformat() / f"box1_{block.day.isoformat()}_old-1.mkv"
            paths.append(path)
            writer = RecordingWriter(path, header_of(block), sync_interval_s=None)
            for frame, moment in zip(frames, block.planned_utc_ns, strict=True):
                writer.append(replace(frame, captured_utc_ns=moment), planned_utc_ns=moment)
            store.add_recording(block.key, writer.close())
            store.finish_block(block.key, at_utc_ns=block.end_utc_ns, reason_for_unaccounted="not_stored")
            os.utime(path, ns=(block.end_utc_ns, block.end_utc_ns))
        first, third = old_block(0), old_block(3)
        store.add_pins(
            [Pin(name="study A", block_key=first.key), Pin(name="study A", first_day=third.day, last_day=third.day)]
        )
    return paths


def header_of(block: PlannedBlock) -> RecordingHeader:
    """Of a recording of the whole block."""
    return RecordingHeader(
        box="box1",
        block_key=block.key,
        start_utc_ns=block.start_utc_ns,
        period_ns=block.period_ns,
        accounted_from_utc_ns=block.start_utc_ns,
        end_utc_ns=block.end_utc_ns,
    )


@pytest.fixture
def settings(small_disk: Path, make_settings: "MakeSettings", mosquitto: "Mosquitto") -> Settings:
    """A service on the small disk that shall keep a quarter of it free."""
    settings = make_settings(
        data_dir=small_disk / "data",
        mqtt={"broker": "external", "port": mosquitto.port},
        disk={"min_free_gb": 10 * MIN_FREE_BYTES / GB, "ballast_mb": BALLAST_MB},
    )
    settings.box.data_dir.mkdir()
    return settings


def free_bytes(settings: Settings) -> int:
    return shutil.disk_usage(settings.box.data_dir).free


def grow_until(settings: Settings, path: Path, left_bytes: int) -> None:
    """Another program writes until so much is free."""
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size + max(0, free_bytes(settings) - left_bytes))


def freed(evidence: "Evidence") -> list[tuple[str, str]]:
    """Names and reasons of the recordings that gave way, oldest first."""
    rows = evidence.rows("SELECT path, freed_reason FROM recording WHERE state = 'freed' ORDER BY id")
    return [(Path(path).name, why) for path, why in rows]


@pytest.mark.timeout(180)
def test_old_recordings_give_way_to_new_ones_and_pinned_ones_stay(
    settings: Settings,
    make_service: "MakeService",
    open_camera: Callable[[], SimulatedCamera],
    mosquitto: "Mosquitto",
    subscribe: "Subscribe",
    eventually: "Eventually",
) -> None:
    subscriber = subscribe(mosquitto.port)
    old = make_old_recordings(settings)
    may_go = [path for number, path in enumerate(old) if number not in PINNED]
    other = settings.box.data_dir.parent / "other"
    waits_s: list[float] = []
    with make_service(settings, open_camera=open_camera) as running:
        evidence = running.evidence
        eventually(lambda: evidence.newest_frame() >= 5, "rows")
        eventually(lambda: running.service.status().disk.ballast, "the ballast")
        for step in range(1, 4):  # each takes a recording or two
            grow_until(settings, other, MIN_FREE_BYTES - 10**6 // 2)
            waits_s.append(
                eventually(
                    lambda step=step: free_bytes(settings) >= MIN_FREE_BYTES and len(freed(evidence)) >= step,
                    f"room after step {step}",
                )
            )
        eventually(lambda: len(freed(evidence)) == sum(not path.exists() for path in old), "all of it in the database")
        gone = freed(evidence)
        assert [name for name, _ in gone] == [path.name for path in may_go[: len(gone)]]
        assert {why for _, why in gone} == {"min_free"}
        assert [path.exists() for path in may_go] == [False] * len(gone) + [True] * (len(may_go) - len(gone))
        assert all(path.with_suffix(".json").exists() for path in old), "a freed recording keeps its sidecar"
        assert all(old[number].exists() and old[number].with_suffix(".pin").exists() for number in PINNED)
        eventually(lambda: running.service.status().disk.freed_recordings == len(gone), "the status counts them")
        status = running.service.status()
        assert status.disk.pinned_bytes >= sum(old[number].stat().st_size for number in PINNED)
        assert (status.disk.low, status.recording_error, status.store.write_error) == (False, None, None)

        # Now there is nothing left that may give way: it is said, and capture goes on.
        grow_until(settings, other, 10**6)
        eventually(lambda: running.service.status().disk.low, "the low disk is said")
        assert {path for path in old if path.exists()} == {old[number] for number in PINNED}
        assert "low_disk" in [reason.code for reason in running.service.status().reasons]
        newest = evidence.newest_frame()
        eventually(lambda: evidence.newest_frame() > newest + 5, "rows on a low disk")
        other.unlink()
        back_s = eventually(lambda: not running.service.status().disk.low, "room again is said")
        heard = "vivarium/box1/event/"
        eventually(lambda: subscriber.payloads(heard + "disk_ok"), "the end of it by MQTT")
        told = json.loads(subscriber.payloads(heard + "recordings_freed")[0])["data"]
        assert (told["why"], told["oldest"]) == ("min_free", may_go[0].stem)
        assert subscriber.payloads(heard + "disk_low")
    assert evidence.is_sound()
    assert max(waits_s) < BACK_WITHIN_S
    assert back_s < BACK_WITHIN_S
    print(  # noqa: T201  # the figures
        f"disk that fills: {len(may_go)} recordings gave way oldest first, {len(PINNED)} pinned stayed; room again "
        f"after {max(waits_s):.1f} s at most; the low disk was over {back_s:.1f} s after there was room"
    )


@pytest.mark.timeout(120)
def test_the_ballast_lets_rows_be_written_on_a_disk_that_somebody_else_has_filled(
    settings: Settings,
    make_service: "MakeService",
    open_camera: Callable[[], SimulatedCamera],
    fill: Callable[[Path], None],
    eventually: "Eventually",
    caplog: pytest.LogCaptureFixture,
) -> None:
    other, ballast = settings.box.data_dir.parent / "other", settings.box.data_dir / NAME
    with make_service(settings, open_camera=open_camera) as running:
        evidence = running.evidence
        eventually(lambda: evidence.newest_frame() >= 5 and ballast.exists(), "rows and ballast")
        blocks = ballast.stat().st_blocks * 512
        assert blocks >= BALLAST_MB * MB, "the ballast takes real blocks"
        fill(other)
        released_s = eventually(lambda: not ballast.exists(), "the ballast is given up")
        newest = evidence.newest_frame()
        eventually(lambda: evidence.newest_frame() > newest + 10, "rows in the room of the ballast")
        other.unlink()
        back_s = eventually(
            lambda: ballast.exists() and running.service.status().recording_error is None, "ballast and recording again"
        )
        assert running.service.status().store.lost == 0
    captured_ns = [row[0] for row in evidence.rows("SELECT captured_monotonic_ns FROM frame ORDER BY id")]
    longest_s = max(after - before for before, after in itertools.pairwise(captured_ns)) / NS_PER_S
    assert longest_s < LONGEST_GAP_S
    assert back_s < BACK_WITHIN_S
    assert evidence.is_sound()
    said = [record for record in caplog.records if record.name == "daemon.caretaker"]
    assert sum("the ballast is given up" in record.getMessage() for record in said) == 1
    assert sum(record.levelno >= logging.ERROR for record in said) <= 2, [record.getMessage() for record in said]
    print(  # noqa: T201  # the figures
        f"ballast of {BALLAST_MB} MB given up {released_s:.1f} s after the disk was full, in place again "
        f"{back_s:.1f} s after there was room; longest time without a frame {longest_s:.2f} s at 5 Hz"
    )


@contextmanager
def full_disk(settings: Settings, fill: Callable[[Path], None], *, ballast: bool = True) -> Iterator[Path]:
    """With a ballast from before or without, and not a byte free."""
    if ballast:
        with (settings.box.data_dir / NAME).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, BALLAST_MB * MB)
    other = settings.box.data_dir.parent / "other"
    fill(other)
    yield other
    other.unlink(missing_ok=True)


def test_a_service_starts_on_a_full_disk_and_frees_recordings_before_rows(
    settings: Settings,
    make_daemon: "MakeDaemon",
    fill: Callable[[Path], None],
    eventually: "Eventually",
    queued_s: Callable[[int], float],
) -> None:
    old = make_old_recordings(settings)
    daemon = make_daemon(settings)
    with full_disk(settings, fill):
        with (
            closing(sqlite3.connect(settings.box.data_dir / "vivarium.db", timeout=0.1)) as connection,
            pytest.raises(sqlite3.OperationalError, match=r"full|disk I/O|unable to open"),
        ):
            connection.execute("DELETE FROM pin")
        start = time.monotonic()
        daemon.start()
        eventually(lambda: daemon.must_run() and daemon.evidence.newest_frame() >= 5, "rows on the full disk")
        waited_s = queued_s(daemon.pid)
        started_s = time.monotonic() - start - waited_s
        eventually(lambda: len(freed(daemon.evidence)) == OLD_RECORDINGS - len(PINNED), "recordings are freed")
        assert {path for path in old if path.exists()} == {old[number] for number in PINNED}
        threading.Event().wait(1)
        assert daemon.must_run()
    assert "the disk is full at the start: the ballast is given up" in daemon.log
    assert daemon.evidence.is_sound()
    assert started_s < BACK_WITHIN_S
    print(  # noqa: T201  # the figures
        f"start on a full disk: a DELETE failed before; rows after {started_s:.1f} s "
        f"(without {waited_s:.1f} s in which others had the processors), "
        f"{OLD_RECORDINGS - len(PINNED)} recordings freed, pinned ones kept"
    )


def test_a_service_starts_on_a_full_disk_without_a_ballast(
    settings: Settings,
    make_daemon: "MakeDaemon",
    fill: Callable[[Path], None],
    eventually: "Eventually",
    queued_s: Callable[[int], float],
) -> None:
    old = make_old_recordings(settings)
    pinned = [old[number] for number in PINNED]
    for path in pinned:  # as the service leaves them within a minute after a pin
        path.with_suffix(".pin").write_text('{"pins": ["study A"]}')
    daemon = make_daemon(settings)
    with full_disk(settings, fill, ballast=False):
        daemon.start()
        eventually(lambda: "the disk is full at the start" in daemon.log, "files gave way")
        start, queued_before_s = time.monotonic(), queued_s(daemon.pid)
        eventually(lambda: daemon.must_run() and daemon.evidence.newest_frame() >= 5, "rows on the full disk")
        waited_s = queued_s(daemon.pid) - queued_before_s
        started_s = time.monotonic() - start - waited_s
        eventually(lambda: len(freed(daemon.evidence)) == sum(not path.exists() for path in old) > 0, "all is noted")
        assert all(path.exists() for path in pinned)
        assert {why for _, why in freed(daemon.evidence)} == {"min_free"}
    assert daemon.evidence.is_sound()
    assert started_s < BACK_WITHIN_S
    gone = len(freed(daemon.evidence))
    print(  # noqa: T201  # the figures
        f"start on a full disk without ballast: rows {started_s:.1f} s after files gave way "
        f"(without {waited_s:.1f} s in which others had the processors), {gone} recordings freed, pinned ones kept"
    )
