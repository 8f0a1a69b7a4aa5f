"""The pages of people and of the audit trail: invitations, roles, sessions, and what was recorded."""

import re
from typing import Any

import httpx
import pytest

from pipeline.exports.audit_trail import list_acts
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.people.test_sign_in import read_csrf_token
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories
from tests.support.people import PASSWORD, sign_in_client

NEW: dict[str, Any] = {"email": "bob@maple.example", "name": "Bob", "role": ["read", "operate"]}


def send(client: httpx.Client, address: str, **fields: Any) -> httpx.Response:
    token = read_csrf_token(client.get("/console/me").text)
    return client.post(address, data={"csrf_token": token} | fields)


def read_trail(harness: ApiHarness) -> list[tuple[str, str]]:
    with harness.runtime.db.read() as session:
        items = list_acts(session, factories.ACCOUNT, limit=200).items
    return [(each.action, each.subject) for each in items][::-1]


def test_administrator_invites_changes_and_removes_a_person(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "admin")
    shown = send(client, "/console/people", **NEW)
    assert re.search(r"/console/links/[A-Za-z0-9_-]{43}", shown.text)
    page = client.get("/console/people").text
    (person,) = re.findall(r'href="(/console/people/per_[^"]+)"><bdi class="long">Bob', page)
    assert "operate, read" in page
    assert send(client, f"{person}/roles", role=["admin"]).headers["location"] == "/console/people"
    again = send(client, f"{person}/link")
    assert re.search(r"/console/links/[A-Za-z0-9_-]{43}", again.text)
    assert send(client, f"{person}/remove").status_code == 303
    assert client.get(person).status_code == 404
    acts_of_bob = [action for action, subject in read_trail(harness) if subject == person.rsplit("/", 1)[1]]
    assert acts_of_bob == ["person_invited", "roles_changed", "link_created", "person_removed"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"email": "bob"}, "must be like"),
        ({"role": []}, "A person needs a role"),
        ({"role": "king"}, "King is not a role"),
        ({"name": "x" * 101}, "at most 100 characters"),
        ({"name": "<script>alert(1)</script>", "email": ""}, "must be like"),
    ],
)
def test_wrong_invitation_is_explained_and_keeps_what_was_typed(
    harness: ApiHarness, changes: dict[str, object], message: str
) -> None:
    client = sign_in_browser(harness, "admin")
    refused = send(client, "/console/people", **(NEW | changes))
    assert (refused.status_code, message.lower() in refused.text.lower()) == (400, True)
    assert "<script>alert" not in refused.text
    assert len(re.findall(r'href="/console/people/per_', client.get("/console/people").text)) == 1


def test_last_administrator_cannot_leave(harness: ApiHarness) -> None:
    client = harness.client_with_key(None)
    person = sign_in_client(client, harness.runtime, "admin")
    for act in ("remove", "roles"):
        refused = send(client, f"/console/people/{person.id}/{act}", role=["read"])
        assert (refused.status_code, "last administrator" in refused.text) == (409, True)
    assert client.get("/console/people").status_code == 200


def test_administrator_ends_a_session_and_the_person_is_out(harness: ApiHarness) -> None:
    admin, other = sign_in_browser(harness, "admin"), sign_in_browser(harness, "read")
    (end,) = re.findall(r'action="(/console/people/sessions/ses_[^"]+/end)"', admin.get("/console/people").text)
    assert send(admin, end).headers["location"] == "/console/people"
    assert other.get("/console").headers["location"] == "/console/sign-in"


def test_forms_are_recorded_with_person_and_subject(harness: ApiHarness) -> None:
    client = harness.client_with_key(None)
    person = sign_in_client(client, harness.runtime, "admin")
    send(client, f"/console/partners/{factories.BROKER}/pause")
    send(client, "/console/partners/none/pause")
    with harness.runtime.db.read() as session:
        newest = list_acts(session, factories.ACCOUNT).items[0]
    assert (newest.action, newest.subject, newest.actor) == ("partner_paused", factories.BROKER, person.id)
    page = client.get("/console/audit").text
    assert page.count('data-label="What">') == len(read_trail(harness))
    assert ("partner paused" in page, person.email in page) == (True, True)
    only = client.get(f"/console/audit?actor={person.id}&action=partner_paused").text
    assert only.count('data-label="What">') == 1
    assert f'href="/console/audit?subject={factories.BROKER}"' in page
    on_broker = client.get(f"/console/audit?subject={factories.BROKER}&from=2026-01-01&to=").text
    assert (on_broker.count('data-label="What">'), 'value="2026-01-01"' in on_broker) == (1, True)
    assert client.get("/console/audit?to=2026-01-01").text.count('data-label="What">') == 0
    assert client.get("/console/audit?before=1").text.count('data-label="What">') == 0
    for wrong in ("before=0", "action=dance", "actor=%00", "from=2026-13-01"):
        assert client.get(f"/console/audit?{wrong}").status_code == 400


def test_own_sessions_are_listed_and_ended(harness: ApiHarness) -> None:
    first = harness.client_with_key(None)
    person = sign_in_client(first, harness.runtime, "read")
    second = harness.client_with_key(None)
    code = next(iter(person.recovery_codes))
    second.post(
        "/console/sign-in", data={"email": person.email, "password": "correct horse battery staple", "code": code}
    )
    page = first.get("/console/me").text
    (end,) = re.findall(r'action="(/console/me/sessions/ses_[^"]+/end)"', page)
    assert send(first, end).headers["location"] == "/console/me"
    assert second.get("/console").status_code == 303
    assert first.get("/console").status_code == 200
    assert "9 of your recovery codes are left" in page


def test_own_password_is_changed_with_the_old_one_only(harness: ApiHarness) -> None:
    client = harness.client_with_key(None)
    person = sign_in_client(client, harness.runtime, "read")
    changed = {"password": PASSWORD, "new_password": "another horse battery staple"}
    for wrong in ({"password": "of somebody else"}, {"code": "000000"}, {"new_password": "short"}):
        refused = send(client, "/console/me/password", **(changed | {"code": person.code(harness.runtime)} | wrong))
        assert refused.status_code in {400, 401}
    assert read_trail(harness).count(("credentials_set", person.id)) == 1
    code, again = [*person.recovery_codes][:2]
    assert send(client, "/console/me/password", **changed, code=code).status_code == 200
    assert read_trail(harness)[-1] == ("credentials_set", person.id)
    form = {"email": person.email, "code": again}
    fresh = harness.client_with_key(None)
    assert fresh.post("/console/sign-in", data=form | {"password": PASSWORD}).status_code == 401
    assert fresh.post("/console/sign-in", data=form | {"password": changed["new_password"]}).status_code == 303


def test_own_recovery_codes_are_made_with_the_password_only(harness: ApiHarness) -> None:
    client = harness.client_with_key(None)
    person = sign_in_client(client, harness.runtime, "read")
    code, old = [*person.recovery_codes][:2]
    refused = send(client, "/console/me/recovery-codes", password="of somebody else", code=code)
    assert refused.status_code in {400, 401}
    assert read_trail(harness)[-1][0] != "recovery_codes_created"
    made = send(client, "/console/me/recovery-codes", password=PASSWORD, code=code)
    assert (made.status_code, made.headers["cache-control"]) == (200, "no-store")
    assert read_trail(harness)[-1] == ("recovery_codes_created", person.id)
    form = {"email": person.email, "password": PASSWORD}
    fresh = harness.client_with_key(None)
    assert fresh.post("/console/sign-in", data=form | {"code": old}).status_code == 401
    (new, *_) = re.findall(r"<code[^>]*>([a-z0-9-]{8,})</code>", made.text)
    assert fresh.post("/console/sign-in", data=form | {"code": new}).status_code == 303
