"""Previews of documents: the bytes of a file as tables, a tree, text or a list of contents, each of a limited size."""

import csv
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from html import escape
from io import BytesIO, StringIO
from itertools import islice
from typing import Any, Final
from xml.parsers import expat

from python_calamine import CalamineError, CalamineWorkbook

from pipeline.core.errors import ExportsError
from pipeline.interfaces.event_text import count_noun, format_size

#: A larger document is only for download.
MAX_BYTES: Final = 16 * 1024**2
MAX_ROWS: Final = 200
MAX_COLUMNS: Final = 150
MAX_TEXT_LINES: Final = 2_000
_MAX_CELL: Final = 300
_MAX_STRING: Final = 2_000
#: The most values of a tree, and the most entries of one of its lists.
_MAX_NODES: Final = 3_000
_MAX_ENTRIES: Final = 50
_LONGEST_FIELD: Final = 16 * 1024**2
#: The most bytes that a workbook may have after unpacking.
_MAX_UNPACKED: Final = 128 * 1024**2
#: A text whose lines have at most so many characters gets a ruler: its columns have a meaning.
_RECORD_WIDTH: Final = 80

PDF, HTML = "application/pdf", "text/html"
_XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


class PreviewFailed(ExportsError):
    """The document cannot be shown; the message says why."""


@dataclass(frozen=True)
class Sheet:
    """A table; the counts say how many rows and columns are left out."""

    name: str
    heads: list[str]
    rows: list[list[str]]
    more: str = ""


@dataclass(frozen=True)
class TreeNode:
    """A value of a JSON document: `text` of a single value, or `children`, with what is left out of them."""

    name: str
    kind: str
    text: str = ""
    summary: str = ""
    children: "list[TreeNode]" = field(default_factory=list)
    more: str = ""
    opened: bool = False


@dataclass(frozen=True)
class Preview:
    """What a page shows of a document; only the fields of its `kind` have values."""

    kind: str  # tables, tree, text or archive
    sheets: list[Sheet] = field(default_factory=list)
    tree: TreeNode | None = None
    text: str = ""
    ruler: str = ""
    more: str = ""


def read_preview(body: bytes, media_type: str) -> Preview:
    """Return the preview of a document; raises PreviewFailed if it is too large, is broken, or has no preview."""
    if len(body) > MAX_BYTES:
        raise PreviewFailed(f"it has {format_size(len(body))}, and a preview shows at most {format_size(MAX_BYTES)}")
    kind = media_type.partition(";")[0].strip().lower()
    match kind:
        case "application/json":
            return Preview("tree", tree=read_tree(body))
        case "text/csv":
            return Preview("tables", sheets=[read_csv(body)])
        case "application/zip":
            return Preview("archive", sheets=[list_archive(body)])
        case _ if kind == _XLSX:
            return Preview("tables", sheets=read_workbook(body))
        case "application/xml":
            return _cut_text(indent_xml(body))
        case "text/plain":
            return _show_text(body)
        case "application/edi-x12":
            return _cut_text(body.decode("ascii", "replace"))
    raise PreviewFailed(f"there is no preview of {kind}")


def read_tree(body: bytes) -> TreeNode:
    """Return a JSON document as a tree; raises PreviewFailed if it is not JSON."""
    try:
        # A number keeps the digits that the document has.
        document = json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise PreviewFailed(f"it is not JSON: {error}") from error
    return _build_node("", document, _MAX_NODES, depth=0)


def _build_node(name: str, value: Any, budget: int, *, depth: int) -> TreeNode:
    if not isinstance(value, dict | list) or not value:
        return TreeNode(name, _name_kind(value), _format_value(value))
    entries: list[tuple[str, Any]]
    if isinstance(value, dict):
        entries, noun = [(str(key), inner) for key, inner in value.items()], "field"
    else:
        shown = min(len(value), _MAX_ENTRIES)
        entries, noun = [(str(place), value[place]) for place in range(shown)], "entry"
    # Every entry gets the same share, so that one long list does not hide what follows it.
    left = max(budget - 1, 0)
    entries = entries[:left]
    share = left // len(entries) if entries else 0
    missing = len(value) - len(entries)
    return TreeNode(
        name,
        "object" if isinstance(value, dict) else "list",
        summary=_count(len(value), noun),
        children=[_build_node(key, inner, share, depth=depth + 1) for key, inner in entries],
        more=f"{_count(missing, noun)} not shown" if missing else "",
        opened=depth == 0,
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} entries" if noun == "entry" and number != 1 else f"{count_noun(number, noun)}"


def _name_kind(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "literal"
    return "text" if isinstance(value, str) else "number" if isinstance(value, int | Decimal) else "empty"


def _format_value(value: object) -> str:
    if isinstance(value, str):
        return value if len(value) <= _MAX_STRING else f"{value[:_MAX_STRING]}…"
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value)


def read_csv(body: bytes) -> Sheet:
    """Return the first rows of a CSV file; raises PreviewFailed if it is not UTF-8 or not a table."""
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        rows = csv.reader(StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        heads = next(rows, [])
        shown = list(islice(rows, MAX_ROWS))
        left_out = sum(1 for _ in rows)
    except UnicodeDecodeError as error:
        raise PreviewFailed(f"it is not UTF-8 at byte {error.start}") from error
    except csv.Error as error:
        raise PreviewFailed(f"it is not a table: {error}") from error
    return _build_sheet("", [heads, *shown], left_out, max(map(len, [heads, *shown])))


def read_workbook(body: bytes) -> list[Sheet]:
    """Return the first rows of each sheet; raises PreviewFailed if it is not a workbook or unpacks to too many bytes."""
    try:
        with zipfile.ZipFile(BytesIO(body)) as archive:
            unpacked = sum(each.file_size for each in archive.infolist())
        if unpacked > _MAX_UNPACKED:
            raise PreviewFailed(f"it unpacks to {format_size(unpacked)}, more than {format_size(_MAX_UNPACKED)}")
        book = CalamineWorkbook.from_filelike(BytesIO(body))
        sheets = []
        for name in book.sheet_names:
            sheet = book.get_sheet_by_name(name)
            rows = sheet.to_python(skip_empty_area=False, nrows=MAX_ROWS + 1)
            sheets.append(_build_sheet(name, rows, max(sheet.height - len(rows), 0), sheet.total_width))
    except (zipfile.BadZipFile, CalamineError, OSError) as error:
        raise PreviewFailed(f"it is not a workbook: {error}") from error
    return sheets


def _build_sheet(name: str, rows: list[list[Any]], more_rows: int, columns: int) -> Sheet:
    left_out = []
    if more_rows:
        left_out.append(f"{count_noun(more_rows, 'row')} not shown")
    if columns > MAX_COLUMNS:
        left_out.append(f"{count_noun(columns - MAX_COLUMNS, 'column')} not shown")
    heads, *others = [[_format_cell(cell) for cell in row[:MAX_COLUMNS]] for row in rows] or [[]]
    return Sheet(name, heads, others, "; ".join(left_out))


def _format_cell(cell: object) -> str:
    if isinstance(cell, datetime) and (cell.hour, cell.minute, cell.second) == (0, 0, 0):
        cell = cell.date()
    if isinstance(cell, date):
        return cell.isoformat()
    text = f"{cell:.15g}" if isinstance(cell, float) else str(cell)
    return text if len(text) <= _MAX_CELL else f"{text[:_MAX_CELL]}…"


def list_archive(body: bytes) -> Sheet:
    """Return the contents of a ZIP; raises PreviewFailed if it is none."""
    try:
        with zipfile.ZipFile(BytesIO(body)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise PreviewFailed(f"it is not a ZIP: {error}") from error
    rows = [["File", "Size"], *([each.filename, format_size(each.file_size)] for each in entries[:MAX_ROWS])]
    return _build_sheet("Files", rows, max(len(entries) - MAX_ROWS, 0), 2)


def indent_xml(body: bytes) -> str:
    """Return XML with one element a line; raises PreviewFailed if it is broken or declares a document type."""
    parser = expat.ParserCreate()
    parser.buffer_text, parser.ordered_attributes = True, True
    printer = _XmlPrinter()
    parser.StartElementHandler, parser.EndElementHandler = printer.start, printer.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = printer.add_text, _reject_document_type
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise PreviewFailed(f"it is not XML: {error}") from error
    return "\n".join(printer.lines)


def _reject_document_type(*_: object) -> None:
    # Only a document type can declare entities, which grow when they are read.
    raise PreviewFailed("it declares a document type, which no document of this service does")


class _XmlPrinter:
    """Collects the lines of a document: an element without children has one line, others have one for each tag."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 0
        self._text = ""
        self._is_leaf = False

    def start(self, name: str, attributes: list[str]) -> None:
        pairs = zip(attributes[::2], attributes[1::2], strict=True)
        tag = "".join([name, *(f' {key}="{escape(value)}"' for key, value in pairs)])
        self.lines.append(f"{'  ' * self._depth}<{tag}>")
        self._depth += 1
        self._text, self._is_leaf = "", True

    def end(self, name: str) -> None:
        self._depth -= 1
        if self._is_leaf:
            # Space between tags is layout, and not the text of an element.
            text = self._text if self._text.strip() else ""
            self.lines[-1] += f"{escape(text, quote=False)}</{name}>"
        else:
            self.lines.append(f"{'  ' * self._depth}</{name}>")
        self._text, self._is_leaf = "", False

    def add_text(self, text: str) -> None:
        self._text += text


def _show_text(body: bytes) -> Preview:
    try:
        return _cut_text(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise PreviewFailed(f"it is not UTF-8 at byte {error.start}") from error


def _cut_text(text: str) -> Preview:
    lines = text.splitlines()
    width = max(map(len, lines), default=0)
    left_out = len(lines) - MAX_TEXT_LINES
    return Preview(
        "text",
        text="\n".join(line[:_MAX_STRING] for line in lines[:MAX_TEXT_LINES]),
        ruler="".join(_draw_ruler(_RECORD_WIDTH)) if width == _RECORD_WIDTH else "",
        more=f"{count_noun(left_out, 'line')} not shown" if left_out > 0 else "",
    )


def _draw_ruler(width: int) -> Iterator[str]:
    for column in range(10, width + 1, 10):
        yield f"....+...{column:2d}"
