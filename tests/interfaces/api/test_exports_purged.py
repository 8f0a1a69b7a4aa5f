"""What each call answers for a purged export: the remaining data, or that it was purged; never 500."""

from datetime import date
from typing import Any

import pytest
from sqlmodel import col, select

from pipeline.deliveries.models import Acknowledgement, Notification
from pipeline.exports.event_models import Event
from pipeline.ops import retention
from tests.interfaces.api.conftest import ApiHarness, execution
from tests.support import factories
from tests.support.people import sign_in_client

SAID = "canary: the importer's number is wrong"


@pytest.fixture
def purged_view(harness: ApiHarness) -> dict[str, Any]:
    """The view of an export before it was purged."""
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    view: dict[str, Any] = harness.client().get(f"/api/exports/{export_id}").json()
    assert view["state"] == "executed"
    assert retention.purge_expired(harness.runtime, date(2040, 1, 1)).exports == 1
    return view


def test_every_call_answers_for_a_purged_export(harness: ApiHarness, purged_view: dict[str, Any]) -> None:
    client, export_id = harness.client(), purged_view["exportId"]
    (package,), submission = purged_view["customs_packages"], purged_view["broker_submission"]["id"]
    artifact = purged_view["artifacts"][0]["id"]
    deliveries = client.get("/api/deliveries", params={"exportId": export_id}).json()["items"]
    changed = factories.change_plan(factories.plan(), "/units/0/parties/buyer/name", "Another buyer")
    for method, address, body, status in (
        ("GET", f"/api/exports/{export_id}", None, 200),
        ("GET", f"/api/exports/{export_id}/events", None, 200),
        ("GET", f"/api/exports/{export_id}/bundle", None, 409),
        ("GET", package["link"], None, 200),
        ("GET", f"/api/artifacts/{artifact}", None, 404),
        ("POST", f"/api/artifacts/{artifact}/links", None, 404),
        ("POST", f"/api/broker-submissions/{submission}/links", None, 404),
        ("GET", f"/api/deliveries/{deliveries[0]['id']}", None, 200),
        *[("GET", f"/api/notifications/{each['notificationId']}", None, 404) for each in deliveries],
        *[("GET", f"/api/deliveries/{each['id']}/payload", None, 409) for each in deliveries],
        *[("POST", f"/api/deliveries/{each['id']}/resend", None, 409) for each in deliveries],
        ("POST", f"/api/exports/{export_id}/cancel", None, 409),
        ("POST", f"/api/exports/{export_id}/retry", None, 409),
        ("POST", f"/api/exports/{export_id}/amend", execution(changed), 409),
        ("POST", "/api/exports/execute", execution(changed), 409),
        ("POST", "/api/exports/preflight", factories.plan(), 200),
        ("POST", "/api/exports/plans", factories.plan(), 200),
    ):
        answer = client.request(method, address, json=body)
        assert answer.status_code == status, (method, address, answer.text)
        if status == 409:
            assert answer.json()["errorCode"] in {"INVALID_STATE", "EXPORT_ALREADY_EXECUTED"}
    named = {"accountId": factories.ACCOUNT, "batchId": factories.BATCH}
    for address in ("/api/exports/execute", f"/api/exports/{export_id}/amend"):
        for body in (execution(factories.plan()), named):
            again = client.post(address, json=body)
            assert (again.status_code, again.json()["exportId"]) == (202, export_id)
    replay = {"since": "2020-01-01T00:00:00Z"}
    assert client.post(f"/api/partners/{factories.BROKER}/replay", json=replay).json()["messages"] == 0
    console = harness.client_with_key(None)
    sign_in_client(console, harness.runtime, "read")
    assert console.get(f"/console/exports/{export_id}").status_code == 200
    assert console.get(f"/console/artifacts/{artifact}").status_code == 404


def test_answer_after_the_purge_is_rejected_and_not_stored(harness: ApiHarness, purged_view: dict[str, Any]) -> None:
    def rows() -> tuple[int, ...]:
        with harness.runtime.db.read() as session:
            return tuple(len(session.exec(select(model)).all()) for model in (Acknowledgement, Event, Notification))

    before = rows()
    body = {"id": "late", "status": "rejected", "message": SAID}
    submission = purged_view["broker_submission"]["id"]
    answer = harness.client().post(f"/api/broker-submissions/{submission}/acknowledgements", json=body)
    assert (answer.status_code, answer.json()["errorCode"]) == (409, "INVALID_STATE")
    assert "was purged" in answer.json()["message"]
    assert rows() == before
    with harness.runtime.db.read() as session:
        assert session.exec(select(Acknowledgement).where(col(Acknowledgement.id) == "late")).all() == []
