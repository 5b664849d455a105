"""A short life of store and recorder, again and again, each time with another call to the system that fails.

Run by `test_failing_writes.py` with the shim of `failing_writes.c` loaded before libc; prints a report as JSON. Each
life is a fork of this process, so that what is slow is done once.
"""

import ctypes
import errno
import json
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.last_good import LastGoodConfig
from daemon.messaging.announcer import Silence
from daemon.pipeline import Pipeline
from daemon.recorder import BlockRecorder, enter_unknown
from daemon.rules import AlertRules
from daemon.sampling import BlockEnded, BlockStarted, CameraFound, Item, Sample
from daemon.schedule import PlannedBlock
from daemon.settings import AlertSettings
from daemon.store.repository import Store, open_store
from daemon.vision.parts import Segmentation
from daemon.worker import Worker
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.errors import StoreError, VivariumError
from drivers.frame import ThermalFrame
from drivers.recording import Recording, close_leftovers
from drivers.sidecar import Sidecar
from drivers.simulated import SimulatedCamera

START_UTC_NS = 1_795_000_000 * NS_PER_S
FRAMES = 3
CONFIG = '[box]\nname = "box1"\n'
DAY = date(2026, 11, 18)

shim = ctypes.CDLL(None)
shim.failing_writes_begin.argtypes = (ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int)


class Nothing:
    """Finds no animal, in no time."""

    name = "nothing"

    def segment(self, celsius: NDArray[np.float32]) -> Segmentation:
        """An empty picture."""
        empty = np.zeros(celsius.shape, np.uint8)
        return Segmentation(parts=empty, instances=empty)


class Reports(logging.Handler):
    """Counts what an operator would see."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())


def block() -> PlannedBlock:
    """Of as many seconds as there are frames."""
    return PlannedBlock(
        day=DAY,
        stratum="night",
        number=1,
        start_utc_ns=START_UTC_NS,
        duration_ns=FRAMES * NS_PER_S,
        period_ns=NS_PER_S,
    )


def items(frames: list[ThermalFrame], camera: SimulatedCamera) -> list[Item]:
    """What the sampler would pass on."""
    planned = block()
    found = CameraFound(at_utc_ns=START_UTC_NS, info=camera.info, variant="v1", away_s=0)
    samples = [
        Sample(frame=frame, block_key=planned.key, planned_utc_ns=moment)
        for frame, moment in zip(frames, planned.planned_utc_ns, strict=True)
    ]
    return [
        found,
        BlockStarted(block=planned, at_utc_ns=START_UTC_NS),
        *samples,
        BlockEnded(block=planned, at_utc_ns=planned.end_utc_ns),
    ]


def live(folder: Path, what: list[Item]) -> dict[str, Any]:
    """One life, from the start of the service to its end; what it claims to have done."""
    reports = Reports()
    logging.getLogger().addHandler(reports)
    acknowledged = {"frames": 0}
    clock = SimulatedClock(START_UTC_NS)
    try:
        with open_store(f"sqlite:///{folder / 'vivarium.db'}", outbox_limit=100, clock=clock) as store:
            carry_out(store, folder, what, clock, acknowledged)
    except VivariumError as error:  # the service would end and be started again
        reports.lines.append(str(error))
    LastGoodConfig(folder / "config.toml", folder / "last-good.toml").keep()
    return {"calls": int(shim.failing_writes_calls()), "reported": reports.lines, **acknowledged}


def carry_out(
    store: Store, folder: Path, what: list[Item], clock: SimulatedClock, acknowledged: dict[str, int]
) -> None:
    """Measure, store and record all items, with time passing between them."""
    run_id = store.start_run(
        version="1",
        config_hash="",
        config_json="{}",
        segmenter="",
        host="h",
        boot_id="b",
        started_utc_ns=START_UTC_NS,
    )
    worker = Worker(
        pipeline=Pipeline(Nothing(), animals=1, mm_per_px=None),
        rules=AlertRules(AlertSettings(), animals=1, sample_interval_s=1.0),
        store=store,
        run_id=run_id,
        clock=clock,
        announcer=Silence(),
        commit_interval_s=0.2,
        on_measured=lambda _frame, _measured: None,
        beat=lambda: None,
    )
    recorder = BlockRecorder(
        folder / "recordings", box="box1", store=store, clock=clock, software_version="1", provenance={}
    )
    for item in what:
        worker.handle(item)
        worker.write()
        acknowledged["frames"] = worker.measured_frames - worker.waiting
        recorder.handle(item)
        clock.advance(1.0)
    worker.write()
    acknowledged["frames"] = worker.measured_frames - worker.waiting
    recorder.close()
    store.end_run(run_id, ended_utc_ns=clock.utc_ns(), reason="stopped")


def look(folder: Path) -> dict[str, Any]:
    """The next start, without a fault: what is there, and what is wrong."""
    problems: list[str] = []
    close_leftovers(folder / "recordings", accounted_until_utc_ns=START_UTC_NS + 3600 * NS_PER_S)
    frames = captured = 0
    with open_store(f"sqlite:///{folder / 'vivarium.db'}", outbox_limit=100) as store:
        enter_unknown(folder / "recordings", store, since_day=DAY)
        problems += store.integrity()
        problems += [] if store.set_aside is None else [f"the database was set aside as {store.set_aside}"]
        frames = store.counts().frames
        store.start_run(
            version="2", config_hash="", config_json="{}", segmenter="", host="h", boot_id="b", started_utc_ns=1
        )
    told: set[int] = set()
    for path in sorted((folder / "recordings").rglob("*.json")):
        sidecar = Sidecar.read(path)
        with Recording(path.with_suffix(".mkv")) as recording:
            recording.verify()
        moments = {each.planned_utc_ns for each in sidecar.frames if each.planned_utc_ns is not None}
        problems += [f"{moment} is recorded twice" for moment in moments & told]
        told |= moments
        captured += sidecar.captured
    problems += [f"half a file: {path.name}" for path in folder.rglob("*") if ".part" in path.name]
    copy = folder / "last-good.toml"
    if copy.exists() and copy.read_text() != CONFIG:
        problems.append("half a config")
    return {"problems": problems, "stored": frames, "captured": captured}


def forked(action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do it in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writer, json.dumps(action()).encode())
            code = 0
        except BaseException:  # the test shows it
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        return {"problems": [f"ended with status {status}"]}
    result: dict[str, Any] = json.loads(answer)
    return result


def main(folder: Path, most: int, every: int) -> None:
    """Let the first, second, third ... call fail, until one life needs no more calls than that.

    Once, with EIO and ENOSPC in turns; and for each `every`-th call from then on, as on a disk that is full.
    """
    base = folder / "base"
    base.mkdir()
    (base / "config.toml").write_text(CONFIG)
    with open_store(f"sqlite:///{base / 'vivarium.db'}", outbox_limit=100):
        pass
    with SimulatedCamera.create(clock=SimulatedClock(START_UTC_NS), seed=3) as camera:
        what = items([camera.read(1) for _ in range(FRAMES)], camera)
    results = []
    for number in range(1, most + 1):
        once = {"n": number, "error": errno.ENOSPC if number % 2 else errno.EIO, "for_ever": 0}
        results.append(suffer(folder, what, **once))
        if number % every == 0:
            results.append(suffer(folder, what, n=number, error=errno.ENOSPC, for_ever=1))
        if results[-1].get("calls", number) < number:
            break
    print(json.dumps({"frames": FRAMES, "lives": results}))  # noqa: T201 - the report


def suffer(folder: Path, what: list[Item], *, n: int, error: int, for_ever: int) -> dict[str, Any]:
    """One life with its fault, and the next start."""
    place = folder / "life"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / "base", place)

    def fail() -> dict[str, Any]:
        shim.failing_writes_begin(os.fsencode(place), n, error, for_ever)
        return live(place, what)

    lived = forked(fail)
    seen = forked(lambda: look(place))
    problems = lived.pop("problems", []) + seen.pop("problems", [])
    return {"n": n, "for_ever": for_ever, "error": errno.errorcode[error], "problems": problems, **seen, **lived}


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except StoreError as failure:
        sys.exit(str(failure))
