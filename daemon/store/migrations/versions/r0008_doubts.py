"""Doubts whether a track is still the same animal."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Count them with each track; keep how many there were when a person named one, and who it was said to be."""
    op.add_column("identity_observation", sa.Column("doubts", WHOLE, nullable=True))
    op.add_column("identity_correction", sa.Column("doubts", WHOLE, nullable=True))
    op.add_column("identity_correction", sa.Column("said", WHOLE, nullable=True))
