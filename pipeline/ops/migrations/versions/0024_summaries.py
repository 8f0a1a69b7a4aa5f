"""Whether the summary of an entry needs a person."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_INDEXES: Final = {
    "ix_exports_summary_trouble": sa.text(
        "(summary_trouble AND purged_at IS NULL AND acknowledged_seq IS NULL) IS TRUE"
    ),
    "ix_exports_summary_acknowledged": sa.text(
        "(summary_trouble AND purged_at IS NULL AND acknowledged_seq IS NOT NULL) IS TRUE"
    ),
}

#: The statuses of an entry summary that need a person.
_TROUBLED: Final = sa.text(
    "UPDATE exports SET summary_trouble = true WHERE id IN (SELECT export_id FROM broker_submissions WHERE id IN"
    " (SELECT submission_id FROM entries WHERE summary IN ('summary_rejected', 'summary_documents_requested')))"
)


def upgrade() -> None:
    """Add the column and the indexes, and set the column where such an answer is the last one."""
    op.add_column("exports", sa.Column("summary_trouble", sa.Boolean(), nullable=True))
    for name, where in _INDEXES.items():
        op.create_index(name, "exports", ["account_id", "id"], postgresql_where=where, sqlite_where=where)
    op.execute(_TROUBLED)


def downgrade() -> None:
    """Drop them; the logs of the exports keep the facts."""
    for name in _INDEXES:
        op.drop_index(name, table_name="exports")
    op.drop_column("exports", "summary_trouble")
