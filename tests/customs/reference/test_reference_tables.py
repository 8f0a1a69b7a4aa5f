"""Tables that were written by hand agree with independent ones: ISO, GS1, the HTSUS, the regulations on goods and names."""

import csv
import re
from collections.abc import Mapping
from datetime import date, timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import biip.sscc
import pycountry
import pytest
from iso4217 import Currency
from yaml import safe_load

from pipeline.core.money import CURRENCIES, MINOR_UNITS, minor_units
from pipeline.customs.reference.entry import (
    ForeignWords,
    RequiredAttribute,
    attribute_rules,
    description_rules,
    entry_rules,
    mid_rules,
)
from pipeline.customs.reference.ruleset import ruleset
from pipeline.exports import sscc
from tests.support.tables import table

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


#: The classes of goods of 19 CFR 141.89(a): numbers and what the invoice must say, in the words of the regulation.
CLASSES = Path(__file__).parent / "cfr_19_141_89.yaml"
#: The ten-digit numbers outside Section XI with a textile category, such as (670), in HTSUS 2026 Revision 10.
TEXTILES = Path(__file__).parent / "hts_2026_revision_10_textile_categories.csv"


@cache
def read_classes() -> Any:
    return safe_load(CLASSES.read_text())


def list_classes(row: RequiredAttribute) -> list[str]:
    return [part.split(", ", 1)[1] for part in row.source.split("; ") if part.startswith("19 CFR 141.89(a), ")]


OF_A_CLASS = [row for row in attribute_rules().rows if list_classes(row)]
#: Words of a requirement that say no fact.
GRAMMAR = "that what whether with each such"


def stems(text: str) -> set[str]:
    return {word.rstrip("s")[:5] for word in re.findall(r"[a-z]{4,}", text.lower())}


def list_numbers(name: str) -> list[str]:
    one = read_classes()["classes"][name]
    return [*one.get("codes", ()), *one.get("now", ()), *one.get("headings", ())]


@table("row", OF_A_CLASS)
def test_required_attribute_is_asked_for_goods_of_its_class(row: RequiredAttribute) -> None:
    numbers = tuple(number for name in list_classes(row) for number in list_numbers(name))
    assert [prefix for prefix in row.prefixes if not prefix.startswith(numbers)] == []


@table("row", OF_A_CLASS)
def test_required_attribute_says_what_the_regulation_asks(row: RequiredAttribute) -> None:
    texts = " ".join(read_classes()["classes"][name]["text"] for name in list_classes(row))
    assert stems(row.requirement) - stems(texts) - stems(GRAMMAR) == set()


def test_each_class_of_the_regulation_is_asked_for_its_numbers() -> None:
    prefixes: dict[str, set[str]] = {}
    for row in OF_A_CLASS:
        for name in list_classes(row):
            prefixes.setdefault(name, set()).update(row.prefixes)
    classes = read_classes()["classes"]
    # The digest has no text of the classes that no row checks: rare goods, and wool and cotton of other sections.
    assert prefixes.keys() == {name for name, one in classes.items() if one["text"]}
    for name, held in prefixes.items():
        assert [number for number in list_numbers(name) if not any(each.startswith(number) for each in held)] == [], (
            name
        )


def test_wearer_is_asked_where_the_tariff_divides_by_wearer() -> None:
    wearer = next(row for row in attribute_rules().rows if row.name == "wearer")
    assert list(wearer.prefixes) == read_classes()["wearer"]


#: Rows of no class of 19 CFR 141.89(a): for each prefix, words of the HTSUS (2025 Revision 32) for goods of that number. They
#: divide the goods by the fact that the row asks for, or name the kind of goods.
TARIFF = {
    "construction": {
        "58": ["Woven pile fabrics and chenille fabrics", "Narrow woven fabrics"],
        "60": ['Pile fabrics, including "long pile" fabrics and terry fabrics, knitted or crocheted'],
        "61": [
            "Men's or boys' overcoats, carcoats, capes, cloaks, anoraks (including ski-jackets), knitted or crocheted"
        ],
        "62": [
            "Nonwoven disposable apparel designed for use in hospitals, clinics, laboratories or contaminated areas"
        ],
        "63": ["Bed linen, knitted or crocheted"],
    },
    "outer surface": {
        "4202": [
            "With outer surface of leather or of composition leather",
            "With outer surface of sheeting of plastics",
            "With outer surface of textile materials",
        ]
    },
    "UN number": {"8506": ["Primary cells and primary batteries"], "8507": ["Electric storage batteries"]},
}


@pytest.mark.parametrize("name", ["construction", "outer surface"])
def test_fact_that_the_tariff_divides_by_is_read_in_its_words(name: str) -> None:
    (row,) = [row for row in attribute_rules().rows if row.name == name]
    assert set(row.prefixes) == TARIFF[name].keys()
    for texts in TARIFF[name].values():
        assert [text for text in texts if not row.mentioned.search(text.lower())] == []


def test_batteries_have_a_un_number() -> None:
    (row,) = [row for row in attribute_rules().rows if row.name == "UN number"]
    assert set(row.prefixes) == TARIFF["UN number"].keys()
    assert row.form is not None
    # As carriers print the numbers of batteries: wet, dry, and lithium alone or with equipment.
    for number in ("UN2794", "UN 2800", "3090", "UN3480", "UN3481", "UN3028"):
        assert row.form.search(number), number
    assert [number for number in ("UN34", "NA3480", "34801") if row.form.search(number)] == []


def test_species_is_asked_as_in_the_lacey_act_declaration() -> None:
    (row,) = [row for row in attribute_rules().rows if row.name == "species"]
    # 7 CFR 357.3(a)(1): "scientific name, including the genus and species", of wood: chapter 44 of the HTSUS.
    assert stems(row.requirement) - stems("scientific name, including the genus and species") - {"wood"} == set()
    assert row.prefixes == ("44",)


def test_each_required_attribute_is_held_to_a_text() -> None:
    others = {row.name for row in attribute_rules().rows} - {row.name for row in OF_A_CLASS}
    assert others == TARIFF.keys() | {"wearer", "species"}


#: The codes of the provinces, as the appendix to 19 CFR part 102 prints them (edition of 2015).
PROVINCES = {
    "ALBERTA": "XA", "BRITISH COLUMBIA": "XC", "MANITOBA": "XM", "NEW BRUNSWICK": "XB", "NEWFOUNDLAND": "XW",
    "NORTHWEST TERRITORIES": "XT", "NOVA SCOTIA": "XN", "NUNAVUT": "XV", "ONTARIO": "XO", "PRINCE EDWARD ISLAND": "XP",
    "QUEBEC": "XQ", "SASKATCHEWAN": "XS", "YUKON TERRITORY": "XY",
}  # fmt: skip


def test_provinces_have_the_codes_of_the_regulation() -> None:
    rules = mid_rules()
    assert {name: rules.province(name) for name in PROVINCES} == PROVINCES
    assert set(rules.provinces) == set(PROVINCES.values())


def test_parts_of_a_mid_are_those_of_the_regulation() -> None:
    rules = mid_rules()
    assert rules.longest == 15
    assert rules.ignored_words == {"a", "an", "and", "of", "the"}
    assert rules.city_states == {"HK": "HON", "SG": "SIN", "MO": "MAC"}
    assert (rules.ignored_prefixes["RU"], rules.ignored_prefixes["ID"]) == (("JSC", "OAO", "OOO", "ZAO"), ("PT",))


def test_textiles_outside_section_xi_are_the_numbers_with_a_textile_category() -> None:
    with TEXTILES.open(newline="") as file:
        printed = [number for row in csv.DictReader(file) for number in row["numbers"].split()]
    rules = mid_rules().textiles
    assert len(printed) == 170
    assert [number for number in printed if not rules.cover(number)] == []
    assert [prefix for prefix in rules.numbers if not any(number.startswith(prefix) for number in printed)] == []
    assert rules.chapters == {str(chapter) for chapter in range(50, 64)}
    # Neighbours without a category: leather bags, bags of plastic sheeting, shoes, hats of straw, glass rovings, mattresses.
    others = ("4202110030", "4202924500", "6403996075", "6505009076", "7019120040", "9404210010", "9619000500")
    assert [number for number in others if rules.cover(number)] == []


#: What customs names as no description: in 19 CFR 123.92(d)(9), in CSMS 60011750, and in its list, as carriers and brokers
#: quote it.
VAGUE = (
    "FAK", "freight of all kinds", "general cargo", "STC", "said to contain",
    "gift", "daily necessities", "accessories", "parts", "consolidated",
    "electronic goods", "electronics", "food", "foodstuffs", "apparel", "clothing", "garments", "animals", "pharmaceuticals",
    "textiles", "cleaning supplies",
)  # fmt: skip


@pytest.mark.parametrize("text", VAGUE)
def test_description_that_customs_names_as_vague_has_no_telling_word(text: str) -> None:
    assert {word for word in text.lower().split() if len(word) > 2} <= description_rules().words


#: What the same list names as a description, and is long enough for an invoice.
TELLING = (
    "100% polyester blanket",
    "Computers, monitors, televisions, mobile telephones",
    "Pasta, canned tuna, corn tortillas",
)


@pytest.mark.parametrize("text", TELLING)
def test_description_that_customs_accepts_has_telling_words(text: str) -> None:
    rules = description_rules()
    assert len(set(re.findall("[a-z]{3,}", text.lower())) - rules.words) >= rules.min_telling_words
