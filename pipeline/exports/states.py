"""The states of an export, a step, a delivery and a submission, and their legal transitions."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Self, TypeVar

S = TypeVar("S", bound=StrEnum)


class DescribedWord(StrEnum):
    """A word of ours with its meaning, which the site prints."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Self:
        """Create a word from its text and meaning."""
        word = str.__new__(cls, value)
        word._value_ = value
        word.meaning = meaning
        return word


class ExportState(StrEnum):
    """The states of an export."""

    ACCEPTED = "accepted"  # stored by the service; no step has begun
    EXECUTING = "executing"  # at least one step has begun
    EXECUTED = "executed"  # every step is done; every recipient's message is delivered or enqueued
    FAILED = "failed"  # a step cannot be done; a person must look
    CANCELLED = "cancelled"  # stopped on request before the handoff
    SUPERSEDED = "superseded"  # replaced by a newer revision


#: The states of an active export, as stored in its column.
ACTIVE_STATES: Final = (ExportState.ACCEPTED.value, ExportState.EXECUTING.value)


class StepState(StrEnum):
    """The states of a step."""

    WAITING = "waiting"  # an earlier step is not done
    READY = "ready"  # a worker may claim it; one holds it until its lease expires
    DONE = "done"  # written in one transaction with its effects and events
    FAILED = "failed"  # its attempts are used up, or it cannot be done
    CANCELLED = "cancelled"  # the export ended before it began


class DeliveryState(StrEnum):
    """The states of a delivery: one notification to one recipient over one channel."""

    WAITING = "waiting"  # must not be sent before the export has completed
    PENDING = "pending"  # must still be sent; while it is leased, an attempt is running
    DELIVERED = "delivered"  # the recipient's endpoint accepted it
    DEAD = "dead"  # the retry schedule is used up or the endpoint refused for good; a person may resend it
    CANCELLED = "cancelled"  # the export ended before it was sent


class SubmissionState(StrEnum):
    """The statuses of a broker submission."""

    PENDING = "pending"  # must still be sent
    SENT = "sent"  # an attempt is running, or its worker was lost
    DELIVERED = "delivered"  # the transport accepted it
    RECEIVED = "received"  # the broker could read it
    ACCEPTED = "accepted"  # the broker reviewed and accepts it
    REJECTED = "rejected"  # the broker reviewed it and names the mistakes
    QUERY = "query"  # the broker reviewed it and has questions
    FILED = "filed"  # the entry is filed
    RELEASED = "released"  # customs released the goods
    HELD = "held"  # customs holds the goods
    WITHDRAWING = "withdrawing"  # its withdrawal is requested, and the broker has not confirmed it
    WITHDRAWN = "withdrawn"  # the broker confirmed that it files no entry, or never had it
    NOT_WITHDRAWN = "not_withdrawn"  # an entry was filed although its withdrawal is requested
    FAILED = "failed"  # its delivery is dead


#: The statuses before the customs broker's review, as stored in a submission's column.
UNANSWERED_STATES: Final = (
    SubmissionState.PENDING.value,
    SubmissionState.SENT.value,
    SubmissionState.DELIVERED.value,
    SubmissionState.RECEIVED.value,
)


class InboxState(StrEnum):
    """If a dead letter can be in the inbox: its export decides that; about a plan, a person does."""

    OPEN = "open"  # it is in the inbox
    ACKNOWLEDGED = "acknowledged"  # a person has seen what the export needs
    CLOSED = "closed"  # nobody can do anything: the export or plan is purged


class Outcome(DescribedWord):
    """What became of an export, for people: derived from its state, its handoff and its dead letters."""

    IN_PROGRESS = "in_progress", "accepted or executing"
    HANDOFF_HELD = "handoff_held", "active, and a person holds its handoff"
    NEEDS_ATTENTION = "needs_attention", "shown as *failed*: failed or quarantined; a retry continues it"
    WITH_BROKER = "with_broker", "executed; the customs broker still has time to answer"
    ACCEPTED = "accepted", "the customs broker accepts it"
    FILED = "filed", "the entry is filed"
    RELEASED = "released", "customs released the goods"
    REJECTED = "rejected", "the customs broker names the mistakes"
    QUERY = "query", "the customs broker has questions"
    HELD = "held", "customs holds the goods"
    OVERDUE = "overdue", "the next answer did not come before its deadline"
    WITHDRAWING = "withdrawing", "its withdrawal is requested, and the customs broker has not confirmed it"
    WITHDRAWN = "withdrawn", "the customs broker confirmed that it files no entry, or never had the handoff"
    NOT_WITHDRAWN = "not_withdrawn", "an entry was filed although its withdrawal is requested"
    UNDELIVERABLE = "undeliverable", "the handoff, or a message to the warehouse, is a dead letter"
    CANCELLED = "cancelled", "cancelled before its handoff"
    SUPERSEDED = "superseded", "replaced by a newer revision"

    @classmethod
    def _missing_(cls, value: object) -> "Outcome | None":
        return cls.NEEDS_ATTENTION if value == cls.NEEDS_ATTENTION.words else None

    @property
    def words(self) -> str:
        """The outcome as people read it: `needs_attention` beside "needs a person" would be confused with it."""
        return "failed" if self is Outcome.NEEDS_ATTENTION else self.value.replace("_", " ")


#: The outcomes of exports that bring no goods over the border.
WITHOUT_GOODS: Final = (Outcome.CANCELLED, Outcome.WITHDRAWN, Outcome.SUPERSEDED)


class Milestone(StrEnum):
    """What a handoff reaches once, for the first time; what comes later does not change it."""

    ACCEPTED = "accepted"  # the customs broker accepted it, or went on at once: filed, released
    SENT_BACK = "sent_back"  # the customs broker rejected it, or asked about it
    OVERDUE = "overdue"  # a status did not come before its deadline


#: The outcomes that need a person.
NEEDS_PERSON: Final = frozenset(
    {
        Outcome.HANDOFF_HELD,
        Outcome.NEEDS_ATTENTION,
        Outcome.REJECTED,
        Outcome.QUERY,
        Outcome.HELD,
        Outcome.NOT_WITHDRAWN,
        Outcome.OVERDUE,
        Outcome.UNDELIVERABLE,
    }
)

#: A failed or held export blocks its goods: it stays in the inbox until a person goes on with it, or ends it.
ACKNOWLEDGEABLE: Final = NEEDS_PERSON - {Outcome.NEEDS_ATTENTION, Outcome.HANDOFF_HELD}


EXPORT_TRANSITIONS: Final[Mapping[ExportState, frozenset[ExportState]]] = {
    ExportState.ACCEPTED: frozenset({ExportState.EXECUTING, ExportState.FAILED, ExportState.CANCELLED}),
    ExportState.EXECUTING: frozenset({ExportState.EXECUTED, ExportState.FAILED, ExportState.CANCELLED}),
    ExportState.EXECUTED: frozenset({ExportState.SUPERSEDED}),
    ExportState.FAILED: frozenset({ExportState.EXECUTING, ExportState.CANCELLED, ExportState.SUPERSEDED}),
    ExportState.CANCELLED: frozenset(),
    ExportState.SUPERSEDED: frozenset(),
}

STEP_TRANSITIONS: Final[Mapping[StepState, frozenset[StepState]]] = {
    # A step that needs no preparation is done in the transaction that opens it.
    StepState.WAITING: frozenset({StepState.READY, StepState.DONE, StepState.CANCELLED}),
    StepState.READY: frozenset({StepState.DONE, StepState.FAILED, StepState.CANCELLED}),
    StepState.DONE: frozenset(),
    StepState.FAILED: frozenset({StepState.READY, StepState.CANCELLED}),
    StepState.CANCELLED: frozenset(),
}

DELIVERY_TRANSITIONS: Final[Mapping[DeliveryState, frozenset[DeliveryState]]] = {
    DeliveryState.WAITING: frozenset({DeliveryState.PENDING, DeliveryState.CANCELLED}),
    DeliveryState.PENDING: frozenset({DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.CANCELLED}),
    DeliveryState.DELIVERED: frozenset({DeliveryState.PENDING}),
    DeliveryState.DEAD: frozenset({DeliveryState.PENDING}),
    DeliveryState.CANCELLED: frozenset(),
}

_ANSWERS = frozenset(
    {
        SubmissionState.RECEIVED,
        SubmissionState.ACCEPTED,
        SubmissionState.REJECTED,
        SubmissionState.QUERY,
        SubmissionState.FILED,
        SubmissionState.RELEASED,
        SubmissionState.HELD,
        SubmissionState.WITHDRAWING,
        SubmissionState.WITHDRAWN,
        SubmissionState.NOT_WITHDRAWN,
    }
)

# What the answers say together decides the status, whatever it was. They may even arrive before the service records the
# delivery. The transport changes no status that an answer gave.
SUBMISSION_TRANSITIONS: Final[Mapping[SubmissionState, frozenset[SubmissionState]]] = {
    SubmissionState.PENDING: _ANSWERS | {SubmissionState.SENT, SubmissionState.DELIVERED, SubmissionState.FAILED},
    SubmissionState.SENT: _ANSWERS | {SubmissionState.DELIVERED, SubmissionState.FAILED},
    SubmissionState.DELIVERED: _ANSWERS,
    **{state: _ANSWERS - {state} for state in sorted(_ANSWERS)},
    SubmissionState.FAILED: _ANSWERS | {SubmissionState.PENDING, SubmissionState.DELIVERED},
}

#: The milestone of a handoff that reached a status.
MILESTONES: Final[Mapping[SubmissionState, Milestone]] = {
    SubmissionState.ACCEPTED: Milestone.ACCEPTED,
    SubmissionState.FILED: Milestone.ACCEPTED,
    SubmissionState.RELEASED: Milestone.ACCEPTED,
    SubmissionState.REJECTED: Milestone.SENT_BACK,
    SubmissionState.QUERY: Milestone.SENT_BACK,
}


def source_states(moves: Mapping[S, frozenset[S]], target: S) -> list[S]:
    """Return the states from which `target` can be reached, for the WHERE of the guarded UPDATE."""
    return [state for state, targets in moves.items() if target in targets]
