"""The render_documents step: every document of a unit, made from its recorded facts and kept in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select
from sqlmodel import Session, col

from pipeline.documents.kinds import render_documents
from pipeline.errors import StepFailed
from pipeline.events import EventType, NewEvent
from pipeline.ids import new_id
from pipeline.invoices import Facts, build_invoice
from pipeline.models import Artifact, Export, LineTreatment, Package
from pipeline.runtime import Runtime
from pipeline.schemas.invoice import Invoice
from pipeline.schemas.problems import Finding
from pipeline.steps import StepContext, plan_unit, unit_row


@dataclass(frozen=True)
class KeptDocument:
    """A document whose bytes are in the store."""

    artifact_type: str
    filename: str
    media_type: str
    template_version: str
    size: int
    sha256: str


def prepare(runtime: Runtime, context: StepContext) -> list[KeptDocument]:
    """Render the unit's documents one after another into the store.

    Raises RendererCrashed and StoreUnavailable, which are worth another try.
    """
    invoice = _invoice(runtime, context)
    return [
        KeptDocument(
            artifact_type=document.artifact_type,
            filename=document.filename,
            media_type=document.media_type,
            template_version=document.template_version,
            size=len(document.body),
            sha256=runtime.store.put(document.body),
        )
        for document in render_documents(invoice)
    ]


def write(session: Session, context: StepContext, kept: Sequence[KeptDocument]) -> list[NewEvent]:
    """Record the documents."""
    rows = [
        {
            "id": new_id("art"),
            "export_id": context.export_id,
            "unit_no": context.unit_no,
            "account_id": context.account_id,
            **vars(document),
        }
        for document in kept
    ]
    session.execute(insert(Artifact), rows)
    return [
        NewEvent(
            EventType.CUSTOMS_ARTIFACT_GENERATED,
            {
                "artifactId": row["id"],
                "unitNo": context.unit_no,
                "artifactType": row["artifact_type"],
                "filename": row["filename"],
                "size": row["size"],
                "sha256": row["sha256"],
            },
        )
        for row in rows
    ]


def _invoice(runtime: Runtime, context: StepContext) -> Invoice:
    with runtime.db.read() as session:
        row = unit_row(session, context)
        at_unit = (context.export_id, context.unit_no)
        ssccs = session.execute(
            select(col(Package.package_ref), col(Package.sscc)).where(
                col(Package.export_id) == at_unit[0], col(Package.unit_no) == at_unit[1], col(Package.sscc).is_not(None)
            )
        ).all()
        digests = session.execute(
            select(col(LineTreatment.line_ref), col(LineTreatment.digest)).where(
                col(LineTreatment.export_id) == at_unit[0], col(LineTreatment.unit_no) == at_unit[1]
            )
        ).all()
        findings = session.execute(select(col(Export.findings)).where(col(Export.id) == context.export_id)).scalar_one()
    if row.package_number is None:
        raise StepFailed(f"unit {row.unit_ref} has no customs package number; its packages were never recorded")
    facts = Facts(
        batch_id=context.batch_id,
        account_id=context.account_id,
        plan_hash=context.plan_hash,
        revision=context.revision,
        package_number=row.package_number,
        ruleset_id=context.ruleset_id,
        ruleset_as_of=context.ruleset_as_of,
        ssccs={ref: sscc for ref, sscc in ssccs if sscc is not None},
        line_digests=dict(digests),
        unit_digest=row.treatment_digest,
        treatment_digest=context.treatment_digest,
        test=context.test,
        unit_no=context.unit_no,
        findings=tuple(Finding.model_validate(finding) for finding in findings),
    )
    return build_invoice(plan_unit(row), facts)
