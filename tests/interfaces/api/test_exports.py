"""Execute, register, preflight, inspect and list, over HTTP."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from sqlmodel import col, select, update

from pipeline.accounts.models import Partner
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export
from pipeline.exports.schemas.export import ExportView
from pipeline.workflow import read_model
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open, execution
from tests.support import factories
from tests.support.query_counter import record_statements
from tests.support.servers import poll
from tests.support.tables import table

pytestmark = pytest.mark.clock

PLAN = factories.plan()
EXECUTE = "/api/exports/execute"


def test_accepted_plan_is_stored_before_the_answer(harness: ApiHarness) -> None:
    response = harness.client("execute").post(EXECUTE, json=execution(PLAN))
    body = response.json()
    view = ExportView.model_validate(body)
    assert response.status_code == 202
    assert response.headers["location"] == f"/api/exports/{view.export_id}"
    assert "idempotent-replayed" not in response.headers
    assert (view.state, view.status) == ("accepted", "Accepted; waiting for a worker to begin")
    assert (view.batch_id, view.plan_hash, view.revision) == (factories.BATCH, factories.plan_hash(PLAN), 1)
    assert [(event.seq, event.type) for event in view.events] == [(1, "EXPORT_ACCEPTED")]
    assert harness.publisher.exports == [(view.export_id, 1)]
    assert harness.client().get(response.headers["location"]).json() == body


def test_repeated_idempotency_key_gets_the_first_answer(harness: ApiHarness) -> None:
    client = harness.client("execute")
    key = {"Idempotency-Key": "key-1"}
    first = client.post(EXECUTE, json=execution(PLAN), headers=key)
    harness.run(first.json()["exportId"])
    again = client.post(EXECUTE, json=execution(PLAN), headers=key)
    assert (again.status_code, again.text) == (202, first.text)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert len(harness.publisher.exports) == 1


def test_each_account_has_idempotency_keys_of_its_own(harness: ApiHarness) -> None:
    with harness.runtime.db.write() as session:
        for each in session.scalars(select(Partner)).all():
            session.add(Partner(account_id=OTHER, id=each.id, kind=each.kind, name=each.name, state="live"))
    plan, key = factories.plan(account=OTHER), {"Idempotency-Key": "key-1"}
    first = harness.client("execute").post(EXECUTE, json=execution(PLAN), headers=key)
    others = harness.client("execute", account=OTHER).post(EXECUTE, json=execution(plan), headers=key)
    assert (first.status_code, others.status_code) == (202, 202)
    assert first.json()["exportId"] != others.json()["exportId"]
    for repeated, (account, sent) in {first: (factories.ACCOUNT, PLAN), others: (OTHER, plan)}.items():
        again = harness.client("execute", account=account).post(EXECUTE, json=execution(sent), headers=key)
        assert (again.text, again.headers["idempotent-replayed"]) == (repeated.text, "true")


def test_trace_context_is_not_part_of_the_request(harness: ApiHarness) -> None:
    client = harness.client("execute")
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    key = {"Idempotency-Key": "key-1"}
    first = client.post(EXECUTE, json=execution(PLAN), headers=key | {"traceparent": parent, "tracestate": "a=1, b=2"})
    for changed in ({"traceparent": parent.replace("4bf9", "aaaa")}, {"traceparent": "nonsense"}, {}):
        again = client.post(EXECUTE, json=execution(PLAN), headers=key | changed)
        assert (again.status_code, again.text) == (202, first.text)
    client.post(EXECUTE, json=execution(PLAN), headers={"traceparent": parent.replace("4bf9", "aaaa")})
    with harness.runtime.db.read() as session:
        (export,) = session.exec(select(Export)).all()
        accepted = session.exec(select(Event).where(col(Event.seq) == 1)).one()
    assert (export.trace_parent, export.trace_state) == (parent, "a=1,b=2")
    assert (accepted.data["traceParent"], accepted.data["traceState"]) == (parent, "a=1,b=2")


def test_repeated_trace_parent_headers_are_ignored(harness: ApiHarness) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = [("traceparent", parent), ("traceparent", parent.replace("4bf9", "aaaa"))]
    assert harness.client("execute").post(EXECUTE, json=execution(PLAN), headers=headers).status_code == 202
    with harness.runtime.db.read() as session:
        assert session.exec(select(Export.trace_parent)).all() == [None]


def test_idempotency_key_of_the_header_overrides_the_bodys(harness: ApiHarness) -> None:
    client = harness.client("execute")
    body = execution(PLAN, idempotencyKey="in-the-body")
    assert client.post(EXECUTE, json=body, headers={"Idempotency-Key": "in-the-header"}).status_code == 202
    other = execution(factories.plan(batch="batch_other"))
    reused = client.post(EXECUTE, json=other, headers={"Idempotency-Key": "in-the-header"})
    assert reused.json()["errorCode"] == "IDEMPOTENCY_KEY_REUSED"
    assert client.post(EXECUTE, json=other | {"idempotencyKey": "in-the-body"}).status_code == 202


@table("key", ["", "a b", "x" * 256])
def test_idempotency_key_is_short_and_printable(harness: ApiHarness, key: str) -> None:
    response = harness.client("execute").post(EXECUTE, json=execution(PLAN), headers={"Idempotency-Key": key})
    assert (response.status_code, response.json()["pointer"]) == (400, "/header/Idempotency-Key")
    response = harness.client("execute").post(EXECUTE, json=execution(PLAN, idempotencyKey=key))
    assert (response.status_code, response.json()["pointer"]) == (400, "/idempotencyKey")
    assert harness.rows()["exports"] == 0


@pytest.mark.parametrize("keys", [1, 50])
@pytest.mark.system
def test_fifty_concurrent_requests_give_one_export(open_harness: Open, keys: int) -> None:
    harness = open_harness(database_timeout_seconds=60)
    bearer = harness.key("execute").bearer

    def post(number: int) -> httpx.Response:
        headers = {"Authorization": f"Bearer {bearer}", "Idempotency-Key": f"key-{number % keys}"}
        return httpx.post(harness.url + EXECUTE, json=execution(PLAN), headers=headers, timeout=120, trust_env=False)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(post, range(50)))
    assert Counter(answer.status_code for answer in answers) == {202: 50}
    assert len({answer.json()["exportId"] for answer in answers}) == 1
    assert harness.rows() | {"steps": 0} == {
        "exports": 1,
        "plans": 1,
        "idempotency_records": keys,
        "events": 1,
        "steps": 0,
    }
    assert len(harness.publisher.exports) == 1


def test_prefer_wait_answers_202_after_its_time(harness: ApiHarness) -> None:
    response = harness.client("execute").post(
        EXECUTE, json=execution(PLAN), headers={"Prefer": "respond-async, wait=0"}
    )
    assert (response.status_code, response.headers["preference-applied"]) == (202, "wait=0")
    assert response.json()["state"] == "accepted"


def test_prefer_wait_answers_200_when_the_export_has_ended(harness: ApiHarness) -> None:
    client = harness.client("execute")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, EXECUTE, json=execution(PLAN), headers={"Prefer": "wait=9999"})
        poll(lambda: bool(harness.publisher.exports) or waiting.done(), 60, "nothing was launched")
        assert not waiting.done(), waiting.result().text
        harness.run(harness.publisher.exports[0][0])
        response = waiting.result(timeout=60)
    assert (response.status_code, response.headers["preference-applied"]) == (200, "wait=30")
    assert response.json()["state"] == "executed"


def register_and_execute(client: httpx.Client, **headers: str) -> httpx.Response:
    client.post("/api/exports/plans", json=PLAN).raise_for_status()
    body = {"accountId": factories.ACCOUNT, "batchId": PLAN["batchId"]}
    return client.post(EXECUTE, json=body, headers=headers)


def test_registered_plan_is_awaited_without_a_preference(open_harness: Open) -> None:
    harness = open_harness(execute_wait_seconds=60)
    client = harness.client("execute")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(register_and_execute, client)
        poll(lambda: bool(harness.publisher.exports) or waiting.done(), 60, "nothing was launched")
        assert not waiting.done(), waiting.result().text
        harness.run(harness.publisher.exports[0][0])
        response = waiting.result(timeout=60)
    assert (response.status_code, response.json()["state"]) == (200, "executed")
    assert "preference-applied" not in response.headers
    assert response.json()["artifacts"]
    assert response.json()["notifications"]


@pytest.mark.parametrize("preference", ["wait=0", "respond-async", "Respond-Async; x=1"])
def test_caller_may_ask_not_to_wait(open_harness: Open, preference: str) -> None:
    harness = open_harness(execute_wait_seconds=60)
    response = register_and_execute(harness.client("execute"), Prefer=preference)
    assert (response.status_code, response.json()["state"]) == (202, "accepted")


def test_plan_in_the_body_is_not_awaited_without_a_preference(open_harness: Open) -> None:
    response = open_harness(execute_wait_seconds=60).client("execute").post(EXECUTE, json=execution(PLAN))
    assert (response.status_code, response.json()["state"]) == (202, "accepted")


def test_only_some_requests_wait_without_having_asked(open_harness: Open) -> None:
    harness = open_harness(execute_wait_seconds=60, max_requests=20)
    client = harness.client("execute")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(register_and_execute, client)
        poll(lambda: bool(harness.publisher.exports) or waiting.done(), 60, "nothing was launched")
        assert register_and_execute(harness.client("execute")).status_code == 202
        assert not waiting.done(), waiting.result().text
        harness.run(harness.publisher.exports[0][0])
        assert waiting.result(timeout=60).status_code == 200
        # Its place is free again, and the export has ended.
        assert register_and_execute(client).status_code == 200


def test_registered_plan_is_executed_by_its_batch(harness: ApiHarness) -> None:
    client = harness.client("execute")
    registered = client.post("/api/exports/plans", json=PLAN)
    assert (registered.status_code, registered.json()["planHash"]) == (201, factories.plan_hash(PLAN))
    again = client.post("/api/exports/plans", json=PLAN)
    assert (again.status_code, again.json()) == (200, registered.json())
    missing = client.get(f"/api/exports/{factories.BATCH}")
    assert (missing.status_code, "is planned and not executed" in missing.json()["detail"]) == (404, True)
    planned = client.get(f"/api/plans/{factories.BATCH}").json()
    assert (planned["state"], planned["exportId"], planned["plan"]) == ("planned", None, PLAN)
    body = {"accountId": factories.ACCOUNT, "batchId": factories.BATCH, "planHash": factories.plan_hash(PLAN)}
    executed = client.post(EXECUTE, json=body)
    assert (executed.status_code, executed.json()["planHash"]) == (202, factories.plan_hash(PLAN))
    plan_id, export_id = registered.json()["planId"], executed.json()["exportId"]
    harness.run(export_id)
    assert client.get(f"/api/plans/{plan_id}").json() == {**planned, "state": "executed", "exportId": export_id}


def test_plans_of_the_account_are_paged_the_newest_first(harness: ApiHarness) -> None:
    client = harness.client("execute")
    for number in range(3):
        client.post("/api/exports/plans", json=factories.plan(batch=f"batch_{number}")).raise_for_status()
    first = client.get("/api/plans", params={"limit": 2}).json()
    rest = client.get("/api/plans", params={"limit": 2, "cursor": first["nextCursor"]}).json()
    assert [each["batchId"] for each in first["items"] + rest["items"]] == ["batch_2", "batch_1", "batch_0"]
    assert rest["nextCursor"] is None
    other = harness.client("read", account=OTHER)
    assert other.get("/api/plans").json()["items"] == []
    refused = other.get("/api/plans/batch_1")
    assert (refused.status_code, "`GET /api/plans` lists them" in refused.json()["detail"]) == (404, True)


def test_preflight_reports_rejections_of_execute_and_writes_nothing(harness: ApiHarness) -> None:
    client = harness.client()
    harness.execute(PLAN)
    before = harness.rows()
    good = client.post("/api/exports/preflight", json=PLAN).json()
    assert (good["executable"], good["planHash"]) == (True, factories.plan_hash(PLAN))
    assert [(each["rule"], each["severity"]) for each in good["findings"]] == [("H00", "note")]
    changed = factories.change_plan(PLAN, "/units/0/invoice/paymentTerms", "30 days net")
    for created, rule, pointer in (
        (changed, "A03", "/batchId"),
        (factories.plan(batch="b2", invoice="B", approval=None), "A02", "/approval"),
        (factories.plan(batch="b2", invoice="B", broker="br_none"), "A01", "/broker/id"),
    ):
        report = client.post("/api/exports/preflight", json=created).json()
        assert [(each["rule"], each["severity"], each["pointer"]) for each in report["findings"]] == [
            (rule, "block", pointer),
            ("H00", "note", ""),
        ]
        assert report["executable"] is False
        assert all(each["message"].endswith(".") and each["remedy"].endswith(".") for each in report["findings"])
        assert client.post(EXECUTE, json=execution(created)).status_code in (409, 422)
    assert harness.rows() == before


def test_unchanged_export_answers_304(harness: ApiHarness) -> None:
    client = harness.client("read")
    export_id = harness.execute(PLAN)
    address = f"/api/exports/{export_id}"
    etag = client.get(address).headers["etag"]
    assert etag.startswith('"')
    for tags in (etag, f'"other", W/{etag}', "*"):
        unchanged = client.get(address, headers={"If-None-Match": tags})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
    harness.run(export_id)
    changed = client.get(address, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


def test_executed_export_is_shown_in_full(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan(units=2, lines=3, packages=2))
    harness.run(export_id)
    view = ExportView.model_validate(harness.client().get(f"/api/exports/{export_id}").json())
    assert (view.state, view.status) == ("executed", f"Executed; waiting for {factories.BROKER} to answer")
    assert [unit.unit_ref for unit in view.units] == ["U1", "U2"]
    assert view.customs_package_id == view.units[0].customs_package_id == view.customs_packages[0].id
    assert {package.state for package in view.customs_packages} == {"closed"}
    assert {step.state for unit in view.units for step in unit.steps} | {step.state for step in view.steps} == {"done"}
    assert [event.seq for event in view.events] == list(range(1, len(view.events) + 1))
    assert (view.treatment.line_count, len(view.treatment.lines)) == (6, 6)
    assert view.broker_submission is not None
    assert view.broker_submissions == [view.broker_submission]
    counts = {(each.audience, each.event_type): each.messages for each in view.notifications}
    assert counts["warehouse", "exports.package.recorded.v1"] == 4
    assert counts["customs_broker", "exports.handoff.ready.v1"] == 1
    per_unit = Counter(artifact.customs_package_id for artifact in view.artifacts)
    assert set(per_unit.values()) == {len(view.artifacts) // 2}


def test_query_count_does_not_grow_with_the_export(harness: ApiHarness) -> None:
    def counted(export_id: str) -> int:
        with record_statements(harness.runtime.db) as statements, harness.runtime.db.read() as session:
            read_model.read_export(session, factories.ACCOUNT, export_id)
        return len(statements)

    small = harness.execute(factories.plan(batch="small", units=1, lines=1, packages=1))
    large = harness.execute(factories.plan(batch="large", units=4, lines=9, packages=9, invoice="B"))
    harness.run(small)
    harness.run(large)
    assert counted(small) == counted(large) <= 14  # with its BEGIN


def test_list_cursor_is_stable_while_the_list_grows(harness: ApiHarness) -> None:
    client = harness.client("read")
    created = [harness.execute(factories.plan(batch=f"batch_{n}")) for n in range(5)]
    first = client.get("/api/exports", params={"limit": 2}).json()
    harness.execute(factories.plan(batch="batch_late"))
    second = client.get("/api/exports", params={"limit": 2, "cursor": first["nextCursor"]}).json()
    third = client.get("/api/exports", params={"limit": 2, "cursor": second["nextCursor"]}).json()
    walked = [item["exportId"] for page in (first, second, third) for item in page["items"]]
    assert walked == created[::-1]
    assert third["nextCursor"] is None
    whole = client.get("/api/exports", params={"limit": 6}).json()
    assert (len(whole["items"]), whole["nextCursor"]) == (6, None), "nothing follows a page that is just full"


def test_list_is_filtered(harness: ApiHarness) -> None:
    client = harness.client("read")
    live = harness.execute(factories.plan(batch="batch_live"))
    test = harness.execute(factories.plan(batch="batch_test", broker="br_test", warehouse="wh_test"), mode="test")

    def listed(**filters: str) -> list[str]:
        return [item["exportId"] for item in client.get("/api/exports", params=filters).json()["items"]]

    with harness.runtime.db.write() as session:
        session.execute(update(Export).where(col(Export.id) == live).values(state="executed"))
        accepted_at = session.exec(select(Export.accepted_at).where(col(Export.id) == test)).one()
    assert listed(state="executed") == [live]
    assert listed(broker="br_test") == listed(warehouse="wh_test") == [test]
    just_before, later = accepted_at - timedelta(microseconds=1), accepted_at + timedelta(hours=1)
    assert listed(acceptedAfter=just_before.isoformat()) == [test]
    assert listed(acceptedBefore=later.isoformat()) == [test, live]
    assert listed(acceptedAfter=later.isoformat()) == []


@table(
    ("filters", "field"),
    [
        ({"limit": "201"}, "/query/limit"),
        ({"limit": "0"}, "/query/limit"),
        ({"state": "done"}, "/query/state"),
        ({"quarantined": "perhaps"}, "/query/quarantined"),
        ({"cursor": "%%%"}, "/query/cursor"),
        ({"acceptedAfter": "2026-11-24T00:00:00"}, "/query/acceptedAfter"),
    ],
)
def test_invalid_filter_is_rejected(harness: ApiHarness, filters: dict[str, str], field: str) -> None:
    response = harness.client("read").get("/api/exports", params=filters)
    assert (response.status_code, response.json()["errorCode"], response.json()["pointer"]) == (
        400,
        "VALIDATION_ERROR",
        field,
    )


def test_retried_export_continues_at_the_failed_step(harness: ApiHarness) -> None:
    export_id = harness.execute(PLAN)
    with harness.runtime.db.write() as session:
        session.execute(update(Export).where(col(Export.id) == export_id).values(state="failed", failure="why"))
    response = harness.client("operate").post(f"/api/exports/{export_id}/retry")
    assert (response.status_code, response.json()["state"]) == (202, "executing")
    assert [(task.unit_no, task.step) for task in harness.publisher.tasks] == [(1, "record_packages")]
    harness.run(export_id)
    assert harness.client().get(f"/api/exports/{export_id}").json()["state"] == "executed"
