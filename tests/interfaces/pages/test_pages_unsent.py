"""A form that was not sent, because the session had ended or the service refused it, comes back to the same person."""

import httpx
import pytest
from playwright.sync_api import Page
from sqlalchemy import update
from sqlmodel import select

from pipeline.accounts.models import PortalLink, SignedInSession
from pipeline.core.db import database_now
from pipeline.exports.models import LegalHold
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.interfaces.console.work.test_inbox import answer
from tests.interfaces.portal.conftest import create_link, find_ids, open_portal
from tests.interfaces.portal.test_handoffs import BROKER, hand_off
from tests.support import factories
from tests.support.browser import list_cookies, open_browser
from tests.support.people import PASSWORD, TestPerson, add_person, sign_in_client

AGAIN, ELSEWHERE, ALONE = (f"#unsent [data-unsent={name}]" for name in ("again", "elsewhere", "alone"))
REASON = 'A <b>long</b> "reason" of\ntwo lines'


def open_as(harness: ApiHarness, *roles: str) -> tuple[httpx.Client, TestPerson]:
    client = harness.client_with_key(None)
    return client, sign_in_client(client, harness.runtime, *roles)


def end_sessions(harness: ApiHarness) -> None:
    with harness.runtime.db.write() as session:
        session.execute(update(SignedInSession).values(ended_at=database_now()))


def sign_in_again(harness: ApiHarness, page: Page, person: TestPerson) -> None:
    page.wait_for_url("**/console/sign-in")
    page.fill("#email", person.email)
    page.fill("#password", PASSWORD)
    page.fill("#code", person.code(harness.runtime))
    page.locator("#main button").click()


def count_holds(harness: ApiHarness) -> int:
    with harness.runtime.db.read() as session:
        return len(session.exec(select(LegalHold)).all())


def send_hold(page: Page) -> None:
    page.get_by_label("The whole account").check()
    page.fill("[name=reason]", REASON)
    page.locator("main form button").click()


def test_form_comes_back_after_sign_in_and_is_sent(harness: ApiHarness) -> None:
    client, person = open_as(harness, "admin")
    with open_browser(client) as page:
        page.goto("/console/holds/new")
        end_sessions(harness)
        send_hold(page)
        sign_in_again(harness, page, person)
        page.wait_for_url("**/console/holds/new")
        page.locator(AGAIN).wait_for()
        assert page.evaluate("document.activeElement.id") == "unsent"
        assert page.input_value("[name=reason]") == REASON
        assert page.get_by_label("The whole account").is_checked()
        assert count_holds(harness) == 0
        page.locator("main form button").click()
        page.wait_for_url("**/console/holds")
        assert count_holds(harness) == 1
        page.goto("/console/holds/new")
        assert (page.input_value("[name=reason]"), page.locator("#unsent").is_visible()) == ("", False)


def test_form_of_a_page_that_an_earlier_session_opened_comes_back(harness: ApiHarness) -> None:
    """As after sign-in in another tab: the browser sends the new session's cookie."""
    client, person = open_as(harness, "admin")
    with open_browser(client, expected=["status of 403"]) as page:
        page.goto("/console/holds/new")
        other = page.context.new_page()
        end_sessions(harness)
        other.goto("/console/sign-in")
        sign_in_again(harness, other, person)
        other.wait_for_url("**/console")
        send_hold(page)
        page.locator(ELSEWHERE).wait_for()
        page.get_by_text("Open it again").click()
        page.locator(AGAIN).wait_for()
        page.locator("main form button").click()
        page.wait_for_url("**/console/holds")
        assert count_holds(harness) == 1


def test_form_comes_back_after_an_answer_that_never_came(harness: ApiHarness) -> None:
    client, _ = open_as(harness, "admin")
    with open_browser(client, expected=["ERR_FAILED"]) as page:
        page.goto("/console/holds")
        page.goto("/console/holds/new")
        page.route("**/console/holds", lambda route: route.abort())
        send_hold(page)
        page.wait_for_url("chrome-error://**")
        page.go_back()
        page.locator(AGAIN).wait_for()
        assert page.input_value("[name=reason]") == REASON


@pytest.mark.parametrize("act", ["send", "discard"])
def test_form_of_an_answer_is_sent_from_another_page(harness: ApiHarness, act: str) -> None:
    answer(harness, "query")
    client, person = open_as(harness, "operate")
    with open_browser(client) as page:
        page.goto("/console/inbox")
        page.locator("input[name=target]").first.check()
        page.locator("button[value=acknowledge]").first.click()
        page.fill("#note", REASON)
        end_sessions(harness)
        page.locator("main form button").click()
        sign_in_again(harness, page, person)
        page.locator(ALONE).wait_for()
        assert REASON in page.locator(f"{ALONE} dl").inner_text()
        page.locator(f"[data-unsent-act={act}]").click()
        if act == "send":
            page.wait_for_url("**/console/inbox/apply")
            assert "acknowledged" in page.inner_text("main").lower()
        else:
            assert page.locator("#unsent").is_visible() is False
        page.goto("/console")
        assert page.locator("#unsent").is_visible() is False


def test_passwords_and_codes_are_not_kept(harness: ApiHarness) -> None:
    client, person = open_as(harness, "admin")
    secret = "-----BEGIN OPENSSH PRIVATE KEY-----"  # noqa: S105 - a heading alone
    with open_browser(client) as page:
        page.goto("/console/partners/new?kind=customs_broker&channel=sftp")
        page.fill("[name=id]", "br_sftp")
        page.fill("[name='sftp.private_key']", secret)
        page.fill("[name='sftp.password']", PASSWORD)
        end_sessions(harness)
        page.evaluate("document.querySelector('main form').noValidate = true")
        page.locator("main form button").first.click()
        page.wait_for_url("**/console/sign-in")
        kept = page.evaluate("sessionStorage.unsent")
        assert ("br_sftp" in kept, secret in kept, PASSWORD in kept) == (True, False, False)
        sign_in_again(harness, page, person)
        page.locator(AGAIN).wait_for()
        assert (page.input_value("[name=id]"), page.input_value("[name='sftp.password']")) == ("br_sftp", "")


def test_another_person_and_another_account_get_nothing(harness: ApiHarness) -> None:
    client, _ = open_as(harness, "admin")
    other = add_person(harness.runtime, "admin", email="other@maple.example")
    with open_browser(client) as page:
        page.goto("/console/holds/new")
        end_sessions(harness)
        send_hold(page)
        sign_in_again(harness, page, other)
        page.wait_for_url("**/console")
        assert page.evaluate("sessionStorage.unsent ?? null") is None
        elsewhere = harness.client_with_key(None)
        sign_in_client(elsewhere, harness.runtime, "admin", account=OTHER)
        page.goto("/console/holds/new")
        page.evaluate("sessionStorage.unsent = JSON.stringify({at: Date.now(), who: 'x', account: 'y', forms: []})")
        page.context.add_cookies(list_cookies(elsewhere))
        page.goto("/console/holds/new")
        assert page.evaluate("sessionStorage.unsent ?? null") is None


def test_sign_out_forgets_and_a_day_is_the_limit(harness: ApiHarness) -> None:
    client, person = open_as(harness, "admin")
    with open_browser(client) as page:
        page.goto("/console/holds/new")
        page.evaluate("sessionStorage.unsent = JSON.stringify({at: Date.now(), who: 'x', account: 'y', forms: []})")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/console/sign-in")
        assert page.evaluate("sessionStorage.length") == 0
        sign_in_again(harness, page, person)
        page.wait_for_url("**/console")
        old = "JSON.stringify({at: Date.now() - 864e5, who, account, page: '/console/keys', sent: false, forms: []})"
        page.evaluate(f"const {{ who, account }} = document.body.dataset; sessionStorage.unsent = {old}")
        page.reload()
        assert page.url.endswith("/console")
        assert page.locator("#unsent").is_visible() is False


def open_link(harness: ApiHarness, page: Page, partner: str) -> None:
    page.fill("#link", create_link(harness, partner))
    page.get_by_role("button", name="Open").click()


def type_answer(harness: ApiHarness, page: Page, handoff: str) -> None:
    """Type an answer, and send it after all links were revoked."""
    page.goto(f"/portal/handoffs/{handoff}")
    page.get_by_label("We have a question").check()
    page.fill("#message", REASON)
    page.fill("[name=wrong1]", "Which value?")
    with harness.runtime.db.write() as session:
        session.execute(update(PortalLink).values(revoked_at=database_now()))
    page.get_by_role("button", name="Send the answer").click()
    page.wait_for_url("**/portal/open")


def test_answer_of_a_customs_broker_comes_back_by_a_new_link(harness: ApiHarness) -> None:
    hand_off(harness)
    (handoff,) = find_ids(open_portal(harness, BROKER), "/portal/handoffs", "handoffs")
    with open_browser(harness.client_with_key(None)) as page:
        page.goto("/portal/open")
        open_link(harness, page, BROKER)
        type_answer(harness, page, handoff)
        open_link(harness, page, BROKER)
        page.wait_for_url(f"**/portal/handoffs/{handoff}")
        page.locator(AGAIN).wait_for()
        assert (page.input_value("#message"), page.get_by_label("We have a question").is_checked()) == (REASON, True)
        assert [page.input_value(f"[name=wrong{row}]") for row in range(3)] == ["", "Which value?", ""]
        page.fill("[name=place1]", page.locator("#places option").first.get_attribute("value") or "")
        page.get_by_role("button", name="Send the answer").click()
        page.get_by_role("heading", name="Conversation").wait_for()
        type_answer(harness, page, handoff)
        open_link(harness, page, factories.WAREHOUSE)
        page.wait_for_url("**/portal")
        assert page.evaluate("sessionStorage.unsent ?? null") is None, "another partner must not see it"
