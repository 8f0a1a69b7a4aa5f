"""Everything that needs a person, grouped by cause, and the remedies that the service can apply."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Row, select
from sqlmodel import Session, col

from pipeline.accounts.api_keys import Caller
from pipeline.core.runtime import Runtime
from pipeline.deliveries import queries as delivery_queries
from pipeline.deliveries import sender
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outcomes import HANDOFF, is_quarantined, outcome_searches
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.exports.models import Export
from pipeline.exports.states import DeliveryState, Outcome
from pipeline.workflow.interventions import cancel_export, find_for_change, retry_export
from pipeline.workflow.steps import TaskMessage, stream_tasks

#: The most items of one cause that are listed, oldest first.
MOST_ITEMS: Final = 100


class Cause(StrEnum):
    """Why an export needs a person."""

    QUARANTINED = "quarantined"
    FAILED = "failed"
    OVERDUE = "overdue"
    REJECTED = "rejected"
    QUERY = "query"
    HELD = "held"
    DEAD_LETTER = "dead_letter"


class Remedy(StrEnum):
    """What the service can do about it."""

    RETRY = "retry"
    CANCEL = "cancel"
    RESEND = "resend"


REMEDIES: Final[Mapping[Cause, tuple[Remedy, ...]]] = {
    Cause.QUARANTINED: (Remedy.RETRY, Remedy.CANCEL),
    Cause.FAILED: (Remedy.RETRY, Remedy.CANCEL),
    Cause.OVERDUE: (Remedy.RESEND,),
    Cause.REJECTED: (),
    Cause.QUERY: (),
    Cause.HELD: (),
    Cause.DEAD_LETTER: (Remedy.RESEND,),
}
_ANSWERS: Final = {Outcome.REJECTED: Cause.REJECTED, Outcome.QUERY: Cause.QUERY, Outcome.HELD: Cause.HELD}


@dataclass(frozen=True)
class InboxItem:
    """One export, or one dead letter: `target` is the id that a remedy is applied to, empty if none can be.

    `deadline` is the one that passed, or that comes next.
    """

    target: str
    export_id: str
    batch_id: str
    text: str
    since: datetime
    deadline: datetime | None = None

    @property
    def urgency(self) -> datetime:
        """The instant by which items are sorted."""
        return self.deadline or self.since


@dataclass(frozen=True)
class InboxGroup:
    """The items of one cause with the same partner and reason, most urgent first; there are `more` if it was cut."""

    cause: Cause
    partner_id: str | None
    reason: str
    items: Sequence[InboxItem]
    more: bool = False


def load_inbox(runtime: Runtime, account_id: str) -> list[InboxGroup]:
    """Return what needs a person, most urgent first. Raises DatabaseBusy."""
    grouped: dict[tuple[Cause, str | None, str], list[InboxItem]] = defaultdict(list)
    cut: set[Cause] = set()
    with runtime.db.read() as session:
        for cause, partner_id, reason, item in _find_items(session, account_id, cut):
            grouped[cause, partner_id, reason].append(item)
    dead = delivery_queries.list_deliveries(runtime, account_id, state=DeliveryState.DEAD, limit=MOST_ITEMS)
    batches = _find_batches(runtime, {each.export_id for each in dead.items})
    for each in dead.items:
        item = InboxItem(each.id, each.export_id, batches.get(each.export_id, ""), each.event_type, each.created_at)
        reason = f"{each.error or 'no attempt was possible'}{f'; {each.remedy}' if each.remedy else ''}"
        grouped[Cause.DEAD_LETTER, each.partner_id, reason].append(item)
    if dead.next_cursor is not None:
        cut.add(Cause.DEAD_LETTER)
    groups = [
        InboxGroup(cause, partner_id, reason, sorted(items, key=attrgetter("urgency")), more=cause in cut)
        for (cause, partner_id, reason), items in grouped.items()
    ]
    return sorted(groups, key=lambda group: group.items[0].urgency)


def apply_remedy(runtime: Runtime, caller: Caller, remedy: Remedy, target: str) -> list[TaskMessage]:
    """Retry or cancel an export, or resend a delivery; return the task messages.

    Raises NotFound, InvalidState, Purged, and InsufficientRole for a live export and a test key.
    """
    if remedy is Remedy.RESEND:
        _, stream = sender.resend_delivery(runtime, caller.account_id, target, caller.key_id, test_only=caller.test)
        return stream_tasks([stream])
    export_id = find_for_change(runtime, caller, target)
    change = retry_export if remedy is Remedy.RETRY else cancel_export
    return change(runtime, caller.account_id, export_id, caller.key_id)


def _find_items(
    session: Session, account_id: str, cut: set[Cause]
) -> Iterator[tuple[Cause, str | None, str, InboxItem]]:
    for outcome in (Outcome.NEEDS_ATTENTION, Outcome.OVERDUE, *_ANSWERS):
        rows = _find_exports(session, account_id, outcome)
        if outcome is Outcome.NEEDS_ATTENTION:
            found = [_describe_failure(row.Export) for row in rows[:MOST_ITEMS]]
        elif outcome is Outcome.OVERDUE:
            found = _describe_overdue(session, rows[:MOST_ITEMS])
        else:
            found = _describe_answers(session, _ANSWERS[outcome], rows[:MOST_ITEMS])
        if len(rows) > MOST_ITEMS:
            cut.update(cause for cause, *_ in found)
        yield from found


def _find_exports(session: Session, account_id: str, outcome: Outcome) -> list[Row[Any]]:
    """Return the oldest exports with this outcome, and their handoffs."""
    rows: list[Row[Any]] = []
    for search in outcome_searches(outcome, account_id):
        query = (
            select(Export, BrokerSubmission)
            .join(BrokerSubmission, HANDOFF, isouter=True)
            .where(col(Export.account_id) == account_id, search.where())
            .order_by(*search.columns)
            .limit(MOST_ITEMS + 1)
        )
        rows += session.execute(query).all()
    return rows


def _describe_failure(export: Export) -> tuple[Cause, str | None, str, InboxItem]:
    cause = Cause.QUARANTINED if is_quarantined(export) else Cause.FAILED
    reason = export.failure or "no reason was recorded"
    item = InboxItem(export.id, export.id, export.batch_id, f"revision {export.revision}", export.updated_at)
    return cause, None, reason, item


def _describe_overdue(session: Session, rows: Sequence[Row[Any]]) -> list[tuple[Cause, str | None, str, InboxItem]]:
    handoffs = {
        row.export_id: row.id
        for row in session.execute(
            select(col(Delivery.export_id), col(Delivery.id))
            .join(Notification, col(Notification.id) == col(Delivery.notification_id))
            .where(
                col(Delivery.export_id).in_([row.Export.id for row in rows]),
                col(Notification.event_type) == MessageType.HANDOFF_READY.value,
                col(Delivery.state).in_((DeliveryState.DELIVERED.value, DeliveryState.DEAD.value)),
            )
        )
    }
    found = []
    for row in rows:
        export, submission = row.Export, row.BrokerSubmission
        item = InboxItem(
            handoffs.get(export.id, ""),
            export.id,
            export.batch_id,
            f"last status {submission.state}",
            submission.updated_at,
            submission.deadline_at,
        )
        found.append((Cause.OVERDUE, export.broker_id, _REASONS[Cause.OVERDUE], item))
    return found


def _describe_answers(
    session: Session, cause: Cause, rows: Sequence[Row[Any]]
) -> list[tuple[Cause, str | None, str, InboxItem]]:
    answers = {
        answer.submission_id: answer
        for answer in session.scalars(
            select(Acknowledgement)
            .where(
                col(Acknowledgement.submission_id).in_([row.BrokerSubmission.id for row in rows]),
                col(Acknowledgement.status) == cause.value,
            )
            .order_by(col(Acknowledgement.received_at))
        )
    }
    found = []
    for row in rows:
        export, submission = row.Export, row.BrokerSubmission
        answer = answers.get(submission.id)
        fields = [] if answer is None else [field["pointer"] for field in answer.fields]
        text = " ".join(["" if answer is None else answer.message or "", ", ".join(fields)]).strip()
        item = InboxItem("", export.id, export.batch_id, text, submission.updated_at, submission.deadline_at)
        found.append((cause, export.broker_id, _REASONS[cause], item))
    return found


_REASONS: Final = {
    Cause.OVERDUE: "The customs broker has not answered in time. Ask it; resend the handoff if it has nothing.",
    Cause.REJECTED: "The customs broker rejects it. Correct the plan, and amend the export.",
    Cause.QUERY: "The customs broker asks. Answer it, or correct the plan and amend the export.",
    Cause.HELD: "Customs holds the goods. The customs broker knows what is missing.",
}


def _find_batches(runtime: Runtime, export_ids: set[str]) -> Mapping[str, str]:
    with runtime.db.read() as session:
        rows = session.execute(select(col(Export.id), col(Export.batch_id)).where(col(Export.id).in_(export_ids)))
        return {row.id: row.batch_id for row in rows}
