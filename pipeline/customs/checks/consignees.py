"""Checks of the entry's ultimate consignees: their numbers, and which goods each of them receives (F01, F02)."""

from collections.abc import Iterator
from datetime import date

from pipeline.core.field_types import is_social_security_number
from pipeline.core.findings import Finding
from pipeline.customs.reference.base import join_words
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.filing import filing_rules
from pipeline.exports.consignees import Recipients, list_recipients
from pipeline.exports.schemas.parties import UltimateConsignee
from pipeline.exports.schemas.plan import REFERENCES, Unit

#: The most orders or packages that one finding names.
_MAX_NAMED = 4


def check_consignees(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    """Yield what is wrong with the ultimate consignees of an entry on the day `on`; nothing if the plan names none."""
    here = f"{pointer}/parties/ultimateConsignees"
    consignees = unit.parties.ultimate_consignees
    for place, consignee in enumerate(consignees):
        yield from _check_number(unit, consignee, f"{here}/{place}", on)
        yield from _check_country(consignee, f"{here}/{place}/address/country")
    if consignees:
        yield from _check_references(unit, here)
        yield from _check_goods(unit, pointer, on)


def check_number(number: str, what: str, pointer: str, rule: str) -> Iterator[Finding]:
    """Yield what is wrong with the form of a party's number, without repeating it; `what` names the number."""
    rules = entry_rules()
    if rules.match_importer_number(number) is None:
        forms = join_words(f"{form.example} ({form.name})" for form in rules.importer_numbers.forms)
        yield rules.importer_numbers.finding(
            rule,
            pointer,
            f"{what} has none of the forms that CBP accepts.",
            f"Write it in one of these forms: {forms}. An IRS number ends in a two-character suffix, mostly 00.",
        )
    if is_social_security_number(number):
        yield rules.importer_numbers.warning(
            "F01-SSN",
            pointer,
            f"{what} has the form of a Social Security number.",
            "Use an IRS number, or one that CBP assigns (form 5106). Otherwise the broker's data contains it in full; "
            "printed pages, e-mails and screens show only its last four digits.",
        )


def _check_number(unit: Unit, consignee: UltimateConsignee, here: str, on: date) -> Iterator[Finding]:
    if consignee.number is not None:
        yield from check_number(consignee.number, f"The number of consignee {consignee.name}", f"{here}/number", "F01")
        if consignee.same_as_importer and consignee.number != unit.parties.importer_of_record.importer_number:
            yield Finding.blocking(
                "F01",
                f"{here}/number",
                f"The plan marks consignee {consignee.name} as importer of record; its number differs.",
                "Remove the number, or set sameAsImporter to false.",
                REFERENCES,
            )
        return
    needed = filing_rules().consignee_number
    if not consignee.same_as_importer and unit.entry.type in needed.entry_types and needed.in_force(on):
        yield needed.warning(
            "F01",
            f"{here}/number",
            f"Consignee {consignee.name} has no number, and the entry type is {unit.entry.type}.",
            "Ask the consignee for its IRS number, or for the number that CBP assigned (form 5106). Set sameAsImporter "
            "to true if it is the importer of record.",
        )


def _check_country(consignee: UltimateConsignee, here: str) -> Iterator[Finding]:
    rules = entry_rules()
    if consignee.address.country != rules.destination:
        yield filing_rules().consignee_number.warning(
            "F01",
            here,
            f"Consignee {consignee.name} is in {consignee.address.country}, not in {rules.destination}.",
            "Name the party in the United States that receives the goods, or ask the broker whom to name.",
        )


def _check_references(unit: Unit, here: str) -> Iterator[Finding]:
    orders = {line.order_id for line in unit.lines} | {package.order_id for package in unit.packages}
    packages = {package.package_ref for package in unit.packages}
    for key, name, noun, known in (
        ("orderIds", "order_ids", "order", orders),
        ("packageRefs", "package_refs", "package", packages),
    ):
        seen: set[str] = set()
        for place, consignee in enumerate(unit.parties.ultimate_consignees):
            for at, reference in enumerate(getattr(consignee, name)):
                if reference not in known or reference in seen:
                    fault = "is named for two consignees" if reference in seen else f"is not in unit {unit.unit_ref}"
                    yield Finding.blocking(
                        "F02",
                        f"{here}/{place}/{key}/{at}",
                        f"{noun.capitalize()} {reference} of consignee {consignee.name} {fault}.",
                        f"Name each {noun} of the unit for one consignee.",
                        REFERENCES,
                    )
                seen.add(reference)


def _check_goods(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    several = filing_rules().several_consignees
    recipients = list_recipients(unit)
    missing = [line.line_ref for line, each in zip(unit.lines, recipients, strict=True) if not each.complete]
    if missing:
        yield several.warning(
            "F02",
            f"{pointer}/parties/ultimateConsignees",
            f"Goods of {_name_some(missing)} have no ultimate consignee.",
            "Name their orders or packages for a consignee.",
        )
    yield from _check_shared_lines(unit, recipients, pointer, on)


def _check_shared_lines(unit: Unit, recipients: list[Recipients], pointer: str, on: date) -> Iterator[Finding]:
    several = filing_rules().several_consignees
    if not several.in_force(on):
        return
    shared = [place for place, each in enumerate(recipients) if len(each.places) > 1]
    if shared:
        yield several.warning(
            "F02",
            f"{pointer}/lines/{shared[0]}",
            f"Goods of {_name_some([unit.lines[place].line_ref for place in shared])} go to several consignees, and an "
            "entry line names one.",
            "Divide the line by consignee, or ask the broker for separate entries.",
        )


def _name_some(refs: list[str]) -> str:
    noun = "line" if len(refs) == 1 else "lines"
    more = len(refs) - _MAX_NAMED
    return f"{noun} {join_words([*refs[:_MAX_NAMED], *([f'{more} more'] if more > 0 else [])])}"
