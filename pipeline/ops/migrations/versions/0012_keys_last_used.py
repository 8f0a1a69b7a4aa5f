"""When a key was last used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import pipeline.core.db

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("api_keys") as batch_op:
        batch_op.add_column(sa.Column("last_used_at", pipeline.core.db.Instant(), nullable=True))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("api_keys") as batch_op:
        batch_op.drop_column("last_used_at")
