"""The pages of keys, people, portal links, waivers and legal holds: links to older rows, and what a wrong cursor shows."""

import html
import re
from typing import Final

import httpx
import pytest

from pipeline.accounts import api_keys, people
from pipeline.core import tenancy
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.customs.models import Waiver
from pipeline.exports.models import LegalHold
from pipeline.interfaces.console.partners import portal_links as link_pages
from pipeline.interfaces.console.people import keys as key_pages
from pipeline.interfaces.console.people import people as people_pages
from pipeline.interfaces.console.work import holds as hold_pages
from pipeline.interfaces.console.work import waivers as waiver_pages
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.interfaces.console.people.test_keys import read_form
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories

ROWS: Final = 3
LINKS: Final = f"/console/partners/{factories.WAREHOUSE}/portal-links"
#: Each list with what its rows show.
LISTS: Final = {
    "/console/keys": r"<br><code>(\w+)</code>",
    "/console/people": r'data-label="Person"><a href="/console/people/(per_\w+)"',
    LINKS: r"<td><code>(lnk_\w+)</code>",
    "/console/waivers": r'<td><a href="/console/waivers/(\w+)"',
    "/console/holds": r'href="/console/holds/(\w+)/release"',
}


@pytest.fixture
def client(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> httpx.Client:
    """A signed-in administrator of an account with three rows in each list, two on a page."""
    for module in (hold_pages, key_pages, people_pages, link_pages, waiver_pages):
        monkeypatch.setattr(module, "PAGE_SIZE", 2)
    signed_in = sign_in_browser(harness, "admin")
    for number in range(ROWS):
        api_keys.create_key(harness.runtime, factories.ACCOUNT, f"key {number}", mode="live", roles=["read"])
        signed_in.post(LINKS, data=read_form(signed_in, LINKS) | {"days": "7"})
        with harness.runtime.db.write() as session:
            account = factories.ACCOUNT
            session.add(Waiver(id=f"wvr_{number}", account_id=account, rule="V17", reason="known", waived_by="cli"))
            session.add(LegalHold(id=f"hld_{number}", account_id=account, reason="audit", placed_by="cli"))
    with tenancy.account_scope(ALL_ACCOUNTS):
        for number in range(ROWS - 1):  # the administrator is one of the people
            people.invite_person(
                harness.runtime, factories.ACCOUNT, "cli", email=f"p{number}@maple.example", roles=["read"], mode="live"
            )
    return signed_in


def read_rows(page: httpx.Response, address: str) -> list[str]:
    assert page.status_code == 200, page.text
    return re.findall(LISTS[address], page.text)


def find_next_link(page: httpx.Response) -> str:
    (link,) = re.findall(r'<a href="([^"]+cursor=[^"]+)">Older', page.text)
    return html.unescape(link)


@pytest.mark.parametrize("address", LISTS)
def test_link_leads_to_the_older_rows(client: httpx.Client, address: str) -> None:
    first = client.get(address)
    last = client.get(find_next_link(first))
    assert [len(read_rows(page, address)) for page in (first, last)] == [2, 1]
    assert len({*read_rows(first, address), *read_rows(last, address)}) == ROWS
    assert ">Older" not in last.text


@pytest.mark.parametrize("address", LISTS)
def test_wrong_cursor_is_refused_with_the_remedy(client: httpx.Client, address: str) -> None:
    for cursor in ("none", "%00", "", "%3Cscript%3E", "x" * 129):
        page = client.get(f"{address}?cursor={cursor}")
        assert page.status_code in (400, 422), (cursor, page.text)
        assert "<script>alert" not in page.text
    assert "leave it out to begin with the newest" in client.get(f"{address}?cursor=none").text


@pytest.mark.parametrize("address", [each for each in LISTS if each != LINKS])
def test_cursor_of_another_account_shows_nothing(client: httpx.Client, harness: ApiHarness, address: str) -> None:
    stranger = sign_in_browser(harness, "admin", account=OTHER)
    refused = stranger.get(find_next_link(client.get(address)))
    assert refused.status_code in (400, 422)
    assert not re.findall(LISTS[address], refused.text)


def test_filter_stays_on_the_next_page(client: httpx.Client, harness: ApiHarness) -> None:
    for each in api_keys.list_keys(harness.runtime, factories.ACCOUNT):
        api_keys.revoke_key(harness.runtime, factories.ACCOUNT, each.id)
    link = find_next_link(client.get("/console/keys?ended=true"))
    assert link.startswith("/console/keys?ended=true&cursor=")
    assert len(read_rows(client.get(link), "/console/keys")) == 1


def test_links_on_a_later_page_can_be_revoked(client: httpx.Client) -> None:
    older = client.get(find_next_link(client.get(LINKS)))
    assert "Revoke all" in older.text
    token = read_form(client, LINKS)["csrf_token"]
    client.post(f"{LINKS}/revoke", data={"csrf_token": token})
    assert "Revoke all" not in client.get(LINKS).text
