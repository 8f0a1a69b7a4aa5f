"""CSV and XLSX: the same columns, every number exact, and no text that a spreadsheet would run."""

from __future__ import annotations

import csv
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook

from pipeline.documents.columns import defused
from pipeline.documents.invoice_csv import invoice_csv
from pipeline.documents.invoice_xlsx import invoice_xlsx
from pipeline.schemas.invoice import Invoice
from tests.documents.invoice_samples import sample

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("http://x.example","y")', "\uff1d1+1", "=cmd|' /C calc'!A0")


def csv_rows(invoice: Invoice) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(invoice_csv(invoice).decode("utf-8-sig"), newline="")))


def test_csv_parses_back_to_the_exact_values() -> None:
    invoice = sample(3, 6)
    rows = csv_rows(invoice)
    assert len(rows) == 3
    for row, line in zip(rows, invoice.lines, strict=True):
        assert row["hts10"] == line.hts_code.exact
        assert Decimal(row["qty"]) == line.quantity.exact
        assert row["unit_price"] == str(line.unit_price.exact)
        assert row["line_value"] == str(line.line_value.exact)
        assert row["treatment_digest"] == line.treatment_digest
        assert row["description"] == line.description
    first = rows[0]
    assert (first["ch99_1"], first["ch99_2"], first["ch99_3"]) == ("9903.05.29", "9903.82.09", "")
    assert (first["metal_type"], first["metal_kg"], first["melt_pour_country"]) == ("steel", "70.000", "CA")
    assert (first["pga_flags"], first["pga_disclaim"]) == ("FD1", "A")
    assert first["pga_data"] == "FD1.reason=not a food contact surface claim"
    assert (first["package_ids"], first["sscc_list"]) == ("CTN-00001|CTN-00002", "")


def test_csv_begins_with_a_byte_order_mark_and_ends_lines_with_crlf() -> None:
    body = invoice_csv(sample(2))
    assert body.startswith(b"\xef\xbb\xbfinvoice_no,")
    assert body.count(b"\r\n") == 3


def test_headings_past_the_fifth_are_not_lost() -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["treatment"]["chapter99"] = [
            {"heading": f"9903.01.0{place}", "program": "P", "basis": "full_value"} for place in range(8)
        ]

    row = csv_rows(sample(1, change=change))[0]
    assert [row[f"ch99_{place}"] for place in range(1, 6)] == [f"9903.01.0{place}" for place in range(5)]
    assert row["ch99_more"] == "9903.01.05|9903.01.06|9903.01.07"


def test_metals_keep_their_places_across_columns() -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["treatment"]["section232"] = [
            {"metal": "steel", "metalWeightKg": "1.5", "countryOfMeltAndPour": "OTH"},
            {"metal": "aluminum", "metalWeightKg": "2", "primaryCountryOfSmelt": "CA", "countryOfCast": "CN"},
        ]

    row = csv_rows(sample(1, change=change))[0]
    assert row["metal_type"] == "steel|aluminum"
    assert row["melt_pour_country"] == "OTH|"
    assert row["primary_smelt"] == "|CA"
    assert row["secondary_smelt"] == ""


def test_a_list_too_long_for_a_cell_refers_to_the_packing_list() -> None:
    row = csv_rows(sample(1, 4_000))[0]
    assert row["package_ids"] == "see packing list"


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_becomes_a_formula(text: str) -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["sku"] = text
        data["lines"][0]["description"] = text
        data["parties"]["manufacturers"][0]["name"] = text
        data["invoice"]["purchaseOrder"] = text
        data["invoice"]["number"] = text

    invoice = sample(1, change=change)
    row = csv_rows(invoice)[0]
    for column in ("sku", "description", "manufacturer_name", "po_no", "invoice_no"):
        assert row[column] == f"'{text}", column
    book = load_workbook(BytesIO(invoice_xlsx(invoice)))
    cells = [cell for sheet in book for line in sheet.iter_rows() for cell in line]
    assert {cell.data_type for cell in cells} <= {"s", "n"}
    assert all(cell.hyperlink is None for cell in cells)
    assert sum(cell.value == f"'{text}" for cell in cells) >= 6


@given(st.text(min_size=1))
def test_defused_text_never_begins_with_a_formula_sign(text: str) -> None:
    assert defused(text)[0] not in "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
    assert defused(text).removeprefix("'") == text or text.startswith("'")


def test_workbook_has_numbers_as_numbers_and_codes_as_text() -> None:
    invoice = sample(2)
    lines = load_workbook(BytesIO(invoice_xlsx(invoice)))["Lines"]
    names = [cell.value for cell in lines[1]]
    cells = dict(zip(names, lines[2], strict=True))
    assert (cells["unit_price"].data_type, cells["unit_price"].value) == ("n", 25)
    assert (cells["net_kg"].data_type, cells["net_kg"].value) == ("n", 14.4)
    assert (cells["hts10"].data_type, cells["hts10"].value) == ("s", "7323930045")
    assert (cells["invoice_date"].data_type, cells["invoice_date"].value) == ("s", "2026-11-24")
    assert names == list(csv_rows(invoice)[0])


def test_number_with_more_digits_than_a_float_holds_stays_text() -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["unitPrice"] = "123456789012.123456"

    lines = load_workbook(BytesIO(invoice_xlsx(sample(1, change=change))))["Lines"]
    cells = dict(zip([cell.value for cell in lines[1]], lines[2], strict=True))
    assert (cells["unit_price"].data_type, cells["unit_price"].value) == ("s", "123456789012.123456")


def test_text_too_long_for_a_cell_is_not_dropped_in_silence() -> None:
    def change(data: dict[str, Any]) -> None:
        facts = {f"f{place}": ["x" * 1000] for place in range(40)}
        data["lines"][0]["treatment"]["pga"][0]["data"] = facts

    invoice = sample(1, change=change)
    lines = load_workbook(BytesIO(invoice_xlsx(invoice)))["Lines"]
    cells = dict(zip([cell.value for cell in lines[1]], lines[2], strict=True))
    assert cells["pga_data"].value == "too long for a cell: see commercial_customs_invoice.csv"
    assert len(csv_rows(invoice)[0]["pga_data"]) > 40_000


@settings(max_examples=25, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=80)
)
def test_any_text_of_a_plan_survives_both_tables(text: str) -> None:
    text = text.strip() or "x"

    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["description"] = text

    invoice = sample(1, change=change)
    assert csv_rows(invoice)[0]["description"] == defused(text)
    lines = load_workbook(BytesIO(invoice_xlsx(invoice)))["Lines"]
    cells = dict(zip([cell.value for cell in lines[1]], lines[2], strict=True))
    assert str(cells["description"].value).replace("_x005F_", "_") == defused(text)
