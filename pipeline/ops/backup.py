"""A backup of the data of one machine, taken while the service runs: first the database, then its documents."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import select
from sqlmodel import col

from pipeline.core.blob_store import ArtifactStore
from pipeline.core.errors import ArtifactConflict, InvalidState, StoreUnavailable
from pipeline.core.runtime import Runtime
from pipeline.exports.file_models import ConversationFile
from pipeline.exports.models import Artifact, Export

DATABASE: Final = "exports.db"
DOCUMENTS: Final = "artifacts"
_UNFINISHED: Final = f"{DATABASE}.part"
#: Of purged documents only the hashes are kept.
_KEPT: Final = "FROM (SELECT sha256 FROM artifacts WHERE purged_at IS NULL UNION SELECT sha256 FROM attachments WHERE purged_at IS NULL)"
#: A backup holds prices, addresses and sealed secrets, so only its owner may read it.
_OWNER_ONLY: Final = 0o077


@dataclass(frozen=True)
class MissingDocument:
    """A document that the backup lacks: an export names it, but the store lacks it or holds other bytes."""

    export_id: str
    filename: str
    reason: str


@dataclass
class Backup:
    """The result of a backup; `missing` lists what it lacks, `purged` counts documents purged while it ran."""

    folder: Path
    exports: int = 0
    documents: int = 0
    done: int = 0  # documents that were looked at, of `total`
    total: int = 0
    size: int = 0
    purged: int = 0
    missing: list[MissingDocument] = field(default_factory=list)


def create_backup(runtime: Runtime, folder: Path, report: Callable[[Backup], None] = lambda _: None) -> Backup:
    """Copy the SQLite database and its documents into `folder`, which is new or empty; writers are not stopped.

    The database is copied first, as of one instant. A document is stored before any row names it, so every document of
    the copied database can be copied afterwards, unless it is purged meanwhile. Each document is checked against its
    hash. The result lists those that are missing. Only the owner can read the backup. `report` is called after each document.

    Raises InvalidState if the database is not SQLite, the folder is not empty, or the copy cannot be written. Raises
    StoreUnavailable if the store does not answer. After an error the folder is left empty.
    """
    source = runtime.db.url.database
    if not runtime.db.is_sqlite or source is None:
        raise InvalidState(
            "only SQLite is backed up by this command; use pg_dump for PostgreSQL, see docs/deployment.md"
        )
    with _owner_only_umask():
        is_new = _prepare_folder(folder)
        try:
            return _copy(runtime, source, folder, report)
        except BaseException as error:
            _clean_up(folder, whole=is_new)
            if isinstance(error, OSError | sqlite3.Error):
                raise InvalidState(f"the backup cannot be written to {folder}: {error}") from error
            raise


@contextmanager
def _owner_only_umask() -> Iterator[None]:
    before = os.umask(_OWNER_ONLY)
    try:
        yield
    finally:
        os.umask(before)


def _prepare_folder(folder: Path) -> bool:
    """Create the folder if it is missing; return whether it is new. Raise InvalidState if it cannot be used."""
    try:
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        existing = {each.name for each in folder.iterdir()}
    except OSError as error:
        raise InvalidState(f"the folder {folder} cannot be created: {error.strerror}") from error
    if _UNFINISHED in existing:
        raise InvalidState(f"{folder} holds an unfinished backup; remove the folder, or name another one")
    if existing:
        raise InvalidState(f"{folder} is not empty; name a new or empty folder")
    return is_new


def _clean_up(folder: Path, *, whole: bool) -> None:
    shutil.rmtree(folder / DOCUMENTS, ignore_errors=True)
    with suppress(OSError):
        for leftover in (_UNFINISHED, f"{_UNFINISHED}-journal"):
            (folder / leftover).unlink(missing_ok=True)
        if whole:
            folder.rmdir()


def _copy(runtime: Runtime, source: str, folder: Path, report: Callable[[Backup], None]) -> Backup:
    backup = Backup(folder)
    unfinished = folder / _UNFINISHED
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(unfinished)) as copy:
        # All pages in one step: a reader's snapshot, which does not block writers in WAL mode.
        live.backup(copy, pages=-1)
        # One file without a WAL file; the service turns WAL on again when it opens the database.
        copy.execute("PRAGMA journal_mode=DELETE")
        (sound,) = copy.execute("PRAGMA integrity_check").fetchone()
        if sound != "ok":
            raise InvalidState(f"the copy of the database is damaged: {sound}")
        (backup.exports,) = copy.execute("SELECT count(*) FROM exports").fetchone()
        target = ArtifactStore(f"file:{folder.resolve() / DOCUMENTS}")
        (backup.total,) = copy.execute(f"SELECT count(DISTINCT sha256) {_KEPT}").fetchone()
        for sha256 in _recorded_hashes(copy):
            _copy_document(runtime, target, sha256, backup)
            backup.done += 1
            report(backup)
    # Renamed last: if this file has its final name, the backup is complete.
    unfinished.replace(folder / DATABASE)
    return backup


def _recorded_hashes(copy: sqlite3.Connection) -> Iterator[str]:
    for (sha256,) in copy.execute(f"SELECT DISTINCT sha256 {_KEPT} ORDER BY sha256"):
        yield str(sha256)


def _copy_document(runtime: Runtime, target: ArtifactStore, sha256: str, backup: Backup) -> None:
    try:
        body = runtime.store.get(sha256)
    except (StoreUnavailable, ArtifactConflict) as error:
        # `has` raises StoreUnavailable if the store does not answer at all, which ends the backup.
        reason = str(error) if runtime.store.has(sha256) else f"document {sha256} is not in the store"
        affected = _documents_with_hash(runtime, sha256)
        backup.missing += [MissingDocument(export_id, filename, reason) for export_id, filename in affected]
        backup.purged += not affected
        return
    try:
        target.put(body)
    except StoreUnavailable as error:
        raise InvalidState(f"the backup cannot be written to {backup.folder}: {error}") from error
    backup.documents += 1
    backup.size += len(body)


def _documents_with_hash(runtime: Runtime, sha256: str) -> Sequence[tuple[str, str]]:
    """Return the current documents with these bytes, as export ids and file names; empty if all of them were purged."""
    queries = [
        select(col(model.export_id), col(model.filename))
        .join(Export, col(Export.id) == col(model.export_id))
        .where(col(model.sha256) == sha256, col(Export.purged_at).is_(None))
        .order_by(col(model.id))
        for model in (Artifact, ConversationFile)
    ]
    with runtime.db.read() as session:
        return [(export_id, filename or "") for query in queries for export_id, filename in session.execute(query)]
