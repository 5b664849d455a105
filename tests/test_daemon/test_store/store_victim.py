"""A process that suffers: run by `test_store_faults.py` with what it is to suffer; prints a report as JSON."""

import json
import os
import random
import resource
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

from daemon.messaging.outbox import OutboxMessage
from daemon.observation import AnimalObservation, FrameObservation, PartObservation
from daemon.schedule import PlannedBlock
from daemon.store.repository import Store, open_store
from daemon.vision.parts import BodyPart
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S
from drivers.errors import StoreError
from drivers.frame import FrameFlag
from drivers.t2s_protocol import Constants, Environment
from drivers.thermometry import Calibration

START_UTC_NS = 1_795_000_000 * NS_PER_S

PARTS_A_FRAME = 3
FRAMES_A_BATCH = 5

SPINS = 500_000
"""Some milliseconds: about what a batch takes."""

SHARED_MEMORY_BYTES = 64 * 1024
"""Room that SQLite needs for the index of its log, even to read."""

BLOCK = PlannedBlock(
    day=date(2026, 11, 18),
    stratum="night",
    number=1,
    start_utc_ns=START_UTC_NS,
    duration_ns=100_000 * NS_PER_S,
    period_ns=NS_PER_S,
)


def observation(second: int) -> FrameObservation:
    """A frame of the block with three parts."""
    parts = tuple(
        PartObservation(
            part=part,
            x_px=1.0,
            y_px=2.0,
            x_mm=None,
            y_mm=None,
            area_px=100,
            area_mm2=None,
            valid_px=100,
            mean_celsius=30.0,
            median_celsius=30.0,
            p95_celsius=31.0,
            min_celsius=29.0,
            max_celsius=32.0,
        )
        for part in BodyPart
    )
    captured_utc_ns = START_UTC_NS + second * NS_PER_S
    return FrameObservation(
        sequence=second,
        captured_utc_ns=captured_utc_ns,
        captured_monotonic_ns=second,
        flags=FrameFlag.NONE,
        calibration=Calibration(
            constants=Constants(reference_count=6000, a=0.01, b=1.5, ka=0.0, kb=0.0, kc=1.0),
            shutter_celsius=27.0,
            fpa_celsius=31.0 + second // 100,
            environment=Environment(),
        ),
        fpa_celsius=31.0,
        shutter_celsius=27.0,
        background_celsius=None,
        animals=(AnimalObservation(animal=1, parts=parts),),
        not_measured=None,
        block_key=BLOCK.key,
        planned_utc_ns=captured_utc_ns,
    )


class Writer:
    """Stores batch after batch."""

    def __init__(self, store: Store, first_second: int) -> None:
        self.second = first_second
        self._store = store
        self._run_id = store.start_run(
            version="0",
            config_hash="",
            config_json="{}",
            segmenter="",
            host="",
            boot_id="",
            started_utc_ns=START_UTC_NS,
        )
        info = CameraInfo(kind="simulated", product="", serial="", firmware="", location="", frame_rate_hz=25.0)
        self._camera_id = store.register_camera(info, "v1")
        store.open_block(BLOCK, run_id=self._run_id, at_utc_ns=START_UTC_NS)

    def write(self) -> range:
        """Store the next batch with one message; its seconds."""
        seconds = range(self.second, self.second + FRAMES_A_BATCH)
        self._store.add(
            [observation(second) for second in seconds],
            run_id=self._run_id,
            camera_id=self._camera_id,
            messages=[OutboxMessage(topic="t", payload=str(self.second).encode(), created_utc_ns=0)],
        )
        self.second = seconds.stop
        return seconds


def suffer_kills(url: str, kills: int) -> dict[str, object]:
    """Kill a writer again and again, each time after another number of acknowledged batches."""
    dice = random.Random(1)
    acknowledged: list[int] = []
    problems: list[str] = []
    lost: list[int] = []
    half_written: list[tuple[int, ...]] = []
    stored: set[int] = set()
    for _ in range(kills):
        acknowledged += _killed_writer(url, max(stored, default=-1) + 1, dice)
        with open_store(url, outbox_limit=10**6) as store:
            problems += store.integrity()
            if store.set_aside is not None:
                problems.append(f"{store.set_aside} was set aside")
        stored, half = _stored(url)
        half_written += half
        lost += sorted(set(acknowledged) - stored)
    with open_store(url, outbox_limit=10**6) as store:
        coverage = store.finish_block(BLOCK.key, at_utc_ns=BLOCK.end_utc_ns, reason_for_unaccounted="service_down")
    wrong = [] if coverage.captured == len(stored) and not coverage.unaccounted else [str(coverage)]
    return {
        "kills": kills,
        "acknowledged": len(acknowledged),
        "stored": len(stored),
        "lost": lost,
        "half_written": half_written,
        "problems": problems,
        "accounted_twice_or_never": wrong,
    }


def _killed_writer(url: str, first_second: int, dice: random.Random) -> list[int]:
    """Seconds that a writer had acknowledged when it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with open_store(url, outbox_limit=10**6) as store:
            writer = Writer(store, first_second)
            while True:
                os.write(writing, b"".join(b"%d\n" % second for second in writer.write()))
    os.close(writing)
    with os.fdopen(reading, encoding="ascii") as lines:
        acknowledged = [int(next(lines)) for _ in range(dice.randrange(1, 30) * FRAMES_A_BATCH)]
        sum(range(dice.randrange(SPINS)))  # hit the next batch anywhere, not always at its beginning
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return acknowledged + [int(line) for line in lines]


def _stored(url: str) -> tuple[set[int], list[tuple[int, ...]]]:
    """Seconds with a frame; and batches that are there in part."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        frames = {second for (second,) in connection.execute("SELECT sequence FROM frame")}
        half = connection.execute(
            "SELECT frame.sequence, count(part) FROM frame LEFT JOIN part_observation ON frame_id = frame.id"
            " GROUP BY frame.id HAVING count(part) <> ?",
            (PARTS_A_FRAME,),
        ).fetchall()
        half += connection.execute(
            "SELECT sequence, 0 FROM frame WHERE id NOT IN"
            " (SELECT frame_id FROM planned_sample WHERE frame_id IS NOT NULL)"
        ).fetchall()
        (messages,) = connection.execute("SELECT count(*) FROM outbox").fetchone()
        if messages * FRAMES_A_BATCH != len(frames):
            half.append((messages, len(frames)))
    return frames, half


def suffer_limits(url: str) -> dict[str, object]:
    """Let the n-th page that is written fail, for n from 0 on, and repeat the same batch afterwards."""
    path = Path(url.removeprefix("sqlite:///"))
    failed, expected = 0, 0
    half_written: list[object] = []
    unreadable: list[str] = []
    not_recovered: list[str] = []
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_store(url, outbox_limit=10**6) as store:
        writer = Writer(store, 0)
        for limit in _limits(path):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                writer.write()
            except StoreError:
                failed += 1
                try:
                    if store.counts().frames != expected:
                        half_written.append((limit, store.counts().frames, expected))
                except StoreError as error:
                    unreadable.append(f"{limit}: {error}")
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
                try:
                    writer.write()
                except StoreError as error:
                    not_recovered.append(f"{limit}: {error}")
                    continue
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            expected += FRAMES_A_BATCH
        problems = store.integrity()
        frames = store.counts().frames
    return {
        "failed": failed,
        "half_written": [*half_written, *_stored(url)[1]],
        "unreadable": unreadable,
        "not_recovered": not_recovered,
        "problems": problems,
        "frames": frames,
        "expected": expected,
    }


def _limits(path: Path) -> Iterator[int]:
    """Sizes that no file may exceed: somewhere among the bytes that the next batch adds to the log, or below them."""
    log = path.with_name(f"{path.name}-wal")
    for number in range(60):
        size = log.stat().st_size if log.exists() else 0
        yield max(SHARED_MEMORY_BYTES, size + (number % 30 - 5) * 1500)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["kill", url, kills]:
            report = suffer_kills(url, int(kills))
        case ["limit", url]:
            report = suffer_limits(url)
        case other:
            raise SystemExit(f"expected kill URL NUMBER or limit URL, got {other}")
    sys.stdout.write(json.dumps(report))
