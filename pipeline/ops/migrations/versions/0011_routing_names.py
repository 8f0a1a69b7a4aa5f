"""What routing keys call each partner: no two accounts share a name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

#: Where several accounts have partners of one id, the oldest keeps it for its name.
NAMES = """
UPDATE partners SET routing_name = CASE WHEN EXISTS (
    SELECT 1 FROM partners other
    WHERE other.kind = partners.kind AND other.id = partners.id AND other.account_id <> partners.account_id
    AND (other.created_at < partners.created_at
         OR (other.created_at = partners.created_at AND other.account_id < partners.account_id))
) THEN account_id || ':' || id ELSE id END
WHERE kind <> 'operator'
"""


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("partners") as batch_op:
        batch_op.add_column(sa.Column("routing_name", sa.String(), nullable=True))
    op.get_bind().exec_driver_sql(NAMES)
    with op.batch_alter_table("partners") as batch_op:
        batch_op.create_unique_constraint(op.f("uq_partners_kind_routing_name"), ["kind", "routing_name"])


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("partners") as batch_op:
        batch_op.drop_constraint(op.f("uq_partners_kind_routing_name"), type_="unique")
        batch_op.drop_column("routing_name")
