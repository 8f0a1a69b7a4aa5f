"""Checks of a line against the cases of antidumping and countervailing duty of the imported table."""

from collections.abc import Iterator
from typing import Final

from pipeline.core.findings import Finding
from pipeline.customs.models import DutyCase
from pipeline.customs.reference.base import join_words
from pipeline.customs.tariff.cases import CasesOnDay, format_case
from pipeline.customs.tariff.deposits import DISCLAIMER, RATES, DeclaredCase, list_declared
from pipeline.customs.tariff.facts import cite_edition
from pipeline.customs.tariff.queries import format_number
from pipeline.customs.tariff.rates import parse_rate
from pipeline.exports.line_declarations import CASES
from pipeline.exports.schemas.plan import Line

_MAX_NAMED: Final = 8


def check_cases(line: Line, here: str, cases: CasesOnDay) -> Iterator[Finding]:
    """Yield what the cases say against the line: a case that may cover it (H30), and wrong declarations (H31 to H33)."""
    declared = list_declared(line)
    yield from _check_scope(line, here, cases, declared)
    for case in declared:
        yield from _check_declared(line, here, cases, case)


def _check_scope(line: Line, here: str, cases: CasesOnDay, declared: list[DeclaredCase]) -> Iterator[Finding]:
    if line.attributes.get(DISCLAIMER):
        return
    answered = {case.number[:7] for case in declared if case.number is not None}
    open_cases = [row for row in cases.list_in_scope(line.hts_code, line.country_of_origin) if row.root not in answered]
    if open_cases:
        named = [f"{format_case(row.case_number)} ({row.name})" for row in open_cases[:_MAX_NAMED]]
        yield Finding.warning(
            "H30",
            f"{here}/attributes",
            f"Line {line.line_ref}: goods of {line.country_of_origin} in {format_number(line.hts_code)} may be in the scope "
            f"of {join_words(named)}.",
            f"Read the scope: its text decides, not the number. Give the case as attribute {CASES}, or say as attribute "
            f"{DISCLAIMER} why the goods are outside.",
            _cite(cases, open_cases[0]),
        )


def _check_declared(line: Line, here: str, cases: CasesOnDay, case: DeclaredCase) -> Iterator[Finding]:
    row = None if case.number is None else cases.find_case(case.number)
    if row is None:
        yield Finding.warning(
            "H31",
            f"{here}/attributes/{CASES}",
            f"Line {line.line_ref}: edition {cases.edition.name} of the duty cases does not have {case.text[:40]}.",
            "Write the case as A-122-857-000, with the three digits of the company, or ask for a newer edition.",
            _cite(cases),
        )
        return
    name = format_case(row.case_number)
    if row.status != "active":
        yield Finding.warning(
            "H32",
            f"{here}/attributes/{CASES}",
            f"Line {line.line_ref}: case {name} ({row.name}) is {row.status} since {row.effective_from}.",
            "Remove the case, or ask the broker which case covers the goods.",
            _cite(cases, row),
        )
        return
    if row.country != line.country_of_origin:
        yield Finding.warning(
            "H33",
            f"{here}/attributes/{CASES}",
            f"Line {line.line_ref}: case {name} is for goods of {row.country}, and the goods are of "
            f"{line.country_of_origin}.",
            "Correct the case or the country of origin.",
            _cite(cases, row),
        )
    if case.rate and parse_rate(case.rate) != parse_rate(row.rate):
        yield Finding.warning(
            "H33",
            f"{here}/attributes/{RATES}",
            f"Line {line.line_ref}: the deposit rate of {name} is {row.rate or 'not given'} since {row.effective_from}, but "
            f"the plan has {case.rate[:40]}.",
            "Correct the rate, or give the case of the company that it is for.",
            _cite(cases, row),
        )


def _cite(cases: CasesOnDay, row: DutyCase | None = None) -> str:
    edition = f"duty cases, {cite_edition(cases.edition)}"
    return edition if row is None or not row.source else f"{row.source}; {edition}"
