"""Animals that are followed: tracks, how sure it is who they are, and parts of animals that are not known."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.Double[float] = sa.Double().with_variant(sa.REAL(), "sqlite")

FIGURES = ("mean_celsius", "median_celsius", "p95_celsius", "min_celsius", "max_celsius")
PLACES = "x_px, y_px, x_mm, y_mm, area_px, area_mm2, valid_px, " + ", ".join(FIGURES)
SHAPES = "nose_x_px, nose_y_px, length_px, curl, head_outline_px, body_outline_px, tail_outline_px"


def upgrade() -> None:
    """Make `identity_observation`; parts and shapes get a key that allows for an animal that is not known."""
    op.create_table(
        "identity_observation",
        sa.Column("frame_id", WHOLE, nullable=False),
        sa.Column("track", WHOLE, nullable=False),
        sa.Column("animal", WHOLE, nullable=True),
        sa.Column("probability", REAL, nullable=True),
        sa.Column("candidates", sa.Text(), nullable=False),
        sa.Column("group_size", WHOLE, nullable=True),
        sa.Column("group_area_px", WHOLE, nullable=True),
        sa.Column("group_mean_celsius", REAL, nullable=True),
        sa.Column("group_max_celsius", REAL, nullable=True),
        sa.CheckConstraint("animal >= 1", name=op.f("ck_identity_observation_animal")),
        sa.CheckConstraint("probability >= 0 AND probability <= 1", name=op.f("ck_identity_observation_probability")),
        sa.CheckConstraint("group_size >= 2", name=op.f("ck_identity_observation_group_size")),
        sa.CheckConstraint(
            "animal IS NULL OR (candidates = '' AND group_size IS NULL)", name=op.f("ck_identity_observation_known")
        ),
        sa.CheckConstraint(
            "(group_size IS NULL) = (group_area_px IS NULL)", name=op.f("ck_identity_observation_group")
        ),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.id"], name=op.f("fk_identity_observation_frame_id")),
        sa.PrimaryKeyConstraint("frame_id", "track", name=op.f("pk_identity_observation")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    # Both are made anew: no database changes a primary key in place as easily as it copies rows.
    _make_parts_anew()
    _make_shapes_anew()


def _make_parts_anew() -> None:
    _make_way_for("part_observation")
    op.create_table(
        "part_observation",
        sa.Column("frame_id", WHOLE, nullable=False),
        sa.Column("subject", WHOLE, nullable=False),
        sa.Column("part", WHOLE, nullable=False),
        sa.Column("animal", WHOLE, nullable=True),
        sa.Column("x_px", REAL, nullable=False),
        sa.Column("y_px", REAL, nullable=False),
        sa.Column("x_mm", REAL, nullable=True),
        sa.Column("y_mm", REAL, nullable=True),
        sa.Column("area_px", WHOLE, nullable=False),
        sa.Column("area_mm2", REAL, nullable=True),
        sa.Column("valid_px", WHOLE, nullable=False),
        *(sa.Column(name, REAL, nullable=True) for name in FIGURES),
        sa.CheckConstraint("subject >= 1", name=op.f("ck_part_observation_subject")),
        sa.CheckConstraint("animal >= 1", name=op.f("ck_part_observation_animal")),
        sa.CheckConstraint("part IN (1, 2, 3)", name=op.f("ck_part_observation_part")),
        sa.CheckConstraint("area_px >= 0", name=op.f("ck_part_observation_area_px")),
        sa.CheckConstraint("area_mm2 >= 0", name=op.f("ck_part_observation_area_mm2")),
        sa.CheckConstraint("valid_px >= 0 AND valid_px <= area_px", name=op.f("ck_part_observation_valid_px")),
        sa.CheckConstraint("(x_mm IS NULL) = (y_mm IS NULL)", name=op.f("ck_part_observation_mm")),
        sa.CheckConstraint(
            f"(valid_px = 0 AND {' AND '.join(f'{name} IS NULL' for name in FIGURES)})"
            f" OR (valid_px > 0 AND {' AND '.join(f'{name} IS NOT NULL' for name in FIGURES)})",
            name=op.f("ck_part_observation_figures"),
        ),
        sa.CheckConstraint("min_celsius <= max_celsius", name=op.f("ck_part_observation_range")),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.id"], name=op.f("fk_part_observation_frame_id")),
        sa.PrimaryKeyConstraint("frame_id", "subject", "part", name=op.f("pk_part_observation")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.execute(
        f"INSERT INTO part_observation (frame_id, subject, part, animal, {PLACES})"
        f" SELECT frame_id, animal, part, animal, {PLACES} FROM part_observation_0005"
    )
    op.drop_table("part_observation_0005")


def _make_shapes_anew() -> None:
    _make_way_for("shape_observation")
    op.create_table(
        "shape_observation",
        sa.Column("frame_id", WHOLE, nullable=False),
        sa.Column("subject", WHOLE, nullable=False),
        sa.Column("nose_x_px", REAL, nullable=True),
        sa.Column("nose_y_px", REAL, nullable=True),
        sa.Column("length_px", REAL, nullable=True),
        sa.Column("curl", REAL, nullable=True),
        sa.Column("head_outline_px", WHOLE, nullable=True),
        sa.Column("body_outline_px", WHOLE, nullable=True),
        sa.Column("tail_outline_px", WHOLE, nullable=True),
        sa.CheckConstraint("subject >= 1", name=op.f("ck_shape_observation_subject")),
        sa.CheckConstraint("curl >= 0 AND curl <= 1", name=op.f("ck_shape_observation_curl")),
        sa.CheckConstraint(
            "(length_px IS NULL) = (curl IS NULL) AND (length_px IS NULL) = (nose_x_px IS NULL)"
            " AND (length_px IS NULL) = (nose_y_px IS NULL)",
            name=op.f("ck_shape_observation_posture"),
        ),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.id"], name=op.f("fk_shape_observation_frame_id")),
        sa.PrimaryKeyConstraint("frame_id", "subject", name=op.f("pk_shape_observation")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.execute(
        f"INSERT INTO shape_observation (frame_id, subject, {SHAPES})"
        f" SELECT frame_id, animal, {SHAPES} FROM shape_observation_0005"
    )
    op.drop_table("shape_observation_0005")


def _make_way_for(table: str) -> None:
    op.rename_table(table, f"{table}_0005")
    if op.get_bind().dialect.name != "sqlite":  # there the index of a primary key has a name, which must be free
        op.execute(f"ALTER TABLE {table}_0005 RENAME CONSTRAINT pk_{table} TO pk_{table}_0005")
