"""Heartbeats: when a message last came through the message broker to a process that only the broker can reach.

The same table gives turns to processes that do the same work: each turn goes to one of them. It also says when work was
last done.
"""

from contextlib import suppress
from datetime import datetime
from typing import Final

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, col

from pipeline.core.columns import timestamp_column
from pipeline.core.db import database_now, row_count, statement_now, table
from pipeline.core.runtime import Runtime


class Heartbeat(SQLModel, table=True):
    """When a heartbeat last reached the processes of this name, or since when they wait for the first one.

    A process that ends by SIGTERM deletes the row; other processes of its name write it again. For turns: when the last
    one was taken. For work: when it was last done.
    """

    __tablename__ = "heartbeats"

    # intake, work counts, clock, sweep with the steps that it knows, or the installation that the database belongs to
    name: str = Field(primary_key=True)
    arrived_at: datetime = timestamp_column()


#: The processes that consume commands and acknowledgements from queues.
INTAKE: Final = "intake"


def expect(runtime: Runtime, name: str) -> None:
    """Record that a process of this name waits for a heartbeat from now on, unless one waits already.

    Raises DatabaseBusy.
    """
    with runtime.db.read() as session:
        if session.get(Heartbeat, name) is not None:
            return
    # If two processes write the row at once, one of them is enough.
    with suppress(IntegrityError), runtime.db.write() as session:
        session.execute(insert(table(Heartbeat)).values(name=name))


def record(runtime: Runtime, name: str) -> None:
    """Record that a heartbeat arrived at a process of this name. Raises DatabaseBusy."""
    # If two processes write the first row at once, one of them is enough.
    with suppress(IntegrityError), runtime.db.write() as session:
        write(session, name)


def write(session: Session, name: str) -> None:
    """Record in the session's transaction that a heartbeat arrived. Raises IntegrityError if another wrote the first."""
    arrived = update(Heartbeat).where(col(Heartbeat.name) == name).values(arrived_at=database_now())
    if not row_count(session.execute(arrived)):
        session.execute(insert(table(Heartbeat)).values(name=name))


def forget(runtime: Runtime, name: str) -> None:
    """Record that a process of this name ended on request, so that no heartbeat is expected. Raises DatabaseBusy."""
    with runtime.db.write() as session:
        session.execute(delete(Heartbeat).where(col(Heartbeat.name) == name))


def missed(session: Session, name: str, seconds: float) -> bool:
    """Return whether processes of this name should run and have waited `seconds` for a heartbeat."""
    late = (col(Heartbeat.name) == name, col(Heartbeat.arrived_at) <= statement_now(-seconds))
    return session.scalar(select(1).where(*late)) is not None


def read_age(session: Session, name: str, *, lock: bool = False) -> float | None:
    """Return the seconds since the last heartbeat, less than 0 if the clock was set back since; None if there is none.

    With `lock`, its row is locked until the transaction ends.
    """
    seen = select(col(Heartbeat.arrived_at), database_now()).where(col(Heartbeat.name) == name)
    row = session.execute(seen.with_for_update() if lock else seen).first()
    return None if row is None else (row[1] - row[0]).total_seconds()


def forget_future(session: Session) -> None:
    """Record all heartbeats as of now that arrived before the clock was set back."""
    late = col(Heartbeat.arrived_at) > database_now()
    session.execute(update(Heartbeat).where(late).values(arrived_at=database_now()))


def is_recent(session: Session, name: str, seconds: float) -> bool:
    """Return whether a heartbeat arrived in the last `seconds`."""
    # A time in the future was written before the clock was set back.
    recent = (col(Heartbeat.arrived_at) > statement_now(-seconds), col(Heartbeat.arrived_at) <= statement_now())
    return session.scalar(select(1).where(col(Heartbeat.name) == name, *recent)) is not None


def take_turn(runtime: Runtime, name: str, seconds: float) -> bool:
    """Return whether this process takes the turn `name`: no process did in the last `seconds`. Raises DatabaseBusy."""
    arrived = col(Heartbeat.arrived_at)
    # A time in the future was written before the clock was set back.
    is_free = or_(arrived <= database_now(-seconds), arrived > database_now())
    with runtime.db.read() as session:
        free = session.scalar(select(is_free).where(col(Heartbeat.name) == name))
    if free is None:
        # If two processes write the first row at once, the turn is the first one's.
        with suppress(IntegrityError), runtime.db.write() as session:
            session.execute(insert(table(Heartbeat)).values(name=name))
            return True
        return False
    if not free:
        return False
    with runtime.db.write() as session:
        taken = update(Heartbeat).where(col(Heartbeat.name) == name, is_free).values(arrived_at=database_now())
        return row_count(session.execute(taken)) == 1
