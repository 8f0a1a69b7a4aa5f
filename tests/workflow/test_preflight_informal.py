"""The preflight adds up informal entries of other exports to the same consignee on the same day."""

from dataclasses import replace
from datetime import date
from typing import Any

from sqlmodel import select

from pipeline.core.findings import Finding
from pipeline.customs import waivers
from pipeline.customs.checks import informal
from pipeline.customs.schemas import NewWaiver
from pipeline.exports.models import ExportUnit
from pipeline.exports.plans import hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.workflow import preflight
from pipeline.workflow.interventions import cancel_export
from tests.customs.filing_cases import consignee
from tests.support import factories
from tests.support.query_counter import record_plans, record_statements
from tests.workflow.conftest import WorkflowHarness


def informal_plan(batch: str, value: str = "1500.00", **entry: Any) -> dict[str, Any]:
    """Return a plan of one informal entry of at least this value on 2026-11-26."""
    plan = factories.plan(batch=batch)
    (unit,) = plan["units"]
    unit["entry"].update({"type": "11"} | entry)
    unit["entry"]["shipmentControlNumber"] = f"DEMO{batch.upper()}"
    unit["lines"][0].update(quantity="1", unitPrice=value, lineValue=value)
    charges = sum(float(line["lineValue"]) for line in unit["lines"]) + 75
    unit["invoice"].update(number=f"A-{batch}", total=f"{charges:.2f}")
    unit["packages"] = [each | {"sscc": None} for each in unit["packages"]]
    for package in unit["packages"]:
        for content in package["contents"]:
            if content["lineRef"] == unit["lines"][0]["lineRef"]:
                content["quantity"] = "1"
    return plan


def find_split(workflow: WorkflowHarness, plan: dict[str, Any], **caller: Any) -> list[Finding]:
    hashed = hash_plan(Plan.model_validate(plan), plan)
    found = preflight.preflight(workflow.runtime, replace(workflow.caller, **caller), hashed)
    assert not [each for each in found if each.severity == "block"]
    return [each for each in found if each.rule == "V27-DAY"]


def test_other_export_to_same_consignee_on_same_day_is_added(workflow: WorkflowHarness) -> None:
    assert find_split(workflow, informal_plan("one")) == []
    workflow.accept(informal_plan("one"))
    (found,) = find_split(workflow, informal_plan("two"))
    assert (found.severity, found.pointer) == ("warn", "/units/0/entry/type")
    assert found.message.startswith(
        "Batch one also has an informal entry for consignee Demo Housewares Inc, Dock 4 of unit U1 on 2026-11-26, "
    )
    assert found.source is not None
    assert "141.51" in found.source


def test_only_other_batches_days_types_and_modes_count(workflow: WorkflowHarness) -> None:
    workflow.accept(informal_plan("one"))
    assert find_split(workflow, informal_plan("one")) == []
    assert find_split(workflow, informal_plan("two", estimatedArrivalAt="2026-11-27T18:00:00Z")) == []
    assert find_split(workflow, informal_plan("two", type="01")) == []
    assert find_split(workflow, informal_plan("two", value="794.00")) == []
    assert len(find_split(workflow, informal_plan("two", value="794.01"))) == 1
    other = informal_plan("two")
    other["units"][0]["parties"]["shipTo"]["address"]["line1"] = "2 Other Road"
    assert find_split(workflow, other) == []
    same = Plan.model_validate(informal_plan("two"))
    owners = (factories.ACCOUNT, False), (factories.ACCOUNT, True), ("acc_other", False)
    with workflow.runtime.db.read() as session:
        found = [informal.check_other_exports(session, owner, same, test=test) for owner, test in owners]
    assert [len(each) for each in found] == [1, 0, 0]


def test_ultimate_consignee_counts_not_ship_to(workflow: WorkflowHarness) -> None:
    first, same, other, elsewhere = (informal_plan(batch) for batch in ("one", "two", "three", "four"))
    first["units"][0]["parties"]["ultimateConsignees"] = [consignee()]
    same["units"][0]["parties"]["ultimateConsignees"] = [consignee(name="Demo Stores of Rochester")]
    other["units"][0]["parties"]["ultimateConsignees"] = [consignee(number="12-345678903")]
    elsewhere["units"][0]["parties"]["ultimateConsignees"] = [consignee()]
    elsewhere["units"][0]["entry"]["estimatedArrivalAt"] = "2026-11-27T18:00:00Z"
    workflow.accept(first)
    assert [each.message.partition(",")[0] for each in find_split(workflow, same)] == [
        "Batch one also has an informal entry for consignee Demo Stores of Rochester of unit U1 on 2026-11-26"
    ]
    assert [find_split(workflow, each) for each in (other, elsewhere, informal_plan("five"))] == [[], [], []]


def test_consignees_of_one_entry_are_compared_apart(workflow: WorkflowHarness) -> None:
    both = [consignee(packageRefs=["P1"]), consignee(packageRefs=["P2"], number="12-345678903")]
    first, first_again, second, cheap = (informal_plan(batch) for batch in ("one", "two", "three", "four"))
    for each in (first, first_again):
        each["units"][0]["parties"]["ultimateConsignees"] = both
    second["units"][0]["parties"]["ultimateConsignees"] = [both[0] | {"packageRefs": []}]
    cheap["units"][0]["parties"]["ultimateConsignees"] = [both[1] | {"packageRefs": []}]
    workflow.accept(first)
    (again,), (alone,) = find_split(workflow, first_again), find_split(workflow, second)
    assert again.message.startswith("Batch one also has an informal entry for consignee Demo Stores Inc of unit U1 ")
    # P1 has 1,500.00 and 52.00; P2 has 51.00.
    assert "about $3,104.00" in again.message
    assert "about $3,155.00" in alone.message
    assert find_split(workflow, cheap) == []


def test_cancelled_export_does_not_count(workflow: WorkflowHarness) -> None:
    export = workflow.accept(informal_plan("one"))
    cancel_export(workflow.runtime, factories.ACCOUNT, export.export_id, "key_test")
    assert find_split(workflow, informal_plan("two")) == []


def test_finding_can_be_waived(workflow: WorkflowHarness) -> None:
    workflow.accept(informal_plan("one"))
    new = NewWaiver.model_validate({"rule": "V27-DAY", "reason": "separate bills of lading", "endsOn": "2026-12-31"})
    waived = waivers.grant_waiver(workflow.runtime, factories.ACCOUNT, new, waived_by="key_test")
    (found,) = find_split(workflow, informal_plan("two"))
    assert found.waived_by == waived.id


def test_unit_keeps_day_consignee_and_value_only_of_informal_entry(workflow: WorkflowHarness) -> None:
    first = workflow.accept(informal_plan("one"))
    formal = workflow.accept(informal_plan("two", type="01"))
    rows = {row.export_id: row for row in workflow.rows(select(ExportUnit))}
    row = rows[first.export_id]
    assert row.informal_key is not None
    assert row.informal_key.startswith(f"{date(2026, 11, 26)} ")
    assert "Road" not in row.informal_key
    assert row.informal_usd is not None
    assert (rows[formal.export_id].informal_key, rows[formal.export_id].informal_usd) == (None, None)


def test_others_are_found_by_index_in_one_statement(workflow: WorkflowHarness) -> None:
    plans = [Plan.model_validate(each) for each in (informal_plan("one"), factories.plan())]
    database = workflow.runtime.db
    with database.read() as session, record_statements(database) as sent, record_plans(database) as plan:
        for each in plans:
            informal.check_other_exports(session, factories.ACCOUNT, each, test=False)
    (statement,) = [each for each in sent if "informal_key" in each]
    assert "LIMIT" in statement
    assert any("ix_units_informal" in line for line in plan), plan
