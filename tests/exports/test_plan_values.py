"""Values of a plan by JSON Pointer."""

import copy
from typing import Any

import pytest

from pipeline.exports.plan_values import MISSING, NoSuchPlace, has_place, read_value, set_value

PLAN: dict[str, Any] = {
    "units": [{"unitRef": "U1", "lines": [{"lineRef": "L1", "sku": "A", "spi": None}, {"lineRef": "L2", "sku": "B"}]}],
    "a/b~c": ["x", "y"],
    "related": False,
}


def changed(pointer: str, value: Any) -> dict[str, Any]:
    plan = copy.deepcopy(PLAN)
    set_value(plan, pointer, value)
    return plan


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/units/0/lines/1/sku", "B"),
        ("/a~1b~0c/1", "y"),
        ("/units/0/lines/0/spi", None),
        ("/units/9/lines", MISSING),
        ("/units/-/lines", MISSING),
        ("/units/0/lines/0/sku/0", MISSING),
        ("/units/99999999999999999999", MISSING),
        ("/none", MISSING),
        ("", PLAN),
    ],
)
def test_pointer_leads_to_its_value(pointer: str, value: Any) -> None:
    assert read_value(PLAN, pointer) == value


@pytest.mark.parametrize("pointer", ["/units", "/units/0/entry/bond/type", "/units/0/lines/0/spi/x", "/a~1b~0c/1"])
def test_member_that_a_plan_may_have_is_a_place(pointer: str) -> None:
    assert has_place(PLAN, pointer)


@pytest.mark.parametrize(
    "pointer",
    [
        "", "/", "/none", "/units/", "/units/1", "/units/-", "/units/x/lines/0", "/units/0/lines/2",
        "/units/0/lines/0/sku/0",
    ],
)  # fmt: skip
def test_pointer_past_the_entries_of_a_plan_leads_nowhere(pointer: str) -> None:
    assert not has_place(PLAN, pointer)


@pytest.mark.parametrize(
    ("pointer", "old"),
    [("/units/0/lines/1/sku", "B"), ("/a~1b~0c/0", "x"), ("/units/0/lines/1/spi", MISSING), ("/a~1b~0c/2", MISSING)],
)
def test_written_value_is_the_only_change(pointer: str, old: Any) -> None:
    plan = changed(pointer, "new")
    assert (read_value(PLAN, pointer), read_value(plan, pointer)) == (old, "new")
    if old is not MISSING:
        set_value(plan, pointer, old)
        assert plan == PLAN


@pytest.mark.parametrize("pointer", ["", "/units/7/lines", "/units/0/lines/9", "/related/x", "/none/x", "/units/x"])
def test_place_that_cannot_hold_a_value_is_refused(pointer: str) -> None:
    with pytest.raises(NoSuchPlace):
        changed(pointer, "new")
