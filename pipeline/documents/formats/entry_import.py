"""The entry as data: the estimate in JSON, and header and entry lines as CSV files in one ZIP, to open an entry by import."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.documents.formats.columns import (
    Cell,
    agency_columns,
    attribute_columns,
    chapter98_columns,
    chapter99_columns,
    join_values,
    metal_columns,
    quantity_columns,
)
from pipeline.documents.formats.entry_blocks import list_block_rows
from pipeline.documents.formats.entry_filing import filing_columns, has_filing, list_consignee_rows, party_columns
from pipeline.documents.formats.invoice import zip_tables
from pipeline.documents.formats.line_declarations import declaration_columns
from pipeline.documents.formats.transport import has_transport, transport_columns
from pipeline.documents.schemas.declarations import MergedLine
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.entry_estimate import EntryEstimate, EntryLine

JSON_VERSION, ZIP_VERSION = "6", "14"

_SHOWN: dict[str, Any] = {
    "schema_version": True,
    "test": True,
    "provenance": True,
    "header": {"number", "invoice_date"},
}


def has_estimate(invoice: Invoice) -> bool:
    """Return whether the invoice has an estimate of its entry."""
    return invoice.estimate is not None


def find_estimate(invoice: Invoice) -> EntryEstimate:
    """Return the estimate of the invoice; raises ValueError if it has none."""
    if invoice.estimate is None:
        raise ValueError("the entry's documents need an invoice with an estimate; this one has none")
    return invoice.estimate


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
        "header.csv": [_header_row(invoice, estimate)],
        "lines.csv": list_entry_rows(invoice),
        "charges.csv": _charge_rows(estimate),
        "estimate.csv": _estimate_rows(estimate),
        "blocks.csv": list_block_rows(invoice, estimate),
    }
    if has_filing(invoice):
        tables |= {"filing.csv": [filing_columns(invoice)], "consignees.csv": list_consignee_rows(invoice)}
    if has_transport(invoice):
        tables |= {"transport.csv": [transport_columns(invoice)]}
    return zip_tables(tables, invoice.header.invoice_date)


def _header_row(invoice: Invoice, estimate: EntryEstimate) -> dict[str, Cell]:
    header, transport, parties = invoice.header, invoice.transport, invoice.parties
    importer = parties.importer_of_record
    return {
        "invoice_no": header.number,
        "invoice_date": header.invoice_date,
        "entry_type": str(transport.entry_type.exact),
        "entry_part": transport.entry_part,
        "entry_parts": transport.entry_parts,
        "port_of_entry": transport.port_of_entry,
        "entry_date": estimate.entered_on,
        "summary_due": None if estimate.summary_due is None else estimate.summary_due.day,
        "mode_of_transport": str(transport.mode_of_transport.exact),
        "mode_code": estimate.mode_code,
        "carrier_scac": transport.carrier_scac,
        "shipment_control_number": transport.shipment_control_number,
        "export_date": transport.export_date,
        "export_country": _find_export_country(invoice),
        "estimated_arrival": None if transport.estimated_arrival_at is None else transport.estimated_arrival_at.exact,
        "importer_number": str(importer.importer_number.exact),
        **party_columns("importer", importer),
        **party_columns("consignee", parties.ship_to),
        **party_columns("buyer", parties.buyer),
        **party_columns("seller", parties.seller),
        "incoterm": header.incoterm,
        "incoterm_place": header.incoterm_place,
        "related_party": "Y" if header.related_parties else "N",
        "currency": header.currency,
        "fx_rate": estimate.exchange_rate,
        "goods_value": estimate.total_value,
        "invoice_total": invoice.totals.invoice_total.exact,
        "dutiable_value": estimate.total_dutiable_value,
        "entered_value_usd": estimate.total_entered_value_usd,
        "entry_lines": len(estimate.lines),
        "packages": invoice.package_summary.manifest_count,
        "gross_kg": invoice.totals.gross_weight_kg.exact,
        "net_kg": invoice.totals.net_weight_kg.exact,
        "po_no": header.purchase_order,
        "batch_id": invoice.provenance.batch_id,
        "package_no": invoice.provenance.package_number,
        "revision": invoice.provenance.revision,
        "plan_hash": invoice.provenance.plan_hash,
        "export_treatment_digest": invoice.provenance.treatment_digest,
        "test": "Y" if invoice.test else "N",
    }


def _find_export_country(invoice: Invoice) -> str | None:
    # With several, each row of `lines.csv` has its own.
    countries = {line.country_of_export for line in invoice.lines}
    return countries.pop() if len(countries) == 1 else None


def list_entry_rows(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    """Yield the row of each entry line as column name to value, always with the same columns in the same order."""
    estimate = find_estimate(invoice)
    for merged, entry in zip(invoice.entry_lines, estimate.lines, strict=True):
        yield _line_row(merged, entry, invoice, estimate)


def _line_row(merged: MergedLine, entry: EntryLine, invoice: Invoice, estimate: EntryEstimate) -> dict[str, Cell]:
    headings, agencies = chapter99_columns(merged.treatment.chapter99), agency_columns(merged.treatment.pga)
    return {
        "entry_line": merged.number,
        "invoice_lines": "|".join(map(str, merged.line_numbers)),
        "description": join_values(merged.descriptions),
        "hts10": merged.hts_code.exact,
        **headings,
        **chapter98_columns(merged),
        "spi": merged.spi,
        "usmca_cert_ref": merged.usmca_certificate_ref,
        "origin": merged.country_of_origin,
        "export_country": merged.country_of_export,
        "mid": merged.mid,
        "manufacturer_name": merged.manufacturer_name,
        "qty": merged.quantity.exact,
        "uom": merged.unit,
        **quantity_columns(merged),
        "gross_kg": merged.gross_weight_kg.exact,
        "net_kg": merged.net_weight_kg.exact,
        "line_value": entry.value,
        "currency": invoice.header.currency,
        "adjustment": entry.adjustment,
        "dutiable_value": entry.dutiable_value,
        "fx_rate": estimate.exchange_rate,
        "dutiable_value_usd": entry.dutiable_value_usd,
        "entered_value_usd": entry.entered_value_usd,
        "charges_usd": entry.charges_usd,
        **metal_columns(merged.treatment.section232),
        **agencies,
        # Merged lines have equal attributes, apart from the number of the order.
        "ad_cvd_case": attribute_columns(invoice.lines[merged.line_numbers[0] - 1])["ad_cvd_case"],
        **declaration_columns(merged, invoice),
        "treatment_digests": "|".join(merged.treatment_digests),
    }


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
    sources = {row.heading: f"{row.source} ({row.status})" for row in estimate.heading_sources}
    for line in estimate.lines:
        for duty in line.duties:
            edition = None if duty.source is None else "; ".join((duty.source, *estimate.editions))
            yield {
                "of": f"line {line.number}",
                "code": duty.heading,
                "rate": duty.rate,
                "base_usd": line.entered_value_usd if duty.base_usd is None else duty.base_usd,
                "estimated_usd": duty.amount_usd,
                "note": "; ".join(each for each in (duty.note, duty.arithmetic) if each) or None,
                "source": sources.get(duty.heading, edition),
            }
    for tax in estimate.taxes:
        yield {
            "of": f"line {tax.line}",
            "code": tax.section,
            "rate": tax.rate,
            "base_usd": None,
            "estimated_usd": tax.amount_usd,
            "note": f"tax on {tax.name}: {tax.arithmetic}" if tax.text is None else tax.text,
            "source": f"{tax.source} ({tax.status})",
        }
    for fee in estimate.fees:
        yield {
            "of": "entry",
            "code": fee.code,
            "rate": fee.rate,
            "base_usd": fee.base_usd,
            "estimated_usd": fee.amount_usd,
            "note": f"{fee.name}: {fee.arithmetic}",
            "source": f"{fee.source} ({fee.status})",
        }
    for unpriced in estimate.unpriced_fees:
        yield {
            "of": "entry",
            "code": unpriced.code,
            "rate": None,
            "base_usd": None,
            "estimated_usd": None,
            "note": unpriced.text,
            "source": f"{unpriced.source} ({unpriced.status})",
        }


__all__ = [
    "JSON_VERSION",
    "ZIP_VERSION",
    "entry_estimate",
    "entry_import",
    "find_estimate",
    "has_estimate",
    "list_entry_rows",
]
