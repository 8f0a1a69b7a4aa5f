"""The layouts of message-set records: 80 columns without overlap, and each field padded by its class."""

import re
import unicodedata
from copy import deepcopy
from importlib.resources import files
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pipeline.customs.reference.pga import pga_rules
from pipeline.customs.reference.pga_layouts import RecordField, RecordRules, record_rules
from tests.support.tables import table

RULES = record_rules()
FIELDS = [(record, field) for record in RULES.layouts for field in RULES.fields_of(record)]

#: The fields of the chapter of 2026-07-01, copied by hand: first and last column, class, need. The data file is compared
#: with them.
CHAPTER = {
    "OI": "11-80 X M",
    "PG00": "5-5 A M, 6-9 AN C",
    "PG01": "5-7 N M, 8-10 AN M, 11-13 X M, 14-16 AN C, 17-17 A C, 18-18 A C, 19-22 AN C, 23-41 X C, 42-57 X C, "
    "58-78 X C, 79-79 X C, 80-80 A C",
    "PG02": "5-5 A M, 6-9 X C, 10-28 X C, 29-32 X C, 33-51 X C, 52-55 X C, 56-74 X C",
    "PG04": "5-5 A C, 6-56 X C, 57-68 N2 C, 69-73 X C, 74-80 N4 C",
    "PG05": "5-26 X C, 27-48 X C, 49-66 X C, 67-73 X C, 74-80 X C",
    "PG06": "5-7 AN M, 8-9 A C, 10-29 X C, 30-37 N C, 38-45 N C, 46-50 X C, 51-80 X C",
    "PG07": "5-39 X C, 40-54 X C, 55-60 N C, 61-63 AN C, 64-80 X C",
    "PG08": "5-21 X C, 22-38 X C, 39-55 X C, 56-72 X C",
    "PG10": "5-10 AN C, 11-15 AN C, 16-19 AN C, 20-23 AN C, 24-80 X C",
    "PG13": "5-39 X C, 40-42 A C, 43-45 X C, 46-70 X C",
    "PG14": "5-5 N C, 6-8 AN C, 9-41 X C, 42-42 X C, 43-50 N C, 51-66 N4 C, 67-71 X C, 72-80 X C",
    "PG17": "5-34 X C, 35-64 X C, 65-65 A C, 66-70 N C",
    "PG18": "5-14 X C, 15-18 X C, 19-22 X C, 23-72 X C, 73-73 X C",
    "PG19": "5-7 X M, 8-10 X C, 11-25 X C, 26-57 X C, 58-80 X C",
    "PG20": "5-36 X C, 37-41 X C, 42-62 X C, 63-65 X C, 66-67 A C, 68-76 X C",
    "PG21": "5-7 X C, 8-30 X C, 31-45 X C, 46-80 X C",
    "PG22": "5-5 A C, 6-12 X C, 13-17 X C, 18-20 X C, 21-24 X C, 25-25 A C, 26-33 N C, 34-50 X C, 51-80 X C",
    "PG23": "5-9 X M, 10-79 X C",
    "PG24": "5-7 X C, 8-12 X C, 13-80 X C",
    "PG25": "5-5 X C, 6-6 A C, 7-7 A C, 8-13 N2 C, 14-14 A C, 15-15 X C, 16-40 X C, 41-48 N C, 49-56 N C, 57-68 N C, "
    "69-80 N2 C",
    "PG26": "5-5 N M, 6-17 N2 C, 18-22 X C, 23-47 X C, 48-50 X C, 51-65 X C, 66-80 X C",
    "PG27": "5-24 X C, 25-25 N C, 26-27 N C, 28-47 X C, 48-48 N C, 49-50 N C, 51-70 X C, 71-71 N C, 72-73 N C",
    "PG28": "5-16 X C, 17-20 X C, 21-70 X C",
    "PG29": "5-7 X C, 8-19 N2 C, 20-22 X C, 23-34 N2 C, 35-37 X C, 38-49 N2 C, 50-52 X C, 53-64 N2 C",
    "PG30": "5-5 A M, 6-13 N C, 14-17 N C, 18-21 X C, 22-71 X C",
    "PG31": "5-7 AN M, 8-42 X M, 43-45 AN C, 46-55 N2 C",
    "PG32": "5-7 X M, 8-9 A C, 10-12 X C, 13-21 X C, 22-76 X C",
    "PG33": "5-13 X C, 14-78 X C",
    "PG34": "5-7 X C, 8-9 A C, 10-44 X C",
    "PG35": "5-7 X C, 8-37 X C, 38-38 X C, 39-46 N C",
    "PG50": "",
    "PG51": "",
    "PG55": ", ".join(f"{first}-{first + 2} AN C" for first in range(5, 35, 3)),
    "PG60": "5-7 X M, 8-80 X M",
}


def sample(field: RecordField) -> str:
    """Return a valid value of the field that is one column shorter than the field, unless it has only one column."""
    length = max(1, field.width - 1)
    if field.kind == "N":
        whole = max(1, length - field.decimals)
        return "7" * whole + ("." + "5" * field.decimals if field.decimals and field.width > field.decimals else "")
    return ("ABCDEFGHIJ" * 8)[:length] if field.kind == "A" else ("A1B2C3D4E5" * 8)[:length]


@table("record", CHAPTER)
def test_fields_match_columns_class_and_need_of_chapter(record: str) -> None:
    got = [
        f"{field.first}-{field.last} {field.kind}{field.decimals or ''} {'M' if field.mandatory else 'C'}"
        for field in RULES.fields_of(record)
    ]
    assert ", ".join(got) == CHAPTER[record]


def test_every_record_of_chapter_has_layout() -> None:
    assert RULES.layouts.keys() == CHAPTER.keys()


@table(("record", "field"), FIELDS)
def test_field_fills_only_its_columns(record: str, field: RecordField) -> None:
    value = sample(field)
    text = RULES.format_record(record, {field.name: value}).text
    assert len(text) == 80
    filled = text[field.first - 1 : field.last]
    if field.kind == "N":
        assert filled == value.replace(".", "").zfill(field.width), "right, filled with zeros"
    else:
        assert filled == value.ljust(field.width), "left, filled with spaces"
    assert text[: field.first - 1] == record.ljust(field.first - 1)
    assert text[field.last :].strip() == ""


@table(("record", "field"), FIELDS)
def test_empty_field_is_blank_and_reported_if_mandatory(record: str, field: RecordField) -> None:
    written = RULES.format_record(record, {})
    assert written.text == record.ljust(80)
    assert (field.name in {trouble.field for trouble in written.problems}) is field.mandatory


@table(("record", "field"), FIELDS)
def test_value_one_column_too_long_is_reported(record: str, field: RecordField) -> None:
    long = "1" * (field.width + 1)
    written = RULES.format_record(record, {field.name: "A" * len(long) if field.kind == "A" else long})
    assert len(written.text) == 80
    assert ("long", RULES.describe_columns(record, field.name)) in {
        (one.fault, one.columns) for one in written.problems
    }
    if field.kind == "N":
        assert written.text[field.first - 1 : field.last].strip() == "", "half a number is another number"


@pytest.mark.parametrize(
    ("record", "field", "value", "put", "fault"),
    [
        ("PG01", "agency", "F-A", "F-A", "class"),
        ("PG06", "country", "C1", "C1", "class"),
        ("PG26", "quantity", "1.005", "            ", "class"),
        ("PG26", "quantity", "-1", "            ", "class"),
        ("PG26", "quantity", "a dozen", "            ", "class"),
        ("PG26", "quantity", "1e3", "000000100000", None),
        ("PG25", "value", "1234.00", "000000001234", None),
        ("PG25", "value", "1234.50", "            ", "class"),
        ("PG04", "percent", "12.3456", "0123456", None),
        ("PG20", "city", "Montréal", "MONTREAL             ", None),
        ("PG20", "city", "Łódź", "LODZ                 ", None),
        ("PG20", "city", "Straße", "STRASSE              ", None),
        ("PG20", "city", "佛山", "??                   ", "characters"),
        ("PG20", "city", "Saint John\u2019s \u2013 A", "SAINT JOHN'S - A     ", None),
        ("PG20", "city", "a\u00a0b\u2003c", "A B C                ", None),
        ("PG20", "city", "Kraków, 中", "KRAKOW, ?            ", "characters"),
    ],
)
def test_value_is_formatted_by_field_class(record: str, field: str, value: str, put: str, fault: str | None) -> None:
    written = RULES.format_record(record, {field: value})
    at = RULES.find_field(record, field)
    assert written.text[at.first - 1 : at.last] == put
    assert {one.fault for one in written.problems if one.field == field} == ({fault} if fault else set())


def test_every_placed_datum_is_known_element() -> None:
    assert set(RULES.elements) <= set(pga_rules().elements)
    roles = {role.code for role in pga_rules().roles}
    assert {place.role for places in RULES.elements.values() for place in places if place.role} <= roles


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("layouts", {"PG23": {"code": "5-9 X M", "text": "9-79 X C"}}, "field text of PG23 does not follow"),
        ("layouts", {"PG23": {"code": "5-9 X M", "text": "10-81 X C"}}, "field text of PG23 does not follow"),
        ("layouts", {"PG23": {"code": "4-9 X M"}}, "field code of PG23 does not follow"),
        ("layouts", {"PG23": {"code": "5-9 Q M"}}, "should match pattern"),
        ("elements", {"genus": {"record": "PG05", "field": "genius"}}, "PG05 genius is named"),
        ("elements", {"genus": {"record": "PG99"}}, "must name each record exactly once"),
        ("overflow", {"PG19": {"nickname": "ENA"}}, "PG19 nickname is named"),
        ("together", [["PG06", "PG05"]], "PG06 and PG05 belong together, so they must follow one another"),
        ("elements", {"genus": {"record": "PG33", "field": "text"}}, "must name each record exactly once"),
    ],
)
def test_inconsistent_layout_is_rejected(table: str, change: Any, message: str) -> None:
    changed = deepcopy(yaml.safe_load((files("config") / "rules" / "pga_records.yaml").read_text(encoding="utf-8")))
    changed[table] = changed[table] | change if isinstance(change, dict) else change
    with pytest.raises(ValidationError, match=message):
        RecordRules.model_validate(changed)


#: Replacements that do not follow from the letters or the kind of mark in a character's Unicode name.
BY_SOUND_OR_SHAPE = {"ETH": "D", "THORN": "TH", "SHARP S": "SS", "DOTLESS I": "I", "BULLET": "-", "MIDDLE DOT": "."}
MARKS = {
    "MULTIPLICATION": "X", "DEGREE": " DEG", "REGISTERED": "(R)", "COPYRIGHT": "(C)", "EURO": "EUR", "POUND": "GBP",
}  # fmt: skip


@table(("character", "written"), RULES.characters.items())
def test_replacement_follows_from_the_name_of_the_character(character: str, written: str) -> None:
    name = unicodedata.name(character)
    if "QUOTATION MARK" in name:
        expected = "'" if "SINGLE" in name else '"'
    elif any(kind in name for kind in ("HYPHEN", "DASH", "MINUS")):
        expected = "-"
    elif name.endswith(" SIGN"):
        expected = MARKS[name.split(maxsplit=1)[0]]
    else:
        letter = re.sub(r"^LATIN (CAPITAL|SMALL) (LETTER|LIGATURE) | WITH STROKE$", "", name)
        expected = BY_SOUND_OR_SHAPE.get(letter, letter)
    assert written == expected, name
