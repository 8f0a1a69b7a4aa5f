"""The invoice: one frozen model, ready to print, from which every document of a unit is rendered."""

from datetime import date
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

# Wording for people repeats facts that the model also has as data: it is in the model, but in no published schema.
from pydantic.json_schema import SkipJsonSchema as Wording

from pipeline.documents.schemas.declarations import (
    Certificate,
    Chapter98Claim,
    Consolidation,
    FindingRow,
    MergedLine,
    MetalRow,
    MetalTotal,
    UnitTotal,
)
from pipeline.documents.schemas.entry_filing import EntryConsignee, InvoiceFiling
from pipeline.documents.schemas.values import FOR_PEOPLE, DocumentModel, Identifier, Pair, Printed, Value
from pipeline.exports.schemas.entry_estimate import InvoiceEstimate
from pipeline.exports.schemas.pga_worksheet import InvoiceWorksheet
from pipeline.exports.schemas.plan import Address, Contact, Treatment
from pipeline.exports.schemas.transport import PlannedExport, Trip

__all__ = [
    "FOR_PEOPLE", "Certificate", "Chapter98Claim", "Consolidation", "DocumentModel", "FindingRow", "Identifier", "MetalRow",
    "MetalTotal", "Pair", "Printed", "UnitTotal", "Value",
]  # fmt: skip


#: The customs broker's name, or its id if no partner has it: for the PAPS cover sheet only, and left out of the published
#: invoice.
CustomsBroker = Annotated[str | None, Field(exclude=True)]
#: The lines as an entry has them: merged, if any two can be. Left out of the published invoice, whose `consolidation` has them.
EntryLines = Annotated[tuple[MergedLine, ...], Field(exclude=True)]

#: The truck's trip. It is not published, because it has personal data of the crew; `transport` has the rest.
TruckTrip = Annotated[Trip | None, Field(exclude=True, repr=False)]

#: Whether pages have French words beside the English ones. It is not published: it says nothing about the goods.
French = Annotated[bool, Field(exclude=True)]

#: The exporter's logo (PNG) on its pages; not published either.
LogoPicture = Annotated[bytes | None, Field(exclude=True, repr=False)]


class Provenance(DocumentModel):
    """The origin of the document: it identifies the plan, the treatment and the rules."""

    account_id: str
    batch_id: str
    unit_ref: str
    package_number: str
    revision: int
    plan_hash: str
    unit_digest: str
    treatment_digest: str
    ruleset_id: str
    ruleset_as_of: date


class Header(DocumentModel):
    """Number, dates and terms of the invoice."""

    number: str
    invoice_date: date
    currency: str
    exchange_rate: Value | None
    incoterm: str
    incoterm_place: str
    sale_date: date | None
    sale_place: str | None
    reason_for_export: Value
    valuation_basis: str | None = Field(default=None, exclude_if=lambda value: value is None)
    usmca_statement: str | None = Field(default=None, exclude_if=lambda value: value is None)
    related_parties: bool
    payment_terms: str | None
    purchase_order: str | None
    assists: Value


class Transport(DocumentModel):
    """The data of the entry header: where, how and when the goods cross the border."""

    entry_type: Value
    port_of_entry: str
    port_shown: Wording[str]
    mode_of_transport: Value
    carrier_scac: str | None
    shipment_control_number: str | None
    export_date: date
    estimated_arrival_at: Value | None
    manifest_quantity: str | None
    manifest_gross_weight_kg: Value | None
    entry_part: int | None = Field(default=None, exclude_if=lambda value: value is None)
    entry_parts: int | None = Field(default=None, exclude_if=lambda value: value is None)
    trip_number: str | None = Field(default=None, exclude_if=lambda value: value is None)
    truck_license_plate: str | None = Field(default=None, exclude_if=lambda value: value is None)
    trailer_numbers: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)


class PartyBlock(DocumentModel):
    """A party; `address_lines` is its printed address, `contact_lines` the person who answers questions."""

    name: str
    address: Address | None
    address_lines: Wording[tuple[str, ...]]
    contact: Contact | None
    contact_lines: Wording[tuple[str, ...]]
    identifiers: tuple[Identifier, ...]


class ImporterBlock(PartyBlock):
    """The importer of record; name and address are the buyer's if the plan gives no others."""

    importer_number: Value


class ManufacturerBlock(DocumentModel):
    """A manufacturer of the goods of one or more lines."""

    ref: str
    name: str
    mid: str
    address: Address
    address_lines: Wording[tuple[str, ...]]
    lines_shown: Wording[str]


class PartyBlocks(DocumentModel):
    """All parties of the invoice."""

    seller: PartyBlock
    buyer: PartyBlock
    ship_to: PartyBlock
    importer_of_record: ImporterBlock
    manufacturers: tuple[ManufacturerBlock, ...]
    ultimate_consignees: tuple[EntryConsignee, ...] = Field(default=(), exclude_if=lambda value: not value)


class Mark(DocumentModel):
    """One customs fact of a line in words: its code, and its text."""

    kind: Literal["quantity", "chapter98", "chapter99", "metal", "pga", "preference", "undetermined"]
    code: str
    text: str


class InvoiceLine(DocumentModel):
    """One line, numbered from 1 in the order of the plan; `treatment` is from the plan, `marks` is its wording."""

    number: int
    line_ref: str
    order_id: str | None
    sku: str
    description: str
    hts_code: Value
    country_of_origin: str
    country_of_export: str
    manufacturer_ref: str
    manufacturer_name: str
    mid: str
    quantity: Value
    unit: str
    unit_price: Value
    line_value: Value
    net_weight_kg: Value
    gross_weight_kg: Value
    entry_quantities: tuple[UnitTotal, ...] = Field(default=(), exclude_if=lambda value: not value)
    chapter98: Chapter98Claim | None = Field(default=None, exclude_if=lambda value: value is None)
    spi: str | None
    usmca_certificate_ref: str | None
    usmca_criterion: str | None
    attributes: tuple[Pair, ...]
    attributes_shown: Wording[tuple[Pair, ...]]
    treatment: Treatment
    treatment_digest: str
    marks: Wording[tuple[Mark, ...]]
    package_refs: tuple[str, ...]
    packages_shown: Wording[str]


class ChargeRow(DocumentModel):
    """A charge, or a discount, by name and amount."""

    code: str
    name: str
    amount: Value
    included_in_prices: bool


class InvoiceCharge(ChargeRow):
    """A charge; `dutiable` is the plan's statement whether it counts for the entered value."""

    dutiable: bool | None = Field(default=None, exclude_if=lambda value: value is None)


class RebateRow(DocumentModel):
    """A rebate, drawback or bounty that the export is allowed, by name and amount; not included in the total."""

    name: str
    amount: Value


class AssistRow(DocumentModel):
    """An assist, which is not in the prices, and its worth if it is known; not included in the total."""

    name: str
    amount: Value | None


class Totals(DocumentModel):
    """The totals of the invoice: `goods_value` is the sum of the lines, `invoice_total` is the plan's value."""

    currency: str
    line_count: int
    quantities: tuple[UnitTotal, ...]
    goods_value: Value
    invoice_total: Value
    net_weight_kg: Value
    gross_weight_kg: Value


class ClassificationRow(DocumentModel):
    """The sums of the lines with the same HTS code, origin and chapter 99 headings."""

    hts_code: Value
    country_of_origin: str
    headings: tuple[str, ...]
    line_count: int
    quantities: tuple[UnitTotal, ...]
    net_weight_kg: Value
    value: Value


class PackedLine(DocumentModel):
    """The quantity of one line that is directly in a package."""

    line_number: int
    line_ref: str
    sku: str
    description: str
    quantity: Value
    unit: Value


class PackageRow(DocumentModel):
    """One package, numbered from 1 with each pallet before its contents; `mark` is the text of its label."""

    number: int
    package_ref: str
    type: Value
    mark: Value
    sscc: str | None
    lpn: str | None
    parent_ref: str | None
    parent_number: int | None
    depth: int
    length_cm: Value
    width_cm: Value
    height_cm: Value
    size_shown: Wording[str]
    gross_weight_kg: Value
    tare_weight_kg: Value
    tracking_number: str | None
    order_id: str | None
    contents: tuple[PackedLine, ...]


class PackageTypeTotal(DocumentModel):
    """The number of packages of one type."""

    type: Value
    count: int


class PackageSummary(DocumentModel):
    """The sums of the packages; weight and volume are of the outermost packages, which contain all others.

    `manifest_count` and `manifest_weight_kg` are those of the carrier's manifest: by the plan, else of the outermost
    packages with goods, without pallets.
    """

    count: int
    outermost_count: int
    manifest_count: int
    manifest_weight_kg: Value
    by_type: tuple[PackageTypeTotal, ...]
    gross_weight_kg: Value
    volume_m3: Value
    shown: Wording[str]
    marks_shown: Wording[str]


class Declaration(DocumentModel):
    """The statement on the invoice, and the exporter's responsible employee, who knows the transaction (19 CFR 141.86)."""

    statement: str
    name: str
    title: str | None
    email: str | None
    phone: str | None


InvoiceKind = Literal["commercial", "proforma"]


class Invoice(DocumentModel):
    """The commercial invoice of one unit: every fact that a document prints, in the order of the page."""

    model_config = ConfigDict(json_schema_extra={"$id": "urn:exports:schema:commercial-customs-invoice:1"})

    schema_version: Literal["1"] = "1"
    # A pro forma invoice has the same facts before execution; it is only printed, so no published invoice has a kind.
    kind: SkipJsonSchema[InvoiceKind] = Field(default="commercial", exclude_if=lambda value: value == "commercial")
    test: bool
    provenance: Provenance
    header: Header
    transport: Transport
    parties: PartyBlocks
    lines: tuple[InvoiceLine, ...]
    charges: tuple[InvoiceCharge, ...]
    discounts: tuple[ChargeRow, ...]
    rebates: tuple[RebateRow, ...] = Field(default=(), exclude_if=lambda value: not value)
    assist_items: tuple[AssistRow, ...] = Field(default=(), exclude_if=lambda value: not value)
    totals: Totals
    classifications: tuple[ClassificationRow, ...]
    certificates: tuple[Certificate, ...]
    metals: Wording[tuple[MetalRow, ...]]
    metal_totals: tuple[MetalTotal, ...]
    consolidation: Consolidation | None
    package_summary: PackageSummary
    packages: tuple[PackageRow, ...]
    declaration: Declaration
    findings: tuple[FindingRow, ...]
    canadian_export: PlannedExport = None
    trip: TruckTrip = None
    entry_lines: EntryLines = ()
    worksheet: InvoiceWorksheet = None
    estimate: InvoiceEstimate = None
    filing: InvoiceFiling = None
    customs_broker: CustomsBroker = None
    french: French = False
    logo: LogoPicture = None

    @property
    def entry_line_numbers(self) -> dict[int, int]:
        """The number of the entry line of each invoice line, by the number of the invoice line."""
        return {number: line.number for line in self.entry_lines for number in line.line_numbers}
