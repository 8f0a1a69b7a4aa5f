"""A Social Security number as importer number: complete in the broker's data, elsewhere only its last four digits."""

from io import BytesIO
from typing import Any
from zipfile import ZipFile

import pytest
from openpyxl import load_workbook
from pypdf import PdfReader

from pipeline.core.field_types import mask_number, mask_numbers
from pipeline.documents.broker_profile import profile_document
from pipeline.documents.registry import render_documents
from pipeline.documents.schemas.invoice import Invoice
from pipeline.documents.schemas.profile import BrokerProfile
from tests.documents.samples import sample

NUMBER, SHOWN = "123-45-6789", "XXX-XX-6789"

PRINTED = {
    "cci_pdf": "Importer number", "cci_human_readable": "Importer number", "section_232_statement": "Importer number",
    "pga_worksheet": "IMPORTER NUMBER", "entry_worksheet": "IMPORTER NUMBER",
}  # fmt: skip
DATA = {"cci_json", "cci_ubl", "cci_xlsx", "entry_import"}


def set_importer(number: str) -> Invoice:
    def change(data: dict[str, Any]) -> None:
        data["parties"]["importerOfRecord"]["importerNumber"] = number
        data["parties"]["buyer"]["identifiers"] = {"ssn": number, "duns": "123456789", "ein": "12-3456789"}

    return sample(1, change=change)


def read_text(kind: str, body: bytes) -> str:
    if body.startswith(b"%PDF"):
        return "\n".join(page.extract_text() for page in PdfReader(BytesIO(body)).pages)
    if kind == "cci_xlsx":
        book = load_workbook(BytesIO(body))
        return "\n".join(str(cell.value) for sheet in book for row in sheet.iter_rows() for cell in row)
    if kind == "entry_import":
        with ZipFile(BytesIO(body)) as archive:
            return "\n".join(archive.read(name).decode() for name in archive.namelist())
    return body.decode()


def test_printed_documents_mask_number_but_data_has_it_complete() -> None:
    seen = {
        document.artifact_type: read_text(document.artifact_type, document.body)
        for document in render_documents(set_importer(NUMBER))
    }
    assert {kind for kind, text in seen.items() if NUMBER in text} == DATA
    for kind, label in PRINTED.items():
        assert label in seen[kind], kind
        assert SHOWN in seen[kind], kind
    for kind in ("cci_pdf", "cci_human_readable"):
        assert "123456789" in seen[kind]
        assert "12-3456789" in seen[kind]


@pytest.mark.parametrize("form", ["csv", "xlsx", "json"])
def test_broker_file_has_complete_number(form: str) -> None:
    profile = {
        "name": "Entry import",
        "filename": f"entry.{form}",
        "format": form,
        "columns": [{"header": "IOR", "field": "importer_number"}],
    }
    body = profile_document(BrokerProfile.model_validate(profile), set_importer(NUMBER)).body
    assert NUMBER in read_text("cci_xlsx" if form == "xlsx" else "", body)


@pytest.mark.parametrize(
    "number", ["12-3456789AB", "12-345678900", "261127-12345", "12-3456789", "123456789", "1-2-3", ""]
)
def test_other_numbers_are_shown_completely(number: str) -> None:
    assert mask_number(number) == number


@pytest.mark.parametrize("number", [NUMBER, "123 45 6789", " 123-45-6789 ", "123.45.6789", "123\u201345\u20136789"])
def test_social_security_number_is_masked_in_any_format(number: str) -> None:
    assert mask_number(number) == SHOWN


@pytest.mark.parametrize("kind", PRINTED)
def test_irs_number_is_printed_completely(kind: str) -> None:
    bodies = {document.artifact_type: document.body for document in render_documents(set_importer("12-3456789AB"))}
    assert "12-3456789AB" in read_text(kind, bodies[kind])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (NUMBER, SHOWN),
        (f'{{"number": "{NUMBER}", "name": "Demo"}}', f'{{"number": "{SHOWN}", "name": "Demo"}}'),
        ("12-345678900 of 2026-11-24, +1 416-555-0100, 1123-45-6789, 123-45-67890", None),
    ],
)
def test_number_inside_a_text_is_masked(text: str, shown: str | None) -> None:
    assert mask_numbers(text) == (shown or text)
