"""Runs all customs checks on a plan before it is executed: one finding per problem, with its remedy."""

from collections.abc import Iterator, Sequence
from datetime import date

from pipeline.core.findings import Finding
from pipeline.customs.chapter99 import checks
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.checks import lines, mid
from pipeline.customs.checks.characters import check_characters
from pipeline.customs.checks.consignees import check_consignees
from pipeline.customs.checks.entry import check_entry
from pipeline.customs.checks.export_report import check_export_report
from pipeline.customs.checks.filing import check_filing
from pipeline.customs.checks.goods import check_names
from pipeline.customs.checks.informal import check_one_entry
from pipeline.customs.checks.limits import check_limits, check_parts
from pipeline.customs.checks.manifest import check_carriage
from pipeline.customs.checks.parties import check_countries, check_parties, country_finding
from pipeline.customs.checks.people import check_people
from pipeline.customs.checks.terms import check_terms
from pipeline.customs.checks.transport import check_transport, check_trips
from pipeline.customs.checks.usmca import check_certificates, check_statement
from pipeline.customs.checks.valuation import check_charges
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.tariff.facts import TariffFacts
from pipeline.exports.schemas.plan import REFERENCES, Plan, Unit

#: What the export of a plan keeps of the tariff, for each unit; None without any edition.
KeptTariff = Sequence[TariffFacts | None] | None


def check_plan(plan: Plan, *, on: date, kept: KeptTariff = None) -> list[Finding]:
    """Return the findings of the plan, unit by unit: what customs would refuse, query or want explained.

    Dated rules apply by the expected day of entry of each unit, so the result does not depend on the day of the check.
    `on` is the day of the check; it only shows whether the day of entry has passed. `kept` has the rates of the goods, on which
    headings of chapter 99 may depend.
    """
    return [*check_hashed_part(plan, on=on, kept=kept), *check_approval_texts(plan)]


def check_hashed_part(plan: Plan, *, on: date, kept: KeptTariff = None) -> list[Finding]:
    """Return what `check_plan` finds in the part of the plan that the plan hash covers: all but the approval."""
    return list(_check_plan(plan, on, kept or [None] * len(plan.units)))


def check_approval_texts(plan: Plan) -> Iterator[Finding]:
    """Yield what `check_plan` finds in the approval."""
    if plan.approval is not None:
        yield from check_characters(plan.approval, "/approval")


def _check_plan(plan: Plan, on: date, kept: Sequence[TariffFacts | None]) -> Iterator[Finding]:
    destination = entry_rules().destination
    if plan.destination_country != destination:
        yield Finding.blocking(
            "V25",
            "/destinationCountry",
            f"The plan's destination is {plan.destination_country}; this service only knows the rules of {destination}.",
            f"Set destinationCountry to {destination}, or do not execute the plan with this service.",
            entry_rules().consignee.source,
        )
    if plan.export_country not in entry_rules().countries.codes:
        yield country_finding("/exportCountry", plan.export_country)
    yield from checks.check_ruleset(plan)
    yield from check_characters(plan.ruleset, "/ruleset")
    refs: set[str] = set()
    numbers: set[str] = set()
    for index, unit in enumerate(plan.units):
        pointer = f"/units/{index}"
        if unit.unit_ref in refs:
            yield Finding.blocking(
                "V24",
                f"{pointer}/unitRef",
                f"Unit {unit.unit_ref} is in the plan twice.",
                "Give each unit its own unitRef.",
                REFERENCES,
            )
        if unit.invoice.number in numbers:
            yield entry_rules().invoice_number.warning(
                "V24",
                f"{pointer}/invoice/number",
                f"More than one unit uses invoice number {unit.invoice.number}.",
                "Give each commercial invoice its own number.",
            )
        refs.add(unit.unit_ref)
        numbers.add(unit.invoice.number)
        yield from _check_unit(plan, unit, pointer, on, kept[index])
    yield from check_parts(plan.units)
    yield from check_trips(plan)
    yield from check_one_entry(plan)
    yield from check_export_report(plan)


def _check_unit(plan: Plan, unit: Unit, pointer: str, on: date, kept: TariffFacts | None) -> Iterator[Finding]:
    entered_on = entry_date(unit)
    yield from check_entry(unit, pointer, on)
    yield from check_limits(unit, pointer, entered_on)
    yield from check_filing(plan, unit, pointer)
    yield from check_consignees(unit, pointer, entered_on)
    yield from check_countries(unit, pointer)
    yield from check_parties(unit, pointer, entered_on)
    yield from check_people(unit, pointer)
    yield from mid.check_mids(unit, pointer)
    yield from check_terms(unit, pointer)
    yield from check_charges(unit, pointer)
    yield from check_names(unit, pointer)
    yield from check_certificates(unit, pointer)
    yield from check_statement(unit, pointer)
    yield from lines.check_lines(unit, pointer, entered_on, kept)
    yield from check_carriage(unit, pointer)
    yield from check_transport(unit, pointer)
    yield from check_characters(unit, pointer)
