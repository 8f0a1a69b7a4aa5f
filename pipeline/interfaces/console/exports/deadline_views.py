"""The deadline of a handoff: what must happen, and by when."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pipeline.exports.schemas.export import BrokerSubmissionView
from pipeline.exports.states import SubmissionState

_TASKS: Final = {
    SubmissionState.PENDING: "This service delivers the handoff to {partner}",
    SubmissionState.SENT: "This service delivers the handoff to {partner}",
    SubmissionState.DELIVERED: "{partner} answers the handoff",
    SubmissionState.RECEIVED: "{partner} accepts or rejects the handoff",
    SubmissionState.ACCEPTED: "{partner} files the entry",
    SubmissionState.FILED: "Customs releases the goods",
}


def find_deadline(submission: BrokerSubmissionView) -> tuple[str, datetime, bool] | None:
    """Return what must happen, by when, and whether operators know that it is overdue; None if no status is awaited."""
    task = _TASKS.get(submission.submission_status)
    if submission.deadline_at is None or task is None:
        return None
    return task.format(partner=submission.partner_id), submission.deadline_at, submission.overdue_at is not None
