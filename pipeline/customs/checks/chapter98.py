"""Checks of a line's claim of chapter 98: a known provision, the division of the value, and what proves it."""

from collections.abc import Iterator
from datetime import date
from typing import Final

from pipeline.core.findings import Finding
from pipeline.core.money import format_plain, sum_exact
from pipeline.customs.reference.chapter98 import Provision98, chapter98_rules
from pipeline.customs.reference.entry import entry_rules
from pipeline.exports.schemas.plan import Chapter98, Line

_LAW: Final = "HTSUS chapter 98"


def check_chapter98(line: Line, here: str, on: date) -> Iterator[Finding]:
    """Yield what is wrong with the line's claim of chapter 98 on the day of entry (H10 to H12)."""
    claim = line.chapter98
    if claim is None:
        return
    here = f"{here}/chapter98"
    if sum_exact((claim.exempt_value, claim.dutiable_value)) != line.line_value:
        yield Finding.blocking(
            "H11",
            f"{here}/dutiableValue",
            f"Line {line.line_ref}: the values without and with duty, {format_plain(claim.exempt_value)} and "
            f"{format_plain(claim.dutiable_value)}, are not the line value {format_plain(line.line_value)}.",
            "Divide the whole line value into exemptValue and dutiableValue.",
            _LAW,
        )
    row = chapter98_rules().find_provision(claim.provision, on)
    if row is None:
        yield Finding.note(
            "H10",
            f"{here}/provision",
            f"Line {line.line_ref}: these rules do not know what {claim.provision} requires.",
            "Check the provision, the division of the value and the proof by chapter 98 of the tariff.",
            _LAW,
        )
        return
    yield from _check_division(line, claim, row, here)
    yield from _check_proof(line, claim, row, here, on)


def _check_division(line: Line, claim: Chapter98, row: Provision98, here: str) -> Iterator[Finding]:
    is_whole = row.duty_on == "nothing"
    if (is_whole and claim.dutiable_value) or (not is_whole and not (claim.dutiable_value and claim.exempt_value)):
        yield row.warning(
            "H11",
            f"{here}/{'exemptValue' if not is_whole and not claim.exempt_value else 'dutiableValue'}",
            f"Line {line.line_ref}: for {row.provision} ({row.name}) the value without duty is {row.parts.exempt}, "
            f"that with duty is {row.parts.dutiable}.",
            "Give both values so, or claim another provision.",
        )


def _check_proof(line: Line, claim: Chapter98, row: Provision98, here: str, on: date) -> Iterator[Finding]:
    if claim.proof is None:
        yield row.warning(
            "H12",
            f"{here}/proof",
            f"Line {line.line_ref} claims {row.provision} without a proof.",
            f"Name the documents: {row.proof}.",
        )
    free_of_years = line.country_of_origin == entry_rules().destination and not row.years_of_all
    if row.years_abroad is None or free_of_years:
        return
    exported = claim.exported_on
    if exported is None or on > add_years(exported, row.years_abroad):
        left = "when they left the United States is not given" if exported is None else f"they left it on {exported}"
        yield Finding(
            rule="H12",
            severity="warn" if exported is None else row.severity,
            pointer=f"{here}/exportedOn",
            message=f"Line {line.line_ref}: goods of {line.country_of_origin} may claim {row.provision} for "
            f"{row.years_abroad} {'year' if row.years_abroad == 1 else 'years'} after they left the United States, and {left}.",
            remedy="Give the day on which they left the United States, or remove the claim.",
            source=row.source,
        )


def claims_by_place(line: Line, on: date) -> bool:
    """Return whether the line's program is for the place of a repair that it claims; the origin then does not count."""
    claim = line.chapter98
    return claim is not None and chapter98_rules().grants_by_place(claim.provision, line.spi, on)


def add_years(day: date, years: int) -> date:
    """Return the day that many years later; for February 29 of a year without one it is February 28."""
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # February 29
        return day.replace(year=day.year + years, day=28)
