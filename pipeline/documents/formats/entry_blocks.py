"""The blocks of CBP Form 7501: the value of each, or who supplies it.

The numbers and names of blocks 1 to 44 are those of the form that OMB approved in 2024 (control number 1651-0022), without
abbreviations; 45 to 47 are in public transcriptions (probable). Blocks 21 to 24 are the countries of the metals; blocks 25 to
47 were 21 to 43 before.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from pipeline.core.money import format_amount, sum_exact
from pipeline.documents.formats.cells import Cell
from pipeline.documents.formats.entry_filing import (
    SAME,
    describe_bond_type,
    describe_consignee,
    describe_filing,
    describe_location,
)
from pipeline.documents.formats.facts import list_entry_facts
from pipeline.documents.formats.line_declarations import DECLARATIONS, find_certificate, has_antidumping_case
from pipeline.documents.formats.transport import describe_transport
from pipeline.documents.schemas.entry_filing import EntryFiling
from pipeline.documents.schemas.invoice import Invoice, Transport
from pipeline.exports.schemas.entry_estimate import COLUMN_1, DutyRow, EntryEstimate

FILER, IMPORTER, CARRIER = "the filer", "the importer", "the carrier"
AGENT: Final = "the importer or its agent"
IF_MISSING: Final = f"{FILER}, if a document is missing"
IF_IN_BOND: Final = f"{FILER}, if in bond"
IF_BY_VESSEL: Final = f"{CARRIER}, if by vessel or air"
IF_STEEL: Final = f"{IMPORTER}, if of steel"
IF_OTHER_METAL: Final = f"{IMPORTER}, if of aluminum or copper"
IF_IN_CASE: Final = f"{IMPORTER}, if a case covers the goods"
BY_TARIFF: Final = f"{FILER}, by the tariff"
IF_TAXED: Final = f"{FILER}, if taxed"
IF_VISA: Final = f"{FILER}, if the goods need a visa"
IF_OTHER_PAYER: Final = f"{FILER}, if a CBP Form 4811 is on file"
VESSEL: Final = f"{CARRIER}: name of the vessel"
AIRLINE: Final = f"{CARRIER}: IATA code of the airline"

#: Each party that may supply a value, as the worksheet names it.
SUPPLIERS: Final = (
    FILER, IMPORTER, CARRIER, AGENT, IF_MISSING, IF_IN_BOND, IF_BY_VESSEL, IF_STEEL, IF_OTHER_METAL, IF_IN_CASE, BY_TARIFF,
    IF_TAXED, IF_VISA, IF_OTHER_PAYER, VESSEL, AIRLINE, *(each.supplier for each in DECLARATIONS),
)  # fmt: skip

_SEVERAL: Final = "MULTI, see consignees"
_BY_LINE: Final = "MULTI, see lines"
_BY_METAL: Final = "MULTI, see Section 232 statement"
_LINES: Final = "see lines"
_BLANK: Final = "none: not by vessel or air"

#: Where the worksheet prints a block: above the entry lines, in their columns, in the totals, below them; `beyond` the form.
Place = Literal["head", "lines", "totals", "foot", "beyond"]


class EntryBlock(NamedTuple):
    """A block of the form; without a value, `supplier` names who supplies it. Facts beyond the form have no number."""

    number: str
    name: str
    value: str | None
    supplier: str | None
    place: Place


class DividedDuties(NamedTuple):
    """The duties of the tariff and the deposits of declared cases; block 41, the duty, and block 43, fees and deposits.

    The duty is None if the exchange rate is not known.
    """

    rates: list[DutyRow]
    deposits: list[DutyRow]
    duty: Decimal | None
    others: Decimal


def list_blocks(invoice: Invoice, estimate: EntryEstimate) -> Iterator[EntryBlock]:
    """Yield each block in the form's order; then, beyond the form, the latest day of the summary, filing, trip and export."""
    filing = invoice.filing or EntryFiling()
    for number, name, value, supplier in _head(invoice, estimate, filing):
        yield EntryBlock(number, name, value, None if value else supplier, "head")
    duties = divide_duties(invoice, estimate)
    yield from _of_lines(invoice, estimate, duties)
    yield from _of_totals(estimate, duties)
    if estimate.summary_due is not None:
        yield EntryBlock("", "Summary due, computed", f"{estimate.summary_due.day}", None, "beyond")
    carrier = [("Carrier (SCAC)", invoice.transport.carrier_scac)] if invoice.transport.carrier_scac else []
    for name, value in (*carrier, *describe_filing(filing), *describe_transport(invoice)):
        yield EntryBlock("", name, value, None, "beyond")


def list_block_rows(invoice: Invoice, estimate: EntryEstimate) -> Iterator[dict[str, Cell]]:
    """Yield the row of each block of the form: its number, name and value as the worksheet prints it, or its supplier."""
    for block in list_blocks(invoice, estimate):
        if block.number:
            yield {"block": block.number, "name": block.name, "value": block.value, "supplier": block.supplier}


def _head(
    invoice: Invoice, estimate: EntryEstimate, filing: EntryFiling
) -> Iterator[tuple[str, str, str | None, str | None]]:
    transport, importer = invoice.transport, invoice.parties.importer_of_record
    ship_to, mode = invoice.parties.ship_to, transport.mode_of_transport
    steel = [row for row in invoice.metals if row.metal.exact == "steel"]
    others = [row for row in invoice.metals if row.metal.exact != "steel"]
    if filing.entry_number is None and filing.filer_code is not None:
        yield "1", "Filer code", filing.filer_code, None
        yield "1", "Entry number", None, FILER
    else:
        yield "1", "Filer code and entry number", filing.entry_number, FILER
    yield "2", "Entry type", transport.entry_type.shown, None
    yield "3", "Summary date", None, FILER
    yield "4", "Surety number", filing.surety_code, IMPORTER
    yield "5", "Bond type", describe_bond_type(filing), IMPORTER
    yield "6", "Port code", transport.port_of_entry, None
    yield "7", "Entry date, expected", f"{estimate.entered_on}", None
    by_sea_or_air = {"vessel": VESSEL, "air": AIRLINE}.get(str(mode.exact))
    yield "8", "Importing carrier", None if by_sea_or_air else _BLANK, by_sea_or_air
    yield "9", "Mode of transport", _mode(transport, estimate), CARRIER
    yield "10", "Country of origin", _one_of(line.country_of_origin for line in invoice.lines), None
    yield "11", "Import date, expected", f"{estimate.entered_on}", None
    yield "12", "Bill of lading or air waybill number", transport.shipment_control_number, CARRIER
    yield "13", "Manufacturer ID", _one_of(line.mid for line in invoice.lines), None
    yield "14", "Exporting country", _one_of(line.country_of_export for line in invoice.lines), None
    yield "15", "Export date", f"{transport.export_date}", None
    yield "16", "I.T. number", None, IF_IN_BOND
    yield "17", "I.T. date", None, IF_IN_BOND
    yield "18", "Missing documents", None, IF_MISSING
    yield "19", "Foreign port of lading", None, IF_BY_VESSEL
    yield "20", "U.S. port of unlading", None, IF_BY_VESSEL
    yield "21", "Country of melt and pour", _one_metal(row.country_of_melt_and_pour for row in steel), IF_STEEL
    yield "22", "Primary country of smelt", _one_metal(row.primary_country_of_smelt for row in others), IF_OTHER_METAL
    secondary = _one_metal(row.secondary_country_of_smelt for row in others)
    yield "23", "Secondary country of smelt", secondary, IF_OTHER_METAL
    yield "24", "Country of cast", _one_metal(row.country_of_cast for row in others), IF_OTHER_METAL
    yield "25", "Location of goods or G.O. number", describe_location(filing), FILER
    yield "26", "Consignee number", _consignee_number(filing), IMPORTER
    yield "27", "Importer number", importer.importer_number.shown, None
    # Never the invoice: it is the importer number of the party that gets refunds and bills instead of the importer.
    yield "28", "Reference number", None, IF_OTHER_PAYER
    named = _consignee(filing, _name_party(ship_to.name, ship_to.address_lines))
    yield "29", "Ultimate consignee name and address", named, None
    yield "30", "Importer of record name and address", _name_party(importer.name, importer.address_lines), None


def _of_lines(invoice: Invoice, estimate: EntryEstimate, duties: DividedDuties) -> Iterator[EntryBlock]:
    rates, deposits = duties.rates, duties.deposits
    cases = list(dict.fromkeys(row.heading for row in deposits))
    valued = all(entry.entered_value_usd is not None for entry in estimate.lines)
    charged = all(entry.charges_usd is not None for entry in estimate.lines)
    yield EntryBlock("31", "Line number", "lines.csv: entry_line", None, "lines")
    yield EntryBlock("32", "Description of merchandise", "lines.csv: description", None, "lines")
    yield EntryBlock("33A", "HTSUS number", "lines.csv: hts10, ch98, ch99_1 to ch99_more", None, "lines")
    yield _block("33B", "AD/CVD number", ", ".join(cases) or None, IF_IN_CASE, "foot")
    dumped = [line for line in invoice.lines if has_antidumping_case(line)]
    if dumped:
        certified = "Y" if all(map(find_certificate, dumped)) else None
        yield _block("", "Non-reimbursement of antidumping duty", certified, IMPORTER, "foot")
    yield EntryBlock("34A", "Gross weight", "lines.csv: gross_kg", None, "lines")
    yield EntryBlock("34B", "Manifest quantity", f"{invoice.package_summary.manifest_count}", None, "foot")
    yield EntryBlock("35", "Net quantity in HTSUS units", "lines.csv: entry_qty, qty2, qty3, else qty", None, "lines")
    yield _block("36A", "Entered value", "lines.csv: entered_value_usd" if valued else None, FILER, "lines")
    yield _block("36B", "Charges", "lines.csv: charges_usd" if charged else None, FILER, "lines")
    related = "Y, related" if invoice.header.related_parties else "N, not related"
    yield EntryBlock("36C", "Relationship", related, None, "foot")
    yield _block("37A", "HTSUS rate", _all_known(row.rate for row in rates), BY_TARIFF, "foot")
    yield _block("37B", "AD/CVD rate", _all_known(row.rate for row in deposits), FILER if cases else IF_IN_CASE, "foot")
    taxed = [each.rate for each in estimate.taxes]
    known = "; ".join(dict.fromkeys(each for each in taxed if each is not None))
    yield _block("37C", "IRC rate", None if None in taxed else known or None, FILER if taxed else IF_TAXED, "foot")
    yield EntryBlock("37D", "Visa number", None, IF_VISA, "foot")
    rows = list(list_entry_facts(invoice))
    for each in DECLARATIONS:
        declared = any(each.list_words(row) for row in rows)
        yield _block("", each.block, _LINES if declared else None, each.supplier, "foot")
    amounts = [*(row.amount_usd for row in (*rates, *deposits)), *(tax.amount_usd for tax in estimate.taxes)]
    priced = _all_known(amounts)
    yield _block("38", "Duty and IR tax", "estimate.csv: estimated_usd" if priced else None, FILER, "lines")


def _of_totals(estimate: EntryEstimate, duties: DividedDuties) -> Iterator[EntryBlock]:
    complete = not estimate.missing
    counted = not estimate.unpriced_fees and all(row.amount_usd is not None for row in duties.deposits)
    entered = estimate.total_entered_value_usd
    yield _block("39", "Total entered value", None if entered is None else f"{entered:,}", FILER, "totals")
    yield EntryBlock("40", "Declaration", None, AGENT, "foot")
    yield _block("41", "Duty", _in_usd(duties.duty if estimate.lacks_only_fees else None), FILER, "totals")
    yield _block("42", "Tax", _in_usd(estimate.tax_usd), FILER if estimate.taxes else IF_TAXED, "foot")
    others = duties.others if counted and (estimate.fees or complete) else None
    yield _block("43", "Other fees", _in_usd(others), FILER, "totals")
    yield _block("44", "Total", _in_usd(estimate.total_usd if complete else None), FILER, "totals")
    yield EntryBlock("45", "Declarant, title, signature, date", None, AGENT, "foot")
    yield EntryBlock("46", "Broker or filer", None, FILER, "foot")
    yield EntryBlock("47", "Broker or importer file number", None, FILER, "foot")


def divide_duties(invoice: Invoice, estimate: EntryEstimate) -> DividedDuties:
    """Return the duties of the tariff apart from the deposits of declared cases, and the known amounts of both blocks."""
    rates: list[DutyRow] = []
    deposits: list[DutyRow] = []
    sourced = {row.heading for row in estimate.heading_sources}  # also the duties whose heading is open
    for merged, entry in zip(invoice.entry_lines, estimate.lines, strict=True):
        headings = {COLUMN_1, *sourced, *(row.heading for row in merged.treatment.chapter99)}
        for duty in entry.duties:
            (rates if duty.heading in headings else deposits).append(duty)
    deposited = sum_exact(row.amount_usd for row in deposits if row.amount_usd is not None)
    return DividedDuties(
        rates,
        deposits,
        duty=None if estimate.duty_usd is None else estimate.duty_usd - deposited,
        others=sum_exact((deposited, *(fee.amount_usd for fee in estimate.fees))),
    )


def _mode(transport: Transport, estimate: EntryEstimate) -> str | None:
    code = estimate.mode_code
    return None if code is None else f"{code} {transport.mode_of_transport.shown}"


def _block(number: str, name: str, value: str | None, supplier: str, place: Place) -> EntryBlock:
    return EntryBlock(number, name, value, None if value else supplier, place)


def _all_known(values: Iterable[object]) -> str | None:
    found = list(values)
    return _LINES if found and None not in found else None


def _in_usd(amount: Decimal | None) -> str | None:
    return None if amount is None else format_amount(amount, "USD")


def _consignee_number(filing: EntryFiling) -> str | None:
    if len(filing.consignees) > 1:
        return _SEVERAL
    (consignee,) = filing.consignees or (None,)
    if consignee is None or consignee.same_as_importer:
        return None if consignee is None else SAME
    return None if consignee.number is None else consignee.number.shown


def _consignee(filing: EntryFiling, ship_to: str) -> str:
    if len(filing.consignees) > 1:
        return _SEVERAL
    return describe_consignee(filing.consignees[0]) if filing.consignees else ship_to


def _one_of(values: Iterable[str]) -> str:
    found = set(values)
    return found.pop() if len(found) == 1 else _BY_LINE


def _one_metal(values: Iterable[str | None]) -> str | None:
    found = set(values)
    return _BY_METAL if len(found) > 1 else next(iter(found), None)


def _name_party(name: str, address: tuple[str, ...]) -> str:
    return ", ".join((name, *address))
