"""The clock of an account's test exports, and the test handoffs that follow it."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_INDEXES = {
    "deadline_at": "test_account_id IS NOT NULL AND overdue_at IS NULL AND deadline_at IS NOT NULL",
    "arrives_at": "test_account_id IS NOT NULL AND arrives_at IS NOT NULL AND deadline_at IS NOT NULL",
}


def upgrade() -> None:
    """Add the columns and the indexes, and fill the column of the open test handoffs."""
    op.add_column("accounts", sa.Column("test_clock_seconds", sa.Integer(), nullable=False, server_default="0"))
    _create_index("ix_accounts_test_clock", "accounts", ["id"], "test_clock_seconds > 0")
    op.add_column("broker_submissions", sa.Column("test_account_id", sa.String(), nullable=True))
    names = "export_id", "account_id", "test_account_id", "deadline_at"
    submissions = sa.table("broker_submissions", *(sa.column(name) for name in names))
    exports = sa.table("exports", sa.column("id"), sa.column("test", sa.Boolean()))
    tests = sa.select(exports.c.id).where(exports.c.test.is_(True))
    is_open = submissions.c.deadline_at.is_not(None), submissions.c.export_id.in_(tests)
    op.execute(sa.update(submissions).where(*is_open).values(test_account_id=submissions.c.account_id))
    for name, where in _INDEXES.items():
        _create_index(f"ix_broker_submissions_test_{name}", "broker_submissions", ["test_account_id", name], where)


def _create_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


def downgrade() -> None:
    """Drop them."""
    for name in _INDEXES:
        op.drop_index(f"ix_broker_submissions_test_{name}", "broker_submissions")
    op.drop_column("broker_submissions", "test_account_id")
    op.drop_index("ix_accounts_test_clock", "accounts")
    op.drop_column("accounts", "test_clock_seconds")
