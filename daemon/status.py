"""The state of the whole service in one value: for page, terminal, MQTT and doctor alike."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict

from daemon.events import EventKind, Severity
from daemon.store.retention import GB
from daemon.vision.resilient import MODEL_SLOW


class Verdict(StrEnum):
    """What a technician does next."""

    FINE = "fine"
    LOOK = "look"
    ACT = "act"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


ReasonCode = Literal[
    "open_alert",
    "acknowledged",
    "open_notice",
    "maintenance",
    "camera_lost",
    "camera_note",
    "late_frame",
    "observations_lost",
    "not_stored",
    "not_recorded",
    "not_measured",
    "low_coverage",
    "low_disk",
    "disk_filling",
    "config_damaged",
    "set_aside",
    "networks_away",
    "networks_slow",
    "networks_missing",
    "model_refused",
    "change_waits",
    "no_broker",
    "no_page",
]


class Reason(_Part):
    """Why a verdict is not fine, for a page that speaks several languages."""

    code: ReasonCode
    detail: str
    """What belongs into the sentence: a number, a name, an error; may be empty."""

    def __str__(self) -> str:
        return _REASON_TEXTS[self.code].format(self.detail)


_REASON_TEXTS: dict[ReasonCode, str] = {
    "open_alert": "open alert: {}",
    "acknowledged": "acknowledged, still open: {}",
    "open_notice": "open notice: {}",
    "maintenance": "people work at the cage, no rule is judged: {}",
    "camera_lost": "the camera is lost",
    "camera_note": "camera: {}",
    "late_frame": "the last good frame is {} s old",
    "observations_lost": "{} observations could not be stored",
    "not_stored": "measurements wait in memory, the database cannot be written: {}",
    "not_recorded": "nothing is recorded: {}",
    "not_measured": "frames come but are not measured: {}",
    "low_coverage": "only {} % of the planned frames of the last 24 hours were captured",
    "low_disk": "only {} GB of disk are free, and nothing more may give way",
    "disk_filling": "the disk will be full in {} days, then the oldest recordings give way",
    "config_damaged": "the config cannot be used, the last good one is in force: {}",
    "set_aside": "damaged and set aside: {}",
    "networks_away": "animals are found without the networks: {}",
    "networks_slow": "one frame of {} is measured: the networks are too slow for all",
    "networks_missing": "animals are found by a part of the networks: {}",
    "model_refused": "the networks of the config are refused, the old ones stay in force: {}",
    "change_waits": "other networks or alert rules wait for the database: {}",
    "no_broker": "the broker is not reached",
    "no_page": "there is no status page: {}",
}


class CameraStatus(_Part):
    """The camera."""

    state: Literal["starting", "running", "lost"]
    kind: str
    serial: str | None
    frames_per_second: float
    """Good frames over the last interval."""
    frames: int
    """Good frames since the start."""
    last_good_age_s: float | None
    """Age of the last good, changing frame; None before the first."""
    rejected: dict[str, int]
    """Refused transfers by reason."""
    recovery: str | None = None
    """What was last tried to get it back; None while it is well."""
    recovery_steps: dict[str, int] = {}
    """What was tried since the start, and how often."""
    recovery_failures: dict[str, int] = {}
    """What could not be done, and how often."""
    notes: tuple[str, ...] = ()
    """What the camera's driver has to say, for instance why temperatures are uncertain."""


class BlockStatus(_Part):
    """The schedule."""

    key: str | None
    """Of the open block."""
    accounted: int
    """Planned moments of it that are captured or known to be missing."""
    planned: int
    next_start_utc_ns: int | None
    """Start of the next block."""
    captured_24h: int
    """Planned moments of the last 24 hours that were captured."""
    expected_24h: int


class StoreStatus(_Part):
    """The database."""

    frames: int
    part_observations: int
    events: int
    outbox: int
    waiting: int
    """Frames between capture and database, measured or not."""
    lost: int
    """Observations given up because the database could not be written."""
    write_error: str | None
    """Why the database cannot be written at present."""


class MqttStatus(_Part):
    """The way to the broker."""

    state: Literal["off", "connecting", "connected"]
    broker: str | None
    protocol: str | None
    published: int
    last_error: str | None
    commands: dict[str, int] = {}
    """Commands that came since the start, and what became of them."""


class VisionStatus(_Part):
    """How animals are found."""

    mode: Literal["networks", "thinned", "classical"] = "classical"
    """By the networks, by these on one frame of several, or by their warmth alone."""
    one_frame_of: int = 1
    """One frame of so many is measured."""
    degraded: bool = False
    """Whether that is worse than what the config asks for."""
    reason: str | None = None
    """Why it is not all networks on every frame."""
    left_out: int = 0
    """Frames that could have been measured and were not because the networks are too slow, since the start."""
    segmenter: str = ""
    """Names and versions."""
    models: dict[str, str] = {}
    """SHA-256 of the file of each network, by its kind."""
    provider: Literal["cuda", "cpu"] | None = None
    """What really runs the networks."""
    frame_ms: float | None = None
    """What they take for one frame."""


class AnimalStatus(_Part):
    """The latest of one animal."""

    animal: int
    age_s: float
    head_celsius: float | None
    body_celsius: float | None
    tail_celsius: float | None
    correction: int | None = None
    """Number of the correction by which a person says that it is this animal; None where it is the tracker's word."""


class DiskStatus(_Part):
    """The disk of the data directory, as last looked at."""

    low: bool = False
    """Whether there is less free space than wanted and nothing more may give way."""
    min_free_bytes: int = 0
    recordings_bytes: int = 0
    pinned_bytes: int = 0
    """Of them, what pins keep."""
    freed_recordings: int = 0
    """Recordings that gave way since the database was made."""
    bytes_per_day: float | None = None
    """What a planned day takes, measured; None as long as too little was recorded to say."""
    full_in_days: float | None = None
    """Planned days until only the minimum is free; None when that cannot be told."""
    ballast: bool = False
    """Whether the ballast is in place."""


class OpenEventStatus(_Part):
    """A condition that is open."""

    event_id: str
    kind: str
    rule: str | None
    """Name of the rule; None where there is none but the kind."""
    animal: int | None
    severity: Literal["notice", "alert", "emergency"]
    opened_utc_ns: int
    acknowledged_by: str | None
    evidence: str | None
    """Id of the event that has the newest plot and frames: `/api/evidence/ID/plot`."""
    pictures: tuple[str, ...] = ()
    """Names of these: `plot`, and up to three of `frame_1`."""
    correction: int | None = None
    """Number of the correction of identities after which what it rests on is not what it was."""


class MaintenanceStatus(_Part):
    """What people do at the cage."""

    reason: str
    by: str
    start_utc_ns: int
    end_utc_ns: int
    """When it ends by itself."""


class RuleStatus(_Part):
    """How a rule stands for an animal, or for the cage."""

    rule: str
    animal: int | None
    verdict: Literal["beyond", "between", "back", "cannot_tell", "maintenance"]
    """`cannot_tell` is not fine: too little was seen, or too little is known of the past."""
    open: bool


class Status(_Part):
    """Everything."""

    box: str
    version: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    """Why it is not fine, worst first."""
    uptime_s: float
    camera: CameraStatus
    block: BlockStatus
    animals: tuple[AnimalStatus, ...]
    in_groups: int = 0
    """Animals that lie so closely that they cannot be told apart; none of them is among `animals`."""
    unnamed: int = 0
    """Animals that are told apart, and it is not known which they are; none of them is among `animals`."""
    animal_names: dict[int, str] = {}
    """By number; empty where the config has none."""
    background_celsius: float | None
    store: StoreStatus
    mqtt: MqttStatus
    vision: VisionStatus = VisionStatus()
    recording_error: str | None
    disk_free_bytes: int
    disk: DiskStatus = DiskStatus()
    open_alerts: tuple[str, ...]
    open_events: tuple[OpenEventStatus, ...] = ()
    """All that is open, oldest first."""
    maintenance: tuple[MaintenanceStatus, ...] = ()
    """What people do at the cage just now."""
    rules: tuple[RuleStatus, ...] = ()


FILLING_DAYS = 14.0
"""So long before the first recording gives way somebody is told."""

LATE_FRAME_S = 10.0


LOW_COVERAGE = 0.95
"""Share of the planned moments of a day below which somebody should look why."""


def judge(
    *,
    camera: CameraStatus,
    block: BlockStatus,
    store: StoreStatus,
    mqtt: MqttStatus,
    vision: VisionStatus,
    recording_error: str | None,
    not_measured: str | None,
    disk_free_bytes: int,
    open_alerts: tuple[str, ...],
    disk: DiskStatus,
    notices: tuple[Reason, ...] = (),
    watched: tuple[Reason, ...] = (),
    told: Mapping[str, Severity] = MappingProxyType({}),
) -> tuple[Verdict, tuple[Reason, ...]]:
    """Fine, look or act, with the reasons, worst first.

    `notices` are of the service itself, `watched` is what is open or going on and needs no act, `told` has the
    severities of open events by their kinds: what is a notice needs no act, also where it is said here in words.
    """

    def place(kind: EventKind, *, usually_act: bool = True) -> list[Reason]:
        severity = told.get(kind)
        return act if (usually_act if severity is None else severity is not Severity.NOTICE) else look

    said = {EventKind.CAMERA_LOST.value} if camera.state == "lost" else set()
    said |= {EventKind.DISK_LOW.value} if disk.low else set()
    said |= {EventKind.VISION_DEGRADED.value}  # below, in words, as it is now
    act = [Reason(code="open_alert", detail=alert) for alert in open_alerts if alert not in said]
    act += [notice for notice in notices if notice.code == "config_damaged"]
    look = [notice for notice in notices if notice.code != "config_damaged"]
    look += watched
    if camera.state == "lost":
        place(EventKind.CAMERA_LOST).append(Reason(code="camera_lost", detail=""))
    elif camera.last_good_age_s is not None and camera.last_good_age_s > LATE_FRAME_S:
        act.append(Reason(code="late_frame", detail=f"{camera.last_good_age_s:.0f}"))
    if store.lost:
        act.append(Reason(code="observations_lost", detail=str(store.lost)))
    if store.write_error is not None:
        act.append(Reason(code="not_stored", detail=store.write_error))
    if recording_error is not None:
        act.append(Reason(code="not_recorded", detail=recording_error))
    networks = place(EventKind.VISION_DEGRADED, usually_act=vision.mode == "classical")
    if vision.degraded and vision.mode == "classical":
        networks.append(Reason(code="networks_away", detail=vision.reason or ""))
    elif vision.degraded and vision.mode == "networks":
        networks.append(Reason(code="networks_missing", detail=vision.reason or ""))
    elif vision.degraded:
        networks.append(Reason(code="networks_slow", detail=str(vision.one_frame_of)))
    if not_measured not in (None, MODEL_SLOW):
        look.append(Reason(code="not_measured", detail=not_measured))
    if block.captured_24h < LOW_COVERAGE * block.expected_24h:
        look.append(Reason(code="low_coverage", detail=f"{100 * block.captured_24h / block.expected_24h:.0f}"))
    if disk.low:
        place(EventKind.DISK_LOW).append(Reason(code="low_disk", detail=f"{disk_free_bytes / GB:.1f}"))
    elif disk.full_in_days is not None and disk.full_in_days < FILLING_DAYS and not disk.freed_recordings:
        look.append(Reason(code="disk_filling", detail=f"{disk.full_in_days:.0f}"))
    look += [Reason(code="camera_note", detail=note) for note in camera.notes]
    if mqtt.state == "connecting":
        look.append(Reason(code="no_broker", detail=""))
    verdict = Verdict.ACT if act else Verdict.LOOK if look else Verdict.FINE
    return verdict, (*act, *look)


def status_line(status: Status) -> str:
    """One line for the terminal."""
    block = (
        "no block"
        if status.block.key is None
        else (f"block {status.block.key} {status.block.accounted}/{status.block.planned}")
    )
    return (
        f"{status.verdict} | camera {status.camera.state} {status.camera.frames_per_second:.1f} fps | "
        f"{_vision_words(status.vision)} | {_animal_words(status)} | {block} | "
        f"{status.store.frames} frames stored | mqtt {status.mqtt.state}"
        + ("" if status.disk.full_in_days is None else f" | disk full in {status.disk.full_in_days:.0f} days")
        + (f" | {'; '.join(map(str, status.reasons))}" if status.reasons else "")
    )


def _animal_words(status: Status) -> str:
    words = [
        f"animal {animal.animal}{_named(animal.animal, status)}: "
        + ", ".join(
            f"{name} {celsius:.1f}"
            for name, celsius in (
                ("head", animal.head_celsius),
                ("body", animal.body_celsius),
                ("tail", animal.tail_celsius),
            )
            if celsius is not None
        )
        + " °C"
        for animal in status.animals
    ]
    if status.in_groups:
        words.append(f"{status.in_groups} in a group")
    if status.unnamed:
        words.append(f"{status.unnamed} not known which")
    return "; ".join(words) or "no animal"


def _named(animal: int, status: Status) -> str:
    name = status.animal_names.get(animal)
    return "" if name is None else f" ({name})"


def _vision_words(vision: VisionStatus) -> str:
    if vision.mode == "classical":
        return "no networks"
    took = "" if vision.frame_ms is None else f" {vision.frame_ms:.0f} ms"
    return f"networks on {vision.provider}{took}" + (
        "" if vision.one_frame_of == 1 else f", 1 of {vision.one_frame_of}"
    )
