"""The truck's trip and the Canadian side of the export as columns of a table, and in words for printed pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.documents.formats.columns import Cell, join_values
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.transport import CanadianExport, Trip, Truck

_DECLARED: Final = {"cers": "Declared in CERS", "summary_report": "Summary report"}


def has_transport(invoice: Invoice) -> bool:
    """Return whether the plan gives a truck's trip or the Canadian side of the export."""
    return invoice.trip is not None or invoice.canadian_export is not None


def truck_columns(trip: Trip) -> dict[str, Cell]:
    """Return the truck's plate and numbers and the place of loading; None for what is not given."""
    truck, loaded_at = trip.truck or Truck(), trip.loaded_at
    place: dict[str, Cell] = dict.fromkeys(("loading_city", "loading_state", "loading_country"))
    if loaded_at is not None:
        place = dict(zip(place, (loaded_at.city, loaded_at.region, loaded_at.country), strict=True))
    return {
        "truck_plate": truck.license_plate,
        "truck_plate_state": truck.plate_region,
        "truck_plate_country": truck.plate_country,
        "truck_vin": truck.vin,
        "truck_transponder": truck.transponder,
        **place,
    }


def transport_columns(invoice: Invoice) -> dict[str, Cell]:
    """Return the trip and the export side as column name to value; of the crew it has only the driver's name."""
    trip = invoice.trip or Trip()
    side = invoice.canadian_export
    return {
        "trip_number": trip.number,
        **truck_columns(trip),
        "trailers": join_values(trailer.number for trailer in trip.trailers),
        "trailer_plates": join_values(trailer.license_plate for trailer in trip.trailers),
        "seals": join_values(seal for trailer in trip.trailers for seal in trailer.seals),
        "driver_name": None if trip.driver is None else trip.driver.name,
        "export_declaration": None if side is None else side.declaration,
        "exporter_bn": None if side is None else side.business_number,
        "proof_of_report": None if side is None else side.proof_of_report,
        "cargo_control_number": None if side is None else side.cargo_control_number,
        "no_declaration_code": None if side is None else side.no_declaration_code,
        "export_statement": None if side is None else side.statement,
        "province_of_origin": None if side is None else side.province_of_origin,
        "export_permits": None if side is None else join_values(permit.number for permit in side.permits),
    }


def describe_truck(trip: Trip) -> str | None:
    """Return the truck's plate with its state or province, or its VIN; None if neither is given."""
    truck = trip.truck or Truck()
    if truck.license_plate is None:
        return None if truck.vin is None else f"VIN {truck.vin}"
    return " ".join(filter(None, (truck.license_plate, truck.plate_region)))


def describe_trailers(trip: Trip) -> str | None:
    """Return each trailer or container with its seals; None if there is none."""
    shown = (each.number + (f" (seal {', '.join(each.seals)})" if each.seals else "") for each in trip.trailers)
    return "; ".join(shown) or None


def describe_export(side: CanadianExport) -> str:
    """Return what Canada's customs is given, in words: the declaration or why there is none, permits, and cargo control number."""
    if side.declaration == "not_required":
        words = ["No declaration required", side.no_declaration_code, side.statement]
    else:
        words = [_DECLARED[side.declaration], side.proof_of_report]
    # A statement often has the number already.
    words += [f"{permit.kind} {permit.number}" for permit in side.permits if not _names(side.statement, permit.number)]
    if side.cargo_control_number is not None:
        words.append(f"cargo control number {side.cargo_control_number}")
    return ", ".join(word for word in words if word)


def _names(text: str | None, number: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(number)}(?![\w-])", text or "") is not None


def describe_transport(invoice: Invoice) -> Iterator[tuple[str, str]]:
    """Yield what the plan gives of trip and export side: each fact's name and value."""
    trip, side = invoice.trip, invoice.canadian_export
    if trip is not None:
        driver = trip.driver
        facts = {
            "Trip number": trip.number,
            "Truck plate": describe_truck(trip),
            "Trailers and seals": describe_trailers(trip),
            "Driver's name": None if driver is None else driver.name,
        }
        yield from ((name, value) for name, value in facts.items() if value is not None)
    if side is not None:
        yield "Canadian export", describe_export(side)
        if side.business_number is not None:
            yield "Exporter's business number", side.business_number


__all__ = [
    "describe_export",
    "describe_trailers",
    "describe_transport",
    "describe_truck",
    "has_transport",
    "transport_columns",
    "truck_columns",
]
