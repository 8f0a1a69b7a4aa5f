"""The models of the metal rules: what a line on a list of U.S. note 16(c) must say of its metals, and the weight test."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from pipeline.customs.reference.base import Chapter, Day, Figure, Metal, ReferenceData, ReferenceRow, without_dots
from pipeline.customs.reference.chapter99 import Country, Heading, HeadingRanges
from pipeline.customs.reference.hts_lists import Provision

MetalField = Literal[
    "country_of_melt_and_pour", "primary_country_of_smelt", "secondary_country_of_smelt", "country_of_cast"
]


class WeightTest(ReferenceRow):
    """The share of metal, in percent of net weight, below which `heading` replaces the duty headings."""

    heading: Heading
    least_percent: Figure
    exempt_chapters: frozenset[Chapter]
    duty_headings: HeadingRanges


class MetalNeeds(ReferenceRow):
    """The countries that must be given for one metal, always (`needs`) or if they exist (`if_any`).

    Customs refuses entries without them from `fatal_from`. `unknown` may be given for a country if the code is on a list of
    a kind in `unknown_on`.
    """

    metal: Metal
    needs: tuple[MetalField, ...]
    if_any: tuple[MetalField, ...] = ()
    codes: tuple[Provision, ...] = ()
    unknown: str
    unknown_on: frozenset[Literal["articles", "derivative"]]
    fatal_from: Day = None

    def applies_to(self, hts_code: str) -> bool:
        """Return whether the row applies to the HTS code."""
        return not self.codes or any(hts_code.startswith(without_dots(code)) for code in self.codes)


class UnreportableMetals(ReferenceRow):
    """Origins for whose goods the countries of the metals must not be reported."""

    metals: frozenset[Metal]
    origins: frozenset[Country]


class UnknownAluminum(ReferenceRow):
    """The country value that means unknown, and the headings that may apply then."""

    value: str
    headings: tuple[Heading, ...]


class MetalRules(ReferenceData):
    """The rules for the data of a line's metals, and the weight tests."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    no_metal_heading: Heading
    weight_tests: tuple[WeightTest, ...]
    metals: tuple[MetalNeeds, ...]
    unreportable: tuple[UnreportableMetals, ...] = ()
    unknown_aluminum: UnknownAluminum

    def find_weight_test(self, on: date) -> WeightTest | None:
        """Return the weight test that is in force on the day, or None."""
        return next((test for test in self.weight_tests if test.in_force(on)), None)

    def find_needs(self, metal: str, hts_code: str, on: date) -> tuple[MetalNeeds, ...]:
        """Return the rows for the metal and the HTS code that are in force on the day."""
        return tuple(row for row in self.metals if row.metal == metal and row.in_force(on) and row.applies_to(hts_code))

    def find_unreportable(self, metal: str, origin: str, on: date) -> UnreportableMetals | None:
        """Return the row that forbids reporting the metal's countries for goods of the origin, or None."""
        rows = (row for row in self.unreportable if metal in row.metals and origin in row.origins)
        return next((row for row in rows if row.in_force(on)), None)
