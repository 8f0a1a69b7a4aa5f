"""Checks of a truck at the border: the carrier's numbers, the port, and the trip as the carrier's manifest has it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pipeline.core.findings import Finding, Severity
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.reference.base import join_words
from pipeline.customs.reference.ports import port_rules
from pipeline.customs.reference.transport import CargoControlNumber, transport_rules
from pipeline.exports.schemas.plan import Plan, Unit
from pipeline.exports.schemas.transport import CrewMember, Trip

#: What customs must have of a truck, by member of the entry: the severity without it, its words, and who has it. A plan is
#: often approved before a truck has an hour, so that it lacks one is a note.
_NEEDED: Final[Mapping[str, tuple[str, Severity, str, str]]] = {
    "carrier_scac": ("carrierScac", "warn", "the carrier's SCAC", "Ask the carrier for its SCAC, four letters mostly."),
    "shipment_control_number": (
        "shipmentControlNumber",
        "warn",
        "the shipment control number (PAPS number)",
        "Ask the carrier for the number of this shipment on its manifest.",
    ),
    "estimated_arrival_at": (
        "estimatedArrivalAt",
        "note",
        "its arrival at the border",
        "Give the day and time at which the carrier expects to cross; the export date stands for it until then.",
    ),
}
_FORM: Final = re.compile("[A-Z0-9]+")
#: The values of letters, and the weights, of a VIN's check digit (49 CFR 565.15).
_VIN_VALUES: Final = dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ", map(int, "12345678123457923456789"), strict=True))
_VIN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


# What the carrier still has to say must not stop an export, so none of these findings blocks.
def check_transport(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield what a truck's unit lacks or says wrongly (C01 to C05)."""
    here = f"{pointer}/entry"
    entry = unit.entry
    if entry.mode_of_transport in transport_rules().advance_data.modes:
        yield from _check_needed(unit, here)
        yield from _check_control_number(unit, here)
        yield from _check_port(unit, here)
    elif entry.trip is not None:
        yield transport_rules().advance_data.warning(
            "C05",
            f"{here}/trip",
            f"Unit {unit.unit_ref} has a truck's trip, but it is carried by {entry.mode_of_transport}.",
            "Remove the trip, or correct the mode of transport.",
        )
    if entry.trip is not None:
        yield from _check_missing(unit, entry.trip, f"{here}/trip")
        yield from _check_trip(unit, entry.trip, f"{here}/trip")


def check_trips(plan: Plan) -> Iterator[Finding]:
    """Yield where units of the plan share a control number (C02), or a trip number without the same trip (C05)."""
    numbers: dict[tuple[str | None, str], str] = {}
    trips: dict[str, tuple[str, list[Any]]] = {}
    for index, unit in enumerate(plan.units):
        entry, here = unit.entry, f"/units/{index}/entry"
        # The parts of one shipment have one number.
        if entry.shipment_control_number is not None and entry.part is None:
            first = numbers.setdefault((entry.carrier_scac, entry.shipment_control_number), unit.unit_ref)
            if first != unit.unit_ref and entry.mode_of_transport in transport_rules().advance_data.modes:
                yield transport_rules().control_number.warning(
                    "C02",
                    f"{here}/shipmentControlNumber",
                    f"Units {first} and {unit.unit_ref} have one shipment control number.",
                    "Give each unit the number of its own shipment; an entry is found by it.",
                )
        if entry.trip is None or entry.trip.number is None:
            continue
        same: list[Any] = [entry.carrier_scac, entry.port_of_entry, entry.estimated_arrival_at, entry.trip.truck]
        same += [entry.trip.trailers, entry.trip.crew]
        unit_ref, before = trips.setdefault(entry.trip.number, (unit.unit_ref, same))
        names = ("carrier", "port", "arrival", "truck", "trailers", "crew")
        different = [name for name, one, other in zip(names, before, same, strict=True) if one != other]
        if different:
            yield transport_rules().advance_data.warning(
                "C05",
                f"{here}/trip",
                f"Units {unit_ref} and {unit.unit_ref} are on one trip, but differ in {join_words(different)}.",
                "Give both units the same facts, or another trip number to one of them.",
            )


def _check_needed(unit: Unit, here: str) -> Iterator[Finding]:
    for attribute, (member, severity, what, remedy) in _NEEDED.items():
        if getattr(unit.entry, attribute) is None:
            yield Finding(
                rule="C01",
                severity=severity,
                pointer=f"{here}/{member}",
                message=f"Unit {unit.unit_ref} comes by truck, but the plan lacks {what}.",
                remedy=remedy,
                source=transport_rules().advance_data.source,
            )


def _check_control_number(unit: Unit, here: str) -> Iterator[Finding]:
    scac, number = unit.entry.carrier_scac, unit.entry.shipment_control_number
    rule, canadian = transport_rules().control_number, transport_rules().cargo_control_number
    if number is None:
        return
    if canadian is not None and not number.startswith(scac or " ") and _is_canadian(number, canadian):
        yield canadian.warning(
            "C02",
            f"{here}/shipmentControlNumber",
            f"Shipment control number {number} of unit {unit.unit_ref} looks like a Canadian cargo control number "
            f"({canadian.label} number), which is for goods that enter Canada.",
            "Ask the carrier for the PAPS number: its SCAC and the number of this shipment on its manifest for the United States.",
        )
        return
    if scac is None:
        return
    rest = number.removeprefix(scac)
    if not number.startswith(scac):
        problem = f"does not begin with the carrier's SCAC, {scac}"
    elif not _FORM.fullmatch(rest):
        problem = "has other characters after the SCAC than capital letters and digits, or none"
    elif len(rest) > rule.longest_after_scac:
        problem = f"has {len(rest)} characters after the SCAC, more than {rule.longest_after_scac}"
    else:
        return
    yield rule.warning(
        "C02",
        f"{here}/shipmentControlNumber",
        f"Shipment control number {number} of unit {unit.unit_ref} {problem}.",
        f"Write it as on the carrier's manifest: the SCAC and up to {rule.longest_after_scac} letters and digits.",
    )


def is_shipment_number(number: str | None, unit: Unit) -> bool:
    """Return whether a number is the unit's shipment control number, with or without the carrier's SCAC before it."""
    scac, entered = unit.entry.carrier_scac or "", unit.entry.shipment_control_number
    return number is not None and entered is not None and number in (entered, scac + entered)


def _is_canadian(number: str, rule: CargoControlNumber) -> bool:
    """Return whether a number that does not begin with the carrier's SCAC has the form of a cargo control number.

    No SCAC has a digit, and a Canadian carrier code mostly begins with one; a label often has the word PARS after the code.
    """
    return number[0].isdigit() or number[rule.carrier_code :].startswith(rule.label)


def _check_port(unit: Unit, here: str) -> Iterator[Finding]:
    rule, known = transport_rules().land_ports, port_rules().ports.ports
    country = unit.lines[0].country_of_export
    ports = rule.ports.get(country)
    port = unit.entry.port_of_entry
    # E05 names an unknown port.
    if ports is None or port in ports or port not in known:
        return
    elsewhere = any(port in others for others in rule.ports.values())
    where = "on another border" if elsewhere else "not known as one where trucks cross from there"
    yield rule.warning(
        "C03",
        f"{here}/portOfEntry",
        f"Unit {unit.unit_ref} comes by truck from {country}, but port {port}, {known[port]}, is {where}.",
        "Correct the port. If the goods move in bond to an inland port, ask the broker.",
    )


def _check_missing(unit: Unit, trip: Trip, here: str) -> Iterator[Finding]:
    truck, driver = trip.truck, trip.driver
    plates = [] if truck is None else [truck.license_plate, truck.plate_region]
    facts: dict[str, Any] = {
        "the trip number": trip.number,
        "the place of loading": trip.loaded_at,
        "the truck's licence plate with its state or province, or its VIN": (truck is not None and truck.vin)
        or (plates and all(plates)),
        "the driver": driver,
    }
    missing = [name for name, fact in facts.items() if not fact]
    for member in trip.crew:
        of = {
            "day of birth": member.date_of_birth,
            "citizenship": member.citizenship,
            "travel document": member.documents,
        }
        missing += [f"the {member.role}'s {name}" for name, fact in of.items() if not fact]
    if missing:
        yield transport_rules().advance_data.warning(
            "C04",
            here,
            f"The truck manifest of unit {unit.unit_ref} lacks {join_words(dict.fromkeys(missing))}.",
            "Ask the carrier; it sends the manifest to customs before the truck arrives.",
        )


def _check_trip(unit: Unit, trip: Trip, here: str) -> Iterator[Finding]:
    rules, scac = transport_rules(), unit.entry.carrier_scac
    if trip.number is not None and scac is not None and not trip.number.startswith(scac):
        yield rules.trip_number.warning(
            "C05",
            f"{here}/number",
            f"Trip number {trip.number} of unit {unit.unit_ref} does not begin with the carrier's SCAC, {scac}.",
            "Write it as on the carrier's manifest.",
        )
    if is_shipment_number(trip.number, unit):
        yield rules.trip_number.warning(
            "C05",
            f"{here}/number",
            f"Trip number {trip.number} of unit {unit.unit_ref} is also its shipment control number.",
            "Ask the carrier for both: a trip has one number, and each of its shipments has its own.",
        )
    if trip.truck is not None and trip.truck.vin is not None and not is_vin(trip.truck.vin):
        yield rules.vehicle_number.warning(
            "C05",
            f"{here}/truck/vin",
            f"The VIN of the truck of unit {unit.unit_ref} has a wrong check digit.",
            "Copy it again from the truck's papers.",
        )
    drivers = sum(member.role == "driver" for member in trip.crew)
    if drivers > 1:
        yield rules.crew.warning(
            "C05",
            f"{here}/crew",
            f"The trip of unit {unit.unit_ref} has {drivers} drivers.",
            "Name one driver; a second one has the role crew.",
        )
    for place, member in enumerate(trip.crew):
        yield from _check_person(unit, member, f"{here}/crew/{place}")


def _check_person(unit: Unit, member: CrewMember, here: str) -> Iterator[Finding]:
    # A message must not repeat what identifies a person: it stands in logs, in documents and on pages.
    rule, born, on = transport_rules().crew, member.date_of_birth, entry_date(unit)
    if born is not None and (born > on or on.year - born.year > rule.oldest_years):
        yield rule.warning(
            "C05",
            f"{here}/dateOfBirth",
            f"The day of birth of the {member.role} of unit {unit.unit_ref} is in the future, or more than "
            f"{rule.oldest_years} years ago.",
            "Correct it; customs refuses such a day.",
        )
    for place, document in enumerate(member.documents):
        if document.expires_on is not None and document.expires_on < on:
            kind = document.type.replace("_", " ")
            yield rule.warning(
                "C05",
                f"{here}/documents/{place}/expiresOn",
                f"The {member.role} of unit {unit.unit_ref} has a {kind} that expires before the arrival.",
                "Name a document that is valid on the day of arrival.",
            )


def is_vin(number: str) -> bool:
    """Return whether the ninth character of a VIN of 17 characters is the check digit of the others."""
    values = (int(each) if each.isdigit() else _VIN_VALUES[each] for each in number)
    rest = sum(value * weight for value, weight in zip(values, _VIN_WEIGHTS, strict=True)) % 11
    return number[8] == ("X" if rest == 10 else str(rest))
