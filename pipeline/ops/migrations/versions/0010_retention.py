"""Records that are purged when their time is over, and those that a legal hold keeps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import pipeline.core.db

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = ("exports", "artifacts")


def upgrade() -> None:
    """Apply."""
    for table in TABLES:
        with op.batch_alter_table(table) as batch_op:
            batch_op.add_column(sa.Column("purged_at", pipeline.core.db.Instant(), nullable=True))
    op.create_table(
        "legal_holds",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("export_id", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("placed_by", sa.String(), nullable=False),
        sa.Column("placed_at", pipeline.core.db.Instant(), nullable=False),
        sa.Column("released_by", sa.String(), nullable=True),
        sa.Column("released_at", pipeline.core.db.Instant(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_legal_holds_account_id")),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_legal_holds_export_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_legal_holds")),
    )
    op.create_index("ix_legal_holds_account_id", "legal_holds", ["account_id"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("legal_holds")
    for table in TABLES:
        with op.batch_alter_table(table) as batch_op:
            batch_op.drop_column("purged_at")
