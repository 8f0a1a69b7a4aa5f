"""What must hold of the parties of a unit: where the goods go, whom to ask, and makers that are told apart."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.core.findings import Finding
from pipeline.customs.reference.entry import entry_rules
from pipeline.exports.schemas.plan import REFERENCES, Unit


def check_parties(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield what is wrong with the unit's parties; their identification codes are checked elsewhere."""
    yield from _ship_to(unit, f"{pointer}/parties/shipTo/address")
    contact = unit.parties.exporter_contact
    for name, value in (("email", contact.email), ("phone", contact.phone)):
        if value is None:
            yield Finding(
                rule="V19",
                severity="warn",
                pointer=f"{pointer}/parties/exporterContact/{name}",
                message=f"The exporter's contact of unit {unit.unit_ref} has no {name}.",
                remedy="Add it, so that the broker can ask before the goods are held.",
                source="19 CFR 141.86(j)",
            )
    seen: set[str] = set()
    for place, manufacturer in enumerate(unit.parties.manufacturers):
        if manufacturer.ref in seen:
            yield Finding(
                rule="V24",
                severity="block",
                pointer=f"{pointer}/parties/manufacturers/{place}/ref",
                message=f"Manufacturer {manufacturer.ref} is in unit {unit.unit_ref} twice.",
                remedy="Give every manufacturer a ref of its own.",
                source=REFERENCES,
            )
        seen.add(manufacturer.ref)


def _ship_to(unit: Unit, here: str) -> Iterator[Finding]:
    rules = entry_rules()
    address = unit.parties.ship_to.address
    if address.country != rules.destination:
        yield Finding(
            rule="V25",
            severity="block",
            pointer=f"{here}/country",
            message=f"Unit {unit.unit_ref} is shipped to {address.country}, not to {rules.destination}.",
            remedy="Correct the address, or take the unit out of the plan.",
            source=rules.consignee.source,
        )
    consignee = rules.consignee
    fields = (
        ("region", address.region, "state", address.region in consignee.regions),
        (
            "postalCode",
            address.postal_code,
            "ZIP code",
            consignee.postal_code.fullmatch(address.postal_code or "") is not None,
        ),
    )
    for name, value, said, known in fields:
        if value is None:
            yield Finding(
                rule="V25",
                severity="block",
                pointer=f"{here}/{name}",
                message=f"The ship-to address of unit {unit.unit_ref} lacks its {said}.",
                remedy="Complete the address of the consignee.",
                source="19 CFR 141.86(a)(2)",
            )
        elif not known and address.country == rules.destination:
            yield Finding(
                rule="V25",
                severity=consignee.severity,
                pointer=f"{here}/{name}",
                message=f"{value} in the ship-to address of unit {unit.unit_ref} is no {said} that is known here.",
                remedy="Write the state by its two letters and the ZIP code by its digits, such as NY 14203.",
                source=consignee.source,
            )
