"""What an answer to a plan request recommends if nothing could be planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interfaces.api.test_orders import plan, sync, sync_everything
from tests.support import orders

if TYPE_CHECKING:
    from tests.interfaces.api.conftest import ApiHarness
    from tests.support.factories import Json

BY_PRODUCTS = "with POST /api/products/sync (or `exports products sync FILE`), then plan again."
SYNC_MISSING = "Sync the product with what missing_data names"


@pytest.mark.parametrize(
    ("orders_of", "action"),
    [
        (
            [orders.order("1", products=["none"])],
            f"Order 1: product none is not synced. Sync the product {BY_PRODUCTS}",
        ),
        (
            [orders.order("1", products=["bare"]), orders.order("2", products=["none", "more"])],
            f"Order 1: product bare has no htsCode. {SYNC_MISSING} {BY_PRODUCTS} excluded_orders has 1 more.",
        ),
    ],
)
def test_next_action_says_how_to_plan_what_could_not_be_planned(
    harness: ApiHarness, orders_of: list[Json], action: str
) -> None:
    client = harness.client("execute")
    sync(client, "products", orders.product(externalId="bare", htsCode=None))
    answer = plan(client, sync_everything(client, *orders_of))
    assert answer["next_recommended_action"] == action
    assert (answer["readinessState"], answer["state"]) == ("BLOCKED", "not_planned")


def test_next_action_for_charges_of_several_units_is_to_plan_them_apart(harness: ApiHarness) -> None:
    client = harness.client("execute")
    order_ids = sync_everything(client, orders.order("1"), orders.order("2", entryType="11"))
    answer = plan(client, order_ids)
    (missing,) = answer["missing_data"]
    assert (missing["field"], missing["remedy"]) == (
        "invoice.charges",
        "Plan the orders of each unit in a batch of its own.",
    )
    assert answer["next_recommended_action"] == f"{missing['message']} {missing['remedy']}"


def test_next_action_for_a_plan_that_its_schema_refuses_names_what_to_correct(harness: ApiHarness) -> None:
    client = harness.client("execute")
    goods = {"productId": orders.product()["externalId"], "quantity": "99999999", "unitValueUsd": "9999999999.99"}
    carton = {name: value for name, value in orders.PACKING.items() if name != "piecesPerCarton"}
    packed = carton | {"grossWeightKg": "10", "contents": [{"item": 0, "quantity": "99999999"}]}
    answer = plan(client, sync_everything(client, orders.order("1", items=[goods], packages=[packed])))
    assert (answer["readinessState"], answer["planHash"], answer["missing_data"]) == ("BLOCKED", None, [])
    assert answer["next_recommended_action"].startswith("Correct the order, product or plan template")
