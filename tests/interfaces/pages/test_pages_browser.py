"""The pages in a real browser: they follow changes and obey the keyboard."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from io import BytesIO
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Request, Route
from pypdf import PdfReader
from sqlalchemy import update

from pipeline.accounts import sessions
from pipeline.accounts.models import SignedInSession
from pipeline.core.db import database_now
from pipeline.interfaces.pages import live
from pipeline.ops.stats import rollup
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.console.work.test_inbox import answer, answer_again
from tests.support import factories
from tests.support.browser import list_cookies, open_browser
from tests.support.people import PASSWORD, sign_in_client


def test_page_follows_changes_and_keeps_what_a_person_opened_and_typed(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_PAUSE_SECONDS", 0.05)
    export_id = harness.execute(factories.plan())
    with open_browser(sign_in_browser(harness, "read")) as page:
        page.goto(f"/console/exports/{export_id}")
        page.evaluate("window.unloaded = false")
        page.locator("summary").last.click()
        page.fill(".search", "half a number")
        before = page.locator("#main details").count()
        with ThreadPoolExecutor(1) as worker:  # this thread has the browser's event loop
            worker.submit(harness.run, export_id).result()
        page.locator(".status", has_text="Executed").wait_for()
        assert page.evaluate("window.unloaded") is False
        assert page.input_value(".search") == "half a number"
        assert page.locator("#main details").count() > before
        assert page.locator("#main details[open]").count() >= 1


def test_page_does_not_change_while_a_person_types_in_it(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PAUSE_SECONDS", 0.05)
    harness.execute(factories.plan(batch="one"))
    with open_browser(sign_in_browser(harness, "operate")) as page:
        page.goto("/console/exports?state=accepted")
        page.fill("input[name=name]", "Half a name")
        changed = "new Promise(done => document.getElementById('live').addEventListener('changed', () => done(true)))"
        page.evaluate(f"window.seen = {changed}")
        harness.execute(factories.plan(batch="two"))
        assert page.evaluate("window.seen")
        assert (page.locator("#main tbody tr").count(), page.input_value("input[name=name]")) == (1, "Half a name")
        page.locator("input[name=name]").blur()
        harness.execute(factories.plan(batch="three"))
        page.get_by_text("three", exact=True).wait_for()
        assert page.input_value("input[name=name]") == "Half a name"


@pytest.mark.parametrize("idle", [False, True])
def test_page_says_that_it_is_signed_out_and_comes_back(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch, *, idle: bool
) -> None:
    """Whether the session was ended, or nobody used it: a page that refreshes itself is not a use."""
    monkeypatch.setattr(live, "_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(live, "_MAX_AGE_SECONDS", 0.0)
    harness.execute(factories.plan(batch="one"))
    client = harness.client_with_key(None)
    person = sign_in_client(client, harness.runtime, "operate")
    with open_browser(client, expected=["status of 401", "status 401"]) as page:
        page.goto("/console/exports?state=accepted")
        page.fill("input[name=name]", "Half a name")
        with harness.runtime.db.write() as session:
            past = database_now(-sessions.IDLE_SECONDS)
            session.execute(update(SignedInSession).values({"seen_at": past} if idle else {"ended_at": past}))
        page.get_by_text("You are signed out").wait_for()
        assert (page.locator("#main tbody tr").count(), page.input_value("input[name=name]")) == (1, "Half a name")
        assert page.locator("#live").count() == 0, "the page connects no more"
        page.get_by_text("Sign in and come back").click()
        page.wait_for_url("**/console/sign-in")
        page.fill("#email", person.email)
        page.fill("#password", PASSWORD)
        page.fill("#code", person.code(harness.runtime))
        page.locator("#main button").click()
        page.wait_for_url("**/console/exports?state=accepted")
        assert page.input_value("input[name=name]") == "Half a name"
        page.reload()
        assert page.input_value("input[name=name]") == "", "it came back once"


@pytest.mark.parametrize(
    ("status", "said"), [(500, "could not be refreshed"), (503, "could not be refreshed"), (410, "removed or purged")]
)
def test_page_keeps_its_content_when_a_refresh_fails(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    monkeypatch.setattr(live, "_PAUSE_SECONDS", 0.05)
    harness.execute(factories.plan(batch="one"))
    with open_browser(
        sign_in_browser(harness, "read"), expected=[f"status of {status}", f"status {status}", "htmx:response:error"]
    ) as page:
        page.goto("/console/exports")
        page.route("**/console/exports", lambda route: route.fulfill(status=status, body="<main id=main>no</main>"))
        harness.execute(factories.plan(batch="two"))
        page.get_by_text(said).wait_for()
        assert page.locator("#main tbody tr").count() == 1
        page.unroute("**/console/exports")
        harness.execute(factories.plan(batch="three"))
        page.get_by_text("three", exact=True).wait_for()
        assert page.locator("#trouble > p:visible").count() == 0


def continue_late(route: Route, request: Request) -> None:
    request.frame.page.wait_for_timeout(500)  # other routes are answered meanwhile
    route.continue_()


def test_page_says_that_another_server_answered_or_none(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PAUSE_SECONDS", 0.05)
    harness.execute(factories.plan(batch="one"))
    with open_browser(
        sign_in_browser(harness, "read"), expected=["Failed to load resource", "htmx:error", "htmx:response:error"]
    ) as page:
        page.goto("/console/exports")
        page.route("**/console/exports", lambda route: route.fulfill(status=200, body="<h1>Proxy</h1>"))
        harness.execute(factories.plan(batch="two"))
        page.get_by_text("could not be refreshed").wait_for()
        assert page.locator("#main tbody tr").count() == 1
        page.unroute("**/console/exports")
        harness.execute(factories.plan(batch="three"))
        page.get_by_text("three", exact=True).wait_for()
        page.route("**/console/exports", lambda route: route.abort())
        harness.execute(factories.plan(batch="four"))
        page.get_by_text("could not be refreshed").wait_for()
        assert page.locator("#main tbody tr").count() == 3
        page.route("**/console/live*", lambda route: route.fulfill(status=429))
        page.unroute("**/console/exports")
        page.route("**/console.js", continue_late)
        page.reload()
        page.get_by_text("the service refused its connection").wait_for()


def test_amendment_survives_the_end_of_the_session(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    client = sign_in_browser(harness, "admin")
    address = f"/console/exports/{export_id}/amend"
    with open_browser(client) as page:
        page.goto(address)
        page.get_by_text("The whole plan as JSON").click()
        page.fill("#text", "half a plan")
        with harness.runtime.db.write() as session:
            session.execute(update(SignedInSession).values(ended_at=database_now()))
        page.locator("#main form button", has_text="Add the field").click()
        page.wait_for_url("**/console/sign-in")
        sign_in_client(client, harness.runtime, "admin")
        page.context.add_cookies(list_cookies(client))
        page.goto(address)
        assert page.input_value("#text") == "half a plan"


def test_draft_follows_its_field_when_the_customs_broker_answers_again(harness: ApiHarness) -> None:
    field = "/units/0/lines/0/sku"
    export_id = answer(harness, "query", fields=[{"pointer": field, "message": "Which pan is it?"}])
    with open_browser(sign_in_browser(harness, "operate")) as page:
        page.goto(f"/console/exports/{export_id}/amend")
        page.get_by_label("line L1, SKU").fill("PAN-28")
        newer = {"pointer": "/units/0/invoice/number", "message": "It was used before."}
        with ThreadPoolExecutor(1) as worker:  # this thread has the browser's event loop
            worker.submit(answer_again, harness, export_id, "rejected", "a-2", fields=[newer]).result()
        page.reload()
        assert page.locator("[name=now-0]").get_attribute("data-key") == "/units/0/invoice/number"
        assert page.locator("[name=now-0]").input_value() != "PAN-28"
        assert page.get_by_label("line L1, SKU").input_value() == "PAN-28"


def test_palette_finds_pages_and_exports(harness: ApiHarness) -> None:
    plan = factories.plan()
    plan["units"][0]["invoice"]["number"] = "INV-7731"
    export_id = harness.execute(plan)
    with open_browser(sign_in_browser(harness, "read")) as page:
        page.goto("/console")
        page.keyboard.press("Control+k")
        page.keyboard.type("part")
        assert page.locator("#palette li:visible a").all_inner_texts() == ["Partners"]
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/partners")
        page.keyboard.press("Control+k")
        page.keyboard.type("INV-7731")
        page.locator("#palette-hits a").wait_for()
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/console/exports/{export_id}")
        page.keyboard.press("Control+k")
        page.keyboard.type("no such number")
        page.get_by_text("No export has exactly this number").wait_for()
        page.keyboard.press("Escape")
        assert page.locator("#palette:visible").count() == 0


def test_keys_move_through_pages_and_rows(harness: ApiHarness) -> None:
    first, second = (harness.execute(factories.plan(batch=batch)) for batch in ("one", "two"))
    with open_browser(sign_in_browser(harness, "read")) as page:
        page.goto("/console")
        page.keyboard.type("ge")
        page.wait_for_url("**/console/exports")
        for key, export_id in (("j", second), ("j", first), ("j", first), ("k", second)):
            page.keyboard.press(key)
            assert page.evaluate("document.activeElement.getAttribute('href')") == f"/console/exports/{export_id}"
        page.keyboard.press("/")
        page.keyboard.type("gj one")
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/search?q=gj+one")
        page.goto("/console/exports")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"


def test_times_are_local_and_tell_utc(harness: ApiHarness) -> None:
    harness.execute(factories.plan())
    client = sign_in_browser(harness, "read")
    (written,) = re.findall(r"<time datetime=\"[^\"]+Z\">([^<]+ UTC)</time>", client.get("/console/exports").text)
    with open_browser(client) as page:
        page.goto("/console/exports")
        shown = page.locator("#main time")
        assert shown.get_attribute("title") == written
        assert re.search(r"\d\d:\d\d:\d\d E[SD]T$", shown.inner_text())


@pytest.mark.parametrize("secure", [True, False])
def test_copy_is_offered_only_if_the_browser_allows_it(harness: ApiHarness, *, secure: bool) -> None:
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    client = sign_in_browser(harness, "read")
    document = re.findall(
        r'href="(/console/exports/[^"]+/documents/[^"]+)"', client.get(f"/console/exports/{export_id}").text
    )[0]
    with open_browser(client) as page:
        if not secure:
            page.add_init_script("delete Navigator.prototype.clipboard")
        page.goto(document)
        page.wait_for_load_state()
        assert page.locator("[data-copy]").is_visible() is secure


def test_what_is_shown_once_can_be_copied(harness: ApiHarness) -> None:
    with open_browser(sign_in_browser(harness, "admin")) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"/console/partners/{factories.WAREHOUSE}/portal-links")
        page.get_by_role("button", name="Create").click()
        shown = page.get_by_label("The new link").inner_text()
        page.get_by_role("button", name="Copy").click()
        page.get_by_role("button", name="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == shown


def test_list_is_printed_from_the_first_page_on(harness: ApiHarness) -> None:
    for number in range(40):
        harness.execute(factories.plan(batch=f"batch_{number}"))
    with open_browser(sign_in_browser(harness, "read")) as page:
        page.goto("/console/exports")
        printed = PdfReader(BytesIO(page.pdf(format="Letter")))
    first = printed.pages[0].extract_text()
    assert ("batch_39" in first, "Sign out" in first, len(printed.pages) > 1) == (True, False, True)


def test_export_is_printed_open_without_acts_and_without_json(harness: ApiHarness) -> None:
    export_id = answer(harness, "rejected", "one", message="The value is wrong")
    with open_browser(sign_in_browser(harness, "admin", "operate")) as page:
        page.goto(f"/console/exports/{export_id}")
        printed = PdfReader(BytesIO(page.pdf(format="Letter")))
    text = "\n".join(each.extract_text() for each in printed.pages)
    for shown in ("The value is wrong", "What needs a person", "commercial_customs_invoice.json", "chapter 99"):
        assert shown in text
    for hidden in ("Sign out", "Acknowledge", "place a legal hold", "CUSTOMS_ARTIFACT_GENERATED"):
        assert hidden not in text


def test_times_of_a_plot_are_local(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "UNCOMMITTED_SECONDS", -1.0)
    monkeypatch.setattr(rollup, "ROLL_UP_SECONDS", 0.0)
    harness.run(harness.execute(factories.plan()))
    rollup.roll_up(harness.runtime)
    client = sign_in_browser(harness, "read")
    instants = re.findall(r'data-instant="([^"]+)"', client.get("/console?range=3h").text)
    local = [datetime.fromisoformat(each).astimezone(ZoneInfo("America/Toronto")) for each in instants]
    with open_browser(client) as page:
        page.goto("/console?range=3h")
        plot = page.locator("figure.plot svg[role=img]").first
        shown = plot.locator("text[text-anchor=middle]").all_text_contents()
        assert shown == [f"{each:%H:%M}" for each in local[: len(shown)]]
        assert shown
        assert plot.locator("text").filter(has_text="UTC").count() == 0


def test_a_chosen_row_stays_chosen_when_another_one_leaves(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_PAUSE_SECONDS", 0.05)
    first, *_ = (answer(harness, "rejected", batch) for batch in ("one", "two", "three"))
    with open_browser(sign_in_browser(harness, "operate")) as page:
        page.goto("/console/inbox")
        page.get_by_label("two", exact=True).uncheck()
        page.get_by_label("two", exact=True).blur()
        acknowledge = f"/api/exports/{first}/acknowledge"
        with ThreadPoolExecutor(1) as worker:  # this thread has the browser's event loop
            worker.submit(harness.client("operate").post, acknowledge, json={}).result().raise_for_status()
        page.get_by_label("one", exact=True).wait_for(state="detached")
        chosen = {each.get_attribute("aria-label"): each.is_checked() for each in page.locator("[name=target]").all()}
        assert chosen == {"two": False, "three": True}
