"""Since which revision of its batch a unit is the same for the same customs broker."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("units", sa.Column("same_since", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("units", "same_since")
