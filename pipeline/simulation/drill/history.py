"""The history of a drill: requests and answers, messages to partners, kills, and the stored state."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import or_, select
from sqlmodel import col

from pipeline.core.errors import ArtifactConflict, StoreUnavailable
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Delivery
from pipeline.exports.models import Export
from pipeline.exports.states import ACTIVE_STATES, DeliveryState
from pipeline.simulation.evidence import ReceivedMessage, RunEvidence, Tables

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
class PartnerMessage(ReceivedMessage):
    """One message that a partner's endpoint accepted."""

    event_type: str = ""
    received_at: float = 0.0


@dataclass(frozen=True)
class Kill:
    """One kill -9: the killed process, and when the API answered again."""

    killed_at: float
    process: str
    ready_at: float


@dataclass(frozen=True)
class DrillHistory:
    """Everything that the judge uses; `inspected` maps each export to its final state in the API.

    `tables` are the rows when no work is left, `intact` the SHA-256 of each document that the store holds unchanged, and
    `tries` the number of attempts before a message is a dead letter.
    """

    submissions: Sequence[SubmittedPlan]
    received: Sequence[PartnerMessage]
    kills: Sequence[Kill]
    tables: Tables
    intact: Collection[str]
    tries: int
    inspected: Mapping[str, str]
    seconds: float

    def evidence(self) -> RunEvidence:
        """Return the part that the judge of every run reads."""
        answers = [(each.batch_id, export_id) for each in self.submissions for export_id in each.export_ids]
        return RunEvidence(self.tables, answers, self.received, self.intact, self.tries)


_UNDELIVERED: Final = (DeliveryState.WAITING.value, DeliveryState.PENDING.value)


def is_unsettled(runtime: Runtime) -> bool:
    """Return whether any export has not ended, or any delivery is still pending."""
    remaining = or_(
        select(col(Export.id)).where(col(Export.state).in_(ACTIVE_STATES)).exists(),
        select(col(Delivery.id)).where(col(Delivery.state).in_(_UNDELIVERED)).exists(),
    )
    with runtime.db.read() as session:
        return bool(session.scalar(select(remaining)))


def read_intact(runtime: Runtime, tables: Tables) -> Collection[str]:
    """Return the SHA-256 of each recorded document that the store holds unchanged."""
    return {sha256 for sha256 in {row["sha256"] for row in tables["artifacts"]} if _is_intact(runtime, sha256)}


def _is_intact(runtime: Runtime, sha256: str) -> bool:
    try:
        runtime.store.get(sha256)
    except (StoreUnavailable, ArtifactConflict):
        return False
    return True
