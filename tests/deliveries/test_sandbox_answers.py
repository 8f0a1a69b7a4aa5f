"""A person lets the sandbox broker answer a test export: by entry, with any status, once by its id."""

from typing import Any, get_args

import httpx
import pytest

from pipeline.deliveries import sandbox_broker, sandbox_script
from pipeline.deliveries.schemas.answers import StatusName
from tests.deliveries.support import exports
from tests.deliveries.support.scenario import OTHER, ApiHarness, hand_off
from tests.interfaces.api.test_errors import assert_refused
from tests.support import factories


@pytest.fixture(autouse=True)
def _no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_broker, "_schedule", lambda wait, post: None)


def say(client: httpx.Client, export_id: str, status: str, package: int | None = None, **more: Any) -> httpx.Response:
    packages = [] if package is None else [f"CP-{package:06d}"]
    body = {"id": f"{status}-{package}", "status": status, "customsPackageNumbers": packages} | more
    return client.post(f"/api/exports/{export_id}/sandbox-answers", json=body)


def test_two_entries_get_answers_that_differ(harness: ApiHarness) -> None:
    export, _ = hand_off(harness, invoice="P P", test=True)
    client = harness.client("operate", mode="test")
    fda, fee = {"holder": "agency", "agency": "FDA"}, {"currency": "USD", "fees": [{"code": "499", "amountUsd": "1"}]}
    rounds = [
        [
            say(client, export.export_id, "filed", 1),
            say(client, export.export_id, "filed", 2, entryNumber="ABC-1", assessed=fee),
            say(client, export.export_id, "released", 1),
            say(client, export.export_id, "held", 2, hold=fda),
            say(client, export.export_id, "query", 2),
        ]
        for _ in range(2)
    ]
    assert [[each.json()["recorded"] for each in answers] for answers in rounds] == [[True] * 5, [False] * 5]
    view = client.get(f"/api/exports/{export.export_id}").json()["broker_submission"]
    entries = view["entries"]
    assert [(each["headline"], each["entry_number"][:4]) for each in entries] == [
        ("released", "SBX-"),
        ("held", "ABC-"),
    ]
    assert entries[1]["holds"] == ["agency:FDA"]
    asked = next(each for each in view["acknowledgements"] if each["status"] == "query")
    assert asked["fields"][0]["pointer"] == "/units/1/lines/0/description"
    assert_refused(say(client, export.export_id, "query", 2, message="Else?"), 409, "INVALID_STATE", "/id")
    assert_refused(say(client, export.export_id, "held", 9), 422, "NOT_IN_HANDOFF", "/customsPackageNumbers/0")


@pytest.mark.parametrize("status", get_args(StatusName))
def test_each_status_is_had_by_a_letter(status: str) -> None:
    scripts = [sandbox_script.parse_script(each) for each in sandbox_script.list_letters()]
    assert status == "received" or any(status in each.statuses for each in scripts)
    assert sandbox_script.parse_script("INV-7") == sandbox_script.parse_script("A-7")


def test_only_test_exports_of_the_sandbox_broker_are_answered(harness: ApiHarness) -> None:
    tested, _ = hand_off(harness, invoice="P", test=True)
    live, _ = hand_off(harness, invoice="A")
    tester = harness.client("operate", mode="test")
    for client, export_id, refusal in (
        (harness.client("operate"), tested.export_id, (403, "INSUFFICIENT_ROLE")),
        (harness.client("read", mode="test"), tested.export_id, (403, "INSUFFICIENT_ROLE")),
        (tester, live.export_id, (403, "INSUFFICIENT_ROLE")),
        (harness.client("operate", mode="test", account=OTHER), tested.export_id, (404, "NOT_FOUND")),
    ):
        assert_refused(say(client, export_id, "accepted"), *refusal)
    plan = factories.plan(broker="br_borderbuddy_P", batch="batch-unsent")
    unsent = exports.prepare_export(harness.runtime, plan, test=True)
    assert_refused(say(tester, unsent.export_id, "accepted"), 409, "INVALID_STATE")
