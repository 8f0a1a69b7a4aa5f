"""The consolidated invoice as JSON: lines of which customs is told the same as one, each with the lines it stands for."""

from __future__ import annotations

from typing import Any

from pipeline.documents.schemas.invoice import Invoice

VERSION = "1"

_SHOWN: dict[str, Any] = {
    "schema_version": True,
    "test": True,
    "provenance": True,
    "header": {"number", "invoice_date", "currency", "exchange_rate"},
    "totals": True,
    "consolidation": True,
}

_WORDING: dict[str, Any] = {"consolidation": {"lines": {"__all__": {"lines_shown"}}}}


def can_be_merged(invoice: Invoice) -> bool:
    """Tell whether any two lines of the invoice can be one."""
    return invoice.consolidation is not None


def invoice_consolidated(invoice: Invoice) -> bytes:
    """Return the merged lines as UTF-8 JSON in camelCase."""
    body = invoice.model_dump_json(by_alias=True, include=_SHOWN, exclude=_WORDING, indent=1)
    return body.encode() + b"\n"
