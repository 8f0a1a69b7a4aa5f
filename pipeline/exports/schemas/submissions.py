"""The views of a handoff, its entries and the customs broker's answers."""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import Field

from pipeline.exports.schemas.assessment import Assessment
from pipeline.exports.schemas.view import View
from pipeline.exports.states import SubmissionState


class EntryView(View):
    """One customs package of a handoff. Each facet is folded apart, in the order of the answers' own times."""

    customs_package_number: str
    headline: str = Field(description="The one word that counts; open holds outrank a release")
    broker: str | None = Field(description="The customs broker's review: accepted, rejected or query; null before it")
    release: str | None = Field(description="How far customs is with the entry; null before it is filed")
    holds: list[str] = Field(description="The open holds, such as `agency:FDA:exam`; a hold without a name is empty")
    bill: str | None = Field(description="If the entry matches a bill: bill_matched or bill_unmatched")
    summary: str | None = Field(description="What happened to the entry summary")
    entry_number: str | None
    assessment: Assessment | None = Field(
        None, description="What customs assessed, beside the estimate; null if no answer that counts has amounts"
    )
    correction_until: date | None = Field(
        None,
        description="The last day of a post summary correction: 300 days after the release, or 15 days before the scheduled"
        " liquidation if that is sooner; null before the release and after the liquidation",
    )
    protest_until: date | None = Field(
        None, description="The last day of a protest: 180 days after the liquidation (19 CFR 174.12(e)); null before it"
    )


class EarlierEntryView(View):
    """An entry that was filed for an earlier revision, and does not go on in this one."""

    export_id: str
    revision: int
    submission_id: str
    unit_ref: str
    customs_package_number: str
    entry_number: str | None
    status: str = Field(description="The headline of the entry as its handoff's answers say it now")


class AttachmentView(View):
    """A file that goes with an answer or a message."""

    id: str
    filename: str | None = Field(description="Null after the purge")
    media_type: str
    size: int = Field(description="Bytes")
    sha256: str
    download_url: str = Field(description="Relative to the API's address")


class AcknowledgementView(View):
    """One answer of the customs broker."""

    id: str
    status: str
    reference: str | None
    entry_number: str | None
    message: str | None
    packages: list[str] | None = Field(
        None,
        alias="customsPackageNumbers",
        description="The customs packages that it is about; null if it is about the whole handoff",
    )
    hold: str | None = Field(None, description="The hold that it places or removes; see `entries`")
    at: datetime | None = Field(None, description="When the customs broker decided, if it says so")
    effective_at: datetime | None = None
    corrects: str | None = Field(None, description="The id of an earlier answer, which counts for nothing")
    raw: dict[str, Any] | None = Field(None, description="What the other system said")
    in_reply_to: str | None = Field(None, description="The id of our message that it answers")
    attachments: list[str] | None = Field(None, description="The ids of its files; see `conversation`")
    fields: list[dict[str, Any]] = Field(description="The mistakes, each with a JSON Pointer into the plan")
    received_at: datetime
    assessed: dict[str, Any] | None = Field(None, description="The amounts of one entry; `entries` compares them")
    comparison: Assessment | None = Field(None, exclude=True)


class ConversationItem(View):
    """A message to the customs broker, or an answer of it that says something."""

    side: Literal["customs_broker", "exporter"] = Field(description="Who wrote it")
    id: str
    author: str = Field(description="The partner, or the id of the person or key")
    at: datetime
    status: str | None = Field(description="The status of the answer; null of a message to the customs broker")
    text: str | None = Field(description="Null if the answer only names fields, or after the purge")
    packages: list[str] | None = Field(
        None,
        alias="customsPackageNumbers",
        description="The customs packages that it is about; null if it is about the whole handoff",
    )
    in_reply_to: str | None = Field(None, alias="inReplyTo", description="The id of the item that it answers")
    entry_number: str | None = Field(None, alias="entryNumber", description="As that of the answer")
    fields: list[dict[str, Any]] | None = Field(None, description="As those of the answer")
    attachments: list[AttachmentView] = Field(default_factory=list, description="The files that go with it")


class ConversationPage(View):
    """One page of a conversation, oldest first; `nextAfter` is the `after` of the next page, null on the last."""

    items: list[ConversationItem]
    total: int
    next_after: int | None = Field(alias="nextAfter")


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
    arrives_at: datetime | None = Field(
        None, description="When the first goods arrive by the plan, if it was known at the handoff"
    )
    deadline_at: datetime | None = Field(
        description="When the next status must be reached; null if no status is awaited"
    )
    overdue_at: datetime | None = Field(description="When the operators were notified that it is overdue")
    summary_due_at: datetime | None = Field(
        None,
        description="When the first entry summary must be filed: ten working days after the release (19 CFR 142.12(b));"
        " null if none is due, or if the day passed and the customs broker never says what becomes of summaries",
    )
    summary_overdue_at: datetime | None = Field(
        None, description="When the operators were notified that it is not filed"
    )
    acknowledgements: list[AcknowledgementView]
    entries: list[EntryView] = Field(
        default_factory=list, description="What the answers say about each customs package"
    )
