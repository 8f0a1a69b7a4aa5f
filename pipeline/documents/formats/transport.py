"""The truck's trip and the Canadian side of the export as columns of a table, and in words for printed pages."""

import re
from collections.abc import Iterator
from typing import Final

from pipeline.documents.formats.cells import Cell, Columns, join_values, of_part
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.transport import CanadianExport, LoadingPlace, Trip, Truck

_DECLARED: Final = {"cers": "Declared in CERS", "summary_report": "Summary report"}


def has_transport(invoice: Invoice) -> bool:
    """Return whether the plan gives a truck's trip or the Canadian side of the export."""
    return invoice.trip is not None or invoice.canadian_export is not None


_TRUCK: Final[Columns[Truck]] = {
    "truck_plate": lambda truck: truck.license_plate,
    "truck_plate_state": lambda truck: truck.plate_region,
    "truck_plate_country": lambda truck: truck.plate_country,
    "truck_vin": lambda truck: truck.vin,
    "truck_transponder": lambda truck: truck.transponder,
}
_LOADING: Final[Columns[LoadingPlace]] = {
    "loading_city": lambda place: place.city,
    "loading_state": lambda place: place.region,
    "loading_country": lambda place: place.country,
}
_EXPORT: Final[Columns[CanadianExport]] = {
    "export_declaration": lambda side: side.declaration,
    "exporter_bn": lambda side: side.business_number,
    "proof_of_report": lambda side: side.proof_of_report,
    "cargo_control_number": lambda side: side.cargo_control_number,
    "no_declaration_code": lambda side: side.no_declaration_code,
    "export_statement": lambda side: side.statement,
    "province_of_origin": lambda side: side.province_of_origin,
    "export_permits": lambda side: join_values(permit.number for permit in side.permits),
}

#: Where the truck was loaded, and its plate and numbers.
LOADING_COLUMNS: Final[Columns[Trip]] = of_part(lambda trip: trip.loaded_at, _LOADING)
TRUCK_COLUMNS: Final[Columns[Trip]] = {**of_part(lambda trip: trip.truck, _TRUCK), **LOADING_COLUMNS}
_TRIP: Final[Columns[Trip]] = {
    "trip_number": lambda trip: trip.number,
    **TRUCK_COLUMNS,
    "trailers": lambda trip: join_values(trailer.number for trailer in trip.trailers),
    "trailer_plates": lambda trip: join_values(trailer.license_plate for trailer in trip.trailers),
    "seals": lambda trip: join_values(seal for trailer in trip.trailers for seal in trailer.seals),
    "driver_name": lambda trip: None if trip.driver is None else trip.driver.name,
}
#: The trip and the export side; of the crew only the driver's name.
TRANSPORT_COLUMNS: Final[Columns[Invoice]] = {
    **of_part(lambda invoice: invoice.trip, _TRIP),
    **of_part(lambda invoice: invoice.canadian_export, _EXPORT),
}


def find_arrival(invoice: Invoice) -> Cell:
    """Return when the goods are expected at the border, in UTC; None if the plan does not say."""
    arrival = invoice.transport.estimated_arrival_at
    return None if arrival is None else arrival.exact


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
