"""The invoice: one frozen model, finished for print, from which every document of a unit is rendered."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import ConfigDict, Field

# Words for people repeat what stands beside them as data: in the model for print, in no published schema.
from pydantic.json_schema import SkipJsonSchema as Wording

from pipeline.documents.schemas.declarations import Certificate, Consolidation, FindingRow, MetalRow, MetalTotal
from pipeline.documents.schemas.values import FOR_PEOPLE, DocumentModel, Identifier, Pair, Printed, Value
from pipeline.exports.schemas.pga_worksheet import InvoiceWorksheet
from pipeline.exports.schemas.plan import Address, Contact, Treatment

__all__ = [
    "FOR_PEOPLE", "Certificate", "Consolidation", "DocumentModel", "FindingRow", "Identifier", "MetalRow", "MetalTotal", "Pair",
    "Printed", "Value",
]  # fmt: skip


class Provenance(DocumentModel):
    """Where the document comes from: enough to find the plan, the treatment and the rules again."""

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
    """What the entry header needs: where, how and when the goods cross the border."""

    entry_type: str
    port_of_entry: str
    mode_of_transport: Value
    carrier_scac: str | None
    shipment_control_number: str | None
    export_date: date
    estimated_arrival_at: Value | None
    manifest_quantity: str | None
    manifest_gross_weight_kg: Value | None


class PartyBlock(DocumentModel):
    """A party; `address_lines` is the address as it is printed, `contact_lines` who answers questions."""

    name: str
    address: Address | None
    address_lines: Wording[tuple[str, ...]]
    contact: Contact | None
    contact_lines: Wording[tuple[str, ...]]
    identifiers: tuple[Identifier, ...]


class ImporterBlock(PartyBlock):
    """The importer of record; name and address are the buyer's where the plan gives no others."""

    importer_number: Value


class ManufacturerBlock(DocumentModel):
    """Who made the goods of one or more lines."""

    ref: str
    name: str
    mid: str
    address: Address
    address_lines: Wording[tuple[str, ...]]
    lines_shown: Wording[str]


class PartyBlocks(DocumentModel):
    """Everyone named on the invoice."""

    seller: PartyBlock
    buyer: PartyBlock
    ship_to: PartyBlock
    importer_of_record: ImporterBlock
    manufacturers: tuple[ManufacturerBlock, ...]


class Mark(DocumentModel):
    """One thing that customs must be told of a line, in words: a code that can be looked up, and what it says."""

    kind: Literal["chapter99", "metal", "pga", "preference", "undetermined"]
    code: str
    text: str


class InvoiceLine(DocumentModel):
    """One line, numbered from 1 in the order of the plan; `treatment` is the plan's own, `marks` says it in words."""

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


class RebateRow(DocumentModel):
    """A rebate, drawback or bounty that the export is allowed, by name and amount; no part of the total."""

    name: str
    amount: Value


class AssistRow(DocumentModel):
    """What was given for the production and is not in the prices, and its worth where that is known; no part of the total."""

    name: str
    amount: Value | None


class UnitTotal(DocumentModel):
    """The quantity of all lines that count in one unit."""

    unit: str
    quantity: Value


class Totals(DocumentModel):
    """The sums: `goods_value` of the lines, `invoice_total` as the plan states it."""

    currency: str
    line_count: int
    quantities: tuple[UnitTotal, ...]
    goods_value: Value
    invoice_total: Value
    net_weight_kg: Value
    gross_weight_kg: Value


class ClassificationRow(DocumentModel):
    """The lines of one HTS code, origin and chapter 99 headings, added up."""

    hts_code: Value
    country_of_origin: str
    headings: tuple[str, ...]
    line_count: int
    quantities: tuple[UnitTotal, ...]
    net_weight_kg: Value
    value: Value


class PackedLine(DocumentModel):
    """How much of one line lies directly in a package."""

    line_number: int
    line_ref: str
    sku: str
    description: str
    quantity: Value
    unit: str


class PackageRow(DocumentModel):
    """One handling unit, numbered from 1 so that a pallet stands before what it carries; `mark` is what its label says."""

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
    """The packages of one type."""

    type: Value
    count: int


class PackageSummary(DocumentModel):
    """The packages added up; the weight and volume are those of the outermost ones, which carry all others."""

    count: int
    outermost_count: int
    by_type: tuple[PackageTypeTotal, ...]
    gross_weight_kg: Value
    volume_m3: Value
    shown: Wording[str]
    marks_shown: Wording[str]


class Declaration(DocumentModel):
    """The statement on the invoice, and the responsible employee of the exporter who knows the transaction (19 CFR 141.86)."""

    statement: str
    name: str
    title: str | None
    email: str | None
    phone: str | None


class Invoice(DocumentModel):
    """The commercial invoice of one unit: every fact that a document prints, finished, in the order of the page."""

    model_config = ConfigDict(json_schema_extra={"$id": "urn:exports:schema:commercial-customs-invoice:1"})

    schema_version: Literal["1"] = "1"
    test: bool
    provenance: Provenance
    header: Header
    transport: Transport
    parties: PartyBlocks
    lines: tuple[InvoiceLine, ...]
    charges: tuple[ChargeRow, ...]
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
    worksheet: InvoiceWorksheet = None
