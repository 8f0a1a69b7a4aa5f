"""What the API answers about what is due next."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from pipeline.exports.schemas.view import View
from pipeline.exports.states import SubmissionState


class DeadlineKind(StrEnum):
    """What must happen by a deadline."""

    HANDOFF = "handoff"
    SUMMARY = "summary"


class DeadlineView(View):
    """The next status of an open handoff, or the summary of a released entry, and when it is due."""

    kind: DeadlineKind = Field(
        description="`handoff`: the customs broker's next answer; `summary`: the filing of the first entry summary, until"
        " the end of that day; later versions add others"
    )
    export_id: str = Field(alias="exportId")
    batch_id: str = Field(alias="batchId")
    revision: int
    test: bool = Field(description="Whether a test key sent the plan")
    partner_id: str = Field(alias="partnerId")
    partner_name: str = Field(alias="partnerName")
    submission_id: str = Field(alias="submissionId")
    submission_status: SubmissionState = Field(
        alias="submissionStatus", description="The status now; the next one is due"
    )
    deadline_at: datetime = Field(alias="deadlineAt")
    overdue_at: datetime | None = Field(
        alias="overdueAt", description="When the operators were notified that it is overdue"
    )
    arrives_at: datetime | None = Field(
        alias="arrivesAt", description="When the first goods arrive by the plan, if it was known at the handoff"
    )


class CalendarLink(View):
    """The link by which a calendar program reads what is due next."""

    url: str = Field(description="Works without a key until it is revoked; anyone who has it may read the calendar")


class DeadlinePage(View):
    """One page of what is due next, the earliest first; `nextAfter` is the `after` of the next one."""

    items: list[DeadlineView]
    next_after: str | None = Field(alias="nextAfter", description="Null if nothing follows")
