"""The findings about a broker's own file: facts of a plan that its format lacks, shortens, respells or cannot carry."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

from pydantic.alias_generators import to_snake

from pipeline.core.findings import Finding
from pipeline.documents.formats import catair, universal_shipment, x12
from pipeline.documents.formats.entry_records import MOST_LINES
from pipeline.documents.formats.x12_invoice import MOST_ADJUSTMENTS, MOST_CONSIGNEES, MOST_NOTES, find_unit
from pipeline.documents.schemas.profile import MessageProfile
from pipeline.exports.schemas.plan import Address, Plan, Unit

#: The rules: a fact that the file has a place for, but not the plan; a fact that the file cannot carry as it is.
LACKS, CHANGES = "B01", "B02"

#: The most characters of elements 19, 310, 87 and 116.
_CITY, _REGION, _MARK, _POSTAL_CODE = 30, 30, 48, 15

#: The most lines of notes that the short facts of the entry's filing and of the truck take.
_SHORT_NOTES: Final = 45

_X12: Final = "ASC X12 004010, transaction sets 810 and 856"
_CARGOWISE: Final = "schema of CargoWise Universal Shipment XML, as of 2019-11"


def check_file(profile: MessageProfile, plan: Plan) -> list[Finding]:
    """Return the findings about the message that the profile makes of the plan."""
    check = _CHECKS[profile.format]
    return [finding for place, unit in enumerate(plan.units) for finding in check(profile, unit, f"/units/{place}")]


def _check_x12(profile: MessageProfile, unit: Unit, here: str) -> Iterator[Finding]:
    yield from _check_numbers(unit, here)
    yield from _check_notes(unit, here)
    yield from _check_lengths(_list_lengths(unit), here, "X12 file", _X12)
    yield from _check_units(profile, unit, here)
    yield from _check_characters(unit, here, "X12 file")
    if unit.entry.carrier_scac is None:
        yield _lacks(f"{here}/entry/carrierScac", "X12 file", "CAD and TD5")
    if unit.entry.shipment_control_number is None:
        yield _lacks(f"{here}/entry/shipmentControlNumber", "X12 file", "REF CN")


def _check_shipment(profile: MessageProfile, unit: Unit, here: str) -> Iterator[Finding]:
    yield from _check_lengths(_list_shipment_lengths(unit), here, "CargoWise file", _CARGOWISE)
    codes = {} if profile.universal_shipment is None else profile.universal_shipment.organization_codes
    parties = unit.parties
    for member, name in (
        ("seller", parties.seller.name),
        ("importerOfRecord", parties.importer_of_record.name or parties.buyer.name),
    ):
        if name not in codes:
            yield Finding.note(
                LACKS, f"{here}/parties/{member}",
                f"The CargoWise file has no organization code of {name!r}; the broker's system must find it by name and address.",
                "Ask the broker for the code, and add it to organizationCodes of its messageProfile.",
                _CARGOWISE,
            )  # fmt: skip


def _check_records(profile: MessageProfile, unit: Unit, here: str) -> Iterator[Finding]:
    entry, file = unit.entry, "file of entry records"
    yield from _check_lengths(_list_record_lengths(unit), here, file, catair.SOURCE)
    yield from _check_characters(unit, here, file)
    for member, value, columns in (
        ("carrierScac", entry.carrier_scac, "20 columns 3 to 6 and the issuer of the bill"),
        ("shipmentControlNumber", entry.shipment_control_number, "23 columns 8 to 19, SE15 columns 10 to 59"),
        ("manifestQuantity", entry.manifest_quantity, "22 columns 3 to 10, SE15 columns 60 to 67"),
        ("estimatedArrivalAt", entry.estimated_arrival_at, "20 columns 11 to 16"),
    ):
        if value is None:
            yield _lacks(f"{here}/entry/{member}", file, columns)
    for member, columns in (
        ("entryNumber", "10 columns 9 to 16, SE10 columns 11 to 18"),
        ("bond", "31, SE10 column 39"),
        ("payment", "10 columns 51 to 61"),
    ):
        if entry.filing is None or getattr(entry.filing, to_snake(member)) is None:
            yield _lacks(f"{here}/entry/filing/{member}", file, columns)
    if unit.invoice.exchange_rate is None and unit.invoice.currency != "USD":
        yield _lacks(f"{here}/invoice/exchangeRate", file, "50 columns 25 to 34, SE10 columns 40 to 49")
    if entry.mode_of_transport == "other":
        yield _lacks(f"{here}/entry/modeOfTransport", file, "10 columns 36 to 37, SE10 columns 37 to 38")
    named = entry.filing is not None and (entry.filing.filer_code or entry.filing.entry_number)
    if profile.entry_records is not None and profile.entry_records.filer_code is None and not named:
        yield Finding.note(
            LACKS, "/broker/id", "The file of entry records is without a filer code: 10 columns 4 to 6, SE10 columns 6 to 8.",
            "Set filerCode in the broker's messageProfile.", catair.SOURCE,
        )  # fmt: skip
    if len(unit.lines) > MOST_LINES:
        yield Finding.warning(
            CHANGES, f"{here}/lines",
            f"The unit has {len(unit.lines)} lines, and an entry {MOST_LINES}: entry lines after these have no number.",
            "Divide the unit into several entries.", catair.SOURCE,
        )  # fmt: skip


def _check_numbers(unit: Unit, here: str) -> Iterator[Finding]:
    invoice = unit.invoice
    for place, charge in enumerate(invoice.charges):
        yield from _check_cents(charge.amount, f"{here}/invoice/charges/{place}/amount")
    for place, discount in enumerate(invoice.discounts):
        yield from _check_cents(discount.amount, f"{here}/invoice/discounts/{place}/amount")
    yield from _check_cents(invoice.total, f"{here}/invoice/total")
    consignees = len(unit.parties.ultimate_consignees)
    if consignees > MOST_CONSIGNEES:
        yield _refuse(
            f"{here}/parties/ultimateConsignees", f"The unit has {consignees} consignees, and X12 carries {MOST_CONSIGNEES}.",
            "Divide the unit, or let the broker choose another format.",
        )  # fmt: skip
    if len(invoice.charges) + len(invoice.discounts) > MOST_ADJUSTMENTS:
        count = len(invoice.charges) + len(invoice.discounts)
        yield _refuse(
            f"{here}/invoice/charges", f"The invoice has {count} charges and discounts, and X12 carries {MOST_ADJUSTMENTS}.",
            "Add up those of one kind, or let the broker choose another format.",
        )  # fmt: skip
    if invoice.exchange_rate is not None:
        yield from _check_digits(invoice.exchange_rate, x12.QUANTITY_DIGITS, f"{here}/invoice/exchangeRate")
    for place, line in enumerate(unit.lines):
        yield from _check_digits(line.quantity, x12.QUANTITY_DIGITS, f"{here}/lines/{place}/quantity")
        yield from _check_digits(line.unit_price, x12.PRICE_DIGITS, f"{here}/lines/{place}/unitPrice")
    for place, package in enumerate(unit.packages):
        yield from _check_digits(package.gross_weight_kg, x12.WEIGHT_DIGITS, f"{here}/packages/{place}/grossWeightKg")
        for number, content in enumerate(package.contents):
            pointer = f"{here}/packages/{place}/contents/{number}/quantity"
            yield from _check_digits(content.quantity, x12.QUANTITY_DIGITS, pointer)


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


def _check_notes(unit: Unit, here: str) -> Iterator[Finding]:
    invoice, filing, side = unit.invoice, unit.entry.filing, unit.canadian_export
    texts = [invoice.valuation_basis, invoice.usmca_statement, *(row.name for row in invoice.rebates)]
    texts += [row.name for row in invoice.assist_items]
    texts += [] if filing is None else [filing.location_of_goods]
    texts += [] if side is None else [side.statement, "|".join(permit.number for permit in side.permits)]
    # A name and an amount stand beside the text.
    lines = sum(len(x12.split_text(text, x12.DESCRIPTION // 2)) for text in texts)
    if lines + _SHORT_NOTES > MOST_NOTES:
        yield _refuse(
            f"{here}/invoice", f"The invoice's texts take up to {lines + _SHORT_NOTES} lines of notes, and X12 carries {MOST_NOTES}.",
            "Shorten valuationBasis, usmcaStatement, rebates or assistItems, or let the broker choose another format.",
        )  # fmt: skip


def _check_units(profile: MessageProfile, unit: Unit, here: str) -> Iterator[Finding]:
    if profile.x12 is None:
        return
    unknown = {
        line.unit: place
        for place, line in reversed([*enumerate(unit.lines)])
        if find_unit(line.unit, profile.x12) == x12.MUTUALLY_DEFINED
    }
    for code, place in unknown.items():
        yield Finding.note(
            CHANGES, f"{here}/lines/{place}/unit",
            f"X12 has no code of unit {code}: the file has {x12.MUTUALLY_DEFINED} in its place, and the unit as INVOICE UNIT.",
            f"Ask the broker for its code of {code}, and add it to x12.units of its messageProfile.",
            _X12,
        )  # fmt: skip


def _check_lengths(
    lengths: Iterable[tuple[str, str | None, int]], here: str, file: str, source: str
) -> Iterator[Finding]:
    long = [(pointer, text, most) for pointer, text, most in lengths if text is not None and len(text) > most]
    if long:
        pointer, text, most = long[0]
        others = f" and {len(long) - 1} more" if len(long) > 1 else ""
        yield Finding.warning(
            CHANGES, f"{here}{pointer}",
            f"{text!r}{others} is longer than its place in the {file}, which takes {most} characters: the rest is left out.",
            "Shorten it, or let the broker choose another format.",
            source,
        )  # fmt: skip


def _list_lengths(unit: Unit) -> Iterator[tuple[str, str | None, int]]:
    """Yield the texts that are not divided over several segments, each with its pointer and its most characters."""
    invoice, parties = unit.invoice, unit.parties
    yield "/invoice/number", invoice.number, x12.NUMBER
    yield "/invoice/purchaseOrder", invoice.purchase_order, x12.NUMBER
    yield "/invoice/paymentTerms", invoice.payment_terms, x12.DESCRIPTION
    yield "/invoice/incotermPlace", invoice.incoterm_place, x12.DESCRIPTION
    for name, party in (("seller", parties.seller), ("buyer", parties.buyer), ("shipTo", parties.ship_to)):
        if party.contact is not None:
            yield f"/parties/{name}/contact/name", party.contact.name, x12.NAME
            yield f"/parties/{name}/contact/email", party.contact.email, x12.DESCRIPTION
        for identifier, value in party.identifiers.items():
            yield f"/parties/{name}/identifiers/{identifier}", value, x12.DESCRIPTION
    yield "/parties/exporterContact/name", parties.exporter_contact.name, x12.NAME
    for pointer, address in _list_addresses(unit):
        yield f"{pointer}/city", address.city, _CITY
        yield f"{pointer}/region", address.region, _REGION
        yield f"{pointer}/postalCode", address.postal_code, _POSTAL_CODE
        for member, line in (("line1", address.line1), ("line2", address.line2)):
            yield f"{pointer}/{member}", line, 2 * x12.STREET
    for place, line_of_goods in enumerate(unit.lines):
        yield f"/lines/{place}/sku", line_of_goods.sku, x12.PRODUCT
    for place, package in enumerate(unit.packages):
        yield f"/packages/{place}/lpn", package.lpn, _MARK
        yield f"/packages/{place}/trackingNumber", package.tracking_number, _MARK


def _list_shipment_lengths(unit: Unit) -> Iterator[tuple[str, str | None, int]]:
    """Yield the texts of elements that CargoWise limits, each with its pointer and its most characters."""
    parties, most = unit.parties, universal_shipment.MOST
    yield "/invoice/number", unit.invoice.number, most["InvoiceNumber"]
    importer = parties.importer_of_record
    for name, party in (
        ("seller", parties.seller), ("importerOfRecord", importer), ("buyer", parties.buyer), ("shipTo", parties.ship_to),
    ):  # fmt: skip
        here = f"/parties/{name}"
        yield f"{here}/name", party.name, most["CompanyName"]
        yield f"{here}/contact/phone", None if party.contact is None else party.contact.phone, most["Phone"]
        if party.address is not None:
            yield f"{here}/address/line1", party.address.line1, most["Address1"]
            yield f"{here}/address/line2", party.address.line2, most["Address2"]
            yield f"{here}/address/city", party.address.city, most["City"]
            yield f"{here}/address/region", party.address.region, most["State"]
            yield f"{here}/address/postalCode", party.address.postal_code, most["Postcode"]
    for place, line in enumerate(unit.lines):
        yield f"/lines/{place}/description", line.description, most["Description"]
        yield f"/lines/{place}/orderId", line.order_id, most["OrderNumber"]
        yield f"/lines/{place}/sku", line.sku, most["PartNo"]


def _list_record_lengths(unit: Unit) -> Iterator[tuple[str, str | None, int]]:
    """Yield the texts that the records of an entry cut, each with its pointer and its most characters."""
    parties = unit.parties
    yield "/invoice/number", unit.invoice.number, _width("42", "invoice_number")
    for name, party in (("seller", parties.seller), ("buyer", parties.buyer), ("shipTo", parties.ship_to)):
        yield f"/parties/{name}/name", party.name, _width("SE30", "name")
    for place, maker in enumerate(parties.manufacturers):
        yield f"/parties/manufacturers/{place}/name", maker.name, _width("SE50", "name")
    for place, consignee in enumerate(parties.ultimate_consignees):
        yield f"/parties/ultimateConsignees/{place}/name", consignee.name, _width("SE50", "name")
    for pointer, address in _list_addresses(unit):
        # AE and SE have no address of the importer.
        if "/importerOfRecord/" not in pointer:
            yield f"{pointer}/line1", address.line1, _width("SE35", "address_1")
            yield f"{pointer}/line2", address.line2, _width("SE35", "address_2")
            yield f"{pointer}/city", address.city, _width("SE36", "city")
            yield f"{pointer}/region", address.region, _width("SE36", "region")
            yield f"{pointer}/postalCode", address.postal_code, _width("SE36", "postal_code")


def _width(record: str, name: str) -> int:
    return next(column.width for column in catair.list_columns(record) if column.name == name)


def _check_characters(unit: Unit, here: str, file: str) -> Iterator[Finding]:
    found = [(pointer, text) for pointer, text in _list_texts(unit) if x12.has_unknown(text)]
    if found:
        pointer, text = found[0]
        others = f" and in {len(found) - 1} more texts" if len(found) > 1 else ""
        yield Finding.warning(
            CHANGES, f"{here}{pointer}",
            f"The {file} cannot carry all characters of {text!r}: it has a question mark for each of them there{others}.",
            "Give the text in Latin letters, or let the broker choose another format.",
            catair.SOURCE if "records" in file else _X12,
        )  # fmt: skip


def _list_addresses(unit: Unit) -> Iterator[tuple[str, Address]]:
    parties = unit.parties
    for name, party in (("seller", parties.seller), ("buyer", parties.buyer), ("shipTo", parties.ship_to)):
        yield f"/parties/{name}/address", party.address
    if parties.importer_of_record.address is not None:
        yield "/parties/importerOfRecord/address", parties.importer_of_record.address
    for place, maker in enumerate(parties.manufacturers):
        yield f"/parties/manufacturers/{place}/address", maker.address
    for place, consignee in enumerate(parties.ultimate_consignees):
        yield f"/parties/ultimateConsignees/{place}/address", consignee.address


def _list_texts(unit: Unit) -> Iterator[tuple[str, str]]:
    parties = unit.parties
    named = (("seller", parties.seller), ("buyer", parties.buyer), ("shipTo", parties.ship_to))
    for name, party in named:
        yield f"/parties/{name}/name", party.name
    for place, maker in enumerate(parties.manufacturers):
        yield f"/parties/manufacturers/{place}/name", maker.name
    for place, consignee in enumerate(parties.ultimate_consignees):
        yield f"/parties/ultimateConsignees/{place}/name", consignee.name
    for pointer, address in _list_addresses(unit):
        for member, text in (("line1", address.line1), ("line2", address.line2), ("city", address.city)):
            if text is not None:
                yield f"{pointer}/{member}", text
    for place, line in enumerate(unit.lines):
        yield f"/lines/{place}/description", line.description
        yield f"/lines/{place}/sku", line.sku


_CHECKS: Final[Mapping[str, Callable[[MessageProfile, Unit, str], Iterator[Finding]]]] = {
    "x12": _check_x12,
    "universal_shipment": _check_shipment,
    "entry_records": _check_records,
}


def _lacks(pointer: str, file: str, places: str) -> Finding:
    name = pointer.rpartition("/")[2]
    return Finding.note(
        LACKS, pointer, f"The {file} is without {places}, because the plan does not give {name}.",
        f"Give {name}, or agree with the broker that it is not needed.",
        catair.SOURCE if "records" in file else _X12,
    )  # fmt: skip


def _refuse(pointer: str, message: str, remedy: str) -> Finding:
    return Finding.blocking(CHANGES, pointer, message, remedy, _X12)
