"""Documents of the same bytes, found by their hash: a purge deletes none that another export has."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_artifacts_sha256_id", "artifacts", ["sha256", "id"])


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_artifacts_sha256_id", table_name="artifacts")
