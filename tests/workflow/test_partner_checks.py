"""Partners are checked before the transaction that writes the export; the handoff meets their later changes."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import update
from sqlmodel import col

from pipeline.accounts import partners
from pipeline.accounts.api_keys import Mode
from pipeline.accounts.models import Partner, PartnerChannel
from pipeline.accounts.schemas import PartnerChanges
from pipeline.core.errors import PartnerNotLive, PlanNotExecutable
from pipeline.core.failpoints import hooks
from pipeline.core.findings import Finding
from pipeline.deliveries.streams import recovery
from pipeline.exports.models import Export
from pipeline.exports.plans import hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.workflow.interventions import retry_export
from pipeline.workflow.preflight import preflight
from pipeline.workflow.read_model import read_export
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export

PROFILES: Final = Path(__file__).resolve().parents[2] / "examples" / "profiles"
X12: Final[factories.Json] = json.loads((PROFILES / "x12.json").read_text(encoding="utf-8"))


def build_plan(batch: str) -> factories.Json:
    """Return a plan with more charges than X12 carries."""
    plan = factories.plan(batch=batch)
    charge = {"code": "freight", "amount": "0.00", "includedInPrices": True}
    charges = [*plan["units"][0]["invoice"]["charges"], *[charge] * 26]
    return factories.change_plan(plan, "/units/0/invoice/charges", charges)


def set_message(workflow: WorkflowHarness, profile: factories.Json | None) -> None:
    changes = PartnerChanges.model_validate({"messageProfile": profile})
    recovery.update_partner(workflow.runtime, factories.ACCOUNT, factories.BROKER, changes)


def test_refusal_does_not_wait_for_another_writer(workflow: WorkflowHarness) -> None:
    workflow.accept()  # the first acceptance makes the rules active
    set_message(workflow, X12)
    with workflow.runtime.db.write(), pytest.raises(PlanNotExecutable) as refused:
        workflow.accept(build_plan("batch_x12"))
    assert [each["rule"] for each in (refused.value.details or {})["findings"]] == ["B02"]
    partners.pause_partner(workflow.runtime, factories.ACCOUNT, factories.BROKER)
    with workflow.runtime.db.write(), pytest.raises(PartnerNotLive):
        workflow.accept(factories.plan(batch="batch_paused"))
    assert workflow.count(Export) == 1


def test_message_that_is_set_after_the_check_fails_the_handoff_until_it_fits(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hooks, "accept.before", lambda: set_message(workflow, X12))
    export_id = workflow.accept(build_plan("batch_x12")).export_id
    workflow.finish(export_id)
    step = next(
        workflow.read_step(export_id, name, unit_no)
        for (unit_no, name), state in workflow.step_states(export_id).items()
        if state == "failed"
    )
    assert workflow.state(export_id) == "failed"
    assert f"the profile of {factories.BROKER} does not fit: the invoice has 2" in str(step.error)
    set_message(workflow, None)
    retry_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
    workflow.finish(export_id)
    assert workflow.state(export_id) == "executed"


def reach_by_email(workflow: WorkflowHarness) -> None:
    of_broker = col(PartnerChannel.partner_id) == factories.BROKER
    workflow.change(update(PartnerChannel).where(of_broker).values(channel="email"))


def reach_by_borderbuddy(workflow: WorkflowHarness) -> None:
    workflow.change(update(Partner).where(col(Partner.id) == factories.BROKER).values(path="borderbuddy"))


@pytest.mark.parametrize(
    ("reach", "setting", "value"),
    [
        (reach_by_borderbuddy, "borderbuddy_url", "https://broker.example/handoffs"),
        (reach_by_email, "smtp_url", "smtp://mail.example"),
    ],
)
def test_live_export_needs_what_reaches_its_customs_broker(
    workflow: WorkflowHarness, reach: Callable[[WorkflowHarness], None], setting: str, value: str
) -> None:
    reach(workflow)
    plan = factories.plan()
    (found,) = [each for each in find(workflow, plan) if each.rule == "A01"]
    assert (found.severity, found.pointer) == ("block", "/broker/id")
    assert found.remedy == f"Set EXPORTS_{setting.upper()}, or name another customs broker."
    with pytest.raises(PartnerNotLive) as refused:
        workflow.accept(plan)
    assert (refused.value.field, workflow.count(Export)) == ("/plan/broker/id", 0)
    settings = workflow.runtime.settings.model_copy(update={setting: value})
    connected = replace(workflow, runtime=replace(workflow.runtime, settings=settings))
    assert find(connected, plan) == find(workflow, plan)[1:]
    assert connected.accept(plan).created


@pytest.mark.parametrize(("test", "mode", "rules"), [(True, "live", ["A04"]), (True, "test", []), (False, "live", [])])
def test_live_export_to_a_test_partner_says_that_nobody_files(
    workflow: WorkflowHarness, *, test: bool, mode: Mode, rules: list[str]
) -> None:
    workflow.change(update(Partner).values(test=test))
    own = replace(workflow, caller=replace(workflow.caller, mode=mode))
    assert [each.rule for each in find(own, factories.plan()) if each.rule.startswith("A")] == rules
    export_id = execute_export(own)
    with workflow.runtime.db.read() as session:
        view = read_export(session, factories.ACCOUNT, export_id, test=mode == "test")
    assert [each.rule for each in view.findings if each.rule.startswith("A")] == rules
    assert view.status.endswith("(sandbox: nobody files)") is bool(rules)
    assert view.approval is not None
    assert (view.approval.approved_by, view.approval.sent_by) == ("ops@maple.example", "key_test")
    assert view.approval.approved_at == datetime(2026, 11, 24, 15, 4, 5, tzinfo=UTC)


def find(workflow: WorkflowHarness, plan: factories.Json) -> list[Finding]:
    return preflight(workflow.runtime, workflow.caller, hash_plan(Plan.model_validate(plan), plan))
