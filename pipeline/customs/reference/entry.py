"""The dated reference data of the entry header, the invoice and its lines: the models, and functions that load them."""

import re
from datetime import date
from itertools import combinations
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from pipeline.customs.reference.base import Chapter, Day, Figure, ReferenceData, ReferenceRow
from pipeline.customs.reference.content import RulesContent, load_once, parse_file

#: A regular expression; an invalid one is an error when the rules are loaded.
Pattern = re.Pattern[str]
TariffPrefix = Annotated[str, Field(pattern=r"^(0[1-9]|[1-9][0-9])[0-9]{0,8}$")]


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{name!r} is not a time zone such as America/New_York") from error
    return name


class EntryClock(ReferenceRow):
    """The time zone of the days of entry."""

    zone: Annotated[str, AfterValidator(_check_zone)]


class ImporterNumber(ReferenceData):
    """One form of an importer number."""

    name: str
    pattern: Pattern
    example: str
    foreign: bool


class ImporterNumbers(ReferenceRow):
    """The forms of an importer number."""

    forms: tuple[ImporterNumber, ...]


class CountryCodes(ReferenceRow):
    """The codes of all countries."""

    codes: frozenset[str]


class EndedEntryType(ReferenceRow):
    """An entry type that may no longer be filed."""

    type: str
    name: str


class InformalEntry(ReferenceRow):
    """Informal entry, and the highest value that it may have."""

    type: str
    limit_usd: Figure


class ForeignImporter(ReferenceRow):
    """The entry types that a foreign importer of record may not use."""

    entry_types: frozenset[str]


class InvoiceNumber(ReferenceRow):
    """The allowed form of an invoice number."""

    pattern: Pattern


class EntryTypes(ReferenceRow):
    """The entry types that a plan may name, with their names."""

    types: dict[str, str]


class TradeRemedyCases(ReferenceRow):
    """The attribute that names a case of antidumping or countervailing duty, and the entry types for such goods."""

    attribute: str
    entry_types: frozenset[str]


class SaleReasons(ReferenceRow):
    """The reasons for export that are a sale, for which the invoice must give time and place."""

    reasons: frozenset[str]


class TariffChapters(ReferenceRow):
    """The chapters of the tariff: the last, the reserved, and those claimed in addition to a number of the goods."""

    last_chapter: str
    reserved: frozenset[str]
    additional: frozenset[str]


class LowValue(ReferenceRow):
    """Values that customs is likely to query."""

    least_usd_per_kg: Figure
    denials: tuple[str, ...]


class RateRange(ReferenceData):
    """The usual range of US dollars per unit of a currency; a rate outside it needs a person."""

    least: Figure
    most: Figure

    @model_validator(mode="after")
    def _least_is_less(self) -> Self:
        if self.least >= self.most:
            raise ValueError(f"least must be less than most; it has {self.least} and {self.most}")
        return self


class QuarterRates(ReferenceRow):
    """The units of each currency for one US dollar, from the first day of a quarter to `known_to`.

    From `variance_percent` on, another rate than that of the quarter applies.
    """

    known_to: Day
    variance_percent: Figure
    per_dollar: dict[str, RateRange]

    @model_validator(mode="after")
    def _days_are_known(self) -> Self:
        if self.effective_from is None or self.known_to is None or self.known_to < self.effective_from:
            raise ValueError("the rates of a quarter need effective_from, and known_to on that day or later")
        return self


class ExchangeRates(ReferenceRow):
    """The usual exchange rates by currency code, and the rates of quarters."""

    usual: dict[str, RateRange]
    quarters: tuple[QuarterRates, ...] = ()

    def find_quarter(self, exported_on: date) -> QuarterRates | None:
        """Return the last quarter that began by the day of export, or None if none did."""
        begun = [row for row in self.quarters if (row.effective_from or date.max) <= exported_on]
        return max(begun, key=lambda row: row.effective_from or date.min, default=None)


class ConsigneeAddress(ReferenceRow):
    """The states and postal codes of the customs territory."""

    regions: frozenset[str]
    postal_code: Pattern


class MakerPostalCodes(ReferenceRow):
    """The postal codes of manufacturers in a country, and those of a region with goods of forced labor."""

    country: str
    form: Pattern
    alert: Pattern
    alert_region: str


class UsmcaElements(ReferenceRow):
    """The required elements of a certification, and the longest blanket period."""

    longest_months: int


class WeightTolerance(ReferenceRow):
    """The allowed difference of two weights: the larger of the two values counts."""

    percent: Figure
    least_kg: Figure


class Incoterms(ReferenceRow):
    """The terms of delivery by which charges the invoice must itemise, and which are for transport by water."""

    freight: frozenset[str]
    freight_and_insurance: frozenset[str]
    duty: frozenset[str]
    without_freight: frozenset[str]
    by_water: frozenset[str]


class UsmcaClaims(ReferenceRow):
    """The countries of origin that may claim USMCA, and its special programs."""

    countries: frozenset[str]
    programs: frozenset[str]


class UsmcaLowValue(ReferenceRow):
    """The highest value of goods that may claim USMCA without a certification."""

    limit_usd: Figure


class ForeignWords(ReferenceData):
    """Words that show whether a text is in another language or in English, and accented names of places, which do not."""

    min_words: int
    words: frozenset[str]
    english: frozenset[str]
    places: frozenset[str] = frozenset()


class DescriptionRules(ReferenceRow):
    """The rules for when a description is too vague, or not in English."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    min_words: int
    min_telling_words: int
    words: frozenset[str]
    foreign: ForeignWords
    names: ForeignWords


class RequiredAttribute(ReferenceRow):
    """One fact that an invoice must state for goods of certain tariff numbers, if their description matches `only_if`."""

    name: str
    requirement: str
    keys: tuple[str, ...] = Field(min_length=1)
    prefixes: tuple[TariffPrefix, ...] = Field(min_length=1)
    only_if: Pattern | None = None
    mentioned: Pattern
    form: Pattern | None = None


class AttributeRules(ReferenceData):
    """The facts that an invoice must state, by the first digits of the tariff number."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    rows: tuple[RequiredAttribute, ...]

    @model_validator(mode="after")
    def _windows_do_not_overlap(self) -> Self:
        for one, other in combinations(self.rows, 2):
            if one.name == other.name and one.overlaps(other):
                raise ValueError(f"attribute {one.name} has rows whose periods overlap")
        return self

    def find_required(self, hts_code: str) -> tuple[RequiredAttribute, ...]:
        """Return the facts that an invoice must state for goods of this HTS code."""
        return tuple(row for row in self.rows if hts_code.startswith(row.prefixes))


class EntryLimit(ReferenceRow):
    """The most that one entry holds: entry lines, tariff numbers on a line, or digits of a value in whole dollars."""

    name: Literal["entry lines", "tariff numbers", "value digits"]
    most: Annotated[int, Field(ge=1)]


class EntryRules(ReferenceData):
    """The rules of the entry header, the invoice and its lines."""

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
    limits: tuple[EntryLimit, ...] = ()
    one_entry: ReferenceRow | None = None
    maker_postal_codes: MakerPostalCodes | None = None  # rules that were stored before lack it

    @model_validator(mode="after")
    def _windows_do_not_overlap(self) -> Self:
        for one, other in combinations(self.ended_entry_types, 2):
            if one.type == other.type and one.overlaps(other):
                raise ValueError(f"ended_entry_types has rows for {one.type} whose periods overlap")
        for first, second in combinations(self.limits, 2):
            if first.name == second.name and first.overlaps(second):
                raise ValueError(f"limits has rows for {first.name} whose periods overlap")
        return self

    def find_limit(self, name: str, on: date) -> EntryLimit | None:
        """Return the limit in force on the day, or None if no row is."""
        return next((row for row in self.limits if row.name == name and row.in_force(on)), None)

    def match_importer_number(self, number: str) -> ImporterNumber | None:
        """Return the form that the number has, or None."""
        return next((form for form in self.importer_numbers.forms if form.pattern.fullmatch(number)), None)


class TextileMakers(ReferenceRow):
    """The textiles, for which the MID must be exact: whole chapters, and numbers of other chapters."""

    chapters: frozenset[Chapter]
    numbers: tuple[TariffPrefix, ...] = ()

    def cover(self, hts_code: str) -> bool:
        """Return whether goods of this HTS code are textiles."""
        return hts_code[:2] in self.chapters or hts_code.startswith(self.numbers)


class MidRules(ReferenceRow):
    """The rules by which a manufacturer identification code (MID) is derived."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    longest: int
    textiles: TextileMakers
    ignored_words: frozenset[str]
    ignored_prefixes: dict[str, tuple[str, ...]]
    ignored_in_city: frozenset[str]
    city_states: dict[str, str]
    provinces: dict[str, tuple[str, ...]]

    def province(self, region: str) -> str | None:
        """Return the MID code of a Canadian province, or None; `region` is in upper case and without accents."""
        return next((code for code, names in self.provinces.items() if region in names), None)


@load_once
def entry_rules(content: RulesContent) -> EntryRules:
    """Return the rules of the entry and the invoice."""
    return parse_file(content, EntryRules, "entry.yaml")


@load_once
def mid_rules(content: RulesContent) -> MidRules:
    """Return the rules of manufacturer identification codes."""
    return parse_file(content, MidRules, "mid.yaml")


@load_once
def description_rules(content: RulesContent) -> DescriptionRules:
    """Return the rules of descriptions."""
    return parse_file(content, DescriptionRules, "descriptions.yaml")


@load_once
def attribute_rules(content: RulesContent) -> AttributeRules:
    """Return the rules of required attributes."""
    return parse_file(content, AttributeRules, "attributes.yaml")
