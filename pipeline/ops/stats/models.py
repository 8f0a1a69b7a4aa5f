"""The table of statistics, and the periods that it keeps."""

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel

from pipeline.core.columns import instant_column

#: The length of a period in seconds -> how long its counts are kept.
PERIODS: Final = {
    300: timedelta(hours=4),
    3_600: timedelta(days=2),
    21_600: timedelta(days=9),
    86_400: timedelta(days=400),
    604_800: timedelta(days=400),  # few rows for a quarter
}

#: What is counted: exports that reached an outcome; finished steps; the time from acceptance to the handoff; handoffs that
#: reached a status or became overdue; the time from the handoff to the customs broker's first review, by its status; fields
#: that customs brokers corrected; handoffs that reached a milestone; the most due work of a queue, and the longest delay in it.
OUTCOME, STEP, HANDOFF, STATUS, CORRECTION = "outcome", "step", "handoff", "status", "correction"
REVIEW, OVERDUE, REACHED = "review", "overdue", "reached"
QUEUE_DEPTH, QUEUE_DELAY = "queue_depth", "queue_delay"

#: The account of numbers over all accounts.
ALL: Final = ""


def period_start(at: datetime, seconds: int) -> datetime:
    """Return the start of the period of this length that holds the instant."""
    return datetime.fromtimestamp(at.timestamp() // seconds * seconds, UTC)


def cover_periods(since: datetime, until: datetime) -> list[tuple[int, datetime]]:
    """Return few periods that cover the time from the start of a period to `until`: the length and start of each.

    The last one may end after `until`: nothing is counted of the future.
    """
    covering: list[tuple[int, datetime]] = []
    while since <= until:
        seconds = max(each for each in PERIODS if period_start(since, each) == since)
        covering.append((seconds, since))
        since += timedelta(seconds=seconds)
    return covering


class Stat(SQLModel, table=True):
    """A number of a period. Durations are counted by `bin`, so that percentiles of several periods can be computed."""

    __tablename__ = "stats"
    __table_args__ = (Index("ix_stats_ended", "seconds", "starts_at"),)

    account_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    seconds: int = Field(primary_key=True)  # the length of the period
    starts_at: datetime = instant_column(primary_key=True)
    partner_id: str = Field(primary_key=True)  # empty if the number concerns no partner
    label: str = Field(primary_key=True)  # the outcome, step, status, field or queue
    bin: int = Field(primary_key=True)
    value: int = Field(sa_type=BigInteger)
