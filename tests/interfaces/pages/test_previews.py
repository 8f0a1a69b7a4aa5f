"""Previews of documents: what is shown of each kind, and a clear reason for what cannot be shown."""

import json
import zipfile
from io import BytesIO

import pytest

from pipeline.documents.registry import render_documents
from pipeline.interfaces.pages import previews
from pipeline.interfaces.pages.previews import PreviewFailed, TreeNode, read_preview, read_tree
from tests.documents.samples import sample

CSV, JSON, XML, TEXT = "text/csv; charset=utf-8", "application/json", "application/xml", "text/plain; charset=us-ascii"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ZIP = "application/zip"


@pytest.fixture(scope="module")
def documents() -> dict[str, bytes]:
    return {each.artifact_type: each.body for each in render_documents(sample(3))}


def count_nodes(node: TreeNode) -> int:
    return 1 + sum(map(count_nodes, node.children))


def make_zip(files: dict[str, bytes]) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return out.getvalue()


def test_tables_have_all_sheets_and_the_text_of_the_file(documents: dict[str, bytes]) -> None:
    (table,) = read_preview(documents["cci_csv"], CSV).sheets
    sheets = read_preview(documents["cci_xlsx"], XLSX).sheets
    assert [each.name for each in sheets][:3] == ["Lines", "Entry lines", "Parties"]
    assert (table.heads, len(table.rows), table.more) == (sheets[0].heads, 3, "")
    day = table.heads.index("invoice_date")
    assert {row[day] for row in [*table.rows, *sheets[0].rows]} == {"2026-11-24"}
    code = table.heads.index("hts10")
    assert [row[code] for row in sheets[0].rows] == [row[code] for row in table.rows]


def test_long_tables_say_how_many_rows_and_columns_are_left_out() -> None:
    rows = [",".join(map(str, range(previews.MAX_COLUMNS + 2)))] * (previews.MAX_ROWS + 4)
    (table,) = read_preview("\r\n".join(rows).encode(), CSV).sheets
    assert (len(table.heads), len(table.rows)) == (previews.MAX_COLUMNS, previews.MAX_ROWS)
    assert table.more == "3 rows not shown; 2 columns not shown"
    (one,) = read_preview(b"a,b\r\n" + b"1,2\r\n" * (previews.MAX_ROWS + 1), CSV).sheets
    assert one.more == "1 row not shown"


def test_large_workbook_says_how_many_rows_are_left_out() -> None:
    body = {each.artifact_type: each.body for each in render_documents(sample(previews.MAX_ROWS + 7))}["cci_xlsx"]
    lines = read_preview(body, XLSX).sheets[0]
    assert (len(lines.rows), lines.more) == (previews.MAX_ROWS, "7 rows not shown")


def test_empty_table_is_shown_as_empty() -> None:
    (table,) = read_preview(b"", CSV).sheets
    assert (table.heads, table.rows, table.more) == ([], [], "")


def test_tree_keeps_digits_and_order() -> None:
    tree = read_tree(b'{"b": 12.50, "a": [1, null], "c": "<b>", "e": {}, "big": 123456789012345678901234567890.10}')
    assert [(each.name, each.kind, each.text) for each in tree.children] == [
        ("b", "number", "12.50"),
        ("a", "list", ""),
        ("c", "text", "<b>"),
        ("e", "empty", "{}"),
        ("big", "number", "123456789012345678901234567890.10"),
    ]
    assert (tree.opened, tree.children[1].summary, tree.children[1].opened) == (True, "2 entries", False)


def test_huge_tree_is_cut_but_no_field_hides_another() -> None:
    document = {"lines": [{"x": {"y": list(range(99))}}] * 5_000, "last": {"a": 1}}
    tree = read_tree(json.dumps(document).encode())
    assert count_nodes(tree) <= 3_001
    lines, last = tree.children
    assert (lines.summary, lines.more) == ("5,000 entries", "4,950 entries not shown")
    assert last.children[0].text == "1"


def test_xml_has_one_element_a_line_and_keeps_its_prefixes(documents: dict[str, bytes]) -> None:
    shown = read_preview(documents["cci_ubl"], XML)
    assert "  <ext:UBLExtensions>" in shown.text.splitlines()
    assert "<cbc:ID>INV-10045</cbc:ID>" in shown.text
    assert previews.indent_xml(b'<a b="1 &lt; &quot;2"><c>x &amp; y</c><d>\n</d></a>').splitlines() == [
        '<a b="1 &lt; &quot;2">',
        "  <c>x &amp; y</c>",
        "  <d></d>",
        "</a>",
    ]


def test_records_of_80_columns_get_a_ruler_and_other_text_none(documents: dict[str, bytes]) -> None:
    shown = read_preview(documents["pga_records"], TEXT)
    assert (len(shown.ruler), shown.ruler[-2:], shown.ruler[9]) == (80, "80", "0")
    assert {len(line) for line in shown.text.splitlines()} == {80}
    assert read_preview(b"short\nlines", TEXT).ruler == ""
    long = read_preview(b"x\n" * (previews.MAX_TEXT_LINES + 2), TEXT)
    assert (len(long.text.splitlines()), long.more) == (previews.MAX_TEXT_LINES, "2 lines not shown")


def test_archive_is_its_list_of_contents() -> None:
    shown = read_preview(make_zip({"a/b.pdf": b"x" * 3_000, "c.json": b"{}"}), ZIP)
    assert [sheet.rows for sheet in shown.sheets] == [[["a/b.pdf", "3 kB"], ["c.json", "2 bytes"]]]


@pytest.mark.parametrize(
    ("body", "media_type", "reason"),
    [
        (b"{", JSON, "not JSON"),
        (b"[" * 100_000, JSON, "not JSON"),
        (b"\xff\xfe", CSV, "not UTF-8 at byte 0"),
        (b'"open', CSV, "not a table"),
        (b"no workbook", XLSX, "not a workbook"),
        (make_zip({"x": b""}), XLSX, "not a workbook"),
        (make_zip({"x": b"0" * (129 * 1024**2)}), XLSX, "unpacks to"),
        (b"no archive", ZIP, "not a ZIP"),
        (b"<a><b></a>", XML, "not XML"),
        (b'<!DOCTYPE a [<!ENTITY x "xxxx">]><a>&x;</a>', XML, "document type"),
        (b"\xff", TEXT, "not UTF-8"),
        (b"x", "application/octet-stream", "no preview"),
        (b"0" * (previews.MAX_BYTES + 1), JSON, "at most"),
    ],
)
def test_broken_and_huge_documents_say_why_they_are_not_shown(body: bytes, media_type: str, reason: str) -> None:
    with pytest.raises(PreviewFailed, match=reason):
        read_preview(body, media_type)


@pytest.mark.parametrize("cut", [10, 200, -30])
def test_cut_workbook_is_refused(documents: dict[str, bytes], cut: int) -> None:
    with pytest.raises(PreviewFailed):
        read_preview(documents["cci_xlsx"][:cut], XLSX)


def test_every_kind_of_document_has_a_preview() -> None:
    shown = [
        read_preview(each.body, each.media_type)
        for each in render_documents(sample(3))
        if not each.media_type.startswith((previews.PDF, previews.HTML))
    ]
    assert len(shown) >= 7
    assert all(each.sheets or each.tree or each.text for each in shown)
