"""Scheduled days with simulated clock and camera, as fast as the machine can, stored and recorded as in the field.

The parts are those of the service, driven by two threads instead of five: one makes, samples and records frames, the
other measures and stores them. Unlike in the field the first waits for the second, so that no frame ever gives way.
"""

import platform
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Self

from daemon.cameras import camera_opener
from daemon.capture import CaptureLoop, CaptureSettings
from daemon.messaging.announcer import Silence
from daemon.minute_values import collector_of
from daemon.networks import open_networks
from daemon.pipeline import Pipeline, nests_of
from daemon.recorder import BlockRecorder
from daemon.reference import References
from daemon.rules import AlertRules
from daemon.sampling import BlockEnded, Item, Sampler, carry_out
from daemon.schedule import check_plan
from daemon.settings import Settings
from daemon.store.repository import Store, open_store
from daemon.timetable import Timetable
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.parts import Segmenter
from daemon.vision.segmenter import NetworkSegmenter
from daemon.worker import Worker
from drivers.camera import ThermalCamera
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.errors import ConfigError, StoreError
from drivers.frame import FrameFlag, ThermalFrame

WATCH_AFTER_CALIBRATION_S = 2.5
"""A shutter cycle shows only in successive frames, so none is skipped until it was seen, or for so long at most."""

COMMIT_INTERVAL_S = 60.0
"""Measurements are committed together at this interval of simulated time."""

ITEMS_AHEAD = 64
"""What may wait to be measured: 19 MB of frames. Then the camera waits."""

DATABASE_NAME = "vivarium.db"
RECORDINGS_NAME = "recordings"


def segmenter_of(settings: Settings) -> Segmenter:
    """What a simulation measures with: the configured networks, or the AI-free path where there are none.

    Raises
    ------
    ModelError
        If a configured model cannot be used.
    """
    networks = open_networks(settings.vision, most=settings.animal_count).segmenter
    return networks or ClassicalSegmenter(animals=settings.animal_count, min_area_px=settings.measure.min_area_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedDays:
    """What a simulation has made."""

    database: Path
    recordings: Path
    blocks: int
    captured: int
    """Planned moments of these blocks that a measured frame stands for."""
    expected: int
    recorded: int
    """Frames in the recordings of these blocks."""


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
        If the camera is not simulated, `output` cannot be made or holds a simulation already.
    """

    def __init__(self, settings: Settings, *, first_day: date, days: int, output: Path, version: str) -> None:
        if settings.camera.kind != "simulated":
            raise ConfigError(f"camera.kind: a simulated day needs 'simulated', got {settings.camera.kind!r}")
        check_plan(settings.schedule)
        self.database, self.recordings = output / DATABASE_NAME, output / RECORDINGS_NAME
        if self.database.exists() or self.recordings.exists():
            raise ConfigError(f"{output} holds an earlier simulation: choose another directory")
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{output}: cannot be made a directory for the results: {error.strerror}") from error
        self._settings = settings
        self._version = version
        self.start_utc_ns = _midnight_utc_ns(first_day, settings)
        self.stop_utc_ns = _midnight_utc_ns(first_day + timedelta(days=days), settings)
        self._clock = SimulatedClock(self.start_utc_ns)
        self._shutter = _ShutterWatch()

    def run(self, on_progress: Callable[[int], None]) -> SimulatedDays:
        """Simulate; `on_progress` is told the wall time (UTC ns) now and then.

        Raises
        ------
        StoreError
            If the database could not be written.
        """
        with (
            open_store(f"sqlite:///{self.database}", outbox_limit=self._settings.mqtt.outbox_limit) as store,
            _Beside() as beside,
        ):
            worker, recorder, capture, sampler, run_id = self._parts(store, beside)
            timetable = Timetable(self._settings.schedule, self._settings.zone)
            commit_due_ns = self.start_utc_ns
            with camera_opener(self._settings.camera, self._clock)() as camera:
                while self._clock.utc_ns() < self.stop_utc_ns:
                    carry_out(timetable.update(self._clock.utc_ns()), sampler)
                    self._sample(capture, sampler, camera)
                    if self._clock.utc_ns() >= commit_due_ns:
                        beside.do(worker.write)
                        commit_due_ns = self._clock.utc_ns() + round(COMMIT_INTERVAL_S * NS_PER_S)
                    on_progress(self._clock.utc_ns())
                    self._skip(capture, sampler, timetable)
            sampler.end_block(at_utc_ns=self._clock.utc_ns())  # one that ends with the day, or goes on into the next
            beside.do(worker.finish_minutes)
            beside.do(worker.write)
            beside.finish()
            recorder.close()
            if store.counts().frames != worker.measured_frames:
                raise StoreError(
                    f"{self.database}: expected {worker.measured_frames} measured frames in the database, got "
                    f"{store.counts().frames}; see the errors above"
                )
            store.end_run(run_id, ended_utc_ns=self._clock.utc_ns(), reason="simulated")
            on_progress(self._clock.utc_ns())
            return self._result(store)

    def _result(self, store: Store) -> SimulatedDays:
        coverage = store.coverage_since(self.start_utc_ns)
        blocks = store.finished_block_keys(self.start_utc_ns)
        return SimulatedDays(
            database=self.database,
            recordings=self.recordings,
            blocks=len(blocks),
            captured=coverage.captured,
            expected=coverage.expected,
            recorded=sum(file.frames for key in blocks for file in store.recordings(key)),
        )

    def _parts(self, store: Store, beside: "_Beside") -> tuple[Worker, BlockRecorder, CaptureLoop, Sampler, int]:
        settings, clock = self._settings, self._clock
        measure = settings.measure
        segmenter = segmenter_of(settings)
        run_id = store.start_run(
            version=self._version,
            config_hash=settings.config_hash(),
            config_json=settings.to_json(),
            segmenter=segmenter.name,
            models=segmenter.hashes if isinstance(segmenter, NetworkSegmenter) else {},
            host=platform.node(),
            boot_id="simulated",
            started_utc_ns=self.start_utc_ns,
        )
        worker = Worker(
            pipeline=Pipeline(
                segmenter,
                animals=settings.animal_count,
                mm_per_px=measure.mm_per_px,
                references=References(settings.reference),
                nests=nests_of(settings.zones),
            ),
            minutes=collector_of(lambda: settings),
            rules=AlertRules(
                settings.frame_alerts,
                animals=settings.animal_count,
                sample_interval_s=1 / measure.outside_rate_hz if measure.outside_rate_hz else 0.0,
            ),
            store=store,
            run_id=run_id,
            clock=clock,
            announcer=Silence(),
            commit_interval_s=COMMIT_INTERVAL_S,
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

        def measure_beside(item: Item) -> None:
            beside.do(lambda: worker.handle(item))
            if isinstance(item, BlockEnded):  # its recording is entered next, and belongs to a stored block
                beside.do(worker.write)
                beside.finish()

        sinks = [measure_beside, recorder.handle] if settings.recording.enabled else [measure_beside]
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
        before = sampler.taken
        while sampler.taken == before and self._clock.utc_ns() < window_ns:
            watching = self._watching(capture)
            self._shutter.see(capture.step(camera))
            if watching and not self._watching(capture):
                return

    def _watching(self, capture: CaptureLoop) -> bool:
        return self._shutter.to_be_watched(asked_ns=capture.calibrated_at_ns, now_ns=self._clock.monotonic_ns())

    def _skip(self, capture: CaptureLoop, sampler: Sampler, timetable: Timetable) -> None:
        """Jump to the next moment at which something is due."""
        now_ns, monotonic_ns = self._clock.utc_ns(), self._clock.monotonic_ns()
        if self._watching(capture):
            return
        due_ns = [self.stop_utc_ns, timetable.next_boundary(now_ns) or self.stop_utc_ns]
        wanted_in_s = sampler.wanted_in_s(utc_ns=now_ns, monotonic_ns=monotonic_ns)
        if wanted_in_s is not None:
            due_ns.append(now_ns + round(wanted_in_s * NS_PER_S))
        self._clock.advance(max(0, min(due_ns) - now_ns) / NS_PER_S)


class _ShutterWatch:
    """Whether the shutter cycle that was asked for has been seen from its first to its last frame."""

    def __init__(self) -> None:
        self._closed = False
        self._opened_ns: int | None = None

    def see(self, frame: ThermalFrame | None) -> None:
        """Look at the next frame of the stream, if there was one."""
        if frame is None:
            return
        closed = bool(frame.flags & FrameFlag.SHUTTER)
        if self._closed and not closed:
            self._opened_ns = frame.captured_monotonic_ns
        self._closed = closed

    def to_be_watched(self, *, asked_ns: int | None, now_ns: int) -> bool:
        """Whether a cycle asked for at `asked_ns` (monotonic) may still be going on."""
        if asked_ns is None or now_ns - asked_ns >= WATCH_AFTER_CALIBRATION_S * NS_PER_S:
            return False
        return self._opened_ns is None or self._opened_ns < asked_ns


class _Beside:
    """Carries out actions in order in a thread of its own; who hands over more than `ITEMS_AHEAD` of them waits."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="measuring")
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def do(self, action: Callable[[], None]) -> None:
        """Hand over; raises what an earlier action has raised."""
        self._pending.append(self._executor.submit(action))
        while len(self._pending) > ITEMS_AHEAD:
            self._pending.popleft().result()

    def finish(self) -> None:
        """Wait until all is done; raises what any of it has raised."""
        while self._pending:
            self._pending.popleft().result()


def _midnight_utc_ns(day: date, settings: Settings) -> int:
    return round(datetime.combine(day, time(), settings.zone).timestamp()) * NS_PER_S
