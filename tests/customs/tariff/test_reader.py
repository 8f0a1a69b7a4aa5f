"""The official tariff file: its two forms, its oddities, and files that are not one."""

import json
import tracemalloc
from pathlib import Path

import pytest

from pipeline.core.errors import InvalidRequest
from pipeline.customs.tariff.reader import TariffLine, read_lines
from tests.support.tables import table
from tests.support.tariff import REVISION_6, REVISION_7

ROW = {"htsno": "0101", "indent": "0", "description": "Live horses:"}
HEADERS = "HTS Number,Indent,Description,Unit of Quantity\n"


def find_line(path: Path, number: str) -> TariffLine:
    return next(line for line in read_lines(path) if line.number == number)


def test_rows_are_read_in_order_with_plain_texts() -> None:
    lines = list(read_lines(REVISION_6))
    assert [(line.number, line.indent) for line in lines[:4]] == [
        ("0101", 0), ("", 1), ("01012100", 2), ("0101210010", 3),
    ]  # fmt: skip
    assert find_line(REVISION_6, "2826909010").description == "Lithium hexafluorophosphate (LiPF6)"
    assert find_line(REVISION_6, "0402100500").general == "3.3¢/kg"
    assert find_line(REVISION_6, "6105100030").units == ("doz.", "kg")
    assert find_line(REVISION_6, "9801001012").units == ("1/",)
    assert find_line(REVISION_6, "28269090").footnotes == ("See 9903.88.03.",)
    assert find_line(REVISION_6, "99038803").additional_duties == "25% ad valorem"


def test_csv_has_the_same_rows_as_json() -> None:
    changed = {"0101300000", "6115940000", "7323930060", "7323930085"}
    read = [
        [
            line.number and (line.number, line.indent, line.units, line.general, line.special)
            for line in read_lines(path)
        ]
        for path in (REVISION_6, REVISION_7)
    ]
    json_rows, csv_rows = ([row for row in rows if not row or row[0] not in changed] for rows in read)
    assert json_rows == csv_rows


@table(
    ("field", "value", "read"),
    [
        ("description", "<div>Inner tubes:<br>Of rubber</div>", "Inner tubes: Of rubber"),
        ("description", "Atlantic<br/>(<il>Salmo salar</il>)", "Atlantic (Salmo salar)"),
        ("description", "Of H<sub>2</sub>O &amp; other", "Of H2O & other"),
        ("description", "Less than <5 mm", "Less than <5 mm"),
        *(("units", units, ("No.", "kg")) for units in (["No. and kg"], ["No., kg"], ["No.", " kg"], "No.,kg")),
        ("units", ["thousand m<sup>3</sup>"], ("thousand m3",)),
    ],
)
def test_markup_and_names_of_units_are_read(tmp_path: Path, field: str, value: object, read: object) -> None:
    path = tmp_path / "tariff.json"
    path.write_text(json.dumps([ROW | {field: value}]), encoding="utf-8")
    assert getattr(next(read_lines(path)), field) == read


def test_units_of_csv_may_be_names_with_commas(tmp_path: Path) -> None:
    path = tmp_path / "tariff.csv"
    path.write_text(HEADERS + '6105.10.00.10,2,Men\'s,"doz.,kg"\r\n\r\n0101,0,Horses,\n', encoding="utf-8")
    first, second = read_lines(path)
    assert (first.units, second.units) == (("doz.", "kg"), ())


def test_file_of_any_length_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "tariff.json"
    row = json.dumps(ROW | {"description": "Other articles of the kind that the heading describes. " * 8})
    path.write_text("[" + ",\n".join([row] * 4_000) + "]", encoding="utf-8")
    assert path.stat().st_size > 1_900_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_lines(path)) == 4_000
        assert tracemalloc.get_traced_memory()[1] < 700_000
    finally:
        tracemalloc.stop()


@table(
    ("text", "message"),
    [
        ("", "neither a JSON array nor a CSV"),
        ("[]", "the file has no rows"),
        (HEADERS, "the file has no rows"),
        ("{}", "neither a JSON array nor a CSV"),
        ("HTS Number,Description\n", "with these columns: Indent"),
        ("[1]", "row 1 must be an object"),
        (f"[{json.dumps(ROW)}", "a comma or the closing bracket must follow row 1"),
        (f"[{json.dumps(ROW)} {json.dumps(ROW)}]", "must follow row 1"),
        (f"[{json.dumps(ROW)},]", "row 2 is not complete JSON"),
        (f"[{json.dumps(ROW)}] more", "nothing may follow the closing bracket after row 1"),
        (f"[{json.dumps(ROW)}, {{'", "row 2 is not complete JSON"),
        ('[{"a": ' + '"x' * 700_000, "row 1 is not complete JSON"),
        ("[" * 100_000, "row 1"),
        (json.dumps([{"htsno": "0101", "indent": "0"}]), "row 1 lacks description"),
        (json.dumps([ROW, ROW | {"htsno": "0101.2"}]), "row 2: htsno '0101.2' is not a number of 4, 6, 8 or 10 digits"),
        (json.dumps([ROW | {"htsno": "\u0660\u0661\u0660\u0661"}]), "row 1: htsno"),
        (json.dumps([ROW | {"htsno": ["0101"]}]), "row 1: htsno must be text"),
        (json.dumps([ROW | {"indent": "-1"}]), "row 1: indent '-1' is not a number from 0 to 30"),
        (json.dumps([ROW | {"indent": True}]), "row 1: indent must be text"),
        (json.dumps([ROW | {"indent": "9" * 5000}]), "row 1: indent"),
        (json.dumps([ROW | {"units": "[kg"}]), "row 1: units '[kg' is not a list"),
        (json.dumps([ROW | {"units": {"kg": 1}}]), "row 1: units must be a list of texts"),
        (json.dumps([ROW | {"footnotes": [{"value": 7}]}]), "row 1: footnotes must be a list of texts"),
        (json.dumps([ROW | {"description": "x" * 100_001}]), "row 1: description has more than 100,000 characters"),
        (HEADERS + "0101,0\n", "row 1 has 2 cells instead of 4"),
        (HEADERS + '0101,0,"Live', "is not CSV"),
        (b"PK\x03\x04\xff\xfe\x00", "row 1 is not UTF-8 text"),
    ],
)
def test_wrong_file_is_refused_with_row_and_remedy(text: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tariff"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidRequest, match="import the file as the USITC publishes it") as refused:
        list(read_lines(path))
    assert message in str(refused.value)
