"""How the entry is filed: in the import files, in JSON, on the worksheet and in the broker's file, as far as the plan says."""

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import pytest
from openpyxl import load_workbook

from pipeline.documents import broker_profile
from pipeline.documents.formats.cells import read_columns
from pipeline.documents.formats.entry_blocks import list_blocks
from pipeline.documents.formats.entry_filing import FILING_COLUMNS, has_filing, list_consignee_rows
from pipeline.documents.formats.entry_import import entry_estimate, entry_import
from pipeline.documents.formats.facts import find_estimate
from pipeline.documents.formats.invoice import invoice_json
from pipeline.documents.formats.xlsx import invoice_xlsx
from pipeline.documents.registry import render_documents
from pipeline.documents.schemas.invoice import Invoice
from pipeline.documents.schemas.profile import BrokerProfile
from tests.documents.formats.test_entry_import import read_page, read_tables
from tests.documents.samples import file_entry, sample
from tests.support.tables import table

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
    statement = "8 periodic monthly statement of the importer, all suffixes of its number"
    expected = {
        "Filer code and entry number": "ABC-1234567-6",
        "Surety number": "036",
        "Bond type": "9 single transaction",
        "Location of goods or G.O. number": "H123, Example Terminal",
        "Consignee number": "MULTI, see consignees",
        "Ultimate consignee name and address": "MULTI, see consignees",
        "CBP team": "004",
        "Bond number and amount": "26A004711, USD 9,000.00",
        "Power of attorney": "Maple Goods Ltd, to br_sandbox, from 2026-01-05 to 2027-01-04",
        "Payment type and statement": f"{statement}, print date 2026-12-04, month 12, branch 01",
        "Resident agent": "Demo Agents LLC, 12-345678901, 55 Lake Avenue, Rochester NY 14608, US",
        "Prior notice numbers": "123456789012",
    }
    assert expected.items() <= blocks_of(build_filed()).items()


@table(
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
    blocks = blocks_of(invoice)
    assert blocks["Consignee number"] == number
    address = "Demo Stores Inc, 55 Lake Avenue, Rochester NY 14608, US"
    assert blocks["Ultimate consignee name and address"] == address
    assert [row["invoice_lines"] for row in list_consignee_rows(invoice)] == ["1|2|3"]


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
    names = ("header", "lines", "charges", "estimate", "blocks", "filing", "consignees")
    assert [*tables] == [f"{name}.csv" for name in names]
    (filing,) = tables["filing.csv"]
    expected = {
        "entry_number": "ABC-1234567-6", "bond_type": "9", "bond_amount_usd": "9000.00", "poa_from": "2026-01-05",
        "payment_type": "8", "prior_notices": "123456789012", "agent_name": "Demo Agents LLC", "agent_zip": "14608",
        "consignee_numbers": f"12-3456789XX|{NUMBER}",
    }  # fmt: skip
    assert expected.items() <= filing.items()
    columns = ("consignee_number", "same_as_importer", "invoice_lines", "entry_lines", "order_ids")
    assert [tuple(row[name] for name in columns) for row in tables["consignees.csv"]] == [
        ("12-3456789XX", "Y", "1", "1", "ord_1000"),
        (NUMBER, "N", "2|3", "2|3", "ord_1001|ord_1002"),
    ]


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
    printed = read_page(build_filed())
    for fact in ("ABC-1234567-6", "9singletransaction", "DemoStoresInc,55LakeAvenue", SHOWN, "SAME", "DemoAgentsLLC"):
        assert fact in printed, fact
    assert NUMBER not in printed
    unknown = build_filed(change=lambda data: data["parties"]["ultimateConsignees"][1].update(number=None))
    assert "fromtheimporter" in read_page(unknown)


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
    assert [(each["number"], each["sameAsImporter"], each["lineNumbers"], each["orderIds"]) for each in consignees] == [
        ("12-3456789XX", True, [1], ["ord_1000"]),
        (NUMBER, False, [2, 3], ["ord_1001", "ord_1002"]),
    ]
    assert consignees[1]["address"]["postalCode"] == "14608"
    assert "ultimateConsignees" not in json.loads(invoice_json(sample(3)))["parties"]


def test_only_entry_data_has_consignees_social_security_number() -> None:
    documents = {each.artifact_type: each.body for each in render_documents(build_filed())}
    with ZipFile(BytesIO(documents.pop("entry_import"))) as archive:
        tables = {name for name in archive.namelist() if NUMBER.encode() in archive.read(name)}
    assert tables == {"filing.csv", "consignees.csv"}
    texts = {kind: body for kind, body in documents.items() if not body.startswith((b"%PDF", b"PK"))}
    named = {kind for kind, body in texts.items() if NUMBER.encode() in body}
    assert named == {"cci_json", "cci_ubl", "entry_estimate"}


def test_profile_has_columns_of_filing() -> None:
    columns = [
        {"header": "Entry", "field": "entry_number"},
        {"header": "Bond", "field": "bond_type", "values": {"9": "STB"}},
        {"header": "PSD", "field": "statement_date", "dateFormat": "MM/DD/YYYY"},
        {"header": "Agent", "field": "agent_city"},
    ]
    profile = {
        "name": "Entry import",
        "filename": "entry.csv",
        "format": "csv",
        "rows": "entry_lines",
        "columns": columns,
    }
    rows = list(broker_profile.list_rows(BrokerProfile.model_validate(profile), build_filed()))
    assert rows[1] == ["ABC-1234567-6", "STB", "12/04/2026", "Rochester"]


def test_many_consignees_render() -> None:
    def change(data: dict[str, Any]) -> None:
        _, second = data["parties"]["ultimateConsignees"]
        data["parties"]["ultimateConsignees"] = [
            second | {"name": f"Demo Store {place}", "orderIds": [f"ord_{1000 + place}"]} for place in range(300)
        ]

    invoice = build_filed(300, change=change)
    assert len(invoice.entry_lines) == 300
    assert [row["invoice_lines"] for row in list_consignee_rows(invoice)][299] == "300"
