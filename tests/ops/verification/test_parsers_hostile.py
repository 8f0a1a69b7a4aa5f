"""A hostile file is refused with a sentence, in bounded time and memory."""

import io
import zipfile
from contextlib import nullcontext

import pytest

from pipeline.ops.verification import parsers
from pipeline.ops.verification.parsers import iter_elements
from pipeline.ops.verification.readers import READERS, attached_file
from pipeline.ops.verification.verifier import UnreadableBundle
from tests.ops.verification.bundles import Bundle, list_failures
from tests.ops.verification.conftest import Verify

NAMESPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def build_zip(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return out.getvalue()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "it is not a zip file"),
        (b"PK\x05\x06" + b"\0" * 18, "it has no manifest.json"),
        (build_zip({"plan.json": b"{}"}), "it has no manifest.json"),
        (build_zip({"manifest.json": b"{}"}), "plan.json: it is missing"),
        (build_zip({"manifest.json": b"{}", "plan.json": b"{}"}, zipfile.ZIP_DEFLATED), "compressed or encrypted"),
        (build_zip({"manifest.json": b"{}", "plan.json": b"{"}), "plan.json: it is not JSON at line 1"),
        (build_zip({"manifest.json": b"{}", "plan.json": b"[" * 100_000}), "plan.json: it is nested deeper than 64"),
        (
            build_zip({"manifest.json": b"{}", "plan.json": b'{"a":1}'}),
            "plan.json: /schemaVersion is not valid in a plan",
        ),
    ],
)
def test_invalid_bundle_is_refused_with_a_sentence(raw: bytes, message: str, verify_bytes: Verify) -> None:
    with pytest.raises(UnreadableBundle, match=message):
        verify_bytes(raw)


def test_members_that_share_bytes_are_refused_before_reading(bundle: Bundle, verify_bytes: Verify) -> None:
    raw = bundle.with_({})
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        size = max(info.file_size for info in archive.infolist())
    # A directory that gives every member the size of the largest one, at any offset.
    changed = raw
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        for info in archive.infolist():
            old = info.file_size.to_bytes(4, "little")
            at = changed.rindex(b"PK\x01\x02", 0, changed.rindex(info.filename.encode()))
            changed = (
                changed[: at + 20]
                + changed[at + 20 : at + 28].replace(old, size.to_bytes(4, "little"))
                + changed[at + 28 :]
            )
    with pytest.raises(UnreadableBundle, match="members are larger than the file"):
        verify_bytes(changed)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b'<!DOCTYPE a [<!ENTITY x "xx">]><a>&x;</a>', "document type declaration"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type declaration"),
        (b"<a><b></a>", "it is not valid XML: mismatched tag in line 1"),
        (b"", "it is not valid XML: no element found in line 1"),
    ],
)
def test_iter_elements_with_invalid_xml_is_refused(document: bytes, message: str) -> None:
    with pytest.raises(UnreadableBundle, match=message):
        list(iter_elements([document], "a"))


@pytest.mark.parametrize("encoding", ["aTF-8", "utf-7", "shift_jis", "ISO-8859-1"])
def test_iter_elements_ignores_declared_encoding(encoding: str) -> None:
    document = f'<?xml version="1.0" encoding="{encoding}"?><a>é</a>'.encode()
    assert [element.text for element in iter_elements([document], "a")] == ["é"]


def test_iter_elements_yields_whole_elements_from_any_parts() -> None:
    document = b'<r xmlns="urn:x"><row a="1"><c>one</c><row/></row><other/><row>two</row></r>'
    for size in (1, 7, len(document)):
        parts = [document[at : at + size] for at in range(0, len(document), size)]
        rows = list(iter_elements(parts, "{urn:x}row"))
        assert [(row.get("a"), "".join(row.itertext())) for row in rows] == [("1", "one"), (None, "two")]


def build_workbook(sheet: bytes) -> bytes:
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    return build_zip(
        {
            "xl/workbook.xml": f'<w xmlns="{NAMESPACE}" xmlns:r="{relations}"><sheet name="Lines" r:id="r1"/></w>'.encode(),
            "xl/_rels/workbook.xml.rels": f'<r xmlns="{package}"><Relationship Id="r1" Target="s.xml"/></r>'.encode(),
            "xl/sharedStrings.xml": f'<sst xmlns="{NAMESPACE}"><si><r><t>sh</t></r><r><t>ared</t></r></si></sst>'.encode(),
            "xl/s.xml": b'<s xmlns="' + NAMESPACE.encode() + b'">' + sheet + b"</s>",
        },
        zipfile.ZIP_DEFLATED,
    )


def test_sheet_rows_reads_every_form_of_cell() -> None:
    sheet = (
        b'<row><c r="A1" t="inlineStr"><is><t>in_x005F_x0041_line</t></is></c><c r="C1" t="s"><v>0</v></c>'
        b'<c r="AA1"><v>1.5</v></c><c r="AB1"/></row>'
    )
    assert list(parsers.sheet_rows(build_workbook(sheet), "Lines")) == [{0: "in_x0041_line", 2: "shared", 26: "1.5"}]


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        (b'<row><c r="A1" t="s"><v>7</v></c></row>', "it is not a workbook"),
        (b'<row><c r="A1" t="s"><v>x</v></c></row>', "it is not a workbook"),
        (b'<row><c r="1"><v>1</v></c></row>', "a cell has no reference"),
    ],
)
def test_sheet_rows_with_invalid_workbook_is_refused(sheet: bytes, message: str) -> None:
    with pytest.raises(UnreadableBundle, match=message):
        list(parsers.sheet_rows(build_workbook(sheet), "Lines"))


def test_sheet_rows_with_too_large_part_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsers, "MAX_PART_BYTES", 1_000_000)
    with pytest.raises(UnreadableBundle, match=r"xl/s\.xml unpacks to more than 1000000 bytes"):
        list(parsers.sheet_rows(build_workbook(b"<row/>" * 1_000_000), "Lines"))


BODIES = [b"", b"\xff\xfe\x00", b"{}", b"[]", b'{"lines":[1]}', b'{"lines":{}}', b"PK\x03\x04" * 9, b'a,"b\n']
#: A table of one row has only a head, and two kinds may have no lines.
EMPTY = {("cci_csv", each) for each in (b"", *BODIES[2:7])} | {
    (kind, b'{"lines":{}}') for kind in ("cci_consolidated", "entry_estimate")
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("body", BODIES)
def test_readers_with_invalid_body_raise_unreadable_bundle(kind: str, body: bytes) -> None:
    with nullcontext() if (kind, body) in EMPTY else pytest.raises(UnreadableBundle):
        assert list(READERS[kind](body)) == []


def test_pdf_with_unknown_filter_is_reported_without_logs(
    bundle: Bundle, verify_bytes: Verify, caplog: pytest.LogCaptureFixture
) -> None:
    path = "0001-U1/commercial_customs_invoice.pdf"
    changed = bundle[path].replace(b"/FlateDecode", b"/FlateDecodf").replace(b"startxref\n", b"startxref\n1")
    found = list_failures(verify_bytes(bundle.with_({path: changed})))
    assert found[path] == "it is not a readable PDF: NotImplementedError"
    # Threads of other tests may log too, so only the reader's own records count.
    assert [record for record in caplog.records if record.name.startswith("pypdf")] == []


@pytest.mark.parametrize(
    "body", [b"", b"%PDF-1.7\n", b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"]
)
def test_pdf_without_its_attachment_is_reported(body: bytes) -> None:
    with pytest.raises(UnreadableBundle):
        attached_file(body, "commercial_customs_invoice.json")
