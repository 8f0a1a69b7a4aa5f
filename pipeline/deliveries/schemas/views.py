"""What callers may say about sending a partner's messages again, and what we say back; closed, camelCase."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationInfo, field_validator

from pipeline.accounts.schemas import DeliveryView
from pipeline.core.field_types import BoundedInstant
from pipeline.deliveries.schemas.cloudevent import CloudEventEnvelope
from pipeline.deliveries.schemas.messages import HandoffAnswer, MessageType
from pipeline.exports.schemas.export import BrokerSubmissionView
from pipeline.exports.schemas.plan import StrictModel
from pipeline.exports.states import SubmissionState


class SandboxHandoffView(StrictModel):
    """A handoff that came to the sandbox broker, how it was to be answered, and where its submission stands."""

    id: str = Field(description="The CloudEvent id; the same handoff twice is one")
    export_id: str
    submission_id: str
    path: Literal["borderbuddy", "webhook"]
    invoice_numbers: list[str] = Field(description="The first two characters of the first pick outcome and delay")
    outcome: Literal["accepted", "rejected", "query", "held", "none"]
    answer: HandoffAnswer | None = Field(description="What was answered at once; null where the answer came later")
    submission_status: SubmissionState
    received_at: datetime


class SandboxPage(StrictModel):
    """One page of what the sandbox broker received, newest first; `nextCursor` is null on the last."""

    items: list[SandboxHandoffView]
    next_cursor: str | None


ReplayState = Literal["delivered", "dead"]


class ReplayRequest(StrictModel):
    """Which of a partner's messages are to be sent again: what was delivered, or owed and given up, in a span of time."""

    since: BoundedInstant = Field(description="From this instant on, with its offset")
    until: BoundedInstant | None = Field(None, description="Up to this instant; without it now")
    states: tuple[ReplayState, ...] = Field(("delivered", "dead"), min_length=1, max_length=2)
    event_types: list[MessageType] | None = Field(None, min_length=1, max_length=20, description="All, where left out")
    after: str | None = Field(None, max_length=64, description="`next` of the page before")

    @field_validator("until")
    @classmethod
    def _check_span(cls, until: datetime | None, info: ValidationInfo) -> datetime | None:
        since = info.data.get("since")
        if until is not None and since is not None and until < since:
            raise ValueError("must not be before since; a span ends after it begins")
        return until


class ReplayReport(StrictModel):
    """One page of a replay: how much is owed again, and where the next page begins."""

    partner_id: str
    since: datetime
    until: datetime
    messages: int = Field(description="Deliveries that are owed again, each with the id that it had")
    exports: int
    next: str | None = Field(description="Send it as `after`, with the same `until`; null on the last page")


class NotificationTrace(StrictModel):
    """What became of one message: to whom it went by which channel, each try, and what came back."""

    id: str = Field(description="The CloudEvent id, the same on every try and channel")
    event_type: str
    audience: str
    export_id: str
    batch_id: str
    revision: int
    test: bool
    created_at: datetime
    event: CloudEventEnvelope = Field(description="What is said, as every channel carries it")
    deliveries: list[DeliveryView] = Field(description="By recipient and channel, each with its newest 200 tries")
    sandbox: SandboxHandoffView | None = Field(
        description="What the built-in sandbox broker made of it; null where it received none"
    )
    broker_submission: BrokerSubmissionView | None = Field(
        description="Of a handoff: the submission that it is, and the customs broker's answers"
    )


class DocumentLink(StrictModel):
    """A document, and the address where it can be fetched without a key for a while."""

    id: str
    artifact_type: str
    filename: str
    media_type: str
    size: int = Field(description="Bytes")
    sha256: str
    signed_url: str = Field(description="Whoever has it may GET the document, so pass it on with care")
    signed_until: AwareDatetime


class DocumentLinks(StrictModel):
    """Links to all documents of a handoff."""

    links: list[DocumentLink]


class DeliveredFile(StrictModel):
    """A file of a message, by its path below the folder of the message."""

    name: str
    size: int = Field(description="Bytes")
    sha256: str


class FileManifest(StrictModel):
    """manifest.json: written last, so that where it lies all the files that it lists lie complete."""

    id: str = Field(description="The CloudEvent's id: the same message sent again keeps it")
    type: str = Field(description="The CloudEvent's type")
    export_id: str
    files: list[DeliveredFile]
