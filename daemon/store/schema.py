"""The tables.

Conventions: times are UTC nanoseconds since the Unix epoch, whole numbers; what is not known is NULL, never a number
that means it; closed sets are text with a CHECK. Text, integers, doubles and blobs are all the types there are, so the
same schema serves SQLite and PostgreSQL. In SQLite the tables are STRICT: without it a NumPy integer is stored as a
blob, unnoticed.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Named,
    Table,
    Text,
    TypedColumns,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects.sqlite import REAL

from daemon.events import EventState, Severity
from daemon.identity_correction import CorrectionKind
from daemon.maintenance import Reason as MaintenanceReason
from daemon.vision.parts import BodyPart
from drivers.t2s_protocol import Variant

Whole = BigInteger().with_variant(Integer, "sqlite")
"""64 bits everywhere; SQLite wants the word INTEGER for a key that counts by itself."""


class _KnownOrNull(TypeDecorator[float]):
    """A double that is never NaN: SQLite stores NULL for it, PostgreSQL a number above all others."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """NULL for what is not known."""
        return None if value is None or value != value else value


Real: Double[float] = Double().with_variant(REAL, "sqlite").with_variant(_KnownOrNull(), "postgresql")

STRICT: dict[str, Any] = {"sqlite_strict": True}

CLUSTERED: dict[str, Any] = {"sqlite_strict": True, "sqlite_with_rowid": False}
"""Rows lie in the order of the primary key, without a second tree for it."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class BlockState(StrEnum):
    """Where a block is in its life."""

    OPEN = "open"
    FINISHED = "finished"
    MISSED = "missed"
    """Over, and nothing of it was captured."""


class RecordingState(StrEnum):
    """What may be expected of a recording's file."""

    UNFINISHED = "unfinished"
    """The disk did not let it be closed: still `NAME.part.mkv`, to be closed at the next start."""
    COMPLETE = "complete"
    RECOVERED = "recovered"
    """Left over from a crash and closed at the next start."""
    DAMAGED = "damaged"
    FREED = "freed"
    """Given up for room on the disk, or found missing: the row and the sidecar stay."""


def one_of(column: str, values: type[StrEnum]) -> str:
    """SQL that holds when the column has one of the values."""
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


def both_or_none(first: str, second: str) -> str:
    """SQL that holds when both columns are NULL, or none of them."""
    return f"({first} IS NULL) = ({second} IS NULL)"


class _Run(TypedColumns):
    """One life of the service, from start to stop. Without an end it still runs, or died."""

    id: Named[int] = Column(Whole, primary_key=True)
    version: Named[str] = Column(Text)
    config_hash: Named[str] = Column(Text)
    config_json: Named[str] = Column(Text)
    segmenter: Named[str] = Column(Text)
    models_json: Named[str] = Column(Text)
    host: Named[str] = Column(Text)
    boot_id: Named[str] = Column(Text)
    started_utc_ns: Named[int] = Column(Whole)
    ended_utc_ns: Named[int | None] = Column(Whole)
    end_reason: Named[str | None] = Column(Text)


run = Table(
    "run",
    metadata,
    _Run,
    CheckConstraint(both_or_none("ended_utc_ns", "end_reason"), name="end"),
    **STRICT,
)


class _Camera(TypedColumns):
    """A camera as it presented itself; the same values are the same row."""

    id: Named[int] = Column(Whole, primary_key=True)
    kind: Named[str] = Column(Text)
    product: Named[str] = Column(Text)
    serial: Named[str] = Column(Text)
    firmware: Named[str] = Column(Text)
    location: Named[str] = Column(Text)
    variant: Named[str] = Column(Text)
    frame_rate_hz: Named[float] = Column(Real)


camera = Table(
    "camera",
    metadata,
    _Camera,
    UniqueConstraint("kind", "product", "serial", "firmware", "location", "variant", "frame_rate_hz", name="uq_camera"),
    CheckConstraint(one_of("variant", Variant), name="variant"),
    **STRICT,
)


class _Calibration(TypedColumns):
    """What turned counts into degrees, field by field `drivers.thermometry.Calibration`."""

    id: Named[int] = Column(Whole, primary_key=True)
    camera_id: Named[int] = Column(Whole, ForeignKey("camera.id"))
    reference_count: Named[int] = Column(Whole)
    a: Named[float] = Column(Real)
    b: Named[float] = Column(Real)
    ka: Named[float] = Column(Real)
    kb: Named[float] = Column(Real)
    kc: Named[float] = Column(Real)
    shutter_celsius: Named[float] = Column(Real)
    fpa_celsius: Named[float] = Column(Real)
    correction_celsius: Named[float] = Column(Real)
    reflected_celsius: Named[float] = Column(Real)
    air_celsius: Named[float] = Column(Real)
    humidity: Named[float] = Column(Real)
    emissivity: Named[float] = Column(Real)
    distance_m: Named[float] = Column(Real)


CALIBRATION_VALUES = (
    "camera_id",
    "shutter_celsius",
    "fpa_celsius",
    "reference_count",
    "a",
    "b",
    "ka",
    "kb",
    "kc",
    "correction_celsius",
    "reflected_celsius",
    "air_celsius",
    "humidity",
    "emissivity",
    "distance_m",
)
"""Two calibrations that agree in all of these are one."""

calibration = Table(
    "calibration", metadata, _Calibration, UniqueConstraint(*CALIBRATION_VALUES, name="uq_calibration"), **STRICT
)


class _Block(TypedColumns):
    """One stretch of the sampling plan. Its planned moments are start + k * period, for k below `expected`."""

    id: Named[int] = Column(Whole, primary_key=True)
    run_id: Named[int] = Column(Whole, ForeignKey("run.id"))
    key: Named[str] = Column(Text)
    stratum: Named[str] = Column(Text)
    day: Named[str] = Column(Text)
    """Local date it belongs to, ISO 8601."""
    start_utc_ns: Named[int] = Column(Whole)
    end_utc_ns: Named[int] = Column(Whole)
    period_ns: Named[int] = Column(Whole)
    expected: Named[int] = Column(Whole)
    state: Named[str] = Column(Text)
    captured: Named[int | None] = Column(Whole)
    missing: Named[int | None] = Column(Whole)
    opened_utc_ns: Named[int] = Column(Whole)
    finished_utc_ns: Named[int | None] = Column(Whole)


block = Table(
    "block",
    metadata,
    _Block,
    UniqueConstraint("key"),
    CheckConstraint(one_of("state", BlockState), name="state"),
    CheckConstraint("end_utc_ns > start_utc_ns", name="end"),
    CheckConstraint("period_ns > 0", name="period"),
    CheckConstraint("expected > 0", name="expected"),
    CheckConstraint(
        "(state = 'open' AND captured IS NULL AND missing IS NULL AND finished_utc_ns IS NULL)"
        " OR (state <> 'open' AND captured >= 0 AND missing >= 0 AND captured + missing = expected"
        " AND finished_utc_ns IS NOT NULL)",
        name="accounted",
    ),
    CheckConstraint("state <> 'missed' OR captured = 0", name="missed"),
    Index("ix_block_end_utc_ns", "end_utc_ns"),
    **STRICT,
)


class _Frame(TypedColumns):
    """One measured frame."""

    id: Named[int] = Column(Whole, primary_key=True)
    run_id: Named[int] = Column(Whole, ForeignKey("run.id"))
    camera_id: Named[int] = Column(Whole, ForeignKey("camera.id"))
    calibration_id: Named[int] = Column(Whole, ForeignKey("calibration.id"))
    sequence: Named[int] = Column(Whole)
    captured_utc_ns: Named[int] = Column(Whole)
    captured_monotonic_ns: Named[int] = Column(Whole)
    """Comparable within one boot of one host only; the run names both."""
    flags: Named[int] = Column(Whole)
    """Sum of `drivers.frame.FrameFlag`."""
    fpa_celsius: Named[float] = Column(Real)
    shutter_celsius: Named[float] = Column(Real)
    background_celsius: Named[float | None] = Column(Real)
    not_measured: Named[str | None] = Column(Text)
    """Why nothing was measured; NULL when the part observations are what was seen."""
    segmenter: Named[str | None] = Column(Text)
    """What found the animals in this frame: the run's networks, or what stands in for them. NULL where nothing was
    measured, and in rows from before revision 0003: then it may have been either."""


frame = Table(
    "frame",
    metadata,
    _Frame,
    CheckConstraint("sequence >= 0", name="sequence"),
    CheckConstraint("flags >= 0", name="flags"),
    Index("ix_frame_captured_utc_ns", "captured_utc_ns"),
    **STRICT,
)


class _PlannedSample(TypedColumns):
    """What became of one planned moment: a frame stands for it, or it is missing because ..."""

    block_id: Named[int] = Column(Whole, ForeignKey("block.id"), primary_key=True)
    planned_utc_ns: Named[int] = Column(Whole, primary_key=True)
    frame_id: Named[int | None] = Column(Whole, ForeignKey("frame.id"))
    missing_reason: Named[str | None] = Column(Text)


planned_sample = Table(
    "planned_sample",
    metadata,
    _PlannedSample,
    UniqueConstraint("frame_id"),
    CheckConstraint("(frame_id IS NULL) <> (missing_reason IS NULL)", name="captured_xor_missing"),
    CheckConstraint("missing_reason <> ''", name="reason"),
    **CLUSTERED,
)

_FIGURES = ("mean_celsius", "median_celsius", "p95_celsius", "min_celsius", "max_celsius")


class _PartObservation(TypedColumns):
    """One body part of one animal in one frame."""

    frame_id: Named[int] = Column(Whole, ForeignKey("frame.id"), primary_key=True)
    subject: Named[int] = Column(Whole, primary_key=True)
    """What tells the animals of a frame apart: the track, or the animal's number where nothing was followed, as before
    revision 0006."""
    part: Named[int] = Column(Whole, primary_key=True)
    animal: Named[int | None] = Column(Whole)
    """NULL while it is not known which it is, and for a group."""
    x_px: Named[float] = Column(Real)
    y_px: Named[float] = Column(Real)
    x_mm: Named[float | None] = Column(Real)
    y_mm: Named[float | None] = Column(Real)
    area_px: Named[int] = Column(Whole)
    area_mm2: Named[float | None] = Column(Real)
    valid_px: Named[int] = Column(Whole)
    mean_celsius: Named[float | None] = Column(Real)
    median_celsius: Named[float | None] = Column(Real)
    p95_celsius: Named[float | None] = Column(Real)
    min_celsius: Named[float | None] = Column(Real)
    max_celsius: Named[float | None] = Column(Real)


part_observation = Table(
    "part_observation",
    metadata,
    _PartObservation,
    CheckConstraint("subject >= 1", name="subject"),
    CheckConstraint("animal >= 1", name="animal"),
    CheckConstraint(f"part IN ({', '.join(str(part.value) for part in BodyPart)})", name="part"),
    CheckConstraint("area_px >= 0", name="area_px"),
    CheckConstraint("area_mm2 >= 0", name="area_mm2"),
    CheckConstraint("valid_px >= 0 AND valid_px <= area_px", name="valid_px"),
    CheckConstraint(both_or_none("x_mm", "y_mm"), name="mm"),
    CheckConstraint(
        f"(valid_px = 0 AND {' AND '.join(f'{name} IS NULL' for name in _FIGURES)})"
        f" OR (valid_px > 0 AND {' AND '.join(f'{name} IS NOT NULL' for name in _FIGURES)})",
        name="figures",
    ),
    CheckConstraint("min_celsius <= max_celsius", name="range"),
    **CLUSTERED,
)


class _ShapeObservation(TypedColumns):
    """How one animal holds itself in one frame, and how much of each part lies on its outline."""

    frame_id: Named[int] = Column(Whole, ForeignKey("frame.id"), primary_key=True)
    subject: Named[int] = Column(Whole, primary_key=True)
    """As in `part_observation`."""
    nose_x_px: Named[float | None] = Column(Real)
    nose_y_px: Named[float | None] = Column(Real)
    length_px: Named[float | None] = Column(Real)
    curl: Named[float | None] = Column(Real)
    head_outline_px: Named[int | None] = Column(Whole)
    body_outline_px: Named[int | None] = Column(Whole)
    tail_outline_px: Named[int | None] = Column(Whole)


shape_observation = Table(
    "shape_observation",
    metadata,
    _ShapeObservation,
    CheckConstraint("subject >= 1", name="subject"),
    CheckConstraint("curl >= 0 AND curl <= 1", name="curl"),
    CheckConstraint(
        " AND ".join(both_or_none("length_px", name) for name in ("curl", "nose_x_px", "nose_y_px")), name="posture"
    ),
    **CLUSTERED,
)


class _IdentityObservation(TypedColumns):
    """Who one track is in one frame, and how sure that is."""

    frame_id: Named[int] = Column(Whole, ForeignKey("frame.id"), primary_key=True)
    track: Named[int] = Column(Whole, primary_key=True)
    """Unique in a run."""
    animal: Named[int | None] = Column(Whole)
    probability: Named[float | None] = Column(Real)
    """Posterior of the animal, or of the likeliest candidate; NULL for a group."""
    candidates: Named[str] = Column(Text)
    """Numbers with commas between them; empty where an animal is named."""
    group_size: Named[int | None] = Column(Whole)
    """How many animals it is; NULL for one."""
    group_area_px: Named[int | None] = Column(Whole)
    group_mean_celsius: Named[float | None] = Column(Real)
    group_max_celsius: Named[float | None] = Column(Real)
    correction_id: Named[int | None] = Column(Whole)
    """The newest correction by which a person changed this row; NULL where it is the tracker's word. No foreign key:
    a column that has one cannot be added to a large table without copying it."""
    doubts: Named[int | None] = Column(Whole)
    """How often the track may have changed places with another since it began; NULL where nobody counted."""


identity_observation = Table(
    "identity_observation",
    metadata,
    _IdentityObservation,
    CheckConstraint("animal >= 1", name="animal"),
    CheckConstraint("probability >= 0 AND probability <= 1", name="probability"),
    CheckConstraint("group_size >= 2", name="group_size"),
    CheckConstraint("animal IS NULL OR (candidates = '' AND group_size IS NULL)", name="known"),
    CheckConstraint(both_or_none("group_size", "group_area_px"), name="group"),
    **CLUSTERED,
)


class _IdentityCorrection(TypedColumns):
    """What a person said about who is who, from a moment on: a `daemon.identity_correction.Correction`."""

    id: Named[int] = Column(Whole, primary_key=True)
    kind: Named[str] = Column(Text)
    animal: Named[int | None] = Column(Whole)
    """Of a swap the first animal; of an assignment who it is, NULL for nobody who is known."""
    other: Named[int | None] = Column(Whole)
    """Of a swap the second animal."""
    track: Named[int | None] = Column(Whole)
    """Of an assignment the `subject` that it is about."""
    run_id: Named[int] = Column(Whole, ForeignKey("run.id"))
    """The run of the first frame that it is about."""
    from_utc_ns: Named[int] = Column(Whole)
    until_utc_ns: Named[int | None] = Column(Whole)
    """NULL: as long as the tracks of that start of the service go on."""
    by_whom: Named[str] = Column(Text)
    reason: Named[str] = Column(Text)
    made_utc_ns: Named[int] = Column(Whole)
    stored_until_utc_ns: Named[int] = Column(Whole)
    """Frames before this are corrected in the database; those after it by the service, once it was told."""
    minutes_from_utc_ns: Named[int] = Column(Whole)
    """Minutes from this one on..."""
    minutes_until_utc_ns: Named[int] = Column(Whole)
    """...up to before this one were computed anew; what they were is in `minute_before`."""
    told_utc_ns: Named[int | None] = Column(Whole)
    """When the running service took it over; NULL where it was not told, or none ran."""
    undone_utc_ns: Named[int | None] = Column(Whole)
    undone_by: Named[str | None] = Column(Text)
    doubts: Named[int | None] = Column(Whole)
    """Of an assignment that holds as long as the track stays the same animal: `doubts` of the track when it begins."""
    said: Named[int | None] = Column(Whole)
    """Likewise: who it was said to be then; NULL for nobody who was known."""


identity_correction = Table(
    "identity_correction",
    metadata,
    _IdentityCorrection,
    CheckConstraint(one_of("kind", CorrectionKind), name="kind"),
    CheckConstraint("animal >= 1", name="animal"),
    CheckConstraint(
        "(kind = 'swap' AND animal IS NOT NULL AND other IS NOT NULL AND animal <> other AND track IS NULL)"
        " OR (kind = 'assign' AND other IS NULL AND track IS NOT NULL)",
        name="what",
    ),
    CheckConstraint("until_utc_ns > from_utc_ns", name="until"),
    CheckConstraint("by_whom <> ''", name="by_whom"),
    CheckConstraint(both_or_none("undone_utc_ns", "undone_by"), name="undone"),
    **STRICT,
)


class _IdentityBefore(TypedColumns):
    """What a correction changed: a stretch of frames in which one track was said to be the same all along."""

    correction_id: Named[int] = Column(Whole, ForeignKey("identity_correction.id"), primary_key=True)
    subject: Named[int] = Column(Whole, primary_key=True)
    first_frame_id: Named[int] = Column(Whole, ForeignKey("frame.id"), primary_key=True)
    last_frame_id: Named[int] = Column(Whole, ForeignKey("frame.id"))
    followed: Named[int] = Column(Whole)
    """0 where nothing was followed: the row in `identity_observation` came with the correction."""
    animal: Named[int | None] = Column(Whole)
    probability: Named[float | None] = Column(Real)
    candidates: Named[str] = Column(Text)
    before_correction_id: Named[int | None] = Column(Whole, ForeignKey("identity_correction.id"))


identity_before = Table(
    "identity_before",
    metadata,
    _IdentityBefore,
    CheckConstraint("last_frame_id >= first_frame_id", name="last"),
    CheckConstraint("followed IN (0, 1)", name="followed"),
    **CLUSTERED,
)


class _CorrectedEvent(TypedColumns):
    """An event that rests on data which a correction changed."""

    event_id: Named[int] = Column(Whole, ForeignKey("event.id"), primary_key=True)
    correction_id: Named[int] = Column(Whole, ForeignKey("identity_correction.id"), primary_key=True)


corrected_event = Table("corrected_event", metadata, _CorrectedEvent, **CLUSTERED)


class _SceneObservation(TypedColumns):
    """What one frame says beside its animals; frames about which there is nothing to say have no row."""

    frame_id: Named[int] = Column(Whole, ForeignKey("frame.id"), primary_key=True)
    nest_celsius: Named[float | None] = Column(Real)
    reference_offset_celsius: Named[float | None] = Column(Real)
    """What was added to each of the frame's degrees."""
    reference_uncertainty_celsius: Named[float | None] = Column(Real)


scene_observation = Table(
    "scene_observation",
    metadata,
    _SceneObservation,
    CheckConstraint(both_or_none("reference_offset_celsius", "reference_uncertainty_celsius"), name="reference"),
    **CLUSTERED,
)


class _MinuteValue(TypedColumns):
    """One measure over one minute: a `daemon.minute_value.MinuteValue`."""

    minute_utc_ns: Named[int] = Column(Whole, primary_key=True)
    animal: Named[int] = Column(Whole, primary_key=True)
    """0 for the cage: part of the key, which cannot be NULL."""
    measure: Named[str] = Column(Text, primary_key=True)
    run_id: Named[int] = Column(Whole, ForeignKey("run.id"))
    value: Named[float | None] = Column(Real)
    """NULL where too little was seen to say anything."""
    uncertainty: Named[float | None] = Column(Real)
    coverage: Named[float] = Column(Real)
    samples: Named[int] = Column(Whole)


minute_value = Table(
    "minute_value",
    metadata,
    _MinuteValue,
    CheckConstraint("minute_utc_ns % 60000000000 = 0", name="minute"),
    CheckConstraint("animal >= 0", name="animal"),
    CheckConstraint("coverage >= 0 AND coverage <= 1", name="coverage"),
    CheckConstraint("samples >= 0", name="samples"),
    CheckConstraint("uncertainty >= 0", name="uncertainty"),
    Index("ix_minute_value_measure", "measure", "animal", "minute_utc_ns"),
    **CLUSTERED,
)


class _MinuteBefore(TypedColumns):
    """A `minute_value` as it was before a correction."""

    correction_id: Named[int] = Column(Whole, ForeignKey("identity_correction.id"), primary_key=True)
    minute_utc_ns: Named[int] = Column(Whole, primary_key=True)
    animal: Named[int] = Column(Whole, primary_key=True)
    measure: Named[str] = Column(Text, primary_key=True)
    run_id: Named[int] = Column(Whole, ForeignKey("run.id"))
    value: Named[float | None] = Column(Real)
    uncertainty: Named[float | None] = Column(Real)
    coverage: Named[float] = Column(Real)
    samples: Named[int] = Column(Whole)


minute_before = Table("minute_before", metadata, _MinuteBefore, **CLUSTERED)


class _Recording(TypedColumns):
    """A file of raw transfers; a block has several when writing was interrupted."""

    id: Named[int] = Column(Whole, primary_key=True)
    block_id: Named[int] = Column(Whole, ForeignKey("block.id"))
    path: Named[str] = Column(Text)
    sha256: Named[str | None] = Column(Text)
    frames: Named[int] = Column(Whole)
    size_bytes: Named[int] = Column(Whole)
    """Of a freed one: the size that it had."""
    state: Named[str] = Column(Text)
    freed_utc_ns: Named[int | None] = Column(Whole)
    freed_reason: Named[str | None] = Column(Text)
    """A `daemon.store.retention.Why`."""


recording = Table(
    "recording",
    metadata,
    _Recording,
    UniqueConstraint("path"),
    CheckConstraint(one_of("state", RecordingState), name="state"),
    CheckConstraint("frames >= 0", name="frames"),
    CheckConstraint("size_bytes >= 0", name="size_bytes"),
    CheckConstraint("length(sha256) = 64", name="sha256"),
    CheckConstraint("(state = 'unfinished') = (sha256 IS NULL)", name="unfinished"),
    CheckConstraint("(state = 'freed') = (freed_utc_ns IS NOT NULL)", name="freed"),
    CheckConstraint(both_or_none("freed_utc_ns", "freed_reason"), name="freed_reason"),
    Index("ix_recording_block_id", "block_id"),
    **STRICT,
)


class _Pin(TypedColumns):
    """What of a study is kept whatever the disk needs: one block, or all blocks of some local days."""

    id: Named[int] = Column(Whole, primary_key=True)
    name: Named[str] = Column(Text)
    """Of the study; several rows may share it."""
    reason: Named[str] = Column(Text)
    created_utc_ns: Named[int] = Column(Whole)
    block_key: Named[str | None] = Column(Text)
    """No foreign key: a block may be pinned before it begins."""
    first_day: Named[str | None] = Column(Text)
    """Local date, ISO 8601."""
    last_day: Named[str | None] = Column(Text)


pin = Table(
    "pin",
    metadata,
    _Pin,
    CheckConstraint("name <> ''", name="name"),
    CheckConstraint("(block_key IS NULL) <> (first_day IS NULL)", name="block_xor_days"),
    CheckConstraint(both_or_none("first_day", "last_day"), name="days"),
    CheckConstraint("first_day <= last_day", name="order"),
    Index("ix_pin_name", "name"),
    **STRICT,
)


class _Event(TypedColumns):
    """One change worth telling."""

    id: Named[int] = Column(Whole, primary_key=True)
    event_id: Named[str] = Column(Text)
    run_id: Named[int] = Column(Whole, ForeignKey("run.id"))
    kind: Named[str] = Column(Text)
    state: Named[str] = Column(Text)
    severity: Named[str] = Column(Text)
    at_utc_ns: Named[int] = Column(Whole)
    animal: Named[int | None] = Column(Whole)
    data_json: Named[str] = Column(Text)
    opened_event_id: Named[str | None] = Column(Text)
    """No foreign key: the opening may lie in a database that was set aside; its end is stored all the same."""


event = Table(
    "event",
    metadata,
    _Event,
    UniqueConstraint("event_id"),
    CheckConstraint(one_of("state", EventState), name="state"),
    CheckConstraint(one_of("severity", Severity), name="severity"),
    CheckConstraint("animal >= 1", name="animal"),
    CheckConstraint("state IN ('updated', 'acknowledged', 'closed') OR opened_event_id IS NULL", name="closed"),
    Index("ix_event_state", "state"),
    Index("ix_event_opened_event_id", "opened_event_id"),
    **STRICT,
)


class _Maintenance(TypedColumns):
    """A stretch in which people work at the cage: its minutes count for no rule and no statistics."""

    event_id: Named[str] = Column(Text, primary_key=True)
    """Of the event that tells of its begin. No foreign key: as `event.opened_event_id`."""
    reason: Named[str] = Column(Text)
    start_utc_ns: Named[int] = Column(Whole)
    end_utc_ns: Named[int] = Column(Whole)
    """When it ends, or ended."""
    by_whom: Named[str] = Column(Text)
    note: Named[str] = Column(Text)


maintenance = Table(
    "maintenance",
    metadata,
    _Maintenance,
    CheckConstraint(one_of("reason", MaintenanceReason), name="reason"),
    CheckConstraint("end_utc_ns >= start_utc_ns", name="end"),
    CheckConstraint("by_whom <> ''", name="by_whom"),
    Index("ix_maintenance_start_utc_ns", "start_utc_ns"),
    **CLUSTERED,
)


class _Outbox(TypedColumns):
    """Messages that the broker has not acknowledged."""

    id: Named[int] = Column(Whole, primary_key=True)
    topic: Named[str] = Column(Text)
    payload: Named[bytes] = Column(LargeBinary)
    priority: Named[int] = Column(Whole)
    created_utc_ns: Named[int] = Column(Whole)


outbox = Table(
    "outbox",
    metadata,
    _Outbox,
    Index("ix_outbox_priority_id", "priority", "id"),
    # Acknowledged rows are deleted; the publisher's "everything after id" needs numbers that never come again.
    sqlite_autoincrement=True,
    **STRICT,
)


class _DeadLetter(TypedColumns):
    """Messages of the outbox that cannot be sent because they cannot be read; kept as the bytes that were found."""

    id: Named[int] = Column(Whole, primary_key=True)
    topic: Named[bytes] = Column(LargeBinary)
    payload: Named[bytes] = Column(LargeBinary)
    created_utc_ns: Named[int] = Column(Whole)
    set_aside_utc_ns: Named[int] = Column(Whole)
    reason: Named[str] = Column(Text)


dead_letter = Table("dead_letter", metadata, _DeadLetter, **STRICT)


class _Counter(TypedColumns):
    """What has been counted since the database was made."""

    name: Named[str] = Column(Text, primary_key=True)
    value: Named[int] = Column(Whole)


counter = Table("counter", metadata, _Counter, CheckConstraint("value >= 0", name="value"), **CLUSTERED)


class _Gap(TypedColumns):
    """A stretch without frames: the camera was lost or the service down.

    Without an end it lasts, or lasted when the service died. The end may lie before the start: clocks are set back.
    """

    id: Named[int] = Column(Whole, primary_key=True)
    run_id: Named[int] = Column(Whole, ForeignKey("run.id"))
    start_utc_ns: Named[int] = Column(Whole)
    end_utc_ns: Named[int | None] = Column(Whole)
    end_run_id: Named[int | None] = Column(Whole, ForeignKey("run.id"))
    reason: Named[str] = Column(Text)


gap = Table(
    "gap",
    metadata,
    _Gap,
    CheckConstraint(both_or_none("end_utc_ns", "end_run_id"), name="end"),
    **STRICT,
)
