"""The layouts of message-set records: 80 columns without overlap, and every field padded as its class asks."""

from __future__ import annotations

from copy import deepcopy
from importlib.resources import files
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pipeline.customs.pga_layouts import Field, RecordRules, record_rules
from pipeline.customs.pga_rules import pga_rules

RULES = record_rules()
FIELDS = [(record, field) for record in RULES.layouts for field in RULES.fields(record)]

#: Columns as the chapter of 2026-07-01 has them, a second time and by hand: the data file is held against them.
COLUMNS = {
    "OI": [(11, 80)],
    "PG00": [(5, 5), (6, 9)],
    "PG01": [(5, 7), (8, 10), (11, 13), (14, 16), (17, 17), (18, 18), (19, 22), (23, 41), (42, 57), (58, 78), (79, 79), (80, 80)],
    "PG02": [(5, 5), (6, 9), (10, 28), (29, 32), (33, 51), (52, 55), (56, 74)],
    "PG04": [(5, 5), (6, 56), (57, 68), (69, 73), (74, 80)],
    "PG05": [(5, 26), (27, 48), (49, 66), (67, 73), (74, 80)],
    "PG06": [(5, 7), (8, 9), (10, 29), (30, 37), (38, 45), (46, 50), (51, 80)],
    "PG07": [(5, 39), (40, 54), (55, 60), (61, 63), (64, 80)],
    "PG08": [(5, 21), (22, 38), (39, 55), (56, 72)],
    "PG10": [(5, 10), (11, 15), (16, 19), (20, 23), (24, 80)],
    "PG13": [(5, 39), (40, 42), (43, 45), (46, 70)],
    "PG14": [(5, 5), (6, 8), (9, 41), (42, 42), (43, 50), (51, 66), (67, 71), (72, 80)],
    "PG17": [(5, 34), (35, 64), (65, 65), (66, 70)],
    "PG18": [(5, 14), (15, 18), (19, 22), (23, 72), (73, 73)],
    "PG19": [(5, 7), (8, 10), (11, 25), (26, 57), (58, 80)],
    "PG20": [(5, 36), (37, 41), (42, 62), (63, 65), (66, 67), (68, 76)],
    "PG21": [(5, 7), (8, 30), (31, 45), (46, 80)],
    "PG22": [(5, 5), (6, 12), (13, 17), (18, 20), (21, 24), (25, 25), (26, 33), (34, 50), (51, 80)],
    "PG23": [(5, 9), (10, 79)],
    "PG24": [(5, 7), (8, 12), (13, 80)],
    "PG25": [(5, 5), (6, 6), (7, 7), (8, 13), (15, 15), (16, 40), (41, 48), (49, 56), (57, 68), (69, 80)],
    "PG26": [(5, 5), (6, 17), (18, 22), (23, 47), (48, 50), (51, 65)],
    "PG27": [(5, 24), (25, 25), (26, 27), (28, 47), (48, 48), (49, 50), (51, 70), (71, 71), (72, 73)],
    "PG28": [(5, 16), (17, 20), (21, 70)],
    "PG29": [(5, 7), (8, 19), (20, 22), (23, 34), (35, 37), (38, 49), (50, 52), (53, 64)],
    "PG30": [(5, 5), (6, 13), (14, 17), (18, 21), (22, 71)],
    "PG32": [(5, 7), (8, 9), (10, 12), (13, 21), (22, 76)],
    "PG33": [(5, 13), (14, 78)],
    "PG34": [(5, 7), (8, 9), (10, 44)],
    "PG35": [(5, 7), (8, 37), (38, 38), (39, 46)],
    "PG50": [],
    "PG51": [],
    "PG55": [(5 + 3 * at, 7 + 3 * at) for at in range(10)],
    "PG60": [(5, 7), (8, 80)],
}  # fmt: skip


def sample(field: Field) -> str:
    """A value that the field can take, one column shorter than it is wide where it has more than one."""
    length = max(1, field.width - 1)
    if field.kind == "N":
        whole = max(1, length - field.decimals)
        return "7" * whole + ("." + "5" * field.decimals if field.decimals and field.width > field.decimals else "")
    return ("ABCDEFGHIJ" * 8)[:length] if field.kind == "A" else ("A1B2C3D4E5" * 8)[:length]


def test_fields_stand_where_the_chapter_has_them() -> None:
    got = {record: [(field.first, field.last) for field in RULES.fields(record)] for record in RULES.layouts}
    assert got == COLUMNS


@pytest.mark.parametrize(("record", "field"), FIELDS, ids=lambda each: getattr(each, "name", each))
def test_a_field_stands_in_its_columns_and_nowhere_else(record: str, field: Field) -> None:
    value = sample(field)
    text = RULES.write(record, {field.name: value}).text
    assert len(text) == 80
    filled = text[field.first - 1 : field.last]
    if field.kind == "N":
        assert filled == value.replace(".", "").zfill(field.width), "right, filled with zeros"
    else:
        assert filled == value.ljust(field.width), "left, filled with spaces"
    assert text[: field.first - 1] == record.ljust(field.first - 1)
    assert text[field.last :].strip() == ""


@pytest.mark.parametrize(("record", "field"), FIELDS, ids=lambda each: getattr(each, "name", each))
def test_a_field_that_is_not_said_is_spaces_and_told_of_where_it_must_be(record: str, field: Field) -> None:
    written = RULES.write(record, {})
    assert written.text == record.ljust(80)
    assert (field.name in {trouble.field for trouble in written.troubles}) is field.mandatory


@pytest.mark.parametrize(("record", "field"), FIELDS, ids=lambda each: getattr(each, "name", each))
def test_one_column_too_many_is_told_of(record: str, field: Field) -> None:
    long = "1" * (field.width + 1)
    written = RULES.write(record, {field.name: "A" * len(long) if field.kind == "A" else long})
    assert len(written.text) == 80
    assert ("long", RULES.columns(record, field.name)) in {(one.fault, one.columns) for one in written.troubles}
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
def test_what_a_field_makes_of_a_value(record: str, field: str, value: str, put: str, fault: str | None) -> None:
    written = RULES.write(record, {field: value})
    at = RULES.field(record, field)
    assert written.text[at.first - 1 : at.last] == put
    assert {one.fault for one in written.troubles if one.field == field} == ({fault} if fault else set())


def test_every_datum_that_has_a_place_is_one_that_agencies_ask_for() -> None:
    assert set(RULES.elements) <= set(pga_rules().elements)
    roles = {role.code for role in pga_rules().roles}
    assert {place.role for place in RULES.elements.values() if place.role} <= roles


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("layouts", {"PG23": {"code": "5-9 X M", "text": "9-79 X C"}}, "field text of PG23 does not follow"),
        ("layouts", {"PG23": {"code": "5-9 X M", "text": "10-81 X C"}}, "field text of PG23 does not follow"),
        ("layouts", {"PG23": {"code": "4-9 X M"}}, "field code of PG23 does not follow"),
        ("layouts", {"PG23": {"code": "5-9 Q M"}}, "should match pattern"),
        ("elements", {"genus": {"record": "PG05", "field": "genius"}}, "PG05 genius is named"),
        ("elements", {"genus": {"record": "PG99"}}, "does not name each of them once"),
        ("overflow", {"PG19": {"nickname": "ENA"}}, "PG19 nickname is named"),
        ("elements", {"genus": {"record": "PG34", "field": "number"}}, "does not name each of them once"),
    ],
)
def test_a_layout_that_cannot_be_right_is_refused(table: str, change: dict[str, Any], said: str) -> None:
    made = deepcopy(yaml.safe_load((files("config") / "rules" / "pga_records.yaml").read_text(encoding="utf-8")))
    made[table] |= change
    with pytest.raises(ValidationError, match=said):
        RecordRules.model_validate(made)
