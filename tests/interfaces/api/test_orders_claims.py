"""Orders with claims, discounts, charges, rebates and assists reach the plan, and each answer names the next action."""

import copy
from typing import Any

import pytest

from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.api.test_orders import execute, plan, sync, sync_everything
from tests.support import factories, orders
from tests.support.factories import Json

CLAIM: Json = {
    "provision": "9801.00.10",
    "exemptValue": "3000.00",
    "dutiableValue": "0",
    "exportedOn": "2026-06-15",
    "proof": "Declarations of the foreign shipper and of the importer, 19 CFR 10.1",
}
FREIGHT: Json = {"code": "freight", "amount": "12.00", "dutiable": False}
#: What the request of a batch of returned goods states instead of the plan template.
RETURN: Json = {
    "reasonForExport": "return",
    "valuationBasis": "Price of the sale of the same bags to the exporter",
    "saleDate": None,
    "salePlace": None,
}


def bag(**changes: Any) -> Json:
    """Return a product that was made in the United States and comes back."""
    returned: Json = {
        "externalId": "TOTE-RETURNED",
        "description": "Shopping bags of cotton canvas, made in the United States, returned unsold and not altered",
        "htsCode": "4202921500",
        "countryOfOrigin": "US",
        "manufacturer": {
            "name": "Harbor Bags Inc",
            "address": {
                "line1": "75 Ferry Street",
                "city": "Buffalo",
                "region": "NY",
                "postalCode": "14213",
                "country": "US",
            },
            "mid": "USHARBAG75BUF",
        },
        "spi": None,
        "usmcaCertificateRef": None,
        "attributes": {"fibre": "100 % cotton", "construction": "woven"},
        "treatment": {},
    }
    return orders.product(**(returned | changes))


def returned(claim: Json | None = CLAIM, **changes: Any) -> Json:
    item = {"productId": "TOTE-RETURNED", "quantity": 200, "unitValueUsd": "15.00", "chapter98": claim}
    return orders.order("RMA-1", items=[item], **changes)


def prepare(harness: ApiHarness, *synced: Json) -> tuple[Any, list[str]]:
    """Sync products, a template without charges, and the orders; return a client and the ids of the orders."""
    client = harness.client()
    sync(client, "products", bag())
    order_ids = sync_everything(client, *synced)
    template = orders.template()
    template["invoice"]["charges"] = []
    sync(client, "plan-templates", template)
    return client, order_ids


def read_estimate(harness: ApiHarness, client: Any, export_id: str) -> list[Json]:
    """Execute the work of the export, and return the estimate of each unit."""
    harness.run(export_id)
    view = client.get(f"/api/exports/{export_id}").json()
    assert view["state"] == "executed"
    artifacts = [each for each in view["artifacts"] if each["artifact_type"] == "entry_estimate"]
    return [client.get(f"/api/artifacts/{each['id']}").json()["estimate"] for each in artifacts]


def test_returned_goods_leave_without_duty(harness: ApiHarness) -> None:
    client, order_ids = prepare(harness, returned(charges=[FREIGHT]))
    answer = plan(client, order_ids, invoice=RETURN)
    assert [each for each in answer["validationMessages"] if each["severity"] != "note"] == []
    assert (answer["readinessState"], answer["missing_data"]) == ("READY", [])
    dry = plan(client, order_ids, invoice=RETURN, dryRun=True)
    (line,) = dry["plan"]["units"][0]["lines"]
    assert line["chapter98"] == CLAIM
    (estimate,) = read_estimate(harness, client, execute(client, answer["batch_id"]).json()["exportId"])
    (row,) = estimate["lines"]
    assert (row["enteredValueUsd"], row["division"]["dutiableValueUsd"]) == ("3000", "0")


def test_repaired_goods_leave_with_duty_on_the_repair(harness: ApiHarness) -> None:
    repair = {"provision": "9802.00.40", "exemptValue": "2400.00", "dutiableValue": "600.00"}
    client, order_ids = prepare(harness, returned(CLAIM | repair, charges=[FREIGHT]))
    answer = plan(client, order_ids, invoice=RETURN | {"reasonForExport": "repair"})
    assert (answer["state"], answer["missing_data"]) == ("planned", []), answer["validationMessages"]
    (estimate,) = read_estimate(harness, client, execute(client, answer["batch_id"]).json()["exportId"])
    (row,) = estimate["lines"]
    parts = row["division"]["exemptValueUsd"], row["division"]["dutiableValueUsd"]
    assert (row["enteredValueUsd"], parts) == ("3000", ("2400", "600"))


def test_missing_parts_of_a_claim_are_missing_data(harness: ApiHarness) -> None:
    bare = {name: CLAIM[name] for name in ("provision", "exemptValue", "dutiableValue")}
    client, order_ids = prepare(harness, returned(bare))
    sync(client, "products", bag(countryOfOrigin="CA"))
    answer = plan(client, order_ids, invoice=RETURN)
    missing = {(each["subject"], each["id"], each["field"]): each for each in answer["missing_data"]}
    places = {("order", "RMA-1", f"items.0.chapter98.{name}") for name in ("proof", "exportedOn")}
    assert places <= missing.keys()
    assert all(missing[each]["orders"] == order_ids for each in places)
    assert all("POST /api/orders/sync" in missing[each]["remedy"] for each in places)
    assert "MISSING_DATA" in answer["flags"]


def test_wrong_division_of_a_claim_names_the_order(harness: ApiHarness) -> None:
    client, order_ids = prepare(harness, returned(CLAIM | {"exemptValue": "2900.00"}))
    answer = plan(client, order_ids, invoice=RETURN)
    blocking = [each for each in answer["validationMessages"] if each["severity"] == "block"]
    assert [(each["code"], each["path"]) for each in blocking] == [
        ("H11", "order.RMA-1.items.0.chapter98.dutiableValue")
    ]
    assert execute(client, answer["batch_id"]).status_code == 422


def test_terms_of_an_order_change_no_value_of_another(harness: ApiHarness) -> None:
    discount = {"name": "Coupon", "amount": "55.00"}
    assist = {"name": "Mould for the handles, supplied by the buyer", "amount": "20.00"}
    rebate = {"name": "Export rebate", "amount": "3.00"}
    usual = orders.order("usual")
    cheaper = orders.order("cheaper", discounts=[discount], assistItems=[assist], charges=[FREIGHT], rebates=[rebate])
    client, order_ids = prepare(harness, usual, cheaper)
    answer = plan(client, order_ids)
    assert [(each["total"], each["order_ids"]) for each in answer["export_units"]] == [
        ("255.00", order_ids[:1]),
        ("212.00", order_ids[1:]),
    ]
    assert [each for each in answer["validationMessages"] if each["severity"] == "block"] == []
    invoices = [each["invoice"] for each in plan(client, order_ids, dryRun=True)["plan"]["units"]]
    assert [each["assists"] for each in invoices] == ["none", "declared"]
    assert [(each["charges"], each["discounts"]) for each in invoices[:1]] == [([], [])]
    assert (invoices[1]["rebates"], invoices[1]["assistItems"]) == ([rebate], [assist])
    estimates = read_estimate(harness, client, execute(client, answer["batch_id"]).json()["exportId"])
    assert [[row["enteredValueUsd"] for row in each["lines"]] for each in estimates] == [["255"], ["220"]]


def test_unknown_worth_of_an_assist_is_missing_data_of_its_order(harness: ApiHarness) -> None:
    client, order_ids = prepare(harness, orders.order("1001", assistItems=[{"name": "Mould"}]))
    answer = plan(client, order_ids)
    facts = [(each["subject"], each["id"], each["field"]) for each in answer["missing_data"]]
    assert facts == [("order", "1001", "assistItems.0.amount")]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"chapter98": CLAIM | {"provision": "9903.01.01"}}, "items.0.items.0.chapter98.provision"),
        ({"chapter98": {"provision": "9801.00.10"}}, "items.0.items.0.chapter98.exemptValue"),
        ({"chapter98": CLAIM | {"exemptValue": "-1"}}, "items.0.items.0.chapter98.exemptValue"),
    ],
)
def test_wrong_claim_is_refused_with_its_place(harness: ApiHarness, changes: Json, field: str) -> None:
    order = copy.deepcopy(orders.order("1001"))
    order["items"][0] |= changes
    response = harness.client("execute").post("/api/orders/sync", json=orders.order_sync(order))
    assert (response.status_code, response.json()["field"]) == (400, field), response.text


def test_order_may_not_say_whether_it_has_assists(harness: ApiHarness) -> None:
    body = orders.order_sync(orders.order("1001", assists="none", discounts=[{"name": "Coupon", "amount": "x"}]))
    response = harness.client("execute").post("/api/orders/sync", json=body)
    places = {each["path"] for each in response.json()["details"]["issues"]}
    assert (response.status_code, places) == (400, {"items.0.assists", "items.0.discounts.0.amount"}), response.text
    assert factories.ACCOUNT in body["accountId"]


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
