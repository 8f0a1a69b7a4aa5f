"""Documents of an export as they are kept: their bytes in the store, a row and an event each; and how they are let go of.

Exports share the bytes of equal documents, so that a purge might delete what another export has just found in the store
and is about to record. Both lock a row of the hash first: whoever comes second sees what the first has done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, func, insert, or_, select, update
from sqlmodel import Session, col
from sqlmodel import select as sqlmodel_select

from pipeline.core.blob_store import ArtifactStore
from pipeline.core.db import database_now, table
from pipeline.core.errors import NotFound, StoreUnavailable
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.documents.registry import Document
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Artifact, Export
from pipeline.exports.step_context import StepContext

ArtifactRow = Mapping[str, Any]

#: What a purge leaves of a document that lies in a row.
PURGED: Final = "{}"

_artifacts, _exports = table(Artifact).c, table(Export).c

# One row stands for all of a hash, the first: equal documents may be many.
_first_rows = (
    select(func.min(_artifacts.id))
    .where(_artifacts.sha256.in_(bindparam("hashes", expanding=True)))
    .group_by(_artifacts.sha256)
)
#: Always in one order, so that two of them never wait for each other.
_SAME_BYTES: Final = (
    select(_artifacts.sha256, or_(_artifacts.purged_at.is_not(None), _exports.purged_at.is_not(None)).label("purged"))
    .join(table(Export), _exports.id == _artifacts.export_id)
    .where(_artifacts.id.in_(_first_rows))
    .order_by(_artifacts.id)
)
_LOCK_TO_RECORD: Final = _SAME_BYTES.with_for_update(read=True, of=table(Artifact))
_LOCK_TO_DELETE: Final = _SAME_BYTES.with_for_update(of=table(Artifact))


def store_document(runtime: Runtime, context: StepContext, unit_no: int, document: Document) -> ArtifactRow:
    """Put the document into the store and return the row that records it.

    Raises StoreUnavailable, which is worth another try.
    """
    return {
        "id": new_id("art"),
        "export_id": context.export_id,
        "unit_no": unit_no,
        "account_id": context.account_id,
        "artifact_type": document.artifact_type,
        "filename": document.filename,
        "media_type": document.media_type,
        "template_version": document.template_version,
        "size": len(document.body),
        "sha256": runtime.store.put(document.body),
    }


def record_documents(session: Session, store: ArtifactStore, rows: Sequence[ArtifactRow]) -> list[NewEvent]:
    """Write the rows, and return the event of each.

    Raises StoreUnavailable where a purge has deleted the bytes of one since they were found in the store: the next try
    puts them there again.
    """
    if rows:
        same_hash = session.execute(_LOCK_TO_RECORD, {"hashes": [row["sha256"] for row in rows]}).all()
        # Only under the lock can no purge follow that deletes them. It is a look of some seconds at the most, where equal
        # bytes were ever purged, and no other step reaches outside in its transaction.
        for sha256 in {each.sha256 for each in same_hash if each.purged}:
            if not store.has(sha256):
                raise StoreUnavailable(f"document {sha256} was purged with another export just now")
        session.execute(insert(Artifact), list(rows))
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


def delete_unreferenced(runtime: Runtime, sha256: str) -> bool:
    """Mark the document of purged exports as gone, and tell whether its bytes were deleted: not where another export has them.

    The bytes go in the transaction, which holds the lock; where it is broken off, letting go once more is harmless.
    Raises StoreUnavailable.
    """
    with runtime.db.write() as session:
        session.execute(_LOCK_TO_DELETE, {"hashes": [sha256]})
        # Asked anew: whoever was waited for may have recorded it.
        has_hash = col(Artifact.sha256) == sha256
        is_referenced = _is_referenced(session, sha256)
        if not is_referenced:
            runtime.store.delete(sha256)
        purged_exports = select(col(Export.id)).where(col(Export.purged_at).is_not(None))
        session.execute(
            update(Artifact)
            .where(has_hash, col(Artifact.purged_at).is_(None), col(Artifact.export_id).in_(purged_exports))
            .values(purged_at=database_now())
            .execution_options(synchronize_session=False)
        )
    return not is_referenced


def restore_document(runtime: Runtime, sha256: str, body: bytes) -> bool:
    """Put a recorded document into the store again, and tell whether it was: not where all exports that had it are purged.

    `body` are the bytes whose SHA-256 is `sha256`. Raises StoreUnavailable.
    """
    with runtime.db.write() as session:
        # Only under the lock can no purge follow that knows nothing of these bytes.
        session.execute(_LOCK_TO_RECORD, {"hashes": [sha256]})
        is_referenced = _is_referenced(session, sha256)
        if is_referenced:
            runtime.store.put(body)
    return is_referenced


def _is_referenced(session: Session, sha256: str) -> bool:
    of_an_export = (
        select(col(Artifact.id))
        .join(Export, col(Export.id) == col(Artifact.export_id))
        .where(col(Artifact.sha256) == sha256, col(Export.purged_at).is_(None))
        .limit(1)
    )
    return session.scalar(of_an_export) is not None


@dataclass(frozen=True)
class BrokerDocument:
    """A document, and the customs broker that it is made for."""

    artifact: Artifact
    broker_id: str


def find_artifact(session: Session, account_id: str, artifact_id: str) -> BrokerDocument:
    """Return the document's row; raises NotFound, also for what belongs to another account."""
    found = session.execute(
        sqlmodel_select(Artifact, Export.broker_id, col(Export.purged_at))
        .join(Export, col(Export.id) == col(Artifact.export_id))
        .where(col(Artifact.id) == artifact_id, col(Artifact.account_id) == account_id)
    ).first()
    if found is None:
        raise NotFound(f"there is no artifact {artifact_id} in this account")
    if found[2] is not None:
        raise NotFound(f"artifact {artifact_id} was purged when its retention ended; its SHA-256 was {found[0].sha256}")
    return BrokerDocument(found[0], found[1])
