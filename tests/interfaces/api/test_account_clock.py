"""The test clock over HTTP: test plans are checked by it, live ones are not, and only test mode moves it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.interfaces.api.conftest import OTHER, ApiHarness, execution
from tests.interfaces.api.test_errors import assert_refused
from tests.support import factories

CLOCK = "/api/test-clock"


def build_plan(**changes: Any) -> dict[str, Any]:
    return factories.plan(broker="br_test", warehouse="wh_test", **changes)


def test_clock_decides_over_approvals_of_test_plans_only(harness: ApiHarness) -> None:
    tester, live = harness.client(mode="test"), harness.client()
    now = datetime.now(UTC)
    moved = tester.post(CLOCK, json={"at": (now + timedelta(days=2)).isoformat()}).raise_for_status().json()
    assert 0 <= 2 * 86_400 - moved["aheadSeconds"] < 60
    assert [each["event"] for each in moved["targets"]] == ["next_month"]
    plan = build_plan()
    plan["approval"]["expiresAt"] = (factories.NOW + timedelta(days=1)).isoformat()
    execute = tester.post("/api/exports/execute", json=execution(plan))
    assert_refused(execute, 422, "PLAN_EXPIRED", "/plan/approval/expiresAt")
    register = tester.post("/api/exports/plans", json=plan)
    assert_refused(register, 422, "PLAN_EXPIRED", "/approval/expiresAt")
    report = tester.post("/api/exports/preflight", json=plan).json()
    assert [each["rule"] for each in report["findings"] if each["severity"] == "block"] == ["A02"]
    plan["broker"]["id"], plan["warehouse"]["id"] = factories.BROKER, factories.WAREHOUSE
    assert live.post("/api/exports/execute", json=execution(plan)).status_code == 202
    assert harness.client(account=OTHER, mode="test").get(CLOCK).json()["aheadSeconds"] == 0
    assert tester.delete(CLOCK).json()["aheadSeconds"] == 0
    assert tester.post("/api/exports/plans", json=build_plan()).status_code == 201


def test_moved_clock_publishes_its_alarms(harness: ApiHarness) -> None:
    tester = harness.client(mode="test")
    plan = build_plan()
    arrives_at = (datetime.now(UTC) + timedelta(days=20)).isoformat()
    plan["units"][0]["entry"]["estimatedArrivalAt"] = arrives_at
    export_id = harness.execute(plan, mode="test")
    harness.run(export_id)
    targets = tester.get(CLOCK).json()["targets"]
    assert export_id in [each["exportId"] for each in targets if each["event"] == "truck_arrives"]
    for times in (1, 0):
        before = len(harness.publisher.tasks)
        tester.post(CLOCK, json={"at": arrives_at}).raise_for_status()
        assert len(harness.publisher.tasks) - before == times
    view = tester.get(f"/api/exports/{export_id}").json()
    assert view["outcome"] == "overdue"
    assert view["broker_submission"]["overdue_at"] >= view["broker_submission"]["arrives_at"]


def test_wrong_move_is_refused(harness: ApiHarness) -> None:
    later = {"at": "2099-01-01T00:00:00Z"}
    assert_refused(harness.client(mode="test").post(CLOCK, json=later), 400, "VALIDATION_ERROR", "/at")
    assert_refused(harness.client().post(CLOCK, json=later), 403, "INSUFFICIENT_ROLE")
    assert_refused(harness.client("read", mode="test").delete(CLOCK), 403, "INSUFFICIENT_ROLE")
