"""The events that are older than the feed, in the order of their time.

They have a revision of their own, so that exports are accepted and executed meanwhile: the one before locks `exports`.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

#: The events of an export with equal times are one range. After the database's clock was set back, an event counts as
#: no older than the one before it, so that each export keeps its own order. Ids below 1 are before those of new events.
_ADD_OLD = """
INSERT INTO feed (id, account_id, export_id, first_seq, last_seq, position)
SELECT
    row_number() OVER (ORDER BY at, export_id) - count(*) OVER (),
    account_id, export_id, first_seq, last_seq,
    row_number() OVER (PARTITION BY account_id ORDER BY at, export_id)
FROM (
    SELECT account_id, export_id, old.at, min(seq) AS first_seq, max(seq) AS last_seq
    FROM (
        SELECT export_id, seq, max(at) OVER (PARTITION BY export_id ORDER BY seq) AS at FROM events
        WHERE NOT EXISTS (
            SELECT 1 FROM feed WHERE feed.export_id = events.export_id AND feed.first_seq <= events.seq
        )
    ) AS old
    JOIN exports ON exports.id = old.export_id
    GROUP BY account_id, export_id, old.at
) AS ranges
"""


def upgrade() -> None:
    """Add them by one statement, which may take minutes."""
    if op.get_context().dialect.name == "postgresql":
        op.execute("SET LOCAL statement_timeout = 0")
        op.execute("SET LOCAL exports.account = '*'")  # a printed script has no account, and would see no row
    op.execute(_ADD_OLD)


def downgrade() -> None:
    """Keep them: an upgrade finds that the feed has them."""
