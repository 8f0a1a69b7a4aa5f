"""Reads the official tariff file of the USITC, as JSON or CSV, row by row; a wrong row is an error with its number."""

from __future__ import annotations

import csv
import html
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO, TypeGuard

from pipeline.core.errors import InvalidRequest

#: Longest text of a cell. The longest descriptions, of chapter 99, have about 10,000 characters.
_MAX_TEXT: Final = 100_000
_MAX_ROWS: Final = 200_000
#: The file of 2026 has about 15 MB; its rows are in memory together before they are written.
_MAX_BYTES: Final = 100 * 1024 * 1024
_MAX_ROW: Final = 1_000_000
_CHUNK: Final = 65_536
_MAX_INDENT: Final = 30

_HEADERS: Final = {
    "htsno": "HTS Number",
    "indent": "Indent",
    "description": "Description",
    "units": "Unit of Quantity",
    "general": "General Rate of Duty",
    "special": "Special Rate of Duty",
    "other": "Column 2 Rate of Duty",
    "quotaQuantity": "Quota Quantity",
    "additionalDuties": "Additional Duties",
}
_NEEDED: Final = ("htsno", "indent", "description")
_NUMBER: Final = re.compile(r"\d{4}(\d{2}){0,3}")
_TAG: Final = re.compile(r"</?[A-Za-z][^<>]{0,200}>")
_DECODER: Final = json.JSONDecoder()
_REMEDY: Final = "import the file as the USITC publishes it"


@dataclass(frozen=True, slots=True)
class TariffLine:
    """One row of the file, with plain texts. `number` has only digits, and is empty for a row without a number."""

    number: str
    indent: int
    description: str
    units: tuple[str, ...]
    general: str
    special: str
    other: str
    quota_quantity: str
    additional_duties: str
    footnotes: tuple[str, ...]


def check_size(path: Path) -> None:
    """Raise InvalidRequest if the file is too large to be the tariff."""
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise InvalidRequest(f"the file has {size:,} bytes, and at most {_MAX_BYTES:,} are read; {_REMEDY}")


def read_lines(path: Path) -> Iterator[TariffLine]:
    """Yield the rows of the tariff file in its order; the file is never in memory as a whole.

    Raises InvalidRequest with the number of the first wrong row, and what to do.
    """
    count = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for count, row in enumerate(_read_rows(file), start=1):
                if count > _MAX_ROWS:
                    raise InvalidRequest(f"the file has more than {_MAX_ROWS:,} rows; {_REMEDY}")
                yield _read_line(row, count)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"row {count + 1} is not UTF-8 text; {_REMEDY}") from error
    if not count:
        raise InvalidRequest(f"the file has no rows; {_REMEDY}")


def _read_rows(file: TextIO) -> Iterator[Mapping[str, Any]]:
    start = file.read(1)
    while start.isspace():
        start = file.read(1)
    return _read_json(file) if start == "[" else _read_csv(file, start)


def _read_json(file: TextIO) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of the array whose opening bracket was read."""
    text, count = _skip_spaces(file, ""), 0
    while not text.startswith("]"):
        if count:
            if not text.startswith(","):
                raise InvalidRequest(f"a comma or the closing bracket must follow row {count}; {_REMEDY}")
            text = _skip_spaces(file, text[1:])
        row, text = _read_object(file, text, count + 1)
        text = _skip_spaces(file, text)
        count += 1
        yield row
    if _skip_spaces(file, text[1:]):
        raise InvalidRequest(f"nothing may follow the closing bracket after row {count}; {_REMEDY}")


def _skip_spaces(file: TextIO, text: str) -> str:
    text = text.lstrip()
    while not text and (more := file.read(_CHUNK)):
        text = more.lstrip()
    return text


def _read_object(file: TextIO, text: str, number: int) -> tuple[Mapping[str, Any], str]:
    """Return the object that the text begins with, and the text after it; more of the file is read as needed."""
    while True:
        try:
            row, end = _DECODER.raw_decode(text)
        except ValueError:
            more = file.read(_CHUNK) if len(text) <= _MAX_ROW else ""
            if not more:
                raise InvalidRequest(f"row {number} is not complete JSON; {_REMEDY}") from None
            text += more
        except RecursionError:
            raise InvalidRequest(f"row {number} is nested too deep; {_REMEDY}") from None
        else:
            if not isinstance(row, dict):
                raise InvalidRequest(f"row {number} must be an object; {_REMEDY}")
            return row, text[end:]


def _read_csv(file: TextIO, start: str) -> Iterator[Mapping[str, Any]]:
    reader = csv.reader(_prepend(start, file), strict=True)
    try:
        headers = [cell.strip() for cell in next(reader, [])]
        missing = [_HEADERS[name] for name in _NEEDED if _HEADERS[name] not in headers]
        if missing:
            raise InvalidRequest(
                f"the file is neither a JSON array nor a CSV with these columns: {', '.join(missing)}; {_REMEDY}"
            )
        places = {name: headers.index(header) for name, header in _HEADERS.items() if header in headers}
        for number, cells in enumerate((cells for cells in reader if cells), start=1):
            if len(cells) != len(headers):
                raise InvalidRequest(f"row {number} has {len(cells)} cells instead of {len(headers)}; {_REMEDY}")
            yield {name: cells[place] for name, place in places.items()}
    except csv.Error as error:
        raise InvalidRequest(f"line {reader.line_num} is not CSV: {error}; {_REMEDY}") from error


def _prepend(start: str, file: TextIO) -> Iterator[str]:
    yield start + file.readline()
    yield from file


def _read_line(row: Mapping[str, Any], number: int) -> TariffLine:
    missing = [name for name in _NEEDED if name not in row]
    if missing:
        raise InvalidRequest(f"row {number} lacks {', '.join(missing)}; {_REMEDY}")
    digits = re.sub(r"[.\s]", "", _read_text(row, "htsno", number))
    if digits and not (_NUMBER.fullmatch(digits) and digits.isascii()):
        raise InvalidRequest(
            f"row {number}: htsno {str(row['htsno'])[:40]!r} is not a number of 4, 6, 8 or 10 digits; {_REMEDY}"
        )
    indent = _read_text(row, "indent", number)
    if not (indent.isascii() and indent.isdecimal() and int(indent[:4]) <= _MAX_INDENT):
        raise InvalidRequest(f"row {number}: indent {indent[:40]!r} is not a number from 0 to {_MAX_INDENT}; {_REMEDY}")
    return TariffLine(
        number=digits,
        indent=int(indent),
        description=_read_text(row, "description", number),
        units=tuple(_read_units(row, number)),
        general=_read_text(row, "general", number),
        special=_read_text(row, "special", number),
        other=_read_text(row, "other", number),
        quota_quantity=_read_text(row, "quotaQuantity", number),
        # The USITC writes the second name in some rows, and both in others.
        additional_duties=_read_text(row, "additionalDuties", number) or _read_text(row, "addiitionalDuties", number),
        footnotes=tuple(_read_footnotes(row, number)),
    )


def _read_text(row: Mapping[str, Any], name: str, number: int) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidRequest(f"row {number}: {name} must be text; {_REMEDY}")
    return _clean_text(str(value), name, number)


def _clean_text(text: str, name: str, number: int) -> str:
    """Return the text without markup, entities and control characters, with single spaces."""
    if len(text) > _MAX_TEXT:
        raise InvalidRequest(f"row {number}: {name} has more than {_MAX_TEXT:,} characters; {_REMEDY}")
    if "<" in text or "&" in text:
        text = html.unescape(_TAG.sub("", text))
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    return text if text.isprintable() else "".join(each for each in text if each.isprintable())


def _read_units(row: Mapping[str, Any], number: int) -> Iterator[str]:
    """Yield the units of quantity: a list in JSON, in CSV a list as JSON in a cell, or names with commas between them."""
    value = row.get("units") or []
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
        except (ValueError, RecursionError):
            raise InvalidRequest(f"row {number}: units {value[:40]!r} is not a list; {_REMEDY}") from None
    for text in _list_texts(value, "units", number):
        if text:
            yield text


def _read_footnotes(row: Mapping[str, Any], number: int) -> Iterator[str]:
    value = row.get("footnotes") or []
    notes = (
        [each.get("value") or "" if isinstance(each, dict) else each for each in value] if _is_list(value) else value
    )
    for text in _list_texts(notes, "footnotes", number):
        if text:
            yield text


def _list_texts(value: object, name: str, number: int) -> Iterator[str]:
    if not _is_list(value) or not all(isinstance(each, str) for each in value):
        raise InvalidRequest(f"row {number}: {name} must be a list of texts; {_REMEDY}")
    for each in value:
        yield _clean_text(each, name, number)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list)
