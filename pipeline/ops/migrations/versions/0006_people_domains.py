"""The domains of the people whom an account may invite."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; without a value, an account may invite people of any domain."""
    domains = sa.JSON().with_variant(JSONB(), "postgresql")
    op.add_column("accounts", sa.Column("people_domains", domains, nullable=True))


def downgrade() -> None:
    """Drop it; each account may then invite people of any domain."""
    op.drop_column("accounts", "people_domains")
