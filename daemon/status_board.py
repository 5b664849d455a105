"""Reads the state of the running parts into one value."""

import shutil
from collections.abc import Callable, Iterator, Sequence

from daemon.capture import CaptureLoop
from daemon.caretaker import Caretaker
from daemon.events import Event, EventKind, Severity, correction_of
from daemon.evidence import PICTURES
from daemon.handoff import HandOff
from daemon.live import LiveView
from daemon.messaging.commands import CommandCounts
from daemon.messaging.publisher import Publisher
from daemon.observation import FrameObservation
from daemon.open_events import OpenEvent, open_now
from daemon.recorder import BlockRecorder
from daemon.sampling import Item, Sampler
from daemon.schedule import next_block
from daemon.settings import Settings
from daemon.status import (
    AnimalStatus,
    BlockStatus,
    CameraStatus,
    MaintenanceStatus,
    MqttStatus,
    OpenEventStatus,
    Reason,
    RuleStatus,
    Status,
    StoreStatus,
    VisionStatus,
    judge,
)
from daemon.store.repository import Store
from daemon.vision.parts import BodyPart
from daemon.vision.resilient import ResilientSegmenter
from daemon.watching import Watching
from daemon.worker import Worker
from drivers.clock import NS_PER_S, Clock

_DAY_NS = 86_400 * NS_PER_S

_SAID_ELSEWHERE = (EventKind.CAMERA_LOST, EventKind.DISK_LOW, EventKind.VISION_DEGRADED)
"""Parts of the status say these in words, as they are now."""


class StatusBoard:
    """Knows all parts and changes none; may be read from any thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        version: str,
        clock: Clock,
        store: Store,
        capture: CaptureLoop,
        sampler: Sampler,
        samples: HandOff[Item],
        worker: Worker,
        recorder: BlockRecorder | None,
        publisher: Publisher | None,
        commands: CommandCounts,
        live: LiveView,
        caretaker: Caretaker,
        config_problem: str | None,
        segmenter: ResilientSegmenter,
        watching: Watching,
        no_page: Callable[[], str | None],
    ) -> None:
        self.settings = settings
        self._version = version
        self._clock = clock
        self._store = store
        self._capture = capture
        self._sampler = sampler
        self._samples = samples
        self._worker = worker
        self._recorder = recorder
        self._publisher = publisher
        self._commands = commands
        self._live = live
        self._caretaker = caretaker
        self._segmenter = segmenter
        self._watching = watching
        self._no_page = no_page
        self.config_problem = config_problem
        """Why the last good config is in force; None when it is the one that was asked for."""
        self.model_refused: str | None = None
        """Why the networks of the config are not those in force; None when they are."""
        self.change_waits: str | None = None
        """Why a change of networks or rules is not yet in force; None when nothing waits."""
        self._started_monotonic_ns = clock.monotonic_ns()

    def read(self) -> Status:
        """The state of everything, now.

        Raises
        ------
        StoreError
            If the database cannot be read.
        """
        newest = self._live.newest
        observation = None if newest is None else newest[1].observation
        camera, block = self._camera(), self._block()
        store, mqtt, vision = self._storage(), self._mqtt(), self._vision()
        recording_error = self._recorder.failed if self._recorder else None
        not_measured = None if observation is None else observation.not_measured
        disk_free_bytes = shutil.disk_usage(self.settings.box.data_dir).free
        open_events = [
            each for each in open_now(self._store.event_histories()) if each.opened.kind is not EventKind.MAINTENANCE
        ]
        open_alerts = tuple(
            name_of(each)
            for each in open_events
            if each.acknowledged_by is None and each.severity is not Severity.NOTICE
        )
        verdict, reasons = judge(
            camera=camera,
            block=block,
            store=store,
            mqtt=mqtt,
            vision=vision,
            recording_error=recording_error,
            not_measured=not_measured,
            disk_free_bytes=disk_free_bytes,
            open_alerts=open_alerts,
            disk=self._caretaker.status,
            notices=self._notices(),
            watched=(*self._watched(open_events), *self._at_work()),
            told={each.opened.kind: each.severity for each in open_events if each.opened.kind in _SAID_ELSEWHERE},
        )
        return Status(
            box=self.settings.box.name,
            version=self._version,
            verdict=verdict,
            reasons=reasons,
            uptime_s=(self._clock.monotonic_ns() - self._started_monotonic_ns) / NS_PER_S,
            camera=camera,
            block=block,
            animals=() if observation is None else animal_statuses(observation, self._clock.monotonic_ns()),
            in_groups=0 if observation is None else sum(group.size for group in observation.groups),
            unnamed=0 if observation is None else unnamed_animals(observation),
            animal_names=self.settings.animal_names,
            background_celsius=None if observation is None else observation.background_celsius,
            store=store,
            mqtt=mqtt,
            vision=vision,
            recording_error=recording_error,
            disk_free_bytes=disk_free_bytes,
            disk=self._caretaker.status,
            open_alerts=open_alerts,
            open_events=tuple(map(_open_event, open_events)),
            maintenance=tuple(
                MaintenanceStatus(
                    reason=each.reason, by=each.by, start_utc_ns=each.start_utc_ns, end_utc_ns=each.end_utc_ns
                )
                for each in self._watching.maintenance
            ),
            rules=tuple(
                RuleStatus(
                    rule=each.rule,
                    animal=each.animal,
                    verdict=each.verdict.value,
                    open=each.open_event_id is not None,
                )
                for each in self._watching.standing
            ),
        )

    @staticmethod
    def _watched(open_events: Sequence[OpenEvent]) -> Iterator[Reason]:
        """What is open and needs no act: somebody knows of it, or it is a notice."""
        for each in open_events:
            if each.opened.kind in _SAID_ELSEWHERE:
                continue
            if each.acknowledged_by is not None:
                yield Reason(code="acknowledged", detail=name_of(each))
            elif each.severity is Severity.NOTICE:
                yield Reason(code="open_notice", detail=name_of(each))

    def _at_work(self) -> Iterator[Reason]:
        for each in self._watching.maintenance:
            yield Reason(code="maintenance", detail=each.reason)

    def _notices(self) -> tuple[Reason, ...]:
        """What was found at the start or since; what was set aside is said for a day, the event of it stays."""
        problem = self.config_problem
        notices = [] if problem is None else [Reason(code="config_damaged", detail=problem)]
        if self.model_refused is not None:
            notices.append(Reason(code="model_refused", detail=self.model_refused))
        if self.change_waits is not None:
            notices.append(Reason(code="change_waits", detail=self.change_waits))
        if (why := self._no_page()) is not None:
            notices.append(Reason(code="no_page", detail=why))
        if self._clock.monotonic_ns() - self._started_monotonic_ns < _DAY_NS:
            notices += [Reason(code="set_aside", detail=each) for each in self._caretaker.set_aside]
        return tuple(notices)

    def _camera(self) -> CameraStatus:
        capture, newest = self._capture, self._live.newest
        last_ns = capture.last_good_monotonic_ns
        return CameraStatus(
            state="lost" if capture.lost else "starting" if last_ns is None else "running",
            kind=self.settings.camera.kind,
            serial=None if newest is None else newest[0].metadata.serial,
            frames_per_second=capture.frames_per_second,
            frames=capture.frames,
            last_good_age_s=None if last_ns is None else (self._clock.monotonic_ns() - last_ns) / NS_PER_S,
            rejected=dict(capture.rejected),
            recovery=capture.ladder.current,
            recovery_steps=dict(capture.ladder.counts),
            recovery_failures=dict(capture.ladder.failures),
            notes=capture.notes,
        )

    def _block(self) -> BlockStatus:
        now_ns, block = self._clock.utc_ns(), self._sampler.block
        following = next_block(now_ns, self.settings.schedule, self.settings.zone)
        day = self._store.coverage_since(now_ns - _DAY_NS)
        return BlockStatus(
            key=None if block is None else block.key,
            accounted=self._sampler.progress if block else 0,
            planned=block.frames if block else 0,
            next_start_utc_ns=None if following is None else following.start_utc_ns,
            captured_24h=day.captured,
            expected_24h=day.expected,
        )

    def _storage(self) -> StoreStatus:
        counts = self._store.counts()
        return StoreStatus(
            frames=counts.frames,
            part_observations=counts.part_observations,
            events=counts.events,
            outbox=counts.outbox,
            waiting=len(self._samples) + self._worker.waiting,
            lost=self._worker.lost_observations,
            write_error=self._worker.write_error,
        )

    def _vision(self) -> VisionStatus:
        segmenter = self._segmenter
        state, networks, cost_s = segmenter.state, segmenter.networks, segmenter.cost_s
        return VisionStatus(
            mode=state.mode.value,
            one_frame_of=state.every,
            degraded=state.degraded,
            reason=state.reason,
            left_out=segmenter.left_out_frames,
            segmenter=segmenter.name,
            models={} if networks is None else networks.hashes,
            provider=None if networks is None else networks.provider,
            frame_ms=None if cost_s is None else 1000 * cost_s,
        )

    def _mqtt(self) -> MqttStatus:
        if self._publisher is None:
            return MqttStatus(state="off", broker=None, protocol=None, published=0, last_error=None)
        state, mqtt = self._publisher.state, self.settings.mqtt
        return MqttStatus(
            state="connected" if state.connected else "connecting",
            broker=f"{mqtt.host}:{mqtt.port}",
            protocol=state.protocol,
            published=state.published,
            last_error=state.last_error,
            commands=self._commands(),
        )


def name_of(found: OpenEvent) -> str:
    """What is open, in one word for the page, and the animal that it is about."""
    rule = found.opened.data.get("rule")
    name = rule if isinstance(rule, str) else found.opened.kind.value
    return name if found.opened.animal is None else f"{name} (animal {found.opened.animal})"


def _open_event(found: OpenEvent) -> OpenEventStatus:
    rule = found.opened.data.get("rule")
    pictured = found.newest if _pictures(found.newest) else found.opened
    return OpenEventStatus(
        event_id=found.opened.event_id,
        kind=found.opened.kind.value,
        rule=rule if isinstance(rule, str) else None,
        animal=found.opened.animal,
        severity=found.severity.value,
        opened_utc_ns=found.opened.at_utc_ns,
        acknowledged_by=found.acknowledged_by,
        correction=correction_of(found.opened),
        evidence=pictured.event_id if _pictures(pictured) else None,
        pictures=_pictures(pictured),
    )


def _pictures(event: Event) -> tuple[str, ...]:
    return tuple(name for name in PICTURES if name in event.data)


def animal_statuses(observation: FrameObservation, now_monotonic_ns: int) -> tuple[AnimalStatus, ...]:
    """The animals of a frame as the status page shows them."""
    age_s = (now_monotonic_ns - observation.captured_monotonic_ns) / NS_PER_S
    statuses = []
    for animal in observation.animals:
        if animal.animal is None:
            continue
        means = {part.part: part.mean_celsius for part in animal.parts}
        statuses.append(
            AnimalStatus(
                animal=animal.animal,
                age_s=age_s,
                head_celsius=means.get(BodyPart.HEAD),
                body_celsius=means.get(BodyPart.BODY),
                tail_celsius=means.get(BodyPart.TAIL),
                correction=animal.correction,
            )
        )
    return tuple(statuses)


def unnamed_animals(observation: FrameObservation) -> int:
    """How many of a frame are told apart, and it is not known which they are."""
    return sum(animal.animal is None and animal.group is None for animal in observation.animals)
