"""Messages to customs brokers: a handoff, and its retractions. Closed, camelCase."""

from typing import Final

from pydantic import AwareDatetime, Field

from pipeline.deliveries.schemas.cloudevent import CustomsPackageRef, ExportMessage, RevisionRef
from pipeline.exports.schemas import plan
from pipeline.exports.schemas.plan import StrictModel

#: The maximum number of invoice lines, of all units together, inside a handoff. With more lines it has links instead.
MAX_INLINE_LINES: Final = 500


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


class KeptEntry(RevisionRef):
    """The entry of an unchanged unit, which goes on: file no second one, and answer about it as before."""

    submission_id: str
    entry_number: str | None
    status: str = Field(description="The headline of the entry, such as `accepted` or `filed`")


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
    kept: KeptEntry | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="The unit is as in this earlier handoff, and its entry goes on; absent if it is new or changed",
    )

    def describe_kept(self) -> str | None:
        """Return the sentences about the entry that goes on; None if the unit is new or changed."""
        if self.kept is None:
            return None
        number = f" {self.kept.entry_number}" if self.kept.entry_number else ""
        return (
            f"{self.package_number} did not change since revision {self.kept.revision}. Its entry{number}"
            f" ({self.kept.status.replace('_', ' ')}) goes on: file no second one."
        )


class SupersededHandoff(RevisionRef):
    """An earlier handoff to the customs broker that is no longer valid."""

    submission_id: str


class ChangedField(StrictModel):
    """One difference of a unit between two revisions."""

    pointer: str | None = Field(description="JSON Pointer into the older plan; null if it has no such field")
    field: str = Field(description="The field in words, after the reference of its line or package")
    old: str | None = Field(description="Null if it is added; JSON if it has members; a long one is cut")
    new: str | None = Field(description="Null if it is removed")


class CorrectedEntry(RevisionRef):
    """A filed entry of an earlier revision, which the handoff corrects."""

    submission_id: str
    unit_ref: str
    customs_package_number: str
    entry_number: str | None
    status: str = Field(description="The headline of the entry, such as `filed` or `released`")
    removed: bool = Field(False, description="Whether the newer revision does not have the unit")
    changes: list[ChangedField] = Field(default_factory=list, description="What the newer revision changes")
    changes_omitted: int = Field(0, description="How many more changes there are")

    def describe(self) -> str:
        """Return what the customs broker does about the entry, in sentences."""
        number = f"entry {self.entry_number}" if self.entry_number else "an entry"
        asks = "Ask the sender what becomes of it" if self.removed else "Correct it"
        gone = " The new revision does not have these goods." if self.removed else ""
        status = self.status.replace("_", " ")
        return f"{self.customs_package_number} has {number} ({status}).{gone} {asks}, and file no second one."


class HandoffReady(ExportMessage):
    """To the customs broker: file an export. Correct the entries in `corrects`; file no second one for a `kept` package."""

    submission_id: str
    supersedes: SupersededHandoff | None = Field(
        None, description="The newest earlier handoff of the batch to this customs broker; this one replaces it"
    )
    corrects: list[CorrectedEntry] = Field(
        default_factory=list,
        description="Filed entries that change: correct them, and file no second entry for these packages",
    )
    acknowledgement_url: str = Field(description="Where to post the broker's answers")
    ruleset: plan.RulesetRef
    units: list[HandedUnit]


class HandoffReplied(ExportMessage):
    """To the customs broker: a message about its handoff, such as the reply to its question."""

    submission_id: str
    subject: str = Field(description="The handoff in words")
    message_id: str = Field(description="Name it as `inReplyTo` in an answer to this message")
    text: str
    in_reply_to: str | None = Field(description="The `id` of the customs broker's answer, or of an earlier message")
    customs_package_numbers: list[str] = Field(description="The packages that it is about; empty: the whole handoff")
    attachments: list[ArtifactLink] = Field(default_factory=list, description="Its files; fetch them as documents")
    acknowledgement_url: str = Field(description="Where to post the broker's answers")


class HandoffSuperseded(ExportMessage):
    """To the customs broker: a handoff is no longer valid. The handoff of a newer revision replaces it."""

    submission_id: str
    notification_ids: list[str] = Field(description="CloudEvent ids of the messages that are no longer valid")
    customs_packages: list[CustomsPackageRef]
    superseded_by: RevisionRef
    reassigned: bool = Field(
        False, description="Whether another customs broker has the newer revision, so that no handoff follows"
    )


class HandoffWithdrawn(ExportMessage):
    """To the customs broker and the operator: the export is withdrawn. File no entry, and answer `withdrawn`."""

    submission_id: str
    notification_ids: list[str] = Field(description="CloudEvent ids of the messages that are no longer valid")
    customs_packages: list[CustomsPackageRef]
    reason: str
    acknowledgement_url: str = Field(description="Where to post the broker's answers")
