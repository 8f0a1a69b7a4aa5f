"""Builds the invoice of a unit from its recorded plan, package labels, digests and findings."""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, literal, select, union_all

from pipeline.core.db import table
from pipeline.core.errors import StepFailed
from pipeline.core.findings import Finding
from pipeline.core.runtime import Runtime
from pipeline.documents.invoice.builder import InvoiceFacts, build_invoice
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.models import Export, ExportPackage, ExportUnit, LineTreatment
from pipeline.exports.schemas.plan import Unit
from pipeline.exports.step_context import FIND_UNIT, StepContext, parse_unit

_packages, _treatments, _exports = table(ExportPackage).c, table(LineTreatment).c, table(Export).c
#: The SSCCs of the unit's packages and the digests of its lines, by their names in the plan.
_FIND_FACTS: Final = union_all(
    select(literal("sscc").label("kind"), _packages.package_ref.label("name"), _packages.sscc.label("fact")).where(
        _packages.export_id == bindparam("of_export"),
        _packages.unit_no == bindparam("of_unit"),
        _packages.sscc.is_not(None),
    ),
    select(literal("digest"), _treatments.line_ref, _treatments.digest).where(
        _treatments.export_id == bindparam("of_export"), _treatments.unit_no == bindparam("of_unit")
    ),
)
_FIND_UNIT: Final = FIND_UNIT.add_columns(_exports.findings).join(
    table(Export), _exports.id == table(ExportUnit).c.export_id
)


def recorded_invoice(runtime: Runtime, context: StepContext) -> Invoice:
    """Return the invoice of the context's unit; raise StepFailed if its packages were never recorded."""
    return recorded_unit(runtime, context)[0]


def recorded_unit(runtime: Runtime, context: StepContext) -> tuple[Invoice, Unit]:
    """Return the invoice of the context's unit and the plan's unit; raise StepFailed if its packages were never recorded."""
    with runtime.db.read() as session:
        here = {"of_export": context.export_id, "of_unit": context.unit_no}
        row = session.execute(_FIND_UNIT, here).one()
        facts: dict[str, dict[str, str]] = {"sscc": {}, "digest": {}}
        for kind, name, fact in session.execute(_FIND_FACTS, here):
            facts[kind][name] = fact
    if row.package_number is None:
        raise StepFailed(f"unit {row.unit_ref} has no customs package number; its packages were never recorded")
    invoice_facts = InvoiceFacts(
        batch_id=context.batch_id,
        account_id=context.account_id,
        plan_hash=context.plan_hash,
        revision=context.revision,
        package_number=row.package_number,
        ruleset_id=context.ruleset_id,
        ruleset_as_of=context.ruleset_as_of,
        ssccs=facts["sscc"],
        line_digests=facts["digest"],
        unit_digest=row.unit_digest,
        treatment_digest=context.treatment_digest,
        test=context.test,
        unit_no=context.unit_no,
        findings=tuple(Finding.model_validate(finding) for finding in row.findings),
    )
    unit = parse_unit(row)
    return build_invoice(unit, invoice_facts), unit
