"""Which steps are those of large units, and the index of those that are ready."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the index; the units of older versions count as small."""
    op.add_column("steps", sa.Column("large", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index(
        "ix_steps_large",
        "steps",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'ready' AND large"),
        sqlite_where=sa.text("state = 'ready' AND large = 1"),
    )


def downgrade() -> None:
    """Drop them; any worker then executes large units."""
    op.drop_index("ix_steps_large", table_name="steps")
    op.drop_column("steps", "large")
