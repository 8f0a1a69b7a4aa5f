"""The invoice: one frozen model, finished for print, from which every document of a unit is rendered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer, SerializationInfo
from pydantic.alias_generators import to_camel

from pipeline.money import plain
from pipeline.schemas.pga import Beside
from pipeline.schemas.plan import Address, CertifiedGoods, Contact, Party, Treatment

#: Serialisation context under which a `Printed` value gives what people read instead of the exact value.
FOR_PEOPLE = {"voice": "people"}


@dataclass(frozen=True, slots=True)
class Printed:
    """A value and how people read it: `1580.00` and `1,580.00`; in a template it stands for what people read."""

    exact: Decimal | str
    shown: str

    def __str__(self) -> str:
        return self.shown


def _written(value: Printed, info: SerializationInfo) -> str:
    if info.context == FOR_PEOPLE:
        return value.shown
    return value.exact if isinstance(value.exact, str) else plain(value.exact)


#: An amount of money in the invoice's currency, a quantity, a weight in kg, a length in cm, or a code.
Value = Annotated[Printed, PlainSerializer(_written, return_type=str)]


class Fact(BaseModel):
    """A frozen object in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True)


class Pair(Fact):
    """A named value: an identifier of a party, an attribute of a line."""

    name: str
    value: str


class Provenance(Fact):
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


class Header(Fact):
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
    related_parties: bool
    payment_terms: str | None
    purchase_order: str | None
    assists: Value


class Transport(Fact):
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


class PartyBlock(Fact):
    """A party; `address_lines` is the address as it is printed, `contact_lines` who answers questions."""

    name: str
    address: Address | None
    address_lines: tuple[str, ...]
    contact: Contact | None
    contact_lines: tuple[str, ...]
    identifiers: tuple[Pair, ...]


class ImporterBlock(PartyBlock):
    """The importer of record; name and address are the buyer's where the plan gives no others."""

    importer_number: str


class ManufacturerBlock(Fact):
    """Who made the goods of one or more lines."""

    ref: str
    name: str
    mid: str
    address: Address
    address_lines: tuple[str, ...]


class PartyBlocks(Fact):
    """Everyone named on the invoice."""

    seller: PartyBlock
    buyer: PartyBlock
    ship_to: PartyBlock
    importer_of_record: ImporterBlock
    manufacturers: tuple[ManufacturerBlock, ...]


class Mark(Fact):
    """One thing that customs must be told of a line, in words: a code that can be looked up, and what it says."""

    kind: Literal["chapter99", "metal", "pga", "preference", "undetermined"]
    code: str
    text: str


class InvoiceLine(Fact):
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
    treatment: Treatment
    treatment_digest: str
    marks: tuple[Mark, ...]
    package_refs: tuple[str, ...]
    packages_shown: str


class ChargeRow(Fact):
    """A charge, or a discount, by name and amount."""

    code: str
    name: str
    amount: Value
    included_in_prices: bool


class UnitTotal(Fact):
    """The quantity of all lines that count in one unit."""

    unit: str
    quantity: Value


class Totals(Fact):
    """The sums: `goods_value` of the lines, `invoice_total` as the plan states it."""

    currency: str
    line_count: int
    quantities: tuple[UnitTotal, ...]
    goods_value: Value
    invoice_total: Value
    net_weight_kg: Value
    gross_weight_kg: Value


class ClassificationRow(Fact):
    """The lines of one HTS code, origin and chapter 99 headings, added up."""

    hts_code: Value
    country_of_origin: str
    headings: tuple[str, ...]
    line_count: int
    quantities: tuple[UnitTotal, ...]
    net_weight_kg: Value
    value: Value


class Certificate(Fact):
    """A USMCA certification of origin that lines refer to: the elements of annex 5-A, and in words, for print."""

    ref: str
    certifier_role: str
    certifier_name: str
    certifier_address: Address | None
    certifier_contact: Contact | None
    exporter: Party | None
    producer: Party | None
    producer_on_request: bool
    importer: Party | None
    goods: tuple[CertifiedGoods, ...]
    criterion: str
    blanket_from: date | None
    blanket_to: date | None
    signed_on: date
    lines_shown: str
    told: tuple[Pair, ...]


class MetalHeading(Fact):
    """A Section 232 heading of a line, its rate in percent, and what that is charged on."""

    heading: str
    program: str
    rate_percent: Value | None
    basis: Value


class MetalRow(Fact):
    """One metal of one line, as the importer declares it; `share_percent` is of the line's net weight."""

    line_number: int
    line_ref: str
    hts_code: Value
    description: str
    headings: tuple[MetalHeading, ...]
    metal: Value
    metal_weight_kg: Value
    net_weight_kg: Value
    share_percent: Value | None
    country_of_melt_and_pour: str | None
    primary_country_of_smelt: str | None
    secondary_country_of_smelt: str | None
    country_of_cast: str | None
    us_metal_percent: Value | None
    line_value: Value
    treatment_digest: str


class MetalTotal(Fact):
    """One metal of the whole invoice."""

    metal: Value
    line_count: int
    metal_weight_kg: Value
    net_weight_kg: Value
    line_value: Value


class MergedLine(Fact):
    """Lines of one code, origin, manufacturer, preference and treatment as one, with the lines that it stands for.

    Metal weights are added up; `unit_price` is there where all lines have the same one.
    """

    number: int
    line_numbers: tuple[int, ...]
    line_refs: tuple[str, ...]
    lines_shown: str
    descriptions: tuple[str, ...]
    hts_code: Value
    country_of_origin: str
    country_of_export: str
    manufacturer_ref: str
    manufacturer_name: str
    mid: str
    spi: str | None
    usmca_certificate_ref: str | None
    quantity: Value
    unit: str
    unit_price: Value | None
    line_value: Value
    net_weight_kg: Value
    gross_weight_kg: Value
    treatment: Treatment
    treatment_digests: tuple[str, ...]


class Consolidation(Fact):
    """The lines of the invoice merged as far as nothing that customs is told of them differs."""

    line_count: int
    merged_line_count: int
    lines_saved: int
    lines: tuple[MergedLine, ...]


class FindingRow(Fact):
    """What the checks found at acceptance; `line_number` where it is about one line of this invoice."""

    rule: str
    severity: Literal["block", "warn", "note"]
    line_number: int | None
    pointer: str
    message: str
    remedy: str
    source: str | None


class PackedLine(Fact):
    """How much of one line lies directly in a package."""

    line_number: int
    line_ref: str
    sku: str
    description: str
    quantity: Value
    unit: str


class PackageRow(Fact):
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
    size_shown: str
    gross_weight_kg: Value
    tare_weight_kg: Value
    tracking_number: str | None
    order_id: str | None
    contents: tuple[PackedLine, ...]


class PackageTypeTotal(Fact):
    """The packages of one type."""

    type: Value
    count: int


class PackageSummary(Fact):
    """The packages added up; the weight and volume are those of the outermost ones, which carry all others."""

    count: int
    outermost_count: int
    by_type: tuple[PackageTypeTotal, ...]
    gross_weight_kg: Value
    volume_m3: Value
    shown: str


class Declaration(Fact):
    """The statement on the invoice, and the responsible employee of the exporter who knows the transaction (19 CFR 141.86)."""

    statement: str
    name: str
    title: str | None
    email: str | None
    phone: str | None


class Invoice(Fact):
    """The commercial invoice of one unit: every fact that a document prints, finished, in the order of the page."""

    schema_version: Literal["1"] = "1"
    test: bool
    provenance: Provenance
    header: Header
    transport: Transport
    parties: PartyBlocks
    lines: tuple[InvoiceLine, ...]
    charges: tuple[ChargeRow, ...]
    discounts: tuple[ChargeRow, ...]
    totals: Totals
    classifications: tuple[ClassificationRow, ...]
    certificates: tuple[Certificate, ...]
    metals: tuple[MetalRow, ...]
    metal_totals: tuple[MetalTotal, ...]
    consolidation: Consolidation | None
    package_summary: PackageSummary
    packages: tuple[PackageRow, ...]
    declaration: Declaration
    findings: tuple[FindingRow, ...]
    worksheet: Beside = None
