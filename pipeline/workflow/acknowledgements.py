"""Acknowledgements: a person has seen what an export needs, and it leaves the inbox until a new fact arrives.

A registered plan has no log and no outcome: each dead letter about it is acknowledged by itself.
"""

from sqlalchemy import select
from sqlmodel import Session, col

from pipeline.core.errors import InvalidState, PreconditionFailed
from pipeline.core.runtime import Runtime
from pipeline.deliveries import queries
from pipeline.deliveries.models import Delivery
from pipeline.deliveries.outbox.subjects import lock_subject
from pipeline.deliveries.outcomes import DEAD, read_outcome
from pipeline.exports import events
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.event_models import Event
from pipeline.exports.events import REOPENING, EventType, NewEvent
from pipeline.exports.models import Export
from pipeline.exports.states import ACKNOWLEDGEABLE, DeliveryState, InboxState, Outcome
from pipeline.workflow.interventions import Precondition, lock_export


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


def acknowledge_letter(
    runtime: Runtime, account_id: str, delivery_id: str, actor: str, note: str | None = None, *, test_only: bool = False
) -> None:
    """Record that a person has seen a dead letter about a registered plan. Does nothing if that is recorded already.

    Raises NotFound and Purged, InvalidState if it is not dead or is about an export, and InsufficientRole if `test_only`
    and the plan is live.
    """
    with runtime.db.write() as session:
        letter = _lock_letter(session, account_id, delivery_id, test_only=test_only)
        if letter.inbox == InboxState.ACKNOWLEDGED:
            return
        if letter.state != DeliveryState.DEAD:
            raise InvalidState(f"delivery {delivery_id} is {letter.state}; only a dead one is acknowledged")
        detail = {} if note is None else {"note": note}
        letter.acknowledged_seq = record_act(
            session, account_id, actor, Action.DELIVERY_ACKNOWLEDGED, delivery_id, detail
        )
        letter.inbox = InboxState.ACKNOWLEDGED.value


def reopen_letter(runtime: Runtime, account_id: str, delivery_id: str, actor: str, *, test_only: bool = False) -> None:
    """Undo an acknowledgement: the dead letter is in the inbox again.

    Raises what `acknowledge_letter` does, and InvalidState if it is not acknowledged.
    """
    with runtime.db.write() as session:
        letter = _lock_letter(session, account_id, delivery_id, test_only=test_only)
        if letter.inbox != InboxState.ACKNOWLEDGED:
            raise InvalidState(f"delivery {delivery_id} is not acknowledged; there is nothing to undo")
        letter.inbox, letter.acknowledged_seq = InboxState.OPEN.value, None
        record_act(session, account_id, actor, Action.DELIVERY_REOPENED, delivery_id)


def _lock_letter(session: Session, account_id: str, delivery_id: str, *, test_only: bool) -> Delivery:
    """Lock the plan that a delivery is about, and return the delivery as it is then."""
    subject_id = session.scalar(
        select(col(Delivery.subject_id)).where(col(Delivery.id) == delivery_id, col(Delivery.account_id) == account_id)
    )
    if subject_id is None:
        raise queries.delivery_not_found(delivery_id)
    subject = lock_subject(session, subject_id)
    subject.check_kept("nothing about it needs a person")
    subject.check_test(delivery_id, test_only=test_only)
    if subject.plan_id is None:
        raise InvalidState(f"delivery {delivery_id} is about {subject.name}; acknowledge the export itself")
    return session.get_one(Delivery, delivery_id)


def _find_newer_fact(session: Session, export_id: str, seq: int) -> bool:
    newer = select(col(Event.seq)).where(
        col(Event.export_id) == export_id, col(Event.seq) > seq, col(Event.type).in_([each.value for each in REOPENING])
    )
    return session.scalar(newer.limit(1)) is not None


def _check_acknowledgeable(session: Session, export: Export, outcome: Outcome) -> None:
    if outcome in ACKNOWLEDGEABLE or export.amounts_differ or export.summary_trouble or export.earlier_entry:
        return
    dead = select(col(Delivery.id)).where(col(Delivery.subject_id) == export.id, DEAD).limit(1)
    if session.scalar(dead) is not None:
        return
    if outcome is Outcome.NEEDS_ATTENTION:
        raise InvalidState(f"export {export.id} failed; retry, cancel or amend it")
    if outcome is Outcome.HANDOFF_HELD:
        raise InvalidState(f"the handoff of export {export.id} is held; release or cancel it")
    raise InvalidState(
        f"export {export.id} needs nobody: its outcome is {outcome.value}; there is nothing to acknowledge"
    )
