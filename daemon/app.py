"""The service: the only place where its parts are put together."""

import importlib.metadata
import logging
import platform
import queue
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from enum import Enum
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from daemon.cameras import camera_device, camera_opener
from daemon.capture import CaptureLoop, CaptureSettings
from daemon.handoff import HandOff
from daemon.health import FrameProgress, Heartbeats, ServiceManager
from daemon.live import LiveView
from daemon.lock import DataDirectoryLock
from daemon.logs import configure_logging
from daemon.messaging import topics
from daemon.messaging.announcer import MqttAnnouncer, Silence
from daemon.messaging.broker import EmbeddedBroker
from daemon.messaging.payloads import event_message, health_payload, info_payload
from daemon.messaging.publisher import Publisher
from daemon.observation import FrameObservation
from daemon.pipeline import Pipeline
from daemon.recorder import BlockRecorder
from daemon.rules import AlertRules
from daemon.sampling import Item, Sampler, carry_out, may_be_lost, overrun
from daemon.schedule import block_at, check_plan, next_block
from daemon.settings import MQTT_PASSWORD_VARIABLE, Settings, load_settings
from daemon.status import (
    AnimalStatus,
    BlockStatus,
    CameraStatus,
    MqttStatus,
    Status,
    StoreStatus,
    judge,
    status_line,
)
from daemon.store.repository import RecordingState, open_store
from daemon.timetable import Timetable, TimetableKeeper
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.parts import BodyPart
from daemon.web.api import create_api
from daemon.web.server import WebServer
from daemon.worker import SERVICE_DOWN, Worker, block_finished, void
from drivers.camera import ThermalCamera
from drivers.clock import NS_PER_S, Clock, SystemClock
from drivers.errors import ConfigError, StoreError, StoreRejectedError, VivariumError
from drivers.recording import RecordingSummary, close_leftovers

logger = logging.getLogger(__name__)

VERSION = importlib.metadata.version("strong-vivarium")

SAMPLES_WAITING = 64
"""Samples that may wait to be measured: a minute at 1 fps, 13 MB."""

RECORDS_WAITING = 256
"""Samples that may wait for the disk: 51 MB, ten seconds at the camera's full rate."""

TICK_S = 1.0
STATUS_INTERVAL_S = 10.0
STOP_S = 4.0
"""How long a thread may take to finish its work when the service stops."""

_DAY_NS = 86_400 * NS_PER_S
_LIVE_SECTIONS = ("alerts", "log", "schedule")
"""Sections of the config that take effect without interrupting capture."""


class ServiceError(VivariumError):
    """A part of the service has failed and only a restart helps."""


class Outcome(Enum):
    """Why the service ended."""

    STOPPED = "stopped"
    RELOAD = "reload"
    MATERIAL_OVER = "material_over"


class Signals:
    """What the operating system asks for; installed from enter to exit, in the main thread."""

    def __init__(self) -> None:
        self.stop = False
        self.reload = False
        # A handler runs in the middle of whatever the main thread does: it must not take a lock that this thread may
        # hold, as an Event has one. Of all queues only this one says that `put` may interrupt its own `get`.
        self._received: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._before[number] = signal.signal(number, self.receive)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def receive(self, number: int, _frame: FrameType | None = None) -> None:
        """Take a signal, as its handler; from any thread."""
        if number == signal.SIGHUP:
            self.reload = True
        else:
            self.stop = True
        self._received.put(number)

    def wait(self, duration_s: float) -> None:
        """Return when a signal has come or time is over."""
        with suppress(queue.Empty):
            self._received.get(timeout=duration_s)


class Service:
    """The running service, from enter to exit.

    Parameters
    ----------
    settings : Settings
        Already checked.
    mqtt_password : str, optional
        Of `settings.mqtt.username`.
    clock : Clock
        The machine's own when left out.
    manager : ServiceManager
        Told how the service does; nobody when left out.
    open_camera : callable
        Makes a closed camera, in place of the one that the settings name.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        mqtt_password: str | None = None,
        clock: Clock | None = None,
        manager: ServiceManager | None = None,
        open_camera: Callable[[], AbstractContextManager[ThermalCamera]] | None = None,
    ) -> None:
        self.settings = settings
        self._password = mqtt_password
        self._clock = clock or SystemClock()
        self._manager = manager or ServiceManager(None)
        self._open_camera = open_camera or camera_opener(settings.camera, self._clock, state_dir=settings.camera_dir)
        self._camera_device = None if open_camera else camera_device(settings.camera)
        self._stack = ExitStack()
        self._failed: list[str] = []
        self._stalled: list[str] = []
        self.live = LiveView()
        self._publisher: Publisher | None = None
        self._web: WebServer | None = None

    @property
    def web_port(self) -> int | None:
        """Where the status page is; None when it is off."""
        return None if self._web is None else self._web.port

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        settings, clock = self.settings, self._clock
        self._started_utc_ns, self._started_monotonic_ns = clock.utc_ns(), clock.monotonic_ns()
        check_plan(settings.schedule)
        try:
            settings.box.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"box.data_dir: {settings.box.data_dir} cannot be made: {error.strerror}") from error
        self._stack.enter_context(DataDirectoryLock(settings.box.data_dir))
        self.store = self._stack.enter_context(
            open_store(settings.database_url, outbox_limit=settings.mqtt.outbox_limit, clock=clock)
        )
        last_seen_ns = self.store.last_sign_of_life_utc_ns()
        segmenter = ClassicalSegmenter(animals=settings.measure.animals, min_area_px=settings.measure.min_area_px)
        self._run_id = self.store.start_run(
            version=VERSION,
            config_hash=settings.config_hash(),
            config_json=settings.to_json(),
            segmenter=segmenter.name,
            host=platform.node(),
            boot_id=boot_id(),
            started_utc_ns=self._started_utc_ns,
        )
        self._stack.callback(self._end_run)
        self._tidy_up(last_seen_ns)
        self._start_messaging(segmenter.name)
        self._start_consumers(segmenter)
        self._start_capture()
        self._start_schedule()
        self._start_web()

    def _end_run(self) -> None:
        try:
            self.store.end_run(self._run_id, ended_utc_ns=self._clock.utc_ns(), reason="stopped")
        except StoreError as error:
            logger.error("the end of this run is not in the database: %s", error)

    def _tidy_up(self, last_seen_ns: int | None) -> None:
        """Close what an earlier run left open."""
        now_ns = self._clock.utc_ns()
        current = block_at(now_ns, self.settings.schedule, self.settings.zone)
        # The moment whose window is not yet over can still be captured.
        until_ns = now_ns if current is None else now_ns - (now_ns - current.start_utc_ns) % current.period_ns
        for summary in close_leftovers(self.settings.recordings_dir, accounted_until_utc_ns=until_ns):
            logger.warning("recording %s was left open and is closed now: %d frames", summary.path, summary.frames)
            if summary.header.block_key is not None:
                self._keep_recording(summary.header.block_key, summary)
        for block in self.store.open_blocks():
            if block.end_utc_ns <= now_ns:
                coverage = self.store.finish_block(block.key, at_utc_ns=now_ns, reason_for_unaccounted=SERVICE_DOWN)
                event = block_finished(block.key, coverage, now_ns)
                self.store.add([], run_id=self._run_id, camera_id=None, events=[event], messages=[event_message(event)])
        if last_seen_ns is not None and last_seen_ns < self._started_utc_ns:
            self.store.open_gap(run_id=self._run_id, start_utc_ns=last_seen_ns, reason=SERVICE_DOWN)

    def _keep_recording(self, block_key: str, summary: RecordingSummary) -> None:
        try:
            self.store.add_recording(block_key, summary, state=RecordingState.RECOVERED)
        except StoreRejectedError as error:  # of a database that was set aside
            logger.warning("recording %s is not entered into the database: %s", summary.path, error)

    def _start_messaging(self, segmenter: str) -> None:
        mqtt = self.settings.mqtt
        if not mqtt.enabled:
            return
        if mqtt.broker == "embedded":
            self._stack.enter_context(
                EmbeddedBroker(mqtt.host, mqtt.port, username=mqtt.username, password=self._password)
            )
        self._publisher = self._stack.enter_context(
            Publisher(mqtt, password=self._password, box=self.settings.box.name, store=self.store, clock=self._clock)
        )
        self._publisher.set_retained(
            topics.INFO,
            info_payload(
                box=self.settings.box.name,
                version=VERSION,
                started_utc_ns=self._started_utc_ns,
                run=self._run_id,
                config_sha256=self.settings.config_hash(),
                segmenter=segmenter,
            ),
        )

    def _start_consumers(self, segmenter: ClassicalSegmenter) -> None:
        settings, clock = self.settings, self._clock
        self._beats = Heartbeats(("capture", "worker"), clock)
        self._progress = FrameProgress(clock)
        still_open = self.store.open_events()
        self._worker = Worker(
            pipeline=Pipeline(segmenter, animals=settings.measure.animals, mm_per_px=settings.measure.mm_per_px),
            rules=AlertRules(settings.alerts, animals=settings.measure.animals, still_open=still_open),
            store=self.store,
            run_id=self._run_id,
            clock=clock,
            announcer=MqttAnnouncer(self._publisher) if self._publisher else Silence(),
            commit_interval_s=settings.database.commit_interval_s,
            on_measured=self.live.show,
            beat=lambda: self._beats.beat("worker"),
        )
        self._worker.restore(still_open)
        self._samples: HandOff[Item] = HandOff(SAMPLES_WAITING, may_be_lost, overrun)
        sinks: list[Callable[[Item], None]] = [lambda item: void(self._samples.put(item))]
        self._recorder: BlockRecorder | None = None
        if settings.recording.enabled:
            recorder = BlockRecorder(
                settings.recordings_dir,
                box=settings.box.name,
                store=self.store,
                clock=clock,
                software_version=VERSION,
                provenance=self._provenance(),
            )
            records: HandOff[Item] = HandOff(RECORDS_WAITING, may_be_lost, overrun)
            self._recorder = recorder
            self._thread("recorder", lambda: recorder.run(records), records.close)
            sinks.append(lambda item: void(records.put(item)))
        # After the recorder, and so ended before it: a recording can be entered when its block has been.
        self._thread("worker", lambda: self._worker.run(self._samples), self._samples.close)
        self._sampler = Sampler(sinks, outside_rate_hz=settings.measure.outside_rate_hz)

    def _provenance(self) -> Mapping[str, str]:
        return {
            "host": platform.node(),
            "boot_id": boot_id(),
            "config_sha256": self.settings.config_hash(),
        }

    def _start_capture(self) -> None:
        camera = self.settings.camera
        self._capture = CaptureLoop(
            self._open_camera,
            self._sampler,
            clock=self._clock,
            settings=CaptureSettings(
                frame_timeout_s=camera.frame_timeout_s,
                retry_max_s=camera.retry_max_s,
                recalibrate_after_s=camera.recalibrate_after_s,
            ),
            beat=lambda: self._beats.beat("capture"),
            device=self._camera_device,
        )
        self._thread("capture", self._capture.run, self._capture.stop)

    def _start_schedule(self) -> None:
        self._timetable = Timetable(
            self.settings.schedule,
            self.settings.zone,
            accounted_until_utc_ns=self.store.accounted_until(),
            is_finished=self.store.is_finished,
        )
        self._keeper = self._stack.enter_context(
            TimetableKeeper(self._timetable, self._clock, lambda changes: carry_out(changes, self._sampler))
        )

    def _start_web(self) -> None:
        if self.settings.web.enabled:
            api = create_api(self.status, self.live.picture)
            self._web = self._stack.enter_context(
                WebServer(api, host=self.settings.web.host, port=self.settings.web.port)
            )

    def _thread(self, name: str, work: Callable[[], None], stop: Callable[[], None]) -> None:
        """Run a part in its own thread; on exit it is asked to stop and waited for."""

        def top() -> None:
            try:
                work()
            except VivariumError as error:
                logger.error("the %s thread has failed: %s", name, error)
                self._failed.append(f"{name}: {error}")
            except Exception as error:  # the top of a thread: log it, and let the service manager start us anew
                logger.exception("the %s thread has failed", name)
                self._failed.append(f"{name}: {type(error).__name__}")

        thread = threading.Thread(target=top, name=name, daemon=True)

        def end() -> None:
            stop()
            thread.join(timeout=STOP_S)
            if thread.is_alive():
                logger.error("the %s thread does not stop", name)

        self._stack.callback(end)
        thread.start()

    def supervise(self, signals: Signals, load: Callable[[], Settings]) -> tuple[Outcome, Settings]:
        """Watch over the parts until something ends the service.

        Returns
        -------
        Outcome, Settings
            Why it ended, and for `RELOAD` the new settings.

        Raises
        ------
        ServiceError
            If a part has failed.
        """
        self._manager.tell(READY=1, STATUS="starting")
        next_status_ns = self._clock.monotonic_ns()
        while True:
            if signals.stop:
                self._manager.tell(STOPPING=1)
                return Outcome.STOPPED, self.settings
            if signals.reload:
                signals.reload = False
                new = self._reload(load)
                if new is not None:
                    return Outcome.RELOAD, new
            if self._failed:
                raise ServiceError(f"failed: {', '.join(self._failed)}")
            if self._capture.ended.is_set() and not len(self._samples):
                return Outcome.MATERIAL_OVER, self.settings
            self._feed_watchdog()
            now_ns = self._clock.monotonic_ns()
            if now_ns >= next_status_ns:
                next_status_ns = now_ns + round(STATUS_INTERVAL_S * NS_PER_S)
                self._report()
            signals.wait(TICK_S)

    def _reload(self, load: Callable[[], Settings]) -> Settings | None:
        """Apply a changed config as far as that goes without interruption; the settings when it does not."""
        self._manager.tell(RELOADING=1, MONOTONIC_USEC=self._clock.monotonic_ns() // 1000)
        try:
            new = load()
            check_plan(new.schedule)
            interrupts = new.model_copy(update={name: getattr(self.settings, name) for name in _LIVE_SECTIONS})
            if interrupts != self.settings:
                logger.info("the config has changed in a way that needs a restart of the parts")
                return new
            self._keeper.replace_plan(new.schedule, new.zone)
        except ConfigError as error:
            logger.error("the new config is refused, the old one stays in force: %s", error)
        else:
            configure_logging(new.log)
            self._worker.rules.settings = new.alerts
            self.settings = new
            logger.info("the config was read again")
        self._manager.tell(READY=1)
        return None

    def _feed_watchdog(self) -> None:
        stalled = self._beats.stalled()
        if self._progress.stalled(finished=self._worker.measured_frames, waiting=len(self._samples)):
            stalled.append("measuring")
        if not stalled:
            self._manager.tell(WATCHDOG=1)
        elif stalled != self._stalled:
            logger.error("no progress: %s", ", ".join(stalled))
        self._stalled = stalled

    def _report(self) -> None:
        """Tell terminal, service manager and broker how it stands."""
        try:
            status = self.status()
        except StoreError as error:
            logger.error("the database cannot be read: %s", error)
            return
        line = status_line(status)
        logger.info("%s", line)
        self._manager.tell(STATUS=line)
        if self._publisher is not None:
            expected = status.block.expected_24h
            self._publisher.set_retained(
                topics.HEALTH,
                health_payload(
                    at_utc_ns=self._clock.utc_ns(),
                    last_frame_age_s=status.camera.last_good_age_s,
                    coverage=status.block.captured_24h / expected if expected else None,
                    frames_dropped=self._samples.dropped,
                    frames_rejected=status.camera.rejected,
                    outbox_depth=status.store.outbox,
                    outbox_dropped=self.store.outbox_dropped(),
                    observations_dropped=self._publisher.state.dropped,
                ),
            )

    def status(self) -> Status:
        """The state of everything, now. From any thread."""
        now_ns = self._clock.utc_ns()
        camera, block = self._camera_status(), self._block_status(now_ns)
        store, mqtt = self._store_status(), self._mqtt_status()
        recording_error = self._recorder.failed if self._recorder else None
        disk_free_bytes = shutil.disk_usage(self.settings.box.data_dir).free
        open_alerts = tuple(
            event.kind.value if event.animal is None else f"{event.kind.value} (animal {event.animal})"
            for event in self.store.open_events()
        )
        verdict, reasons = judge(
            camera=camera,
            store=store,
            mqtt=mqtt,
            recording_error=recording_error,
            disk_free_bytes=disk_free_bytes,
            open_alerts=open_alerts,
        )
        newest = self.live.newest
        observation = None if newest is None else newest[1].observation
        return Status(
            box=self.settings.box.name,
            version=VERSION,
            verdict=verdict,
            reasons=reasons,
            uptime_s=(self._clock.monotonic_ns() - self._started_monotonic_ns) / NS_PER_S,
            camera=camera,
            block=block,
            animals=() if observation is None else animal_statuses(observation, now_ns),
            background_celsius=None if observation is None else observation.background_celsius,
            store=store,
            mqtt=mqtt,
            recording_error=recording_error,
            disk_free_bytes=disk_free_bytes,
            open_alerts=open_alerts,
        )

    def _camera_status(self) -> CameraStatus:
        capture = self._capture
        newest = self.live.newest
        last_ns = capture.last_good_monotonic_ns
        return CameraStatus(
            state="lost" if capture.lost else "starting" if last_ns is None else "running",
            kind=self.settings.camera.kind,
            serial=None if newest is None else newest[0].metadata.serial,
            frames_per_second=capture.frames_per_second,
            last_good_age_s=None if last_ns is None else (self._clock.monotonic_ns() - last_ns) / NS_PER_S,
            rejected=dict(capture.rejected),
            recovery=capture.ladder.current,
            recovery_steps=dict(capture.ladder.counts),
            recovery_failures=dict(capture.ladder.failures),
            notes=capture.notes,
        )

    def _block_status(self, now_ns: int) -> BlockStatus:
        block = self._sampler.block
        following = next_block(now_ns, self.settings.schedule, self.settings.zone)
        day = self.store.coverage_since(now_ns - _DAY_NS)
        return BlockStatus(
            key=None if block is None else block.key,
            accounted=self._sampler.progress if block else 0,
            planned=block.frames if block else 0,
            next_start_utc_ns=None if following is None else following.start_utc_ns,
            captured_24h=day.captured,
            expected_24h=day.expected,
        )

    def _store_status(self) -> StoreStatus:
        counts = self.store.counts()
        return StoreStatus(
            frames=counts.frames,
            part_observations=counts.part_observations,
            events=counts.events,
            outbox=counts.outbox,
            waiting=len(self._samples),
            lost=self._worker.lost_observations,
        )

    def _mqtt_status(self) -> MqttStatus:
        if self._publisher is None:
            return MqttStatus(state="off", broker=None, protocol=None, published=0, last_error=None)
        state = self._publisher.state
        return MqttStatus(
            state="connected" if state.connected else "connecting",
            broker=f"{self.settings.mqtt.host}:{self.settings.mqtt.port}",
            protocol=state.protocol,
            published=state.published,
            last_error=state.last_error,
        )


def animal_statuses(observation: FrameObservation, now_utc_ns: int) -> tuple[AnimalStatus, ...]:
    """The animals of a frame as the status page shows them."""
    age_s = max(0.0, (now_utc_ns - observation.captured_utc_ns) / NS_PER_S)
    statuses = []
    for animal in observation.animals:
        means = {part.part: part.mean_celsius for part in animal.parts}
        statuses.append(
            AnimalStatus(
                animal=animal.animal,
                age_s=age_s,
                head_celsius=means.get(BodyPart.HEAD),
                body_celsius=means.get(BodyPart.BODY),
                tail_celsius=means.get(BodyPart.TAIL),
            )
        )
    return tuple(statuses)


def boot_id() -> str:
    """What the kernel calls this boot; the host's name where there is no such thing."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else socket.gethostname()


def run_service(config: Path, environment: Mapping[str, str]) -> Outcome:
    """Run until stopped; a changed config starts the parts anew, and one that fails to start falls back to the old.

    Raises
    ------
    VivariumError
        If the service cannot start or a part of it fails.
    """
    settings = load_settings(config)
    configure_logging(settings.log)
    manager = ServiceManager(environment.get("NOTIFY_SOCKET"))
    fallback: Settings | None = None
    with Signals() as signals:
        while True:
            try:
                with Service(
                    settings, mqtt_password=environment.get(MQTT_PASSWORD_VARIABLE), manager=manager
                ) as service:
                    logger.info("strong-vivarium %s runs with %s", VERSION, config)
                    fallback = None
                    outcome, new = service.supervise(signals, lambda: load_settings(config))
            except VivariumError as error:  # also a port that is taken, or a database that cannot be opened
                if fallback is None:
                    raise
                logger.error("the new config does not start, back to the old one: %s", error)
                settings, fallback = fallback, None
                configure_logging(settings.log)
                continue
            if outcome is not Outcome.RELOAD:
                return outcome
            settings, fallback = new, service.settings
            configure_logging(settings.log)
