"""A worker over a real database, with frames of one warm rat, a clock that is set, and what restarts it."""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from daemon.event_commands import EventCommands
from daemon.events import Event, EventKind
from daemon.messaging.announcer import Silence
from daemon.open_events import open_now
from daemon.pipeline import Pipeline
from daemon.rules import AlertRules
from daemon.sampling import Sample
from daemon.settings import Settings
from daemon.store.repository import Store
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.resilient import Mode, VisionState
from daemon.vision_events import VisionEvents
from daemon.watching import Watching
from daemon.worker import Worker
from drivers.camera import CameraInfo
from drivers.clock import SimulatedClock
from drivers.decoder import FrameDecoder
from drivers.frame import RawFrame, ThermalFrame

CAMERA = CameraInfo(kind="simulated", product="T2S+", serial="S1", firmware="1", location="seed 1", frame_rate_hz=25)
WELL = VisionState(mode=Mode.NETWORKS, every=1, reason=None, degraded=False)
THINNED = VisionState(mode=Mode.THINNED, every=3, reason="they take 99 ms", degraded=True)


def frame_of(golden: Path) -> ThermalFrame:
    """A decoded one, whose degrees can be replaced."""
    payload = np.load(golden / "g2_eps095_d1.npz")["frame"].tobytes()
    return FrameDecoder().decode(RawFrame(sequence=0, captured_utc_ns=0, captured_monotonic_ns=0, payload=payload))


def picture(celsius: float | None) -> NDArray[np.float32]:
    """A cage at 23 °C, and a rat in it."""
    shown = np.full((192, 256), 23.0, np.float32)
    shown[::2] += 0.1
    if celsius is not None:
        rows, columns = np.mgrid[:192, :256]
        shown[((rows - 96) / 22) ** 2 + ((columns - 128) / 40) ** 2 <= 1] = celsius
    return shown


class WorkerBench:
    """Worker and commands over a database and a folder of evidence; `start` anew is a restart."""

    def __init__(self, store: Store, settings: Settings, template: ThermalFrame, *, utc_ns: int) -> None:
        self.store = store
        self.clock = SimulatedClock(utc_ns)
        self.state = WELL
        """Of the networks."""
        self._template, self._sequence = template, 0
        self.start(settings)

    def start(self, settings: Settings) -> None:
        """Go on with what is stored, by these settings."""
        self.settings = settings
        run_id = self.store.start_run(
            version="0",
            config_hash="",
            config_json="{}",
            segmenter="",
            host="",
            boot_id="",
            started_utc_ns=self.clock.utc_ns(),
        )
        self.watching = Watching(settings)
        self.worker = Worker(
            pipeline=Pipeline(ClassicalSegmenter(animals=1, min_area_px=150), animals=1, mm_per_px=None),
            rules=AlertRules(
                settings.frame_alerts,
                animals=1,
                still_open=open_now(self.store.event_histories()),
                sample_interval_s=settings.measure.outside_interval_s,
                cools=self.watching.severities.cools,
            ),
            store=self.store,
            run_id=run_id,
            clock=self.clock,
            announcer=Silence(),
            commit_interval_s=0.2,
            on_measured=lambda _frame, _measured: None,
            beat=lambda: None,
            vision=VisionEvents(lambda: self.state, lambda: {"frame_ms": 99.0}),
            watching=self.watching,
        )
        self.worker.restore(self.store.open_events())
        self.commands = EventCommands(worker=self.worker, watching=self.watching, store=self.store, clock=self.clock)

    def show_one(self, celsius: float | None) -> None:
        """One frame, now, of a rat of this temperature, or of none."""
        self._sequence += 1
        frame = dataclasses.replace(
            self._template,
            sequence=self._sequence,
            captured_utc_ns=self.clock.utc_ns(),
            captured_monotonic_ns=self.clock.monotonic_ns(),
            celsius=picture(celsius),
        )
        self.worker.handle(Sample(frame=frame, block_key=None, planned_utc_ns=None))

    def events(self, *kinds: EventKind) -> list[Event]:
        """All that was stored of these kinds, oldest first."""
        return [event for event in reversed(self.store.recent_events(1000)) if event.kind in kinds]
