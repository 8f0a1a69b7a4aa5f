"""The portal's samples: only those of the partner's kind, valid against their schemas, and one consistent handoff."""

import hashlib
import io
import json
import re
import zipfile

import pytest
from jsonschema_rs import Draft202012Validator

from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.portal.conftest import open_portal
from tests.support import factories

KINDS = {
    factories.BROKER: {
        "exports.handoff.ready.v1",
        "exports.handoff.superseded.v1",
        "exports.handoff.replied.v1",
        "exports.handoff.withdrawn.v1",
        "exports.export.cancelled.v1",
        "exports.connection.test.v1",
        "acknowledgement",
        "sent-acknowledgement",
        "acknowledgement-receipt",
        "problem",
    },
    factories.WAREHOUSE: {
        "exports.package.recorded.v1",
        "exports.package.superseded.v1",
        "exports.package.withdrawn.v1",
        "exports.export.cancelled.v1",
        "exports.connection.test.v1",
    },
    factories.OPERATOR: {
        "exports.export.executed.v1",
        "exports.export.failed.v1",
        "exports.handoff.withdrawn.v1",
        "exports.handoff.overdue.v1",
        "exports.handoff.answered.v1",
        "exports.entry.progressed.v1",
        "exports.export.settled.v1",
        "exports.export.cancelled.v1",
        "exports.delivery.dead.v1",
        "exports.export.rechecked.v1",
        "exports.plan.rechecked.v1",
        "exports.connection.test.v1",
    },
}


@pytest.mark.parametrize("partner", KINDS)
def test_partner_gets_the_samples_of_its_kind(harness: ApiHarness, partner: str) -> None:
    browser = open_portal(harness, partner)
    page = browser.get("/portal/samples").text
    names = set(re.findall(r'href="/portal/samples/([a-z0-9.-]+)\.json"', page))
    assert names == KINDS[partner]
    for name in names:
        example = browser.get(f"/portal/samples/{name}.json").json()
        schema = browser.get(f"/api/schemas/{name}.json").json()
        assert f'href="/api/schemas/{name}.json"' in page
        Draft202012Validator(schema).validate(example["data"] if name.startswith("exports.") else example)
    for foreign in set().union(*KINDS.values()) - names | {"plan", "../problem", "x"}:
        assert browser.get(f"/portal/samples/{foreign}.json").status_code == 404
    with zipfile.ZipFile(io.BytesIO(browser.get("/portal/samples.zip").content)) as packed:
        assert packed.testzip() is None
        assert {each for each in packed.namelist() if each.startswith("examples/")} == {
            f"examples/{name}.json" for name in names
        }
        assert any(each.startswith("handoff/") for each in packed.namelist()) == (partner == factories.BROKER)


def test_sample_handoff_is_consistent(harness: ApiHarness) -> None:
    content = open_portal(harness, factories.BROKER).get("/portal/samples.zip").content
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        files = {each: packed.read(each) for each in packed.namelist() if each.startswith("handoff/")}
    (root,) = {each.split("/")[1] for each in files}
    manifest = json.loads(files[f"handoff/{root}/manifest.json"])
    message = json.loads(files[f"handoff/{root}/message.json"])
    assert manifest["id"] == message["id"] == root
    listed = {each["name"]: each["sha256"] for each in manifest["files"]}
    assert {name: hashlib.sha256(files[f"handoff/{root}/{name}"]).hexdigest() for name in listed} == listed
    (unit,) = message["data"]["units"]
    named = {f"{unit['packageNumber']}/{each['filename']}": each["sha256"] for each in unit["artifacts"]}
    assert named == {name: digest for name, digest in listed.items() if name != "message.json"}
    invoice = json.loads(files[f"handoff/{root}/{unit['packageNumber']}/commercial_customs_invoice.json"])
    assert {each["lineRef"] for each in unit["lines"]} == {each["lineRef"] for each in invoice["lines"]}
