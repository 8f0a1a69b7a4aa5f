"""A sheet of a workbook as rows of text: as much of the format as our own workbooks use."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Final
from xml.etree.ElementTree import Element

from pipeline.ops.verification.treatment import Unreadable
from pipeline.ops.verification.xml import elements

_MAIN: Final = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_REFERENCE: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_RELATIONSHIP: Final = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"

#: What one part of a workbook may unpack to; the lines of the largest plan need a quarter of it.
MAX_PART_BYTES: Final = 256 * 1024 * 1024
_CHUNK: Final = 1024 * 1024

_LETTERS = re.compile(r"([A-Z]{1,3})[0-9]+")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


def rows(workbook: bytes, sheet: str) -> Iterator[dict[int, str]]:
    """Yield the rows of the sheet: column, counted from 0, to text; numbers stand as they are written in the file.

    Raises Unreadable where this is no workbook, has no such sheet, or unpacks to more than any of ours.
    """
    try:
        with zipfile.ZipFile(BytesIO(workbook)) as archive:
            strings = _strings(archive)
            for row in elements(_part(archive, _place(archive, sheet)), f"{_MAIN}row"):
                yield dict(_cells(row, strings))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, KeyError, IndexError, ValueError) as error:
        raise Unreadable(f"it is no workbook: {error}") from error


def _place(archive: zipfile.ZipFile, name: str) -> str:
    for sheet in elements(_part(archive, "xl/workbook.xml"), f"{_MAIN}sheet"):
        if sheet.get("name") == name:
            wanted = sheet.get(_REFERENCE)
            for relation in elements(_part(archive, "xl/_rels/workbook.xml.rels"), _RELATIONSHIP):
                if relation.get("Id") == wanted:
                    return "xl/" + (relation.get("Target") or "")
    raise Unreadable(f"it has no sheet {name}")


def _strings(archive: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    return [_text(item) for item in elements(_part(archive, "xl/sharedStrings.xml"), f"{_MAIN}si")]


def _cells(row: Element, strings: list[str]) -> Iterator[tuple[int, str]]:
    for cell in row.iter(f"{_MAIN}c"):
        match = _LETTERS.fullmatch(cell.get("r", ""))
        if match is None:
            raise Unreadable("a cell does not say where it stands")
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
    written = "".join(part.text or "" for part in element.iter(f"{_MAIN}t"))
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), written)


def _part(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    left = MAX_PART_BYTES
    with archive.open(name) as part:
        while chunk := part.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise Unreadable(f"{name} unpacks to more than {MAX_PART_BYTES} bytes")
            yield chunk
