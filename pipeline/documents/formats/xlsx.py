"""The commercial invoice as a workbook: the lines of the CSV with typed cells, parties, packages, totals and findings."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import version

from pipeline.documents.formats.columns_folded import Cell, rows
from pipeline.documents.formats.sheets import TOO_LONG, Book
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Certificate, Invoice, PartyBlock

__all__ = ["TOO_LONG", "VERSION", "invoice_xlsx"]

#: The writer and the compressor are part of what decides the bytes.
VERSION = f"9/xlsxwriter-{version('xlsxwriter')}/zlib-{zlib.ZLIB_RUNTIME_VERSION}"

_WIDTHS = {
    "address": 34, "description": 48, "export_treatment_digest": 24, "manufacturer_addr1": 26, "manufacturer_name": 28,
    "message": 70, "name": 34, "notes": 40, "plan_hash": 24, "pga_data": 40, "remedy": 56, "source": 44, "pointer": 34,
    "sscc_list": 22, "treatment_digest": 24, "value": 60, "identifiers": 34, "email": 30, "invoice_date": 12,
}  # fmt: skip


def invoice_xlsx(invoice: Invoice) -> bytes:
    """Return the workbook; no text in it can become a formula or a link."""
    book = Book(f"Commercial invoice {invoice.header.number}", invoice.header.invoice_date)
    book.add_sheet("Lines", _line_table(invoice), _WIDTHS, frozen_columns=3)
    book.add_sheet("Parties", _party_table(invoice), _WIDTHS, frozen_columns=2)
    book.add_sheet("Packages", _package_table(invoice), _WIDTHS, frozen_columns=2)
    book.add_sheet("Totals", _total_table(invoice), _WIDTHS)
    book.add_sheet("Findings", _finding_table(invoice), _WIDTHS)
    book.add_sheet("Invoice", _head_table(invoice), _WIDTHS)
    return book.close()


def _line_table(invoice: Invoice) -> Iterator[Sequence[Cell]]:
    for at, row in enumerate(rows(invoice)):
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
    known_by = "; ".join(f"{each.name} {each.value.exact}" for each in party.identifiers)
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
            yield (*about, content.line_number, content.sku, content.quantity.exact, content.unit)


def _total_table(invoice: Invoice) -> Iterator[Sequence[Cell]]:
    totals, summary = invoice.totals, invoice.package_summary
    currency = totals.currency
    yield "total", "name", "unit", "amount"
    yield "goods_value", None, currency, totals.goods_value.exact
    for row in invoice.charges:
        yield "charge_in_prices" if row.included_in_prices else "charge", row.name, currency, row.amount.exact
    for row in invoice.discounts:
        yield "discount", row.name, currency, row.amount.exact
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
                yield name, _told(value)
    for row in invoice.certificates:
        yield "usmca_certificate", "; ".join(_certified(row))
    yield "test", _told(invoice.test)


def _certified(row: Certificate) -> Iterator[str]:
    yield f"{row.ref}: criterion {row.criterion}, certified by the {row.certifier_role} {row.certifier_name}"
    yield f"signed {row.signed_on}"
    if row.blanket_from is not None and row.blanket_to is not None:
        yield f"blanket period {row.blanket_from} to {row.blanket_to}"
    yield f"lines {row.lines_shown or 'none'}"
    yield from (f"{pair.name}: {pair.value}" for pair in row.told)


def _told(value: object) -> Cell:
    if isinstance(value, bool):
        return "Y" if value else "N"
    return value if isinstance(value, date | int) else str(value)
