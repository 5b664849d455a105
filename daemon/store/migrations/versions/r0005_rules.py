"""Events that are updated and acknowledged, and maintenance."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

STATES = "state IN ('opened', 'updated', 'acknowledged', 'closed', 'occurred')"
CLOSED = "state IN ('updated', 'acknowledged', 'closed') OR opened_event_id IS NULL"
COLUMNS = "id, event_id, run_id, kind, state, severity, at_utc_ns, animal, data_json, opened_event_id"


def upgrade() -> None:
    """Make the table `maintenance`, and let an event follow on another in more ways than closing it."""
    op.create_table(
        "maintenance",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("start_utc_ns", WHOLE, nullable=False),
        sa.Column("end_utc_ns", WHOLE, nullable=False),
        sa.Column("by_whom", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "reason IN ('cage_change', 'dosing', 'weighing', 'other')", name=op.f("ck_maintenance_reason")
        ),
        sa.CheckConstraint("end_utc_ns >= start_utc_ns", name=op.f("ck_maintenance_end")),
        sa.CheckConstraint("by_whom <> ''", name=op.f("ck_maintenance_by_whom")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_maintenance")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("ix_maintenance_start_utc_ns", "maintenance", ["start_utc_ns"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        _make_event_anew()
    else:
        for name, check in (("ck_event_state", STATES), ("ck_event_closed", CLOSED)):
            op.drop_constraint(op.f(name), "event", type_="check")
            op.create_check_constraint(op.f(name), "event", check)


def _make_event_anew() -> None:
    """SQLite cannot change a CHECK of a table that is there; no other table refers to this one."""
    op.execute("CREATE TABLE event_0005 AS SELECT * FROM event")
    op.drop_table("event")
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
        sa.CheckConstraint(CLOSED, name=op.f("ck_event_closed")),
        sa.CheckConstraint(STATES, name=op.f("ck_event_state")),
        sa.CheckConstraint("animal >= 1", name=op.f("ck_event_animal")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_event_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sa.UniqueConstraint("event_id", name=op.f("uq_event_event_id")),
        sqlite_strict=True,
    )
    op.create_index("ix_event_opened_event_id", "event", ["opened_event_id"], unique=False)
    op.create_index("ix_event_state", "event", ["state"], unique=False)
    op.execute(f"INSERT INTO event ({COLUMNS}) SELECT {COLUMNS} FROM event_0005")
    op.drop_table("event_0005")
