"""Plans with dates that only older versions accepted: they are executed to the end and stay readable."""

import json
from datetime import date
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import select
from sqlmodel import col

from pipeline.core.errors import ValidationFailed
from pipeline.core.json_input import parse_json
from pipeline.deliveries.email import content
from pipeline.deliveries.models import Notification
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.exports import plans as export_plans
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.schemas.plan import Plan, Unit
from pipeline.ops import retention, store_check
from pipeline.ops.rebuild import service
from pipeline.ops.verification.verifier import verify_bundle
from pipeline.workflow import preflight
from tests.ops.verification.bundles import pack_bundle
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, read

DAYS: Final = (
    *("/ruleset/asOf", "/units/0/entry/exportDate", "/units/0/invoice/date", "/units/0/invoice/saleDate"),
    *(f"/units/0/usmcaCertificates/0/{name}" for name in ("blanketFrom", "blanketTo", "signedOn")),
)
#: The values that an older version accepted at each of these places.
ACCEPTED_BEFORE: Final = {
    "first": dict.fromkeys(DAYS, "0001-01-01") | {"/approval/approvedAt": "0001-01-01T00:00:00+14:00"},
    "last": dict.fromkeys(DAYS, "9999-12-31")
    | {"/approval/expiresAt": "9999-12-31T23:59:59-12:00"}
    | {"/units/0/entry/estimatedArrivalAt": "9999-12-31T23:59:59Z"},
}


def old_plan(end: str) -> factories.Json:
    plan_json = factories.plan()
    for pointer, value in ACCEPTED_BEFORE[end].items():
        plan_json = factories.change_plan(plan_json, pointer, value)
    return plan_json


@pytest.mark.pdf_engine
@pytest.mark.parametrize("end", ACCEPTED_BEFORE)
def test_plan_with_old_dates_is_executed_verified_and_restored(
    workflow: WorkflowHarness, tmp_path: Path, end: str
) -> None:
    export_id = execute_export(workflow, old_plan(end))
    raw = pack_bundle(workflow.runtime, export_id)
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(raw)
    assert [check.failure for check in verify_bundle(bundle).checks if check.failure is not None] == []
    assert service.rebuild_exports(workflow.runtime, export_id=export_id).intact
    assert read(workflow, export_id).state == "executed"
    for each in Path(workflow.runtime.settings.artifacts_url.removeprefix("file:")).rglob("*"):
        if each.is_file():
            each.unlink()
    survey = store_check.check_store(
        workflow.runtime, lambda _: None, lambda _: None, export_id=export_id, restore=True
    )
    assert survey.documents == survey.restored > 0
    assert pack_bundle(workflow.runtime, export_id) == raw


def test_plan_with_entry_in_year_9999_never_expires(workflow: WorkflowHarness) -> None:
    execute_export(workflow, old_plan("last"))
    assert list(retention.find_expired(workflow.runtime, date(9999, 12, 31))) == []


@pytest.mark.parametrize("end", ACCEPTED_BEFORE)
def test_messages_of_plan_with_old_dates_can_be_emails(workflow: WorkflowHarness, end: str) -> None:
    export_id = execute_export(workflow, old_plan(end))
    rows = workflow.rows(select(Notification).where(col(Notification.export_id) == export_id))
    assert {MessageType.HANDOFF_READY.value} < {row.event_type for row in rows}
    for row in rows:
        assert content.build_email_body(workflow.runtime.settings, row, ()).text


def test_registered_plan_with_old_dates_can_be_loaded(workflow: WorkflowHarness) -> None:
    plan_json = old_plan("last")
    request = ExecuteRequest.model_validate({"accountId": plan_json["accountId"], "batchId": plan_json["batchId"]})
    preflight.register_plan(
        workflow.runtime, workflow.caller, export_plans.hash_plan(Plan.model_validate(plan_json), plan_json)
    )
    with workflow.runtime.db.read() as session:
        kept = preflight.load_snapshot(preflight.find_registered_plan(session, workflow.caller, request))
    assert kept.raw == plan_json
    assert Unit.model_validate_json(json.dumps(plan_json["units"][0])) == kept.plan.units[0]


@pytest.mark.parametrize(("pointer", "value"), [place for taken in ACCEPTED_BEFORE.values() for place in taken.items()])
def test_new_plan_with_old_dates_is_refused(pointer: str, value: str) -> None:
    wrong = factories.change_plan(factories.plan(), pointer, value)
    with pytest.raises(ValidationFailed) as refusal:
        parse_json(json.dumps(wrong).encode(), Plan, max_depth=32)
    assert refusal.value.field == pointer
