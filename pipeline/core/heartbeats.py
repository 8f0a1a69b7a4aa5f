"""Heartbeats: since when a process that only the message broker knows waits for a message through the message broker."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, col

from pipeline.core.columns import timestamp_column
from pipeline.core.db import database_now, row_count, statement_now, table
from pipeline.core.runtime import Runtime


class Heartbeat(SQLModel, table=True):
    """When a heartbeat last reached the processes of this name, or since when they wait for the first.

    A process that ends by SIGTERM takes the row away; others of its name write it again.
    """

    __tablename__ = "heartbeats"

    name: str = Field(primary_key=True)  # intake
    arrived_at: datetime = timestamp_column()


#: The processes that take commands and answers from queues.
INTAKE: Final = "intake"


def expect(runtime: Runtime, name: str) -> None:
    """Note that a process of this name waits for a heartbeat from now on, if none waits already; raises DatabaseBusy."""
    with runtime.db.read() as session:
        if session.get(Heartbeat, name) is not None:
            return
    # Where two processes write it at once, one of them is enough.
    with suppress(IntegrityError), runtime.db.write() as session:
        session.execute(insert(table(Heartbeat)).values(name=name))


def record(runtime: Runtime, name: str) -> None:
    """Note that a heartbeat arrived at a process of this name; raises DatabaseBusy."""
    # Where two processes write the first one at once, one of them is enough.
    with suppress(IntegrityError), runtime.db.write() as session:
        arrived = update(Heartbeat).where(col(Heartbeat.name) == name).values(arrived_at=database_now())
        if not row_count(session.execute(arrived)):
            session.execute(insert(table(Heartbeat)).values(name=name))


def forget(runtime: Runtime, name: str) -> None:
    """Note that a process of this name ended because it was told to: nobody waits for its heartbeats; raises DatabaseBusy."""
    with runtime.db.write() as session:
        session.execute(delete(Heartbeat).where(col(Heartbeat.name) == name))


def missed(session: Session, name: str, seconds: float) -> bool:
    """Tell whether processes of this name should run, and have waited for a heartbeat for so many seconds."""
    late = (col(Heartbeat.name) == name, col(Heartbeat.arrived_at) <= statement_now(-seconds))
    return session.scalar(select(1).where(*late)) is not None
