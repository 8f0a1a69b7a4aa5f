"""Partners over real HTTP: registration, changes, connection tests, activation, rotated secrets."""

import json
from typing import Any

from pipeline.client import Exports
from pipeline.deliveries.submissions.signature import build_signature_headers
from tests.deliveries.conftest import Clock
from tests.deliveries.support.scenario import OTHER, ApiHarness, hand_off
from tests.support import factories
from tests.support.tables import table

NEW: dict[str, Any] = {"id": "wh_new", "kind": "warehouse", "name": "Dock 4"}


def test_partner_secret_is_shown_once(harness: ApiHarness) -> None:
    api = harness.client()
    made = api.post("/api/partners", json=NEW)
    assert made.status_code == 201
    assert made.headers["location"] == "/api/partners/wh_new"
    assert made.json()["secret"].startswith("whsec_")
    assert made.json()["channels"] == [{"channel": "queue"}]
    read = api.get("/api/partners/wh_new")
    assert read.status_code == 200
    assert "secret" not in read.json()
    assert made.json()["secret"] not in api.get("/api/partners").text


def test_partner_is_changed_paused_and_resumed(harness: ApiHarness) -> None:
    api = harness.client()
    api.post("/api/partners", json=NEW | {"live": True})
    hook = {"channel": "webhook", "address": "https://dock.example/in"}
    changed = api.patch(
        "/api/partners/wh_new", json={"name": "Dock 5", "channels": [hook, {"channel": "queue"}]}
    ).json()
    assert (changed["name"], changed["channels"]) == ("Dock 5", [hook, {"channel": "queue"}])
    assert api.post("/api/partners/wh_new/pause").json()["state"] == "paused"
    assert api.post("/api/partners/wh_new/resume").json()["state"] == "live"
    assert api.post("/api/partners/wh_new/resume").json()["errorCode"] == "INVALID_STATE"


def test_partner_is_tested_and_activated(harness: ApiHarness) -> None:
    api = harness.client()
    assert api.post("/api/partners", json=NEW).json()["state"] == "draft"
    refused = api.post("/api/partners/wh_new/activate")
    assert (refused.status_code, refused.json()["errorCode"]) == (409, "INVALID_STATE")
    assert "run its connection test" in refused.json()["message"]
    tested = api.post("/api/partners/wh_new/test")
    assert (tested.status_code, tested.json()["passed"], tested.json()["state"]) == (200, True, "verified")
    assert [set(stage) for stage in tested.json()["endpoints"][0]["stages"]] == [
        {"name", "passed", "durationMs", "found", "remedy"}
    ] * 3
    assert api.get("/api/partners/wh_new").json()["lastTest"]["id"] == tested.json()["id"]
    assert api.post("/api/partners/wh_new/activate").json()["state"] == "live"
    assert harness.client(account=OTHER).post("/api/partners/wh_new/test").status_code == 404


def test_sandbox_broker_passes_connection_test_on_both_paths(harness: ApiHarness) -> None:
    api = harness.client()
    address = f"{harness.url}/sandbox/webhooks/{factories.ACCOUNT}/br_hook"
    new = {"kind": "customs_broker", "name": "Sandbox broker", "test": True}
    api.post("/api/partners", json=new | {"id": "br_hook", "channels": [{"channel": "webhook", "address": address}]})
    api.post("/api/partners", json=new | {"id": "br_buddy", "path": "borderbuddy"})
    for name in ("br_hook", "br_buddy"):
        tested = api.post(f"/api/partners/{name}/test").json()
        assert (tested["passed"], tested["state"]) == (True, "verified"), tested


def test_rotated_secret_is_shown_once_and_both_secrets_sign_answers(harness: ApiHarness, clock: Clock) -> None:
    api = harness.client()
    export, old = hand_off(harness)
    submission = harness.submission(export)
    url = f"/api/partners/{submission.partner_id}/rotate-secret"
    rotated = api.post(url, json={"overlapHours": 2})
    assert (rotated.status_code, rotated.headers["cache-control"]) == (200, "no-store")
    new = rotated.json()["secret"]
    assert rotated.json()["previousEndsAt"] == "2026-11-24T17:00:00Z"
    assert new not in api.get("/api/partners").text

    def receive_request(number: int, secret: str) -> int:
        body = json.dumps({"id": f"A-{number}", "status": "received"}).encode()
        headers = {"content-type": "application/json"} | build_signature_headers(f"A-{number}", body, secret)
        return (
            harness.client_without_key()
            .post(f"/api/broker-submissions/{submission.id}/acknowledgements", content=body, headers=headers)
            .status_code
        )

    assert [receive_request(1, old), receive_request(2, new)] == [200, 200]
    clock.pass_seconds(2 * 3600)
    assert [receive_request(3, old), receive_request(4, new)] == [401, 200]
    assert api.post(url, json={"overlapHours": 169}).json()["pointer"] == "/overlapHours"
    assert api.post(url, json={}).status_code == 200


@table(
    ("changes", "field"),
    [
        ({"kind": "carrier"}, "/kind"),
        ({"surprise": 1}, "/surprise"),
        ({"channels": [{"channel": "webhook"}]}, "/channels/0/address"),
        ({"channels": [{"channel": "pigeon"}]}, "/channels/0"),
        ({"channels": [{"channel": "queue", "address": "https://x.example"}]}, "/channels/0/address"),
        ({"channels": [{"channel": "webhook", "address": "ftp://x.example"}]}, "/channels/0/address"),
        ({"channels": [{"channel": "webhook", "address": "https://u:p@x.example"}]}, "/channels/0/address"),
        ({"channels": [{"channel": "queue"}, {"channel": "queue"}]}, "/channels"),
        ({"channels": [{"channel": "borderbuddy"}]}, "/channels"),
        ({"channels": [{"channel": "webhook", "address": "https://\u202epub.test/"}]}, "/channels/0/address"),
        ({"channels": [{"channel": "webhook", "address": "https://hook.example/a\u200b"}]}, "/channels/0/address"),
        ({"name": "Maple \u202eelpaM"}, "/name"),
        ({"name": "Maple\u3164"}, "/name"),
        ({"name": "Ma" + "\u0336\u0301" * 20 + "ple"}, "/name"),
        ({"path": "byob"}, "/path"),
        ({"id": factories.ACCOUNT}, "/id"),
        ({"id": factories.WAREHOUSE}, "/id"),
    ],
)
def test_invalid_partner_is_refused_and_not_written(harness: ApiHarness, changes: dict[str, Any], field: str) -> None:
    api = harness.client()
    refused = api.post("/api/partners", json=NEW | changes)
    assert (refused.status_code, refused.json()["errorCode"], refused.json()["pointer"]) == (
        400,
        "VALIDATION_ERROR",
        field,
    )
    assert [each["id"] for each in api.get("/api/partners").json()["items"]] == [
        factories.OPERATOR,
        factories.WAREHOUSE,
    ]


def test_partners_are_listed_by_pages(harness: ApiHarness) -> None:
    api = harness.client()
    for number in range(3):
        api.post("/api/partners", json=NEW | {"id": f"br_{number}"})
    whole = api.get("/api/partners").json()
    every = [each["id"] for each in whole["items"]]
    assert (whole["nextCursor"], every) == (None, sorted(every))
    found: list[list[str]] = []
    page: dict[str, Any] = {"nextCursor": None}
    while not found or page["nextCursor"]:
        cursor = {"cursor": page["nextCursor"]} if page["nextCursor"] else {}
        page = api.get("/api/partners", params={"limit": 2, **cursor}).json()
        found.append([each["id"] for each in page["items"]])
    assert found == [every[:2], every[2:4], every[4:]]
    with Exports(str(api.base_url), api.headers["authorization"].removeprefix("Bearer ")) as client:
        assert [each.id for each in client.partners(page_size=2)] == every
    for wrong in ({"cursor": "a\0"}, {"cursor": "'"}, {"cursor": "x" * 65}, {"limit": 201}, {"limit": 0}):
        assert api.get("/api/partners", params=wrong).status_code == 400
    assert harness.client(account=OTHER).get("/api/partners", params={"cursor": every[0]}).json()["items"] == []


def test_partner_writes_need_admin_role_and_are_invisible_to_other_accounts(harness: ApiHarness) -> None:
    assert harness.client("read", "operate", "execute").post("/api/partners", json=NEW).status_code == 403
    foreign = harness.client(account=OTHER)
    assert foreign.get(f"/api/partners/{factories.WAREHOUSE}").status_code == 404
    assert foreign.patch(f"/api/partners/{factories.WAREHOUSE}", json={"name": "Mine"}).status_code == 404
    assert foreign.get("/api/partners").json()["items"] == []
