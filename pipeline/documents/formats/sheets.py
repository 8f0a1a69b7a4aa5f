"""The writing of a workbook: sheets with a frozen head, typed cells, and no text that can become a formula or a link."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from pipeline.core.money import plain
from pipeline.documents.formats.columns_folded import Cell, defused

#: A spreadsheet's number is a binary float: 15 digits survive, more would be changed in silence.
EXACT_DIGITS = 15

#: Excel's limit of one cell, and what stands in a cell whose text is longer.
LONGEST_TEXT, TOO_LONG = 32_767, "too long for a cell: see commercial_customs_invoice.csv"

#: Characters of a column that is not named among the widths.
NARROW, USUAL = 9, 16

_HEAD = {"bold": True, "font_color": "#FFFFFF", "bg_color": "#12395B", "text_wrap": True, "valign": "vcenter"}

_DAY = "yyyy-mm-dd"


class Book:
    """A workbook in the making; `close` gives its bytes."""

    def __init__(self, title: str, day: date) -> None:
        self._out = BytesIO()
        # Rows go to disk as they are written, so that a large invoice does not live in memory a second time.
        self._book = xlsxwriter.Workbook(
            self._out,
            {
                "constant_memory": True,
                "strings_to_formulas": False,
                "strings_to_urls": False,
                "strings_to_numbers": False,
                "default_date_format": _DAY,
            },
        )
        # The creation date is part of the bytes: it is the invoice's own.
        self._book.set_properties({"title": title, "created": datetime.combine(day, datetime.min.time())})
        self._head = self._book.add_format(_HEAD)
        self._numbers: dict[int, Format] = {}
        self._day = self._book.add_format({"num_format": _DAY, "align": "left"})
        # A cell of text is never run. This keeps it text if a person opens it for editing and leaves it again.
        self._quoted = self._book.add_format({"quote_prefix": True})

    def add_sheet(
        self, name: str, table: Iterable[Sequence[Cell]], widths: Mapping[str, int], frozen_columns: int = 0
    ) -> None:
        """Write `table`, whose first row is the head, which stays in sight with the first `frozen_columns`."""
        sheet = self._book.add_worksheet(name)
        sheet.set_landscape()
        sheet.fit_to_pages(1, 0)
        sheet.repeat_rows(0)
        sheet.freeze_panes(1, frozen_columns)
        at = last = 0
        for at, cells in enumerate(table):
            if at == 0:
                last = len(cells) - 1
                sheet.set_row(0, 30)
                for column, title in enumerate(map(str, cells)):
                    sheet.set_column(column, column, widths.get(title, max(NARROW, min(USUAL, len(title) + 2))))
            for column, cell in enumerate(cells):
                self._write(sheet, at, column, cell, self._head if at == 0 else None)
        sheet.autofilter(0, 0, at, last)

    def close(self) -> bytes:
        """Finish the workbook and return it."""
        self._book.close()
        return self._out.getvalue()

    def _number(self, value: Decimal) -> Format:
        # Every digit that was given, and no more: 25.00 of dollars, 3925 of yen; thousands are grouped.
        digits = max(0, -int(value.as_tuple().exponent))
        if digits not in self._numbers:
            shown = "#,##0" + ("." + "0" * digits if digits else "")
            self._numbers[digits] = self._book.add_format({"num_format": shown})
        return self._numbers[digits]

    def _write(self, sheet: Worksheet, row: int, column: int, cell: Cell, style: Format | None) -> None:
        match cell:
            case None:
                pass
            case str():
                if style is None and defused(cell) != cell:
                    style = self._quoted
                # The writer drops a text that is too long for a cell without a word.
                sheet.write_string(row, column, cell if len(cell) <= LONGEST_TEXT else TOO_LONG, style)
            case date():
                sheet.write_datetime(row, column, datetime.combine(cell, datetime.min.time()), self._day)
            case Decimal() if len(cell.as_tuple().digits) > EXACT_DIGITS:
                sheet.write_string(row, column, plain(cell), style)
            case Decimal():
                # As the decimal that it is: by way of a float 88.4 would stand in the file as 88.40000000000001.
                sheet.write_number(row, column, cell, self._number(cell))
            case int():
                sheet.write_number(row, column, cell, style)
