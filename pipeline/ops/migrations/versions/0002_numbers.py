"""Blocks of SSCC serials apart from those of package numbers; the serials of existing blocks stay usable."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of serials, and move those of the existing blocks into it."""
    op.add_column(
        "accounts", sa.Column("serial_blocks_dropped_to", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_table(
        "serial_blocks",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("last_serial", sa.BigInteger(), nullable=False),
        sa.Column("serials_left", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_serial_blocks_account_id")),
        sa.PrimaryKeyConstraint("account_id", "last_serial", name=op.f("pk_serial_blocks")),
    )
    op.create_index("ix_serial_blocks_left", "serial_blocks", ["account_id", "serials_left"], unique=False)
    # Processes of the older version may run: a serial must leave the old block in the statement that moves it.
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "WITH found AS ("
            " SELECT account_id, last_package, last_sscc, ssccs_left FROM number_blocks JOIN accounts ON id = account_id"
            " WHERE ssccs_left > 0 AND last_package > blocks_dropped_to FOR UPDATE OF number_blocks"
            "), moved AS ("
            " UPDATE number_blocks SET ssccs_left = 0 FROM found"
            " WHERE number_blocks.account_id = found.account_id AND number_blocks.last_package = found.last_package"
            " RETURNING found.account_id, found.last_sscc, found.ssccs_left"
            ") INSERT INTO serial_blocks (account_id, last_serial, serials_left) SELECT * FROM moved"
        )


def downgrade() -> None:
    """Drop the table of serials; its serials are never given."""
    op.drop_table("serial_blocks")
    op.drop_column("accounts", "serial_blocks_dropped_to")
