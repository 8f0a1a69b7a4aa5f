"""Have the dead letters of an account found without looking at everything that it was ever owed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    dead = sa.text("state = 'dead'")
    op.create_index("ix_deliveries_dead", "deliveries", ["account_id", "id"], postgresql_where=dead, sqlite_where=dead)


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_deliveries_dead", table_name="deliveries")
