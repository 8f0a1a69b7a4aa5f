"""The table of waivers."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from pipeline.core.columns import instant_column, text_column, timestamp_column


class Waiver(SQLModel, table=True):
    """An account's recorded acceptance of a warning; a revoked waiver stays in the table."""

    __tablename__ = "waivers"
    __table_args__ = (Index("ix_waivers_account_id", "account_id", "id"),)

    id: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id")
    rule: str
    pointer: str | None = None
    partner_id: str | None = None
    reason: str = text_column()
    waived_by: str
    ends_on: date | None = None
    created_at: datetime = timestamp_column()
    revoked_by: str | None = None
    revoked_at: datetime | None = instant_column(nullable=True)
