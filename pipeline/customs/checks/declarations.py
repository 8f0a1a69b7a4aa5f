"""Checks of what lines declare for the entry summary: non-reimbursement, the number of a license, softwood lumber."""

from collections.abc import Iterator
from datetime import date

from pipeline.core.findings import Finding
from pipeline.customs.reference.base import join_words
from pipeline.customs.reference.filing import GoodsOnEntry, LicensedGoods, filing_rules
from pipeline.customs.tariff.deposits import list_declared
from pipeline.exports.line_declarations import (
    LUMBER_CHARGE,
    LUMBER_DECLARED,
    LUMBER_PRICE,
    NOT_REIMBURSED,
    is_antidumping,
    parse_lumber_amount,
)
from pipeline.exports.schemas.plan import Line, Unit


def check_declarations(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    """Yield each line that does not declare what its goods need on the day: F09, then license (F10) and lumber (F11)."""
    yield from _check_reimbursement(unit, pointer)
    rules = filing_rules()
    for place, line in enumerate(unit.lines):
        here = f"{pointer}/lines/{place}/attributes"
        for row in rules.licenses:
            if row.cover(line.hts_code, unit.entry.type, on):
                yield from _check_license(line, here, row)
        lumber = rules.softwood_lumber
        if lumber is not None and lumber.cover(line.hts_code, unit.entry.type, on):
            yield from _check_lumber(line, here, lumber)


def _check_reimbursement(unit: Unit, pointer: str) -> Iterator[Finding]:
    row = filing_rules().non_reimbursement
    if row is None:
        return
    for place, line in enumerate(unit.lines):
        cases = [case.name for case in list_declared(line) if is_antidumping(case.name)]
        if cases and line.attributes.get(NOT_REIMBURSED) != "Y":
            yield row.warning(
                "F09",
                f"{pointer}/lines/{place}/attributes/{NOT_REIMBURSED}",
                f"Line {line.line_ref} has antidumping case {join_words(cases)}, but not the importer's statement that nobody "
                "reimburses the duty.",
                f"Ask the importer for its certificate and write Y as attribute {NOT_REIMBURSED}. Without one, CBP doubles the duty.",
            )


def _check_license(line: Line, here: str, row: LicensedGoods) -> Iterator[Finding]:
    number = line.attributes.get(row.attribute)
    if number is None:
        yield row.warning(
            "F10",
            here,
            f"Line {line.line_ref}: for goods of {line.hts_code[:4]} the entry summary needs the number of a {row.name}.",
            f"{row.issuer}. Give it as attribute {row.attribute}, or ask the broker to get it.",
        )
    elif not row.form.fullmatch(number):
        yield row.warning(
            "F10",
            f"{here}/{row.attribute}",
            f"Line {line.line_ref}: {number[:40]} is not the number of a {row.name}.",
            f"Write one number, which matches {row.form.pattern}; an entry line has one. Divide the line if it has several.",
        )


def _check_lumber(line: Line, here: str, row: GoodsOnEntry) -> Iterator[Finding]:
    wanted = {
        LUMBER_PRICE: "the export price",
        LUMBER_CHARGE: "the estimated export charge, 0 if none",
        LUMBER_DECLARED: "the importer's declaration, Y",
    }
    given = {name: value for name, value in line.attributes.items() if name in wanted}
    missing = [name for name in wanted if name not in given]
    if missing:
        yield row.warning(
            "F11",
            here,
            f"Line {line.line_ref}: for softwood lumber the entry summary needs {join_words(wanted[name] for name in missing)}.",
            f"Ask the importer, and give it in attributes: {join_words(missing)}. Amounts are in US dollars. Some articles are "
            "excluded: read 19 USC 1683b(b).",
        )
    for name, value in given.items():
        declared = value == "Y" if name == LUMBER_DECLARED else parse_lumber_amount(value) is not None
        if not declared:
            yield row.warning(
                "F11",
                f"{here}/{name}",
                f"Line {line.line_ref}: attribute {name} is {value[:40]}, not {wanted[name]}.",
                "Write Y, or an amount in US dollars such as 1250.00.",
            )
