"""What is said to customs brokers, warehouses and operators, and what a customs broker may answer; closed, camelCase."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from pipeline.core.field_types import BoundedInstant
from pipeline.exports.schemas import plan
from pipeline.exports.schemas.plan import StrictModel

#: Longest invoice data, in lines of all units together, that a handoff carries itself; beyond it links lead to it.
MAX_INLINE_LINES: Final = 500

Relative = Annotated[str, Field(description="Relative to the API's address")]
Digest = Annotated[str, Field(description="Digest over the treatment of the whole export, the same on every document")]


class MessageType(StrEnum):
    """The CloudEvent types that we send."""

    HANDOFF_READY = "exports.handoff.ready.v1"
    HANDOFF_SUPERSEDED = "exports.handoff.superseded.v1"
    PACKAGE_RECORDED = "exports.package.recorded.v1"
    PACKAGE_SUPERSEDED = "exports.package.superseded.v1"
    EXPORT_EXECUTED = "exports.export.executed.v1"
    EXPORT_FAILED = "exports.export.failed.v1"
    HANDOFF_OVERDUE = "exports.handoff.overdue.v1"
    HANDOFF_ANSWERED = "exports.handoff.answered.v1"
    EXPORT_CANCELLED = "exports.export.cancelled.v1"
    DELIVERY_DEAD = "exports.delivery.dead.v1"


class ExportMessage(StrictModel):
    """What every message says of its export."""

    export_id: str
    batch_id: str
    revision: int
    test: bool
    plan_hash: str
    treatment_digest: Digest


def _is_none(value: object) -> bool:
    return value is None


class ArtifactLink(StrictModel):
    """A document: what it is, how to check it, and where to fetch it."""

    id: str
    artifact_type: str
    filename: str
    media_type: str
    size: int = Field(description="Bytes")
    sha256: str
    download_url: str = Field(description="Good for ever, with a key")
    # Made as the message goes out, and kept nowhere: whoever has it needs nothing else.
    signed_url: str | None = Field(
        None,
        exclude_if=_is_none,
        description="The same document without a key, for a while; POST .../links asks for another",
    )
    signed_until: AwareDatetime | None = Field(None, exclude_if=_is_none)


class CustomsPackageRef(StrictModel):
    """A customs package by its names."""

    unit_ref: str
    customs_package_id: str
    package_number: str


class HandedLine(plan.Line):
    """A line of the invoice as the plan has it, with the digest of its treatment."""

    treatment_digest: str


class InvoiceTotals(StrictModel):
    """The sums of one invoice; weights in kg."""

    line_count: int
    package_count: int
    goods_value: plan.Number
    invoice_total: plan.Number
    net_weight_kg: plan.Number
    gross_weight_kg: plan.Number


class HandedUnit(StrictModel):
    """One customs package: entry facts, parties, and the invoice as importable data."""

    unit_ref: str
    customs_package_id: str
    package_number: str
    treatment_digest: str = Field(description="Digest over the treatment of this unit")
    entry: plan.Entry
    parties: plan.Parties
    invoice: plan.InvoiceHeader
    totals: InvoiceTotals
    usmca_certificates: list[plan.UsmcaCertificate] | None
    lines: list[HandedLine] | None = Field(
        description=f"Null where the export has more than {MAX_INLINE_LINES} lines: `invoiceData` leads to them"
    )
    invoice_data: ArtifactLink | None = Field(description="The whole invoice as JSON (artifact type cci_json)")
    artifacts: list[ArtifactLink]


class RevisionRef(StrictModel):
    """A revision of an export: each is an export with an id of its own."""

    export_id: str
    revision: int


class SupersededHandoff(RevisionRef):
    """A handoff that the customs broker has and that no longer holds."""

    submission_id: str


class HandoffReady(ExportMessage):
    """To the customs broker: an export is ready to be filed. One message an export."""

    submission_id: str
    supersedes: SupersededHandoff | None = Field(
        None, description="The newest earlier handoff of the batch to this customs broker: this one takes its place"
    )
    acknowledgement_url: str = Field(description="Where the broker's answers go")
    ruleset: plan.RulesetRef
    units: list[HandedUnit]


class HandoffSuperseded(ExportMessage):
    """To the customs broker: a handoff no longer holds; that of a newer revision follows and takes its place."""

    submission_id: str
    notification_ids: list[str] = Field(description="CloudEvent ids of the messages that no longer hold")
    customs_packages: list[CustomsPackageRef]
    superseded_by: RevisionRef


class PackedContent(StrictModel):
    """How much of which goods lies directly in the package."""

    line_ref: str
    sku: str
    quantity: plan.Number


class ShipTo(StrictModel):
    """Where the goods go."""

    name: str
    address: plan.Address


class PackageRecorded(ExportMessage):
    """To the warehouse: one handling unit. No price, no value and no customs fact, the opaque digest apart."""

    version: int = Field(description="The revision of the export that this is the package of")
    unit_ref: str
    customs_package_id: str
    customs_package_number: str
    package_ref: str
    sscc: str | None
    lpn: str | None
    parent_ref: str | None
    type: str
    length_cm: plan.Number
    width_cm: plan.Number
    height_cm: plan.Number
    gross_weight_kg: plan.Number
    tare_weight_kg: plan.Number
    order_id: str | None
    tracking_number: str | None
    contents: list[PackedContent]
    ship_to: ShipTo


class PackageSuperseded(ExportMessage):
    """To the warehouse: what it was told of one handling unit no longer holds. No price and no customs fact."""

    version: int = Field(description="The revision of the export that no longer holds")
    notification_ids: list[str] = Field(description="CloudEvent ids of the messages that no longer hold")
    unit_ref: str
    customs_package_id: str
    customs_package_number: str
    package_ref: str
    sscc: str | None
    lpn: str | None
    superseded_by: RevisionRef
    dropped: bool = Field(description="Whether the newer revision has no package of this unitRef and packageRef")


class ExportExecuted(ExportMessage):
    """To the operator: every step is done; every recipient was told or is owed it."""

    customs_packages: list[CustomsPackageRef]
    package_count: int
    submission_id: str
    inspect: Relative


class ExportFailed(ExportMessage):
    """To the operator: a step cannot be done and a person must look."""

    step: str
    reason: str
    attempts: int | None = Field(None, description="How often the step was begun")
    quarantined: bool = Field(
        False, description="It broke what worked on it, so that it is set aside until an operator retries it"
    )
    inspect: Relative


class HandoffOverdue(ExportMessage):
    """To the operator: the customs broker has not said in time what it has to say; somebody should ask."""

    submission_id: str
    partner_id: str
    channel: str
    submission_status: str = Field(description="Where the submission stands; the status above it is late")
    deadline_at: AwareDatetime
    inspect: Relative


AnswerText = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
AnswerId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]


class FieldAnswer(StrictModel):
    """What is wrong with, or asked about, one field."""

    pointer: Annotated[str, StringConstraints(max_length=256, pattern=r"^(/[^/]*)*$")] = Field(
        description="RFC 6901 JSON Pointer into the plan, such as /units/0/lines/2/htsCode"
    )
    message: AnswerText


class HandoffAnswered(ExportMessage):
    """To the operator: the customs broker rejects a handoff or asks about it, or customs holds the goods; a person must look."""

    submission_id: str
    partner_id: str
    channel: str
    answer_id: str = Field(description="The customs broker's id of this answer")
    status: Literal["rejected", "query", "held"]
    submission_status: str = Field(
        description="Where the submission stands after it; another status where the answer came late"
    )
    reference: str | None
    message: str | None
    fields: list[FieldAnswer]
    inspect: Relative


class ExportCancelled(ExportMessage):
    """To the operator, and to those who were told of an earlier revision: it was stopped, and nothing follows."""

    supersedes: RevisionRef | None = Field(description="The revision whose place it was to take; that holds no longer")
    inspect: Relative


class DeliveryDead(ExportMessage):
    """To the operator: a message could not be delivered; it waits to be resent."""

    delivery_id: str
    notification_id: str
    audience: str
    partner_id: str
    channel: str
    event_type: str
    attempts: int
    reason: str
    resend: Relative


MESSAGES: Final[dict[MessageType, type[ExportMessage]]] = {
    MessageType.HANDOFF_READY: HandoffReady,
    MessageType.HANDOFF_SUPERSEDED: HandoffSuperseded,
    MessageType.PACKAGE_RECORDED: PackageRecorded,
    MessageType.PACKAGE_SUPERSEDED: PackageSuperseded,
    MessageType.EXPORT_EXECUTED: ExportExecuted,
    MessageType.EXPORT_FAILED: ExportFailed,
    MessageType.HANDOFF_OVERDUE: HandoffOverdue,
    MessageType.HANDOFF_ANSWERED: HandoffAnswered,
    MessageType.EXPORT_CANCELLED: ExportCancelled,
    MessageType.DELIVERY_DEAD: DeliveryDead,
}

#: What a newer revision says anew: sent again after that, it would pass for true.
HELD_UNTIL_SUPERSEDED: Final = (MessageType.HANDOFF_READY.value, MessageType.PACKAGE_RECORDED.value)

#: The CloudEvent type of what a connection test sends.
CONNECTION_TEST: Final = "exports.connection.test.v1"


class ConnectionTested(StrictModel):
    """To whoever is to be reached, by the connection test: nothing has happened; take it and do nothing."""

    test_id: str
    partner_id: str


class HandoffAnswer(StrictModel):
    """What an endpoint of the borderbuddy contract answers a handoff with."""

    handoff_id: AnswerId = Field(
        max_length=100, description="The broker's own id of the handoff; the same handoff keeps it"
    )
    status: Literal["received", "accepted", "rejected", "query"]
    reference: AnswerId | None = None
    message: AnswerText | None = None
    fields: list[FieldAnswer] = Field(default_factory=list, max_length=200)

    @property
    def acknowledgement(self) -> AcknowledgementBody:
        """The answer as it is recorded; its id is how the endpoint names it later, too."""
        return AcknowledgementBody(
            id=f"{self.handoff_id}:{self.status}",
            status=self.status,
            reference=self.reference,
            message=self.message,
            fields=self.fields,
        )


class AcknowledgementBody(StrictModel):
    """A customs broker's answer to a handoff, sent whenever there is one."""

    id: AnswerId = Field(description="The broker's id of this answer: sent again, it counts once")
    status: Literal["received", "accepted", "rejected", "query", "filed", "released", "held"]
    at: BoundedInstant | None = Field(None, description="When the broker decided")
    reference: AnswerId | None = None
    entry_number: AnswerId | None = None
    message: AnswerText | None = None
    fields: list[FieldAnswer] = Field(default_factory=list, max_length=200)


class SentAcknowledgement(AcknowledgementBody):
    """The same where no address says which handoff is meant: in a queue, or in a file."""

    submission_id: Annotated[str, StringConstraints(pattern=r"^sub_[0-9a-f]{32}$")] = Field(
        description="As the handoff says it"
    )

    @property
    def answer(self) -> AcknowledgementBody:
        """The answer by itself."""
        return AcknowledgementBody.model_validate(self.model_dump(exclude={"submission_id"}))


class HandoffStatus(StrictModel):
    """What an endpoint of the borderbuddy contract says of a handoff that it is asked about."""

    handoff_id: AnswerId = Field(max_length=100, description="As the answer to the handoff said it")
    answers: list[AcknowledgementBody] = Field(
        max_length=100,
        description="All that there are, the oldest first; the one that the handoff was answered with as `<handoffId>:<status>`",
    )


class AcknowledgementReceipt(StrictModel):
    """That an answer was recorded; `submissionStatus` is where the submission stands now."""

    submission_id: str
    id: str
    submission_status: str
    recorded: bool = Field(description="False where the same answer had been recorded before")
