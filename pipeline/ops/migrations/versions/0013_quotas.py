"""What an account may take up: exports under way, found by an index of their own, and domains that it may send mail to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    unended = sa.text("finished_at IS NULL")
    op.create_index("ix_exports_active", "exports", ["account_id"], postgresql_where=unended, sqlite_where=unended)
    with op.batch_alter_table("accounts") as batch_op:
        batch_op.add_column(sa.Column("mail_domains", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=True))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("accounts") as batch_op:
        batch_op.drop_column("mail_domains")
    op.drop_index("ix_exports_active", table_name="exports")
