"""The Section 232 statement as a printed page in US Letter: what the importer declares per line and metal."""

import json
from typing import Any

from pipeline.documents.pdf.typesetter import ENGINE, TypstTemplate, plan_parts, typeset
from pipeline.documents.schemas.declarations import MetalRow
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice

VERSION = f"12/{ENGINE}"

#: The size of a metal row in addition to its wording, in characters.
ROW_CHARACTERS = 420

_PRINTED: dict[str, Any] = {
    "test": True,
    "provenance": True,
    "header": {"number", "invoice_date", "currency"},
    "transport": {"entry_type", "port_shown", "export_date"},
    "parties": {
        "seller": {"name", "address_lines", "contact_lines"},
        "importer_of_record": {"name", "address_lines", "contact_lines", "importer_number"},
    },
    "metals": True,
    "metal_totals": True,
    "declaration": {"name", "title", "email", "phone"},
}


def has_metals(invoice: Invoice) -> bool:
    """Return whether any line of the invoice has a metal to declare."""
    return bool(invoice.metals)


def section_232_statement(invoice: Invoice) -> bytes:
    """Return the PDF."""
    return typeset(invoice, TEMPLATE, plan_parts(map(_size, invoice.metals)))


def _size(row: MetalRow) -> int:
    return ROW_CHARACTERS + len(row.description) + 40 * len(row.headings)


def _facts(invoice: Invoice, cut: slice) -> bytes:
    some = invoice.model_copy(update={"metals": invoice.metals[cut]})
    facts = some.model_dump(mode="json", include=_PRINTED, context=FOR_PEOPLE)
    # Without merged lines, the entry lines have the numbers of the invoice lines.
    entry_lines = {} if invoice.consolidation is None else invoice.entry_line_numbers
    for row in facts["metals"]:
        row["entry_line"] = entry_lines.get(row["line_number"])
    return json.dumps(facts, ensure_ascii=False).encode()


def _remarks(invoice: Invoice, _cut: slice) -> dict[str, Any]:
    return {"lines": len({row.line_number for row in invoice.metals})}


TEMPLATE = TypstTemplate("section_232_statement.typ", _facts, _remarks)
