"""The name by which an account invited a person, and the index of the audit trail's subjects."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the index."""
    op.add_column("memberships", sa.Column("invited_name", sa.String(), nullable=True))
    op.create_index("ix_acts_subject", "acts", ["account_id", "subject", "seq"], unique=False)


def downgrade() -> None:
    """Drop them; an invitation then shows the e-mail address alone."""
    op.drop_index("ix_acts_subject", table_name="acts")
    op.drop_column("memberships", "invited_name")
