"""The pages of API keys: who may use them, that a key is shown once, and what each form refuses."""

import re

import httpx
import pytest

from pipeline.accounts import api_keys
from pipeline.core.errors import InvalidApiKey
from pipeline.exports.audit_trail import list_acts
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories
from tests.support.tables import table

NEW = {"name": "warehouse system", "role": ["read", "operate"], "mode": "live", "days": "30"}


def read_form(client: httpx.Client, page: str) -> dict[str, str]:
    """Return the hidden fields of the form on a page."""
    shown = client.get(page)
    assert shown.status_code == 200, shown.text
    main = shown.text.partition('id="main"')[2]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', main))


def find_shown_key(page: str) -> str:
    found = re.findall(r"exp_(?:live|test)_\w+", page)
    assert len(found) == 1, page
    return str(found[0])


def test_key_is_created_and_shown_once(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "admin")
    new = client.get("/console/keys/new").text
    assert ('name="mode" value="test" checked' in new, 'type="number" value="90"' in new) == (True, True)
    form = read_form(client, "/console/keys/new") | NEW | {"name": "<b>system</b>"}
    made = client.post("/console/keys", data=form)
    assert (made.status_code, made.headers["cache-control"]) == (200, "no-store")
    bearer = find_shown_key(made.text)
    caller = api_keys.find_caller(harness.runtime, bearer)
    assert (caller.account_id, caller.mode, caller.roles) == (factories.ACCOUNT, "live", frozenset({"read", "operate"}))
    # A reload sends the form again.
    again = client.post("/console/keys", data=form)
    assert (again.status_code, "created already" in again.text) == (409, True)
    for page in (again, client.get("/console/keys"), client.get(f"/console/keys/{caller.actor}/rotate")):
        assert bearer not in page.text
    listed = client.get("/console/keys").text
    for shown in (made.text, listed):
        assert ("<b>system" in shown, "&lt;b&gt;system&lt;/b&gt;" in shown) == (False, True)
    assert "valid until" in listed
    assert len(api_keys.list_keys(harness.runtime, factories.ACCOUNT)) == 1


def test_acts_on_keys_are_in_the_audit_trail(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "admin")
    form = read_form(client, "/console/keys/new") | NEW
    bearer = find_shown_key(client.post("/console/keys", data=form).text)
    first = api_keys.parse_key_id(bearer)
    page = f"/console/keys/{first}"
    rotated = client.post(f"{page}/rotate", data=read_form(client, f"{page}/rotate") | {"overlap": "1"})
    second = api_keys.parse_key_id(find_shown_key(rotated.text))
    for _ in range(2):  # revoking it again changes nothing
        client.post(f"{page}/revoke", data=form)
    with harness.runtime.db.read() as session:
        acts = [each for each in list_acts(session, factories.ACCOUNT).items if each.action.startswith("key")]
    assert [(each.action, each.subject, each.actor[:4]) for each in acts] == [
        ("key_revoked", first, "per_"),
        ("key_rotated", second, "per_"),
        ("key_created", first, "per_"),
    ]
    assert acts[1].detail == {"replaces": first}
    assert acts[2].detail == {"mode": "live", "roles": "operate, read"}
    assert bearer not in str(acts)


def test_key_for_a_partner_answers_only_for_it(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "admin")
    form = read_form(client, "/console/keys/new") | {"name": "broker", "partner": factories.BROKER, "mode": "live"}
    caller = api_keys.find_caller(harness.runtime, find_shown_key(client.post("/console/keys", data=form).text))
    assert (caller.partner_ids, caller.has_role("read")) == (frozenset({factories.BROKER}), False)
    strange = client.post("/console/keys", data=form | {"partner": "br_none"})
    assert (strange.status_code, "there is no partner br_none" in strange.text) == (400, True)


@table(
    ("changes", "place", "message"),
    [
        ({"name": ""}, "name", "must have 1 to 128 characters"),
        ({"name": "x" * 129}, "name", "must have 1 to 128 characters"),
        ({"name": "a\u202eb"}, "name", "change the direction of writing"),
        ({"role": []}, "role", "Choose at least one role"),
        ({"mode": "both"}, "mode", "Choose live or test"),
        ({"days": "0"}, "days", "must be a whole number from 1 to 3650"),
        ({"days": "a lot"}, "days", "must be a whole number from 1 to 3650"),
        ({"days": "9" * 400}, "days", "must be a whole number from 1 to 3650"),
    ],
)
def test_invalid_input_is_explained_at_its_place(
    harness: ApiHarness, changes: dict[str, str | list[str]], place: str, message: str
) -> None:
    client = sign_in_browser(harness, "admin")
    form = read_form(client, "/console/keys/new") | NEW | changes
    refused = client.post("/console/keys", data=form)
    assert refused.status_code == 400
    shown = re.search(rf'id="error-{place}">([^<]*)<', refused.text)
    assert shown is not None
    assert message in shown[1]
    assert f'<a href="#in-{place}">' in refused.text
    typed = form["name"]
    assert not typed or f'value="{typed}"' in refused.text
    assert len(api_keys.list_keys(harness.runtime, factories.ACCOUNT)) == 0


def test_unknown_role_and_foreign_key_id_are_rejected(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "admin")
    form = read_form(client, "/console/keys/new") | NEW
    assert "root is not a role" in client.post("/console/keys", data=form | {"role": "root"}).text
    foreign = harness.key("read", account=OTHER).id
    for key_id in (foreign, "", "0OIl", "x" * 11):
        refused = client.post("/console/keys", data=form | {"id": key_id})
        assert refused.status_code in (400, 409), key_id
    assert api_keys.get_key(harness.runtime, OTHER, foreign).name == "of a test"
    assert len(api_keys.list_keys(harness.runtime, factories.ACCOUNT)) == 0


def test_key_is_rotated_with_an_overlap(harness: ApiHarness) -> None:
    client, old = sign_in_browser(harness, "admin"), harness.key("execute")
    page = f"/console/keys/{old.id}/rotate"
    form = read_form(client, page) | {"overlap": "2", "days": ""}
    made = client.post(page, data=form)
    fresh = api_keys.find_caller(harness.runtime, find_shown_key(made.text))
    assert fresh.roles == {"execute"}
    assert f"<code>{old.id}</code> is valid until" in made.text
    assert api_keys.find_caller(harness.runtime, old.bearer).actor == old.id
    assert client.post(page, data=form).status_code == 409
    at_once = read_form(client, page) | {"overlap": "0", "days": "1"}
    assert client.post(page, data=at_once).status_code == 200
    with pytest.raises(InvalidApiKey):
        api_keys.find_caller(harness.runtime, old.bearer)
    expired = client.post(page, data=at_once | {"id": api_keys.generate_key_id()})
    assert (expired.status_code, "has expired or was revoked" in expired.text) == (409, True)


def test_revocation_says_what_it_does(harness: ApiHarness) -> None:
    client, last = sign_in_browser(harness, "admin"), harness.key("admin")
    page = f"/console/keys/{last.id}/revoke"
    assert "the last valid key with the role admin" in client.get(page).text
    assert client.post(page, data=read_form(client, page)).headers["location"] == "/console/keys"
    (revoked,) = api_keys.list_keys(harness.runtime, factories.ACCOUNT)
    assert revoked.revoked_at is not None


def test_person_of_test_mode_makes_and_revokes_test_keys_only(harness: ApiHarness) -> None:
    live, test = harness.key("read"), harness.key("read", mode="test")
    client = sign_in_browser(harness, "admin", mode="test")
    form = read_form(client, "/console/keys/new")
    assert client.get(f"/console/keys/{live.id}/revoke").status_code == 403
    assert client.post("/console/keys", data=form | NEW | {"mode": "test"}).status_code == 200
    assert client.post(f"/console/keys/{test.id}/revoke", data=form).status_code == 303
