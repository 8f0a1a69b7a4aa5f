"""The render_documents step: it renders every document of a unit from its records and stores it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from pipeline.core.blob_store import ArtifactStore
from pipeline.core.runtime import Runtime
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.pga.worksheet import build_worksheet
from pipeline.documents import repository
from pipeline.documents.invoice.repository import recorded_invoice
from pipeline.documents.registry import Document, render_documents
from pipeline.documents.repository import ArtifactRow
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.events import NewEvent
from pipeline.exports.schemas.pga_worksheet import PgaWorksheet
from pipeline.exports.step_context import StepContext, load_unit_row, parse_unit


@dataclass(frozen=True)
class RenderedDocuments:
    """The rows of a unit's documents, and the store that holds the documents."""

    store: ArtifactStore
    rows: Sequence[ArtifactRow]


def prepare(runtime: Runtime, context: StepContext) -> RenderedDocuments:
    """Render the unit's documents into the store.

    Raises RendererCrashed, RendererUnavailable and StoreUnavailable, after which a retry may succeed, and Stopped.
    """
    rows = repository.store_documents(runtime, context, context.unit_no, render_unit(runtime, context))
    return RenderedDocuments(runtime.store, rows)


def render_unit(runtime: Runtime, context: StepContext) -> Iterator[Document]:
    """Yield the documents of the context's unit one at a time, rendered from its records; nothing is stored.

    Raises RendererCrashed, RendererUnavailable and StepFailed.
    """
    invoice = recorded_invoice(runtime, context)
    if any(line.treatment.pga for line in invoice.lines):
        invoice = invoice.model_copy(update={"worksheet": _worksheet(runtime, context, invoice)})
    yield from render_documents(invoice)


def write(session: Session, context: StepContext, rendered: RenderedDocuments) -> list[NewEvent]:
    """Record the documents; raise StoreUnavailable, after which a retry may succeed."""
    return repository.record_documents(session, rendered.store, rendered.rows)


def _worksheet(runtime: Runtime, context: StepContext, invoice: Invoice) -> PgaWorksheet:
    # Agencies ask for more than an invoice prints, so the worksheet is built from the plan's unit.
    with runtime.db.read() as session:
        unit = parse_unit(load_unit_row(session, context))
    return build_worksheet(unit, entry_date(unit), {line.line_ref: line.treatment_digest for line in invoice.lines})
