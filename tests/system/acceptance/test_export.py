"""An approved plan becomes an executed export: state, log, documents, treatment, handoff and messages agree."""

import csv
import hashlib
import io
import json
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import openpyxl
import pypdf
import pytest
from jsonschema_rs import Draft202012Validator

from pipeline.documents.bundle import CONVERSATION, MANIFEST, MESSAGE, PLAN
from tests.documents.samples import list_kinds
from tests.system.acceptance.account import AccountClient
from tests.system.acceptance.programs import ROOT

PLANS = sorted((ROOT / "examples" / "plans").rglob("*.json"))

#: Fields that the warehouse must not get: prices, values and customs data.
NOT_FOR_THE_WAREHOUSE = (
    "price value total amount currency charge discount invoice hts origin spi usmca pga chapter99 section232 importer"
).split()

Json = dict[str, Any]


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_example_plan_is_executed(account: AccountClient, path: Path) -> None:
    plan = account.as_own_plan(json.loads(path.read_text(encoding="utf-8")))
    units, packages = len(plan["units"]), sum(len(unit["packages"]) for unit in plan["units"])
    lines = sum(len(unit["lines"]) for unit in plan["units"])
    export_id = account.execute_accepted(plan)
    view = account.wait_executed(export_id)

    steps = [step for unit in view["units"] for step in unit["steps"]] + view["steps"]
    assert len(steps) == 4 * units + 4
    assert {(step["state"], step["attempts"]) for step in steps} == {("done", 1)}
    assert Counter(event["type"] for event in account.events(export_id)) == {
        "EXPORT_ACCEPTED": 1,
        "PACKAGES_RECORDED": units,
        "TREATMENT_ATTACHED": units,
        "CUSTOMS_ARTIFACT_GENERATED": sum(len(list_kinds(unit)) for unit in plan["units"]),
        "CUSTOMS_PACKAGE_CLOSED": units,
        "HANDED_OFF": 1,
        "BROKER_NOTIFIED": 1,
        "BROKER_ACKNOWLEDGED": 1,
        "WAREHOUSE_NOTIFIED": 1,
        "EXPORT_EXECUTED": 1,
        "OPERATOR_NOTIFIED": 1,
    }
    check_submission(view)
    check_documents(account, view, plan)
    check_treatment(account, view, lines)
    check_bundle(account, view)
    check_messages(account, view, plan, packages)


def check_submission(view: Json) -> None:
    (submission,) = view["broker_submissions"]
    assert (submission["path"], submission["channel"]) == ("borderbuddy", "borderbuddy")
    assert (submission["status"], submission["submission_status"]) == ("sent", "accepted")
    assert [answer["status"] for answer in submission["acknowledgements"]] == ["accepted"]
    assert view["broker_submission"] == submission


def check_documents(account: AccountClient, view: Json, plan: Json) -> None:
    by_package: dict[str, list[str]] = {}
    for artifact in view["artifacts"]:
        by_package.setdefault(artifact["customs_package_id"], []).append(artifact["artifact_type"])
        body = download(account, artifact)
        if artifact["media_type"] == "application/pdf":
            assert body.startswith(b"%PDF-")
    assert by_package.keys() == {package["id"] for package in view["customs_packages"]}
    units = {unit["unitRef"]: unit for unit in plan["units"]}
    for package in view["customs_packages"]:
        assert sorted(by_package[package["id"]]) == sorted(list_kinds(units[package["unitRef"]]))


def download(account: AccountClient, artifact: Json) -> bytes:
    answer = account.http.get(artifact["download_url"])
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == artifact["sha256"]
    assert len(answer.content) == artifact["size"]
    assert answer.headers["etag"] == f'"{artifact["sha256"]}"'
    assert artifact["filename"] in answer.headers["content-disposition"]
    return answer.content


def check_treatment(account: AccountClient, view: Json, lines: int) -> None:
    """Every document carries the digest of the whole export, and its lines carry their own digests."""
    whole = view["treatment"]["digest"]
    assert view["treatment"]["lineCount"] == lines
    of_lines: dict[str, dict[str, str]] = {}
    for line in view["treatment"]["lines"]:
        of_lines.setdefault(line["unitRef"], {})[line["lineRef"]] = line["digest"]
    for package in view["customs_packages"]:
        recorded = {line["lineRef"]: line["digest"] for line in account.get(package["link"])["treatment"]}
        assert recorded == of_lines[package["unitRef"]]
        for artifact in (each for each in view["artifacts"] if each["customs_package_id"] == package["id"]):
            body, kind = download(account, artifact), artifact["artifact_type"]
            text = read_text(kind, body)
            assert whole in text, kind
            if kind in {"cci_json", "manifest", "packing_list"}:
                shown = json.loads(body)["lines"]
                assert {line["lineRef"]: line["treatmentDigest"] for line in shown} == recorded, kind
            if kind == "cci_csv":
                rows = list(csv.DictReader(io.StringIO(body.decode("utf-8-sig"))))
                assert {row["line_ref"]: row["treatment_digest"] for row in rows} == recorded
                assert {row["export_treatment_digest"] for row in rows} == {whole}
            if kind in {"cci_human_readable", "cci_pdf", "cci_xlsx"}:
                assert [ref for ref, digest in recorded.items() if digest not in text] == [], kind


def read_text(kind: str, body: bytes) -> str:
    """Return a document's text without the breaks that a printed page puts into long words."""
    if kind == "cci_xlsx":
        book = openpyxl.load_workbook(io.BytesIO(body), read_only=True)
        return "\n".join(str(value) for sheet in book for row in sheet.iter_rows(values_only=True) for value in row)
    if kind in {"entry_import", "truck_manifest"}:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return "\n".join(archive.read(name).decode("utf-8-sig") for name in archive.namelist())
    if body.startswith(b"%PDF-"):
        pages = pypdf.PdfReader(io.BytesIO(body)).pages
        return "".join("".join(page.extract_text().split()) for page in pages)
    return body.decode("utf-8-sig")


def check_bundle(account: AccountClient, view: Json) -> None:
    answer = account.http.get(view["links"]["bundle"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as bundle:
        assert bundle.testzip() is None
        held = {name: hashlib.sha256(bundle.read(name)).hexdigest() for name in bundle.namelist()}
    beside = {PLAN, MESSAGE, MANIFEST, CONVERSATION}
    assert beside <= held.keys()
    documents = sorted(sha256 for name, sha256 in held.items() if name not in beside)
    assert documents == sorted(artifact["sha256"] for artifact in view["artifacts"])


def check_messages(account: AccountClient, view: Json, plan: Json, packages: int) -> None:
    export_id = view["exportId"]
    messages = account.received_messages(export_id, packages + 3)
    assert Counter(message.queue for message in messages) == {
        "exports.broker": 1,
        "exports.warehouse": packages,
        "exports.operator": 2,
    }
    assert len({message.body["id"] for message in messages}) == packages + 3
    schemas = cache(account.get)
    for message in messages:
        event = message.body
        assert message.content_type == "application/cloudevents+json"
        assert (event["specversion"], event["source"]) == ("1.0", f"/accounts/{account.account_id}")
        Draft202012Validator(schemas(event["dataschema"])).validate(message.data)
        assert message.data["treatmentDigest"] == view["treatment"]["digest"]
        assert (message.data["exportId"], message.data["planHash"]) == (export_id, view["planHash"])

    by_queue = {
        queue: [message for message in messages if message.queue == queue] for queue in {x.queue for x in messages}
    }
    (handoff,) = by_queue["exports.broker"]
    to_operator = {message.routing_key: message for message in by_queue["exports.operator"]}
    keys = {each["id"]: each["queueBinding"].removesuffix("#") for each in account.get("/api/partners")["items"]}
    assert handoff.routing_key == f"{keys[plan['broker']['id']]}handoff.ready.v1"
    executed, progressed = (
        to_operator[f"operator.{account.account_id}.{each}.v1"] for each in ("export.executed", "entry.progressed")
    )
    assert {each["headline"] for each in progressed.data["entries"]} == {"accepted"}
    assert handoff.data["submissionId"] == executed.data["submissionId"] == view["broker_submission"]["id"]
    handed = {link["id"]: link["sha256"] for unit in handoff.data["units"] for link in unit["artifacts"]}
    # The truck manifest has the crew's birth dates and documents: a partner gets it only if its artifactTypes name it.
    usual = [artifact for artifact in view["artifacts"] if artifact["artifact_type"] != "truck_manifest"]
    assert handed == {artifact["id"]: artifact["sha256"] for artifact in usual}
    of_lines = {(line["unitRef"], line["lineRef"]): line["digest"] for line in view["treatment"]["lines"]}
    assert {
        (unit["unitRef"], line["lineRef"]): line["treatmentDigest"]
        for unit in handoff.data["units"]
        for line in unit["lines"]
    } == of_lines

    parcels = by_queue["exports.warehouse"]
    assert {message.routing_key for message in parcels} == {f"{keys[plan['warehouse']['id']]}package.recorded.v1"}
    # In the order of the plan, each package once, with the contents of the plan.
    assert [
        (
            message.data["unitRef"],
            message.data["packageRef"],
            [(content["lineRef"], content["quantity"]) for content in message.data["contents"]],
        )
        for message in parcels
    ] == [
        (
            unit["unitRef"],
            package["packageRef"],
            [(content["lineRef"], content["quantity"]) for content in package["contents"]],
        )
        for unit in plan["units"]
        for package in unit["packages"]
    ]
    for message in parcels:
        named = {name.lower() for name in names(message.data)}
        assert [name for name in named for word in NOT_FOR_THE_WAREHOUSE if word in name] == []


def names(value: Any) -> list[str]:
    """Return every member name in a JSON value."""
    if isinstance(value, dict):
        return [*value, *(name for each in value.values() for name in names(each))]
    if isinstance(value, list):
        return [name for each in value for name in names(each)]
    return []
