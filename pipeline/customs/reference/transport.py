"""The dated reference data of trucks at the border, of their manifests, and of Canada's export reporting."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from pipeline.customs.reference.base import Figure, ReferenceData, ReferenceRow
from pipeline.customs.reference.content import RulesContent, load_once, parse_file


class AdvanceData(ReferenceRow):
    """The modes of transport whose carrier must send data ahead."""

    modes: frozenset[str]


class ControlNumber(ReferenceRow):
    """The form of a shipment control number."""

    longest_after_scac: int


class TripNumber(ReferenceRow):
    """The form of a trip number."""

    longest: int


class CrewData(ReferenceRow):
    """What a crew member's day of birth may be."""

    oldest_years: int


class LandPorts(ReferenceRow):
    """The ports at which trucks cross, with their names, by country of export. A name ends in the port's State."""

    ports: dict[str, dict[Annotated[str, Field(pattern=r"^[0-9]{4}$")], Annotated[str, Field(pattern=r" [A-Z]{2}$")]]]

    def find_port(self, code: str) -> str | None:
        """Return the port's name, such as `Champlain NY`; None if the table does not have it."""
        return next((ports[code] for ports in self.ports.values() if code in ports), None)


class NoDeclaration(ReferenceRow):
    """The codes of goods that need no export declaration."""

    codes: dict[str, str]
    unrestricted: frozenset[str]
    low_value: str
    low_value_below_cad: Figure
    with_number: frozenset[str]


class TransportRules(ReferenceData):
    """The rules of trucks, of their manifests, and of the export side."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    as_of: date
    advance_data: AdvanceData
    control_number: ControlNumber
    trip_number: TripNumber
    crew: CrewData
    vehicle_number: ReferenceRow
    one_entry: ReferenceRow
    land_ports: LandPorts
    no_declaration: NoDeclaration
    export_report: ReferenceRow
    business_number: ReferenceRow


@load_once
def transport_rules(content: RulesContent) -> TransportRules:
    """Return the rules of trucks and of the export side."""
    return parse_file(content, TransportRules, "transport.yaml")
