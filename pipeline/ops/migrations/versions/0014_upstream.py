"""The partner for whom an export is executed."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: exports of earlier versions have no such partner."""
    op.add_column("exports", sa.Column("upstream_id", sa.String(), nullable=True))


def downgrade() -> None:
    """Drop it; those partners then get no messages."""
    op.drop_column("exports", "upstream_id")
