"""Requests and responses about sandbox, replays, traces, links, files and answers. Closed schemas, in camelCase."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints, ValidationInfo, field_validator

from pipeline.accounts.schemas import DeliveryView
from pipeline.core.field_types import BoundedInstant
from pipeline.deliveries.schemas.answers import MAX_ATTACHMENTS, AcknowledgementBody, HandoffAnswer
from pipeline.deliveries.schemas.cloudevent import CloudEventEnvelope
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.exports.schemas.plan import StrictModel
from pipeline.exports.schemas.submissions import BrokerSubmissionView
from pipeline.exports.states import SubmissionState


class SandboxHandoffView(StrictModel):
    """A handoff that the sandbox broker received, its scripted outcome, and the submission's status."""

    id: str = Field(description="The CloudEvent id; a repeated handoff is the same entry")
    export_id: str
    submission_id: str
    path: Literal["borderbuddy", "webhook"]
    invoice_numbers: list[str] = Field(
        description="The first two characters of each number choose its entry's outcome and delay"
    )
    outcome: Literal["accepted", "rejected", "query", "held", "none"] = Field(
        description="The worst that the invoice numbers ask for; filed and released are accepted, withdrawn is rejected"
    )
    answer: HandoffAnswer | None = Field(description="The immediate answer; null if the answer came later")
    submission_status: SubmissionState
    received_at: datetime


class SandboxPage(StrictModel):
    """One page of handoffs in the sandbox, newest first. `nextCursor` is null on the last page."""

    items: list[SandboxHandoffView]
    next_cursor: str | None


ReplayState = Literal["delivered", "dead"]


class ReplayRequest(StrictModel):
    """Which of a partner's messages to send again: those delivered, or enqueued and dead, in a span of time."""

    since: BoundedInstant = Field(description="From this instant, with UTC offset")
    until: BoundedInstant | None = Field(None, description="Up to this instant; default now")
    states: tuple[ReplayState, ...] = Field(("delivered", "dead"), min_length=1, max_length=2)
    event_types: list[MessageType] | None = Field(None, min_length=1, max_length=20, description="Default all")
    after: str | None = Field(None, max_length=64, description="`next` of the previous page")

    @field_validator("until")
    @classmethod
    def _check_span(cls, until: datetime | None, info: ValidationInfo) -> datetime | None:
        since = info.data.get("since")
        if until is not None and since is not None and until < since:
            raise ValueError("must not be before since; give a later instant")
        return until


class ReplayReport(StrictModel):
    """One page of a replay: how many messages are pending again, and where the next page begins."""

    partner_id: str
    since: datetime
    until: datetime
    messages: int = Field(description="Deliveries that are pending again, each with its old id")
    exports: int
    next: str | None = Field(description="Send it as `after`, with the same `until`; null on the last page")


class NotificationTrace(StrictModel):
    """The trace of one message: recipients, channels, attempts and answers."""

    id: str = Field(description="The CloudEvent id, the same on every attempt and channel")
    event_type: str
    audience: str
    export_id: str = Field(description="Empty if the message is about a registered plan")
    plan_id: str | None = Field(None, description="The plan of a message about a registered plan")
    batch_id: str
    revision: int = Field(description="The revision of the export; 0 if the message is about a registered plan")
    test: bool
    created_at: datetime
    event: CloudEventEnvelope = Field(description="The message, as every channel carries it")
    deliveries: list[DeliveryView] = Field(description="By recipient and channel, each with its newest 200 attempts")
    sandbox: SandboxHandoffView | None = Field(
        description="The handoff in the built-in sandbox broker; null if it did not receive it"
    )
    broker_submission: BrokerSubmissionView | None = Field(
        description="For a handoff: its submission, with the customs broker's answers"
    )


class DocumentLink(StrictModel):
    """A document, and a URL that returns it without a key for a limited time."""

    id: str
    artifact_type: str
    filename: str
    media_type: str
    size: int = Field(description="Bytes")
    sha256: str
    signed_url: str = Field(description="Allows a GET of the document without a key: share it with care")
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
    """manifest.json. It is written last: if it exists, all listed files are complete."""

    id: str = Field(description="The CloudEvent's id; a message that is sent again keeps it")
    type: str = Field(description="The CloudEvent's type")
    export_id: str = Field(description="Empty in a message about a registered plan")
    plan_id: str | None = Field(
        None, exclude_if=lambda value: value is None, description="The plan of a message about a registered plan"
    )
    files: list[DeliveredFile]


class SentFile(StrictModel):
    """A file that goes with an answer in a queue or a file."""

    filename: Annotated[str, StringConstraints(min_length=1, max_length=150)] = Field(
        description="Its name; without `content`, the name of the file beside the answer"
    )
    content: str | None = Field(
        None, description="Its bytes as base64; by SFTP they may be in a file beside the answer"
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="The SHA-256 of its bytes, to check"
    )


class SentAcknowledgement(AcknowledgementBody):
    """An answer in a queue or a file. It names the submission, because no URL names it."""

    submission_id: Annotated[str, StringConstraints(pattern=r"^sub_[0-9a-f]{32}$")] = Field(
        description="`submissionId` of the handoff"
    )
    files: list[SentFile] = Field(
        default_factory=list, max_length=MAX_ATTACHMENTS, description="Files that go with it, beside `attachments`"
    )

    @property
    def answer(self) -> AcknowledgementBody:
        """The answer without the submission's id and the files."""
        return AcknowledgementBody.model_validate(self.model_dump(exclude={"submission_id", "files"}))


class AcknowledgementReceipt(StrictModel):
    """The receipt of an answer. `submissionStatus` is the submission's current status."""

    submission_id: str
    id: str
    submission_status: str
    recorded: bool = Field(description="False if the same answer was recorded before")
