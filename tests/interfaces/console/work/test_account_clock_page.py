"""The page of the test clock: its buttons and its instant move it, and pages of test exports count by it."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.people.test_sign_in import read_csrf_token
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories

PAGE = "/console/test-clock"


def test_button_moves_the_clock_to_the_truck_and_pages_count_by_it(harness: ApiHarness) -> None:
    plan = factories.plan(broker="br_test", warehouse="wh_test")
    plan["units"][0]["entry"]["estimatedArrivalAt"] = (datetime.now(UTC) + timedelta(days=20)).isoformat()
    export_id = harness.execute(plan, mode="test")
    harness.run(export_id)
    browser = sign_in_browser(harness, "operate")
    page = browser.get(PAGE).text
    (at,) = re.findall(r'name="at" value="([^"]+)"><button>Truck arrives', page)
    token = read_csrf_token(page)
    assert browser.post(PAGE, data={"csrf_token": token, "at": at}).status_code in (200, 303)
    shown = browser.get(f"/console/exports/{export_id}").text
    assert re.search(r"test clock</a> is (19 d 23|20 d 0) h ahead", shown)
    assert re.search(r"overdue for (19|20) d", shown)
    assert "test clock</a> is " in browser.get("/console/inbox").text
    refused = browser.post(PAGE, data={"csrf_token": token, "at": "2099-01-01T00:00"})
    assert (refused.status_code, "more than 400 days ahead" in refused.text) == (400, True)
    assert "is not an instant" in browser.post(PAGE, data={"csrf_token": token, "at": "soon"}).text
    browser.post(PAGE, data={"csrf_token": token, "reset": "yes"})
    assert "the real time" in browser.get(PAGE).text


@pytest.mark.parametrize("role", ["read", "execute"])
def test_others_only_see_the_clock(harness: ApiHarness, role: str) -> None:
    page = sign_in_browser(harness, role).get(PAGE).text
    assert "Rules of next month" in page
    assert "<button>Rules of next month" not in page
