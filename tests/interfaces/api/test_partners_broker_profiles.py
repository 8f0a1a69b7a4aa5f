"""A customs broker's import template over HTTP: stored, changed, and rejected if it names unknown data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.interfaces.api.conftest import ApiHarness
from tests.support import factories

PROFILE: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[3] / "examples" / "profiles" / "entry-import.json").read_text()
)


def test_profile_is_stored_changed_and_removed(harness: ApiHarness) -> None:
    client = harness.client()
    new = {"id": "br_own", "kind": "customs_broker", "name": "Demo customs broker", "profile": PROFILE}
    created = client.post("/api/partners", json=new)
    assert created.status_code == 201, created.text
    kept = client.get("/api/partners/br_own").json()["profile"]
    assert [column["header"] for column in kept["columns"]] == [column["header"] for column in PROFILE["columns"]]
    shorter = PROFILE | {"columns": PROFILE["columns"][:2]}
    changed = client.patch("/api/partners/br_own", json={"profile": shorter, "name": "Other name"}).json()
    assert (len(changed["profile"]["columns"]), changed["name"]) == (2, "Other name")
    assert len(client.patch("/api/partners/br_own", json={"test": True}).json()["profile"]["columns"]) == 2
    assert client.patch("/api/partners/br_own", json={"profile": None}).json()["profile"] is None


def test_profile_with_an_unknown_field_is_rejected_and_nothing_is_written(harness: ApiHarness) -> None:
    client = harness.client()
    wrong = PROFILE | {"columns": [*PROFILE["columns"], {"header": "More", "field": "no_such"}]}
    new = {"id": "br_own", "kind": "customs_broker", "name": "Demo customs broker", "profile": wrong}
    refused = client.post("/api/partners", json=new)
    assert (refused.status_code, refused.json()["errorCode"]) == (400, "VALIDATION_ERROR")
    assert refused.json()["details"]["issues"][0]["pointer"] == f"/profile/columns/{len(PROFILE['columns'])}/field"
    assert client.get("/api/partners/br_own").status_code == 404
    patched = client.patch(f"/api/partners/{factories.BROKER}", json={"profile": wrong})
    assert patched.status_code == 400
    assert client.get(f"/api/partners/{factories.BROKER}").json()["profile"] is None


def test_profile_of_a_warehouse_and_unknown_documents_are_rejected(harness: ApiHarness) -> None:
    client = harness.client()
    refused = client.patch(f"/api/partners/{factories.WAREHOUSE}", json={"profile": PROFILE}).json()
    assert (refused["errorCode"], refused["pointer"]) == ("VALIDATION_ERROR", "/profile")
    refused = client.patch(f"/api/partners/{factories.BROKER}", json={"artifactTypes": ["cci_pdf", "cci_dwg"]}).json()
    assert refused["details"]["issues"][0]["pointer"] == "/artifactTypes/1"


def test_profile_file_is_rendered_at_the_handoff_and_readable_by_the_broker(harness: ApiHarness) -> None:
    client = harness.client()
    assert client.patch(f"/api/partners/{factories.BROKER}", json={"profile": PROFILE}).status_code == 200
    export_id = harness.execute(factories.plan(units=2))
    harness.run(export_id)
    export = client.get(f"/api/exports/{export_id}").json()
    files = [each for each in export["artifacts"] if each["artifact_type"] == "broker_profile"]
    assert [each["filename"] for each in files] == ["entry_import.csv", "entry_import.csv"]
    assert len({each["customs_package_id"] for each in files}) == 2
    body = harness.client(f"partner:{factories.BROKER}").get(files[1]["download_url"]).content.decode("utf-8-sig")
    head, first, *rest = body.split("\r\n")
    assert head.startswith("Importer No,Entry Type,Port,")
    assert first.startswith("12-345678900,01,0901,DEMO,DEMO00000002,A-00002,11/24/2026,11/26/2026,1,PAN-00001,")
    assert len(rest) == 3
