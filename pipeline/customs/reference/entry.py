"""The dated reference data of the entry header, the invoice and its lines: models and where they are read."""

from __future__ import annotations

import re
from datetime import date
from itertools import combinations
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from pipeline.customs.reference.base import Chapter, Figure, ReferenceData, ReferenceRow, load_once, load_rules_file

#: A regular expression; one that cannot be read is an error of loading. Case never matters in what people write.
Pattern = re.Pattern[str]
TariffPrefix = Annotated[str, Field(pattern=r"^(0[1-9]|[1-9][0-9])[0-9]{0,8}$")]


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{name!r} is no time zone such as America/New_York") from error
    return name


class EntryClock(ReferenceRow):
    """The time zone in which the days of entry are counted."""

    zone: Annotated[str, AfterValidator(_check_zone)]


class ImporterNumber(ReferenceData):
    """A form that an importer's number may take."""

    name: str
    pattern: Pattern
    example: str
    foreign: bool


class ImporterNumbers(ReferenceRow):
    """The forms that an importer's number may take."""

    forms: tuple[ImporterNumber, ...]


class CountryCodes(ReferenceRow):
    """The codes of the countries that there are."""

    codes: frozenset[str]


class EndedEntryType(ReferenceRow):
    """An entry type that may no longer be filed."""

    type: str
    name: str


class InformalEntry(ReferenceRow):
    """Informal entry, and the most that it may be worth."""

    type: str
    limit_usd: Figure


class ForeignImporter(ReferenceRow):
    """The entry types that a foreign importer of record may not use."""

    entry_types: frozenset[str]


class InvoiceNumber(ReferenceRow):
    """How an invoice number may be written."""

    pattern: Pattern


class EntryTypes(ReferenceRow):
    """The entry types that a plan may name, and what each is."""

    types: dict[str, str]


class TradeRemedyCases(ReferenceRow):
    """The attribute that names a case of antidumping or countervailing duty, and the entry types for such goods."""

    attribute: str
    entry_types: frozenset[str]


class SaleReasons(ReferenceRow):
    """The reasons for export that are a sale, of which time and place are told."""

    reasons: frozenset[str]


class TariffChapters(ReferenceRow):
    """Which chapters there are, which are kept free, and which are claimed beside a heading of the goods."""

    last_chapter: str
    reserved: frozenset[str]
    additional: frozenset[str]


class LowValue(ReferenceRow):
    """Values that customs is likely to query."""

    least_usd_per_kg: Figure
    denials: tuple[str, ...]


class RateRange(ReferenceData):
    """US dollars that one unit of a currency may be worth before a person should look."""

    least: Figure
    most: Figure

    @model_validator(mode="after")
    def _least_is_less(self) -> Self:
        if self.least >= self.most:
            raise ValueError(f"a rate of at least {self.least} and at most {self.most} is none")
        return self


class ExchangeRates(ReferenceRow):
    """What currencies are usually worth, by their codes."""

    usual: dict[str, RateRange]


class ConsigneeAddress(ReferenceRow):
    """The states and postal codes of the customs territory."""

    regions: frozenset[str]
    postal_code: Pattern


class UsmcaElements(ReferenceRow):
    """What a certification must say, and how long a blanket one may be."""

    longest_months: int


class WeightTolerance(ReferenceRow):
    """How far two weights may lie apart, whichever is more."""

    percent: Figure
    least_kg: Figure


class Incoterms(ReferenceRow):
    """The terms under which the invoice itemises carriage, or carriage and insurance."""

    freight: frozenset[str]
    freight_and_insurance: frozenset[str]
    duty: frozenset[str]
    without_freight: frozenset[str]
    by_water: frozenset[str]


class UsmcaClaims(ReferenceRow):
    """Who may claim USMCA, and by which special programs."""

    countries: frozenset[str]
    programs: frozenset[str]


class UsmcaLowValue(ReferenceRow):
    """The most that goods which claim USMCA may be worth without a certification."""

    limit_usd: Figure


class ForeignWords(ReferenceData):
    """Small words that tell a description of another language from one in English."""

    min_words: int
    words: frozenset[str]
    english: frozenset[str]


class DescriptionRules(ReferenceRow):
    """When a description says too little, or says it in no English."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    min_words: int
    min_telling_words: int
    words: frozenset[str]
    foreign: ForeignWords
    names: ForeignWords


class RequiredAttribute(ReferenceRow):
    """One thing that an invoice must say of goods of certain tariff numbers."""

    name: str
    requirement: str
    keys: tuple[str, ...] = Field(min_length=1)
    prefixes: tuple[TariffPrefix, ...] = Field(min_length=1)
    mentioned: Pattern
    form: Pattern | None = None


class AttributeRules(ReferenceData):
    """What an invoice must say of goods, by the beginning of their tariff number."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    rows: tuple[RequiredAttribute, ...]

    @model_validator(mode="after")
    def _windows_do_not_overlap(self) -> Self:
        for one, other in combinations(self.rows, 2):
            if one.name == other.name and one.overlaps(other):
                raise ValueError(f"attribute {one.name} has rows whose windows overlap")
        return self

    def find_required(self, hts_code: str) -> tuple[RequiredAttribute, ...]:
        """Return what must be said of goods of the ten digits."""
        return tuple(row for row in self.rows if hts_code.startswith(row.prefixes))


class EntryRules(ReferenceData):
    """What holds of the entry header, the invoice and its lines."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    as_of: date
    destination: str
    clock: EntryClock
    countries: CountryCodes
    importer_numbers: ImporterNumbers
    ended_entry_types: tuple[EndedEntryType, ...]
    entry_types: EntryTypes
    trade_remedy_cases: TradeRemedyCases
    informal: InformalEntry
    foreign_importer: ForeignImporter
    foreign_importer_formal: ForeignImporter
    invoice_number: InvoiceNumber
    weights: WeightTolerance
    manifest: ReferenceRow
    sale: SaleReasons
    tariff: TariffChapters
    value: LowValue
    exchange_rates: ExchangeRates
    consignee: ConsigneeAddress
    incoterms: Incoterms
    usmca: UsmcaClaims
    usmca_low_value: UsmcaLowValue
    usmca_statement: ReferenceRow
    usmca_elements: UsmcaElements

    @model_validator(mode="after")
    def _windows_do_not_overlap(self) -> Self:
        for one, other in combinations(self.ended_entry_types, 2):
            if one.type == other.type and one.overlaps(other):
                raise ValueError(f"ended_entry_types has rows for {one.type} whose windows overlap")
        return self

    def match_importer_number(self, number: str) -> ImporterNumber | None:
        """Return the form that `number` takes, if any."""
        return next((form for form in self.importer_numbers.forms if form.pattern.fullmatch(number)), None)


class TextileMakers(ReferenceRow):
    """The chapters of textiles, whose makers must be coded exactly."""

    chapters: frozenset[Chapter]


class MidRules(ReferenceRow):
    """How a manufacturer identification code is built."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    longest: int
    textiles: TextileMakers
    ignored_words: frozenset[str]
    ignored_prefixes: dict[str, tuple[str, ...]]
    ignored_in_city: frozenset[str]
    city_states: dict[str, str]
    provinces: dict[str, tuple[str, ...]]

    def province(self, region: str) -> str | None:
        """Return the code of the Canadian province that an address names, upper case and without accents."""
        return next((code for code, names in self.provinces.items() if region in names), None)


@load_once
def entry_rules() -> EntryRules:
    """Return the rules of the entry and the invoice."""
    return load_rules_file(EntryRules, "entry.yaml")


@load_once
def mid_rules() -> MidRules:
    """Return the rules of manufacturer identification codes."""
    return load_rules_file(MidRules, "mid.yaml")


@load_once
def description_rules() -> DescriptionRules:
    """Return when a description says too little."""
    return load_rules_file(DescriptionRules, "descriptions.yaml")


@load_once
def attribute_rules() -> AttributeRules:
    """Return what invoices must say of goods of certain tariff numbers."""
    return load_rules_file(AttributeRules, "attributes.yaml")
