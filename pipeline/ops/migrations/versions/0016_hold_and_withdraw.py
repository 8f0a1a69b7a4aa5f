"""The hold of a handoff and the withdrawal of an export, and the outcomes that follow from them."""

from importlib import import_module

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

#: A released revision never changes, so its triggers are those of each database.
_first = import_module("pipeline.ops.migrations.versions.0001_initial")

_OUTCOME = """
    CASE
        WHEN state IN ('accepted', 'executing') THEN
            CASE WHEN hold_seq IS NULL THEN 'in_progress' ELSE 'handoff_held' END
        WHEN state = 'failed' THEN 'needs_attention'
        WHEN state IN ('cancelled', 'superseded') THEN state
        ELSE coalesce((
            SELECT CASE
                WHEN handoff.state IN ('rejected', 'query', 'held', 'withdrawn', 'not_withdrawn') THEN handoff.state
                WHEN handoff.state = 'failed' OR EXISTS (
                    SELECT 1 FROM deliveries
                    WHERE deliveries.subject_id = exports.id AND deliveries.state = 'dead' AND deliveries.audience = 'warehouse'
                ) THEN 'undeliverable'
                WHEN handoff.overdue_at IS NOT NULL AND handoff.deadline_at IS NOT NULL THEN 'overdue'
                WHEN handoff.state IN ('accepted', 'filed', 'released', 'withdrawing') THEN handoff.state
                ELSE 'with_broker'
            END
            FROM broker_submissions handoff
            WHERE handoff.export_id = exports.id AND handoff.partner_id = exports.broker_id
        ), 'with_broker')
    END"""
#: Its event and condition, now also for a hold that begins or ends.
_EXPORTS_OUTCOME = (
    "UPDATE OF state, broker_id, hold_seq ON exports",
    f"({_first._OUTCOME_TRIGGERS['exports_outcome'][1]}) OR (OLD.hold_seq IS NULL) <> (NEW.hold_seq IS NULL)",  # noqa: SLF001
    "NEW.id",
)
#: The conditions of the indexes of the inbox, with the outcomes of this revision and before it.
_INDEXES = {
    "ix_exports_inbox": sa.text(
        "(outcome IN ('needs_attention', 'handoff_held', 'overdue', 'rejected', 'query', 'held', 'not_withdrawn')"
        " AND purged_at IS NULL AND (acknowledged_seq IS NULL OR outcome = 'needs_attention')) IS TRUE"
    ),
    "ix_exports_inbox_acknowledged": sa.text(
        "(outcome IN ('needs_attention', 'handoff_held', 'overdue', 'rejected', 'query', 'held', 'not_withdrawn')"
        " AND purged_at IS NULL AND acknowledged_seq IS NOT NULL) IS TRUE"
    ),
}
_INDEXES_BEFORE = {
    "ix_exports_inbox": sa.text(
        "(outcome IN ('needs_attention', 'overdue', 'rejected', 'query', 'held') AND purged_at IS NULL"
        " AND (acknowledged_seq IS NULL OR outcome = 'needs_attention')) IS TRUE"
    ),
    "ix_exports_inbox_acknowledged": sa.text(
        "(outcome IN ('needs_attention', 'overdue', 'rejected', 'query', 'held') AND purged_at IS NULL"
        " AND acknowledged_seq IS NOT NULL) IS TRUE"
    ),
}


def upgrade() -> None:
    """Add the columns, and let triggers and indexes know the outcomes."""
    op.add_column("exports", sa.Column("hold_seq", sa.Integer(), nullable=True))
    op.add_column("exports", sa.Column("withdrawal_seq", sa.Integer(), nullable=True))
    _replace_triggers(_OUTCOME, {"exports_outcome": _EXPORTS_OUTCOME})
    _replace_indexes(_INDEXES)


def downgrade() -> None:
    """Undo it. A held export is in progress, and a withdrawn one with its customs broker."""
    _replace_triggers(_first._OUTCOME, {})  # noqa: SLF001 - the triggers before this revision
    if op.get_context().dialect.name == "postgresql":
        op.execute("SET LOCAL exports.account = '*'")  # a printed script has no account, and would see no row
    op.execute(
        "UPDATE broker_submissions SET state = 'received' WHERE state IN ('withdrawing', 'withdrawn', 'not_withdrawn')"
    )
    op.execute("UPDATE exports SET outcome = 'in_progress' WHERE outcome = 'handoff_held'")
    _replace_indexes(_INDEXES_BEFORE)
    op.drop_column("exports", "withdrawal_seq")
    op.drop_column("exports", "hold_seq")


def _replace_triggers(outcome: str, changed: dict[str, tuple[str, str, str]]) -> None:
    """Compute the outcome by this expression; on PostgreSQL a function has it, on SQLite each trigger."""
    triggers = _first._OUTCOME_TRIGGERS  # noqa: SLF001 - as above
    keep = _first._KEEP_OUTCOME  # noqa: SLF001 - as above
    if op.get_context().dialect.name == "postgresql":
        lock = "PERFORM 1 FROM exports WHERE id = of_export FOR NO KEY UPDATE;"
        op.execute(
            "CREATE OR REPLACE FUNCTION keep_outcome(of_export text) RETURNS void LANGUAGE plpgsql AS "
            f"$$ BEGIN {lock} {keep.format(outcome=outcome, of='of_export')} END $$"
        )
        happens, condition, _ = {**triggers, **changed}["exports_outcome"]
        op.execute("DROP TRIGGER exports_outcome ON exports")
        op.execute(
            f"CREATE TRIGGER exports_outcome AFTER {happens} FOR EACH ROW WHEN ({condition})"
            " EXECUTE FUNCTION exports_outcome()"
        )
        return
    for name, (happens, condition, of) in {**triggers, **changed}.items():
        op.execute(f"DROP TRIGGER {name}")
        kept = keep.format(outcome=outcome, of=of)
        op.execute(f"CREATE TRIGGER {name} AFTER {happens} FOR EACH ROW WHEN ({condition}) BEGIN {kept} END")


def _replace_indexes(conditions: dict[str, sa.TextClause]) -> None:
    for name, where in conditions.items():
        op.drop_index(name, table_name="exports")
        op.create_index(name, "exports", ["account_id", "outcome", "id"], postgresql_where=where, sqlite_where=where)
