"""Cells of tables: columns as names with getters, joined values, and no text that a spreadsheet runs as a formula."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from typing import TypeAlias, TypeVar

from pipeline.core.money import format_plain

Cell = str | Decimal | int | date | None

Whole = TypeVar("Whole")
Part = TypeVar("Part")

#: A spreadsheet cell takes 32,767 characters; a longer list is replaced by a reference to the packing list.
LONGEST_LIST = 32_000

# A spreadsheet reads text that begins with one of these characters, including full-width forms, as a formula.
_FORMULA_SIGNS = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"

# A telephone number and an article number may begin with a sign too: `+1 (416) 555-0100`, `-24-PAN`. An import program
# needs them unchanged. A formula that begins with plus or minus can leave its own sheet in two ways only. It calls a
# function (`name(`), or it names another program, book or sheet (`|`, `!`, `[`, `#`, quotes). So such a text stays
# unchanged if it has only letters, digits and the characters below, and no name before a parenthesis. A person who opens
# it may see #NAME? or a sum, but nothing is run.
_HARMLESS_TEXT = re.compile(r"[+\-\uff0b\uff0d][\w .+\-/()\uff0b\uff0d]*")
_CALL = re.compile(r"[^\W\d][\w.]*\s*\(")

#: Characters that start a new cell in a spreadsheet whose delimiter is not the file's: `;` in much of Europe.
CELL_SIGNS = ";"


#: Columns by name, in order; each getter takes the cell from the thing that a row is about.
Columns: TypeAlias = Mapping[str, Callable[[Whole], Cell]]


def read_columns(columns: Columns[Whole], whole: Whole) -> dict[str, Cell]:
    """Return the row of the columns as column name to value."""
    return {name: get(whole) for name, get in columns.items()}


def of_part(find: Callable[[Whole], Part | None], columns: Columns[Part]) -> Columns[Whole]:
    """Return the columns of a part as columns of the whole; they are None for a whole without the part."""

    def bind(get: Callable[[Part], Cell]) -> Callable[[Whole], Cell]:
        return lambda whole: None if (part := find(whole)) is None else get(part)

    return {name: bind(get) for name, get in columns.items()}


def choose(columns: Columns[Whole], *names: str) -> Columns[Whole]:
    """Return the columns with these names, in their order."""
    return {name: columns[name] for name in names}


def join_values(values: Iterable[object]) -> str | None:
    """Return the values joined by `|`; empty places are kept, so the third weight belongs to the third metal."""
    texts = [
        "" if value is None else format_plain(value) if isinstance(value, Decimal) else str(value) for value in values
    ]
    return "|".join(texts) if any(texts) else None


def join_list(values: Iterable[str]) -> str | None:
    """Return the texts joined by `|`; if they are too long for a cell, a reference to the packing list."""
    text = "|".join(values)
    return text or None if len(text) <= LONGEST_LIST else "see packing list"


def escape_formula(text: str, cell_signs: str = CELL_SIGNS, *, first: bool = False) -> str:
    """Return `text` with an apostrophe before everything that a spreadsheet would run as a formula.

    That is the beginning of the text, and each formula sign after one of `cell_signs`. Existing apostrophes there get one
    more, so that `unescape_formula` restores every text. With `first`, for the first column, every sign counts: a
    spreadsheet with another delimiter reads the other columns as part of it.
    """
    return _formula_pattern(cell_signs).sub(
        lambda found: f"{found[1]}'{found[2]}" if first or _is_formula(found) else found[0], text
    )


def unescape_formula(text: str, cell_signs: str = CELL_SIGNS, *, first: bool = False) -> str:
    """Return the original text of a cell that `escape_formula` wrote.

    `first` also reads tables of older releases, which escaped every sign.
    """
    return _formula_pattern(cell_signs).sub(
        lambda found: found[1] + found[2][1:] if first or _is_formula(found) else found[0], text
    )


def _is_formula(found: re.Match[str]) -> bool:
    if found[1]:
        return True
    cell = found.string[found.end() :]
    return _HARMLESS_TEXT.fullmatch(cell) is None or _CALL.search(cell) is not None


@cache
def _formula_pattern(cell_signs: str) -> re.Pattern[str]:
    return re.compile(rf"""(^|[{cell_signs}][\s"]*)('*)(?=[{_FORMULA_SIGNS}])""")
