"""What is declared beside the lines of an invoice: certifications, metals, merged lines, and what the checks found."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic.json_schema import SkipJsonSchema as Wording  # words for people are in no published schema

from pipeline.documents.schemas.values import DocumentModel, Pair, Value
from pipeline.exports.schemas.plan import Address, CertifiedGoods, Contact, Party, Treatment


class Certificate(DocumentModel):
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
    lines_shown: Wording[str]
    details: Wording[tuple[Pair, ...]]


class MetalHeading(DocumentModel):
    """A Section 232 heading of a line, its rate in percent, and what that is charged on."""

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
    """One metal of the whole invoice."""

    metal: Value
    line_count: int
    metal_weight_kg: Value
    net_weight_kg: Value
    line_value: Value


class MergedLine(DocumentModel):
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


class Consolidation(DocumentModel):
    """The lines of the invoice merged as far as nothing that customs is told of them differs."""

    line_count: int
    merged_line_count: int
    lines_saved: int
    lines: Wording[tuple[MergedLine, ...]]


class FindingRow(DocumentModel):
    """What the checks found at acceptance; `line_number` where it is about one line of this invoice."""

    rule: str
    severity: Literal["block", "warn", "note"]
    line_number: int | None
    pointer: str
    message: str
    remedy: str
    source: str | None
