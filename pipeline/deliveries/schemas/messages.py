"""Messages to customs brokers, warehouses and operators, and answers of customs brokers. Closed, camelCase."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from pipeline.core.field_types import BoundedInstant
from pipeline.core.findings import Finding
from pipeline.deliveries.schemas.cloudevent import OutboxMessage
from pipeline.exports.schemas import plan
from pipeline.exports.schemas.plan import StrictModel
from pipeline.exports.states import Outcome

#: The maximum number of invoice lines, of all units together, inside a handoff. With more lines it has links instead.
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
    EXPORT_RECHECKED = "exports.export.rechecked.v1"
    PLAN_RECHECKED = "exports.plan.rechecked.v1"


AtThisMoment = Annotated[
    Outcome | None,
    Field(
        description="The outcome of the export when the message was written; null in messages of earlier versions."
        " `GET /api/exports/{id}` has the current one"
    ),
]


class ExportMessage(OutboxMessage):
    """The fields about the export in every message."""

    named_by = ("export_id", "revision")

    export_id: str
    batch_id: str
    revision: int
    test: bool
    plan_hash: str
    treatment_digest: Digest


class ArtifactLink(StrictModel):
    """A document: its kind, size and hash, and where to fetch it."""

    id: str
    artifact_type: str
    filename: str
    media_type: str
    size: int = Field(description="Bytes")
    sha256: str
    download_url: str = Field(description="Needs an API key; does not end")
    # Created when the message is sent, and not stored: it allows access without a key.
    signed_url: str | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="The same document without a key, until `signedUntil`; POST .../links returns a new link",
    )
    signed_until: AwareDatetime | None = Field(None, exclude_if=lambda value: value is None)


class CustomsPackageRef(StrictModel):
    """The identifiers of a customs package."""

    unit_ref: str
    customs_package_id: str
    package_number: str


class HandedLine(plan.Line):
    """A line of the invoice as in the plan, with the digest of its treatment."""

    treatment_digest: str


class InvoiceTotals(StrictModel):
    """The totals of one invoice. Weights are in kg."""

    line_count: int
    package_count: int
    goods_value: plan.Number
    invoice_total: plan.Number
    net_weight_kg: plan.Number
    gross_weight_kg: plan.Number


class HandedUnit(StrictModel):
    """One customs package: entry, parties, and the invoice as data."""

    unit_ref: str
    customs_package_id: str
    package_number: str
    treatment_digest: str = Field(description="Digest over the treatment of this unit")
    entry: plan.Entry
    parties: plan.Parties
    invoice: plan.InvoiceHeader
    totals: InvoiceTotals
    usmca_certificates: list[plan.UsmcaCertificate] | None
    canadian_export: plan.PlannedExport = None
    lines: list[HandedLine] | None = Field(description=f"Null above {MAX_INLINE_LINES} lines: fetch `invoiceData`")
    invoice_data: ArtifactLink | None = Field(description="The whole invoice as JSON (artifact type cci_json)")
    artifacts: list[ArtifactLink]


class RevisionRef(StrictModel):
    """A revision. Each revision is an export with its own id."""

    export_id: str
    revision: int


class SupersededHandoff(RevisionRef):
    """An earlier handoff to the customs broker that is no longer valid."""

    submission_id: str


class HandoffReady(ExportMessage):
    """To the customs broker: an export is ready to be filed. One message per export."""

    submission_id: str
    supersedes: SupersededHandoff | None = Field(
        None, description="The newest earlier handoff of the batch to this customs broker; this one replaces it"
    )
    acknowledgement_url: str = Field(description="Where to post the broker's answers")
    ruleset: plan.RulesetRef
    units: list[HandedUnit]


class HandoffSuperseded(ExportMessage):
    """To the customs broker: a handoff is no longer valid. The handoff of a newer revision follows and replaces it."""

    submission_id: str
    notification_ids: list[str] = Field(description="CloudEvent ids of the messages that are no longer valid")
    customs_packages: list[CustomsPackageRef]
    superseded_by: RevisionRef


class PackedContent(StrictModel):
    """Goods directly in the package, with the quantity."""

    line_ref: str
    sku: str
    quantity: plan.Number


class ShipTo(StrictModel):
    """The destination of the goods."""

    name: str
    address: plan.Address


class PackageRecorded(ExportMessage):
    """To the warehouse: one package. It has no price, value or customs fact, except the opaque digest."""

    version: int = Field(description="The revision of the package's export")
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
    truck: plan.OptionalTruck = None


class PackageSuperseded(ExportMessage):
    """To the warehouse: the message about one package is no longer valid. It has no price or customs fact."""

    version: int = Field(description="The revision of the export that is no longer valid")
    notification_ids: list[str] = Field(description="CloudEvent ids of the messages that are no longer valid")
    unit_ref: str
    customs_package_id: str
    customs_package_number: str
    package_ref: str
    sscc: str | None
    lpn: str | None
    superseded_by: RevisionRef
    dropped: bool = Field(description="Whether the newer revision has no package of this unitRef and packageRef")


class ExportExecuted(ExportMessage):
    """To the operator: all steps are done, and all messages are delivered or pending."""

    customs_packages: list[CustomsPackageRef]
    package_count: int
    submission_id: str
    inspect: Relative


class ExportFailed(ExportMessage):
    """To the operator: a step failed and a person must look."""

    outcome: AtThisMoment = None
    step: str
    reason: str
    attempts: int | None = Field(None, description="How many times the step was started")
    quarantined: bool = Field(
        False, description="Whether the export is quarantined until an operator retries or cancels it"
    )
    inspect: Relative


class HandoffOverdue(ExportMessage):
    """To the operator: the submission's next status is overdue. Ask the customs broker."""

    outcome: AtThisMoment = None
    submission_id: str
    partner_id: str
    channel: str
    submission_status: str = Field(description="The submission's current status; the next one is overdue")
    deadline_at: AwareDatetime
    inspect: Relative


AnswerText = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
AnswerId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]


class FieldAnswer(StrictModel):
    """What is wrong with one field, or asked about it."""

    pointer: Annotated[str, StringConstraints(max_length=256, pattern=r"^(/[^/]*)*$")] = Field(
        description="RFC 6901 JSON Pointer into the plan, for example /units/0/lines/2/htsCode"
    )
    message: AnswerText


class HandoffAnswered(ExportMessage):
    """To the operator: a broker rejects a handoff or asks about it, or customs holds the goods. A person must act."""

    outcome: AtThisMoment = None
    submission_id: str
    partner_id: str
    channel: str
    answer_id: str = Field(description="The customs broker's id of this answer")
    status: Literal["rejected", "query", "held"]
    submission_status: str = Field(
        description="The submission's status after the answer; it differs from `status` if the answer came late"
    )
    reference: str | None
    message: str | None
    fields: list[FieldAnswer]
    inspect: Relative


class ExportCancelled(ExportMessage):
    """To the operator, and to recipients of an earlier revision: the export was cancelled, and no message follows."""

    outcome: AtThisMoment = None
    supersedes: RevisionRef | None = Field(description="The revision that it was to replace, which is no longer valid")
    inspect: Relative


class DeliveryDead(ExportMessage):
    """To the operator: a message could not be delivered. An operator can resend it."""

    outcome: AtThisMoment = None
    delivery_id: str
    notification_id: str
    audience: str
    partner_id: str
    channel: str
    event_type: str
    attempts: int
    reason: str
    resend: Relative


class Rechecked(StrictModel):
    """What a recheck found, and which rules and editions checked the plan now and before."""

    ruleset: str
    ruleset_before: str | None = Field(description="The id of the rules before; null if they cannot be read any more")
    editions: list[str] = Field([], description="Names of the editions of the tariff, agency flags and duty cases")
    editions_before: list[str] | None = Field(None, description="Those before; null if one is not known any more")
    appeared: list[Finding] = Field(description="What is found only now; at most fifty")
    gone: list[Finding] = Field(description="What was found only before; at most fifty")


class ExportRechecked(Rechecked, ExportMessage):
    """To the operator: new rules or editions find something else in the plan of an export that has not crossed."""

    outcome: AtThisMoment = None
    inspect: Relative


class PlanRechecked(Rechecked, OutboxMessage):
    """To the operator: new rules or editions find something else in a registered plan that is not executed yet."""

    named_by = ("plan_id",)
    plan_id: str
    batch_id: str
    test: bool
    plan_hash: str


MESSAGES: Final[dict[MessageType, type[ExportMessage | PlanRechecked]]] = {
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
    MessageType.EXPORT_RECHECKED: ExportRechecked,
    MessageType.PLAN_RECHECKED: PlanRechecked,
}

#: Messages that a newer revision replaces. They must not be resent after that, because recipients would believe them.
HELD_UNTIL_SUPERSEDED: Final = (MessageType.HANDOFF_READY.value, MessageType.PACKAGE_RECORDED.value)

#: The CloudEvent type of a connection test's event.
CONNECTION_TEST: Final = "exports.connection.test.v1"


class ConnectionTested(StrictModel):
    """To the tested partner: this is a connection test. Take it and do nothing."""

    test_id: str
    partner_id: str


class HandoffAnswer(StrictModel):
    """The response of a borderbuddy endpoint to a handoff."""

    handoff_id: AnswerId = Field(
        max_length=100, description="The broker's id of the handoff; a repeated handoff keeps it"
    )
    status: Literal["received", "accepted", "rejected", "query"]
    reference: AnswerId | None = None
    message: AnswerText | None = None
    fields: list[FieldAnswer] = Field(default_factory=list, max_length=200)

    @property
    def acknowledgement(self) -> AcknowledgementBody:
        """The answer to record. The endpoint uses the same id for it later."""
        return AcknowledgementBody(
            id=f"{self.handoff_id}:{self.status}",
            status=self.status,
            reference=self.reference,
            message=self.message,
            fields=self.fields,
        )


class AcknowledgementBody(StrictModel):
    """A customs broker's answer to a handoff."""

    id: AnswerId = Field(description="The broker's id of this answer; a repeated answer counts once")
    status: Literal["received", "accepted", "rejected", "query", "filed", "released", "held"]
    at: BoundedInstant | None = Field(None, description="When the broker decided")
    reference: AnswerId | None = None
    entry_number: AnswerId | None = None
    message: AnswerText | None = None
    fields: list[FieldAnswer] = Field(default_factory=list, max_length=200)


class HandoffStatus(StrictModel):
    """A borderbuddy endpoint's response to a request for the answers to a handoff."""

    handoff_id: AnswerId = Field(max_length=100, description="`handoffId` of the response to the handoff")
    answers: list[AcknowledgementBody] = Field(
        max_length=100,
        description="All answers, the oldest first; the response to the handoff itself has the id `<handoffId>:<status>`",
    )
