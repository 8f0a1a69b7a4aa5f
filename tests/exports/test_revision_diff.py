"""Differences of two plans: entries by id, pointers into the older plan, and nothing that a reorder alone causes."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exports.revision_diff import FieldChange, PlanPart, compare_plans
from tests.customs.transport_cases import member, trip
from tests.support import factories


def compare(change: Any) -> list[FieldChange]:
    """Return the differences that `change` of a copy of a plan makes."""
    old = factories.plan(units=2, lines=4)
    new = copy.deepcopy(old)
    change(new)
    return [*compare_plans(old, new)]


def read_pointer(pointer: str) -> Any:
    return factories.read_pointer(factories.plan(units=2, lines=4), pointer)


def test_equal_plans_do_not_differ_whatever_hash_and_approval_are() -> None:
    assert compare(lambda plan: plan.update(planHash="sha256:1", approval={"approvedBy": "x"})) == []


def test_new_first_line_is_one_difference_and_shifts_no_other() -> None:
    def change(plan: factories.Json) -> None:
        lines = plan["units"][0]["lines"]
        lines.insert(0, lines[0] | {"lineRef": "L9"})

    (added,) = compare(change)
    assert (added.part, added.unit_ref, added.entry_ref, added.field) == (PlanPart.LINES, "U1", "L9", "")
    assert (added.old, added.pointer, added.in_treatment) == (None, None, True)


def test_order_of_entries_does_not_count() -> None:
    assert compare(lambda plan: plan["units"][0]["lines"].reverse()) == []
    assert compare(lambda plan: plan["units"].reverse()) == []


def test_changes_name_part_field_values_and_place() -> None:
    def change(plan: factories.Json) -> None:
        plan["units"][1]["lines"][2]["unitPrice"] = "9.99"
        plan["units"][0]["lines"][1]["treatment"]["chapter99"].pop()
        plan["units"][0]["parties"]["buyer"]["address"]["city"] = "Erie"
        plan["units"][0]["packages"][1]["grossWeightKg"] = "7"
        plan["broker"]["id"] = "br_other"
        del plan["units"][1]["packages"][0]

    found = compare(change)
    removed = read_pointer("/units/0/lines/1/treatment/chapter99")[-1]["heading"]
    assert {(each.part, each.unit_ref, each.entry_ref, each.field) for each in found} == {
        (PlanPart.HEADER, "", "", "broker, id"),
        (PlanPart.LINES, "U1", "L2", f"chapter 99, {removed}"),
        (PlanPart.PARTIES, "U1", "", "buyer, address, city"),
        (PlanPart.PACKAGES, "U1", "P2", "gross weight kg"),
        (PlanPart.LINES, "U2", "L3", "unit price"),
        (PlanPart.PACKAGES, "U2", "P1", ""),
    }
    assert [each.entry_ref for each in found if each.in_treatment] == ["L2"]
    for each in found:
        assert each.pointer is not None
        assert read_pointer(each.pointer) == each.old


def test_missing_and_empty_are_the_same() -> None:
    def change(plan: factories.Json) -> None:
        del plan["units"][0]["lines"][0]["attributes"]
        plan["units"][0]["invoice"]["purchaseOrder"] = ""

    assert compare(change) == []


@pytest.mark.parametrize("refs", [["L1", "L1"], ["L1", None], ["L1", {"a": 1}]])
def test_entries_without_unique_ids_are_compared_as_a_whole(refs: list[Any]) -> None:
    old = {"units": [{"unitRef": "U1", "lines": [{"lineRef": ref} for ref in refs]}]}
    found = [*compare_plans(old, {"units": [{"unitRef": "U1", "lines": [{"lineRef": "L1"}]}]})]
    assert found
    assert {each.part for each in found} == {PlanPart.LINES}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["units", "lines", "unitRef", "lineRef", "a/b", "~"]), inner, max_size=4)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(["units", "broker", "lines"]), JSON, max_size=3)


@given(OBJECTS, OBJECTS)
def test_any_documents_can_be_compared_and_an_equal_one_has_no_difference(old: Any, new: Any) -> None:
    assert [*compare_plans(old, old)] == []
    for each in compare_plans(old, new):
        assert each.old != each.new
        if each.pointer:
            steps = [step.replace("~1", "/").replace("~0", "~") for step in each.pointer[1:].split("/")]
            place: Any = old
            for step in steps:
                place = place[int(step)] if isinstance(place, list) else place[step]
            assert place == each.old


def test_comparison_hides_what_identifies_the_crew_beyond_the_name() -> None:
    def add(plan: Any) -> None:
        plan["units"][0]["entry"]["trip"] = trip()

    (added,) = compare(add)
    assert added.field == "entry, trip"
    (driver,) = added.new["crew"]
    assert (driver["familyName"], driver["dateOfBirth"], driver["documents"]) == ("Driver", "[hidden]", "[hidden]")
    old, new = factories.plan(), factories.plan()
    old["units"][0]["entry"]["trip"] = trip()
    new["units"][0]["entry"]["trip"] = trip(
        number="DEMO2",
        crew=[member(dateOfBirth="1970-01-01", documents=[{**member()["documents"][0], "number": "X1"}])],
    )
    changes = {each.field: (each.old, each.new) for each in compare_plans(old, new)}
    assert changes.pop("entry, trip, number") == ("DEMO261126A", "DEMO2")
    assert changes.keys() == {
        "entry, trip, crew, no. 1, date of birth",
        "entry, trip, crew, no. 1, documents, no. 1, number",
    }
    assert set(changes.values()) == {("[hidden]", "[hidden]")}
