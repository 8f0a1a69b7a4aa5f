"""The render_documents step: it renders every document of a unit from its records and stores it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from pipeline.core.blob_store import ArtifactStore
from pipeline.core.findings import Finding
from pipeline.core.runtime import Runtime
from pipeline.customs import rulesets, treatment
from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.pga.worksheet import build_worksheet
from pipeline.deliveries.outbox.entry_facts import add_estimate, rule_words
from pipeline.documents import repository
from pipeline.documents.invoice.builder import InvoiceFacts, build_invoice
from pipeline.documents.invoice.repository import recorded_unit
from pipeline.documents.registry import Document, render_documents
from pipeline.documents.repository import ArtifactRow
from pipeline.documents.schemas.invoice import Invoice, InvoiceKind
from pipeline.exports.events import NewEvent
from pipeline.exports.plans import HashedPlan
from pipeline.exports.schemas.plan import Unit
from pipeline.exports.step_context import StepContext


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

    Raises RulesUnreadable and StepFailed.
    """
    # Whenever and wherever the export is rendered, it is by the rules with which it was accepted.
    with rulesets.use_stored(runtime, context.rules_hash):
        recorded = recorded_unit(runtime, context, rule_words())
        return _complete_invoice(recorded.invoice, recorded.unit, recorded.tariff)


def build_plan_invoice(
    hashed: HashedPlan,
    unit_no: int,
    *,
    package_number: str,
    revision: int,
    test: bool,
    findings: Sequence[Finding],
    kind: InvoiceKind = "commercial",
    french: bool = False,
    logo: bytes | None = None,
) -> Invoice:
    """Return the invoice of a unit of a plan that is not executed; its packages have only the labels that the plan gives.

    `unit_no` counts from 1. Its words are those of the rules in use.
    """
    plan = hashed.plan
    unit = plan.units[unit_no - 1]
    digests = {each.unit_ref: treatment.line_digests(each) for each in plan.units}
    by_unit = {unit_ref: treatment.unit_digest(by_line) for unit_ref, by_line in digests.items()}
    facts = InvoiceFacts(
        batch_id=plan.batch_id,
        account_id=plan.account_id,
        plan_hash=hashed.plan_hash,
        revision=revision,
        package_number=package_number,
        ruleset_id=plan.ruleset.id,
        ruleset_as_of=plan.ruleset.as_of,
        ssccs={each.package_ref: each.sscc for each in unit.packages if each.sscc},
        line_digests=digests[unit.unit_ref],
        unit_digest=by_unit[unit.unit_ref],
        treatment_digest=treatment.export_digest(by_unit),
        words=rule_words(),
        test=test,
        unit_no=unit_no,
        customs_broker=plan.broker.id,
        findings=findings,
        kind=kind,
        french=french,
        logo=logo,
    )
    return build_invoice(unit, facts)


def render_invoice(invoice: Invoice, unit: Unit) -> Iterator[Document]:
    """Yield the documents of `unit` one at a time, rendered from its invoice and the rules in use.

    Raises RendererCrashed, RendererUnavailable and StepFailed.
    """
    yield from render_documents(_complete_invoice(invoice, unit))


def _complete_invoice(invoice: Invoice, unit: Unit, tariff: str | None = None) -> Invoice:
    """Return the invoice with the worksheet of its agencies, if it has any, and the estimate."""
    if any(line.treatment.pga for line in invoice.lines):
        # Agencies ask for more than an invoice prints, so the worksheet is built from the plan's unit.
        digests = {line.line_ref: line.treatment_digest for line in invoice.lines}
        invoice = invoice.model_copy(update={"worksheet": build_worksheet(unit, entry_date(unit), digests)})
    return add_estimate(invoice, unit, tariff)


def write(session: Session, context: StepContext, rendered: RenderedDocuments) -> list[NewEvent]:
    """Record the documents; raise StoreUnavailable, after which a retry may succeed."""
    return repository.record_documents(session, rendered.store, rendered.rows)
