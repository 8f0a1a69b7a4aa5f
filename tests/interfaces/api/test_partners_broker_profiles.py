"""A customs broker's import template over HTTP: stored, changed, and rejected if it names unknown data."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.interfaces.api.conftest import ApiHarness
from tests.support import factories

PROFILES = Path(__file__).resolve().parents[3] / "examples" / "profiles"
PROFILE: dict[str, Any] = json.loads((PROFILES / "entry-import.json").read_text())
X12: dict[str, Any] = json.loads((PROFILES / "x12.json").read_text())


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


def test_message_of_a_profile_is_rendered_at_the_handoff(harness: ApiHarness) -> None:
    client = harness.client()
    assert client.patch(f"/api/partners/{factories.BROKER}", json={"messageProfile": X12}).status_code == 200
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    export = client.get(f"/api/exports/{export_id}").json()
    (file,) = [each for each in export["artifacts"] if each["artifact_type"] == "broker_profile"]
    assert file["filename"] == "shipment.x12"
    body = harness.client(f"partner:{factories.BROKER}").get(file["download_url"]).text
    assert "*U*00401*000000101*0*P*>~\nGS*IN*EXPORTER*BROKER*" in body
    assert body.endswith("IEA*2*000000101~\n")


def test_plan_that_the_message_cannot_carry_is_found_by_preflight_and_refused(harness: ApiHarness) -> None:
    client = harness.client()
    made = factories.plan()
    invoice = made["units"][0]["invoice"]
    charges = [{"code": "freight", "amount": "0.00", "includedInPrices": True}] * 26
    made = factories.change_plan(made, "/units/0/invoice/charges", [*invoice["charges"], *charges])
    made = factories.change_plan(made, "/units/0/entry/carrierScac", None)
    # Only a broker whose profile makes a message has these findings.
    before = client.post("/api/exports/preflight", json=made).json()
    assert (before["executable"], [each["rule"] for each in before["findings"] if each["rule"].startswith("B")]) == (
        True,
        [],
    )
    assert client.patch(f"/api/partners/{factories.BROKER}", json={"messageProfile": X12}).status_code == 200
    report = client.post("/api/exports/preflight", json=made).json()
    found = {each["rule"]: each["severity"] for each in report["findings"] if each["rule"].startswith("B")}
    assert (report["executable"], found) == (False, {"B02": "block", "B01": "note"})
    refused = client.post(
        "/api/exports/execute", json={"accountId": factories.ACCOUNT, "batchId": made["batchId"], "plan": made}
    )
    assert (refused.status_code, refused.json()["errorCode"]) == (422, "PLAN_NOT_EXECUTABLE")
    assert [each["rule"] for each in refused.json()["details"]["findings"]] == ["B02"]
    assert client.get("/api/exports").json()["items"] == []


def test_message_replaces_the_table_and_has_settings_of_its_own(harness: ApiHarness) -> None:
    client = harness.client()
    address = f"/api/partners/{factories.BROKER}"
    assert client.patch(address, json={"profile": PROFILE}).status_code == 200
    kept = client.patch(address, json={"messageProfile": X12}).json()
    assert (kept["profile"], kept["messageProfile"]["x12"]["senderId"]) == (None, "EXPORTER")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"messageProfile": X12, "profile": PROFILE}, "/messageProfile"),
        ({"messageProfile": X12 | {"columns": []}}, "/messageProfile/columns"),
        ({"messageProfile": X12 | {"x12": None}}, "/messageProfile"),
        ({"messageProfile": X12 | {"filename": "shipment.xml"}}, "/messageProfile"),
        ({"messageProfile": X12 | {"filename": "con.x12"}}, "/messageProfile"),
        ({"messageProfile": X12 | {"x12": X12["x12"] | {"senderId": "lower case"}}}, "/messageProfile/x12/senderId"),
        ({"messageProfile": X12 | {"x12": X12["x12"] | {"transactions": ["810", "810"]}}}, "/messageProfile/x12"),
    ]
    for changes, pointer in wrong:
        refused = client.patch(address, json=changes)
        assert (refused.status_code, refused.json()["pointer"]) == (400, pointer), refused.text
    refused = client.patch(f"/api/partners/{factories.WAREHOUSE}", json={"messageProfile": X12})
    assert refused.json()["pointer"] == "/messageProfile"
    assert client.get(address).json()["messageProfile"] == kept["messageProfile"]
    cleared = client.patch(address, json={"messageProfile": None}).json()
    assert (cleared["profile"], cleared["messageProfile"]) == (None, None)


@pytest.mark.parametrize(
    ("name", "filename", "lines"),
    [
        ("entry-lines", "entry_lines.csv", ["1", "2", "3"]),
        ("invoice-lines", "invoice_lines.json", ["1", "2", "3", "1"]),
    ],
)
def test_shipped_profile_is_executed(harness: ApiHarness, name: str, filename: str, lines: list[str]) -> None:
    # Of the four lines, the first and the fourth have equal customs facts.
    profile = json.loads((PROFILES / f"{name}.json").read_bytes())
    client = harness.client()
    assert client.patch(f"/api/partners/{factories.BROKER}", json={"profile": profile}).status_code == 200
    export_id = harness.execute(factories.plan(lines=4))
    harness.run(export_id)
    export = client.get(f"/api/exports/{export_id}").json()
    (file,) = (each for each in export["artifacts"] if each["artifact_type"] == "broker_profile")
    assert file["filename"] == filename
    body = harness.client(f"partner:{factories.BROKER}").get(file["download_url"]).content.decode()
    rows = json.loads(body) if filename.endswith(".json") else [*csv.DictReader(StringIO(body, newline=""))]
    assert [list(row) for row in rows] == [[column["header"] for column in profile["columns"]]] * len(lines)
    assert [row.get("entryLine") or row["Line"] for row in rows] == lines
