"""Chain the events of each export by hashes, and refuse to empty what is only ever added to."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import rfc8785
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

import pipeline.core.db

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

APPEND_ONLY = ("events", "attempts")
IN_ONE_STRETCH = 1_000

_JSON = sa.JSON().with_variant(JSONB(), "postgresql")
_events = sa.table(
    "events",
    sa.column("export_id", sa.String()),
    sa.column("seq", sa.Integer()),
    sa.column("type", sa.String()),
    sa.column("at", pipeline.core.db.Instant()),
    sa.column("actor", sa.String()),
    sa.column("data", _JSON),
    sa.column("prev_hash", sa.String()),
    sa.column("hash", sa.String()),
)


def upgrade() -> None:
    """Apply."""
    _open()
    op.add_column("events", sa.Column("prev_hash", sa.String(), nullable=True))
    op.add_column("events", sa.Column("hash", sa.String(), nullable=True))
    _chain(op.get_bind())
    with op.batch_alter_table("events") as batch_op:
        batch_op.alter_column("hash", existing_type=sa.String(), nullable=False)
    _close()
    if op.get_bind().dialect.name == "postgresql":
        # A row trigger does not see TRUNCATE.
        for table in APPEND_ONLY:
            op.execute(
                f"CREATE TRIGGER {table}_never_emptied BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )


def downgrade() -> None:
    """Take back."""
    if op.get_bind().dialect.name == "postgresql":
        for table in APPEND_ONLY:
            op.execute(f"DROP TRIGGER {table}_never_emptied ON {table}")
    _open()
    with op.batch_alter_table("events") as batch_op:
        batch_op.drop_column("hash")
        batch_op.drop_column("prev_hash")
    _close()


def _chain(connection: sa.Connection) -> None:
    """Give every event the hash of the one before it and its own, a stretch at a time."""
    place = sa.tuple_(_events.c.export_id, _events.c.seq)
    fill = (
        _events.update()
        .where(_events.c.export_id == sa.bindparam("of_export"), _events.c.seq == sa.bindparam("at_seq"))
        .values(prev_hash=sa.bindparam("before"), hash=sa.bindparam("own"))
    )
    query = sa.select(*(_events.c[name] for name in ("export_id", "seq", "type", "at", "actor", "data")))
    query = query.order_by(_events.c.export_id, _events.c.seq).limit(IN_ONE_STRETCH)
    last: tuple[str, int, str] | None = None
    while rows := connection.execute(query if last is None else query.where(place > last[:2])).all():
        filled = []
        for row in rows:
            before = last[2] if last is not None and last[0] == row.export_id else None
            own = _hash(row, before)
            filled.append({"of_export": row.export_id, "at_seq": row.seq, "before": before, "own": own})
            last = (row.export_id, row.seq, own)
        connection.execute(fill, filled)


def _hash(row: sa.Row[Any], before: str | None) -> str:
    # As pipeline/exports/hash_chain.py had it when this was written; a later version of it has a revision of its own.
    at: datetime = row.at
    said = {
        "actor": row.actor,
        "at": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "data": row.data,
        "export_id": row.export_id,
        "prev_hash": before,
        "seq": row.seq,
        "type": row.type,
    }
    return "v1:" + hashlib.sha256(b"exports event v1\n" + rfc8785.dumps(said)).hexdigest()


def _open() -> None:
    """Let the events be changed meanwhile."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(f"DROP TRIGGER events_no_{verb.lower()}")
    else:
        op.execute("ALTER TABLE events DISABLE TRIGGER events_append_only")


def _close() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER events_no_{verb.lower()} BEFORE {verb} ON events "
                "BEGIN SELECT RAISE(ABORT, 'events is append-only'); END"
            )
    else:
        op.execute("ALTER TABLE events ENABLE TRIGGER events_append_only")
