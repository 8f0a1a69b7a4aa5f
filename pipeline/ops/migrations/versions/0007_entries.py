"""The entries of a handoff, and what an answer may say beside its status.

Stored answers are folded: each entry of a handoff gets all of them, in the order of the customs broker's own times. An
answer that the older version recorded without effect, such as a hold after a release, counts now.
"""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.core.db import Instant

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_JSON: Any = sa.JSON().with_variant(JSONB(), "postgresql")
_NEW_COLUMNS: Final = ("packages", "hold", "at", "effective_at", "corrects", "raw")

#: The time that the customs broker said, which only the log has.
_SAY_TIMES = """
UPDATE acknowledgements SET at = (
    SELECT {said} FROM broker_submissions handoff JOIN events ON events.export_id = handoff.export_id
    WHERE handoff.id = acknowledgements.submission_id AND events.type LIKE 'BROKER_%' AND {event_id} = acknowledgements.id
    ORDER BY events.seq LIMIT 1
)"""

#: At the same time, the worse is later. Older versions know seven statuses.
_FOLD = """
INSERT INTO entries (
    submission_id, package_number, headline, broker, release, holds, summary, entry_number, updated_at
)
WITH placed AS (
    SELECT submission_id, status, entry_number, received_at, row_number() OVER (
        PARTITION BY submission_id ORDER BY coalesce(at, received_at), CASE status
            WHEN 'received' THEN 0 WHEN 'accepted' THEN 1 WHEN 'filed' THEN 2 WHEN 'released' THEN 3
            WHEN 'query' THEN 4 WHEN 'held' THEN 5 ELSE 6 END, id
    ) AS place
    FROM acknowledgements
), places AS (
    SELECT
        submission_id,
        max(CASE WHEN status IN ('accepted', 'filed', 'released', 'query', 'rejected') THEN place END) AS review,
        max(CASE WHEN status = 'filed' THEN place END) AS filed,
        max(CASE WHEN status = 'released' THEN place END) AS released,
        min(CASE WHEN status = 'released' THEN place END) AS first_released,
        max(CASE WHEN status = 'held' THEN place END) AS held,
        max(CASE WHEN entry_number IS NOT NULL THEN place END) AS numbered,
        max(received_at) AS updated_at
    FROM placed GROUP BY submission_id
), folded AS (
    SELECT
        places.submission_id,
        CASE WHEN review.status IN ('filed', 'released') THEN 'accepted' ELSE review.status END AS broker,
        CASE WHEN released IS NOT NULL THEN 'released' WHEN filed IS NOT NULL THEN 'filed' END AS release,
        held IS NOT NULL AND (released IS NULL OR released < held) AS is_held,
        CASE WHEN filed > first_released THEN 'summary_filed' END AS summary,
        numbered.entry_number,
        places.updated_at
    FROM places
    LEFT JOIN placed review ON review.submission_id = places.submission_id AND review.place = places.review
    LEFT JOIN placed numbered ON numbered.submission_id = places.submission_id AND numbered.place = places.numbered
)
SELECT
    folded.submission_id,
    units.package_number,
    CASE
        WHEN broker = 'rejected' THEN broker
        WHEN is_held THEN 'held'
        WHEN broker = 'query' THEN broker
        ELSE coalesce(release, broker, 'awaiting')
    END,
    broker,
    release,
    CASE WHEN is_held THEN {one_hold} ELSE {no_hold} END,
    summary,
    folded.entry_number,
    folded.updated_at
FROM folded
JOIN broker_submissions handoff ON handoff.id = folded.submission_id
JOIN units ON units.export_id = handoff.export_id AND units.package_number IS NOT NULL"""

#: No deadline, and so no alarm, starts from what happened before the upgrade.
_SETTLE = """
UPDATE broker_submissions SET deadline_at = NULL, state = (
    SELECT max(CASE headline WHEN 'awaiting' THEN 'received' ELSE headline END) FROM entries
    WHERE entries.submission_id = broker_submissions.id
)
WHERE EXISTS (
    SELECT 1 FROM entries WHERE entries.submission_id = broker_submissions.id
    AND CASE headline WHEN 'awaiting' THEN 'received' ELSE headline END <> broker_submissions.state
)"""


def upgrade() -> None:
    """Add the table and the columns, and fold the stored answers."""
    op.create_table(
        "entries",
        sa.Column("submission_id", sa.String(), nullable=False),
        sa.Column("package_number", sa.String(), nullable=False),
        sa.Column("headline", sa.String(), nullable=False),
        sa.Column("broker", sa.String(), nullable=True),
        sa.Column("release", sa.String(), nullable=True),
        sa.Column("holds", _JSON, nullable=False),
        sa.Column("bill", sa.String(), nullable=True),
        sa.Column("summary", sa.String(), nullable=True),
        sa.Column("entry_number", sa.String(), nullable=True),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["submission_id"], ["broker_submissions.id"], name=op.f("fk_entries_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "package_number", name=op.f("pk_entries")),
    )
    kinds: dict[str, Any] = {"packages": _JSON, "at": Instant(), "effective_at": Instant(), "raw": _JSON}
    for name in _NEW_COLUMNS:
        op.add_column("acknowledgements", sa.Column(name, kinds.get(name, sa.String()), nullable=True))
    if op.get_context().dialect.name == "sqlite":
        said = "strftime('%Y-%m-%d %H:%M:%f', json_extract(events.data, '$.at')) || '000'"
        event_id, one_hold, no_hold = "json_extract(events.data, '$.id')", "'[\"\"]'", "'[]'"
    else:
        op.execute("SET LOCAL exports.account = '*'")  # a printed script has no account, and would see no row
        said, event_id = "CAST(events.data ->> 'at' AS timestamptz)", "events.data ->> 'id'"
        one_hold, no_hold = "CAST('[\"\"]' AS jsonb)", "CAST('[]' AS jsonb)"
    op.execute(_SAY_TIMES.format(said=said, event_id=event_id))
    op.execute(_FOLD.format(one_hold=one_hold, no_hold=no_hold))
    op.execute(_SETTLE)


def downgrade() -> None:
    """Drop them. The statuses of handoffs stay as the answers say them together."""
    for name in reversed(_NEW_COLUMNS):
        op.drop_column("acknowledgements", name)
    op.drop_table("entries")
