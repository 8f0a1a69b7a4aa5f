"""Rows of exports just before their handoff: the results of the earlier steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, update
from sqlmodel import col, select

from pipeline.accounts import partners
from pipeline.accounts.schemas import CreatedPartner, NewPartner
from pipeline.core.db import database_now
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.customs import treatment
from pipeline.deliveries import handoff
from pipeline.deliveries.models import Delivery, Notification
from pipeline.exports import events, packages
from pipeline.exports.event_models import Event
from pipeline.exports.models import Account, Artifact, Export, ExportUnit, PlanSnapshot
from pipeline.exports.schemas.plan import Plan
from pipeline.exports.step_context import StepContext, build_context
from tests.support import factories, stored
from tests.support.task_by_task import task_by_task

KINDS = ("cci_json", "cci_pdf", "packing_list")

TRACE_PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_STATE = "vendor=t61rcWkgMzE"


@dataclass(frozen=True)
class PreparedExport:
    """An export with closed units, and the context of its step hand_off."""

    export_id: str
    context: StepContext
    plan: Plan


def register(runtime: Runtime, partner_id: str, kind: str, **changes: Any) -> CreatedPartner:
    """Register a partner of the tests' account. Create the account if needed."""
    with runtime.db.write() as session:
        if session.get(Account, factories.ACCOUNT) is None:
            session.add(Account(id=factories.ACCOUNT, name="Maple Goods Ltd"))
    given = {"id": partner_id, "kind": kind, "name": f"Demo {kind}", "live": True} | changes
    return partners.create_partner(runtime, factories.ACCOUNT, NewPartner.model_validate(given))


def register_once(runtime: Runtime, partner_id: str, kind: str, **changes: Any) -> None:
    """Register the partner if it does not exist."""
    if partner_id not in {each.id for each in partners.list_partners(runtime, factories.ACCOUNT)}:
        register(runtime, partner_id, kind, **changes)


def prepare_export(runtime: Runtime, made: Mapping[str, Any] | None = None, *, test: bool = False) -> PreparedExport:
    """Write an export of the plan as it is before hand_off. Its partners must be registered."""
    plan = Plan.model_validate(made or factories.plan())
    digests = {unit.unit_ref: treatment.unit_digest(treatment.line_digests(unit)) for unit in plan.units}
    export_id, plan_id = new_id("exp"), new_id("pln")
    with runtime.db.write() as session:
        session.add(
            PlanSnapshot(
                id=plan_id,
                account_id=plan.account_id,
                batch_id=plan.batch_id,
                plan_hash="sha256:00",
                document=plan.model_dump_json(by_alias=True),
            )
        )
        session.flush()
        export = Export(
            id=export_id,
            account_id=plan.account_id,
            batch_id=plan.batch_id,
            plan_id=plan_id,
            plan_hash="sha256:00",
            test=test,
            state="executing",
            broker_id=plan.broker.id,
            warehouse_id=plan.warehouse.id,
            ruleset_id=plan.ruleset.id,
            ruleset_as_of=plan.ruleset.as_of,
            units_total=len(plan.units),
            treatment_digest=treatment.export_digest(digests),
            findings=[],
            trace_parent=TRACE_PARENT,
            trace_state=TRACE_STATE,
        )
        session.add(export)
        session.flush()
        for unit_no, unit in enumerate(plan.units, start=1):
            session.add(
                ExportUnit(
                    export_id=export_id,
                    unit_no=unit_no,
                    account_id=plan.account_id,
                    unit_ref=unit.unit_ref,
                    customs_package_id=new_id("cpk"),
                    treatment_digest=digests[unit.unit_ref],
                    document=unit.model_dump_json(by_alias=True),
                )
            )
            session.flush()
            step = build_context(export, unit_no=unit_no, step="record_packages", fence=1, attempt=1)
            packages.record_packages(session, step)
            treatment.attach_treatment(session, step)
            session.execute(
                insert(Artifact),
                [
                    {
                        "id": new_id("art"),
                        "export_id": export_id,
                        "unit_no": unit_no,
                        "account_id": plan.account_id,
                        "artifact_type": kind,
                        "filename": f"{kind}.bin",
                        "media_type": "application/octet-stream",
                        "size": 3,
                        "sha256": "ab" * 32,
                        "template_version": "1",
                    }
                    for kind in KINDS
                ],
            )
    return PreparedExport(export_id, build_context(export, unit_no=0, step="hand_off", fence=1, attempt=1), plan)


def hand_off(runtime: Runtime, export: PreparedExport) -> None:
    """Run the step hand_off, as the engine does, and leave its streams to others."""
    with task_by_task():
        prepared = handoff.prepare_handoff(runtime, export.context)
    with runtime.db.write() as session:
        events.append(session, export.export_id, "hand_off", handoff.write_handoff(session, export.context, prepared))


def purge(runtime: Runtime, export_id: str) -> None:
    """Mark the export as purged, enough for tests of answers."""
    stored.change(
        runtime,
        update(Export).where(col(Export.id) == export_id).values(purged_at=database_now()),
        update(Notification).where(col(Notification.export_id) == export_id).values(data="{}"),
    )


def read_event_types(runtime: Runtime, export_id: str) -> list[str]:
    """Return the types of the export's events, in order. The numbers must not have gaps."""
    rows = stored.rows(runtime, select(Event).where(col(Event.export_id) == export_id).order_by(col(Event.seq)))
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    return [row.type for row in rows]


def list_deliveries(runtime: Runtime, export_id: str, partner_id: str | None = None) -> list[Delivery]:
    """Return the export's deliveries, ordered by position."""
    with runtime.db.read() as session:
        wanted = select(Delivery).where(col(Delivery.subject_id) == export_id)
        if partner_id is not None:
            wanted = wanted.where(col(Delivery.partner_id) == partner_id)
        return list(session.exec(wanted.order_by(col(Delivery.position), col(Delivery.channel))).all())
