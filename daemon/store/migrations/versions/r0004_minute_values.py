"""Values of whole minutes, the shape of each animal, and what the scene says about the camera and the nest."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.Double[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Make the tables `minute_value`, `shape_observation` and `scene_observation`."""
    op.create_table(
        "minute_value",
        sa.Column("minute_utc_ns", WHOLE, nullable=False),
        sa.Column("animal", WHOLE, nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("run_id", WHOLE, nullable=False),
        sa.Column("value", REAL, nullable=True),
        sa.Column("uncertainty", REAL, nullable=True),
        sa.Column("coverage", REAL, nullable=False),
        sa.Column("samples", WHOLE, nullable=False),
        sa.CheckConstraint("minute_utc_ns % 60000000000 = 0", name=op.f("ck_minute_value_minute")),
        sa.CheckConstraint("animal >= 0", name=op.f("ck_minute_value_animal")),
        sa.CheckConstraint("coverage >= 0 AND coverage <= 1", name=op.f("ck_minute_value_coverage")),
        sa.CheckConstraint("samples >= 0", name=op.f("ck_minute_value_samples")),
        sa.CheckConstraint("uncertainty >= 0", name=op.f("ck_minute_value_uncertainty")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_minute_value_run_id")),
        sa.PrimaryKeyConstraint("minute_utc_ns", "animal", "measure", name=op.f("pk_minute_value")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("ix_minute_value_measure", "minute_value", ["measure", "animal", "minute_utc_ns"], unique=False)
    op.create_table(
        "shape_observation",
        sa.Column("frame_id", WHOLE, nullable=False),
        sa.Column("animal", WHOLE, nullable=False),
        sa.Column("nose_x_px", REAL, nullable=True),
        sa.Column("nose_y_px", REAL, nullable=True),
        sa.Column("length_px", REAL, nullable=True),
        sa.Column("curl", REAL, nullable=True),
        sa.Column("head_outline_px", WHOLE, nullable=True),
        sa.Column("body_outline_px", WHOLE, nullable=True),
        sa.Column("tail_outline_px", WHOLE, nullable=True),
        sa.CheckConstraint("animal >= 1", name=op.f("ck_shape_observation_animal")),
        sa.CheckConstraint("curl >= 0 AND curl <= 1", name=op.f("ck_shape_observation_curl")),
        sa.CheckConstraint(
            "(length_px IS NULL) = (curl IS NULL) AND (length_px IS NULL) = (nose_x_px IS NULL)"
            " AND (length_px IS NULL) = (nose_y_px IS NULL)",
            name=op.f("ck_shape_observation_posture"),
        ),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.id"], name=op.f("fk_shape_observation_frame_id")),
        sa.PrimaryKeyConstraint("frame_id", "animal", name=op.f("pk_shape_observation")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "scene_observation",
        sa.Column("frame_id", WHOLE, nullable=False),
        sa.Column("nest_celsius", REAL, nullable=True),
        sa.Column("reference_offset_celsius", REAL, nullable=True),
        sa.Column("reference_uncertainty_celsius", REAL, nullable=True),
        sa.CheckConstraint(
            "(reference_offset_celsius IS NULL) = (reference_uncertainty_celsius IS NULL)",
            name=op.f("ck_scene_observation_reference"),
        ),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.id"], name=op.f("fk_scene_observation_frame_id")),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_scene_observation")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
