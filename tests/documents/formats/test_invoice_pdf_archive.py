"""The printed documents are PDF/A-3b: everything to show them is embedded, and the invoice's data is attached.

Short ones are also PDF/UA-1, for screen readers.
"""

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pdfua import validate
from pypdf import PdfReader

from pipeline.documents.formats import invoice_pdf as invoice_kind
from pipeline.documents.formats.invoice import invoice_json
from pipeline.documents.formats.invoice_pdf import invoice_pdf
from pipeline.documents.formats.packing_list import packing_list_pdf
from pipeline.documents.formats.pga_worksheet import pga_worksheet
from pipeline.documents.formats.section_232_statement import section_232_statement
from pipeline.documents.pdf.typesetter import TAGGED_ROWS, split_rows, typeset
from pipeline.documents.schemas.invoice import Invoice
from tests.documents.samples import build_full_invoice, sample

NAME = "commercial_customs_invoice.json"


def read_parts(invoice: Invoice) -> bytes:
    return typeset(invoice, invoice_kind.TEMPLATE, split_rows([1] * len(invoice.lines), limit=10))


def assert_archivable(body: bytes) -> None:
    """Assert what ISO 19005-3 level b requires of the file's structure."""
    reader = PdfReader(BytesIO(body))
    root: Any = reader.trailer["/Root"].get_object()
    described = root["/Metadata"].get_object().get_data().decode()
    assert "<pdfaid:part>3</pdfaid:part><pdfaid:conformance>B</pdfaid:conformance>" in described
    assert f"<xmpTPg:NPages>{len(reader.pages)}</xmpTPg:NPages>" in described
    assert reader.metadata is not None
    title = re.search(r'<dc:title>.*?x-default">([^<]*)<', described)
    assert title is not None
    assert title[1] == reader.metadata.title
    intents = root["/OutputIntents"]
    assert [intent.get_object()["/S"] for intent in intents] == ["/GTS_PDFA1"]
    profile = intents[0].get_object()["/DestOutputProfile"].get_object()
    assert profile["/N"] == 3
    assert profile.get_data()[36:40] == b"acsp"
    assert "/Encrypt" not in reader.trailer
    assert len(reader.trailer["/ID"]) == 2  # type: ignore[arg-type]
    # A comment with bytes above 127 on the second line marks the file as binary.
    assert all(byte > 127 for byte in body.split(b"\n")[1][1:5])
    for name in ("/JavaScript", "/OpenAction", "/AA", "/AcroForm"):
        assert name not in root
    for page in reader.pages:
        resources: Any = page["/Resources"]
        for font in resources["/Font"].values():
            descriptor = font.get_object()["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object()
            assert {"/FontFile2", "/FontFile3"} & descriptor.keys()


@pytest.mark.parametrize("print_it", [invoice_pdf, packing_list_pdf, read_parts])
def test_printed_documents_are_pdf_a(print_it: Any) -> None:
    assert_archivable(print_it(sample(30)))


def is_tagged(body: bytes) -> bool:
    """Return whether the PDF is tagged: all content on its pages is marked as a heading, a table, a cell and so on."""
    root: Any = PdfReader(BytesIO(body)).trailer["/Root"].get_object()
    marked = root.get("/MarkInfo", {}).get("/Marked", False)
    assert bool(marked) == ("/StructTreeRoot" in root)
    return bool(marked)


def list_kinds(body: bytes) -> set[str]:
    """Return the types of all tags in the file."""
    kinds: set[str] = set()
    catalogue: Any = PdfReader(BytesIO(body)).trailer["/Root"].get_object()
    waiting = [catalogue["/StructTreeRoot"].get_object()]
    while waiting:
        node = waiting.pop()
        kinds.add(str(node.get("/S", "")))
        children = node.get("/K", [])
        for child in children if isinstance(children, list) else [children]:
            found = child.get_object()
            if isinstance(found, dict) and "/K" in found:
                waiting.append(found)
    return kinds


PRINTED = (invoice_pdf, packing_list_pdf, pga_worksheet, section_232_statement)


@pytest.mark.parametrize("print_it", PRINTED)
def test_short_documents_are_tagged_and_reproducible(print_it: Any) -> None:
    body = print_it(sample(3))
    assert is_tagged(body)
    assert {"/Document", "/H1", "/Table", "/TR", "/TH", "/TD"} <= list_kinds(body)
    assert_archivable(body)
    assert print_it(sample(3)) == body


def list_problems(body: bytes, folder: Path) -> list[str]:
    """Return what a checker of PDF/UA-1 finds, each with the id of its rule."""
    path = folder / "document.pdf"
    path.write_bytes(body)
    return [f"{finding.rule_id} {finding.message}" for finding in validate(str(path)).findings]


@pytest.mark.parametrize("print_it", PRINTED)
@pytest.mark.parametrize("invoice", [sample(1), build_full_invoice(), sample(60)], ids=["1", "full", "60"])
def test_short_documents_are_accessible(print_it: Any, invoice: Invoice, tmp_path: Path) -> None:
    body = print_it(invoice)
    assert list_problems(body, tmp_path) == []
    root: Any = PdfReader(BytesIO(body)).trailer["/Root"].get_object()
    assert (root["/Lang"], root["/ViewerPreferences"]["/DisplayDocTitle"]) == ("en", True)
    assert b"<pdfuaid:part>1</pdfuaid:part>" in root["/Metadata"].get_object().get_data()


def test_checker_finds_missing_header_cells(tmp_path: Path) -> None:
    problems = list_problems(invoice_pdf(sample(1)).replace(b"/S/TH", b"/S/TD"), tmp_path)
    assert problems
    assert all(problem.startswith("UA-15-003") for problem in problems)


@pytest.mark.system
def test_long_documents_are_not_tagged() -> None:
    assert is_tagged(invoice_pdf(sample(TAGGED_ROWS)))
    assert not is_tagged(invoice_pdf(sample(TAGGED_ROWS + 1)))
    assert not is_tagged(read_parts(sample(30))), "the tags of parts cannot be joined"
    root: Any = PdfReader(BytesIO(invoice_pdf(sample(TAGGED_ROWS + 1)))).trailer["/Root"].get_object()
    assert b"pdfuaid" not in root["/Metadata"].get_object().get_data()


def test_tagged_invoice_is_below_half_a_megabyte() -> None:
    assert len(invoice_pdf(sample(TAGGED_ROWS))) < 500_000


@pytest.mark.parametrize("print_it", [invoice_pdf, read_parts])
def test_invoice_has_json_attached_byte_for_byte(print_it: Any) -> None:
    invoice = sample(30)
    reader = PdfReader(BytesIO(print_it(invoice)))
    assert {name: list(bodies) for name, bodies in reader.attachments.items()} == {NAME: [invoice_json(invoice)]}
    root: Any = reader.trailer["/Root"].get_object()
    (associated,) = (each.get_object() for each in root["/AF"])
    assert (associated["/F"], associated["/UF"], associated["/AFRelationship"]) == (NAME, NAME, "/Data")
    embedded = associated["/EF"]["/F"].get_object()
    assert (embedded["/Subtype"], embedded["/Filter"]) == ("/application/json", "/FlateDecode")
    assert embedded["/Params"]["/Size"] == len(invoice_json(invoice))


def test_missing_character_is_box_and_page_is_pdf_a() -> None:
    body = invoice_pdf(sample(1, change={"lines/0/description": "pan \U0001f600 \U000f0000 cafe\u0301"}))
    assert_archivable(body)
    assert "pan \u25a1 \u25a1 caf" in PdfReader(BytesIO(body)).pages[0].extract_text()
    assert "\U0001f600".encode("utf-8") in PdfReader(BytesIO(body)).attachments[NAME][0]


def test_page_with_undrawable_character_is_printed() -> None:
    def change(data: dict[str, Any]) -> None:
        # An accent of one script on a letter of another: each font has only one of the two.
        data["lines"][0]["description"] = "pan ก\u0301 佛\u0e48 \u0e48"

    assert PdfReader(BytesIO(invoice_pdf(sample(1, change=change)))).pages[0].extract_text()


@pytest.mark.system
def test_five_hundred_lines_with_attachment_stay_below_a_megabyte() -> None:
    body = invoice_pdf(sample(500))
    assert len(body) < 1_000_000
    assert_archivable(body)
