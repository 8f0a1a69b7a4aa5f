"""What a delivery to the customs broker says about its submission: that it is delivered, and the answers in the response."""

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import bindparam, select, update
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.core.db import database_now, table
from pipeline.deliveries.channels.protocol import DeliveryReceipt
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import broker_answers, carried_answers, submissions
from pipeline.exports.events import NewEvent

_RECORD_SENT: Final = (
    update(table(BrokerSubmission))
    .where(table(BrokerSubmission).c.id == bindparam("of_submission"))
    .values(submissions.DELIVERED_NOW)
)


def record_handover(
    session: Session,
    settings: Settings,
    submission_id: str,
    stream: DeliveryStream,
    receipts: Sequence[DeliveryReceipt],
) -> list[NewEvent]:
    """Record that the handoff is delivered, and what the endpoint answered to it."""
    happened: list[NewEvent] = []
    moved, has_answers = submissions.deliver_status(session, settings, submission_id)
    if moved:
        fact = carried_answers.settle_delivered(session, settings, submission_id) if has_answers else {}
        happened.append(submissions.notified_event(stream.partner_id, stream.channel, fact))
    else:
        # The broker's own answer has moved the status already. The time of sending is recorded anyway.
        session.execute(_RECORD_SENT, {"of_submission": submission_id})
    answers = [receipt.handoff for receipt in receipts if receipt.handoff is not None]
    if answers:
        session.execute(
            update(BrokerSubmission)
            .where(col(BrokerSubmission.id) == submission_id)
            .values(handoff_id=answers[-1].handoff_id, polled_at=database_now())
        )
    given = (answer.acknowledgement for answer in answers)
    return happened + _record_answers(session, settings, submission_id, stream, given)


def record_later_answers(
    session: Session, settings: Settings, stream: DeliveryStream, receipts: Sequence[DeliveryReceipt]
) -> list[NewEvent]:
    """Record what the endpoint answered to messages after the handoff, such as that it is withdrawn."""
    answers = [receipt.handoff.acknowledgement for receipt in receipts if receipt.handoff is not None]
    if not answers:
        return []
    # The partner may have another channel than at the handoff, but has one submission of an export at most.
    submission_id = session.scalars(
        select(col(BrokerSubmission.id)).where(
            col(BrokerSubmission.export_id) == stream.subject_id, col(BrokerSubmission.partner_id) == stream.partner_id
        )
    ).one_or_none()
    return [] if submission_id is None else _record_answers(session, settings, submission_id, stream, answers)


def _record_answers(
    session: Session,
    settings: Settings,
    submission_id: str,
    stream: DeliveryStream,
    answers: Iterable[AcknowledgementBody],
) -> list[NewEvent]:
    return [
        event
        for answer in answers
        for event in broker_answers.record_answer(session, settings, submission_id, stream.subject_id, answer)
    ]
