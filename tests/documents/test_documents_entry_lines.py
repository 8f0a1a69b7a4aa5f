"""One numbering of entry lines: each document that names them gives every invoice line the same entry line."""

import csv
import json
import re
from collections.abc import Callable, Mapping
from io import BytesIO, StringIO
from typing import Any, Final
from zipfile import ZipFile

import pytest
from lxml import etree
from lxml.html import fromstring
from openpyxl import load_workbook

from pipeline.documents.formats.ubl import NAMESPACE, read_treatment
from pipeline.documents.formats.xlsx import invoice_xlsx
from pipeline.documents.registry import Document, render_documents
from pipeline.documents.schemas.invoice import Invoice
from tests.documents.pdf_text import read_printed_document
from tests.documents.samples import build_full_invoice, sample

#: Invoice line -> entry line of the full sample: its second and its fifth line are one.
EXPECTED: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 2}
#: The lines of the sample with an agency flag and metals.
FLAGGED: Final = {number: EXPECTED[number] for number in (1, 2, 4, 5)}

Numbers = Mapping[int, int]


@pytest.fixture(scope="module")
def invoice() -> Invoice:
    return build_full_invoice()


@pytest.fixture(scope="module")
def documents(invoice: Invoice) -> dict[str, Document]:
    return {document.artifact_type: document for document in render_documents(invoice)}


def read_objects(body: bytes) -> Numbers:
    found = json.loads(body)
    rows = found.get("consolidation", found)["lines"]
    return {number: row["number"] for row in rows for number in row["lineNumbers"]}


def read_estimate(body: bytes) -> Numbers:
    return {number: row["number"] for row in json.loads(body)["estimate"]["lines"] for number in row["lineNumbers"]}


def read_flat_table(body: bytes) -> Numbers:
    table = csv.DictReader(StringIO(body.decode("utf-8-sig")))
    return {int(row["line_no"]): int(row["entry_line"]) for row in table}


def read_import(body: bytes) -> Numbers:
    with ZipFile(BytesIO(body)) as archive:
        table = csv.DictReader(StringIO(archive.read("lines.csv").decode("utf-8-sig")))
        return {int(number): int(row["entry_line"]) for row in table for number in row["invoice_lines"].split("|")}


def read_sheet(body: bytes, name: str) -> list[dict[str, Any]]:
    names, *rows = load_workbook(BytesIO(body))[name].iter_rows(values_only=True)
    return [dict(zip(map(str, names), row, strict=True)) for row in rows]


def read_sheet_of_lines(body: bytes) -> Numbers:
    return {row["line_no"]: row["entry_line"] for row in read_sheet(body, "Lines")}


def read_sheet_of_entry_lines(body: bytes) -> Numbers:
    rows = read_sheet(body, "Entry lines")
    return {int(number): row["entry_line"] for row in rows for number in str(row["invoice_lines"]).split("|")}


def read_extension_lines(body: bytes) -> Numbers:
    lines = etree.fromstring(body).iter(f"{{{NAMESPACE}}}Line")
    return {int(line.get("number")): int(line.get("entryLine")) for line in lines}


def read_extension_entry_lines(body: bytes) -> Numbers:
    rows = etree.fromstring(body).iter(f"{{{NAMESPACE}}}EntryLine")
    return {int(number): int(row.get("number")) for row in rows for number in row.get("lines").split()}


def read_records(body: bytes) -> Numbers:
    entry_line, found = 0, {}
    for line in body.decode().splitlines():
        if named := re.match(r"\* Entry line (\d+)", line):
            entry_line = int(named[1])
        elif named := re.match(r"\* Invoice line (\d+),", line):
            found[int(named[1])] = entry_line
    return found


def read_page(body: bytes) -> Numbers:
    (table,) = fromstring(body).xpath('//table[.//tr[th[1] = "Entry line"]]')
    rows = [[cell.text_content() for cell in row.iter("td")] for row in table.iter("tr")]
    return {int(number): int(row[0]) for row in rows if row for number in row[1].split(", ")}


READERS: Final[dict[str, tuple[str, Callable[[bytes], Numbers]]]] = {
    "consolidated invoice": ("cci_consolidated", read_objects),
    "estimate, its merged lines": ("entry_estimate", read_objects),
    "estimate, its values": ("entry_estimate", read_estimate),
    "flat table": ("cci_csv", read_flat_table),
    "import": ("entry_import", read_import),
    "workbook, invoice lines": ("cci_xlsx", read_sheet_of_lines),
    "workbook, entry lines": ("cci_xlsx", read_sheet_of_entry_lines),
    "UBL, invoice lines": ("cci_ubl", read_extension_lines),
    "UBL, entry lines": ("cci_ubl", read_extension_entry_lines),
    "agency records": ("pga_records", read_records),
    "web page": ("cci_human_readable", read_page),
}


@pytest.mark.parametrize("name", READERS)
def test_document_gives_each_line_its_entry_line(documents: dict[str, Document], name: str) -> None:
    kind, read = READERS[name]
    assert read(documents[kind].body) == (FLAGGED if name == "agency records" else EXPECTED)


@pytest.mark.pdf_engine
@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("cci_pdf", ["ENTRYLINELINESHTS", "22,57323.93.0060"]),
        ("entry_worksheet", ["Invoice2,5"]),
        ("pga_worksheet", ["lines2,5entryline2"]),
        ("section_232_statement", ["5litres,forhouseholdcooking·entryline2", "cooking·entryline1"]),
    ],
)
def test_printed_page_names_the_entry_line(documents: dict[str, Document], kind: str, facts: list[str]) -> None:
    text = read_printed_document(documents[kind].body).text()
    for fact in facts:
        assert fact in text, text


@pytest.mark.pdf_engine
def test_pages_without_merged_lines_do_not_repeat_the_numbers() -> None:
    pages = {document.artifact_type: document.body for document in render_documents(sample(3))}
    for kind in ("cci_pdf", "pga_worksheet", "section_232_statement"):
        assert "ntryline" not in read_printed_document(pages[kind]).text(), kind


def test_sheet_of_entry_lines_runs_no_text_as_a_formula() -> None:
    text = '=HYPERLINK("http://x.example")'
    book = load_workbook(BytesIO(invoice_xlsx(sample(1, change={"lines/0/description": text}))))
    assert (book["Entry lines"]["C2"].value, book["Entry lines"]["C2"].data_type) == (text, "s")


def test_ubl_keeps_the_invoice_and_adds_up_the_entry_lines(invoice: Invoice, documents: dict[str, Document]) -> None:
    root = etree.fromstring(documents["cci_ubl"].body)
    assert len(root.findall("{*}InvoiceLine")) == len(invoice.lines)
    merged = next(row for row in root.iter(f"{{{NAMESPACE}}}EntryLine") if row.get("number") == "2")
    facts = {name: merged.get(name) for name in ("quantity", "value", "dutiableValue", "enteredValueUsd", "currency")}
    assert facts == {
        "quantity": "24", "value": "996.00", "dutiableValue": "988.44", "enteredValueUsd": "988", "currency": "USD",
    }  # fmt: skip
    assert read_treatment(merged) == invoice.entry_lines[1].treatment


def test_records_of_an_entry_line_are_numbered_on(documents: dict[str, Document]) -> None:
    heads = [line[:10] for line in documents["pga_records"].body.decode().splitlines() if line.startswith("PG01")]
    assert heads == ["PG01001FDA", "PG01001FDA", "PG01002FDA", "PG01001FDA"], "entry line 2 has two products"
