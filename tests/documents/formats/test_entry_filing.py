"""How the entry is filed: in the import files, in JSON, on the worksheet and in the broker's file, as far as the plan says."""

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import pytest
from openpyxl import load_workbook
from pypdf import PdfReader

from pipeline.documents import broker_profile
from pipeline.documents.formats.cells import read_columns
from pipeline.documents.formats.entry_blocks import list_blocks
from pipeline.documents.formats.entry_filing import FILING_COLUMNS, has_filing, list_consignee_rows
from pipeline.documents.formats.entry_import import entry_estimate, entry_import
from pipeline.documents.formats.entry_worksheet import entry_worksheet
from pipeline.documents.formats.facts import find_estimate
from pipeline.documents.formats.invoice import invoice_json
from pipeline.documents.formats.xlsx import invoice_xlsx
from pipeline.documents.registry import render_documents
from pipeline.documents.schemas.invoice import Invoice
from pipeline.documents.schemas.profile import BrokerProfile
from tests.documents.formats.test_entry_import import read_tables
from tests.documents.samples import file_entry, sample

NUMBER, SHOWN = "987-65-4321", "XXX-XX-4321"


def build_filed(lines: int = 3, change: Callable[[dict[str, Any]], None] | None = None) -> Invoice:
    def change_all(data: dict[str, Any]) -> None:
        file_entry(data)
        if change:
            change(data)

    return sample(lines, change=change_all)


def blocks_of(invoice: Invoice) -> dict[str, str | None]:
    return {each.name: each.value for each in list_blocks(invoice, find_estimate(invoice))}


def test_blocks_have_what_plan_says() -> None:
    blocks = blocks_of(build_filed())
    assert blocks["Filer code and entry number"] == "ABC-1234567-6"
    assert (blocks["Surety number"], blocks["Bond type"]) == ("036", "9 single transaction")
    assert blocks["Location of goods or G.O. number"] == "H123, Example Terminal"
    assert blocks["Consignee number"] == blocks["Ultimate consignee name and address"] == "MULTI, see consignees"
    assert blocks["CBP team"] == "004"
    assert blocks["Bond number and amount"] == "26A004711, USD 9,000.00"
    assert blocks["Power of attorney"] == "Maple Goods Ltd, to br_sandbox, from 2026-01-05 to 2027-01-04"
    assert blocks["Payment type and statement"] == (
        "8 periodic monthly statement of the importer, all suffixes of its number, print date 2026-12-04, month 12, branch 01"
    )
    assert blocks["Resident agent"] == "Demo Agents LLC, 12-345678901, 55 Lake Avenue, Rochester NY 14608, US"
    assert blocks["Prior notice numbers"] == "123456789012"


@pytest.mark.parametrize(
    ("consignee", "number"),
    [
        ({"sameAsImporter": True}, "SAME"),
        ({"number": NUMBER}, SHOWN),
        ({"number": "12-345678902"}, "12-345678902"),
        ({}, None),
    ],
)
def test_single_consignee_is_in_its_block(consignee: dict[str, Any], number: str | None) -> None:
    def change(data: dict[str, Any]) -> None:
        first = data["parties"]["ultimateConsignees"][0]
        data["parties"]["ultimateConsignees"] = [{"name": "Demo Stores Inc", "address": first["address"]} | consignee]

    invoice = build_filed(change=change)
    assert blocks_of(invoice)["Consignee number"] == number
    assert (
        blocks_of(invoice)["Ultimate consignee name and address"]
        == "Demo Stores Inc, 55 Lake Avenue, Rochester NY 14608, US"
    )
    (row,) = list_consignee_rows(invoice)
    assert row["invoice_lines"] == "1|2|3"


def test_filer_code_alone_is_in_block_1_and_the_filer_gives_the_number() -> None:
    def change(data: dict[str, Any]) -> None:
        data["entry"]["filing"] = {"filerCode": "ABC"}

    invoice = build_filed(change=change)
    blocks = blocks_of(invoice)
    assert blocks["Filer code"] == "ABC"
    (number,) = [each for each in list_blocks(invoice, find_estimate(invoice)) if each.name == "Entry number"]
    assert (number.number, number.value, number.supplier) == ("1", None, "the filer")
    assert (blocks["Surety number"], blocks["Bond type"]) == (None, None)
    assert "Power of attorney" not in blocks


def test_tables_have_filing_and_consignees() -> None:
    tables = read_tables(build_filed())
    assert [*tables] == [
        "header.csv",
        "lines.csv",
        "charges.csv",
        "estimate.csv",
        "blocks.csv",
        "filing.csv",
        "consignees.csv",
    ]
    (filing,) = tables["filing.csv"]
    assert (filing["entry_number"], filing["bond_type"], filing["bond_amount_usd"]) == ("ABC-1234567-6", "9", "9000.00")
    assert (filing["poa_from"], filing["payment_type"], filing["prior_notices"]) == ("2026-01-05", "8", "123456789012")
    assert (filing["agent_name"], filing["agent_zip"]) == ("Demo Agents LLC", "14608")
    assert filing["consignee_numbers"] == f"12-3456789XX|{NUMBER}"
    first, second = tables["consignees.csv"]
    assert (first["consignee_number"], first["same_as_importer"], first["invoice_lines"]) == ("12-3456789XX", "Y", "1")
    assert (second["consignee_number"], second["invoice_lines"], second["entry_lines"]) == (NUMBER, "2|3", "2|3")
    assert second["order_ids"] == "ord_1001|ord_1002"


def test_lines_for_different_consignees_are_not_merged() -> None:
    def repeat(data: dict[str, Any]) -> None:
        data["lines"].append({**data["lines"][1], "lineRef": "L4", "orderId": "ord_9"})

    def give_to_first(data: dict[str, Any]) -> None:
        repeat(data)
        data["parties"]["ultimateConsignees"][0]["orderIds"].append("ord_9")

    assert [line.line_numbers for line in sample(3, change=repeat).entry_lines] == [(1,), (2, 4), (3,)]
    assert [line.line_numbers for line in build_filed(change=give_to_first).entry_lines] == [(1,), (2,), (3,), (4,)]


def test_json_has_filing() -> None:
    filing = json.loads(entry_estimate(build_filed()))["filing"]
    assert (filing["bondType"], filing["authorityUntil"]) == ("9", "2027-01-04")
    assert [each["lineNumbers"] for each in filing["consignees"]] == [[1], [2, 3]]


def test_invoice_without_filing_has_neither_tables_nor_blocks() -> None:
    invoice = sample(3)
    assert not has_filing(invoice)
    assert "filing" not in json.loads(entry_estimate(invoice))
    with ZipFile(BytesIO(entry_import(invoice))) as archive:
        assert "filing.csv" not in archive.namelist()
    beyond = [each.name for each in list_blocks(invoice, find_estimate(invoice)) if each.place == "beyond"]
    assert beyond == ["Summary due, computed", "Carrier (SCAC)"]
    assert set(read_columns(FILING_COLUMNS, invoice).values()) == {None}


@pytest.mark.pdf_engine
def test_worksheet_prints_filing_and_consignees() -> None:
    text = "".join(page.extract_text() for page in PdfReader(BytesIO(entry_worksheet(build_filed()))).pages)
    printed = "".join(text.replace("\u200b", "").split())
    for fact in ("ABC-1234567-6", "9singletransaction", "DemoStoresInc,55LakeAvenue", SHOWN, "SAME", "DemoAgentsLLC"):
        assert fact in printed, fact
    assert NUMBER not in text


@pytest.mark.pdf_engine
def test_consignee_without_number_comes_from_importer() -> None:
    def change(data: dict[str, Any]) -> None:
        data["parties"]["ultimateConsignees"][1]["number"] = None

    text = "".join(
        page.extract_text() for page in PdfReader(BytesIO(entry_worksheet(build_filed(change=change)))).pages
    )
    assert "from the importer" in text


def test_workbook_has_sheet_of_consignees() -> None:
    book = load_workbook(BytesIO(invoice_xlsx(build_filed())))
    assert book.sheetnames == [
        "Lines", "Entry lines", "Parties", "Consignees", "Packages", "Totals", "Findings", "Invoice",
    ]  # fmt: skip
    head, *rows = book["Consignees"].iter_rows(values_only=True)
    assert [dict(zip(head, row, strict=True)) for row in rows] == [*list_consignee_rows(build_filed())]
    assert "Consignees" not in load_workbook(BytesIO(invoice_xlsx(sample(3)))).sheetnames


def test_invoice_data_have_consignees() -> None:
    consignees = json.loads(invoice_json(build_filed()))["parties"]["ultimateConsignees"]
    assert [(each["number"], each["sameAsImporter"], each["lineNumbers"]) for each in consignees] == [
        ("12-3456789XX", True, [1]),
        (NUMBER, False, [2, 3]),
    ]
    assert consignees[1]["address"]["postalCode"] == "14608"
    assert consignees[1]["orderIds"] == ["ord_1001", "ord_1002"]
    assert "ultimateConsignees" not in json.loads(invoice_json(sample(3)))["parties"]


def test_only_entry_data_has_consignees_social_security_number() -> None:
    documents = {each.artifact_type: each.body for each in render_documents(build_filed())}
    with ZipFile(BytesIO(documents.pop("entry_import"))) as archive:
        tables = {name for name in archive.namelist() if NUMBER.encode() in archive.read(name)}
    assert tables == {"filing.csv", "consignees.csv"}
    texts = {kind: body for kind, body in documents.items() if not body.startswith((b"%PDF", b"PK"))}
    assert {kind for kind, body in texts.items() if NUMBER.encode() in body} == {
        "cci_json",
        "cci_ubl",
        "entry_estimate",
    }


def test_profile_has_columns_of_filing() -> None:
    profile = {
        "name": "Entry import",
        "filename": "entry.csv",
        "format": "csv",
        "rows": "entry_lines",
        "columns": [
            {"header": "Entry", "field": "entry_number"},
            {"header": "Bond", "field": "bond_type", "values": {"9": "STB"}},
            {"header": "PSD", "field": "statement_date", "dateFormat": "MM/DD/YYYY"},
            {"header": "Agent", "field": "agent_city"},
        ],
    }
    rows = list(broker_profile.list_rows(BrokerProfile.model_validate(profile), build_filed()))
    assert rows[1] == ["ABC-1234567-6", "STB", "12/04/2026", "Rochester"]


def test_many_consignees_render() -> None:
    def change(data: dict[str, Any]) -> None:
        data["parties"]["ultimateConsignees"] = [
            {
                **data["parties"]["ultimateConsignees"][1],
                "name": f"Demo Store {place}",
                "orderIds": [f"ord_{1000 + place}"],
            }
            for place in range(300)
        ]

    invoice = build_filed(300, change=change)
    assert len(invoice.entry_lines) == 300
    assert [row["invoice_lines"] for row in list_consignee_rows(invoice)][299] == "300"
