"""The service: the only place where its parts are put together."""

import importlib.metadata
import logging
import platform
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from enum import Enum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from daemon.ad_hoc import AdHocRecordings, left_open
from daemon.cameras import camera_device, camera_opener
from daemon.capture import CaptureLoop, CaptureSettings
from daemon.caretaker import Caretaker
from daemon.correction_commands import CorrectionCommands
from daemon.credentials import mqtt_password
from daemon.current_run import CurrentRun, boot_id
from daemon.earlier_life import EarlierLife, damage_at_start
from daemon.event_commands import EventCommands
from daemon.evidence import EvidenceFiles
from daemon.handoff import HandOff
from daemon.health import (
    CARETAKER_STALLED_AFTER_S,
    PUBLISHER_STALLED_AFTER_S,
    RECORDER_STALLED_AFTER_S,
    SCHEDULE_STALLED_AFTER_S,
    STALLED_AFTER_S,
    Heartbeats,
    Progress,
    ServiceManager,
)
from daemon.heap import give_back_memory
from daemon.heartbeat import Heartbeat
from daemon.last_good import LastGoodConfig
from daemon.live import LiveView
from daemon.lock import DataDirectoryLock
from daemon.logs import configure_logging
from daemon.maintenance import in_words
from daemon.messaging import topics
from daemon.messaging.announcer import MqttAnnouncer, Silence
from daemon.messaging.broker import EmbeddedBroker
from daemon.messaging.commands import CommandCounts, CommandDesk, Inbox
from daemon.messaging.discovery import birth_topic, discovery_payload, discovery_topic
from daemon.messaging.payloads import health_payload, info_payload
from daemon.messaging.probes import ProbeReadings
from daemon.messaging.publisher import Publisher
from daemon.messaging.verbs import SetPayload, make_verbs
from daemon.minute_value import MinuteValue
from daemon.minute_values import MINUTE_NS, REMEMBERED_MINUTES, collector_of
from daemon.networks import Networks, Preparation
from daemon.open_events import open_now, opened_now
from daemon.opencv import one_thread
from daemon.order import Order, OrderSlot
from daemon.order import Outcome as OrderOutcome
from daemon.pipeline import Pipeline, nests_of
from daemon.present_block import go_on_with_block
from daemon.recorder import BlockRecorder
from daemon.reference import References
from daemon.reload import NOT_READY, Reloader, first_networks
from daemon.remembered import remembered
from daemon.remote_settings import SettingOrder, changed
from daemon.rules import AlertRules
from daemon.sampling import Item, Sampler, carry_out, may_be_lost, overrun, told_together
from daemon.schedule import check_plan, next_block
from daemon.settings import Settings, load_settings
from daemon.signals import Signals
from daemon.snapshot import Snapshots
from daemon.status import Status, status_line
from daemon.status_board import StatusBoard
from daemon.store.repository import open_store
from daemon.threads import LAST_CHANCE_S, ServiceThreads
from daemon.timetable import Timetable, TimetableKeeper
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.resilient import ResilientSegmenter
from daemon.vision_events import VisionEvents
from daemon.watching import Watching
from daemon.web.api import SharedStatus, create_api
from daemon.web.server import WebServer
from daemon.worker import SERVICE_DOWN, Worker, void
from drivers.camera import CameraInfo, ThermalCamera
from drivers.clock import NS_PER_S, Clock, SystemClock
from drivers.errors import ConfigError, StoreError, VivariumError

logger = logging.getLogger(__name__)

VERSION = importlib.metadata.version("strong-vivarium")

SAMPLES_WAITING = 128
"""Samples that may wait to be measured: two minutes at 1 fps, 38 MB (a frame with its transfer is 297 kB).
At the camera's full rate it is five seconds: a disk that is busy can keep a commit for longer than one.
"""

RECORDS_WAITING = 100
"""Samples that may wait for the disk: 30 MB, four seconds at the camera's full rate, a hundred at 1 fps."""

TICK_S = 1.0
SOON_S = 0.1
"""A tick while networks are made ready: who gave the command waits."""

STATUS_INTERVAL_S = 10.0
TRIM_INTERVAL_S = 60.0
"""How often memory that was dropped is given back to the system."""


class ServiceError(VivariumError):
    """A part of the service has failed and only a restart helps."""


class Outcome(Enum):
    """Why the service ended."""

    STOPPED = "stopped"
    RELOAD = "reload"
    MATERIAL_OVER = "material_over"


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
    heartbeat : Heartbeat
        A sign of life for the dead-man script; none when left out.
    open_camera : callable
        Makes a closed camera, in place of the one that the settings name.
    config_problem : str, optional
        Why these settings are the last good ones, and not those of the config.
    on_reloaded : callable
        Told when a changed config is in force without a restart of the parts.
    networks : Networks, optional
        Warm, from the service before; what the settings name is loaded when left out.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        mqtt_password: str | None = None,
        clock: Clock | None = None,
        manager: ServiceManager | None = None,
        heartbeat: Heartbeat | None = None,
        open_camera: Callable[[], AbstractContextManager[ThermalCamera]] | None = None,
        config_problem: str | None = None,
        on_reloaded: Callable[[], None] = lambda: None,
        networks: Networks | None = None,
    ) -> None:
        self._first_settings = settings
        self._config_problem = config_problem
        self._on_reloaded = on_reloaded
        self._first_networks = networks
        self._may_measure = threading.Event()
        self._reloader: Reloader | None = None
        self._password = mqtt_password
        self._clock = clock or SystemClock()
        self._manager = manager or ServiceManager(None)
        self._heartbeat = heartbeat
        self._open_camera = open_camera or camera_opener(settings.camera, self._clock, state_dir=settings.camera_dir)
        self._camera_device = None if open_camera else camera_device(settings.camera)
        self._stack = ExitStack()
        self._threads = ServiceThreads(self._clock)
        self._stalled: list[str] = []
        self.live = LiveView(lambda: in_words(self._watching.maintenance, self.settings.zone))
        self._publisher: Publisher | None = None
        self._commands = CommandCounts()
        self._inbox = Inbox(self._commands)
        self._reload_order = OrderSlot()
        self._announcer: MqttAnnouncer | Silence = Silence()
        self._web: WebServer | None = None

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._first_settings if self._reloader is None else self._reloader.settings

    @property
    def networks(self) -> Networks | None:
        """Those in force; None before they are ready."""
        networks = None if self._reloader is None else self._reloader.in_force
        return None if networks is None or networks.why_none == NOT_READY else networks

    @property
    def handed_over(self) -> Networks | None:
        """What the next service starts with after `Outcome.RELOAD`."""
        return None if self._reloader is None else self._reloader.handed_over

    @property
    def web_port(self) -> int | None:
        """Where the status page is, or is to be; None when it is off."""
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

    def await_threads(self) -> None:
        """After exit, before another service starts in this process: two at a time would be in each other's way.

        Raises
        ------
        ServiceError
            If threads still run: nothing but a new process ends them.
        """
        left = self._threads.await_end()
        if left:
            raise ServiceError(f"does not stop: {', '.join(left)}; start the service anew")

    def _start(self) -> None:
        settings, clock = self.settings, self._clock
        self._started_utc_ns = clock.utc_ns()
        check_plan(settings.schedule)
        try:
            settings.box.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"box.data_dir: {settings.box.data_dir} cannot be made: {error.strerror}") from error
        self._stack.enter_context(one_thread())
        self._stack.enter_context(DataDirectoryLock(settings.box.data_dir))
        first = first_networks(settings, self._first_networks)  # while the database is opened and capture begins
        self._first_networks = None  # else it would hold them when others are in force
        self._stack.callback(first.end, LAST_CHANCE_S)
        self._earlier_life = EarlierLife(settings, started_utc_ns=self._started_utc_ns)
        self._earlier_life.give_way_if_full()
        self.store = self._stack.enter_context(
            open_store(settings.database_url, outbox_limit=settings.mqtt.outbox_limit, clock=clock)
        )
        last_seen_ns = self.store.last_sign_of_life_utc_ns()
        classical = ClassicalSegmenter(animals=settings.animal_count, min_area_px=settings.measure.min_area_px)
        self._segmenter = self._stack.enter_context(ResilientSegmenter(None, classical, clock=clock, why=NOT_READY))
        self._run = CurrentRun(self.store, clock, version=VERSION, fallback=classical.name)
        self._run.begin(settings, at_utc_ns=self._started_utc_ns)
        self._stack.callback(self._run.end)
        self._earlier_life.tidy_up(self.store, now_ns=clock.utc_ns(), run_id=self._run.id, last_seen_ns=last_seen_ns)
        self._start_heartbeats()
        self._start_messaging()
        self._start_consumers()
        self._start_caretaker()
        self._start_capture()
        self._start_schedule()
        self._start_commands()
        self._board = StatusBoard(
            settings,
            version=VERSION,
            clock=clock,
            store=self.store,
            capture=self._capture,
            sampler=self._sampler,
            samples=self._samples,
            worker=self._worker,
            recorder=self._recorder,
            publisher=self._publisher,
            commands=self._commands,
            live=self.live,
            caretaker=self._caretaker,
            config_problem=self._config_problem,
            segmenter=self._segmenter,
            watching=self._watching,
            no_page=self._no_page,
        )
        self._start_web()
        self._reloader = self._stack.enter_context(self._make_reloader(first))
        self._reloader.warm_up()
        self._may_measure.set()

    def _make_reloader(self, first: Preparation) -> Reloader:
        return Reloader(
            self.settings,
            first=first,
            run=self._run,
            segmenter=self._segmenter,
            worker=self._worker,
            keeper=self._keeper,
            caretaker=self._caretaker,
            board=self._board,
            clock=self._clock,
            tell=self._manager.tell,
            changed=lambda: self._publish_info(self._capture.camera_info),
            on_reloaded=self._on_reloaded,
        )

    def _start_heartbeats(self) -> None:
        patience_s = {
            "capture": STALLED_AFTER_S,
            "worker": STALLED_AFTER_S,
            "schedule": SCHEDULE_STALLED_AFTER_S,
            "caretaker": CARETAKER_STALLED_AFTER_S,
        }
        if self.settings.recording.enabled:
            patience_s["recorder"] = RECORDER_STALLED_AFTER_S
        if self.settings.mqtt.enabled:
            patience_s["publisher"] = PUBLISHER_STALLED_AFTER_S
            if self.settings.mqtt.commands:
                patience_s["commands"] = STALLED_AFTER_S
                patience_s["snapshots"] = RECORDER_STALLED_AFTER_S
        self._beats = Heartbeats(patience_s, self._clock)
        self._measuring, self._storing = Progress(self._clock), Progress(self._clock)

    def _start_messaging(self) -> None:
        mqtt = self.settings.mqtt
        self._probes = ProbeReadings(each.topic for each in self.settings.reference if each.topic is not None)
        if not mqtt.enabled:
            return
        if mqtt.broker == "embedded":
            self._stack.enter_context(
                EmbeddedBroker(mqtt.host, mqtt.port, username=mqtt.username, password=self._password)
            )
        self._publisher = self._stack.enter_context(
            Publisher(
                mqtt,
                password=self._password,
                box=self.settings.box.name,
                store=self.store,
                clock=self._clock,
                beat=partial(self._beats.beat, "publisher"),
                on_command=self._inbox.put if mqtt.commands else None,
                probes=self._probes,
                birth_topic=birth_topic(mqtt) if mqtt.home_assistant else None,
            )
        )
        self._announcer = MqttAnnouncer(
            self._publisher, lambda: opened_now(self.store.event_histories()), self.settings.animal_names
        )
        self._publish_info()

    def _publish_info(self, camera: CameraInfo | None = None) -> None:
        if self._publisher is not None:
            info = info_payload(
                box=self.settings.box.name,
                version=VERSION,
                started_utc_ns=self._started_utc_ns,
                run=self._run.id,
                config_sha256=self.settings.config_hash(),
                segmenter=self._segmenter.name,
                camera=camera,
            )
            self._publisher.set_retained(topics.INFO, info)
            if self.settings.mqtt.home_assistant:
                self._publisher.set_retained_elsewhere(
                    discovery_topic(self.settings), discovery_payload(self.settings, version=VERSION, camera=camera)
                )

    def _start_consumers(self) -> None:
        settings, clock = self.settings, self._clock
        still_open = self.store.open_events()
        self._watching = Watching(settings)
        pipeline = Pipeline(
            self._segmenter,
            animals=settings.animal_count,
            mm_per_px=settings.measure.mm_per_px,
            left_out=self._segmenter.left_out,
            references=References(settings.reference, self._probes.celsius),
            nests=nests_of(settings.zones),
        )
        known = remembered(self.store, animals=settings.animal_count, clock=clock)
        pipeline.restore(known)
        minutes = collector_of(
            lambda: self.settings, earlier=self._earlier_minutes(), maintenance=lambda: self._watching.stretches
        )
        self._worker = Worker(
            pipeline=pipeline,
            minutes=minutes,
            vision=VisionEvents(lambda: self._segmenter.state, lambda: self._segmenter.numbers),
            rules=AlertRules(
                settings.frame_alerts,
                animals=settings.animal_count,
                still_open=open_now(self.store.event_histories()),
                sample_interval_s=settings.measure.outside_interval_s,
                cools=self._watching.severities.cools,
            ),
            store=self.store,
            run_id=self._run.id,
            clock=clock,
            announcer=self._announcer,
            commit_interval_s=settings.database.commit_interval_s,
            on_measured=self.live.show,
            beat=partial(self._beats.beat, "worker"),
            watching=self._watching,
            names=settings.animal_names,
        )
        self._worker.restore(still_open)
        if settings.zones:
            go_on_with_block(minutes, self.store, animals=settings.animal_count, numbers_go_on=bool(known))
        self._event_commands = EventCommands(
            worker=self._worker, watching=self._watching, store=self.store, clock=clock
        )
        self._correction_commands = CorrectionCommands(
            worker=self._worker,
            watching=self._watching,
            store=self.store,
            settings=lambda: self.settings,
            run_id=lambda: self._run.id,
            told=self._announcer.events_stored,
            clock=clock,
        )
        self._samples: HandOff[Item] = HandOff(SAMPLES_WAITING, may_be_lost, overrun, told_together)
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
                beat=partial(self._beats.beat, "recorder"),
            )
            for block in self._earlier_life.ended_blocks:
                recorder.pass_block(block, SERVICE_DOWN)
            records: HandOff[Item] = HandOff(RECORDS_WAITING, may_be_lost, overrun, told_together)
            self._recorder = recorder
            self._thread("recorder", lambda: recorder.run(records), records.close)
            sinks.append(lambda item: void(records.put(item)))
        # After the recorder, and so ended before it: a recording can be entered when its block has been.
        self._thread("worker", self._measure, self._stop_measuring)
        self._sampler = Sampler(sinks, outside_rate_hz=settings.measure.outside_rate_hz)

    def _measure(self) -> None:
        """What capture brings before the networks are ready waits in the hand-off."""
        self._may_measure.wait()
        self._worker.run(self._samples)

    def _stop_measuring(self) -> None:
        self._samples.close()
        self._may_measure.set()

    def _earlier_minutes(self) -> list[MinuteValue]:
        """What the measures of several minutes look back on."""
        now_ns = self._clock.utc_ns()
        return list(self.store.minute_values(since_utc_ns=now_ns - REMEMBERED_MINUTES * MINUTE_NS, until_utc_ns=now_ns))

    def _start_caretaker(self) -> None:
        self._caretaker = Caretaker(
            self.settings,
            store=self.store,
            clock=self._clock,
            run_id=lambda: self._run.id,
            told=self._announcer.events_stored,
            set_aside_before=self._earlier_life.set_aside_before,
            still_open=open_now(self.store.event_histories()),
            first_events=damage_at_start(
                self.store, self._config_problem, now_ns=self._clock.utc_ns(), config_sha256=self.settings.config_hash()
            ),
            freed_at_start=self._earlier_life.freed,
            beat=partial(self._beats.beat, "caretaker"),
            evidence=self._watching.folder,
            severities=self._watching.severities_of_disk,
        )
        self._thread("caretaker", self._caretaker.run, self._caretaker.stop)

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
            beat=partial(self._beats.beat, "capture"),
            device=self._camera_device,
            next_block=self._next_block_utc_ns,
        )
        self._thread("capture", self._capture.run, self._capture.stop)

    def _next_block_utc_ns(self, utc_ns: int) -> int | None:
        following = next_block(utc_ns, self.settings.schedule, self.settings.zone)
        return None if following is None else following.start_utc_ns

    def _start_schedule(self) -> None:
        self._timetable = Timetable(
            self.settings.schedule,
            self.settings.zone,
            accounted_until_utc_ns=self.store.accounted_until(),
            resumed=left_open(self.store.open_blocks(), self._started_utc_ns),
            is_finished=self._is_finished,
        )
        self._keeper = self._stack.enter_context(
            TimetableKeeper(
                self._timetable,
                self._clock,
                lambda changes: carry_out(changes, self._sampler),
                beat=partial(self._beats.beat, "schedule"),
            )
        )

    def _is_finished(self, key: str) -> bool:
        """Whether a block is over; a database that cannot be read keeps no block from being captured."""
        try:
            return self.store.is_finished(key)
        except StoreError as error:
            logger.error("block %s is taken for a new one: %s", key, error)
            return False

    def _start_commands(self) -> None:
        if self._publisher is None or not self.settings.mqtt.commands:
            return
        recordings = AdHocRecordings(
            self._keeper,
            settings=lambda: self.settings,
            open_block=lambda: self._sampler.block,
            obstacle=self._no_recording_because,
            clock=self._clock,
        )
        snapshots = Snapshots(
            self.settings.box.data_dir / "snapshots",
            box=self.settings.box.name,
            live=self.live,
            take_one=self._sampler.take_one,
            obstacle=self._no_file_because,
            clock=self._clock,
            names=self.settings.animal_names,
            beat=partial(self._beats.beat, "snapshots"),
        )
        self._thread("snapshots", snapshots.run, snapshots.stop)
        desk = CommandDesk(
            make_verbs(
                {
                    "calibrate": lambda _payload, order: self._capture.order_calibration(order),
                    "reload": lambda _payload, order: self._order_reload(order),
                    "record": lambda payload, order: recordings.record(
                        duration_s=payload.duration_s, rate_hz=payload.rate_hz, order=order
                    ),
                    "stop": lambda _payload, order: recordings.stop(order),
                    "snapshot": lambda _payload, order: snapshots.place(order),
                    "acknowledge": self._event_commands.acknowledge,
                    "maintenance": self._event_commands.maintenance,
                    "correction": self._correction_commands.take_over,
                },
                self._order_setting,
            ),
            box=self.settings.box.name,
            inbox=self._inbox,
            counts=self._commands,
            publish=self._publisher.publish_result,
            clock=self._clock,
            beat=partial(self._beats.beat, "commands"),
        )
        self._thread("commands", desk.run, desk.stop)

    def _order_reload(self, order: Order) -> None:
        if not self._reload_order.place(order):
            order.answer(OrderOutcome("refused", "busy", "the config is about to be read"))

    def _order_setting(self, key: str, payload: SetPayload, order: Order) -> None:
        try:
            changed(self.settings, key, payload.value)
        except ConfigError as error:
            order.answer(OrderOutcome("refused", "invalid", str(error)))
            return
        self._order_reload(SettingOrder(order, key=key, value=payload.value))

    def _no_file_because(self) -> tuple[str, str] | None:
        """Why there is no frame that could be kept, or no room to keep it."""
        if self._capture.lost or self._capture.camera_info is None:
            return "camera_lost", "there is no camera at present"
        if self._caretaker.status.low:
            return "disk_low", "there is too little free space on the disk"
        return None

    def _no_recording_because(self) -> tuple[str, str] | None:
        if self._recorder is None:
            return "recording_disabled", "recording.enabled = false in the config: nothing is recorded"
        if self._recorder.failed is not None:
            return "disk", f"nothing can be recorded at present: {self._recorder.failed}"
        return self._no_file_because()

    def _start_web(self) -> None:
        if self.settings.web.enabled:
            api = create_api(
                SharedStatus(self.status, self._clock),
                self.live.picture,
                lambda seq, limit: self.store.events_after(seq, limit=limit),
                evidence=EvidenceFiles(self.settings.box.data_dir),
                commands=self._event_commands if self.settings.web.commands else None,
                names=self.settings.animal_names,
            )
            self._web = self._stack.enter_context(
                WebServer(api, host=self.settings.web.host, port=self.settings.web.port)
            )

    def _no_page(self) -> str | None:
        return None if self._web is None else self._web.why_none

    def _thread(self, name: str, work: Callable[[], None], stop: Callable[[], None]) -> None:
        """Run a part in its own thread; on exit it is asked to stop and waited for."""
        self._stack.callback(self._threads.start(name, work, stop))

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
        reloader = self._reloader
        if reloader is None:
            raise ServiceError("the service has not been started")
        self._manager.tell(READY=1, STATUS="starting")
        next_status_ns = self._clock.monotonic_ns()
        next_trim_ns = next_status_ns + round(TRIM_INTERVAL_S * NS_PER_S)
        while True:
            if signals.stop:
                self._manager.tell(STOPPING=1)
                return Outcome.STOPPED, self.settings
            order, new = self._reload_order.take(), None
            if signals.reload or order is not None:
                if isinstance(order, SettingOrder):
                    new = reloader.request(partial(order.apply, self.settings), order, from_file=False)
                else:
                    signals.reload = False
                    new = reloader.request(load, order or Order())
            new = new or reloader.step()
            if new is not None:
                return Outcome.RELOAD, new
            failed = self._threads.failed or self._dead()
            if failed:
                raise ServiceError(f"failed: {', '.join(failed)}")
            if self._capture.ended.is_set() and not len(self._samples):
                return Outcome.MATERIAL_OVER, self.settings
            self._feed_watchdog()
            self._give_sign_of_life()
            now_ns = self._clock.monotonic_ns()
            if now_ns >= next_status_ns:
                next_status_ns = now_ns + round(STATUS_INTERVAL_S * NS_PER_S)
                self._report()
            if now_ns >= next_trim_ns:
                next_trim_ns = now_ns + round(TRIM_INTERVAL_S * NS_PER_S)
                give_back_memory()
            signals.wait(SOON_S if reloader.busy else TICK_S)

    def _dead(self) -> list[str]:
        """Threads that have ended though nobody asked them to: nothing but a new process brings them back."""
        ended = self._threads.ended
        if self._capture.ended.is_set():  # as it should with material that is over
            ended = [name for name in ended if name != "capture"]
        if self._publisher is not None and not self._publisher.alive:
            ended.append("publisher")
        if self._web is not None and not self._web.alive:
            ended.append("web")
        return [f"the {name} thread has died" for name in ended]

    def _feed_watchdog(self) -> None:
        """Tell the service manager that all is in motion; not a word while a part is stuck, and it starts us anew.

        A database or a disk that refuses is no standstill: it is tried again and again.
        """
        stalled = self._beats.stalled()
        if self._measuring.stalled(done=self._worker.measured_frames, waiting=len(self._samples)):
            stalled.append("measuring")
        if self._storing.stalled(done=self._worker.write_attempts, waiting=self._worker.writes_waiting):
            stalled.append("storing")
        if not stalled:
            self._manager.tell(WATCHDOG=1)
        elif stalled != self._stalled:
            logger.error("no progress: %s", ", ".join(stalled))
        self._stalled = stalled

    def _give_sign_of_life(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.write(
                now_monotonic_ns=self._clock.monotonic_ns(),
                last_good_monotonic_ns=self._capture.last_good_monotonic_ns,
                stalled=self._stalled,
            )

    def _report(self) -> None:
        """Tell terminal, service manager and broker how it stands."""
        try:
            status, outbox_dropped = self.status(), self.store.outbox_dropped()
        except (StoreError, OSError) as error:
            logger.error("the state of the service cannot be read: %s", error)
            return
        line = status_line(status)
        logger.info("%s", line)
        self._manager.tell(STATUS=line)
        self._publish_info(self._capture.camera_info)
        self._announcer.events_stored()
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
                    vision=status.vision.mode,
                    vision_degraded=status.vision.degraded,
                    outbox_depth=status.store.outbox,
                    outbox_dropped=outbox_dropped,
                    observations_dropped=self._publisher.state.dropped,
                    commands=self._commands(),
                    no_page=self._no_page(),
                ),
            )

    def status(self) -> Status:
        """The state of everything, now. From any thread."""
        return self._board.read()


def run_service(
    config: Path,
    environment: Mapping[str, str],
    *,
    heartbeat_path: Path | None = None,
    last_good: Path | None = None,
) -> Outcome:
    """Run until stopped; a changed config starts the parts anew, and one that fails to start falls back to the old.

    Parameters
    ----------
    config : Path
        The config file.
    environment : mapping of str to str
        For the password of the broker and the socket of the service manager.
    heartbeat_path : Path, optional
        A file that tells the dead-man script that the service lives.
    last_good : Path, optional
        A copy of the config is kept there, and used at a start when the config itself is damaged.

    Raises
    ------
    VivariumError
        If the service cannot start or a part of it fails.
    """
    kept = LastGoodConfig(config, last_good)
    settings, problem = kept.load()
    configure_logging(settings.log)
    manager = ServiceManager(environment.get("NOTIFY_SOCKET"))
    heartbeat = None if heartbeat_path is None else Heartbeat(heartbeat_path, version=VERSION)
    fallback: Settings | None = None
    networks: Networks | None = None
    networks_before: Networks | None = None
    service: Service | None = None
    with Signals() as signals:
        while True:
            if service is not None:
                service.await_threads()
            try:
                service = Service(
                    settings,
                    mqtt_password=mqtt_password(environment, config),
                    manager=manager,
                    heartbeat=heartbeat,
                    config_problem=problem,
                    on_reloaded=kept.keep,
                    networks=networks,
                )
                with service:
                    if problem is None:
                        kept.keep()
                        logger.info("strong-vivarium %s runs with %s", VERSION, config)
                    else:
                        logger.error("%s; strong-vivarium %s runs with %s", problem, VERSION, last_good)
                    fallback = networks = networks_before = None
                    outcome, new = service.supervise(signals, lambda: load_settings(config))
            except VivariumError as error:  # also a broker's port that is taken, or a database that cannot be opened
                if fallback is None and problem is None and isinstance(error, ConfigError):
                    fallback = _other(kept.settings(), settings)
                if fallback is None:
                    raise
                problem = str(error)
                logger.error("the new config does not start, back to the old one: %s", error)
                settings, fallback, networks = fallback, None, networks_before
                configure_logging(settings.log)
                continue
            if outcome is not Outcome.RELOAD:
                return outcome
            settings, fallback, problem = new, service.settings, None
            networks, networks_before = service.handed_over, service.networks
            configure_logging(settings.log)


def _other(settings: Settings | None, refused: Settings) -> Settings | None:
    """Settings that are not those that were refused."""
    return None if settings == refused else settings
