"""Reads the rows of a table that is imported, as a JSON array of objects or as CSV; a wrong row is an error with its number."""

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

#: A tariff number without points, and how many digits it has.
NUMBER: Final = re.compile(r"\d{4}(\d{2}){0,3}", re.ASCII)
LENGTHS: Final = (4, 6, 8, 10)
#: The digits of a number that has rates; the two behind them are a suffix.
RATE_DIGITS: Final = 8
#: Longest text of a cell. The longest descriptions, of chapter 99, have about 10,000 characters.
_MAX_TEXT: Final = 100_000
_MAX_ROWS: Final = 200_000
_MAX_ROW: Final = 1_000_000
#: The tariff of 2026 has about 15 MB; its rows are in memory together before they are written.
_MAX_BYTES: Final = 100 * 1024 * 1024
_CHUNK: Final = 65_536
_MOST_NAMED: Final = 500
#: Markup that separates words; other tags, such as those of an index, stand inside a word.
_BREAK: Final = re.compile(r"<(?:br|/?div|/?p|/?li)\b[^<>]{0,200}>", re.IGNORECASE)
_TAG: Final = re.compile(r"</?[A-Za-z][^<>]{0,200}>")
_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True)
class FileShape:
    """The members of the rows with their headers in a CSV, those that each row needs, and what to do with a wrong file."""

    headers: Mapping[str, str]
    needed: tuple[str, ...]
    remedy: str


def remove_points(text: str) -> str:
    """Return a tariff number without points and blanks."""
    return re.sub(r"[.\s]", "", text)


def check_size(path: Path, remedy: str) -> None:
    """Raise InvalidRequest if the file is too large to be read."""
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise InvalidRequest(f"the file has {size:,} bytes, and at most {_MAX_BYTES:,} are read; {remedy}")


def read_rows(path: Path, shape: FileShape) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the rows of the file with their numbers, from 1; the file is never in memory as a whole.

    Raises InvalidRequest with the number of the first wrong row, and what to do.
    """
    count = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for count, row in enumerate(_read_file(file, shape), start=1):
                if count > _MAX_ROWS:
                    raise InvalidRequest(f"the file has more than {_MAX_ROWS:,} rows; {shape.remedy}")
                missing = [name for name in shape.needed if name not in row]
                if missing:
                    raise InvalidRequest(f"row {count} lacks {', '.join(missing)}; {shape.remedy}")
                yield count, row
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"row {count + 1} is not UTF-8 text; {shape.remedy}") from error
    if not count:
        raise InvalidRequest(f"the file has no rows; {shape.remedy}")


def _read_file(file: TextIO, shape: FileShape) -> Iterator[Mapping[str, Any]]:
    start = file.read(1)
    while start.isspace():
        start = file.read(1)
    return _read_json(file, shape.remedy) if start == "[" else _read_csv(file, start, shape)


def _read_json(file: TextIO, remedy: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of the array whose opening bracket was read."""
    text, count = _skip_spaces(file, ""), 0
    while not text.startswith("]"):
        if count:
            if not text.startswith(","):
                raise InvalidRequest(f"a comma or the closing bracket must follow row {count}; {remedy}")
            text = _skip_spaces(file, text[1:])
        row, text = _read_object(file, text, count + 1, remedy)
        text = _skip_spaces(file, text)
        count += 1
        yield row
    if _skip_spaces(file, text[1:]):
        raise InvalidRequest(f"nothing may follow the closing bracket after row {count}; {remedy}")


def _skip_spaces(file: TextIO, text: str) -> str:
    text = text.lstrip()
    while not text and (more := file.read(_CHUNK)):
        text = more.lstrip()
    return text


def _read_object(file: TextIO, text: str, number: int, remedy: str) -> tuple[Mapping[str, Any], str]:
    """Return the object that the text begins with, and the text after it; more of the file is read as needed."""
    while True:
        try:
            row, end = _DECODER.raw_decode(text)
        except ValueError:
            more = file.read(_CHUNK) if len(text) <= _MAX_ROW else ""
            if not more:
                raise InvalidRequest(f"row {number} is not complete JSON; {remedy}") from None
            text += more
        except RecursionError:
            raise InvalidRequest(f"row {number} is nested too deep; {remedy}") from None
        else:
            if not isinstance(row, dict):
                raise InvalidRequest(f"row {number} must be an object; {remedy}")
            return row, text[end:]


def _read_csv(file: TextIO, start: str, shape: FileShape) -> Iterator[Mapping[str, Any]]:
    reader = csv.reader(_prepend(start, file), strict=True)
    try:
        headers = [cell.strip() for cell in next(reader, [])]
        missing = [shape.headers[name] for name in shape.needed if shape.headers[name] not in headers]
        if missing:
            raise InvalidRequest(
                f"the file is neither a JSON array nor a CSV with these columns: {', '.join(missing)}; {shape.remedy}"
            )
        places = {name: headers.index(header) for name, header in shape.headers.items() if header in headers}
        for number, cells in enumerate((cells for cells in reader if cells), start=1):
            if len(cells) != len(headers):
                raise InvalidRequest(f"row {number} has {len(cells)} cells instead of {len(headers)}; {shape.remedy}")
            yield {name: cells[place] for name, place in places.items()}
    except csv.Error as error:
        raise InvalidRequest(f"line {reader.line_num} is not CSV: {error}; {shape.remedy}") from error


def _prepend(start: str, file: TextIO) -> Iterator[str]:
    yield start + file.readline()
    yield from file


def read_text(row: Mapping[str, Any], name: str, number: int, remedy: str) -> str:
    """Return a text of the row without markup and entities, empty if it is not given."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidRequest(f"row {number}: {name} must be text; {remedy}")
    return _clean_text(str(value), name, number, remedy)


def _clean_text(text: str, name: str, number: int, remedy: str) -> str:
    """Return the text without markup, entities and control characters, with single spaces."""
    if len(text) > _MAX_TEXT:
        raise InvalidRequest(f"row {number}: {name} has more than {_MAX_TEXT:,} characters; {remedy}")
    if "<" in text or "&" in text:
        text = html.unescape(_TAG.sub("", _BREAK.sub(" ", text)))
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    return text if text.isprintable() else "".join(each for each in text if each.isprintable())


def list_texts(value: object, name: str, number: int, remedy: str) -> Iterator[str]:
    """Yield the texts of a list as `read_text` does."""
    if not is_list(value) or not all(isinstance(each, str) for each in value):
        raise InvalidRequest(f"row {number}: {name} must be a list of texts; {remedy}")
    for each in value:
        yield _clean_text(each, name, number, remedy)


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Return whether the value is a JSON array."""
    return isinstance(value, list)


def split_chunks(values: Sequence[str]) -> Iterator[list[str]]:
    """Yield the values in parts that one query can name."""
    for start in range(0, len(values), _MOST_NAMED):
        yield list(values[start : start + _MOST_NAMED])
