"""Which numbers an amended export keeps: those that still stand on the same goods, and no others."""

from __future__ import annotations

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


def make_heavier(plan: factories.Json) -> factories.Json:
    """The same goods in the same packages, with another invoice."""
    return factories.change_plan(plan, "/units/0/invoice/paymentTerms", "30 days")


def test_the_same_packages_keep_their_labels_and_units_their_numbers(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, factories.plan(units=2))
    new = make_amendment(workflow, old, make_heavier(factories.plan(units=2)))
    workflow.finish(new.export_id)
    assert units(workflow, old) == [("U1", "CP-000001", True), ("U2", "CP-000002", True)]
    assert units(workflow, new.export_id) == [("U1", "CP-000001", False), ("U2", "CP-000002", False)]
    assert packages(workflow, old) == {
        name: (sscc, True) for name, (sscc, _) in packages(workflow, new.export_id).items()
    }
    assert [sscc for sscc, _ in packages(workflow, new.export_id).values()] == [FIRST, SECOND, THIRD, FOURTH]
    ids = {each.id for name in (old, new.export_id) for each in read(workflow, name).customs_packages}
    assert len(ids) == 4, "the ids of customs packages are new"


def test_a_package_that_holds_other_goods_gets_a_label_of_its_own(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    changed = make_heavier(factories.plan())
    first, second = changed["units"][0]["packages"]
    first["contents"], second["contents"] = second["contents"], first["contents"]
    first["grossWeightKg"], second["grossWeightKg"] = second["grossWeightKg"], first["grossWeightKg"]
    new = make_amendment(workflow, old, changed).export_id
    workflow.finish(new)
    assert packages(workflow, new) == {"1/P1": (THIRD, False), "1/P2": (FOURTH, False)}
    assert read(workflow, new).events[2].data["ssccsIssued"] == 2


def test_goods_of_another_sku_are_other_goods(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    new = make_amendment(
        workflow, old, factories.change_plan(factories.plan(), "/units/0/lines/1/sku", "SHIRT-XL")
    ).export_id
    workflow.finish(new)
    # L1 and L3 lie in P1, L2 lies in P2.
    assert packages(workflow, new) == {"1/P1": (FIRST, False), "1/P2": (THIRD, False)}
    assert [
        event.data.get("ssccsReused") for event in read(workflow, new).events if event.type == "PACKAGES_RECORDED"
    ] == [1]


def test_a_unit_of_another_name_is_renumbered_and_a_moved_one_keeps_its_number(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow, factories.plan(units=2))
    changed = factories.plan(units=3)
    changed["units"] = [changed["units"][2], changed["units"][0]]
    new = make_amendment(workflow, old, changed).export_id
    workflow.finish(new)
    assert units(workflow, new) == [("U3", "CP-000003", False), ("U1", "CP-000001", False)]
    assert [packages(workflow, new)[f"2/P{n}"][0] for n in (1, 2)] == [FIRST, SECOND]


def test_labels_outlive_a_revision_that_never_recorded_its_packages(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    between = make_amendment(workflow, old, make_heavier(factories.plan())).export_id
    with workflow.runtime.db.write() as session:
        session.get_one(Export, between).state = "failed"
    newest = make_amendment(
        workflow, between, factories.change_plan(factories.plan(), "/units/0/invoice/paymentTerms", "60 days")
    )
    workflow.finish(newest.export_id)
    assert packages(workflow, newest.export_id) == {"1/P1": (FIRST, False), "1/P2": (SECOND, False)}
    assert units(workflow, newest.export_id) == [("U1", "CP-000001", False)]


def test_a_failed_revision_hands_its_labels_on(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    failed = make_amendment(workflow, old, make_heavier(factories.plan())).export_id
    fail(workflow, failed)
    newest = make_amendment(workflow, failed, factories.plan()).export_id
    workflow.finish(newest)
    assert packages(workflow, newest) == {"1/P1": (FIRST, False), "1/P2": (SECOND, False)}
    assert packages(workflow, failed) == {"1/P1": (FIRST, True), "1/P2": (SECOND, True)}


def test_labels_of_the_plan_itself_pass_to_the_newer_revision(workflow: WorkflowHarness) -> None:
    labelled = factories.change_plan(factories.plan(), "/units/0/packages/0/sscc", "106141412345678908")
    old = execute_export(workflow, labelled)
    new = make_amendment(workflow, old, make_heavier(labelled)).export_id
    workflow.finish(new)
    assert packages(workflow, new) == {"1/P1": ("106141412345678908", False), "1/P2": (FIRST, False)}


def test_an_issued_label_may_be_written_into_the_plan_where_it_is(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    new = make_amendment(
        workflow, old, factories.change_plan(factories.plan(), "/units/0/packages/0/sscc", FIRST)
    ).export_id
    workflow.finish(new)
    assert packages(workflow, new) == {"1/P1": (FIRST, False), "1/P2": (SECOND, False)}


def test_a_label_that_another_package_keeps_cannot_be_written_elsewhere(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    with pytest.raises(PlanNotExecutable) as refused:
        make_amendment(workflow, old, factories.change_plan(factories.plan(), "/units/0/packages/1/sscc", FIRST))
    assert refused.value.field == "/units/0/packages/1/sscc"
    assert "was issued to package P1 of U1" in refused.value.message
    assert workflow.state(old) == "executed"


def test_a_label_that_another_batch_took_meanwhile_is_not_kept(workflow: WorkflowHarness) -> None:
    old = execute_export(workflow)
    new = make_amendment(workflow, old, make_heavier(factories.plan())).export_id
    other = workflow.accept(
        factories.change_plan(factories.plan(batch="other"), "/units/0/packages/0/sscc", FIRST)
    ).export_id
    workflow.step(other, 1, "record_packages")
    workflow.finish(new)
    assert packages(workflow, new) == {"1/P1": (FOURTH, False), "1/P2": (SECOND, False)}


def test_a_pallet_is_packed_alike_while_all_that_stands_on_it_is() -> None:
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
