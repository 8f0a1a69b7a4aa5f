"""The models of an invoice beyond its lines: certifications, metals, merged lines and findings."""

from datetime import date
from typing import Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema as Wording  # words for people are in no published schema

from pipeline.documents.schemas.values import DocumentModel, Pair, Value
from pipeline.exports.schemas.plan import Address, CertifiedGoods, Contact, Party, Treatment


class Certificate(DocumentModel):
    """A USMCA certification of origin that lines refer to: the elements of annex 5-A, and their wording for print."""

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
    lines_shown: Wording[str]
    details: Wording[tuple[Pair, ...]]


class MetalHeading(DocumentModel):
    """A Section 232 heading of a line, its rate in percent, and the value that the rate applies to."""

    heading: str
    program: str
    rate_percent: Value | None
    basis: Value


class MetalRow(DocumentModel):
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


class MetalTotal(DocumentModel):
    """The sums of one metal over the whole invoice."""

    metal: Value
    line_count: int
    metal_weight_kg: Value
    net_weight_kg: Value
    line_value: Value


class UnitTotal(DocumentModel):
    """A quantity of one unit: of a line, or the total of lines."""

    unit: str
    quantity: Value


class Chapter98Claim(DocumentModel):
    """A provision of chapter 98, and the parts of the line value without and with duty."""

    provision: str
    exempt_value: Value
    dutiable_value: Value
    exported_on: date | None
    proof: str | None


class MergedLine(DocumentModel):
    """Several lines of the same code, origin, manufacturer, preference and treatment, merged, with their line numbers.

    Metal weights are added up; `unit_price` is set if all lines have the same price.
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
    entry_quantities: tuple[UnitTotal, ...] = Field(default=(), exclude_if=lambda value: not value)
    chapter98: Chapter98Claim | None = Field(default=None, exclude_if=lambda value: value is None)
    treatment: Treatment
    treatment_digests: tuple[str, ...]


class Consolidation(DocumentModel):
    """The lines of the invoice, merged if all of their customs data is equal."""

    line_count: int
    merged_line_count: int
    lines_saved: int
    lines: Wording[tuple[MergedLine, ...]]


class FindingRow(DocumentModel):
    """A finding at acceptance; `line_number` is set if it is about one line of this invoice."""

    rule: str
    severity: Literal["block", "warn", "note"]
    line_number: int | None
    pointer: str
    message: str
    remedy: str
    source: str | None
