"""Accepted exports, written directly into a database: the rows that the steps of a unit need."""

import json
from dataclasses import replace

from sqlmodel import Session

from pipeline.core.db import Database
from pipeline.core.ids import new_id
from pipeline.customs.treatment import export_digest, line_digests, unit_digest
from pipeline.exports.models import Account, Export, ExportUnit, PlanSnapshot
from pipeline.exports.schemas.plan import Plan
from pipeline.exports.step_context import StepContext, build_context
from tests.support.factories import Json, plan_hash


def open_account(database: Database, account: str, gs1_prefix: str | None = None) -> None:
    """Write the account; with a GS1 prefix it issues SSCCs."""
    with database.write() as session:
        session.add(Account(id=account, name="Maple Goods Ltd", gs1_prefix=gs1_prefix))


def accept(database: Database, made: Json) -> list[StepContext]:
    """Write the export of the plan and return the contexts of its units' first steps, one per unit."""
    with database.write() as session:
        return _accept(session, made)


def _accept(session: Session, made: Json) -> list[StepContext]:
    plan = Plan.model_validate(made)
    digests = {unit.unit_ref: unit_digest(line_digests(unit)) for unit in plan.units}
    snapshot = PlanSnapshot(
        id=new_id("pln"),
        account_id=plan.account_id,
        batch_id=plan.batch_id,
        plan_hash=plan_hash(made),
        document=json.dumps(made),
    )
    session.add(snapshot)
    session.flush()
    export = Export(
        id=new_id("exp"),
        account_id=plan.account_id,
        batch_id=plan.batch_id,
        plan_id=snapshot.id,
        plan_hash=snapshot.plan_hash,
        test=False,
        state="executing",
        broker_id=plan.broker.id,
        warehouse_id=plan.warehouse.id,
        ruleset_id=plan.ruleset.id,
        ruleset_as_of=plan.ruleset.as_of,
        units_total=len(plan.units),
        treatment_digest=export_digest(digests),
        findings=[],
    )
    session.add(export)
    session.flush()
    session.add_all(
        ExportUnit(
            export_id=export.id,
            unit_no=number,
            account_id=plan.account_id,
            unit_ref=unit.unit_ref,
            customs_package_id=new_id("cpk"),
            treatment_digest=digests[unit.unit_ref],
            document=json.dumps(made["units"][number - 1]),
        )
        for number, unit in enumerate(plan.units, start=1)
    )
    session.flush()
    first = build_context(export, unit_no=1, step="record_packages", fence=1, attempt=1)
    return [replace(first, unit_no=number) for number in range(1, len(plan.units) + 1)]
