"""The append-only event log of an export: numbered without gaps and hash-chained, under the lock of the export's row."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.sql.dml import ReturningUpdate
from sqlmodel import Session

from pipeline.core.db import Instant, database_now, table
from pipeline.exports.event_models import Event
from pipeline.exports.hash_chain import hash_event
from pipeline.exports.models import Export
from pipeline.exports.states import Outcome
from pipeline.exports.transitions import start_accepted


class EventType(StrEnum):
    """The types of the events of an export."""

    EXPORT_ACCEPTED = "EXPORT_ACCEPTED"
    EXPORT_BATCH_CREATED = "EXPORT_BATCH_CREATED"
    EXPORT_PLANNED = "EXPORT_PLANNED"
    PACKAGES_RECORDED = "PACKAGES_RECORDED"
    TREATMENT_ATTACHED = "TREATMENT_ATTACHED"
    CUSTOMS_ARTIFACT_GENERATED = "CUSTOMS_ARTIFACT_GENERATED"
    CUSTOMS_PACKAGE_CLOSED = "CUSTOMS_PACKAGE_CLOSED"
    HANDED_OFF = "HANDED_OFF"
    BROKER_NOTIFIED = "BROKER_NOTIFIED"
    WAREHOUSE_NOTIFIED = "WAREHOUSE_NOTIFIED"
    OPERATOR_NOTIFIED = "OPERATOR_NOTIFIED"
    UPSTREAM_NOTIFIED = "UPSTREAM_NOTIFIED"
    EXPORT_EXECUTED = "EXPORT_EXECUTED"
    EXPORT_FAILED = "EXPORT_FAILED"
    EXPORT_RESUMED = "EXPORT_RESUMED"
    EXPORT_CANCELLED = "EXPORT_CANCELLED"
    HANDOFF_HELD = "HANDOFF_HELD"
    HANDOFF_HOLD_RELEASED = "HANDOFF_HOLD_RELEASED"
    EXPORT_WITHDRAWAL_REQUESTED = "EXPORT_WITHDRAWAL_REQUESTED"
    EXPORT_AMENDED = "EXPORT_AMENDED"
    EXPORT_PURGED = "EXPORT_PURGED"
    STEP_RETRIED = "STEP_RETRIED"
    DELIVERY_FAILED = "DELIVERY_FAILED"
    DELIVERY_DEAD = "DELIVERY_DEAD"
    DELIVERY_RESENT = "DELIVERY_RESENT"
    BROKER_ACKNOWLEDGED = "BROKER_ACKNOWLEDGED"
    BROKER_REJECTED = "BROKER_REJECTED"
    BROKER_QUERIED = "BROKER_QUERIED"
    BROKER_RELEASED = "BROKER_RELEASED"
    BROKER_ANSWER_CARRIED = "BROKER_ANSWER_CARRIED"
    MESSAGE_WRITTEN = "MESSAGE_WRITTEN"
    FILE_ATTACHED = "FILE_ATTACHED"
    HANDOFF_OVERDUE = "HANDOFF_OVERDUE"
    SUMMARY_OVERDUE = "SUMMARY_OVERDUE"
    EXPORT_RECHECKED = "EXPORT_RECHECKED"
    OUTCOME_ACKNOWLEDGED = "OUTCOME_ACKNOWLEDGED"
    OUTCOME_REOPENED = "OUTCOME_REOPENED"
    ROWS_RESTORED = "ROWS_RESTORED"


#: New facts about an export, and the undoing: after each, what a person acknowledged before needs a person again.
REOPENING: Final = frozenset(
    {
        EventType.EXPORT_FAILED,
        EventType.EXPORT_RESUMED,
        EventType.EXPORT_CANCELLED,
        EventType.HANDOFF_HELD,
        EventType.EXPORT_WITHDRAWAL_REQUESTED,
        EventType.EXPORT_AMENDED,
        EventType.DELIVERY_DEAD,
        EventType.DELIVERY_RESENT,
        EventType.BROKER_ACKNOWLEDGED,
        EventType.BROKER_REJECTED,
        EventType.BROKER_QUERIED,
        EventType.BROKER_RELEASED,
        EventType.BROKER_ANSWER_CARRIED,
        EventType.HANDOFF_OVERDUE,
        EventType.SUMMARY_OVERDUE,
        EventType.OUTCOME_REOPENED,
    }
)


def acknowledges(kind: EventType, data: Mapping[str, Any]) -> bool:
    """Return whether a person has seen what the export needs: by saying so, or by writing about a broker's question."""
    return kind is EventType.OUTCOME_ACKNOWLEDGED or (
        kind is EventType.MESSAGE_WRITTEN and data["outcome"] == Outcome.QUERY
    )


@dataclass(frozen=True)
class NewEvent:
    """An event that is not numbered yet. Without an `actor` it has that of the call that writes it."""

    type: EventType
    data: Mapping[str, Any] = field(default_factory=dict)
    actor: str | None = None


class LockedExport(NamedTuple):
    """An export whose row this transaction holds: the instant of its new events, its state, its number of open units.

    `is_held` says that a person holds its handoff.
    """

    at: datetime
    state: str
    open_units: int
    is_held: bool


_exports, _events = table(Export).c, table(Event).c

_open_units = (_exports.units_total - _exports.units_closed).label("open_units")
_is_held = _exports.hold_seq.is_not(None).label("is_held")
_LOCK: Final = (
    update(table(Export))
    .where(_exports.id == bindparam("of_export"))
    .values(next_seq=_exports.next_seq)
    .returning(database_now().label("at"), _exports.state, _open_units, _is_held)
)
_before = (
    select(_events.hash)
    .where(_events.export_id == _exports.id, _events.seq == _exports.next_seq - bindparam("count") - 1)
    .correlate(table(Export))
    .scalar_subquery()
)
_NUMBER: Final = (
    update(table(Export))
    .where(_exports.id == bindparam("of_export"))
    .values(
        next_seq=_exports.next_seq + bindparam("count"),
        units_closed=_exports.units_closed + bindparam("closed"),
        updated_at=func.coalesce(bindparam("at", type_=Instant()), database_now()),
    )
    .returning(
        _exports.next_seq,
        _exports.updated_at.label("at"),
        _exports.state,
        _open_units,
        _is_held,
        _before.label("prev_hash"),
    )
)


@cache
def _build_number(*, starts: bool, reopens: bool, acknowledges: bool) -> ReturningUpdate[Any]:
    """Return the UPDATE that numbers events, and writes what they change in the export's row."""
    statement = start_accepted(_NUMBER) if starts else _NUMBER
    if reopens:
        return statement.values(acknowledged_seq=None)
    return statement.values(acknowledged_seq=_exports.next_seq) if acknowledges else statement


_HASH: Final = select(_events.hash).where(
    _events.export_id == bindparam("of_export"), _events.seq == bindparam("at_seq")
)
_WRITE: Final = insert(table(Event))


def lock_export(session: Session, export_id: str) -> LockedExport:
    """Lock the export's row and return it. Every writer of the log calls this, or `append`, first."""
    return LockedExport(*session.execute(_LOCK, {"of_export": export_id}).one())


def append(
    session: Session,
    export_id: str,
    actor: str,
    events: Sequence[NewEvent],
    *,
    at: datetime | None = None,
    closed_units: int = 0,
    starts: bool = False,
) -> LockedExport:
    """Write `events` in order, each chained to the event before it, and return the export.

    The numbers come from the export's row in the caller's transaction, so a rollback leaves no gap. `at` is the instant of
    `lock_export`, if the caller has called it; otherwise it is the database's time. `closed_units` is the number of units
    that the events close. If it `starts`, an accepted export is executing from now on. If `events` is empty this only
    calls `lock_export`.
    """
    count = len(events)
    if not count:
        return lock_export(session, export_id)
    types = {each.type for each in events}
    number = _build_number(
        starts=starts,
        reopens=not types.isdisjoint(REOPENING),
        acknowledges=any(acknowledges(each.type, each.data) for each in events),
    )
    row = session.execute(number, {"of_export": export_id, "count": count, "closed": closed_units, "at": at}).one()
    first = row.next_seq - count
    prev_hash = row.prev_hash
    if prev_hash is None and first > 1:
        # The UPDATE waited for the row. PostgreSQL's subquery saw the log as it was before the wait, without the event that
        # the other transaction wrote.
        prev_hash = session.execute(_HASH, {"of_export": export_id, "at_seq": first - 1}).scalar_one()
    session.execute(_WRITE, chain_events(export_id, first, actor, row.at, events, prev_hash))
    return LockedExport(row.at, row.state, row.open_units, row.is_held)


_request: ContextVar[str | None] = ContextVar("request", default=None)


@contextmanager
def request_id_bound(request_id: str) -> Iterator[None]:
    """Add the id of the causing request, as `requestId`, to every event that the block writes."""
    token = _request.set(request_id)
    try:
        yield
    finally:
        _request.reset(token)


def chain_events(
    export_id: str, first: int, actor: str, at: datetime, events: Sequence[NewEvent], prev_hash: str | None = None
) -> list[dict[str, Any]]:
    """Return the rows of `events`, numbered from `first`, each with its hash and the hash of the event before it."""
    request = _request.get()
    request_member = {} if request is None else {"requestId": request}
    rows = []
    for seq, each in enumerate(events, first):
        row = {
            "export_id": export_id,
            "seq": seq,
            "type": each.type.value,
            "at": at,
            "actor": actor if each.actor is None else each.actor,
            "data": {**each.data, **request_member},
            "prev_hash": prev_hash,
        }
        prev_hash = hash_event(row)
        rows.append(row | {"hash": prev_hash})
    return rows
