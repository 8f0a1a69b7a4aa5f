"""Fixtures shared with other tests, and visitors with an open portal."""

import re

import httpx

from pipeline.accounts import portal_links
from tests.interfaces.api.conftest import ApiHarness, harness, open_harness
from tests.support import factories

__all__ = ["harness", "open_harness"]


def create_link(harness: ApiHarness, partner_id: str, *, account: str = factories.ACCOUNT) -> str:
    """Return the URL of a new portal link."""
    return portal_links.create_portal_link(harness.runtime, account, partner_id, 7, created_by="a test").url


def open_portal(harness: ApiHarness, partner_id: str, *, account: str = factories.ACCOUNT) -> httpx.Client:
    """Return a browser that opened the portal of a partner by a new link."""
    browser = harness.client_with_key(None)
    opened = browser.post("/portal/open", data={"link": create_link(harness, partner_id, account=account)})
    assert (opened.status_code, opened.headers["location"]) == (303, "/portal")
    return browser


def submit(browser: httpx.Client, page: str, action: str, **fields: str) -> httpx.Response:
    """Send the form of a page that posts to `action`, with its hidden fields and these."""
    text = browser.get(page).text
    form = re.search(rf'<form [^>]*action="{re.escape(action)}".*?</form>', text, re.DOTALL)
    assert form is not None, f"{page} has no form for {action}"
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', form[0]))
    return browser.post(action, data=hidden | fields)


def find_ids(browser: httpx.Client, page: str, kind: str) -> list[str]:
    """Return the ids that a list links to: `kind` is deliveries or handoffs."""
    return re.findall(rf'href="/portal/{kind}/(\w+)"', browser.get(page).text)
