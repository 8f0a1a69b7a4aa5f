"""The feed of an account: which events each transaction wrote, noted by triggers for every process that writes."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

#: The export's row counts its events. Without rows in the feed, the export is older than it: 0010 adds the events before.
_ADD = (
    "INSERT INTO feed (account_id, export_id, first_seq, last_seq)"
    " SELECT NEW.account_id, NEW.id, new_events.first_seq, NEW.next_seq - 1 FROM ("
    "  SELECT coalesce(max(last_seq) + 1, {first}) AS first_seq FROM feed WHERE export_id = NEW.id"
    " ) AS new_events WHERE new_events.first_seq < NEW.next_seq;"
)
#: Name of the trigger -> when it fires, and the first event of an export that the feed does not have yet.
_TRIGGERS = {
    "exports_feed_new": ("INSERT ON exports FOR EACH ROW WHEN (NEW.next_seq > 1)", "1"),
    "exports_feed": ("UPDATE OF next_seq ON exports FOR EACH ROW WHEN (NEW.next_seq > OLD.next_seq)", "OLD.next_seq"),
}


def upgrade() -> None:
    """Create the table and the triggers."""
    op.create_table(
        "feed",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("first_seq", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feed")),
        sa.UniqueConstraint("export_id", "last_seq", name=op.f("uq_feed_export_id_last_seq")),
    )
    placed, unplaced = sa.text("position IS NOT NULL"), sa.text("position IS NULL")
    op.create_index(
        "uq_feed_position",
        "feed",
        ["account_id", "position"],
        unique=True,
        postgresql_where=placed,
        sqlite_where=placed,
    )
    op.create_index(
        "ix_feed_unplaced", "feed", ["account_id", "id"], unique=False, postgresql_where=unplaced, sqlite_where=unplaced
    )
    for name, (happens, first) in _TRIGGERS.items():
        if op.get_context().dialect.name == "postgresql":
            op.execute(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN {_ADD.format(first=first)} RETURN NULL; END $$"
            )
            op.execute(f"CREATE TRIGGER {name} AFTER {happens} EXECUTE FUNCTION {name}()")
        else:
            op.execute(f"CREATE TRIGGER {name} AFTER {happens} BEGIN {_ADD.format(first=first)} END")


def downgrade() -> None:
    """Drop the triggers and the table; the logs of the exports keep all events."""
    for name in _TRIGGERS:
        if op.get_context().dialect.name == "postgresql":
            op.execute(f"DROP TRIGGER {name} ON exports")
            op.execute(f"DROP FUNCTION {name}()")
        else:
            op.execute(f"DROP TRIGGER {name}")
    op.drop_table("feed")
