"""Each document of a unit: its exact name, its bytes, and the digests that it carries."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from jinja2 import UndefinedError
from openpyxl import load_workbook
from pypdf import PdfReader

from pipeline.documents.document import Document
from pipeline.documents.kinds import ARTIFACT_TYPES, render_documents
from pipeline.documents.render import environment, render
from tests.documents.invoice_samples import digest, sample

NAMES = {
    "cci_json": "commercial_customs_invoice.json",
    "cci_csv": "commercial_customs_invoice.csv",
    "cci_human_readable": "commercial_customs_invoice.html",
    "cci_pdf": "commercial_customs_invoice.pdf",
    "cci_xlsx": "commercial_customs_invoice.xlsx",
    "packing_list": "packing_list.json",
    "packing_list_pdf": "packing_list.pdf",
    "pga_worksheet": "pga_worksheet.pdf",
    "pga_records": "pga_records.txt",
    "manifest": "manifest.json",
}

#: SHA-256 of each document of the fixed sample. Whoever changes one on purpose raises that kind's version with it.
GOLDEN = {
    "cci_json": "70814dcc7fc90f0095c80ca0b5052334f4f9ab06063d9c7c4abb3a3900dbf475",
    "cci_csv": "7a91a3b87eb4332e15cc2717704d70ac22c646da48485774cf8f28b972b2c9bd",
    "cci_human_readable": "cfb682712efecd44583d458d888a125eb8076f0a2400fb2c8d4a8faa5168d471",
    "cci_pdf": "1e39c6f2d4f9012481e3ec2af62e2f6ae144b0e02785182df4b91f0916c6fbed",
    "cci_xlsx": "6f9de1992bf8a8ad5943434b2b3bfca78fd78fd547605829b40e0d20b123ff6a",
    "packing_list": "193d79f4db04d43af0f23ae29fcb730ff7d977ea4ad87772e1035458e25b784e",
    "packing_list_pdf": "362dfe713772cd6cbfe4e6761ef30ac268bc38e85f9479be08d5dd5ac6057acc",
    "pga_worksheet": "b1c79589d3af4544910f234d4b861d74b7948cb8aeaeaca43ca1e10c4b087b28",
    "pga_records": "22cf419219211df53fdff6a801122dc44703bffdd626b6362605425af75545c4",
}


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    return {document.artifact_type: document for document in render_documents(sample(4, 6, test=True))}


def test_kinds_and_names_are_the_contracts(documents: dict[str, Document]) -> None:
    assert {kind: document.filename for kind, document in documents.items()} == NAMES
    assert tuple(documents) == ARTIFACT_TYPES
    assert tuple(documents)[-1] == "manifest"


def test_bytes_are_the_golden_ones(documents: dict[str, Document]) -> None:
    got = {kind: hashlib.sha256(document.body).hexdigest() for kind, document in documents.items() if kind in GOLDEN}
    got["cci_xlsx"] = _members(documents["cci_xlsx"].body)
    assert got == GOLDEN


def _members(body: bytes) -> str:
    # How well the archive is compressed is zlib's affair, and part of the kind's version; what is in it is ours.
    summed = hashlib.sha256()
    with ZipFile(BytesIO(body)) as archive:
        for member in archive.infolist():
            summed.update(f"{member.filename} {member.date_time}\n".encode() + archive.read(member))
    return summed.hexdigest()


def test_another_process_makes_the_same_bytes(documents: dict[str, Document]) -> None:
    script = (
        "from tests.documents.invoice_samples import sample\n"
        "from pipeline.documents.kinds import render_documents\n"
        "for document in render_documents(sample(4, 6, test=True)): print(document.artifact_type, document.digest)\n"
    )
    folder = Path(__file__).parent
    environ = {"PYTHONPATH": str(folder.parents[1]), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    ran = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [f"{kind} {document.digest}" for kind, document in documents.items()]


def test_manifest_lists_the_other_documents_with_digest_and_size(documents: dict[str, Document]) -> None:
    manifest = json.loads(documents["manifest"].body)
    assert manifest["documents"] == [
        {
            "artifactType": document.artifact_type,
            "filename": document.filename,
            "mediaType": document.media_type,
            "templateVersion": document.template_version,
            "size": len(document.body),
            "sha256": hashlib.sha256(document.body).hexdigest(),
        }
        for kind, document in documents.items()
        if kind != "manifest"
    ]
    assert manifest["provenance"]["planHash"] == digest("plan")


def test_export_digest_is_on_every_document_and_line_digests_on_all_with_lines(documents: dict[str, Document]) -> None:
    export, lines = digest("treatment"), [digest(f"L{number}") for number in range(1, 5)]
    for kind, document in documents.items():
        text = _text(document)
        assert export in text, kind
        # The printed packing list lists packages, not lines; metals and agencies concern some lines alone.
        told = [] if kind == "packing_list_pdf" else lines
        if kind in {"pga_worksheet", "pga_records", "section_232_statement"}:
            told = [lines[place] for place in (0, 1, 3)]
        assert all(line in text for line in told), kind


def test_test_documents_say_so(documents: dict[str, Document]) -> None:
    for kind in ("cci_human_readable", "cci_pdf", "packing_list_pdf"):
        assert "TEST: NOT FOR CUSTOMS USE" in _text(documents[kind]), kind
    for kind in ("cci_json", "packing_list", "manifest"):
        assert json.loads(documents[kind].body)["test"] is True, kind
    live = {document.artifact_type: document for document in render_documents(sample(1))}
    for kind in ("cci_human_readable", "cci_pdf", "packing_list_pdf"):
        assert "TEST" not in _text(live[kind]), kind


def test_packing_list_names_no_price_and_no_customs_field(documents: dict[str, Document]) -> None:
    listed = documents["packing_list"].body.decode()
    printed = _text(documents["packing_list_pdf"])
    for word in ("rice", "alue", "urrency", "hts", "charges", "spi", '"treatment"', "ountryOfOrigin", "importer"):
        assert word not in listed, word
    for fact in ("300.00", "USD", "7323.93", "9903", "XOMAPGOO400TOR"):
        assert fact not in printed, fact


def test_json_keeps_decimals_as_they_came(documents: dict[str, Document]) -> None:
    line = json.loads(documents["cci_json"].body)["lines"][1]
    assert (line["unitPrice"], line["lineValue"], line["quantity"], line["htsCode"]) == (
        "41.50", "498.00", "12", "7323930060",
    )  # fmt: skip
    assert line["treatment"]["section232"][0]["metalWeightKg"] == "70.000"


def test_missing_fact_fails_the_page() -> None:
    with pytest.raises(UndefinedError):
        render("documents/commercial_customs_invoice.html")
    with pytest.raises(UndefinedError):
        environment().from_string("{{ invoice.no_such_fact }}").render(invoice=sample(1))


def test_page_loads_nothing_from_elsewhere(documents: dict[str, Document]) -> None:
    page = documents["cci_human_readable"].body.decode()
    assert "default-src 'none'" in page
    for loader in ("<script", "<link", "<img", "src=", "url(", "@import", "http://", "https://"):
        assert loader not in page, loader


def _text(document: Document) -> str:
    if document.media_type == "application/pdf":
        return "\n".join(page.extract_text() for page in PdfReader(BytesIO(document.body)).pages)
    if document.artifact_type == "cci_xlsx":
        sheets = load_workbook(BytesIO(document.body), read_only=True)
        return "\n".join(str(cell) for sheet in sheets for row in sheet.iter_rows(values_only=True) for cell in row)
    return document.body.decode()
