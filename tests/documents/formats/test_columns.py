"""CSV and XLSX: the same columns, exact numbers, and no text that a spreadsheet would run."""

import csv
import re
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook

from pipeline.core.findings import Finding
from pipeline.core.money import format_plain
from pipeline.documents.formats import treatment_columns as written
from pipeline.documents.formats.cells import escape_formula, read_columns, unescape_formula
from pipeline.documents.formats.invoice import invoice_csv
from pipeline.documents.formats.treatment_columns import read_treatment
from pipeline.documents.formats.xlsx import invoice_xlsx
from pipeline.documents.invoice.builder import build_invoice
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.plan import Treatment, Unit, as_json
from tests.documents.samples import build_facts, sample, unit_data
from tests.support.tables import table

#: Texts that a spreadsheet runs: functions, other programs (DDE), other books and sheets, with each of the signs.
FORMULAS = (
    "=1+1", "@SUM(A1)", '=HYPERLINK("http://x.example","y")', "\uff1d1+1", "=cmd|' /C calc'!A0", "+cmd|' /C calc'!A0",
    '-HYPERLINK("http://x.example","y")', "+WEBSERVICE (A1)", "-1+LOG10(2)", "-F.2(1)", "+1+[other.xlsx]Sheet1!A1",
    "-'file:///tmp/other.ods'#Sheet1.A1", "\uff0bSUM(A1)", "+@A1", "-1=1", '+"text"', "-A1:B2",
)  # fmt: skip


#: Texts that begin with a sign and run nothing; an import program must get them unchanged.
SIGNED = (
    "+1 416 555 0100", "+1 (416) 555-0100", "+1-416-555-0100 ext. 12", "-24-PAN", "+49/30/123", "-1", "+1", "-", "--",
    "- 24 cm", "-PAN_24.B", "\uff0b81 3 5550 0100", "-\u00c9t\u00e9",
)  # fmt: skip


def csv_rows(invoice: Invoice) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(invoice_csv(invoice).decode("utf-8-sig"), newline="")))


def read_first_line(invoice: Invoice) -> dict[str, Any]:
    """Return the cells of the first line in the workbook by the names of their columns."""
    lines = load_workbook(BytesIO(invoice_xlsx(invoice)))["Lines"]
    return dict(zip((str(cell.value) for cell in lines[1]), lines[2], strict=True))


def test_csv_parses_back_to_exact_values() -> None:
    invoice = sample(3, 6)
    rows = csv_rows(invoice)
    assert len(rows) == 3
    for row, line in zip(rows, invoice.lines, strict=True):
        assert row["hts10"] == line.hts_code.exact
        assert Decimal(row["qty"]) == line.quantity.exact
        assert (row["unit_price"], row["line_value"]) == (str(line.unit_price.exact), str(line.line_value.exact))
        assert (row["treatment_digest"], row["description"]) == (line.treatment_digest, line.description)
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
    row = csv_rows(sample(1, change={"invoice/currency": currency, "invoice/exchangeRate": rate}))[0]
    assert (row["line_value"], row["line_value_usd"], row["fx_rate"]) == ("300.00", dollars, rate or "")


def test_findings_are_in_notes_and_on_sheet() -> None:
    unit, pointer = Unit.model_validate(unit_data(2)), "/units/0/lines/1/unitPrice"
    found = Finding(rule="V15", severity="warn", pointer=pointer, message="=A low value.", remedy="Say why.")
    invoice = build_invoice(unit, replace(build_facts(unit), findings=(found,)))
    assert [row["notes"] for row in csv_rows(invoice)] == ["", "V15 warn: =A low value."]
    book = load_workbook(BytesIO(invoice_xlsx(invoice)))
    assert book.sheetnames == ["Lines", "Parties", "Packages", "Totals", "Findings", "Invoice"]
    assert [*book["Findings"].iter_rows(min_row=2, values_only=True)] == [
        ("V15", "warn", 2, "=A low value.", "Say why.", None, pointer)
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
    headings = [{"heading": f"9903.01.0{place}", "program": "P", "basis": "full_value"} for place in range(8)]
    row = csv_rows(sample(1, change={"lines/0/treatment/chapter99": headings}))[0]
    assert [row[f"ch99_{place}"] for place in range(1, 6)] == [f"9903.01.0{place}" for place in range(5)]
    assert row["ch99_more"] == "9903.01.05|9903.01.06|9903.01.07"


def test_metals_keep_position_across_columns() -> None:
    metals = [
        {"metal": "steel", "metalWeightKg": "1.5", "countryOfMeltAndPour": "OTH"},
        {"metal": "aluminum", "metalWeightKg": "2", "primaryCountryOfSmelt": "CA", "countryOfCast": "CN"},
    ]
    row = csv_rows(sample(1, change={"lines/0/treatment/section232": metals}))[0]
    names = ("metal_type", "melt_pour_country", "primary_smelt", "secondary_smelt")
    assert [row[name] for name in names] == ["steel|aluminum", "OTH|", "|CA", ""]


def test_list_too_long_for_cell_refers_to_packing_list() -> None:
    assert csv_rows(sample(1, 4_000))[0]["package_ids"] == "see packing list"


@table("text", FORMULAS)
def test_no_text_becomes_a_formula(text: str) -> None:
    places = (
        "lines/0/sku", "lines/0/description", "parties/manufacturers/0/name", "invoice/purchaseOrder", "invoice/number",
    )  # fmt: skip
    invoice = sample(1, change=dict.fromkeys(places, text))
    row = csv_rows(invoice)[0]
    assert {row[name] for name in ("invoice_no", "sku", "description", "manufacturer_name", "po_no")} == {f"'{text}"}
    book = load_workbook(BytesIO(invoice_xlsx(invoice)))
    cells = [cell for sheet in book for line in sheet.iter_rows() for cell in line]
    assert {cell.data_type for cell in cells} <= {"s", "n", "d"}
    assert all(cell.hyperlink is None for cell in cells)
    written = [cell for cell in cells if cell.value == text]
    assert len(written) >= 6
    # The type of the cell makes it text, and its style keeps it text if a person edits it.
    assert {(cell.data_type, cell.quotePrefix) for cell in written} == {("s", True)}
    assert [cell.value for cell in cells if str(cell.value).startswith("'")] == []


@table("text", SIGNED)
@pytest.mark.system
def test_harmless_text_with_sign_is_unchanged(text: str) -> None:
    phone = text.ljust(3, "0")
    invoice = sample(1, change={"lines/0/sku": text, "parties/exporterContact/phone": phone})
    assert csv_rows(invoice)[0]["sku"] == text
    cell = read_first_line(invoice)["sku"]
    assert (cell.value, cell.data_type, cell.quotePrefix) == (text, "s", False)
    parties = load_workbook(BytesIO(invoice_xlsx(invoice)))["Parties"].iter_rows(values_only=True)
    assert [phone in row for row in parties if row[0] == "responsible_employee"] == [True]


@given(st.text(min_size=1))
def test_escaped_text_never_begins_with_formula(text: str) -> None:
    result = escape_formula(text)
    if result[0] in "+-\uff0b\uff0d":
        assert not set(result) & set("=@|![]#'\"\t\r\n,:{}\\^&%<>$~*")
    else:
        assert result[0] not in "=@\t\r\n\uff1d\uff20"
    assert unescape_formula(result) == text


@table("text", [*FORMULAS, *SIGNED])
def test_escaped_text_round_trips_with_any_number_of_apostrophes(text: str) -> None:
    for given_ in (text, f"'{text}", f"''{text}", f"Pan; {text}", f"Pan;'{text};{text}"):
        assert unescape_formula(escape_formula(given_)) == given_


def test_other_delimiter_makes_no_formula() -> None:
    """If the list separator is a semicolon, Excel splits a file with commas at the semicolons in its texts."""
    text = 'Pan; =HYPERLINK("http://x.example");"@SUM(1+1)";+1;-2 of steel'
    invoice = sample(1, change={"lines/0/description": text, "lines/0/sku": "20 mm,-10/+0"})
    body = invoice_csv(invoice).decode("utf-8-sig")
    cells = [cell.strip(' "') for line in body.splitlines() for cell in line.split(";")]
    assert len(cells) > 5
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))] == []
    assert csv_rows(invoice)[0]["sku"] == "20 mm,-10/+0"


def test_row_read_as_one_cell_never_begins_with_sign() -> None:
    """If the list separator is a semicolon, `-1,5+cmd|' /C calc'!A0` is a number and a call of another program."""
    row = csv_rows(sample(1, change={"invoice/number": "-1"}))[0]
    assert row["invoice_no"] == "'-1"
    assert unescape_formula(row["invoice_no"], first=True) == "-1"


def test_workbook_has_numbers_as_numbers_and_codes_as_text() -> None:
    cells = read_first_line(sample(2))
    shown = {
        "unit_price": ("n", 25), "net_kg": ("n", 14.4), "metal_kg": ("n", 70), "us_metal_pct": ("n", 0), "line_no": ("n", 1),
        "hts10": ("s", "7323930045"), "invoice_date": ("d", datetime(2026, 11, 24)),  # noqa: DTZ001 - a cell has no time zone
    }  # fmt: skip
    assert {name: (cells[name].data_type, cells[name].value) for name in shown} == shown
    assert [*cells] == list(csv_rows(sample(2))[0])


@table(
    ("currency", "price", "shown"),
    [("USD", "25.00", "#,##0.00"), ("JPY", "3925", "#,##0"), ("KWD", "1.250", "#,##0.000")],
)
def test_numbers_are_shown_with_given_digits(currency: str, price: str, shown: str) -> None:
    quantities = [{"quantity": "5", "unit": "DOZ"}, {"quantity": "14.40", "unit": "KG"}]
    line = {"lines/0/unitPrice": price, "lines/0/entryQuantities": quantities}
    invoice = sample(1, change={"invoice/currency": currency, **line})
    cells = read_first_line(invoice)
    assert (cells["unit_price"].value, cells["unit_price"].number_format) == (float(price), shown)
    assert (cells["qty2"].value, cells["qty2"].number_format) == (14.4, "#,##0.00")
    packages = load_workbook(BytesIO(invoice_xlsx(invoice)))["Packages"].iter_rows(min_row=2)
    weights = [(row[9].value, row[9].number_format) for row in packages]
    assert weights == [(210.5, "#,##0.000"), (12.4, "#,##0.000")]


def test_entry_quantities_have_their_columns() -> None:
    units = {"DOZ": "5", "KG": "14.40", "M2": "0.125"}
    stated = [{"quantity": quantity, "unit": unit} for unit, quantity in units.items()]
    first, second = csv_rows(sample(2, change={"lines/0/entryQuantities": stated}))
    names = ("entry_qty", "entry_uom", "qty2", "uom2", "qty3", "uom3")
    assert [first[name] for name in names] == ["5", "DOZ", "14.40", "KG", "0.125", "M2"]
    assert [second[name] for name in names] == [second["qty"], second["uom"], "", "", "", ""]


def test_claim_of_chapter_98_has_its_columns() -> None:
    values = {"provision": "9802.00.50", "exemptValue": "1.00", "dutiableValue": "299.00"}
    claim = values | {"exportedOn": "2026-05-04", "proof": "=a declaration"}
    invoice = sample(2, change={"lines/0/chapter98": claim})
    names = ("ch98", "ch98_exempt_value", "ch98_dutiable_value", "ch98_exported_on", "ch98_proof")
    assert [[row[name] for name in names] for row in csv_rows(invoice)] == [
        ["9802.00.50", "1.00", "299.00", "2026-05-04", "'=a declaration"],
        [""] * 5,
    ]
    (mark,) = [each for each in invoice.lines[0].marks if each.kind == "chapter98"]
    assert (mark.code, mark.text.split(" · ")[-1]) == ("9802.00.50", "=a declaration")


def test_number_longer_than_float_stays_text() -> None:
    for price, kind in (("1234567890.123456", "s"), ("123456789.123456", "n")):
        cell = read_first_line(sample(1, change={"lines/0/unitPrice": price}))["unit_price"]
        assert (cell.data_type, str(cell.value)) == (kind, price)


def test_text_too_long_for_cell_is_replaced() -> None:
    invoice = sample(1, change={"lines/0/treatment/pga/0/data": {f"f{place}": ["x" * 1000] for place in range(40)}})
    assert read_first_line(invoice)["pga_data"].value == "too long for a cell: see commercial_customs_invoice.csv"
    assert len(csv_rows(invoice)[0]["pga_data"]) > 40_000


@settings(max_examples=25, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=80)
)
@pytest.mark.system
def test_any_text_round_trips_in_both_tables(text: str) -> None:
    text = text.strip() or "x"

    invoice = sample(1, change={"lines/0/description": text})
    assert csv_rows(invoice)[0]["description"] == escape_formula(text)
    lines = load_workbook(BytesIO(invoice_xlsx(invoice)))["Lines"]
    cells = dict(zip((str(cell.value) for cell in lines[1]), lines[2], strict=True))
    assert str(cells["description"].value).replace("_x005F_", "_") == text


TEXTS = st.text(st.sampled_from("a|\\=,#[]. '=+é漢"), min_size=1, max_size=12).map(str.strip).filter(bool)
REFS = st.from_regex(re.compile(r"[A-Za-z][A-Za-z0-9._:/-]{0,6}", re.ASCII), fullmatch=True)
NUMBERS = st.decimals(0, 999, places=3).map(str)
COUNTRIES = st.none() | st.sampled_from(["CA", "US", "OTH"])

CHAPTER99 = st.fixed_dictionaries(
    {
        "heading": st.from_regex(r"99[0-9]{2}\.[0-9]{2}\.[0-9]{2}", fullmatch=True),
        "program": REFS,
        "ratePercent": st.none() | NUMBERS,
        "basis": REFS,
    }
)
METALS = st.fixed_dictionaries(
    {
        "metal": st.sampled_from(["steel", "aluminum", "copper"]),
        "metalWeightKg": NUMBERS,
        "countryOfMeltAndPour": COUNTRIES,
        "primaryCountryOfSmelt": COUNTRIES,
        "secondaryCountryOfSmelt": COUNTRIES,
        "countryOfCast": COUNTRIES,
        "usMetalPercent": st.none() | st.decimals(0, 100, places=2).map(str),
    }
)
AGENCIES = st.fixed_dictionaries(
    {
        "flag": st.sampled_from(["FD1", "FD2", "FS3"]),
        "agency": st.sampled_from(["FDA", "FSI"]),
        "program": st.none() | st.just("FOO"),
        "processing": st.none() | st.just("NSF"),
        "disclaimer": st.none() | st.sampled_from("ABCD"),
        "intendedUse": st.none() | st.just("081.001"),
        "data": st.dictionaries(REFS, TEXTS | st.lists(TEXTS, max_size=3), max_size=4),
    }
)
TREATMENTS = st.fixed_dictionaries(
    {
        "chapter99": st.lists(CHAPTER99, max_size=8),
        "section232": st.lists(METALS, max_size=3),
        "pga": st.lists(AGENCIES, max_size=4),
        "undetermined": st.none() | TEXTS,
    }
).map(Treatment.model_validate)


COLUMNS = {
    **written.FIRST_HEADINGS, **written.HEADINGS, **written.METALS, **written.AGENCIES, **written.AGENCY_DATA,
}  # fmt: skip


@given(TREATMENTS)
@pytest.mark.system
def test_columns_round_trip_treatment(treatment: Treatment) -> None:
    columns = read_columns(COLUMNS, treatment) | {"treatment_undetermined": treatment.undetermined}
    texts = {
        name: format_plain(cell) if isinstance(cell, Decimal) else str(cell or "") for name, cell in columns.items()
    }
    cells = {name: escape_formula(text) for name, text in texts.items()}
    read = read_treatment({name: unescape_formula(cell) for name, cell in cells.items()})
    assert as_json(read) == as_json(treatment)


@given(st.text(st.sampled_from("'=+-@a \t;,\""), max_size=8), st.sampled_from([";", ",", ";,"]))
def test_escaped_text_is_not_formula_and_round_trips(text: str, cell_signs: str) -> None:
    result = escape_formula(text, cell_signs)
    assert unescape_formula(result, cell_signs) == text
    first, *others = re.split(f"[{cell_signs}]", result)
    assert first[:1] not in {"=", "@", "\t"}
    assert not first.startswith(("+", "-")) or not set(result) & set("=@'\t,;\"")
    assert not {cell.strip(' "\t')[:1] for cell in others} & set("=+-@\t")
    marked = escape_formula(text, cell_signs, first=True)
    assert unescape_formula(marked, cell_signs, first=True) == text
    assert marked[:1] not in set("=+-@\t")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"metal_type": "steel|copper", "metal_kg": "1"}, "metal_kg must have 2 values; it has 1"),
        ({"ch99_1": "9903.82.09", "ch99_programs": "A|B"}, "ch99_programs must have 1 values; it has 2"),
        ({"ch99_1": "7323.93.00"}, "the columns have an invalid value for the treatment at chapter99/0/heading"),
        (
            {"pga_flags": "FD1", "pga_data": "FD2.a=b"},
            "pga_data has 'FD2.a=b', which must name a flag of pga_flags and a datum",
        ),
        ({"pga_flags": "FD1", "pga_data": "FD1.a=b\\"}, "pga_data ends in the middle of a value; it may be cut off"),
    ],
)
def test_invalid_columns_are_rejected(columns: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_treatment(columns)
