"""Messages to the operators: a person must look at an export. Each carries the outcome at the moment of its event."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import defer
from sqlmodel import Session

from pipeline.accounts import recipients
from pipeline.core.findings import Finding
from pipeline.deliveries.entries.entries import find_without_bill
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.outbox.outbox import OPERATOR, DeliveryStream, Enqueued, NewNotification
from pipeline.deliveries.outcomes import read_outcome
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_operator import (
    DeliveryDead,
    ExportFailed,
    ExportRechecked,
    HandoffOverdue,
    PlanRechecked,
)
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.states import Outcome
from pipeline.exports.step_context import StepContext

#: The most findings that a message about a recheck lists of each kind.
MAX_CHANGED: Final = 50


def enqueue_export_failed(
    session: Session, context: StepContext, failure: str, *, attempts: int, quarantined: bool
) -> Enqueued:
    """Enqueue a message to operators and upstream service that the export has failed, in the caller's transaction."""
    message = ExportFailed(
        **outbox.describe_export(context),
        outcome=Outcome.NEEDS_ATTENTION,
        step=context.step,
        reason=failure,
        attempts=attempts,
        quarantined=quarantined,
        inspect=f"/api/exports/{context.export_id}",
    )
    # An export may fail, be retried and fail again. Each failure gets a message; the fence makes its id unique.
    subject = f"{context.unit_no}/{context.step}/{context.fence}"
    watchers = outbox.find_watchers(session, context)
    notifications = [NewNotification(audience, MessageType.EXPORT_FAILED, subject, message) for audience in watchers]
    enqueued = outbox.enqueue(session, context.account_id, notifications, watchers)
    return Enqueued(enqueued.streams, {"outcome": Outcome.NEEDS_ATTENTION.value, **enqueued.fact})


@dataclass(frozen=True)
class DeadDelivery:
    """A dead delivery, as the message to the operators describes it."""

    delivery_id: str
    notification_id: str
    audience: str
    event_type: str
    attempts: int
    reason: str


def enqueue_delivery_dead(session: Session, stream: DeliveryStream, given_up: Sequence[DeadDelivery]) -> Enqueued:
    """Enqueue messages to the operators that deliveries of the stream are dead.

    Dead deliveries to operators are left out.
    """
    export, outcome = session.get_one(Export, stream.subject_id), read_outcome(session, stream.subject_id)
    notifications = [
        NewNotification(
            OPERATOR,
            MessageType.DELIVERY_DEAD,
            f"{each.delivery_id}/{each.attempts}",
            DeliveryDead(
                **outbox.describe_export(export),
                outcome=outcome,
                delivery_id=each.delivery_id,
                notification_id=each.notification_id,
                audience=each.audience,
                partner_id=stream.partner_id,
                channel=stream.channel,
                event_type=each.event_type,
                attempts=each.attempts,
                reason=each.reason,
                resend=f"/api/deliveries/{each.delivery_id}/resend",
            ),
        )
        for each in given_up
        if each.audience != OPERATOR
    ]
    if not notifications:
        return Enqueued(fact={"outcome": outcome.value})
    return _notify_operators(session, export.account_id, notifications, outcome)


@dataclass(frozen=True)
class OverdueStatus:
    """An overdue submission status, as the message to the operators describes it.

    It is `repeated` if the same status was overdue before the goods arrived.
    """

    submission_id: str
    export_id: str
    partner_id: str
    channel: str
    status: str
    deadline_at: datetime
    arrives_at: datetime | None
    has_arrived: bool
    repeated: bool = False
    summary: bool = False  # the summary of a released entry is overdue, not the next status


def enqueue_handoff_overdue(session: Session, late: OverdueStatus) -> Enqueued:
    """Enqueue a message to the operators that a submission status is overdue."""
    export, outcome = session.get_one(Export, late.export_id), read_outcome(session, late.export_id)
    message = HandoffOverdue(
        **outbox.describe_export(export),
        outcome=outcome,
        submission_id=late.submission_id,
        partner_id=late.partner_id,
        channel=late.channel,
        submission_status=late.status,
        deadline_at=late.deadline_at,
        arrives_at=late.arrives_at,
        arrived=late.has_arrived,
        summary=late.summary,
        without_bill=find_without_bill(session, [late.submission_id]).get(late.submission_id, []),
        inspect=f"/api/exports/{export.id}",
    )
    # Each status is overdue only once, but a resent handoff passes through all of them again.
    status = "summary" if late.summary else late.status
    subject = f"{late.submission_id}/{status}/{late.deadline_at.isoformat()}{'/arrived' if late.repeated else ''}"
    notification = NewNotification(OPERATOR, MessageType.HANDOFF_OVERDUE, subject, message)
    return _notify_operators(session, export.account_id, [notification], outcome)


@dataclass(frozen=True)
class ChangedFindings:
    """What other rules or editions find in a plan.

    `ruleset_before` is None if those rules cannot be read any more, `editions_before` if an edition was removed.
    """

    ruleset_before: str | None
    ruleset: str
    appeared: Sequence[Finding]
    gone: Sequence[Finding]
    editions_before: Sequence[str] | None = None
    editions: Sequence[str] = ()

    def describe(self) -> dict[str, Any]:
        """Return the members of a message about the change."""
        return {
            "ruleset": self.ruleset,
            "ruleset_before": self.ruleset_before,
            "editions": [*self.editions],
            "editions_before": None if self.editions_before is None else [*self.editions_before],
            "appeared": [*self.appeared[:MAX_CHANGED]],
            "gone": [*self.gone[:MAX_CHANGED]],
        }


def enqueue_export_rechecked(session: Session, export_id: str, change: ChangedFindings) -> Enqueued:
    """Enqueue a message to the operators that a recheck finds something else. The next sweep publishes the streams."""
    export, outcome = session.get_one(Export, export_id), read_outcome(session, export_id)
    message = ExportRechecked(
        **outbox.describe_export(export), outcome=outcome, **change.describe(), inspect=f"/api/exports/{export.id}"
    )
    # Rules may go back and forth; the number of the next event makes the id of each message unique.
    subject = f"{change.ruleset}/{export.next_seq}"
    notification = NewNotification(OPERATOR, MessageType.EXPORT_RECHECKED, subject, message)
    return _notify_operators(session, export.account_id, [notification], outcome)


def enqueue_plan_rechecked(session: Session, plan_id: str, change: ChangedFindings) -> Enqueued:
    """Enqueue the same message about a plan without an export, whose row the caller holds."""
    plan = session.get_one(PlanSnapshot, plan_id, options=[defer(PlanSnapshot.document)])  # type: ignore[arg-type]
    message = PlanRechecked(**outbox.describe_plan(plan), **change.describe())
    # Rules may go back and forth; the position of the message makes its id unique.
    subject = f"{change.ruleset}/{outbox.next_position(session, message.about)}"
    notification = NewNotification(OPERATOR, MessageType.PLAN_RECHECKED, subject, message)
    operators = {OPERATOR: recipients.find_operators(session, plan.account_id)}
    return outbox.enqueue(session, plan.account_id, [notification], operators)


def _notify_operators(
    session: Session, account_id: str, notifications: Sequence[NewNotification], outcome: Outcome
) -> Enqueued:
    operators = {OPERATOR: recipients.find_operators(session, account_id)}
    enqueued = outbox.enqueue(session, account_id, notifications, operators)
    return Enqueued(enqueued.streams, {"outcome": outcome.value, **enqueued.fact})
