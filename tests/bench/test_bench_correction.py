"""How long it takes to correct who is who over days, how much memory, and for how long nobody else can write.

`VIVARIUM_BENCH_DAYS=7 python -m pytest tests/bench/test_bench_correction.py -s` prints the figures of a week.
"""

import os
import resource
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import pytest

from daemon.identity_correction import Correction, CorrectionKind
from daemon.identity_corrector import IdentityCorrector
from daemon.minute_values import collector_of
from daemon.settings import parse_settings
from daemon.store.corrections import CorrectionRows
from daemon.store.counters import FRAMES, MINUTE_VALUES, PART_OBSERVATIONS
from daemon.store.repository import Store, open_store
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S, SimulatedClock
from tests.followed import film
from tests.observations import START_UTC_NS

DAYS = float(os.environ.get("VIVARIUM_BENCH_DAYS", "0.125"))
HOUR_NS = 3600 * NS_PER_S
MOST_MB = 60
"""A correction may take so much more memory than the process had."""

CAMERA = CameraInfo(kind="simulated", product="T2S+", serial="S", firmware="", location="", frame_rate_hz=25.0)
CONFIG = """
[box]
time_zone = "UTC"
[measure]
animals = 3
outside_rate_hz = 1
"""
OF_FRAME = ("part_observation", "identity_observation", "shape_observation")


class Timed:
    """The store; it notes how long the database was held for a correction."""

    def __init__(self, store: Store) -> None:
        self.held_s = 0.0
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    @contextmanager
    def correcting(self, **options: object) -> Iterator[CorrectionRows]:
        """As `Store.correcting`."""
        with self._store.correcting(**options) as rows:  # type: ignore[arg-type]
            begin_s = time.monotonic()
            yield rows
        self.held_s = time.monotonic() - begin_s


def fill(store: Store, path: Path, hours: int) -> None:
    """An hour of three rats at one frame a second, again and again."""
    settings = parse_settings(CONFIG, origin="bench")
    run_id = store.start_run(
        version="1",
        config_hash="h",
        config_json=settings.to_json(),
        segmenter="s",
        host="box",
        boot_id="b",
        started_utc_ns=START_UTC_NS,
    )
    camera_id, frames = store.register_camera(CAMERA, "v1"), list(film(3600))
    collector = collector_of(lambda: settings)
    values = [value for each in frames for value in collector.add(each)] + collector.finish()
    store.add(frames, run_id=run_id, camera_id=camera_id, minute_values=values)
    with closing(sqlite3.connect(path)) as connection:
        columns = {
            table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            for table in ("frame", "minute_value", *OF_FRAME)
        }
        for hour in range(1, hours):
            moved = {
                "id": f"id + {hour * len(frames)}",
                "frame_id": f"frame_id + {hour * len(frames)}",
                "captured_utc_ns": f"captured_utc_ns + {hour * HOUR_NS}",
                "captured_monotonic_ns": f"captured_monotonic_ns + {hour * HOUR_NS}",
                "minute_utc_ns": f"minute_utc_ns + {hour * HOUR_NS}",
            }
            for table, names in columns.items():
                key = "id" if table == "frame" else "minute_utc_ns" if table == "minute_value" else "frame_id"
                limit = START_UTC_NS + HOUR_NS if table == "minute_value" else len(frames) + 1
                chosen = ", ".join(moved.get(name, name) for name in names)
                connection.execute(f"INSERT INTO {table} SELECT {chosen} FROM {table} WHERE {key} < {limit}")
            connection.commit()
        of_rows = ", ".join(f"'{name}'" for name in (FRAMES, PART_OBSERVATIONS, MINUTE_VALUES))
        connection.execute(f"UPDATE counter SET value = value * {hours} WHERE name IN ({of_rows})")
        connection.commit()


def peak_mb() -> float:
    """Most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.timeout(3 * 3600)
def test_days_are_corrected_in_little_memory(tmp_path: Path) -> None:
    path, hours = tmp_path / "vivarium.db", max(1, round(24 * DAYS))
    swap = Correction(kind=CorrectionKind.SWAP, animal=1, other=2)
    with open_store(f"sqlite:///{path}", outbox_limit=100) as store:
        fill(store, path, hours)
        size_mb = sum(each.stat().st_size for each in tmp_path.iterdir()) / 1e6
        clock = SimulatedClock(START_UTC_NS + (hours + 1) * HOUR_NS)
        timed = Timed(store)
        corrector = IdentityCorrector(cast(Store, timed), parse_settings(CONFIG, origin="bench"), clock)
        before_mb, begin_s, begin_cpu_s = peak_mb(), time.monotonic(), time.process_time()
        made = corrector.correct(swap, from_utc_ns=START_UTC_NS, until_utc_ns=None, by="bench", reason="")
        cpu_s, took_s, more_mb = time.process_time() - begin_cpu_s, time.monotonic() - begin_s, peak_mb() - before_mb
        print(  # noqa: T201  # the figures are what this is for
            f"\n{hours} h, {hours * 3600} frames of 3 animals, database of {size_mb:.0f} MB: {cpu_s:.1f} s of one core "
            f"({took_s:.0f} s by the clock), held for {timed.held_s:.1f} s, {more_mb:.0f} MB more memory, "
            f"{made.minute_values} values of minutes"
        )
        assert made.minute_values > hours * 60
        assert more_mb < MOST_MB
