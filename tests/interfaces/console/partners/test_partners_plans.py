"""The pages, calls and commands about deliveries show a message about a registered plan, which has no export."""

from collections.abc import Iterator

import httpx
import pytest

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core.findings import Finding
from pipeline.deliveries.outbox import operator_messages
from pipeline.deliveries.outbox.operator_messages import ChangedFindings
from pipeline.deliveries.streams import sender
from pipeline.interfaces.console.work.inbox_views import ChosenItem
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.console.work.test_inbox import post_items
from tests.interfaces.portal.conftest import open_portal, submit
from tests.support import factories
from tests.support.command_line import Commands
from tests.support.http_endpoint import Endpoint, Script

DESK = "desk"
APPEARED = Finding(rule="V11", severity="warn", pointer="/units/0", message="the rate changed", remedy="correct it")


@pytest.fixture
def harness(open_harness: Open) -> ApiHarness:
    """A running API whose operator is on loopback, and whose deliveries become dead letters after one attempt."""
    return open_harness(allow_private_destinations=True, delivery_schedule_seconds=())


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """An endpoint that refuses the first message, and takes the second one."""
    with Endpoint((Script(500), Script())) as running:
        yield running


@pytest.fixture
def plan_id(harness: ApiHarness, endpoint: Endpoint) -> str:
    """A registered plan, about which the operator has a dead letter."""
    channels = [{"channel": "webhook", "address": endpoint.url}]
    new = {"id": DESK, "kind": "operator", "name": "Export desk", "live": True, "channels": channels}
    partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new))
    registered = harness.client("execute").post("/api/exports/plans", json=factories.plan())
    assert registered.status_code == 201, registered.text
    plan_id = str(registered.json()["planId"])
    with harness.runtime.db.write() as session:
        operator_messages.enqueue_plan_rechecked(session, plan_id, ChangedFindings("us-old", "us-new", [APPEARED], []))
    assert deliver(harness, plan_id).dead == 1
    return plan_id


def deliver(harness: ApiHarness, plan_id: str) -> sender.DeliveryReport:
    return sender.deliver_stream(harness.runtime, plan_id, DESK, "webhook")


def read_delivery_id(client: httpx.Client, plan_id: str) -> str:
    (row,) = client.get("/api/deliveries", params={"exportId": plan_id, "partnerId": DESK}).json()["items"]
    assert (row["exportId"], row["planId"], row["batchId"]) == ("", plan_id, factories.BATCH)
    return str(row["id"])


def test_console_shows_and_resends_the_dead_letter(harness: ApiHarness, plan_id: str) -> None:
    delivery_id = read_delivery_id(harness.client("read"), plan_id)
    browser = sign_in_browser(harness, "read", "operate", "admin")
    listed = browser.get("/console/deliveries").text
    assert f'<code class="whole">{plan_id}</code>' in listed
    assert "/console/exports/" not in listed.split("<main")[1]
    shown = browser.get(f"/console/deliveries/{delivery_id}").text
    assert "Plan rechecked" in shown
    assert f"<dt>Plan</dt><dd><code>{plan_id}</code></dd>" in shown
    assert "us-new" in shown
    assert f"<code>{plan_id}</code></td>" in browser.get(f"/console/partners/{DESK}").text
    inbox = browser.get("/console/inbox").text
    assert f'<a href="/console/deliveries/{delivery_id}"><bdi class="long">{factories.BATCH}</bdi></a>' in inbox
    chosen = ChosenItem(delivery_id=delivery_id, partner_id=DESK, name=factories.BATCH).value
    assert "Acknowledge 1 message" in post_items(browser, "review", "acknowledge", chosen).text
    assert "is acknowledged" in post_items(browser, "apply", "acknowledge", chosen).text
    assert "Nothing needs a person" in browser.get("/console/inbox").text
    assert f"/console/deliveries/{delivery_id}" in browser.get("/console/inbox?acknowledged=true").text
    assert "is in the inbox again" in post_items(browser, "apply", "reopen", chosen).text
    assert "choose another remedy" in post_items(browser, "apply", "retry", chosen).text
    assert "is pending again" in post_items(browser, "apply", "resend", chosen).text
    assert deliver(harness, plan_id).delivered == 1
    assert "Nothing needs a person" in browser.get("/console/inbox").text


def test_portal_shows_and_resends_the_dead_letter(harness: ApiHarness, plan_id: str) -> None:
    delivery_id = read_delivery_id(harness.client("read"), plan_id)
    browser = open_portal(harness, DESK)
    assert plan_id in browser.get("/portal/deliveries").text
    page = f"/portal/deliveries/{delivery_id}"
    assert f"<dt>Plan</dt><dd><code>{plan_id}</code></dd>" in browser.get(page).text
    assert browser.get(f"{page}/message.json").json()["subject"] == plan_id
    assert submit(browser, page, f"{page}/resend").status_code == 303
    assert deliver(harness, plan_id).delivered == 1


def test_api_and_commands_name_the_plan(harness: ApiHarness, plan_id: str) -> None:
    client = harness.client()
    delivery_id = read_delivery_id(client, plan_id)
    delivery = client.get(f"/api/deliveries/{delivery_id}").json()
    trace = client.get(f"/api/notifications/{delivery['notificationId']}").json()
    assert (trace["planId"], trace["exportId"], trace["revision"]) == (plan_id, "", 0)
    assert trace["event"]["subject"] == plan_id
    (item,) = client.get("/api/inbox").json()["items"]
    assert (item["exportId"], item["batchId"], item["deliveryId"]) == (None, factories.BATCH, delivery_id)
    commands = Commands({"EXPORTS_API_URL": harness.url, "EXPORTS_API_KEY": harness.key("read", "operate").bearer})
    assert f"plan {plan_id}" in commands("deliveries", "show", delivery_id).output
    assert f"of plan {plan_id}, batch {factories.BATCH}\n" in commands("trace", delivery["notificationId"]).output
    assert f"exports deliveries resend {delivery_id}" in " ".join(commands("inbox").output.split())
    assert commands.json("inbox")["items"] == [item]
    assert f"exports deliveries acknowledge {delivery_id}" in " ".join(commands("inbox").output.split())
    assert commands.json("deliveries", "acknowledge", delivery_id, "--note", "The desk has it.")["state"] == "dead"
    assert commands.json("inbox")["items"] == []
    (seen,) = commands.json("inbox", "--acknowledged")["items"]
    assert (seen["deliveryId"], seen["acknowledged"]["note"]) == (delivery_id, "The desk has it.")
    assert f"acknowledge --undo {delivery_id}" in " ".join(commands("inbox", "--acknowledged").output.split())
    commands.json("deliveries", "acknowledge", delivery_id, "--undo")
    assert commands.json("inbox")["items"] == [item]
    assert client.post("/api/deliveries/dlv_other/acknowledge", json={}).status_code == 404
    assert commands.json("deliveries", "resend", delivery_id)["state"] == "pending"
