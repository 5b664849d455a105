"""Each frame names what found the animals in it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add `frame.segmenter`; what measured the frames that are there is not known, and stays NULL."""
    op.add_column("frame", sa.Column("segmenter", sa.Text(), nullable=True))
