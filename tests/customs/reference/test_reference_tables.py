"""Tables that were written by hand agree with independent ones: ISO 3166, ISO 4217, GS1 and the text of the HTSUS."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path

import biip.sscc
import pycountry
import pytest
from iso4217 import Currency
from spellchecker import SpellChecker

from pipeline.core.money import CURRENCIES, MINOR_UNITS, minor_units
from pipeline.customs.reference.chapter99 import HeadingRow
from pipeline.customs.reference.entry import ForeignWords, description_rules, entry_rules, mid_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.exports import sscc

#: The percent that the rate columns of each heading add, as the USITC printed it (a work of the US government): empty for
#: no change, `?` if the columns are not on the page of the heading.
CHAPTER_99 = Path(__file__).parent / "hts_2026_revision_6_chapter_99.csv"
#: A day on which Revision 6 was in force, and the day before the metals of note 16 were put together.
DAY, METALS_CHANGED = date(2026, 4, 30), date(2026, 4, 5)
#: From a notice at second hand; the rules say so.
NOT_IN_TEXT = {"9903.82.01"}


def test_countries_are_those_of_iso_3166() -> None:
    assert set(entry_rules().countries.codes) == {each.alpha_2 for each in pycountry.countries} | {"XK"}


def test_provinces_have_the_codes_and_names_of_iso_3166() -> None:
    theirs = {each.code[3:]: each.name.upper() for each in pycountry.subdivisions if each.country_code == "CA"}
    ours = [set(names) for names in mid_rules().provinces.values()]
    assert len(ours) == len(theirs)
    for region, name in theirs.items():
        assert any({region, name.replace("É", "E")} <= names for names in ours), (region, name)


def test_currencies_and_minor_units_are_those_of_iso_4217() -> None:
    theirs = {each.code: each.exponent for each in Currency}
    assert theirs.keys() >= CURRENCIES
    assert {code: minor_units(code) for code in CURRENCIES} == {code: theirs[code] for code in CURRENCIES}
    assert {code: theirs[code] for code in MINOR_UNITS} == MINOR_UNITS


@pytest.mark.parametrize("number", [0, 1, 9, 12345, 9_999_999])
def test_package_numbers_are_sscc_of_gs1(number: int) -> None:
    issued = sscc.issue_sscc("0614141", number)
    assert biip.sscc.Sscc.parse(issued).value == issued


#: English words that the dictionary's texts lack, or that French has too: words of the trade, cities, de minimis.
LOCAL = {"angeles", "crating", "drayage", "minimis", "moines", "mould", "on"}
#: English has the word too, for a part of a guitar; on an invoice it is the French freight.
SHARED = {"fret"}
#: A dictionary gives this count to a word that its texts do not have.
UNSEEN = 50


@cache
def load_dictionary(language: str) -> Mapping[str, float]:
    """Return the share of each word in texts of the language, as films and books have it."""
    counts = SpellChecker(language=language).word_frequency
    return {word: counts[word] / counts.total_words for word in counts if counts[word] > UNSEEN}


@pytest.mark.parametrize("member", ["foreign", "names"])
def test_words_of_descriptions_and_charges_are_of_the_language_that_they_show(member: str) -> None:
    table: ForeignWords = getattr(description_rules(), member)
    english, *others = map(load_dictionary, ("en", "fr", "es", "de", "it", "pt", "nl"))
    for word in table.words - SHARED:
        seen = english.get(word, 0)
        assert seen == 0 or max(each.get(word, 0) for each in others) > 5 * seen, word
    for word in table.english - LOCAL:
        assert english.get(word, 0) > 5 * max(each.get(word, 0) for each in others[:2]), word


def rows_by_heading() -> dict[str, list[HeadingRow]]:
    found: dict[str, list[HeadingRow]] = {}
    for row in ruleset().rows:
        found.setdefault(row.heading, []).append(row)
    return found


def read_percents() -> dict[str, str]:
    with CHAPTER_99.open(newline="") as file:
        return {row["heading"]: row["percent"] for row in csv.DictReader(file)}


def test_rates_of_chapter_99_are_those_of_the_hts_text() -> None:
    rows = rows_by_heading()
    read = {heading: percent or "0" for heading, percent in read_percents().items() if percent != "?"}
    assert len(read) > 90
    for heading, percent in read.items():
        assert percent in {str(row.rate_percent) for row in rows[heading]}, heading


def test_each_heading_in_force_stands_in_the_hts_text() -> None:
    printed = read_percents()
    for heading, rows in rows_by_heading().items():
        later = all(row.effective_from is not None and row.effective_from > DAY for row in rows)
        ended = all(row.effective_to is not None and row.effective_to <= METALS_CHANGED for row in rows)
        assert heading in printed or later or ended or heading in NOT_IN_TEXT, heading
