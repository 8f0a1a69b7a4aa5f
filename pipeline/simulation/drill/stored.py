"""Reads from the database and the document store what a drill has left there."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import or_, select
from sqlmodel import col

from pipeline.core.errors import ArtifactConflict, StoreUnavailable
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Delivery
from pipeline.exports.models import Artifact, Event, Export
from pipeline.exports.states import UNENDED, DeliveryState
from pipeline.simulation.drill.history import Owed, Stored, StoredDocument, StoredEvent, StoredExport

_UNDELIVERED: Final = (DeliveryState.WAITING.value, DeliveryState.PENDING.value)


def unsettled(runtime: Runtime) -> bool:
    """Tell whether any export has not ended, or any message is still owed."""
    left = or_(
        select(col(Export.id)).where(col(Export.state).in_(UNENDED)).exists(),
        select(col(Delivery.id)).where(col(Delivery.state).in_(_UNDELIVERED)).exists(),
    )
    with runtime.db.read() as session:
        return bool(session.scalar(select(left)))


def read(runtime: Runtime) -> Stored:
    """Return everything that the judge asks for."""
    with runtime.db.read() as session:
        exports = session.execute(select(col(Export.id), col(Export.batch_id), col(Export.state), col(Export.failure)))
        stored = [StoredExport(*row) for row in exports]
        events = session.execute(select(col(Event.export_id), col(Event.seq), col(Event.type), col(Event.data)))
        happened = [StoredEvent(export_id, seq, kind, _subject(data)) for export_id, seq, kind, data in events]
        documents = session.execute(
            select(col(Artifact.export_id), col(Artifact.unit_no), col(Artifact.artifact_type), col(Artifact.sha256))
        ).all()
        deliveries = session.execute(
            select(col(Delivery.export_id), col(Delivery.notification_id), col(Delivery.state))
        )
        owed = [Owed(*row) for row in deliveries]
    kept = {sha256: _is_kept(runtime, sha256) for sha256 in {row.sha256 for row in documents}}
    return Stored(
        stored,
        happened,
        [
            StoredDocument(row.export_id, f"{row.artifact_type} of unit {row.unit_no}", kept[row.sha256])
            for row in documents
        ],
        owed,
    )


def _subject(data: dict[str, Any]) -> str:
    return " ".join(str(data[name]) for name in ("unitNo", "artifactType") if name in data)


def _is_kept(runtime: Runtime, sha256: str) -> bool:
    try:
        runtime.store.get(sha256)
    except (StoreUnavailable, ArtifactConflict):
        return False
    return True
