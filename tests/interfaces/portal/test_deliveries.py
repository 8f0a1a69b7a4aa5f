"""The portal's deliveries: message, attempts, remedies, and resending one's own messages only."""

import html
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.deliveries.streams import sender
from pipeline.exports.audit_trail import list_acts
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.interfaces.portal.conftest import find_ids, open_portal, submit
from tests.support import factories
from tests.support.http_endpoint import Endpoint, Script

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


def register(harness: ApiHarness, url: str) -> None:
    new = {"id": HOOKED, "kind": "warehouse", "name": "Hooked warehouse", "live": True}
    channels = [{"channel": "webhook", "address": url}]
    partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new | {"channels": channels}))


def deliver(harness: ApiHarness, state: str) -> str:
    """Execute an export, and send to the hooked warehouse until its delivery is in the state. Return the export's id."""
    export_id = harness.execute(factories.plan(warehouse=HOOKED, packages=1))
    harness.run(export_id)
    wanted = {"exportId": export_id, "partnerId": HOOKED, "state": state}
    while not harness.client("read").get("/api/deliveries", params=wanted).json()["items"]:
        sender.deliver_stream(harness.runtime, export_id, HOOKED, "webhook")
    return export_id


@pytest.mark.usefixtures("treat_as_internet")
def test_delivery_shows_its_message_headers_and_attempts(webhook_harness: ApiHarness, endpoint: Any) -> None:
    hook = endpoint(Script(204))
    register(webhook_harness, hook.url)
    export_id = deliver(webhook_harness, "delivered")
    browser = open_portal(webhook_harness, HOOKED)
    (delivery,) = find_ids(browser, "/portal/deliveries", "deliveries")
    page = browser.get(f"/portal/deliveries/{delivery}").text
    received = hook.requests[0]
    shown = re.search(r'<pre class="payload[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert shown is not None
    assert json.loads(html.unescape(shown[1])) == json.loads(received.body)
    headers = dict(re.findall(r'<dt>([\w-]+)</dt><dd class="long">([^<]+)</dd>', page))
    sent = {name.lower(): value for name, value in received.headers.items()}
    assert {name: sent[name] for name in ("content-type", "webhook-id")} == {
        name: headers[name] for name in ("content-type", "webhook-id")
    }
    assert hook.url in page
    assert sent["webhook-signature"] not in page
    assert export_id in page
    assert "<strong>204</strong>" in page
    exact = browser.get(f"/portal/deliveries/{delivery}/message.json")
    assert exact.content == received.body
    assert exact.headers["content-disposition"].startswith("attachment")


@pytest.mark.usefixtures("treat_as_internet")
def test_dead_letter_has_a_remedy_for_the_partner_and_is_resent(webhook_harness: ApiHarness, endpoint: Any) -> None:
    hook = endpoint(Script(401, b"who are you"), Script(401, b"who are you"), Script(204))
    register(webhook_harness, hook.url)
    deliver(webhook_harness, "dead")
    browser = open_portal(webhook_harness, HOOKED)
    (delivery,) = find_ids(browser, "/portal/deliveries?state=dead", "deliveries")
    address = f"/portal/deliveries/{delivery}"
    page = browser.get(address).text
    assert "Verify the exact bytes of the body with your newest secret" in page
    assert "who are you" in page
    assert re.search(r"<strong>401</strong> <span class=\"quiet\">after [\d,]+ ms, not accepted</span>", page)
    assert "exports partners" not in page
    resent = submit(browser, address, f"{address}/resend")
    assert (resent.status_code, resent.headers["location"]) == (303, address)
    assert webhook_harness.publisher.tasks[-1].partner_id == HOOKED
    page = browser.get(address).text
    assert 'class="pill pending"' in page
    assert "<button>Send now</button>" in page
    assert submit(browser, address, f"{address}/resend").status_code == 303
    with webhook_harness.runtime.db.read() as session:
        act = list_acts(session, factories.ACCOUNT).items[0]
    assert (act.action, act.subject, act.actor[:11]) == ("delivery_resent", delivery, "portal:lnk_")


@pytest.mark.usefixtures("treat_as_internet")
def test_dead_letters_since_an_instant_are_resent(webhook_harness: ApiHarness, endpoint: Any) -> None:
    register(webhook_harness, endpoint(Script(500)).url)
    deliver(webhook_harness, "dead")
    browser = open_portal(webhook_harness, HOOKED)
    action = "/portal/deliveries/resend-dead"
    later = submit(browser, "/portal/deliveries", action, since="2100-01-01T00:00")
    assert "/portal/deliveries?resent=0" in later.headers["location"]
    for wrong in ("", "yesterday", "2026-13-01T00:00"):
        refused = submit(browser, "/portal/deliveries", action, since=wrong)
        assert refused.status_code == 400
        assert "The instant must be in UTC, such as" in refused.text
        assert f'value="{wrong}"' in refused.text
    (offered,) = re.findall(
        r'name="since" type="datetime-local" step="1" value="([^"]+)"', browser.get("/portal/deliveries").text
    )
    done = submit(browser, "/portal/deliveries", action, since=offered)
    assert "1 dead letters are pending again." in browser.get(done.headers["location"]).text
    assert find_ids(browser, "/portal/deliveries?state=dead", "deliveries") == []


def test_deliveries_of_other_partners_cannot_be_seen_or_resent(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    broker, warehouse = open_portal(harness, factories.BROKER), open_portal(harness, factories.WAREHOUSE)
    operator = open_portal(harness, factories.OPERATOR)
    own = {name: find_ids(browser, "/portal/deliveries", "deliveries") for name, browser in
           (("broker", broker), ("warehouse", warehouse), ("operator", operator))}  # fmt: skip
    assert all(own.values())
    assert sum(map(len, own.values())) == len(set().union(*own.values()))
    token = re.findall(r'csrf_token" value="(\w+)', warehouse.get("/portal").text)[0]
    for foreign in (*own["broker"], *own["operator"], "dlv_none", "..%2f..%2fapi", "%00", "'"):
        for address in (f"/portal/deliveries/{foreign}", f"/portal/deliveries/{foreign}/message.json"):
            assert warehouse.get(address).status_code == 404
        resent = warehouse.post(f"/portal/deliveries/{foreign}/resend", data={"csrf_token": token})
        assert resent.status_code == 404
    assert warehouse.get("/portal/deliveries", params={"cursor": own["broker"][0]}).status_code == 404
    everything = "".join(warehouse.get(f"/portal/deliveries/{each}").text for each in own["warehouse"])
    assert not re.search(r"lineValue|htsCode|unitPrice|submissionId|invoice", everything)


@pytest.mark.parametrize("query", ["state=waiting", "state=cancelled", "state=x", "cursor=dlv_x"])
def test_wrong_filters_are_refused(harness: ApiHarness, query: str) -> None:
    answer = open_portal(harness, factories.WAREHOUSE).get(f"/portal/deliveries?{query}")
    assert answer.status_code in {400, 404}
    assert "<h1>" in answer.text


def test_long_message_is_offered_as_a_file(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan(lines=450))
    harness.run(export_id)
    browser = open_portal(harness, factories.BROKER)
    (delivery,) = find_ids(browser, "/portal/deliveries", "deliveries")
    page = browser.get(f"/portal/deliveries/{delivery}").text
    assert "The message is too long to show here." in page
    assert len(page) < 20_000
    assert len(browser.get(f"/portal/deliveries/{delivery}/message.json").content) > 256 * 1024
