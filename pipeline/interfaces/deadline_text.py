"""What must happen by a deadline, in words."""

from typing import Final

from pipeline.exports.states import SubmissionState

TASKS: Final = {
    SubmissionState.PENDING: "This service delivers the handoff to {partner}",
    SubmissionState.SENT: "This service delivers the handoff to {partner}",
    SubmissionState.DELIVERED: "{partner} answers the handoff",
    SubmissionState.RECEIVED: "{partner} accepts or rejects the handoff",
    SubmissionState.ACCEPTED: "{partner} files the entry",
    SubmissionState.FILED: "Customs releases the goods",
    SubmissionState.WITHDRAWING: "{partner} confirms the withdrawal",
}


def describe_task(status: SubmissionState | None, partner_id: str) -> str:
    """Return what must happen after this status of a handoff; None stands for a release."""
    task = "{partner} files the entry summary" if status is None else TASKS.get(status, "{partner} answers")
    return task.format(partner=partner_id)
