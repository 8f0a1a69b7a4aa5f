"""The conversation about a handoff: the messages to the customs broker, and which of them an answer is about."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.core.db import Instant

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_JSON: Final[Any] = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Create the table, and add the column to the answers."""
    op.create_table(
        "conversation_messages",
        sa.Column("submission_id", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("packages", _JSON, nullable=True),
        sa.Column("in_reply_to", sa.String(), nullable=True),
        sa.Column("written_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["broker_submissions.id"], name=op.f("fk_conversation_messages_submission_id")
        ),
        sa.PrimaryKeyConstraint("submission_id", "id", name=op.f("pk_conversation_messages")),
    )
    op.add_column("acknowledgements", sa.Column("in_reply_to", sa.String(), nullable=True))


def downgrade() -> None:
    """Drop both; the logs of the exports keep the messages."""
    op.drop_column("acknowledgements", "in_reply_to")
    op.drop_table("conversation_messages")
