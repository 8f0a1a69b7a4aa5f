"""The truck that brings a unit over the border, its crew, and the Canadian side of the export, as a plan gives them."""

from datetime import date
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from pipeline.core.field_types import Day, parse_day
from pipeline.exports.schemas.plan_fields import Country, Ref, StrictModel, Text

Plate = Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9 -]{0,14}$", description="Capital letters and digits")]
Region = Annotated[str, Field(pattern=r"^[A-Z]{2}$", description="State or province, two letters")]
#: A day of birth may be before the first year of a plan's other days.
BirthDay = Annotated[date, BeforeValidator(parse_day)]

#: The members of a crew member that identify a person beyond the name. Messages and comparisons do not show them.
PERSONAL: Final = frozenset({"dateOfBirth", "gender", "citizenship", "documents"})


class LoadingPlace(StrictModel):
    """Where the carrier takes the goods over."""

    city: Text
    region: Region | None = None
    country: Country


class Truck(StrictModel):
    """The truck: its licence plate, and what else identifies it."""

    license_plate: Plate | None = None
    plate_region: Region | None = None
    plate_country: Country | None = None
    vin: Annotated[str, Field(pattern=r"^[A-HJ-NPR-Z0-9]{17}$")] | None = None
    transponder: Ref | None = None


class Trailer(StrictModel):
    """A trailer or container, and the seals on it."""

    type: Literal["trailer", "container"]
    number: Plate
    license_plate: Plate | None = None
    plate_region: Region | None = None
    plate_country: Country | None = None
    seals: list[Ref] = Field(default_factory=list, max_length=6)


class TravelDocument(StrictModel):
    """A document that a person shows at the border."""

    type: Literal[
        "passport", "fast_card", "nexus_card", "enhanced_licence", "permanent_resident_card", "commercial_licence"
    ]
    number: Annotated[str, Field(pattern=r"^[A-Z0-9-]{1,35}$")]
    country: Country
    region: Region | None = None
    expires_on: Day | None = None


class CrewMember(StrictModel):
    """A person in the truck."""

    role: Literal["driver", "crew", "passenger"]
    given_name: Text
    family_name: Text
    date_of_birth: BirthDay | None = None
    gender: Literal["F", "M", "X"] | None = None
    citizenship: Country | None = None
    documents: list[TravelDocument] = Field(default_factory=list, max_length=8)

    @property
    def name(self) -> str:
        """Given name and family name."""
        return f"{self.given_name} {self.family_name}"


class Trip(StrictModel):
    """One trip of a truck over the border, as the carrier's manifest has it."""

    number: Annotated[str, Field(pattern=r"^[A-Z0-9]{1,25}$")] | None = None
    loaded_at: LoadingPlace | None = None
    truck: Truck | None = None
    trailers: list[Trailer] = Field(default_factory=list, max_length=4)
    crew: list[CrewMember] = Field(default_factory=list, max_length=10)

    @property
    def driver(self) -> CrewMember | None:
        """The driver; None if the plan names none."""
        return next((each for each in self.crew if each.role == "driver"), None)

    def describe_truck(self) -> "LoadedTruck":
        """Return the truck and its trailers without the crew."""
        return LoadedTruck(
            trip_number=self.number,
            license_plate=None if self.truck is None else self.truck.license_plate,
            trailer_numbers=[trailer.number for trailer in self.trailers],
        )

    def hide_personal_data(self) -> "Trip":
        """Return the trip with only roles and names of its crew."""
        names = [
            CrewMember(role=each.role, given_name=each.given_name, family_name=each.family_name) for each in self.crew
        ]
        return self.model_copy(update={"crew": names})


class ExportPermit(StrictModel):
    """A permit, certificate or licence for the export of restricted goods."""

    kind: Literal["permit", "certificate", "licence"]
    number: Text
    issued_by: Text | None = None
    expires_on: Day | None = None


class CanadianExport(StrictModel):
    """What Canada's customs is given: an export declaration, or why none is required."""

    declaration: Literal["cers", "summary_report", "not_required"] = Field(
        description="cers: declared in the Canadian Export Reporting System"
    )
    business_number: Annotated[str, Field(pattern=r"^[0-9]{9}RM[0-9]{4}$", description="The exporter's")] | None = None
    proof_of_report: Ref | None = Field(
        default=None, description="The number that shows the report: of the declaration, or of the summary reporter"
    )
    cargo_control_number: Annotated[str, Field(pattern=r"^[A-Z0-9-]{5,25}$")] | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="The carrier's number for Canada's customs, if the goods move in bond to the border",
    )
    no_declaration_code: Annotated[str, Field(pattern=r"^NDR[1-9][0-9]?$")] | None = None
    statement: Text | None = Field(default=None, description="Why none is required, as the transport document says it")
    province_of_origin: Region | None = None
    permits: list[ExportPermit] = Field(default_factory=list, max_length=8)


class LoadedTruck(StrictModel):
    """The truck that takes a package, as the warehouse needs it: without people and customs facts."""

    trip_number: str | None
    license_plate: str | None
    trailer_numbers: list[str]


OptionalTruck = Annotated[
    LoadedTruck | None, Field(exclude_if=lambda value: value is None, description="If the plan gives a truck's trip")
]
PlannedTrip = Annotated[
    Trip | None, Field(exclude_if=lambda value: value is None, description="For a truck: what its manifest says")
]
PlannedExport = Annotated[
    CanadianExport | None, Field(exclude_if=lambda value: value is None, description="The Canadian side of the export")
]
