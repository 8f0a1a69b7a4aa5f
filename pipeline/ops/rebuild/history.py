"""The history of one export, folded from its log event by event: the facts that its tables must agree with."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pipeline.deliveries.entries import facets
from pipeline.deliveries.entries.facets import Answer, AnswerStatus, EntryFacets
from pipeline.deliveries.schemas.answers import CustomsHold
from pipeline.exports.event_models import Event
from pipeline.exports.events import REOPENING, EventType, acknowledges
from pipeline.exports.schemas.assessment import Assessment
from pipeline.exports.states import MILESTONES, ExportState, InboxState, Milestone, SubmissionState
from pipeline.workflow.steps import STEPS_BY_NAME

#: The events that carry an answer of the customs broker.
BROKER_ANSWERS: Final = frozenset(
    {
        EventType.BROKER_ACKNOWLEDGED,
        EventType.BROKER_REJECTED,
        EventType.BROKER_QUERIED,
        EventType.BROKER_RELEASED,
        EventType.BROKER_ANSWER_CARRIED,
    }
)

_EVENT_TYPES: Final = frozenset(each.value for each in EventType)

EventData = Mapping[str, Any]


class MissingFact(Exception):
    """A fact is missing in the log: an older version left it out, or a newer version wrote the log."""


@dataclass(frozen=True)
class EnqueuedMessages:
    """The messages that one transaction enqueued, and their digest; `seq` is the number of the recording event."""

    seq: int
    notifications: int
    digest: str


@dataclass
class UnitHistory:
    """The history of one unit."""

    recorded: EventData | None = None
    treated: EventData | None = None
    documents: list[tuple[datetime, EventData]] = field(default_factory=list)
    #: The steps that are done.
    done: set[str] = field(default_factory=set)


@dataclass
class ExportHistory:
    """The history of one export; `at` is the time of its newest event."""

    export_id: str
    events: int = 0
    at: datetime | None = None
    accepted_at: datetime | None = None
    sent_by: str | None = None  # the actor of the acceptance
    accepted: EventData = field(default_factory=dict)
    revision: int = 1
    supersedes_id: str | None = None
    units: dict[int, UnitHistory] = field(default_factory=dict)
    handed_off: EventData | None = None
    handed_off_seq: int | None = None
    started: bool = False  # a step has certainly started
    executed: bool = False
    ended_at: datetime | None = None
    state: ExportState = ExportState.ACCEPTED
    failure: str | None = None
    quarantined: bool = False
    acknowledged_seq: int | None = None
    withdrawal_seq: int | None = None
    withdrawal: EventData = field(default_factory=dict)
    hold_seq: int | None = None  # the event by which a person holds its handoff
    purged_at: datetime | None = None  # when its payload was purged
    failed_step: tuple[int, str] | None = None
    cancelled: bool = False
    superseded: bool = False
    summary_due_at: str | None = None  # when the next summary is due, by the answers
    summary_late: bool = False  # the operators were notified that it is overdue
    earlier_entry: bool = False  # it is superseded, and an entry that it left needs a person
    unsent_cancelled_seq: int | None = None  # the number of the event that cancelled unsent deliveries
    enqueued: list[EnqueuedMessages] = field(default_factory=list)
    broker_answers: list[tuple[datetime, EventData]] = field(default_factory=list)
    answers_count: bool = False  # an answer has moved the status: the transport no longer decides it
    messages_written: list[tuple[datetime, str, EventData]] = field(default_factory=list)  # time, author and data
    files: list[tuple[datetime, str, EventData]] = field(default_factory=list)  # time, author and data
    milestones: dict[Milestone, datetime] = field(default_factory=dict)  # when the handoff reached each first
    may_be_overdue: bool = False  # a deadline was missed, and no answer has moved the deadline since
    dead_letters: list[tuple[int, EventData]] = field(default_factory=list)  # with the event's number
    replays: list[tuple[int, datetime, EventData]] = field(default_factory=list)

    @property
    def package_numbers(self) -> list[str]:
        """The numbers of the customs packages, in the order of their units."""
        planned: Sequence[EventData] = self.accepted["customsPackages"]
        recorded = [(self.units.get(no, UnitHistory()).recorded or {}) for no in range(1, len(planned) + 1)]
        numbers = [
            now.get("packageNumber", then.get("packageNumber")) for now, then in zip(recorded, planned, strict=True)
        ]
        return [number for number in numbers if number is not None]

    def fold_entries(self) -> dict[str, EntryFacets]:
        """Return the entries by the number of the customs package, as the answers to the handoff say them."""
        said = [(at, data) for at, data in self.broker_answers if data["submissionId"] == self.handed_off_id]
        return facets.fold_entries(self.package_numbers, (_to_answer(at, data) for at, data in said))

    @property
    def handed_off_id(self) -> str | None:
        """The id of the submission; None before the handoff."""
        return None if self.handed_off is None else self.handed_off["submissionId"]

    @property
    def dead_letter_inbox(self) -> InboxState:
        """If the export's dead letters can be in the inbox."""
        if self.purged_at is not None:
            return InboxState.CLOSED
        return InboxState.OPEN if self.acknowledged_seq is None else InboxState.ACKNOWLEDGED

    def unit(self, data: EventData) -> UnitHistory:
        """Return the history of the unit that the event is about."""
        self.started = True
        return self.units.setdefault(int(data["unitNo"]), UnitHistory())


def _to_answer(at: datetime, data: EventData) -> Answer:
    return Answer(
        id=data["id"],
        status=AnswerStatus(data["status"]),
        at=datetime.fromisoformat(data.get("at") or data.get("receivedAt") or at.isoformat()),
        packages=data.get("customsPackageNumbers", ()),
        hold=read_hold(data),
        entry_number=data.get("entryNumber"),
        corrects=data.get("corrects"),
        assessment=Assessment.model_validate(data["comparison"]) if "comparison" in data else None,
    )


def read_hold(data: EventData) -> str | None:
    """Return the name of the hold of an answer, None if it has none."""
    hold = data.get("hold")
    return hold if hold is None or isinstance(hold, str) else CustomsHold.model_validate(hold).name


def fold_log(export_id: str, log: Iterable[Event]) -> ExportHistory:
    """Fold the log of one export, in the order of its numbers.

    Raises MissingFact if a member is missing that every current version writes, or if an event is unknown to this
    version.
    """
    folded = ExportHistory(export_id)
    for event in log:
        folded.events, folded.at = event.seq, event.at
        if event.type not in _EVENT_TYPES:
            raise MissingFact(
                f"event {event.seq} is {event.type}, which this version does not know: a newer version wrote it"
            )
        try:
            kind = EventType(event.type)
            _apply_event(folded, kind, event.data, event)
            milestone = _find_milestone(kind, event.data)
            if milestone is not None:
                folded.milestones.setdefault(milestone, event.at)
            if acknowledges(kind, event.data):
                folded.acknowledged_seq = event.seq
            elif kind in REOPENING:
                folded.acknowledged_seq = None
            folded.earlier_entry = event.data.get("earlierEntry", folded.earlier_entry)
            if "summaryDueAt" in event.data or kind is EventType.SUMMARY_OVERDUE:
                folded.summary_due_at = event.data.get("summaryDueAt", folded.summary_due_at)
                folded.summary_late = kind is EventType.SUMMARY_OVERDUE
            if kind is EventType.FILE_ATTACHED:
                folded.files.append((event.at, event.actor, event.data))
            if "messagesDigest" in event.data:
                folded.enqueued.append(
                    EnqueuedMessages(event.seq, event.data["notifications"], event.data["messagesDigest"])
                )
        except KeyError as missing:
            raise MissingFact(f"event {event.seq}, {event.type}, does not say {missing.args[0]}") from missing
    if folded.accepted_at is None:
        raise MissingFact("the log does not begin with EXPORT_ACCEPTED")
    return folded


def _find_milestone(kind: EventType, data: EventData) -> Milestone | None:
    if kind is EventType.HANDOFF_OVERDUE:
        return Milestone.OVERDUE
    if kind is EventType.BROKER_NOTIFIED:
        return MILESTONES.get(SubmissionState(data["submissionStatus"])) if data.get("moved") else None
    if kind not in BROKER_ANSWERS or not data["moved"]:
        return None
    return MILESTONES.get(SubmissionState(data.get("submissionStatus", data["status"])))


def _apply_event(folded: ExportHistory, kind: EventType, data: EventData, event: Event) -> None:
    # A broker's profile adds documents at the handoff: these do not show that the step of documents is done.
    step = STEPS_BY_NAME.get(event.actor)
    if step is not None and step.event is kind:
        folded.unit(data).done.add(step.name)
    match kind:
        case EventType.EXPORT_ACCEPTED:
            folded.accepted_at, folded.sent_by, folded.accepted = event.at, event.actor, data
        case EventType.PACKAGES_RECORDED:
            folded.unit(data).recorded = data
        case EventType.TREATMENT_ATTACHED:
            folded.unit(data).treated = data
        case EventType.CUSTOMS_ARTIFACT_GENERATED:
            folded.unit(data).documents.append((event.at, data))
        case EventType.EXPORT_PURGED:
            # A purge cancels unsent deliveries.
            folded.purged_at, folded.unsent_cancelled_seq = event.at, event.seq
        case EventType.HANDED_OFF:
            folded.handed_off, folded.handed_off_seq, folded.started = data, event.seq, True
        case EventType.STEP_RETRIED:
            folded.started = True
        case EventType.DELIVERY_DEAD:
            folded.dead_letters.append((event.seq, data))
        case EventType.DELIVERY_RESENT:
            folded.replays.append((event.seq, event.at, data))
        case _ if kind in BROKER_ANSWERS:
            folded.broker_answers.append((event.at, data))
            own = kind is not EventType.BROKER_ANSWER_CARRIED
            folded.answers_count = folded.answers_count or own or data["moved"]
            folded.may_be_overdue = folded.may_be_overdue and not data.get("deadlineReset", data["moved"])
        case _:
            _apply_rare_event(folded, kind, data, event)


def _apply_rare_event(folded: ExportHistory, kind: EventType, data: EventData, event: Event) -> None:
    at = event.at
    match kind:
        case EventType.EXPORT_EXECUTED:
            folded.state, folded.executed, folded.ended_at = ExportState.EXECUTED, True, at
        case EventType.EXPORT_FAILED:
            folded.state, folded.ended_at, folded.started = ExportState.FAILED, at, True
            folded.failed_step = (int(data["unitNo"]), data["step"])
            folded.failure, folded.quarantined = f"{data['step']}: {data['reason']}", bool(data.get("quarantined"))
        case EventType.EXPORT_RESUMED:
            folded.state, folded.ended_at, folded.failed_step, folded.failure = ExportState.EXECUTING, None, None, None
            folded.quarantined = False
        case EventType.EXPORT_CANCELLED:
            folded.state, folded.cancelled, folded.ended_at = ExportState.CANCELLED, True, at
            folded.unsent_cancelled_seq, folded.hold_seq = event.seq, None
        case EventType.HANDOFF_HELD:
            folded.hold_seq = event.seq
        case EventType.EXPORT_WITHDRAWAL_REQUESTED:
            folded.withdrawal_seq = folded.unsent_cancelled_seq = event.seq
            folded.withdrawal, folded.may_be_overdue = data, False
        case EventType.HANDOFF_HOLD_RELEASED:
            folded.hold_seq = None
        case EventType.HANDOFF_OVERDUE:
            folded.may_be_overdue = True
        case EventType.MESSAGE_WRITTEN:
            folded.messages_written.append((at, event.actor, data))
            folded.may_be_overdue = folded.may_be_overdue and not data["deadlineReset"]
        case EventType.EXPORT_AMENDED if "supersededBy" in data:
            folded.state, folded.superseded, folded.unsent_cancelled_seq = ExportState.SUPERSEDED, True, event.seq
            folded.hold_seq = None
        case EventType.EXPORT_AMENDED:
            folded.revision, folded.supersedes_id = data["revision"], data["supersedes"]
        case _:
            pass


def to_instant(text: str | None) -> datetime | None:
    """Return the instant of an event's member; None if it has none."""
    return None if text is None else datetime.fromisoformat(text)
