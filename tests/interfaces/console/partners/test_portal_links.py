"""The console's page of portal links: an administrator creates, lists and revokes them, each form once."""

import html
import re

import httpx

from pipeline.accounts import portal_links
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories
from tests.support.tables import table

PAGE = f"/console/partners/{factories.WAREHOUSE}/portal-links"


def read_form(browser: httpx.Client) -> dict[str, str]:
    """Return the hidden fields of the form that creates a link."""
    return dict(re.findall(r'type="hidden" name="(csrf_token|link_id)" value="(\w+)"', browser.get(PAGE).text))


def test_link_is_created_shown_once_used_and_revoked(harness: ApiHarness) -> None:
    browser = sign_in_browser(harness, "admin")
    assert PAGE in browser.get(f"/console/partners/{factories.WAREHOUSE}").text
    created = browser.post(PAGE, data=read_form(browser) | {"days": "3"})
    assert created.status_code == 200
    (url,) = re.findall(r'<code class="long"[^>]*>([^<]+)</code>', created.text)
    partner = harness.client_with_key(None)
    assert partner.post("/portal/open", data={"link": html.unescape(url)}).status_code == 303
    page = browser.get(PAGE).text
    assert url not in page
    assert "never" not in page
    (link,) = portal_links.list_portal_links(harness.runtime, factories.ACCOUNT, factories.WAREHOUSE)
    assert (link.expires_at - link.created_at).days == 3
    revoked = browser.post(f"{PAGE}/revoke", data=read_form(browser) | {"link": link.id})
    assert (revoked.status_code, revoked.headers["location"]) == (303, PAGE)
    assert ">revoked <time" in browser.get(PAGE).text
    assert partner.get("/portal").headers["location"] == "/portal/open"


def test_form_creates_one_link(harness: ApiHarness) -> None:
    browser = sign_in_browser(harness, "admin")
    form = read_form(browser) | {"days": "3"}
    statuses = [browser.post(PAGE, data=form).status_code for _ in range(2)]
    assert statuses == [200, 409]
    assert len(portal_links.list_portal_links(harness.runtime, factories.ACCOUNT, factories.WAREHOUSE)) == 1
    unnamed = browser.post(PAGE, data=form | {"link_id": "x"})
    assert (unnamed.status_code, "load the page again" in unnamed.text) == (400, True)


@table("days", ["", "0", "91", "-1", "x", "9" * 5000])
def test_wrong_days_are_refused_and_kept(harness: ApiHarness, days: str) -> None:
    browser = sign_in_browser(harness, "admin")
    refused = browser.post(PAGE, data=read_form(browser) | {"days": days})
    assert (refused.status_code, "The link must work for 1 to 90 days" in refused.text) == (400, True)
    assert f'value="{days}"' in refused.text


def test_all_links_are_revoked(harness: ApiHarness) -> None:
    browser = sign_in_browser(harness, "admin")
    for _ in range(3):
        browser.post(PAGE, data=read_form(browser) | {"days": "3"})
    assert browser.post(f"{PAGE}/revoke", data=read_form(browser)).status_code == 303
    page = browser.get(PAGE).text
    assert page.count(">revoked <time") == 3
    assert "Revoke all" not in page
