"""The planning half of the public protocol: sync products and orders, plan a batch, and execute it."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from config.settings import HOME
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open
from tests.support import factories, orders
from tests.support.factories import Json
from tests.support.query_counter import record_statements
from tests.support.tables import table

PLAN, EXECUTE = "/api/exports/plan", "/api/exports/execute"


@pytest.fixture
def on_both(open_harness: Open, database_url: str) -> ApiHarness:
    """A running API on each database."""
    return open_harness(database_url)


def sync(client: httpx.Client, what: str, *items: Json) -> list[Json]:
    """Sync items and return what the answer says about them."""
    response = client.post(f"/api/{what}/sync", json={"accountId": factories.ACCOUNT, "items": [*items]})
    assert response.status_code == 200, response.text
    synced: list[Json] = response.json()["data"]
    return synced


def sync_everything(client: httpx.Client, *synced: Json) -> list[str]:
    """Sync a product, a plan template and orders; return the ids of the orders."""
    sync(client, "products", orders.product())
    sync(client, "plan-templates", orders.template())
    return [each["id"] for each in sync(client, "orders", *(synced or (orders.order(),)))]


def plan(client: httpx.Client, order_ids: list[str], **changes: Any) -> Json:
    response = client.post(PLAN, json=orders.plan_request(order_ids, **changes))
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


def execute(client: httpx.Client, batch_id: str) -> httpx.Response:
    return client.post(EXECUTE, json={"accountId": factories.ACCOUNT, "batchId": batch_id})


def test_orders_are_planned_executed_and_inspected(harness: ApiHarness) -> None:
    client = harness.client("execute", "read")
    order_ids = sync_everything(client, orders.order("1001"), orders.order("1002"))
    answer = plan(client, order_ids)
    assert (answer["readinessState"], answer["state"], answer["flags"]) == ("READY", "planned", [])
    assert answer["included_order_ids"] == order_ids
    accepted = execute(client, answer["batch_id"])
    assert accepted.status_code == 202, accepted.text
    harness.run(accepted.json()["exportId"])
    view = client.get(f"/api/exports/{answer['exportId']}").json()
    assert (view["state"], view["planHash"]) == ("executed", answer["planHash"])
    events = view["events"]
    assert [each["seq"] for each in events] == [*range(1, len(events) + 1)]
    accepted_event, created, planned = events[:3]
    assert accepted_event["type"] == "EXPORT_ACCEPTED"
    assert (created["type"], created["data"]["batchId"]) == ("EXPORT_BATCH_CREATED", answer["batch_id"])
    assert planned["type"] == "EXPORT_PLANNED"
    assert (planned["data"]["orders"], planned["data"]["planHash"]) == (2, answer["planHash"])
    assert (created["data"]["createdAt"][-1], planned["data"]["plannedAt"][-1]) == ("Z", "Z")


def test_address_of_planning_takes_only_post(harness: ApiHarness) -> None:
    response = harness.client().get(PLAN)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_sync_counts_the_contents_of_an_item(on_both: ApiHarness) -> None:
    client = on_both.client("execute")
    (first,) = sync(client, "orders", orders.order("1001"))
    (again,) = sync(client, "orders", orders.order("1001"))
    (changed,) = sync(client, "orders", orders.order("1001", metadata={}))
    assert {each["id"] for each in (first, again, changed)} == {first["id"]}
    assert [(each["change"], each["version"]) for each in (first, again, changed)] == [
        ("created", 1),
        ("unchanged", 1),
        ("updated", 2),
    ]


def test_number_of_statements_does_not_grow_with_the_items(on_both: ApiHarness) -> None:
    client = on_both.client("execute")

    def count_statements(orders_synced: int, region: str) -> int:
        given = [orders.order(str(number), destinationRegion=region) for number in range(orders_synced)]
        with record_statements(on_both.runtime.db) as statements:
            sync(client, "orders", *given)
        return sum("orders" in each for each in statements)

    counts = [[count_statements(size, region) for region in ("NY", "CA", "CA")] for size in (3, 400)]
    # The first sync of 400 creates most of them and changes three.
    assert counts == [[2, 2, 1], [3, 2, 1]]


def test_key_replays_the_first_sync_and_refuses_another(harness: ApiHarness) -> None:
    client = harness.client("execute")
    headers = {"Idempotency-Key": "k1"}
    first = client.post("/api/orders/sync", json=orders.order_sync(), headers=headers).raise_for_status()
    again = client.post("/api/orders/sync", json=orders.order_sync() | {"idempotencyKey": "x"}, headers=headers)
    other = client.post("/api/orders/sync", json=orders.order_sync(orders.order("1002")), headers=headers)
    assert again.json() == first.json()
    assert (other.status_code, other.json()["errorCode"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    # Another call has its own keys.
    client.post("/api/products/sync", json=orders.product_sync(), headers=headers).raise_for_status()


def test_same_plan_request_gives_the_same_batch_and_hash(harness: ApiHarness) -> None:
    client = harness.client("execute")
    order_ids = sync_everything(client, orders.order("1001"), orders.order("1002"))
    first, again = plan(client, order_ids), plan(client, order_ids[::-1])
    assert (first["batch_id"], first["planHash"]) == (again["batch_id"], again["planHash"])
    dry = plan(client, order_ids, dryRun=True)
    assert (dry["state"], dry["planHash"]) == ("dry_run", first["planHash"])
    assert factories.plan_hash(dry["plan"]) == first["planHash"]


def test_dry_run_stores_nothing(harness: ApiHarness) -> None:
    client = harness.client("execute")
    order_ids = sync_everything(client)
    answer = plan(client, order_ids, dryRun=True, idempotencyKey="dry")
    assert (answer["readinessState"], answer["flags"]) == ("READY", ["DRY_RUN"])
    assert execute(client, answer["batch_id"]).status_code == 404
    assert plan(client, order_ids, batchId="batch_other")["readinessState"] == "READY"


@table(
    ("what", "body", "status", "field"),
    [
        ("orders", orders.order_sync(*(orders.order(str(number)) for number in range(1001))), 400, "items"),
        ("orders", orders.order_sync(orders.order("1"), orders.order("1")), 400, "items.1.externalId"),
        ("products", orders.product_sync(orders.product(), orders.product()), 400, "items.1.externalId"),
        (
            "plan-templates",
            orders.template_sync(orders.template(), orders.template()),
            400,
            "items.1.destinationCountry",
        ),
        ("orders", orders.order_sync() | {"accountId": OTHER}, 403, "accountId"),
        ("orders", orders.order_sync(orders.order("1", currency="CAD")), 400, "items.0"),
        ("orders", orders.order_sync(orders.order("1", items=[{"productId": "p", "quantity": 1}])), 400, "items.0"),
        (
            "orders",
            orders.order_sync(orders.order("1", items=[{"productId": "p", "quantity": 0, "unitValueUsd": 1}])),
            400,
            "items.0.items.0.quantity",
        ),
        (
            "orders",
            orders.order_sync(orders.order("1", items=[{"productId": "p", "quantity": True, "unitValueUsd": 1}])),
            400,
            "items.0.items.0.quantity",
        ),
        ("orders", orders.order_sync(orders.order("1", metadata={"a": "x" * 10_001})), 400, "items.0.metadata"),
        ("products", orders.product_sync(orders.product(htsCode="7323.93")), 400, "items.0.htsCode"),
        ("products", orders.product_sync(orders.product(externalId="x" * 129)), 400, "items.0.externalId"),
    ],
)
def test_wrong_sync_names_its_field(harness: ApiHarness, what: str, body: Json, status: int, field: str) -> None:
    response = harness.client("execute").post(f"/api/{what}/sync", json=body)
    assert (response.status_code, response.json()["field"]) == (status, field), response.text


def reasons(answer: Json) -> dict[str, str]:
    return {each["externalId"] or each["orderId"]: each["reason"] for each in answer["excluded_orders"]}


def test_each_excluded_order_has_its_reason(harness: ApiHarness) -> None:
    client = harness.client("execute")
    sync(client, "products", {"externalId": "bare"}, orders.product(packing=None, externalId="unpacked"))
    order_ids = sync_everything(
        client,
        orders.order("good"),
        orders.order("away", destinationCountry="MX"),
        orders.order("unknown product", products=["nothing"]),
        orders.order("bare product", products=["bare"]),
        orders.order("no cartons", products=["unpacked"]),
    )
    answer = plan(client, [*order_ids, "ord_none", order_ids[0]])
    assert answer["readinessState"] == "READY_WITH_WARNINGS"
    assert answer["included_order_ids"] == order_ids[:1]
    assert reasons(answer) == {
        "away": "OTHER_DESTINATION",
        "unknown product": "UNKNOWN_PRODUCT",
        "bare product": "MISSING_DATA",
        "no cartons": "MISSING_DATA",
        "ord_none": "UNKNOWN_ORDER",
    }
    missing = {(each["id"], each["field"]) for each in answer["missing_data"]}
    assert {("bare", "htsCode"), ("bare", "countryOfOrigin"), ("bare", "treatment"), ("unpacked", "packing")} <= missing
    assert ("nothing", "") in missing
    paths = {each["path"] for each in answer["validationMessages"]}
    assert paths >= {"product.bare.htsCode", "product.nothing", "orderIds.ord_none"}
    syncs = {"UNKNOWN_ORDER": "orders", "UNKNOWN_PRODUCT": "products", "MISSING_DATA": "products"}
    for each in answer["excluded_orders"]:
        if each["reason"] in syncs:
            assert f"POST /api/{syncs[each['reason']]}/sync" in each["remedy"], each
    assert all("POST /api/products/sync" in each["remedy"] for each in answer["missing_data"])


def test_plan_without_a_destination_goes_to_the_united_states(harness: ApiHarness) -> None:
    client = harness.client("execute")
    away, home = sync_everything(client, orders.order("away", destinationCountry="MX"), orders.order("home"))
    answer = plan(client, [away, home])
    assert (answer["included_order_ids"], reasons(answer)) == ([home], {"away": "OTHER_DESTINATION"})
    (excluded,) = answer["excluded_orders"]
    assert "destinationCountry MX" in excluded["remedy"]
    unknown = plan(client, ["ord_none"])
    assert (unknown["missing_data"], reasons(unknown)) == ([], {"ord_none": "UNKNOWN_ORDER"})
    assert unknown["next_recommended_action"].startswith("No order ord_none is synced. Sync it")


def test_plan_states_how_the_entry_is_filed(harness: ApiHarness) -> None:
    client = harness.client("execute")
    order_ids = sync_everything(client)
    filing = {"filerCode": "X1Z", "bond": {"type": "8", "suretyCode": "123"}}
    sync(client, "plan-templates", orders.template(entry=orders.template()["entry"] | {"filing": filing}))
    trip = {"number": "DEMO20261126"}
    side = {"declaration": "cers", "proofOfReport": "NS1234202611261234567"}
    answer = plan(
        client,
        order_ids,
        dryRun=True,
        entry={"trip": trip, "shipmentControlNumber": "DEMO00000002"},
        canadianExport=side,
    )
    (unit,) = answer["plan"]["units"]
    entry = unit["entry"]
    assert unit["canadianExport"]["proofOfReport"] == "NS1234202611261234567"
    assert (entry["filing"]["filerCode"], entry["filing"]["bond"]["suretyCode"]) == ("X1Z", "123")
    assert (entry["trip"]["number"], entry["shipmentControlNumber"]) == ("DEMO20261126", "DEMO00000002")
    assert (entry["portOfEntry"], entry["exportDate"]) == ("0901", "2026-11-26")
    refused = client.post("/api/plan-templates/sync", json=orders.template_sync(orders.template(entry={"trip": trip})))
    assert refused.json()["field"] == "items.0.entry.trip"


def test_nothing_is_guessed_without_a_template(harness: ApiHarness) -> None:
    client = harness.client("execute")
    sync(client, "products", orders.product())
    (order,) = sync(client, "orders", orders.order())
    answer = plan(client, [order["id"]])
    assert (answer["readinessState"], answer["state"], answer["planHash"]) == ("BLOCKED", "not_planned", None)
    assert [(each["subject"], each["id"]) for each in answer["missing_data"]] == [("plan_template", "US")]
    by_templates = "with POST /api/plan-templates/sync (or `exports plan-templates sync FILE`), then plan again."
    assert answer["next_recommended_action"] == f"No plan template for US is synced. Sync it {by_templates}"
    sync(client, "plan-templates", {"destinationCountry": "US"})
    named = {each["field"] for each in plan(client, [order["id"]])["missing_data"]}
    assert named == {
        "exportCountry", "seller", "importerOfRecord", "exporterContact", "entry.portOfEntry", "entry.modeOfTransport",
        "invoice.incoterm", "invoice.incotermPlace", "invoice.reasonForExport", "invoice.relatedParties",
        "invoice.assists", "approvedBy", "entry.exportDate", "entry.type", "buyer", "shipTo",
    }  # fmt: skip


def test_plan_that_nobody_approves_is_not_registered(harness: ApiHarness) -> None:
    client = harness.client("execute")
    order_ids = sync_everything(client)
    sync(client, "plan-templates", orders.template(approvedBy=None))
    answer = plan(client, order_ids)
    assert (answer["readinessState"], answer["state"]) == ("BLOCKED", "not_planned")
    assert "NEEDS_APPROVAL" in answer["flags"]
    assert execute(client, answer["batch_id"]).status_code == 404


def test_blocking_findings_stand_in_the_answer_and_stop_the_execution(harness: ApiHarness) -> None:
    client = harness.client("execute")
    carton = {name: orders.PACKING[name] for name in ("type", "lengthCm", "widthCm", "heightCm", "tareWeightKg")}
    packed = carton | {"grossWeightKg": "9.5", "contents": [{"item": 0, "quantity": 9}]}
    order_ids = sync_everything(client, orders.order(packages=[packed]))
    answer = plan(client, order_ids)
    assert (answer["readinessState"], answer["state"]) == ("BLOCKED", "planned")
    blocking = [each for each in answer["validationMessages"] if each["severity"] == "block"]
    assert blocking
    found = [(each["pointer"], each["path"]) for each in blocking]
    assert found == [("/units/0/lines/0/quantity", "order.1001.items.0.quantity")]
    assert "Look at order.1001.items.0.quantity, then plan" in answer["next_recommended_action"]
    assert answer["missing_data"] == []
    refused = execute(client, answer["batch_id"])
    assert (refused.status_code, refused.json()["errorCode"]) == (422, "PLAN_NOT_EXECUTABLE")


def test_fact_that_a_rule_misses_is_missing_data_of_its_product(harness: ApiHarness) -> None:
    client = harness.client("execute")
    order_ids = sync_everything(client)
    treatment = orders.product()["treatment"] | {"section232": []}
    sync(client, "products", orders.product(treatment=treatment))
    sync(client, "plan-templates", orders.template(approvedBy=None))
    answer = plan(client, order_ids, dryRun=True)
    name = orders.product()["externalId"]
    facts = [(each["subject"], each["id"], each["field"], each["orders"]) for each in answer["missing_data"]]
    assert facts == [("plan_template", "US", "approvedBy", []), ("product", name, "treatment.section232", order_ids)]
    assert "MISSING_DATA" in answer["flags"]
    # The finding itself is the message: it is not repeated.
    paths = [each["path"] for each in answer["validationMessages"] if each["severity"] == "block"]
    assert paths.count(f"product.{name}.treatment.section232") == 1


def read_example(name: str) -> Json:
    body: Json = json.loads((HOME / "examples" / "orders" / f"{name}.json").read_text(encoding="utf-8"))
    return body | {"accountId": factories.ACCOUNT}


def test_example_files_make_a_plan_that_is_ready(harness: ApiHarness) -> None:
    client = harness.client("execute")
    for what in ("products", "plan-template"):
        client.post(f"/api/{what.removesuffix('s')}s/sync", json=read_example(what)).raise_for_status()
    synced = client.post("/api/orders/sync", json=read_example("orders")).raise_for_status().json()["data"]
    assert plan(client, [each["id"] for each in synced])["readinessState"] == "READY"


def test_social_security_number_of_a_consignee_is_not_shown(harness: ApiHarness) -> None:
    client = harness.client("execute", "read")
    consignee = {"name": "Buyer 1", "address": factories.PARTIES["buyer"]["address"], "number": "123-45-6789"}
    sync(client, "orders", orders.order("1", ultimateConsignee=consignee))
    shown = client.get("/api/orders/1").json()["order"]["ultimateConsignee"]
    assert (shown["name"], shown["number"]) == ("Buyer 1", "XXX-XX-6789")


def test_order_is_found_by_an_external_id_with_slashes(harness: ApiHarness) -> None:
    client = harness.client()
    names = ("2026/1001", "a?b#c", "1001", "A1", "a1")
    synced = dict(zip(names, sync(client, "orders", *map(orders.order, names)), strict=True))
    for name in names:
        shown = client.get(f"/api/orders/{quote(name, safe='')}").json()
        assert (shown["id"], shown["externalId"]) == (synced[name]["id"], name)
    assert client.delete(f"/api/orders/{quote('2026/1001', safe='')}").status_code == 200
    assert client.get("/api/orders/2026").status_code == 404


def test_order_is_shown_and_deleted(on_both: ApiHarness) -> None:
    client = on_both.client()
    one, two = sync_everything(client, orders.order("1001"), orders.order("1002"))
    batch_id = plan(client, [one, two])["batch_id"]
    shown = client.get("/api/orders/1002").json()
    assert (shown["id"], shown["batch_id"], shown["exportId"]) == (two, batch_id, None)
    assert shown["order"]["items"][0]["unitValueUsd"] == "25.5"
    assert client.delete(f"/api/orders/{two}").json() == shown
    assert client.get(f"/api/orders/{two}").status_code == 404
    # The plan has the deleted order.
    assert execute(client, batch_id).status_code == 409
    plan(client, [one], batchId=batch_id)
    assert execute(client, batch_id).status_code == 202
    refused = client.delete(f"/api/orders/{one}")
    assert (refused.status_code, refused.json()["errorCode"]) == (409, "INVALID_STATE")
    assert on_both.client(account=OTHER).get("/api/orders/1001").status_code == 404
