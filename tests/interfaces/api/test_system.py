"""Liveness, readiness, metrics and contracts of the service, over HTTP."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

import httpx
import jsonschema_rs
import pytest
from fastapi.routing import APIRoute
from jsonschema_rs import Draft202012Validator
from sqlmodel import col, update

from pipeline.core.blob_store import ArtifactStore
from pipeline.core.db import database_now
from pipeline.core.errors import StoreUnavailable
from pipeline.core.runtime import Runtime
from pipeline.exports.models import Step
from pipeline.interfaces.api import metrics, single_flight, system
from pipeline.interfaces.api.metrics import WorkCollector
from pipeline.interfaces.app import ROUTERS
from pipeline.interfaces.contracts.json_schemas import PUBLISHED
from pipeline.interfaces.pages.assets import VIEWER
from pipeline.ops import readiness
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import STEPS
from tests.interfaces.api.conftest import ApiHarness, Open, execution
from tests.support import factories
from tests.support.query_counter import record_plans, record_statements
from tests.support.servers import poll
from tests.support.tables import table

ROOT: Final = Path(__file__).resolve().parents[3]


def test_liveness_and_readiness_need_no_key(harness: ApiHarness) -> None:
    nobody = harness.client_with_key(None)
    for address, rules in (("/livez", {}), ("/readyz", {"rules": "the rules of this version"})):
        assert (nobody.get(address).status_code, nobody.get(address).json()) == (200, {"status": "ok", **rules})
    assert harness.publisher.running


def test_only_listed_addresses_are_open_without_a_key(harness: ApiHarness) -> None:
    addresses = {"/openapi.json"} | {
        route.path
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()) and "{" not in route.path
    }
    nobody = harness.client_with_key(None)
    pages = {"/console/sign-in", "/console/assets/style.css", "/answers/style.css", "/portal/open"}
    read = {address for address in addresses if nobody.get(address).status_code == 200} - pages
    assert read == {"/livez", "/readyz", "/metrics", "/docs", "/docs/problems", "/openapi.json", "/asyncapi.json"}
    page = (ROOT / "docs/security.md").read_text()
    for address in (*read, "/api/schemas/"):
        assert f"`{address}" in page


def test_contract_is_not_served_if_docs_are_off(open_harness: Open) -> None:
    harness = open_harness(docs=False)
    for reader in (harness.client_with_key(None), harness.client()):
        contract = ("/docs", "/openapi.json", "/asyncapi.json", f"/console/assets/{VIEWER}")
        assert [reader.get(path).status_code for path in contract] == [404] * 4
    assert harness.client_with_key(None).get("/api/schemas/plan.json").status_code == 200, "messages name their schemas"
    assert harness.execute(factories.plan())


def test_health_needs_a_key_and_names_every_part(harness: ApiHarness) -> None:
    health = harness.client("read").get("/api/system/health").json()
    assert (health["status"], [part["name"] for part in health["parts"]]) == (
        "ok",
        ["database", "sweep", "steps", "deliveries", "outage", "installation", "rules", "version"],
    )


def test_older_schema_is_not_ready_and_newer_is(harness: ApiHarness) -> None:
    with harness.runtime.db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert harness.client_with_key(None).get("/readyz").status_code == 200
    with harness.runtime.db.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version")
    response = read_not_ready(harness.client_with_key(None))
    assert response.json()["errorCode"] == "NOT_READY"
    assert [part["name"] for part in response.json()["details"]["parts"]] == ["database"]


def test_due_work_without_progress_is_not_ready(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    nobody = harness.client_with_key(None)
    assert nobody.get("/readyz").status_code == 200
    with harness.runtime.db.write() as session:
        long_ago = database_now(-readiness.STALLED_AFTER_SECONDS - 1)
        session.execute(update(Step).where(col(Step.export_id) == export_id).values(due_at=long_ago))
    response = read_not_ready(nobody)
    assert response.json()["details"]["parts"] == [
        {
            "name": "sweep",
            "message": "steps or deliveries have been due for 60 s, and no sweep found them; check that workers run and"
            " reach the database",
            "runbook": "docs/runbook.md#no-worker-sweeps",
        },
        {
            "name": "steps",
            "message": "steps have been due without progress for 60 s; check that a worker consumes exports.steps,"
            " exports.backlog, and that the message broker answers",
            "runbook": "docs/runbook.md#work-is-late",
        },
    ]
    harness.run(export_id)
    poll(lambda: nobody.get("/readyz").status_code == 200, 10, "it stays red")


def read_not_ready(client: httpx.Client) -> httpx.Response:
    """Return the first answer that is not ready: an older one is cached for a moment."""
    answers: list[httpx.Response] = []

    def is_not_ready() -> bool:
        answers.append(client.get("/readyz"))
        return answers[-1].status_code == 503

    poll(is_not_ready, 10, "it stays green")
    return answers[-1]


def test_work_and_requests_are_counted(harness: ApiHarness) -> None:
    harness.execute(factories.plan())
    harness.client().get("/api/exports/exp_none")
    text = harness.client_with_key(None).get("/metrics").text
    assert 'exports{state="accepted"} 1.0' in text
    assert 'exports_steps{state="ready"} 1.0' in text
    assert 'exports_http_requests_total{method="POST",route="/api/exports/execute",status="202"} 1.0' in text
    assert 'exports_http_requests_total{method="GET",route="/api/exports/{id}",status="404"} 1.0' in text
    assert "exp_none" not in text


def test_outcomes_are_counted(harness: ApiHarness) -> None:
    harness.run(harness.execute(factories.plan()))
    text = harness.client_with_key(None).get("/metrics").text
    assert 'exports_outcomes{outcome="with_broker"} 1.0' in text
    assert 'exports_outcomes{outcome="rejected"} 0.0' in text


def test_metrics_use_at_most_a_fifth_of_the_time(harness: ApiHarness) -> None:
    hands = iter([0, 2, 9.9, 10, 11, 11])
    work = WorkCollector(harness.runtime, lambda: next(hands))
    with record_statements(harness.runtime.db) as asked:
        first = work.collect()
        once = len(asked)
        assert len(first) > 1
        assert work.collect()[1] is first[1]
        assert len(asked) == once  # at 9.9: counted in the two seconds before 2
        assert work.collect()[1] is not first[1]
        assert len(asked) == 2 * once + 1  # the second reading also counts the steps that finished since the first


def test_metrics_count_each_step_that_finishes_once(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_UNCOMMITTED_SECONDS", 0)
    harness.run(harness.execute(factories.plan(batch="before")))
    monkeypatch.setattr(single_flight, "CACHE_TIME_FACTOR", 0)
    work = WorkCollector(harness.runtime)
    counted = []
    for units in (0, 2, 0):
        if units:
            harness.run(harness.execute(factories.plan(units=units, batch="after")))
        (family,) = [each for each in work.collect() if each.name == "exports_steps_finished"]
        counted.append({sample.labels["step"]: sample.value for sample in family.samples})
    assert {*counted[0].values()} == {0}
    assert counted[1] == {spec.name: 2 if spec.per_unit else 1 for spec in STEPS}
    assert counted[2] == counted[1]


def test_metrics_read_only_open_work(harness: ApiHarness) -> None:
    """Tables grow for years. Each count reads an index of what is open."""
    with record_plans(harness.runtime.db) as plans:
        WorkCollector(harness.runtime).collect()
    whole = re.compile(r"SCAN (exports|steps|deliveries|broker_submissions)(?! USING)")
    assert [step for step in plans if whole.match(step)] == []
    for index in ("exports_state", "exports_quarantined", "steps_retrying", "deliveries_idle"):
        assert any(f"ix_{index}" in step for step in plans), plans


def test_readiness_is_cached_for_concurrent_callers(open_harness: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "READY_SECONDS", 10**6)
    monkeypatch.setattr(single_flight, "CACHE_TIME_FACTOR", 10**6)
    harness = open_harness()
    asked: list[Runtime] = []
    real = readiness.check_parts

    def parts(runtime: Runtime) -> list[readiness.ServicePart]:
        asked.append(runtime)
        return real(runtime)

    nobody, client = harness.client_with_key(None), harness.client("read")
    monkeypatch.setattr(readiness, "check_parts", parts)
    assert {nobody.get("/readyz").status_code for _ in range(5)} == {200}
    assert len(asked) == 1
    # A caller with a key gets the current state.
    for _ in range(2):
        assert client.get("/api/system/health").json()["status"] == "ok"
    assert len(asked) == 3


def test_steps_retried_after_an_outage_are_counted(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_unreachable(*_: object) -> NoReturn:
        raise StoreUnavailable("no room")

    export_id = harness.execute(factories.plan())
    monkeypatch.setattr(ArtifactStore, "put_all", raise_unreachable)
    for name in ("record_packages", "render_documents"):
        run_step(harness.runtime, export_id, 1, name)
    assert "exports_steps_retrying 1.0" in harness.client_with_key(None).get("/metrics").text


def test_metrics_name_no_account_partner_export_or_key_if_none_is_overdue(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    key = harness.key("read")
    client = harness.client_with_key(key.bearer)
    for address in (f"/api/exports/{export_id}", f"/api/exports?broker={factories.BROKER}", "/api/partners/wh_other"):
        client.get(address)
    text = harness.client_with_key(None).get("/metrics").text
    assert 'exports_deliveries{state="' in text
    for name in (
        factories.ACCOUNT,
        factories.BROKER,
        factories.WAREHOUSE,
        factories.BATCH,
        export_id,
        key.id,
        "wh_other",
    ):
        assert name not in text


@table(("given", "kept"), [("mine-1", True), ("a b", False), ("x" * 200, False), ("a\tb", False)])
def test_valid_request_id_is_kept(harness: ApiHarness, given: str, kept: bool) -> None:  # noqa: FBT001
    answered = harness.client_with_key(None).get("/livez", headers={"X-Request-Id": given}).headers["x-request-id"]
    assert (answered == given) == kept
    assert kept or answered.startswith("req_")


def test_openapi_document_is_complete(harness: ApiHarness) -> None:
    document = harness.client_with_key(None).get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert {"Plan", "ExecuteRequest", "ExportView", "Problem"} <= set(schemas)
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas
    execute = document["paths"]["/api/exports/execute"]["post"]
    assert set(execute["responses"]) == {
        "200",
        "202",
        "400",
        "401",
        "403",
        "404",
        "408",
        "409",
        "413",
        "422",
        "429",
        "503",
    }
    assert "HTTPValidationError" not in schemas


def test_openapi_example_is_a_bundled_plan_that_passes_preflight(harness: ApiHarness) -> None:
    document = harness.client_with_key(None).get("/openapi.json").json()
    body = document["paths"]["/api/exports/execute"]["post"]["requestBody"]["content"]["application/json"]
    plan = body["examples"]["execute-request"]["value"]["plan"]
    assert json.loads((ROOT / "examples" / "plans" / "cookware.json").read_text()) == plan
    # The account and its partners are those of the example.
    report = harness.client("read").post("/api/exports/preflight", json=plan | {"accountId": factories.ACCOUNT}).json()
    blocking = {finding["pointer"] for finding in report["findings"] if finding["severity"] == "block"}
    assert blocking <= {"/broker/id", "/warehouse/id"}


def test_every_openapi_body_and_answer_is_published_with_a_valid_example(harness: ApiHarness) -> None:
    document = harness.client_with_key(None).get("/openapi.json").json()
    assert document["openapi"].startswith("3.1.")
    published = {each.model.__name__ for each in PUBLISHED.values()}

    @cache
    def find_validator(reference: str) -> Draft202012Validator:
        return Draft202012Validator({"$ref": reference, "components": document["components"]}, validate_formats=True)

    bodies = answers = refusals = 0
    for method, address, place, content in _contents(document):
        reference = content["schema"].get("$ref")
        if reference is None:  # /readyz and the contracts themselves
            assert address in WITHOUT_A_MODEL, address
            continue
        name = reference.removeprefix("#/components/schemas/")
        assert name in published, f"{method} {address} {place}: publish {name}"
        assert content["examples"], f"{method} {address} {place}"
        for example in content["examples"].values():
            find_validator(reference).validate(example["value"])
        bodies += place == "body"
        answers += place.startswith("2")
        refusals += place.startswith(("4", "5"))
    assert bodies >= 7
    assert answers >= 20
    assert refusals >= 100


WITHOUT_A_MODEL: Final = {"/readyz", "/asyncapi.json", "/api/schemas/{name}.json", "/api/deliveries/{id}/payload"}


def _contents(document: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for address, operations in document["paths"].items():
        for method, operation in operations.items():
            parts = {"body": operation.get("requestBody", {}), **operation["responses"]}
            for place, part in parts.items():
                for media_type, content in part.get("content", {}).items():
                    if media_type.endswith("json"):
                        yield method, address, place, content


@table("name", ["plan", "execute-request", "export", "problem", "commercial-customs-invoice"])
def test_schemas_are_published(harness: ApiHarness, name: str) -> None:
    schema = harness.client_with_key(None).get(f"/api/schemas/{name}.json").json()
    jsonschema_rs.meta.validate(schema)


def test_bodies_and_answers_fit_the_published_schemas(harness: ApiHarness) -> None:
    nobody = harness.client_with_key(None)
    plan = factories.plan()
    Draft202012Validator(nobody.get("/api/schemas/plan.json").json()).validate(plan)
    Draft202012Validator(nobody.get("/api/schemas/execute-request.json").json()).validate(execution(plan))
    export_id = harness.execute(plan)
    harness.run(export_id)
    answer = harness.client().get(f"/api/exports/{export_id}").json()
    Draft202012Validator(nobody.get("/api/schemas/export.json").json()).validate(answer)
    problem = harness.client().get("/api/exports/exp_none").json()
    Draft202012Validator(nobody.get("/api/schemas/problem.json").json()).validate(problem)


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        found = [each for inner in value.values() for each in _references(inner)]
        return [*found, value["$ref"]] if isinstance(value.get("$ref"), str) else found
    return [each for inner in value for each in _references(inner)] if isinstance(value, list) else []
