"""Recordings that were freed, pins that keep others, and messages that cannot be read."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

STATES = "state IN ('unfinished', 'complete', 'recovered', 'damaged', 'freed')"
FREED = "(state = 'freed') = (freed_utc_ns IS NOT NULL)"
FREED_REASON = "(freed_utc_ns IS NULL) = (freed_reason IS NULL)"


def upgrade() -> None:
    """Make the tables `pin` and `dead_letter`, and let a recording be freed."""
    op.create_table(
        "pin",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_utc_ns", WHOLE, nullable=False),
        sa.Column("block_key", sa.Text(), nullable=True),
        sa.Column("first_day", sa.Text(), nullable=True),
        sa.Column("last_day", sa.Text(), nullable=True),
        sa.CheckConstraint("name <> ''", name=op.f("ck_pin_name")),
        sa.CheckConstraint("(block_key IS NULL) <> (first_day IS NULL)", name=op.f("ck_pin_block_xor_days")),
        sa.CheckConstraint("(first_day IS NULL) = (last_day IS NULL)", name=op.f("ck_pin_days")),
        sa.CheckConstraint("first_day <= last_day", name=op.f("ck_pin_order")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pin")),
        sqlite_strict=True,
    )
    op.create_index("ix_pin_name", "pin", ["name"], unique=False)
    op.create_table(
        "dead_letter",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("topic", sa.LargeBinary(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("created_utc_ns", WHOLE, nullable=False),
        sa.Column("set_aside_utc_ns", WHOLE, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letter")),
        sqlite_strict=True,
    )
    if op.get_bind().dialect.name == "sqlite":
        _make_recording_anew()
    else:
        op.add_column("recording", sa.Column("freed_utc_ns", WHOLE, nullable=True))
        op.add_column("recording", sa.Column("freed_reason", sa.Text(), nullable=True))
        op.drop_constraint(op.f("ck_recording_state"), "recording", type_="check")
        op.create_check_constraint(op.f("ck_recording_state"), "recording", STATES)
        op.create_check_constraint(op.f("ck_recording_freed"), "recording", FREED)
        op.create_check_constraint(op.f("ck_recording_freed_reason"), "recording", FREED_REASON)


def _make_recording_anew() -> None:
    """SQLite cannot change a CHECK of a table that is there; no other table refers to this one."""
    op.execute("CREATE TABLE recording_0001 AS SELECT * FROM recording")
    op.drop_table("recording")
    op.create_table(
        "recording",
        sa.Column("id", WHOLE, nullable=False),
        sa.Column("block_id", WHOLE, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("frames", WHOLE, nullable=False),
        sa.Column("size_bytes", WHOLE, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("freed_utc_ns", WHOLE, nullable=True),
        sa.Column("freed_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(STATES, name=op.f("ck_recording_state")),
        sa.CheckConstraint("frames >= 0", name=op.f("ck_recording_frames")),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_recording_size_bytes")),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_recording_sha256")),
        sa.CheckConstraint("(state = 'unfinished') = (sha256 IS NULL)", name=op.f("ck_recording_unfinished")),
        sa.CheckConstraint(FREED, name=op.f("ck_recording_freed")),
        sa.CheckConstraint(FREED_REASON, name=op.f("ck_recording_freed_reason")),
        sa.ForeignKeyConstraint(["block_id"], ["block.id"], name=op.f("fk_recording_block_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recording")),
        sa.UniqueConstraint("path", name=op.f("uq_recording_path")),
        sqlite_strict=True,
    )
    op.create_index("ix_recording_block_id", "recording", ["block_id"], unique=False)
    op.execute(
        "INSERT INTO recording (id, block_id, path, sha256, frames, size_bytes, state)"
        " SELECT id, block_id, path, sha256, frames, size_bytes, state FROM recording_0001"
    )
    op.drop_table("recording_0001")
