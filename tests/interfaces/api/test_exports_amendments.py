"""Amend, cancel and replay over HTTP: roles, `If-Match`, and published messages."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from pipeline.deliveries.streams import sender
from pipeline.exports.schemas.export import ExportView
from pipeline.workflow.steps import TaskMessage
from tests.interfaces.api.conftest import ApiHarness, Open, execution
from tests.interfaces.api.test_errors import assert_refused
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.console.work.test_inbox import answer
from tests.support import factories
from tests.support.servers import poll
from tests.support.tables import table

PLAN = factories.plan()
CHANGED = factories.plan(lines=4)


def execute_plan(harness: ApiHarness, plan: factories.Json = PLAN) -> str:
    export_id = harness.execute(plan)
    harness.run(export_id)
    return export_id


def amend(client: httpx.Client, name: str, plan: factories.Json = CHANGED, **headers: str) -> httpx.Response:
    sent = {each.replace("_", "-"): value for each, value in headers.items()}
    return client.post(f"/api/exports/{name}/amend", json=execution(plan), headers=sent)


@pytest.mark.parametrize("role", ["execute", "operate"])
def test_amendment_is_accepted_published_and_notified(harness: ApiHarness, role: str) -> None:
    old = execute_plan(harness)
    response = amend(harness.client(role), old)
    view = ExportView.model_validate(response.json())
    assert (response.status_code, response.headers["location"]) == (202, f"/api/exports/{view.export_id}")
    assert (view.revision, view.supersedes, view.state) == (2, old, "accepted")
    assert harness.publisher.exports[-1] == (view.export_id, 1)
    assert {(task.export_id, task.partner_id) for task in harness.publisher.tasks} == {
        (old, factories.BROKER),
        (old, factories.WAREHOUSE),
    }
    before = harness.client().get(f"/api/exports/{old}").json()
    assert (before["state"], before["supersededBy"]) == ("superseded", view.export_id)
    assert harness.client().get(f"/api/exports/{factories.BATCH}").json()["exportId"] == view.export_id


def test_filed_entry_is_replaced_only_by_a_correction(harness: ApiHarness) -> None:
    old, client = answer(harness, "filed"), harness.client("operate")
    plan = factories.plan(batch="asked", invoice="INV-asked", lines=4)
    assert_refused(amend(client, old, plan), 409, "ENTRY_FILED", "/query/afterFiling")
    url = f"/api/exports/{old}/amend?afterFiling="
    assert client.post(f"{url}replacement", json=execution(plan)).status_code == 400
    assert client.post(f"{url}correction", json=execution(plan)).status_code == 202


def test_amend_with_if_match_needs_the_current_version(harness: ApiHarness) -> None:
    old, client = execute_plan(harness), harness.client()
    tag = client.get(f"/api/exports/{old}").headers["etag"]
    response = amend(client, old, If_Match='"another"')
    assert_refused(response, 412, "PRECONDITION_FAILED", "If-Match")
    assert harness.rows()["exports"] == 1
    first = amend(client, factories.BATCH, If_Match=tag, Idempotency_Key="once")
    assert first.status_code == 202
    again = amend(client, factories.BATCH, If_Match=tag, Idempotency_Key="once")
    assert (again.text, again.headers["idempotent-replayed"]) == (first.text, "true")
    assert_refused(amend(client, old, If_Match=tag), 412, "PRECONDITION_FAILED", "If-Match")
    assert harness.rows()["exports"] == 2


@pytest.mark.system
def test_concurrent_amendments_with_one_etag_give_one_revision(open_harness: Open, database_url: str) -> None:
    harness = open_harness(database_url, database_timeout_seconds=60)
    old = execute_plan(harness)
    bearer = harness.key("operate").bearer
    tag = harness.client().get(f"/api/exports/{old}").headers["etag"]

    def post(number: int) -> httpx.Response:
        headers = {"Authorization": f"Bearer {bearer}", "If-Match": tag}
        body = execution(factories.plan(lines=4 + number % 5))
        url = f"{harness.url}/api/exports/{old}/amend"
        return httpx.post(url, json=body, headers=headers, timeout=120, trust_env=False)

    with ThreadPoolExecutor(20) as pool:
        codes = [answer.status_code for answer in pool.map(post, range(20))]
    assert codes.count(202) == 1
    assert set(codes) == {202, 412}
    assert harness.rows()["exports"] == 2
    assert len(harness.publisher.exports) == 2


def test_prefer_wait_answers_when_the_new_revision_has_ended(harness: ApiHarness) -> None:
    old, client = execute_plan(harness), harness.client()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(amend, client, old, Prefer="wait=20")
        poll(lambda: len(harness.publisher.exports) == 2 or waiting.done(), 60, "nothing was published")
        assert not waiting.done(), waiting.result().text
        harness.run(harness.publisher.exports[-1][0])
        response = waiting.result(timeout=60)
    assert (response.status_code, response.json()["state"], response.json()["revision"]) == (200, "executed", 2)


def test_amend_of_a_running_export_says_to_wait_or_cancel(harness: ApiHarness) -> None:
    export_id, client = harness.execute(PLAN), harness.client()
    body = assert_refused(amend(client, export_id), 409, "INVALID_STATE")
    assert "wait until it has ended, or cancel it" in body["message"]
    assert client.post(f"/api/exports/{export_id}/cancel").json()["state"] == "cancelled"
    assert harness.publisher.tasks == [TaskMessage(export_id, partner_id=factories.OPERATOR, channel="queue")]
    assert_refused(amend(client, export_id), 409, "INVALID_STATE")


def test_partner_is_replayed_page_by_page(harness: ApiHarness) -> None:
    export_id = execute_plan(harness)
    answer = harness.client("operate").post(
        f"/api/partners/{factories.WAREHOUSE}/replay", json={"since": "2026-01-01T00:00:00Z"}
    )
    assert answer.status_code == 202
    assert answer.json() | {"until": None} == {
        "partnerId": factories.WAREHOUSE,
        "since": "2026-01-01T00:00:00Z",
        "until": None,
        "messages": 2,
        "exports": 1,
        "next": None,
    }
    assert harness.publisher.tasks == [TaskMessage(export_id, partner_id=factories.WAREHOUSE, channel="queue")]


@table(
    ("body", "field"),
    [
        ({}, "/since"),
        ({"since": "2026-01-01T00:00:00"}, "/since"),
        ({"since": "2026-01-01T00:00:00Z", "states": ["pending"]}, "/states/0"),
        ({"since": "2026-01-01T00:00:00Z", "eventTypes": ["exports.none.v1"]}, "/eventTypes/0"),
    ],
)
def test_replay_with_an_invalid_body_is_rejected(harness: ApiHarness, body: factories.Json, field: str) -> None:
    client = harness.client()
    assert_refused(
        client.post(f"/api/partners/{factories.WAREHOUSE}/replay", json=body), 400, "VALIDATION_ERROR", field
    )
    assert_refused(
        client.post("/api/partners/wh_none/replay", json={"since": "2026-01-01T00:00:00Z"}), 404, "NOT_FOUND"
    )


def test_console_links_an_export_with_its_revisions(harness: ApiHarness) -> None:
    old = execute_plan(harness)
    new = amend(harness.client(), old).json()["exportId"]
    client = sign_in_browser(harness, "read")
    assert f'href="/console/exports/{new}"' in client.get(f"/console/exports/{old}").text
    assert f'href="/console/exports/{old}"' in client.get(f"/console/exports/{new}").text
    assert "revision 2" in client.get("/console/exports").text


def test_stream_of_a_superseded_export_ends_after_its_deliveries(harness: ApiHarness) -> None:
    old, client = execute_plan(harness), harness.client()
    amend(client, old)
    address = f"/api/exports/{old}/events"
    after = client.get(address).json()["items"][-1]["seq"]
    for task in harness.publisher.tasks:
        sender.deliver_stream(harness.runtime, old, str(task.partner_id), str(task.channel))
    newest = client.get(address, params={"after": after}).json()["items"][-1]["seq"]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(newest)}
    assert client.get(address, headers=headers).status_code == 204


def test_replay_that_ends_before_its_start_is_rejected(harness: ApiHarness) -> None:
    span = {"since": "2026-02-01T00:00:00Z", "until": "2026-01-31T23:59:59+00:00"}
    answer = harness.client("operate").post(f"/api/partners/{factories.WAREHOUSE}/replay", json=span)
    refusal = assert_refused(answer, 400, "VALIDATION_ERROR", "/until")
    assert refusal["message"] == "/until must not be before since; give a later instant"
