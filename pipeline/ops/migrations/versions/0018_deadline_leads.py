"""The leads of an account by mode of transport, and the mode by which the goods of a handoff arrive."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    leads = sa.JSON().with_variant(JSONB(), "postgresql")
    op.add_column("accounts", sa.Column("deadline_leads", leads, nullable=True))
    op.add_column("broker_submissions", sa.Column("arrives_by", sa.String(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("broker_submissions", "arrives_by")
    op.drop_column("accounts", "deadline_leads")
