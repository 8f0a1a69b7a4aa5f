"""When a heartbeat last went through the message broker to the processes that only the message broker knows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pipeline.core.db import Instant

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("arrived_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_heartbeats")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("heartbeats")
