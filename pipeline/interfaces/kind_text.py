"""Document kinds and types of messages in words, for pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.deliveries.schemas.messages import CONNECTION_TEST, MessageType

_DOCUMENTS: Final[Mapping[str, str]] = {
    "cci_json": "invoice, JSON",
    "cci_csv": "invoice, CSV",
    "cci_human_readable": "invoice, web page",
    "cci_pdf": "invoice, PDF",
    "cci_ubl": "invoice, UBL",
    "cci_consolidated": "consolidated invoice, JSON",
    "cci_xlsx": "invoice, Excel",
    "packing_list": "packing list, JSON",
    "packing_list_pdf": "packing list, PDF",
    "package_labels": "package labels, PDF",
    "paps_cover_sheet": "PAPS cover sheet",
    "truck_manifest": "truck manifest with the crew's data, CSV in a ZIP",
    "pga_worksheet": "PGA worksheet",
    "pga_records": "PGA records",
    "section_232_statement": "Section 232 statement",
    "usmca_certification": "USMCA certification of origin",
    "entry_estimate": "entry estimate, JSON",
    "entry_import": "entry header and lines, CSV in a ZIP",
    "entry_worksheet": "entry worksheet, PDF",
    "manifest": "manifest of the documents",
}


def describe_document_kind(kind: str) -> str:
    """Return a document kind in words. A kind that this version does not know keeps the words of its name."""
    return _DOCUMENTS.get(kind) or kind.replace("_", " ")


def describe_message_type(event_type: str) -> str:
    """Return the type of a message in words. A type that this version does not know is returned as it is."""
    if event_type == CONNECTION_TEST:
        return "Connection test"
    return next((each.label for each in MessageType if each == event_type), event_type)
