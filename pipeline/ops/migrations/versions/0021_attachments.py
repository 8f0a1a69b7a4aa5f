"""The files of a conversation, and which of them an answer or a message names."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.core.db import Instant

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_JSON: Final[Any] = sa.JSON().with_variant(JSONB(), "postgresql")
_NAMING: Final = ("acknowledgements", "conversation_messages")


def upgrade() -> None:
    """Create the table, and add the columns."""
    op.create_table(
        "attachments",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=True),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=True),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("attached_at", Instant(), nullable=False),
        sa.Column("purged_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_attachments_export_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
    )
    op.create_index("ix_attachments_export_id", "attachments", ["export_id", "id"], unique=False)
    op.create_index("ix_attachments_sha256_id", "attachments", ["sha256", "id"], unique=False)
    for name in _NAMING:
        op.add_column(name, sa.Column("attachments", _JSON, nullable=True))


def downgrade() -> None:
    """Drop both; the logs of the exports keep the hashes."""
    for name in _NAMING:
        op.drop_column(name, "attachments")
    op.drop_table("attachments")
