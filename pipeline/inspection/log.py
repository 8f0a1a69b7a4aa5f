"""The log of an export: what came after a number, and whether more is to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import exists
from sqlmodel import Session, col, select

from pipeline.models import BrokerSubmission, Delivery, Event, Export
from pipeline.schemas.execution import EventView
from pipeline.states import UNANSWERED, UNENDED, DeliveryState, ExportState

_UNTOLD: Final = (DeliveryState.WAITING.value, DeliveryState.PENDING.value)


@dataclass(frozen=True)
class Stretch:
    """Events in order; `settled` where there are none and none are to come unless somebody intervenes."""

    events: Sequence[EventView]
    settled: bool


def log_after(session: Session, export_id: str, seq: int, limit: int) -> Stretch:
    """Return the events after the number `seq`, at most `limit`."""
    rows = session.exec(
        select(Event)
        .where(col(Event.export_id) == export_id, col(Event.seq) > seq)
        .order_by(col(Event.seq))
        .limit(limit)
    ).all()
    return Stretch([event_view(row) for row in rows], not rows and _settled(session, export_id))


def event_view(event: Event) -> EventView:
    """Return the event as it is shown."""
    return EventView(
        id=f"{event.export_id}.{event.seq}",
        seq=event.seq,
        type=event.type,
        at=event.at,
        actor=event.actor,
        data=event.data,
    )


def _settled(session: Session, export_id: str) -> bool:
    unended = select(Export.id).where(col(Export.id) == export_id, col(Export.state).in_(UNENDED))
    untold = select(Delivery.id).where(col(Delivery.export_id) == export_id, col(Delivery.state).in_(_UNTOLD)).limit(1)
    # Nobody waits for an answer to what a newer revision has replaced.
    superseded = exists().where(col(Export.id) == export_id, col(Export.state) == ExportState.SUPERSEDED.value)
    unanswered = select(BrokerSubmission.id).where(
        ~superseded,
        col(BrokerSubmission.export_id) == export_id,
        col(BrokerSubmission.state).in_(UNANSWERED),
        col(BrokerSubmission.overdue_at).is_(None),
    )
    return not any(session.scalar(query) is not None for query in (unended, untold, unanswered))
