"""The commercial invoice as an X12 810, with the customs facts of each line."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Final

from pipeline.core.errors import ValidationFailed
from pipeline.documents.formats import x12
from pipeline.documents.formats.cells import join_values, read_columns
from pipeline.documents.formats.entry_filing import FILING_COLUMNS
from pipeline.documents.formats.transport import TRANSPORT_COLUMNS
from pipeline.documents.formats.x12 import MUTUALLY_DEFINED, TransactionSet, format_cents
from pipeline.documents.schemas.invoice import Invoice, InvoiceLine, ManufacturerBlock, PartyBlock, Transport
from pipeline.documents.schemas.profile import X12Envelope
from pipeline.exports.schemas.plan import Address, Contact

#: The most SAC segments of an invoice.
MOST_ADJUSTMENTS: Final = 25
#: The most consignees: an invoice has at most 200 parties.
MOST_CONSIGNEES: Final = 190
#: The most lines of notes, of 80 characters each.
MOST_NOTES: Final = 100
#: The code of element 1300 with the same meaning as a charge; others are written as mutually defined.
_CHARGES: Final = {"freight": "D240"}
_MOST_IDENTIFIERS: Final = 12
_MOST_DESCRIPTIONS: Final = 1000


def build_invoice_set(envelope: X12Envelope, invoice: Invoice) -> TransactionSet:
    """Return the transaction set 810 of the invoice.

    Raises ValidationFailed if X12 cannot carry a number, or all charges, discounts and consignees.
    """
    made = TransactionSet("810", "IN")
    _add_header(made, invoice)
    makers = {maker.ref: maker for maker in invoice.parties.manufacturers}
    for line in invoice.lines:
        _add_line(made, line, makers[line.manufacturer_ref], envelope)
    _add_totals(made, invoice)
    return made


def _add_header(made: TransactionSet, invoice: Invoice) -> None:
    header, transport, provenance = invoice.header, invoice.transport, invoice.provenance
    order = header.purchase_order
    made.add("BIG", header.invoice_date, header.number[: x12.NUMBER], None, order and order[: x12.NUMBER])
    notes = _list_notes(invoice)
    _ensure_count(len(notes), MOST_NOTES, "lines of notes")
    for note in notes:
        made.add("NTE", "GEN", note)
    rate = None if header.exchange_rate is None else header.exchange_rate.decimal
    made.add("CUR", "SE", header.currency, None if rate is None else _format_rate(rate))
    made.add_reference("CN", transport.shipment_control_number, "SHIPMENT CONTROL NUMBER")
    for name, value in (
        ("ENTRY TYPE", transport.entry_type.exact),
        ("PORT OF ENTRY", transport.port_of_entry),
        ("RELATED PARTIES", "Y" if header.related_parties else "N"),
        ("ASSISTS", header.assists.exact),
        ("REASON FOR EXPORT", header.reason_for_export.exact),
        ("CUSTOMS PACKAGE", provenance.package_number),
        ("BATCH", provenance.batch_id),
        ("REVISION", provenance.revision),
        ("PLAN HASH", provenance.plan_hash),
        ("TREATMENT DIGEST", provenance.treatment_digest),
    ):
        made.add_reference(MUTUALLY_DEFINED, value, name)
    declarant = invoice.declaration
    add_contact(made, Contact.model_construct(name=declarant.name, phone=declarant.phone, email=declarant.email))
    parties = invoice.parties
    add_party(made, "SE", parties.seller)
    add_party(made, "BY", parties.buyer)
    add_party(made, "ST", parties.ship_to)
    add_party(made, "IM", parties.importer_of_record, str(parties.importer_of_record.importer_number.exact))
    consignees = () if invoice.filing is None else invoice.filing.consignees
    _ensure_count(len(consignees), MOST_CONSIGNEES, "consignees")
    for consignee in consignees:
        number = consignee.number
        add_names(
            made,
            "UC",
            consignee.name,
            None if number is None else MUTUALLY_DEFINED,
            None if number is None else str(number.exact),
        )
        add_address(made, consignee.address)
    if header.payment_terms is not None:
        made.add("ITD", *[None] * 11, header.payment_terms[: x12.DESCRIPTION])
    add_dates(made, transport)
    made.add("FOB", "DF", None, None, "01", header.incoterm, MUTUALLY_DEFINED, header.incoterm_place[: x12.DESCRIPTION])


def _list_notes(invoice: Invoice) -> list[str]:
    header = invoice.header
    sale = ", ".join(str(each) for each in (header.sale_date, header.sale_place) if each is not None)
    columns = read_columns({**FILING_COLUMNS, **TRANSPORT_COLUMNS}, invoice)
    # Each consignee has its number in its own N1, each line its prior notice in a REF.
    del columns["consignee_numbers"], columns["prior_notices"]
    texts = [
        f"Sale: {sale}" if sale else None,
        *(f"{name.replace('_', ' ')}: {value}" for name, value in columns.items() if value is not None),
        header.valuation_basis and f"Valuation: {header.valuation_basis}",
        header.usmca_statement,
        *(f"Rebate: {row.name} {row.amount.exact}" for row in invoice.rebates),
        *(f"Assist: {row.name}" + (f" {row.amount.exact}" if row.amount else "") for row in invoice.assist_items),
    ]
    return [part for text in texts for part in x12.split_text(text, x12.DESCRIPTION)]


def _format_rate(rate: Decimal) -> str:
    """Return the exchange rate as CUR03, which has four to ten digits."""
    text = f"{x12.ensure_digits(rate, x12.QUANTITY_DIGITS, 'the exchange rate').normalize():f}"
    text = text if "." in text else f"{text}."
    return text + "0" * max(0, 4 - x12.count_digits(rate) - (text.endswith(".")))


def _add_line(made: TransactionSet, line: InvoiceLine, maker: ManufacturerBlock, envelope: X12Envelope) -> None:
    quantity = x12.ensure_digits(line.quantity.decimal, x12.QUANTITY_DIGITS, f"the quantity of line {line.number}")
    price = x12.ensure_digits(line.unit_price.decimal, x12.PRICE_DIGITS, f"the unit price of line {line.number}")
    made.add("IT1", line.number, quantity, find_unit(line.unit, envelope), price, None, *list_products(line))
    made.add("MEA", "WT", "G", line.gross_weight_kg.decimal, "KG")
    made.add("MEA", "WT", "N", line.net_weight_kg.decimal, "KG")
    made.add_texts("PID", ("F", "", "", ""), line.description, x12.DESCRIPTION, _MOST_DESCRIPTIONS)
    if line.order_id is not None:
        made.add_reference("PO", line.order_id)
    made.add_reference("LI", line.line_ref)
    if find_unit(line.unit, envelope) == MUTUALLY_DEFINED:
        made.add_fact("INVOICE UNIT", line.unit)
    for name, value in _list_facts(line):
        made.add_fact(name, value)
    add_names(made, "MF", maker.name, MUTUALLY_DEFINED, maker.mid)
    add_address(made, maker.address)


def _list_facts(line: InvoiceLine) -> Iterator[tuple[str, object]]:
    """Yield the customs facts of a line, each as its name and its value."""
    yield "LINE VALUE", line.line_value.exact
    yield "COUNTRY OF EXPORT", line.country_of_export
    for each in line.entry_quantities or (line,):
        yield "ENTRY QUANTITY", f"{each.quantity.exact} {each.unit}"
    for heading in line.treatment.chapter99:
        rate = heading.rate_percent and f"{heading.rate_percent:f} PCT"
        yield join_words("CHAPTER 99", heading.program, rate, heading.basis), heading.heading
    if line.chapter98 is not None:
        claim = line.chapter98
        parts = (f"EXEMPT {claim.exempt_value.exact}", f"DUTIABLE {claim.dutiable_value.exact}")
        yield join_words("CHAPTER 98", *parts), claim.provision
        if claim.exported_on is not None:
            yield "CHAPTER 98 EXPORTED ON", claim.exported_on
        if claim.proof is not None:
            yield "CHAPTER 98 PROOF", claim.proof
    if line.spi is not None:
        yield join_words("SPI", line.usmca_certificate_ref and f"CERT {line.usmca_certificate_ref}"), line.spi
    for metal in line.treatment.section232:
        countries = {
            "MELT POUR": metal.country_of_melt_and_pour,
            "SMELT": metal.primary_country_of_smelt,
            "SMELT 2": metal.secondary_country_of_smelt,
            "CAST": metal.country_of_cast,
        }
        named = (f"{name} {country}" for name, country in countries.items() if country)
        share = metal.us_metal_percent is not None and f"US {metal.us_metal_percent:f} PCT"
        yield join_words("METAL", *named, share), f"{metal.metal} {metal.metal_weight_kg:f} KG"
    for row in line.treatment.pga:
        codes = join_values(code for code in (row.program, row.processing, row.intended_use) if code)
        disclaimer = row.disclaimer and f"DISCLAIMER {row.disclaimer}"
        yield join_words("PGA", row.agency, codes, disclaimer), row.flag
        for name, value in row.data.items():
            yield f"PGA {row.flag} {name}", value if isinstance(value, str) else join_values(value) or ""
    for pair in line.attributes:
        yield f"ATTRIBUTE {pair.name}", pair.value
    yield "TREATMENT DIGEST", line.treatment_digest


def _add_totals(made: TransactionSet, invoice: Invoice) -> None:
    transport = invoice.transport
    made.add("TDS", format_cents(invoice.totals.invoice_total.decimal, "the invoice total"))
    if transport.carrier_scac is not None:
        made.add("CAD", x12.MODES.get(str(transport.mode_of_transport.exact)), None, None, transport.carrier_scac)
    _ensure_count(len(invoice.charges) + len(invoice.discounts), MOST_ADJUSTMENTS, "charges and discounts")
    for rows, indicator in ((invoice.charges, "C"), (invoice.discounts, "A")):
        for row in rows:
            kind = "N" if row.included_in_prices else indicator
            cents = format_cents(row.amount.decimal, f"the amount of {row.name}")
            made.add(
                "SAC", kind, _CHARGES.get(row.code, "ZZZZ"), None, None, cents, *[None] * 9, row.name[: x12.DESCRIPTION]
            )
    made.add("CTT", len(invoice.lines))


def _ensure_count(count: int, most: int, what: str) -> None:
    """Raise ValidationFailed if there are more than X12 carries; none may be dropped."""
    if count > most:
        raise ValidationFailed(f"the invoice has {count} {what}, and X12 carries {most}; choose another format")


def add_dates(made: TransactionSet, transport: Transport) -> None:
    """Add the day of export, and the estimated arrival at the port of entry in UTC if it is known."""
    made.add("DTM", "011", transport.export_date)
    if transport.estimated_arrival_at is not None:
        arrival = datetime.fromisoformat(str(transport.estimated_arrival_at.exact))
        made.add("DTM", "056", arrival.date(), f"{arrival:%H%M}", "UT")


def add_party(made: TransactionSet, role: str, party: PartyBlock, number: str | None = None) -> None:
    """Add the loop N1 of a party: name, address, identifiers and contact; `number` is its identification code."""
    add_names(made, role, party.name, None if number is None else MUTUALLY_DEFINED, number)
    if party.address is not None:
        add_address(made, party.address)
    for each in party.identifiers[:_MOST_IDENTIFIERS]:
        made.add_reference(MUTUALLY_DEFINED, each.value.exact, x12.spell_text(str(each.name.exact)).upper())
    if party.contact is not None:
        add_contact(made, party.contact)


def add_names(made: TransactionSet, role: str, name: str, qualifier: str | None, number: str | None) -> None:
    """Add the name of a party with its role and number; a long name goes on in N2."""
    first, *rest = x12.split_text(name, x12.NAME) or [x12.UNKNOWN]
    made.add("N1", role, first, qualifier, number)
    for place in range(0, min(len(rest), 4), 2):
        made.add("N2", *rest[place : place + 2])


def add_address(made: TransactionSet, address: Address) -> None:
    """Add an address; a region that is not a code of two letters stands in N406."""
    streets = [part for line in (address.line1, address.line2) for part in x12.split_text(line, x12.STREET)[:2]]
    for place in range(0, len(streets), 2):
        made.add("N3", *streets[place : place + 2])
    region = address.region
    coded = region is not None and len(region) == 2 and region.isascii() and region.isalpha()
    other = ("SP", region[: x12.REFERENCE]) if region and not coded else ()
    made.add(
        "N4", address.city[:30], region.upper() if region and coded else None, address.postal_code and address.postal_code[:15],
        address.country, *other,
    )  # fmt: skip


def add_contact(made: TransactionSet, contact: Contact) -> None:
    """Add the person who answers questions, with telephone and e-mail if they are known."""
    numbers = [
        (code, value[: x12.DESCRIPTION]) for code, value in (("TE", contact.phone), ("EM", contact.email)) if value
    ]
    made.add("PER", "IC", contact.name[: x12.NAME], *(part for number in numbers for part in number))


def find_unit(unit: str, envelope: X12Envelope) -> str:
    """Return the code of a unit for this receiver."""
    return envelope.units.get(unit) or x12.UNITS.get(unit, MUTUALLY_DEFINED)


def list_products(line: InvoiceLine) -> tuple[str, ...]:
    """Return the identification of the goods as pairs of qualifier and value: number, HTS code, origin."""
    return ("VP", line.sku[: x12.PRODUCT], "HD", str(line.hts_code.exact), "CH", line.country_of_origin)


def join_words(*words: object) -> str:
    """Return the words that are given, as a description of at most 80 characters."""
    return x12.spell_text(" ".join(str(word) for word in words if word))[: x12.DESCRIPTION]
