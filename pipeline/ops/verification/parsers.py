"""Parsers of XML elements and of workbook sheets, limited to what our own documents use."""

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any, Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from pipeline.ops.verification.treatment import UnreadableBundle


def iter_elements(parts: Iterable[bytes], name: str) -> Iterator[Element]:
    """Yield each complete element `name`, written `{namespace}local`, from XML that comes in parts; then discard it.

    A document type declaration is rejected before any entity is declared: neither workbooks (ECMA-376, part 2) nor UBL
    may have one. So no entity can expand, and nothing is fetched. Raises UnreadableBundle.
    """
    # All our XML is UTF-8, so another declared encoding is ignored: it is a change, and may name an unknown encoding.
    parser = expat.ParserCreate("utf-8", namespace_separator="}")
    parser.buffer_text = True
    reader = _ElementReader(name)
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = _reject_doctype
    try:
        for part in parts:
            parser.Parse(part, False)
            yield from reader.take()
        parser.Parse(b"", True)
        yield from reader.take()
    except expat.ExpatError as error:
        raise UnreadableBundle(
            f"it is not valid XML: {expat.ErrorString(error.code)} in line {error.lineno}"
        ) from error


def _reject_doctype(*_: Any) -> None:
    raise UnreadableBundle("it has a document type declaration; documents of the service have none")


class _ElementReader:
    """Builds only the wanted elements."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._builder: TreeBuilder | None = None
        self._depth = 0
        self._whole: list[Element] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        full = _qualified_name(name)
        if self._builder is None:
            if full != self._name:
                return
            self._builder = TreeBuilder()
        self._builder.start(full, {_qualified_name(key): value for key, value in attributes.items()})
        self._depth += 1

    def end(self, name: str) -> None:
        if self._builder is None:
            return
        self._builder.end(_qualified_name(name))
        self._depth -= 1
        if self._depth == 0:
            self._whole.append(self._builder.close())
            self._builder = None

    def data(self, text: str) -> None:
        if self._builder is not None:
            self._builder.data(text)

    def take(self) -> list[Element]:
        whole, self._whole = self._whole, []
        return whole


def _qualified_name(name: str) -> str:
    return "{" + name if "}" in name else name


_MAIN: Final = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_REFERENCE: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_RELATIONSHIP: Final = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"

#: The maximum unpacked size of one part of a workbook; the lines of the largest plan need a quarter of it.
MAX_PART_BYTES: Final = 256 * 1024 * 1024
_CHUNK: Final = 1024 * 1024

_LETTERS = re.compile(r"([A-Z]{1,3})[0-9]+")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


def sheet_rows(workbook: bytes, sheet: str) -> Iterator[dict[int, str]]:
    """Yield the rows of the sheet: column, counted from 0, to text; numbers are as written in the file.

    Raises UnreadableBundle if this is not a workbook, lacks the sheet, or unpacks to more than the maximum.
    """
    try:
        with zipfile.ZipFile(BytesIO(workbook)) as archive:
            strings = _strings(archive)
            for row in iter_elements(_read_part(archive, _sheet_path(archive, sheet)), f"{_MAIN}row"):
                yield dict(_cells(row, strings))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, KeyError, IndexError, ValueError) as error:
        raise UnreadableBundle(f"it is not a workbook: {error}") from error


def _sheet_path(archive: zipfile.ZipFile, name: str) -> str:
    for sheet in iter_elements(_read_part(archive, "xl/workbook.xml"), f"{_MAIN}sheet"):
        if sheet.get("name") == name:
            wanted = sheet.get(_REFERENCE)
            for relation in iter_elements(_read_part(archive, "xl/_rels/workbook.xml.rels"), _RELATIONSHIP):
                if relation.get("Id") == wanted:
                    return "xl/" + (relation.get("Target") or "")
    raise UnreadableBundle(f"it has no sheet {name}")


def _strings(archive: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    return [_text(item) for item in iter_elements(_read_part(archive, "xl/sharedStrings.xml"), f"{_MAIN}si")]


def _cells(row: Element, strings: list[str]) -> Iterator[tuple[int, str]]:
    for cell in row.iter(f"{_MAIN}c"):
        match = _LETTERS.fullmatch(cell.get("r", ""))
        if match is None:
            raise UnreadableBundle("a cell has no reference")
        column = 0
        for letter in match[1]:
            column = column * 26 + ord(letter) - ord("A") + 1
        if cell.get("t") == "inlineStr":
            yield column - 1, _text(cell)
            continue
        value = cell.findtext(f"{_MAIN}v")
        if value is not None:
            yield column - 1, strings[int(value)] if cell.get("t") == "s" else value


def _text(element: Element) -> str:
    text = "".join(part.text or "" for part in element.iter(f"{_MAIN}t"))
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def _read_part(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    remaining = MAX_PART_BYTES
    with archive.open(name) as part:
        while chunk := part.read(_CHUNK):
            remaining -= len(chunk)
            if remaining < 0:
                raise UnreadableBundle(f"{name} unpacks to more than {MAX_PART_BYTES} bytes")
            yield chunk
