"""What customs assessed for an entry, its comparison with the estimate, and the inbox of exports whose amounts differ."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_JSON: Final[Any] = sa.JSON().with_variant(JSONB(), "postgresql")

_INDEXES: Final = {
    "ix_exports_amounts_differ": sa.text("(amounts_differ AND purged_at IS NULL AND acknowledged_seq IS NULL) IS TRUE"),
    "ix_exports_amounts_acknowledged": sa.text(
        "(amounts_differ AND purged_at IS NULL AND acknowledged_seq IS NOT NULL) IS TRUE"
    ),
}


def upgrade() -> None:
    """Add the columns and the indexes."""
    op.add_column("acknowledgements", sa.Column("assessed", _JSON, nullable=True))
    op.add_column("acknowledgements", sa.Column("comparison", _JSON, nullable=True))
    op.add_column("exports", sa.Column("amounts_differ", sa.Boolean(), nullable=True))
    for name, where in _INDEXES.items():
        op.create_index(name, "exports", ["account_id", "id"], postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Drop them; the logs of the exports keep the amounts."""
    for name in _INDEXES:
        op.drop_index(name, table_name="exports")
    op.drop_column("exports", "amounts_differ")
    op.drop_column("acknowledgements", "comparison")
    op.drop_column("acknowledgements", "assessed")
