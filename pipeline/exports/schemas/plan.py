"""The export plan that an upstream service sends, schema version 1; unknown fields are refused."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from pipeline.core.field_types import Day, Instant
from pipeline.exports.schemas.entry_filing import Filing
from pipeline.exports.schemas.parties import Address, Contact, Importer, Manufacturer, Parties, Party
from pipeline.exports.schemas.plan_fields import (
    AccountId,
    Amount,
    BatchId,
    Country,
    Currency,
    HtsCode,
    LengthCm,
    LongReadableText,
    LongText,
    MetalCountry,
    Number,
    PartnerId,
    Percent,
    Quantity,
    ReadableText,
    Ref,
    Sha256,
    StrictModel,
    Text,
    UnitCode,
    WeightKg,
)
from pipeline.exports.schemas.transport import OptionalTruck, PlannedExport, PlannedTrip

__all__ = [
    "AccountId", "Address", "BatchId", "Contact", "Importer", "LongReadableText", "LongText", "Manufacturer", "Number",
    "OptionalTruck", "Parties", "PartnerId", "Party", "PlannedExport", "ReadableText", "Sha256", "StrictModel", "Text",
]  # fmt: skip

MAX_UNITS, MAX_LINES, MAX_PACKAGES = 1_000, 10_000, 20_000

#: The source of findings about duplicate names and dangling references.
REFERENCES = "Export plan, schema version 1: a reference names one thing of its unit, a unitRef one of the plan"


class Approval(StrictModel):
    """Who approved the plan, when, and until when it may be executed."""

    approved_by: Text
    approved_at: Instant
    expires_at: Instant | None = None

    @property
    def approved_at_utc(self) -> datetime | None:
        """The time of the approval, or None if UTC has no such year: an older version accepted it."""
        try:
            return self.approved_at.astimezone(UTC)
        except OverflowError:
            return None


class PartnerRef(StrictModel):
    """A registered partner of the account."""

    id: PartnerId


class RulesetRef(StrictModel):
    """The dated rules that the planner used."""

    id: Text
    as_of: Day


ModeOfTransport = Literal["truck", "rail", "air", "vessel", "mail", "other"]


class EntryPart(StrictModel):
    """The place of an entry among those of one shipment, such as 1 of 2."""

    number: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,2}$")]
    of: Annotated[str, Field(pattern=r"^([2-9]|[1-9][0-9]{1,2})$")]


class Entry(StrictModel):
    """The data of the entry header for the filer."""

    type: Annotated[str, Field(pattern=r"^[0-9]{2}$", description="CBP entry type, such as 01 or 11")]
    port_of_entry: Annotated[str, Field(pattern=r"^[0-9]{4}$", description="Schedule D")]
    mode_of_transport: ModeOfTransport
    carrier_scac: Annotated[str, Field(pattern=r"^[A-Z]{2,4}$")] | None = None
    shipment_control_number: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,30}$")] | None = None
    manifest_quantity: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,7}$", description="Packages")] | None = None
    manifest_gross_weight_kg: WeightKg | None = None
    export_date: Day
    estimated_arrival_at: Instant | None = None
    part: EntryPart | None = Field(
        None, exclude_if=lambda value: value is None, description="Only if one shipment has several entries, one a unit"
    )
    filing: Filing | None = Field(default=None, exclude_if=lambda value: value is None)
    trip: PlannedTrip = None

    def hide_personal_data(self) -> "Entry":
        """Return the entry with only roles and names of the truck's crew."""
        return self if self.trip is None else self.model_copy(update={"trip": self.trip.hide_personal_data()})


class Charge(StrictModel):
    """A charge of the invoice, itemised by name and amount (19 CFR 141.86(a)(8))."""

    code: Literal["freight", "insurance", "packing", "handling", "commission", "inland_freight", "duty", "other"]
    name: Text | None = None
    amount: Amount
    included_in_prices: bool = False
    dutiable: bool | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Whether it counts for the entered value, if facts decide",
    )


class Discount(StrictModel):
    """A discount on the invoice as a whole."""

    name: Text
    amount: Amount


class Rebate(StrictModel):
    """A rebate, drawback or bounty on the export of the goods (19 CFR 141.86(a)(9)); not part of the total."""

    name: Text
    amount: Amount


class Assist(StrictModel):
    """Goods or services supplied for the production and not in the prices (19 CFR 141.86(a)(11)); not part of the total."""

    name: LongText
    amount: Amount | None = Field(default=None, description="Their value, if it is known")


class InvoiceHeader(StrictModel):
    """The head of the commercial invoice: number, terms and total."""

    number: Text
    date: Day
    currency: Currency
    exchange_rate: Annotated[Number, Field(gt=0, max_digits=18, decimal_places=8)] | None = None
    incoterm: Literal["EXW", "FCA", "CPT", "CIP", "DAP", "DPU", "DDP", "FAS", "FOB", "CFR", "CIF"]
    incoterm_place: Text
    sale_date: Day | None = None
    sale_place: Text | None = None
    reason_for_export: Literal["sale", "sample", "gift", "return", "repair", "transfer", "other"]
    valuation_basis: Text | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="For goods that are not sold: the basis of the values, such as the price of a similar sale",
    )
    usmca_statement: LongText | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="The signed statement that goods of little value originate under USMCA, as the invoice prints it",
    )
    related_parties: bool
    payment_terms: Text | None = None
    purchase_order: Text | None = None
    total: Amount
    charges: list[Charge] = Field(default_factory=list, max_length=50)
    discounts: list[Discount] = Field(default_factory=list, max_length=50)
    rebates: list[Rebate] = Field(default_factory=list, max_length=50, exclude_if=lambda value: not value)
    assists: Literal["none", "declared"]
    assist_items: list[Assist] = Field(default_factory=list, max_length=50, exclude_if=lambda value: not value)


class Chapter99(StrictModel):
    """One chapter 99 heading of the line, with the rate the planner expects."""

    heading: Annotated[str, Field(pattern=r"^99[0-9]{2}\.[0-9]{2}\.[0-9]{2}$")]
    program: Ref
    rate_percent: Percent | None = None
    basis: Ref


class Section232(StrictModel):
    """One metal of the line: its weight, and where it was melted, smelted and cast."""

    metal: Literal["steel", "aluminum", "copper"]
    metal_weight_kg: WeightKg
    country_of_melt_and_pour: MetalCountry | None = None
    primary_country_of_smelt: MetalCountry | None = None
    secondary_country_of_smelt: MetalCountry | None = None
    country_of_cast: MetalCountry | None = None
    us_metal_percent: Annotated[Number, Field(ge=0, le=100, max_digits=9, decimal_places=6)] | None = None


class Pga(StrictModel):
    """The data of the line for one partner government agency, or the reason why it needs none."""

    flag: Annotated[str, Field(pattern=r"^[A-Z0-9]{3}$")]
    agency: Annotated[str, Field(pattern=r"^[A-Z0-9]{3}$")]
    program: Annotated[str, Field(pattern=r"^[A-Z0-9]{2,3}$")] | None = None
    processing: Annotated[str, Field(pattern=r"^[A-Z0-9]{3}$")] | None = None
    disclaimer: Literal["A", "B", "C", "D", "E", "F", "G"] | None = None
    intended_use: Annotated[str, Field(pattern=r"^[0-9]{3}\.[0-9]{3}$")] | None = None
    data: dict[Ref, LongText | list[LongText]] = Field(default_factory=dict, max_length=64)


class Treatment(StrictModel):
    """What customs must know of one line, as the planner decided; `undetermined` says what it could not decide."""

    chapter99: list[Chapter99] = Field(default_factory=list, max_length=12)
    section232: list[Section232] = Field(default_factory=list, max_length=3)
    pga: list[Pga] = Field(default_factory=list, max_length=24)
    undetermined: LongText | None = None


class EntryQuantity(StrictModel):
    """One quantity of the line as the entry wants it: in a unit of quantity of its tariff number."""

    quantity: Quantity
    unit: UnitCode


class Chapter98(StrictModel):
    """A provision of chapter 98 that the line claims with the number of its goods, and how it divides the line value."""

    provision: Annotated[str, Field(pattern=r"^98[0-9]{2}\.[0-9]{2}\.[0-9]{2}(\.[0-9]{2})?$")]
    exempt_value: Amount = Field(description="The part of `lineValue` without duty")
    dutiable_value: Amount = Field(description="The rest of `lineValue`, such as the value of repairs")
    exported_on: Day | None = Field(default=None, description="When the goods left the United States")
    proof: LongText | None = Field(default=None, description="The documents that prove the claim")


class Line(StrictModel):
    """One line of the invoice: goods of one HTS code, origin and manufacturer."""

    line_ref: Ref
    order_id: Ref | None = None
    sku: Text
    description: LongText
    hts_code: HtsCode
    country_of_origin: Country
    country_of_export: Country
    manufacturer_ref: Ref
    quantity: Quantity
    unit: UnitCode
    unit_price: Amount
    line_value: Amount
    net_weight_kg: WeightKg
    gross_weight_kg: WeightKg
    entry_quantities: list[EntryQuantity] = Field(
        default_factory=list,
        max_length=3,
        exclude_if=lambda value: not value,
        description="In the units of the tariff number, in its order; without them `quantity` and `unit` are the only one",
    )
    chapter98: Chapter98 | None = Field(default=None, exclude_if=lambda value: value is None)
    spi: Annotated[str, Field(pattern=r"^[A-Z]{1,2}[+*]?$")] | None = None
    usmca_certificate_ref: Ref | None = None
    attributes: dict[Ref, Text] = Field(default_factory=dict, max_length=64)
    treatment: Treatment


class CertifiedGoods(StrictModel):
    """Goods that a certification of origin covers: their description and HS subheading."""

    description: LongText
    hs_code: Annotated[str, Field(pattern=r"^[0-9]{6}$", description="HS, 6 digits without dots")]


class UsmcaCertificate(StrictModel):
    """A USMCA certification of origin, with the elements of annex 5-A; leave out the party that is the certifier."""

    ref: Ref
    certifier_role: Literal["importer", "exporter", "producer"]
    certifier_name: Text
    certifier_address: Address | None = None
    certifier_contact: Contact | None = None
    exporter: Party | None = None
    producer: Party | None = None
    producer_on_request: bool = False
    importer: Party | None = None
    goods: list[CertifiedGoods] = Field(default_factory=list, max_length=2_000)
    criterion: Literal["A", "B", "C", "D"]
    blanket_from: Day | None = None
    blanket_to: Day | None = None
    signed_on: Day


class Content(StrictModel):
    """The quantity of one invoice line directly in the package."""

    line_ref: Ref
    quantity: Quantity


class Package(StrictModel):
    """A carton, pallet or other handling unit; `parent_ref` names the pallet or carton that it is on or in."""

    package_ref: Ref
    type: Annotated[str, Field(pattern=r"^[A-Z0-9]{2,3}$", description="CTN, PLT, BAG and the like")]
    sscc: Annotated[str, Field(pattern=r"^[0-9]{18}$")] | None = None
    lpn: Ref | None = None
    parent_ref: Ref | None = None
    length_cm: LengthCm
    width_cm: LengthCm
    height_cm: LengthCm
    gross_weight_kg: Annotated[WeightKg, Field(gt=0)]
    tare_weight_kg: WeightKg
    tracking_number: Ref | None = None
    order_id: Ref | None = None
    contents: list[Content] = Field(default_factory=list, max_length=1_000)


class Unit(StrictModel):
    """One unit of the plan: one customs package, one commercial invoice, one entry."""

    unit_ref: Ref
    entry: Entry
    parties: Parties
    invoice: InvoiceHeader
    lines: list[Line] = Field(min_length=1, max_length=MAX_LINES)
    usmca_certificates: list[UsmcaCertificate] = Field(default_factory=list, max_length=2_000)
    packages: list[Package] = Field(min_length=1, max_length=MAX_PACKAGES)
    canadian_export: PlannedExport = None


class Plan(StrictModel):
    """The approved export plan."""

    schema_version: Literal["1"]
    account_id: AccountId
    batch_id: BatchId
    approval: Approval | None = None
    plan_hash: Sha256 | None = None
    destination_country: Country
    export_country: Country
    warehouse: PartnerRef
    broker: PartnerRef
    ruleset: RulesetRef
    units: list[Unit] = Field(min_length=1, max_length=MAX_UNITS)

    @staticmethod
    def describe_mistake(body: Mapping[str, Any]) -> str | None:
        """Return the message for a body that is a request with a plan in it; None for any other body."""
        if "units" in body or not isinstance(body.get("plan"), dict):
            return None
        return "must be a plan, not a request; send only the object in its member `plan`"


def as_json(model: BaseModel) -> dict[str, Any]:
    """Return the model as JSON-ready data: camelCase, decimals as strings with unchanged digits."""
    return model.model_dump(mode="json", by_alias=True)
