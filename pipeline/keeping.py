"""Documents of an export as they are kept: their bytes in the store, a row and an event each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session

from pipeline.documents.document import Document
from pipeline.events import EventType, NewEvent
from pipeline.ids import new_id
from pipeline.models import Artifact
from pipeline.runtime import Runtime
from pipeline.steps import StepContext

Row = Mapping[str, Any]


def keep(runtime: Runtime, context: StepContext, unit_no: int, document: Document) -> Row:
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


def record(session: Session, rows: Sequence[Row]) -> list[NewEvent]:
    """Write the rows, and return the event of each."""
    if rows:
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
