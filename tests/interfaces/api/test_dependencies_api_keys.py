"""API keys: what is stored, what they allow, and how they end."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import select

from pipeline.accounts import api_keys, portal_links, service
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.models import ApiKey
from pipeline.core.errors import InvalidApiKey, InvalidState, NotFound, ValidationFailed
from pipeline.customs import waivers
from pipeline.customs.schemas import NewWaiver
from pipeline.interfaces.api import dependencies
from pipeline.interfaces.api.dependencies import ApiKeyCache
from tests.interfaces.api.conftest import OTHER, ApiHarness, execution
from tests.support import factories, orders
from tests.support.servers import poll
from tests.support.tariff import import_revision

ROLES = ("execute", "read", "operate", "admin", "partner:br_sandbox")

#: call -> roles that may make it
#: The queries that calls need.
QUERIES = {"/api/rules/decide": "?htsCode=7323930045&origin=CA"}

ROLES_BY_CALL = {
    ("POST", "/api/exports/execute"): {"execute", "admin"},
    ("POST", "/api/exports/plans"): {"execute", "admin"},
    ("POST", "/api/exports/plan"): {"execute", "admin"},
    ("POST", "/api/products/sync"): {"execute", "admin"},
    ("POST", "/api/orders/sync"): {"execute", "admin"},
    ("POST", "/api/plan-templates/sync"): {"execute", "admin"},
    ("GET", "/api/orders/{order}"): {"execute", "read", "operate", "admin"},
    ("DELETE", "/api/orders/{order}"): {"admin"},
    ("POST", "/api/exports/preflight"): {"execute", "read", "operate", "admin"},
    ("POST", "/api/exports/proforma"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/exports/plans/{plan}/proforma"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/rules/decide"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/exports"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/exports/{id}"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/exports/{id}/events"): {"execute", "read", "operate", "admin"},
    ("POST", "/api/exports/{id}/amend"): {"execute", "operate", "admin"},
    ("POST", "/api/exports/{id}/cancel"): {"operate", "admin"},
    ("POST", "/api/exports/{id}/retry"): {"operate", "admin"},
    ("POST", "/api/exports/{id}/acknowledge"): {"operate", "admin"},
    ("POST", "/api/exports/{id}/reopen"): {"operate", "admin"},
    ("GET", "/api/inbox"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/exports/{id}/bundle"): {"execute", "read", "operate", "admin", "partner:br_sandbox"},
    ("GET", "/api/customs-packages/{customs_package}"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/artifacts/{artifact}"): {"execute", "read", "operate", "admin", "partner:br_sandbox"},
    ("POST", "/api/artifacts/{artifact}/links"): {"execute", "read", "operate", "admin", "partner:br_sandbox"},
    ("GET", "/api/partners"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/partners/br_sandbox"): {"execute", "read", "operate", "admin"},
    ("POST", "/api/partners/br_sandbox/resume"): {"admin"},
    ("POST", "/api/partners/br_sandbox/pause"): {"admin"},
    ("POST", "/api/partners/br_sandbox/test"): {"admin"},
    ("POST", "/api/partners/br_sandbox/activate"): {"admin"},
    ("POST", "/api/partners/br_sandbox/rotate-secret"): {"admin"},
    ("POST", "/api/partners/br_sandbox/portal-links"): {"admin"},
    ("GET", "/api/partners/br_sandbox/portal-links"): {"admin"},
    ("DELETE", "/api/partners/br_sandbox/portal-links"): {"admin"},
    ("DELETE", "/api/partners/br_sandbox/portal-links/{link}"): {"admin"},
    ("POST", "/api/partners"): {"admin"},
    ("PATCH", "/api/partners/br_sandbox"): {"admin"},
    ("GET", "/api/key"): {"execute", "read", "operate", "admin", "partner:br_sandbox"},
    ("GET", "/api/print-settings"): {"execute", "read", "operate", "admin"},
    ("PATCH", "/api/print-settings"): {"admin"},
    ("POST", "/api/waivers"): {"admin"},
    ("GET", "/api/waivers"): {"admin"},
    ("GET", "/api/audit"): {"admin"},
    ("GET", "/sandbox/handoffs"): {"execute", "read", "operate", "admin"},
    ("DELETE", "/api/waivers/{waiver}"): {"admin"},
    ("GET", "/api/deliveries"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/deliveries/{delivery}"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/deliveries/{delivery}/payload"): {"operate", "admin"},
    ("POST", "/api/deliveries/{delivery}/resend"): {"operate", "admin"},
    ("POST", "/api/deliveries/{delivery}/acknowledge"): {"operate", "admin"},
    ("POST", "/api/deliveries/{delivery}/reopen"): {"operate", "admin"},
    ("POST", "/api/partners/br_sandbox/replay"): {"operate", "admin"},
    ("GET", "/api/notifications/{notification}"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/tariff/{number}"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/stats"): {"execute", "read", "operate", "admin"},
    ("GET", "/api/system/health"): {"execute", "read", "operate", "admin"},
}


def body_for(template: str, plan: factories.Json) -> factories.Json | None:
    """Return a body that the call accepts."""
    bodies = {
        "/api/exports/execute": execution(plan),
        "/api/exports/{id}/amend": execution(plan),
        "/api/exports/{id}/acknowledge": {"note": "It is known."},
        "/api/deliveries/{delivery}/acknowledge": {"note": "It is known."},
        "/api/exports/plans": plan,
        "/api/exports/preflight": plan,
        "/api/exports/plan": orders.plan_request(["ord_none"]),
        "/api/products/sync": orders.product_sync(),
        "/api/orders/sync": orders.order_sync(),
        "/api/plan-templates/sync": orders.template_sync(),
        "/api/exports/proforma": plan,
        "/api/partners": {"id": "wh_new", "kind": "warehouse", "name": "A new one"},
        "/api/partners/br_sandbox": {"name": "Another name"},
        "/api/partners/br_sandbox/replay": {"since": "2026-01-01T00:00:00Z"},
        "/api/partners/br_sandbox/rotate-secret": {"overlapHours": 1},
        "/api/partners/br_sandbox/portal-links": {"days": 1},
        "/api/print-settings": {"languages": ["en", "fr"]},
        "/api/waivers": {"rule": "V17", "reason": "It is known."},
    }
    return bodies.get(template)


@pytest.mark.parametrize("call", ROLES_BY_CALL, ids=" ".join)
def test_call_accepts_only_its_roles(harness: ApiHarness, call: tuple[str, str]) -> None:
    method, template = call
    plan = factories.plan()
    export_id = harness.execute(plan)
    ids = {"id": export_id, "plan": harness.client().post("/api/exports/plans", json=plan).json()["planId"]}
    if "{waiver}" in template:
        waiver = waivers.grant_waiver(
            harness.runtime, factories.ACCOUNT, NewWaiver(rule="V17", reason="Known."), waived_by="me"
        )
        ids["waiver"] = waiver.id
    if "{number}" in template:
        import_revision(harness.runtime)
        ids["number"] = "6115.94.00.00"
    if "{order}" in template:
        synced = harness.client("execute").post("/api/orders/sync", json=orders.order_sync())
        ids["order"] = synced.raise_for_status().json()["data"][0]["id"]
    if "{link}" in template:
        link = portal_links.create_portal_link(
            harness.runtime, factories.ACCOUNT, factories.BROKER, 1, created_by="a test"
        )
        ids["link"] = link.id
    if set(re.findall(r"{(\w+)}|bundle", template)) - {"id", "plan", "waiver", "link", "number", "order"}:
        harness.run(export_id)
        view = harness.client().get(f"/api/exports/{export_id}").json()
        delivery = harness.client().get("/api/deliveries").json()["items"][0]
        ids |= {"customs_package": view["customs_package_id"], "delivery": delivery["id"]}
        ids |= {"artifact": view["artifacts"][0]["id"], "notification": delivery["notificationId"]}
    address = template.format_map(ids) + QUERIES.get(template, "")
    body = None if method == "GET" else body_for(template, plan)
    for role in ROLES:
        response = harness.client(role).request(method, address, json=body)
        allowed = response.status_code < 400 or response.json()["errorCode"] == "INVALID_STATE"
        assert allowed == (role in ROLES_BY_CALL[call]), (role, response.text)
        if not allowed:
            assert (response.status_code, response.json()["errorCode"]) == (403, "INSUFFICIENT_ROLE")
    assert harness.client_with_key(None).request(method, address, json=body).status_code == 401


def test_every_call_that_needs_a_key_is_in_the_matrix(harness: ApiHarness) -> None:
    document = harness.client_with_key(None).get("/openapi.json").json()
    need_a_key = {
        (method.upper(), re.sub(r"{\w+}", "{}", path))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation["security"] == [{"apiKey": []}]
    }
    named = {(method, re.sub(r"{\w+}|br_sandbox", "{}", path)) for method, path in ROLES_BY_CALL}
    assert need_a_key == named


def test_objects_of_another_account_are_not_found(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    view = harness.client().get(f"/api/exports/{export_id}").json()
    stranger = harness.client(account=OTHER)
    addresses = [
        f"/api/exports/{export_id}",
        f"/api/exports/{factories.BATCH}",
        f"/api/exports/{export_id}/events",
        f"/api/exports/{export_id}/bundle",
        f"/api/customs-packages/{view['customs_package_id']}",
        f"/api/artifacts/{view['artifacts'][0]['id']}",
    ]
    for address in addresses:
        response = stranger.get(address)
        assert (response.status_code, response.json()["errorCode"]) == (404, "NOT_FOUND"), address
    for call in ("cancel", "retry"):
        assert stranger.post(f"/api/exports/{export_id}/{call}").status_code == 404
    assert stranger.get("/api/exports").json()["items"] == []


def test_key_of_another_partner_finds_nothing(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    artifact = harness.client().get(f"/api/exports/{export_id}").json()["artifacts"][0]
    other = harness.client("partner:br_other")
    assert other.get(artifact["download_url"]).status_code == 404
    assert other.get(f"/api/exports/{export_id}/bundle").status_code == 404


def test_stored_key_hash_does_not_authenticate(harness: ApiHarness) -> None:
    key = harness.key("read")
    with harness.runtime.db.read() as session:
        row = session.exec(select(ApiKey).where(ApiKey.id == key.id)).one()
    secret = key.bearer.rsplit("_", 1)[1]
    assert secret not in row.model_dump_json()
    assert harness.client_with_key(row.secret_hash).get("/api/exports").status_code == 401


def test_revoked_key_is_soon_rejected(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "_CACHE_SECONDS", 0.2)
    key = harness.key("read")
    client = harness.client_with_key(key.bearer)
    assert client.get("/api/exports").status_code == 200
    api_keys.revoke_key(harness.runtime, factories.ACCOUNT, key.id)
    api_keys.revoke_key(harness.runtime, factories.ACCOUNT, key.id)
    poll(lambda: client.get("/api/exports").status_code == 401, 15, "a revoked key still works")


def test_rotated_key_and_its_successor_work_during_the_overlap(harness: ApiHarness) -> None:
    old = harness.key("execute", "partner:br_1", mode="test")
    before = api_keys.list_keys(harness.runtime, factories.ACCOUNT)[0]
    new = api_keys.rotate_key(harness.runtime, factories.ACCOUNT, old.id, overlap=timedelta(hours=1))
    callers = [api_keys.find_caller(harness.runtime, each.bearer) for each in (old, new)]
    assert {(each.mode, each.roles) for each in callers} == {(before.mode, before.roles)}
    later = datetime.now(UTC) + timedelta(hours=1, seconds=1)
    with pytest.raises(InvalidApiKey):
        api_keys.find_caller(harness.runtime, old.bearer, now=later)
    assert api_keys.find_caller(harness.runtime, new.bearer, now=later).actor == new.id
    with pytest.raises(NotFound):
        api_keys.rotate_key(harness.runtime, OTHER, new.id, overlap=timedelta(hours=1))
    assert len(api_keys.list_keys(harness.runtime, factories.ACCOUNT)) == 2


def test_rotation_does_not_extend_a_key_and_rejects_an_ended_one(harness: ApiHarness) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=1)
    short = harness.key("read", expires_at=soon)
    api_keys.rotate_key(harness.runtime, factories.ACCOUNT, short.id, overlap=timedelta(days=1))
    kept = {each.id: each.expires_at for each in api_keys.list_keys(harness.runtime, factories.ACCOUNT)}
    assert kept[short.id] == soon
    api_keys.revoke_key(harness.runtime, factories.ACCOUNT, short.id)
    with pytest.raises(InvalidState):
        api_keys.rotate_key(harness.runtime, factories.ACCOUNT, short.id, overlap=timedelta(0))


def test_rotated_key_inherits_the_expiry_unless_given(harness: ApiHarness) -> None:
    in_a_month, in_a_year = (datetime.now(UTC) + timedelta(days=days) for days in (30, 365))
    old = harness.key("read", expires_at=in_a_month)
    day = timedelta(days=1)
    first = api_keys.rotate_key(harness.runtime, factories.ACCOUNT, old.id, overlap=day)
    second = api_keys.rotate_key(harness.runtime, factories.ACCOUNT, first.id, overlap=day, expires_at=in_a_year)
    kept = {each.id: each.expires_at for each in api_keys.list_keys(harness.runtime, factories.ACCOUNT)}
    assert (first.expires_at, kept[second.id], second.expires_at) == (in_a_month, in_a_year, in_a_year)
    assert api_keys.find_caller(harness.runtime, second.bearer, now=in_a_month + day).actor == second.id
    third = api_keys.rotate_key(harness.runtime, factories.ACCOUNT, second.id, overlap=day)
    with pytest.raises(InvalidApiKey):
        api_keys.find_caller(harness.runtime, third.bearer, now=in_a_year)


def test_key_ends_when_it_expires(harness: ApiHarness) -> None:
    now = datetime.now(UTC)
    key = harness.key("read", expires_at=now + timedelta(hours=1))
    assert api_keys.find_caller(harness.runtime, key.bearer, now=now).account_id == factories.ACCOUNT
    with pytest.raises(InvalidApiKey):
        api_keys.find_caller(harness.runtime, key.bearer, now=now + timedelta(hours=1))


def test_mistyped_key_is_refused_without_a_database(harness: ApiHarness) -> None:
    bearer = harness.key("read").bearer
    for at in (len("exp_live_"), len(bearer) - 1, len(bearer) // 2):
        other = "A" if bearer[at] != "A" else "B"
        with pytest.raises(InvalidApiKey):
            api_keys.parse_key_id(bearer[:at] + other + bearer[at + 1 :])
    with pytest.raises(InvalidApiKey):
        api_keys.parse_key_id(bearer.replace("exp_live_", "exp_test_"))


def test_another_secret_for_a_known_id_is_refused(harness: ApiHarness) -> None:
    key, other = harness.key("read"), harness.key("read")
    prefix = f"exp_live_{key.id}_" + other.bearer.rsplit("_", 1)[1][:-6]
    with pytest.raises(InvalidApiKey):
        api_keys.find_caller(harness.runtime, prefix + api_keys._compute_checksum(prefix))


def test_keys_are_listed_and_revoked_by_their_own_account(harness: ApiHarness) -> None:
    key = harness.key("read", "partner:br_1", mode="test")
    (listed,) = api_keys.list_keys(harness.runtime, factories.ACCOUNT)
    assert (listed.id, listed.mode, listed.roles) == (key.id, "test", frozenset({"read", "partner:br_1"}))
    assert key.bearer.startswith(f"exp_test_{key.id}_")
    assert api_keys.list_keys(harness.runtime, OTHER) == []
    with pytest.raises(NotFound):
        api_keys.revoke_key(harness.runtime, OTHER, key.id)


def test_roles_and_accounts_are_checked(harness: ApiHarness) -> None:
    for role in ("root", "partner:", "partner:a b", ""):
        with pytest.raises(ValidationFailed):
            harness.key(role)
    with pytest.raises(NotFound):
        harness.key("read", account="acc_none")
    with pytest.raises(ValidationFailed):
        service.create_account(harness.runtime, factories.ACCOUNT, "again")
    with pytest.raises(ValidationFailed):
        service.create_account(harness.runtime, "acc 1", "a space")
    with pytest.raises(ValidationFailed):
        service.create_account(harness.runtime, "acc_1", "a prefix", gs1_prefix="12a")


def test_bucket_refills_with_time() -> None:
    moment = 1000.0
    keys = ApiKeyCache(per_minute=60, clock=lambda: moment)
    assert [keys.take_token("k")[0] for _ in range(60)] == list(range(59, -1, -1))
    assert keys.take_token("k") == (0, 1.0)
    assert keys.take_token("other")[1] == 0.0
    moment += 0.5
    assert keys.take_token("k") == (0, 0.5)
    moment += 1.5
    assert keys.take_token("k") == (1, 0.0)


def test_key_is_cached_for_a_second() -> None:
    moment = 1000.0
    keys = ApiKeyCache(per_minute=60, clock=lambda: moment)
    caller = Caller("acc_1", "k", "live", frozenset({"read"}))
    keys.put("bearer", caller)
    assert keys.get("bearer") == caller
    moment += 1.0
    assert keys.get("bearer") is None
