"""The truck manifest as data: what the carrier keys into ACE for one shipment, as CSV files in one ZIP."""

from collections.abc import Iterator
from typing import Final

from pipeline.documents.formats.cells import Cell, choose, join_values, read_columns
from pipeline.documents.formats.columns import LINE_COLUMNS
from pipeline.documents.formats.consignees import list_line_consignees
from pipeline.documents.formats.entry_filing import party_columns
from pipeline.documents.formats.facts import list_line_facts
from pipeline.documents.formats.invoice import zip_tables
from pipeline.documents.formats.invoice_columns import RECORD_COLUMNS
from pipeline.documents.formats.line_declarations import read_attribute
from pipeline.documents.formats.paps_cover_sheet import paps_number
from pipeline.documents.formats.transport import LOADING_COLUMNS, TRUCK_COLUMNS, find_arrival
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.transport import Trip

VERSION: Final = "3"

_RECORD: Final = choose(
    RECORD_COLUMNS, "batch_id", "package_no", "revision", "plan_hash", "export_treatment_digest", "test"
)
_PACKED: Final = choose(LINE_COLUMNS, "package_ids", "sscc_list")

#: The attribute of a line with the number of dangerous goods.
_UN_NUMBER: Final = "unNumber"


def has_trip(invoice: Invoice) -> bool:
    """Return whether a truck brings the goods on a trip that the plan gives."""
    return invoice.trip is not None and invoice.transport.mode_of_transport.exact == "truck"


def truck_manifest(invoice: Invoice) -> bytes:
    """Return the ZIP with `trip.csv`, `equipment.csv`, `crew.csv`, `shipments.csv` and `commodities.csv`."""
    trip = find_trip(invoice)
    tables = {
        "trip.csv": [_trip_row(invoice, trip)],
        "equipment.csv": _equipment_rows(trip),
        "crew.csv": _crew_rows(trip),
        "shipments.csv": [_shipment_row(invoice, trip)],
        "commodities.csv": _commodity_rows(invoice),
    }
    return zip_tables(tables, invoice.header.invoice_date)


def find_trip(invoice: Invoice) -> Trip:
    """Return the trip of the invoice; raises ValueError if it has none."""
    if invoice.trip is None:
        raise ValueError("the truck manifest needs an invoice with a trip; this one has none")
    return invoice.trip


def _trip_row(invoice: Invoice, trip: Trip) -> dict[str, Cell]:
    transport = invoice.transport
    return {
        "trip_number": trip.number,
        "carrier_scac": transport.carrier_scac,
        "port_of_entry": transport.port_of_entry,
        "estimated_arrival": find_arrival(invoice),
        **read_columns(TRUCK_COLUMNS, trip),
        "trailers": len(trip.trailers),
        "crew": len(trip.crew),
        **read_columns(_RECORD, invoice),
    }


def _equipment_rows(trip: Trip) -> Iterator[dict[str, Cell]]:
    for trailer in trip.trailers:
        yield {
            "trip_number": trip.number,
            "type": trailer.type,
            "number": trailer.number,
            "plate": trailer.license_plate,
            "plate_state": trailer.plate_region,
            "plate_country": trailer.plate_country,
            "seals": join_values(trailer.seals),
        }


def _crew_rows(trip: Trip) -> Iterator[dict[str, Cell]]:
    for member in trip.crew:
        papers = member.documents
        yield {
            "trip_number": trip.number,
            "role": member.role,
            "family_name": member.family_name,
            "given_name": member.given_name,
            "date_of_birth": member.date_of_birth,
            "gender": member.gender,
            "citizenship": member.citizenship,
            "document_types": join_values(each.type for each in papers),
            "document_numbers": join_values(each.number for each in papers),
            "document_countries": join_values(each.country for each in papers),
            "document_states": join_values(each.region for each in papers),
            "document_expiries": join_values(
                None if each.expires_on is None else each.expires_on.isoformat() for each in papers
            ),
        }


def _shipment_row(invoice: Invoice, trip: Trip) -> dict[str, Cell]:
    transport, totals, summary = invoice.transport, invoice.totals, invoice.package_summary
    side = invoice.canadian_export
    return {
        "trip_number": trip.number,
        "shipment_control_number": paps_number(invoice) if transport.shipment_control_number else None,
        "shipment_type": "PAPS",
        "entry_type": str(transport.entry_type.exact),
        "port_of_entry": transport.port_of_entry,
        **read_columns(party_columns("shipper"), invoice.parties.seller),
        **read_columns(party_columns("consignee"), invoice.parties.ship_to),
        "customs_broker": invoice.customs_broker,
        "quantity": summary.manifest_count,
        "quantity_unit": "packages",
        "gross_weight_kg": summary.manifest_weight_kg.exact,
        "value": totals.goods_value.exact,
        "currency": totals.currency,
        **read_columns(LOADING_COLUMNS, trip),
        "invoice_no": invoice.header.number,
        "no_declaration_code": None if side is None else side.no_declaration_code,
        "proof_of_report": None if side is None else side.proof_of_report,
        "cargo_control_number": None if side is None else side.cargo_control_number,
    }


def _commodity_rows(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    number = paps_number(invoice) if invoice.transport.shipment_control_number else None
    for row in list_line_facts(invoice):
        line = row.line
        yield {
            "shipment_control_number": number,
            "line_no": line.number,
            "description": line.description,
            "hts10": line.hts_code.exact,
            "origin": line.country_of_origin,
            "quantity": line.quantity.exact,
            "uom": line.unit,
            "gross_weight_kg": line.gross_weight_kg.exact,
            "value": line.line_value.exact,
            "currency": invoice.header.currency,
            "un_number": read_attribute(line, _UN_NUMBER),
            **read_columns(_PACKED, row),
            "consignees": join_values(each.name for each in list_line_consignees(invoice, line)),
        }
