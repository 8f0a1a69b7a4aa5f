"""The commercial invoice as a workbook: invoice and entry lines in typed cells, parties, packages, totals and findings."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from importlib.metadata import version
from io import BytesIO
from typing import TYPE_CHECKING

from pipeline.core.money import format_plain
from pipeline.documents.formats.cells import Cell, escape_formula
from pipeline.documents.formats.columns import list_entry_rows, list_line_rows
from pipeline.documents.formats.entry_filing import list_consignee_rows
from pipeline.documents.formats.facts import has_estimate
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Certificate, Invoice, PartyBlock

if TYPE_CHECKING:
    from xlsxwriter.format import Format
    from xlsxwriter.worksheet import Worksheet

#: A number in a spreadsheet is a binary float: it keeps 15 digits, and more would silently change.
EXACT_DIGITS = 15

#: Excel's limit for the text of a cell, and the text that replaces a longer one.
LONGEST_TEXT, TOO_LONG = 32_767, "too long for a cell: see commercial_customs_invoice.csv"

#: The width in characters of a column without an entry in the widths.
MIN_WIDTH, DEFAULT_WIDTH = 9, 16

#: Workbooks with more rows go to disk as they are written: a large invoice must not be in memory twice.
MAX_ROWS_IN_MEMORY = 1_000

_HEAD = {"bold": True, "font_color": "#FFFFFF", "bg_color": "#12395B", "text_wrap": True, "valign": "vcenter"}

_DAY = "yyyy-mm-dd"


class WorkbookWriter:
    """Writes a workbook of about `rows` rows sheet by sheet; `close` returns its bytes."""

    def __init__(self, title: str, day: date, rows: int) -> None:
        import xlsxwriter  # noqa: PLC0415 - of the processes that know the document kinds, few render one

        self._out = BytesIO()
        in_memory = rows <= MAX_ROWS_IN_MEMORY
        self._book = xlsxwriter.Workbook(
            self._out,
            {
                "in_memory": in_memory,
                "constant_memory": not in_memory,
                "strings_to_formulas": False,
                "strings_to_urls": False,
                "strings_to_numbers": False,
                "default_date_format": _DAY,
            },
        )
        # The creation date is part of the bytes, so it must be the invoice's date.
        self._book.set_properties({"title": title, "created": datetime.combine(day, datetime.min.time())})
        self._head = self._book.add_format(_HEAD)
        self._numbers: dict[int, Format] = {}
        self._day = self._book.add_format({"num_format": _DAY, "align": "left"})
        # A text cell is never run. This format keeps it text if a person edits the cell.
        self._quoted = self._book.add_format({"quote_prefix": True})

    def add_sheet(
        self, name: str, table: Iterable[Sequence[Cell]], widths: Mapping[str, int], frozen_columns: int = 0
    ) -> None:
        """Write a table. Its first row is the head, which stays visible, and so do the first `frozen_columns`."""
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
                    sheet.set_column(
                        column, column, widths.get(title, max(MIN_WIDTH, min(DEFAULT_WIDTH, len(title) + 2)))
                    )
            for column, cell in enumerate(cells):
                self._write(sheet, at, column, cell, self._head if at == 0 else None)
        sheet.autofilter(0, 0, at, last)

    def close(self) -> bytes:
        """Finish the workbook and return it."""
        self._book.close()
        return self._out.getvalue()

    def _number(self, value: Decimal) -> Format:
        # Exactly the given digits, such as 25.00 dollars or 3925 yen; thousands are grouped.
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
                if style is None and escape_formula(cell) != cell:
                    style = self._quoted
                # xlsxwriter silently drops a text that is too long for a cell.
                sheet.write_string(row, column, cell if len(cell) <= LONGEST_TEXT else TOO_LONG, style)
            case date():
                sheet.write_datetime(row, column, datetime.combine(cell, datetime.min.time()), self._day)
            case Decimal() if len(cell.as_tuple().digits) > EXACT_DIGITS:
                sheet.write_string(row, column, format_plain(cell), style)
            case Decimal():
                # Written as a Decimal: a float would put 88.4 into the file as 88.40000000000001.
                sheet.write_number(row, column, cell, self._number(cell))
            case int():
                sheet.write_number(row, column, cell, style)


__all__ = ["TOO_LONG", "VERSION", "invoice_xlsx"]

#: The bytes also depend on the versions of the writer and the compressor.
VERSION = f"18/xlsxwriter-{version('xlsxwriter')}/zlib-{zlib.ZLIB_RUNTIME_VERSION}"

_WIDTHS = {
    "address": 34, "consignee_addr1": 26, "consignee_name": 28, "consignee_number": 16, "description": 48, "export_treatment_digest": 24, "manufacturer_addr1": 26, "manufacturer_name": 28,
    "message": 70, "name": 34, "notes": 40, "plan_hash": 24, "pga_data": 40, "remedy": 56, "source": 44, "pointer": 34,
    "sscc_list": 22, "treatment_digest": 24, "value": 60, "identifiers": 34, "email": 30, "invoice_date": 12,
}  # fmt: skip


def invoice_xlsx(invoice: Invoice) -> bytes:
    """Return the workbook; none of its texts can become a formula or a link."""
    rows = len(invoice.lines) + len(invoice.packages) + len(invoice.entry_lines)
    book = WorkbookWriter(f"Commercial invoice {invoice.header.number}", invoice.header.invoice_date, rows)
    book.add_sheet("Lines", _with_names(list_line_rows(invoice)), _WIDTHS, frozen_columns=3)
    if has_estimate(invoice):
        book.add_sheet("Entry lines", _with_names(list_entry_rows(invoice)), _WIDTHS, frozen_columns=2)
    book.add_sheet("Parties", _party_table(invoice), _WIDTHS, frozen_columns=2)
    if invoice.parties.ultimate_consignees:
        book.add_sheet("Consignees", _with_names(list_consignee_rows(invoice)), _WIDTHS, frozen_columns=2)
    book.add_sheet("Packages", _package_table(invoice), _WIDTHS, frozen_columns=2)
    book.add_sheet("Totals", _total_table(invoice), _WIDTHS)
    book.add_sheet("Findings", _finding_table(invoice), _WIDTHS)
    book.add_sheet("Invoice", _head_table(invoice), _WIDTHS)
    return book.close()


def _with_names(rows: Iterable[Mapping[str, Cell]]) -> Iterator[Sequence[Cell]]:
    for at, row in enumerate(rows):
        if at == 0:
            yield tuple(row)
        yield tuple(row.values())


def _party_table(invoice: Invoice) -> Iterator[Sequence[Cell]]:
    yield (
        "role", "name", "line1", "line2", "city", "region", "postal_code", "country", "contact", "title", "email", "phone",
        "identifiers", "importer_number", "mid",
    )  # fmt: skip
    parties = invoice.parties
    for role in ("seller", "buyer", "ship_to"):
        yield *_party(role, getattr(parties, role)), None, None
    importer = parties.importer_of_record
    yield *_party("importer_of_record", importer), importer.importer_number.exact, None
    for maker in parties.manufacturers:
        where = maker.address
        yield (
            f"manufacturer {maker.ref}", maker.name, where.line1, where.line2, where.city, where.region, where.postal_code,
            where.country, None, None, None, None, None, None, maker.mid,
        )  # fmt: skip
    who = invoice.declaration
    yield (
        "responsible_employee", who.name, *[None] * 6, who.name, who.title, who.email, who.phone, None, None, None,
    )  # fmt: skip


def _party(role: str, party: PartyBlock) -> tuple[Cell, ...]:
    where, who = party.address, party.contact
    address = (
        (where.line1, where.line2, where.city, where.region, where.postal_code, where.country) if where else (None,) * 6
    )
    contact = (who.name, who.title, who.email, who.phone) if who else (None,) * 4
    known_by = "; ".join(f"{each.name.exact} {each.value.exact}" for each in party.identifiers)
    return (role, party.name, *address, *contact, known_by or None)


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
            yield (*about, content.line_number, content.sku, content.quantity.exact, content.unit.exact)


def _total_table(invoice: Invoice) -> Iterator[Sequence[Cell]]:
    totals, summary = invoice.totals, invoice.package_summary
    currency = totals.currency
    yield "total", "name", "unit", "amount"
    yield "goods_value", None, currency, totals.goods_value.exact
    for row in invoice.charges:
        yield "charge_in_prices" if row.included_in_prices else "charge", row.name, currency, row.amount.exact
    for discount in invoice.discounts:
        yield "discount", discount.name, currency, discount.amount.exact
    for rebate in invoice.rebates:
        yield "rebate", rebate.name, currency, rebate.amount.exact
    for assist in invoice.assist_items:
        yield "assist", assist.name, currency, None if assist.amount is None else assist.amount.exact
    yield "invoice_total", None, currency, totals.invoice_total.exact
    yield "lines", None, None, totals.line_count
    for quantity in totals.quantities:
        yield "quantity", None, quantity.unit, quantity.quantity.exact
    yield "net_weight", "lines", "kg", totals.net_weight_kg.exact
    yield "gross_weight", "lines", "kg", totals.gross_weight_kg.exact
    yield "gross_weight", "outermost packages", "kg", summary.gross_weight_kg.exact
    yield "volume", "outermost packages", "m3", summary.volume_m3.exact
    yield "packages", "manifest", None, summary.manifest_count
    yield "packages", "all", None, summary.count
    yield "packages", "outermost", None, summary.outermost_count
    for kind in summary.by_type:
        yield "packages", kind.type.exact, None, kind.count
    for metal in invoice.metal_totals:
        yield "metal_weight", metal.metal.exact, "kg", metal.metal_weight_kg.exact
    for group in invoice.classifications:
        name = " ".join((str(group.hts_code.exact), group.country_of_origin, *group.headings))
        yield "classification", name, currency, group.value.exact


def _finding_table(invoice: Invoice) -> Iterator[Sequence[Cell]]:
    yield "rule", "severity", "line_no", "message", "remedy", "source", "pointer"
    for row in invoice.findings:
        yield row.rule, row.severity, row.line_number, row.message, row.remedy, row.source, row.pointer


def _head_table(invoice: Invoice) -> Iterator[Sequence[Cell]]:
    yield "fact", "value"
    for model in (invoice.header, invoice.transport, invoice.provenance):
        for name, value in model.model_dump(context=FOR_PEOPLE).items():
            if value is not None:
                yield name, _to_cell(value)
    for row in invoice.certificates:
        yield "usmca_certificate", "; ".join(_describe_certificate(row))
    yield "test", _to_cell(invoice.test)


def _describe_certificate(row: Certificate) -> Iterator[str]:
    yield f"{row.ref}: criterion {row.criterion}, certified by the {row.certifier_role} {row.certifier_name}"
    yield f"signed {row.signed_on}"
    if row.blanket_from is not None and row.blanket_to is not None:
        yield f"blanket period {row.blanket_from} to {row.blanket_to}"
    yield f"lines {row.lines_shown or 'none'}"
    yield from (f"{pair.name}: {pair.value}" for pair in row.details)


def _to_cell(value: object) -> Cell:
    if isinstance(value, bool):
        return "Y" if value else "N"
    return value if isinstance(value, date | int) else str(value)
