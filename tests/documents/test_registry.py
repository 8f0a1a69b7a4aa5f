"""Each document of a unit: its exact name, its bytes, and the digests in it."""

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

from pipeline.core.templating import environment, render
from pipeline.documents.registry import ARTIFACT_TYPES, KINDS, Document, artifact_types, describe_kind, render_documents
from tests.documents.samples import build_full_invoice, build_truck_invoice, digest, file_entry, sample

NAMES = {
    "cci_json": "commercial_customs_invoice.json", "cci_csv": "commercial_customs_invoice.csv",
    "cci_human_readable": "commercial_customs_invoice.html", "cci_pdf": "commercial_customs_invoice.pdf",
    "cci_ubl": "commercial_customs_invoice.xml", "cci_consolidated": "commercial_customs_invoice_consolidated.json",
    "cci_xlsx": "commercial_customs_invoice.xlsx", "packing_list": "packing_list.json", "packing_list_pdf": "packing_list.pdf",
    "package_labels": "package_labels.pdf", "paps_cover_sheet": "paps_cover_sheet.pdf", "truck_manifest": "truck_manifest.zip",
    "pga_worksheet": "pga_worksheet.pdf", "pga_records": "pga_records.txt",
    "section_232_statement": "section_232_statement.pdf", "usmca_certification": "usmca_certification.pdf",
    "entry_estimate": "entry_estimate.json", "entry_import": "entry_import.zip", "entry_worksheet": "entry_worksheet.pdf",
    "manifest": "manifest.json",
}  # fmt: skip


TRUCK = "truck_manifest"

#: SHA-256 of each document of the fixed sample, which has no trip. A change on purpose must also raise the version of that kind.
GOLDEN = {
    "cci_json": "82bc6998b933989ceecc5e3619f97cc3ad4abbd2ddfe88ee5baa724d06bdf80c",
    "cci_csv": "24a969b6a9980ac548187422841bd5d5cb2c98162fa43ab88584901e7149b472",
    "cci_human_readable": "735e315ef6596f19732fced6ad130b4003942ca6db1781fd56113136ec4d4897",
    "cci_pdf": "3caf3c8a4bbf282501d04efe6f9ac929a9e5e8508808cd9700845be73234c330",
    "cci_ubl": "250de1ebb2d22ac0471a98ed07952a3685a49b3199178b9e5309d0953da3770f",
    "cci_consolidated": "425cfa4493f4a054772389dc2980a4587cf06fb4f2f918d3684383c17a831802",
    "cci_xlsx": "ff06cfc7614f44c9e442a9cf0588949358bef8295ddd16de5018da429e3d31db",
    "packing_list": "e4dd4510128402774898a05638f9b0bd3c3ba790ae3eb943d4e947dbda65c5b2",
    "packing_list_pdf": "6b9cf2ebec3155bf85ccca11702351e0084cc3977f578d0ab0ca32507ea15951",
    "package_labels": "da7db3d8816714e3d5d3ee448f7584073126ea1381ee0257476ce49b1f751fa9",
    "paps_cover_sheet": "7623045932647c6206592f52a05b2c9093b0934eccc0df0239933794442c058c",
    "pga_worksheet": "252c2f363265c11b584449d058f85b86363f4fbbfe65288d7d9bd41af8141478",
    "section_232_statement": "69efb3a2b65d91f7d4f4e85dd1752c167c5c9cfa34ca6ecf92ced830da68ba6a",
    "usmca_certification": "9e144afe8c810f8943d4b4abb80eaa2729310b1bb34e5da825a56c4b2a761ad7",
    "pga_records": "21cf0f67f93120cb6875260fd74c555e539f7a8a30eff587895d27b9464ca0d7",
    "entry_estimate": "171324af643c2a4b1bfa504dfbaabdbb3a355be7f267009b13288dd0b8ea4ae3",
    "entry_import": "d5ecc846c9db4cd39dc34538a2ce0ba936e7cc49be030296ad900a040c2fd270",
    "entry_worksheet": "696e918195aa387e673cf5f89c5b0722e63deae167543bb846a301b423cc5062",
}


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    return {document.artifact_type: document for document in render_documents(build_full_invoice())}


def test_kinds_and_names_match_contract(documents: dict[str, Document]) -> None:
    assert {kind: document.filename for kind, document in documents.items()} | {TRUCK: NAMES[TRUCK]} == NAMES
    assert tuple(documents) == artifact_types(build_full_invoice())
    assert artifact_types(build_truck_invoice()) == ARTIFACT_TYPES == tuple(NAMES)
    assert tuple(documents)[-1] == "manifest"


def test_unit_has_only_applicable_documents() -> None:
    invoice = sample(1, change={"lines/0/treatment": {}})

    some = {"cci_consolidated", "section_232_statement", "pga_worksheet", "pga_records", TRUCK}
    assert artifact_types(invoice) == tuple(kind for kind in ARTIFACT_TYPES if kind not in some)
    assert tuple(document.artifact_type for document in render_documents(invoice)) == artifact_types(invoice)


def test_bytes_match_golden_hashes(documents: dict[str, Document]) -> None:
    got = {kind: hashlib.sha256(document.body).hexdigest() for kind, document in documents.items() if kind in GOLDEN}
    got["cci_xlsx"] = _members(documents["cci_xlsx"].body)
    assert got == GOLDEN


def test_bytes_of_a_filed_entry_by_truck_match_golden_hashes() -> None:
    invoice = build_truck_invoice(file_entry)
    assert {
        kind.artifact_type: _members(kind.make(invoice)) for kind in KINDS if kind.media_type == "application/zip"
    } == {
        "entry_import": "e126dec9b52a2b7902a0ee791b7ec86db20878c0f56810b7adb55199a2cc193f",
        "truck_manifest": "4493f6f2584815b6e647eaa352a97f067d93c203bb520f5299f990fdee0d56ad",
    }


def _members(body: bytes) -> str:
    # The compressed bytes depend on zlib, whose version is part of the kind's version; so compare only the content.
    summed = hashlib.sha256()
    with ZipFile(BytesIO(body)) as archive:
        for member in archive.infolist():
            summed.update(f"{member.filename} {member.date_time}\n".encode() + archive.read(member))
    return summed.hexdigest()


@pytest.mark.system
def test_other_process_makes_same_bytes(documents: dict[str, Document]) -> None:
    script = (
        "from tests.documents.samples import build_full_invoice\n"
        "from pipeline.documents.registry import render_documents\n"
        "for document in render_documents(build_full_invoice()): print(document.artifact_type, document.digest)\n"
    )
    environ = {"PYTHONPATH": str(Path(__file__).parent.parents[1]), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    ran = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [f"{kind} {document.digest}" for kind, document in documents.items()]


def test_manifest_lists_other_documents_with_digest_and_size(documents: dict[str, Document]) -> None:
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


def test_documents_have_export_digest_and_line_digests(documents: dict[str, Document]) -> None:
    export, lines = digest("treatment"), [digest(f"L{number}") for number in range(1, 6)]
    for kind, document in documents.items():
        if kind == "package_labels":
            continue  # for the warehouse: only what a scanner and a driver read
        text = _text(document)
        assert export in text, kind
        # The printed packing list has packages, and a certification its goods, not lines; metals and agencies concern only some lines.
        digests = [] if kind in {"packing_list_pdf", "paps_cover_sheet", "usmca_certification"} else lines
        if kind in {"pga_worksheet", "pga_records", "section_232_statement"}:
            digests = [lines[place] for place in (0, 1, 3, 4)]
        assert all(line in text for line in digests), kind


def test_test_documents_are_marked(documents: dict[str, Document]) -> None:
    printed = (
        "cci_human_readable cci_pdf cci_ubl packing_list_pdf package_labels paps_cover_sheet section_232_statement "
        "usmca_certification entry_worksheet"
    )
    for kind in printed.split():
        assert "TEST: NOT FOR CUSTOMS USE" in _text(documents[kind]), kind
    for kind in ("cci_json", "cci_consolidated", "packing_list", "entry_estimate", "manifest"):
        assert json.loads(documents[kind].body)["test"] is True, kind
    live = {document.artifact_type: document for document in render_documents(sample(1))}
    for kind in ("cci_human_readable", "cci_pdf", "packing_list_pdf"):
        assert "TEST" not in _text(live[kind]), kind


def test_packing_list_has_no_price_or_customs_field(documents: dict[str, Document]) -> None:
    listed = documents["packing_list"].body.decode()
    printed = _text(documents["packing_list_pdf"])
    for word in ("rice", "alue", "urrency", "hts", "charges", "spi", '"treatment"', "ountryOfOrigin", "importer"):
        assert word not in listed, word
    for fact in ("300.00", "USD", "7323.93", "9903", "XOMAPGOO400TOR"):
        assert fact not in printed, fact


def test_missing_fact_fails_page() -> None:
    with pytest.raises(UndefinedError):
        render("documents/commercial_customs_invoice.html")
    with pytest.raises(UndefinedError):
        environment().from_string("{{ invoice.no_such_fact }}").render(invoice=sample(1))


def test_page_loads_nothing_external(documents: dict[str, Document]) -> None:
    page = documents["cci_human_readable"].body.decode()
    assert "default-src 'none'" in page
    for loader in ("<script", "<link", "<img", "src=", "url(", "@import", "http://", "https://"):
        assert loader not in page, loader


def test_each_kind_has_words_of_its_own() -> None:
    words = [describe_kind(each) for each in ARTIFACT_TYPES]
    assert len({*words}) == len(words)
    assert not [each for each in words if "_" in each or each.startswith("cci")]
    assert describe_kind("cii_xml") == "cii xml"


def _text(document: Document) -> str:
    if document.media_type == "application/pdf":
        return "\n".join(page.extract_text() for page in PdfReader(BytesIO(document.body)).pages)
    if document.artifact_type == "cci_xlsx":
        sheets = load_workbook(BytesIO(document.body), read_only=True)
        return "\n".join(str(cell) for sheet in sheets for row in sheet.iter_rows(values_only=True) for cell in row)
    if document.media_type == "application/zip":
        with ZipFile(BytesIO(document.body)) as archive:
            return "\n".join(archive.read(name).decode("utf-8-sig") for name in archive.namelist())
    return document.body.decode()
