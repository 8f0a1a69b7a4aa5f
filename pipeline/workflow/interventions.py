"""What a person may do with an active or failed export: cancel or retry it, hold its handoff, and release the hold."""

from collections.abc import Callable

from sqlalchemy import select, update
from sqlmodel import Session, col

from config.queues import LARGE
from pipeline.accounts.api_keys import Caller
from pipeline.core.db import database_now
from pipeline.core.errors import ASK_FOR_LIVE, InsufficientRole, InvalidState, NotFound, Purged
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime
from pipeline.deliveries.outbox import retractions
from pipeline.exports import events, queries
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export, ExportPackage, Step
from pipeline.exports.schemas.export import ExportView
from pipeline.exports.states import ACTIVE_STATES, STEP_TRANSITIONS, ExportState, StepState, source_states
from pipeline.exports.transitions import transition_export
from pipeline.workflow import read_model
from pipeline.workflow.step_leases import step_where
from pipeline.workflow.steps import EXPORT_LEVEL, HAND_OFF, TaskMessage

#: Raises PreconditionFailed if the export changed since the caller last read it.
Precondition = Callable[[ExportView], None]


def find_for_change(runtime: Runtime, caller: Caller, export_or_batch_id: str) -> str:
    """Return the id of the export that the caller may change; raise NotFound or InsufficientRole."""
    with runtime.db.read() as session:
        export = queries.find_export(session, caller.account_id, export_or_batch_id, test=caller.test)
    if caller.test and not export.test:
        raise InsufficientRole(f"export {export.id} is live, so test mode must not change it; {ASK_FOR_LIVE}")
    return export.id


def cancel_export(
    runtime: Runtime, account_id: str, export_id: str, actor: str, *, precondition: Precondition | None = None
) -> list[TaskMessage]:
    """Cancel an export that has not been handed off, enqueue the notifications, and return the task messages.

    The operators are always notified. Customs broker and warehouse are notified if an earlier revision was handed off,
    because that one announced this revision. Does nothing if the export is already cancelled, so that a caller may
    repeat a lost request. Raises NotFound, what `precondition` raises, and InvalidState if it has ended otherwise or
    was handed off.
    """
    with runtime.db.write() as session:
        export = lock_export(session, account_id, export_id, None)
        if export.state == ExportState.CANCELLED.value:
            return []
        check_precondition(session, export, precondition)
        if _is_handed_off(session, export_id):
            raise InvalidState("the export was handed off already and cannot be cancelled; withdraw or amend it")
        transition_export(session, export_id, ExportState.CANCELLED, hold_seq=None)
        session.execute(
            update(Step)
            .where(
                col(Step.export_id) == export_id,
                col(Step.state).in_([state.value for state in source_states(STEP_TRANSITIONS, StepState.CANCELLED)]),
            )
            .values(state=StepState.CANCELLED.value, lease_until=None, due_at=None)
        )
        session.execute(update(ExportPackage).where(col(ExportPackage.export_id) == export_id).values(released=True))
        enqueued = retractions.retract_cancelled(session, export)
        events.append(session, export_id, actor, [NewEvent(EventType.EXPORT_CANCELLED, enqueued.fact)])
        record_act(session, account_id, actor, Action.EXPORT_CANCELLED, export_id)
    return [TaskMessage(export_id, partner_id=stream.partner_id, channel=stream.channel) for stream in enqueued.streams]


def retry_export(
    runtime: Runtime, account_id: str, export_id: str, actor: str, *, precondition: Precondition | None = None
) -> list[TaskMessage]:
    """Resume a failed export at the failed step, with all attempts again; return the task messages.

    Raises NotFound, what `precondition` raises, and InvalidState if it has not failed.
    """
    with runtime.db.write() as session:
        export = lock_export(session, account_id, export_id, precondition)
        if export.state != ExportState.FAILED.value:
            raise InvalidState("the export has not failed; only a failed export can be retried")
        transition_export(session, export_id, ExportState.EXECUTING, failure=None, quarantined=False)
        rows = session.execute(
            update(Step)
            .where(
                col(Step.export_id) == export_id, col(Step.state).in_((StepState.FAILED.value, StepState.READY.value))
            )
            .values(
                state=StepState.READY.value,
                attempts=0,
                error=None,
                lease_until=None,
                stalled_since=None,
                finished_at=None,
                due_at=database_now(runtime.settings.stalled_seconds),
            )
            .returning(col(Step.unit_no), col(Step.name), col(Step.large))
        ).all()
        if export.hold_seq is not None:
            _stop_handoff(session, export_id)
            rows = [row for row in rows if row.name != HAND_OFF.name]
        events.append(session, export_id, actor, [NewEvent(EventType.EXPORT_RESUMED)])
        record_act(session, account_id, actor, Action.EXPORT_RETRIED, export_id)
    return [TaskMessage(export_id, row.unit_no, row.name, queue=LARGE if row.large else None) for row in rows]


def hold_export(
    runtime: Runtime,
    account_id: str,
    export_id: str,
    actor: str,
    reason: str,
    *,
    precondition: Precondition | None = None,
) -> None:
    """Hold the handoff of an export: its other steps are done, and `hand_off` waits until the hold is released.

    A worker that prepares the handoff now loses it. Does nothing if the handoff is held already. Raises NotFound, Purged,
    what `precondition` raises, and InvalidState if the export was handed off, cancelled or superseded.
    """
    with runtime.db.write() as session:
        export = lock_export(session, account_id, export_id, None)
        if export.hold_seq is not None:
            return
        check_precondition(session, export, precondition)
        if export.state == ExportState.SUPERSEDED.value:
            raise InvalidState(f"export {export_id} was superseded; hold the newest revision of its batch")
        if _is_handed_off(session, export_id):
            raise InvalidState("the export was handed off already, so its handoff cannot be held; withdraw it")
        if export.state == ExportState.CANCELLED.value:
            raise InvalidState(f"export {export_id} is cancelled, so it has no handoff to hold")
        session.execute(update(Export).where(col(Export.id) == export_id).values(hold_seq=export.next_seq))
        events.append(session, export_id, actor, [NewEvent(EventType.HANDOFF_HELD, {"reason": reason})])
        _stop_handoff(session, export_id)
        record_act(session, account_id, actor, Action.HANDOFF_HELD, export_id)
        failpoint("hold.mid")
    failpoint("hold.after")


def release_export(
    runtime: Runtime, account_id: str, export_id: str, actor: str, *, precondition: Precondition | None = None
) -> list[TaskMessage]:
    """Release the hold of an export's handoff; return the task message of a handoff that may start now.

    Does nothing if no person holds the handoff, so that a caller may repeat a lost request. Raises NotFound, Purged and
    what `precondition` raises.
    """
    with runtime.db.write() as session:
        export = lock_export(session, account_id, export_id, None)
        if export.hold_seq is None:
            return []
        check_precondition(session, export, precondition)
        session.execute(update(Export).where(col(Export.id) == export_id).values(hold_seq=None))
        events.append(session, export_id, actor, [NewEvent(EventType.HANDOFF_HOLD_RELEASED)])
        opened = session.execute(
            update(Step)
            .where(*step_where(export_id, EXPORT_LEVEL, HAND_OFF.name), col(Step.state) == StepState.READY.value)
            .values(due_at=database_now(runtime.settings.stalled_seconds))
            .returning(col(Step.name))
        ).all()
        record_act(session, account_id, actor, Action.HANDOFF_HOLD_RELEASED, export_id)
        failpoint("release.mid")
    failpoint("release.after")
    active = export.state in ACTIVE_STATES
    return [TaskMessage(export_id, step=row.name) for row in opened] if active else []


def _is_handed_off(session: Session, export_id: str) -> bool:
    state = session.scalar(select(col(Step.state)).where(*step_where(export_id, EXPORT_LEVEL, HAND_OFF.name)))
    return state == StepState.DONE.value


def _stop_handoff(session: Session, export_id: str) -> None:
    """Take a ready handoff from its worker, if it has one, so that nobody claims it until a hold is released."""
    session.execute(
        update(Step)
        .where(*step_where(export_id, EXPORT_LEVEL, HAND_OFF.name), col(Step.state) == StepState.READY.value)
        .values(fence=col(Step.fence) + 1, attempts=0, error=None, lease_until=None, stalled_since=None, due_at=None)
        .execution_options(synchronize_session=False)
    )


def lock_export(session: Session, account_id: str, export_id: str, precondition: Precondition | None) -> Export:
    """Lock the export's row and return it; raise NotFound, Purged, or what `precondition` raises."""
    export = session.get(Export, export_id, with_for_update=True)
    if export is None or export.account_id != account_id:
        raise NotFound(f"there is no export {export_id}")
    if export.purged_at is not None:
        raise Purged.for_export(export_id, "nothing more can be done with it")
    check_precondition(session, export, precondition)
    return export


def check_precondition(session: Session, export: Export, precondition: Precondition | None) -> None:
    """Raise what `precondition` raises about the export as this transaction sees it."""
    if precondition is not None:
        precondition(read_model.read_export(session, export.account_id, export.id))
