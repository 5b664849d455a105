"""What the messages say: frozen models that become JSON.

Every payload carries `schema`, the version of its shape. A moment stands twice: as ISO 8601 in UTC, to the microsecond,
and as nanoseconds since the Unix epoch. What is not known is null; NaN and infinity never appear. Temperatures are
rounded to a thousandth of a degree, places to a hundredth of a pixel or millimetre; the database keeps the rest.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from daemon.events import Event, EventState, NumberedEvent, Severity, correction_of
from daemon.messaging import topics
from daemon.messaging.outbox import OutboxMessage, Priority
from daemon.minute_value import MinuteValue
from daemon.observation import AnimalObservation, FrameObservation, PartObservation
from daemon.part_uncertainty import part_uncertainty
from daemon.vision.parts import BodyPart
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag

SCHEMA_VERSION: Final = 1

_CELSIUS_DECIMALS = 3
_PLACE_DECIMALS = 2
_SHARE_DECIMALS = 4
_MEASURE_DECIMALS = 4
_NS_PER_US = 1_000

_PART_NAMES: dict[BodyPart, Literal["head", "body", "tail"]] = {
    BodyPart.HEAD: "head",
    BodyPart.BODY: "body",
    BodyPart.TAIL: "tail",
}


def _rounded(decimals: int) -> BeforeValidator:
    def to_finite(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else round(float(value), decimals)

    return BeforeValidator(to_finite)


def _plain(value: str | int | float | bool | None) -> str | int | float | bool | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Celsius = Annotated[float | None, _rounded(_CELSIUS_DECIMALS)]
Place = Annotated[float | None, _rounded(_PLACE_DECIMALS)]
Share = Annotated[float | None, _rounded(_SHARE_DECIMALS)]
Number = Annotated[float | None, _rounded(_MEASURE_DECIMALS)]
Scalar = Annotated[str | int | float | bool | None, BeforeValidator(_plain)]


def iso_utc(utc_ns: int) -> str:
    """ISO 8601 with microseconds and a Z; what is finer than that is cut off.

    Whole numbers throughout: a float of seconds would be wrong by a tenth of a microsecond today.
    """
    seconds, rest_ns = divmod(utc_ns, NS_PER_S)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // _NS_PER_US)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


AnimalNames = Mapping[int, str]
"""Names of the animals by their numbers."""

NO_NAMES: AnimalNames = MappingProxyType({})


class Payload(BaseModel):
    """What every message of the box has."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, serialize_by_alias=True)

    schema_version: Literal[1] = Field(SCHEMA_VERSION, alias="schema")
    """Version of the shape of this message; it rises when a reader would have to change."""

    def to_json(self) -> bytes:
        """The bytes to publish."""
        return self.model_dump_json().encode()


class StatusPayload(Payload):
    """Whether the service is connected to the broker. The broker itself sends the last one when it is not."""

    state: Literal["online", "offline"]
    reason: Literal["started", "reconnected", "stopped", "connection_lost"]
    at: str | None = None
    """Since when; null in the last will, which is written before its time."""
    at_utc_ns: int | None = None


class InfoPayload(Payload):
    """Who publishes here."""

    box: str
    version: str
    """Of the program."""
    started: str
    started_utc_ns: int
    run: int | None
    """Number of the run in the database."""
    config_sha256: str | None
    segmenter: str | None
    """What finds the animals, with its version."""
    camera_kind: str | None
    camera_product: str | None
    camera_serial: str | None
    camera_firmware: str | None
    camera_location: str | None


class PartPayload(BaseModel):
    """One body part of one animal."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    part: Literal["head", "body", "tail"]
    x_px: Place
    """Centroid, column."""
    y_px: Place
    """Centroid, row."""
    x_mm: Place
    y_mm: Place
    area_px: int
    area_mm2: Place
    valid_px: int
    """Pixels that have a temperature; the figures below are theirs."""
    mean_celsius: Celsius
    median_celsius: Celsius
    p95_celsius: Celsius
    min_celsius: Celsius
    max_celsius: Celsius
    uncertainty_celsius: Celsius = None
    """Standard uncertainty of the mean: noise, drift since the calibration, emissivity, size of the part."""


class AnimalInFramePayload(BaseModel):
    """One animal in an observation."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    animal: int | None
    """Its number, from 1; null while it is not known which it is, and for a group."""
    name: str | None = None
    """Its name in the config; null where it has none, or is not known."""
    parts: tuple[PartPayload, ...]
    track: int | None = None
    """What is followed from frame to frame, from 1, unique in a run."""
    probability: Share = None
    """That it is this animal, or, as long as none is named, the likeliest of the candidates; null for a group,
    and where a person has named it."""
    candidates: tuple[int, ...] = ()
    """Animals that it may be; empty where one is named."""
    group: int | None = None
    """Number of the group that this is."""
    correction: int | None = None
    """Number of the correction by which a person says who it is; null where it is the tracker's word."""


class GroupPayload(BaseModel):
    """Animals that cannot be told apart."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    group: int
    """Its number: that of the track which stands for them."""
    members: tuple[int, ...]
    """Animals that may be among them."""
    size: int
    """How many of these are."""
    area_px: int
    mean_celsius: Celsius
    max_celsius: Celsius


class AnimalPayload(Payload):
    """The newest reading of one animal."""

    animal: int
    """Its number, from 1."""
    name: str | None = None
    """Its name in the config; null where it has none."""
    captured: str
    captured_utc_ns: int
    flags: tuple[str, ...]
    parts: tuple[PartPayload, ...]
    correction: int | None = None
    """Number of the correction by which a person says that it is this animal; null where it is the tracker's word."""
    measures: dict[str, Number] | None = None
    """Its measures of the newest finished minute, by name (units at the end of the names); null as a value where too
    little was seen to say anything, null as a whole before the first minute is over."""
    uncertainties: dict[str, Number] | None = None
    """Standard uncertainty of each measure that has one, in its unit."""
    coverages: dict[str, Number] | None = None
    """Share of the samples due that each measure rests on."""
    measures_minute: str | None = None
    """Begin of that minute."""
    measures_minute_utc_ns: int | None = None


class CagePayload(Payload):
    """What the newest finished minute says of the cage as a whole."""

    minute: str
    """Begin of that minute."""
    minute_utc_ns: int
    measures: dict[str, Number]
    """By name; null where too little was seen to say anything."""
    uncertainties: dict[str, Number] = {}
    """Standard uncertainty of each measure that has one, in its unit."""
    coverages: dict[str, Number] = {}
    """Share of the samples due that each measure rests on."""


class ObservationPayload(Payload):
    """One measured frame."""

    sequence: int
    captured: str
    captured_utc_ns: int
    flags: tuple[str, ...]
    """What is to be known before a degree is believed."""
    not_measured: str | None
    """Why there are no animals in it; null when they are what was seen."""
    block: str | None
    """Key of the block that planned this frame."""
    planned: str | None
    planned_utc_ns: int | None
    fpa_celsius: Celsius
    """Temperature of the detector."""
    shutter_celsius: Celsius
    background_celsius: Celsius
    animals: tuple[AnimalInFramePayload, ...]
    groups: tuple[GroupPayload, ...] = ()
    """Those of the animals that lie or meet too closely to be told apart."""


class EventPayload(Payload):
    """Something happened."""

    event_id: str
    """Unique for ever: who sees it twice has seen one event."""
    seq: int
    """Rises by one from event to event of this box, over restarts too: a jump is an event that was not heard, and
    `GET /api/events?after=SEQ` tells it."""
    boot_id: str
    """The boot of the machine that it happened in."""
    kind: str
    state: Literal["opened", "updated", "acknowledged", "closed", "occurred"]
    severity: Literal["notice", "alert", "emergency"]
    at: str
    at_utc_ns: int
    animal: int | None
    """Number of the animal that it is about; null where it is about none."""
    animal_name: str | None = None
    """Its name in the config; null where it has none."""
    opened_event_id: str | None
    """For a condition that is updated, acknowledged or closed: the event that opened it."""
    data: dict[str, Scalar]
    """The evidence: numbers with their units in the names."""


class OpenConditionPayload(BaseModel):
    """A condition that has opened and not closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    event_id: str
    """Of the event that opened it."""
    kind: str
    severity: Literal["notice", "alert", "emergency"]
    animal: int | None
    """Number of the animal that it is about; null where it is about none."""
    animal_name: str | None = None
    """Its name in the config; null where it has none."""
    since: str
    since_utc_ns: int
    correction: int | None = None
    """Number of the correction of identities after which what it rests on is not what it was."""


class AlertPayload(Payload):
    """All conditions that are open now."""

    open: tuple[OpenConditionPayload, ...]
    """Oldest first; empty when all is well."""


class BlockPayload(Payload):
    """A block of the schedule and how much of it was captured."""

    block: str
    """Its key."""
    state: str
    """`open`, or how it ended."""
    start: str
    start_utc_ns: int
    end: str
    end_utc_ns: int
    expected_frames: int
    captured_frames: int
    missing_frames: dict[str, int]
    """Planned moments without a frame, by reason."""
    coverage: Share
    """Captured of expected, 0 to 1; null when nothing was expected."""


class HealthPayload(Payload):
    """How the service does."""

    at: str
    at_utc_ns: int
    last_frame_age_s: Place
    """Since the last good, changing frame; null before the first."""
    coverage: Share
    """Share of the planned moments of the last 24 hours that were captured, 0 to 1; null when none was planned."""
    frames_dropped: int
    """Frames that gave way because measuring was too slow."""
    frames_rejected: dict[str, int]
    """Transfers that were no good frames, by reason."""
    vision: Literal["networks", "thinned", "classical"]
    """What finds the animals: networks, networks on one frame of several, or their warmth alone."""
    vision_degraded: bool
    """Whether that is worse than what the config asks for."""
    outbox_depth: int
    """Events that wait for the broker."""
    outbox_dropped: int
    """Events that gave way to the limit of the outbox."""
    observations_dropped: int
    """Observations that no broker took in time."""
    commands: dict[str, int]
    """Commands that came since the start, and what became of them; see `daemon.messaging.commands.CommandCounts`."""
    no_page: str | None
    """Why there is no status page; null while it is served, or switched off."""


class CommandResultPayload(Payload):
    """What became of a command."""

    verb: str
    request_id: str | None
    """Of the command; null when it has none that could be read."""
    state: Literal["accepted", "done", "refused", "failed"]
    """`accepted` is followed by one of the others."""
    reason: str | None
    """Why not, in one word for programs."""
    message: str | None
    """Why not, in a sentence for people."""
    data: dict[str, Scalar] = {}
    """The state that it led to, or that keeps it from being done: numbers with their units in the names."""
    repeated: bool
    """The command has come before; this is what became of it then."""
    at: str
    at_utc_ns: int


def flag_names(flags: FrameFlag) -> tuple[str, ...]:
    """The flags as lower-case words, in the order of their bits."""
    return tuple(flag.name.lower() for flag in FrameFlag if flag in flags and flag.name)


def status_payload(
    state: Literal["online", "offline"],
    reason: Literal["started", "reconnected", "stopped", "connection_lost"],
    *,
    at_utc_ns: int | None = None,
) -> bytes:
    """For the topic `status`."""
    at = None if at_utc_ns is None else iso_utc(at_utc_ns)
    return StatusPayload(state=state, reason=reason, at=at, at_utc_ns=at_utc_ns).to_json()


def info_payload(
    *,
    box: str,
    version: str,
    started_utc_ns: int,
    run: int | None = None,
    config_sha256: str | None = None,
    segmenter: str | None = None,
    camera: CameraInfo | None = None,
) -> bytes:
    """For the topic `info`; without a camera when none was found yet."""
    return InfoPayload(
        box=box,
        version=version,
        started=iso_utc(started_utc_ns),
        started_utc_ns=started_utc_ns,
        run=run,
        config_sha256=config_sha256,
        segmenter=segmenter,
        camera_kind=camera.kind if camera else None,
        camera_product=camera.product if camera else None,
        camera_serial=camera.serial if camera else None,
        camera_firmware=camera.firmware if camera else None,
        camera_location=camera.location if camera else None,
    ).to_json()


def observation_payload(observation: FrameObservation, names: AnimalNames = NO_NAMES) -> bytes:
    """For the topic `observation`."""
    planned_utc_ns = observation.planned_utc_ns
    return ObservationPayload(
        sequence=observation.sequence,
        captured=iso_utc(observation.captured_utc_ns),
        captured_utc_ns=observation.captured_utc_ns,
        flags=flag_names(observation.flags),
        not_measured=observation.not_measured,
        block=observation.block_key,
        planned=None if planned_utc_ns is None else iso_utc(planned_utc_ns),
        planned_utc_ns=planned_utc_ns,
        fpa_celsius=observation.fpa_celsius,
        shutter_celsius=observation.shutter_celsius,
        background_celsius=observation.background_celsius,
        animals=tuple(
            AnimalInFramePayload(
                animal=animal.animal,
                name=_name(animal.animal, names),
                parts=_parts(animal, observation),
                track=animal.track,
                probability=animal.probability,
                candidates=animal.candidates,
                group=animal.group,
                correction=animal.correction,
            )
            for animal in observation.animals
        ),
        groups=tuple(
            GroupPayload(
                group=group.number,
                members=group.members,
                size=group.size,
                area_px=group.area_px,
                mean_celsius=group.mean_celsius,
                max_celsius=group.max_celsius,
            )
            for group in observation.groups
        ),
    ).to_json()


def animal_payload(
    observation: FrameObservation,
    animal: AnimalObservation,
    minute: Sequence[MinuteValue] = (),
    names: AnimalNames = NO_NAMES,
) -> bytes:
    """For the topic `animal/<id>`: one animal of this observation, and its measures of the newest minute if any.

    Raises
    ------
    ValueError
        If it is not known which animal it is.
    """
    if animal.animal is None:
        raise ValueError(f"track {animal.track} is no known animal")
    minute_utc_ns = minute[0].minute_utc_ns if minute else None
    return AnimalPayload(
        animal=animal.animal,
        name=_name(animal.animal, names),
        captured=iso_utc(observation.captured_utc_ns),
        captured_utc_ns=observation.captured_utc_ns,
        flags=flag_names(observation.flags),
        parts=_parts(animal, observation),
        correction=animal.correction,
        measures={each.measure: each.value for each in minute} if minute else None,
        uncertainties=_uncertainties(minute) if minute else None,
        coverages=_coverages(minute) if minute else None,
        measures_minute=None if minute_utc_ns is None else iso_utc(minute_utc_ns),
        measures_minute_utc_ns=minute_utc_ns,
    ).to_json()


def cage_payload(minute: Sequence[MinuteValue]) -> bytes:
    """For the topic `cage`: what one minute says, at least one value."""
    minute_utc_ns = minute[0].minute_utc_ns
    return CagePayload(
        minute=iso_utc(minute_utc_ns),
        minute_utc_ns=minute_utc_ns,
        measures={each.measure: each.value for each in minute},
        uncertainties=_uncertainties(minute),
        coverages=_coverages(minute),
    ).to_json()


def _uncertainties(minute: Sequence[MinuteValue]) -> dict[str, float | None]:
    return {each.measure: each.uncertainty for each in minute if each.uncertainty is not None}


def _coverages(minute: Sequence[MinuteValue]) -> dict[str, float | None]:
    return {each.measure: each.coverage for each in minute}


def event_payload(numbered: NumberedEvent, names: AnimalNames = NO_NAMES) -> EventPayload:
    """For the topic `event/<kind>`, and for the API."""
    event = numbered.event
    return EventPayload(
        event_id=event.event_id,
        seq=numbered.seq,
        boot_id=numbered.boot_id,
        kind=event.kind.value,
        state=event.state.value,
        severity=event.severity.value,
        at=iso_utc(event.at_utc_ns),
        at_utc_ns=event.at_utc_ns,
        animal=event.animal,
        animal_name=_name(event.animal, names),
        opened_event_id=event.opened_event_id,
        data=dict(event.data),
    )


def alert_payload(opened: Sequence[Event], names: AnimalNames = NO_NAMES) -> bytes:
    """For the topic `alert`: the events that opened what is not closed yet."""
    return AlertPayload(
        open=tuple(
            OpenConditionPayload(
                event_id=event.event_id,
                kind=event.kind.value,
                severity=event.severity.value,
                animal=event.animal,
                animal_name=_name(event.animal, names),
                since=iso_utc(event.at_utc_ns),
                since_utc_ns=event.at_utc_ns,
                correction=correction_of(event),
            )
            for event in opened
        )
    ).to_json()


def event_message(numbered: NumberedEvent, names: AnimalNames = NO_NAMES) -> OutboxMessage:
    """The message to be stored with an event; what opens or closes an alert is never dropped."""
    event = numbered.event
    alarming = event.severity is not Severity.NOTICE or event.state is EventState.CLOSED
    return OutboxMessage(
        topic=topics.event(event.kind),
        payload=event_payload(numbered, names).to_json(),
        created_utc_ns=event.at_utc_ns,
        priority=Priority.ALARM if alarming else Priority.NOTICE,
    )


def block_payload(
    *,
    block: str,
    state: str,
    start_utc_ns: int,
    end_utc_ns: int,
    expected: int,
    captured: int,
    missing_by_reason: Mapping[str, int],
) -> bytes:
    """For the topic `block`."""
    return BlockPayload(
        block=block,
        state=state,
        start=iso_utc(start_utc_ns),
        start_utc_ns=start_utc_ns,
        end=iso_utc(end_utc_ns),
        end_utc_ns=end_utc_ns,
        expected_frames=expected,
        captured_frames=captured,
        missing_frames=dict(sorted(missing_by_reason.items())),
        coverage=captured / expected if expected else None,
    ).to_json()


def health_payload(
    *,
    at_utc_ns: int,
    last_frame_age_s: float | None,
    coverage: float | None,
    frames_dropped: int,
    frames_rejected: Mapping[str, int],
    vision: Literal["networks", "thinned", "classical"],
    vision_degraded: bool,
    outbox_depth: int,
    outbox_dropped: int,
    observations_dropped: int,
    commands: Mapping[str, int],
    no_page: str | None,
) -> bytes:
    """For the topic `health`."""
    return HealthPayload(
        at=iso_utc(at_utc_ns),
        at_utc_ns=at_utc_ns,
        last_frame_age_s=last_frame_age_s,
        coverage=coverage,
        frames_dropped=frames_dropped,
        frames_rejected=dict(sorted(frames_rejected.items())),
        vision=vision,
        vision_degraded=vision_degraded,
        outbox_depth=outbox_depth,
        outbox_dropped=outbox_dropped,
        observations_dropped=observations_dropped,
        commands=dict(sorted(commands.items())),
        no_page=no_page,
    ).to_json()


def _name(animal: int | None, names: AnimalNames) -> str | None:
    return None if animal is None else names.get(animal)


def _parts(animal: AnimalObservation, observation: FrameObservation) -> tuple[PartPayload, ...]:
    return tuple(_part(part, observation) for part in animal.parts)


def _part(part: PartObservation, observation: FrameObservation) -> PartPayload:
    uncertainty = part_uncertainty(part, observation)
    return PartPayload(
        part=_PART_NAMES[part.part],
        x_px=part.x_px,
        y_px=part.y_px,
        x_mm=part.x_mm,
        y_mm=part.y_mm,
        area_px=part.area_px,
        area_mm2=part.area_mm2,
        valid_px=part.valid_px,
        mean_celsius=part.mean_celsius,
        median_celsius=part.median_celsius,
        p95_celsius=part.p95_celsius,
        min_celsius=part.min_celsius,
        max_celsius=part.max_celsius,
        uncertainty_celsius=None if uncertainty is None else uncertainty.total,
    )
