"""The console's pages of partners and dead letters: content, roles, and that only their own forms are accepted."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core.clock import utc_now
from pipeline.deliveries.streams import sender
from pipeline.exports.models import Export
from pipeline.interfaces.console.partners import partners as partner_pages
from pipeline.simulation.partners.http import WebhookReceiver
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories
from tests.support.http_endpoint import Endpoint, Script
from tests.support.query_counter import record_statements

HOOKED = "wh_hook"


@pytest.fixture
def webhook_harness(open_harness: Open) -> ApiHarness:
    """A running API whose partners may be on loopback, and whose deliveries become dead letters after one attempt."""
    return open_harness(allow_private_destinations=True, delivery_schedule_seconds=(0.001,))


@pytest.fixture
def endpoint() -> Iterator[Any]:
    """Starts HTTP endpoints that follow a script."""
    with ExitStack() as running:
        yield lambda *script: running.enter_context(Endpoint(script or (Script(),)))


def register(harness: ApiHarness, url: str, *, live: bool = True, name: str = "Hooked warehouse") -> str:
    """Register a warehouse with a webhook, and return its secret."""
    new = {"id": HOOKED, "kind": "warehouse", "name": name, "live": live}
    endpoint = {"channel": "webhook", "address": url}
    return partners.create_partner(
        harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new | {"channels": [endpoint]})
    ).secret


def post(client: httpx.Client, page: str, action: str, **fields: str) -> httpx.Response:
    """Send the form of a page that posts to `action`, with these fields."""
    form = re.search(rf'<form method="post" action="{re.escape(action)}".*?</form>', client.get(page).text, re.DOTALL)
    assert form is not None, f"{page} has no form for {action}"
    csrf_token = re.search(r'name="csrf_token" value="([^"]+)"', form[0])
    assert csrf_token is not None
    return client.post(action, data={"csrf_token": csrf_token[1], **fields})


def make_dead_letter(harness: ApiHarness) -> str:
    """Make a dead letter to the hooked warehouse, and return its delivery's id."""
    export_id = harness.execute(factories.plan(warehouse=HOOKED, packages=1))
    harness.run(export_id)
    while not (dead := harness.client("read").get("/api/deliveries", params={"state": "dead"}).json()["items"]):
        sender.deliver_stream(harness.runtime, export_id, HOOKED, "webhook")
    (letter,) = dead
    return str(letter["id"])


def test_partner_page_tests_activates_pauses_and_resumes(webhook_harness: ApiHarness) -> None:
    client = sign_in_browser(webhook_harness, "admin")
    page = f"/console/partners/{HOOKED}"
    with WebhookReceiver() as placeholder:
        secret = register(webhook_harness, placeholder.url, live=False)
        port = int(placeholder.url.rsplit(":", 1)[1].split("/", 1)[0])
    assert "run its connection test, and activate it" in client.get(page).text
    with WebhookReceiver([secret], port=port):
        response = post(client, page, f"{page}/test")
    assert (response.status_code, "Every stage passed" in response.text) == (200, True)
    shown = client.get(page).text
    for stage in ("resolve", "connect", "TLS", "signed event", "wrongly signed event", "old event"):
        assert f'<td class="whole">{stage}</td>' in shown
    assert ">failed<" not in shown
    # The receiver speaks plain HTTP: there was nothing to test.
    assert shown.count('<span class="pill skipped">skipped</span>') == 1
    for action, state in (("activate", "live"), ("pause", "paused"), ("resume", "live")):
        assert post(client, page, f"{page}/{action}").status_code == 303
        assert partners.get_partner(webhook_harness.runtime, factories.ACCOUNT, HOOKED).state == state
        assert f'<span class="pill {state}">{state}</span>' in client.get(page).text
    assert "passed, <time" in client.get("/console/partners").text


def test_partners_are_listed_by_pages(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partner_pages, "PAGE_SIZE", 2)
    client, found, address = sign_in_browser(harness, "read"), [], "/console/partners"
    while address:
        page = client.get(address).text
        found.append(re.findall(r"<br><code>(\w+)</code>", page))
        (address,) = re.findall(r'<a href="([^"]+)">More partners</a>', page) or [""]
    every = [each.id for each in partners.list_partners(harness.runtime, factories.ACCOUNT)]
    assert found == [every[:2], every[2:4], every[4:]]
    assert len(every) == 5


def test_list_of_exports_reads_only_the_names_of_partners(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "read")
    with record_statements(harness.runtime.db) as statements:
        page = client.get("/console/exports").text
    assert f'<option value="{factories.BROKER}">' in page
    assert [each for each in statements if "FROM partner_channels" in each or "FROM connection_tests" in each] == []


def test_failed_stage_is_shown_with_its_remedy(webhook_harness: ApiHarness) -> None:
    client = sign_in_browser(webhook_harness, "admin")
    page = f"/console/partners/{HOOKED}"
    with WebhookReceiver(fault="accepts-forged") as bad:
        register(webhook_harness, bad.url, live=False)
        post(client, page, f"{page}/test")
    shown = client.get(page).text
    assert re.search(
        r'wrongly signed event</td><td data-label="Outcome"><span class="pill failed">failed</span>', shown
    )
    assert "<strong>Make it verify webhook-signature first" in shown
    assert post(client, page, f"{page}/test").status_code == 200
    assert partners.get_partner(webhook_harness.runtime, factories.ACCOUNT, HOOKED).state == "testing"


@pytest.mark.usefixtures("treat_as_internet")
def test_dead_letter_is_listed_explained_and_resent(webhook_harness: ApiHarness, endpoint: Any) -> None:
    hook = endpoint(Script(404, b"no such path"), Script(404, b"no such path"), Script(204))
    register(webhook_harness, hook.url)
    letter = make_dead_letter(webhook_harness)
    client = sign_in_browser(webhook_harness, "operate")
    assert re.search(
        rf'{HOOKED}</code></td>.*?<span class="pill dead">1</span>', client.get("/console/partners").text, re.DOTALL
    )
    for page in ("/console/deliveries?state=dead", f"/console/partners/{HOOKED}", f"/console/deliveries/{letter}"):
        shown = client.get(page).text
        assert "The endpoint answered 404" in shown
        assert "<strong>Correct the address of the webhook.</strong>" in shown
    assert client.get(f"/console/deliveries/{letter}").text.count("no such path") == 2
    response = post(client, f"/console/deliveries/{letter}", f"/console/deliveries/{letter}/resend")
    assert (response.status_code, response.headers["location"]) == (303, f"/console/deliveries/{letter}")
    (task,) = webhook_harness.publisher.tasks
    assert (task.partner_id, task.channel) == (HOOKED, "webhook")
    assert sender.deliver_stream(webhook_harness.runtime, task.export_id, HOOKED, "webhook").delivered == 1
    ids = {request.headers["webhook-id"] for request in hook.requests}
    assert len(ids) == 1
    assert '<span class="pill delivered">delivered</span>' in client.get(f"/console/deliveries/{letter}").text
    assert "No delivery is dead." in client.get("/console/deliveries?state=dead").text


@pytest.mark.usefixtures("treat_as_internet")
@pytest.mark.system
def test_delivery_page_shows_request_and_response_of_each_attempt(webhook_harness: ApiHarness, endpoint: Any) -> None:
    hook = endpoint(Script(503, b"<b>busy</b>", headers={"Retry-After": "0", "Set-Cookie": "a=secret"}), Script(410))
    secret = register(webhook_harness, f"{hook.url}/in?token=secret")
    letter = make_dead_letter(webhook_harness)
    page = sign_in_browser(webhook_harness, "read").get(f"/console/deliveries/{letter}").text
    assert page.count("<strong>POST</strong>") == 2
    assert f'<code class="long">{hook.url}/in?token=[hidden]</code>' in page
    assert '<dt>webhook-signature</dt><dd class="long">[hidden]</dd>' in page
    assert "<dt>retry-after</dt>" in page
    assert "&lt;b&gt;busy&lt;/b&gt;" in page
    sent = dict(hook.requests[0].headers)
    assert [word for word in ("secret", secret, sent["webhook-signature"]) if word in page] == []
    assert f'<dd class="long">{sent["webhook-id"]}</dd>' in page
    assert "<code>packageRef</code>" in page
    assert page.count('<details class="attempt" open>') == 1


def test_dead_letter_leads_to_the_connection_test(webhook_harness: ApiHarness) -> None:
    register(webhook_harness, "http://127.0.0.1:9/hook")
    letter = make_dead_letter(webhook_harness)
    page, action = f"/console/deliveries/{letter}", f"/console/partners/{HOOKED}/test"
    for roles in (("read",), ("read", "operate")):
        assert action not in sign_in_browser(webhook_harness, *roles).get(page).text
    client = sign_in_browser(webhook_harness, "read", "admin")
    assert f'action="{action}"' in client.get(page).text
    assert post(client, page, action).status_code == 200
    tested = partners.get_partner(webhook_harness.runtime, factories.ACCOUNT, HOOKED).last_test
    assert tested is not None
    assert not tested.passed


def test_delivery_page_says_that_an_endpoint_did_not_answer(webhook_harness: ApiHarness) -> None:
    register(webhook_harness, "http://127.0.0.1:9/hook")
    letter = make_dead_letter(webhook_harness)
    page = sign_in_browser(webhook_harness, "read").get(f"/console/deliveries/{letter}").text
    assert "There was no response." in page
    assert "http://127.0.0.1:9/hook" in page


def test_delivery_page_of_a_purged_export_has_no_body(webhook_harness: ApiHarness) -> None:
    register(webhook_harness, "http://127.0.0.1:9/hook")
    letter = make_dead_letter(webhook_harness)
    with webhook_harness.runtime.db.write() as session:
        session.execute(update(Export).values(purged_at=utc_now()))
    page = sign_in_browser(webhook_harness, "read").get(f"/console/deliveries/{letter}")
    assert (page.status_code, "It was purged with its export" in page.text) == (200, True)


def test_partner_page_replays_messages_since_an_instant(webhook_harness: ApiHarness, endpoint: Any) -> None:
    register(webhook_harness, endpoint().url)
    export_id = webhook_harness.execute(factories.plan(warehouse=HOOKED, packages=2))
    webhook_harness.run(export_id)
    client = sign_in_browser(webhook_harness, "operate")
    page = f"/console/partners/{HOOKED}"
    response = post(client, page, f"{page}/replay", since="2026-01-01T00:00")
    assert response.headers["location"] == f"{page}?replayed=2"
    assert "2 messages are pending again." in client.get(response.headers["location"]).text
    assert {task.partner_id for task in webhook_harness.publisher.tasks} == {HOOKED}
    wrong = post(client, page, f"{page}/replay", since="yesterday")
    assert (wrong.status_code, "must be in UTC" in wrong.text) == (400, True)


def test_rejected_action_is_shown_on_the_page(webhook_harness: ApiHarness) -> None:
    register(webhook_harness, "http://127.0.0.1:9/", live=False)
    client = sign_in_browser(webhook_harness, "admin")
    page = f"/console/partners/{HOOKED}"
    csrf_token = re.findall(r'name="csrf_token" value="([^"]+)"', client.get(page).text)[0]
    refused = client.post(f"{page}/activate", data={"csrf_token": csrf_token})
    assert (refused.status_code, "run its connection test" in refused.text) == (409, True)
    assert client.post(f"{page}/delete", data={"csrf_token": csrf_token}).status_code == 404
    missing = client.post("/console/deliveries/dlv_none/resend", data={"csrf_token": csrf_token})
    assert missing.status_code == 404
    missing = client.get("/console/partners/none")
    assert missing.status_code == 404
    assert '<a href="/console/partners">All partners</a>' in missing.text


def test_rejected_fields_are_shown_on_the_export_page(webhook_harness: ApiHarness) -> None:
    export_id = webhook_harness.execute(factories.plan())
    webhook_harness.run(export_id)
    submission = webhook_harness.client("read").get(f"/api/exports/{export_id}").json()["broker_submission"]["id"]
    rejection = {
        "id": "a-1",
        "status": "rejected",
        "fields": [{"pointer": "/units/0/lines/0/htsCode", "message": "Not this one."}],
    }
    webhook_harness.client("operate").post(f"/api/broker-submissions/{submission}/acknowledgements", json=rejection)
    page = sign_in_browser(webhook_harness, "read").get(f"/console/exports/{export_id}").text
    place = '<strong class="long" title="/units/0/lines/0/htsCode">unit 1, line 1, HTS code</strong>'
    assert f'<li>{place}: <span dir="auto">Not this one.</span></li>' in page


@pytest.mark.usefixtures("treat_as_internet")
def test_text_of_a_partner_does_not_become_markup(webhook_harness: ApiHarness, endpoint: Any) -> None:
    hostile = "<script>alert(1)</script>"
    hook = endpoint(Script(500, hostile.encode()))
    register(webhook_harness, hook.url, name=f"Warehouse {hostile}")
    letter = make_dead_letter(webhook_harness)
    client = sign_in_browser(webhook_harness, "admin")
    for page in ("/console/partners", f"/console/partners/{HOOKED}", f"/console/deliveries/{letter}"):
        shown = client.get(page)
        assert "<script>" not in shown.text
        assert "&lt;script&gt;" in shown.text
        assert shown.headers["content-security-policy"].startswith("default-src 'none'")
