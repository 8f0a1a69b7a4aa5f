"""Whether the summary of an entry needs a person, when it is due, and which customs brokers speak of summaries."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from pipeline.core.db import Instant

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

_DUE: Final = {
    "ix_broker_submissions_summary_due_at": (
        ["summary_due_at"],
        sa.text("summary_due_at IS NOT NULL AND summary_overdue_at IS NULL"),
    ),
    "ix_broker_submissions_account_id_summary_due_at": (
        ["account_id", "summary_due_at", "id"],
        sa.text("summary_due_at IS NOT NULL"),
    ),
    "ix_broker_submissions_test_summary_due_at": (
        ["test_account_id", "summary_due_at"],
        sa.text("test_account_id IS NOT NULL AND summary_due_at IS NOT NULL AND summary_overdue_at IS NULL"),
    ),
}

#: What the answers to handoffs that are not superseded say already.
_TROUBLED: Final = """
UPDATE exports SET summary_trouble = true WHERE state <> 'superseded' AND id IN (
    SELECT export_id FROM broker_submissions WHERE id IN (
        SELECT submission_id FROM entries WHERE summary IN ('summary_rejected', 'summary_documents_requested')
    )
)"""
_SAYING: Final = """
UPDATE partners SET says_summaries = true WHERE EXISTS (
    SELECT 1 FROM entries JOIN broker_submissions handoff ON handoff.id = entries.submission_id
    WHERE entries.summary IS NOT NULL AND handoff.account_id = partners.account_id AND handoff.partner_id = partners.id
)"""


def upgrade() -> None:
    """Add the columns and the indexes, and set two of the columns where answers say so."""
    op.add_column("exports", sa.Column("summary_trouble", sa.Boolean(), nullable=True))
    op.add_column("partners", sa.Column("says_summaries", sa.Boolean(), nullable=True))
    for name in ("summary_due_at", "summary_overdue_at"):
        op.add_column("broker_submissions", sa.Column(name, Instant(), nullable=True))
    if op.get_context().dialect.name == "postgresql":
        op.execute("SET LOCAL exports.account = '*'")  # a printed script has no account, and would see no row
    op.execute(_TROUBLED)
    op.execute(_SAYING)
    for name, where in _INDEXES.items():
        op.create_index(name, "exports", ["account_id", "id"], postgresql_where=where, sqlite_where=where)
    for name, (columns, where) in _DUE.items():
        op.create_index(name, "broker_submissions", columns, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Drop them; the logs of the exports keep the facts."""
    for name in _DUE:
        op.drop_index(name, table_name="broker_submissions")
    for name in _INDEXES:
        op.drop_index(name, table_name="exports")
    for name in ("summary_due_at", "summary_overdue_at"):
        op.drop_column("broker_submissions", name)
    op.drop_column("partners", "says_summaries")
    op.drop_column("exports", "summary_trouble")
