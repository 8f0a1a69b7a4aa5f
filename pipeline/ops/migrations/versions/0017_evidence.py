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

#: By what a row of each table can be replaced: its key, and the rowid that every row has.
SAME = {
    "events": "SELECT 1 FROM events WHERE (export_id = NEW.export_id AND seq = NEW.seq) OR rowid = NEW.rowid",
    "attempts": "SELECT 1 FROM attempts WHERE (delivery_id = NEW.delivery_id AND number = NEW.number) OR rowid = NEW.rowid",
}


def upgrade() -> None:
    """Apply."""
    # Of a plan from before it is not known without reading it: nothing is written there.
    op.add_column("plans", sa.Column("entry_on", sa.Date(), nullable=True))
    if op.get_bind().dialect.name != "sqlite":
        return
    for table, same in SAME.items():
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN EXISTS ({same}) "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )


def downgrade() -> None:
    """Take back."""
    if op.get_bind().dialect.name == "sqlite":
        for table in SAME:
            op.execute(f"DROP TRIGGER {table}_no_replace")
    with op.batch_alter_table("plans") as batch_op:
        batch_op.drop_column("entry_on")
