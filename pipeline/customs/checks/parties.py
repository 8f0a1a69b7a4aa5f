"""Checks of a unit's parties, and of its country codes: only a MID may use the code of a Canadian province."""

from collections.abc import Iterator
from datetime import date

from pipeline.core.findings import Finding
from pipeline.customs.reference.entry import entry_rules, mid_rules
from pipeline.exports.schemas.plan import REFERENCES, Address, Line, Manufacturer, Unit

_METAL_COUNTRIES = (
    ("countryOfMeltAndPour", "country_of_melt_and_pour"),
    ("primaryCountryOfSmelt", "primary_country_of_smelt"),
    ("secondaryCountryOfSmelt", "secondary_country_of_smelt"),
    ("countryOfCast", "country_of_cast"),
)
#: The value of a metal's country that means "not known".
_UNKNOWN = "OTH"


def check_countries(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield each country code of the unit that is not a country (V36)."""
    known = entry_rules().countries.codes
    for here, code in _country_codes(unit):
        if code not in known:
            yield country_finding(f"{pointer}/{here}", code)


def country_finding(pointer: str, code: str) -> Finding:
    """Return the finding for a code that is not a country (V36)."""
    rules = entry_rules().countries
    province = code in mid_rules().provinces
    return rules.finding(
        "V36",
        pointer,
        f"{code} is not a country code; it is a MID's code for a Canadian province."
        if province
        else f"{code} is not a country code.",
        "Use CA; only the manufacturer's MID names the province."
        if province
        else "Use the two-letter ISO 3166-1 code of the country, such as CA, GB or KR.",
    )


def _country_codes(unit: Unit) -> Iterator[tuple[str, str]]:
    for here, address in _addresses(unit):
        yield f"{here}/country", address.country
    for place, line in enumerate(unit.lines):
        for here, code in _line_country_codes(line):
            yield f"lines/{place}/{here}", code


def _addresses(unit: Unit) -> Iterator[tuple[str, Address]]:
    parties = unit.parties
    yield "parties/seller/address", parties.seller.address
    yield "parties/buyer/address", parties.buyer.address
    yield "parties/shipTo/address", parties.ship_to.address
    if parties.importer_of_record.address is not None:
        yield "parties/importerOfRecord/address", parties.importer_of_record.address
    if parties.importer_of_record.resident_agent is not None:
        yield "parties/importerOfRecord/residentAgent/address", parties.importer_of_record.resident_agent.address
    for place, consignee in enumerate(parties.ultimate_consignees):
        yield f"parties/ultimateConsignees/{place}/address", consignee.address
    for place, maker in enumerate(parties.manufacturers):
        yield f"parties/manufacturers/{place}/address", maker.address
    for place, certificate in enumerate(unit.usmca_certificates):
        here = f"usmcaCertificates/{place}"
        if certificate.certifier_address is not None:
            yield f"{here}/certifierAddress", certificate.certifier_address
        for name in ("exporter", "producer", "importer"):
            party = getattr(certificate, name)
            if party is not None:
                yield f"{here}/{name}/address", party.address


def _line_country_codes(line: Line) -> Iterator[tuple[str, str]]:
    yield "countryOfOrigin", line.country_of_origin
    if line.country_of_export != line.country_of_origin:
        yield "countryOfExport", line.country_of_export
    for place, row in enumerate(line.treatment.section232):
        for key, name in _METAL_COUNTRIES:
            code = getattr(row, name)
            if code is not None and code != _UNKNOWN:
                yield f"treatment/section232/{place}/{key}", code


def check_parties(unit: Unit, pointer: str, on: date) -> Iterator[Finding]:
    """Yield what is wrong with the unit's parties on the day of entry, except their MIDs (V19, V24, V25, V37)."""
    yield from _check_ship_to(unit, f"{pointer}/parties/shipTo/address")
    contact = unit.parties.exporter_contact
    for name, value in (("email", contact.email), ("phone", contact.phone)):
        if value is None:
            yield Finding.warning(
                "V19",
                f"{pointer}/parties/exporterContact/{name}",
                f"The exporter contact of unit {unit.unit_ref} has no {name}.",
                f"Add the {name}, so that the broker can ask before customs holds the goods.",
                "19 CFR 141.86(j)",
            )
    seen: set[str] = set()
    for place, manufacturer in enumerate(unit.parties.manufacturers):
        if manufacturer.ref in seen:
            yield Finding.blocking(
                "V24",
                f"{pointer}/parties/manufacturers/{place}/ref",
                f"Manufacturer {manufacturer.ref} is in unit {unit.unit_ref} twice.",
                "Give each manufacturer its own ref.",
                REFERENCES,
            )
        seen.add(manufacturer.ref)
        yield from _check_maker_postal_code(
            manufacturer, f"{pointer}/parties/manufacturers/{place}/address/postalCode", on
        )


def _check_maker_postal_code(maker: Manufacturer, here: str, on: date) -> Iterator[Finding]:
    row, code = entry_rules().maker_postal_codes, maker.address.postal_code
    if row is None or not row.in_force(on) or maker.address.country != row.country:
        return
    if code is None or not row.form.fullmatch(code):
        yield row.warning(
            "V37",
            here,
            f"Manufacturer {maker.ref} in {row.country} has {f'postal code {code[:20]}' if code else 'no postal code'}.",
            f"Give its postal code, which matches {row.form.pattern}: customs refuses the release of the cargo without a valid one.",
        )
    elif row.alert.match(code):
        yield row.warning(
            "V37",
            here,
            f"Manufacturer {maker.ref} has postal code {code}, of {row.alert_region}: customs presumes forced labor and may detain "
            "the goods.",
            "Correct the postal code, or ask the importer for its evidence before the goods leave.",
        )


def _check_ship_to(unit: Unit, here: str) -> Iterator[Finding]:
    rules = entry_rules()
    address = unit.parties.ship_to.address
    if address.country != rules.destination:
        yield Finding.blocking(
            "V25",
            f"{here}/country",
            f"Unit {unit.unit_ref} is shipped to {address.country}, not to {rules.destination}.",
            "Correct the ship-to address, or remove the unit from the plan.",
            rules.consignee.source,
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
    for name, value, label, known in fields:
        if value is None:
            yield Finding.blocking(
                "V25",
                f"{here}/{name}",
                f"The ship-to address of unit {unit.unit_ref} has no {label}.",
                f"Add the {label} of the consignee.",
                "19 CFR 141.86(a)(2)",
            )
        elif not known and address.country == rules.destination:
            yield consignee.warning(
                "V25",
                f"{here}/{name}",
                f"{value} in the ship-to address of unit {unit.unit_ref} is not a known {label}.",
                "Write the state as two letters and the ZIP code as digits, such as NY 14203.",
            )
