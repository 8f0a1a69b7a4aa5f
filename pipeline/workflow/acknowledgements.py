"""Acknowledgements: a person has seen what an export needs, and it leaves the inbox until a new fact arrives."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from pipeline.core.errors import InvalidState, PreconditionFailed
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Delivery
from pipeline.deliveries.outcomes import DEAD, read_outcome
from pipeline.exports import events
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.events import REOPENING, EventType, NewEvent
from pipeline.exports.models import Event, Export
from pipeline.exports.states import NEEDS_PERSON, Outcome
from pipeline.workflow.interventions import Precondition, lock_export

#: A failed export blocks its goods: it is retried, cancelled or amended, and stays in the inbox until then.
ACKNOWLEDGEABLE: Final = NEEDS_PERSON - {Outcome.NEEDS_ATTENTION}


def acknowledge_export(
    runtime: Runtime,
    account_id: str,
    export_id: str,
    actor: str,
    note: str | None = None,
    *,
    seen_seq: int | None = None,
    precondition: Precondition | None = None,
) -> None:
    """Record that a person has seen what the export needs; its outcome stays. Does nothing if that is recorded already.

    `seen_seq` is the number of the newest event that the person saw. Raises NotFound, Purged, what `precondition` raises,
    PreconditionFailed if a new fact came after the seen event, and InvalidState if the export needs nobody, or failed.
    """
    with runtime.db.write() as session:
        export = lock_export(session, account_id, export_id, precondition)
        if export.acknowledged_seq is not None:
            return
        if seen_seq is not None and _find_newer_fact(session, export_id, seen_seq):
            raise PreconditionFailed(
                f"a new fact about export {export_id} came after you saw it; look at it again, then acknowledge it"
            )
        outcome = read_outcome(session, export_id)
        _check_acknowledgeable(session, export, outcome)
        fact = {"outcome": outcome.value, **({} if note is None else {"note": note})}
        events.append(session, export_id, actor, [NewEvent(EventType.OUTCOME_ACKNOWLEDGED, fact)])
        record_act(session, account_id, actor, Action.EXPORT_ACKNOWLEDGED, export_id, {"outcome": outcome.value})


def reopen_export(
    runtime: Runtime, account_id: str, export_id: str, actor: str, *, precondition: Precondition | None = None
) -> None:
    """Undo an acknowledgement: what the export needs is in the inbox again.

    Raises NotFound, Purged, what `precondition` raises, and InvalidState if it is not acknowledged.
    """
    with runtime.db.write() as session:
        if lock_export(session, account_id, export_id, precondition).acknowledged_seq is None:
            raise InvalidState(f"export {export_id} is not acknowledged; there is nothing to undo")
        events.append(session, export_id, actor, [NewEvent(EventType.OUTCOME_REOPENED)])
        record_act(session, account_id, actor, Action.EXPORT_REOPENED, export_id)


def _find_newer_fact(session: Session, export_id: str, seq: int) -> bool:
    newer = select(col(Event.seq)).where(
        col(Event.export_id) == export_id, col(Event.seq) > seq, col(Event.type).in_([each.value for each in REOPENING])
    )
    return session.scalar(newer.limit(1)) is not None


def _check_acknowledgeable(session: Session, export: Export, outcome: Outcome) -> None:
    if outcome in ACKNOWLEDGEABLE:
        return
    dead = select(col(Delivery.id)).where(col(Delivery.subject_id) == export.id, DEAD).limit(1)
    if session.scalar(dead) is not None:
        return
    if outcome is Outcome.NEEDS_ATTENTION:
        raise InvalidState(f"export {export.id} failed; retry, cancel or amend it")
    raise InvalidState(
        f"export {export.id} needs nobody: its outcome is {outcome.value}; there is nothing to acknowledge"
    )
