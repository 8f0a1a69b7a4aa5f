"""What callers say to execute a plan, and the read model of an export that every answer is made of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.core.findings import Finding, RuleCount
from pipeline.exports.schemas.plan import AccountId, BatchId, Plan, Sha256, StrictModel
from pipeline.exports.states import ExportState, Outcome, StepState, SubmissionState

#: How much of what may be long an export's view holds; the rest lies behind `links`.
MAX_EVENTS_SHOWN = 1_000
MAX_LINES_SHOWN = 1_000


class ExecuteRequest(StrictModel):
    """Execute an approved plan: the one in `plan`, or the one registered for `batchId`."""

    account_id: AccountId = Field(description="The account of the key")
    batch_id: BatchId
    plan_hash: Sha256 | None = Field(None, description="Refuses the call unless the plan has this hash")
    plan: Plan | None = Field(None, description="The approved plan; without it the registered one is taken")
    idempotency_key: str | None = Field(
        None,
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The Idempotency-Key header wins over it",
    )

    @staticmethod
    def describe_mistake(body: Mapping[str, Any]) -> str | None:
        """Return what to say of a body that is a plan without the request around it; None of any other."""
        if "plan" in body or "units" not in body:
            return None
        return 'is a plan itself; send it inside a request: {"accountId": ..., "batchId": ..., "plan": {...}}'


class View(BaseModel):
    """A frozen object of an answer. Names in snake_case and camelCase stand side by side: clients rely on each as it is."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True, from_attributes=True
    )


class StepView(View):
    """One step of the pipeline."""

    name: str
    state: StepState
    attempts: int
    started_at: datetime | None = Field(None, alias="startedAt")
    finished_at: datetime | None = Field(None, alias="finishedAt")
    error: str | None = Field(None, description="Why the last attempt failed")


class UnitView(View):
    """One unit of the plan and how far it is."""

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
    contents: list[dict[str, str]] = Field(description="lineRef and quantity of what lies directly in it")


class LineTreatmentView(View):
    """What customs must be told of one line, and the digest that every document repeats."""

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
    """The customs package of one unit; the whole of it lies at `link`."""

    id: str
    export_batch_id: str = Field(alias="exportBatchId")
    package_number: str | None = Field(alias="packageNumber", description="Given when the packages are recorded")
    unit_ref: str = Field(alias="unitRef")
    state: PackageState
    created_at: datetime = Field(alias="createdAt")
    link: str


class CustomsPackageView(View):
    """The customs package of one unit: its documents, its handling units and its treatment."""

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
    """The messages of one kind to one recipient by one channel, counted: there is one a package, so they are not listed.

    `GET /api/deliveries?exportId=` lists each of them.
    """

    event_type: str = Field(description="CloudEvent type")
    audience: str
    partner_id: str
    channel: str
    messages: int
    waiting: int = Field(0, description="Held back until the export has completed")
    pending: int = 0
    delivered: int = 0
    dead: int = Field(0, description="Given up; an operator may resend them")
    cancelled: int = 0
    last_delivered_at: datetime | None = None
    last_error: str | None = None


class AcknowledgementView(View):
    """One answer of the customs broker."""

    id: str
    status: str
    reference: str | None
    entry_number: str | None
    message: str | None
    fields: list[dict[str, Any]] = Field(description="What is wrong, by JSON Pointer into the plan")
    received_at: datetime


class BrokerSubmissionView(View):
    """The handoff to the customs broker, and its status."""

    id: str
    submission_type: str
    status: Literal["pending", "sent", "failed"] = Field(
        description="Of the sending alone; `submission_status` tells the rest"
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
        description="When the status above must be reached; null where none is waited for"
    )
    overdue_at: datetime | None = Field(description="When the operators were told that it was not")
    acknowledgements: list[AcknowledgementView]


class EventView(View):
    """Something that happened; `seq` counts from 1 without a gap."""

    id: str
    seq: int
    type: str
    at: datetime
    actor: str
    data: dict[str, Any]


class RulesetView(View):
    """The dated rules that the planner decided by."""

    id: str
    as_of: date = Field(alias="asOf")


class TreatmentView(View):
    """What customs must be told of the whole export; `digest` is on every document and message."""

    digest: str
    ruleset: RulesetView
    line_count: int = Field(alias="lineCount", description="Lines whose treatment is recorded")
    lines: list[LineTreatmentView] = Field(description=f"The first {MAX_LINES_SHOWN}; the customs packages hold all")


class Links(View):
    """Where the rest lies, relative to the API's address."""

    self: str
    events: str
    bundle: str
    deliveries: str


class ExportView(View):
    """An export as it is known now: the canonical read model."""

    export_id: str = Field(alias="exportId")
    batch_id: str
    state: ExportState
    outcome: Outcome = Field(
        Outcome.IN_PROGRESS,
        description="What became of it, for a person: the state, the customs broker's answer, a missed deadline or what was"
        " not delivered, in one word",
    )
    status: str = Field(description="One plain sentence: what it is doing, or waiting for")
    plan_hash: str = Field(alias="planHash")
    revision: int
    failure: str | None = Field(None, description="Why it failed")
    quarantined: bool = Field(
        False, description="It failed because it broke what worked on it; it is set aside until an operator retries it"
    )
    purged_at: datetime | None = Field(
        None, alias="purgedAt", description="When its payload was purged; its hashes and its log are kept"
    )
    supersedes: str | None = Field(None, description="The export that was the revision before")
    superseded_by: str | None = Field(None, alias="supersededBy", description="The export that took its place")
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
    events: list[EventView] = Field(description=f"The newest {MAX_EVENTS_SHOWN} in order; `links.events` has all")
    treatment: TreatmentView
    findings: list[Finding]
    links: Links


class ExportSummary(View):
    """An export in a list."""

    export_id: str = Field(alias="exportId")
    batch_id: str
    state: ExportState
    outcome: Outcome = Field(description="What became of it, as the export itself says it")
    plan_hash: str = Field(alias="planHash")
    revision: int
    test: bool
    broker_id: str = Field(alias="brokerId")
    warehouse_id: str = Field(alias="warehouseId")
    units_total: int = Field(alias="unitsTotal")
    units_closed: int = Field(alias="unitsClosed")
    failure: str | None
    quarantined: bool = False
    accepted_at: datetime = Field(alias="acceptedAt")
    updated_at: datetime = Field(alias="updatedAt")
    link: str


class ExportPage(View):
    """One page of a list, newest first; `nextCursor` is null on the last."""

    items: list[ExportSummary]
    next_cursor: str | None = Field(alias="nextCursor")


class EventPage(View):
    """A stretch of the log; `nextAfter` is what to ask for next, null where nothing more is known yet."""

    items: list[EventView]
    next_after: int | None = Field(alias="nextAfter")


class PlanReceipt(View):
    """A registered plan."""

    plan_id: str = Field(alias="planId")
    account_id: str = Field(alias="accountId")
    batch_id: str = Field(alias="batchId")
    plan_hash: str = Field(alias="planHash")


class PreflightReport(View):
    """What executing the plan would say, without doing anything."""

    executable: bool = Field(description="Whether no finding blocks")
    plan_hash: str = Field(alias="planHash")
    findings: list[Finding] = Field(
        description="What blocks, up to ten thousand, and the rest up to a thousand in all; a waived one names its waiver"
    )
    rules: list[RuleCount] = Field(description="All findings, counted by rule and severity")
    findings_left_out: int = Field(alias="findingsLeftOut", description="How many are counted but not listed")
