"""Documents that the store has lost are found and rendered again, only if the bytes have the recorded hash."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import ColumnElement, select, update
from sqlmodel import col

from pipeline.accounts.schemas import PartnerChanges
from pipeline.core.blob_store import ArtifactStore, BlobCondition
from pipeline.core.db import database_now
from pipeline.core.errors import NotFound, RendererCrashed, StoreUnavailable
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.deliveries.streams import recovery
from pipeline.documents import repository
from pipeline.documents.registry import Document
from pipeline.exports.models import Artifact, ExportPackage, Step
from pipeline.exports.step_context import StepContext
from pipeline.ops import retention, store_check
from pipeline.ops.store_check import DamagedDocument, StoreReport
from pipeline.workflow import render_documents
from pipeline.workflow.steps import TaskMessage
from tests.support import factories
from tests.support.bucket import serve_bucket
from tests.workflow.conftest import WorkflowHarness

pytestmark = pytest.mark.usefixtures("database_url")

ROOT: Final = Path(__file__).resolve().parents[2]
PROFILE: Final = json.loads((ROOT / "examples/profiles/entry-import.json").read_text())


def with_profile(workflow: WorkflowHarness, profile: object = PROFILE) -> None:
    changes = PartnerChanges.model_validate({"profile": profile})
    recovery.update_partner(workflow.runtime, factories.ACCOUNT, factories.BROKER, changes)


def execute_export(workflow: WorkflowHarness, batch: str = factories.BATCH, units: int = 1) -> str:
    """Return an export with all its documents, including the file of the broker's profile."""
    export_id = workflow.accept(factories.plan(batch=batch, invoice=batch[:4].upper(), units=units)).export_id
    for unit_no in range(1, units + 1):
        workflow.run([TaskMessage(export_id, unit_no, "record_packages")])
        workflow.run([TaskMessage(export_id, unit_no, "render_documents")])
    assert workflow.state(export_id) == "executed"
    return export_id


def rows(workflow: WorkflowHarness) -> dict[tuple[str, int, str], str]:
    """Return the hash of every recorded document."""
    with workflow.runtime.db.read() as session:
        found = session.scalars(select(Artifact))
        return {(row.export_id, row.unit_no, row.artifact_type): row.sha256 for row in found}


def files(workflow: WorkflowHarness) -> dict[str, bytes]:
    """Return the files in the store's folder, by name."""
    root = Path(workflow.store.url.removeprefix("file:"))
    return {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def blob_path(workflow: WorkflowHarness, sha256: str) -> Path:
    return Path(workflow.store.url.removeprefix("file:")) / "sha256" / sha256[:2] / sha256[2:4] / sha256


def check_store(
    runtime: Runtime, *, restore: bool = False, export_id: str | None = None
) -> tuple[StoreReport, dict[tuple[str, int, str], DamagedDocument]]:
    """Check the store; return the counts and the damaged documents."""
    found: list[DamagedDocument] = []
    report = store_check.check_store(runtime, found.append, lambda _: None, export_id=export_id, restore=restore)
    by_row = {(bad.export_id, bad.unit_no, bad.artifact_type): bad for bad in found}
    assert len(by_row) == len(found)
    return report, by_row


def list_unexpected(bad: DamagedDocument) -> None:
    pytest.fail(str(bad))


def test_check_of_complete_store_reads_all_and_changes_nothing(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_check, "_PAGE_SIZE", 5)
    with_profile(workflow)
    execute_export(workflow, "a", units=2)
    execute_export(workflow, "b")
    before = files(workflow)
    progress: list[int] = []
    for restore in (False, True):
        report = store_check.check_store(
            workflow.runtime, list_unexpected, lambda so_far: progress.append(so_far.documents), restore=restore
        )
        assert (report.documents, report.unrestored, report.restored) == (len(rows(workflow)), 0, 0)
        assert report.size == sum(map(len, before.values()))
    assert progress == sorted(progress[:3]) * 2
    assert len(progress) == 6, "`on_progress` is called after each unit"
    assert files(workflow) == before


def test_missing_and_damaged_documents_are_reported_and_restored(workflow: WorkflowHarness) -> None:
    with_profile(workflow)
    export_id = execute_export(workflow, units=2)
    recorded, before = rows(workflow), files(workflow)
    lost = {(export_id, 1, "manifest"), (export_id, 2, "cci_pdf"), (export_id, 2, "broker_profile")}
    changed = {(export_id, 1, "cci_json"), (export_id, 2, "packing_list_pdf")}
    for key in lost:
        blob_path(workflow, recorded[key]).unlink()
    for key in changed:
        blob_path(workflow, recorded[key]).write_bytes(before[recorded[key]][:-1])
    damaged = files(workflow)

    report, bad = check_store(workflow.runtime)
    assert {key: each.condition for key, each in bad.items()} == {
        **dict.fromkeys(lost, "missing"),
        **dict.fromkeys(changed, "damaged"),
    }
    assert (report.documents, report.unrestored, report.restored) == (len(recorded), 5, 0)
    assert files(workflow) == damaged, "a check without restore writes nothing"

    report, bad = check_store(workflow.runtime, restore=True)
    assert (report.unrestored, report.restored) == (0, 5)
    assert {key: (each.restored, each.reason) for key, each in bad.items()} == dict.fromkeys(
        lost | changed, (True, None)
    )
    assert files(workflow) == before
    assert check_store(workflow.runtime)[0].unrestored == 0
    assert rows(workflow) == recorded


def test_restore_renders_only_the_profile_document_if_only_it_is_missing(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_profile(workflow)
    export_id = execute_export(workflow)
    key = (export_id, 1, "broker_profile")
    blob_path(workflow, rows(workflow)[key]).unlink()
    monkeypatch.setattr(render_documents, "render_unit", lambda *_: pytest.fail("the other documents are not missing"))
    report, bad = check_store(workflow.runtime, restore=True)
    assert (report.unrestored, bad[key].restored) == (0, True)


def test_check_of_one_export_reads_only_that_export(workflow: WorkflowHarness) -> None:
    first, second = execute_export(workflow, "a"), execute_export(workflow, "b")
    shutil.rmtree(Path(workflow.store.url.removeprefix("file:")) / "sha256")
    report, bad = check_store(workflow.runtime, export_id=second, restore=True)
    assert {key[0] for key in bad} == {second}
    assert report.unrestored == 0
    assert {key[0] for key in check_store(workflow.runtime)[1]} == {first}
    with pytest.raises(NotFound, match="there is no export exp_none"):
        check_store(workflow.runtime, export_id="exp_none")


@pytest.fixture(params=["memory", "bucket"])
def other_store(request: pytest.FixtureRequest) -> Iterator[ArtifactStore]:
    """Yield an empty store that is not a folder."""
    if request.param == "memory":
        yield ArtifactStore("memory:")
        return
    with serve_bucket() as store:
        yield store


def test_every_kind_of_store_is_checked_and_restored(workflow: WorkflowHarness, other_store: ArtifactStore) -> None:
    with_profile(workflow)
    execute_export(workflow)
    elsewhere = replace(workflow.runtime, store=other_store)
    report, bad = check_store(elsewhere)
    assert (report.unrestored, {each.condition for each in bad.values()}) == (len(rows(workflow)), {"missing"})
    assert check_store(elsewhere, restore=True)[0].unrestored == 0
    assert check_store(elsewhere)[0].unrestored == 0
    for sha256, body in files(workflow).items():
        assert other_store.get(sha256) == body


def test_purged_documents_are_neither_reported_nor_restored(workflow: WorkflowHarness) -> None:
    execute_export(workflow)
    recorded = rows(workflow)
    before = files(workflow)
    retention.purge_expired(workflow.runtime, date(2040, 1, 1))
    assert files(workflow) == {}
    for restore in (False, True):
        report, bad = check_store(workflow.runtime, restore=restore)
        assert (report.documents, bad) == (0, {})
    for sha256 in recorded.values():
        assert not repository.restore_document(workflow.runtime, sha256, before[sha256])
    assert files(workflow) == {}


def test_documents_purged_during_the_check_are_not_reported(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = execute_export(workflow)
    real = store_check._rows

    def purged_then(runtime: Runtime, of: str | None) -> Iterator[store_check._DocumentRow]:
        found = list(real(runtime, of))
        retention.purge_expired(runtime, date(2040, 1, 1))
        yield from found

    monkeypatch.setattr(store_check, "_rows", purged_then)
    report, bad = check_store(workflow.runtime, restore=True)
    assert (report.documents, bad, files(workflow)) == (len(rows(workflow)), {}, {}), export_id


def test_restore_never_writes_other_bytes_than_the_recorded(workflow: WorkflowHarness) -> None:
    """Documents of another template or of changed records stay unrestored, each with its reason."""
    with_profile(workflow)
    export_id = execute_export(workflow)
    with workflow.runtime.db.write() as session:
        for artifact_type, values in (
            ("cci_csv", {"sha256": "0" * 64, "template_version": "0"}),
            ("cci_ubl", {"sha256": "1" * 64}),
        ):
            of_it = (col(Artifact.export_id) == export_id, col(Artifact.artifact_type) == artifact_type)
            session.execute(update(Artifact).where(*of_it).values(**values))
    with_profile(workflow, PROFILE | {"columns": PROFILE["columns"][:2]})
    blob_path(workflow, rows(workflow)[export_id, 1, "broker_profile"]).unlink()
    before = files(workflow)
    report, bad = check_store(workflow.runtime, restore=True)
    assert (report.unrestored, report.restored) == (3, 0)
    reasons = {key[2]: str(each.reason) for key, each in bad.items()}
    assert reasons["cci_csv"].startswith("template 0 rendered it, and this version has ")
    assert reasons["cci_csv"].endswith("; restore it with the release that rendered it")
    assert reasons["cci_ubl"].endswith(": rules, fonts or records have changed since")
    assert reasons["broker_profile"].endswith("; give the broker its former profile, and restore again")
    assert files(workflow) == before


@pytest.mark.parametrize("also", [[], ["cci_csv"]], ids=["alone", "with another"])
def test_document_of_removed_profile_is_restored_when_the_profile_is_back(
    workflow: WorkflowHarness, also: list[str]
) -> None:
    with_profile(workflow)
    export_id = execute_export(workflow)
    before = files(workflow)
    with_profile(workflow, None)
    for artifact_type in ("broker_profile", *also):
        blob_path(workflow, rows(workflow)[export_id, 1, artifact_type]).unlink()
    report, bad = check_store(workflow.runtime, restore=True)
    assert (report.unrestored, report.restored) == (1, len(also))
    reason = bad[export_id, 1, "broker_profile"].reason
    assert reason == "the broker no longer has a profile; give the broker its former profile, and restore again"
    with_profile(workflow)
    report, _ = check_store(workflow.runtime, restore=True)
    assert (report.unrestored, files(workflow)) == (0, before)


def test_restore_reports_unit_that_cannot_be_rendered_and_restores_others(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = execute_export(workflow, "a"), execute_export(workflow, "b")
    shutil.rmtree(Path(workflow.store.url.removeprefix("file:")) / "sha256")
    real = render_documents.render_unit

    def breaks(runtime: Runtime, context: StepContext) -> Iterator[Document]:
        if context.export_id == broken:
            raise RendererCrashed("the PDF engine died of SIGSEGV")
        return real(runtime, context)

    monkeypatch.setattr(render_documents, "render_unit", breaks)
    report, bad = check_store(workflow.runtime, restore=True)
    assert report.unrestored == sum(1 for key in bad if key[0] == broken) > 0
    assert {each.reason for key, each in bad.items() if key[0] == broken} == {
        "its unit cannot be rendered again: the PDF engine died of SIGSEGV; see `exports rebuild --check`"
    }
    assert all(each.restored for key, each in bad.items() if key[0] == sound)


def test_check_reports_unreadable_document_and_ends_if_store_is_down(
    workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = execute_export(workflow)
    recorded = rows(workflow)
    real = ArtifactStore.condition
    unreadable = {recorded[export_id, 1, "cci_csv"]}

    def condition(store: ArtifactStore, sha256: str) -> BlobCondition:
        if sha256 in unreadable:
            raise StoreUnavailable(f"document {sha256} cannot be read: PermissionDeniedError")
        return real(store, sha256)

    monkeypatch.setattr(ArtifactStore, "condition", condition)
    report, bad = check_store(workflow.runtime, restore=True)
    (one,) = bad.values()
    assert (report.unrestored, one.condition, one.artifact_type) == (1, "unreadable", "cci_csv")
    assert str(one.reason).endswith("cannot be read: PermissionDeniedError")
    unreadable |= set(recorded.values())
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        check_store(workflow.runtime)


# The store's folder


@pytest.fixture
def reopened_workflow(workflow: WorkflowHarness) -> Iterator[WorkflowHarness]:
    """Yield the same service after a restart, which asks the database whether the folder may be created."""
    runtime = open_runtime(workflow.runtime.settings, clock=workflow.clock)
    yield replace(workflow, runtime=runtime)
    runtime.close()


def test_missing_folder_of_used_store_is_not_created(
    workflow: WorkflowHarness, reopened_workflow: WorkflowHarness
) -> None:
    execute_export(workflow, "a")
    folder = Path(workflow.store.url.removeprefix("file:"))
    shutil.move(folder, folder.with_name("elsewhere"))
    export_id = workflow.accept(factories.plan(batch="b", invoice="B")).export_id
    reopened_workflow.step(export_id, 1, "record_packages")
    assert reopened_workflow.step(export_id, 1, "render_documents") == ()
    row = workflow.one(select(Step).where(*count_at_documents(export_id)))
    assert row.attempts == 0
    for ask in (
        reopened_workflow.runtime.store.check,
        lambda: check_store(reopened_workflow.runtime),
        lambda: check_store(reopened_workflow.runtime, restore=True),
    ):
        with pytest.raises(StoreUnavailable, match=f"the artifact store's folder {folder} is missing; mount its disk"):
            ask()
    assert not folder.exists()
    shutil.move(folder.with_name("elsewhere"), folder)
    with workflow.runtime.db.write() as session:  # end its pause here, because PostgreSQL has its own clock
        session.execute(
            update(Step).where(*count_at_documents(export_id)).values(lease_until=None, due_at=database_now())
        )
    assert "render_documents" in reopened_workflow.step(export_id, 1, "render_documents")
    assert check_store(reopened_workflow.runtime)[0].unrestored == 0


def count_at_documents(export_id: str) -> tuple[ColumnElement[bool], ...]:
    return col(Step.export_id) == export_id, col(Step.name) == "render_documents"


def test_empty_folder_of_used_store_is_restored(workflow: WorkflowHarness, reopened_workflow: WorkflowHarness) -> None:
    execute_export(workflow)
    before = files(workflow)
    folder = Path(workflow.store.url.removeprefix("file:"))
    shutil.rmtree(folder)
    folder.mkdir()
    assert check_store(reopened_workflow.runtime, restore=True)[0].unrestored == 0
    assert files(workflow) == before


def test_folder_of_new_service_is_created_with_the_first_document(
    workflow: WorkflowHarness, reopened_workflow: WorkflowHarness
) -> None:
    folder = Path(workflow.store.url.removeprefix("file:"))
    assert not folder.exists()
    assert check_store(reopened_workflow.runtime)[0].documents == 0
    assert not folder.exists()
    execute_export(reopened_workflow)
    assert check_store(reopened_workflow.runtime)[0].unrestored == 0
    retention.purge_expired(reopened_workflow.runtime, date(2040, 1, 1))
    shutil.rmtree(folder)
    reopened_workflow.runtime.store.check()
    assert folder.is_dir(), "the folder may be created, because no document is recorded"


def test_restore_reports_changed_records(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    workflow.change(update(ExportPackage).where(col(ExportPackage.export_id) == export_id).values(sscc=None))
    blob_path(workflow, rows(workflow)[export_id, 1, "packing_list"]).unlink()
    report, bad = check_store(workflow.runtime, restore=True)
    (one,) = bad.values()
    assert (report.unrestored, one.restored) == (1, False)
    assert "records have changed since" in str(one.reason)
