"""Orders are in one batch at a time, and leave with one export: plans again, changes, dry runs, concurrent requests."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.interfaces.api.conftest import OTHER, ApiHarness, Open
from tests.interfaces.api.test_orders import EXECUTE, PLAN, execute, plan, reasons, sync, sync_everything
from tests.support import factories, orders
from tests.support.factories import Json

pytestmark = pytest.mark.databases


@pytest.fixture
def on_both(open_harness: Open, database_url: str) -> ApiHarness:
    """A running API on each database."""
    return open_harness(database_url)


def test_order_is_in_one_batch_at_a_time(on_both: ApiHarness) -> None:
    client = on_both.client("execute")
    one, two = sync_everything(client, orders.order("1001"), orders.order("1002"))
    first = plan(client, [one, two], batchId="batch_first")
    other = plan(client, [two], batchId="batch_other")
    assert (other["readinessState"], reasons(other)) == ("BLOCKED", {"1002": "IN_OTHER_BATCH"})
    assert other["excluded_orders"][0]["batch_id"] == "batch_first"
    # The first batch is planned again without the order, which frees it; its older plan cannot be executed any more.
    plan(client, [one], batchId="batch_first")
    assert plan(client, [two], batchId="batch_other")["readinessState"] == "READY"
    body = {"accountId": factories.ACCOUNT, "batchId": "batch_first", "planHash": first["planHash"]}
    stale = client.post(EXECUTE, json=body)
    assert (stale.status_code, stale.json()["errorCode"]) == (409, "PLAN_HASH_MISMATCH")
    accepted = execute(client, "batch_first")
    assert (accepted.status_code, accepted.json()["planHash"] == first["planHash"]) == (202, False)
    exported = plan(client, [one], batchId="batch_third")
    assert reasons(exported) == {"1001": "ALREADY_EXPORTED"}
    repeated = client.post(PLAN, json=orders.plan_request([one], batchId="batch_first"))
    assert (repeated.status_code, repeated.json()["errorCode"]) == (409, "EXPORT_ALREADY_EXECUTED")


def test_older_plan_of_a_batch_is_found_again_when_its_orders_are_planned_again(on_both: ApiHarness) -> None:
    client = on_both.client("execute")
    one, two = sync_everything(client, orders.order("1001"), orders.order("1002"))
    hashes = [plan(client, each, batchId="batch_first")["planHash"] for each in ([one], [one, two], [one])]
    assert hashes[0] == hashes[2] != hashes[1]
    accepted = execute(client, "batch_first")
    assert (accepted.status_code, accepted.json()["planHash"]) == (202, hashes[0])
    assert plan(client, [two], batchId="batch_other")["readinessState"] == "READY"


def test_changed_order_must_be_planned_again(on_both: ApiHarness) -> None:
    client = on_both.client("execute")
    order_ids = sync_everything(client)
    batch_id = plan(client, order_ids)["batch_id"]
    sync(client, "orders", orders.order(destinationPostalCode="14203"))
    refused = execute(client, batch_id)
    assert (refused.status_code, refused.json()["errorCode"], refused.json()["field"]) == (
        409,
        "INVALID_STATE",
        "batchId",
    )
    assert plan(client, order_ids)["batch_id"] == batch_id
    assert execute(client, batch_id).status_code == 202


def test_changed_product_or_template_must_be_planned_again(on_both: ApiHarness) -> None:
    client = on_both.client("execute")
    order_ids = sync_everything(client)
    batch_id = plan(client, order_ids)["batch_id"]
    changes: list[tuple[str, Json, str]] = [
        ("products", orders.product(description="Frying pan of stainless steel, for household use"), "product PAN-0"),
        ("plan-templates", orders.template(approvedBy="desk@maple.example"), "the plan template for US"),
    ]
    for what, changed, name in changes:
        sync(client, what, changed)
        refused = execute(client, batch_id)
        assert (refused.status_code, refused.json()["errorCode"]) == (409, "INVALID_STATE")
        assert refused.json()["message"].startswith(f"{name} has changed since batch {batch_id} was planned; plan it")
        assert plan(client, order_ids)["batch_id"] == batch_id
    # The same data again, a product that the plan does not have, and another account's of this name change nothing.
    sync(client, "products", changes[0][1], orders.product(1, externalId="another"))
    body = {"accountId": OTHER, "items": [orders.product(description="Frying pan of aluminum, for household use")]}
    on_both.client("execute", account=OTHER).post("/api/products/sync", json=body).raise_for_status()
    assert execute(client, batch_id).status_code == 202


@pytest.mark.parametrize("way", ["registered", "sent"])
def test_approved_plan_of_a_dry_run_takes_its_orders(on_both: ApiHarness, way: str) -> None:
    client = on_both.client()
    order_ids = sync_everything(client)
    dry: Json = plan(client, order_ids, batchId="batch_dry", dryRun=True)["plan"]
    plan(client, order_ids, batchId="batch_planned")

    def execute_plan(own: Json) -> httpx.Response:
        body: Json = {"accountId": factories.ACCOUNT, "batchId": own["batchId"]}
        if way == "registered":
            client.post("/api/exports/plans", json=own).raise_for_status()
        return client.post(EXECUTE, json=body if way == "registered" else body | {"plan": own})

    accepted = execute_plan(dry)
    assert accepted.status_code == 202, accepted.text
    assert client.get("/api/orders/1001").json()["exportId"] == accepted.json()["exportId"]
    assert reasons(plan(client, order_ids)) == {"1001": "ALREADY_EXPORTED"}
    assert execute(client, "batch_planned").status_code == 409
    other = factories.change_plan(dry, "/units/0/entry/shipmentControlNumber", "DEMO00000002") | {
        "batchId": "batch_again"
    }
    again = execute_plan(other)
    assert (again.status_code, again.json()["errorCode"]) == (409, "INVALID_STATE")
    assert "order 1001 was exported with batch batch_dry as export exp_" in again.json()["message"]
    client.post(f"/api/exports/{accepted.json()['exportId']}/cancel").raise_for_status()
    assert execute_plan(other).status_code == 202


@pytest.mark.parametrize("stop", ["cancel", "withdraw"])
def test_stopped_export_frees_its_orders(harness: ApiHarness, stop: str) -> None:
    client = harness.client()
    order_ids = sync_everything(client)
    batch_id = plan(client, order_ids)["batch_id"]
    export_id = execute(client, batch_id).json()["exportId"]
    if stop == "withdraw":
        harness.run(export_id)
    client.post(f"/api/exports/{export_id}/{stop}", json={"reason": "The buyer called."}).raise_for_status()
    if stop == "withdraw":
        assert reasons(plan(client, order_ids)) == {"1001": "ALREADY_EXPORTED"}
        submission = client.get(f"/api/exports/{export_id}").json()["broker_submission"]["id"]
        answer = {"id": "w-1", "status": "withdrawn"}
        client.post(f"/api/broker-submissions/{submission}/acknowledgements", json=answer).raise_for_status()
    answer = plan(client, order_ids)
    assert answer["readinessState"] == "READY"
    assert answer["batch_id"] != batch_id
    assert execute(client, answer["batch_id"]).status_code == 202


def test_test_key_has_its_own_orders(harness: ApiHarness) -> None:
    live, test = harness.client("execute"), harness.client("execute", mode="test")
    order_ids = sync_everything(live)
    assert reasons(plan(test, order_ids)) == {order_ids[0]: "UNKNOWN_ORDER"}
    (own,) = sync_everything(test)
    assert own != order_ids[0]
    dry = plan(test, [own], dryRun=True, brokerId="br_test", warehouseId="wh_test")["plan"]
    for line in dry["units"][0]["lines"]:
        line["orderId"] = order_ids[0]
    body = {"accountId": factories.ACCOUNT, "batchId": dry["batchId"], "plan": dry}
    accepted = test.post(EXECUTE, json=body)
    assert accepted.status_code == 202, accepted.text
    assert live.get("/api/orders/1001").json()["exportId"] is None


def test_concurrent_plans_of_one_batch_leave_one_of_them(on_both: ApiHarness) -> None:
    client = on_both.client("execute")
    order_ids = sync_everything(client, *(orders.order(str(number)) for number in range(8)))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: plan(client, [each], batchId="batch_one"), order_ids))
    assert {each["state"] for each in answers} == {"planned"}
    executed = execute(client, "batch_one")
    assert executed.status_code == 202, executed.text
    winner = next(each for each in answers if each["planHash"] == executed.json()["planHash"])
    others = [each for each in order_ids if each not in winner["included_order_ids"]]
    rest = plan(client, others, batchId="batch_rest")
    assert rest["included_order_ids"] == others


def test_concurrent_plans_of_one_order_give_it_to_one_batch(on_both: ApiHarness) -> None:
    client = on_both.client("execute")
    (order_id,) = sync_everything(client)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda number: plan(client, [order_id], batchId=f"batch_{number:03d}"), range(6)))
    assert sorted(each["readinessState"] for each in answers) == ["BLOCKED"] * 5 + ["READY"]


def test_execute_of_an_unknown_short_batch_is_invalid(harness: ApiHarness) -> None:
    response = execute(harness.client("execute"), "b")
    assert (response.status_code, response.json()["errorCode"], response.json()["field"]) == (
        400,
        "VALIDATION_ERROR",
        "batchId",
    )
