"""What a stranger does without the documentation, in a real browser: they read, click what is visible, and reach the end."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.exports.states import SubmissionState
from pipeline.ops.stats import rollup
from pipeline.simulation.partners.http import WebhookReceiver
from tests.deliveries.test_outcomes import shape
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.console.work.test_inbox import answer, answer_again, fail_exports
from tests.support import factories
from tests.support.browser import open_browser

UNIT_PRICE = "/units/0/lines/0/unitPrice"


def click(page: Page, role: Any, name: str) -> None:
    """Click the one thing on the page that has this role and name."""
    page.get_by_role(role, name=name, exact=True).click()


def test_stranger_sees_at_once_which_exports_need_them_and_why(harness: ApiHarness) -> None:
    answer(
        harness,
        "rejected",
        "priced",
        message="The unit price is wrong",
        fields=[{"pointer": UNIT_PRICE, "message": "9.95"}],
    )
    answer(harness, "released", "done", "a-2")
    fail_exports(harness, "stopped", reason="the renderer died")
    late = harness.execute(factories.plan(batch="late", invoice="INV-late"))
    harness.run(late)
    shape(harness.runtime, late, status=SubmissionState.DELIVERED, overdue=True)
    with open_browser(sign_in_browser(harness, "read", "operate")) as page:
        page.goto("/console")
        tile = page.get_by_role("link", name="Needs a person")
        expect(tile).to_contain_text("3")
        tile.click()
        shown = page.locator("main")
        for batch, reason in (
            ("priced", "The unit price is wrong"),
            ("stopped", "The renderer died"),
            ("late", "has not answered"),
        ):
            expect(shown).to_contain_text(batch)
            expect(shown).to_contain_text(reason)
        assert "done" not in shown.inner_text().split()


def test_stranger_fixes_a_rejected_export_until_it_is_accepted(harness: ApiHarness) -> None:
    sku = "/units/0/lines/0/sku"
    answer(harness, "rejected", "asked", fields=[{"pointer": sku, "message": "Which pan is it?"}])
    with open_browser(sign_in_browser(harness, "read", "operate")) as page:
        page.goto("/console")
        page.get_by_role("link", name="Needs a person").click()
        click(page, "link", "Fix and amend")
        expect(page.locator("main")).to_contain_text("Which pan is it?")
        expect(page.get_by_label("unit U1, line L1, SKU")).to_be_focused()
        expect(page.get_by_text("The plan is as before.")).to_be_visible()
        page.get_by_label("unit U1, line L1, SKU").fill("PAN-28")
        # A change is checked when the field is left.
        page.keyboard.press("Tab")
        expect(page.get_by_role("heading", name="1 change of the plan")).to_be_visible()
        expect(page.locator("dl.changes dt")).to_have_text("unit U1, line L1, SKU")
        click(page, "button", "Send amendment")
        page.get_by_role("heading", name="asked").wait_for()
        export_id = page.url.rsplit("/", 1)[1]
        with ThreadPoolExecutor(1) as worker:  # this thread has the browser's event loop
            worker.submit(accept, harness, export_id).result()
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_contain_text("accepted")
        click(page, "link", "Inbox")
        expect(page.locator("main")).to_contain_text("Nothing needs a person.")


def test_stranger_finds_the_slowest_broker_of_the_week_and_the_field_that_it_sends_back_most(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup, "UNCOMMITTED_SECONDS", -1.0)
    monkeypatch.setattr(rollup, "ROLL_UP_SECONDS", 0.0)
    new = {"id": "br_quick", "kind": "customs_broker", "name": "Quick Brokers", "channels": [{"channel": "queue"}]}
    partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate({**new, "live": True}))
    slow = harness.execute(factories.plan(batch="slow"))
    harness.run(slow)
    quick = harness.execute(factories.plan(batch="quick", invoice="INV-quick", broker="br_quick"))
    harness.run(quick)
    answer_again(harness, quick, "accepted", "a-1")
    hts_codes = [f"/units/0/lines/{line}/htsCode" for line in (1, 2)]
    fields = [{"pointer": pointer, "message": "wrong"} for pointer in (UNIT_PRICE, *hts_codes)]
    answer_again(harness, slow, "rejected", "a-2", fields=fields)
    rollup.roll_up(harness.runtime)
    with open_browser(sign_in_browser(harness, "read")) as page:
        page.goto("/console")
        click(page, "link", "7 days")
        section = page.locator("section").filter(has=page.get_by_role("heading", name="Customs brokers, slowest first"))
        rows = section.get_by_role("row")
        expect(rows).to_have_count(3)
        expect(rows.nth(1)).to_contain_text(factories.BROKER)
        expect(rows.nth(1)).to_contain_text("HTS code of a line, 2 times")
        expect(rows.nth(2)).to_contain_text("br_quick")


def accept(harness: ApiHarness, export_id: str) -> None:
    """Run an export, and accept it as its customs broker."""
    harness.run(export_id)
    submission = harness.client().get(f"/api/exports/{export_id}").json()["broker_submission"]["id"]
    accepted = {"id": "ack-2", "status": "accepted"}
    taken = harness.client().post(f"/api/broker-submissions/{submission}/acknowledgements", json=accepted)
    assert taken.status_code == 200, taken.text


def test_stranger_onboards_a_webhook_broker(open_harness: Open) -> None:
    harness = open_harness(allow_private_destinations=True)
    with WebhookReceiver() as placeholder:
        url = placeholder.url
    port = int(url.rsplit(":", 1)[1].split("/", 1)[0])
    with open_browser(sign_in_browser(harness, "admin")) as page:
        page.goto("/console")
        click(page, "link", "Partners")
        click(page, "link", "New partner")
        page.get_by_role("link", name="Customs broker").click()
        page.get_by_role("link", name="Webhook").click()
        page.get_by_label("Address of the webhook").fill(url)
        page.get_by_role("textbox", name="Id", exact=True).fill("br_9")
        page.get_by_role("textbox", name="Name", exact=True).fill("Border Brokers")
        click(page, "button", "Save as a draft")
        secret = page.get_by_label("The signing secret").inner_text()
        click(page, "link", "I stored it: test the connection")
        with WebhookReceiver([secret], port=port):
            click(page, "button", "Run the connection test")
            expect(page.locator("main")).to_contain_text("Every stage passed. The state of the partner is verified.")
        click(page, "link", "Next steps")
        click(page, "link", "Look at the example")
        expect(page.get_by_role("heading", level=1)).to_contain_text("Border Brokers")
        click(page, "link", "Next steps")
        click(page, "button", "Go live")
        expect(page.get_by_role("heading", level=1)).to_contain_text("live")
    assert partners.get_partner(harness.runtime, factories.ACCOUNT, "br_9").state == "live"
