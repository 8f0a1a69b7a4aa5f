"""Reads a report of entry summary lines: the duties and fees of each entry, and the rows that cannot be read."""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from io import StringIO
from typing import Final

from config import ace_report
from pipeline.core.errors import ValidationFailed
from pipeline.core.money import sum_exact, to_decimal
from pipeline.exports.schemas.filed_entries import BadRow, FiledColumns

#: The most rows and entries of a file, and the most rows above the names of the columns.
MAX_ROWS: Final = 20_000
MAX_ENTRIES: Final = 500
_MAX_TITLES: Final = 20
#: The most groups of lines that the source of an entry names.
_MAX_GROUPS: Final = 5

PROCESSING_FEE: Final = "499"
HARBOR_FEE: Final = "501"

_MONEY: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,2})?")
_ENTRY: Final = re.compile(r"[A-Z0-9]{3}[0-9]{8}")
_HEADING: Final = re.compile(r"[0-9][0-9.]{3,12}")

_REQUIRED: Final = {"entry": ace_report.ENTRY, "heading": ace_report.HEADING, "duty": ace_report.DUTY}
_OPTIONAL: Final = {
    "line": ace_report.LINE,
    "processing_fee": ace_report.PROCESSING_FEE,
    "harbor_fee": ace_report.HARBOR_FEE,
}


@dataclass
class ReadEntry:
    """What the file says of one entry, and the lines of the file with its rows."""

    lines: list[int] = field(default_factory=list)
    duties: dict[str, list[Decimal]] = field(default_factory=dict)
    processing_fees: set[Decimal] = field(default_factory=set)
    harbor_fees: dict[str, Decimal] = field(default_factory=dict)
    is_bad: bool = False

    @property
    def source(self) -> str:
        """Where the amounts were read, such as: entry summary CSV, lines 12-14."""
        groups: list[list[int]] = []
        for each in self.lines:
            if groups and each == groups[-1][-1] + 1:
                groups[-1] = [groups[-1][0], each]
            else:
                groups.append([each])
        named = ", ".join("-".join(map(str, group)) for group in groups[:_MAX_GROUPS])
        more = " and more" if len(groups) > _MAX_GROUPS else ""
        return f"entry summary CSV, line{'s' if len(self.lines) > 1 else ''} {named}{more}"

    @property
    def fees(self) -> dict[str, str]:
        """The fees of the entry by class code. One that no row says is left out."""
        fees = {}
        if self.processing_fees:
            (fee,) = self.processing_fees
            fees[PROCESSING_FEE] = f"{fee:.2f}"
        if self.harbor_fees:
            fees[HARBOR_FEE] = f"{sum_exact(self.harbor_fees.values()):.2f}"
        return fees


@dataclass
class ReadReport:
    """What a file says: its entries by number, the rows that cannot be read, and the columns that were found."""

    entries: dict[str, ReadEntry] = field(default_factory=dict)
    bad_rows: list[BadRow] = field(default_factory=list)
    columns: FiledColumns = field(default_factory=FiledColumns)

    @property
    def not_read(self) -> list[str]:
        """The fees that the file cannot say, each with the column that it lacks."""
        lacks = []
        if self.columns.processing_fee is None:
            lacks.append(f"merchandise processing fee: the file lacks the column {ace_report.PROCESSING_FEE}")
        if self.columns.harbor_fee is None:
            lacks.append(f"harbor maintenance fee: the file lacks the column {ace_report.HARBOR_FEE}")
        elif self.columns.line is None:
            lacks.append(f"harbor maintenance fee: without the column {ace_report.LINE} its rows cannot be added")
        return lacks


def read_report(text: str, given: FiledColumns) -> ReadReport:
    """Return what the file says, with the rows that cannot be read.

    Raises ValidationFailed if it is not CSV, lacks a column, or has too many rows or entries.
    """
    report = ReadReport()
    seen: dict[tuple[str, ...], int] = {}
    for line, row, cells in _list_rows(text, given, report):
        number = re.sub(r"[^A-Z0-9]", "", cells["entry"].upper())
        known = number if _ENTRY.fullmatch(number) else None
        entry = report.entries.setdefault(known, ReadEntry()) if known else ReadEntry()
        if len(report.entries) > MAX_ENTRIES:
            raise ValidationFailed(f"the file has more than {MAX_ENTRIES} entries; send a part of it", field="/text")
        entry.lines.append(line)
        if known is None:
            problem: str | None = f"{cells['entry'][:50]!r} is not an entry number"
        elif row in seen:
            problem = f"it repeats line {seen[row]}; remove one, or add the column {ace_report.LINE} to the report"
        else:
            problem = _read_row(entry, cells)
        seen.setdefault(row, line)
        if problem is not None:
            entry.is_bad = True
            report.bad_rows.append(BadRow(line=line, entry_number=known, text=problem))
    return report


def _read_row(entry: ReadEntry, cells: Mapping[str, str]) -> str | None:
    """Add a row to its entry. Return what is wrong with the row, or None."""
    if not _HEADING.fullmatch(cells["heading"]):
        return f"{cells['heading'][:50]!r} is not a tariff number"
    amounts = {}
    for name in ("duty", "processing_fee", "harbor_fee"):
        amount = cells.get(name, "").replace(",", "").removeprefix("$")
        if _MONEY.fullmatch(amount):
            amounts[name] = to_decimal(amount)
        elif amount or name == "duty":
            return f"{cells[name][:50]!r} is not an amount in USD"
    entry.duties.setdefault(cells["heading"].replace(".", ""), []).append(amounts["duty"])
    if "processing_fee" in amounts:
        entry.processing_fees.add(amounts["processing_fee"])
        if len(entry.processing_fees) > 1:
            return "the rows of the entry have different merchandise processing fees; give the fee of the whole entry"
    if "harbor_fee" in amounts and "line" in cells:
        if not cells["line"]:
            return "the row has a harbor maintenance fee and no number of its line"
        before = entry.harbor_fees.setdefault(cells["line"], amounts["harbor_fee"])
        if before != amounts["harbor_fee"]:
            return (
                f"the rows of line {cells['line'][:20]!r} have different harbor maintenance fees; give that of the line"
            )
    return None


def _list_rows(
    text: str, given: FiledColumns, report: ReadReport
) -> Iterator[tuple[int, tuple[str, ...], Mapping[str, str]]]:
    """Yield each row with its line of the file, its cells, and the cells of the columns that the file has."""
    places: dict[str, int] | None = None
    reader = csv.reader(StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    begins = 1
    try:
        for row_no, row in enumerate(reader, start=1):
            line, begins = begins, reader.line_num + 1
            if row_no > MAX_ROWS:
                raise ValidationFailed(f"the file has more than {MAX_ROWS} rows; send a part of it", field="/text")
            cells = tuple(each.strip() for each in row)
            if places is None:
                places = _find_columns(cells, given, report)
                if places is None and row_no > _MAX_TITLES:
                    break
            elif any(cells):
                yield line, cells, {key: cells[at] if at < len(cells) else "" for key, at in places.items()}
    except csv.Error as error:
        raise ValidationFailed(f"the file is not CSV: {error}; export the report as CSV", field="/text") from error
    if places is None:
        lacked = ", ".join(_name_columns(given, _REQUIRED).values())
        raise ValidationFailed(
            f"the file lacks one of the columns {lacked}; name its columns in `columns`", field="/columns"
        )


def _name_columns(given: FiledColumns, usual: Mapping[str, str]) -> dict[str, str]:
    return {key: getattr(given, key) or name for key, name in usual.items()}


def _find_columns(cells: tuple[str, ...], given: FiledColumns, report: ReadReport) -> dict[str, int] | None:
    """Return the places of the columns if this is the row of their names. Raises ValidationFailed if a given one is missing."""
    names = [each.casefold() for each in cells]
    wanted = _name_columns(given, _REQUIRED | _OPTIONAL)
    folded = {key: name.casefold() for key, name in wanted.items()}
    places = {key: names.index(name) for key, name in folded.items() if name in names}
    if not places.keys() >= _REQUIRED.keys():
        return None
    for key in _OPTIONAL:
        if getattr(given, key) is not None and key not in places:
            raise ValidationFailed(f"the file lacks the column {wanted[key]}; name another, or none", field="/columns")
    report.columns = FiledColumns(**{key: cells[at] for key, at in places.items()})
    return places
