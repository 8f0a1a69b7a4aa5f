"""A purge before a backup, and one while a backup is taken."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

from pipeline.core.blob_store import ArtifactStore
from pipeline.exports.models import Artifact
from pipeline.ops import backup, retention
from tests.ops.test_retention import execute_export, plan, rows, today
from tests.workflow.conftest import WorkflowHarness

__all__ = ["today"]


def test_backup_after_purge_copies_only_kept_documents(workflow: WorkflowHarness, today: date, tmp_path: Path) -> None:
    execute_export(workflow, plan("gone"))
    kept_id = execute_export(workflow, plan("kept", arrival="2026-12-20T12:00:00Z"))
    retention.purge_expired(workflow.runtime, date(2032, 11, 27))
    taken = backup.create_backup(workflow.runtime, tmp_path / "copy")
    assert taken.documents == len({row.sha256 for row in rows(workflow, Artifact, kept_id)})  # type: ignore[attr-defined]


class PurgedWhenAsked(ArtifactStore):
    """A store that runs a purge when its first document is read."""

    purge: Callable[[], object] = staticmethod(lambda: None)

    def get(self, sha256: str) -> bytes:
        purge, self.purge = self.purge, lambda: None
        purge()
        return super().get(sha256)


def test_purge_during_backup_is_not_reported_as_missing(workflow: WorkflowHarness, today: date, tmp_path: Path) -> None:
    gone_id = execute_export(workflow, plan("gone"))
    kept_id = execute_export(workflow, plan("kept", arrival="2026-12-20T12:00:00Z"))
    kept, gone = ({row.sha256 for row in rows(workflow, Artifact, each)} for each in (kept_id, gone_id))  # type: ignore[attr-defined]
    store = PurgedWhenAsked(workflow.runtime.store.url)
    store.purge = lambda: retention.purge_expired(workflow.runtime, date(2032, 11, 27))
    taken = backup.create_backup(replace(workflow.runtime, store=store), tmp_path / "copy")
    assert (taken.documents, taken.purged, taken.missing) == (len(kept), len(gone - kept), [])
