"""The findings about a broker's own file: facts of a plan that its format lacks, shortens, respells or cannot carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from pipeline.core.findings import Finding, Severity
from pipeline.documents.formats import x12
from pipeline.documents.formats.x12_invoice import MOST_ADJUSTMENTS
from pipeline.documents.schemas.profile import MessageProfile
from pipeline.exports.schemas.plan import Address, Plan, Unit

#: The rules: a fact that the file has a place for, but not the plan; a fact that the file cannot carry as it is.
LACKS, CHANGES = "F01", "F02"

#: The most digits of elements 358, 382 and 280, of 212, and of 384.
_QUANTITY_DIGITS, _PRICE_DIGITS, _WEIGHT_DIGITS = 10, 17, 9
_CITY: Final = 30

_SOURCE: Final = "ASC X12 004010, transaction sets 810 and 856"


def check_file(profile: MessageProfile, plan: Plan) -> list[Finding]:
    """Return the findings about the message that the profile makes of the plan."""
    return [finding for check in _CHECKS[profile.format] for finding in check(plan)]


def _check_x12(plan: Plan) -> Iterator[Finding]:
    for place, unit in enumerate(plan.units):
        here = f"/units/{place}"
        yield from _check_numbers(unit, here)
        yield from _check_lengths(unit, here)
        yield from _check_characters(unit, here)
        for name, value, segments in (
            ("carrierScac", unit.entry.carrier_scac, "CAD and TD5"),
            ("shipmentControlNumber", unit.entry.shipment_control_number, "REF CN"),
        ):
            if value is None:
                yield _make_finding(
                    LACKS, "note", f"{here}/entry/{name}", f"The X12 file is without {segments}, because {name} is not given.",
                    f"Give {name}, or agree with the broker that it is not needed.",
                )  # fmt: skip


def _check_numbers(unit: Unit, here: str) -> Iterator[Finding]:
    invoice = unit.invoice
    for place, charge in enumerate(invoice.charges):
        yield from _check_cents(charge.amount, f"{here}/invoice/charges/{place}/amount")
    for place, discount in enumerate(invoice.discounts):
        yield from _check_cents(discount.amount, f"{here}/invoice/discounts/{place}/amount")
    yield from _check_cents(invoice.total, f"{here}/invoice/total")
    if len(invoice.charges) + len(invoice.discounts) > MOST_ADJUSTMENTS:
        count = len(invoice.charges) + len(invoice.discounts)
        yield _refuse(
            f"{here}/invoice/charges", f"The invoice has {count} charges and discounts, and X12 carries {MOST_ADJUSTMENTS}.",
            "Add up those of one kind, or let the broker choose another format.",
        )  # fmt: skip
    if invoice.exchange_rate is not None:
        yield from _check_digits(invoice.exchange_rate, _QUANTITY_DIGITS, f"{here}/invoice/exchangeRate")
    for place, line in enumerate(unit.lines):
        yield from _check_digits(line.quantity, _QUANTITY_DIGITS, f"{here}/lines/{place}/quantity")
        yield from _check_digits(line.unit_price, _PRICE_DIGITS, f"{here}/lines/{place}/unitPrice")
    for place, package in enumerate(unit.packages):
        yield from _check_digits(package.gross_weight_kg, _WEIGHT_DIGITS, f"{here}/packages/{place}/grossWeightKg")
        for number, content in enumerate(package.contents):
            pointer = f"{here}/packages/{place}/contents/{number}/quantity"
            yield from _check_digits(content.quantity, _QUANTITY_DIGITS, pointer)


def _check_cents(amount: Decimal, pointer: str) -> Iterator[Finding]:
    if amount.scaleb(2) % 1:
        yield _refuse(
            pointer, f"The amount {amount:f} has more than two decimals, and X12 carries two.",
            "Round it to two decimals, or let the broker choose another format.",
        )  # fmt: skip


def _check_digits(value: Decimal, most: int, pointer: str) -> Iterator[Finding]:
    if x12.count_digits(value) > most:
        yield _refuse(
            pointer, f"The number {value:f} has more than {most} digits, and X12 carries {most} there.",
            "Round it, or let the broker choose another format.",
        )  # fmt: skip


def _check_lengths(unit: Unit, here: str) -> Iterator[Finding]:
    long = [
        (pointer, text, most) for pointer, text, most in _list_lengths(unit) if text is not None and len(text) > most
    ]
    if long:
        pointer, text, most = long[0]
        others = f" and {len(long) - 1} more" if len(long) > 1 else ""
        yield _make_finding(
            CHANGES, "warn", f"{here}{pointer}",
            f"{text!r}{others} is longer than its place in the X12 file, which takes {most} characters: the rest is cut off.",
            "Shorten it, or let the broker choose another format.",
        )  # fmt: skip


def _list_lengths(unit: Unit) -> Iterator[tuple[str, str | None, int]]:
    """Yield the texts that are not divided over several segments, each with its pointer and its most characters."""
    invoice, parties = unit.invoice, unit.parties
    yield "/invoice/number", invoice.number, x12.NUMBER
    yield "/invoice/purchaseOrder", invoice.purchase_order, x12.NUMBER
    yield "/invoice/paymentTerms", invoice.payment_terms, x12.DESCRIPTION
    yield "/invoice/incotermPlace", invoice.incoterm_place, x12.DESCRIPTION
    for name, party in (("seller", parties.seller), ("buyer", parties.buyer), ("shipTo", parties.ship_to)):
        yield f"/parties/{name}/contact/name", party.contact.name if party.contact else None, x12.NAME
        for identifier, value in party.identifiers.items():
            yield f"/parties/{name}/identifiers/{identifier}", value, x12.DESCRIPTION
    yield "/parties/exporterContact/name", parties.exporter_contact.name, x12.NAME
    for pointer, address in _list_addresses(unit):
        yield f"{pointer}/city", address.city, _CITY
        for member, line in (("line1", address.line1), ("line2", address.line2)):
            yield f"{pointer}/{member}", line, 2 * x12.STREET
    for place, line_of_goods in enumerate(unit.lines):
        yield f"/lines/{place}/sku", line_of_goods.sku, x12.PRODUCT


def _check_characters(unit: Unit, here: str) -> Iterator[Finding]:
    found = [(pointer, text) for pointer, text in _list_texts(unit) if x12.has_unknown(text)]
    if found:
        pointer, text = found[0]
        others = f" and in {len(found) - 1} more texts" if len(found) > 1 else ""
        yield _make_finding(
            CHANGES, "warn", f"{here}{pointer}",
            f"X12 cannot carry all characters of {text!r}: the file has a question mark for each of them there{others}.",
            "Give the text in Latin letters, or let the broker choose another format.",
        )  # fmt: skip


def _list_addresses(unit: Unit) -> Iterator[tuple[str, Address]]:
    parties = unit.parties
    for name, party in (("seller", parties.seller), ("buyer", parties.buyer), ("shipTo", parties.ship_to)):
        yield f"/parties/{name}/address", party.address
    if parties.importer_of_record.address is not None:
        yield "/parties/importerOfRecord/address", parties.importer_of_record.address
    for place, maker in enumerate(parties.manufacturers):
        yield f"/parties/manufacturers/{place}/address", maker.address


def _list_texts(unit: Unit) -> Iterator[tuple[str, str]]:
    parties = unit.parties
    named = (("seller", parties.seller), ("buyer", parties.buyer), ("shipTo", parties.ship_to))
    for name, party in named:
        yield f"/parties/{name}/name", party.name
    for place, maker in enumerate(parties.manufacturers):
        yield f"/parties/manufacturers/{place}/name", maker.name
    for pointer, address in _list_addresses(unit):
        for member, text in (("line1", address.line1), ("line2", address.line2), ("city", address.city)):
            if text is not None:
                yield f"{pointer}/{member}", text
    for place, line in enumerate(unit.lines):
        yield f"/lines/{place}/description", line.description
        yield f"/lines/{place}/sku", line.sku


_CHECKS: Final[Mapping[str, Sequence[Callable[[Plan], Iterator[Finding]]]]] = {"x12": (_check_x12,)}


def _refuse(pointer: str, message: str, remedy: str) -> Finding:
    return _make_finding(CHANGES, "block", pointer, message, remedy)


def _make_finding(rule: str, severity: Severity, pointer: str, message: str, remedy: str) -> Finding:
    return Finding(rule=rule, severity=severity, pointer=pointer, message=message, remedy=remedy, source=_SOURCE)
