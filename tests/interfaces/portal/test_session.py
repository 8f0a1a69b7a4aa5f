"""Sessions of the portal: how a link opens one, what its cookie allows, and how it ends."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import delete, update
from sqlmodel import col

from pipeline.accounts import partners, portal_links
from pipeline.accounts.models import Partner, PortalLink
from pipeline.core.errors import NotFound
from pipeline.interfaces.portal.session import COOKIE, authenticate
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open
from tests.interfaces.portal.conftest import create_link, find_ids, open_portal, submit
from tests.support import factories
from tests.support.people import sign_in_client

PAGES = ("", "/deliveries", "/handoffs", "/endpoint", "/secret", "/verify", "/samples", "/samples.zip")


def link_id_of(link: str) -> str:
    return link.partition("#")[2].partition(".")[0]


def is_closed(response: httpx.Response) -> bool:
    return (response.status_code, response.headers.get("location")) == (303, "/portal/open")


def test_pages_and_forms_without_a_session_lead_to_the_entrance(harness: ApiHarness) -> None:
    stranger = harness.client_with_key(None)
    assert all(is_closed(stranger.get(f"/portal{page}")) for page in PAGES)
    for action in ("/leave", "/deliveries/d/resend", "/deliveries/resend-dead", "/endpoint/test", "/secret/rotate"):
        assert is_closed(stranger.post(f"/portal{action}", data={"csrf_token": "x"}))
    entrance = stranger.get("/portal/open")
    assert entrance.status_code == 200
    assert '<form method="post" action="/portal/open"' in entrance.text


@pytest.mark.parametrize("given", ["whole link", "token"])
def test_link_opens_the_portal_of_its_partner(harness: ApiHarness, given: str) -> None:
    link = create_link(harness, factories.WAREHOUSE)
    browser = harness.client_with_key(None)
    opened = browser.post("/portal/open", data={"link": link if given == "whole link" else link.partition("#")[2]})
    cookie = opened.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/portal"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert link.partition(".")[2] not in cookie
    overview = browser.get("/portal")
    assert overview.status_code == 200
    assert f"<code>{factories.WAREHOUSE}</code>, warehouse" in overview.text


def test_cookie_is_secure_under_https(open_harness: Open) -> None:
    harness = open_harness(public_url="https://exports.example")
    opened = harness.client_with_key(None).post("/portal/open", data={"link": create_link(harness, "wh_test")})
    assert "Secure" in opened.headers["set-cookie"].split("; ")


def test_wrong_links_open_nothing(harness: ApiHarness) -> None:
    link = create_link(harness, factories.WAREHOUSE)
    browser = harness.client_with_key(None)
    for given in ("", "x", link[:-1], link.replace("lnk_", "lnk_0"), f"{link}#", link.partition("#")[0]):
        refused = browser.post("/portal/open", data={"link": given})
        assert (refused.status_code, "set-cookie" in refused.headers) == (404, False)
        assert "This link is not valid or has expired" in refused.text
        assert link.partition(".")[2][:20] not in refused.text


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://stranger.example"}])
def test_another_site_cannot_open_a_portal_in_the_browser(harness: ApiHarness, headers: dict[str, str]) -> None:
    link = create_link(harness, factories.WAREHOUSE)
    refused = harness.client_with_key(None).post("/portal/open", data={"link": link}, headers=headers)
    assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)


def test_pages_forbid_framing_caching_and_inline_scripts(harness: ApiHarness) -> None:
    browser = open_portal(harness, factories.BROKER)
    for page in ("/open", *PAGES[:-1], "/deliveries/none"):
        answer = browser.get(f"/portal{page}")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == ("same-origin" if page == "/open" else "no-referrer")
        assert (
            re.findall(r"<script(?! src=\"/console/assets/(?:console|portal).js\" defer></script>)", answer.text) == []
        )
        assert not re.search(r'(src|href|action)="(https?:)?//', answer.text)


def test_session_ends_after_hours_and_never_after_its_link(harness: ApiHarness) -> None:
    link = create_link(harness, factories.WAREHOUSE)

    def read_until() -> tuple[str, datetime]:
        opened = harness.client_with_key(None).post("/portal/open", data={"link": link})
        value = opened.headers["set-cookie"].partition("=")[2].partition(";")[0]
        return value, datetime.fromtimestamp(int(value.split(".")[1]), UTC)

    cookie, until = read_until()
    now = datetime.now(UTC)
    assert timedelta(hours=7, minutes=59) < until - now <= timedelta(hours=8)
    keys = {"secret_key": SecretStr("k" * 40), "secret_keys_previous": [harness.runtime.settings.secret_key]}
    rotated = replace(harness.runtime, settings=harness.runtime.settings.model_copy(update=keys))
    for runtime in (harness.runtime, rotated):
        assert authenticate(runtime, cookie).partner_id == factories.WAREHOUSE
    with pytest.raises(NotFound, match="session has ended"):
        authenticate(harness.runtime, cookie, now=until)
    soon = now + timedelta(minutes=5)
    with harness.runtime.db.write() as session:
        session.execute(update(PortalLink).values(expires_at=soon))
    assert read_until()[1] <= soon


def list_forgeries(cookie: str, other: str) -> Iterator[str]:
    link_id, until, signature = cookie.split(".")
    yield from ("", "..", "a.b.c", f"{link_id}.{until}", f"{link_id}.{until}.", f"{link_id}.{until}.é")
    yield f"{other.split('.', maxsplit=1)[0]}.{until}.{signature}"
    yield f"{link_id}.{int(until) + 60}.{signature}"
    yield f"{link_id}.{until}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}"


def test_forged_cookies_open_nothing(harness: ApiHarness) -> None:
    ours, theirs = (open_portal(harness, each).cookies[COOKIE] for each in (factories.WAREHOUSE, factories.BROKER))
    for forged in list_forgeries(ours, theirs):
        with pytest.raises(NotFound):
            authenticate(harness.runtime, forged)


def test_console_session_and_api_key_open_no_portal(harness: ApiHarness) -> None:
    key = harness.key("admin")
    browser = harness.client_with_key(None)
    sign_in_client(browser, harness.runtime, "admin")
    stolen = browser.cookies["exports_console"]
    for client in (harness.client_with_key(key.bearer), harness.client_with_key(None)):
        client.cookies.set(COOKIE, stolen)
        assert is_closed(client.get("/portal"))
    portal = open_portal(harness, factories.WAREHOUSE)
    visitor = harness.client_with_key(None)
    visitor.cookies.set("exports_console", portal.cookies[COOKIE])
    assert visitor.get("/console").headers["location"] == "/console/sign-in"
    assert visitor.get("/api/partners").status_code == 401


def test_revoking_ends_open_sessions(harness: ApiHarness) -> None:
    link = create_link(harness, factories.WAREHOUSE)
    browser = harness.client_with_key(None)
    browser.post("/portal/open", data={"link": link})
    assert browser.get("/portal").status_code == 200
    revoked = harness.client("admin").delete(f"/api/partners/{factories.WAREHOUSE}/portal-links/{link_id_of(link)}")
    assert revoked.status_code == 200
    assert is_closed(browser.get("/portal"))
    assert browser.post("/portal/open", data={"link": link}).status_code == 404


def test_leaving_ends_the_session_and_keeps_the_link(harness: ApiHarness) -> None:
    link = create_link(harness, factories.WAREHOUSE)
    browser = harness.client_with_key(None)
    browser.post("/portal/open", data={"link": link})
    assert is_closed(submit(browser, "/portal", "/portal/leave"))
    assert is_closed(browser.get("/portal"))
    assert browser.post("/portal/open", data={"link": link}).status_code == 303


def test_forms_need_the_token_of_their_session(harness: ApiHarness) -> None:
    browser, another = (open_portal(harness, factories.BROKER) for _ in range(2))
    stolen = re.search(r'name="csrf_token" value="([^"]+)"', another.get("/portal/secret").text)
    assert stolen is not None
    actions = ("/leave", "/deliveries/resend-dead", "/endpoint/test", "/secret/rotate", "/verify", "/handoffs/x/answer")
    for csrf_token in ("", "x", "é", stolen[1]):
        for action in actions:
            refused = browser.post(f"/portal{action}", data={"csrf_token": csrf_token, "overlap": "1"})
            assert refused.status_code == 403, action
            assert "This form does not belong to your session" in refused.text
    assert len(re.findall(r'data-label="No\."', browser.get("/portal/secret").text)) == 0


def test_two_accounts_with_one_partner_id_are_kept_apart(harness: ApiHarness) -> None:
    with harness.runtime.db.write() as session:
        name = "Of another account"
        session.add(Partner(account_id=OTHER, id=factories.WAREHOUSE, kind="warehouse", name=name, state="live"))
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    ours, theirs = open_portal(harness, factories.WAREHOUSE), open_portal(harness, factories.WAREHOUSE, account=OTHER)
    (delivery, *_) = find_ids(ours, "/portal/deliveries", "deliveries")
    assert find_ids(theirs, "/portal/deliveries", "deliveries") == []
    assert theirs.get(f"/portal/deliveries/{delivery}").status_code == 404
    assert "Of another account" in theirs.get("/portal").text
    assert "Of another account" not in ours.get("/portal").text


def test_paused_partner_still_sees_its_portal(harness: ApiHarness) -> None:
    browser = open_portal(harness, factories.WAREHOUSE)
    partners.pause_partner(harness.runtime, factories.ACCOUNT, factories.WAREHOUSE)
    overview = browser.get("/portal")
    assert overview.status_code == 200
    assert "You are paused: nothing is sent to you" in overview.text


def test_deleted_partner_has_no_portal(harness: ApiHarness) -> None:
    browser = open_portal(harness, "wh_test")
    with harness.runtime.db.write() as session:
        session.execute(delete(PortalLink).where(col(PortalLink.partner_id) == "wh_test"))
        session.execute(delete(Partner).where(col(Partner.id) == "wh_test"))
    assert is_closed(browser.get("/portal"))


def test_link_has_the_rate_limit_of_a_key(open_harness: Open) -> None:
    harness = open_harness(rate_limit_per_minute=3)
    browser, another = open_portal(harness, factories.BROKER), open_portal(harness, factories.WAREHOUSE)
    statuses = [browser.get("/portal").status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    limited = browser.get("/portal")
    assert int(limited.headers["retry-after"]) > 0
    assert "3 requests in a minute" in limited.text
    assert another.get("/portal").status_code == 200


def test_last_use_is_recorded(harness: ApiHarness) -> None:
    open_portal(harness, factories.WAREHOUSE)
    (listed,) = portal_links.list_portal_links(harness.runtime, factories.ACCOUNT, factories.WAREHOUSE)
    assert listed.last_used_at is not None
