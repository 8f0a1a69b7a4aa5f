"""Messages to warehouses: a package, and its retraction. Closed, camelCase."""

from pydantic import Field

from pipeline.deliveries.schemas.cloudevent import ExportMessage, RevisionRef
from pipeline.exports.schemas import plan
from pipeline.exports.schemas.plan import StrictModel


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


class RetractedPackage(ExportMessage):
    """A package whose message is no longer valid."""

    version: int = Field(description="The revision of the export that is no longer valid")
    notification_ids: list[str] = Field(description="CloudEvent ids of the messages that are no longer valid")
    unit_ref: str
    customs_package_id: str
    customs_package_number: str
    package_ref: str
    sscc: str | None
    lpn: str | None


class PackageSuperseded(RetractedPackage):
    """To the warehouse: the message about one package is no longer valid. It has no price or customs fact."""

    superseded_by: RevisionRef
    dropped: bool = Field(
        description="Whether the newer revision has no package of this unitRef and packageRef for this warehouse"
    )


class PackageWithdrawn(RetractedPackage):
    """To the warehouse: one package does not leave, because its export is withdrawn. It has no price or customs fact."""

    reason: str
