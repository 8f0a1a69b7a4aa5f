"""The append-only log of an export: a gapless sequence, allotted under the export's row lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import bindparam, insert, update
from sqlmodel import Session

from pipeline.db import database_now, table
from pipeline.models import Event, Export


class EventType(StrEnum):
    """What can happen to an export."""

    EXPORT_ACCEPTED = "EXPORT_ACCEPTED"
    PACKAGES_RECORDED = "PACKAGES_RECORDED"
    TREATMENT_ATTACHED = "TREATMENT_ATTACHED"
    CUSTOMS_ARTIFACT_GENERATED = "CUSTOMS_ARTIFACT_GENERATED"
    CUSTOMS_PACKAGE_CLOSED = "CUSTOMS_PACKAGE_CLOSED"
    HANDED_OFF = "HANDED_OFF"
    BROKER_NOTIFIED = "BROKER_NOTIFIED"
    WAREHOUSE_NOTIFIED = "WAREHOUSE_NOTIFIED"
    OPERATOR_NOTIFIED = "OPERATOR_NOTIFIED"
    EXPORT_EXECUTED = "EXPORT_EXECUTED"
    EXPORT_FAILED = "EXPORT_FAILED"
    EXPORT_RESUMED = "EXPORT_RESUMED"
    EXPORT_CANCELLED = "EXPORT_CANCELLED"
    EXPORT_AMENDED = "EXPORT_AMENDED"
    STEP_RETRIED = "STEP_RETRIED"
    DELIVERY_FAILED = "DELIVERY_FAILED"
    DELIVERY_DEAD = "DELIVERY_DEAD"
    DELIVERY_RESENT = "DELIVERY_RESENT"
    BROKER_ACKNOWLEDGED = "BROKER_ACKNOWLEDGED"
    BROKER_REJECTED = "BROKER_REJECTED"
    BROKER_QUERIED = "BROKER_QUERIED"
    BROKER_RELEASED = "BROKER_RELEASED"
    HANDOFF_OVERDUE = "HANDOFF_OVERDUE"


@dataclass(frozen=True)
class NewEvent:
    """An event that has no number yet."""

    type: EventType
    data: Mapping[str, Any] = field(default_factory=dict)


_exports = table(Export).c

_NUMBER: Final = (
    update(table(Export))
    .where(_exports.id == bindparam("of_export"))
    .values(next_seq=_exports.next_seq + bindparam("count"), updated_at=database_now())
    .returning(_exports.next_seq)
)
_WRITE: Final = insert(table(Event))


def append(session: Session, export_id: str, actor: str, events: Sequence[NewEvent]) -> int:
    """Write `events` in order and return the last sequence number.

    The numbers come from the export's row, in the caller's transaction: a rollback gives them back, so there is no gap.
    """
    count = len(events)
    last: int = session.execute(_NUMBER, {"of_export": export_id, "count": count}).scalar_one()
    first = last - count
    if count:
        session.execute(
            _WRITE,
            [
                {"export_id": export_id, "seq": first + n, "type": e.type.value, "actor": actor, "data": dict(e.data)}
                for n, e in enumerate(events)
            ],
        )
    return last - 1
