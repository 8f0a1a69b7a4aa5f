"""The console: who may use it, what it shows, and that typed text does not become markup."""

import re
from datetime import datetime

import httpx
import pytest

from pipeline.accounts.api_keys import Mode
from pipeline.exports.states import NEEDS_PERSON, SubmissionState
from pipeline.interfaces.console.exports import exports
from tests.deliveries.test_outcomes import shape
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open
from tests.interfaces.api.test_limits import hold_request
from tests.support import factories
from tests.support.people import sign_in_client
from tests.support.servers import poll
from tests.support.tables import table


def sign_in_browser(
    harness: ApiHarness, *roles: str, account: str = factories.ACCOUNT, mode: Mode = "live"
) -> httpx.Client:
    """Return the browser of a new person who has signed in."""
    client = harness.client_with_key(None)
    sign_in_client(client, harness.runtime, *roles, account=account, mode=mode)
    return client


def test_export_page_shows_the_export_in_full(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "read")
    export_id = harness.execute(factories.plan(units=2))
    harness.run(export_id)
    assert factories.BATCH in client.get("/console/exports").text
    view = harness.client().get(f"/api/exports/{export_id}").json()
    page = client.get(f"/console/exports/{export_id}").text
    assert re.search(rf'hx-sse:connect="/console/live\?seen=[0-9.]+&amp;export={export_id}"', page)
    shown = [view["status"], view["planHash"], view["treatment"]["digest"], factories.BROKER, factories.WAREHOUSE]
    shown += [each["packageNumber"] for each in view["customs_packages"]]
    shown += [each["type"] for each in view["events"][-20:]] + [each["id"] for each in view["artifacts"]]
    assert [each for each in shown if each not in page] == []
    line = view["treatment"]["lines"][0]
    chips = [each["heading"] for each in line["chapter99"]] + [each["flag"] for each in line["pga"]]
    assert chips
    assert [each for each in [line["htsCode"], *chips] if each not in page] == []  # the code stands in its link
    assert page.count('class="fill sent"><title>') == 4 * 2 + 4
    assert "Handed off to" in page
    (shown, *_) = re.findall(rf'href="(/console/exports/{export_id}/documents/[^"]+)"', page)
    (first,) = re.findall(r'href="(/console/artifacts/[^"]+)">Download', client.get(shown).text)
    document = client.get(first)
    assert document.headers["content-disposition"].startswith("attachment; ")
    assert document.content


def test_search_leads_to_the_export_or_lists_several(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "read")
    export_id = harness.execute(factories.plan(batch="one"))
    found = client.get("/console/search", params={"q": "one"})
    assert (found.status_code, found.headers["location"]) == (303, f"/console/exports/{export_id}")
    leads = {"2026-11-24": "/console/exports?from=2026-11-24&to=2026-11-24", "op_demo": "/console/partners/op_demo"}
    for wanted, link in leads.items():
        assert client.get("/console/search", params={"q": wanted}).headers["location"] == link
    several = client.get("/console/search", params={"q": factories.BROKER.upper()}).text
    for link in (f"/console/partners/{factories.BROKER}", f"/console/exports?broker={factories.BROKER}"):
        assert f'href="{link}"' in several
        assert f'href="{link}"' in client.get("/console/search/hits", params={"q": factories.BROKER}).text
    nothing = client.get("/console/search", params={"q": "<b>none"})
    assert "No export has this number." in nothing.text
    assert "<b>none" not in nothing.text
    assert client.get("/console/search", params={"q": "x" * 129}).status_code == 400
    assert harness.client_with_key(None).get("/console/search?q=one").headers["location"] == "/console/sign-in"


def test_a_refused_page_leads_back_to_a_list_that_the_caller_may_see(harness: ApiHarness) -> None:
    reader = sign_in_browser(harness, "read")
    ways = {
        "/console/exports/none": "/console/exports",
        "/console/deliveries/none": "/console/deliveries",
        "/console/keys/new": "/console/exports",
        "/console/people": "/console/exports",
    }
    for address, link in ways.items():
        assert f'<p><a href="{link}">All ' in reader.get(address).text, address


def test_list_is_filtered_by_state(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "read")
    export_id = harness.execute(factories.plan())
    assert export_id in client.get("/console/exports", params={"state": "accepted"}).text
    assert export_id not in client.get("/console/exports", params={"state": "failed"}).text


@pytest.mark.parametrize(
    ("status", "mark", "outcome"),
    [
        (SubmissionState.REJECTED, "bad", "rejected"),
        (SubmissionState.FAILED, "bad", "undeliverable"),
        (SubmissionState.DELIVERED, "bad", "overdue"),
        (SubmissionState.DELIVERED, "busy", "with broker"),
        (SubmissionState.RELEASED, "good", "released"),
        (SubmissionState.WITHDRAWING, "busy", "withdrawing"),
        (SubmissionState.NOT_WITHDRAWN, "bad", "not withdrawn"),
    ],
)
def test_outcome_is_shown_filterable_and_not_green(
    harness: ApiHarness, status: SubmissionState, mark: str, outcome: str
) -> None:
    client = sign_in_browser(harness, "read")
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    overdue = outcome == "overdue"
    shape(harness.runtime, export_id, status=status, overdue=overdue)

    pill = f'<span class="pill {mark}">{outcome}</span>'
    page = client.get(f"/console/exports/{export_id}").text
    assert pill in page
    assert pill in client.get("/console/exports").text
    assert bool(re.search(r"overdue for [^<]+</strong>, since <time [^>]+>2026-11-24 16:00:00 UTC<", page)) is overdue
    query_value = outcome.replace(" ", "_")
    for answer, found in (
        (client.get("/console/exports", params={"outcome": query_value}).text, True),
        (client.get("/console/exports", params={"outcome": "held"}).text, False),
        (client.get("/console/exports", params={"outcome": [each.value for each in NEEDS_PERSON]}).text, mark == "bad"),
        (harness.client().get("/api/exports", params={"outcome": query_value}).text, True),
        (harness.client().get("/api/exports", params={"outcome": ["held", "query"]}).text, False),
    ):
        assert (export_id in answer) is found
    refused = harness.client().get("/api/exports?outcome=lost")
    assert (refused.status_code, refused.json()["details"]["issues"][0]["pointer"]) == (400, "/query/outcome/0")


def test_running_deadline_is_shown(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    due = datetime.fromisoformat(
        harness.client().get(f"/api/exports/{export_id}").json()["broker_submission"]["deadline_at"]
    )
    page = sign_in_browser(harness, "read").get(f"/console/exports/{export_id}").text
    assert re.search(rf'<strong data-deadline="{due:%Y-%m-%dT%H:%M:%S}[^"]*">due in \d', page)


def test_outcome_filter_is_kept_on_the_next_page(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE_SIZE", 1)
    for batch in ("one", "two"):
        harness.execute(factories.plan(batch=batch))
    page = sign_in_browser(harness, "read").get("/console/exports?outcome=in_progress&outcome=held").text
    assert re.search(r'href="/console/exports\?outcome=held&amp;outcome=in_progress&amp;cursor=[^"&]+"', page)


def test_session_of_another_account_sees_nothing(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    artifact = harness.client().get(f"/api/exports/{export_id}").json()["artifacts"][0]["id"]
    stranger = sign_in_browser(harness, "read", account=OTHER)
    assert export_id not in stranger.get("/console/exports").text
    assert stranger.get(f"/console/exports/{export_id}").status_code == 404
    assert stranger.get(f"/console/artifacts/{artifact}").status_code == 404


def test_pages_escape_text_and_load_nothing_from_elsewhere(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "read")
    response = client.get("/console/exports/<script>alert(1)")
    assert response.status_code == 404
    assert "<script>" not in response.text
    for address in ("/console", "/console/exports", "/console/sign-in"):
        response = client.get(address)
        assert response.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in response.headers["content-security-policy"]
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert not re.search(r'(src|href)="(https?:)?//', response.text)
        scripts = re.findall(r"<script[^>]*>[^<]*", response.text)
        assert all(re.fullmatch(r'<script src="/console/assets/[a-z0-9.-]+" defer>', each) for each in scripts)
        assert {client.get(found).status_code for found in re.findall(r'"(/console/assets/[^"]+)"', response.text)} == {
            200
        }
    assert client.get("/console/assets/style.css").headers["content-type"].startswith("text/css")


def test_htmx_and_its_extension_are_one_file(harness: ApiHarness) -> None:
    """From a file of its own, the extension sometimes came after htmx had read the page, which then followed nothing."""
    client = sign_in_browser(harness, "read")
    (script,) = re.findall(r'<script src="([^"]*htmx[^"]*)"', client.get("/console").text)
    loaded = client.get(script)
    assert (loaded.status_code, loaded.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert loaded.text.index("registerExtension(") < loaded.text.index('registerExtension("sse"')


@pytest.mark.parametrize("csrf_token", [None, "0" * 64])
def test_sign_out_without_a_csrf_token_is_rejected(harness: ApiHarness, csrf_token: str | None) -> None:
    client = sign_in_browser(harness, "read")
    refused = client.post("/console/sign-out", data={} if csrf_token is None else {"csrf_token": csrf_token})
    assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
    assert "This form does not belong to your session" in refused.text
    assert client.get("/console").status_code == 200


@table(
    "address", ["", "/partners", "/partners/br_sandbox", "/deliveries", "/sandbox", "/exports/none", "/partners/none"]
)
def test_every_page_has_a_sign_out_form(harness: ApiHarness, address: str) -> None:
    assert re.search(
        r'action="/console/sign-out"><input type="hidden" name="csrf_token" value="[0-9a-f]{64}">',
        sign_in_browser(harness, "read").get(f"/console{address}").text,
    )


def test_first_page_redirects_relatively(harness: ApiHarness) -> None:
    response = harness.client_with_key(None).get("/console/", headers={"Host": "evil.example"})
    assert (response.status_code, response.headers["location"]) == (308, "/console")


def test_a_browser_gets_a_page_where_a_program_gets_a_problem_document(open_harness: Open) -> None:
    harness = open_harness(max_requests=1)
    client, html = sign_in_browser(harness, "read"), {"Accept": "text/html,*/*;q=0.8"}
    for address in ("/console/nothing", "/portal/nothing", "/console/exports/a/b/c/d"):
        shown, answered = client.get(address, headers=html), client.get(address)
        assert (shown.status_code, answered.status_code) == (404, 404)
        assert shown.headers["content-security-policy"].startswith("default-src 'none'")
        assert shown.headers["x-request-id"] in shown.text
        assert answered.headers["content-type"] == "application/problem+json"
    assert client.get("/api/nothing", headers=html).headers["content-type"] == "application/problem+json"
    stranger, page = harness.client_with_key(None), "/console/sign-in"
    with hold_request(harness, {}, b"{", page):
        poll(lambda: stranger.get(page, headers=html).status_code == 429, 20, "a second request was answered")
        busy = stranger.get(page, headers=html)
    assert ("1 sign-ins in progress" in busy.text, busy.headers["retry-after"]) == (True, "1")
