"""The facts of an entry in the records of an entry summary (AE) and a cargo release (SE), for a filer to compare."""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from textwrap import wrap
from typing import Final

from pipeline.core.money import sum_exact, to_decimal
from pipeline.documents.formats import catair
from pipeline.documents.formats.catair import WIDTH, Datum, write_record
from pipeline.documents.formats.entry_blocks import divide_duties
from pipeline.documents.formats.facts import FactsOfEntry, find_estimate, list_entry_facts
from pipeline.documents.formats.line_declarations import DECLARATIONS, find_certificate, has_antidumping_case
from pipeline.documents.formats.pga_records import REMARK
from pipeline.documents.formats.x12 import spell_text, split_text
from pipeline.documents.schemas.declarations import MergedLine
from pipeline.documents.schemas.entry_filing import EntryConsignee, EntryFiling
from pipeline.documents.schemas.invoice import Invoice, PartyBlock
from pipeline.documents.schemas.profile import EntryRecordSettings
from pipeline.documents.schemas.values import Printed
from pipeline.exports.line_declarations import CASES
from pipeline.exports.schemas.entry_estimate import COLUMN_1, EntryLine
from pipeline.exports.schemas.plan import Address, Section232

#: The declaration that the weight and the countries of a metal are given in.
_DECLARATIONS: Final[Mapping[str, str]] = {"aluminum": "07", "steel": "08", "copper": "12"}
#: The qualifier of each form of an importer's number.
_NUMBER_TYPES: Final = (
    (re.compile(r"\d{2}-\d{7}[0-9A-Z]{2}"), "EI"),
    (re.compile(r"\d{3}-\d{2}-\d{4}"), "34"),
    (re.compile(r"\d{6}-\d{5}"), "ANI"),
)
#: The most lines of an entry: a line number has three digits.
MOST_LINES: Final = 999
_RANGES_OF_RECORD: Final = 4
_FEES_OF_RECORD: Final = 5


class _MessageRecords:
    """Collects the records of one message, and what they lack."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.blank: dict[str, None] = {}
        self.cut: dict[str, None] = {}

    def add(self, record: str, **values: Datum) -> None:
        written = write_record(record, **values)
        self.lines.append(written.text)
        self.blank |= dict.fromkeys(written.blank)
        self.cut |= dict.fromkeys(written.cut)

    def write(self, title: str, skipped: Sequence[str]) -> Iterator[str]:
        yield from _remark(title)
        for name, fields in (("Blank for the filer", self.blank), ("Cut or left out, too long", self.cut)):
            if fields:
                yield from _remark(f"{name}: {'; '.join(fields)}")
        for text in skipped:
            yield from _remark(f"Not here: {text}")
        yield from self.lines


def entry_records(settings: EntryRecordSettings, invoice: Invoice) -> bytes:
    """Return the records in ASCII, each line with 80 columns and CRLF.

    A line that begins with an asterisk is a remark. Before the records of each message stand the mandatory fields that
    are blank, and the records that only a filer can add.
    """
    lines = [*_write_head(invoice)]
    if "AE" in settings.transactions:
        lines += _write_summary(settings, invoice)
    if "SE" in settings.transactions:
        lines += _write_release(settings, invoice)
    return "".join(f"{line:{WIDTH}}\r\n" for line in lines).encode("ascii")


def _write_head(invoice: Invoice) -> Iterator[str]:
    if invoice.test:
        yield from _remark("TEST: NOT FOR CUSTOMS USE")
    yield from _remark(f"Entry records of invoice {invoice.header.number}, {invoice.provenance.package_number}")
    yield from _remark("For comparison only: not a filing. The filer files the entry and decides each value.")
    yield from _remark(f"Layouts: {catair.SOURCE}; {catair.STATUS}: compare them before use")
    yield from _remark(f"Treatment of the export: {invoice.provenance.treatment_digest}")


def _write_summary(settings: EntryRecordSettings, invoice: Invoice) -> Iterator[str]:
    made, estimate, header, transport = _MessageRecords(), find_estimate(invoice), invoice.header, invoice.transport
    records, filing = _list_agency_records(invoice), invoice.filing or EntryFiling()
    made.add(
        "10", action="A", **_identify_entry(settings, filing), payment_type=_exact(filing.payment_type),
        statement_date=filing.statement_date, statement_month=filing.statement_month, client_branch=filing.client_branch,
        port_of_entry=transport.port_of_entry,
        entry_type=str(transport.entry_type.exact), mode_of_transport=estimate.mode_code,
        pga_data="Y" if records else None,
    )  # fmt: skip
    ship_to = invoice.parties.ship_to.address
    state = ship_to.region if ship_to is not None and ship_to.country == "US" else None
    importer = str(invoice.parties.importer_of_record.importer_number.exact)
    made.add(
        "11",
        importer_number=importer,
        consignee_number=_find_consignee(filing),
        entry_date=estimate.entered_on,
        state_of_destination=_code(state, 2),
    )
    made.add(
        "20",
        carrier=transport.carrier_scac,
        location_of_goods=filing.firms_code,
        arrival_date=None if transport.estimated_arrival_at is None else estimate.entered_on,
    )
    if transport.trip_number is not None:
        made.add("21", trip=transport.trip_number)
    made.add("22", manifest_quantity=_whole(transport.manifest_quantity))
    issuer, number = _split_control_number(invoice)
    made.add("23", bill_issuer=issuer, bill_number=number)
    made.add(
        "31", bond_type=_exact(filing.bond_type), surety_code=filing.surety_code,
        bond_amount=None if filing.bond_amount_usd is None else filing.bond_amount_usd.decimal,
    )  # fmt: skip
    for row in list_entry_facts(invoice):
        _add_line(made, row, records)
    fees = [(fee.code, fee.amount_usd) for fee in estimate.fees]
    for start in range(0, len(fees), _FEES_OF_RECORD):
        part = fees[start : start + _FEES_OF_RECORD]
        classes: dict[str, Datum] = {f"class_{at}": code for at, (code, _) in enumerate(part, 1)}
        made.add("89", **classes, **{f"fee_{at}": amount for at, (_, amount) in enumerate(part, 1)})
    made.add(
        "90",
        duty=divide_duties(invoice, estimate).duty if estimate.lacks_only_fees else None,
        fees=sum_exact(amount for _, amount in fees) if fees and not estimate.unpriced_fees else None,
    )
    cases = sorted({pair.value for line in invoice.lines for pair in line.attributes if pair.name == CASES})
    skipped = [
        "62 fees of a line; header 34",
        *(["the weight of metals as a quantity of 50: ask in which of its rows"] if invoice.metals else []),
        *([f"53 and 88, antidumping and countervailing duty, case {', '.join(cases)}"] if cases else []),
        *(["the internal revenue tax of a line and its total"] if estimate.taxes else []),
        *(f"estimate without {text}" for text in estimate.missing),
    ]
    yield from made.write(
        f"ENTRY SUMMARY (AE), lines: {len(invoice.entry_lines)}, currency of the invoice: {header.currency}", skipped
    )


def _add_line(made: _MessageRecords, row: FactsOfEntry, records: Mapping[int, Sequence[str]]) -> None:
    invoice, line, entry, header = row.invoice, row.goods, row.entry, row.invoice.header
    made.add(
        "40", line=_number_line(line), origin=line.country_of_origin, export_country=line.country_of_export,
        export_date=invoice.transport.export_date, spi=line.spi, charges=entry.charges_usd,
        gross_kg=line.gross_weight_kg.decimal, related_parties="Y" if header.related_parties else "N",
        non_reimbursement=find_certificate(row.line) if has_antidumping_case(row.line) else None,
    )  # fmt: skip
    ranges = [*_list_ranges(line.line_numbers)]
    for start in range(0, len(ranges), _RANGES_OF_RECORD):
        bounds: dict[str, Datum] = {}
        for at, (first, last) in enumerate(ranges[start : start + _RANGES_OF_RECORD], 1):
            bounds |= {f"range_{at}_first": first, f"range_{at}_last": last}
        made.add("42", supplier=line.mid, invoice_number=header.number, **bounds)
    for text in _list_descriptions(line, 70):
        made.add("44", description=text)
    made.add("47", party_type="M", party_number=line.mid)
    for consignee in _list_consignees(invoice, line):
        made.add("47", party_type="C", party_number=_exact(consignee.number))
    duties = {duty.heading: duty.amount_usd for duty in entry.duties}
    for hts, value in list_tariff_numbers(line, entry):
        if hts == line.hts_code.exact:
            made.add("50", hts=hts, duty=duties.get(COLUMN_1), value=value, **_list_quantities(line))
        else:
            made.add("50", hts=hts, duty=duties.get(_dotted(hts)), value=value)
    for number in line.line_numbers:
        made.lines += records.get(number, ())
    for each in DECLARATIONS:
        for record, values in each.list_records(row):
            made.add(record, **values)
    for metal in line.treatment.section232:
        made.add("54", declaration_type=_DECLARATIONS[metal.metal], information=_declare_metal(metal))


def list_tariff_numbers(line: MergedLine, entry: EntryLine) -> Iterator[tuple[str, Decimal | None]]:
    """Yield the numbers of an entry line without dots, in the order of the records, each with its value in US dollars.

    The value is on the number of the goods. A provision of chapter 98 has the part without duty.
    """
    value, claim = entry.entered_value_usd, line.chapter98
    if claim is not None:
        parts = entry.division
        yield claim.provision.replace(".", ""), None if parts is None else parts.exempt_value_usd
        value = value if parts is None else parts.dutiable_value_usd
    for row in line.treatment.chapter99:
        yield row.heading.replace(".", ""), to_decimal("0")
    yield str(line.hts_code.exact), value


def _list_quantities(line: MergedLine) -> dict[str, Datum]:
    quantities = [(each.quantity, each.unit) for each in line.entry_quantities] or [(line.quantity, line.unit)]
    values: dict[str, Datum] = {f"quantity_{at}": quantity.decimal for at, (quantity, _) in enumerate(quantities, 1)}
    return values | {f"unit_{at}": unit for at, (_, unit) in enumerate(quantities, 1)}


def _declare_metal(metal: Section232) -> str:
    """Return columns 5 to 80 of the declaration: each country in two columns, OTH where a record has its code."""
    if metal.metal == "steel":
        country = metal.country_of_melt_and_pour
        return f"  {country}" if country == "OTH" else country or ""
    smelts = (metal.primary_country_of_smelt, metal.secondary_country_of_smelt, metal.country_of_cast)
    return "  ".join(f"{country or '':3}" for country in smelts).rstrip()


def _write_release(settings: EntryRecordSettings, invoice: Invoice) -> Iterator[str]:
    made, estimate, transport = _MessageRecords(), find_estimate(invoice), invoice.transport
    filing = invoice.filing or EntryFiling()
    importer = str(invoice.parties.importer_of_record.importer_number.exact)
    made.add(
        "SE10", action="A", **_identify_entry(settings, filing), bond_type=_exact(filing.bond_type), entry_type=str(transport.entry_type.exact), importer_type=_find_number_type(importer),
        importer_number=importer, mode_of_transport=estimate.mode_code,
        value=estimate.total_entered_value_usd, port_of_entry=transport.port_of_entry,
    )  # fmt: skip
    if filing.firms_code is not None or transport.trip_number is not None:
        made.add("SE11", location_of_goods=filing.firms_code, trip=transport.trip_number)
    issuer, number = _split_control_number(invoice)
    made.add("SE15", bill_issuer=issuer, bill_number=number, quantity=_whole(transport.manifest_quantity))
    for trailer in transport.trailer_numbers:
        made.add("SE17", equipment=trailer)
    parties = invoice.parties
    _add_entity(made, "SE3", "SE", parties.seller)
    _add_entity(made, "SE3", "BY", parties.buyer)
    # Several consignees stand with their lines.
    if len(filing.consignees) < 2:
        _add_entity(made, "SE3", "CN", *filing.consignees or (parties.ship_to,))
    makers = {maker.ref: maker for maker in parties.manufacturers}
    records = _list_agency_records(invoice)
    for line, entry in zip(invoice.entry_lines, estimate.lines, strict=True):
        text = next(iter(_list_descriptions(line, 70)), None)
        made.add("SE40", line=_number_line(line), origin=line.country_of_origin, description=text)
        maker = makers[line.manufacturer_ref]
        made.add("SE50", entity="MF", name=maker.name)
        _add_address(made, "SE5", maker.address)
        if len(filing.consignees) > 1:
            for consignee in _list_consignees(invoice, line):
                _add_entity(made, "SE5", "CN", consignee)
        for hts, value in list_tariff_numbers(line, entry):
            made.add("SE60", hts=hts, value=value)
        for each in line.line_numbers:
            made.lines += records.get(each, ())
    skipped = ["SE13 and SE16: contact, and conveyance of a split shipment", "SE20 references of the filer"]
    yield from made.write(f"CARGO RELEASE (SE), lines: {len(invoice.entry_lines)}", skipped)


def _identify_entry(settings: EntryRecordSettings, filing: EntryFiling) -> dict[str, Datum]:
    """Return filer code and entry number; an entry number begins with the code of its filer."""
    number = (filing.entry_number or "").replace("-", "")
    return {"filer_code": number[:3] or filing.filer_code or settings.filer_code, "entry_number": number[3:] or None}


def _find_consignee(filing: EntryFiling) -> str | None:
    return _exact(filing.consignees[0].number) if len(filing.consignees) == 1 else None


def _list_consignees(invoice: Invoice, line: MergedLine) -> list[EntryConsignee]:
    """Return the consignees that receive goods of an entry line."""
    consignees = () if invoice.filing is None else invoice.filing.consignees
    return [each for each in consignees if not set(each.line_numbers).isdisjoint(line.line_numbers)]


def _find_number_type(number: str | None) -> str | None:
    return next((code for pattern, code in _NUMBER_TYPES if number and pattern.fullmatch(number)), None)


def _add_entity(made: _MessageRecords, prefix: str, code: str, party: PartyBlock | EntryConsignee) -> None:
    number = _exact(party.number) if isinstance(party, EntryConsignee) else None
    made.add(f"{prefix}0", entity=code, name=party.name, number_type=_find_number_type(number), number=number)
    if party.address is not None:
        _add_address(made, prefix, party.address)


def _add_address(made: _MessageRecords, prefix: str, address: Address) -> None:
    # The kinds of address lines are codes that the plan does not have.
    made.add(f"{prefix}5", address_1=address.line1, address_2=address.line2)
    made.add(
        f"{prefix}6", city=address.city, region=_code(address.region, 3), postal_code=address.postal_code,
        country=address.country,
    )  # fmt: skip


def _list_agency_records(invoice: Invoice) -> dict[int, tuple[str, ...]]:
    """Return the agencies' records by number of the invoice line."""
    lines = () if invoice.worksheet is None else invoice.worksheet.lines
    return {line.number: line.records for line in lines}


def _list_ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last number of each run of numbers that follow one another."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def _list_descriptions(line: MergedLine, width: int) -> list[str]:
    return [part for text in line.descriptions for part in split_text(text, width)]


def _split_control_number(invoice: Invoice) -> tuple[str | None, str | None]:
    """Return issuer and number of the bill: of a shipment control number, the carrier's code and the rest."""
    scac, number = invoice.transport.carrier_scac, invoice.transport.shipment_control_number
    if number is not None and scac is not None and number.startswith(scac):
        return scac, number[len(scac) :]
    return None, number


def _number_line(line: MergedLine) -> str | None:
    return f"{line.number:03d}" if line.number <= MOST_LINES else None


def _code(text: str | None, most: int) -> str | None:
    return text if text is not None and len(text) <= most else None


def _whole(text: str | None) -> int | None:
    return None if text is None else int(text)


def _dotted(hts: str) -> str:
    return f"{hts[:4]}.{hts[4:6]}.{hts[6:]}"


def _exact(value: Printed | None) -> str | None:
    return None if value is None else str(value.exact)


def _remark(text: str) -> Iterator[str]:
    for part in wrap(spell_text(text), WIDTH - 2, break_on_hyphens=False):
        yield f"{REMARK} {part}"
