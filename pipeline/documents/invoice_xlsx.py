"""The commercial invoice as a workbook: the lines of the CSV with numbers as numbers, the head, and the packages."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from io import BytesIO

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from pipeline.documents.columns import Cell, defused, rows
from pipeline.schemas.invoice import FOR_PEOPLE, Invoice, PartyBlock

#: The writer and the compressor are part of what decides the bytes.
VERSION = f"2/xlsxwriter-{version('xlsxwriter')}/zlib-{zlib.ZLIB_RUNTIME_VERSION}"

#: A spreadsheet's number is a binary float: 15 digits survive, more would be changed in silence.
EXACT_DIGITS = 15

#: Excel's limit of one cell, and what stands in a cell whose text is longer.
LONGEST_TEXT, TOO_LONG = 32_767, "too long for a cell: see commercial_customs_invoice.csv"

WIDE, NARROW, USUAL = 44, 8, 15


def invoice_xlsx(invoice: Invoice) -> bytes:
    """Return the workbook; no text in it can become a formula or a link."""
    out = BytesIO()
    # Rows go to disk as they are written, so that a large invoice does not live in memory a second time.
    book = xlsxwriter.Workbook(
        out,
        {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False},
    )
    # The creation date is part of the bytes: it is the invoice's own.
    book.set_properties(
        {
            "title": f"Commercial invoice {invoice.header.number}",
            "created": datetime.combine(invoice.header.invoice_date, datetime.min.time()),
        }
    )
    bold = book.add_format({"bold": True, "bottom": 1})
    _sheet(book.add_worksheet("Lines"), bold, _line_table(invoice))
    _sheet(book.add_worksheet("Invoice"), bold, _head_table(invoice))
    _sheet(book.add_worksheet("Packages"), bold, _package_table(invoice))
    book.close()
    return out.getvalue()


def _sheet(sheet: Worksheet, bold: Format, table: Iterable[Sequence[Cell]]) -> None:
    for at, cells in enumerate(table):
        if at == 0:
            sheet.freeze_panes(1, 0)
            for column, name in enumerate(cells):
                sheet.set_column(
                    column,
                    column,
                    WIDE if name in ("description", "value") else max(NARROW, min(USUAL, len(str(name)) + 2)),
                )
        for column, cell in enumerate(cells):
            _write(sheet, at, column, cell, bold if at == 0 else None)


def _write(sheet: Worksheet, row: int, column: int, cell: Cell, style: Format | None) -> None:
    if cell is None:
        return
    if isinstance(cell, str):
        text = defused(cell)
        # The writer drops a text that is too long for a cell without a word.
        sheet.write_string(row, column, text if len(text) <= LONGEST_TEXT else TOO_LONG, style)
    elif isinstance(cell, Decimal) and len(cell.as_tuple().digits) > EXACT_DIGITS:
        sheet.write_string(row, column, f"{cell:f}", style)
    else:
        sheet.write_number(row, column, float(cell), style)


def _line_table(invoice: Invoice) -> Iterator[Sequence[Cell]]:
    for at, row in enumerate(rows(invoice)):
        if at == 0:
            yield tuple(row)
        yield tuple(row.values())


def _head_table(invoice: Invoice) -> Iterator[Sequence[Cell]]:
    header, totals, provenance = invoice.header, invoice.totals, invoice.provenance
    importer = invoice.parties.importer_of_record
    yield "fact", "value", "amount"
    for model in (header, invoice.transport):
        for name, value in model.model_dump(mode="json", context=FOR_PEOPLE).items():
            if value is not None:
                yield name, {True: "Y", False: "N"}.get(value, value), None
    for role in ("seller", "buyer", "ship_to"):
        yield role, _block(getattr(invoice.parties, role)), None
    yield "importer_of_record", _block(importer), None
    yield "importer_number", importer.importer_number, None
    for row in invoice.charges:
        yield "charge", f"{row.name} (in the prices)" if row.included_in_prices else row.name, row.amount.exact
    for row in invoice.discounts:
        yield "discount", row.name, row.amount.exact
    yield "goods_value", totals.currency, totals.goods_value.exact
    yield "invoice_total", totals.currency, totals.invoice_total.exact
    yield "net_weight_kg", None, totals.net_weight_kg.exact
    yield "gross_weight_kg", None, totals.gross_weight_kg.exact
    yield "packages", invoice.package_summary.shown, invoice.package_summary.count
    for certificate in invoice.certificates:
        yield (
            "usmca_certificate",
            f"{certificate.ref}: criterion {certificate.criterion}, {certificate.certifier_name}",
            None,
        )
    yield "responsible_employee", _declarant(invoice), None
    for name, value in provenance.model_dump(mode="json").items():
        yield name, str(value), None
    yield "test", "Y" if invoice.test else "N", None


def _package_table(invoice: Invoice) -> Iterator[Sequence[Cell]]:
    yield (
        "package_no", "package_ref", "type", "sscc", "lpn", "parent_ref", "length_cm", "width_cm", "height_cm", "gross_kg",
        "tare_kg", "tracking_number", "order_id", "line_no", "sku", "qty", "uom",
    )  # fmt: skip
    for box in invoice.packages:
        about = (
            box.number, box.package_ref, box.type.exact, box.sscc, box.lpn, box.parent_ref, box.length_cm.exact,
            box.width_cm.exact, box.height_cm.exact, box.gross_weight_kg.exact, box.tare_weight_kg.exact,
            box.tracking_number, box.order_id,
        )  # fmt: skip
        if not box.contents:
            yield (*about, None, None, None, None)
        for content in box.contents:
            yield (*about, content.line_number, content.sku, content.quantity.exact, content.unit)


def _block(party: PartyBlock) -> str:
    return ", ".join((party.name, *party.address_lines, *party.contact_lines))


def _declarant(invoice: Invoice) -> str:
    who = invoice.declaration
    return ", ".join(part for part in (who.name, who.title, who.email, who.phone) if part)
