"""Checks of the Canadian side of the export: the declaration or why none is required, the business number, the permits."""

import re
from collections.abc import Iterator
from decimal import Decimal

from pipeline.core.findings import Finding
from pipeline.core.money import sum_exact
from pipeline.customs.checks.transport import is_shipment_number
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.transport import transport_rules
from pipeline.exports.schemas.plan import Plan, Unit
from pipeline.exports.schemas.transport import CanadianExport

_CANADA = "CA"
#: The names of a party's identifiers that say a Canadian business number.
_BUSINESS_NUMBERS = ("BN", "businessNumber")


# The other country's customs decides here, so none of these findings blocks.
def check_export_report(plan: Plan) -> Iterator[Finding]:
    """Yield what is missing or contradictory on the Canadian side of each unit that has one (C10 to C14).

    The seller's business number is checked in every unit.
    """
    for index, unit in enumerate(plan.units):
        for name in _BUSINESS_NUMBERS:
            at = f"/units/{index}/parties/seller/identifiers/{name}"
            yield from _check_number(unit, unit.parties.seller.identifiers.get(name), "seller", at)
        if unit.canadian_export is not None:
            here = f"/units/{index}/canadianExport"
            if plan.export_country != _CANADA:
                yield transport_rules().export_report.warning(
                    "C12",
                    here,
                    f"Unit {unit.unit_ref} has a Canadian export side, but the plan's goods leave {plan.export_country}.",
                    "Remove canadianExport, or correct exportCountry.",
                )
            yield from _check_number(unit, unit.canadian_export.business_number, "exporter", f"{here}/businessNumber")
            yield from _check_cargo_number(unit, unit.canadian_export, here)
            if unit.canadian_export.declaration == "not_required":
                yield from _check_no_declaration(unit, unit.canadian_export, here)
            else:
                yield from _check_declaration(unit, unit.canadian_export, here)
            yield from _check_permits(unit, unit.canadian_export, here)


def _check_number(unit: Unit, number: str | None, whose: str, here: str) -> Iterator[Finding]:
    # The number of a seller is free text: one without nine digits at its beginning is another number.
    digits = re.match(r"\d{9}(?!\d)", (number or "").replace(" ", ""))
    if digits is not None and not is_business_number(digits[0]):
        yield transport_rules().business_number.warning(
            "C10",
            here,
            f"Business number {number} of unit {unit.unit_ref} has a wrong check digit.",
            f"Copy the {whose}'s number again: nine digits, two letters of the program such as RM, and four digits.",
        )


def _check_cargo_number(unit: Unit, side: CanadianExport, here: str) -> Iterator[Finding]:
    number, rules = side.cargo_control_number, transport_rules()
    if is_shipment_number(number, unit):
        row = rules.cargo_control_number or rules.control_number
        yield row.warning(
            "C14",
            f"{here}/cargoControlNumber",
            f"Unit {unit.unit_ref} has {number} as the number of its U.S. entry and as its Canadian cargo control number.",
            "Ask the carrier for both: the PAPS number begins with its SCAC, the cargo control number with the carrier code "
            "that Canada's customs gave it.",
        )


def _check_declaration(unit: Unit, side: CanadianExport, here: str) -> Iterator[Finding]:
    rule = transport_rules().export_report
    if side.business_number is None:
        yield rule.warning(
            "C10",
            f"{here}/businessNumber",
            f"Unit {unit.unit_ref} has an export declaration, but not the exporter's business number.",
            "Give the number with which the exporter reports: nine digits, RM and four digits.",
        )
    if side.proof_of_report is None:
        yield rule.warning(
            "C11",
            f"{here}/proofOfReport",
            f"Unit {unit.unit_ref} has an export declaration, but not the number that proves it.",
            "Give the number that CERS returns for the declaration, or that of the summary reporter; the carrier needs it.",
        )
    if side.no_declaration_code is not None:
        yield rule.warning(
            "C12",
            f"{here}/noDeclarationCode",
            f"Unit {unit.unit_ref} has an export declaration, and also {side.no_declaration_code}, "
            "which says that none is required.",
            "Remove the code, or set declaration to not_required.",
        )


def _check_no_declaration(unit: Unit, side: CanadianExport, here: str) -> Iterator[Finding]:
    rule, code = transport_rules().no_declaration, side.no_declaration_code
    at = f"{here}/noDeclarationCode"
    if code is None and side.statement is None:
        yield rule.warning(
            "C11",
            at,
            f"Unit {unit.unit_ref} does not say why no export declaration is required.",
            "Give the code for the carrier, such as NDR1 for unrestricted goods for the United States, or a statement.",
        )
    if code is not None and code not in rule.codes:
        yield rule.warning(
            "C12",
            at,
            f"{code} of unit {unit.unit_ref} is not a code that these rules know.",
            "Compare it with the list of the Canada Border Services Agency.",
        )
    if code in rule.with_number and side.statement is None:
        yield rule.warning(
            "C11",
            f"{here}/statement",
            f"{code} of unit {unit.unit_ref} needs the number of the carnet or of the temporary admission permit.",
            "Write the number in the statement.",
        )
    if code in rule.unrestricted and side.permits:
        yield rule.warning(
            "C12",
            at,
            f"{code} is for goods that are not restricted, but unit {unit.unit_ref} names a permit, certificate or licence.",
            "Remove the code and say in the statement that restricted goods are exported under it.",
        )
    value = _value_in_cad(unit)
    if code == rule.low_value and value is not None and value >= rule.low_value_below_cad:
        yield rule.warning(
            "C12",
            at,
            f"{code} is for goods worth less than {rule.low_value_below_cad} CAD, but unit {unit.unit_ref} "
            f"is worth {value:,.2f} CAD.",
            "Use another code, such as NDR1 for unrestricted goods for the United States, or declare the goods.",
        )
    if code == "NDR1" and unit.parties.ship_to.address.country != entry_rules().destination:
        yield rule.warning(
            "C12",
            at,
            f"NDR1 is for goods for the United States, but unit {unit.unit_ref} goes elsewhere.",
            "Use another code, or declare the goods in CERS.",
        )


def _check_permits(unit: Unit, side: CanadianExport, here: str) -> Iterator[Finding]:
    for place, permit in enumerate(side.permits):
        if permit.expires_on is not None and permit.expires_on < unit.entry.export_date:
            yield transport_rules().export_report.warning(
                "C13",
                f"{here}/permits/{place}/expiresOn",
                f"The {permit.kind} {permit.number} of unit {unit.unit_ref} expires on {permit.expires_on}, "
                f"before the export on {unit.entry.export_date}.",
                "Name one that is valid on the day of export.",
            )


def _value_in_cad(unit: Unit) -> Decimal | None:
    """Return the value of the unit's goods in Canadian dollars; None if the invoice is in another currency."""
    if unit.invoice.currency != "CAD":
        return None
    return sum_exact(line.line_value for line in unit.lines)


def is_business_number(digits: str) -> bool:
    """Return whether the last of nine digits is the check digit of a business number: modulus 10, weights 1 and 2."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(digits))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0
