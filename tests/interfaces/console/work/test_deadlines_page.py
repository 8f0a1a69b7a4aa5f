"""The page of what is due next: the following seven days, later, one partner, and the next page."""

import re
from datetime import timedelta

from sqlalchemy import update

from pipeline.core.clock import utc_now
from pipeline.deliveries.models import BrokerSubmission
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.api.test_deadlines import OPEN, open_handoffs
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories, stored

PAGE = "/console/deadlines"


def test_page_lists_what_is_due_and_leads_to_the_export(harness: ApiHarness) -> None:
    browser = sign_in_browser(harness, "read")
    assert "Nothing is due." in browser.get(PAGE).text
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    due = {"deadline_at": utc_now() + timedelta(days=8), "summary_due_at": utc_now() - timedelta(days=1)}
    stored.change(harness.runtime, update(BrokerSubmission).values(due | {"summary_overdue_at": utc_now()}))
    shown = browser.get(PAGE).text
    soon, later = shown.split("<h2")[1:]
    assert ("The next seven days" in soon, "Later" in later) == (True, True)
    assert f"{factories.BROKER} files the entry summary <span" in soon
    assert "overdue for 1 d" in soon
    assert f"{factories.BROKER} answers the handoff" in later
    for group in (soon, later):
        assert f'href="/console/exports/{export_id}"' in group
        assert factories.BATCH in group
    assert "Nothing is due." in browser.get(PAGE, params={"partner": factories.WAREHOUSE}).text


def test_pages_follow_each_other_and_keep_the_partner(harness: ApiHarness) -> None:
    open_handoffs(harness)
    browser, address, seen = sign_in_browser(harness, "read"), f"{PAGE}?partner={factories.BROKER}", []
    while address:
        shown = browser.get(address).raise_for_status().text
        seen += re.findall(r'href="/console/exports/([^"]+)"', shown)
        found = re.search(r'href="([^"]+)">Later ones', shown)
        address = "" if found is None else found[1].replace("&amp;", "&")
    assert (len(seen), len({*seen})) == (OPEN, OPEN)
    assert browser.get(PAGE, params={"cursor": "x"}).status_code == 400
