"""All tables, and the triggers that keep the log append-only, and outcomes and the inbox right."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.core.db import Instant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON_COLUMN = sa.JSON().with_variant(JSONB(), "postgresql")

#: Tables of the log, each with the query for the rows that an INSERT OR REPLACE would replace.
APPEND_ONLY = {
    "events": "SELECT 1 FROM events WHERE (export_id = NEW.export_id AND seq = NEW.seq) OR rowid = NEW.rowid",
    "acts": "SELECT 1 FROM acts WHERE (account_id = NEW.account_id AND seq = NEW.seq) OR rowid = NEW.rowid",
    "attempts": "SELECT 1 FROM attempts WHERE (delivery_id = NEW.delivery_id AND number = NEW.number) OR rowid = NEW.rowid",
}

#: How an export's row decides about its dead letters in the inbox.
_DEAD_STATE = (
    "CASE WHEN {row}.purged_at IS NOT NULL THEN 'closed'"
    " WHEN {row}.acknowledged_seq IS NOT NULL THEN 'acknowledged' ELSE 'open' END"
)
_INBOX_TRIGGER = (
    "CREATE TRIGGER exports_inbox AFTER UPDATE OF acknowledged_seq, purged_at ON exports"
    f" FOR EACH ROW WHEN ({_DEAD_STATE.format(row='OLD')} <> {_DEAD_STATE.format(row='NEW')})"
)
_KEEP_INBOX = (  # noqa: S608 - our own names
    "UPDATE deliveries SET inbox = {dead} WHERE subject_id = NEW.id AND inbox <> {dead}"
    " AND (state = 'dead' OR {dead} = 'open');"
).format(dead=_DEAD_STATE.format(row="NEW"))

#: The outcome of a row of `exports`.
_OUTCOME = """
    CASE
        WHEN state IN ('accepted', 'executing') THEN 'in_progress'
        WHEN state = 'failed' THEN 'needs_attention'
        WHEN state IN ('cancelled', 'superseded') THEN state
        ELSE coalesce((
            SELECT CASE
                WHEN handoff.state IN ('rejected', 'query', 'held') THEN handoff.state
                WHEN handoff.state = 'failed' OR EXISTS (
                    SELECT 1 FROM deliveries
                    WHERE deliveries.subject_id = exports.id AND deliveries.state = 'dead' AND deliveries.audience = 'warehouse'
                ) THEN 'undeliverable'
                WHEN handoff.overdue_at IS NOT NULL AND handoff.deadline_at IS NOT NULL THEN 'overdue'
                WHEN handoff.state IN ('accepted', 'filed', 'released') THEN handoff.state
                ELSE 'with_broker'
            END
            FROM broker_submissions handoff
            WHERE handoff.export_id = exports.id AND handoff.partner_id = exports.broker_id
        ), 'with_broker')
    END"""
_KEEP_OUTCOME = "UPDATE exports SET outcome = {outcome} WHERE id = {of} AND outcome <> {outcome};"
#: What the outcome depends on, in a row of each table.
_HANDOFF_FACT = (
    "CASE WHEN {row}.state IN ('pending', 'sent', 'delivered', 'received') THEN 'sent' ELSE {row}.state END"
    " || CASE WHEN {row}.overdue_at IS NOT NULL AND {row}.deadline_at IS NOT NULL THEN ' late' ELSE '' END"
)
_DEAD_FACT = "({row}.state = 'dead' AND {row}.audience = 'warehouse')"
#: Name of the trigger -> its event, its condition, and the id of the export.
_OUTCOME_TRIGGERS = {
    "exports_outcome_new": (
        "INSERT ON exports",
        "NEW.state <> 'accepted' OR NEW.outcome <> 'in_progress'",
        "NEW.id",
    ),
    "exports_outcome": (
        "UPDATE OF state, broker_id ON exports",
        "(OLD.state, OLD.broker_id) <> (NEW.state, NEW.broker_id) AND (OLD.state, NEW.state) <> ('accepted', 'executing')",
        "NEW.id",
    ),
    "broker_submissions_outcome_new": ("INSERT ON broker_submissions", "NEW.state <> 'pending'", "NEW.export_id"),
    "broker_submissions_outcome": (
        "UPDATE OF state, overdue_at, deadline_at ON broker_submissions",
        f"{_HANDOFF_FACT.format(row='OLD')} <> {_HANDOFF_FACT.format(row='NEW')}",
        "NEW.export_id",
    ),
    "deliveries_outcome_new": ("INSERT ON deliveries", _DEAD_FACT.format(row="NEW"), "NEW.subject_id"),
    "deliveries_outcome": (
        "UPDATE OF state, audience ON deliveries",
        f"{_DEAD_FACT.format(row='OLD')} <> {_DEAD_FACT.format(row='NEW')}",
        "NEW.subject_id",
    ),
    "deliveries_outcome_old": ("DELETE ON deliveries", _DEAD_FACT.format(row="OLD"), "OLD.subject_id"),
}

TABLES = (
    "accounts",
    "heartbeats",
    "tariff_editions",
    "tariff_rows",
    "tariff_flags",
    "duty_cases",
    "rulesets",
    "ruleset_activations",
    "stats",
    "work_counts",
    "sandbox_handoffs",
    "logos",
    "audit_trails",
    "acts",
    "people",
    "credentials",
    "recovery_codes",
    "memberships",
    "one_time_links",
    "sessions",
    "guesses",
    "api_keys",
    "number_blocks",
    "partners",
    "plans",
    "products",
    "plan_templates",
    "planned_batches",
    "saved_filters",
    "sync_records",
    "waivers",
    "origin_certifications",
    "connection_tests",
    "exports",
    "orders",
    "partner_channels",
    "partner_secrets",
    "portal_links",
    "used_signatures",
    "broker_submissions",
    "events",
    "idempotency_records",
    "legal_holds",
    "notifications",
    "steps",
    "units",
    "acknowledgements",
    "artifacts",
    "deliveries",
    "packages",
    "treatments",
    "attempts",
)


def upgrade() -> None:
    """Create all tables and triggers."""
    _create_tariff()
    _create_tables()
    _create_indexes()
    if op.get_context().dialect.name == "sqlite":
        _create_sqlite_triggers()
    else:
        _create_postgresql_triggers()


def downgrade() -> None:
    """Drop all tables, and with them their triggers."""
    for table in reversed(TABLES):
        op.drop_table(table)
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")
        op.execute("DROP FUNCTION keep_inbox()")
        for name in _OUTCOME_TRIGGERS:
            op.execute(f"DROP FUNCTION {name}()")
        op.execute("DROP FUNCTION keep_outcome(text)")


def _create_sqlite_triggers() -> None:
    for table, replaced in APPEND_ONLY.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for verb in ("UPDATE", "DELETE"):
            op.execute(f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} {refuse}")
        # INSERT OR REPLACE deletes the older row without firing a trigger for DELETE.
        op.execute(f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN EXISTS ({replaced}) {refuse}")
    op.execute(f"{_INBOX_TRIGGER} BEGIN {_KEEP_INBOX} END")
    for name, (happens, condition, of) in _OUTCOME_TRIGGERS.items():
        keep = _KEEP_OUTCOME.format(outcome=_OUTCOME, of=of)
        op.execute(f"CREATE TRIGGER {name} AFTER {happens} FOR EACH ROW WHEN ({condition}) BEGIN {keep} END")


def _create_postgresql_triggers() -> None:
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        # A row trigger does not fire on TRUNCATE.
        op.execute(
            f"CREATE TRIGGER {table}_never_emptied BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(
        f"CREATE FUNCTION keep_inbox() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {_KEEP_INBOX} RETURN NULL; END $$"
    )
    op.execute(f"{_INBOX_TRIGGER} EXECUTE FUNCTION keep_inbox()")
    # The second statement sees what a transaction wrote that had locked the export.
    lock = "PERFORM 1 FROM exports WHERE id = of_export FOR NO KEY UPDATE;"
    op.execute(
        "CREATE FUNCTION keep_outcome(of_export text) RETURNS void LANGUAGE plpgsql AS "
        f"$$ BEGIN {lock} {_KEEP_OUTCOME.format(outcome=_OUTCOME, of='of_export')} END $$"
    )
    for name, (happens, condition, of) in _OUTCOME_TRIGGERS.items():
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM keep_outcome({of}); RETURN NULL; END $$"
        )
        op.execute(f"CREATE TRIGGER {name} AFTER {happens} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {name}()")


def _create_tariff() -> None:
    op.create_table(
        "tariff_editions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("effective_from", sa.Date(), nullable=False),
        sa.Column("effective_to", sa.Date(), nullable=True),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("numbers", sa.Integer(), nullable=False),
        sa.Column("chapters", JSON_COLUMN, nullable=False),
        sa.Column("imported_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tariff_editions")),
        sa.UniqueConstraint("kind", "effective_from", name=op.f("uq_tariff_editions_kind_effective_from")),
        sa.UniqueConstraint("name", name=op.f("uq_tariff_editions_name")),
    )
    op.create_table(
        "tariff_rows",
        sa.Column("edition_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("heading", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("number8", sa.String(), nullable=True),
        sa.Column("indent", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("units", JSON_COLUMN, nullable=False),
        sa.Column("general", sa.Text(), nullable=False),
        sa.Column("special", sa.Text(), nullable=False),
        sa.Column("other", sa.Text(), nullable=False),
        sa.Column("quota_quantity", sa.Text(), nullable=False),
        sa.Column("additional_duties", sa.Text(), nullable=False),
        sa.Column("footnotes", JSON_COLUMN, nullable=False),
        sa.ForeignKeyConstraint(["edition_id"], ["tariff_editions.id"], name=op.f("fk_tariff_rows_edition_id")),
        sa.PrimaryKeyConstraint("edition_id", "position", name=op.f("pk_tariff_rows")),
    )
    op.create_table(
        "tariff_flags",
        sa.Column("edition_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("flag", sa.String(), nullable=False),
        sa.Column("agency", sa.String(), nullable=False),
        sa.Column("requirement", sa.String(), nullable=False),
        sa.Column("meaning", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["edition_id"], ["tariff_editions.id"], name=op.f("fk_tariff_flags_edition_id")),
        sa.PrimaryKeyConstraint("edition_id", "position", name=op.f("pk_tariff_flags")),
    )
    op.create_table(
        "duty_cases",
        sa.Column("edition_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("case_number", sa.String(), nullable=False),
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("country", sa.String(), nullable=False),
        sa.Column("numbers", JSON_COLUMN, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("rate", sa.Text(), nullable=False),
        sa.Column("effective_from", sa.Date(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["edition_id"], ["tariff_editions.id"], name=op.f("fk_duty_cases_edition_id")),
        sa.PrimaryKeyConstraint("edition_id", "position", name=op.f("pk_duty_cases")),
    )


def _create_tables() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("gs1_prefix", sa.String(), nullable=True),
        sa.Column("mail_domains", JSON_COLUMN, nullable=True),
        sa.Column("packages_numbered", sa.BigInteger(), nullable=False),
        sa.Column("ssccs_issued", sa.BigInteger(), nullable=False),
        sa.Column("blocks_dropped_to", sa.BigInteger(), nullable=False),
        sa.Column("prints_french", sa.Boolean(), nullable=False),
        sa.Column("logo_sha256", sa.String(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("arrived_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_heartbeats")),
    )
    op.create_table(
        "rulesets",
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("ruleset_id", sa.String(), nullable=False),
        sa.Column("as_of", sa.Date(), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("signed_by", sa.String(), nullable=True),
        sa.Column("stored_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("content_hash", name=op.f("pk_rulesets")),
    )
    op.create_table(
        "ruleset_activations",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("activated_by", sa.String(), nullable=False),
        sa.Column("activated_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["content_hash"], ["rulesets.content_hash"], name=op.f("fk_ruleset_activations_content_hash")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_ruleset_activations")),
    )
    op.create_table(
        "stats",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("starts_at", Instant(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("bin", sa.Integer(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "account_id", "name", "seconds", "starts_at", "partner_id", "label", "bin", name=op.f("pk_stats")
        ),
    )
    op.create_table(
        "work_counts",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "name", "state", name=op.f("pk_work_counts")),
    )
    op.create_table(
        "sandbox_handoffs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("submission_id", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("invoice_numbers", JSON_COLUMN, nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("answer", JSON_COLUMN, nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandbox_handoffs")),
    )
    op.create_table(
        "logos",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("picture", sa.LargeBinary(), nullable=False),
        sa.Column("added_by", sa.String(), nullable=False),
        sa.Column("added_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_logos_account_id")),
        sa.PrimaryKeyConstraint("account_id", "sha256", name=op.f("pk_logos")),
    )
    op.create_table(
        "audit_trails",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("next_seq", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_audit_trails_account_id")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_audit_trails")),
    )
    op.create_table(
        "acts",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", JSON_COLUMN, nullable=False),
        sa.Column("prev_hash", sa.String(), nullable=True),
        sa.Column("hash", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_acts_account_id")),
        sa.PrimaryKeyConstraint("account_id", "seq", name=op.f("pk_acts")),
    )
    op.create_table(
        "people",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("disabled_at", Instant(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_people")),
        sa.UniqueConstraint("email", name=op.f("uq_people_email")),
    )
    op.create_table(
        "credentials",
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("totp_secret", sa.String(), nullable=True),
        sa.Column("totp_step", sa.BigInteger(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=True),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_credentials_person_id")),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_credentials")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_credentials_issuer_subject")),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("code_hash", sa.String(), nullable=False),
        sa.Column("used_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_recovery_codes_person_id")),
        sa.PrimaryKeyConstraint("person_id", "code_hash", name=op.f("pk_recovery_codes")),
    )
    op.create_table(
        "memberships",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("roles", JSON_COLUMN, nullable=False),
        sa.Column("invited_by", sa.String(), nullable=False),
        sa.Column("invited_at", Instant(), nullable=False),
        sa.Column("joined_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_memberships_account_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_memberships_person_id")),
        sa.PrimaryKeyConstraint("account_id", "person_id", name=op.f("pk_memberships")),
    )
    op.create_table(
        "one_time_links",
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("used_at", Instant(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_one_time_links_account_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_one_time_links_person_id")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_one_time_links")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("id_token", sa.String(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_sessions_account_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_sessions_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_sessions_token_hash")),
    )
    op.create_table(
        "guesses",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", Instant(), nullable=False),
        sa.Column("locked_until", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_guesses")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("roles", JSON_COLUMN, nullable=False),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=True),
        sa.Column("revoked_at", Instant(), nullable=True),
        sa.Column("last_used_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_api_keys_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_table(
        "number_blocks",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("last_package", sa.BigInteger(), nullable=False),
        sa.Column("packages_left", sa.Integer(), nullable=False),
        sa.Column("last_sscc", sa.BigInteger(), nullable=False),
        sa.Column("ssccs_left", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_number_blocks_account_id")),
        sa.PrimaryKeyConstraint("account_id", "last_package", name=op.f("pk_number_blocks")),
    )
    op.create_table(
        "partners",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("routing_name", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("path", sa.String(), nullable=True),
        sa.Column("artifact_types", JSON_COLUMN, nullable=True),
        sa.Column("profile", JSON_COLUMN, nullable=True),
        sa.Column("endpoints_changed_at", Instant(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_partners_account_id")),
        sa.PrimaryKeyConstraint("account_id", "id", name=op.f("pk_partners")),
        sa.UniqueConstraint("kind", "routing_name", name=op.f("uq_partners_kind_routing_name")),
    )
    op.create_table(
        "plans",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("registered_at", Instant(), nullable=False),
        sa.Column("entry_on", sa.Date(), nullable=True),
        sa.Column("rules_hash", sa.String(), nullable=True),
        sa.Column("editions", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_plans_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
        sa.UniqueConstraint(
            "account_id", "batch_id", "plan_hash", "test", name=op.f("uq_plans_account_id_batch_id_plan_hash_test")
        ),
    )
    op.create_table(
        "waivers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("pointer", sa.String(), nullable=True),
        sa.Column("partner_id", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("waived_by", sa.String(), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("revoked_by", sa.String(), nullable=True),
        sa.Column("revoked_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_waivers_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waivers")),
    )
    op.create_table(
        "origin_certifications",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("hs_code", sa.String(), nullable=False),
        sa.Column("sku", sa.String(), nullable=False),
        sa.Column("blanket_to", sa.Date(), nullable=False),
        sa.Column("blanket_from", sa.Date(), nullable=False),
        sa.Column("certifier_name", sa.String(), nullable=False),
        sa.Column("ref", sa.String(), nullable=False),
        sa.Column("certifier_role", sa.String(), nullable=False),
        sa.Column("criterion", sa.String(), nullable=False),
        sa.Column("signed_on", sa.Date(), nullable=False),
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("first_used_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_origin_certifications_account_id")),
        sa.PrimaryKeyConstraint(
            "account_id",
            "hs_code",
            "sku",
            "blanket_to",
            "blanket_from",
            "certifier_name",
            name=op.f("pk_origin_certifications"),
        ),
    )
    op.create_table(
        "connection_tests",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("endpoints", JSON_COLUMN, nullable=False),
        sa.Column("tested_by", sa.String(), nullable=False),
        sa.Column("tested_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "partner_id"],
            ["partners.account_id", "partners.id"],
            name=op.f("fk_connection_tests_account_id_partner_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connection_tests")),
    )
    op.create_table(
        "exports",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("supersedes_id", sa.String(), nullable=True),
        sa.Column("plan_id", sa.String(), nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("broker_id", sa.String(), nullable=False),
        sa.Column("warehouse_id", sa.String(), nullable=False),
        sa.Column("ruleset_id", sa.String(), nullable=False),
        sa.Column("ruleset_as_of", sa.Date(), nullable=False),
        sa.Column("rules_hash", sa.String(), nullable=True),
        sa.Column("units_total", sa.Integer(), nullable=False),
        sa.Column("units_closed", sa.Integer(), nullable=False),
        sa.Column("next_seq", sa.Integer(), nullable=False),
        sa.Column("treatment_digest", sa.String(), nullable=False),
        sa.Column("prints_french", sa.Boolean(), nullable=False),
        sa.Column("logo_sha256", sa.String(), nullable=True),
        sa.Column("broker_name", sa.String(), nullable=True),
        sa.Column("findings", JSON_COLUMN, nullable=False),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("quarantined", sa.Boolean(), nullable=False),
        sa.Column("acknowledged_seq", sa.Integer(), nullable=True),
        sa.Column("trace_parent", sa.String(), nullable=True),
        sa.Column("trace_state", sa.String(), nullable=True),
        sa.Column("accepted_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.Column("purged_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_exports_account_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_exports_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
        sa.UniqueConstraint(
            "account_id", "batch_id", "test", "revision", name=op.f("uq_exports_account_id_batch_id_test_revision")
        ),
    )
    op.create_table(
        "partner_channels",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("endpoint", JSON_COLUMN, nullable=False),
        sa.Column("credential", sa.String(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("window_began_at", Instant(), nullable=True),
        sa.Column("window_attempts", sa.Integer(), nullable=False),
        sa.Column("window_failures", sa.Integer(), nullable=False),
        sa.Column("open_until", Instant(), nullable=True),
        sa.Column("polled_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id", "partner_id"],
            ["partners.account_id", "partners.id"],
            name=op.f("fk_partner_channels_account_id_partner_id"),
        ),
        sa.PrimaryKeyConstraint("account_id", "partner_id", "channel", name=op.f("pk_partner_channels")),
    )
    op.create_table(
        "partner_secrets",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.String(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("ends_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id", "partner_id"],
            ["partners.account_id", "partners.id"],
            name=op.f("fk_partner_secrets_account_id_partner_id"),
        ),
        sa.PrimaryKeyConstraint("account_id", "partner_id", "number", name=op.f("pk_partner_secrets")),
    )
    op.create_table(
        "portal_links",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("revoked_at", Instant(), nullable=True),
        sa.Column("last_used_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id", "partner_id"],
            ["partners.account_id", "partners.id"],
            name=op.f("fk_portal_links_account_id_partner_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_portal_links")),
    )
    op.create_table(
        "used_signatures",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("submission_id", sa.String(), nullable=False),
        sa.Column("used_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "partner_id"],
            ["partners.account_id", "partners.id"],
            name=op.f("fk_used_signatures_account_id_partner_id"),
        ),
        sa.PrimaryKeyConstraint("account_id", "partner_id", "digest", name=op.f("pk_used_signatures")),
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
        sa.Column("sent_at", Instant(), nullable=True),
        sa.Column("deadline_at", Instant(), nullable=True),
        sa.Column("overdue_at", Instant(), nullable=True),
        sa.Column("first_accepted_at", Instant(), nullable=True),
        sa.Column("first_sent_back_at", Instant(), nullable=True),
        sa.Column("first_overdue_at", Instant(), nullable=True),
        sa.Column("handoff_id", sa.String(), nullable=True),
        sa.Column("polled_at", Instant(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_broker_submissions_export_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broker_submissions")),
        sa.UniqueConstraint("export_id", "partner_id", name=op.f("uq_broker_submissions_export_id_partner_id")),
    )
    op.create_table(
        "events",
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("data", JSON_COLUMN, nullable=False),
        sa.Column("prev_hash", sa.String(), nullable=True),
        sa.Column("hash", sa.String(), nullable=False),
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
        sa.Column("created_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_idempotency_records_account_id")),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_idempotency_records_export_id")),
        sa.PrimaryKeyConstraint("account_id", "key", name=op.f("pk_idempotency_records")),
    )
    op.create_table(
        "legal_holds",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("export_id", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("placed_by", sa.String(), nullable=False),
        sa.Column("placed_at", Instant(), nullable=False),
        sa.Column("released_by", sa.String(), nullable=True),
        sa.Column("released_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_legal_holds_account_id")),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_legal_holds_export_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_legal_holds")),
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("export_id", sa.String(), nullable=True),
        sa.Column("plan_id", sa.String(), nullable=True),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("audience", sa.String(), nullable=False),
        sa.Column("event_type", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.CheckConstraint("(export_id IS NULL) <> (plan_id IS NULL)", name=op.f("ck_notifications_subject")),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_notifications_export_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_notifications_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
    )
    op.create_table(
        "steps",
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("unit_no", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_until", Instant(), nullable=True),
        sa.Column("due_at", Instant(), nullable=True),
        sa.Column("stalled_since", Instant(), nullable=True),
        sa.Column("started_at", Instant(), nullable=True),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_steps_export_id")),
        sa.PrimaryKeyConstraint("export_id", "unit_no", "name", name=op.f("pk_steps")),
    )
    op.create_table(
        "products",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("synced_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_products_account_id")),
        sa.PrimaryKeyConstraint("account_id", "test", "external_id", name=op.f("pk_products")),
        sa.UniqueConstraint("id", name=op.f("uq_products_id")),
    )
    op.create_table(
        "plan_templates",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("destination_country", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("synced_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_plan_templates_account_id")),
        sa.PrimaryKeyConstraint("account_id", "test", "destination_country", name=op.f("pk_plan_templates")),
    )
    op.create_table(
        "planned_batches",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("orders", sa.Integer(), nullable=False),
        sa.Column("versions", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("planned_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_planned_batches_account_id")),
        sa.PrimaryKeyConstraint("account_id", "test", "batch_id", name=op.f("pk_planned_batches")),
    )
    op.create_table(
        "sync_records",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_sync_records_account_id")),
        sa.PrimaryKeyConstraint("account_id", "key", name=op.f("pk_sync_records")),
    )
    op.create_table(
        "saved_filters",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("saved_by", sa.String(), nullable=False),
        sa.Column("saved_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_saved_filters_account_id")),
        sa.PrimaryKeyConstraint("account_id", "name", name=op.f("pk_saved_filters")),
    )
    op.create_table(
        "orders",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("external_id", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("synced_at", Instant(), nullable=False),
        sa.Column("batch_id", sa.String(), nullable=True),
        sa.Column("plan_hash", sa.String(), nullable=True),
        sa.Column("held_until", Instant(), nullable=True),
        sa.Column("export_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_orders_account_id")),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_orders_export_id")),
        sa.PrimaryKeyConstraint("account_id", "test", "external_id", name=op.f("pk_orders")),
        sa.UniqueConstraint("id", name=op.f("uq_orders_id")),
    )
    op.create_table(
        "units",
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("unit_no", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("unit_ref", sa.String(), nullable=False),
        sa.Column("customs_package_id", sa.String(), nullable=False),
        sa.Column("package_number", sa.String(), nullable=True),
        sa.Column("invoice_number", sa.String(), nullable=True),
        sa.Column("purchase_order", sa.String(), nullable=True),
        sa.Column("informal_key", sa.String(), nullable=True),
        sa.Column("informal_usd", sa.String(), nullable=True),
        sa.Column("released", sa.Boolean(), nullable=False),
        sa.Column("treatment_digest", sa.String(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("tariff", sa.Text(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_units_export_id")),
        sa.PrimaryKeyConstraint("export_id", "unit_no", name=op.f("pk_units")),
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
        sa.Column("fields", JSON_COLUMN, nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
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
        sa.Column("generated_at", Instant(), nullable=False),
        sa.Column("purged_at", Instant(), nullable=True),
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
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("audience", sa.String(), nullable=False),
        sa.Column("partner_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("attempts_not_counted", sa.Integer(), nullable=False),
        sa.Column("lease_until", Instant(), nullable=True),
        sa.Column("due_at", Instant(), nullable=True),
        sa.Column("stalled_since", Instant(), nullable=True),
        sa.Column("delivered_at", Instant(), nullable=True),
        sa.Column("inbox", sa.String(), nullable=False),
        sa.Column("acknowledged_seq", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["notification_id"], ["notifications.id"], name=op.f("fk_deliveries_notification_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "notification_id", "partner_id", "channel", name=op.f("uq_deliveries_notification_id_partner_id_channel")
        ),
    )
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
        sa.Column("contents", JSON_COLUMN, nullable=False),
        sa.ForeignKeyConstraint(
            ["export_id", "unit_no"], ["units.export_id", "units.unit_no"], name=op.f("fk_packages_export_id_unit_no")
        ),
        sa.PrimaryKeyConstraint("export_id", "unit_no", "package_ref", name=op.f("pk_packages")),
    )
    op.create_table(
        "treatments",
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("unit_no", sa.Integer(), nullable=False),
        sa.Column("line_ref", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("hts_code", sa.String(), nullable=False),
        sa.Column("country_of_origin", sa.String(), nullable=False),
        sa.Column("chapter99", JSON_COLUMN, nullable=False),
        sa.Column("section232", JSON_COLUMN, nullable=False),
        sa.Column("pga", JSON_COLUMN, nullable=False),
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
        sa.Column("exchange", JSON_COLUMN, nullable=True),
        sa.Column("at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name=op.f("fk_attempts_delivery_id")),
        sa.PrimaryKeyConstraint("delivery_id", "number", name=op.f("pk_attempts")),
    )


def _create_indexes() -> None:  # noqa: PLR0915 - one statement an index
    # Of equally good indexes, SQLite's planner takes the one that was created last: the order matters.
    op.create_index("ix_api_keys_account_id", "api_keys", ["account_id", "created_at", "id"], unique=False)
    op.create_index("ix_notifications_export_id_position", "notifications", ["export_id", "position"], unique=False)
    op.create_index(
        "ix_notifications_plan_id_position",
        "notifications",
        ["plan_id", "position"],
        unique=False,
        postgresql_where=sa.text("plan_id IS NOT NULL"),
        sqlite_where=sa.text("plan_id IS NOT NULL"),
    )
    op.create_index(
        "ix_steps_due_at",
        "steps",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'ready'"),
        sqlite_where=sa.text("state = 'ready'"),
    )
    op.create_index(
        "ix_steps_due_later",
        "steps",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'ready' AND name <> 'record_packages'"),
        sqlite_where=sa.text("state = 'ready' AND name <> 'record_packages'"),
    )
    op.create_index(
        "ix_acknowledgements_entry_number",
        "acknowledgements",
        ["entry_number"],
        unique=False,
        postgresql_where=sa.text("entry_number IS NOT NULL"),
        sqlite_where=sa.text("entry_number IS NOT NULL"),
    )
    op.create_index("ix_plans_entry_on", "plans", ["entry_on", "id"], unique=False)
    op.create_index("ix_stats_ended", "stats", ["seconds", "starts_at"], unique=False)
    op.create_index(
        "ix_events_at",
        "events",
        ["at"],
        unique=False,
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.create_index("ix_deliveries_account_id_id", "deliveries", ["account_id", "id"], unique=False)
    op.create_index(
        "ix_deliveries_due_at",
        "deliveries",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
        sqlite_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_deliveries_stream", "deliveries", ["subject_id", "partner_id", "channel", "position"], unique=False
    )
    op.create_index(
        "ix_number_blocks_left",
        "number_blocks",
        ["account_id", "ssccs_left"],
        unique=False,
        postgresql_where=sa.text("packages_left > 0"),
        sqlite_where=sa.text("packages_left > 0"),
    )
    op.create_index("ix_packages_account_id_lpn", "packages", ["account_id", "lpn"], unique=False)
    op.create_index(
        "ix_packages_released_sscc",
        "packages",
        ["account_id", "sscc", "export_id"],
        unique=False,
        postgresql_where=sa.text("released"),
        sqlite_where=sa.text("released"),
    )
    op.create_index(
        "uq_packages_account_id_sscc",
        "packages",
        ["account_id", "sscc"],
        unique=True,
        postgresql_where=sa.text("NOT released"),
        sqlite_where=sa.text("NOT released"),
    )
    op.create_index("ix_duty_cases_country", "duty_cases", ["edition_id", "country"], unique=False)
    op.create_index("ix_duty_cases_root", "duty_cases", ["edition_id", "root"], unique=False)
    op.create_index("ix_tariff_flags_number", "tariff_flags", ["edition_id", "number"], unique=False)
    op.create_index("ix_tariff_rows_heading", "tariff_rows", ["edition_id", "heading", "position"], unique=False)
    op.create_index("ix_tariff_rows_number8", "tariff_rows", ["edition_id", "number8"], unique=False)
    op.create_index("ix_waivers_account_id", "waivers", ["account_id", "id"], unique=False)
    op.create_index(
        "ix_origin_certifications_blanket_to", "origin_certifications", ["blanket_to", "account_id"], unique=False
    )
    op.create_index("ix_origin_certifications_export_id", "origin_certifications", ["export_id"], unique=False)
    op.create_index(
        "ix_connection_tests_account_id_partner_id", "connection_tests", ["account_id", "partner_id"], unique=False
    )
    op.create_index(
        "ix_broker_submissions_deadline_at",
        "broker_submissions",
        ["deadline_at"],
        unique=False,
        postgresql_where=sa.text("overdue_at IS NULL"),
        sqlite_where=sa.text("overdue_at IS NULL"),
    )
    op.create_index(
        "ix_broker_submissions_polled_at",
        "broker_submissions",
        ["polled_at"],
        unique=False,
        postgresql_where=sa.text("handoff_id IS NOT NULL"),
        sqlite_where=sa.text("handoff_id IS NOT NULL"),
    )
    op.create_index(
        "ix_broker_submissions_account_id_partner_id",
        "broker_submissions",
        ["account_id", "partner_id", "updated_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_portal_links_account_id_partner_id", "portal_links", ["account_id", "partner_id", "id"], unique=False
    )
    op.create_index(
        "ix_deliveries_partner", "deliveries", ["account_id", "partner_id", "subject_id", "id"], unique=False
    )
    op.create_index(
        "ix_deliveries_partner_state",
        "deliveries",
        ["account_id", "partner_id", "state", "subject_id", "id"],
        unique=False,
        postgresql_where=sa.text("(state <> 'delivered') IS TRUE"),
        sqlite_where=sa.text("(state <> 'delivered') IS TRUE"),
    )
    op.create_index(
        "uq_units_account_id_package_number",
        "units",
        ["account_id", "package_number"],
        unique=True,
        postgresql_where=sa.text("NOT released"),
        sqlite_where=sa.text("NOT released"),
    )
    op.create_index(
        "ix_units_invoice_number",
        "units",
        ["account_id", "invoice_number", "export_id"],
        unique=False,
        postgresql_where=sa.text("invoice_number IS NOT NULL"),
        sqlite_where=sa.text("invoice_number IS NOT NULL"),
    )
    op.create_index(
        "ix_units_purchase_order",
        "units",
        ["account_id", "purchase_order", "export_id"],
        unique=False,
        postgresql_where=sa.text("purchase_order IS NOT NULL"),
        sqlite_where=sa.text("purchase_order IS NOT NULL"),
    )
    op.create_index(
        "ix_units_informal",
        "units",
        ["account_id", "informal_key"],
        unique=False,
        postgresql_where=sa.text("informal_key IS NOT NULL"),
        sqlite_where=sa.text("informal_key IS NOT NULL"),
    )
    op.create_index("ix_legal_holds_account_id", "legal_holds", ["account_id", "id"], unique=False)
    op.create_index("ix_artifacts_sha256_id", "artifacts", ["sha256", "id"], unique=False)
    op.create_index("ix_attempts_at", "attempts", ["at"], unique=False)
    op.create_index(
        "ix_steps_finished_at",
        "steps",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NOT NULL"),
        sqlite_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_deliveries_idle",
        "deliveries",
        ["account_id", "state", "id"],
        unique=False,
        postgresql_where=sa.text("state <> 'pending' AND state <> 'delivered'"),
        sqlite_where=sa.text("state <> 'pending' AND state <> 'delivered'"),
    )
    op.create_index(
        "uq_exports_supersedes_id",
        "exports",
        ["supersedes_id"],
        unique=True,
        postgresql_where=sa.text("supersedes_id IS NOT NULL"),
        sqlite_where=sa.text("supersedes_id IS NOT NULL"),
    )
    op.create_index("ix_exports_state", "exports", ["account_id", "state", "id"], unique=False)
    op.create_index("ix_exports_broker", "exports", ["account_id", "broker_id", "id"], unique=False)
    op.create_index("ix_exports_warehouse", "exports", ["account_id", "warehouse_id", "id"], unique=False)
    op.create_index("ix_exports_updated_at", "exports", ["account_id", "updated_at"], unique=False)
    op.create_index("ix_exports_outcome", "exports", ["account_id", "outcome", "id"], unique=False)
    op.create_index("ix_exports_broker_outcome", "exports", ["account_id", "broker_id", "outcome", "id"], unique=False)
    op.create_index(
        "ix_exports_warehouse_outcome", "exports", ["account_id", "warehouse_id", "outcome", "id"], unique=False
    )
    op.create_index(
        "ix_exports_inbox",
        "exports",
        ["account_id", "outcome", "id"],
        unique=False,
        postgresql_where=sa.text(
            "(outcome IN ('needs_attention', 'overdue', 'rejected', 'query', 'held') AND purged_at IS NULL"
            " AND (acknowledged_seq IS NULL OR outcome = 'needs_attention')) IS TRUE"
        ),
        sqlite_where=sa.text(
            "(outcome IN ('needs_attention', 'overdue', 'rejected', 'query', 'held') AND purged_at IS NULL"
            " AND (acknowledged_seq IS NULL OR outcome = 'needs_attention')) IS TRUE"
        ),
    )
    op.create_index(
        "ix_exports_inbox_acknowledged",
        "exports",
        ["account_id", "outcome", "id"],
        unique=False,
        postgresql_where=sa.text(
            "(outcome IN ('needs_attention', 'overdue', 'rejected', 'query', 'held') AND purged_at IS NULL"
            " AND acknowledged_seq IS NOT NULL) IS TRUE"
        ),
        sqlite_where=sa.text(
            "(outcome IN ('needs_attention', 'overdue', 'rejected', 'query', 'held') AND purged_at IS NULL"
            " AND acknowledged_seq IS NOT NULL) IS TRUE"
        ),
    )
    op.create_index(
        "ix_exports_quarantined",
        "exports",
        ["account_id", "id"],
        unique=False,
        postgresql_where=sa.text("quarantined IS true"),
        sqlite_where=sa.text("quarantined IS 1"),
    )
    op.create_index(
        "ix_steps_lost",
        "steps",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'ready' AND error IS NULL AND attempts > 1"),
        sqlite_where=sa.text("state = 'ready' AND error IS NULL AND attempts > 1"),
    )
    op.create_index(
        "ix_steps_stalled",
        "steps",
        ["stalled_since"],
        unique=False,
        postgresql_where=sa.text("state = 'ready' AND stalled_since IS NOT NULL"),
        sqlite_where=sa.text("state = 'ready' AND stalled_since IS NOT NULL"),
    )
    op.create_index(
        "ix_deliveries_stalled",
        "deliveries",
        ["stalled_since"],
        unique=False,
        postgresql_where=sa.text("state = 'pending' AND stalled_since IS NOT NULL"),
        sqlite_where=sa.text("state = 'pending' AND stalled_since IS NOT NULL"),
    )
    op.create_index(
        "ix_steps_retrying",
        "steps",
        ["name"],
        unique=False,
        postgresql_where=sa.text("state = 'ready' AND error IS NOT NULL"),
        sqlite_where=sa.text("state = 'ready' AND error IS NOT NULL"),
    )
    op.create_index(
        "ix_broker_submissions_due",
        "broker_submissions",
        ["account_id", "partner_id", "deadline_at", "id"],
        unique=False,
        postgresql_where=sa.text("deadline_at IS NOT NULL"),
        sqlite_where=sa.text("deadline_at IS NOT NULL"),
    )
    op.create_index(
        "ix_broker_submissions_overdue",
        "broker_submissions",
        ["account_id", "export_id"],
        unique=False,
        postgresql_where=sa.text("overdue_at IS NOT NULL AND deadline_at IS NOT NULL"),
        sqlite_where=sa.text("overdue_at IS NOT NULL AND deadline_at IS NOT NULL"),
    )
    for milestone in ("accepted", "sent_back", "overdue"):
        reached = sa.column(f"first_{milestone}_at").is_not(None)
        for name, columns in (("", []), ("partner_", ["partner_id"])):
            op.create_index(
                f"ix_broker_submissions_{name}first_{milestone}",
                "broker_submissions",
                ["account_id", *columns, f"first_{milestone}_at", "export_id"],
                unique=False,
                postgresql_where=reached,
                sqlite_where=reached,
            )
    op.create_index(
        "ix_deliveries_inbox",
        "deliveries",
        ["account_id", "inbox", "id"],
        unique=False,
        postgresql_where=sa.text("(state = 'dead') IS TRUE"),
        sqlite_where=sa.text("(state = 'dead') IS TRUE"),
    )
    op.create_index("ix_exports_account_id_id", "exports", ["account_id", "id"], unique=False)
    op.create_index("ix_acts_actor", "acts", ["account_id", "actor", "seq"], unique=False)
    op.create_index("ix_acts_action", "acts", ["account_id", "action", "seq"], unique=False)
    op.create_index("ix_acts_actor_action", "acts", ["account_id", "actor", "action", "seq"], unique=False)
    op.create_index("ix_memberships_account_id", "memberships", ["account_id", "invited_at", "person_id"], unique=False)
    op.create_index("ix_memberships_person_id", "memberships", ["person_id"], unique=False)
    op.create_index("ix_one_time_links_person_id", "one_time_links", ["person_id"], unique=False)
    op.create_index("ix_sessions_person_id", "sessions", ["person_id", "id"], unique=False)
    op.create_index(
        "ix_sessions_account_id",
        "sessions",
        ["account_id", "id"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
        sqlite_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"], unique=False)
    op.create_index("ix_guesses_last_at", "guesses", ["last_at"], unique=False)
    op.create_index(
        "ix_orders_batch",
        "orders",
        ["account_id", "batch_id"],
        unique=False,
        postgresql_where=sa.text("batch_id IS NOT NULL"),
        sqlite_where=sa.text("batch_id IS NOT NULL"),
    )
    op.create_index(
        "ix_orders_export",
        "orders",
        ["export_id"],
        unique=False,
        postgresql_where=sa.text("export_id IS NOT NULL"),
        sqlite_where=sa.text("export_id IS NOT NULL"),
    )
    op.create_index(
        "ix_orders_unexported",
        "orders",
        ["synced_at"],
        unique=False,
        postgresql_where=sa.text("export_id IS NULL"),
        sqlite_where=sa.text("export_id IS NULL"),
    )
