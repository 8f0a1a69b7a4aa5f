"""A copy of everything that the service keeps on one machine, taken while it works: the database, then its documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.artifacts import ArtifactStore
from pipeline.errors import InvalidState
from pipeline.runtime import Runtime

DATABASE: Final = "exports.db"
DOCUMENTS: Final = "artifacts"


@dataclass(frozen=True)
class Backup:
    """What a copy holds."""

    folder: Path
    exports: int
    documents: int
    size: int


def take(runtime: Runtime, folder: Path) -> Backup:
    """Copy the SQLite database and every document that it names into `folder`, which is new or empty; writers go on meanwhile.

    The database is copied first, as of one instant. A document is in the store before any row names it, so that those of
    the copy are all there to be copied after it, and each is proven by its hash.

    Raises InvalidState where the database is none of SQLite's or the folder is not empty, and what the store raises.
    """
    source = runtime.db.url.database
    if not runtime.db.is_sqlite or source is None:
        raise InvalidState("only SQLite is backed up by this command; PostgreSQL has pg_dump, see docs/deployment.md")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InvalidState(f"{folder} is not empty; a backup goes into a folder of its own")
    unfinished = folder / f"{DATABASE}.part"
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(unfinished)) as copy:
        # All pages in one go: a reader's snapshot, which in WAL mode stops no writer.
        live.backup(copy, pages=-1)
        # One file that is whole by itself; the service turns WAL on again when it opens it.
        copy.execute("PRAGMA journal_mode=DELETE")
        (sound,) = copy.execute("PRAGMA integrity_check").fetchone()
        if sound != "ok":
            raise InvalidState(f"the copy of the database is not whole: {sound}")
        (exports,) = copy.execute("SELECT count(*) FROM exports").fetchone()
        documents, size = _copy_documents(runtime.store, ArtifactStore(f"file:{folder / DOCUMENTS}"), copy)
    # Last: where this file has its name, the backup is whole.
    unfinished.replace(folder / DATABASE)
    return Backup(folder, exports, documents, size)


def _copy_documents(source: ArtifactStore, target: ArtifactStore, copy: sqlite3.Connection) -> tuple[int, int]:
    documents = size = 0
    for sha256 in _named(copy):
        body = source.get(sha256)
        target.put(body)
        documents += 1
        size += len(body)
    return documents, size


def _named(copy: sqlite3.Connection) -> Iterator[str]:
    # Of what was purged the hashes are kept, and no bytes.
    for (sha256,) in copy.execute("SELECT DISTINCT sha256 FROM artifacts WHERE purged_at IS NULL ORDER BY sha256"):
        yield str(sha256)
