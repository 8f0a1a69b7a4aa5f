"""Every page of the console, in each of its states and with the longest texts, for the tests of its layout."""

import html
import re
from collections.abc import Mapping
from typing import Any, Final
from unittest.mock import patch

import httpx
from sqlalchemy import update
from sqlmodel import col

from pipeline.accounts import people
from pipeline.accounts.one_time_links import Purpose
from pipeline.core import tenancy
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.exports.models import Export
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.interfaces.console.people.test_keys import read_form
from tests.interfaces.console.people.test_sign_in import read_totp_secret
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories
from tests.support.browser import Album
from tests.support.http_endpoint import Endpoint, Script
from tests.support.logos import draw_logo
from tests.support.people import PASSWORD, generate_code, read_now, sign_in_client

EMPTY: Final = {
    "home": "",
    "inbox": "/inbox",
    "acknowledged": "/inbox?acknowledged=true",
    "exports": "/exports",
    "filtered exports": "/exports?outcome=rejected",
    "partners": "/partners",
    "deliveries": "/deliveries",
    "dead letters": "/deliveries?state=dead",
    "sandbox": "/sandbox",
    "keys": "/keys",
    "holds": "/holds",
    "released holds": "/holds?released=true",
    "waivers": "/waivers",
    "audit": "/audit?before=1",
}

LONG = "Übersee-Zollabfertigungsgesellschaft für Haushaltswaren mbH, Hof"
WORDS = "The charge is on the carrier's own bill, and the buyer pays it there. "
REASON = (WORDS * 15)[:1000].strip()
#: Arabic and Japanese: one is written from the right, the other has no spaces.
SCRIPTS = "شركة المنتجات المنزلية - 家庭用品株式会社"


def fill_form(client: httpx.Client, page: str, address: str | None = None, **fields: Any) -> httpx.Response:
    """Send the form of a page to its own address, or to another, with its hidden fields and these."""
    return client.post(address or page, data=read_form(client, page) | fields)


def build_album(harness: ApiHarness, client: httpx.Client, addresses: Mapping[str, str]) -> Album:
    """Return the pages at these addresses and all that need more than an address: answers to forms, errors, empty lists.

    The client is signed in as an administrator of an account with exports.
    """
    album = Album()
    for name, address in addresses.items():
        album.add(name, lambda address=address: client.get(address))  # type: ignore[misc]
    # The sandbox broker received no live export.
    with patch("pipeline.interfaces.console.exports.sandbox.find_answer_link", return_value="answerable"):
        album.add("sandbox answer", lambda: client.get(addresses["conversation"].replace("conversation", "sandbox")))
    add_secrets_shown_once(album, harness, client)
    add_acts(album, harness, client)
    add_sign_in(album, harness)
    add_errors(album, harness, client)
    add_empty_lists(album, harness)
    return album


def add_secrets_shown_once(album: Album, harness: ApiHarness, client: httpx.Client) -> None:
    """Add the pages that show a key, a secret or a link, and those that replace and end them."""
    new = {"name": LONG, "role": ["read", "operate"], "mode": "live", "days": "30"}
    album.add("key created", lambda: fill_form(client, "/console/keys/new", "/console/keys", **new))
    album.add("new key with errors", lambda: fill_form(client, "/console/keys/new", "/console/keys", name=""))
    key = f"/console/keys/{harness.key('read').id}"
    album.add("replace key", lambda: client.get(f"{key}/rotate"))
    album.add("key replaced", lambda: fill_form(client, f"{key}/rotate", overlap="24"))
    album.add("revoke key", lambda: client.get(f"/console/keys/{harness.key('read').id}/revoke"))
    wizard = "/console/partners/new?kind=customs_broker&channel=webhook"
    typed = {"id": "br_hook", "name": LONG, "webhook.address": "https://broker.example/exports"}
    album.add("partner with errors", lambda: fill_form(client, wizard, "/console/partners/new", id="no id!"))
    album.add("partner created", lambda: fill_form(client, wizard, "/console/partners/new", **typed))
    draft = "/console/partners/br_hook"
    album.add("draft", lambda: client.get(draft))
    album.add("draft set-up", lambda: client.get(f"{draft}/setup"))
    album.add("secret replaced", lambda: fill_form(client, f"{draft}/secret", overlap="24"))
    links = f"/console/partners/{factories.WAREHOUSE}/portal-links"
    album.add("portal link created", lambda: fill_form(client, links, days="7"))
    invited = {"email": "a-very-long-address-of-a-person@customs-department.maple.example", "name": SCRIPTS}
    album.add("person invited", lambda: fill_form(client, "/console/people", role="read", **invited))
    album.add("people in scripts", lambda: client.get("/console/people"))
    album.add("person with errors", lambda: fill_form(client, "/console/people", email="bob", role="king"))


def add_acts(album: Album, harness: ApiHarness, client: httpx.Client) -> None:
    """Add the pages between a button and its effect, with long texts."""
    with Endpoint([Script()]) as endpoint:
        wizard = "/console/partners/new?kind=warehouse&channel=webhook"
        hooked = {"id": "wh_hook", "name": "Hooked warehouse", "webhook.address": endpoint.url}
        assert fill_form(client, wizard, "/console/partners/new", **hooked).status_code == 200
        partner = "/console/partners/wh_hook"
        album.add("connection test", lambda: fill_form(client, f"{partner}/setup", f"{partner}/test"))
    album.add("tested partner", lambda: client.get(partner))
    for name, scope, text in (("hold", "account", REASON), ("hold in scripts", "account", SCRIPTS)):
        placed = fill_form(client, "/console/holds/new", "/console/holds", scope=scope, reason=text)
        assert placed.status_code == 303, (name, placed.text)
    album.add("long holds", lambda: client.get("/console/holds"))
    (hold, *_) = re.findall(r'href="(/console/holds/[^"]+/release)"', client.get("/console/holds").text)
    album.add("release hold", lambda: client.get(hold))
    album.add("hold with errors", lambda: fill_form(client, "/console/holds/new", "/console/holds"))
    recorded = fill_form(client, "/console/waivers/new", "/console/waivers", rule="V17", scope="rule", reason=REASON)
    assert recorded.status_code == 303, recorded.text
    album.add("waiver", lambda: client.get(recorded.headers["location"]))
    album.add("long waivers", lambda: client.get("/console/waivers"))
    album.add("waiver with errors", lambda: fill_form(client, "/console/waivers/new", "/console/waivers"))
    paper = "/console/print-settings"
    token = {"csrf_token": read_form(client, paper)["csrf_token"]}

    def upload(picture: bytes) -> httpx.Response:
        return client.post(f"{paper}/logo", data=token, files={"logo": picture})

    assert upload(draw_logo()).status_code == 303
    album.add("printed pages with a logo", lambda: client.get(paper))
    album.add("printed pages with errors", lambda: upload(b"<svg/>"))
    inbox = client.get("/console/inbox").text
    (target, *_) = re.findall(r'name="target" value="([^"]*seen=[^"]+)"', inbox)
    chosen = {"remedy": "acknowledge", "target": html.unescape(target), "note": REASON}
    album.add("review", lambda: fill_form(client, "/console/inbox", "/console/inbox/review", **chosen))
    album.add("results", lambda: fill_form(client, "/console/inbox", "/console/inbox/apply", **chosen))
    album.add("acknowledged", lambda: client.get("/console/inbox?acknowledged=true"))
    tested = {"partner": "wh_hook"}
    album.add("inbox test", lambda: fill_form(client, "/console/inbox", "/console/inbox/test", **tested))
    for name, query, shown in (
        ("several found", "batch_2026_11_24_002", "Found by"),
        ("partners found", "sandbox", "Exports of br_sandbox"),
        ("nothing found", "nothing", "No export has this number."),
    ):
        found = album.add(name, lambda query=query: client.get("/console/search", params={"q": query}))  # type: ignore[misc]
        assert shown in found.text, name


def add_sign_in(album: Album, harness: ApiHarness) -> None:
    """Add the steps of sign-in: password and code, one-time links, recovery codes, an OpenID provider."""
    stranger = harness.client_with_key(None)
    album.add("sign-in", lambda: stranger.get("/console/sign-in"))
    wrong = {"email": "anna@maple.example", "password": "wrong", "code": "000000"}
    album.add("sign-in refused", lambda: stranger.post("/console/sign-in", data=wrong))
    link = invite(harness, "carl@maple.example")
    shown = album.add("sign-in set-up", lambda: stranger.get(link)).text
    album.add("sign-in set-up refused", lambda: stranger.post(link, data={"password": "short", "code": "1"}))
    code = generate_code(read_totp_secret(shown), read_now(harness.runtime))
    album.add("recovery codes", lambda: stranger.post(link, data={"password": PASSWORD, "code": code}))
    album.add("used link", lambda: stranger.get(link))
    joins = invite(harness, "carl@maple.example", OTHER)
    album.add("join", lambda: stranger.get(joins))
    album.add("join by password", lambda: harness.client_with_key(None).get(joins))
    album.add("own page", lambda: stranger.get("/console/me"))
    connector = harness.client_with_key(None)
    person = sign_in_client(connector, harness.runtime, "read")
    proof = {"password": PASSWORD, "code": person.code(harness.runtime)}
    album.add("to the provider", lambda: fill_form(connector, "/console/me", "/console/provider/connect", **proof))
    enters = invite(harness, "erin@maple.example", purpose=Purpose.ENTER)
    album.add("enter", lambda: harness.client_with_key(None).get(enters))


def add_errors(album: Album, harness: ApiHarness, client: httpx.Client) -> None:
    """Add what a person sees who asks for what is not there, may not be seen, or cannot be done now."""
    reader = sign_in_browser(harness, "read")
    album.add("forbidden", lambda: reader.get("/console/keys/new"))
    # As a browser asks for a page.
    page = {"Accept": "text/html"}
    album.add("no such address", lambda: client.get("/console/nothing", headers=page))
    album.add("provider refused", lambda: client.get("/console/provider/callback?code=x&state=y", headers=page))
    album.add("stale form", lambda: reader.post("/console/me/password", data={"csrf_token": "0"}))
    album.add("wrong filter", lambda: client.get("/console/exports?outcome=none"))
    album.add("no such partner", lambda: client.get("/console/partners/none"))
    album.add("read by a reader", lambda: reader.get(f"/console/partners/{factories.WAREHOUSE}"))
    album.add("inbox of a reader", lambda: reader.get("/console/inbox"))
    broken = update(Export).where(
        col(Export.id) == harness.execute(factories.plan(batch="broken", invoice="INV-BROKEN"))
    )
    for state in ("no state", "accepted"):
        with harness.runtime.db.write() as session:
            session.execute(broken.values(state=state))
        if state == "no state":
            defect = album.add("defect", lambda: client.get("/console/exports/broken", headers=page))
            assert defect.status_code == 500
    album.add("signed out", lambda: show_trouble(client.get("/console/inbox"), "signed-out"))


def show_trouble(answer: httpx.Response, name: str) -> httpx.Response:
    """Return a page that shows its notice of this name, which else a script shows."""
    notice = f'data-trouble="{name}"'
    assert f"{notice} hidden" in answer.text
    text = answer.text.replace(f"{notice} hidden", notice)
    return httpx.Response(
        200, headers={"content-type": answer.headers["content-type"]}, text=text, request=answer.request
    )


def add_empty_lists(album: Album, harness: ApiHarness) -> None:
    """Add every list of an account that has nothing yet."""
    newcomer = sign_in_browser(harness, "admin", account=OTHER)
    for name, path in EMPTY.items():
        album.add(f"empty {name}", lambda path=path: newcomer.get(f"/console{path}"))  # type: ignore[misc]


def invite(harness: ApiHarness, email: str, account: str = factories.ACCOUNT, **facts: Any) -> str:
    """Return the address of a new person's one-time link."""
    with tenancy.account_scope(ALL_ACCOUNTS):
        made = people.invite_person(harness.runtime, account, "cli", email=email, roles=["read"], mode="live", **facts)
    return f"/console/links/{made.token}"
