"""The tables of what happened: the events of exports and plans, and the audit trail of accounts."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, Integer, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from pipeline.core.columns import JSON_TYPE, partial_index, timestamp_column


class Event(SQLModel, table=True):
    """One event of an export's log, which is append-only and hash-chained."""

    __tablename__ = "events"
    __table_args__ = (
        # A block range index costs a writer almost nothing. Summarised at once, so that the newest events are found too.
        Index("ix_events_at", "at", postgresql_using="brin", postgresql_with={"autosummarize": "on"}),
    )

    export_id: str = Field(primary_key=True, foreign_key="exports.id")
    seq: int = Field(primary_key=True)
    type: str
    at: datetime = timestamp_column()
    actor: str
    data: dict[str, Any] = Field(sa_type=JSON_TYPE)
    prev_hash: str | None = None  # the hash of the event before it; see pipeline/exports/hash_chain.py
    hash: str


class FeedRange(SQLModel, table=True):
    """The events of an export that one transaction wrote, in the feed of its account; triggers on `exports` write it.

    A reader gives the positions of an account, from 1 without gaps; see pipeline/exports/feed.py.
    """

    __tablename__ = "feed"
    __table_args__ = (
        UniqueConstraint("export_id", "last_seq"),
        partial_index("uq_feed_position", "account_id", "position", where=text("position IS NOT NULL"), unique=True),
        partial_index("ix_feed_unplaced", "account_id", "id", where=text("position IS NULL")),
    )

    #: Rises within an export. An identity column needs no right on its sequence.
    id: int | None = Field(
        default=None,
        primary_key=True,
        sa_type=BigInteger().with_variant(Integer(), "sqlite"),
        sa_column_args=[Identity()],
    )
    account_id: str
    export_id: str
    first_seq: int
    last_seq: int
    position: int | None = Field(default=None, sa_type=BigInteger)  # None until a reader of the feed needs it


class AuditTrail(SQLModel, table=True):
    """The audit trail of an account: its row is locked to number the next act. It exists from the first act on."""

    __tablename__ = "audit_trails"

    account_id: str = Field(primary_key=True, foreign_key="accounts.id")
    next_seq: int


class Act(SQLModel, table=True):
    """One act of a person or a key on an account; the trail is append-only and hash-chained."""

    __tablename__ = "acts"
    __table_args__ = (
        # The list filters by each of these, and by actor and action, in the order of numbers.
        Index("ix_acts_actor", "account_id", "actor", "seq"),
        Index("ix_acts_action", "account_id", "action", "seq"),
        Index("ix_acts_actor_action", "account_id", "actor", "action", "seq"),
        Index("ix_acts_subject", "account_id", "subject", "seq"),
    )

    account_id: str = Field(primary_key=True, foreign_key="accounts.id")
    seq: int = Field(primary_key=True)
    at: datetime = timestamp_column()
    actor: str  # the id of a person or a key
    action: str
    subject: str  # the id of what the actor acted on
    detail: dict[str, Any] = Field(sa_type=JSON_TYPE)
    prev_hash: str | None = None  # the hash of the act before it; see pipeline/exports/hash_chain.py
    hash: str
