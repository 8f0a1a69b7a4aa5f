"""An amended export keeps the numbers of packages with the same goods, and no others."""

import copy

import pytest

from pipeline.core.errors import PlanNotExecutable
from pipeline.exports.models import Export
from pipeline.exports.schemas.plan import Unit
from pipeline.exports.sscc import same_packages
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, fail, make_amendment, packages, read, units

FIRST, SECOND, THIRD = "006141410000000012", "006141410000000029", "006141410000000036"
FOURTH = "006141410000000043"


def change_invoice(plan: factories.Json) -> factories.Json:
    """Return the plan with another invoice, but the same goods in the same packages."""
    return factories.change_plan(plan, "/units/0/invoice/paymentTerms", "30 days")


def test_unchanged_packages_keep_labels_and_unit_numbers(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, factories.plan(units=2))
    new = make_amendment(workflow, old, change_invoice(factories.plan(units=2)))
    workflow.finish(new.export_id)
    assert units(workflow, old) == [("U1", "CP-000001", True), ("U2", "CP-000002", True)]
    assert units(workflow, new.export_id) == [("U1", "CP-000001", False), ("U2", "CP-000002", False)]
    assert packages(workflow, old) == {
        name: (sscc, True) for name, (sscc, _) in packages(workflow, new.export_id).items()
    }
    assert [sscc for sscc, _ in packages(workflow, new.export_id).values()] == [FIRST, SECOND, THIRD, FOURTH]
    ids = {each.id for name in (old, new.export_id) for each in read(workflow, name).customs_packages}
    assert len(ids) == 4, "each customs package has its own id"


def test_package_with_other_goods_gets_new_label(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    changed = change_invoice(factories.plan())
    first, second = changed["units"][0]["packages"]
    first["contents"], second["contents"] = second["contents"], first["contents"]
    first["grossWeightKg"], second["grossWeightKg"] = second["grossWeightKg"], first["grossWeightKg"]
    new = make_amendment(workflow, old, changed).export_id
    workflow.finish(new)
    assert packages(workflow, new) == {"1/P1": (THIRD, False), "1/P2": (FOURTH, False)}
    assert read(workflow, new).events[2].data["ssccsIssued"] == 2


def test_package_with_other_sku_gets_new_label(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    new = make_amendment(
        workflow, old, factories.change_plan(factories.plan(), "/units/0/lines/1/sku", "SHIRT-XL")
    ).export_id
    workflow.finish(new)
    # P1 holds L1 and L3, P2 holds L2.
    assert packages(workflow, new) == {"1/P1": (FIRST, False), "1/P2": (THIRD, False)}
    assert [
        event.data.get("ssccsReused") for event in read(workflow, new).events if event.type == "PACKAGES_RECORDED"
    ] == [1]


def test_renamed_unit_gets_new_number_and_moved_unit_keeps_it(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, factories.plan(units=2))
    changed = factories.plan(units=3)
    changed["units"] = [changed["units"][2], changed["units"][0]]
    new = make_amendment(workflow, old, changed).export_id
    workflow.finish(new)
    assert units(workflow, new) == [("U3", "CP-000003", False), ("U1", "CP-000001", False)]
    assert [packages(workflow, new)[f"2/P{n}"][0] for n in (1, 2)] == [FIRST, SECOND]


def test_labels_survive_revision_without_recorded_packages(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    between = make_amendment(workflow, old, change_invoice(factories.plan())).export_id
    with workflow.runtime.db.write() as session:
        session.get_one(Export, between).state = "failed"
    newest = make_amendment(
        workflow, between, factories.change_plan(factories.plan(), "/units/0/invoice/paymentTerms", "60 days")
    )
    workflow.finish(newest.export_id)
    assert packages(workflow, newest.export_id) == {"1/P1": (FIRST, False), "1/P2": (SECOND, False)}
    assert units(workflow, newest.export_id) == [("U1", "CP-000001", False)]


def test_labels_of_failed_revision_pass_to_the_next(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    failed = make_amendment(workflow, old, change_invoice(factories.plan())).export_id
    fail(workflow, failed)
    newest = make_amendment(workflow, failed, factories.plan()).export_id
    workflow.finish(newest)
    assert packages(workflow, newest) == {"1/P1": (FIRST, False), "1/P2": (SECOND, False)}
    assert packages(workflow, failed) == {"1/P1": (FIRST, True), "1/P2": (SECOND, True)}


def test_labels_from_the_plan_pass_to_the_next_revision(workflow: WorkflowHarness) -> None:
    labelled = factories.change_plan(factories.plan(), "/units/0/packages/0/sscc", "106141412345678908")
    old = execute_export(workflow, labelled)
    new = make_amendment(workflow, old, change_invoice(labelled)).export_id
    workflow.finish(new)
    assert packages(workflow, new) == {"1/P1": ("106141412345678908", False), "1/P2": (FIRST, False)}


def test_issued_label_in_plan_of_same_package_is_accepted(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    new = make_amendment(
        workflow, old, factories.change_plan(factories.plan(), "/units/0/packages/0/sscc", FIRST)
    ).export_id
    workflow.finish(new)
    assert packages(workflow, new) == {"1/P1": (FIRST, False), "1/P2": (SECOND, False)}


def test_issued_label_in_plan_of_other_package_is_refused(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    with pytest.raises(PlanNotExecutable) as refused:
        make_amendment(workflow, old, factories.change_plan(factories.plan(), "/units/0/packages/1/sscc", FIRST))
    assert refused.value.field == "/units/0/packages/1/sscc"
    assert "was issued to package P1 of U1" in refused.value.message
    assert workflow.state(old) == "executed"


def test_label_used_by_another_batch_is_not_kept(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    new = make_amendment(workflow, old, change_invoice(factories.plan())).export_id
    other = workflow.accept(
        factories.change_plan(factories.plan(batch="other"), "/units/0/packages/0/sscc", FIRST)
    ).export_id
    workflow.step(other, 1, "record_packages")
    workflow.finish(new)
    assert packages(workflow, new) == {"1/P1": (FOURTH, False), "1/P2": (SECOND, False)}


def test_same_packages_includes_pallet_only_with_unchanged_packages() -> None:
    before = factories.unit(packages=2)
    pallet = copy.deepcopy(before["packages"][0]) | {"packageRef": "PAL", "contents": [], "lpn": None}
    before["packages"] = [pallet, *({**package, "parentRef": "PAL"} for package in before["packages"])]
    same = Unit.model_validate(before)
    assert same_packages(same, same) == {"PAL", "P1", "P2"}
    other = copy.deepcopy(before)
    other["packages"][1]["contents"][0]["quantity"] = "3"
    assert same_packages(same, Unit.model_validate(other)) == {"P2"}
    without = copy.deepcopy(before)
    without["packages"][1]["parentRef"] = None
    assert same_packages(same, Unit.model_validate(without)) == {"P1", "P2"}
