"""Checks of a line against the flags of agencies that its tariff number carries by the imported table."""

from collections.abc import Iterator
from datetime import date

from pipeline.core.findings import Finding, Severity
from pipeline.customs.models import NumberFlag, TariffEdition
from pipeline.customs.reference.base import join_words
from pipeline.customs.reference.pga import pga_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.customs.tariff.facts import cite_edition
from pipeline.customs.tariff.flags import FlagsOnDay
from pipeline.customs.tariff.queries import format_number
from pipeline.exports.schemas.plan import Line


def check_flags(line: Line, here: str, flags: FlagsOnDay, on: date, entry_type: str) -> Iterator[Finding]:
    """Yield each flag of the number that the line does not answer (H20), and each answer that it does not ask for (H21)."""
    source = f"ACE agency tariff codes, {cite_edition(flags.edition)}"
    carried = flags.list_flags(line.hts_code)
    answers = {row.flag: place for place, row in enumerate(line.treatment.pga)}
    number = format_number(line.hts_code)
    for row in carried:
        required = _is_required(row, on)
        if row.flag in answers or not _is_asked_for(row, on, entry_type):
            continue
        asks = "must have" if required else "may need"
        meaning = f" ({row.meaning})" if row.meaning else ""
        yield Finding(
            rule="H20",
            severity=_severity(judge_edition(flags.edition, on), required=required),
            pointer=f"{here}/treatment/pga",
            message=f"Line {line.line_ref}: {number} has flag {row.flag}{meaning}: the entry {asks} {row.agency} data, and the "
            "plan has no answer.",
            remedy=f"Give the {row.agency} data for flag {row.flag}{'' if required else _describe_refusal(row, on)}.",
            source=source,
        )
    for flag, place in answers.items():
        if flag not in {row.flag for row in carried}:
            known = join_words(row.flag for row in carried)
            yield Finding.note(
                "H21",
                f"{here}/treatment/pga/{place}/flag",
                f"Line {line.line_ref} answers flag {flag}, but {number} has {f'only {known}' if known else 'no flag'} in "
                f"edition {flags.edition.name}.",
                "Correct the flag or the tariff number; an agency may also take data without a flag.",
                source,
            )


def _is_required(row: NumberFlag, on: date) -> bool:
    if row.requirement:
        return row.requirement == "must"
    known = pga_rules().find_flag(row.flag, on)
    return known is not None and known.required


def _is_asked_for(row: NumberFlag, on: date, entry_type: str) -> bool:
    # A flag that the rules do not know is asked for as the table says.
    rows = pga_rules().flag_rows(row.flag)
    return not rows or any(each.is_asked_for(on, entry_type) and not each.silent for each in rows)


def _describe_refusal(row: NumberFlag, on: date) -> str:
    known = pga_rules().find_flag(row.flag, on)
    way = "a disclaimer" if known is None or known.disclaimers else "name the flag alone"
    return f", or {way} if the goods need none"


def _severity(certain: Severity, *, required: bool) -> Severity:
    if certain == "block":
        return "block" if required else "warn"
    return "warn" if required else "note"


def judge_edition(edition: TariffEdition, on: date) -> Severity:
    """Return `block` if the edition is certainly in force on the day, else `warn`."""
    # An edition without a last day may have been replaced by one that nobody imported.
    age = (on - edition.effective_from).days
    return "block" if edition.effective_to is not None or age <= ruleset().review.within_days else "warn"
