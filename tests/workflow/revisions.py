"""Helpers to execute, fail and amend exports, and to read the result."""

import json
from typing import Any

from sqlalchemy import select, update
from sqlmodel import col

from pipeline.core.errors import RendererCrashed
from pipeline.deliveries.models import Delivery, Notification
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.streams import sender
from pipeline.exports.models import Export, ExportPackage, ExportUnit, Step
from pipeline.exports.schemas.export import ExecuteRequest, ExportView
from pipeline.workflow import read_model
from pipeline.workflow.amendments import amend_export
from pipeline.workflow.idempotency import Acceptance
from pipeline.workflow.steps import NOTIFY_STEPS
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness

OTHER_PLAN = factories.plan(lines=4)


def make_amendment(
    workflow: WorkflowHarness, export_id: str, plan: factories.Json = OTHER_PLAN, **changes: Any
) -> Acceptance:
    request = ExecuteRequest.model_validate({"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan})
    given: dict[str, Any] = {"raw_plan": plan, "idempotency_key": None} | changes
    return amend_export(workflow.runtime, workflow.caller, export_id, request, **given)


def execute_export(
    workflow: WorkflowHarness, plan: factories.Json | None = None, *, deliver: bool = True, upstream: str | None = None
) -> str:
    """Execute a plan to its end; with `deliver` all messages are sent, else they stay pending."""
    export_id = workflow.accept(plan, upstream=upstream).export_id
    for unit_no in range(1, len((plan or factories.plan())["units"]) + 1):
        workflow.step(export_id, unit_no, "record_packages")
        workflow.step(export_id, unit_no, "render_documents")
    if deliver:
        for name in NOTIFY_STEPS:
            workflow.step(export_id, 0, name)
    else:
        # As if every endpoint had been unreachable: the notify steps are done, but nothing was delivered.
        workflow.change(
            update(Step).where(col(Step.name).in_(NOTIFY_STEPS)).values(state="done"),
            update(Export).where(col(Export.id) == export_id).values(state="executed"),
        )
    assert workflow.state(export_id) == "executed"
    return export_id


def deliver_all(workflow: WorkflowHarness, export_id: str) -> None:
    for partner_id, channel in {(each.partner_id, each.channel) for each in list_pending(workflow, export_id)}:
        sender.deliver_stream(workflow.runtime, export_id, partner_id, channel)


def list_pending(workflow: WorkflowHarness, export_id: str) -> list[Delivery]:
    with workflow.runtime.db.read() as session:
        query = select(Delivery).where(col(Delivery.subject_id) == export_id).order_by(col(Delivery.position))
        return list(session.scalars(query))


def read_messages(workflow: WorkflowHarness, export_id: str, event_type: MessageType) -> list[dict[str, Any]]:
    rows = workflow.rows(
        select(Notification)
        .where(col(Notification.export_id) == export_id, col(Notification.event_type) == event_type.value)
        .order_by(col(Notification.position))
    )
    for row in rows:
        event_type.model.model_validate_json(row.data)
    return [{"id": row.id} | json.loads(row.data) for row in rows]


def packages(workflow: WorkflowHarness, export_id: str) -> dict[str, tuple[str | None, bool]]:
    with workflow.runtime.db.read() as session:
        rows = session.scalars(select(ExportPackage).where(col(ExportPackage.export_id) == export_id))
        return {f"{row.unit_no}/{row.package_ref}": (row.sscc, row.released) for row in rows}


def units(workflow: WorkflowHarness, export_id: str) -> list[tuple[str, str | None, bool]]:
    with workflow.runtime.db.read() as session:
        query = select(ExportUnit).where(col(ExportUnit.export_id) == export_id).order_by(col(ExportUnit.unit_no))
        return [(row.unit_ref, row.package_number, row.released) for row in session.scalars(query)]


def view(acceptance: Acceptance) -> ExportView:
    return ExportView.model_validate_json(acceptance.body)


def read(workflow: WorkflowHarness, name: str) -> ExportView:
    with workflow.runtime.db.read() as session:
        return read_model.read_export(session, factories.ACCOUNT, name)


def fail(workflow: WorkflowHarness, export_id: str) -> None:
    workflow.store.error_on_put = RendererCrashed("the PDF engine died")
    for _ in range(workflow.runtime.settings.step_max_attempts + 1):
        workflow.run(workflow.sweep())
    workflow.store.error_on_put = None
    assert workflow.state(export_id) == "failed"
