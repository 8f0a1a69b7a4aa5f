"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql
from alembic import op

import pipeline.core.db

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("gs1_prefix", sa.String(), nullable=True),
        sa.Column("packages_numbered", sa.BigInteger(), nullable=False),
        sa.Column("ssccs_issued", sa.BigInteger(), nullable=False),
        sa.Column("created_at", pipeline.core.db.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_table(
        "sandbox_handoffs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("submission_id", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column(
            "invoice_numbers", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql"), nullable=False
        ),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("answer", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("received_at", pipeline.core.db.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandbox_handoffs")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("roles", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("created_at", pipeline.core.db.Instant(), nullable=False),
        sa.Column("expires_at", pipeline.core.db.Instant(), nullable=True),
        sa.Column("revoked_at", pipeline.core.db.Instant(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_api_keys_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_api_keys_account_id"), ["account_id"], unique=False)

    op.create_table(
        "partners",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("path", sa.String(), nullable=True),
        sa.Column(
            "artifact_types", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql"), nullable=True
        ),
        sa.Column("created_at", pipeline.core.db.Instant(), nullable=False),
        sa.Column("updated_at", pipeline.core.db.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_partners_account_id")),
        sa.PrimaryKeyConstraint("account_id", "id", name=op.f("pk_partners")),
    )
    op.create_table(
        "plans",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("registered_at", pipeline.core.db.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_plans_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
        sa.UniqueConstraint("account_id", "batch_id", "plan_hash", name=op.f("uq_plans_account_id_batch_id_plan_hash")),
    )
    op.create_table(
        "exports",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("plan_id", sa.String(), nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("broker_id", sa.String(), nullable=False),
        sa.Column("warehouse_id", sa.String(), nullable=False),
        sa.Column("ruleset_id", sa.String(), nullable=False),
        sa.Column("ruleset_as_of", sa.Date(), nullable=False),
        sa.Column("units_total", sa.Integer(), nullable=False),
        sa.Column("units_closed", sa.Integer(), nullable=False),
        sa.Column("next_seq", sa.Integer(), nullable=False),
        sa.Column("treatment_digest", sa.String(), nullable=False),
        sa.Column("findings", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("trace_parent", sa.String(), nullable=True),
        sa.Column("accepted_at", pipeline.core.db.Instant(), nullable=False),
        sa.Column("updated_at", pipeline.core.db.Instant(), nullable=False),
        sa.Column("finished_at", pipeline.core.db.Instant(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_exports_account_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_exports_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
        sa.UniqueConstraint("account_id", "batch_id", "revision", name=op.f("uq_exports_account_id_batch_id_revision")),
    )
    with op.batch_alter_table("exports", schema=None) as batch_op:
        batch_op.create_index("ix_exports_account_id_id", ["account_id", "id"], unique=False)

    op.create_table(
        "partner_channels",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("secret", sa.String(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "partner_id"],
            ["partners.account_id", "partners.id"],
            name=op.f("fk_partner_channels_account_id_partner_id"),
        ),
        sa.PrimaryKeyConstraint("account_id", "partner_id", "channel", name=op.f("pk_partner_channels")),
    )
    op.create_table(
        "broker_submissions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("submission_type", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("recipient", sa.String(), nullable=True),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("sent_at", pipeline.core.db.Instant(), nullable=True),
        sa.Column("deadline_at", pipeline.core.db.Instant(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("created_at", pipeline.core.db.Instant(), nullable=False),
        sa.Column("updated_at", pipeline.core.db.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_broker_submissions_export_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broker_submissions")),
        sa.UniqueConstraint("export_id", "partner_id", name=op.f("uq_broker_submissions_export_id_partner_id")),
    )
    op.create_table(
        "events",
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("at", pipeline.core.db.Instant(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("data", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql"), nullable=False),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_events_export_id")),
        sa.PrimaryKeyConstraint("export_id", "seq", name=op.f("pk_events")),
    )
    op.create_table(
        "idempotency_records",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", pipeline.core.db.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_idempotency_records_account_id")),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_idempotency_records_export_id")),
        sa.PrimaryKeyConstraint("account_id", "key", name=op.f("pk_idempotency_records")),
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("audience", sa.String(), nullable=False),
        sa.Column("event_type", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("created_at", pipeline.core.db.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_notifications_export_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
    )
    with op.batch_alter_table("notifications", schema=None) as batch_op:
        batch_op.create_index("ix_notifications_export_id_position", ["export_id", "position"], unique=False)

    op.create_table(
        "steps",
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("unit_no", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_until", pipeline.core.db.Instant(), nullable=True),
        sa.Column("due_at", pipeline.core.db.Instant(), nullable=True),
        sa.Column("started_at", pipeline.core.db.Instant(), nullable=True),
        sa.Column("finished_at", pipeline.core.db.Instant(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_steps_export_id")),
        sa.PrimaryKeyConstraint("export_id", "unit_no", "name", name=op.f("pk_steps")),
    )
    with op.batch_alter_table("steps", schema=None) as batch_op:
        batch_op.create_index(
            "ix_steps_due_at",
            ["due_at"],
            unique=False,
            postgresql_where=sa.text("state = 'ready'"),
            sqlite_where=sa.text("state = 'ready'"),
        )

    op.create_table(
        "units",
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("unit_no", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("unit_ref", sa.String(), nullable=False),
        sa.Column("customs_package_id", sa.String(), nullable=False),
        sa.Column("package_number", sa.String(), nullable=True),
        sa.Column("treatment_digest", sa.String(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", pipeline.core.db.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_units_export_id")),
        sa.PrimaryKeyConstraint("export_id", "unit_no", name=op.f("pk_units")),
        sa.UniqueConstraint("account_id", "package_number", name=op.f("uq_units_account_id_package_number")),
        sa.UniqueConstraint("customs_package_id", name=op.f("uq_units_customs_package_id")),
    )
    op.create_table(
        "acknowledgements",
        sa.Column("submission_id", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=True),
        sa.Column("entry_number", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("fields", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("received_at", pipeline.core.db.Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["broker_submissions.id"], name=op.f("fk_acknowledgements_submission_id")
        ),
        sa.PrimaryKeyConstraint("submission_id", "id", name=op.f("pk_acknowledgements")),
    )
    op.create_table(
        "artifacts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("unit_no", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("artifact_type", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("template_version", sa.String(), nullable=False),
        sa.Column("generated_at", pipeline.core.db.Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["export_id", "unit_no"], ["units.export_id", "units.unit_no"], name=op.f("fk_artifacts_export_id_unit_no")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
        sa.UniqueConstraint(
            "export_id", "unit_no", "artifact_type", name=op.f("uq_artifacts_export_id_unit_no_artifact_type")
        ),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("notification_id", sa.String(), nullable=False),
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("audience", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("attempts_not_counted", sa.Integer(), nullable=False),
        sa.Column("lease_until", pipeline.core.db.Instant(), nullable=True),
        sa.Column("due_at", pipeline.core.db.Instant(), nullable=True),
        sa.Column("delivered_at", pipeline.core.db.Instant(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", pipeline.core.db.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_deliveries_export_id")),
        sa.ForeignKeyConstraint(["notification_id"], ["notifications.id"], name=op.f("fk_deliveries_notification_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "notification_id", "partner_id", "channel", name=op.f("uq_deliveries_notification_id_partner_id_channel")
        ),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index("ix_deliveries_account_id_id", ["account_id", "id"], unique=False)
        batch_op.create_index(
            "ix_deliveries_due_at",
            ["due_at"],
            unique=False,
            postgresql_where=sa.text("state = 'pending'"),
            sqlite_where=sa.text("state = 'pending'"),
        )
        batch_op.create_index("ix_deliveries_stream", ["export_id", "partner_id", "channel", "position"], unique=False)

    op.create_table(
        "packages",
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("unit_no", sa.Integer(), nullable=False),
        sa.Column("package_ref", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("sscc", sa.String(), nullable=True),
        sa.Column("sscc_issued", sa.Boolean(), nullable=False),
        sa.Column("released", sa.Boolean(), nullable=False),
        sa.Column("lpn", sa.String(), nullable=True),
        sa.Column("parent_ref", sa.String(), nullable=True),
        sa.Column("length_cm", sa.String(), nullable=False),
        sa.Column("width_cm", sa.String(), nullable=False),
        sa.Column("height_cm", sa.String(), nullable=False),
        sa.Column("gross_weight_kg", sa.String(), nullable=False),
        sa.Column("tare_weight_kg", sa.String(), nullable=False),
        sa.Column("tracking_number", sa.String(), nullable=True),
        sa.Column("order_id", sa.String(), nullable=True),
        sa.Column("contents", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql"), nullable=False),
        sa.ForeignKeyConstraint(
            ["export_id", "unit_no"], ["units.export_id", "units.unit_no"], name=op.f("fk_packages_export_id_unit_no")
        ),
        sa.PrimaryKeyConstraint("export_id", "unit_no", "package_ref", name=op.f("pk_packages")),
    )
    with op.batch_alter_table("packages", schema=None) as batch_op:
        batch_op.create_index("ix_packages_account_id_lpn", ["account_id", "lpn"], unique=False)
        batch_op.create_index(
            "uq_packages_account_id_sscc",
            ["account_id", "sscc"],
            unique=True,
            postgresql_where=sa.text("NOT released"),
            sqlite_where=sa.text("NOT released"),
        )

    op.create_table(
        "treatments",
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("unit_no", sa.Integer(), nullable=False),
        sa.Column("line_ref", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("hts_code", sa.String(), nullable=False),
        sa.Column("country_of_origin", sa.String(), nullable=False),
        sa.Column("chapter99", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("section232", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("pga", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["export_id", "unit_no"], ["units.export_id", "units.unit_no"], name=op.f("fk_treatments_export_id_unit_no")
        ),
        sa.PrimaryKeyConstraint("export_id", "unit_no", "line_ref", name=op.f("pk_treatments")),
    )
    op.create_table(
        "attempts",
        sa.Column("delivery_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("answer", sa.String(), nullable=True),
        sa.Column("error_class", sa.String(), nullable=True),
        sa.Column("at", pipeline.core.db.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name=op.f("fk_attempts_delivery_id")),
        sa.PrimaryKeyConstraint("delivery_id", "number", name=op.f("pk_attempts")),
    )
    # ### end Alembic commands ###


def downgrade() -> None:
    """Take back."""
    op.drop_table("attempts")
    op.drop_table("treatments")
    with op.batch_alter_table("packages", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_packages_account_id_sscc",
            postgresql_where=sa.text("NOT released"),
            sqlite_where=sa.text("NOT released"),
        )
        batch_op.drop_index("ix_packages_account_id_lpn")

    op.drop_table("packages")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index("ix_deliveries_stream")
        batch_op.drop_index(
            "ix_deliveries_due_at",
            postgresql_where=sa.text("state = 'pending'"),
            sqlite_where=sa.text("state = 'pending'"),
        )
        batch_op.drop_index("ix_deliveries_account_id_id")

    op.drop_table("deliveries")
    op.drop_table("artifacts")
    op.drop_table("acknowledgements")
    op.drop_table("units")
    with op.batch_alter_table("steps", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_steps_due_at", postgresql_where=sa.text("state = 'ready'"), sqlite_where=sa.text("state = 'ready'")
        )

    op.drop_table("steps")
    with op.batch_alter_table("notifications", schema=None) as batch_op:
        batch_op.drop_index("ix_notifications_export_id_position")

    op.drop_table("notifications")
    op.drop_table("idempotency_records")
    op.drop_table("events")
    op.drop_table("broker_submissions")
    op.drop_table("partner_channels")
    with op.batch_alter_table("exports", schema=None) as batch_op:
        batch_op.drop_index("ix_exports_account_id_id")

    op.drop_table("exports")
    op.drop_table("plans")
    op.drop_table("partners")
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_api_keys_account_id"))

    op.drop_table("api_keys")
    op.drop_table("sandbox_handoffs")
    op.drop_table("accounts")
    # ### end Alembic commands ###
