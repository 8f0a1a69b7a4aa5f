"""Reads of an export: its row, its state and its events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlmodel import Session, col, or_, select

from pipeline.core.errors import NotFound
from pipeline.exports.models import Event, Export
from pipeline.exports.schemas.export import AcknowledgedView, EventView
from pipeline.exports.states import ExportState, Outcome


def event_view(event: Event) -> EventView:
    """Return the API's view of the event."""
    return EventView(
        id=f"{event.export_id}.{event.seq}",
        seq=event.seq,
        type=event.type,
        at=event.at,
        actor=event.actor,
        data=event.data,
    )


def build_acknowledged(event: Event) -> AcknowledgedView:
    """Return the view of the event by which a person acknowledged an export."""
    data = event.data
    return AcknowledgedView(
        seq=event.seq, outcome=Outcome(data["outcome"]), by=event.actor, at=event.at, note=data.get("note")
    )


def find_export(session: Session, account_id: str, export_or_batch_id: str, *, test: bool = False) -> Export:
    """Return the export's row by export id or batch id.

    Of a batch it returns the newest revision with this `test`, or else the newest one of all. Raises NotFound, also for an
    export of another account.
    """
    id_or_batch = export_or_batch_id
    export = session.exec(
        select(Export)
        .where(
            col(Export.account_id) == account_id,
            or_(col(Export.id) == id_or_batch, col(Export.batch_id) == id_or_batch),
        )
        .order_by(
            (col(Export.id) == id_or_batch).desc(), (col(Export.test) == test).desc(), col(Export.revision).desc()
        )
        .limit(1)
    ).first()
    if export is None:
        raise NotFound(f"there is no export or batch {id_or_batch} in this account")
    return export


def read_state(session: Session, export_id: str) -> ExportState:
    """Return the state of an existing export."""
    return ExportState(session.exec(select(Export.state).where(col(Export.id) == export_id)).one())


def list_events_before(session: Session, export_id: str, before: int, *, limit: int) -> list[EventView]:
    """Return the events with a lower number than `before`, the newest first."""
    rows = session.exec(
        select(Event)
        .where(col(Event.export_id) == export_id, col(Event.seq) < before)
        .order_by(col(Event.seq).desc())
        .limit(limit)
    )
    return [event_view(row) for row in rows]


#: The most revisions of a batch that are listed.
MAX_REVISIONS: Final = 50


def list_revisions(session: Session, export: Export) -> Sequence[Export]:
    """Return the newest revisions of the export's batch, also the export itself, the newest first."""
    return session.exec(
        select(Export)
        .where(
            col(Export.account_id) == export.account_id,
            col(Export.batch_id) == export.batch_id,
            col(Export.test) == export.test,
        )
        .order_by(col(Export.revision).desc())
        .limit(MAX_REVISIONS)
    ).all()
