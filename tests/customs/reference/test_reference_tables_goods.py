"""Tables of goods agree with texts that the tables were not typed from: 19 CFR 102, 123.92 and 141.89(a), and the HTSUS."""

import csv
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from yaml import safe_load

from pipeline.customs.reference.entry import RequiredAttribute, attribute_rules, description_rules, mid_rules
from tests.support.tables import table

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
