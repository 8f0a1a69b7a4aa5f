"""CSV and XLSX: the same columns, exact numbers, and no text that a spreadsheet would run."""

import csv
from dataclasses import replace
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook

from pipeline.core.findings import Finding
from pipeline.documents.formats.cells import escape_formula, unescape_formula
from pipeline.documents.formats.invoice import invoice_csv
from pipeline.documents.formats.xlsx import invoice_xlsx
from pipeline.documents.invoice.builder import build_invoice
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.plan import Unit
from tests.documents.samples import build_facts, sample, unit_data

#: Texts that a spreadsheet runs: functions, other programs (DDE), other books and sheets, with each of the signs.
FORMULAS = (
    "=1+1",
    "@SUM(A1)",
    '=HYPERLINK("http://x.example","y")',
    "\uff1d1+1",
    "=cmd|' /C calc'!A0",
    "+cmd|' /C calc'!A0",
    '-HYPERLINK("http://x.example","y")',
    "+WEBSERVICE (A1)",
    "-1+LOG10(2)",
    "-F.2(1)",
    "+1+[other.xlsx]Sheet1!A1",
    "-'file:///tmp/other.ods'#Sheet1.A1",
    "\uff0bSUM(A1)",
    "+@A1",
    "-1=1",
    '+"text"',
    "-A1:B2",
)

#: Texts that begin with a sign and run nothing; an import program must get them unchanged.
SIGNED = (
    "+1 416 555 0100",
    "+1 (416) 555-0100",
    "+1-416-555-0100 ext. 12",
    "-24-PAN",
    "+49/30/123",
    "-1",
    "+1",
    "-",
    "--",
    "- 24 cm",
    "-PAN_24.B",
    "\uff0b81 3 5550 0100",
    "-\u00c9t\u00e9",
)


def csv_rows(invoice: Invoice) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(invoice_csv(invoice).decode("utf-8-sig"), newline="")))


def test_csv_parses_back_to_exact_values() -> None:
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


def test_facts_of_attributes_and_agencies_have_columns() -> None:
    def change(data: dict[str, Any]) -> None:
        line = data["lines"][0]
        line["attributes"] = {"fccId": "ABC-123", "adCvdCase": "A-570-001"}
        line["treatment"]["pga"] = [
            {"flag": "FD2", "agency": "FDA", "program": "FOO", "data": {"fdaProductCode": "52CCY99"}},
            {"flag": "CP1", "agency": "CPS", "data": {"productId": "P-1", "versionId": "2"}},
        ]

    row = csv_rows(sample(1, change=change))[0]
    assert (row["fcc_id"], row["ad_cvd_case"]) == ("ABC-123", "A-570-001")
    assert (row["fda_product_code"], row["cpsc_product_id"], row["cpsc_version"]) == ("52CCY99", "P-1", "2")
    assert (row["pga_data_ref"], row["charges_usd"], row["notes"]) == ("pga_worksheet line 1", "", "")


@pytest.mark.parametrize(
    ("currency", "rate", "dollars"),
    [("USD", None, "300.00"), ("CAD", "0.71234567", "213.70"), ("EUR", None, ""), ("JPY", "0.0066", "1.98")],
)
def test_dollars_use_only_rate_of_plan(currency: str, rate: str | None, dollars: str) -> None:
    def change(data: dict[str, Any]) -> None:
        data["invoice"].update(currency=currency, exchangeRate=rate)

    row = csv_rows(sample(1, change=change))[0]
    assert (row["line_value"], row["line_value_usd"], row["fx_rate"]) == ("300.00", dollars, rate or "")


def test_findings_are_in_notes_and_on_sheet() -> None:
    unit = Unit.model_validate(unit_data(2))
    found = Finding(
        rule="V15", severity="warn", pointer="/units/0/lines/1/unitPrice", message="=A low value.", remedy="Say why."
    )
    invoice = build_invoice(unit, replace(build_facts(unit), findings=(found,)))
    assert [row["notes"] for row in csv_rows(invoice)] == ["", "V15 warn: =A low value."]
    book = load_workbook(BytesIO(invoice_xlsx(invoice)))
    assert book.sheetnames == ["Lines", "Parties", "Packages", "Totals", "Findings", "Invoice"]
    assert [[cell.value for cell in row] for row in book["Findings"].iter_rows(min_row=2)] == [
        ["V15", "warn", 2, "=A low value.", "Say why.", None, "/units/0/lines/1/unitPrice"]
    ]


def test_every_sheet_freezes_head_and_totals_match_invoice() -> None:
    book = load_workbook(BytesIO(invoice_xlsx(sample(3, 6))))
    assert {sheet.title: sheet.freeze_panes for sheet in book} == {
        "Lines": "D2", "Entry lines": "C2", "Parties": "C2", "Packages": "C2", "Totals": "A2", "Findings": "A2", "Invoice": "A2",
    }  # fmt: skip
    totals = {row[0]: row[3] for row in book["Totals"].iter_rows(min_row=2, values_only=True)}
    assert (totals["goods_value"], totals["invoice_total"], totals["metal_weight"]) == (1698, 1765.5, 140)
    parties = [row[:2] for row in book["Parties"].iter_rows(min_row=2, values_only=True)]
    assert [role for role, _ in parties] == [
        "seller", "buyer", "ship_to", "importer_of_record", "manufacturer M1", "manufacturer M2", "responsible_employee",
    ]  # fmt: skip


def test_headings_after_fifth_are_kept() -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["treatment"]["chapter99"] = [
            {"heading": f"9903.01.0{place}", "program": "P", "basis": "full_value"} for place in range(8)
        ]

    row = csv_rows(sample(1, change=change))[0]
    assert [row[f"ch99_{place}"] for place in range(1, 6)] == [f"9903.01.0{place}" for place in range(5)]
    assert row["ch99_more"] == "9903.01.05|9903.01.06|9903.01.07"


def test_metals_keep_position_across_columns() -> None:
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


def test_list_too_long_for_cell_refers_to_packing_list() -> None:
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
    for column in ("invoice_no", "sku", "description", "manufacturer_name", "po_no"):
        assert row[column] == f"'{text}", column
    book = load_workbook(BytesIO(invoice_xlsx(invoice)))
    cells = [cell for sheet in book for line in sheet.iter_rows() for cell in line]
    assert {cell.data_type for cell in cells} <= {"s", "n", "d"}
    assert all(cell.hyperlink is None for cell in cells)
    written = [cell for cell in cells if cell.value == text]
    assert len(written) >= 6
    # The type of the cell makes it text, and its style keeps it text if a person edits it.
    assert {(cell.data_type, cell.quotePrefix) for cell in written} == {("s", True)}
    assert [cell.value for cell in cells if str(cell.value).startswith("'")] == []


@pytest.mark.parametrize("text", SIGNED)
def test_harmless_text_with_sign_is_unchanged(text: str) -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["sku"] = text
        data["parties"]["exporterContact"]["phone"] = text.ljust(3, "0")

    invoice = sample(1, change=change)
    assert csv_rows(invoice)[0]["sku"] == text
    book = load_workbook(BytesIO(invoice_xlsx(invoice)))
    names = [cell.value for cell in book["Lines"][1]]
    cell = dict(zip(names, book["Lines"][2], strict=True))["sku"]
    assert (cell.value, cell.data_type, cell.quotePrefix) == (text, "s", False)
    (employee,) = [row for row in book["Parties"].iter_rows(values_only=True) if row[0] == "responsible_employee"]
    assert text.ljust(3, "0") in employee


@given(st.text(min_size=1))
def test_escaped_text_never_begins_with_formula(text: str) -> None:
    result = escape_formula(text)
    if result[0] in "+-\uff0b\uff0d":
        assert not set(result) & set("=@|![]#'\"\t\r\n,:{}\\^&%<>$~*")
    else:
        assert result[0] not in "=@\t\r\n\uff1d\uff20"
    assert unescape_formula(result) == text


@pytest.mark.parametrize("text", [*FORMULAS, *SIGNED])
def test_escaped_text_round_trips_with_any_number_of_apostrophes(text: str) -> None:
    for given_ in (text, f"'{text}", f"''{text}", f"Pan; {text}", f"Pan;'{text};{text}"):
        assert unescape_formula(escape_formula(given_)) == given_


def test_other_delimiter_makes_no_formula() -> None:
    """If the list separator is a semicolon, Excel splits a file with commas at the semicolons in its texts."""

    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["description"] = 'Pan; =HYPERLINK("http://x.example");"@SUM(1+1)";+1;-2 of steel'
        data["lines"][0]["sku"] = "20 mm,-10/+0"

    body = invoice_csv(sample(1, change=change)).decode("utf-8-sig")
    cells = [cell.strip(' "') for line in body.splitlines() for cell in line.split(";")]
    assert len(cells) > 5
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))] == []
    assert csv_rows(sample(1, change=change))[0]["sku"] == "20 mm,-10/+0"


def test_row_read_as_one_cell_never_begins_with_sign() -> None:
    """If the list separator is a semicolon, `-1,5+cmd|' /C calc'!A0` is a number and a call of another program."""

    def change(data: dict[str, Any]) -> None:
        data["invoice"]["number"] = "-1"

    row = csv_rows(sample(1, change=change))[0]
    assert row["invoice_no"] == "'-1"
    assert unescape_formula(row["invoice_no"], first=True) == "-1"


def test_workbook_has_numbers_as_numbers_and_codes_as_text() -> None:
    invoice = sample(2)
    lines = load_workbook(BytesIO(invoice_xlsx(invoice)))["Lines"]
    names = [cell.value for cell in lines[1]]
    cells = dict(zip(names, lines[2], strict=True))
    assert (cells["unit_price"].data_type, cells["unit_price"].value) == ("n", 25)
    assert (cells["net_kg"].data_type, cells["net_kg"].value) == ("n", 14.4)
    assert (cells["metal_kg"].data_type, cells["metal_kg"].value) == ("n", 70)
    assert (cells["us_metal_pct"].data_type, cells["us_metal_pct"].value) == ("n", 0)
    assert (cells["hts10"].data_type, cells["hts10"].value) == ("s", "7323930045")
    assert (cells["invoice_date"].data_type, str(cells["invoice_date"].value)) == ("d", "2026-11-24 00:00:00")
    assert names == list(csv_rows(invoice)[0])


@pytest.mark.parametrize(
    ("currency", "price", "shown"),
    [("USD", "25.00", "#,##0.00"), ("JPY", "3925", "#,##0"), ("KWD", "1.250", "#,##0.000")],
)
def test_numbers_are_shown_with_given_digits(currency: str, price: str, shown: str) -> None:
    def change(data: dict[str, Any]) -> None:
        data["invoice"]["currency"] = currency
        quantities = [{"quantity": "5", "unit": "DOZ"}, {"quantity": "14.40", "unit": "KG"}]
        data["lines"][0].update(unitPrice=price, entryQuantities=quantities)

    book = load_workbook(BytesIO(invoice_xlsx(sample(1, change=change))))
    cells = dict(zip([cell.value for cell in book["Lines"][1]], book["Lines"][2], strict=True))
    assert (cells["unit_price"].value, cells["unit_price"].number_format) == (float(price), shown)
    assert (cells["qty2"].value, cells["qty2"].number_format) == (14.4, "#,##0.00")
    assert [cells[name].data_type for name in ("line_no", "hts10", "invoice_date")] == ["n", "s", "d"]
    weights = [row[9] for row in book["Packages"].iter_rows(min_row=2)]
    assert [(cell.value, cell.number_format) for cell in weights] == [(210.5, "#,##0.000"), (12.4, "#,##0.000")]


def test_entry_quantities_have_their_columns() -> None:
    def change(data: dict[str, Any]) -> None:
        units = [("DOZ", "5"), ("KG", "14.40"), ("M2", "0.125")]
        data["lines"][0]["entryQuantities"] = [{"quantity": quantity, "unit": unit} for unit, quantity in units]

    first, second = csv_rows(sample(2, change=change))
    names = ("entry_qty", "entry_uom", "qty2", "uom2", "qty3", "uom3")
    assert [first[name] for name in names] == ["5", "DOZ", "14.40", "KG", "0.125", "M2"]
    assert [second[name] for name in names] == [second["qty"], second["uom"], "", "", "", ""]


def test_claim_of_chapter_98_has_its_columns() -> None:
    def change(data: dict[str, Any]) -> None:
        value = data["lines"][0]["lineValue"]
        data["lines"][0]["chapter98"] = {
            "provision": "9802.00.50",
            "exemptValue": "1.00",
            "dutiableValue": str(Decimal(value) - 1),
            "exportedOn": "2026-05-04",
            "proof": "=a declaration",
        }

    invoice = sample(2, change=change)
    first, second = csv_rows(invoice)
    names = ("ch98", "ch98_exempt_value", "ch98_exported_on", "ch98_proof")
    assert [first[name] for name in names] == ["9802.00.50", "1.00", "2026-05-04", "'=a declaration"]
    assert Decimal(first["ch98_exempt_value"]) + Decimal(first["ch98_dutiable_value"]) == Decimal(first["line_value"])
    assert [second[name] for name in names] == ["", "", "", ""]
    (mark,) = [each for each in invoice.lines[0].marks if each.kind == "chapter98"]
    assert (mark.code, mark.text.split(" · ")[-1]) == ("9802.00.50", "=a declaration")


def test_number_longer_than_float_stays_text() -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["unitPrice"] = "123456789012.123456"

    lines = load_workbook(BytesIO(invoice_xlsx(sample(1, change=change))))["Lines"]
    cells = dict(zip([cell.value for cell in lines[1]], lines[2], strict=True))
    assert (cells["unit_price"].data_type, cells["unit_price"].value) == ("s", "123456789012.123456")


def test_text_too_long_for_cell_is_replaced() -> None:
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
def test_any_text_round_trips_in_both_tables(text: str) -> None:
    text = text.strip() or "x"

    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["description"] = text

    invoice = sample(1, change=change)
    assert csv_rows(invoice)[0]["description"] == escape_formula(text)
    lines = load_workbook(BytesIO(invoice_xlsx(invoice)))["Lines"]
    cells = dict(zip([cell.value for cell in lines[1]], lines[2], strict=True))
    assert str(cells["description"].value).replace("_x005F_", "_") == text
