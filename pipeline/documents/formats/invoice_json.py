"""The commercial invoice as JSON: every exact fact once, decimals as strings, and none of the wording."""

from __future__ import annotations

from typing import Any

from pipeline.documents.schemas.invoice import Invoice

VERSION = "2"

_PARTY = {"address_lines", "contact_lines"}

#: What the model holds for people or for other documents: it repeats facts that are there as data.
WORDING: dict[str, Any] = {
    "parties": {
        "seller": _PARTY,
        "buyer": _PARTY,
        "ship_to": _PARTY,
        "importer_of_record": _PARTY,
        "manufacturers": {"__all__": {"address_lines", "lines_shown"}},
    },
    "lines": {"__all__": {"marks", "packages_shown", "attributes_shown"}},
    "certificates": {"__all__": {"lines_shown", "told"}},
    "metals": True,
    "consolidation": {"lines"},
    "package_summary": {"shown", "marks_shown"},
    "packages": {"__all__": {"size_shown"}},
}


def invoice_json(invoice: Invoice) -> bytes:
    """Return the invoice as UTF-8 JSON in camelCase."""
    return invoice.model_dump_json(by_alias=True, exclude=WORDING, indent=1).encode() + b"\n"
