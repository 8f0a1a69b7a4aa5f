"""What a line on a list of U.S. note 16(c) must say of its metals, and the test by their weight: the data's shape."""

from __future__ import annotations

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
    """The share of metal, percent of net weight, below which `heading` takes the place of the duty headings."""

    heading: Heading
    least_percent: Figure
    exempt_chapters: frozenset[Chapter]
    duty_headings: HeadingRanges


class MetalNeeds(ReferenceRow):
    """What must be known of one metal, and what `if_any`; entries are refused without it from `fatal_from`.

    `unknown` may be given for a country where the lists that the code is on are of the kinds `unknown_on`.
    """

    metal: Metal
    needs: tuple[MetalField, ...]
    if_any: tuple[MetalField, ...] = ()
    codes: tuple[Provision, ...] = ()
    unknown: str
    unknown_on: frozenset[Literal["articles", "derivative"]]
    fatal_from: Day = None

    def applies_to(self, hts_code: str) -> bool:
        """Tell whether the metal is asked for under the ten digits of `hts_code`."""
        return not self.codes or any(hts_code.startswith(without_dots(code)) for code in self.codes)


class UnreportableMetals(ReferenceRow):
    """Goods of which the countries of the metals may not be told."""

    metals: frozenset[Metal]
    origins: frozenset[Country]


class UnknownAluminum(ReferenceRow):
    """The country value that says unknown, and the headings that then may apply."""

    value: str
    headings: tuple[Heading, ...]


class MetalRules(ReferenceData):
    """What must be known of the metals of a line, and the tests by their weight."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    no_metal_heading: Heading
    weight_tests: tuple[WeightTest, ...]
    metals: tuple[MetalNeeds, ...]
    unreportable: tuple[UnreportableMetals, ...] = ()
    unknown_aluminum: UnknownAluminum

    def find_weight_test(self, on: date) -> WeightTest | None:
        """Return the test by weight that is in force on the day."""
        return next((test for test in self.weight_tests if test.in_force(on)), None)

    def find_needs(self, metal: str, hts_code: str, on: date) -> tuple[MetalNeeds, ...]:
        """Return what must be known of the metal under the ten digits on the day."""
        return tuple(row for row in self.metals if row.metal == metal and row.in_force(on) and row.applies_to(hts_code))

    def find_unreportable(self, metal: str, origin: str, on: date) -> UnreportableMetals | None:
        """Return why the countries of the metal may not be told of goods of the origin, if they may not."""
        rows = (row for row in self.unreportable if metal in row.metals and origin in row.origins)
        return next((row for row in rows if row.in_force(on)), None)
