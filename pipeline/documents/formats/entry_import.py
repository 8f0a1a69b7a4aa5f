"""The entry as data: the estimate in JSON, and header and entry lines as CSV files in one ZIP, to open an entry by import."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pipeline.documents.formats.cells import Cell, Columns, choose, of_part, read_columns
from pipeline.documents.formats.columns import list_entry_rows
from pipeline.documents.formats.entry_blocks import list_block_rows
from pipeline.documents.formats.entry_filing import (
    FILING_COLUMNS,
    PARTY_COLUMNS,
    has_filing,
    list_consignee_rows,
    party_columns,
)
from pipeline.documents.formats.facts import find_estimate
from pipeline.documents.formats.invoice import zip_tables
from pipeline.documents.formats.invoice_columns import INVOICE_COLUMNS, RECORD_COLUMNS
from pipeline.documents.formats.transport import TRANSPORT_COLUMNS, find_arrival, has_transport
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.entry_estimate import EntryEstimate

JSON_VERSION, ZIP_VERSION = "6", "14"

_SHOWN: dict[str, Any] = {
    "schema_version": True,
    "test": True,
    "provenance": True,
    "header": {"number", "invoice_date"},
}


def entry_estimate(invoice: Invoice) -> bytes:
    """Return the entry lines and the estimate as UTF-8 JSON in camelCase."""
    facts = invoice.model_dump(mode="json", by_alias=True, include=_SHOWN)
    facts["lines"] = [
        line.model_dump(mode="json", by_alias=True, exclude={"lines_shown"}) for line in invoice.entry_lines
    ]
    if invoice.filing is not None:
        facts["filing"] = invoice.filing.model_dump(mode="json", by_alias=True)
    facts["estimate"] = find_estimate(invoice).model_dump(mode="json", by_alias=True)
    return json.dumps(facts, ensure_ascii=False, indent=1).encode() + b"\n"


def entry_import(invoice: Invoice) -> bytes:
    """Return the ZIP with `header.csv`, `lines.csv`, `charges.csv`, `estimate.csv` and `blocks.csv`.

    The same facts give the same bytes.
    It has `filing.csv` and `consignees.csv` too if the plan says how the entry is filed, and `transport.csv` if it has a truck's
    trip or the Canadian side of the export.
    """
    estimate = find_estimate(invoice)
    tables: dict[str, Iterable[Mapping[str, Cell]]] = {
        "header.csv": [read_columns(_HEADER, invoice)],
        "lines.csv": list_entry_rows(invoice),
        "charges.csv": _charge_rows(estimate),
        "estimate.csv": _estimate_rows(estimate),
        "blocks.csv": list_block_rows(invoice, estimate),
    }
    if has_filing(invoice):
        tables |= {
            "filing.csv": [read_columns(FILING_COLUMNS, invoice)],
            "consignees.csv": list_consignee_rows(invoice),
        }
    if has_transport(invoice):
        tables |= {"transport.csv": [read_columns(TRANSPORT_COLUMNS, invoice)]}
    return zip_tables(tables, invoice.header.invoice_date)


def _find_export_country(invoice: Invoice) -> str | None:
    # With several, each row of `lines.csv` has its own.
    countries = {line.country_of_export for line in invoice.lines}
    return countries.pop() if len(countries) == 1 else None


_HEADER: Final[Columns[Invoice]] = {
    **choose(RECORD_COLUMNS, "invoice_no", "invoice_date"),
    **choose(INVOICE_COLUMNS, "entry_type", "entry_part", "entry_parts", "port_of_entry"),
    "entry_date": lambda invoice: find_estimate(invoice).entered_on,
    "summary_due": lambda invoice: None if (due := find_estimate(invoice).summary_due) is None else due.day,
    **choose(
        INVOICE_COLUMNS,
        "mode_of_transport", "mode_code", "carrier_scac", "shipment_control_number", "export_date",
    ),
    "export_country": _find_export_country,
    "estimated_arrival": find_arrival,
    **choose(INVOICE_COLUMNS, "importer_number"),
    **PARTY_COLUMNS["importer"],
    **of_part(lambda invoice: invoice.parties.ship_to, party_columns("consignee")),
    **PARTY_COLUMNS["buyer"],
    **PARTY_COLUMNS["seller"],
    **choose(INVOICE_COLUMNS, "incoterm", "incoterm_place"),
    **choose(RECORD_COLUMNS, "related_party"),
    "currency": lambda invoice: invoice.header.currency,
    "fx_rate": lambda invoice: find_estimate(invoice).exchange_rate,
    "goods_value": lambda invoice: find_estimate(invoice).total_value,
    **choose(INVOICE_COLUMNS, "invoice_total"),
    "dutiable_value": lambda invoice: find_estimate(invoice).total_dutiable_value,
    "entered_value_usd": lambda invoice: find_estimate(invoice).total_entered_value_usd,
    "entry_lines": lambda invoice: len(find_estimate(invoice).lines),
    "packages": lambda invoice: invoice.package_summary.manifest_count,
    "gross_kg": lambda invoice: invoice.totals.gross_weight_kg.exact,
    "net_kg": lambda invoice: invoice.totals.net_weight_kg.exact,
    **choose(
        RECORD_COLUMNS,
        "po_no", "batch_id", "package_no", "revision", "plan_hash", "export_treatment_digest", "test",
    ),
}  # fmt: skip


def _charge_rows(estimate: EntryEstimate) -> Iterator[dict[str, Cell]]:
    for row in estimate.adjustments:
        yield {
            "kind": row.kind,
            "name": row.name,
            "amount": row.amount,
            "currency": estimate.currency,
            "effect": row.effect,
            "reason": row.text,
            "source": row.source,
            "status": row.status,
        }


def _estimate_rows(estimate: EntryEstimate) -> Iterator[dict[str, Cell]]:
    names = ("of", "code", "rate", "base_usd", "estimated_usd", "note", "source")
    return (dict(zip(names, cells, strict=True)) for cells in _list_amounts(estimate))


def _list_amounts(estimate: EntryEstimate) -> Iterator[tuple[Cell, ...]]:
    sources = {row.heading: f"{row.source} ({row.status})" for row in estimate.heading_sources}
    for line in estimate.lines:
        for duty in line.duties:
            edition = None if duty.source is None else "; ".join((duty.source, *estimate.editions))
            base = line.entered_value_usd if duty.base_usd is None else duty.base_usd
            note = "; ".join(each for each in (duty.note, duty.arithmetic) if each) or None
            source = sources.get(duty.heading, edition)
            yield f"line {line.number}", duty.heading, duty.rate, base, duty.amount_usd, note, source
    for tax in estimate.taxes:
        note = f"tax on {tax.name}: {tax.arithmetic}" if tax.text is None else tax.text
        yield f"line {tax.line}", tax.section, tax.rate, None, tax.amount_usd, note, f"{tax.source} ({tax.status})"
    for fee in estimate.fees:
        note = f"{fee.name}: {fee.arithmetic}"
        yield "entry", fee.code, fee.rate, fee.base_usd, fee.amount_usd, note, f"{fee.source} ({fee.status})"
    for open_fee in estimate.unpriced_fees:
        yield "entry", open_fee.code, None, None, None, open_fee.text, f"{open_fee.source} ({open_fee.status})"
