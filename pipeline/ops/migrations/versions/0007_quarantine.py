"""Exports that broke what worked on them, marked as such."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("exports") as batch_op:
        batch_op.add_column(sa.Column("quarantined", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("exports") as batch_op:
        batch_op.alter_column("quarantined", existing_type=sa.Boolean(), server_default=None)


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("exports") as batch_op:
        batch_op.drop_column("quarantined")
