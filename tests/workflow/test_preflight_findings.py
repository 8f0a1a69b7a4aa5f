"""Tests of findings that an execution takes over from the preflight of the same plan."""

from datetime import timedelta
from typing import Any

import pytest

from pipeline.core.cache import Kept
from pipeline.customs import waivers
from pipeline.customs.checks import plan as plan_checks
from pipeline.customs.schemas import NewWaiver
from pipeline.customs.tariff.editions import remove_edition
from pipeline.exports.plans import HashedPlan, hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.workflow import preflight
from tests.support import factories
from tests.support.tariff import REVISION_6, import_revision, plan_german_shirt
from tests.workflow.conftest import WorkflowHarness


def hashed(plan: dict[str, Any]) -> HashedPlan:
    return hash_plan(Plan.model_validate(plan), plan)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The batch ids of the plans that customs checked."""
    checked: list[str] = []
    check = plan_checks.check_hashed_part

    def record(plan: Plan, **options: Any) -> Any:
        checked.append(plan.batch_id)
        return check(plan, **options)

    monkeypatch.setattr(preflight, "check_hashed_part", record)
    return checked


def test_execution_takes_over_the_findings_of_its_preflight(workflow: WorkflowHarness, checks: list[str]) -> None:
    plan = factories.plan(batch="known")
    unapproved = plan | {"approval": None}
    before = preflight.preflight(workflow.runtime, workflow.caller, hashed(unapproved))
    export = workflow.accept(plan)
    assert checks == ["known"]
    after = preflight.preflight(workflow.runtime, workflow.caller, hashed(plan))
    assert [each for each in before if each.rule != "A02"] == after
    assert export.created


def test_changed_plan_and_another_day_are_checked_again(workflow: WorkflowHarness, checks: list[str]) -> None:
    plan = factories.plan(batch="changed")
    for other in (plan, plan, plan | {"exportCountry": "MX"}):
        preflight.preflight(workflow.runtime, workflow.caller, hashed(other))
    assert checks == ["changed", "changed"]
    workflow.clock.now += timedelta(days=1)
    preflight.preflight(workflow.runtime, workflow.caller, hashed(plan))
    assert len(checks) == 3


def test_texts_of_an_approval_are_checked_for_each_approval(workflow: WorkflowHarness) -> None:
    plan = factories.plan(batch="approved")
    hostile = plan | {"approval": plan["approval"] | {"approvedBy": "A\u202eB"}}
    for sent, pointers in ((plan, set()), (hostile, {"/approval/approvedBy"}), (plan, set())):
        found = preflight.preflight(workflow.runtime, workflow.caller, hashed(sent))
        assert {each.pointer for each in found if each.pointer.startswith("/approval")} == pointers


def test_known_findings_are_bounded(
    workflow: WorkflowHarness, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_known_findings", Kept(2))
    for batch in ("one", "two", "three", "three", "one"):
        preflight.preflight(workflow.runtime, workflow.caller, hashed(factories.plan(batch=batch)))
    assert checks == ["one", "two", "three", "one"]
    monkeypatch.setattr(preflight, "_MAX_FINDINGS", -1)
    for _ in range(2):
        preflight.preflight(workflow.runtime, workflow.caller, hashed(factories.plan(batch="long")))
    assert checks[4:] == ["long", "long"]


def test_waivers_apply_to_known_findings(workflow: WorkflowHarness, checks: list[str]) -> None:
    plan = factories.plan(units=2, batch="waived")
    plan["units"][1]["invoice"]["number"] = plan["units"][0]["invoice"]["number"]
    preflight.preflight(workflow.runtime, workflow.caller, hashed(plan))
    waivers.grant_waiver(
        workflow.runtime, factories.ACCOUNT, NewWaiver(rule="V24", reason="It is known."), waived_by="somebody"
    )
    for _ in range(2):
        found = preflight.preflight(workflow.runtime, workflow.caller, hashed(plan))
        assert [each.waived_by is not None for each in found if each.rule == "V24"] == [True]
    assert checks == ["waived"]


def find_headings(workflow: WorkflowHarness, plan: dict[str, Any]) -> list[str]:
    found = preflight.preflight(workflow.runtime, workflow.caller, hashed(plan))
    return [each.source or "" for each in found if each.rule == "V11" and each.pointer.startswith("/units/0/lines/1")]


def test_imported_edition_decides_a_heading_at_once(workflow: WorkflowHarness, checks: list[str]) -> None:
    plan = plan_german_shirt("rate", "9903.05.39")
    assert find_headings(workflow, plan) == []
    import_revision(workflow.runtime, REVISION_6, factories.TODAY)
    (source,) = find_headings(workflow, plan)
    assert source.startswith("probable: ")
    assert f"column 1 of 6105.10.00 is 19.7%, edition hts_2026_revision_6 from {factories.TODAY}" in source
    assert len(find_headings(workflow, plan)) == 1
    assert checks == ["rate", "rate"], "the same edition is not asked again"
    remove_edition(workflow.runtime, "hts_2026_revision_6")
    assert find_headings(workflow, plan) == []
