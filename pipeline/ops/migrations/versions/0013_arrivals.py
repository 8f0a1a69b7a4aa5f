"""When the goods of a handoff arrive, by which its deadlines are set, and the index of what is due next."""

import sqlalchemy as sa
from alembic import op

from pipeline.core.db import Instant

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_HAS_ARRIVAL_AHEAD = sa.text("overdue_at < arrives_at AND deadline_at IS NOT NULL")
_HAS_DEADLINE = sa.text("deadline_at IS NOT NULL")


def upgrade() -> None:
    """Add the column and its index. Handoffs of older versions keep their deadlines."""
    op.add_column("broker_submissions", sa.Column("arrives_at", Instant(), nullable=True))
    op.create_index(
        "ix_broker_submissions_arrives_at",
        "broker_submissions",
        ["arrives_at"],
        postgresql_where=_HAS_ARRIVAL_AHEAD,
        sqlite_where=_HAS_ARRIVAL_AHEAD,
    )
    op.create_index(
        "ix_broker_submissions_account_id_deadline_at",
        "broker_submissions",
        ["account_id", "deadline_at", "id"],
        postgresql_where=_HAS_DEADLINE,
        sqlite_where=_HAS_DEADLINE,
    )


def downgrade() -> None:
    """Drop them; only the time since the previous status then sets a deadline."""
    op.drop_index("ix_broker_submissions_account_id_deadline_at", table_name="broker_submissions")
    op.drop_index("ix_broker_submissions_arrives_at", table_name="broker_submissions")
    op.drop_column("broker_submissions", "arrives_at")
