"""The context of a step: the facts that it works with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Row
from sqlmodel import Session, col, select

from pipeline.exports.models import Export, ExportUnit
from pipeline.exports.schemas.plan import Unit

#: The units that a process remembers, and the most characters of each: as an object, a unit takes six times as much.
_MAX_REMEMBERED: Final = 8
_MAX_CHARACTERS: Final = 128 * 1024


@dataclass(frozen=True)
class StepContext:
    """The facts of one step: its export, and its unit if it has one (unit_no 0 is the export itself)."""

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
    unit_no: int
    step: str
    fence: int
    attempt: int


def build_context(export: Export, *, unit_no: int, step: str, fence: int, attempt: int) -> StepContext:
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
        ruleset_id=export.ruleset_id,
        ruleset_as_of=export.ruleset_as_of,
        treatment_digest=export.treatment_digest,
        unit_no=unit_no,
        step=step,
        fence=fence,
        attempt=attempt,
    )


def load_unit_row(session: Session, context: StepContext) -> ExportUnit:
    """Return the row of the step's unit."""
    return session.exec(
        select(ExportUnit).where(
            col(ExportUnit.export_id) == context.export_id, col(ExportUnit.unit_no) == context.unit_no
        )
    ).one()


def parse_unit(row: ExportUnit | Row[Any]) -> Unit:
    """Return the plan's unit that `row` stores; it was validated at acceptance. Callers share it: do not change its lists."""
    document: str = row.document
    return _parse(document) if len(document) > _MAX_CHARACTERS else _parse_once(document)


def _parse(document: str) -> Unit:
    return Unit.model_validate_json(document)


# Each step of a unit needs it, and one worker usually runs them one after another.
_parse_once: Final = lru_cache(_MAX_REMEMBERED)(_parse)
