"""The first tables.

What a revision has made stays as it is written here, whatever `daemon.store.schema` becomes. There is no way down: the
way back is the copy that `daemon.store.upgrade` makes before it changes anything.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.Double[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "camera",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("firmware", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("frame_rate_hz", REAL, nullable=False),
        sa.CheckConstraint("variant IN ('v1', 'v2')", name=op.f("ck_camera_variant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_camera")),
        sa.UniqueConstraint(
            "kind", "product", "serial", "firmware", "location", "variant", "frame_rate_hz", name="uq_camera"
        ),
        sqlite_strict=True,
    )
    op.create_table(
        "counter",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", WHOLE, nullable=False),
        sa.CheckConstraint("value >= 0", name=op.f("ck_counter_value")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counter")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outbox",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("priority", WHOLE, nullable=False),
        sa.Column("created_utc_ns", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index("ix_outbox_priority_id", "outbox", ["priority", "id"], unique=False)
    op.create_table(
        "run",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("config_hash", sa.Text(), nullable=False),
        sa.Column("config_json", sa.Text(), nullable=False),
        sa.Column("segmenter", sa.Text(), nullable=False),
        sa.Column("models_json", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("started_utc_ns", WHOLE, nullable=False),
        sa.Column("ended_utc_ns", WHOLE, nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("(ended_utc_ns IS NULL) = (end_reason IS NULL)", name=op.f("ck_run_end")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sqlite_strict=True,
    )
    op.create_table(
        "block",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("run_id", WHOLE, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("stratum", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("start_utc_ns", WHOLE, nullable=False),
        sa.Column("end_utc_ns", WHOLE, nullable=False),
        sa.Column("period_ns", WHOLE, nullable=False),
        sa.Column("expected", WHOLE, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("captured", WHOLE, nullable=True),
        sa.Column("missing", WHOLE, nullable=True),
        sa.Column("opened_utc_ns", WHOLE, nullable=False),
        sa.Column("finished_utc_ns", WHOLE, nullable=True),
        sa.CheckConstraint(
            "(state = 'open' AND captured IS NULL AND missing IS NULL AND finished_utc_ns IS NULL) OR (state <>"
            " 'open' AND captured >= 0 AND missing >= 0 AND captured + missing = expected AND finished_utc_ns IS NOT"
            " NULL)",
            name=op.f("ck_block_accounted"),
        ),
        sa.CheckConstraint("state <> 'missed' OR captured = 0", name=op.f("ck_block_missed")),
        sa.CheckConstraint("state IN ('open', 'finished', 'missed')", name=op.f("ck_block_state")),
        sa.CheckConstraint("end_utc_ns > start_utc_ns", name=op.f("ck_block_end")),
        sa.CheckConstraint("expected > 0", name=op.f("ck_block_expected")),
        sa.CheckConstraint("period_ns > 0", name=op.f("ck_block_period")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_block_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_block")),
        sa.UniqueConstraint("key", name=op.f("uq_block_key")),
        sqlite_strict=True,
    )
    op.create_index("ix_block_end_utc_ns", "block", ["end_utc_ns"], unique=False)
    op.create_table(
        "calibration",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("camera_id", WHOLE, nullable=False),
        sa.Column("reference_count", WHOLE, nullable=False),
        sa.Column("a", REAL, nullable=False),
        sa.Column("b", REAL, nullable=False),
        sa.Column("ka", REAL, nullable=False),
        sa.Column("kb", REAL, nullable=False),
        sa.Column("kc", REAL, nullable=False),
        sa.Column("shutter_celsius", REAL, nullable=False),
        sa.Column("fpa_celsius", REAL, nullable=False),
        sa.Column("correction_celsius", REAL, nullable=False),
        sa.Column("reflected_celsius", REAL, nullable=False),
        sa.Column("air_celsius", REAL, nullable=False),
        sa.Column("humidity", REAL, nullable=False),
        sa.Column("emissivity", REAL, nullable=False),
        sa.Column("distance_m", REAL, nullable=False),
        sa.ForeignKeyConstraint(["camera_id"], ["camera.id"], name=op.f("fk_calibration_camera_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibration")),
        sa.UniqueConstraint(
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
            name="uq_calibration",
        ),
        sqlite_strict=True,
    )
    op.create_table(
        "event",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("run_id", WHOLE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("at_utc_ns", WHOLE, nullable=False),
        sa.Column("animal", WHOLE, nullable=True),
        sa.Column("data_json", sa.Text(), nullable=False),
        sa.Column("opened_event_id", sa.Text(), nullable=True),
        sa.CheckConstraint("severity IN ('notice', 'alert', 'emergency')", name=op.f("ck_event_severity")),
        sa.CheckConstraint("state = 'closed' OR opened_event_id IS NULL", name=op.f("ck_event_closed")),
        sa.CheckConstraint("state IN ('opened', 'closed', 'occurred')", name=op.f("ck_event_state")),
        sa.CheckConstraint("animal >= 1", name=op.f("ck_event_animal")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_event_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sa.UniqueConstraint("event_id", name=op.f("uq_event_event_id")),
        sqlite_strict=True,
    )
    op.create_index("ix_event_opened_event_id", "event", ["opened_event_id"], unique=False)
    op.create_index("ix_event_state", "event", ["state"], unique=False)
    op.create_table(
        "gap",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("run_id", WHOLE, nullable=False),
        sa.Column("start_utc_ns", WHOLE, nullable=False),
        sa.Column("end_utc_ns", WHOLE, nullable=True),
        sa.Column("end_run_id", WHOLE, nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("(end_utc_ns IS NULL) = (end_run_id IS NULL)", name=op.f("ck_gap_end")),
        sa.ForeignKeyConstraint(["end_run_id"], ["run.id"], name=op.f("fk_gap_end_run_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_gap_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gap")),
        sqlite_strict=True,
    )
    op.create_table(
        "frame",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("run_id", WHOLE, nullable=False),
        sa.Column("camera_id", WHOLE, nullable=False),
        sa.Column("calibration_id", WHOLE, nullable=False),
        sa.Column("sequence", WHOLE, nullable=False),
        sa.Column("captured_utc_ns", WHOLE, nullable=False),
        sa.Column("captured_monotonic_ns", WHOLE, nullable=False),
        sa.Column("flags", WHOLE, nullable=False),
        sa.Column("fpa_celsius", REAL, nullable=False),
        sa.Column("shutter_celsius", REAL, nullable=False),
        sa.Column("background_celsius", REAL, nullable=True),
        sa.Column("not_measured", sa.Text(), nullable=True),
        sa.CheckConstraint("flags >= 0", name=op.f("ck_frame_flags")),
        sa.CheckConstraint("sequence >= 0", name=op.f("ck_frame_sequence")),
        sa.ForeignKeyConstraint(["calibration_id"], ["calibration.id"], name=op.f("fk_frame_calibration_id")),
        sa.ForeignKeyConstraint(["camera_id"], ["camera.id"], name=op.f("fk_frame_camera_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_frame_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_frame")),
        sqlite_strict=True,
    )
    op.create_index("ix_frame_captured_utc_ns", "frame", ["captured_utc_ns"], unique=False)
    op.create_table(
        "recording",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("block_id", WHOLE, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("frames", WHOLE, nullable=False),
        sa.Column("size_bytes", WHOLE, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.CheckConstraint("(state = 'unfinished') = (sha256 IS NULL)", name=op.f("ck_recording_unfinished")),
        sa.CheckConstraint(
            "state IN ('unfinished', 'complete', 'recovered', 'damaged')", name=op.f("ck_recording_state")
        ),
        sa.CheckConstraint("frames >= 0", name=op.f("ck_recording_frames")),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_recording_sha256")),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_recording_size_bytes")),
        sa.ForeignKeyConstraint(["block_id"], ["block.id"], name=op.f("fk_recording_block_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recording")),
        sa.UniqueConstraint("path", name=op.f("uq_recording_path")),
        sqlite_strict=True,
    )
    op.create_index("ix_recording_block_id", "recording", ["block_id"], unique=False)
    op.create_table(
        "part_observation",
        sa.Column("frame_id", WHOLE, nullable=False),
        sa.Column("animal", WHOLE, nullable=False),
        sa.Column("part", WHOLE, nullable=False),
        sa.Column("x_px", REAL, nullable=False),
        sa.Column("y_px", REAL, nullable=False),
        sa.Column("x_mm", REAL, nullable=True),
        sa.Column("y_mm", REAL, nullable=True),
        sa.Column("area_px", WHOLE, nullable=False),
        sa.Column("area_mm2", REAL, nullable=True),
        sa.Column("valid_px", WHOLE, nullable=False),
        sa.Column("mean_celsius", REAL, nullable=True),
        sa.Column("median_celsius", REAL, nullable=True),
        sa.Column("p95_celsius", REAL, nullable=True),
        sa.Column("min_celsius", REAL, nullable=True),
        sa.Column("max_celsius", REAL, nullable=True),
        sa.CheckConstraint(
            "(valid_px = 0 AND mean_celsius IS NULL AND median_celsius IS NULL AND p95_celsius IS NULL AND"
            " min_celsius IS NULL AND max_celsius IS NULL) OR (valid_px > 0 AND mean_celsius IS NOT NULL AND"
            " median_celsius IS NOT NULL AND p95_celsius IS NOT NULL AND min_celsius IS NOT NULL AND max_celsius IS"
            " NOT NULL)",
            name=op.f("ck_part_observation_figures"),
        ),
        sa.CheckConstraint("(x_mm IS NULL) = (y_mm IS NULL)", name=op.f("ck_part_observation_mm")),
        sa.CheckConstraint("animal >= 1", name=op.f("ck_part_observation_animal")),
        sa.CheckConstraint("area_mm2 >= 0", name=op.f("ck_part_observation_area_mm2")),
        sa.CheckConstraint("area_px >= 0", name=op.f("ck_part_observation_area_px")),
        sa.CheckConstraint("min_celsius <= max_celsius", name=op.f("ck_part_observation_range")),
        sa.CheckConstraint("part IN (1, 2, 3)", name=op.f("ck_part_observation_part")),
        sa.CheckConstraint("valid_px >= 0 AND valid_px <= area_px", name=op.f("ck_part_observation_valid_px")),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.id"], name=op.f("fk_part_observation_frame_id")),
        sa.PrimaryKeyConstraint("frame_id", "animal", "part", name=op.f("pk_part_observation")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "planned_sample",
        sa.Column("block_id", WHOLE, nullable=False),
        sa.Column("planned_utc_ns", WHOLE, nullable=False),
        sa.Column("frame_id", WHOLE, nullable=True),
        sa.Column("missing_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("missing_reason <> ''", name=op.f("ck_planned_sample_reason")),
        sa.CheckConstraint(
            "(frame_id IS NULL) <> (missing_reason IS NULL)", name=op.f("ck_planned_sample_captured_xor_missing")
        ),
        sa.ForeignKeyConstraint(["block_id"], ["block.id"], name=op.f("fk_planned_sample_block_id")),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.id"], name=op.f("fk_planned_sample_frame_id")),
        sa.PrimaryKeyConstraint("block_id", "planned_utc_ns", name=op.f("pk_planned_sample")),
        sa.UniqueConstraint("frame_id", name=op.f("uq_planned_sample_frame_id")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
