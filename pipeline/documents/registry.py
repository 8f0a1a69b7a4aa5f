"""The registry of document kinds, and the function that renders all documents of a unit in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from pipeline.core import tracing
from pipeline.core.metrics import observe
from pipeline.documents.formats import (
    entry_import,
    entry_worksheet,
    facts,
    invoice,
    invoice_pdf,
    manifest,
    package_labels,
    paps_cover_sheet,
    pga_records,
    pga_worksheet,
    section_232_statement,
    truck_manifest,
    ubl,
    usmca_certification,
    xlsx,
)
from pipeline.documents.formats import packing_list as formats_packing_list
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.metrics import DOCUMENT_SECONDS


@dataclass(frozen=True)
class Document:
    """One rendered document; the same invoice and `template_version` give the same `body`."""

    artifact_type: str
    filename: str
    media_type: str
    template_version: str
    body: bytes

    @property
    def digest(self) -> str:
        """The digest of the body, `sha256:<hex>`."""
        return f"sha256:{sha256(self.body).hexdigest()}"


def _always(_: Invoice) -> bool:
    return True


@dataclass(frozen=True)
class DocumentKind:
    """A document kind: its names, the function that makes its bytes from the invoice, and the invoices that have it."""

    artifact_type: str
    filename: str
    media_type: str
    template_version: str
    make: Callable[[Invoice], bytes]
    applies_to: Callable[[Invoice], bool] = _always


_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

#: All kinds except the manifest, in the order of rendering; a unit has those that apply to its invoice.
KINDS: tuple[DocumentKind, ...] = (
    DocumentKind(
        "cci_json",
        "commercial_customs_invoice.json",
        "application/json",
        invoice.JSON_VERSION,
        invoice.invoice_json,
    ),
    DocumentKind(
        "cci_csv",
        "commercial_customs_invoice.csv",
        "text/csv; charset=utf-8",
        invoice.CSV_VERSION,
        invoice.invoice_csv,
    ),
    DocumentKind(
        "cci_human_readable",
        "commercial_customs_invoice.html",
        "text/html; charset=utf-8",
        invoice.HTML_VERSION,
        invoice.invoice_html,
    ),
    DocumentKind(
        "cci_pdf", "commercial_customs_invoice.pdf", "application/pdf", invoice_pdf.VERSION, invoice_pdf.invoice_pdf
    ),
    DocumentKind("cci_ubl", "commercial_customs_invoice.xml", "application/xml", ubl.VERSION, ubl.invoice_ubl),
    DocumentKind(
        "cci_consolidated",
        "commercial_customs_invoice_consolidated.json",
        "application/json",
        invoice.CONSOLIDATED_VERSION,
        invoice.invoice_consolidated,
        invoice.has_mergeable_lines,
    ),
    DocumentKind("cci_xlsx", "commercial_customs_invoice.xlsx", _XLSX, xlsx.VERSION, xlsx.invoice_xlsx),
    DocumentKind(
        "packing_list",
        "packing_list.json",
        "application/json",
        formats_packing_list.JSON_VERSION,
        formats_packing_list.packing_list,
    ),
    DocumentKind(
        "packing_list_pdf",
        "packing_list.pdf",
        "application/pdf",
        formats_packing_list.PDF_VERSION,
        formats_packing_list.packing_list_pdf,
    ),
    DocumentKind(
        "package_labels",
        "package_labels.pdf",
        "application/pdf",
        package_labels.VERSION,
        package_labels.package_labels,
        package_labels.has_labels,
    ),
    DocumentKind(
        "paps_cover_sheet",
        "paps_cover_sheet.pdf",
        "application/pdf",
        paps_cover_sheet.VERSION,
        paps_cover_sheet.paps_cover_sheet,
        paps_cover_sheet.is_for_truck,
    ),
    DocumentKind(
        "truck_manifest",
        "truck_manifest.zip",
        "application/zip",
        truck_manifest.VERSION,
        truck_manifest.truck_manifest,
        truck_manifest.has_trip,
    ),
    DocumentKind(
        "pga_worksheet",
        "pga_worksheet.pdf",
        "application/pdf",
        pga_worksheet.VERSION,
        pga_worksheet.pga_worksheet,
        pga_worksheet.has_agencies,
    ),
    DocumentKind(
        "pga_records",
        "pga_records.txt",
        "text/plain; charset=us-ascii",
        pga_records.VERSION,
        pga_records.pga_records,
        pga_worksheet.has_agencies,
    ),
    DocumentKind(
        "section_232_statement",
        "section_232_statement.pdf",
        "application/pdf",
        section_232_statement.VERSION,
        section_232_statement.section_232_statement,
        section_232_statement.has_metals,
    ),
    DocumentKind(
        "usmca_certification",
        "usmca_certification.pdf",
        "application/pdf",
        usmca_certification.VERSION,
        usmca_certification.usmca_certification,
        usmca_certification.has_certifications,
    ),
    DocumentKind(
        "entry_estimate",
        "entry_estimate.json",
        "application/json",
        entry_import.JSON_VERSION,
        entry_import.entry_estimate,
        facts.has_estimate,
    ),
    DocumentKind(
        "entry_import",
        "entry_import.zip",
        "application/zip",
        entry_import.ZIP_VERSION,
        entry_import.entry_import,
        facts.has_estimate,
    ),
    DocumentKind(
        "entry_worksheet",
        "entry_worksheet.pdf",
        "application/pdf",
        entry_worksheet.VERSION,
        entry_worksheet.entry_worksheet,
        facts.has_estimate,
    ),
)

#: Kinds with personal data, which a partner gets only if it asks for them by name.
_ON_REQUEST: Final = frozenset({"truck_manifest"})

MANIFEST = ("manifest", "manifest.json", "application/json", manifest.VERSION)

ARTIFACT_TYPES: tuple[str, ...] = (*(kind.artifact_type for kind in KINDS), MANIFEST[0])


def is_wanted(artifact_type: str, wanted: Collection[str] | None) -> bool:
    """Return whether a partner gets the document that asks for the kinds `wanted`; None stands for the usual kinds."""
    return artifact_type not in _ON_REQUEST if wanted is None else artifact_type in wanted


def artifact_types(invoice: Invoice) -> tuple[str, ...]:
    """Return the artifact types of the documents of this invoice's unit, in the order of rendering."""
    return (*(kind.artifact_type for kind in KINDS if kind.applies_to(invoice)), MANIFEST[0])


def render_documents(invoice: Invoice) -> Iterator[Document]:
    """Yield the documents one at a time, the manifest last. A caller that keeps none has only one in memory.

    Raises RendererCrashed if the PDF engine dies, RendererUnavailable if it cannot work on this machine, and StepFailed if
    Typst rejects a document.
    """
    entries: list[manifest.ManifestEntry] = []
    for kind in KINDS:
        if not kind.applies_to(invoice):
            continue
        began = time.monotonic()
        with tracing.open_span("render_document", attributes={"document_kind": kind.artifact_type}):
            body = kind.make(invoice)
        observe(DOCUMENT_SECONDS, time.monotonic() - began, kind.artifact_type)
        document = Document(kind.artifact_type, kind.filename, kind.media_type, kind.template_version, body)
        entries.append(
            manifest.ManifestEntry(
                kind.artifact_type, kind.filename, kind.media_type, kind.template_version, len(body), document.digest
            )
        )
        yield document
    began = time.monotonic()
    body = manifest.unit_manifest(invoice, entries)
    observe(DOCUMENT_SECONDS, time.monotonic() - began, MANIFEST[0])
    yield Document(*MANIFEST, body)
