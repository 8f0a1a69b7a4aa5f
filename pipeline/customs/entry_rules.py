"""The dated reference data of the entry header, the invoice and its lines: models and where they are read."""

from __future__ import annotations

import re
from datetime import date
from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from pipeline.customs.rules import Data, Figure, Row, load


class ImporterNumber(Data):
    """A form that an importer's number may take."""

    name: str
    pattern: str
    example: str
    foreign: bool


class EndedEntryType(Row):
    """An entry type that may no longer be filed."""

    type: str
    name: str


class Informal(Row):
    """Informal entry, and the most that it may be worth."""

    type: str
    limit_usd: Figure


class ForeignImporter(Row):
    """The entry types that a foreign importer of record may not use."""

    entry_types: frozenset[str]


class InvoiceNumber(Row):
    """How an invoice number may be written."""

    pattern: str


class WeightTolerance(Data):
    """How far two weights may lie apart, whichever is more."""

    percent: Figure
    least_kg: Figure


class Incoterms(Data):
    """The terms under which the invoice itemises carriage, or carriage and insurance."""

    freight: frozenset[str]
    freight_and_insurance: frozenset[str]


class Usmca(Row):
    """Who may claim USMCA, and by which special programs."""

    countries: frozenset[str]
    programs: frozenset[str]


class Vague(Row):
    """When a description says too little."""

    fewest_words: int
    words: frozenset[str]


class EntryRules(Data):
    """What holds of the entry header, the invoice and its lines."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    as_of: date
    destination: str
    importer_numbers: tuple[ImporterNumber, ...]
    ended_entry_types: tuple[EndedEntryType, ...]
    informal: Informal
    foreign_importer: ForeignImporter
    invoice_number: InvoiceNumber
    weights: WeightTolerance
    incoterms: Incoterms
    usmca: Usmca
    vague: Vague

    def importer_number(self, number: str) -> ImporterNumber | None:
        """Return the form that `number` takes, if any."""
        return next((form for form in self.importer_numbers if re.fullmatch(form.pattern, number)), None)


class MidRules(Row):
    """How a manufacturer identification code is built."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    longest: int
    ignored_words: frozenset[str]
    provinces: dict[str, tuple[str, ...]]

    def province(self, region: str) -> str | None:
        """Return the code of the Canadian province that an address names, upper case and without accents."""
        return next((code for code, names in self.provinces.items() if region in names), None)


@cache
def entry_rules() -> EntryRules:
    """Return the rules of the entry and the invoice."""
    return load(EntryRules, "entry.yaml")


@cache
def mid_rules() -> MidRules:
    """Return the rules of manufacturer identification codes."""
    return load(MidRules, "mid.yaml")
