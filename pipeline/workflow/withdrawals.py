"""Withdraws an export after its handoff: a person requests it, and the customs broker confirms it."""

from collections.abc import Iterable

from sqlalchemy import select, update
from sqlmodel import Session, col

from pipeline.core.errors import EntryFiled, InvalidState
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime
from pipeline.deliveries.entries.entries import name_entries, read_answers, read_package_numbers
from pipeline.deliveries.entries.facets import EntryFacets, Headline, fold_entries, summarize_entries
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.outbox import retractions
from pipeline.deliveries.outbox.outbox import BROKER, build_answer_url
from pipeline.deliveries.submissions.submissions import UNDELIVERED, advance_status
from pipeline.exports import events
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export
from pipeline.exports.states import ExportState, SubmissionState
from pipeline.workflow.interventions import Precondition, check_precondition, lock_export
from pipeline.workflow.steps import TaskMessage, stream_tasks


def withdraw_export(
    runtime: Runtime,
    account_id: str,
    export_id: str,
    actor: str,
    reason: str,
    *,
    precondition: Precondition | None = None,
) -> list[TaskMessage]:
    """Request the withdrawal of a handed-off export, notify its recipients, and return the task messages.

    Unsent messages are cancelled. The export is withdrawn at once if the customs broker never had the handoff, else when
    the customs broker confirms it. Does nothing if the withdrawal is requested already. Raises NotFound, Purged, what
    `precondition` raises, InvalidState if the export was not handed off, or was superseded, and EntryFiled.
    """
    with runtime.db.write() as session:
        export = lock_export(session, account_id, export_id, None)
        if export.withdrawal_seq is not None:
            return []
        check_precondition(session, export, precondition)
        submission = session.scalar(select(BrokerSubmission).where(col(BrokerSubmission.export_id) == export_id))
        if export.state == ExportState.SUPERSEDED.value:
            raise InvalidState(f"export {export_id} was superseded; withdraw the newest revision of its batch")
        if submission is None:
            raise InvalidState(f"export {export_id} was not handed off, so nothing can be withdrawn; hold or cancel it")
        entries = fold_entries(read_package_numbers(session, export_id), read_answers(session, submission.id))
        _check_not_filed(entries)
        status = SubmissionState.WITHDRAWN
        if _may_have_handoff(session, export_id, SubmissionState(submission.state)):
            # The entries may all be cancelled, or withdrawn unasked.
            status = summarize_entries(entries.values(), withdrawing=True).state or SubmissionState.WITHDRAWING
        url = build_answer_url(runtime.settings.public_url, submission.id)
        settled = _list_settled(entries.values()) if status is SubmissionState.WITHDRAWN else []
        enqueued = retractions.retract_withdrawn(session, export, submission, reason, url, settled)
        session.execute(update(Export).where(col(Export.id) == export_id).values(withdrawal_seq=export.next_seq))
        advance_status(session, runtime.settings, submission.id, status)
        fact = {"reason": reason, "submissionId": submission.id, "submissionStatus": status.value, **enqueued.fact}
        events.append(session, export_id, actor, [NewEvent(EventType.EXPORT_WITHDRAWAL_REQUESTED, fact)])
        record_act(session, account_id, actor, Action.WITHDRAWAL_REQUESTED, export_id)
        failpoint("withdraw.mid")
    failpoint("withdraw.after")
    return stream_tasks(enqueued.streams)


def _list_settled(entries: Iterable[EntryFacets]) -> list[Headline]:
    """Return the headlines of the entries of a handoff that is withdrawn at once; none if all were closed before."""
    found = [(each.is_open, Headline.WITHDRAWN if each.is_open else each.headline) for each in entries]
    return [headline for _, headline in found] if any(is_open for is_open, _ in found) else []


def _check_not_filed(entries: dict[str, EntryFacets]) -> None:
    filed = [(number, entry.entry_number) for number, entry in entries.items() if entry.is_filed]
    if filed:
        raise EntryFiled(
            f"the entry of {name_entries(filed)} is filed, so the export cannot be withdrawn; ask the customs broker to"
            " cancel the entry",
            details={"entryNumbers": [entry_number for _, entry_number in filed]},
        )


def _may_have_handoff(session: Session, export_id: str, status: SubmissionState) -> bool:
    """Return whether the customs broker may have the handoff; until the transaction ends, no worker begins to send it."""
    if status not in UNDELIVERED:
        return True
    rows = session.execute(
        select(col(Delivery.delivered_at), col(Delivery.lease_until))
        .where(col(Delivery.subject_id) == export_id, col(Delivery.audience) == BROKER)
        .order_by(col(Delivery.id))
        .with_for_update()
    ).all()
    # A lease that a worker left may hide an attempt whose result nobody recorded.
    return any(each.delivered_at is not None or each.lease_until is not None for each in rows)
