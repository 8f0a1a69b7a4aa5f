"""Every call of the OpenAPI document, made by every kind of caller; a new route is included automatically.

A call's roles are declared at its route, published as `x-roles`, and intended by the table here. The test fails for a path whose object it does not
know: add the object of the first account that the path is about.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from sqlmodel import SQLModel, select

from pipeline.accounts import api_keys
from tests.interfaces.api.conftest import OTHER, ApiHarness, execution
from tests.support import factories, orders

ROLES = (*api_keys.ROLES, "partner")

#: The roles that may make each call.
ROLES_BY_CALL = {
    ("POST", "/api/exports/execute"): {"execute", "admin"},
    ("POST", "/api/exports/plans"): {"execute", "admin"},
    ("POST", "/api/exports/plan"): {"execute", "admin"},
    ("POST", "/api/products/sync"): {"execute", "admin"},
    ("POST", "/api/orders/sync"): {"execute", "admin"},
    ("POST", "/api/plan-templates/sync"): {"execute", "admin"},
    ("GET", "/api/orders/{id}"): {"execute", "read", "operate", "admin"},
    ("DELETE", "/api/orders/{id}"): {"admin"},
    ("POST", "/api/exports/preflight"): {"execute", "read", "operate", "admin"},
    ("POST", "/api/exports/proforma"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/plans"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/plans/{id}"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/exports/plans/{id}/proforma"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/rules/decide"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/exports"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/exports/{id}"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/exports/{id}/events"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/events"): {"execute", "read", "operate", "admin"},
    ("POST", "/api/exports/{id}/amend"): {"execute", "operate", "admin"},
    ("POST", "/api/exports/{id}/cancel"): {"operate", "admin"},
    ("POST", "/api/exports/{id}/retry"): {"operate", "admin"},
    ("POST", "/api/exports/{id}/hold"): {"operate", "admin"},
    ("POST", "/api/exports/{id}/release"): {"operate", "admin"},
    ("POST", "/api/exports/{id}/withdraw"): {"operate", "admin"},
    ("POST", "/api/exports/{id}/acknowledge"): {"operate", "admin"},
    ("POST", "/api/exports/{id}/reopen"): {"operate", "admin"},
    ("GET", "/api/deadlines"): {"execute", "read", "operate", "admin"},
    ("POST", "/api/exports/{id}/messages"): {"operate", "admin"},
    ("POST", "/api/exports/{id}/sandbox-answers"): {"operate", "admin"},
    ("POST", "/api/exports/{id}/attachments"): {"operate", "admin"},
    ("POST", "/api/broker-submissions/{id}/attachments"): {"operate", "admin", "partner"},
    ("GET", "/api/exports/{id}/conversation"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/inbox"): {"execute", "read", "operate", "admin"},
    ("POST", "/api/filed-entries"): {"operate", "admin"},
    ("GET", "/api/exports/{id}/bundle"): {"execute", "read", "operate", "admin", "partner"},
    ("GET", "/api/customs-packages/{id}"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/artifacts/{id}"): {"execute", "read", "operate", "admin", "partner"},
    ("POST", "/api/artifacts/{id}/links"): {"execute", "read", "operate", "admin", "partner"},
    ("GET", "/api/partners"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/partners/{id}"): {"execute", "read", "operate", "admin"},
    ("POST", "/api/partners/{id}/resume"): {"admin"},
    ("POST", "/api/partners/{id}/pause"): {"admin"},
    ("POST", "/api/partners/{id}/test"): {"admin"},
    ("POST", "/api/partners/{id}/activate"): {"admin"},
    ("POST", "/api/partners/{id}/rotate-secret"): {"admin"},
    ("POST", "/api/partners/{id}/portal-links"): {"admin"},
    ("GET", "/api/partners/{id}/portal-links"): {"admin"},
    ("DELETE", "/api/partners/{id}/portal-links"): {"admin"},
    ("DELETE", "/api/partners/{id}/portal-links/{link}"): {"admin"},
    ("POST", "/api/partners"): {"admin"},
    ("PATCH", "/api/partners/{id}"): {"admin"},
    ("GET", "/api/key"): {"execute", "read", "operate", "admin", "partner"},
    ("GET", "/api/print-settings"): {"execute", "read", "operate", "admin"},
    ("PATCH", "/api/print-settings"): {"admin"},
    ("GET", "/api/deadlines/leads"): {"execute", "read", "operate", "admin"},
    ("PATCH", "/api/deadlines/leads"): {"admin"},
    ("POST", "/api/deadlines/calendar"): {"admin"},
    ("DELETE", "/api/deadlines/calendar"): {"admin"},
    ("GET", "/api/test-clock"): {"execute", "read", "operate", "admin"},
    ("POST", "/api/test-clock"): {"operate", "admin"},
    ("DELETE", "/api/test-clock"): {"operate", "admin"},
    ("POST", "/api/waivers"): {"admin"},
    ("GET", "/api/waivers"): {"admin"},
    ("GET", "/api/audit"): {"admin"},
    ("GET", "/sandbox/handoffs"): {"execute", "read", "operate", "admin"},
    ("DELETE", "/api/waivers/{id}"): {"admin"},
    ("GET", "/api/deliveries"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/deliveries/{id}"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/deliveries/{id}/payload"): {"operate", "admin"},
    ("POST", "/api/deliveries/{id}/resend"): {"operate", "admin"},
    ("POST", "/api/deliveries/{id}/acknowledge"): {"operate", "admin"},
    ("POST", "/api/deliveries/{id}/reopen"): {"operate", "admin"},
    ("POST", "/api/partners/{id}/replay"): {"operate", "admin"},
    ("GET", "/api/notifications/{id}"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/tariff/{number}"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/stats"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/system/health"): {"execute", "read", "operate", "admin"},
    ("POST", "/api/broker-submissions/{id}/acknowledgements"): {"operate", "admin", "partner"},
    ("POST", "/api/broker-submissions/{id}/links"): {"execute", "read", "operate", "admin", "partner"},
}

#: The queries that calls need.
QUERIES = {"/api/rules/decide": "?htsCode=7323930045&origin=CA"}

#: Calls that need no key, and what they need instead. Any other call without roles is a hole.
WITHOUT_A_KEY = {
    "/sandbox/borderbuddy/handoffs": "the installation's own token",
    "/sandbox/borderbuddy/handoffs/{handoff_id}": "the installation's own token",
    "/sandbox/webhooks/{account_id}/{partner_id}": "a partner's signature",
    "/readyz": "nothing: it shows no account's data",
    "/api/schemas/{name}.json": "nothing: the contract",
    "/asyncapi.json": "nothing: the contract",
}


@dataclass(frozen=True)
class Call:
    """A call of the document, about the first account's objects."""

    method: str
    path: str
    address: str
    roles: frozenset[str]
    body: factories.Json | None

    def make_request(self, client: httpx.Client) -> httpx.Response:
        return client.request(self.method, self.address, json=self.body)


def make_objects(harness: ApiHarness) -> dict[str, str]:
    """Create one of each object that a path may name, and return path prefix -> id."""
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    owner = harness.client()
    waiver = owner.post("/api/waivers", json={"rule": "V17", "reason": "It is known."}).json()["id"]
    view = owner.get(f"/api/exports/{export_id}").json()
    delivery = owner.get("/api/deliveries").json()["items"][0]
    order = owner.post("/api/orders/sync", json=orders.order_sync()).json()["data"][0]["id"]
    plan = owner.post("/api/exports/plans", json=factories.plan(batch="batch_plan")).json()["planId"]
    return {
        "/api/exports/{id}": export_id,
        "/api/exports/plans/{id}": plan,
        "/api/plans/{id}": plan,
        "/api/customs-packages/{id}": view["customs_package_id"],
        "/api/artifacts/{id}": view["artifacts"][0]["id"],
        "/api/partners/{id}": factories.BROKER,
        "/api/waivers/{id}": waiver,
        "/api/orders/{id}": order,
        "/api/tariff/{number}": "0101309999",  # in no edition; the editions are of all accounts
        "/api/deliveries/{id}": delivery["id"],
        "/api/notifications/{id}": delivery["notificationId"],
        "/api/broker-submissions/{id}": view["broker_submission"]["id"],
    }


def build_body(method: str, path: str) -> factories.Json | None:
    plan = factories.plan(batch="batch_other")
    return {
        ("POST", "/api/exports/execute"): execution(plan),
        ("POST", "/api/exports/{id}/amend"): execution(factories.plan()),
        ("POST", "/api/exports/plans"): plan,
        ("POST", "/api/exports/preflight"): plan,
        ("POST", "/api/exports/plan"): orders.plan_request(["ord_none"]),
        ("POST", "/api/products/sync"): orders.product_sync(),
        ("POST", "/api/orders/sync"): orders.order_sync(),
        ("POST", "/api/plan-templates/sync"): orders.template_sync(),
        ("POST", "/api/exports/proforma"): plan,
        ("POST", "/api/exports/{id}/acknowledge"): {"note": "The broker was called."},
        ("POST", "/api/exports/{id}/messages"): {"id": "m-1", "text": "It is steel."},
        ("POST", "/api/filed-entries"): {"text": "Entry Summary Number,HTS Number - Full,Line Tariff Duty Amount"},
        ("POST", "/api/exports/{id}/sandbox-answers"): {"id": "1", "status": "received"},
        ("POST", "/api/exports/{id}/hold"): {"reason": "The buyer called."},
        ("POST", "/api/exports/{id}/withdraw"): {"reason": "The buyer called."},
        ("POST", "/api/deliveries/{id}/acknowledge"): {"note": "The desk has it."},
        ("POST", "/api/partners"): {"id": "wh_new", "kind": "warehouse", "name": "A new one"},
        ("PATCH", "/api/partners/{id}"): {"name": "Another name"},
        ("POST", "/api/partners/{id}/replay"): {"since": "2026-01-01T00:00:00Z"},
        ("POST", "/api/partners/{id}/rotate-secret"): {"overlapHours": 1},
        ("POST", "/api/partners/{id}/portal-links"): {"days": 7},
        ("PATCH", "/api/print-settings"): {"languages": ["en", "fr"]},
        ("PATCH", "/api/deadlines/leads"): {"air": {"filedMinutes": 90}},
        ("POST", "/api/test-clock"): {"at": "2026-01-01T00:00:00Z"},
        ("POST", "/api/waivers"): {"rule": "V17", "reason": "It is known."},
        ("POST", "/api/broker-submissions/{id}/acknowledgements"): {"id": "1", "status": "received"},
    }.get((method, path))


def matrix(harness: ApiHarness, objects: dict[str, str]) -> Iterator[Call]:
    for path, operations in harness.client_with_key(None).get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            assert "x-roles" in operation, f"{method} {path} declares no roles"
            roles = frozenset(operation["x-roles"])
            assert bool(roles) != (path in WITHOUT_A_KEY), f"{method} {path} is open to {sorted(roles)}"
            if not roles:
                continue
            address = path
            if "{" in path:
                named = path[: path.index("}") + 1]
                assert named in objects, f"add the object of {path} to this test"
                address = path.replace(named, named[: named.index("{")] + objects[named])
            address += QUERIES.get(path, "")
            yield Call(method.upper(), path, address, roles, build_body(method.upper(), path))


@pytest.fixture
def objects(harness: ApiHarness) -> dict[str, str]:
    return make_objects(harness)


@pytest.fixture
def calls(harness: ApiHarness, objects: dict[str, str]) -> list[Call]:
    found = list(matrix(harness, objects))
    assert len(found) > 30
    return found


def rows(harness: ApiHarness) -> dict[str, list[str]]:
    """Return everything that is stored, except when keys were used."""
    with harness.runtime.db.read() as session:
        return {
            name: sorted(str(tuple(row)) for row in session.execute(select(table)))  # type: ignore[call-overload]
            for name, table in SQLModel.metadata.tables.items()
            if name != "api_keys"
        }


def test_calls_without_a_valid_key_are_rejected(harness: ApiHarness, calls: list[Call]) -> None:
    ended = harness.key(*api_keys.ROLES)
    api_keys.revoke_key(harness.runtime, factories.ACCOUNT, ended.id)
    good = harness.key(*api_keys.ROLES).bearer
    before = rows(harness)
    strangers = [None, "nonsense", good[:-1] + ("1" if good[-1] != "1" else "2"), ended.bearer]
    for client in [harness.client_with_key(each) for each in strangers]:
        for call in calls:
            response = call.make_request(client)
            assert (response.status_code, response.json()["errorCode"]) == (401, "INVALID_API_KEY"), call
            assert "items" not in response.text
    assert rows(harness) == before


def test_key_of_another_account_finds_and_changes_nothing(
    harness: ApiHarness, calls: list[Call], objects: dict[str, str]
) -> None:
    stranger = harness.client(account=OTHER)
    partner = harness.client(f"partner:{factories.BROKER}", account=OTHER)
    own = rows(harness)
    assert stranger.get(f"/api/exports/{factories.BATCH}").status_code == 404
    for call in calls:
        for client in (stranger, partner):
            response = call.make_request(client)
            if "{" in call.path:
                # A body with another account is rejected first.
                named = call.body is not None and "accountId" in call.body
                expected = {404} if (client is stranger or "partner" in call.roles) and not named else {403, 404}
                assert response.status_code in expected, (call, response.text)
            if call.body is not None and "accountId" in call.body:
                assert response.status_code in {403, 404}, (call.path, response.text)
            # The answer may repeat what the caller sent, its own role included.
            sent = f"{call.address} {json.dumps(call.body)} {factories.BROKER if client is partner else ''}"
            assert not [each for each in objects.values() if each not in sent and each in response.text], call.path
    after = rows(harness)
    for name, kept in own.items():
        # The stranger may change its own account.
        assert {row for row in kept if OTHER not in row} <= set(after[name]), name


def test_key_without_the_role_is_rejected_and_changes_nothing(harness: ApiHarness, calls: list[Call]) -> None:
    before = rows(harness)
    for role in ROLES:
        client = harness.client(f"partner:{factories.WAREHOUSE}" if role == "partner" else role)
        for call in calls:
            if role not in call.roles:
                response = call.make_request(client)
                assert (response.status_code, response.json()["errorCode"]) == (403, "INSUFFICIENT_ROLE"), (role, call)
            elif role == "partner" and call.path != OWN_KEY:
                # A partner's key, and an object of another partner.
                expected = 403 if call.path in ANSWERS else 404
                assert call.make_request(client).status_code == expected, call
    assert rows(harness) == before


#: Calls that say which partner's role they need, and calls whose body is a file, here an empty one.
ANSWERS = tuple(f"/api/broker-submissions/{{id}}/{name}" for name in ("acknowledgements", "attachments"))
TAKES_FILE = (ANSWERS[1], "/api/exports/{id}/attachments")

#: Calls that need a test key.
OF_TEST = {("POST", "/api/test-clock"), ("DELETE", "/api/test-clock")}
#: Paths whose objects the first account does not have.
UNKNOWN = ("/api/tariff/{number}", "/api/partners/{id}/portal-links/{link}")


def test_key_with_the_role_is_accepted(harness: ApiHarness, calls: list[Call]) -> None:
    for role in ROLES:
        client = harness.client(f"partner:{factories.BROKER}" if role == "partner" else role)
        for call in calls:
            if role in call.roles:
                of_test = (call.method, call.path) in OF_TEST
                response = call.make_request(harness.client(role, mode="test") if of_test else client)
                accepted = response.status_code < 400 or response.json()["errorCode"] == "INVALID_STATE"
                accepted |= call.path in TAKES_FILE and "is empty" in response.text
                assert accepted or (call.path in UNKNOWN and response.status_code == 404), (role, call, response.text)


#: The call that any key may make, about itself.
OWN_KEY = "/api/key"
#: Calls that a test key may make: they only read.
NOTHING_LIVE = ("/api/artifacts/{id}/links", "/api/broker-submissions/{id}/links")
#: Calls beside those that change an object, which a test key may not make.
OF_LIVE = {
    ("POST", "/api/waivers"),
    ("PATCH", "/api/print-settings"),
    ("PATCH", "/api/deadlines/leads"),
    ("GET", "/api/deliveries/{id}/payload"),
    ("POST", "/api/deadlines/calendar"),
    ("DELETE", "/api/deadlines/calendar"),
}


def test_test_key_changes_no_live_object(harness: ApiHarness, calls: list[Call]) -> None:
    client = harness.client(*api_keys.ROLES, f"partner:{factories.BROKER}", mode="test")
    before = rows(harness)
    tried = 0
    for call in calls:
        changes = call.method != "GET" and "{" in call.path and call.path not in NOTHING_LIVE
        if changes or (call.method, call.path) in OF_LIVE:
            response = call.make_request(client)
            if call.path.endswith("/replay"):
                assert response.json()["messages"] == 0
            elif call.path.startswith("/api/orders"):  # a test key does not see live orders
                assert response.status_code == 404
            else:
                assert (response.status_code, response.json()["errorCode"]) == (403, "INSUFFICIENT_ROLE"), call
                assert "live key" in response.json()["message"], call
            tried += 1
    assert tried > 10
    assert rows(harness) == before
    new = {"id": "wh_new", "kind": "warehouse", "name": "A new one"}
    assert client.post("/api/partners", json=new).status_code == 403
    assert client.post("/api/partners", json=new | {"test": True}).status_code == 201
    assert client.patch("/api/partners/wh_new", json={"test": False}).json()["pointer"] == "/test"
    assert client.patch("/api/partners/wh_new", json={"name": "Another name"}).status_code == 200


def test_declared_roles_match_the_table(calls: list[Call]) -> None:
    assert {(call.method, call.path): call.roles for call in calls} == ROLES_BY_CALL


def test_pages_and_links_without_a_session_show_nothing(harness: ApiHarness, objects: dict[str, str]) -> None:
    client = harness.client_with_key(None)
    export_id, artifact = objects["/api/exports/{id}"], objects["/api/artifacts/{id}"]
    for path in ("", "/exports", f"/exports/{export_id}", "/sandbox", f"/artifacts/{artifact}"):
        response = client.get(f"/console{path}")
        assert (response.status_code, response.headers["location"]) == (303, "/console/sign-in"), path
    assert client.get("/answers/" + "A" * 48).status_code == 404
    assert client.get(f"/documents/{artifact}").status_code == 404
    assert client.get("/calendar/" + "A" * 48 + ".ics").status_code == 404
    for path in ("/livez", "/metrics", "/openapi.json", "/docs"):
        page_response = client.get(path, follow_redirects=True)
        assert page_response.status_code == 200, path
        assert not [each for each in objects.values() if each in page_response.text and each != factories.BROKER], path
