"""The answers to requests about orders: what a sync changed, a synced order, and the plan of a batch."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from pipeline.exports.schemas.view import View


class SyncedItem(View):
    """A synced item: its id, the number of its content, and what this sync did with it."""

    id: str
    external_id: str = Field(alias="externalId")
    version: int = Field(description="It grows by one each time that the content changes")
    change: Literal["created", "updated", "unchanged"]


class SyncReceipt(View):
    """The synced items, in the order of the request."""

    data: list[SyncedItem]


class OrderView(View):
    """A synced order as it is kept, and the batch and export that it is in."""

    id: str
    external_id: str = Field(alias="externalId")
    version: int
    synced_at: datetime = Field(alias="syncedAt")
    batch_id: str | None = Field(description="The batch that it was planned in last")
    export_id: str | None = Field(alias="exportId", description="The export that it left with")
    order: dict[str, Any] = Field(description="The order as it was synced; decimals are strings")


MissingSubject = Literal["product", "order", "plan_template"]


class MissingDatum(View):
    """One fact that the plan needs and that no product, order or plan template has."""

    subject: MissingSubject
    id: str = Field(description="The externalId of the product or order, or the country of the plan template")
    field: str = Field(
        description="The name of the missing member, such as `htsCode` or `entry.portOfEntry`; empty if all of it is missing"
    )
    message: str
    remedy: str
    orders: list[str] = Field(description="The orders that need it, by id; empty if all do")


class ExcludedOrder(View):
    """An order that the plan leaves out, and why."""

    order_id: str = Field(alias="orderId")
    external_id: str | None = Field(alias="externalId", description="Null if the order is unknown")
    reason: Literal[
        "UNKNOWN_ORDER",
        "OTHER_DESTINATION",
        "ALREADY_EXPORTED",
        "IN_OTHER_BATCH",
        "UNKNOWN_PRODUCT",
        "MISSING_DATA",
        "TOO_MANY_LINES",
    ]
    message: str
    remedy: str
    batch_id: str | None = Field(None, description="The other batch, if there is one")


class ValidationMessage(View):
    """One thing that is wrong or to be looked at, as a finding or as a fact about the orders."""

    code: str = Field(description="A rule, such as V03, or a reason, such as MISSING_DATA")
    severity: Literal["block", "warn", "note"]
    path: str = Field(
        description="The name of the datum to look at, such as `product.PAN-24.htsCode` or `warehouseId`; empty if it is the whole"
    )
    pointer: str | None = Field(description="The place in the plan, as a JSON Pointer, if a rule found it there")
    message: str
    remedy: str


class ExportUnitView(View):
    """One unit of the plan: one customs package, one invoice, one entry."""

    unit_ref: str = Field(alias="unitRef")
    entry_type: str = Field(alias="entryType")
    destination_country: str = Field(alias="destinationCountry")
    currency: str
    total: str
    order_ids: list[str]
    lines: int
    packages: int


class PlanAnswer(View):
    """The plan of a batch: what is in it, what is left out, what is missing, and what to do next."""

    batch_id: str
    export_id: str = Field(
        alias="exportId", description="Where to inspect the export: the batch's id until it is executed"
    )
    state: Literal["planned", "not_planned", "dry_run"]
    status: str = Field(description="One plain sentence")
    plan_hash: str | None = Field(alias="planHash", description="Null if no plan could be built")
    readiness_state: Literal["READY", "READY_WITH_WARNINGS", "BLOCKED"] = Field(alias="readinessState")
    flags: list[str]
    strategy: str = Field(description="How orders become units and packages")
    included_order_ids: list[str]
    excluded_order_ids: list[str]
    excluded_orders: list[ExcludedOrder]
    missing_data: list[MissingDatum]
    validation_messages: list[ValidationMessage] = Field(alias="validationMessages")
    next_recommended_action: str
    export_units: list[ExportUnitView]
    plan: dict[str, Any] | None = Field(description="The plan itself, of a dry run")
