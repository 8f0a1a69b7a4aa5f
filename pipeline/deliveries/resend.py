"""Sends a delivered or dead delivery again, on request."""

from typing import Final

from sqlalchemy import select
from sqlmodel import col

from pipeline.accounts.schemas import DeliveryView
from pipeline.core.errors import InvalidState
from pipeline.core.runtime import Runtime
from pipeline.deliveries import queries
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.outbox.subjects import lock_subject
from pipeline.deliveries.schemas.messages import HELD_UNTIL_SUPERSEDED
from pipeline.deliveries.streams import recovery
from pipeline.deliveries.submissions import submissions
from pipeline.exports import events
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export
from pipeline.exports.states import DELIVERY_TRANSITIONS, DeliveryState, SubmissionState, source_states

#: The states from which a resend restarts the schedule. A waiting delivery is left out: only the completion of its export
#: makes it pending.
_REQUEUED: Final = [
    state.value
    for state in source_states(DELIVERY_TRANSITIONS, DeliveryState.PENDING)
    if state is not DeliveryState.WAITING
]
#: The states from which a delivery can be sent again, or now.
RESENDABLE: Final = (*_REQUEUED, DeliveryState.PENDING.value)


def resend_delivery(
    runtime: Runtime, account_id: str, delivery_id: str, actor: str, *, test_only: bool = False
) -> tuple[DeliveryView, DeliveryStream]:
    """Requeue a delivered or dead delivery, with the same id. Return it and the stream to publish.

    A pending one is due now, with the messages before it in its stream, and keeps its schedule. Raises NotFound and Purged.
    Raises InvalidState if it is waiting or cancelled, or if a newer revision or a withdrawal made its message invalid. Raises
    InsufficientRole if `test_only` and the export or plan is live.
    """
    with runtime.db.write() as session:
        view = queries.load_delivery(session, account_id, delivery_id)
        stream = DeliveryStream(view.export_id or view.plan_id or "", view.partner_id, view.channel)
        # Lock before the checks, to wait for a running amendment or purge.
        subject = lock_subject(session, stream.subject_id)
        subject.check_kept("the text of its messages is gone")
        subject.check_test(delivery_id, test_only=test_only)
        newer = session.scalar(select(col(Export.id)).where(col(Export.supersedes_id) == stream.subject_id))
        if newer is not None and view.event_type in HELD_UNTIL_SUPERSEDED:
            raise InvalidState(
                f"export {stream.subject_id} was superseded by {newer}, so its messages are no longer valid; resend those of {newer}"
            )
        withdrawal = session.scalar(select(col(Export.withdrawal_seq)).where(col(Export.id) == stream.subject_id))
        if withdrawal is not None and view.event_type in HELD_UNTIL_SUPERSEDED:
            raise InvalidState(
                f"the withdrawal of export {stream.subject_id} is requested, so its messages are no longer valid"
            )
        is_requeued = outbox.requeue(session, col(Delivery.id) == delivery_id, col(Delivery.state).in_(_REQUEUED))
        if not is_requeued and view.state is not DeliveryState.PENDING:
            raise InvalidState(
                f"the delivery is {view.state.value}; only a delivered, dead or pending one can be sent again"
            )
        # Also for a requeued one, because messages of its stream may wait for a retry.
        moved = recovery.make_stream_due(session, runtime.settings, stream)
        submission_id = session.scalar(
            select(col(BrokerSubmission.id)).where(
                col(BrokerSubmission.export_id) == stream.subject_id,
                col(BrokerSubmission.partner_id) == stream.partner_id,
                col(BrokerSubmission.channel) == stream.channel,
            )
        )
        if submission_id is not None and is_requeued:
            submissions.advance_status(
                session, runtime.settings, submission_id, SubmissionState.PENDING, error_message=None
            )
        data = {"deliveryId": delivery_id, "notificationId": view.notification_id, "partnerId": view.partner_id}
        if subject.plan_id is None and is_requeued:
            events.append(session, subject.id, actor, [NewEvent(EventType.DELIVERY_RESENT, data)])
        # A second click on the same button changes nothing.
        if is_requeued or moved:
            record_act(session, account_id, actor, Action.DELIVERY_RESENT, delivery_id)
        session.expire_all()
        return queries.load_delivery(session, account_id, delivery_id), stream
