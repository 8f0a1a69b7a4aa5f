"""Commands by queue of accounts with their maximum of active exports: they wait in the database until there is room.

The message broker cannot keep them: while they stay at the head of its queue, the commands of other accounts wait too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Index, bindparam, delete, func, insert, or_, select, update
from sqlmodel import Field, SQLModel

from pipeline.core.columns import JSON_TYPE, timestamp_column
from pipeline.core.db import database_now, statement_now, table
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime

#: How long one process has for a command; then another tries it. Acceptance twice is one export.
CLAIM_SECONDS: Final = 60.0


class WaitingCommand(SQLModel, table=True):
    """A command, and the properties of its message; it is tried when it is due, and deleted when it is answered."""

    __tablename__ = "waiting_commands"
    __table_args__ = (Index("ix_waiting_commands_account_id", "account_id", "id"),)

    id: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="accounts.id")
    body: bytes
    properties: dict[str, Any] = Field(sa_type=JSON_TYPE)
    due_at: datetime = timestamp_column()


@dataclass(frozen=True)
class ClaimedCommand:
    """A command that this process tries now."""

    id: str
    body: bytes
    properties: Mapping[str, Any]


_commands = table(WaitingCommand).c
_INSERT: Final = insert(table(WaitingCommand))
_first = select(func.min(_commands.id)).group_by(_commands.account_id)
# A claim that ends later than a claim can is of a clock that was set back since.
_is_due = or_(_commands.due_at <= statement_now(), _commands.due_at > statement_now(CLAIM_SECONDS))
_FIRST_OF_EACH: Final = (
    select(_commands.account_id, _commands.id, _is_due.label("due"))
    .where(_commands.id.in_(_first))
    .order_by(_commands.due_at)
)
_of_id = _commands.id == bindparam("of_id")
_CLAIM: Final = (
    update(table(WaitingCommand))
    .where(_of_id, _is_due)
    .values(due_at=database_now(CLAIM_SECONDS))
    .returning(_commands.id, _commands.body, _commands.properties)
)
_DELETE: Final = delete(table(WaitingCommand)).where(_of_id)


def keep(runtime: Runtime, account_id: str, body: bytes, properties: Mapping[str, Any]) -> None:
    """Store a command until its account has room. Raises DatabaseBusy."""
    row = {"id": new_id("cmd"), "account_id": account_id, "body": body, "properties": dict(properties)}
    with runtime.db.write() as session:
        session.execute(_INSERT, row)


def list_first(runtime: Runtime) -> Sequence[tuple[str, str, bool]]:
    """Return of each account that has waiting commands: its id, the id of its oldest command, and whether that is due.

    The one that was due first comes first.
    """
    with runtime.db.read() as session:
        return [(account_id, command_id, bool(due)) for account_id, command_id, due in session.execute(_FIRST_OF_EACH)]


def claim(runtime: Runtime, command_id: str) -> ClaimedCommand | None:
    """Return the command, which no other process tries for CLAIM_SECONDS; None if another process has it or is done."""
    with runtime.db.write() as session:
        found = session.execute(_CLAIM, {"of_id": command_id}).one_or_none()
    return None if found is None else ClaimedCommand(*found)


def postpone(runtime: Runtime, command_id: str, seconds: float) -> None:
    """Let the command wait for so many seconds."""
    with runtime.db.write() as session:
        session.execute(
            update(table(WaitingCommand)).where(_of_id).values(due_at=database_now(seconds)), {"of_id": command_id}
        )


def remove(runtime: Runtime, command_id: str) -> None:
    """Delete a command that was answered."""
    with runtime.db.write() as session:
        session.execute(_DELETE, {"of_id": command_id})
