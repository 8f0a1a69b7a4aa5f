"""The rows of chapter 99 agree with the tariff's own words: rates, origins, notes, limits of column 1 and exceptions."""

import csv
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import pycountry
import pytest

from pipeline.customs.reference.chapter99 import HeadingRow
from pipeline.customs.reference.ruleset import ruleset

#: The headings of chapter 99 as the USITC printed them (a work of the US government), each on a day on which the text was
#: in force, until 2026-06-30 from the USITC's export of 2025 Revisions 13 and 16 and 2026 Revisions 4, 7 and 10. Later
#: days are from transcriptions of 2026 Revisions 12 to 21, shortened. `duty` is the duty provided in the applicable
#: subheading.
HEADINGS = Path(__file__).parent / "hts_chapter_99_headings.csv"
#: The days on which headings and lists began, or had ended. From 2024 to May 2026 the first days are from the USITC's change
#: records of 2025 Revisions 1 to 32 and of 2026 until Revision 9. Those of 9903.91.12 to .16 and of all other days are from
#: proclamations, notices and the texts of the headings.
DAYS = Path(__file__).parent / "hts_days.csv"
MEMBERS = (
    "Austria, Belgium, Bulgaria, Croatia, Cyprus, Czechia, Denmark, Estonia, Finland, France, Germany, Greece, Hungary, "
    "Ireland, Italy, Latvia, Lithuania, Luxembourg, Malta, Netherlands, Poland, Portugal, Romania, Slovakia, Slovenia, "
    "Spain, Sweden"
)
#: Names that ISO 3166 writes otherwise.
NAMES = {
    "Bahamas": "BS", "Bolivia": "BO", "South Korea": "KR", "Republic of Korea": "KR", "Russia": "RU", "Taiwan": "TW",
    "Venezuela": "VE", "Vietnam": "VN", "Türkiye": "TR",
}  # fmt: skip
COLUMN_2 = {"BY", "CU", "KP", "RU"}
#: From 2025-06-04 to 2026-04-05 the notes, not the headings, limit the duty to the value of the metal.
METAL_BY_NOTE = ("9903.81.", "9903.85.0", "9903.85.1")
#: The notes, not the headings, say which part of the value the rate applies to.
CONTENT = {"9903.82.20": "non_us_content", "9903.74.06": "us_content", "9903.82.21": "us_content", "9903.78.02": "non_metal_content"}  # fmt: skip
#: Their words name the country of the metal, or countries that are not the origin.
NOT_ORIGINS = ("9903.85.67", "9903.85.68", "9903.91.15", "9903.91.16")
#: 9903.85.15 is of the United Kingdom by note 19(s), the USMCA headings by the programs that their notes name.
BY_NOTE = {"9903.85.15", "9903.01.13", "9903.01.14", "9903.94.03", "9903.74.03", "9903.74.06", "9903.74.10", "9903.82.18", "9903.82.19", "9903.82.20", "9903.82.21", "9903.03.15"}  # fmt: skip


class Printed(NamedTuple):
    """A heading as it was printed, on a day on which the text was in force."""

    heading: str
    on: date
    general: str
    article: str

    def find_row(self) -> HeadingRow:
        row = ruleset().find_row(self.heading, self.on)
        assert row is not None, f"no row for {self.heading} on {self.on}"
        return row


def read_headings() -> list[Printed]:
    with HEADINGS.open(newline="", encoding="utf-8") as file:
        return [Printed(each[0], date.fromisoformat(each[1]), *each[2:]) for each in list(csv.reader(file))[1:]]


PRINTED = read_headings()


@pytest.fixture(scope="module")
def countries() -> dict[str, set[str]]:
    iso = {each.name: {each.alpha_2} for each in pycountry.countries}
    iso |= {name: {code} for name, code in NAMES.items()}
    return iso | {"European Union": {next(iter(iso[name])) for name in MEMBERS.split(", ")}}


def read_rate(general: str) -> tuple[str, str]:
    """Return the percent and the basis of a rate as it is printed."""
    found = re.search(r"([\d.]+)%", general)
    percent = found[1] if found else "0"
    if "metal" in general or re.search("(copper|steel|aluminum) content", general):
        return percent, "metal_content"
    if "non-U.S. content" in general:
        return percent, "non_us_content"
    if general.startswith("special"):
        return percent, "special_rate_only"
    return percent, "total_with_column_1" if general[0].isdigit() else "full_value"


def test_rates_and_their_basis_are_those_of_the_text() -> None:
    assert len(PRINTED) > 300
    for printed in PRINTED:
        row = printed.find_row()
        percent, basis = read_rate(printed.general)
        basis = CONTENT.get(printed.heading, basis)
        if printed.heading.startswith(METAL_BY_NOTE) and printed.on >= date(2025, 6, 4):
            basis = "metal_content"
        assert (str(row.rate_percent), row.basis) == (percent, basis), printed


def test_origins_are_those_of_the_text(countries: dict[str, set[str]]) -> None:
    for printed in PRINTED:
        if printed.heading in NOT_ORIGINS:
            continue
        named: set[str] = set()
        text = printed.article.split("not exempt")[0].replace("Hong Kong, China", "Hong Kong")
        for name in sorted(countries, key=len, reverse=True):
            if re.search(rf"\b{re.escape(name)}\b", text):
                named |= countries[name]
                text = text.replace(name, "")
        if "general note 3(b)" in text:
            named = COLUMN_2
        origins = set(printed.find_row().when.origins)
        named.discard("US")  # no goods of a heading are of the United States, only its uses, metal and donors
        wide = not named and (
            "U.S. note 52" in printed.article or printed.heading in BY_NOTE or "9903.05." in printed.heading
        )
        assert origins == named or wide, (printed, sorted(origins), sorted(named))


def test_forced_labor_reaches_the_countries_of_its_headings(countries: dict[str, set[str]]) -> None:
    named = {
        code
        for printed in PRINTED
        if "9903.05.20" <= printed.heading <= "9903.05.84"
        for code in printed.find_row().when.origins
    }
    assert named == ruleset().find_row("9903.05.91", date(2026, 8, 1)).when.origins  # type: ignore[union-attr]


ROMAN = {
    f"({text})": place
    for place, text in enumerate(["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi"], start=1)
}


def in_force(on: date) -> set[str]:
    return {held.list.id for held in ruleset().resolved_lists if held.version.in_force(on)}


def test_metal_headings_have_the_lists_of_the_text() -> None:
    for printed in PRINTED:
        for found in re.finditer(r"\(c\)((?:\([ivx]+\)(?:-|, and |, | and )?)+)", printed.article):
            if "note 16" not in printed.article or "9903.82" not in printed.heading:
                continue
            listed: set[int] = set()
            for part in re.findall(r"\([ivx]+\)(?:-\([ivx]+\))?", found[1]):
                first, _, last = part.partition("-")
                listed |= set(range(ROMAN[first], ROMAN[last or first] + 1))
            ours = {name for name in printed.find_row().when.lists if name in in_force(printed.on)}
            assert {ROMAN[name.removeprefix("16(c)")] for name in ours} == listed, printed


def test_lists_are_of_the_notes_of_the_text() -> None:
    for printed in PRINTED:
        notes = set(re.findall(r"note (\d+)", printed.article)) - {"3", "11"}
        for name in printed.find_row().when.lists:
            number = name.split("(")[0]
            # Since 2026-04-06 the headings of Russian aluminum take the lists of note 16, though they still name note 19.
            moved = printed.heading in {"9903.85.67", "9903.85.68"} and number == "16"
            assert number in notes or not notes or moved, (printed, name)


def test_limits_of_column_1_are_those_of_the_text() -> None:
    checked = 0
    for printed in PRINTED:
        below, least = (
            re.search(pattern, printed.article)
            for pattern in (
                r"column ?1\D{0,40} less than ([\d.]+) percent",
                r"equal to or greater than ([\d.]+) percent",
            )
        )
        when = printed.find_row().when
        given = tuple(str(each) if each is not None else None for each in (when.column_1_below, when.column_1_least))
        assert given == (below and below[1], least and least[1]), printed
        checked += bool(below or least)
    assert checked >= 40


def excepted_headings(article: str) -> Iterator[str]:
    clause = re.match(r"Except (?:for|as)[^A-Z]*", article)
    for first, last in re.findall(r"(9903\.\d\d\.\d\d)(?:-(9903\.\d\d\.\d\d))?", clause[0] if clause else ""):
        yield from (heading for heading in sorted(ruleset().by_heading) if first <= heading <= (last or first))


def test_exceptions_of_the_text_are_decided_before_the_heading() -> None:
    order = {id(row): place for place, row in enumerate(ruleset().rows)}
    checked = 0
    for printed in PRINTED:
        row = printed.find_row()
        for heading in excepted_headings(printed.article):
            other = ruleset().find_row(heading, printed.on)
            if other is None or other.program != row.program:
                continue
            checked += 1
            assert order[id(other)] < order[id(row)] or not other.when.origins.isdisjoint(row.when.not_origins), (
                printed,
                heading,
            )
    assert checked > 600


def test_each_heading_stands_in_the_text() -> None:
    assert set(ruleset().by_heading) == {printed.heading for printed in PRINTED}


def test_weight_test_is_that_of_the_text() -> None:
    (printed,) = [each for each in PRINTED if each.heading == "9903.82.03"]
    test = ruleset().metals.find_weight_test(printed.on)
    assert test is not None
    assert test.heading == printed.heading
    assert set(test.exempt_chapters) == set(re.findall(r"\b7\d\b", printed.article.split("where")[0]))
    assert str(test.least_percent) == re.search(r"(\d+) percent", printed.article)[1]  # type: ignore[index]


def test_copper_data_is_needed_for_the_list_of_its_derivatives() -> None:
    (copper,) = [each for each in ruleset().metals.metals if each.metal == "copper"]
    (derivatives,) = [
        held
        for held in ruleset().resolved_lists
        if held.list.id == "16(c)(viii)" and held.version.in_force(date(2026, 10, 8))
    ]
    assert set(copper.codes) == set(derivatives.codes.values())


def test_safeguard_spares_the_countries_of_its_proclamation(countries: dict[str, set[str]]) -> None:
    # Proclamation 11051 clause (2), with the members of CAFTA-DR.
    named = (
        "Australia, Canada, Colombia, Costa Rica, Dominican Republic, El Salvador, Guatemala, Honduras, Israel, Mexico, "
        "Nicaragua, Panama, Peru, Singapore, South Korea"
    )
    row = ruleset().find_row("9903.45.30", date(2026, 10, 8))
    assert row is not None
    assert {code for name in named.split(", ") for code in countries[name]} < set(row.when.not_origins)
    assert not {"CN", "IN", "TH", "TW", "US", "VN"} & set(row.when.not_origins)


def expand_names(names: str) -> Iterator[str]:
    for name in names.split("; "):
        first, _, last = name.partition("-") if name.startswith("9903") else (name, "", "")
        known = sorted(ruleset().by_heading) if last else [name]
        yield from (each for each in known if first <= each <= (last or first))


def test_headings_and_lists_begin_and_end_on_their_days() -> None:
    periods: dict[str, list[tuple[date, date]]] = {}
    dated = [(row.heading, row) for row in ruleset().rows]
    versions = [(held.list.id, held.version) for held in ruleset().resolved_lists]
    for name, each in (*dated, *versions):
        periods.setdefault(name, []).append((each.effective_from or date.min, each.effective_to or date.max))
    with DAYS.open(newline="", encoding="utf-8") as file:
        printed = [
            (row["change"], name, row["day"]) for row in csv.DictReader(file) for name in expand_names(row["names"])
        ]
    for change, name, day in printed:
        first, last = min(first for first, _ in periods[name]), max(last for _, last in periods[name])
        assert (first if change == "began" else last + timedelta(days=1)) == date.fromisoformat(day), (change, name)
    assert {name for change, name, _ in printed if change == "began"} == periods.keys()
