"""Let a customs broker have its own import template."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("partners") as batch_op:
        batch_op.add_column(sa.Column("profile", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=True))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("partners") as batch_op:
        batch_op.drop_column("profile")
