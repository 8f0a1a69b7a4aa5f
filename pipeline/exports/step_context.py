"""The context of a step: the facts that it works with."""

from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Row, and_, bindparam, select
from sqlmodel import Session

from pipeline.core.db import table
from pipeline.core.trace_context import TraceContext
from pipeline.exports.models import Export, ExportUnit
from pipeline.exports.schemas.plan import Unit

#: The units that a process remembers, and the most characters of each: as an object, a unit takes six times as much.
_MAX_REMEMBERED: Final = 8
_MAX_CHARACTERS: Final = 128 * 1024


@dataclass(frozen=True)
class StepContext:
    """The facts of one step: its export, and its unit if it has one (unit_no 0 is the export itself).

    `units` is the number of the export's units. `attempt` is 0 if the step was not claimed. `unit` is the row of the unit when the context was read; None if the
    context was built otherwise.
    """

    export_id: str
    account_id: str
    batch_id: str
    plan_hash: str
    revision: int
    test: bool
    broker_id: str
    warehouse_id: str
    ruleset_id: str
    ruleset_as_of: date
    treatment_digest: str
    units: int
    unit_no: int
    step: str
    fence: int
    attempt: int
    unit: Row[Any] | None = None
    trace: TraceContext | None = None
    rules_hash: str | None = None
    upstream_id: str | None = None

    @property
    def upstream_ids(self) -> list[str]:
        """The partner for whom the export is executed, if there is one."""
        return [] if self.upstream_id is None else [self.upstream_id]


_exports, _units = table(Export).c, table(ExportUnit).c
_unit_columns: Final = (
    _units.unit_no,
    _units.unit_ref,
    _units.customs_package_id,
    _units.package_number,
    _units.treatment_digest.label("unit_digest"),
    _units.document,
)
_here = and_(_units.export_id == bindparam("of_export"), _units.unit_no == bindparam("of_unit"))
#: The columns that `load_unit_row` returns.
FIND_UNIT: Final = select(*_unit_columns).where(_here)
#: The columns of `read_context`, for the parameters `of_export` and `of_unit`.
FIND_CONTEXT: Final = (
    select(
        _exports.id,
        _exports.account_id,
        _exports.batch_id,
        _exports.plan_hash,
        _exports.revision,
        _exports.test,
        _exports.broker_id,
        _exports.warehouse_id,
        _exports.upstream_id,
        _exports.ruleset_id,
        _exports.ruleset_as_of,
        _exports.rules_hash,
        _exports.treatment_digest,
        _exports.units_total,
        _exports.trace_parent,
        _exports.trace_state,
        *_unit_columns,
    )
    .select_from(table(Export).outerjoin(table(ExportUnit), _here))
    .where(_exports.id == bindparam("of_export"))
)


def load_context(session: Session, export_id: str, *, unit_no: int, step: str, fence: int, attempt: int) -> StepContext:
    """Return the context of a claimed step of the export."""
    row = session.execute(FIND_CONTEXT, {"of_export": export_id, "of_unit": unit_no}).one()
    return read_context(row, step=step, fence=fence, attempt=attempt)


def read_context(row: Row[Any], *, step: str, fence: int, attempt: int) -> StepContext:
    """Return the context of a step from a row of FIND_CONTEXT."""
    context = build_context(row, unit_no=row.unit_no or 0, step=step, fence=fence, attempt=attempt)
    return context if row.unit_no is None else replace(context, unit=row)


def build_context(export: Export | Row[Any], *, unit_no: int, step: str, fence: int, attempt: int) -> StepContext:
    """Return the context of a claimed step of `export`."""
    return StepContext(
        export_id=export.id,
        account_id=export.account_id,
        batch_id=export.batch_id,
        plan_hash=export.plan_hash,
        revision=export.revision,
        test=export.test,
        broker_id=export.broker_id,
        warehouse_id=export.warehouse_id,
        upstream_id=export.upstream_id,
        ruleset_id=export.ruleset_id,
        ruleset_as_of=export.ruleset_as_of,
        rules_hash=export.rules_hash,
        treatment_digest=export.treatment_digest,
        units=export.units_total,
        unit_no=unit_no,
        step=step,
        fence=fence,
        attempt=attempt,
        trace=TraceContext.from_row(export),
    )


def load_unit_row(session: Session, context: StepContext) -> Row[Any]:
    """Return the row of the step's unit, with the columns that its steps use."""
    if context.unit is not None and context.unit.unit_no == context.unit_no:
        return context.unit
    return session.execute(FIND_UNIT, {"of_export": context.export_id, "of_unit": context.unit_no}).one()


def parse_unit(row: ExportUnit | Row[Any]) -> Unit:
    """Return the plan's unit that `row` stores; it was validated at acceptance. Callers share it: do not change its lists."""
    document: str = row.document
    return _parse(document) if len(document) > _MAX_CHARACTERS else _parse_once(document)


def _parse(document: str) -> Unit:
    return Unit.model_validate_json(document)


# Each step of a unit needs it, and one worker usually runs them one after another.
_parse_once: Final = lru_cache(_MAX_REMEMBERED)(_parse)
