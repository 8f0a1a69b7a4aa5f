"""The table of commands by queue that wait for room in their account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.core.db import Instant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "waiting_commands",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("properties", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_waiting_commands_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waiting_commands")),
    )
    op.create_index("ix_waiting_commands_account_id", "waiting_commands", ["account_id", "id"], unique=False)


def downgrade() -> None:
    """Drop the table, and with it the commands that wait."""
    op.drop_table("waiting_commands")
