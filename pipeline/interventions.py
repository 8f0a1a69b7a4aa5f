"""What a person may do to an export under way: stop it, or let it go on where it failed."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlmodel import Session, col

from pipeline import events
from pipeline.claims import at
from pipeline.db import database_now
from pipeline.errors import InvalidState, NotFound
from pipeline.events import EventType, NewEvent
from pipeline.execution import EXPORT_LEVEL, Wake, move
from pipeline.models import Export, Package, Step
from pipeline.runtime import Runtime
from pipeline.states import ExportState, StepState


def cancel(runtime: Runtime, account_id: str, export_id: str, actor: str) -> None:
    """Stop an export that has not been handed off.

    Raises NotFound, and InvalidState where it has ended or was handed off.
    """
    with runtime.db.write() as session:
        _locked(session, account_id, export_id)
        handed_off = session.scalar(select(col(Step.state)).where(*at(export_id, EXPORT_LEVEL, "hand_off")))
        if handed_off == StepState.DONE.value:
            raise InvalidState("the export was handed off already; it can no longer be cancelled")
        move(session, export_id, ExportState.CANCELLED, finished_at=database_now())
        session.execute(
            update(Step)
            .where(col(Step.export_id) == export_id, col(Step.state) != StepState.DONE.value)
            .values(state=StepState.CANCELLED.value, lease_until=None, due_at=None)
        )
        session.execute(update(Package).where(col(Package.export_id) == export_id).values(released=True))
        events.append(session, export_id, actor, [NewEvent(EventType.EXPORT_CANCELLED)])


def retry(runtime: Runtime, account_id: str, export_id: str, actor: str) -> list[Wake]:
    """Let a failed export go on from where it failed, with all its attempts again; return what to wake.

    Raises NotFound, and InvalidState where it has not failed.
    """
    with runtime.db.write() as session:
        if _locked(session, account_id, export_id) != ExportState.FAILED.value:
            raise InvalidState("the export has not failed, so there is nothing to retry")
        move(session, export_id, ExportState.EXECUTING, failure=None, finished_at=None)
        rows = session.execute(
            update(Step)
            .where(
                col(Step.export_id) == export_id,
                col(Step.state).in_((StepState.FAILED.value, StepState.OWED.value)),
            )
            .values(
                state=StepState.OWED.value,
                attempts=0,
                error=None,
                lease_until=None,
                finished_at=None,
                due_at=database_now(runtime.settings.stalled_seconds),
            )
            .returning(col(Step.unit_no), col(Step.name))
        ).all()
        events.append(session, export_id, actor, [NewEvent(EventType.EXPORT_RESUMED)])
    return [Wake(export_id, row.unit_no, row.name) for row in rows]


def _locked(session: Session, account_id: str, export_id: str) -> str:
    """Lock the export's row and return its state."""
    state: str | None = session.execute(
        update(Export)
        .where(col(Export.id) == export_id, col(Export.account_id) == account_id)
        .values(updated_at=database_now())
        .returning(col(Export.state))
    ).scalar_one_or_none()
    if state is None:
        raise NotFound(f"there is no export {export_id}")
    return state
