"""Views of deadlines: what a partner must do by when, counting down, or since when it is overdue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.exports.schemas.export import BrokerSubmissionView
from pipeline.exports.states import SubmissionState
from pipeline.interfaces.durations import format_countdown
from pipeline.interfaces.pages.instants import format_instant

_TASKS: Final = {
    SubmissionState.PENDING: "This service delivers the handoff to {partner}",
    SubmissionState.SENT: "This service delivers the handoff to {partner}",
    SubmissionState.DELIVERED: "{partner} answers the handoff",
    SubmissionState.RECEIVED: "{partner} accepts or rejects the handoff",
    SubmissionState.ACCEPTED: "{partner} files the entry",
    SubmissionState.FILED: "Customs releases the goods",
}


@dataclass(frozen=True)
class ShownDeadline:
    """What must happen, the time left as text, and the instant for people and for programs."""

    task: str
    text: str
    at: str
    instant: str
    overdue: bool


def show_deadline(submission: BrokerSubmissionView, now: datetime) -> ShownDeadline | None:
    """Return the deadline of a submission, None if no status is awaited."""
    task = _TASKS.get(submission.submission_status)
    if submission.deadline_at is None or task is None:
        return None
    return build_deadline(
        task.format(partner=submission.partner_id),
        submission.deadline_at,
        now,
        overdue=submission.overdue_at is not None,
    )


def build_deadline(task: str, at: datetime, now: datetime, *, overdue: bool = False) -> ShownDeadline:
    """Return the deadline of a task; it is overdue from its instant on."""
    instant = at.isoformat(timespec="seconds")
    return ShownDeadline(task, count_down(at, now), format_instant(at), instant, overdue or at <= now)


def count_down(at: datetime, now: datetime) -> str:
    """Return the time left or passed, such as `due in 3 h 12 min`. A script of the browser then counts on, in minutes."""
    seconds = (at - now).total_seconds()
    return f"due in {format_countdown(seconds)}" if seconds > 0 else f"overdue for {format_countdown(-seconds)}"
