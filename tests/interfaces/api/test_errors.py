"""Every error of the contract: its status and envelope, and that nothing was written."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlmodel import col, insert, update
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from pipeline.accounts.models import Partner
from pipeline.core import errors
from pipeline.core.db import Database
from pipeline.core.errors import PlanNotExecutable, Refused
from pipeline.core.findings import Finding
from pipeline.core.problems import Problem
from pipeline.exports.models import Export, IdempotencyRecord
from pipeline.interfaces.api.errors import problem_response
from pipeline.interfaces.api.middleware import RequestContext, RequestMetrics
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open, execution
from tests.support import factories
from tests.support.servers import PostgreSQL
from tests.support.tables import table

PLAN = factories.plan()


def assert_refused(response: httpx.Response, status: int, code: str, field: str | None = None) -> Mapping[str, Any]:
    """Assert that the answer is the envelope of `code`, and return it."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["errorCode"], body.get("pointer", body.get("field"))) == (status, code, field), (
        body
    )
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"/docs/problems#{code}"
    assert body["help"] == f"/docs/problems#{code}"
    assert body["status"] == status
    assert body["message"] == body["detail"]
    assert body["requestId"] == response.headers["x-request-id"]
    assert set(body) <= {
        "type",
        "title",
        "status",
        "detail",
        "errorCode",
        "message",
        "field",
        "pointer",
        "details",
        "requestId",
        "help",
    }
    return body


def list_refusals() -> list[type[Refused]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Refused)][1:]


@pytest.mark.parametrize("kind", list_refusals(), ids=lambda kind: kind.code)
def test_every_refusal_class_has_the_same_envelope(kind: type[Refused]) -> None:
    finding = Finding(rule="V01", severity="block", pointer="/units/0", message="It is wrong", remedy="Correct it.")
    raised = PlanNotExecutable([finding]) if kind is PlanNotExecutable else kind("what is wrong", field="/a")
    response = problem_response({"exports.request_id": "req_1", "path": "/api/exports", "headers": []}, raised)
    body = json.loads(bytes(response.body))
    assert Problem.model_validate(body).error_code == kind.code
    assert (response.status_code, body["status"], body["title"]) == (kind.status, kind.status, kind.title)
    assert body["requestId"] == "req_1"


def test_body_that_is_not_json_is_an_invalid_request(harness: ApiHarness) -> None:
    response = harness.client().post(
        "/api/exports/execute", content=b'{"accountId": ', headers={"content-type": "application/json"}
    )
    body = assert_refused(response, 400, "INVALID_REQUEST")
    assert body["message"] == "the body is not JSON at line 1, column 15: expecting value"


def test_all_invalid_fields_are_named_with_remedies(harness: ApiHarness) -> None:
    before = harness.rows()
    wrong = factories.change_plan(PLAN, "/units/0/invoice/relatedParties", "yes")
    wrong = factories.change_plan(wrong, "/units/0/lines/1/htsCode", "7323.93.0045")
    del wrong["units"][0]["invoice"]["total"]
    wrong["units"][0]["invoice"]["totals"] = "1.00"
    response = harness.client().post("/api/exports/execute", json=execution(wrong))
    body = assert_refused(response, 400, "VALIDATION_ERROR", "/plan/units/0/invoice/relatedParties")
    issues = body["details"]["issues"]
    assert [(each["pointer"], each["message"], each["code"]) for each in issues] == [
        ("/plan/units/0/invoice/relatedParties", "must be true or false", "bool_type"),
        ("/plan/units/0/invoice/total", "is required; add it", "missing"),
        (
            "/plan/units/0/invoice/totals",
            "is not a field of the schema; remove it or correct its name",
            "extra_forbidden",
        ),
        ("/plan/units/0/lines/1/htsCode", "must be 10 digits", "string_pattern_mismatch"),
    ]
    assert body["field"] == "plan.units.0.invoice.relatedParties"
    assert [each["path"] for each in issues] == [each["pointer"][1:].replace("/", ".") for each in issues]
    assert body["message"] == "/plan/units/0/invoice/relatedParties must be true or false (the first of 4 issues)"
    assert harness.rows() == before


@table("given", [None, "", "Basic abc", "Bearer", "Bearer nonsense", "Bearer exp_live_a_b"])
def test_call_without_a_key_is_rejected(harness: ApiHarness, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given}
    response = harness.client_with_key(None).get("/api/exports", headers=headers)
    assert_refused(response, 401, "INVALID_API_KEY")
    assert response.headers["www-authenticate"].startswith('Bearer realm="exports"')


def test_body_with_another_account_is_out_of_scope(harness: ApiHarness) -> None:
    before = harness.rows()
    response = harness.client().post("/api/exports/execute", json=execution(PLAN, accountId=OTHER))
    assert_refused(response, 403, "INVALID_ACCOUNT_SCOPE", "/accountId")
    response = harness.client().post(
        "/api/exports/execute", json=execution(factories.plan(account=OTHER), accountId=factories.ACCOUNT)
    )
    assert_refused(response, 403, "INVALID_ACCOUNT_SCOPE", "/plan/accountId")
    assert harness.rows() == before


def test_key_without_the_role_names_the_needed_role(harness: ApiHarness) -> None:
    before = harness.rows()
    response = harness.client("read").post("/api/exports/execute", json=execution(PLAN))
    body = assert_refused(response, 403, "INSUFFICIENT_ROLE")
    assert body["message"] == (
        "this call needs a key with the role execute; this key has read."
        f" Create one: `exports keys create --account {factories.ACCOUNT} --role execute`"
    )
    assert harness.rows() == before


def test_unknown_objects_are_not_found(harness: ApiHarness) -> None:
    client = harness.client()
    for address in ("/api/exports/exp_none", "/api/exports/exp_none/events", "/api/exports/exp_none/bundle"):
        assert_refused(client.get(address), 404, "NOT_FOUND")
    for address in ("/api/customs-packages/cpk_none", "/api/artifacts/art_none", "/api/schemas/none.json", "/nowhere"):
        assert_refused(client.get(address), 404, "NOT_FOUND")
    for call in ("cancel", "retry"):
        assert_refused(client.post(f"/api/exports/exp_none/{call}"), 404, "NOT_FOUND")


def test_execution_without_plan_needs_a_registered_one(harness: ApiHarness) -> None:
    body = {"accountId": factories.ACCOUNT, "batchId": "batch_unknown"}
    assert_refused(harness.client().post("/api/exports/execute", json=body), 404, "NOT_FOUND", "/batchId")


def test_wrong_method_is_refused_with_the_right_one(harness: ApiHarness) -> None:
    response = harness.client().delete("/api/exports/execute")
    assert_refused(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"]


def test_execute_with_a_wrong_plan_hash_is_a_mismatch(harness: ApiHarness) -> None:
    before = harness.rows()
    wrong = "sha256:" + "0" * 64
    response = harness.client().post("/api/exports/execute", json=execution(PLAN, planHash=wrong))
    body = assert_refused(response, 409, "PLAN_HASH_MISMATCH", "/planHash")
    assert body["details"] == {"given": wrong, "actual": factories.plan_hash(PLAN)}
    response = harness.client().post("/api/exports/execute", json=execution(factories.plan(planHash=wrong)))
    assert_refused(response, 409, "PLAN_HASH_MISMATCH", "/plan/planHash")
    assert harness.rows() == before
    assert harness.client().post("/api/exports/execute", json=execution(PLAN)).status_code == 202
    named = {"accountId": factories.ACCOUNT, "batchId": factories.BATCH, "planHash": wrong}
    response = harness.client().post("/api/exports/execute", json=named)
    body = assert_refused(response, 409, "PLAN_HASH_MISMATCH", "/planHash")
    assert body["details"] == {"given": wrong, "actual": factories.plan_hash(PLAN)}


def test_batch_with_a_second_plan_is_rejected(harness: ApiHarness) -> None:
    client = harness.client()
    first = client.post("/api/exports/execute", json=execution(PLAN)).json()
    before = harness.rows()
    body = assert_refused(
        client.post("/api/exports/execute", json=execution(factories.plan(lines=4))),
        409,
        "EXPORT_ALREADY_EXECUTED",
        "/batchId",
    )
    assert body["details"] == {"exportId": first["exportId"], "planHash": factories.plan_hash(PLAN), "revision": 1}
    assert f"/api/exports/{first['exportId']}/amend" in body["message"]
    assert harness.rows() == before


def test_idempotency_key_held_by_another_request_is_in_progress(
    open_harness: Open, postgres_server: PostgreSQL, postgres_template: str
) -> None:
    url = postgres_server.fresh_url(postgres_template)
    harness = open_harness(url, database_timeout_seconds=2)
    client = harness.client()
    done = client.post("/api/exports/execute", json=execution(factories.plan(batch="batch_done"))).json()
    record = {"account_id": factories.ACCOUNT, "key": "k", "fingerprint": "f", "export_id": done["exportId"]}
    other = Database(url)
    with other.write() as session:
        # As another process holds it just before its commit.
        session.execute(insert(IdempotencyRecord), [record | {"status": 202, "body": "{}"}])
        response = client.post("/api/exports/execute", json=execution(PLAN), headers={"Idempotency-Key": "k"})
        assert_refused(response, 409, "IDEMPOTENCY_IN_PROGRESS", "Idempotency-Key")
        assert response.headers["retry-after"] == "1"
    other.dispose()


@pytest.mark.parametrize("key", ["k", None])
def test_other_lock_does_not_report_the_key_in_progress(
    open_harness: Open, postgres_server: PostgreSQL, postgres_template: str, key: str | None
) -> None:
    url = postgres_server.fresh_url(postgres_template)
    harness = open_harness(url, database_timeout_seconds=0.5)
    before, other = harness.rows(), Database(url)
    with other.write() as session:
        # As maintenance holds it, or another request with the same batch and its own key.
        session.execute(text("LOCK TABLE exports IN SHARE ROW EXCLUSIVE MODE"))
        response = harness.client().post(
            "/api/exports/execute", json=execution(PLAN), headers={} if key is None else {"Idempotency-Key": key}
        )
        assert_refused(response, 503, "NOT_READY")
        assert response.headers["retry-after"]
    other.dispose()
    assert harness.rows() == before


def test_change_in_a_wrong_state_is_rejected(harness: ApiHarness) -> None:
    client = harness.client()
    export = client.post("/api/exports/execute", json=execution(PLAN)).json()
    assert_refused(client.post(f"/api/exports/{export['exportId']}/retry"), 409, "INVALID_STATE")
    assert_refused(client.get(f"/api/exports/{export['exportId']}/bundle"), 409, "INVALID_STATE")


def test_change_of_an_older_version_fails_its_precondition(harness: ApiHarness) -> None:
    client = harness.client()
    export = client.post("/api/exports/execute", json=execution(PLAN)).json()
    address = f"/api/exports/{export['exportId']}"
    assert_refused(
        client.post(f"{address}/cancel", headers={"If-Match": '"older"'}), 412, "PRECONDITION_FAILED", "If-Match"
    )
    etag = client.get(address).headers["etag"]
    cancelled = client.post(f"{address}/cancel", headers={"If-Match": etag})
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert cancelled.headers["etag"] == client.get(address).headers["etag"] != etag


def test_idempotency_key_with_another_body_is_rejected(harness: ApiHarness) -> None:
    client = harness.client()
    key = {"Idempotency-Key": "k"}
    assert client.post("/api/exports/execute", json=execution(PLAN), headers=key).status_code == 202
    before = harness.rows()
    answer = client.post("/api/exports/execute", json=execution(factories.plan(batch="batch_other")), headers=key)
    assert_refused(answer, 422, "IDEMPOTENCY_KEY_REUSED", "Idempotency-Key")
    assert harness.rows() == before


@pytest.mark.parametrize("address", ["/api/exports/execute", "/api/exports/plans"])
def test_plan_without_a_valid_approval_is_rejected(harness: ApiHarness, address: str) -> None:
    before = harness.rows()
    client = harness.client()
    unapproved = factories.plan(approval=None)
    now = harness.runtime.clock()
    expired = factories.change_plan(PLAN, "/approval/expiresAt", (now - timedelta(seconds=1)).isoformat())
    early = factories.change_plan(PLAN, "/approval/approvedAt", (now + timedelta(minutes=5, seconds=1)).isoformat())

    for wrong, code, field in (
        (unapproved, "PLAN_NOT_APPROVED", "/approval"),
        (expired, "PLAN_EXPIRED", "/approval/expiresAt"),
        (early, "PLAN_NOT_APPROVED", "/approval/approvedAt"),
    ):
        inside, body = ("/plan", execution(wrong)) if address.endswith("execute") else ("", wrong)
        assert_refused(client.post(address, json=body), 422, code, f"{inside}{field}")
    assert harness.rows() == before


def test_blocking_findings_are_all_listed(harness: ApiHarness) -> None:
    before = harness.rows()
    wrong = factories.change_plan(PLAN, "/units/0/packages/0/contents/0/quantity", "1")
    wrong = factories.change_plan(wrong, "/units/0/packages/1/contents/0/quantity", "1")
    body = assert_refused(
        harness.client().post("/api/exports/execute", json=execution(wrong)),
        422,
        "PLAN_NOT_EXECUTABLE",
        field=_first_pointer(wrong, harness),
    )
    blocking = [Finding.model_validate(each) for each in body["details"]["findings"] if each["severity"] == "block"]
    assert len(blocking) >= 2
    assert all(finding.rule and finding.pointer and finding.remedy for finding in blocking)
    assert harness.rows() == before


def _first_pointer(plan: factories.Json, harness: ApiHarness) -> str:
    report = harness.client().post("/api/exports/preflight", json=plan).json()
    assert report["executable"] is False
    return next(str(each["pointer"]) for each in report["findings"] if each["severity"] == "block")


def test_swapped_plan_and_request_bodies_are_explained(harness: ApiHarness) -> None:
    before = harness.rows()
    client = harness.client()
    for address in ("/api/exports/execute", "/api/exports/exp_1/amend"):
        body = assert_refused(client.post(address, json=PLAN), 400, "VALIDATION_ERROR", "")
        assert body["message"] == (
            'the body must be a request, not a plan; send the plan in it: {"accountId": ..., "batchId": ..., "plan": {...}}'
        )
        assert len(body["details"]["issues"]) == 1
    for address in ("/api/exports/plans", "/api/exports/preflight"):
        body = assert_refused(client.post(address, json=execution(PLAN)), 400, "VALIDATION_ERROR", "")
        assert body["message"] == "the body must be a plan, not a request; send only the object in its member `plan`"
    assert harness.rows() == before


@pytest.mark.parametrize("state", ["draft", "testing", "verified"])
def test_partner_that_is_not_live_is_named_with_state_and_next_step(harness: ApiHarness, state: str) -> None:
    before = harness.rows()
    with harness.runtime.db.write() as session:
        session.execute(update(Partner).where(col(Partner.id) == factories.BROKER).values(state=state))
    client = harness.client()
    body = assert_refused(
        client.post("/api/exports/execute", json=execution(PLAN)), 422, "PARTNER_NOT_LIVE", "/plan/broker/id"
    )
    assert body["message"].startswith(f"the customs broker {factories.BROKER} is {state}; ")
    assert f"`exports partners activate {factories.BROKER} --account {factories.ACCOUNT}`" in body["message"]
    (finding,) = [
        each for each in client.post("/api/exports/preflight", json=PLAN).json()["findings"] if each["rule"] == "A01"
    ]
    assert (finding["pointer"], finding["message"]) == (
        "/broker/id",
        f"The customs broker {factories.BROKER} is {state}.",
    )
    assert harness.rows() == before


def test_partners_must_be_registered_live_and_of_the_keys_mode(harness: ApiHarness) -> None:
    before = harness.rows()
    client = harness.client()
    unknown = execution(factories.plan(broker="br_none"))
    assert_refused(client.post("/api/exports/execute", json=unknown), 422, "UNKNOWN_PARTNER", "/plan/broker/id")
    swapped = execution(factories.plan(warehouse=factories.BROKER))
    assert_refused(client.post("/api/exports/execute", json=swapped), 422, "UNKNOWN_PARTNER", "/plan/warehouse/id")
    with harness.runtime.db.write() as session:
        session.execute(update(Partner).where(col(Partner.id) == "wh_demo").values(state="paused"))
    paused = client.post("/api/exports/execute", json=execution(PLAN))
    assert_refused(paused, 422, "PARTNER_NOT_LIVE", "/plan/warehouse/id")
    test = harness.client(mode="test")
    assert_refused(test.post("/api/exports/execute", json=execution(PLAN)), 422, "UNKNOWN_PARTNER", "/plan/broker/id")
    assert harness.rows() == before


def test_rate_limited_key_gets_a_retry_time(open_harness: Open) -> None:
    harness = open_harness(rate_limit_per_minute=3)
    client = harness.client()
    left = [client.get("/api/exports").headers["ratelimit"] for _ in range(3)]
    assert left == ['"key";r=2;t=1', '"key";r=1;t=1', '"key";r=0;t=1']
    response = client.get("/api/exports")
    assert_refused(response, 429, "RATE_LIMITED")
    assert 1 <= int(response.headers["retry-after"]) <= 20
    assert response.headers["ratelimit-policy"] == '"key";q=3;w=60'
    assert harness.client().get("/api/exports").status_code == 200


def test_unavailable_database_is_not_ready(harness: ApiHarness) -> None:
    client = harness.client()
    with harness.runtime.db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE exports RENAME TO exports_away")
    response = client.get("/api/exports")
    body = assert_refused(response, 503, "NOT_READY")
    assert response.headers["retry-after"] == "2"
    assert body["message"] == "the database does not respond; try again in 2 s"


def test_internal_error_reveals_only_the_request_id(harness: ApiHarness) -> None:
    client = harness.client()
    export = client.post("/api/exports/execute", json=execution(PLAN)).json()
    with harness.runtime.db.write() as session:
        session.execute(update(Export).values(state="a secret that no state is"))
    with capture_logs() as logs:
        response = client.get(f"/api/exports/{export['exportId']}", headers={"X-Request-Id": "mine-1"})
    body = assert_refused(response, 500, "INTERNAL_ERROR")
    assert "secret" not in response.text
    assert body["requestId"] == "mine-1"
    assert [(each["event"], each["route"]) for each in logs] == [("request_failed", "/api/exports/{id}")]


def test_request_interrupted_by_shutdown_gets_a_retry_time() -> None:
    async def raise_cancelled(_: Scope, __: Receive, ___: Send) -> None:
        raise asyncio.CancelledError  # what the server does after its shutdown timeout

    async def make_request() -> httpx.Response:
        transport = httpx.ASGITransport(RequestContext(raise_cancelled, RequestMetrics(CollectorRegistry())))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/api/exports")

    response = asyncio.run(make_request())
    assert_refused(response, 503, "NOT_READY")
    assert response.headers["retry-after"] == "1"
