"""Tables that were written by hand agree with independent ones: ISO 3166, ISO 4217, GS1 and the text of the HTSUS."""

import csv
from collections.abc import Mapping
from datetime import date, timedelta
from functools import cache
from importlib import import_module
from pathlib import Path

import biip.sscc
import pycountry
import pytest
from iso4217 import Currency

from pipeline.core.money import CURRENCIES, MINOR_UNITS, minor_units
from pipeline.customs.reference.entry import ForeignWords, description_rules, entry_rules, mid_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.exports import sscc

#: The provisions that the notes to subchapter III list, as the USITC printed them: a row for each chapter of goods. Of note
#: 20(g) and (s) without the ten-digit numbers, which are parts of a listed provision.
NOTES = Path(__file__).parent / "hts_2026_revision_6_notes.csv"
#: The same for the other notes, and for the changes of later days: all provisions of a list on a day, or those that the day
#: added or removed. Notes 19, 31 and 33(i) are from the text of Revision 6, and note 16(c) is from the Annexes of Proclamation
#: 11021, since the pages of Revision 6 print its lists across each other. Later notes are from transcriptions of the day's
#: revision (10, 14 to 21), note 2(aa)(iii) and (iv) from one of Revision 15, and note 36(b) from one of 2026 Revision 4. The
#: former note 16 is from CBP's list of steel of 2025-08-18, in a transcription. What 2025-08-18 and 2025-07-01 changed is from
#: 90 FR 40326. What 2025-04-04 and 2025-06-23 added is from the trade press. The bans are from a transcription of 91 FR 58311
#: and the two proclamations after it.
NOTES_BY_DAY = Path(__file__).parent / "hts_notes_by_day.csv"
#: A day on which Revision 6 was in force.
DAY = date(2026, 4, 30)


def test_countries_are_those_of_iso_3166() -> None:
    assert set(entry_rules().countries.codes) == {each.alpha_2 for each in pycountry.countries} | {"XK"}


def test_provinces_have_the_codes_and_names_of_iso_3166() -> None:
    theirs = {each.code[3:]: each.name.upper() for each in pycountry.subdivisions if each.country_code == "CA"}
    ours = [set(names) for names in mid_rules().provinces.values()]
    assert len(ours) == len(theirs)
    for region, name in theirs.items():
        assert any({region, name.replace("É", "E")} <= names for names in ours), (region, name)


def test_states_are_those_of_iso_3166_in_the_customs_territory() -> None:
    theirs = {each.code[3:] for each in pycountry.subdivisions if each.country_code == "US"}
    assert entry_rules().consignee.regions == theirs - {"AS", "GU", "MP", "UM", "VI"}


def test_territories_whose_metals_have_no_country_are_those_of_iso_3166() -> None:
    (rule,) = ruleset().metals.unreportable
    american = (each for each in pycountry.subdivisions if each.country_code == "US")
    assert rule.origins == {each.code[3:] for each in american if each.type == "Outlying area"}


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
    counts = import_module("spellchecker").SpellChecker(language=language).word_frequency
    return {word: counts[word] / counts.total_words for word in counts if counts[word] > UNSEEN}


@pytest.mark.system
@pytest.mark.parametrize("member", ["foreign", "names"])
def test_words_of_descriptions_and_charges_are_of_the_language_that_they_show(member: str) -> None:
    table: ForeignWords = getattr(description_rules(), member)
    english, *others = map(load_dictionary, ("en", "fr", "es", "de", "it", "pt", "nl"))
    for word in table.words - SHARED:
        seen = english.get(word, 0)
        assert seen == 0 or max(each.get(word, 0) for each in others) > 5 * seen, word
    for word in table.english - LOCAL:
        assert english.get(word, 0) > 5 * max(each.get(word, 0) for each in others[:2]), word


def read_notes() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    with NOTES.open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["note"], set()).update(row["provisions"].split())
    return found


def test_lists_have_the_provisions_of_the_hts_text() -> None:
    ours = {held.list.id: set(held.codes.values()) for held in ruleset().resolved_lists if held.version.in_force(DAY)}
    printed = read_notes()
    assert sum(map(len, printed.values())) > 10_000
    assert {note: ours[note] ^ provisions for note, provisions in printed.items() if ours[note] != provisions} == {}


def list_codes(note: str, on: date) -> set[str]:
    return {
        shorten(code)
        for held in ruleset().resolved_lists
        if held.list.id == note and held.version.in_force(on)
        for code in held.codes.values()
    }


def shorten(code: str) -> str:
    """Return the provision without the suffix of a subheading that has no parts."""
    return code.removesuffix("00") if len(code) == len("7612.10.0000") else code


def test_lists_have_the_provisions_and_changes_of_their_days() -> None:
    with NOTES_BY_DAY.open(newline="") as file:
        printed = list(csv.DictReader(file))
    for row in printed:
        day = date.fromisoformat(row["day"])
        now, before = list_codes(row["note"], day), list_codes(row["note"], day - timedelta(days=1))
        ours = {"all": now, "added": now - before, "removed": before - now}[row["change"]]
        assert ours == {shorten(code) for code in row["provisions"].split()}, (row["note"], row["day"], row["change"])


def test_temporary_lists_of_metals_join_the_lasting_ones_as_the_proclamation_says() -> None:
    # Proclamation 11021, Annex IV B.
    eve, day = date(2027, 12, 31), date(2028, 1, 1)
    for temporary, lasting in (("16(c)(ix)", "16(c)(vi)"), ("16(c)(x)", "16(c)(vii)")):
        before, moved = list_codes(lasting, eve), list_codes(temporary, eve)
        assert (list_codes(lasting, day), before & moved) == (before | moved, set())
        assert list_codes(temporary, day) == set()


def test_each_list_is_held_to_a_text() -> None:
    with NOTES_BY_DAY.open(newline="") as file:
        printed = {row["note"] for row in csv.DictReader(file)} | read_notes().keys()
    assert {held.list.id for held in ruleset().resolved_lists} == printed
