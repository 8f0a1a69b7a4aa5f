"""The commercial invoice as CSV (RFC 4180, UTF-8 with byte order mark): one row a line, every number exact."""

from __future__ import annotations

import csv
from datetime import date
from decimal import Decimal
from io import StringIO

from pipeline.core.money import plain
from pipeline.documents.formats.columns_folded import Cell, defused, rows
from pipeline.documents.schemas.invoice import Invoice

VERSION = "5"


def invoice_csv(invoice: Invoice) -> bytes:
    """Return the table; text that a spreadsheet would run as a formula has an apostrophe before it."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for number, row in enumerate(rows(invoice)):
        if number == 0:
            writer.writerow(row)
        writer.writerow([_written(cell, first=place == 0) for place, cell in enumerate(row.values())])
    # Excel reads UTF-8 only after a byte order mark; import mappers skip it.
    return out.getvalue().encode("utf-8-sig")


def _written(cell: Cell, *, first: bool) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Decimal):
        return plain(cell)
    if isinstance(cell, date):
        return cell.isoformat()
    return defused(cell, first=first) if isinstance(cell, str) else str(cell)
