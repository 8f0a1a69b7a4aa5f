"""The index by which the plans of an account are listed."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_plans_account_id_id", "plans", ["account_id", "id"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_plans_account_id_id", "plans")
