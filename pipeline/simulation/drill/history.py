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
ENDED: Final = "exports.export.executed.v1"
HANDOFF: Final = "exports.handoff.ready.v1"
PACKAGE: Final = "exports.package.recorded.v1"


@dataclass
class Submission:
    """One plan that a caller had executed; all instants are seconds since the drill began.

    `answers` are the export ids of all answers that came, in order; `tries` counts the requests, so that those without an
    answer are the rest. `packages` is how many messages the warehouse is owed.
    """

    batch_id: str
    packages: int
    began: float
    tries: int = 0
    answers: list[str] = field(default_factory=list)
    answered: float | None = None


@dataclass(frozen=True)
class Receipt:
    """One message as a partner's endpoint took it."""

    at: float
    message_id: str
    event_type: str
    export_id: str


@dataclass(frozen=True)
class Kill:
    """One kill -9: of which process, and when the API next answered."""

    at: float
    process: str
    answering: float


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
    """A document's row; `kept` says whether the store has its very bytes."""

    export_id: str
    name: str
    kept: bool


@dataclass(frozen=True)
class Owed:
    """A message that the database says is owed to a partner, and what became of it."""

    export_id: str
    message_id: str
    state: str


@dataclass(frozen=True)
class Stored:
    """What lies in the database and in the document store, once all is at rest."""

    exports: Sequence[StoredExport]
    events: Sequence[StoredEvent]
    documents: Sequence[StoredDocument]
    owed: Sequence[Owed]


@dataclass(frozen=True)
class History:
    """Everything that the judge goes by; `inspected` is the state that the API says each export is in at the end."""

    submissions: Sequence[Submission]
    receipts: Sequence[Receipt]
    kills: Sequence[Kill]
    stored: Stored
    inspected: Mapping[str, str]
    seconds: float


_UNDELIVERED: Final = (DeliveryState.WAITING.value, DeliveryState.PENDING.value)


def unsettled(runtime: Runtime) -> bool:
    """Tell whether any export has not ended, or any message is still owed."""
    left = or_(
        select(col(Export.id)).where(col(Export.state).in_(ACTIVE_STATES)).exists(),
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
