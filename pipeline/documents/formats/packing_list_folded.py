"""The packing list: what lies in which package. It is an allow-list of facts: no price, and nothing that only customs needs."""

from __future__ import annotations

from typing import Any

from pipeline.documents.schemas.invoice import Invoice

VERSION = "1"

_PARTY = {"name", "address", "contact"}
_PACKAGE = {
    "number", "package_ref", "type", "sscc", "lpn", "parent_ref", "parent_number", "depth", "length_cm", "width_cm",
    "height_cm", "gross_weight_kg", "tare_weight_kg", "tracking_number", "order_id", "contents",
}  # fmt: skip

#: The facts of the invoice that a packing list shows.
SHOWN: dict[str, Any] = {
    "schema_version": True,
    "test": True,
    "provenance": True,
    "header": {"number", "invoice_date", "purchase_order"},
    "transport": {"mode_of_transport", "carrier_scac", "shipment_control_number", "export_date"},
    "parties": {"seller": _PARTY, "buyer": _PARTY, "ship_to": _PARTY},
    "lines": {
        "__all__": {
            "number", "line_ref", "order_id", "sku", "description", "quantity", "unit", "net_weight_kg",
            "gross_weight_kg", "treatment_digest", "package_refs",
        }
    },
    "totals": {"line_count", "quantities", "net_weight_kg", "gross_weight_kg"},
    "package_summary": {"count", "outermost_count", "by_type", "gross_weight_kg", "volume_m3"},
    "packages": {"__all__": _PACKAGE},
}  # fmt: skip


def packing_list(invoice: Invoice) -> bytes:
    """Return the packing list as UTF-8 JSON in camelCase."""
    return invoice.model_dump_json(by_alias=True, include=SHOWN, indent=1).encode() + b"\n"
