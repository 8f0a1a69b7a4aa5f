"""The programs, families and groups of the ruleset agree with notes, proclamations and editions of the tariff."""

import itertools
import re
from datetime import date, datetime, timedelta

import pycountry
import pytest

from pipeline.customs.reference.chapter99 import DutyProgram
from pipeline.customs.reference.ruleset import ruleset

#: The countries that U.S. note 32(b), another safeguard, spares in HTSUS 2026 Revision 6: partners, developing countries, and
#: those of the Caribbean Basin.
SPARED = """Canada; Mexico; Australia; Costa Rica; Dominican Republic; El Salvador; Guatemala; Honduras; Nicaragua; Colombia; Israel;
Panama; Peru; Singapore; Afghanistan; Albania; Algeria; Angola; Armenia; Azerbaijan; Belize; Benin; Bhutan; Bolivia; Bosnia and
Hercegovina; Botswana; Brazil; Burkina Faso; Burma; Burundi; Cambodia; Cameroon; Cape Verde; Central African Republic; Chad;
Comoros; Congo (Brazzaville); Congo (Kinshasa); Côte d'Ivoire; Djibouti; Dominica; Ecuador; Egypt; Eritrea; Eswatini; Ethiopia;
Fiji; Gabon; Gambia; Georgia; Ghana; Grenada; Guinea; Guinea-Bissau; Guyana; Haiti; Iraq; Jamaica; Jordan; Kazakhstan; Kenya;
Kiribati; Kosovo; Kyrgyzstan; Lebanon; Lesotho; Liberia; Madagascar; Malawi; Maldives; Mali; Mauritania; Mauritius; Moldova;
Mongolia; Montenegro; Mozambique; Namibia; Nepal; Niger; Nigeria; North Macedonia; Pakistan; Papua New Guinea; Paraguay;
Philippines; Rwanda; Saint Lucia; Saint Vincent and the Grenadines; Samoa; Sao Tome and Principe; Senegal; Serbia; Sierra Leone;
Solomon Islands; Somalia; South Africa; South Sudan; Sri Lanka; Suriname; Tanzania; Timor-Leste; Togo; Tonga; Tunisia; Tuvalu;
Uganda; Ukraine; Uzbekistan; Vanuatu; Yemen; Zambia; Zimbabwe; Antigua and Barbuda; Aruba; Bahamas; Barbados; British Virgin
Islands; Curaçao; Montserrat; Saint Kitts and Nevis; Trinidad and Tobago"""
#: Names that ISO 3166 writes otherwise.
NAMES = {
    "Bosnia and Hercegovina": "BA", "Burma": "MM", "Cape Verde": "CV", "Congo (Brazzaville)": "CG", "Congo (Kinshasa)": "CD",
    "Kosovo": "XK", "British Virgin Islands": "VG",
}  # fmt: skip


def test_safeguard_on_quartz_spares_the_countries_of_another_safeguard() -> None:
    names = [" ".join(name.split()) for name in SPARED.split(";")]
    theirs = {NAMES.get(name) or pycountry.countries.lookup(name).alpha_2 for name in names}
    # Proclamation 11051 spares Korea too, and notes 17(b) and 18(b) have Indonesia among the developing countries.
    (ours,) = [set(group.countries) for group in ruleset().country_groups if group.name == "QUARTZ_EXEMPT"]
    assert ours == theirs | {"KR", "ID"}


#: Which duties exclude each other, by kind of goods: U.S. note 2(aa)(v)(2), (3) and (5) to (7) of HTSUS 2026 Revision 6, without
#: 9903.94.02 and .06, which are for a part of the goods. `taiwan` has the headings that Revision 10 added.
VEHICLES = "9903.94.01 9903.94.03 9903.94.31 9903.94.40 9903.94.41 9903.94.50 9903.94.51 9903.94.60 9903.94.61".split()
PARTS = (
    "9903.94.05 9903.94.07 9903.94.32 9903.94.33 9903.94.42 9903.94.43 9903.94.44 9903.94.45 9903.94.52 9903.94.53 9903.94.54 "
    "9903.94.55 9903.94.62 9903.94.63 9903.94.64 9903.94.65"
).split()
TAIWAN = "9903.94.66 9903.94.67 9903.94.68 9903.94.69".split()
TRUCKS = "9903.74.01 9903.74.02 9903.74.03 9903.74.06".split()
TRUCK_PARTS = "9903.74.08 9903.74.09 9903.74.10".split()
SEMICONDUCTORS = ["9903.79.01"]
METALS = {*VEHICLES, *PARTS, *TAIWAN, *TRUCKS, *TRUCK_PARTS, *SEMICONDUCTORS}
#: The headings whose goods are not subject to the duties of a program, by the notes: 33 and 38 of metals and wood, 39 of metals
#: and parts. Goods on the list of semiconductors are not vehicles. Note 19 has Russian aluminum apart.
YIELDS = {
    "S232_METALS": METALS,
    "S232_STEEL_LEGACY": METALS,
    "S232_COPPER_LEGACY": METALS,
    "S232_ALUMINUM_LEGACY": METALS | {"9903.85.67", "9903.85.68"},
    "S232_WOOD": {*PARTS, *TAIWAN, *TRUCK_PARTS[:2]},
    "S232_AUTO_PARTS": set(SEMICONDUCTORS),
    "S232_MHDV_PARTS": set(SEMICONDUCTORS),
}


def expand(ranges: tuple[str, ...]) -> set[str]:
    """Return the headings of rows within the ranges."""
    ends = [str(each).partition("-") for each in ranges]
    return {
        heading for heading in ruleset().by_heading for first, _, last in ends if first <= heading <= (last or first)
    }


@pytest.mark.parametrize("program", ruleset().programs, ids=lambda program: program.id)
def test_program_yields_to_the_headings_of_the_notes(program: DutyProgram) -> None:
    assert expand(program.yields_to) == YIELDS.get(program.id, set())


#: When a family begins or, with `to`, ends before, in the words of proclamations and of HTSUS 2026 Revision 6.
DAYS = {
    "IEEPA duties": "on or after 12:01 am eastern standard time February 4, 2025",  # note 2(s)
    "Section 122 import surcharge": "on or after 12:01 a.m. eastern standard time on February 24, 2026",  # 11012
    "Section 338, Canada": "shall be 12:01 a.m. eastern time on August 22, 2026",  # 11056
    "Section 232, patented pharmaceuticals": "on July 31, 2026, for the companies listed in Annex III",  # 11020
    "Section 232, unmanned aircraft systems": "on or after 12:01 a.m. eastern time on September 3, 2026",  # 11055
    "Section 201, quartz surface products": "on or after 12:01 a.m. eastern time on August 15, 2026",  # 11051
    "Section 232, timber, lumber and furniture": "on or after 12:01 a.m. eastern daylight time on October 14, 2025",  # 10976
    "Section 232, semiconductors": "12:01 a.m. eastern standard time on January 15, 2026",  # 11002
    "Section 232, metals": "on or after 12:01 a.m. eastern daylight time on April 6, 2026",  # 11021
    "Section 232, metals, mobile equipment and parts for equipment": "eastern daylight time on June 8, 2026",  # 11032
    # Two programs that follow the notices of USTR have these days; their pages of the Federal Register were not read.
    "Section 301, Brazil": "2026HTSRev12 (Notice effective July 22, 2026)",  # 91 FR 45516
    "Section 301, forced labor": "Effective July 24, 2026. Source: FR Doc. 2026-15181",  # 91 FR 47318
    "Section 301, Nicaragua": "during the period from January 1, 2026, though December 31, 2026",  # note 29(b)
    "Section 301, China, four-year review": "eastern daylight time on September 27, 2024",  # note 31
    "Section 232, passenger vehicles and light trucks": "with respect to entries on or after April 3, 2025",  # 9903.94.02
    "Section 232, automobile parts": "with respect to entries on or after May 3, 2025",  # 9903.94.06
    "Section 201, solar cells and modules": "February 7, 2018 through February 6, 2019",  # note 18(f)
    # What ends, by the notes of what replaces it.
    "to: IEEPA duties": "on or after 12:01 a.m. eastern standard time on February 24, 2026",
    "to: Section 122 import surcharge": "until July 24, 2026",
    "to: Section 232, aluminum until 2026-04-05": "on or after 12:01 a.m. eastern daylight time on April 6, 2026",
    "to: Section 232, steel until 2026-04-05": "on or after 12:01 a.m. eastern daylight time on April 6, 2026",
    "to: Section 232, copper until 2026-04-05": "on or after 12:01 a.m. eastern daylight time on April 6, 2026",
}
#: The first editions of the tariff with a heading of a family, in the USITC's exports of 2025 to 2026 Revision 10; those of the
#: first edition of 2025 began before. An edition can be a month before its headings are in force, or days after.
FIRST_EDITION = {
    "Section 232, medium- and heavy-duty vehicles": date(2025, 10, 6),
    "Section 232, parts of medium- and heavy-duty vehicles": date(2025, 10, 6),
    "Section 232, copper until 2026-04-05": date(2025, 7, 1),
    "Section 232, Russian aluminum": None,
    "Section 232, aluminum until 2026-04-05": None,
    "Section 232, steel until 2026-04-05": None,
    "Section 301, China": None,
}  # fmt: skip
FAMILIES = {family.name: family for family in ruleset().families}


def read_day(text: str) -> date:
    found = re.search(r"[A-Z][a-z]+ \d{1,2}, \d{4}", text)
    assert found is not None, text
    return datetime.strptime(f"{found[0]} +0000", "%B %d, %Y %z").date()


@pytest.mark.parametrize("name", DAYS)
def test_family_begins_and_ends_on_the_days_of_the_text(name: str) -> None:
    ended = name.startswith("to: ")
    family = FAMILIES[name.removeprefix("to: ")]
    day = read_day(DAYS[name])
    assert (family.effective_to if ended else family.effective_from) == (day - timedelta(days=1) if ended else day)


def read_period(name: str) -> tuple[date, date]:
    family = FAMILIES[name]
    assert family.effective_from is not None
    assert family.effective_to is not None
    return family.effective_from, family.effective_to


def test_periods_of_the_law_are_those_of_their_families() -> None:
    # Proclamation 11012: "for a period of 150 days"; 11051: "for a period of 4 years".
    begins, ends = read_period("Section 122 import surcharge")
    assert ends - begins == timedelta(days=150 - 1)
    begins, ends = read_period("Section 201, quartz surface products")
    assert ends + timedelta(days=1) == begins.replace(year=begins.year + 4)
    # U.S. note 18(f), (h): the last of eight years is "February 7, 2025 through February 6, 2026".
    begins, ends = read_period("Section 201, solar cells and modules")
    assert ends + timedelta(days=1) == begins.replace(year=begins.year + 8)


@pytest.mark.parametrize("name", FIRST_EDITION)
def test_family_begins_by_the_first_edition_with_its_headings(name: str) -> None:
    begins, first = FAMILIES[name].effective_from, FIRST_EDITION[name]
    assert begins is not None
    if first is None:
        assert begins < date(2025, 1, 1)
    else:
        assert timedelta() <= begins - first <= timedelta(days=31)


def test_each_family_is_held_to_a_text_and_only_ended_ones_end() -> None:
    held = {name for name in DAYS if not name.startswith("to: ")} | FIRST_EDITION.keys()
    assert FAMILIES.keys() == held
    ended = {name.removeprefix("to: ") for name in DAYS if name.startswith("to: ")}
    assert {name for name, family in FAMILIES.items() if family.effective_to} == ended | {
        "Section 201, quartz surface products",
        "Section 201, solar cells and modules",
    }


def test_rules_are_reviewed_before_the_tariff_usually_changes_twice() -> None:
    begun = {row.effective_from for row in ruleset().rows if row.effective_from is not None}
    days = sorted(day for day in begun if date(2026, 4, 1) <= day <= ruleset().as_of)
    longest = max(later - earlier for earlier, later in itertools.pairwise(days))
    assert longest == timedelta(days=44)
    assert longest < timedelta(days=ruleset().review.within_days) < 2 * longest


#: Headings of one line in the order of reporting, as another program reads CSMS 69668138; it keeps the order within a program.
ORDER = (("9903.91.01", "9903.03.14", "9903.82.02"), ("9903.05.84", "9903.03.14", "9903.82.02"),
         ("9903.05.90", "9903.03.15", "9903.82.02"), ("9903.88.03", "9903.05.90", "9903.94.05"))  # fmt: skip


@pytest.mark.parametrize("headings", ORDER, ids=lambda headings: headings[0])
def test_programs_are_reported_in_the_order_of_another_program(headings: tuple[str, ...]) -> None:
    rules = ruleset()
    rows = [rules.find_row(heading, date(2026, 10, 7)) for heading in headings]
    ranks = [rules.programs_by_id[row.program].rank for row in rows if row is not None]
    assert len(ranks) == len(headings)
    assert ranks == sorted(ranks)
    assert ranks[0] < ranks[-1]


def test_exception_of_canada_needs_the_heading_that_customs_names() -> None:
    # A trade newspaper: "CBP says that, as of September 15, only goods subject to 9903.03.13 are eligible to claim it",
    # 9903.03.15.
    (row,) = ruleset().companions
    assert (row.headings, row.needs, row.effective_from) == (("9903.03.15",), ("9903.03.13",), date(2026, 9, 15))


def test_lists_of_headings_that_exclude_each_other_share_no_provision() -> None:
    # Note 51(b), whose lists a second transcription holds: each of the three headings has a list of its own.
    day = date(2026, 10, 7)
    listed: list[set[str]] = []
    for heading in ("9903.03.12", "9903.03.13", "9903.03.14"):
        row = ruleset().find_row(heading, day)
        assert row is not None
        held = [
            each for each in ruleset().resolved_lists if each.list.id in row.when.lists and each.version.in_force(day)
        ]
        listed.append({code for each in held for code in each.codes.values()})
    assert all(listed)
    assert len(set.union(*listed)) == sum(map(len, listed))
    assert ("9903.03.12-9903.03.14",) in [tuple(map(str, row.headings)) for row in ruleset().exclusive]
