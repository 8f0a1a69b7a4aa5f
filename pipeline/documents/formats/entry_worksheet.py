"""The entry worksheet as a printed page in US Letter: the blocks of CBP Form 7501, and the entry lines with their values.

Each block has its value, or the name of the party that must supply it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any, Final

from pipeline.core.money import format_amount, format_plain
from pipeline.documents.formats.entry_filing import (
    SAME,
    describe_bond,
    describe_consignee,
    describe_filing,
    describe_location,
    list_consignee_facts,
)
from pipeline.documents.formats.entry_import import find_estimate
from pipeline.documents.formats.transport import describe_transport
from pipeline.documents.pdf.typesetter import ENGINE, TypstTemplate, plan_parts, typeset
from pipeline.documents.schemas.declarations import MergedLine
from pipeline.documents.schemas.entry_filing import EntryFiling
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice
from pipeline.exports.schemas.entry_estimate import EntryEstimate, EntryLine

VERSION = f"5/{ENGINE}"

#: The size of an entry line in addition to its wording, in characters.
LINE_CHARACTERS, DUTY_CHARACTERS = 300, 90

#: The most characters of the descriptions of merged lines that are printed.
LONGEST_DESCRIPTION: Final = 240

FILER, IMPORTER, CARRIER = "the filer", "the importer", "the carrier"

_SEVERAL: Final = "MULTI, see consignees"

_EFFECTS: Final = {"included": "in the prices", "none": "not counted"}

_PRINTED: dict[str, Any] = {
    "test": True,
    "provenance": True,
    "header": {"number", "invoice_date", "currency"},
    "parties": {"seller": {"name"}},
}


def entry_worksheet(invoice: Invoice) -> bytes:
    """Return the PDF."""
    rows = list(zip(invoice.entry_lines, find_estimate(invoice).lines, strict=True))
    template = TypstTemplate("entry_worksheet.typ", partial(_facts, rows), _remarks)
    return typeset(invoice, template, plan_parts(_size(merged, entry) for merged, entry in rows))


def _size(merged: MergedLine, entry: EntryLine) -> int:
    return LINE_CHARACTERS + len(_describe(merged)) + DUTY_CHARACTERS * len(entry.duties)


def _describe(merged: MergedLine) -> str:
    text = "; ".join(merged.descriptions)
    return text if len(text) <= LONGEST_DESCRIPTION else f"{text[:LONGEST_DESCRIPTION]}…"


def list_blocks(invoice: Invoice) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Yield each block of the head of CBP Form 7501: its number, its name, its value, and who supplies a missing value.

    What the plan says of the filing, the trip and the export beyond the form follows without a number.
    """
    transport, parties = invoice.transport, invoice.parties
    estimate, importer = find_estimate(invoice), invoice.parties.importer_of_record
    origins = {line.country_of_origin for line in invoice.lines}
    makers = {line.mid for line in invoice.lines}
    exports = {line.country_of_export for line in invoice.lines}
    filing = invoice.filing or EntryFiling()
    ship_to = _name_party(parties.ship_to.name, parties.ship_to.address_lines)
    yield "1", "Filer code and entry number", filing.entry_number or filing.filer_code, FILER
    yield "2", "Entry type", transport.entry_type.shown, None
    yield "3", "Summary date", None, FILER
    yield "4, 5", "Surety number, bond type", describe_bond(filing), IMPORTER
    yield "6", "Port code", transport.port_of_entry, None
    yield "7", "Entry date, expected", f"{estimate.entered_on}", None
    yield "8", "Importing carrier", transport.carrier_scac, CARRIER
    yield "9", "Mode of transport", transport.mode_of_transport.shown, None
    yield "10", "Country of origin", _one_of(origins), None
    yield "11", "Import date, expected", f"{estimate.entered_on}", None
    yield "12", "Bill of lading or control number", transport.shipment_control_number, CARRIER
    yield "13", "Manufacturer ID", _one_of(makers), None
    yield "14", "Exporting country", _one_of(exports), None
    yield "15", "Export date", f"{transport.export_date}", None
    yield "16, 17", "I.T. number and date", None, f"{FILER}, if in bond"
    yield "19, 20", "Ports of lading and unlading", None, f"{CARRIER}, if by vessel or air"
    yield "21", "Location of goods", describe_location(filing), FILER
    yield "22", "Consignee number", _consignee_number(filing), IMPORTER
    yield "23", "Importer number", importer.importer_number.shown, None
    yield "24", "Reference number", invoice.header.number, None
    yield "25", "Ultimate consignee", _consignee(filing, ship_to), None
    yield "26", "Importer of record", _name_party(importer.name, importer.address_lines), None
    for name, value in describe_filing(filing):
        yield "", name, value, None
    for name, value in describe_transport(invoice):
        yield "", name, value, None


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


def _one_of(values: set[str]) -> str:
    return values.pop() if len(values) == 1 else "MULTI, see lines"


def _name_party(name: str, address: tuple[str, ...]) -> str:
    return ", ".join((name, *address))


def _facts(rows: list[tuple[MergedLine, EntryLine]], invoice: Invoice, cut: slice) -> bytes:
    facts = invoice.model_dump(mode="json", include=_PRINTED, context=FOR_PEOPLE)
    estimate, currency = find_estimate(invoice), invoice.header.currency
    facts["blocks"] = [
        {"block": block, "name": name, "value": value, "supplier": None if value else supplier}
        for block, name, value, supplier in list_blocks(invoice)
    ]
    facts["consignees"] = (
        [] if invoice.filing is None or len(invoice.filing.consignees) == 1 else list_consignee_facts(invoice.filing)
    )
    facts["lines"] = [_line_facts(merged, entry, currency) for merged, entry in rows[cut]]
    facts["adjustments"] = [
        {
            "name": row.name,
            "amount": None if row.amount is None else format_amount(row.amount, currency),
            "effect": _EFFECTS.get(row.effect, row.effect),
            "reason": row.text,
            "source": f"{row.source} ({row.status})",
        }
        for row in estimate.adjustments
    ]
    facts["fees"] = [
        {
            "name": f"{row.name} ({row.code})",
            "arithmetic": row.arithmetic,
            "amount": _in_cents(row.amount_usd),
            "source": f"{row.source} ({row.status})",
        }
        for row in estimate.fees
    ]
    facts["estimate"] = _total_facts(estimate)
    digests = sorted(
        (number, digest)
        for merged, _ in rows[cut]
        for number, digest in zip(merged.line_numbers, merged.treatment_digests, strict=True)
    )
    facts["digests"] = digests
    return json.dumps(facts, ensure_ascii=False).encode()


def _line_facts(merged: MergedLine, entry: EntryLine, currency: str) -> dict[str, Any]:
    sign = "\N{MINUS SIGN}" if entry.adjustment < 0 else "+"
    return {
        "number": merged.number,
        "invoice_lines": merged.lines_shown,
        "description": _describe(merged),
        "hts_code": merged.hts_code.shown,
        "origin": merged.country_of_origin,
        "mid": merged.mid,
        "spi": merged.spi,
        "quantity": ", ".join(
            f"{each.quantity.shown}\u00a0{each.unit}" for each in merged.entry_quantities or (merged,)
        ),
        "chapter98": _describe_claim(merged, entry, currency),
        "gross_kg": merged.gross_weight_kg.shown,
        "net_kg": merged.net_weight_kg.shown,
        "value": format_amount(entry.value, currency),
        "adjustment": f"{sign}{format_amount(abs(entry.adjustment), currency)}" if entry.adjustment else None,
        "usd": None if entry.dutiable_value_usd is None else _in_cents(entry.dutiable_value_usd),
        "entered": None if entry.entered_value_usd is None else f"{entry.entered_value_usd:,}",
        "charges": None if not entry.charges_usd else f"{entry.charges_usd:,}",
        "duties": [
            {
                "heading": row.heading,
                "rate": row.rate,
                "amount": None if row.amount_usd is None else _in_cents(row.amount_usd),
                "note": row.remarks,
            }
            for row in entry.duties
        ],
    }


def _describe_claim(merged: MergedLine, entry: EntryLine, currency: str) -> str | None:
    claim = merged.chapter98
    if claim is None:
        return None
    in_usd = "" if entry.division is None else f"; in USD {entry.division.arithmetic}"
    parts = f"{claim.exempt_value.shown} {currency} without duty, {claim.dutiable_value.shown} with duty"
    return f"{claim.provision}: {parts}{in_usd}"


def _total_facts(estimate: EntryEstimate) -> dict[str, Any]:
    entered, rate, bond = estimate.total_entered_value_usd, estimate.exchange_rate, estimate.bond
    return {
        "exchange_rate": None if rate is None else format_plain(rate),
        "rounding": estimate.rounding,
        "value": format_amount(estimate.total_value, estimate.currency),
        "dutiable": format_amount(estimate.total_dutiable_value, estimate.currency),
        "entered": None if entered is None else f"{entered:,}",
        "duty": None if estimate.duty_usd is None else _in_cents(estimate.duty_usd),
        "total": None if estimate.total_usd is None else _in_cents(estimate.total_usd),
        "bond": None if bond is None else _in_cents(bond.amount_usd),
        "bond_reason": None if bond is None else f"{bond.text}. {bond.source} ({bond.status}).",
        "missing": list(estimate.missing),
        "editions": list(estimate.editions),
        "disclaimer": estimate.disclaimer,
    }


def _in_cents(amount: Decimal) -> str:
    return format_amount(amount, "USD")


def _remarks(_invoice: Invoice, _cut: slice) -> dict[str, Any]:
    return {}


__all__ = ["CARRIER", "FILER", "IMPORTER", "VERSION", "entry_worksheet", "list_blocks"]
