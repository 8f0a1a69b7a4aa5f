"""The render_documents step: it renders every document of a unit from its records and stores it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, select
from sqlmodel import Session

from pipeline.accounts.models import Partner
from pipeline.core.blob_store import ArtifactStore
from pipeline.core.db import table
from pipeline.core.runtime import Runtime
from pipeline.customs import rulesets
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.pga.worksheet import build_worksheet
from pipeline.deliveries.entry_facts import add_estimate
from pipeline.documents import repository
from pipeline.documents.invoice.repository import recorded_unit
from pipeline.documents.registry import Document, render_documents
from pipeline.documents.repository import ArtifactRow
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.events import NewEvent
from pipeline.exports.schemas.plan import Unit
from pipeline.exports.step_context import StepContext

_partners = table(Partner).c
_FIND_NAME: Final = select(_partners.name).where(
    _partners.account_id == bindparam("of_account"), _partners.id == bindparam("of_partner")
)


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

    Raises RendererCrashed, RendererUnavailable, RulesUnreadable and StepFailed.
    """
    yield from render_documents(load_invoice(runtime, context))


def load_invoice(runtime: Runtime, context: StepContext) -> Invoice:
    """Return the invoice of the context's unit, with the worksheet of its agencies and the estimate of the entry.

    A customs broker that was renamed since has its new name. Raises RulesUnreadable and StepFailed.
    """
    invoice, unit = recorded_unit(runtime, context)
    with runtime.db.read() as session:
        name = session.scalar(_FIND_NAME, {"of_account": context.account_id, "of_partner": context.broker_id})
    # Whenever and wherever the export is rendered, it is by the rules with which it was accepted.
    with rulesets.use_stored(runtime, context.rules_hash):
        return _complete_invoice(invoice.model_copy(update={"customs_broker": name or context.broker_id}), unit)


def render_invoice(invoice: Invoice, unit: Unit) -> Iterator[Document]:
    """Yield the documents of `unit` one at a time, rendered from its invoice and the rules in use.

    Raises RendererCrashed, RendererUnavailable and StepFailed.
    """
    yield from render_documents(_complete_invoice(invoice, unit))


def _complete_invoice(invoice: Invoice, unit: Unit) -> Invoice:
    """Return the invoice with the worksheet of its agencies, if it has any, and the estimate of the entry."""
    if any(line.treatment.pga for line in invoice.lines):
        # Agencies ask for more than an invoice prints, so the worksheet is built from the plan's unit.
        digests = {line.line_ref: line.treatment_digest for line in invoice.lines}
        invoice = invoice.model_copy(update={"worksheet": build_worksheet(unit, entry_date(unit), digests)})
    return add_estimate(invoice, unit)


def write(session: Session, context: StepContext, rendered: RenderedDocuments) -> list[NewEvent]:
    """Record the documents; raise StoreUnavailable, after which a retry may succeed."""
    return repository.record_documents(session, rendered.store, rendered.rows)
