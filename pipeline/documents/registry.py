"""The registry of document kinds, and the function that renders all documents of a unit in order."""

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
    #: Its name for people.
    label: str
    filename: str
    media_type: str
    template_version: str
    make: Callable[[Invoice], bytes]
    applies_to: Callable[[Invoice], bool] = _always
    #: The kind whose JSON has the facts that it prints, None if it has them itself.
    data: str | None = "cci_json"
    #: Whether it has personal data: a partner gets it only if it asks for it by name.
    on_request: bool = False


_JSON = "application/json"
_PDF = "application/pdf"
_ZIP = "application/zip"
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

#: All kinds except the manifest, in the order of rendering; a unit has those that apply to its invoice.
KINDS: tuple[DocumentKind, ...] = (
    DocumentKind(
        "cci_json",
        "invoice, JSON",
        "commercial_customs_invoice.json",
        _JSON,
        invoice.JSON_VERSION,
        invoice.invoice_json,
        data=None,
    ),
    DocumentKind(
        "cci_csv",
        "invoice, CSV",
        "commercial_customs_invoice.csv",
        "text/csv; charset=utf-8",
        invoice.CSV_VERSION,
        invoice.invoice_csv,
    ),
    DocumentKind(
        "cci_human_readable",
        "invoice, web page",
        "commercial_customs_invoice.html",
        "text/html; charset=utf-8",
        invoice.HTML_VERSION,
        invoice.invoice_html,
    ),
    DocumentKind(
        "cci_pdf", "invoice, PDF", "commercial_customs_invoice.pdf", _PDF, invoice_pdf.VERSION, invoice_pdf.invoice_pdf
    ),
    DocumentKind(
        "cci_ubl", "invoice, UBL", "commercial_customs_invoice.xml", "application/xml", ubl.VERSION, ubl.invoice_ubl
    ),
    DocumentKind(
        "cci_consolidated",
        "consolidated invoice, JSON",
        "commercial_customs_invoice_consolidated.json",
        _JSON,
        invoice.CONSOLIDATED_VERSION,
        invoice.invoice_consolidated,
        invoice.has_mergeable_lines,
        data=None,
    ),
    DocumentKind(
        "cci_xlsx", "invoice, Excel", "commercial_customs_invoice.xlsx", _XLSX, xlsx.VERSION, xlsx.invoice_xlsx
    ),
    DocumentKind(
        "packing_list",
        "packing list, JSON",
        "packing_list.json",
        _JSON,
        formats_packing_list.JSON_VERSION,
        formats_packing_list.packing_list,
        data=None,
    ),
    DocumentKind(
        "packing_list_pdf",
        "packing list, PDF",
        "packing_list.pdf",
        _PDF,
        formats_packing_list.PDF_VERSION,
        formats_packing_list.packing_list_pdf,
        data="packing_list",
    ),
    DocumentKind(
        "package_labels",
        "package labels, PDF",
        "package_labels.pdf",
        _PDF,
        package_labels.VERSION,
        package_labels.package_labels,
        package_labels.has_labels,
        data="packing_list",
    ),
    DocumentKind(
        "paps_cover_sheet",
        "PAPS cover sheet",
        "paps_cover_sheet.pdf",
        _PDF,
        paps_cover_sheet.VERSION,
        paps_cover_sheet.paps_cover_sheet,
        paps_cover_sheet.is_for_truck,
    ),
    DocumentKind(
        "truck_manifest",
        "truck manifest with the crew's data, CSV in a ZIP",
        "truck_manifest.zip",
        _ZIP,
        truck_manifest.VERSION,
        truck_manifest.truck_manifest,
        truck_manifest.has_trip,
        on_request=True,
    ),
    DocumentKind(
        "pga_worksheet",
        "PGA worksheet",
        "pga_worksheet.pdf",
        _PDF,
        pga_worksheet.VERSION,
        pga_worksheet.pga_worksheet,
        pga_worksheet.has_agencies,
    ),
    DocumentKind(
        "pga_records",
        "PGA records",
        "pga_records.txt",
        "text/plain; charset=us-ascii",
        pga_records.VERSION,
        pga_records.pga_records,
        pga_worksheet.has_agencies,
    ),
    DocumentKind(
        "section_232_statement",
        "Section 232 statement",
        "section_232_statement.pdf",
        _PDF,
        section_232_statement.VERSION,
        section_232_statement.section_232_statement,
        section_232_statement.has_metals,
    ),
    DocumentKind(
        "usmca_certification",
        "USMCA certification of origin",
        "usmca_certification.pdf",
        _PDF,
        usmca_certification.VERSION,
        usmca_certification.usmca_certification,
        usmca_certification.has_certifications,
    ),
    DocumentKind(
        "entry_estimate",
        "entry estimate, JSON",
        "entry_estimate.json",
        _JSON,
        entry_import.JSON_VERSION,
        entry_import.entry_estimate,
        facts.has_estimate,
        data=None,
    ),
    DocumentKind(
        "entry_import",
        "entry header and lines, CSV in a ZIP",
        "entry_import.zip",
        _ZIP,
        entry_import.ZIP_VERSION,
        entry_import.entry_import,
        facts.has_estimate,
        data="entry_estimate",
    ),
    DocumentKind(
        "entry_worksheet",
        "entry worksheet, PDF",
        "entry_worksheet.pdf",
        _PDF,
        entry_worksheet.VERSION,
        entry_worksheet.entry_worksheet,
        facts.has_estimate,
        data="entry_estimate",
    ),
)

MANIFEST = ("manifest", "manifest.json", "application/json", manifest.VERSION)

_BY_TYPE: Final = {each.artifact_type: each for each in KINDS}

ARTIFACT_TYPES: tuple[str, ...] = (*_BY_TYPE, MANIFEST[0])


def describe_kind(artifact_type: str) -> str:
    """Return a document kind in words. A kind that this version does not know keeps the words of its name."""
    if artifact_type == MANIFEST[0]:
        return "manifest of the documents"
    known = _BY_TYPE.get(artifact_type)
    return artifact_type.replace("_", " ") if known is None else known.label


def find_data_kind(artifact_type: str) -> str | None:
    """Return the kind whose JSON has the facts that this kind prints, None if it has them itself."""
    known = _BY_TYPE.get(artifact_type)
    return None if known is None else known.data


def is_wanted(artifact_type: str, wanted: Collection[str] | None) -> bool:
    """Return whether a partner gets the document that asks for the kinds `wanted`; None stands for the usual kinds."""
    if wanted is not None:
        return artifact_type in wanted
    known = _BY_TYPE.get(artifact_type)
    return known is None or not known.on_request


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
