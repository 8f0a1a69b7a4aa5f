"""Reads the official tariff file of the USITC, as JSON or CSV, row by row; a wrong row is an error with its number."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.core.errors import InvalidRequest
from pipeline.customs.tariff.rows import NUMBER, FileShape, is_list, list_texts, read_rows, read_text, remove_points

_MAX_INDENT: Final = 30
_REMEDY: Final = "import the file as the USITC publishes it"
SHAPE: Final = FileShape(
    headers={
        "htsno": "HTS Number",
        "indent": "Indent",
        "description": "Description",
        "units": "Unit of Quantity",
        "general": "General Rate of Duty",
        "special": "Special Rate of Duty",
        "other": "Column 2 Rate of Duty",
        "quotaQuantity": "Quota Quantity",
        "additionalDuties": "Additional Duties",
    },
    needed=("htsno", "indent", "description"),
    remedy=_REMEDY,
)


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


def read_lines(path: Path) -> Iterator[TariffLine]:
    """Yield the rows of the tariff file in its order; the file is never in memory as a whole.

    Raises InvalidRequest with the number of the first wrong row, and what to do.
    """
    for number, row in read_rows(path, SHAPE):
        yield _read_line(row, number)


def _read_line(row: Mapping[str, Any], number: int) -> TariffLine:
    digits = remove_points(read_text(row, "htsno", number, _REMEDY))
    if digits and not NUMBER.fullmatch(digits):
        raise InvalidRequest(
            f"row {number}: htsno {str(row['htsno'])[:40]!r} is not a number of 4, 6, 8 or 10 digits; {_REMEDY}"
        )
    indent = read_text(row, "indent", number, _REMEDY)
    if not (indent.isascii() and indent.isdecimal() and int(indent[:4]) <= _MAX_INDENT):
        raise InvalidRequest(f"row {number}: indent {indent[:40]!r} is not a number from 0 to {_MAX_INDENT}; {_REMEDY}")
    return TariffLine(
        number=digits,
        indent=int(indent),
        description=read_text(row, "description", number, _REMEDY),
        units=tuple(_read_units(row, number)),
        general=read_text(row, "general", number, _REMEDY),
        special=read_text(row, "special", number, _REMEDY),
        other=read_text(row, "other", number, _REMEDY),
        quota_quantity=read_text(row, "quotaQuantity", number, _REMEDY),
        # The USITC writes the second name in some rows, and both in others.
        additional_duties=read_text(row, "additionalDuties", number, _REMEDY)
        or read_text(row, "addiitionalDuties", number, _REMEDY),
        footnotes=tuple(_read_footnotes(row, number)),
    )


def _read_units(row: Mapping[str, Any], number: int) -> Iterator[str]:
    """Yield the units of quantity: a list in JSON, in CSV a list as JSON in a cell, or names with commas between them."""
    value = row.get("units") or []
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
        except (ValueError, RecursionError):
            raise InvalidRequest(f"row {number}: units {value[:40]!r} is not a list; {_REMEDY}") from None
    for text in list_texts(value, "units", number, _REMEDY):
        # The USITC writes two units of some numbers as one text, such as "No. and kg".
        yield from filter(None, map(str.strip, re.split(r",|\band\b", text)))


def _read_footnotes(row: Mapping[str, Any], number: int) -> Iterator[str]:
    value = row.get("footnotes") or []
    notes = [each.get("value") or "" if isinstance(each, dict) else each for each in value] if is_list(value) else value
    for text in list_texts(notes, "footnotes", number, _REMEDY):
        if text:
            yield text
