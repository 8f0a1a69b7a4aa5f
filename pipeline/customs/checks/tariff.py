"""Checks of a plan against the edition of the tariff that is in force on each unit's day of entry."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Final

from sqlmodel import Session

from pipeline.core.findings import Finding
from pipeline.core.money import format_plain
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.checks.cases import check_cases
from pipeline.customs.checks.flags import check_flags, judge_edition
from pipeline.customs.models import TariffEdition
from pipeline.customs.reference.base import join_words, without_dots
from pipeline.customs.reference.units import unit_rules
from pipeline.customs.tariff.deposits import list_declared
from pipeline.customs.tariff.facts import TariffFacts, cite_edition, keep_facts
from pipeline.customs.tariff.lines import FindEditions, TariffNumber, TariffOnDay, WantedFacts, load_days
from pipeline.customs.tariff.quantity import find_exact_quantity
from pipeline.customs.tariff.queries import format_number
from pipeline.exports.schemas.plan import Line, Plan

_MAX_NAMED: Final = 8


def load_tariff(session: Session, plan: Plan, find: FindEditions | None = None) -> dict[date, TariffOnDay]:
    """Return what the editions say of the plan's lines, for the day of entry of each unit.

    The editions are those that `find` returns for a day, by default those in force.
    """
    return load_days(session, _list_wanted(plan), find)


def _list_wanted(plan: Plan) -> dict[date, WantedFacts]:
    days: dict[date, WantedFacts] = {}
    for unit in plan.units:
        wanted = days.setdefault(entry_date(unit), WantedFacts())
        for line in unit.lines:
            wanted.numbers.add(line.hts_code)
            wanted.numbers |= {without_dots(claimed) for _, claimed in _list_claims(line)}
            wanted.countries.add(line.country_of_origin)
            wanted.cases |= {case.number for case in list_declared(line) if case.number is not None}
    return days


def keep_tariff(plan: Plan, tariff: Mapping[date, TariffOnDay]) -> list[TariffFacts | None]:
    """Return what the export of the plan keeps of the tariff, for each of its units."""
    return [keep_facts(unit, tariff[entry_date(unit)]) for unit in plan.units]


def check_tariff(plan: Plan, tariff: Mapping[date, TariffOnDay]) -> list[Finding]:
    """Return what the tariff says against the plan: numbers, units of quantity, rates and headings of chapter 99.

    What no edition covers is one note for the whole plan.
    """
    findings = list(_check_coverage(tariff))
    for index, unit in enumerate(plan.units):
        on = entry_date(unit)
        known = tariff[on]
        for place, line in enumerate(unit.lines):
            here = f"/units/{index}/lines/{place}"
            if known.edition is not None:
                findings += _check_line(line, here, known, known.edition, on)
            if known.flags is not None:
                findings += check_flags(line, here, known.flags, on, unit.entry.type)
            if known.cases is not None:
                findings += check_cases(line, here, known.cases)
    return findings


def _check_coverage(tariff: Mapping[date, TariffOnDay]) -> Iterator[Finding]:
    without = sorted(on for on, known in tariff.items() if known.edition is None)
    tables = [
        name
        for name, lacking in (
            ("agency flags", any(known.flags is None for known in tariff.values())),
            ("duty cases", any(known.cases is None for known in tariff.values())),
        )
        if lacking
    ]
    if without:
        unknown = ["whether tariff numbers exist", "which quantities they need", "their rates", *tables]
        yield Finding.note(
            "H00",
            "",
            f"The tariff was not checked: no edition of it is in force on {join_words(map(str, without[:_MAX_NAMED]))}. "
            f"Not known here: {join_words(unknown)}.",
            "Check them by the tariff, or ask the operator to import the edition: exports tariff import FILE --from DAY.",
            "HTSUS, as the USITC publishes it",
        )
    elif tables:
        yield Finding.note(
            "H00",
            "",
            f"Not checked: {join_words(tables)}, because no table of them is in force on each day of entry.",
            "Ask the broker, or ask the operator to import the table: exports tariff import FILE --kind KIND --from DAY.",
            "ACE agency tariff codes of CBP; cases of Commerce",
        )
    for known in tariff.values():
        chapters = sorted({number[:2] for number in known.wanted.numbers if not known.covers(number)})
        if known.edition is not None and chapters:
            yield Finding.note(
                "H00",
                "",
                f"The tariff was not checked for chapter {join_words(chapters)}: edition {known.edition.name} does not "
                "have it.",
                "Check these numbers by the tariff, or ask the operator to import a whole edition.",
                _cite(known.edition),
            )


def _check_line(line: Line, here: str, tariff: TariffOnDay, edition: TariffEdition, on: date) -> Iterator[Finding]:
    for pointer, claimed in _list_claims(line):
        if tariff.covers(claimed) and not tariff.has_provision(without_dots(claimed)):
            yield Finding.warning(
                "H01",
                f"{here}/{pointer}",
                f"Line {line.line_ref}: edition {edition.name} of the tariff does not have {claimed}.",
                "Correct it, or ask the operator whether a newer edition has it.",
                _cite(edition),
            )
    if not tariff.covers(line.hts_code):
        return
    number = tariff.find_number(line.hts_code)
    if number is None:
        yield _missing_number(line, here, tariff, edition, on)
        return
    if not number.has_suffix:
        yield Finding.note(
            "H01",
            f"{here}/htsCode",
            f"Line {line.line_ref}: edition {edition.name} has {format_number(number.row.number)} without statistical "
            "suffixes, so the last two digits were not checked.",
            "Check them by the statistical notes of the chapter.",
            _cite(edition),
        )
    yield from _check_quantities(line, here, number, edition)
    yield from _check_preference(line, here, number, edition)


def _list_claims(line: Line) -> Iterator[tuple[str, str]]:
    """Yield what the line claims beside the number of its goods: where it is on the line, and the provision."""
    for place, row in enumerate(line.treatment.chapter99):
        yield f"treatment/chapter99/{place}/heading", row.heading
    if line.chapter98 is not None:
        yield "chapter98/provision", line.chapter98.provision


def _missing_number(line: Line, here: str, tariff: TariffOnDay, edition: TariffEdition, on: date) -> Finding:
    suffixes = [f"{format_number(row.number)} ({row.description})" for row in tariff.list_suffixes(line.hts_code)]
    number = format_number(line.hts_code)
    if suffixes:
        remedy = f"Give one of its statistical suffixes: {'; '.join(suffixes[:_MAX_NAMED])}."
        message = f"{format_number(line.hts_code[:8])} exists, but {number} does not"
    else:
        remedy = "Correct the tariff number."
        message = f"tariff number {number} does not exist"
    return Finding(
        rule="H01",
        severity=judge_edition(edition, on),
        pointer=f"{here}/htsCode",
        message=f"Line {line.line_ref}: {message} in edition {edition.name} of the tariff.",
        remedy=remedy
        if judge_edition(edition, on) == "block"
        else f"{remedy} The edition is old: ask for a newer one.",
        source=_cite(edition),
    )


def _check_quantities(line: Line, here: str, number: TariffNumber, edition: TariffEdition) -> Iterator[Finding]:
    rules = unit_rules()
    units = [(name, rules.find_unit(name)) for name in number.row.units]
    unknown = [name for name, unit in units if unit is None]
    if unknown:
        yield Finding.note(
            "H03",
            f"{here}/unit",
            f"Line {line.line_ref}: the tariff asks for a quantity in {join_words(unknown)}, which this service does not "
            "know.",
            "Check the quantities of the entry by the tariff.",
            _cite(edition),
        )
        return
    wanted = [unit.code for _, unit in units if unit is not None and unit.code not in rules.without_quantity]
    stated = [each.unit for each in line.entry_quantities] or [line.unit]
    if not wanted or _same_units(stated, wanted):
        return
    asked = join_words(f"{code} ({name})" for code, (name, _) in zip(wanted, units, strict=False))
    yield Finding.warning(
        "H03",
        f"{here}/entryQuantities" if line.entry_quantities else f"{here}/unit",
        f"Line {line.line_ref}: the entry needs {asked} for {format_number(line.hts_code)}, "
        f"but the plan has {join_words(stated)}.",
        " ".join(_propose(line, wanted)),
        _cite(edition),
    )


def _same_units(stated: Sequence[str], wanted: Sequence[str]) -> bool:
    # NO and PCS, or G and GM, are two codes of the same unit.
    rules = unit_rules()
    return [rules.unify(code) for code in stated] == [rules.unify(code) for code in wanted]


def _propose(line: Line, wanted: Sequence[str]) -> Iterator[str]:
    """Yield what to give as entry quantities: each exact quantity with its source, and each that only a person knows."""
    rules = unit_rules()
    known, unknown = [], []
    for code in wanted:
        exact = find_exact_quantity(line, code, rules)
        if exact is None:
            unknown.append(code)
        else:
            known.append(f"{format_plain(rules.round_quantity(exact[0]))} {code} ({exact[1]})")
    if known:
        yield f"Give as entryQuantities {join_words(known)}."
    if unknown:
        yield f"Ask for the quantity in {join_words(unknown)}: it does not follow from {line.unit}."


def _check_preference(line: Line, here: str, number: TariffNumber, edition: TariffEdition) -> Iterator[Finding]:
    general = number.general
    if line.spi is None or general is None or general.kind == "free":
        return  # a claim for free goods is about fees, and its column is empty
    programs = [program for each in number.special for program in each.programs]
    if line.spi in programs or f"{line.spi}*" in programs:
        return
    unread = any(not each.programs for each in number.special)
    yield Finding(
        rule="H05",
        severity="note" if unread else "warn",
        pointer=f"{here}/spi",
        message=f"Line {line.line_ref} claims {line.spi}, but the special rates of {format_number(number.rate_row.number)} "
        + (f"are for {join_words(programs)}." if programs else "do not name it."),
        remedy="Read the special column of the tariff."
        if unread
        else "Remove the claim, or correct the tariff number.",
        source=f"{_cite(edition)}: {number.rate_row.special or 'no special rate'}",
    )


def _cite(edition: TariffEdition) -> str:
    return f"HTSUS, {cite_edition(edition)}"
