"""Partners are checked before the transaction that writes the export; the handoff meets their later changes."""

import json
from pathlib import Path
from typing import Final

import pytest

from pipeline.accounts import partners
from pipeline.accounts.schemas import PartnerChanges
from pipeline.core.errors import PartnerNotLive, PlanNotExecutable
from pipeline.core.failpoints import hooks
from pipeline.deliveries.streams import recovery
from pipeline.exports.models import Export
from pipeline.workflow.interventions import retry_export
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness

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
