"""What the service keeps of its own processes, for all accounts."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Field, SQLModel

from pipeline.core.columns import written_at


class Heartbeat(SQLModel, table=True):
    """When a heartbeat last reached the processes of this name, or since when they wait for the first.

    A process that ends by SIGTERM takes the row away; others of its name write it again.
    """

    __tablename__ = "heartbeats"

    name: str = Field(primary_key=True)  # intake
    arrived_at: datetime = written_at()
