"""Builds the invoice of a unit from its recorded plan, package labels, digests and findings."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import BindParameter, bindparam, select

from pipeline.core.columns import json_object_of
from pipeline.core.db import table
from pipeline.core.errors import StepFailed
from pipeline.core.findings import Finding
from pipeline.core.runtime import Runtime
from pipeline.documents.invoice.builder import InvoiceFacts, build_invoice
from pipeline.documents.invoice.code_wording import RuleWords
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.models import Export, ExportPackage, ExportUnit, LineTreatment, LogoFile
from pipeline.exports.schemas.plan import Unit
from pipeline.exports.step_context import FIND_UNIT, StepContext, parse_unit

_packages, _treatments, _exports = table(ExportPackage).c, table(LineTreatment).c, table(Export).c
_logos = table(LogoFile).c
_of_export: BindParameter[str] = bindparam("of_export")
_of_unit: BindParameter[int] = bindparam("of_unit")
_ssccs = select(json_object_of(_packages.package_ref, _packages.sscc)).where(
    _packages.export_id == _of_export, _packages.unit_no == _of_unit, _packages.sscc.is_not(None)
)
_digests = select(json_object_of(_treatments.line_ref, _treatments.digest)).where(
    _treatments.export_id == _of_export, _treatments.unit_no == _of_unit
)
_logo = select(_logos.picture).where(_logos.account_id == _exports.account_id, _logos.sha256 == _exports.logo_sha256)
_FIND_UNIT: Final = FIND_UNIT.add_columns(
    table(ExportUnit).c.tariff,
    _exports.findings,
    _exports.prints_french,
    _logo.scalar_subquery().label("logo"),
    _exports.broker_name,
    _ssccs.scalar_subquery().label("ssccs"),
    _digests.scalar_subquery().label("digests"),
).join(table(Export), _exports.id == table(ExportUnit).c.export_id)


@dataclass(frozen=True)
class RecordedUnit:
    """The invoice of a unit, the plan's unit, and what its export keeps of the tariff as JSON, None without an edition."""

    invoice: Invoice
    unit: Unit
    tariff: str | None


def recorded_unit(runtime: Runtime, context: StepContext, words: RuleWords) -> RecordedUnit:
    """Return the invoice of the context's unit with its facts; raise StepFailed if its packages were never recorded."""
    with runtime.db.read() as session:
        row = session.execute(_FIND_UNIT, {"of_export": context.export_id, "of_unit": context.unit_no}).one()
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
        ssccs=row.ssccs or {},
        line_digests=row.digests or {},
        unit_digest=row.unit_digest,
        treatment_digest=context.treatment_digest,
        words=words,
        test=context.test,
        unit_no=context.unit_no,
        customs_broker=row.broker_name or context.broker_id,
        findings=tuple(Finding.model_validate(finding) for finding in row.findings),
        french=row.prints_french,
        logo=row.logo,
    )
    unit = parse_unit(row)
    return RecordedUnit(build_invoice(unit, invoice_facts), unit, row.tariff)
