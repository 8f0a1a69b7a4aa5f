"""What counts as evidence: SQLite refuses to replace what the log says, and each plan bears the day that its years begin.

INSERT OR REPLACE takes the older row away, and no trigger sees it go.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

#: By what a row of each table is known; beside it every row has its rowid, by which it can be replaced as well.
APPEND_ONLY = {"events": ("export_id", "seq"), "attempts": ("delivery_id", "number")}


def upgrade() -> None:
    """Apply."""
    # Of a plan from before it is not known without reading it: nothing is written there.
    op.add_column("plans", sa.Column("entry_on", sa.Date(), nullable=True))
    if op.get_bind().dialect.name != "sqlite":
        return
    for table, key in APPEND_ONLY.items():
        same = " AND ".join(f"{column} = NEW.{column}" for column in key)
        there = f"SELECT 1 FROM {table} WHERE ({same}) OR rowid = NEW.rowid"  # noqa: S608 - no word of a caller's
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN EXISTS ({there}) "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )


def downgrade() -> None:
    """Take back."""
    if op.get_bind().dialect.name == "sqlite":
        for table in APPEND_ONLY:
            op.execute(f"DROP TRIGGER {table}_no_replace")
    with op.batch_alter_table("plans") as batch_op:
        batch_op.drop_column("entry_on")
