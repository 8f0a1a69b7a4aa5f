"""Sign-in by an OpenID provider: who gets in, and that no forged or broken answer does."""

import html
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import OctKey, RSAKey
from pydantic import ValidationError
from sqlalchemy import select, update

from config.settings import Settings
from pipeline.accounts import open_id, people
from pipeline.accounts.models import SignedInSession
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.interfaces.console.people.test_people import send
from tests.support import factories
from tests.support.open_id import CLIENT_ID, CLIENT_SECRET, FakeProvider, run_provider
from tests.support.people import OTHER, PASSWORD, TestPerson, add_person, sign_in_client, use_link

EMAIL = "anna@maple.example"


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A running provider."""
    with run_provider() as running:
        yield running


@pytest.fixture
def installation(open_harness: Open, provider: FakeProvider) -> ApiHarness:
    """An installation whose people sign in by the provider."""
    return open_harness(oidc_issuer=provider.issuer, oidc_client_id=CLIENT_ID, oidc_client_secret=CLIENT_SECRET)


def invite(harness: ApiHarness, *roles: str) -> people.Invitation:
    return people.invite_person(harness.runtime, factories.ACCOUNT, "cli", email=EMAIL, roles=roles or ["read"])


def go(client: httpx.Client, provider: FakeProvider, query: str = "", **answer: str) -> httpx.Response:
    """Follow the way to the provider and back, with a changed answer."""
    begun = client.get(f"/console/provider{query}")
    assert begun.status_code == 303, begun.text
    back = urlsplit(provider.authorize(begun.headers["location"]))
    given = {name: values[0] for name, values in parse_qs(back.query).items()} | answer
    return client.get(back.path, params={name: value for name, value in given.items() if value})


def test_invited_person_signs_in_and_is_known_by_subject(installation: ApiHarness, provider: FakeProvider) -> None:
    invite(installation)
    client = installation.client_with_key(None)
    assert "/console/provider" in client.get("/console/sign-in").text
    assert go(client, provider).headers["location"] == "/console"
    assert EMAIL in client.get("/console/me").text
    provider.claims = {"email": "renamed@maple.example", "email_verified": False}
    assert go(installation.client_with_key(None), provider).headers["location"] == "/console"


def test_person_ends_a_password_that_another_account_may_have_set(
    installation: ApiHarness, provider: FakeProvider
) -> None:
    use_link(
        installation.runtime,
        people.invite_person(installation.runtime, OTHER, "per_squatter", email=EMAIL, roles=["read"]),
    )
    client, token = installation.client_with_key(None), invite(installation).token
    asked = go(client, provider, f"?link={token}")
    (query,) = re.findall(r'href="/console/provider(\?[^"]+)">I did not set it', asked.text)
    assert (asked.status_code, html.unescape(query)) == (401, f"?link={token}&replace=true")
    foreign = client.get(f"/console/provider{html.unescape(query)}", headers={"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403
    assert go(client, provider, html.unescape(query)).headers["location"] == "/console"
    assert factories.ACCOUNT in client.get("/console/me").text


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"email": "bob@maple.example"}, "bob@maple.example was not invited"),
        ({"email_verified": False}, "not verified your e-mail address"),
        ({"email": None}, "not verified your e-mail address"),
        ({"nonce": "another"}, "The proof of your OpenID provider is not valid"),
        ({"nonce": None}, "The proof of your OpenID provider is not valid"),
        ({"aud": "another"}, "The proof of your OpenID provider is not valid"),
        ({"aud": [CLIENT_ID, "another"]}, "The proof of your OpenID provider is not valid"),
        ({"iss": "https://another.example"}, "The proof of your OpenID provider is not valid"),
        ({"exp": 1}, "The proof of your OpenID provider is not valid"),
        ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "The proof of your OpenID provider is not valid"),
        ({"azp": "another"}, "The proof of your OpenID provider is not valid"),
        ({"iat": 2**40}, "The proof of your OpenID provider is not valid"),
        ({"sub": ""}, "The proof of your OpenID provider is not valid"),
        ({"sub": 7}, "The proof of your OpenID provider is not valid"),
        ({"sub": "a\x00b"}, "The proof of your OpenID provider is not valid"),
        ({"email": "anna@maple.example\x00"}, "not verified your e-mail address"),
        ({"email": "Kim@maple.example".replace("K", "\u212a")}, "not verified your e-mail address"),
    ],
)
def test_wrong_claims_open_no_session(
    installation: ApiHarness, provider: FakeProvider, claims: dict[str, Any], message: str
) -> None:
    invite(installation)
    provider.claims = claims
    client = installation.client_with_key(None)
    refused = go(client, provider)
    assert (refused.status_code, message.lower() in refused.text.lower()) == (401, True)
    assert client.get("/console").status_code == 303


@pytest.mark.parametrize(
    "changes",
    [
        {"key": RSAKey.generate_key(2048, {"kid": "1"})},
        {"key": OctKey.import_key(CLIENT_SECRET * 2), "header": {"alg": "HS256"}},
    ],
)
def test_forged_signature_opens_no_session(
    installation: ApiHarness, provider: FakeProvider, changes: dict[str, Any]
) -> None:
    invite(installation)
    provider.changes = changes
    assert go(installation.client_with_key(None), provider).status_code == 401


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"state": "another"}, "belongs to another sign-in"),
        ({"iss": "https://another.example"}, "came from another OpenID provider"),
        ({"code": "", "error": "access_denied"}, "did not sign you in"),
        ({"code": "forged"}, "does not answer"),
    ],
)
def test_changed_answer_opens_no_session(
    installation: ApiHarness, provider: FakeProvider, answer: dict[str, str], message: str
) -> None:
    invite(installation)
    refused = go(installation.client_with_key(None), provider, **answer)
    assert (refused.status_code, message.lower() in refused.text.lower()) == (401, True)


def test_answer_in_another_browser_or_again_is_refused(installation: ApiHarness, provider: FakeProvider) -> None:
    invite(installation)
    client = installation.client_with_key(None)
    back = urlsplit(provider.authorize(client.get("/console/provider").headers["location"]))
    address = f"{back.path}?{back.query}"
    assert "did not begin this sign-in" in installation.client_with_key(None).get(address).text
    assert client.get(address).headers["location"] == "/console"
    assert client.get(address).status_code == 401


def test_provider_that_promises_to_name_itself_must_do_so(installation: ApiHarness, provider: FakeProvider) -> None:
    invite(installation)
    provider.changes = {"metadata": {"authorization_response_iss_parameter_supported": True}}
    client = installation.client_with_key(None)
    assert "came from another OpenID provider" in go(client, provider, iss="").text
    assert go(client, provider).headers["location"] == "/console"


def test_claims_of_the_userinfo_endpoint_count(open_harness: Open, provider: FakeProvider) -> None:
    """By default, some providers send addresses and groups only there."""
    harness = open_harness(
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT_ID,
        oidc_client_secret=CLIENT_SECRET,
        oidc_scopes="openid email groups",
        oidc_roles={"desk": {factories.ACCOUNT: ["operate"]}},
    )
    client = harness.client_with_key(None)
    provider.omitted = {"email", "email_verified"}
    provider.userinfo = {"sub": "another", "email": EMAIL, "email_verified": True, "groups": ["desk"]}
    assert "described another person" in go(client, provider).text
    provider.userinfo |= {"sub": "sub-1"}
    # An address that nobody verified stands in the ID token, a verified one of the same person at the endpoint.
    provider.claims = {"email": "boss@maple.example"}
    provider.omitted = {"email_verified"}
    assert "gave two e-mail addresses" in go(client, provider).text
    provider.userinfo["email"] = None
    assert "not verified your e-mail address" in go(client, provider).text
    provider.userinfo["email"] = EMAIL
    provider.omitted = {"email", "email_verified"}
    assert go(client, provider).headers["location"] == "/console"
    provider.claims, provider.omitted = {}, set()
    assert go(client, provider).headers["location"] == "/console"
    assert "operate" in client.get("/console/me").text
    provider.userinfo |= {"groups": [{"name": "desk"}]}
    refused = go(client, provider)
    assert (refused.status_code, "did not send the claim groups" in refused.text) == (401, True)
    assert client.get("/console").status_code == 303


def test_changed_keys_are_read_again(installation: ApiHarness, provider: FakeProvider) -> None:
    invite(installation)
    assert go(installation.client_with_key(None), provider).status_code == 303
    provider.rotate_key()
    assert go(installation.client_with_key(None), provider).status_code == 303
    assert provider.asked.count("/keys") == 2
    assert provider.asked.count("/.well-known/openid-configuration") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"status": 500},
        {"body": b"not json"},
        {"body": b"[]"},
        {"body": b" " * (open_id._MAX_BYTES + 1)},
        {"metadata": {"issuer": "https://another.example"}},
        {"metadata": {"token_endpoint": None}},
        {"metadata": {"authorization_endpoint": "javascript:alert(1)"}},
    ],
)
def test_broken_provider_is_said_and_the_password_works(
    installation: ApiHarness, provider: FakeProvider, changes: dict[str, Any]
) -> None:
    person = add_person(installation.runtime, "read")
    provider.changes = changes
    client = installation.client_with_key(None)
    refused = client.get("/console/provider")
    assert (refused.status_code, "does not answer" in refused.text) == (401, True)
    form = {"email": person.email, "password": PASSWORD, "code": person.code(installation.runtime)}
    assert client.post("/console/sign-in", data=form).headers["location"] == "/console"


def test_link_is_used_by_the_provider_and_only_for_its_person(installation: ApiHarness, provider: FakeProvider) -> None:
    invited = invite(installation)
    client = installation.client_with_key(None)
    assert f"/console/provider?link={invited.token}" in client.get(f"/console/links/{invited.token}").text
    assert go(client, provider, f"?link={invited.token}").headers["location"] == "/console"
    assert client.get(f"/console/links/{invited.token}").status_code == 404
    other = people.invite_person(
        installation.runtime, factories.ACCOUNT, "cli", email="bob@maple.example", roles=["admin"]
    )
    refused = go(installation.client_with_key(None), provider, f"?link={other.token}")
    assert (refused.status_code, "The link is for bob@maple.example" in refused.text) == (401, True)


def begin_connection(client: httpx.Client, harness: ApiHarness, person: TestPerson, **changes: str) -> httpx.Response:
    """Send the form of the person's own page."""
    form = {"password": PASSWORD, "code": person.code(harness.runtime)} | changes
    return send(client, "/console/provider/connect", **form)


def read_address(page: httpx.Response) -> str:
    """Return where the page leads on."""
    found = re.search(r'<meta http-equiv="refresh" content="0; url=([^"]+)">', page.text)
    assert found, page.text
    return html.unescape(found[1])


def test_signed_in_person_connects_the_provider(installation: ApiHarness, provider: FakeProvider) -> None:
    client = installation.client_with_key(None)
    person = sign_in_client(client, installation.runtime, "read")
    assert go(installation.client_with_key(None), provider).status_code == 401
    back = urlsplit(provider.authorize(read_address(begin_connection(client, installation, person))))
    assert client.get(f"{back.path}?{back.query}").headers["location"] == "/console/me"
    assert "Connected" in client.get("/console/me").text
    fresh = installation.client_with_key(None)
    assert go(fresh, provider).headers["location"] == "/console"
    assert person.email in fresh.get("/console/me").text


def test_connecting_needs_the_form_the_password_and_a_code(installation: ApiHarness, provider: FakeProvider) -> None:
    """Else another site's page, or who finds an open browser, could connect an account of their own."""
    client = installation.client_with_key(None)
    person = sign_in_client(client, installation.runtime, "read")
    assert client.post("/console/provider/connect", data={"password": PASSWORD}).status_code == 403
    for wrong in ({"password": "wrong"}, {"code": "000000"}):
        refused = begin_connection(client, installation, person, **wrong)
        assert (refused.status_code, "The password or the code is wrong" in refused.text) == (401, True)
    assert client.get("/console/provider?connect=true").status_code == 400
    assert "Not connected" in client.get("/console/me").text


def test_connection_holds_for_the_person_who_began_it(installation: ApiHarness, provider: FakeProvider) -> None:
    client = installation.client_with_key(None)
    person = sign_in_client(client, installation.runtime, "read")
    back = urlsplit(provider.authorize(read_address(begin_connection(client, installation, person))))
    sign_in_client(client, installation.runtime, "read")
    refused = client.get(f"{back.path}?{back.query}")
    assert (refused.status_code, "Another person has signed in since" in refused.text) == (401, True)
    assert "Not connected" in client.get("/console/me").text


@pytest.mark.parametrize(
    ("changes", "length", "hint"),
    [
        ({"metadata": {"end_session_endpoint": "https://id.example/end?a=b"}}, 0, True),
        ({"metadata": {"end_session_endpoint": "https://id.example/end?a=b"}}, 5000, False),
        ({}, 0, None),
    ],
)
def test_sign_out_leads_to_the_provider_that_offers_it(
    installation: ApiHarness, provider: FakeProvider, changes: dict[str, Any], length: int, *, hint: bool | None
) -> None:
    invite(installation)
    client = installation.client_with_key(None)
    provider.changes, provider.claims = changes, {"padding": "x" * length}
    go(client, provider)
    left = send(client, "/console/sign-out")
    assert client.get("/console").headers["location"] == "/console/sign-in"
    if hint is None:
        assert left.headers["location"] == "/console/sign-in"
        return
    asked = parse_qs(urlsplit(read_address(left)).query)
    assert (asked["a"], asked["client_id"]) == (["b"], [CLIENT_ID])
    assert asked["post_logout_redirect_uri"] == [f"{installation.runtime.settings.public_url}/console/sign-in"]
    assert ("id_token_hint" in asked) == hint
    with installation.runtime.db.read() as session:
        assert [each.id_token for each in session.scalars(select(SignedInSession))] == [None], "it is of no use now"


def test_sign_out_ends_the_session_though_no_key_opens_its_id_token(
    installation: ApiHarness, provider: FakeProvider
) -> None:
    invite(installation)
    client = installation.client_with_key(None)
    provider.changes = {"metadata": {"end_session_endpoint": f"{provider.issuer}/end"}}
    go(client, provider)
    with installation.runtime.db.write() as session:
        session.execute(update(SignedInSession).values(id_token="sealed under a key that was removed"))
    assert "id_token_hint" not in read_address(send(client, "/console/sign-out"))
    assert client.get("/console").headers["location"] == "/console/sign-in"


@pytest.mark.parametrize("changes", [{"status": 503}, {"metadata": {"end_session_endpoint": "javascript:alert(1)"}}])
def test_sign_out_ends_the_session_though_the_provider_is_broken(
    installation: ApiHarness, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(open_id, "_CACHED_SECONDS", -1.0)
    invite(installation)
    client = installation.client_with_key(None)
    go(client, provider)
    provider.changes = changes
    assert send(client, "/console/sign-out").headers["location"] == "/console/sign-in"
    assert client.get("/console").headers["location"] == "/console/sign-in"


def test_password_sign_out_stays_here(installation: ApiHarness, provider: FakeProvider) -> None:
    provider.changes = {"metadata": {"end_session_endpoint": f"{provider.issuer}/end"}}
    client = installation.client_with_key(None)
    sign_in_client(client, installation.runtime, "read")
    assert send(client, "/console/sign-out").headers["location"] == "/console/sign-in"


def test_link_is_not_used_from_another_site(installation: ApiHarness, provider: FakeProvider) -> None:
    link = invite(installation)
    client = installation.client_with_key(None)
    refused = client.get(f"/console/provider?link={link.token}", headers={"Sec-Fetch-Site": "cross-site"})
    assert (refused.status_code, "another site" in refused.text) == (403, True)


def test_https_binds_the_begun_sign_in_to_the_host(open_harness: Open, provider: FakeProvider) -> None:
    harness = open_harness(
        public_url="https://exports.example",
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT_ID,
        oidc_client_secret=CLIENT_SECRET,
    )
    (cookie,) = harness.client_with_key(None).get("/console/provider").headers.get_list("set-cookie")
    assert cookie.startswith("__Host-exports_provider=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))


def test_installation_without_a_provider_says_so(harness: ApiHarness) -> None:
    client = harness.client_with_key(None)
    assert "/console/provider" not in client.get("/console/sign-in").text
    assert client.get("/console/provider").status_code == 404
    assert client.get("/console/provider/callback?code=x&state=y").status_code == 401


@pytest.mark.parametrize(
    "settings",
    [
        {"oidc_issuer": "http://id.example", "oidc_client_id": "x"},
        {"oidc_issuer": "https://id.example"},
        {"oidc_issuer": "id.example", "oidc_client_id": "x"},
    ],
)
def test_unsafe_settings_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="EXPORTS_OIDC_"):
        Settings.model_validate(settings)
