"""The API on each supported database: the same calls, the same answers."""

import pytest

from pipeline.exports.schemas.export import ExportView
from tests.interfaces.api.conftest import Open
from tests.support import factories

pytestmark = pytest.mark.databases


def test_all_read_calls_work_on_each_database(open_harness: Open, database_url: str) -> None:
    harness = open_harness(database_url)
    client = harness.client()
    export_id = harness.execute(factories.plan(units=2))
    harness.run(export_id)
    view = ExportView.model_validate(client.get(f"/api/exports/{factories.BATCH}").json())
    assert (view.export_id, view.state) == (export_id, "executed")
    assert [event.seq for event in view.events] == list(range(1, len(view.events) + 1))
    page = client.get(f"/api/exports/{export_id}/events", params={"after": 1}).json()
    assert [event["seq"] for event in page["items"]] == list(range(2, len(view.events) + 1))
    listed = client.get("/api/exports", params={"state": "executed", "acceptedAfter": "2026-01-01T00:00:00Z"}).json()
    assert [item["exportId"] for item in listed["items"]] == [export_id]
    for address in (view.links.bundle, view.customs_packages[0].link, view.links.deliveries, "/readyz", "/metrics"):
        assert client.get(address).status_code == 200, address
    deliveries = client.get("/api/deliveries", params={"exportId": export_id, "partnerId": factories.BROKER}).json()[
        "items"
    ]
    trace = client.get(f"/api/notifications/{deliveries[0]['notificationId']}").json()
    assert (trace["deliveries"], trace["brokerSubmission"]["partner_id"]) == (deliveries, factories.BROKER)
    assert client.get("/api/system/health").json()["status"] == "ok"
    assert client.post(f"/api/exports/{export_id}/cancel").json()["errorCode"] == "INVALID_STATE"
