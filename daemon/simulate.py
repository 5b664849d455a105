"""Scheduled days with simulated clock and camera, as fast as the machine can, stored and recorded as in the field.

The parts are those of the service, driven by one thread instead of five.
"""

import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path

from daemon.cameras import camera_opener
from daemon.capture import CaptureLoop, CaptureSettings
from daemon.messaging.announcer import Silence
from daemon.pipeline import Pipeline
from daemon.recorder import BlockRecorder
from daemon.rules import AlertRules
from daemon.sampling import Sampler, carry_out
from daemon.settings import Settings
from daemon.store.repository import Store, open_store
from daemon.timetable import Timetable
from daemon.vision.classical import ClassicalSegmenter
from daemon.worker import Worker
from drivers.camera import ThermalCamera
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.errors import ConfigError

logger = logging.getLogger(__name__)

WATCH_AFTER_CALIBRATION_S = 2.5
"""A shutter cycle shows only in successive frames, so none is skipped for so long after it was asked for."""

DATABASE_NAME = "vivarium.db"
RECORDINGS_NAME = "recordings"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedDays:
    """What a simulation has made."""

    database: Path
    recordings: Path
    blocks: int
    captured: int
    expected: int


class DaySimulation:
    """Drives the parts of the service through `days` local days.

    Parameters
    ----------
    settings : Settings
        Schedule, measuring, alerts and simulated camera; nothing is published or served.
    first_day : date
        Begins at its local midnight.
    output : Path
        Gets `vivarium.db` and `recordings/`; must not hold an earlier simulation.

    Raises
    ------
    ConfigError
        If the camera is not simulated or `output` holds a simulation already.
    """

    def __init__(self, settings: Settings, *, first_day: date, days: int, output: Path, version: str) -> None:
        if settings.camera.kind != "simulated":
            raise ConfigError(f"camera.kind: a simulated day needs 'simulated', got {settings.camera.kind!r}")
        self.database, self.recordings = output / DATABASE_NAME, output / RECORDINGS_NAME
        if self.database.exists() or self.recordings.exists():
            raise ConfigError(f"{output} holds an earlier simulation: choose another directory")
        output.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._version = version
        self.start_utc_ns = _midnight_utc_ns(first_day, settings)
        self.stop_utc_ns = _midnight_utc_ns(first_day + timedelta(days=days), settings)
        self._clock = SimulatedClock(self.start_utc_ns)

    def run(self, on_progress: Callable[[int], None]) -> SimulatedDays:
        """Simulate; `on_progress` is told the wall time (UTC ns) now and then."""
        with open_store(f"sqlite:///{self.database}", outbox_limit=self._settings.mqtt.outbox_limit) as store:
            worker, recorder, capture, sampler, run_id = self._parts(store)
            timetable = Timetable(self._settings.schedule, self._settings.zone)
            with camera_opener(self._settings.camera, self._clock)() as camera:
                while self._clock.utc_ns() < self.stop_utc_ns:
                    carry_out(timetable.update(self._clock.utc_ns()), sampler)
                    self._sample(capture, sampler, camera)
                    worker.write_if_due()
                    on_progress(self._clock.utc_ns())
                    self._skip(capture, sampler, timetable)
            carry_out(timetable.update(self._clock.utc_ns()), sampler)
            recorder.close()
            worker.write()
            store.end_run(run_id, ended_utc_ns=self._clock.utc_ns(), reason="simulated")
            coverage = store.coverage_since(self.start_utc_ns)
            blocks = store.finished_block_keys(self.start_utc_ns)
            return SimulatedDays(
                database=self.database,
                recordings=self.recordings,
                blocks=len(blocks),
                captured=coverage.captured,
                expected=coverage.expected,
            )

    def _parts(self, store: Store) -> tuple[Worker, BlockRecorder, CaptureLoop, Sampler, int]:
        settings, clock = self._settings, self._clock
        measure = settings.measure
        segmenter = ClassicalSegmenter(animals=measure.animals, min_area_px=measure.min_area_px)
        run_id = store.start_run(
            version=self._version,
            config_hash=settings.config_hash(),
            config_json=settings.to_json(),
            segmenter=segmenter.name,
            host=platform.node(),
            boot_id="simulated",
            started_utc_ns=self.start_utc_ns,
        )
        worker = Worker(
            pipeline=Pipeline(segmenter, animals=measure.animals, mm_per_px=measure.mm_per_px),
            rules=AlertRules(settings.alerts, animals=measure.animals),
            store=store,
            run_id=run_id,
            clock=clock,
            announcer=Silence(),
            commit_interval_s=60.0,
            on_measured=lambda _frame, _measured: None,
            beat=lambda: None,
        )
        recorder = BlockRecorder(
            self.recordings,
            box=settings.box.name,
            store=store,
            clock=clock,
            software_version=self._version,
            provenance={"simulated": "true", "config_sha256": settings.config_hash()},
            sync=False,
        )
        sinks = [worker.handle, recorder.handle] if settings.recording.enabled else [worker.handle]
        sampler = Sampler(sinks, outside_rate_hz=measure.outside_rate_hz)
        capture = CaptureLoop(
            camera_opener(settings.camera, clock),
            sampler,
            clock=clock,
            settings=CaptureSettings(
                frame_timeout_s=settings.camera.frame_timeout_s,
                retry_max_s=settings.camera.retry_max_s,
                recalibrate_after_s=settings.camera.recalibrate_after_s,
            ),
            beat=lambda: None,
        )
        return worker, recorder, capture, sampler, run_id

    def _sample(self, capture: CaptureLoop, sampler: Sampler, camera: ThermalCamera) -> None:
        """Read frames until one was wanted, as the stream would show them, or this moment's window is over."""
        window_ns = self._clock.utc_ns() + NS_PER_S
        while True:
            before = sampler.taken
            capture.step(camera)
            if sampler.taken != before or self._clock.utc_ns() >= window_ns:
                return

    def _skip(self, capture: CaptureLoop, sampler: Sampler, timetable: Timetable) -> None:
        """Jump to the next moment at which something is due."""
        asked_ns = capture.calibrated_at_ns
        now_ns = self._clock.utc_ns()
        if asked_ns is not None and self._clock.monotonic_ns() - asked_ns < WATCH_AFTER_CALIBRATION_S * NS_PER_S:
            return
        due_ns = [self.stop_utc_ns, timetable.next_boundary(now_ns) or self.stop_utc_ns]
        wanted_in_s = sampler.wanted_in_s(utc_ns=now_ns, monotonic_ns=self._clock.monotonic_ns())
        if wanted_in_s is not None:
            due_ns.append(now_ns + round(wanted_in_s * NS_PER_S))
        self._clock.advance(max(0, min(due_ns) - now_ns) / NS_PER_S)


def _midnight_utc_ns(day: date, settings: Settings) -> int:
    return round(datetime.combine(day, time(), settings.zone).timestamp()) * NS_PER_S
