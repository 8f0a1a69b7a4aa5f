"""The dated reference data of trucks at the border, of their manifests, and of Canada's export reporting."""

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


class CargoControlNumber(ReferenceRow):
    """The form of a Canadian cargo control number, and the word that a label for goods entering Canada has in it."""

    carrier_code: int
    longest: int
    label: str


class TripNumber(ReferenceRow):
    """The form of a trip number."""

    longest: int


class CrewData(ReferenceRow):
    """What a crew member's day of birth may be."""

    oldest_years: int


class LandPorts(ReferenceRow):
    """The ports at which trucks cross, by country of export. Rules that were stored before have names, too."""

    ports: dict[str, frozenset[str] | dict[str, str]]


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
    cargo_control_number: CargoControlNumber | None = None  # rules that were stored before lack it
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
