"""The dated reference data of partner government agencies: the models, their consistency, and the function that loads it."""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from functools import cached_property
from itertools import combinations
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.core.findings import Severity
from pipeline.core.money import take_percent
from pipeline.customs.reference.base import Figure, ReferenceData, ReferenceRow, Status
from pipeline.customs.reference.content import RulesContent, load_once, parse_file
from pipeline.customs.reference.entry import TariffPrefix
from pipeline.customs.reference.pga_forms import FormLayout
from pipeline.customs.reference.pga_values import ValueTable, find_table, with_value_sources

#: A value of the plan that replaces a datum which the PGA row does not repeat.
PlanFact = Literal["arrival", "port_of_entry", "country_of_origin", "quantity", "importer", "consignee"]


class PgaSource(ReferenceData):
    """A source of rows, and how certain its rows are unless a row says otherwise."""

    text: str
    confidence: Literal["high", "medium", "low"]
    status: Status


class PlantLimit(ReferenceData):
    """The most plant material that the goods of one HTS code have in an entry, and each of them in percent of its weight."""

    most_kg: Figure
    most_percent: Figure
    wholly: tuple[TariffPrefix, ...]

    def is_wholly_plant(self, hts_code: str) -> bool:
        """Return whether goods of the HTS code are wholly of plant material."""
        return hts_code.startswith(self.wholly)

    def may_exceed(self, hts_code: str, net_kg: Decimal) -> bool:
        """Return whether goods of this weight may have more plant material than `most_kg`, each within the percentage."""
        most = net_kg if self.is_wholly_plant(hts_code) else take_percent(net_kg, self.most_percent)
        return most > self.most_kg


class Disclaimer(ReferenceRow):
    """A reason for which an agency needs no data."""

    code: Annotated[str, Field(pattern=r"^[A-G]$")]
    text: str
    agencies: frozenset[str] = frozenset()
    programs: frozenset[str] = frozenset()
    entry_types: frozenset[str] = frozenset()
    plants: PlantLimit | None = None


class IntendedUse(ReferenceRow):
    """An intended use of goods (Appendix R)."""

    code: Annotated[str, Field(pattern=r"^[0-9]{3}\.[0-9]{3}$")]
    text: str | None
    needs_text: bool = False


class PartyRole(ReferenceRow):
    """The role of a party for the goods."""

    code: Annotated[str, Field(pattern=r"^[A-Z0-9]{2,3}$")]
    name: str


class AgencyFlag(ReferenceRow):
    """A flag that an HTS number carries for an agency."""

    flag: Annotated[str, Field(pattern=r"^[A-Z0-9]{3}$")]
    agency: str
    programs: tuple[str, ...] = ()
    required: bool
    disclaimers: tuple[str, ...]
    advisory: bool = False
    silent: bool = False
    prior_notice: bool = False
    later: Mapping[str, date] = Field(default_factory=dict)

    @property
    def severity(self) -> Severity:
        """The severity of a breach: an advisory flag, or a rule with status `check`, only warns."""
        return "warn" if self.advisory or self.status == "check" else "block"

    def is_asked_for(self, on: date, entry_type: str) -> bool:
        """Return whether the flag needs an answer on the day, for the entry type."""
        return self.in_force(on) and self.later.get(entry_type, on) <= on

    @property
    def needs_answer(self) -> bool:
        """Whether goods need data or a disclaimer: a flag that may be required and allows no disclaimer can stand alone."""
        return self.required or bool(self.disclaimers)


class ConditionalData(ReferenceData):
    """Data that a program requires for some values of another datum, with some processing codes or with each."""

    of: str
    values: frozenset[str]
    processing: frozenset[str] = frozenset()
    data: tuple[str, ...]

    def applies(self, processing: str | None, given: Mapping[str, Iterable[str]]) -> bool:
        """Return whether the data is required; `given` has the codes of each datum."""
        known = not self.processing or processing in self.processing
        return known and not self.values.isdisjoint(given.get(self.of, ()))


class AgencyProgram(ReferenceRow):
    """A program of an agency, and the data that it needs; `a|b` asks for one of the two. `optional` data may be missing.

    `disclaimed_uses` has the intended uses that a disclaimer asks for; empty if it may be any.
    """

    agency: str
    program: str
    name: str | None
    processing: Mapping[str, str | None] = Field(default_factory=dict)
    disclaimers: tuple[str, ...] | None = None
    intended_use: bool = False
    data: tuple[str, ...] = ()
    by_processing: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    cases: tuple[ConditionalData, ...] = ()
    disclaimed_uses: Mapping[str, frozenset[str]] = Field(default_factory=dict)
    prior_notice: tuple[str, ...] = ()
    prior_notice_filed: str | None = None
    optional: tuple[str, ...] = ()

    def all_keys(self) -> tuple[str, ...]:
        """Return every key that the program knows, each once: first the required ones, then the optional ones."""
        filed = () if self.prior_notice_filed is None else (self.prior_notice_filed,)
        in_cases = (key for case in self.cases for key in case.data)
        some = (
            *self.data,
            *(key for keys in self.by_processing.values() for key in keys),
            *in_cases,
            *self.prior_notice,
            *filed,
        )
        return tuple(dict.fromkeys(key for each in (*some, *self.optional) for key in each.split("|")))

    def required_keys(
        self, processing: str | None, given: Mapping[str, Iterable[str]], *, prior_notice: bool
    ) -> tuple[str, ...]:
        """Return the keys that the data must have, in the order of the rules; `given` has the codes of each datum."""
        in_cases = (key for case in self.cases if case.applies(processing, given) for key in case.data)
        return (
            *self.data,
            *self.by_processing.get(processing or "", ()),
            *in_cases,
            *(self.prior_notice if prior_notice else ()),
        )


class DatumElement(ReferenceData):
    """A datum that an agency may ask for; `carried` is another value of the plan that gives it.

    `countries` marks a datum that is a country; they are codes that the agency takes beside those of all countries.
    """

    label: str
    pattern: str | None = None
    countries: frozenset[str] | None = None
    shape: str | None = None
    carried: Annotated[PlanFact | None, Field(alias="from")] = None

    def find_fault(self, values: Iterable[str], countries: frozenset[str]) -> str | None:
        """Return the required form if a value has another one, or None; `countries` are the codes of all countries."""
        known = None if self.countries is None else self.countries | countries
        if all(self._is_shaped(value) and (known is None or value in known) for value in values):
            return None
        return self.shape

    def _is_shaped(self, value: str) -> bool:
        return self.pattern is None or re.fullmatch(self.pattern, value) is not None


class PgaRules(ReferenceData):
    """The rules of partner government agencies: flags, programs, disclaimers and data."""

    schema_version: Annotated[Literal[2], Field(alias="schema")]
    as_of: date
    sources: Mapping[str, PgaSource]
    disclaimers: tuple[Disclaimer, ...]
    intended_uses: tuple[IntendedUse, ...]
    roles: tuple[PartyRole, ...]
    agencies: Mapping[str, str]
    flags: tuple[AgencyFlag, ...]
    programs: tuple[AgencyProgram, ...]
    elements: Mapping[str, DatumElement]
    values: tuple[ValueTable, ...] = ()
    forms: tuple[FormLayout, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _with_sources(cls, document: Any) -> Any:
        # A row names its source; the confidence and status of a source are written once.
        if not isinstance(document, dict):
            return document
        known = document.get("sources", {})
        tables = ("disclaimers", "intended_uses", "roles", "flags", "programs", "values", "forms")
        rows = {table: [_with_source(row, known) for row in document.get(table, ())] for table in tables}
        return document | rows | {"values": [with_value_sources(row, known) for row in rows["values"]]}

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        _check_no_overlap("disclaimer", self.disclaimers, [(row.code,) for row in self.disclaimers])
        _check_no_overlap("intended use", self.intended_uses, [(row.code,) for row in self.intended_uses])
        _check_no_overlap("role", self.roles, [(row.code,) for row in self.roles])
        _check_no_overlap("flag", self.flags, [(row.flag,) for row in self.flags])
        _check_no_overlap("program", self.programs, [(row.agency, row.program) for row in self.programs])
        programs = {(row.agency, row.program) for row in self.programs}
        for flag in self.flags:
            _check_known(f"flag {flag.flag}", "agency", [flag.agency], self.agencies)
            for program in flag.programs:
                if (flag.agency, program) not in programs:
                    raise ValueError(f"flag {flag.flag} names program {program}, which {flag.agency} does not have")
            self._check_disclaimers(f"flag {flag.flag}", flag.agency, flag.disclaimers, flag.programs)
        for row in self.programs:
            name = f"program {row.agency} {row.program}"
            _check_known(name, "agency", [row.agency], self.agencies)
            _check_known(name, "processing code", row.by_processing, row.processing)
            _check_known(name, "element", row.all_keys(), self.elements)
            _check_known(name, "datum", {case.of for case in row.cases} - {"intendedUse"}, row.all_keys())
            _check_known(name, "disclaimer", row.disclaimed_uses, {each.code for each in self.disclaimers})
            self._check_disclaimers(name, row.agency, row.disclaimers or (), (row.program,))
        for code in self.disclaimers:
            _check_known(f"disclaimer {code.code}", "agency", code.agencies, self.agencies)
        for table in self.values:
            _check_known(f"values {table.name}", "element", table.elements, self.elements)
            _check_known(f"values {table.name}", "agency", table.agencies, self.agencies)
        for form in self.forms:
            blocks = (*form.boxes, *form.line_boxes, *form.columns)
            _check_known(
                f"form {form.name}", "element", [key for each in blocks for key in each.elements], self.elements
            )
            for program in form.programs:
                if (form.agency, program) not in programs:
                    raise ValueError(f"form {form.name} names program {program}, which {form.agency} does not have")
        _check_no_overlap("form", self.forms, [(form.name,) for form in self.forms])
        of_values = [
            (table, (key, agency))
            for table in self.values
            for key in table.elements
            for agency in table.agencies or self.agencies
        ]
        _check_no_overlap("element", [table for table, _ in of_values], [key for _, key in of_values])
        return self

    def _check_disclaimers(self, name: str, agency: str, codes: Iterable[str], programs: tuple[str, ...]) -> None:
        by_code = {row.code: row for row in self.disclaimers}
        _check_known(name, "disclaimer", codes, by_code)
        for code in codes:
            row = by_code[code]
            if (row.agencies and agency not in row.agencies) or (row.programs and not row.programs & {*programs}):
                raise ValueError(f"{name} of {agency} allows disclaimer {code}, which does not apply to it")

    @cached_property
    def _flags(self) -> Mapping[str, tuple[AgencyFlag, ...]]:
        index: dict[str, tuple[AgencyFlag, ...]] = {}
        for row in self.flags:
            index[row.flag] = (*index.get(row.flag, ()), row)
        return index

    @cached_property
    def _programs(self) -> Mapping[tuple[str, str], tuple[AgencyProgram, ...]]:
        index: dict[tuple[str, str], tuple[AgencyProgram, ...]] = {}
        for row in self.programs:
            index[row.agency, row.program] = (*index.get((row.agency, row.program), ()), row)
        return index

    @cached_property
    def _disclaimers(self) -> Mapping[str, Disclaimer]:
        return {row.code: row for row in self.disclaimers}

    @cached_property
    def _uses(self) -> Mapping[str, IntendedUse]:
        return {row.code: row for row in self.intended_uses}

    def flag_rows(self, flag: str) -> tuple[AgencyFlag, ...]:
        """Return all rows of a flag, for all days; empty if the flag is not known."""
        return self._flags.get(flag, ())

    def find_flag(self, flag: str, on: date) -> AgencyFlag | None:
        """Return the row of a flag that is in force on the day, or None."""
        return next((row for row in self.flag_rows(flag) if row.in_force(on)), None)

    def find_program(self, agency: str, program: str | None, on: date) -> AgencyProgram | None:
        """Return the row of a program that is in force on the day, or None."""
        return next((row for row in self._programs.get((agency, program or ""), ()) if row.in_force(on)), None)

    def find_programs(self, agency: str, on: date) -> tuple[str, ...]:
        """Return the codes of the agency's programs on the day."""
        return tuple(row.program for row in self.programs if row.agency == agency and row.in_force(on))

    def find_disclaimer(self, code: str) -> Disclaimer:
        """Return the disclaimer of a code; the plan's schema accepts only codes that exist here."""
        return self._disclaimers[code]

    def allowed_disclaimers(self, flag: AgencyFlag, program: AgencyProgram | None, entry_type: str) -> tuple[str, ...]:
        """Return the codes of the disclaimers that the flag allows for the program and the entry type."""
        codes = flag.disclaimers
        if program is not None and program.disclaimers is not None and not flag.required:
            codes = program.disclaimers
        kinds = {code: self.find_disclaimer(code).entry_types for code in codes}
        return tuple(code for code in codes if not kinds[code] or entry_type in kinds[code])

    def find_values(self, element: str, agency: str, on: date) -> ValueTable | None:
        """Return the table of the values of an element for the agency on the day, or None if any text may be right."""
        return find_table((table for table in self.values if table.in_force(on)), element, agency)

    def find_intended_use(self, code: str | None) -> IntendedUse | None:
        """Return the intended use of a code, or None if it is not known."""
        return self._uses.get(code or "")


def _with_source(row: Any, sources: Mapping[str, Any]) -> Any:
    if not isinstance(row, dict) or row.get("source") not in sources:
        raise ValueError(f"a row must name a source of the file: {row}")
    source = sources[row["source"]]
    given = {"confidence": source.get("confidence"), "status": source.get("status")}
    return given | row | {"source": source.get("text")}


def _check_known(name: str, kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    for code in sorted({*given} - {*known}):
        raise ValueError(f"{name} names {kind} {code}, which the file does not have")


def _check_no_overlap(kind: str, rows: Iterable[ReferenceRow], keys: Iterable[tuple[str, ...]]) -> None:
    for (left, key), (right, other) in combinations(zip(rows, keys, strict=True), 2):
        if key == other and left.overlaps(right):
            begins = max(left.effective_from or date.min, right.effective_from or date.min)
            raise ValueError(f"{kind} {' '.join(key)} has two rows for {begins}")


@load_once
def pga_rules(content: RulesContent) -> PgaRules:
    """Return the rules of partner government agencies."""
    return parse_file(content, PgaRules, "pga.yaml")
