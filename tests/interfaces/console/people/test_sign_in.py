"""The pages of sign-in and one-time links: who gets a session, with which cookies, and from which site."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlmodel import col

from pipeline.accounts import credentials, people
from pipeline.accounts.models import SignedInSession
from pipeline.accounts.sessions import IDLE_SECONDS
from pipeline.core.clock import utc_now
from pipeline.core.errors import SignInFailed
from pipeline.interfaces.console.people.sign_in_views import draw_qr_code
from pipeline.interfaces.pages.session import sign_form
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open
from tests.support import factories
from tests.support.people import (
    PASSWORD,
    TestPerson,
    add_person,
    find,
    generate_code,
    read_actions,
    read_now,
    sign_in_client,
)

NAME = "exports_console"


def post_sign_in(
    client: httpx.Client, harness: ApiHarness, person: TestPerson, headers: Any = None, **changes: str
) -> httpx.Response:
    form = {"email": person.email, "password": PASSWORD, "code": person.code(harness.runtime)} | changes
    return client.post("/console/sign-in", data=form, headers=headers)


def read_csrf_token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', page)
    assert found
    return found[1]


def read_totp_secret(page: str) -> str:
    found = re.search(r'<code class="long">([A-Z2-7 ]{39})</code>', page)
    assert found
    return found[1].replace(" ", "")


def test_right_password_and_code_start_a_session(harness: ApiHarness) -> None:
    person, client = add_person(harness.runtime, "read"), harness.client_with_key(None)
    answer = post_sign_in(client, harness, person)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")
    cookies = {each.partition("=")[0]: set(each.split("; ")[1:]) for each in answer.headers.get_list("set-cookie")}
    assert cookies.keys() == {NAME, "exports_device"}
    assert all({"HttpOnly", "SameSite=lax", "Path=/"} <= attributes for attributes in cookies.values())
    assert "anna@maple.example" in client.get("/console").text


@pytest.mark.parametrize(
    ("kept", "location"),
    [
        ("/console/exports?state=failed", "/console/exports?state=failed"),
        ("//evil.example/console/", "/console"),
        ("https://evil.example/console/", "/console"),
        ("/consolex", "/console"),
        ("/console/\r\nSet-Cookie: a=b", "/console"),
        ("", "/console"),
    ],
)
def test_sign_in_comes_back_only_to_a_page_of_the_console(harness: ApiHarness, kept: str, location: str) -> None:
    person, client = add_person(harness.runtime, "read"), harness.client_with_key(None)
    answer = post_sign_in(client, harness, person, headers={"Cookie": f"exports_return={quote(kept, safe='')}"})
    assert answer.headers["location"] == location


def test_page_that_asks_for_sign_in_is_remembered_for_one_sign_in(harness: ApiHarness) -> None:
    person, client = add_person(harness.runtime, "read"), harness.client_with_key(None)
    client.get("/console/exports?broker=br%261", headers={"Sec-Fetch-Dest": "document"})
    client.get("/console/exports/exp_1", headers={"Sec-Fetch-Dest": "iframe"})
    client.get("/console/live?seen=", headers={"HX-Request": "true"})
    assert post_sign_in(client, harness, person).headers["location"] == "/console/exports?broker=br%261"
    assert "exports_return" not in client.cookies
    client.get(f"/console/exports/{'e' * 2000}")
    assert "exports_return" not in client.cookies


@pytest.mark.parametrize("changes", [{"password": "wrong"}, {"code": "000000"}, {"email": "nobody@maple.example"}])
def test_wrong_answer_sets_no_cookie_and_keeps_the_address(harness: ApiHarness, changes: dict[str, str]) -> None:
    person = add_person(harness.runtime, "read")
    answer = post_sign_in(harness.client_with_key(None), harness, person, **changes)
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    assert 'role="alert">The e-mail address, the password or the code is wrong' in answer.text
    assert f'value="{changes.get("email", person.email)}"' in answer.text
    assert PASSWORD not in answer.text


def test_an_api_key_does_not_sign_in(harness: ApiHarness) -> None:
    key = harness.key("admin").bearer
    client = harness.client_with_key(None)
    for form in ({"key": key}, {"email": "anna@maple.example", "password": key, "code": key}):
        assert client.post("/console/sign-in", data=form).status_code == 401
    client.cookies.set(NAME, key, domain=client.base_url.host)
    assert client.get("/console").status_code == 303


def test_too_many_attempts_are_answered_429(harness: ApiHarness) -> None:
    person, client = add_person(harness.runtime, "read"), harness.client_with_key(None)
    statuses = [post_sign_in(client, harness, person, code="000000").status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    refused = post_sign_in(client, harness, person)
    assert 0 < int(refused.headers["retry-after"]) <= 30
    assert "try again in" in refused.text


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_sign_in_from_another_site_is_rejected(harness: ApiHarness, site: str) -> None:
    person = add_person(harness.runtime, "read")
    refused = post_sign_in(harness.client_with_key(None), harness, person, {"Sec-Fetch-Site": site})
    assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
    assert "another site" in refused.text
    for number, own in enumerate(("same-origin", "none")):
        code = [*person.recovery_codes][number]
        taken = post_sign_in(harness.client_with_key(None), harness, person, {"Sec-Fetch-Site": own}, code=code)
        assert taken.headers["location"] == "/console"


@pytest.mark.parametrize(
    "origin", ["https://stranger.example", "http://testserver.stranger.example", "null", "http://["]
)
def test_sign_in_with_a_foreign_origin_is_rejected(harness: ApiHarness, origin: str) -> None:
    person, client = add_person(harness.runtime, "read"), harness.client_with_key(None)
    refused = post_sign_in(client, harness, person, {"Origin": origin})
    assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
    assert refused.headers["referrer-policy"] == client.get("/console/sign-in").headers["referrer-policy"]
    for number, own in enumerate((str(client.base_url).rstrip("/"), harness.runtime.settings.public_url)):
        code = [*person.recovery_codes][number]
        assert post_sign_in(client, harness, person, {"Origin": own}, code=code).headers["location"] == "/console"


def test_sign_in_replaces_a_planted_session(harness: ApiHarness) -> None:
    victim = add_person(harness.runtime, "read")
    client = harness.client_with_key(None)
    planted = sign_in_client(client, harness.runtime, "read")
    answer = post_sign_in(client, harness, victim)
    assert planted.token not in answer.headers["set-cookie"]
    assert victim.email in client.get("/console").text
    with pytest.raises(SignInFailed):
        find(harness.runtime, planted.token)
    assert read_actions(harness.runtime)[-2:] == ["signed_in", "signed_out"]


def test_https_binds_the_cookie_to_the_host(open_harness: Open) -> None:
    harness = open_harness(public_url="https://exports.example")
    person, client = add_person(harness.runtime, "read"), harness.client_with_key(None)
    answer = post_sign_in(client, harness, person)
    (cookie,) = [each for each in answer.headers.get_list("set-cookie") if "console" in each]
    assert cookie.startswith("__Host-exports_console=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
    client.cookies.clear()
    assert client.get("/console", headers={"Cookie": f"{NAME}={person.token}"}).status_code == 303
    assert client.get("/console", headers={"Cookie": f"__Host-{NAME}={person.token}"}).status_code == 200


def test_signed_out_session_is_ended_in_the_database(harness: ApiHarness) -> None:
    client = harness.client_with_key(None)
    person = sign_in_client(client, harness.runtime, "read")
    client.post("/console/sign-out", data={"csrf_token": read_csrf_token(client.get("/console").text)})
    assert NAME not in client.cookies
    client.cookies.set(NAME, person.token, domain=client.base_url.host)
    assert client.get("/console").headers["location"] == "/console/sign-in"


def test_invited_person_sets_up_and_gets_recovery_codes(harness: ApiHarness) -> None:
    invited = people.invite_person(
        harness.runtime, factories.ACCOUNT, "cli", email="anna@maple.example", roles=["read"]
    )
    client, address = harness.client_with_key(None), f"/console/links/{invited.token}"
    page = client.get(address)
    assert (page.status_code, page.headers["referrer-policy"]) == (200, "same-origin")
    secret = read_totp_secret(page.text)
    assert client.get(address).text == page.text, "looking at a link does not use it"
    right = {"password": PASSWORD, "code": generate_code(secret, read_now(harness.runtime))}
    for wrong, message in (({"code": "000000"}, "The code is not"), ({"password": "short"}, "12 to 256 characters")):
        refused = client.post(address, data=right | wrong)
        assert (refused.status_code, message in refused.text) == (400, True)
        assert NAME not in refused.headers["set-cookie"]
        assert PASSWORD not in refused.text
    foreign = client.post(address, data=right, headers={"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403
    earlier = read_totp_secret(harness.client_with_key(None).get(address).text)
    assert earlier != secret, "who opened the link before must not know the codes"
    done = client.post(address, data=right)
    codes = re.findall(r"<li><code>([a-z2-7-]{19})</code>", done.text)
    assert (done.status_code, len(codes)) == (200, credentials.RECOVERY_CODES)
    assert client.get("/console").status_code == 200
    again = client.post(address, data=right)
    assert (again.status_code, "ask an administrator of the account for a new one" in again.text) == (404, True)
    other = harness.client_with_key(None)
    signed = other.post("/console/sign-in", data={"email": invited.email, "password": PASSWORD, "code": codes[0]})
    assert signed.headers["location"] == "/console"


def read_without_facts(
    client: httpx.Client, invited: people.Invitation, form: dict[str, str] | None
) -> tuple[int, str]:
    """Return status and text of the link's page without what differs between any two people."""
    address = f"/console/links/{invited.token}"
    answer = client.get(address) if form is None else client.post(address, data=form)
    text = answer.text.replace(invited.token, "TOKEN").replace(invited.email, "EMAIL")
    return answer.status_code, re.sub(
        r"<svg.*?</svg>|otpauth:[^\"]*|<code class=\"long\">.*?</code>", "", text, flags=re.DOTALL
    )


def test_existing_person_joins_another_account_by_link(harness: ApiHarness) -> None:
    client = harness.client_with_key(None)
    person = sign_in_client(client, harness.runtime, "read")
    links = [
        f"/console/links/{people.invite_person(harness.runtime, OTHER, 'cli', email=person.email, roles=['admin']).token}"
        for _ in range(2)
    ]
    assert client.get(links[0]).status_code == 404, "a newer invitation replaces the older"
    new = people.invite_person(
        harness.runtime, OTHER, "cli", email="new@maple.example", roles=["admin"], name="Chosen here"
    )
    known = people.invite_person(harness.runtime, OTHER, "cli", email=person.email, roles=["admin"], name="Chosen here")
    links[1] = f"/console/links/{known.token}"
    for form, status in (({}, 200), ({"known": "yes", "code": "000000"}, 401), ({"code": "000000"}, 400)):
        answers = [
            read_without_facts(harness.client_with_key(None), each, {"password": PASSWORD} | form if form else None)
            for each in (known, new)
        ]
        assert answers[0] == answers[1], "a stranger does not learn who has credentials"
        assert answers[0][0] == status
    assert 'name="password"' not in client.get(links[1]).text
    joined = client.post(links[1])
    assert joined.headers["location"] == "/console"
    assert OTHER in client.get("/console").text


def test_existing_person_signs_in_and_joins_in_one_step(harness: ApiHarness) -> None:
    person, client = add_person(harness.runtime, "read"), harness.client_with_key(None)
    invited = people.invite_person(harness.runtime, OTHER, "cli", email=person.email, roles=["admin"])
    form = {"known": "yes", "password": PASSWORD, "code": person.code(harness.runtime)}
    assert client.post(f"/console/links/{invited.token}", data=form).headers["location"] == "/console"
    assert OTHER in client.get("/console").text


def test_page_of_another_account_cannot_act_after_a_switch(harness: ApiHarness) -> None:
    client = harness.client_with_key(None)
    person = sign_in_client(client, harness.runtime, "read")
    before = read_csrf_token(client.get("/console").text)
    invited = people.invite_person(harness.runtime, OTHER, "cli", email=person.email, roles=["admin"])
    client.post(f"/console/links/{invited.token}")
    assert client.post("/console/sign-out", data={"csrf_token": before}).status_code == 403
    keys = {"secret_key": SecretStr("k" * 40), "secret_keys_previous": [harness.runtime.settings.secret_key]}
    rotated = replace(harness.runtime, settings=harness.runtime.settings.model_copy(update=keys))
    assert sign_form(rotated, person.token, factories.ACCOUNT).find_key(before) is not None
    after = read_csrf_token(client.get("/console").text)
    assert client.post("/console/sign-out", data={"csrf_token": after}).status_code == 303


@pytest.mark.parametrize("token", ["none", "x" * 64, "%00", "<script>"])
def test_unknown_link_says_so(harness: ApiHarness, token: str) -> None:
    client = harness.client_with_key(None)
    for answer in (client.get(f"/console/links/{token}"), client.post(f"/console/links/{token}", data={"code": "1"})):
        assert answer.status_code == 404
        assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    ("headers", "kept"), [({"HX-Request": "true"}, False), ({"Accept": "text/event-stream"}, False), ({}, True)]
)
def test_only_people_keep_a_session_alive(harness: ApiHarness, headers: dict[str, str], *, kept: bool) -> None:
    client = harness.client_with_key(None)
    sign_in_client(client, harness.runtime, "read")
    long_ago = utc_now() - timedelta(seconds=IDLE_SECONDS - 30)
    with harness.runtime.db.write() as session:
        session.execute(update(SignedInSession).values(seen_at=long_ago))
    assert client.get("/console", headers=headers).status_code == 200
    with harness.runtime.db.read() as session:
        (seen_at,) = session.scalars(select(col(SignedInSession.seen_at)))
    assert (seen_at > long_ago) == kept


def test_qr_code_has_a_quiet_zone_and_dark_runs() -> None:
    code = draw_qr_code("otpauth://totp/x?secret=ABCDEFGH")
    runs = [(int(x), int(y), int(w)) for x, y, w in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", code.path)]
    assert (min(x for x, _, _ in runs), min(y for _, y, _ in runs)) == (4, 4)
    assert max(x + w for x, _, w in runs) == max(y + 1 for _, y, _ in runs) == code.size - 4
    assert (4, 4, 7) in runs, "the finder pattern"
