"""Reach partners by mail and files, know how well that goes, and let a newer revision take an export's place."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

import pipeline.core.db

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(JSONB(), "postgresql")
_NOT_RELEASED = {"postgresql_where": sa.text("NOT released"), "sqlite_where": sa.text("NOT released")}
_NOT_OVERDUE = {"postgresql_where": sa.text("overdue_at IS NULL"), "sqlite_where": sa.text("overdue_at IS NULL")}
_ASKED_ABOUT = {
    "postgresql_where": sa.text("handoff_id IS NOT NULL"),
    "sqlite_where": sa.text("handoff_id IS NOT NULL"),
}


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "partner_secrets",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.String(), nullable=False),
        sa.Column("created_at", pipeline.core.db.Instant(), nullable=False),
        sa.Column("ends_at", pipeline.core.db.Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id", "partner_id"],
            ["partners.account_id", "partners.id"],
            name=op.f("fk_partner_secrets_account_id_partner_id"),
        ),
        sa.PrimaryKeyConstraint("account_id", "partner_id", "number", name=op.f("pk_partner_secrets")),
    )
    # Each channel of a partner kept the same secret.
    op.execute(
        "INSERT INTO partner_secrets (account_id, partner_id, number, sealed, created_at) "
        "SELECT c.account_id, c.partner_id, 1, c.secret, p.created_at FROM partner_channels c "
        "JOIN partners p ON p.account_id = c.account_id AND p.id = c.partner_id "
        "WHERE c.position = 0 AND c.secret IS NOT NULL"
    )
    op.create_table(
        "connection_tests",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("endpoints", _JSON, nullable=False),
        sa.Column("tested_by", sa.String(), nullable=False),
        sa.Column("tested_at", pipeline.core.db.Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "partner_id"],
            ["partners.account_id", "partners.id"],
            name=op.f("fk_connection_tests_account_id_partner_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connection_tests")),
    )
    op.create_index("ix_connection_tests_account_id_partner_id", "connection_tests", ["account_id", "partner_id"])
    with op.batch_alter_table("partners") as batch_op:
        batch_op.add_column(sa.Column("endpoints_changed_at", pipeline.core.db.Instant(), nullable=True))
    op.execute("UPDATE partners SET endpoints_changed_at = updated_at")
    with op.batch_alter_table("partners") as batch_op:
        batch_op.alter_column("endpoints_changed_at", existing_type=pipeline.core.db.Instant(), nullable=False)
    with op.batch_alter_table("partner_channels") as batch_op:
        batch_op.add_column(sa.Column("endpoint", _JSON, nullable=True))
        batch_op.add_column(sa.Column("credential", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("window_began_at", pipeline.core.db.Instant(), nullable=True))
        batch_op.add_column(sa.Column("window_attempts", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("window_failures", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("open_until", pipeline.core.db.Instant(), nullable=True))
        batch_op.add_column(sa.Column("polled_at", pipeline.core.db.Instant(), nullable=True))
    endpoints = _channels("endpoint", "address")
    connection = op.get_bind()
    for account_id, partner_id, channel, address in connection.execute(
        sa.select(*(endpoints.c[name] for name in ("account_id", "partner_id", "channel", "address")))
    ).all():
        connection.execute(
            endpoints.update()
            .where(
                endpoints.c.account_id == account_id,
                endpoints.c.partner_id == partner_id,
                endpoints.c.channel == channel,
            )
            .values(endpoint={"channel": channel} | ({} if address is None else {"address": address}))
        )
    with op.batch_alter_table("partner_channels") as batch_op:
        batch_op.alter_column("endpoint", existing_type=_JSON, nullable=False)
        for counter in ("failures", "window_attempts", "window_failures"):
            batch_op.alter_column(counter, existing_type=sa.Integer(), server_default=None)
        batch_op.drop_column("address")
        batch_op.drop_column("secret")
    with op.batch_alter_table("broker_submissions") as batch_op:
        batch_op.add_column(sa.Column("overdue_at", pipeline.core.db.Instant(), nullable=True))
        batch_op.add_column(sa.Column("handoff_id", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("polled_at", pipeline.core.db.Instant(), nullable=True))
        batch_op.create_index("ix_broker_submissions_deadline_at", ["deadline_at"], **_NOT_OVERDUE)
        batch_op.create_index("ix_broker_submissions_polled_at", ["polled_at"], **_ASKED_ABOUT)
        batch_op.create_index("ix_broker_submissions_account_id_partner_id", ["account_id", "partner_id", "updated_at"])
    op.create_index("ix_deliveries_partner", "deliveries", ["account_id", "partner_id", "export_id"])
    op.add_column("exports", sa.Column("supersedes_id", sa.String(), nullable=True))
    op.create_index("ix_exports_supersedes_id", "exports", ["supersedes_id"], unique=True)
    with op.batch_alter_table("units") as batch_op:
        batch_op.add_column(sa.Column("released", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.drop_constraint("uq_units_account_id_package_number", type_="unique")
    with op.batch_alter_table("units") as batch_op:
        batch_op.alter_column("released", existing_type=sa.Boolean(), server_default=None)
        batch_op.create_index(
            "uq_units_account_id_package_number", ["account_id", "package_number"], unique=True, **_NOT_RELEASED
        )


def downgrade() -> None:
    """Take back; what only the newer version can say, such as a mailbox, goes with it."""
    with op.batch_alter_table("units") as batch_op:
        batch_op.drop_index("uq_units_account_id_package_number", **_NOT_RELEASED)
    # A number that a newer revision carries on stands twice, which the older version knows nothing of.
    op.execute("UPDATE units SET package_number = NULL WHERE released")
    with op.batch_alter_table("units") as batch_op:
        batch_op.drop_column("released")
        batch_op.create_unique_constraint("uq_units_account_id_package_number", ["account_id", "package_number"])
    op.drop_index("ix_deliveries_partner", "deliveries")
    op.drop_index("ix_exports_supersedes_id", "exports")
    with op.batch_alter_table("exports") as batch_op:
        batch_op.drop_column("supersedes_id")
    with op.batch_alter_table("broker_submissions") as batch_op:
        batch_op.drop_index("ix_broker_submissions_account_id_partner_id")
        batch_op.drop_index("ix_broker_submissions_polled_at", **_ASKED_ABOUT)
        batch_op.drop_index("ix_broker_submissions_deadline_at", **_NOT_OVERDUE)
        for name in ("polled_at", "handoff_id", "overdue_at"):
            batch_op.drop_column(name)
    with op.batch_alter_table("partner_channels") as batch_op:
        batch_op.add_column(sa.Column("address", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("secret", sa.String(), nullable=True))
    endpoints = _channels("endpoint", "address")
    connection = op.get_bind()
    connection.execute(endpoints.delete().where(endpoints.c.channel.in_(("email", "sftp"))))
    for account_id, partner_id, channel, endpoint in connection.execute(
        sa.select(*(endpoints.c[name] for name in ("account_id", "partner_id", "channel", "endpoint")))
    ).all():
        connection.execute(
            endpoints.update()
            .where(
                endpoints.c.account_id == account_id,
                endpoints.c.partner_id == partner_id,
                endpoints.c.channel == channel,
            )
            .values(address=endpoint.get("address"))
        )
    op.execute(
        "UPDATE partner_channels SET secret = (SELECT s.sealed FROM partner_secrets s "
        "WHERE s.account_id = partner_channels.account_id AND s.partner_id = partner_channels.partner_id "
        "ORDER BY s.number DESC LIMIT 1)"
    )
    with op.batch_alter_table("partner_channels") as batch_op:
        for name in (
            "polled_at",
            "open_until",
            "window_failures",
            "window_attempts",
            "window_began_at",
            "failures",
            "credential",
            "endpoint",
        ):
            batch_op.drop_column(name)
    with op.batch_alter_table("partners") as batch_op:
        batch_op.drop_column("endpoints_changed_at")
    op.drop_index("ix_connection_tests_account_id_partner_id", "connection_tests")
    op.drop_table("connection_tests")
    op.drop_table("partner_secrets")


def _channels(*columns: str) -> sa.TableClause:
    return sa.table(
        "partner_channels",
        sa.column("account_id", sa.String()),
        sa.column("partner_id", sa.String()),
        sa.column("channel", sa.String()),
        *(sa.column(name, _JSON if name == "endpoint" else sa.String()) for name in columns),
    )
