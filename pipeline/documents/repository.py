"""Stores, records, deletes and restores the documents of exports: bytes in the store, one row and one event each.

Exports share the bytes of equal documents. A purge could delete bytes that another export has just found in the store
and is about to record. So both lock a row with the hash first, and the second sees what the first has done.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, bindparam, func, insert, or_, select, update
from sqlmodel import Session, col
from sqlmodel import select as sqlmodel_select

from pipeline.core import shutdown
from pipeline.core.blob_store import ArtifactStore
from pipeline.core.db import database_now, table
from pipeline.core.errors import NotFound, StoreUnavailable
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.documents.registry import Document
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.file_models import ConversationFile
from pipeline.exports.models import Artifact, Export
from pipeline.exports.step_context import StepContext

ArtifactRow = Mapping[str, Any]

#: Documents are put into the store together when they have so many bytes; a larger one is put at once.
TOGETHER_BYTES: Final = 4 * 1024**2

#: The value that a purge leaves in place of a document that is stored in a row.
PURGED: Final = "{}"

_INSERT_ARTIFACTS: Final = insert(table(Artifact))


def _select_same_bytes(model: type[Artifact | ConversationFile]) -> Select[tuple[str, bool]]:
    """Return the query for the rows that are the locks of these hashes, and whether their bytes were purged."""
    rows, exports = table(model).c, table(Export).c
    # The first row of a hash is the lock for all of its rows: there may be many equal documents.
    first_rows = select(func.min(rows.id)).where(rows.sha256.in_(bindparam("hashes", expanding=True)))
    purged = or_(rows.purged_at.is_not(None), exports.purged_at.is_not(None))
    # The rows are always locked in the same order, so two transactions cannot deadlock.
    return (
        select(rows.sha256, purged.label("purged"))
        .join(table(Export), exports.id == rows.export_id)
        .where(rows.id.in_(first_rows.group_by(rows.sha256)))
        .order_by(rows.id)
    )


# Documents and attachments share bytes. If the rows of both are locked, the document's is always the first.
_LOCK_TO_RECORD, _LOCK_TO_ATTACH = (
    _select_same_bytes(model).with_for_update(read=True, of=table(model)) for model in (Artifact, ConversationFile)
)
_LOCKS_TO_DELETE: Final = [
    _select_same_bytes(model).with_for_update(of=table(model)) for model in (Artifact, ConversationFile)
]


def store_document(runtime: Runtime, context: StepContext, unit_no: int, document: Document) -> ArtifactRow:
    """Put the document into the store and return the row that records it.

    Raises StoreUnavailable; the caller may retry.
    """
    return _store_together(runtime, context, unit_no, [document])[0]


def store_documents(
    runtime: Runtime, context: StepContext, unit_no: int, documents: Iterable[Document]
) -> list[ArtifactRow]:
    """Put the documents into the store and return the rows that record them.

    Small documents are put together, which costs less than one after another. Of large ones, only one is in memory at a
    time. Raises StoreUnavailable and what the iteration raises; the caller may retry. Raises Stopped between two documents.
    """
    rows: list[ArtifactRow] = []
    waiting: list[Document] = []
    for document in documents:
        waiting.append(document)
        if sum(len(each.body) for each in waiting) >= TOGETHER_BYTES:
            rows += _store_together(runtime, context, unit_no, waiting)
            waiting.clear()
        shutdown.raise_if_requested()
    return [*rows, *_store_together(runtime, context, unit_no, waiting)]


def _store_together(
    runtime: Runtime, context: StepContext, unit_no: int, documents: Sequence[Document]
) -> list[ArtifactRow]:
    hashes = runtime.store.put_all([document.body for document in documents])
    return [
        {
            "id": new_id("art"),
            "export_id": context.export_id,
            "unit_no": unit_no,
            "account_id": context.account_id,
            "artifact_type": document.artifact_type,
            "filename": document.filename,
            "media_type": document.media_type,
            "template_version": document.template_version,
            "size": len(document.body),
            "sha256": sha256,
        }
        for document, sha256 in zip(documents, hashes, strict=True)
    ]


def record_documents(session: Session, store: ArtifactStore, rows: Sequence[ArtifactRow]) -> list[NewEvent]:
    """Write the rows and return one event for each.

    Raises StoreUnavailable if a purge deleted the bytes of a row after they were found in the store. A retry stores them
    again.
    """
    if rows:
        _check_kept(store, session.execute(_LOCK_TO_RECORD, {"hashes": [row["sha256"] for row in rows]}).all())
        session.execute(_INSERT_ARTIFACTS, list(rows))
    return [
        NewEvent(
            EventType.CUSTOMS_ARTIFACT_GENERATED,
            {
                "artifactId": row["id"],
                "unitNo": row["unit_no"],
                "artifactType": row["artifact_type"],
                "filename": row["filename"],
                "mediaType": row["media_type"],
                "templateVersion": row["template_version"],
                "size": row["size"],
                "sha256": row["sha256"],
            },
        )
        for row in rows
    ]


def lock_to_attach(session: Session, store: ArtifactStore, hashes: Sequence[str]) -> None:
    """Lock the bytes with these hashes, so that no purge deletes them before the end of the transaction.

    Raises StoreUnavailable if a purge deleted them after they were stored. A retry stores them again.
    """
    for lock in (_LOCK_TO_RECORD, _LOCK_TO_ATTACH):
        _check_kept(store, session.execute(lock, {"hashes": hashes}).all())


def _check_kept(store: ArtifactStore, same_hash: Sequence[Any]) -> None:
    # Only under the lock no purge can delete the bytes after this check. The store is asked only if equal bytes were
    # purged before. That takes a few seconds at most; no other step calls another service inside its transaction.
    for sha256 in {each.sha256 for each in same_hash if each.purged}:
        if not store.has(sha256):
            raise StoreUnavailable(f"document {sha256} was just purged with another export; a retry stores it again")


def delete_unreferenced(runtime: Runtime, sha256: str) -> bool:
    """Mark the document or attachment of purged exports as purged; return whether its bytes were deleted.

    The bytes stay if an export that is not purged has them. They are deleted inside the transaction that holds the lock;
    if it fails, a repeated deletion is harmless. Raises StoreUnavailable.
    """
    with runtime.db.write() as session:
        for lock in _LOCKS_TO_DELETE:
            session.execute(lock, {"hashes": [sha256]})
        # Check after the lock: the transaction that held the lock before may have recorded the document.
        is_referenced = _is_referenced(session, sha256)
        if not is_referenced:
            runtime.store.delete(sha256)
        purged_exports = select(col(Export.id)).where(col(Export.purged_at).is_not(None))
        for model in (Artifact, ConversationFile):
            session.execute(
                update(model)
                .where(col(model.sha256) == sha256, col(model.purged_at).is_(None))
                .where(col(model.export_id).in_(purged_exports))
                .values(purged_at=database_now())
                .execution_options(synchronize_session=False)
            )
    return not is_referenced


def restore_document(runtime: Runtime, sha256: str, body: bytes) -> bool:
    """Put a recorded document into the store again; return False if all exports that had it are purged.

    `body` must be the bytes with this SHA-256. Raises StoreUnavailable.
    """
    with runtime.db.write() as session:
        # Only under the lock a purge cannot miss these bytes.
        for lock in (_LOCK_TO_RECORD, _LOCK_TO_ATTACH):
            session.execute(lock, {"hashes": [sha256]})
        is_referenced = _is_referenced(session, sha256)
        if is_referenced:
            runtime.store.put(body)
    return is_referenced


def _is_referenced(session: Session, sha256: str) -> bool:
    return any(
        session.scalar(
            select(col(model.id))
            .join(Export, col(Export.id) == col(model.export_id))
            .where(col(model.sha256) == sha256, col(Export.purged_at).is_(None))
            .limit(1)
        )
        is not None
        for model in (Artifact, ConversationFile)
    )


@dataclass(frozen=True)
class BrokerDocument:
    """A document, and the id of the customs broker that receives it."""

    artifact: Artifact
    broker_id: str


def find_artifact(session: Session, account_id: str, artifact_id: str) -> BrokerDocument:
    """Return the document's row; raises NotFound if it is unknown, of another account, or purged."""
    found = session.execute(
        sqlmodel_select(Artifact, Export.broker_id, col(Export.purged_at))
        .join(Export, col(Export.id) == col(Artifact.export_id))
        .where(col(Artifact.id) == artifact_id, col(Artifact.account_id) == account_id)
    ).first()
    if found is None:
        raise NotFound(f"artifact {artifact_id} does not exist in this account")
    if found[2] is not None:
        raise NotFound(f"artifact {artifact_id} was purged when its retention ended; its SHA-256 was {found[0].sha256}")
    return BrokerDocument(found[0], found[1])
