"""Exports that are executed, failed and amended, and what became of them."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select, update
from sqlmodel import col

from pipeline.core.errors import RendererCrashed
from pipeline.deliveries import sender
from pipeline.deliveries.models import Delivery, Notification
from pipeline.deliveries.schemas.messages import MESSAGES, MessageType
from pipeline.exports.models import Export, ExportPackage, ExportUnit, Step
from pipeline.exports.schemas.export import ExecuteRequest, ExportView
from pipeline.workflow import read_model as inspection_view
from pipeline.workflow.amendments import amend_export
from pipeline.workflow.idempotency import Acceptance
from pipeline.workflow.steps import NOTIFY_STEPS
from tests.support import factories
from tests.workflow.conftest import House

OTHER_PLAN = factories.plan(lines=4)


def amended(house: House, export_id: str, plan: factories.Json = OTHER_PLAN, **changes: Any) -> Acceptance:
    request = ExecuteRequest.model_validate({"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan})
    given: dict[str, Any] = {"raw_plan": plan, "idempotency_key": None} | changes
    return amend_export(house.runtime, house.caller, export_id, request, **given)


def executed(house: House, plan: factories.Json | None = None, *, told: bool = True) -> str:
    """Execute a plan to its end; `told` sends what it owes, else all of it is still owed."""
    export_id = house.accept(plan).export_id
    for unit_no in range(1, len((plan or factories.plan())["units"]) + 1):
        house.step(export_id, unit_no, "record_packages")
        house.step(export_id, unit_no, "render_documents")
    if told:
        for name in NOTIFY_STEPS:
            house.step(export_id, 0, name)
    else:
        # As if the last of the steps had found every endpoint deaf: each is done, and nothing was taken.
        with house.runtime.db.write() as session:
            session.execute(update(Step).where(col(Step.name).in_(NOTIFY_STEPS)).values(state="done"))
            session.execute(update(Export).where(col(Export.id) == export_id).values(state="executed"))
    assert house.state(export_id) == "executed"
    return export_id


def deliver_all(house: House, export_id: str) -> None:
    for partner_id, channel in {(each.partner_id, each.channel) for each in owed(house, export_id)}:
        sender.deliver_stream(house.runtime, export_id, partner_id, channel)


def owed(house: House, export_id: str) -> list[Delivery]:
    with house.runtime.db.read() as session:
        query = select(Delivery).where(col(Delivery.export_id) == export_id).order_by(col(Delivery.position))
        return list(session.scalars(query))


def said(house: House, export_id: str, event_type: MessageType) -> list[dict[str, Any]]:
    with house.runtime.db.read() as session:
        rows = session.scalars(
            select(Notification)
            .where(col(Notification.export_id) == export_id, col(Notification.event_type) == event_type.value)
            .order_by(col(Notification.position))
        ).all()
    for row in rows:
        MESSAGES[event_type].model_validate_json(row.data)
    return [{"id": row.id} | json.loads(row.data) for row in rows]


def packages(house: House, export_id: str) -> dict[str, tuple[str | None, bool]]:
    with house.runtime.db.read() as session:
        rows = session.scalars(select(ExportPackage).where(col(ExportPackage.export_id) == export_id))
        return {f"{row.unit_no}/{row.package_ref}": (row.sscc, row.released) for row in rows}


def units(house: House, export_id: str) -> list[tuple[str, str | None, bool]]:
    with house.runtime.db.read() as session:
        query = select(ExportUnit).where(col(ExportUnit.export_id) == export_id).order_by(col(ExportUnit.unit_no))
        return [(row.unit_ref, row.package_number, row.released) for row in session.scalars(query)]


def view(acceptance: Acceptance) -> ExportView:
    return ExportView.model_validate_json(acceptance.body)


def read(house: House, name: str) -> ExportView:
    with house.runtime.db.read() as session:
        return inspection_view.read_export(session, factories.ACCOUNT, name)


def fail(house: House, export_id: str) -> None:
    house.store.breaks_with = RendererCrashed("the PDF engine died")
    for _ in range(house.runtime.settings.step_max_attempts + 1):
        house.run(house.sweep())
    house.store.breaks_with = None
    assert house.state(export_id) == "failed"
