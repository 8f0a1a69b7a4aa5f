"""The commercial invoice as CSV (RFC 4180, UTF-8 with byte order mark, exact numbers), JSON and HTML."""

import csv
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from pipeline.core.money import format_plain
from pipeline.core.templating import render
from pipeline.documents.formats.cells import Cell, escape_formula
from pipeline.documents.formats.columns import list_line_rows
from pipeline.documents.formats.french import choose_words
from pipeline.documents.schemas.invoice import Invoice

CSV_VERSION = "7"


def invoice_csv(invoice: Invoice) -> bytes:
    """Return the table with one row per line; text that a spreadsheet would run as a formula gets an apostrophe."""
    return write_table(list_line_rows(invoice))


def write_table(rows: Iterable[Mapping[str, Cell]]) -> bytes:
    """Return the rows, which all have the same columns, as CSV under their names; without a row the table is empty."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for number, row in enumerate(rows):
        if number == 0:
            writer.writerow(row)
        writer.writerow([_format_cell(cell, first=place == 0) for place, cell in enumerate(row.values())])
    # Excel reads UTF-8 only after a byte order mark; import mappers skip it.
    return out.getvalue().encode("utf-8-sig")


def zip_tables(tables: Mapping[str, Iterable[Mapping[str, Cell]]], day: date) -> bytes:
    """Return a ZIP with each table as a CSV file under its name, dated `day`; the same tables give the same bytes."""
    out = BytesIO()
    # A ZIP knows no other years.
    dated = (min(max(day.year, 1980), 2107), day.month, day.day, 0, 0, 0)
    with ZipFile(out, "w", ZIP_STORED) as archive:
        for name, rows in tables.items():
            archive.writestr(ZipInfo(name, dated), write_table(rows))
    return out.getvalue()


def _format_cell(cell: Cell, *, first: bool) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Decimal):
        return format_plain(cell)
    if isinstance(cell, date):
        return cell.isoformat()
    return escape_formula(cell, first=first) if isinstance(cell, str) else str(cell)


JSON_VERSION = "3"

_PARTY = {"address_lines", "contact_lines"}

#: The fields of the model for people or for other documents, which repeat facts that the JSON has as data.
WORDING: dict[str, Any] = {
    "transport": {"port_shown"},
    "parties": {
        "seller": _PARTY,
        "buyer": _PARTY,
        "ship_to": _PARTY,
        "importer_of_record": _PARTY,
        "manufacturers": {"__all__": {"address_lines", "lines_shown"}},
    },
    "lines": {"__all__": {"marks", "packages_shown", "attributes_shown"}},
    "certificates": {"__all__": {"lines_shown", "details"}},
    "metals": True,
    "consolidation": {"lines"},
    "package_summary": {"shown", "marks_shown"},
    "packages": {"__all__": {"size_shown"}},
}


def invoice_json(invoice: Invoice) -> bytes:
    """Return the invoice as UTF-8 JSON in camelCase."""
    return invoice.model_dump_json(by_alias=True, exclude=WORDING, indent=1).encode() + b"\n"


CONSOLIDATED_VERSION = "1"

_SHOWN: dict[str, Any] = {
    "schema_version": True,
    "test": True,
    "provenance": True,
    "header": {"number", "invoice_date", "currency", "exchange_rate"},
    "totals": True,
    "consolidation": True,
}

_WORDING: dict[str, Any] = {"consolidation": {"lines": {"__all__": {"lines_shown"}}}}


def has_mergeable_lines(invoice: Invoice) -> bool:
    """Return whether any two lines of the invoice can be merged."""
    return invoice.consolidation is not None


def invoice_consolidated(invoice: Invoice) -> bytes:
    """Return the merged lines as UTF-8 JSON in camelCase."""
    body = invoice.model_dump_json(by_alias=True, include=_SHOWN, exclude=_WORDING, indent=1)
    return body.encode() + b"\n"


HTML_VERSION = "11"


def invoice_html(invoice: Invoice) -> bytes:
    """Return the HTML page in UTF-8."""
    say = choose_words(french=invoice.french)
    logo = None if invoice.logo is None else f"data:image/png;base64,{b64encode(invoice.logo).decode()}"
    summarised = has_summary(invoice)
    page = render(
        "documents/commercial_customs_invoice.html", invoice=invoice, say=say, logo=logo, summarised=summarised
    )
    return page.encode()


def has_summary(invoice: Invoice) -> bool:
    """Return whether the sums by classification say more than the lines: there are several, and fewer than lines."""
    return 1 < len(invoice.classifications) < len(invoice.lines)
