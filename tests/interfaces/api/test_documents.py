"""Customs packages, documents and the bundle, over HTTP."""

import hashlib
import io
import json
import zipfile
from typing import NoReturn

import obstore
import pytest
from structlog.testing import capture_logs

from pipeline.accounts.schemas import PartnerChanges
from pipeline.core.errors import StoreUnavailable
from pipeline.deliveries.streams import recovery
from pipeline.exports.schemas.export import CustomsPackageView, ExportView
from tests.interfaces.api.conftest import ApiHarness
from tests.support import factories


def execute_plan(harness: ApiHarness, **size: int) -> ExportView:
    """Return an executed export."""
    export_id = harness.execute(factories.plan(**size))  # type: ignore[arg-type]  # sizes are numbers
    harness.run(export_id)
    return ExportView.model_validate(harness.client().get(f"/api/exports/{export_id}").json())


def test_customs_package_is_shown_in_full(harness: ApiHarness) -> None:
    export = execute_plan(harness, units=2, lines=3, packages=2)
    address = f"/api/customs-packages/{export.customs_package_id}"
    response = harness.client("read").get(address)
    package = CustomsPackageView.model_validate(response.json())
    assert {"id", "exportBatchId", "packageNumber", "state", "createdAt", "artifacts", "packages"} <= set(
        response.json()
    )
    assert (package.export_batch_id, package.unit_ref, package.state) == (factories.BATCH, "U1", "closed")
    assert package.artifacts == [each for each in export.artifacts if each.customs_package_id == package.id]
    assert [each.package_ref for each in package.packages] == ["P1", "P2"]
    assert package.packages[0].contents[0] == {"lineRef": "L1", "quantity": "4"}
    assert [line.line_ref for line in package.treatment] == ["L1", "L2", "L3"]
    unchanged = harness.client("read").get(address, headers={"If-None-Match": response.headers["etag"]})
    assert unchanged.status_code == 304


def test_document_has_the_hash_that_the_export_names(harness: ApiHarness) -> None:
    client = harness.client("read")
    export = execute_plan(harness)
    assert {"cci_human_readable", "cci_csv", "cci_json", "packing_list", "manifest"} <= {
        each.artifact_type for each in export.artifacts
    }
    for artifact in export.artifacts:
        response = client.get(artifact.download_url)
        assert hashlib.sha256(response.content).hexdigest() == artifact.sha256
        assert len(response.content) == artifact.size
        assert response.headers["etag"] == f'"{artifact.sha256}"'
        assert response.headers["content-type"] == artifact.media_type
        assert response.headers["content-disposition"] == f'attachment; filename="{artifact.filename}"'
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-security-policy"] == "sandbox; default-src 'none'"
        unchanged = client.get(artifact.download_url, headers={"If-None-Match": response.headers["etag"]})
        assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_document_of_an_unavailable_store_is_not_ready(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = execute_plan(harness).artifacts[0]

    def fail(_: str) -> NoReturn:
        raise StoreUnavailable("a test refuses it")

    monkeypatch.setattr(harness.runtime.store, "get", fail)
    response = harness.client("read").get(artifact.download_url)
    assert (response.status_code, response.json()["errorCode"]) == (503, "NOT_READY")
    assert response.json()["message"] == "the artifact store does not respond; try again in 2 s"


@pytest.mark.parametrize("damaged", [True, False], ids=["damaged", "missing"])
def test_lost_document_names_the_operators_command(harness: ApiHarness, *, damaged: bool) -> None:
    artifact = execute_plan(harness).artifacts[0]
    place = f"sha256/{artifact.sha256[:2]}/{artifact.sha256[2:4]}/{artifact.sha256}"
    if damaged:
        obstore.put(harness.runtime.store._store, place, b"something else")
    else:
        obstore.delete(harness.runtime.store._store, place)
    with capture_logs() as logs:
        response = harness.client("read").get(artifact.download_url)
    assert (response.status_code, response.json()["errorCode"]) == (410, "ARTIFACT_LOST")
    assert "something else" not in response.text
    assert "`exports artifacts check`" in response.json()["message"]
    assert [each["event"] for each in logs] == ["artifact_lost"]


def test_bundle_holds_plan_message_and_all_documents_by_unit(harness: ApiHarness) -> None:
    client = harness.client("read")
    export = execute_plan(harness, units=2)
    response = client.get(export.links.bundle)
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["content-disposition"] == f'attachment; filename="{factories.BATCH}.zip"'
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        packed = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}
        manifest = json.loads(archive.read("manifest.json"))
    folders = {export.units[n].customs_package_id: f"000{n + 1}-U{n + 1}" for n in range(2)}
    documents = {f"{folders[a.customs_package_id]}/{a.filename}": a.sha256 for a in export.artifacts}
    assert packed.keys() - documents.keys() == {"broker_message.json", "manifest.json", "plan.json"}
    assert documents.items() <= packed.items()
    assert names == sorted(names)
    assert {each["path"]: each["sha256"] for each in manifest["members"]} == {
        name: sha256 for name, sha256 in packed.items() if name != "manifest.json"
    }
    assert (manifest["exportId"], manifest["planHash"]) == (export.export_id, export.plan_hash)


def test_bundle_of_the_same_documents_has_the_same_bytes(harness: ApiHarness) -> None:
    client = harness.client("read")
    export = execute_plan(harness)
    one, two = client.get(export.links.bundle), client.get(export.links.bundle)
    assert one.content == two.content
    assert one.headers["etag"] == two.headers["etag"]
    unchanged = client.get(export.links.bundle, headers={"If-None-Match": one.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_key_of_a_broker_reads_its_handoffs_documents(harness: ApiHarness) -> None:
    export = execute_plan(harness)
    broker = harness.client(f"partner:{factories.BROKER}")
    assert broker.get(export.artifacts[0].download_url).status_code == 200
    assert broker.get(export.links.bundle).content == harness.client("read").get(export.links.bundle).content


def test_key_of_a_broker_reads_only_the_kinds_that_it_receives(harness: ApiHarness) -> None:
    recovery.update_partner(
        harness.runtime, factories.ACCOUNT, factories.BROKER, PartnerChanges(artifact_types=["cci_pdf"])
    )
    export = execute_plan(harness)
    broker = harness.client(f"partner:{factories.BROKER}")
    readable = {each.artifact_type for each in export.artifacts if broker.get(each.download_url).status_code == 200}
    linked = {
        each.artifact_type
        for each in export.artifacts
        if broker.post(f"/api/artifacts/{each.id}/links").status_code == 200
    }
    # The message always links the invoice's data.
    assert readable == linked == {"cci_pdf", "cci_json"}
    with zipfile.ZipFile(io.BytesIO(broker.get(export.links.bundle).content)) as archive:
        assert [name.rpartition("/")[2] for name in archive.namelist()] == [
            *sorted(each.filename for each in export.artifacts if each.artifact_type in readable),
            "broker_message.json",
            "manifest.json",
        ]
