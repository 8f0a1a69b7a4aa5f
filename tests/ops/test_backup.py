"""A backup: what it copies and lists, where it refuses to write, and who may read it."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlmodel import col

from config.settings import HOME
from pipeline.core.blob_store import ArtifactStore
from pipeline.core.db import Database
from pipeline.core.errors import InvalidState, StoreUnavailable
from pipeline.exports.models import Artifact
from pipeline.ops import backup
from tests.workflow.conftest import WorkflowHarness


def test_documented_backup_takes_the_checkpoint_first() -> None:
    lines = (HOME / "docs" / "deployment.md").read_text(encoding="utf-8").splitlines()
    steps = [
        name
        for line in lines
        for name in ("audit checkpoint", "exports backup /", "pg_dump --enable")
        if line.startswith("$ ") and name in line
    ]
    assert steps == ["audit checkpoint", "exports backup /", "audit checkpoint", "pg_dump --enable"]


def test_create_backup_in_used_folder_is_refused(workflow: WorkflowHarness, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    backup.create_backup(workflow.runtime, folder)
    before = (folder / backup.DATABASE).read_bytes()
    with pytest.raises(InvalidState, match="is not empty"):
        backup.create_backup(workflow.runtime, folder)
    assert (folder / backup.DATABASE).read_bytes() == before


def test_create_backup_lists_missing_and_damaged_documents(workflow: WorkflowHarness, tmp_path: Path) -> None:
    export_id, documents = render_export(workflow)
    (lost, lost_file), (rotten, rotten_file), *sound = documents
    read_stored(tmp_path, lost).unlink()
    read_stored(tmp_path, rotten).write_bytes(b"not what was stored")
    taken = backup.create_backup(workflow.runtime, tmp_path / "copy")
    assert sorted(taken.missing, key=lambda each: each.filename != lost_file) == [
        backup.MissingDocument(export_id, lost_file, f"document {lost} is not in the store"),
        backup.MissingDocument(
            export_id, rotten_file, f"document {rotten} has changed in the store; its hash does not fit"
        ),
    ]
    copied = {path.name for path in (tmp_path / "copy" / backup.DOCUMENTS).rglob("*") if path.is_file()}
    assert (copied, taken.documents, taken.purged) == ({sha256 for sha256, _ in sound}, len(sound), 0)
    assert (tmp_path / "copy" / backup.DATABASE).exists()


class UnreachableStore(ArtifactStore):
    """A store that stops answering after its first document, until `back` is set."""

    calls = 0
    back = False

    def get(self, sha256: str) -> bytes:
        """Return a document, but only the first time while the store is away."""
        self.calls += 1
        if self.calls > 1 and not self.back:
            raise StoreUnavailable("the store is away")
        return super().get(sha256)

    def has(self, sha256: str) -> bool:
        """Raise StoreUnavailable, as an unreachable store does."""
        raise StoreUnavailable("the store is away")


@pytest.mark.parametrize("is_new", [True, False], ids=["new folder", "empty folder"])
def test_create_backup_that_fails_leaves_nothing_and_can_be_repeated(
    workflow: WorkflowHarness, tmp_path: Path, *, is_new: bool
) -> None:
    _, documents = render_export(workflow)
    folder = tmp_path / "copy"
    if not is_new:
        folder.mkdir()
    store = UnreachableStore(workflow.runtime.store.url)
    runtime = replace(workflow.runtime, store=store)
    with pytest.raises(StoreUnavailable):
        backup.create_backup(runtime, folder)
    assert (folder.exists(), [*folder.glob("*")]) == (not is_new, [])
    store.back = True
    assert backup.create_backup(runtime, folder).documents == len(documents)


def test_create_backup_is_readable_only_by_its_owner(workflow: WorkflowHarness, tmp_path: Path) -> None:
    render_export(workflow)
    before = os.umask(0o022)
    try:
        backup.create_backup(workflow.runtime, tmp_path / "copy")
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    modes = {
        (path.is_dir(), path.stat().st_mode & 0o777) for path in [tmp_path / "copy", *(tmp_path / "copy").rglob("*")]
    }
    assert modes == {(True, 0o700), (False, 0o600)}


def test_database_is_readable_only_by_its_owner(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        database = Database(f"sqlite:///{tmp_path / 'var' / 'exports.db'}")
        with database.write() as session:
            session.execute(text("CREATE TABLE kept (id INTEGER)"))
            files = {
                path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "var", *(tmp_path / "var").iterdir()]
            }
        database.dispose()
    finally:
        os.umask(before)
    names = ("exports.db", "exports.db-shm", "exports.db-wal")
    assert files == {"var": 0o700} | dict.fromkeys(names, 0o600)


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 5000])
def test_create_backup_in_impossible_folder_is_refused(workflow: WorkflowHarness, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidState, match="cannot be created"):
        backup.create_backup(workflow.runtime, tmp_path / name)


def render_export(workflow: WorkflowHarness) -> tuple[str, Sequence[tuple[str, str]]]:
    """Render the documents of an export; return its id and their hashes and file names."""
    export_id = workflow.accept().export_id
    workflow.step(export_id, 1, "record_packages")
    workflow.step(export_id, 1, "render_documents")
    with workflow.runtime.db.read() as session:
        found = session.execute(select(col(Artifact.sha256), col(Artifact.filename)).order_by(col(Artifact.sha256)))
        return export_id, [(sha256, filename) for sha256, filename in found]


def read_stored(home: Path, sha256: str) -> Path:
    (path,) = (home / "artifacts").rglob(sha256)
    return path
