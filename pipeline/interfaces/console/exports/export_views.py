"""Views of handoffs for the pages: what the sandbox broker received, and the mark of a status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.deliveries.schemas.views import SandboxHandoffView
from pipeline.exports.states import SubmissionState
from pipeline.interfaces.pages.instants import format_instant
from pipeline.interfaces.pages.list_views import GOOD_OUTCOMES

_BAD_STATUSES: Final = frozenset(
    {SubmissionState.REJECTED, SubmissionState.QUERY, SubmissionState.HELD, SubmissionState.FAILED}
)


@dataclass(frozen=True)
class ShownHandoff:
    """A handoff that the sandbox broker received."""

    link: str
    export_id: str
    invoices: str
    path: str
    requested_outcome: str
    answer: str
    submission_status: str
    mark: str
    received: str


def show_handoff(item: SandboxHandoffView) -> ShownHandoff:
    """Return a handoff of the sandbox broker for its page."""
    return ShownHandoff(
        link=f"/console/exports/{item.export_id}",
        export_id=item.export_id,
        invoices=", ".join(item.invoice_numbers),
        path=item.path,
        requested_outcome="no answer" if item.outcome == "none" else item.outcome,
        answer="nothing" if item.answer is None else item.answer.message or item.answer.status,
        submission_status=item.submission_status.value,
        mark=status_mark(item.submission_status),
        received=format_instant(item.received_at),
    )


def status_mark(status: SubmissionState) -> str:
    """Return the class of the colour of a submission's status."""
    if status in _BAD_STATUSES:
        return "bad"
    return "good" if status.value in GOOD_OUTCOMES else "busy"
