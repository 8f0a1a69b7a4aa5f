"""No text of a plan, a partner or a person becomes markup on a page, even if the browser has no content security policy."""

import re
from collections.abc import Sequence
from typing import Any

import httpx
from playwright.sync_api import Dialog, Page
from sqlalchemy import update
from sqlmodel import col

from pipeline.accounts import api_keys, partners
from pipeline.accounts.models import SignedInSession
from pipeline.accounts.schemas import NewPartner
from pipeline.customs import waivers
from pipeline.customs.schemas import NewWaiver
from pipeline.deliveries.streams import sender
from pipeline.exports.models import Export
from pipeline.ops import legal_holds
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.interfaces.console.exports.test_exports_hostile import as_plan_text
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.portal.conftest import create_link, find_ids
from tests.support import factories
from tests.support.browser import open_browser
from tests.support.forms import crawl
from tests.support.http_endpoint import Endpoint, Script
from tests.workflow.test_acceptance_hostile_plans import fill_free_texts

HOOKED = "br_hook"


def trick(source: str) -> str:
    """Return a text that runs a script in four ways if it becomes markup; `source` says who wrote it."""
    return f"\"'></title></textarea><img src=x onerror=alert('{source}')><script>alert(1)</script><svg onload=alert(2)>"


def register_broker(harness: ApiHarness, address: str) -> None:
    new = {"id": HOOKED, "kind": "customs_broker", "name": trick("partner"), "live": True}
    channels = [{"channel": "webhook", "address": address}]
    partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new | {"channels": channels}))


def open_hostile_portal(harness: ApiHarness) -> httpx.Client:
    browser = harness.client_with_key(None)
    assert browser.post("/portal/open", data={"link": create_link(harness, HOOKED)}).status_code == 303
    return browser


def write_everywhere(harness: ApiHarness) -> tuple[str, str]:
    """Put a trick everywhere a plan, a partner or a person can write; return an export and its handoff."""
    account, runtime = factories.ACCOUNT, harness.runtime
    made = as_plan_text(fill_free_texts(trick("plan")))
    made["batchId"], made["broker"]["id"] = "batch_hostile", HOOKED
    export_id = harness.execute(made)
    harness.run(export_id)
    while harness.client().get("/api/deliveries", params={"state": "dead"}).json()["items"] == []:
        sender.deliver_stream(runtime, export_id, HOOKED, "webhook")
    submission = harness.client().get(f"/api/exports/{export_id}").json()["broker_submission"]["id"]
    answer: dict[str, Any] = {"id": "a-1", "status": "query", "message": trick("broker")}
    answer["fields"] = [{"pointer": "/units/0/lines/0/sku", "message": trick("remark")}]
    sent = harness.client().post(f"/api/broker-submissions/{submission}/acknowledgements", json=answer)
    assert sent.status_code == 200, sent.text
    failed = harness.execute(factories.plan(batch="failed", invoice="INV-F"))
    with runtime.db.write() as session:
        values = {"state": "failed", "failure": trick("failure")}
        session.execute(update(Export).where(col(Export.id) == failed).values(values))
    api_keys.create_key(runtime, account, trick("key")[: api_keys.MAX_NAME], mode="live", roles=("read",))
    waiver = {"rule": "V17", "reason": trick("waiver")}
    waivers.grant_waiver(runtime, account, NewWaiver.model_validate(waiver), waived_by=trick("granter"))
    legal_holds.place_hold(runtime, account, export_id=None, reason=trick("hold"), placed_by="a test")
    acknowledged = {"note": trick("note")}
    response = harness.client().post(f"/api/exports/{export_id}/acknowledge", json=acknowledged)
    assert response.status_code == 200, response.text
    return export_id, submission


def sign_in_hostile_person(harness: ApiHarness) -> httpx.Client:
    """Sign in a person whose browser and saved filter have a trick as their name."""
    client = sign_in_browser(harness, "read", "operate", "admin")
    with harness.runtime.db.write() as session:
        session.execute(update(SignedInSession).values(agent=trick("browser")))
    token = re.findall(r'name="csrf_token" value="([0-9a-f]{64})"', client.get("/console/me").text)[0]
    saved = client.post(
        "/console/exports/filters?outcome=query", data={"csrf_token": token, "name": trick("filter")[:60]}
    )
    assert saved.status_code == 303, saved.text
    return client


def open_pages(client: httpx.Client, starts: Sequence[str]) -> str:
    """Open every page in a browser without a content security policy, and return all the text that it shows."""
    addresses = [address for address, _ in crawl(client, starts, most=2)]
    dialogs: list[str] = []
    texts = []
    with open_browser(client, bypass_csp=True, expected=["Failed to load resource"]) as page:

        def dismiss(dialog: Dialog) -> None:
            dialogs.append(f"{page.url}: {dialog.message}")
            dialog.dismiss()

        page.on("dialog", dismiss)
        for address in addresses:
            page.goto(address)
            page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
            texts.append(read_texts(page))
            assert page.locator("[onerror], [onload], script:not([src])").count() == 0, address
        assert dialogs == []
        prove_that_markup_would_act(page)
        assert len(dialogs) >= 1
    return "\n".join(texts)


def read_texts(page: Page) -> str:
    values = "[...document.querySelectorAll('input, textarea, option')].map(each => each.value + each.textContent)"
    return str(page.evaluate(f"document.body.textContent + document.title + {values}.join('\\n')"))


def prove_that_markup_would_act(page: Page) -> None:
    with page.expect_event("dialog"):
        page.evaluate("text => document.body.insertAdjacentHTML('beforeend', text)", trick("proof"))


def find_sources(text: str) -> set[str]:
    return set(re.findall(r"onerror=alert\('(\w+)'", text))


def test_no_text_becomes_markup(open_harness: Open) -> None:
    harness = open_harness(allow_private_destinations=True, delivery_schedule_seconds=(0.001,))
    with Endpoint((Script(400),)) as endpoint:
        register_broker(harness, endpoint.url)
        export_id, handoff = write_everywhere(harness)
        client = sign_in_hostile_person(harness)
        starts = ["/console/inbox", "/console/inbox?acknowledged=true", f"/console/exports/{export_id}"]
        starts += [f"/console/exports/{export_id}/{each}" for each in ("amend", "lines", "units", "events")]
        starts += [f"/console/partners/{HOOKED}/{each}" for each in ("settings", "secret", "example", "portal-links")]
        starts += [f"/console/search?q={trick('query')}", "/console/exports?outcome=query", "/console/audit"]
        (dead, *_) = harness.client().get("/api/deliveries", params={"state": "dead"}).json()["items"]
        starts += [f"/console/deliveries/{dead['id']}", f"/console/partners/{HOOKED}"]
        starts += [f"/console/waivers/new?rule={trick('rule')[:60]}&pointer={trick('pointer')}"]
        shown = find_sources(open_pages(client, starts))
        everything = {"plan", "partner", "broker", "remark", "failure", "key", "waiver", "granter", "hold", "note"}
        everything |= {"browser", "filter", "query", "pointer"}
        assert everything - shown == set()
        portal = open_hostile_portal(harness)
        (delivery, *_) = find_ids(portal, "/portal/deliveries", "deliveries")
        starts = ["/portal", f"/portal/deliveries/{delivery}", f"/portal/handoffs/{handoff}", "/portal/verify"]
        shown = find_sources(open_pages(portal, starts))
        assert {"plan", "partner", "broker", "remark"} - shown == set()
