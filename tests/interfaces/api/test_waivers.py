"""Warnings that an account accepts: recorded, in their scope, and never for blocking findings."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.interfaces.api.conftest import OTHER, ApiHarness, execution
from tests.support import factories
from tests.support.factories import change_plan, plan

pytestmark = pytest.mark.clock

#: One warning, V17, at this place.
FREIGHT = "/units/0/invoice/charges"
WARNED = change_plan(plan(), f"{FREIGHT}/0/code", "handling")
#: The same rule would block here: V01 for a Canadian code.
BLOCKED = change_plan(plan(), "/units/0/parties/manufacturers/0/mid", "CAMAPGOO120TOR")
#: The counts of its findings; without a tariff there is a note, too.
COUNTS = [
    {"rule": "V17", "severity": "warn", "findings": 1, "waived": 1},
    {"rule": "H00", "severity": "note", "findings": 1, "waived": 0},
]


def waive(client: httpx.Client, rule: str, **other: Any) -> dict[str, Any]:
    response = client.post("/api/waivers", json={"rule": rule, "reason": "Our carrier bills the buyer."} | other)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def preflight(client: httpx.Client, created: factories.Json) -> dict[str, Any]:
    response = client.post("/api/exports/preflight", json=created)
    assert response.status_code == 200, response.text
    report: dict[str, Any] = response.json()
    return report


def is_waived(client: httpx.Client, created: factories.Json = WARNED) -> list[str | None]:
    findings = preflight(client, created)["findings"]
    return [finding.get("waivedBy") for finding in findings if finding["severity"] != "note"]


def test_waived_warning_is_still_listed_with_its_waiver(harness: ApiHarness) -> None:
    client = harness.client()
    assert is_waived(client) == [None]
    created = waive(client, "V17")
    report = preflight(client, WARNED)
    assert [(each["rule"], each["pointer"], each.get("waivedBy")) for each in report["findings"]] == [
        ("V17", FREIGHT, created["id"]),
        ("H00", "", None),
    ]
    assert report["rules"] == COUNTS
    assert report["findingsLeftOut"] == 0


def test_export_records_its_waivers(harness: ApiHarness) -> None:
    key = harness.key("admin")
    client = harness.client_with_key(key.bearer)
    created = waive(client, "V17")
    export_id = client.post("/api/exports/execute", json=execution(WARNED)).json()["exportId"]
    client.delete(f"/api/waivers/{created['id']}")
    view = client.get(f"/api/exports/{export_id}").json()
    assert [finding.get("waivedBy") for finding in view["findings"]] == [created["id"], None]
    assert view["events"][0]["type"] == "EXPORT_ACCEPTED"
    assert view["events"][0]["data"]["waivers"] == [
        {"id": created["id"], "rule": "V17", "reason": "Our carrier bills the buyer.", "waivedBy": key.id}
    ]
    assert view["events"][0]["data"]["findings"] == COUNTS


def test_warning_does_not_block_and_is_recorded(harness: ApiHarness) -> None:
    client = harness.client()
    view = client.post("/api/exports/execute", json=execution(WARNED)).json()
    assert [finding["rule"] for finding in view["findings"]] == ["V17", "H00"]
    assert "waivers" not in view["events"][0]["data"]


def test_blocking_finding_cannot_be_waived(harness: ApiHarness) -> None:
    client = harness.client()
    waive(client, "V01")
    before = harness.rows()
    response = client.post("/api/exports/execute", json=execution(BLOCKED))
    assert (response.status_code, response.json()["errorCode"]) == (422, "PLAN_NOT_EXECUTABLE")
    assert ["waivedBy" in finding for finding in response.json()["details"]["findings"]] == [False, False]
    assert harness.rows() == before


def test_waiver_applies_only_in_its_scope(harness: ApiHarness) -> None:
    client = harness.client()
    waive(client, "V16")
    waive(client, "V17", pointer="/units/1")
    waive(client, "V17", pointer="/units/*/lines")
    waive(client, "V17", partnerId="br_elsewhere")
    assert is_waived(client) == [None]
    there = waive(client, "V17", pointer="/units/*/invoice", partnerId=factories.BROKER)
    assert is_waived(client) == [there["id"]]


def test_waiver_ends_on_its_last_day_or_when_revoked(harness: ApiHarness) -> None:
    client = harness.client()
    today = harness.runtime.clock().date()
    waive(client, "V17", endsOn=str(today - timedelta(days=1)))
    assert is_waived(client) == [None]
    last = waive(client, "V17", endsOn=str(today + timedelta(days=1)))
    assert is_waived(client) == [last["id"]]
    first = client.delete(f"/api/waivers/{last['id']}").json()
    assert is_waived(client) == [None]
    assert client.delete(f"/api/waivers/{last['id']}").json() == first
    assert first["revokedAt"] is not None


def test_waivers_are_listed_with_the_revoked_ones(harness: ApiHarness) -> None:
    client = harness.client()
    created = [waive(client, "V17"), waive(client, "V19")]
    client.delete(f"/api/waivers/{created[0]['id']}")
    items = client.get("/api/waivers").json()["items"]
    assert harness.client(account=OTHER).get("/api/waivers").json() == {"items": []}
    assert [(item["id"], item["revokedAt"] is None) for item in items] == [
        (created[0]["id"], False),
        (created[1]["id"], True),
    ]


def test_waiver_needs_a_reason(harness: ApiHarness) -> None:
    client = harness.client()
    for body in (
        {"rule": "V17"},
        {"rule": "V17", "reason": ""},
        {"rule": "not a rule", "reason": "It is known."},
        {"rule": "V17", "reason": "It is known.", "pointer": "units"},
        {"rule": "V17", "reason": "It is known.", "endsOn": "tomorrow"},
        {"rule": "V17", "reason": "It is known.", "forever": True},
    ):
        response = client.post("/api/waivers", json=body)
        assert (response.status_code, response.json()["errorCode"]) == (400, "VALIDATION_ERROR"), body
    assert client.get("/api/waivers").json() == {"items": []}


def test_all_blocking_findings_are_listed_and_excess_warnings_counted(harness: ApiHarness) -> None:
    created = plan(lines=1_200, packages=1_200)
    for line in created["units"][0]["lines"]:
        line["netWeightKg"] = "0"
    created["units"][0]["invoice"]["charges"][0]["code"] = "handling"
    report = preflight(harness.client(), created)
    assert not report["executable"]
    assert {"rule": "V05", "severity": "block", "findings": 1_200, "waived": 0} in report["rules"]
    blocking = sum(each["findings"] for each in report["rules"] if each["severity"] == "block")
    assert len(report["findings"]) == blocking >= 1_200
    assert {finding["severity"] for finding in report["findings"]} == {"block"}
    assert report["findingsLeftOut"] == sum(each["findings"] for each in report["rules"]) - blocking > 0
    response = harness.client().post("/api/exports/execute", json=execution(created))
    body = response.json()
    assert body["errorCode"] == "PLAN_NOT_EXECUTABLE"
    assert body["details"]["findings"] == report["findings"]
    assert body["message"].endswith(f" (the first of {blocking} findings that block)")
    assert body["details"]["rules"] == report["rules"]
