"""Reads of an export: its row, its state and its events."""

from __future__ import annotations

from sqlmodel import Session, col, or_, select

from pipeline.core.errors import NotFound
from pipeline.exports.models import Event, Export
from pipeline.exports.schemas.export import EventView
from pipeline.exports.states import ExportState


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
