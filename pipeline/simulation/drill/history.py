"""What is known after a drill: what was asked and answered, what partners were sent, what was killed, and what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import or_, select
from sqlmodel import col

from pipeline.core.errors import ArtifactConflict, StoreUnavailable
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Delivery
from pipeline.exports.models import Artifact, Event, Export
from pipeline.exports.states import ACTIVE_STATES, DeliveryState

#: Partner and kind of message by which an export is known to have ended well: the last that is sent of it.
EXPORT_EXECUTED: Final = "exports.export.executed.v1"
HANDOFF_READY: Final = "exports.handoff.ready.v1"
PACKAGE_RECORDED: Final = "exports.package.recorded.v1"


@dataclass
class SubmittedPlan:
    """One plan that a caller had executed; all instants are seconds since the drill began.

    `export_ids` are the export ids of all answers that came, in order; `requests` counts the requests, so that those without an
    answer are the rest. `packages` is how many messages the warehouse is owed.
    """

    batch_id: str
    packages: int
    started_at: float
    requests: int = 0
    export_ids: list[str] = field(default_factory=list)
    answered_at: float | None = None


@dataclass(frozen=True)
class PartnerMessage:
    """One message as a partner's endpoint took it."""

    received_at: float
    message_id: str
    event_type: str
    export_id: str


@dataclass(frozen=True)
class Kill:
    """One kill -9: of which process, and when the API next answered."""

    killed_at: float
    process: str
    ready_at: float


@dataclass(frozen=True)
class StoredExport:
    """An export as it stands in the database; `failure` is why it failed."""

    export_id: str
    batch_id: str
    state: str
    failure: str | None = None


@dataclass(frozen=True)
class StoredEvent:
    """An event of the log; `subject` tells it from others of its type, where it happens more than once: unit, document."""

    export_id: str
    seq: int
    type: str
    subject: str = ""


@dataclass(frozen=True)
class StoredDocument:
    """A document's row; `is_intact` says whether the store has its very bytes."""

    export_id: str
    name: str
    is_intact: bool


@dataclass(frozen=True)
class StoredDelivery:
    """A message that the database says is owed to a partner, and what became of it."""

    export_id: str
    message_id: str
    state: str


@dataclass(frozen=True)
class StoredState:
    """What lies in the database and in the document store, once all is at rest."""

    exports: Sequence[StoredExport]
    events: Sequence[StoredEvent]
    documents: Sequence[StoredDocument]
    deliveries: Sequence[StoredDelivery]


@dataclass(frozen=True)
class DrillHistory:
    """Everything that the judge goes by; `inspected` is the state that the API says each export is in at the end."""

    submissions: Sequence[SubmittedPlan]
    received: Sequence[PartnerMessage]
    kills: Sequence[Kill]
    stored: StoredState
    inspected: Mapping[str, str]
    seconds: float


_UNDELIVERED: Final = (DeliveryState.WAITING.value, DeliveryState.PENDING.value)


def is_unsettled(runtime: Runtime) -> bool:
    """Tell whether any export has not ended, or any message is still owed."""
    remaining = or_(
        select(col(Export.id)).where(col(Export.state).in_(ACTIVE_STATES)).exists(),
        select(col(Delivery.id)).where(col(Delivery.state).in_(_UNDELIVERED)).exists(),
    )
    with runtime.db.read() as session:
        return bool(session.scalar(select(remaining)))


def read_stored_state(runtime: Runtime) -> StoredState:
    """Return everything that the judge asks for."""
    with runtime.db.read() as session:
        exports = session.execute(select(col(Export.id), col(Export.batch_id), col(Export.state), col(Export.failure)))
        stored_exports = [StoredExport(*row) for row in exports]
        events = session.execute(select(col(Event.export_id), col(Event.seq), col(Event.type), col(Event.data)))
        stored_events = [StoredEvent(export_id, seq, kind, _subject(data)) for export_id, seq, kind, data in events]
        documents = session.execute(
            select(col(Artifact.export_id), col(Artifact.unit_no), col(Artifact.artifact_type), col(Artifact.sha256))
        ).all()
        deliveries = session.execute(
            select(col(Delivery.export_id), col(Delivery.notification_id), col(Delivery.state))
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
