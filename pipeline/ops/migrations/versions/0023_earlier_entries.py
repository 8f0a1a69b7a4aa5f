"""Whether an entry of a superseded revision needs a person."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_INDEXES: Final = {
    "ix_exports_earlier_entry": sa.text("(earlier_entry AND purged_at IS NULL AND acknowledged_seq IS NULL) IS TRUE"),
    "ix_exports_earlier_acknowledged": sa.text(
        "(earlier_entry AND purged_at IS NULL AND acknowledged_seq IS NOT NULL) IS TRUE"
    ),
}


def upgrade() -> None:
    """Add the column and the indexes."""
    op.add_column("exports", sa.Column("earlier_entry", sa.Boolean(), nullable=True))
    for name, where in _INDEXES.items():
        op.create_index(name, "exports", ["account_id", "id"], postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Drop them; the logs of the exports keep the facts."""
    for name in _INDEXES:
        op.drop_index(name, table_name="exports")
    op.drop_column("exports", "earlier_entry")
