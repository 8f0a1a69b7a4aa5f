"""The provisions of chapter 98 agree with the words of the tariff, and their duties with the notes of chapter 99."""

import csv
import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

from pipeline.customs.reference.chapter98 import Provision98, chapter98_rules
from pipeline.customs.valuation.chapter98 import find_goods_base, find_heading_base
from pipeline.exports.schemas.entry_estimate import ValueDivision

#: Descriptions and rates of the HTSUS (a work of the US government), the same in copies of 2024 Revision 9 to December 2025 and
#: in the USITC's export of 2026 Revision 10. `special_s` is the rate of the special column for S.
TARIFF: Final = Path(__file__).parent / "hts_chapter_98.csv"
#: A day on which Revision 6 of 2026 was in force.
DAY: Final = date(2026, 4, 30)


def read_tariff() -> dict[str, dict[str, str]]:
    with TARIFF.open(encoding="utf-8", newline="") as file:
        return {row["subheading"]: row for row in csv.DictReader(file)}


def ours() -> dict[str, Provision98]:
    return {row.provision: row for row in chapter98_rules().provisions}


def test_provisions_are_those_of_the_text() -> None:
    assert ours().keys() == read_tariff().keys()


#: What the general rate is on, and the parts in our words: without and with duty. None is for any words.
PARTS: Final = {
    "Free": ("the whole value", "nothing"),
    "A duty upon the value of the repairs or alterations": (None, "the value of the repairs or alterations"),
    "A duty upon the value of such processing outside the United States": (None, "the value of the processing abroad"),
    "A duty upon the full value of the imported article, less the cost or value of such products of the United States": (
        "the value of the parts of the United States",
        "the rest of the value",
    ),
}


@pytest.mark.parametrize("number", sorted(read_tariff()))
def test_parts_are_those_of_the_general_rate(number: str) -> None:
    row, rate = ours()[number], re.sub(r" \(see U\.S\. [Nn]ote \d.*\)$", "", read_tariff()[number]["general"])
    exempt, dutiable = PARTS[rate]
    assert (row.duty_on == "nothing") == (rate == "Free")
    assert (row.parts.dutiable, exempt in {None, row.parts.exempt}) == (dutiable, True)
    if exempt is None:
        # What was exported, in the tariff's words, is all but the value of the work abroad.
        goods, text = row.parts.exempt.removeprefix("the value of the "), read_tariff()[number]["text"].lower()
        kind = "metal when it was" if "any article of metal" in text else "goods when they were"
        assert (goods, "exported" in text) == (f"{kind} exported", True)


@pytest.mark.parametrize("number", sorted(read_tariff()))
def test_limit_of_years_is_that_of_the_text(number: str) -> None:
    row, text = ours()[number], read_tariff()[number]["text"]
    found = re.search(r"within (\d+) years? (after having been exported|of such exportation)", text)
    assert row.years_abroad == (None if found is None else int(found[1]))
    assert row.years_of_all == (found is not None and "any other products when returned within" not in text)


@pytest.mark.parametrize("number", sorted(read_tariff()))
def test_program_by_place_is_that_of_repairs(number: str) -> None:
    tariff = read_tariff()[number]
    # The note on S is of 9802.00.40 and .50; assembled goods must originate.
    repaired = tariff["special_s"] == "Free" and "exported for repairs or alterations" in tariff["text"]
    assert ours()[number].by_place == ({"S"} if repaired else set())


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("9801.00.10", ["foreign shipper", "importer", "drawback"]),  # 19 CFR 10.1(a)(1), (2)
        ("9801.00.20", ["lease", "person who imported and exported", "drawback"]),
        (
            "9801.00.25",
            ["person abroad", "sample or specifications", "importer", "earlier entry"],
        ),  # 19 CFR 10.8a(b)(1), (2)
        ("9801.00.26", ["three years before the export", "personal use", "drawback"]),
        ("9802.00.40", ["person who repaired", "importer"]),  # 19 CFR 10.8(a)(1), (2)
        ("9802.00.50", ["person who repaired", "importer"]),
        ("9802.00.60", ["person who processed", "importer"]),  # 19 CFR 10.9(a)(1), (2)
        ("9802.00.80", ["declaration of the assembler", "endorsement of the importer"]),  # 19 CFR 10.24(a)(1), (2)
    ],
)
def test_proof_has_what_the_regulation_asks_for(number: str, words: list[str]) -> None:
    assert [word for word in words if word not in ours()[number].proof] == []


#: "shall be eligible for and subject to the terms of such provision ..., except that duties under subheading 9802.00.60 shall
#: be assessed based upon the full value of the imported article".
TERMS: Final = "9802.00.60 on the full value"
#: "do not apply to goods for which entry is properly claimed under a provision of chapter 98 ..., except for" 9802.00.40, .50
#: and .60, on "the value of repairs, alterations, or processing", and 9802.00.80, on the value "less the cost or value of such
#: products of the United States".
PARTLY: Final = "four provisions on a part"
#: U.S. notes to subchapter III of chapter 99, HTSUS 2026 Revision 6, each with a heading of its own and what it says.
NOTES: Final = {
    "16(b)": ("9903.82.02", TERMS), "19(a)(vii)": ("9903.85.67", TERMS),
    "20(a)": ("9903.88.01", PARTLY), "20(c)": ("9903.88.02", PARTLY), "20(e)": ("9903.88.03", PARTLY),
    "20(g)": ("9903.88.04", PARTLY), "20(l)": ("9903.88.09", PARTLY), "20(r)": ("9903.88.15", PARTLY),
    "20(t)": ("9903.88.16", PARTLY), "29(a)": ("9903.89.01", PARTLY), "31(a)": ("9903.91.01", PARTLY),
    "33(a)": ("9903.94.01", TERMS), "33(d)": ("9903.94.03", TERMS), "33(f)": ("9903.94.05", TERMS),
    "33(i)": ("9903.94.31", TERMS), "33(k)": ("9903.94.40", TERMS), "33(n)": ("9903.94.50", TERMS),
    "37(a)": ("9903.76.01", TERMS), "37(c)": ("9903.76.02", TERMS), "37(h)": ("9903.76.20", TERMS),
    "38(a)": ("9903.74.01", TERMS), "38(d)": ("9903.74.03", TERMS), "38(h)": ("9903.74.08", TERMS),
    "39(a)": ("9903.79.01", TERMS),
}  # fmt: skip


def divide(number: str) -> ValueDivision:
    part = Decimal(0) if ours()[number].duty_on == "nothing" else Decimal(20)
    return ValueDivision(provision=number, exempt_value_usd=300 - part, dutiable_value_usd=part, arithmetic="300")


@pytest.mark.parametrize(("heading", "rule"), NOTES.values(), ids=NOTES.keys())
def test_duty_of_a_heading_is_on_what_its_note_says(heading: str, rule: str) -> None:
    for number in ours():
        division = divide(number)
        full = rule == TERMS and number == "9802.00.60"
        base = find_heading_base(division, heading, DAY)
        assert base is not None, number
        assert base.usd == (Decimal(300) if full else division.dutiable_value_usd), number


def test_every_note_of_the_table_is_in_the_text() -> None:
    noted = {note.partition("(")[0] for note in NOTES}
    for row in chapter98_rules().duties:
        cited = row.source.partition("note")[2] if row.programs != ("COLUMN_1",) else ""
        assert set(re.findall(r"\b\d{2}\b", cited)) <= noted, row.name


def test_duty_of_the_goods_is_on_the_part() -> None:
    for number in ours():
        division = divide(number)
        base = find_goods_base(division, DAY)
        assert base is not None
        assert base.usd == division.dutiable_value_usd
