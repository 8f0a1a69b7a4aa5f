"""Units of quantity have the codes, names and sizes of customs' lists, of the tariff and of an independent library."""

import csv
import re
from decimal import Decimal
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from pipeline.customs.reference.units import UnitOfQuantity, unit_rules
from tests.support.tables import table

#: What each code means in the words of three lists: CATAIR Appendix C (2016-02-22), the code key of the USITC's tariff database,
#: and the unit codes of Schedule B in a carrier's manual. `tariff` has the units that the USITC's export of HTSUS 2025
#: Revision 32 prints in its column of units and in its rates; those that no list has a code for are at the end.
LISTS = Path(__file__).parent / "units_of_quantity.csv"
#: The key of the database says kilograms per cubic meter; nothing is measured so.
MISREAD = {("KM3", "tariff_database")}
#: Words of units in one form.
SAME = {
    "1,000": "thousand", "1000": "thousand", "thousand": "thousand", "sq": "square", "giqabecquerel": "gigabecquerel",
    "component": "content", "feet": "foot", "ton": "thousand thousand gram", "t": "thousand thousand gram", "metric": "",
    "kilogram": "thousand gram", "kg": "thousand gram", "kilometer": "thousand meter", "m": "meter", "m2": "square meter",
    "m3": "cubic meter", "cm": "centimeter", "cm2": "square centimeter", "cm3": "cubic centimeter", "ml": "milliliter",
    "mg": "milligram", "l": "liter", "lin": "linear", "doz": "dozen", "dz": "dozen", "pc": "piece", "pr": "pair", "lb": "pound",
    "kilowatt-hour": "kilowatt hour", "kwh": "kilowatt hour", "mbq": "megabecquerel", "hundred": "hundred", "of": "", "unit": "",
}  # fmt: skip
#: Names whose words are in no list: gallons stand there only as "(US)(Volume)", and nothing has a name with X.
BY_CODE = {"gallons": "GAL", "gallon": "GAL", "1000 kWh": "MWH", "X": "X", "gr.": "GR"}
#: The units in the words of pint; a unit that it lacks is one by itself.
PINT = {
    "FT": "foot", "YD": "yard", "KM": "kilometer", "SFT": "foot**2", "SYD": "yard**2", "GAL": "gallon", "CC": "centimeter**3",
    "MG": "milligram", "OZ": "ounce", "LB": "pound", "CAR": "carat", "G": "gram", "GM": "gram", "KG": "kilogram",
    "T": "metric_ton", "CM": "centimeter", "M": "meter", "LNM": "meter", "CM2": "centimeter**2", "M2": "meter**2",
    "KM2": "1000 * meter**2", "ML": "milliliter", "CM3": "centimeter**3", "L": "liter", "M3": "meter**3",
    "KM3": "1000 * meter**3", "KWH": "kilowatt_hour", "MWH": "megawatt_hour", "W": "watt", "MBQ": "megabecquerel",
    "GBQ": "gigabecquerel", "NO": "piece_", "PCS": "piece_", "DOZ": "12 * piece_", "DPC": "12 * piece_", "HUN": "100 * piece_",
    "GR": "144 * piece_", "GRS": "144 * piece_", "K": "1000 * piece_", "THS": "1000 * piece_", "PRS": "pair_",
    "DPR": "12 * pair_", "CGM": "content_", "CKG": "1000 * content_", "CTN": "1000000 * content_",
}  # fmt: skip


@cache
def read_lists() -> list[dict[str, str]]:
    with LISTS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def list_words(text: str) -> list[str]:
    """Return the words of a unit in one form, sorted, without what is in parentheses."""
    plain = re.sub(r"\(.*", "", text.lower()).replace("²", "2").replace("³", "3").replace(".", " ")
    words = (SAME.get(each.rstrip("s"), each.rstrip("s")) for each in re.split(r"\s+|,(?!\d)", plain))
    return sorted(part for word in words for part in word.split() if part != "number" or plain.strip("s ") == "number")


def list_printed(row: dict[str, str]) -> list[str]:
    return row["tariff"].split(";") if row["tariff"] else []


UNITS = {row["code"]: row for row in read_lists() if row["code"]}


def test_codes_are_those_of_the_lists() -> None:
    assert {unit.code for unit in unit_rules().units} == UNITS.keys()
    # Exports and the tariff's own database use these; CBP's list does not have them.
    assert {code for code, row in UNITS.items() if not row["appendix_c"]} == {"DS", "GM", "GRS", "MWH", "THS"}


@table("row", read_lists())
def test_units_of_the_tariff_have_their_code(row: dict[str, str]) -> None:
    found = [unit_rules().find_unit(name) for name in list_printed(row)]
    assert {unit and unit.code for unit in found} <= {row["code"] or None}


@table("unit", unit_rules().units)
def test_names_are_printed_in_the_tariff_or_say_what_the_lists_say(unit: UnitOfQuantity) -> None:
    row = UNITS[unit.code]
    printed = {re.sub(r"[.\s]+", " ", name.lower()).strip() for name in list_printed(row)}
    lists = [row[each] for each in ("appendix_c", "tariff_database", "schedule_b") if (unit.code, each) not in MISREAD]
    said = [list_words(text) for text in lists if text]
    for name in unit.names:
        if re.sub(r"[.\s]+", " ", name.lower()).strip() not in printed and BY_CODE.get(name) != unit.code:
            assert list_words(name) in said, name


def test_units_are_as_large_as_in_an_independent_library() -> None:
    registry = import_module("pint").UnitRegistry(non_int_type=Decimal)
    for own in ("piece_", "pair_", "content_"):
        registry.define(f"{own} = [{own}]")
    rules = unit_rules().by_code
    sizes: dict[str, dict[str, Decimal]] = {}
    for code, words in PINT.items():
        size = registry(words).to_base_units()
        sizes.setdefault(str(size.dimensionality), {})[code] = size.magnitude
    measures = [{rules[code].measure for code in codes} for codes in sizes.values()]
    assert [len(found) for found in measures] == [1] * len(measures)
    assert len({each.measure for each in rules.values()}) == len(measures) + len(rules.keys() - PINT.keys())
    for codes in sizes.values():
        one = next(iter(codes))
        for code, size in codes.items():
            assert rules[code].factor / rules[one].factor == pytest.approx(size / codes[one], rel=Decimal("1e-12")), (
                code
            )
    assert {rules[code].factor for code in rules.keys() - PINT.keys()} == {1}


def test_units_without_a_quantity_and_of_the_net_weight_are_those_of_the_lists() -> None:
    rules = unit_rules()
    assert rules.without_quantity == {
        code for code, row in UNITS.items() if "Quantity Not Required" in row["appendix_c"]
    }
    assert UNITS[rules.net_weight]["appendix_c"] == "1,000 Grams"
