"""The request to execute a plan, and the views of an export in responses."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

from pydantic import Field

from pipeline.core.findings import Finding, RuleCount
from pipeline.exports.schemas.plan import AccountId, BatchId, LongText, PartnerId, Plan, Sha256, StrictModel
from pipeline.exports.schemas.submissions import BrokerSubmissionView, ConversationItem, EarlierEntryView
from pipeline.exports.schemas.view import View
from pipeline.exports.states import ExportState, Outcome, StepState

#: The most events and lines in an export's view; `links` lead to the rest.
MAX_EVENTS_SHOWN = 1_000
MAX_LINES_SHOWN = 1_000


class ExecuteRequest(StrictModel):
    """Execute an approved plan: the one in `plan`, or the one registered for `batchId`."""

    account_id: AccountId = Field(description="The account of the key")
    batch_id: BatchId
    plan_hash: Sha256 | None = Field(None, description="The call is refused unless the plan has this hash")
    plan: Plan | None = Field(None, description="The approved plan; default: the registered plan of the batch")
    idempotency_key: str | None = Field(
        None,
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The Idempotency-Key header overrides it",
    )
    upstream: PartnerId | None = Field(
        None,
        description="A partner of kind `upstream`, which gets the messages about this export. A revision keeps that of"
        " the one before",
    )

    @staticmethod
    def describe_mistake(body: Mapping[str, Any]) -> str | None:
        """Return the message for a body that is a plan without a request around it; None for any other body."""
        if "plan" in body or "units" not in body:
            return None
        return 'must be a request, not a plan; send the plan in it: {"accountId": ..., "batchId": ..., "plan": {...}}'


class StepView(View):
    """One step of the pipeline."""

    name: str
    state: StepState
    attempts: int
    started_at: datetime | None = Field(None, alias="startedAt")
    finished_at: datetime | None = Field(None, alias="finishedAt")
    error: str | None = Field(None, description="Why the last attempt failed")

    @property
    def seconds(self) -> float | None:
        """How long it took, None if it has not ended."""
        return (self.finished_at - self.started_at).total_seconds() if self.started_at and self.finished_at else None


class UnitView(View):
    """One unit of the plan and its steps."""

    unit_ref: str = Field(alias="unitRef")
    customs_package_id: str
    steps: list[StepView]


class ArtifactView(View):
    """A document of a customs package."""

    id: str
    customs_package_id: str
    artifact_type: str
    filename: str
    media_type: str
    size: int = Field(description="Bytes")
    sha256: str
    template_version: str
    generated_at: datetime
    download_url: str = Field(description="Relative to the API's address")


class PackageView(View):
    """A physical handling unit as it was recorded; decimals are strings."""

    package_ref: str = Field(alias="packageRef")
    type: str
    sscc: str | None
    lpn: str | None
    parent_ref: str | None = Field(alias="parentRef")
    length_cm: str = Field(alias="lengthCm")
    width_cm: str = Field(alias="widthCm")
    height_cm: str = Field(alias="heightCm")
    gross_weight_kg: str = Field(alias="grossWeightKg")
    tare_weight_kg: str = Field(alias="tareWeightKg")
    tracking_number: str | None = Field(alias="trackingNumber")
    order_id: str | None = Field(alias="orderId")
    contents: list[dict[str, str]] = Field(description="lineRef and quantity of the goods directly in it")


class LineTreatmentView(View):
    """The treatment of one line, and the digest that every document repeats."""

    unit_ref: str = Field(alias="unitRef")
    line_ref: str = Field(alias="lineRef")
    hts_code: str = Field(alias="htsCode")
    country_of_origin: str = Field(alias="countryOfOrigin")
    chapter99: list[dict[str, Any]]
    section232: list[dict[str, Any]]
    pga: list[dict[str, Any]]
    digest: str


PackageState = Literal["waiting", "preparing", "closed", "failed", "cancelled"]


class CustomsPackageSummary(View):
    """A summary of the customs package of one unit; `link` leads to all of it."""

    id: str
    export_batch_id: str = Field(alias="exportBatchId")
    package_number: str | None = Field(alias="packageNumber", description="Given when the packages are recorded")
    unit_ref: str = Field(alias="unitRef")
    state: PackageState
    created_at: datetime = Field(alias="createdAt")
    link: str


class CustomsPackageView(View):
    """The customs package of one unit: its documents, its packages and its treatment."""

    id: str
    export_batch_id: str = Field(alias="exportBatchId")
    package_number: str | None = Field(alias="packageNumber")
    state: PackageState
    created_at: datetime = Field(alias="createdAt")
    artifacts: list[ArtifactView]
    export_id: str = Field(alias="exportId")
    unit_ref: str = Field(alias="unitRef")
    treatment_digest: str = Field(alias="treatmentDigest")
    packages: list[PackageView]
    treatment: list[LineTreatmentView]


class NotificationView(View):
    """The number of messages of one type to one recipient over one channel.

    There may be one per package, so they are counted; `GET /api/deliveries?exportId=` lists them.
    """

    event_type: str = Field(description="CloudEvent type")
    audience: str
    partner_id: str
    channel: str
    messages: int
    waiting: int = Field(0, description="Sent after the export has completed")
    pending: int = 0
    delivered: int = 0
    dead: int = Field(0, description="Attempts used up; an operator may resend them")
    cancelled: int = 0
    last_delivered_at: datetime | None = None
    last_error: str | None = None


class EventView(View):
    """One event of an export's log; `seq` counts from 1 without gaps."""

    id: str
    seq: int
    type: str
    at: datetime
    actor: str
    data: dict[str, Any]


class RulesetView(View):
    """The dated rules that the planner used."""

    id: str
    as_of: date = Field(alias="asOf")


class TreatmentView(View):
    """The treatment of the whole export; `digest` is on every document and message."""

    digest: str
    ruleset: RulesetView
    line_count: int = Field(alias="lineCount", description="Lines whose treatment is recorded")
    lines: list[LineTreatmentView] = Field(description=f"The first {MAX_LINES_SHOWN}; the customs packages hold all")


class Links(View):
    """Links to the rest of the export, relative to the API's address."""

    self: str
    events: str
    bundle: str
    deliveries: str
    conversation: str = Field("", description="Empty from an older version")


class AcknowledgedView(View):
    """A person's acknowledgement of what an export needs, or of a dead letter about a registered plan."""

    seq: int = Field(description="The number of the event that records it; about a plan, of the act in the audit trail")
    outcome: Outcome = Field(description="The outcome that was acknowledged; of a message about a plan `undeliverable`")
    by: str
    at: datetime
    note: str | None


class PersonsRequestView(View):
    """What a person requested about an export, and why."""

    seq: int = Field(description="The number of the event that records it")
    by: str
    at: datetime
    reason: str


class ReasonRequest(StrictModel):
    """Why a person holds the handoff of an export, or withdraws the export."""

    reason: LongText = Field(min_length=1, description="Partners read the reason of a withdrawal")


class AcknowledgeRequest(StrictModel):
    """Acknowledge the outcome of an export."""

    note: LongText | None = Field(None, description="What was done about it, or why nothing is to be done")


class ApprovalView(View):
    """Who approved the plan of an export, as the plan says, and who sent it for execution."""

    approved_by: str | None = Field(alias="approvedBy", description="Null after the purge, and if it is not known")
    approved_at: datetime | None = Field(alias="approvedAt", description="As `approvedBy`")
    sent_by: str | None = Field(alias="sentBy", description="The key or the person; null if it is not known")


class ExportView(View):
    """An export in its present state."""

    export_id: str = Field(alias="exportId")
    batch_id: str
    state: ExportState
    outcome: Outcome = Field(
        Outcome.IN_PROGRESS,
        description="What became of it, in one word for people: from the state, the customs broker's answers, missed"
        " deadlines and dead letters",
    )
    status: str = Field(description="One plain sentence: what the export is doing or waiting for")
    plan_hash: str = Field(alias="planHash")
    revision: int
    upstream: str | None = Field(None, description="The partner of kind `upstream` that gets its messages")
    failure: str | None = Field(None, description="Why it failed")
    quarantined: bool = Field(
        False,
        description="It failed because its work killed workers or raised an unknown error; an operator must retry or cancel it",
    )
    approval: ApprovalView | None = Field(None, description="Who approved the plan, and who sent it")
    acknowledged: AcknowledgedView | None = Field(
        None, description="The acknowledgement of its outcome; null from the next fact on that needs a person"
    )
    handoff_hold: PersonsRequestView | None = Field(
        None,
        alias="handoffHold",
        description="Who holds its handoff until it is released; neither a legal hold nor one of customs",
    )
    withdrawal: PersonsRequestView | None = Field(
        None, description="Who requested its withdrawal, and why; `outcome` says how far it is"
    )
    purged_at: datetime | None = Field(
        None, alias="purgedAt", description="When its payload was purged; its hashes and its log are kept"
    )
    supersedes: str | None = Field(None, description="The export of the revision before")
    superseded_by: str | None = Field(None, alias="supersededBy", description="The export that replaced it")
    accepted_at: datetime = Field(alias="acceptedAt")
    updated_at: datetime = Field(alias="updatedAt")
    units: list[UnitView]
    steps: list[StepView] = Field(description="The steps of the export as a whole, after those of its units")
    customs_package_id: str = Field(description="The first of `customs_packages`")
    customs_packages: list[CustomsPackageSummary]
    artifacts: list[ArtifactView]
    notifications: list[NotificationView]
    broker_submission: BrokerSubmissionView | None = Field(description="The first of `broker_submissions`")
    broker_submissions: list[BrokerSubmissionView]
    earlier_entries: list[EarlierEntryView] = Field(
        default_factory=list,
        description="Entries that were filed for earlier revisions and do not go on in this one, as they are now",
    )
    conversation: list[ConversationItem] = Field(
        default_factory=list,
        description="The newest items of the conversation with the customs broker, in order; `links.conversation` has all",
    )
    conversation_total: int = Field(0, description="The number of all items of the conversation")
    events: list[EventView] = Field(description=f"The newest {MAX_EVENTS_SHOWN} in order; `links.events` has all")
    events_omitted: int = Field(0, description="The number of older events that `events` leaves out")
    treatment: TreatmentView
    findings: list[Finding]
    links: Links


class ExportSummary(View):
    """An export in a list."""

    export_id: str = Field(alias="exportId")
    batch_id: str
    state: ExportState
    outcome: Outcome = Field(description="What became of it, as in the view of the export")
    plan_hash: str = Field(alias="planHash")
    revision: int
    test: bool
    broker_id: str = Field(alias="brokerId")
    warehouse_id: str = Field(alias="warehouseId")
    units_total: int = Field(alias="unitsTotal")
    units_closed: int = Field(alias="unitsClosed")
    entries: str | None = Field(
        None,
        description="Such as `1 of 2 released, 1 held`; null if the entries are alike, or a page has more than 5,000",
    )
    failure: str | None
    quarantined: bool = False
    accepted_at: datetime = Field(alias="acceptedAt")
    updated_at: datetime = Field(alias="updatedAt")
    reached_at: datetime | None = Field(
        default=None, alias="reachedAt", description="When its handoff reached the milestone of the filter `reached`"
    )
    link: str


class ExportPage(View):
    """One page of a list, newest first, by `reachedAt` with the filter `reached`; `nextCursor` is null on the last."""

    items: list[ExportSummary]
    next_cursor: str | None = Field(alias="nextCursor")


class EventPage(View):
    """One page of the log; `nextAfter` is the `after` of the next page, null if there are no more events yet."""

    items: list[EventView]
    next_after: int | None = Field(alias="nextAfter")


class ActView(View):
    """One act of a person or a key, as the audit trail of the account has it."""

    seq: int = Field(description="Its number in the trail, from 1 without gaps")
    at: datetime
    actor: str = Field(description="The id of the person or the key")
    action: str
    subject: str = Field(description="The id of what the actor acted on")
    detail: dict[str, Any]
    prev_hash: str | None = Field(alias="prevHash", description="The hash of the act before it")
    hash: str


class ActPage(View):
    """One page of the audit trail, newest first; `nextBefore` is the `before` of the next page, null on the last."""

    items: list[ActView]
    next_before: int | None = Field(alias="nextBefore")


class PlanReceipt(View):
    """A registered plan."""

    plan_id: str = Field(alias="planId")
    account_id: str = Field(alias="accountId")
    batch_id: str = Field(alias="batchId")
    plan_hash: str = Field(alias="planHash")


class RulesUsed(View):
    """The customs rules that checked a plan."""

    id: str
    as_of: date = Field(alias="asOf", description="The day whose law they hold")
    days_old: int = Field(alias="daysOld", description="Days from then until the check")
    days_late: int = Field(
        0, alias="daysLate", description="Days since a person had to compare the rules with the law; 0 if not yet"
    )


class PreflightReport(View):
    """The result of all checks of a plan, without its execution."""

    executable: bool = Field(description="True if no finding blocks")
    plan_hash: str = Field(alias="planHash")
    findings: list[Finding] = Field(
        description="Blocking findings, up to ten thousand, and others up to a thousand in all; a waived one names its waiver"
    )
    rules: list[RuleCount] = Field(description="All findings, counted by rule and severity")
    findings_left_out: int = Field(
        alias="findingsLeftOut", description="Number of findings that are counted but not listed"
    )
    checked_by: RulesUsed | None = Field(
        None, alias="checkedBy", description="The customs rules of the check; null from an older version"
    )
