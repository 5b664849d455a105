"""Corrections of who is who: what a person said, and what it was before."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.Double[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Make the tables of the corrections, and let a row of `identity_observation` name the newest that changed it."""
    _make_correction()
    _make_before()
    op.create_table(
        "corrected_event",
        sa.Column("event_id", WHOLE, nullable=False),
        sa.Column("correction_id", WHOLE, nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"], name=op.f("fk_corrected_event_event_id")),
        sa.ForeignKeyConstraint(
            ["correction_id"], ["identity_correction.id"], name=op.f("fk_corrected_event_correction_id")
        ),
        sa.PrimaryKeyConstraint("event_id", "correction_id", name=op.f("pk_corrected_event")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.add_column("identity_observation", sa.Column("correction_id", WHOLE, nullable=True))


def _make_correction() -> None:
    op.create_table(
        "identity_correction",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("animal", WHOLE, nullable=True),
        sa.Column("other", WHOLE, nullable=True),
        sa.Column("track", WHOLE, nullable=True),
        sa.Column("run_id", WHOLE, nullable=False),
        sa.Column("from_utc_ns", WHOLE, nullable=False),
        sa.Column("until_utc_ns", WHOLE, nullable=True),
        sa.Column("by_whom", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made_utc_ns", WHOLE, nullable=False),
        sa.Column("stored_until_utc_ns", WHOLE, nullable=False),
        sa.Column("minutes_from_utc_ns", WHOLE, nullable=False),
        sa.Column("minutes_until_utc_ns", WHOLE, nullable=False),
        sa.Column("told_utc_ns", WHOLE, nullable=True),
        sa.Column("undone_utc_ns", WHOLE, nullable=True),
        sa.Column("undone_by", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('swap', 'assign')", name=op.f("ck_identity_correction_kind")),
        sa.CheckConstraint("animal >= 1", name=op.f("ck_identity_correction_animal")),
        sa.CheckConstraint(
            "(kind = 'swap' AND animal IS NOT NULL AND other IS NOT NULL AND animal <> other AND track IS NULL)"
            " OR (kind = 'assign' AND other IS NULL AND track IS NOT NULL)",
            name=op.f("ck_identity_correction_what"),
        ),
        sa.CheckConstraint("until_utc_ns > from_utc_ns", name=op.f("ck_identity_correction_until")),
        sa.CheckConstraint("by_whom <> ''", name=op.f("ck_identity_correction_by_whom")),
        sa.CheckConstraint("(undone_utc_ns IS NULL) = (undone_by IS NULL)", name=op.f("ck_identity_correction_undone")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_identity_correction_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_correction")),
        sqlite_strict=True,
    )


def _make_before() -> None:
    op.create_table(
        "identity_before",
        sa.Column("correction_id", WHOLE, nullable=False),
        sa.Column("subject", WHOLE, nullable=False),
        sa.Column("first_frame_id", WHOLE, nullable=False),
        sa.Column("last_frame_id", WHOLE, nullable=False),
        sa.Column("followed", WHOLE, nullable=False),
        sa.Column("animal", WHOLE, nullable=True),
        sa.Column("probability", REAL, nullable=True),
        sa.Column("candidates", sa.Text(), nullable=False),
        sa.Column("before_correction_id", WHOLE, nullable=True),
        sa.CheckConstraint("last_frame_id >= first_frame_id", name=op.f("ck_identity_before_last")),
        sa.CheckConstraint("followed IN (0, 1)", name=op.f("ck_identity_before_followed")),
        sa.ForeignKeyConstraint(
            ["correction_id"], ["identity_correction.id"], name=op.f("fk_identity_before_correction_id")
        ),
        sa.ForeignKeyConstraint(
            ["before_correction_id"], ["identity_correction.id"], name=op.f("fk_identity_before_before_correction_id")
        ),
        sa.ForeignKeyConstraint(["first_frame_id"], ["frame.id"], name=op.f("fk_identity_before_first_frame_id")),
        sa.ForeignKeyConstraint(["last_frame_id"], ["frame.id"], name=op.f("fk_identity_before_last_frame_id")),
        sa.PrimaryKeyConstraint("correction_id", "subject", "first_frame_id", name=op.f("pk_identity_before")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "minute_before",
        sa.Column("correction_id", WHOLE, nullable=False),
        sa.Column("minute_utc_ns", WHOLE, nullable=False),
        sa.Column("animal", WHOLE, nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("run_id", WHOLE, nullable=False),
        sa.Column("value", REAL, nullable=True),
        sa.Column("uncertainty", REAL, nullable=True),
        sa.Column("coverage", REAL, nullable=False),
        sa.Column("samples", WHOLE, nullable=False),
        sa.ForeignKeyConstraint(
            ["correction_id"], ["identity_correction.id"], name=op.f("fk_minute_before_correction_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_minute_before_run_id")),
        sa.PrimaryKeyConstraint("correction_id", "minute_utc_ns", "animal", "measure", name=op.f("pk_minute_before")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
