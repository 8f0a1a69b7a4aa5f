"""Tables of goods agree with texts that the tables were not typed from: 19 CFR 102, 123.92 and 141.89(a), and the HTSUS."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from yaml import safe_load

from pipeline.customs.reference.entry import RequiredAttribute, attribute_rules

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


@pytest.mark.parametrize("row", OF_A_CLASS, ids=lambda row: row.name)
def test_required_attribute_is_asked_for_goods_of_its_class(row: RequiredAttribute) -> None:
    numbers = tuple(number for name in list_classes(row) for number in list_numbers(name))
    assert [prefix for prefix in row.prefixes if not prefix.startswith(numbers)] == []


@pytest.mark.parametrize("row", OF_A_CLASS, ids=lambda row: row.name)
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
