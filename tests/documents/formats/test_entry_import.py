"""The entry's documents: every entry line with its values in JSON, CSV and on paper."""

import csv
import json
from io import BytesIO, StringIO
from zipfile import ZipFile

import pytest
from pypdf import PdfReader

from pipeline.documents.formats.entry_import import entry_estimate, entry_import
from pipeline.documents.formats.entry_worksheet import entry_worksheet
from pipeline.documents.formats.facts import has_estimate
from pipeline.documents.formats.paps_cover_sheet import paps_cover_sheet
from pipeline.documents.formats.truck_manifest import truck_manifest
from pipeline.documents.schemas.invoice import Invoice
from tests.documents.samples import build_full_invoice, build_truck_invoice, sample

CERS = "DEMO1234567820001202611240001"
CARGO = "1234DEMO20112"


def read_tables(invoice: Invoice) -> dict[str, list[dict[str, str]]]:
    with ZipFile(BytesIO(entry_import(invoice))) as archive:
        return {
            name: list(csv.DictReader(StringIO(archive.read(name).decode("utf-8-sig")))) for name in archive.namelist()
        }


def read_page(invoice: Invoice) -> str:
    text = "".join(page.extract_text() for page in PdfReader(BytesIO(entry_worksheet(invoice))).pages)
    return "".join(text.replace("\u200b", "").split())


def test_merged_lines_are_one_row_with_their_sums() -> None:
    tables = read_tables(build_full_invoice())
    assert [*tables] == ["header.csv", "lines.csv", "charges.csv", "estimate.csv", "blocks.csv"]
    assert [row["invoice_lines"] for row in tables["lines.csv"]] == ["1", "2|5", "3", "4"]
    merged = tables["lines.csv"][1]
    assert (merged["qty"], merged["line_value"], merged["metal_kg"]) == ("24", "996.00", "140.000")
    assert (merged["adjustment"], merged["dutiable_value"], merged["entered_value_usd"]) == ("-7.56", "988.44", "988")
    (header,) = tables["header.csv"]
    assert header["entered_value_usd"] == str(sum(int(row["entered_value_usd"]) for row in tables["lines.csv"]))
    assert (header["port_of_entry"], header["importer_number"], header["test"]) == ("0901", "12-3456789XX", "Y")
    assert (header["entry_date"], header["summary_due"]) == ("2026-11-27", "2026-12-11")
    assert (header["mode_of_transport"], header["mode_code"]) == ("truck", "30")


def test_json_and_tables_have_the_same_values() -> None:
    invoice = build_full_invoice()
    body = json.loads(entry_estimate(invoice))
    assert body["provenance"]["planHash"] == invoice.provenance.plan_hash
    tables = read_tables(invoice)
    columns = {"entry_line": "number", "entered_value_usd": "enteredValueUsd", "charges_usd": "chargesUsd"}
    for row, line in zip(tables["lines.csv"], body["estimate"]["lines"], strict=True):
        assert {name: row[name] for name in columns} == {name: str(line[key]) for name, key in columns.items()}
    duties = sum(len(line["duties"]) for line in body["estimate"]["lines"])
    assert len(tables["estimate.csv"]) == duties + len(body["estimate"]["fees"])
    sources = {row["heading"]: f"{row['source']} ({row['status']})" for row in body["estimate"]["headingSources"]}
    assert {"9903.82.09", "9903.05.29"} <= sources.keys()
    for row in tables["estimate.csv"]:
        assert row["source"] == sources.get(row["code"], row["source"])
        assert bool(row["source"]) == bool(row["rate"] and row["code"] != "column 1"), row
    assert "estimate" in body["estimate"]["disclaimer"].lower()


@pytest.mark.pdf_engine
def test_fee_on_goods_has_a_row_without_an_amount() -> None:
    invoice = sample(2, change={"lines/0/htsCode": "6109100012"})
    tables = read_tables(invoice)
    row = tables["estimate.csv"][-1]
    assert (row["of"], row["code"], row["rate"], row["estimated_usd"]) == ("entry", "056", "", "")
    note = "the cotton fee (056), which 1 line may have: look it up in 7 CFR 1205.510(b)"
    assert row["note"] == note
    assert row["source"].startswith("7 CFR 1205.510(b)")
    assert row["source"].endswith("(probable)")
    totals = {each["block"]: (each["value"], each["supplier"]) for each in tables["blocks.csv"]}
    # The processing fee is known, but it is not all of block 43.
    assert [totals[number] for number in ("43", "44")] == [("", "the filer")] * 2
    page = read_page(invoice)
    assert note.replace(" ", "") in page
    assert "056:7CFR1205.510(b)(3)" in page


def test_formulas_in_texts_are_escaped() -> None:
    tables = read_tables(
        sample(1, change={"lines/0/description": '=HYPERLINK("http://x.example")', "parties/seller/name": "@SUM(A1)"})
    )
    assert tables["lines.csv"][0]["description"].startswith("'=")
    assert tables["header.csv"][0]["seller_name"].startswith("'@")


@pytest.mark.pdf_engine
def test_page_has_every_value() -> None:
    text = read_page(build_full_invoice())
    facts = "9903.82.0925%=247.00 988.44 1,635 34.58 19USC1401a(b)(4)(B) Sourcesoftherates9903.05.29: Anestimatefrom"
    assert [fact for fact in facts.split() if fact not in text] == []


def test_invoice_without_estimate_has_no_entry_documents() -> None:
    invoice = sample(1).model_copy(update={"estimate": None})
    assert not has_estimate(invoice)
    with pytest.raises(ValueError, match="an invoice with an estimate"):
        entry_estimate(invoice)


@pytest.mark.pdf_engine
def test_unknown_rate_is_shown_as_unknown() -> None:
    assert "theexchangerateofCAD" in read_page(
        sample(2, change={"invoice/currency": "CAD", "invoice/exchangeRate": None})
    )


def build_repaired() -> Invoice:
    return sample(
        2, change={"lines/0/chapter98": {"provision": "9802.00.50", "exemptValue": "280.00", "dutiableValue": "20.00"}}
    )


@pytest.mark.pdf_engine
def test_divided_value_is_the_base_of_its_duties() -> None:
    invoice = build_repaired()
    rows = [row for row in read_tables(invoice)["estimate.csv"] if row["of"] == "line 1"]
    assert {row["code"]: (row["base_usd"], row["estimated_usd"]) for row in rows} == {
        "9903.82.09": ("20", "5.00"), "9903.05.29": ("295", ""), "column 1": ("295", ""),
    }  # fmt: skip
    first, second = json.loads(entry_estimate(invoice))["estimate"]["lines"]
    assert (first["division"]["exemptValueUsd"], first["division"]["dutiableValueUsd"]) == ("275", "20")
    assert "division" not in second
    text = read_page(invoice)
    for fact in ("295x280.00/300.00=275withoutduty,295-275=20withduty", "20x25%=5.00", "9903.82.0925%=5.00"):
        assert fact in text, fact


def test_trip_and_export_side_are_a_table_of_their_own() -> None:
    tables = read_tables(build_truck_invoice())
    names = ("header", "lines", "charges", "estimate", "blocks", "transport")
    assert [*tables] == [f"{name}.csv" for name in names]
    (row,) = tables["transport.csv"]
    expected = {
        "trip_number": "ABCD261126A", "truck_plate": "DEMO 100", "seals": "SEAL-1|SEAL-2", "driver_name": "Example Driver",
        "no_declaration_code": "NDR1", "export_declaration": "not_required", "exporter_bn": "123456782RM0001",
    }  # fmt: skip
    assert expected.items() <= row.items()
    page = read_page(build_truck_invoice())
    assert "Nodeclarationrequired,NDR1" in page
    assert "DEMO100ON" in page
    (row,) = read_tables(build_truck_invoice(lambda data: data["entry"].pop("trip")))["transport.csv"]
    assert (row["trip_number"], row["trailers"], row["no_declaration_code"]) == ("", "", "NDR1")


def test_declaration_in_cers_is_on_every_document_of_the_export_side() -> None:
    declared = {"declaration": "cers", "proofOfReport": CERS, "noDeclarationCode": None, "cargoControlNumber": CARGO}
    invoice = build_truck_invoice(lambda data: data["canadianExport"].update(declared))
    names = ("proof_of_report", "no_declaration_code", "cargo_control_number")
    (row,) = read_tables(invoice)["transport.csv"]
    assert row["export_declaration"] == "cers"
    with ZipFile(BytesIO(truck_manifest(invoice))) as archive:
        (shipment,) = csv.DictReader(archive.read("shipments.csv").decode("utf-8-sig").splitlines())
    assert [[each[name] for name in names] for each in (row, shipment)] == [[CERS, "", CARGO]] * 2
    sheet = PdfReader(BytesIO(paps_cover_sheet(invoice))).pages[0].extract_text()
    for page in (read_page(invoice), "".join(sheet.replace("\u200b", "").split())):
        assert f"DeclaredinCERS,{CERS},cargocontrolnumber{CARGO}" in page
    side = json.loads(invoice.model_dump_json(by_alias=True))["canadianExport"]
    assert (side["proofOfReport"], side["cargoControlNumber"]) == (CERS, CARGO)
