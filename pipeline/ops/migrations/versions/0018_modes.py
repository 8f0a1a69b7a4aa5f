"""What test keys execute and what live ones do are batches of their own, and a test's labels keep nobody from carrying them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

#: table -> (the columns that were unique, those that are)
_UNIQUE = {
    "plans": (["account_id", "batch_id", "plan_hash"], ["account_id", "batch_id", "plan_hash", "test"]),
    "exports": (["account_id", "batch_id", "revision"], ["account_id", "batch_id", "test", "revision"]),
}

_PLANS_OF_TESTS = "UPDATE plans SET test = TRUE WHERE id IN (SELECT plan_id FROM exports WHERE test)"
_LABELS_OF_TESTS = "UPDATE packages SET released = TRUE WHERE export_id IN (SELECT id FROM exports WHERE test)"


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("plans") as batch_op:
        batch_op.add_column(sa.Column("test", sa.Boolean(), nullable=False, server_default=sa.false()))
    for table, (before, after) in _UNIQUE.items():
        _make_unique(table, before, after)
    for statement in (_PLANS_OF_TESTS, _LABELS_OF_TESTS):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """Take back; fails where a batch was executed both ways."""
    for table, (before, after) in _UNIQUE.items():
        _make_unique(table, after, before)
    with op.batch_alter_table("plans") as batch_op:
        batch_op.drop_column("test")


def _make_unique(table: str, before: list[str], after: list[str]) -> None:
    with op.batch_alter_table(table) as batch_op:
        batch_op.drop_constraint(op.f("_".join(["uq", table, *before])), type_="unique")
        batch_op.create_unique_constraint(op.f("_".join(["uq", table, *after])), after)
