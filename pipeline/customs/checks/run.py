"""The customs rules that a plan is held to before anything is made of it: one finding a breach, with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from pipeline.core.findings import Finding
from pipeline.customs.chapter99 import checks
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.checks import lines, mid
from pipeline.customs.checks.characters import check_characters
from pipeline.customs.checks.entry import check_entry
from pipeline.customs.checks.goods import check_names
from pipeline.customs.checks.manifest import check_carriage
from pipeline.customs.checks.parties import check_countries, check_parties, country_finding
from pipeline.customs.checks.people import check_people
from pipeline.customs.checks.terms import check_terms
from pipeline.customs.checks.usmca import check_certificates
from pipeline.customs.reference.entry import entry_rules
from pipeline.exports.schemas.plan import REFERENCES, Plan, Unit


def check_plan(plan: Plan, *, on: date) -> list[Finding]:
    """Return what customs would refuse, query or want explained, unit by unit.

    Effective-dated rules are judged by the day that each unit is expected to be entered, so that a plan is judged alike
    whenever it is looked at. `on` is the day of looking: it tells whether that day has passed.
    """
    return list(_check_plan(plan, on))


def _check_plan(plan: Plan, on: date) -> Iterator[Finding]:
    destination = entry_rules().destination
    if plan.destination_country != destination:
        yield Finding(
            rule="V25",
            severity="block",
            pointer="/destinationCountry",
            message=f"The plan goes to {plan.destination_country}; its rules are those of {destination}.",
            remedy=f"Execute exports to {destination} here.",
            source=entry_rules().consignee.source,
        )
    if plan.export_country not in entry_rules().countries.codes:
        yield country_finding("/exportCountry", plan.export_country)
    yield from checks.check_ruleset(plan)
    for pointer, part in (("/approval", plan.approval), ("/ruleset", plan.ruleset)):
        if part is not None:
            yield from check_characters(part, pointer)
    refs: set[str] = set()
    numbers: set[str] = set()
    for index, unit in enumerate(plan.units):
        pointer = f"/units/{index}"
        if unit.unit_ref in refs:
            yield Finding(
                rule="V24",
                severity="block",
                pointer=f"{pointer}/unitRef",
                message=f"Unit {unit.unit_ref} is in the plan twice.",
                remedy="Give every unit a unitRef of its own.",
                source=REFERENCES,
            )
        if unit.invoice.number in numbers:
            yield Finding(
                rule="V24",
                severity="warn",
                pointer=f"{pointer}/invoice/number",
                message=f"Invoice number {unit.invoice.number} is used by more than one unit.",
                remedy="Give every commercial invoice a number of its own.",
                source=entry_rules().invoice_number.source,
            )
        refs.add(unit.unit_ref)
        numbers.add(unit.invoice.number)
        yield from _check_unit(unit, pointer, on)


def _check_unit(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    entered_on = entry_date(unit)
    yield from check_entry(unit, pointer, on)
    yield from check_countries(unit, pointer)
    yield from check_parties(unit, pointer)
    yield from check_people(unit, pointer)
    yield from mid.check_mids(unit, pointer)
    yield from check_terms(unit, pointer)
    yield from check_names(unit, pointer)
    yield from check_certificates(unit, pointer)
    yield from lines.check_lines(unit, pointer, entered_on)
    yield from check_carriage(unit, pointer)
    yield from check_characters(unit, pointer)
