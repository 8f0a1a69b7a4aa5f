"""Builds the invoice of a unit from its recorded plan, package labels, digests and findings."""

from __future__ import annotations

from sqlalchemy import select
from sqlmodel import col

from pipeline.core.errors import StepFailed
from pipeline.core.findings import Finding
from pipeline.core.runtime import Runtime
from pipeline.documents.invoice.builder import InvoiceFacts, build_invoice
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.models import Export, ExportPackage, LineTreatment
from pipeline.exports.step_context import StepContext, load_unit_row, parse_unit


def recorded_invoice(runtime: Runtime, context: StepContext) -> Invoice:
    """Return the invoice of the context's unit.

    Raises StepFailed if its packages were never recorded.
    """
    with runtime.db.read() as session:
        row = load_unit_row(session, context)
        at_unit = (context.export_id, context.unit_no)
        ssccs = session.execute(
            select(col(ExportPackage.package_ref), col(ExportPackage.sscc)).where(
                col(ExportPackage.export_id) == at_unit[0],
                col(ExportPackage.unit_no) == at_unit[1],
                col(ExportPackage.sscc).is_not(None),
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
    facts = InvoiceFacts(
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
    return build_invoice(parse_unit(row), facts)
