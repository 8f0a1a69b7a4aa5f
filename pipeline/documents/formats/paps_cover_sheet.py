"""The PAPS cover sheet of a truck: one page with the shipment control number as the barcode that CBP scans at the border."""

import json
from typing import Any, Final

from pipeline.documents.formats.barcode import code128_bars
from pipeline.documents.formats.transport import describe_export, describe_trailers, describe_truck
from pipeline.documents.pdf.typesetter import ENGINE, TypstTemplate, plan_parts, typeset
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice

VERSION = f"6/{ENGINE}"

#: The most articles that the page names; of more it gives the number, and the invoice names them.
MAX_ARTICLES: Final = 6

_PARTY = {"name", "address_lines"}
_PRINTED: dict[str, Any] = {
    "test": True,
    "provenance": True,
    "header": {"number", "invoice_date"},
    "transport": True,
    "parties": {"seller": _PARTY, "ship_to": _PARTY, "importer_of_record": _PARTY},
    "totals": {"line_count", "quantities"},
    "package_summary": {"shown", "manifest_count", "manifest_weight_kg"},
}


def is_for_truck(invoice: Invoice) -> bool:
    """Return whether a truck brings the goods under the carrier's SCAC and a shipment control number."""
    transport = invoice.transport
    named = transport.carrier_scac is not None and transport.shipment_control_number is not None
    return transport.mode_of_transport.exact == "truck" and named


def paps_cover_sheet(invoice: Invoice) -> bytes:
    """Return the PDF."""
    return typeset(invoice, TEMPLATE, plan_parts([0]))


def paps_number(invoice: Invoice) -> str:
    """Return the number of the barcode: the SCAC and the carrier's number, which may already begin with the SCAC."""
    scac, number = invoice.transport.carrier_scac or "", invoice.transport.shipment_control_number or ""
    return number if number.startswith(scac) else scac + number


def _facts(invoice: Invoice, _cut: slice) -> bytes:
    facts = invoice.model_dump(mode="json", include=_PRINTED, context=FOR_PEOPLE)
    articles = list(dict.fromkeys(line.description for line in invoice.lines))
    facts["articles"], facts["more"] = articles[:MAX_ARTICLES], len(articles[MAX_ARTICLES:])
    facts["broker"] = invoice.customs_broker
    facts["filled"] = _list_filled(invoice)
    side = invoice.canadian_export
    facts["export"] = None if side is None else describe_export(side)
    facts["business_number"] = None if side is None else side.business_number
    declarant = invoice.declaration
    facts["contact"] = [each for each in (declarant.name, declarant.phone or declarant.email) if each]
    return json.dumps(facts, ensure_ascii=False).encode()


def _list_filled(invoice: Invoice) -> dict[str, str]:
    """Return what the plan gives of the blanks that the carrier otherwise fills in, by the label of the blank."""
    trip = invoice.trip
    if trip is None:
        return {}
    filled = {
        "Driver's name": None if trip.driver is None else trip.driver.name,
        "Truck plate": describe_truck(trip),
        "Trailer or container and seal": describe_trailers(trip),
    }
    return {label: value for label, value in filled.items() if value is not None}


def _remarks(invoice: Invoice, _cut: slice) -> dict[str, Any]:
    number = paps_number(invoice)
    modules, bars = code128_bars(number)
    return {"number": number, "modules": modules, "bars": bars}


TEMPLATE = TypstTemplate("paps_cover_sheet.typ", _facts, _remarks)
