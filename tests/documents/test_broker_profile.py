"""A broker's own file: its columns, order, words and dates follow the profile, and no text is run as a formula."""

import csv
import json
import re
from datetime import date, datetime
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook
from pydantic import ValidationError

from pipeline.core.errors import ValidationFailed
from pipeline.documents import broker_profile as profiles
from pipeline.documents.formats.cells import unescape_formula
from pipeline.documents.schemas.profile import BrokerProfile
from tests.documents.samples import build_full_invoice, file_entry, sample
from tests.support.hostile_inputs import BREAKING, DECEIVING, ODD
from tests.support.tables import table

FIELDS = sorted(profiles.FIELDS_OF_ROWS["lines"])


EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "profiles" / "entry-import.json"


def profile(*columns: dict[str, Any], **changes: Any) -> BrokerProfile:
    result = {"name": "Demo", "filename": "lines.csv", "format": "csv", "columns": list(columns)} | changes
    return BrokerProfile.model_validate(result)


def render_profile(of: BrokerProfile, lines: int = 3) -> bytes:
    return profiles.profile_document(of, sample(lines)).body


def read_csv(body: bytes, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(StringIO(body.decode("utf-8-sig"), newline=""), delimiter=delimiter, strict=True))


def test_fields_include_columns_of_flat_table() -> None:
    every = profile(*({"header": name, "field": name} for name in FIELDS))
    head, first, *_ = read_csv(render_profile(every))
    expected = {
        "importer_number": "12-3456789XX", "ship_to_city": "Lackawanna", "charges_added": "80.00", "discounts": "12.50",
        "steel_kg": "70.000", "copper_kg": "", "importer_name": "Lakeside Kitchen Supply Inc.",
    }  # fmt: skip
    assert expected.items() <= dict(zip(head, first, strict=True)).items()


def test_dates_are_exactly_the_date_fields() -> None:
    every = profile(*({"header": name, "field": name} for name in FIELDS), filename="a.xlsx", format="xlsx")
    body = profiles.profile_document(every, sample(3, change=file_entry)).body
    head, first = list(load_workbook(BytesIO(body))["Lines"].iter_rows(max_row=2))
    dates = {str(name.value) for name, cell in zip(head, first, strict=True) if isinstance(cell.value, date)}
    assert dates == profiles.DATES


def test_shipped_profile_gives_exact_template() -> None:
    shipped = BrokerProfile.model_validate_json(EXAMPLE.read_bytes())
    profiles.check_profile(shipped, "")
    rows = read_csv(render_profile(shipped))
    assert rows[0] == [column.header for column in shipped.columns]
    assert rows[1][:-1] == [
        "12-3456789XX", "01", "0901", "ABCD", "ABCD1234567", "INV-10045", "11/24/2026", "11/26/2026", "1", "PAN-24",
        "Frying pan, stainless steel, for household cooking", "7323.93.0045", "9903.05.29", "9903.82.09", "", "", "CN",
        "XOMAPGOO400TOR", "12", "PCS", "300.00", "USD", "15.4", "70.000", "CA", "FD1", "A", "No", "Truck desk",
    ]  # fmt: skip
    # The plan gives no metal weight for a line without metals, so the cell stays empty.
    assert rows[3][23:27] == ["", "N/A", "", ""]
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("form", "expected_text"),
    [("MM/DD/YYYY", "11/24/2026"), ("DD.MM.YY", "24.11.26"), ("YYYYMMDD", "20261124"), (None, "2026-11-24")],
)
def test_dates_follow_profile_format(form: str | None, expected_text: str) -> None:
    of = profile({"header": "On", "field": "invoice_date", "dateFormat": form}, headerRow=False, byteOrderMark=False)
    assert render_profile(of, 1) == f"{expected_text}\r\n".encode()


def test_csv_follows_delimiter_and_header_row() -> None:
    columns = (
        {"header": "A;B", "field": "sku"},
        {"header": "C", "constant": "x;y"},
        {"header": "D", "field": "fcc_id"},
    )
    assert render_profile(profile(*columns, delimiter=";"), 1) == b'\xef\xbb\xbf"A;B";C;D\r\nPAN-24;"x;y";\r\n'
    bare = profile(*columns, delimiter="\t", headerRow=False, byteOrderMark=False, filename="lines.txt")
    assert render_profile(bare, 1) == b"PAN-24\tx;y\t\r\n"


def test_json_has_one_object_per_line_with_string_decimals() -> None:
    fields = {"part": "sku", "value": "line_value", "line": "line_no", "fcc": "fcc_id"}
    columns = [{"header": header, "field": field} for header, field in fields.items()]
    unit = {"header": "unit", "field": "uom", "values": {"NO": "PCS"}}
    of = profile(*columns, unit, filename="lines.json", format="json")
    expected = {"part": "POT-05", "value": "498.00", "line": "2", "fcc": None, "unit": "PCS"}
    assert json.loads(render_profile(of, 2))[1] == expected


def test_xlsx_has_typed_cells_on_named_sheet() -> None:
    of = profile(
        {"header": "Value", "field": "line_value"},
        {"header": "Date", "field": "invoice_date"},
        {"header": "Text date", "field": "invoice_date", "dateFormat": "DD/MM/YYYY"},
        filename="lines.xlsx",
        format="xlsx",
        sheet="Entry lines",
    )
    head, first = load_workbook(BytesIO(render_profile(of, 1)))["Entry lines"].iter_rows(values_only=True)
    assert head == ("Value", "Date", "Text date")
    assert first == (300, datetime(2026, 11, 24), "24/11/2026")  # noqa: DTZ001 - a cell has no time zone


def test_phone_and_article_numbers_are_unchanged() -> None:
    fields = {"Line": "line_no", "Phone": "declarant_phone", "SKU": "sku"}
    columns = [{"header": header, "field": field} for header, field in fields.items()]
    invoice = sample(1, change={"lines/0/sku": "-24-PAN", "parties/exporterContact/phone": "+1 416 555 0100"})
    table = profiles.profile_document(profile(*columns, byteOrderMark=False), invoice).body
    assert table == b"Line,Phone,SKU\r\n1,+1 416 555 0100,-24-PAN\r\n"
    book = profile(*columns, format="xlsx", filename="lines.xlsx", sheet="Lines")
    (sheet,) = load_workbook(BytesIO(profiles.profile_document(book, invoice).body)).worksheets
    assert list(sheet.iter_rows(values_only=True)) == [("Line", "Phone", "SKU"), (1, "+1 416 555 0100", "-24-PAN")]


def test_text_of_profile_or_plan_is_never_formula() -> None:
    of = profile({"header": "=1+1", "constant": "@SUM(A1)"}, {"header": "b", "field": "sku"}, byteOrderMark=False)
    assert render_profile(of, 1) == b"'=1+1,b\r\n'@SUM(A1),PAN-24\r\n"
    of = profile({"header": "a", "field": "sku"}, {"header": "b", "field": "description"}, byteOrderMark=False)
    signed = sample(1, change={"lines/0/sku": "-1", "lines/0/description": "5+cmd|' /C calc'!A0"})
    assert profiles.profile_document(of, signed).body == b"a,b\r\n'-1,5+cmd|' /C calc'!A0\r\n"


def test_bytes_and_version_depend_on_profile_and_invoice() -> None:
    one, other = profile({"header": "a", "field": "sku"}), profile({"header": "b", "field": "sku"})
    documents = [profiles.profile_document(of, sample(2)) for of in (one, one, other)]
    assert documents[0] == documents[1]
    assert documents[0].template_version != documents[2].template_version
    assert documents[0].artifact_type == "broker_profile"


@table(
    "wrong",
    [
        {"columns": []},
        {"columns": [{"header": "a"}]},
        {"columns": [{"header": "a", "field": "sku", "constant": "x"}]},
        {"columns": [{"header": "a", "constant": "x", "default": "y"}]},
        {"columns": [{"header": "a", "field": "sku"}, {"header": "a", "field": "mid"}]},
        {"columns": [{"header": "a", "field": "invoice_date", "dateFormat": "MM/MM/DD"}]},
        {"columns": [{"header": "a", "field": "invoice_date", "dateFormat": "%Y-%m-%d"}]},
        {"columns": [{"header": "a\r\nb", "field": "sku"}]},
        {"columns": [{"header": "a", "field": "sku", "formula": "=A1"}]},
        *({"filename": name} for name in ("../lines.csv", "lines.exe", "lines.xlsx")),
        *({"filename": name} for name in ("con.csv", "NUL.csv", "lpt1.old.csv", "Com9.csv")),
        {"format": "xml"},
        {"delimiter": ":"},
        *({"format": "xlsx", "filename": "a.xlsx", "sheet": sheet} for sheet in ("a/b", "a\x01b", "History")),
        {"format": "xlsx", "filename": "a.xlsx", "delimiter": ";"},
        {"format": "json", "filename": "a.json", "headerRow": False},
        {"sheet": "Entry lines"},
    ],
)
def test_invalid_profile_is_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        profile({"header": "a", "field": "sku"}, **wrong)


@table(
    ("field", "said"),
    [("skuu", "did you mean sku?"), ("HTS10", "did you mean hts10?"), ("x", "docs/broker-profiles.md lists them")],
)
def test_unknown_field_is_reported_with_suggestion(field: str, said: str) -> None:
    message = f"/profile/columns/0/field '{field}' is not a field of a line; {said}"
    with pytest.raises(ValidationFailed, match=re.escape(message)):
        profiles.check_profile(profile({"header": "a", "field": field}), "/profile")


@table(("delimiter", "other"), [(",", ";"), (";", ","), ("\t", ","), ("|", ";")])
def test_text_is_never_formula_with_other_delimiter(delimiter: str, other: str) -> None:
    of = profile({"header": f"Goods{other}=1+1", "field": "description"}, delimiter=delimiter)
    body = profiles.profile_document(of, sample(1, change={"lines/0/description": f"Pan{other}=1+1"})).body
    assert body.decode("utf-8-sig").splitlines() == [f"Goods{other}'=1+1", f"Pan{other}'=1+1"]


@pytest.mark.parametrize("name", ["manifest.json", "Manifest.json", "PACKING_LIST.json"])
def test_name_of_document_is_rejected_in_any_case(name: str) -> None:
    with pytest.raises(ValidationFailed, match="/profile/filename is the name of a document"):
        profiles.check_profile(profile({"header": "a", "field": "sku"}, filename=name, format="json"), "/profile")


@table("text", [text[:128].strip() for text in (DECEIVING | BREAKING | ODD).values()])
def test_hostile_text_of_plan_and_profile_stays_text(text: str) -> None:
    columns = (
        {"header": text, "field": "description"},
        {"header": "constant", "constant": text},
        {"header": "default", "field": "fcc_id", "default": text},
        {"header": "value", "field": "uom", "values": {"NO": text}},
    )
    invoice = sample(1, change={"lines/0/description": text, "lines/0/unit": "NO"})
    expected = [text, "constant", "default", "value", *[text] * 4]
    for delimiter in (",", ";", "\t", "|"):
        rows = read_csv(profiles.profile_document(profile(*columns, delimiter=delimiter), invoice).body, delimiter)
        others = ";,".replace(delimiter, "")
        cells = [(cell, place == 0) for row in rows for place, cell in enumerate(row)]
        assert [unescape_formula(cell, others, first=first) for cell, first in cells] == expected
        assert [cell for cell, _ in cells if cell.startswith(("=", "@", "\uff1d"))] == []
    book = profile(*columns, format="xlsx", filename="lines.xlsx", sheet='&<Lines>" é')
    (sheet,) = load_workbook(BytesIO(profiles.profile_document(book, invoice).body)).worksheets
    assert sheet.title == '&<Lines>" é'
    found = [cell for row in sheet.iter_rows() for cell in row]
    assert {(cell.data_type, cell.hyperlink) for cell in found} == {("s", None)}
    # openpyxl leaves the escapes of the format to its callers.
    shown = [re.sub(r"_x([0-9A-Fa-f]{4})_", lambda match: chr(int(match[1], 16)), str(cell.value)) for cell in found]
    assert shown == expected
    document = profiles.profile_document(profile(*columns, format="json", filename="lines.json"), invoice)
    (row,) = json.loads(document.body)
    assert [*row, *row.values()] == expected


def test_every_unknown_field_is_reported() -> None:
    of = profile(
        {"header": "a", "field": "sku"},
        {"header": "b", "field": "no_such"},
        {"header": "c", "field": "sku", "dateFormat": "YYYY-MM-DD"},
        filename="commercial_customs_invoice.csv",
    )
    with pytest.raises(ValidationFailed) as refused:
        profiles.check_profile(of, "/profile")
    issues = (refused.value.details or {})["issues"]
    paths = ("filename", "columns/1/field", "columns/2/dateFormat")
    assert [issue["path"] for issue in issues] == [f"/profile/{path}" for path in paths]


def entry_profile(**changes: Any) -> BrokerProfile:
    columns = [{"header": name, "field": name} for name in sorted(profiles.FIELDS_OF_ROWS["entry_lines"])]
    return BrokerProfile.model_validate(
        {"name": "Entry", "filename": "entry.csv", "format": "csv", "rows": "entry_lines", "columns": columns} | changes
    )


def test_rows_of_entry_lines_have_every_field_and_merged_sums() -> None:
    headers, *rows = profiles.list_rows(entry_profile(), build_full_invoice())
    merged = dict(zip(headers, rows[1], strict=True))
    assert (merged["invoice_lines"], merged["qty"], merged["entered_value_usd"]) == ("2|5", "24", "988")
    assert (merged["invoice_no"], merged["port_of_entry"]) == ("INV-10045", "0901")
    assert len(rows) == 4


def test_field_of_an_invoice_line_is_refused_for_entry_lines() -> None:
    with pytest.raises(ValidationFailed, match="'sku' is not a field of an entry line"):
        profiles.check_profile(entry_profile(columns=[{"header": "Part", "field": "sku"}]), "/profile")


def test_profile_of_lines_keeps_its_version() -> None:
    one = entry_profile(rows="lines", columns=[{"header": "Part", "field": "sku"}])
    assert "rows" not in one.model_dump(by_alias=True)


def shipped_profile(name: str) -> BrokerProfile:
    return BrokerProfile.model_validate_json((EXAMPLE.parent / f"{name}.json").read_bytes())


def test_every_shipped_profile_is_tested() -> None:
    columned = {path.stem for path in EXAMPLE.parent.glob("*.json") if '"columns"' in path.read_text(encoding="utf-8")}
    assert columned == {"entry-import", "entry-lines", "invoice-lines"}


def test_shipped_profile_of_entry_lines_gives_exact_template() -> None:
    shipped = shipped_profile("entry-lines")
    table_of = read_csv(profiles.profile_document(shipped, build_full_invoice()).body)
    assert table_of[0] == [column.header for column in shipped.columns]
    assert [row[2:4] for row in table_of[1:]] == [["1", "1"], ["2", "2|5"], ["3", "3"], ["4", "4"]]
    assert table_of[2][:-1] == [
        "CP-2026-000042", "INV-10045", "2", "2|5", "", "9903.05.29", "9903.82.09", "", "", "7323930060",
        "Stock pot with lid, stainless steel, 5 litres, for household cooking", "CA", "CA", "11/26/26", "CNFOSHOU88FOS",
        "S", "24", "NO", "", "", "", "", "59.6", "988", "48", "N", "steel", "140.000", "CA", "", "", "FD1", "A",
    ]  # fmt: skip


def test_shipped_profile_of_invoice_lines_gives_exact_objects() -> None:
    invoice = build_full_invoice()
    rows = json.loads(profiles.profile_document(shipped_profile("invoice-lines"), invoice).body)
    assert [(row["lineNumber"], row["entryLine"]) for row in rows] == [
        ("1", "1"), ("2", "2"), ("3", "3"), ("4", "4"), ("5", "2"),
    ]  # fmt: skip
    assert rows[2] == {
        "messageType": "CUSTOMS_INVOICE_LINE", "clientReference": "batch_2026_1124_01", "importerNumber": "12-3456789XX",
        "consigneeName": "Lakeside Kitchen Supply Inc., receiving dock 3", "consigneeState": "NY", "entryType": "01",
        "entryPart": "1", "entryParts": "1", "portCode": "0901", "transportMode": "30", "carrierCode": "ABCD",
        "billNumber": "ABCD1234567", "exportDate": "20261126", "invoiceNumber": "INV-10045", "invoiceDate": "20261124",
        "invoiceTotal": "1216.50", "currencyCode": "USD", "exchangeRate": "1", "lineNumber": "3", "entryLine": "3",
        "partNumber": "SPAT-1-0003", "goodsDescription": "Spatula, nylon, for household cooking",
        "tariffNumber": "3924102000", "additionalTariff1": None, "additionalTariff2": None, "additionalTariff3": None,
        "specialProgram": None, "originCountry": "CA", "manufacturerId": "XOMAPGOO400TOR", "quantity": "12",
        "quantityUnit": "EA", "linePrice": "51.00", "netWeightKg": "1.2", "steelKg": None, "aluminumKg": None,
        "meltAndPourCountry": None, "relatedParties": "false", "test": "true",
        "treatmentDigest": invoice.lines[2].treatment_digest,
    }  # fmt: skip


def test_part_of_a_shipment_is_in_the_broker_s_file() -> None:
    invoice = sample(1, change={"entry/part": {"number": "2", "of": "3"}})
    (row,) = json.loads(profiles.profile_document(shipped_profile("invoice-lines"), invoice).body)
    assert (row["entryType"], row["entryPart"], row["entryParts"]) == ("01", "2", "3")
