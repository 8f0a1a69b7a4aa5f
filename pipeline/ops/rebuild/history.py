"""What the log of one export says, folded event by event into the facts that its tables must agree with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pipeline.exports.events import EventType
from pipeline.exports.models import Event
from pipeline.exports.states import ExportState

#: The events that carry an answer of the customs broker.
ANSWERS: Final = frozenset(
    {
        EventType.BROKER_ACKNOWLEDGED,
        EventType.BROKER_REJECTED,
        EventType.BROKER_QUERIED,
        EventType.BROKER_RELEASED,
    }
)

_KNOWN: Final = frozenset(each.value for each in EventType)

Data = Mapping[str, Any]


class Untold(Exception):
    """The log does not say what is asked of it: it was written by a version that left it out, or by a newer one."""


@dataclass(frozen=True)
class Told:
    """A stretch of messages that one transaction owed, and the digest over it; `seq` is of the event that says so."""

    seq: int
    notifications: int
    digest: str


@dataclass
class UnitHistory:
    """What happened to one unit."""

    recorded: Data | None = None
    treated: Data | None = None
    documents: list[tuple[datetime, Data]] = field(default_factory=list)
    rendered: bool = False  # by its own step; a broker's profile adds documents at the handoff
    closed: bool = False


@dataclass
class History:
    """What happened to one export, as far as it was told; `at` is when it was told last."""

    export_id: str
    events: int = 0
    at: datetime | None = None
    accepted_at: datetime | None = None
    accepted: Data = field(default_factory=dict)
    revision: int = 1
    supersedes_id: str | None = None
    units: dict[int, UnitHistory] = field(default_factory=dict)
    handed_off: Data | None = None
    handed_off_seq: int | None = None
    begun: bool = False  # some step has begun for certain
    executed: bool = False
    ended_at: datetime | None = None
    state: ExportState = ExportState.ACCEPTED
    failure: str | None = None
    quarantined: bool = False
    purged_at: datetime | None = None  # since when its payload is gone on purpose
    failed_step: tuple[int, str] | None = None
    cancelled: bool = False
    superseded: bool = False
    given_up_seq: int | None = None  # the event that let go of what was not sent
    told: list[Told] = field(default_factory=list)
    answers: list[tuple[datetime, Data]] = field(default_factory=list)
    dead: list[tuple[int, Data]] = field(default_factory=list)  # with the event's number
    resent: list[tuple[int, datetime, Data]] = field(default_factory=list)

    def unit(self, data: Data) -> UnitHistory:
        """Return what happened to the unit that the event is about."""
        self.begun = True
        return self.units.setdefault(int(data["unitNo"]), UnitHistory())


def history(export_id: str, log: Iterable[Event]) -> History:
    """Fold the log of one export, in the order of its numbers.

    Raises Untold where a member is missing that every present version writes, or an event is none of this version's.
    """
    found = History(export_id)
    for event in log:
        found.events, found.at = event.seq, event.at
        if event.type not in _KNOWN:
            raise Untold(f"event {event.seq} is {event.type}, which this version does not know: a newer one wrote it")
        try:
            _fold(found, EventType(event.type), event.data, event)
            if "messagesDigest" in event.data:
                found.told.append(Told(event.seq, event.data["notifications"], event.data["messagesDigest"]))
        except KeyError as missing:
            raise Untold(f"event {event.seq}, {event.type}, does not say {missing.args[0]}") from missing
    if found.accepted_at is None:
        raise Untold("the log does not begin with EXPORT_ACCEPTED")
    return found


def _fold(found: History, kind: EventType, data: Data, event: Event) -> None:
    match kind:
        case EventType.EXPORT_ACCEPTED:
            found.accepted_at, found.accepted = event.at, data
        case EventType.PACKAGES_RECORDED:
            found.unit(data).recorded = data
        case EventType.TREATMENT_ATTACHED:
            found.unit(data).treated = data
        case EventType.CUSTOMS_ARTIFACT_GENERATED:
            unit = found.unit(data)
            unit.documents.append((event.at, data))
            unit.rendered = unit.rendered or event.actor == "render_documents"
        case EventType.CUSTOMS_PACKAGE_CLOSED:
            found.unit(data).closed = True
        case EventType.EXPORT_PURGED:
            # What was not sent is let go of with the rest.
            found.purged_at, found.given_up_seq = event.at, event.seq
        case EventType.HANDED_OFF:
            found.handed_off, found.handed_off_seq, found.begun = data, event.seq, True
        case EventType.STEP_RETRIED:
            found.begun = True
        case EventType.DELIVERY_DEAD:
            found.dead.append((event.seq, data))
        case EventType.DELIVERY_RESENT:
            found.resent.append((event.seq, event.at, data))
        case _ if kind in ANSWERS:
            found.answers.append((event.at, data))
        case _:
            _end(found, kind, data, event)


def _end(found: History, kind: EventType, data: Data, event: Event) -> None:
    at = event.at
    match kind:
        case EventType.EXPORT_EXECUTED:
            found.state, found.executed, found.ended_at = ExportState.EXECUTED, True, at
        case EventType.EXPORT_FAILED:
            found.state, found.ended_at, found.begun = ExportState.FAILED, at, True
            found.failed_step = (int(data["unitNo"]), data["step"])
            found.failure, found.quarantined = f"{data['step']}: {data['reason']}", bool(data.get("quarantined"))
        case EventType.EXPORT_RESUMED:
            found.state, found.ended_at, found.failed_step, found.failure = ExportState.EXECUTING, None, None, None
            found.quarantined = False
        case EventType.EXPORT_CANCELLED:
            found.state, found.cancelled, found.ended_at = ExportState.CANCELLED, True, at
            found.given_up_seq = event.seq
        case EventType.EXPORT_AMENDED if "supersededBy" in data:
            found.state, found.superseded, found.given_up_seq = ExportState.SUPERSEDED, True, event.seq
        case EventType.EXPORT_AMENDED:
            found.revision, found.supersedes_id = data["revision"], data["supersedes"]
        case _:
            pass
