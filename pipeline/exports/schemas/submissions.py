"""The views of a handoff and the customs broker's answers."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from pipeline.exports.schemas.view import View
from pipeline.exports.states import SubmissionState


class AcknowledgementView(View):
    """One answer of the customs broker."""

    id: str
    status: str
    reference: str | None
    entry_number: str | None
    message: str | None
    fields: list[dict[str, Any]] = Field(description="The mistakes, each with a JSON Pointer into the plan")
    received_at: datetime


class BrokerSubmissionView(View):
    """The handoff to the customs broker, and its status."""

    id: str
    submission_type: str = Field(
        description="Path and channel: `borderbuddy_direct`, or for the merchant's own customs broker `byob_email`,"
        " `byob_webhook`, `byob_queue` or `byob_sftp`"
    )
    status: Literal["pending", "sent", "failed"] = Field(
        description="Only whether it was sent; `submission_status` has the customs broker's answers too"
    )
    recipient_email: str | None
    subject: str
    sent_at: datetime | None
    error_message: str | None
    partner_id: str
    path: str
    channel: str
    submission_status: SubmissionState
    deadline_at: datetime | None = Field(
        description="When the next status must be reached; null if no status is awaited"
    )
    overdue_at: datetime | None = Field(description="When the operators were notified that it is overdue")
    acknowledgements: list[AcknowledgementView]
