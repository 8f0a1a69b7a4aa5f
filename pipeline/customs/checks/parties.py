"""Whether every country that a unit names is one: a province of Canada is a country in no field but the MID."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.core.findings import Finding
from pipeline.customs.reference.entry import entry_rules, mid_rules
from pipeline.exports.schemas.plan import Address, Line, Unit

_METAL_COUNTRIES = (
    ("countryOfMeltAndPour", "country_of_melt_and_pour"),
    ("primaryCountryOfSmelt", "primary_country_of_smelt"),
    ("secondaryCountryOfSmelt", "secondary_country_of_smelt"),
    ("countryOfCast", "country_of_cast"),
)
#: What a metal's country may be beside a country: not known.
_UNKNOWN = "OTH"


def check_countries(unit: Unit, pointer: str) -> Iterator[Finding]:
    """Yield each country code of the unit that no country has (V36)."""
    known = entry_rules().countries.codes
    for here, code in _named(unit):
        if code not in known:
            yield country_finding(f"{pointer}/{here}", code)


def country_finding(pointer: str, code: str) -> Finding:
    """Return the finding of a code that no country has."""
    rules = entry_rules().countries
    province = code in mid_rules().provinces
    return Finding(
        rule="V36",
        severity=rules.severity,
        pointer=pointer,
        message=f"{code} is the code of a Canadian province in a MID, and no country."
        if province
        else f"{code} is the code of no country.",
        remedy="Write CA; the province stands in the manufacturer's MID alone."
        if province
        else "Write the country's two letters of ISO 3166-1, such as CA, GB or KR.",
        source=rules.source,
    )


def _named(unit: Unit) -> Iterator[tuple[str, str]]:
    for here, address in _addresses(unit):
        yield f"{here}/country", address.country
    for place, line in enumerate(unit.lines):
        for here, code in _of_line(line):
            yield f"lines/{place}/{here}", code


def _addresses(unit: Unit) -> Iterator[tuple[str, Address]]:
    parties = unit.parties
    yield "parties/seller/address", parties.seller.address
    yield "parties/buyer/address", parties.buyer.address
    yield "parties/shipTo/address", parties.ship_to.address
    if parties.importer_of_record.address is not None:
        yield "parties/importerOfRecord/address", parties.importer_of_record.address
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


def _of_line(line: Line) -> Iterator[tuple[str, str]]:
    yield "countryOfOrigin", line.country_of_origin
    if line.country_of_export != line.country_of_origin:
        yield "countryOfExport", line.country_of_export
    for place, row in enumerate(line.treatment.section232):
        for key, name in _METAL_COUNTRIES:
            code = getattr(row, name)
            if code is not None and code != _UNKNOWN:
                yield f"treatment/section232/{place}/{key}", code
