"""Indexes by when a step ended and a message was tried: whether anything has moved lately is asked while much waits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_ENDED = sa.text("finished_at IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_attempts_at", "attempts", ["at"])
    op.create_index("ix_steps_finished_at", "steps", ["finished_at"], postgresql_where=_ENDED, sqlite_where=_ENDED)


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_steps_finished_at", table_name="steps")
    op.drop_index("ix_attempts_at", table_name="attempts")
