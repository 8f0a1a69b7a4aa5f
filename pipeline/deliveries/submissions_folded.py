"""Handoffs to customs brokers as they are shown: how far up the ladder each is, and every answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from sqlmodel import Session, col, select

from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.exports.schemas.export import AcknowledgementView, BrokerSubmissionView
from pipeline.exports.states import SubmissionState

_SENDING: Final = {SubmissionState.PENDING: "pending", SubmissionState.FAILED: "failed"}


def read_submission(session: Session, account_id: str, submission_id: str) -> BrokerSubmissionView | None:
    """Return one of the account's submissions with its answers, in the order in which they came; None where there is none."""
    row = session.get(BrokerSubmission, submission_id)
    if row is None or row.account_id != account_id:
        return None
    said = select(Acknowledgement).where(col(Acknowledgement.submission_id) == row.id)
    answers = session.exec(said.order_by(col(Acknowledgement.received_at), col(Acknowledgement.id))).all()
    return submission_views([row], answers)[0]


def submission_views(
    submissions: Sequence[BrokerSubmission], acknowledgements: Sequence[Acknowledgement]
) -> list[BrokerSubmissionView]:
    """Return the submissions as they are shown, each with those of the answers that are its own."""
    answers: defaultdict[str, list[AcknowledgementView]] = defaultdict(list)
    for answer in acknowledgements:
        answers[answer.submission_id].append(AcknowledgementView.model_validate(answer))
    return [
        BrokerSubmissionView(
            id=row.id,
            submission_type=row.submission_type,
            status=_SENDING.get(SubmissionState(row.state), "sent"),  # type: ignore[arg-type]  # literals of the view
            recipient_email=row.recipient if row.channel == "email" else None,
            subject=row.subject,
            sent_at=row.sent_at,
            error_message=row.error_message,
            partner_id=row.partner_id,
            path=row.path,
            channel=row.channel,
            rung=SubmissionState(row.state),
            deadline_at=row.deadline_at,
            overdue_at=row.overdue_at,
            acknowledgements=answers[row.id],
        )
        for row in submissions
    ]
