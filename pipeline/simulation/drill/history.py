"""The history of a drill: requests and answers, messages to partners, kills, and the stored state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import or_, select
from sqlmodel import col

from pipeline.core.errors import ArtifactConflict, StoreUnavailable
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Delivery
from pipeline.exports.event_models import Event
from pipeline.exports.models import Artifact, Export
from pipeline.exports.states import ACTIVE_STATES, DeliveryState

#: The last message that is sent for an export; it proves that the export ended well.
EXPORT_EXECUTED: Final = "exports.export.executed.v1"
HANDOFF_READY: Final = "exports.handoff.ready.v1"
PACKAGE_RECORDED: Final = "exports.package.recorded.v1"


@dataclass
class SubmittedPlan:
    """One plan that a caller submitted; all instants are seconds since the start of the drill.

    `export_ids` are the export ids of all answers, in order. `requests` counts the requests, with and without an
    answer. `packages` is the number of messages that the warehouse must receive.
    """

    batch_id: str
    packages: int
    started_at: float
    requests: int = 0
    export_ids: list[str] = field(default_factory=list)
    answered_at: float | None = None


@dataclass(frozen=True)
class PartnerMessage:
    """One message that a partner's endpoint accepted."""

    received_at: float
    message_id: str
    event_type: str
    export_id: str


@dataclass(frozen=True)
class Kill:
    """One kill -9: the killed process, and when the API answered again."""

    killed_at: float
    process: str
    ready_at: float


@dataclass(frozen=True)
class StoredExport:
    """An export in the database; `failure` is the reason if it failed."""

    export_id: str
    batch_id: str
    state: str
    failure: str | None = None


@dataclass(frozen=True)
class StoredEvent:
    """An event of the log; `subject` (unit, document) separates repeated events of the same type."""

    export_id: str
    seq: int
    type: str
    subject: str = ""


@dataclass(frozen=True)
class StoredDocument:
    """A document's row; `is_intact` says whether the store holds exactly its bytes."""

    export_id: str
    name: str
    is_intact: bool


@dataclass(frozen=True)
class StoredDelivery:
    """A delivery in the database, with its state."""

    export_id: str
    message_id: str
    state: str


@dataclass(frozen=True)
class StoredState:
    """The contents of the database and the document store when no work is left."""

    exports: Sequence[StoredExport]
    events: Sequence[StoredEvent]
    documents: Sequence[StoredDocument]
    deliveries: Sequence[StoredDelivery]


@dataclass(frozen=True)
class DrillHistory:
    """Everything that the judge uses; `inspected` maps each export to its final state in the API."""

    submissions: Sequence[SubmittedPlan]
    received: Sequence[PartnerMessage]
    kills: Sequence[Kill]
    stored: StoredState
    inspected: Mapping[str, str]
    seconds: float


_UNDELIVERED: Final = (DeliveryState.WAITING.value, DeliveryState.PENDING.value)


def is_unsettled(runtime: Runtime) -> bool:
    """Return whether any export has not ended, or any delivery is still pending."""
    remaining = or_(
        select(col(Export.id)).where(col(Export.state).in_(ACTIVE_STATES)).exists(),
        select(col(Delivery.id)).where(col(Delivery.state).in_(_UNDELIVERED)).exists(),
    )
    with runtime.db.read() as session:
        return bool(session.scalar(select(remaining)))


def read_stored_state(runtime: Runtime) -> StoredState:
    """Return the stored state for the judge."""
    with runtime.db.read() as session:
        exports = session.execute(select(col(Export.id), col(Export.batch_id), col(Export.state), col(Export.failure)))
        stored_exports = [StoredExport(*row) for row in exports]
        events = session.execute(select(col(Event.export_id), col(Event.seq), col(Event.type), col(Event.data)))
        stored_events = [StoredEvent(export_id, seq, kind, _subject(data)) for export_id, seq, kind, data in events]
        documents = session.execute(
            select(col(Artifact.export_id), col(Artifact.unit_no), col(Artifact.artifact_type), col(Artifact.sha256))
        ).all()
        deliveries = session.execute(
            select(col(Delivery.subject_id), col(Delivery.notification_id), col(Delivery.state))
        )
        stored_deliveries = [StoredDelivery(*row) for row in deliveries]
    intact = {sha256: _is_intact(runtime, sha256) for sha256 in {row.sha256 for row in documents}}
    return StoredState(
        stored_exports,
        stored_events,
        [
            StoredDocument(row.export_id, f"{row.artifact_type} of unit {row.unit_no}", intact[row.sha256])
            for row in documents
        ],
        stored_deliveries,
    )


def _subject(data: dict[str, Any]) -> str:
    return " ".join(str(data[name]) for name in ("unitNo", "artifactType") if name in data)


def _is_intact(runtime: Runtime, sha256: str) -> bool:
    try:
        runtime.store.get(sha256)
    except (StoreUnavailable, ArtifactConflict):
        return False
    return True
