"""Who receives the goods of a line: by package, by the package around it, by order, or all."""

import copy
from typing import Any

import pytest

from pipeline.exports.consignees import Recipients, list_recipients
from pipeline.exports.schemas.plan import Unit
from tests.support import factories

ADDRESS = factories.PARTIES["shipTo"]["address"]


def recipients(*consignees: dict[str, Any], **changes: Any) -> list[Recipients]:
    # P1 holds the lines L1 and L3, P2 holds L2; L1 and L2 are of ord_1, L3 is of ord_2, both packages are of ord_1.
    unit = copy.deepcopy(factories.unit())
    unit["parties"]["ultimateConsignees"] = [
        {"name": "Demo Stores Inc", "address": ADDRESS} | each for each in consignees
    ]
    return list_recipients(Unit.model_validate(unit | changes))


def whole(*places: int) -> Recipients:
    return Recipients(places, complete=True)


NOBODY = Recipients((), complete=False)


def test_nobody_without_consignees() -> None:
    assert recipients() == [NOBODY] * 3


def test_single_consignee_has_everything() -> None:
    assert recipients({}) == [whole(0)] * 3


def test_consignees_without_goods_have_nothing() -> None:
    assert recipients({}, {}) == [NOBODY] * 3


def test_package_decides_before_order() -> None:
    assert recipients({"orderIds": ["ord_1", "ord_2"]}, {"packageRefs": ["P2"]}) == [whole(0), whole(1), whole(0)]


def test_order_of_line_decides_before_order_of_package() -> None:
    assert recipients({"orderIds": ["ord_1"]}, {"orderIds": ["ord_2"]}) == [whole(0), whole(0), whole(1)]


def test_order_of_package_counts_for_lines_without_order() -> None:
    lines = [line | {"orderId": None} for line in factories.unit()["lines"]]
    assert recipients({"orderIds": ["ord_1"]}, lines=lines) == [whole(0)] * 3


def test_outer_package_decides_for_all_inside() -> None:
    first, second = factories.unit()["packages"]
    pallet = first | {"packageRef": "PLT", "type": "PLT", "contents": [], "orderId": None, "lpn": None}
    packages = [pallet, first | {"parentRef": "PLT"}, second]
    assert recipients({"packageRefs": ["PLT"]}, {"packageRefs": ["P2"]}, packages=packages) == [
        whole(0),
        whole(1),
        whole(0),
    ]


@pytest.mark.timeout(20)
def test_packages_inside_each_other_end() -> None:
    first, second = factories.unit()["packages"]
    packages = [first | {"parentRef": "P2"}, second | {"parentRef": "P1"}]
    assert recipients({"packageRefs": ["P2"]}, packages=packages) == [whole(0)] * 3


def test_line_in_two_packages_has_both() -> None:
    first, second = factories.unit()["packages"]
    packages = [first, second | {"contents": [{"lineRef": "L2", "quantity": "4"}, {"lineRef": "L1", "quantity": "1"}]}]
    assert recipients({"packageRefs": ["P1"]}, {"packageRefs": ["P2"]}, packages=packages)[0] == whole(0, 1)
    assert recipients({"packageRefs": ["P2"]}, packages=packages)[0] == Recipients((0,), complete=False)
