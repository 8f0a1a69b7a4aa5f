"""Test and live keys are separate: both may use the same batch, plan, label and idempotency key."""

from typing import Any

from sqlmodel import col, select

from pipeline.accounts.api_keys import Mode
from pipeline.exports.models import Export, ExportPackage
from pipeline.ops.rebuild.service import rebuild_exports
from tests.interfaces.api.conftest import ApiHarness, execution
from tests.support import factories

LABEL = "003512345000000010"
BATCH = factories.plan()["batchId"]
MODES: tuple[Mode, ...] = ("test", "live")


def plan_for(mode: Mode, **facts: Any) -> factories.Json:
    """Return a plan of one batch for partners that a key of this mode can reach."""
    if mode == "test":
        facts |= {"broker": "br_test", "warehouse": "wh_test"}
    return factories.plan(**facts)


def post(harness: ApiHarness, mode: Mode, path: str, body: factories.Json, **headers: str) -> Any:
    return harness.client(mode=mode).post(path, json=body, headers=headers)


def execute(harness: ApiHarness, mode: Mode, body: factories.Json, **headers: str) -> str:
    answer = post(harness, mode, "/api/exports/execute", body, **headers)
    assert answer.status_code == 202, answer.text
    export_id = str(answer.json()["exportId"])
    with harness.runtime.db.read() as session:
        assert session.get_one(Export, export_id).test is (mode == "test")
    return export_id


def test_live_key_executes_what_a_live_key_registered(harness: ApiHarness) -> None:
    by_batch = {"accountId": factories.ACCOUNT, "batchId": BATCH}
    registered = {mode: post(harness, mode, "/api/exports/plans", plan_for(mode)).json()["planHash"] for mode in MODES}
    for mode, plan_hash in registered.items():
        export_id = execute(harness, mode, by_batch)
        with harness.runtime.db.read() as session:
            assert session.get_one(Export, export_id).plan_hash == plan_hash


def test_live_key_does_not_find_a_plan_of_a_test_key(harness: ApiHarness) -> None:
    plan = plan_for("test")
    assert post(harness, "test", "/api/exports/plans", plan).status_code == 201
    for plan_hash in ({}, {"planHash": post(harness, "test", "/api/exports/plans", plan).json()["planHash"]}):
        answer = post(
            harness, "live", "/api/exports/execute", {"accountId": factories.ACCOUNT, "batchId": BATCH} | plan_hash
        )
        assert (answer.status_code, answer.json()["errorCode"]) == (404, "NOT_FOUND")
    assert post(harness, "live", "/api/exports/plans", plan).status_code == 201, "for a live key it is a new plan"


def test_batch_executes_in_test_and_then_in_live_mode(harness: ApiHarness) -> None:
    """Also with the same idempotency key, and the same label on a package."""
    plans = {mode: factories.change_plan(plan_for(mode), "/units/0/packages/0/sscc", LABEL) for mode in MODES}
    headers = {"Idempotency-Key": "one-and-the-same"}
    created: dict[Mode, str] = {}
    for mode, plan in plans.items():
        created[mode] = execute(harness, mode, execution(plan), **headers)
        harness.run(created[mode])
    assert created["test"] != created["live"]
    for mode, export_id in created.items():
        assert execute(harness, mode, execution(plans[mode])) == export_id
        assert execute(harness, mode, execution(plans[mode]), **headers) == export_id
        for named in (BATCH, export_id):
            view = harness.client(mode=mode).get(f"/api/exports/{named}").json()
            assert (view["exportId"], view["state"]) == (export_id, "executed")
    with harness.runtime.db.read() as session:
        carried = select(ExportPackage.export_id, ExportPackage.released).where(col(ExportPackage.sscc) == LABEL)
        assert dict(session.exec(carried).all()) == {created["test"]: True, created["live"]: False}
    found = rebuild_exports(harness.runtime)
    assert (found.exports, found.damaged) == (2, [])


def test_test_and_live_exports_are_amended_separately(harness: ApiHarness) -> None:
    created: dict[Mode, str] = {}
    for mode in MODES:
        created[mode] = execute(harness, mode, execution(plan_for(mode)))
        harness.run(created[mode])
    for mode, export_id in created.items():
        answer = post(harness, mode, f"/api/exports/{BATCH}/amend", execution(plan_for(mode, lines=4)))
        assert (answer.status_code, answer.json()["supersedes"]) == (202, export_id), answer.text
        harness.run(answer.json()["exportId"])
    with harness.runtime.db.read() as session:
        states = session.exec(select(Export.test, Export.revision, Export.state)).all()
    assert sorted(states) == sorted(
        (test, revision, state) for test in (False, True) for revision, state in ((1, "superseded"), (2, "executed"))
    )


def test_executed_batch_is_rejected_only_for_the_same_mode(harness: ApiHarness) -> None:
    execute(harness, "live", execution(plan_for("live")))
    refused = post(harness, "live", "/api/exports/execute", execution(plan_for("live", lines=4)))
    assert refused.json()["errorCode"] == "EXPORT_ALREADY_EXECUTED"
    execute(harness, "test", execution(plan_for("test", lines=4)))
