"""Which submission a request that a partner signed was about, so that nobody gives an overheard one to another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pipeline.core.db import Instant

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "used_signatures",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("submission_id", sa.String(), nullable=False),
        sa.Column("used_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "partner_id"],
            ["partners.account_id", "partners.id"],
            name=op.f("fk_used_signatures_account_id_partner_id"),
        ),
        sa.PrimaryKeyConstraint("account_id", "partner_id", "digest", name=op.f("pk_used_signatures")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("used_signatures")
