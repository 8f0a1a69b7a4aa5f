"""Since when what is due has been left lying."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import pipeline.core.db

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = ("steps", "deliveries")


def upgrade() -> None:
    """Apply."""
    for table in TABLES:
        with op.batch_alter_table(table) as batch_op:
            batch_op.add_column(sa.Column("stalled_since", pipeline.core.db.Instant(), nullable=True))


def downgrade() -> None:
    """Take back."""
    for table in TABLES:
        with op.batch_alter_table(table) as batch_op:
            batch_op.drop_column("stalled_since")
