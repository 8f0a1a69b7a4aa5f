"""The lives of an export, a step, a delivery and a submission, and their legal moves."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

S = TypeVar("S", bound=StrEnum)


class ExportState(StrEnum):
    """The life of an export."""

    ACCEPTED = "accepted"  # it is ours; no step has begun
    EXECUTING = "executing"  # at least one step has begun
    EXECUTED = "executed"  # every step is done, every recipient was told or is owed it
    FAILED = "failed"  # a step cannot be done; a person must look
    CANCELLED = "cancelled"  # stopped on request before the handoff
    SUPERSEDED = "superseded"  # a newer revision took its place


#: The states of an export that is not over, as they stand in its column.
ACTIVE_STATES: Final = (ExportState.ACCEPTED.value, ExportState.EXECUTING.value)


class StepState(StrEnum):
    """The life of a step."""

    WAITING = "waiting"  # what must come before it is not done
    READY = "ready"  # it may be claimed; while the lease runs somebody holds it
    DONE = "done"  # its effects, its events and this mark were written together
    FAILED = "failed"  # it was tried as often as allowed, or cannot be done
    CANCELLED = "cancelled"  # the export ended before it began


class DeliveryState(StrEnum):
    """The life of a delivery: one notification to one recipient by one channel."""

    WAITING = "waiting"  # not to be told before the export has completed
    PENDING = "pending"  # owed; while the lease runs an attempt is under way or put off
    DELIVERED = "delivered"  # the recipient's end took it
    DEAD = "dead"  # the schedule is spent or the endpoint refused for good; a person may resend it
    CANCELLED = "cancelled"  # the export ended before it was told


class SubmissionState(StrEnum):
    """The statuses of a broker submission."""

    PENDING = "pending"  # owed
    SENT = "sent"  # an attempt is under way or was cut off
    DELIVERED = "delivered"  # the transport took it
    RECEIVED = "received"  # the broker could read it
    ACCEPTED = "accepted"  # the broker looked and accepts
    REJECTED = "rejected"  # the broker looked and names what is wrong
    QUERY = "query"  # the broker looked and asks
    FILED = "filed"  # the entry is filed
    RELEASED = "released"  # customs released the goods
    HELD = "held"  # customs holds the goods
    FAILED = "failed"  # the channel is spent


#: The statuses at which the customs broker has yet to look, as they stand in a submission's column.
UNANSWERED_STATES: Final = (
    SubmissionState.PENDING.value,
    SubmissionState.SENT.value,
    SubmissionState.DELIVERED.value,
    SubmissionState.RECEIVED.value,
)


class Outcome(StrEnum):
    """What became of an export, for a person: derived from its state, its handoff and its dead letters; never stored."""

    IN_PROGRESS = "in_progress"  # accepted or executing
    NEEDS_ATTENTION = "needs_attention"  # it failed, or is quarantined
    WITH_BROKER = "with_broker"  # executed; the customs broker has yet to look at it, within its deadline
    ACCEPTED = "accepted"  # the customs broker accepts it
    FILED = "filed"  # the entry is filed
    RELEASED = "released"  # customs released the goods
    REJECTED = "rejected"  # the customs broker names what is wrong
    QUERY = "query"  # the customs broker asks
    HELD = "held"  # customs holds the goods
    OVERDUE = "overdue"  # the next answer did not come before its deadline
    UNDELIVERABLE = "undeliverable"  # the handoff, or a message to the warehouse, was given up
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


#: The outcomes that wait for a person.
NEEDS_PERSON: Final = frozenset(
    {
        Outcome.NEEDS_ATTENTION,
        Outcome.REJECTED,
        Outcome.QUERY,
        Outcome.HELD,
        Outcome.OVERDUE,
        Outcome.UNDELIVERABLE,
    }
)


EXPORT_TRANSITIONS: Final[Mapping[ExportState, frozenset[ExportState]]] = {
    ExportState.ACCEPTED: frozenset({ExportState.EXECUTING, ExportState.FAILED, ExportState.CANCELLED}),
    ExportState.EXECUTING: frozenset({ExportState.EXECUTED, ExportState.FAILED, ExportState.CANCELLED}),
    ExportState.EXECUTED: frozenset({ExportState.SUPERSEDED}),
    ExportState.FAILED: frozenset({ExportState.EXECUTING, ExportState.CANCELLED, ExportState.SUPERSEDED}),
    ExportState.CANCELLED: frozenset(),
    ExportState.SUPERSEDED: frozenset(),
}

STEP_TRANSITIONS: Final[Mapping[StepState, frozenset[StepState]]] = {
    StepState.WAITING: frozenset({StepState.READY, StepState.CANCELLED}),
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
    }
)

# A broker may skip statuses, never go back: its answer can even overtake our own record of the transport.
SUBMISSION_TRANSITIONS: Final[Mapping[SubmissionState, frozenset[SubmissionState]]] = {
    SubmissionState.PENDING: _ANSWERS | {SubmissionState.SENT, SubmissionState.DELIVERED, SubmissionState.FAILED},
    SubmissionState.SENT: _ANSWERS | {SubmissionState.DELIVERED, SubmissionState.FAILED},
    SubmissionState.DELIVERED: _ANSWERS,
    SubmissionState.RECEIVED: _ANSWERS - {SubmissionState.RECEIVED},
    SubmissionState.QUERY: _ANSWERS - {SubmissionState.RECEIVED, SubmissionState.QUERY},
    SubmissionState.ACCEPTED: frozenset(
        {SubmissionState.FILED, SubmissionState.RELEASED, SubmissionState.HELD, SubmissionState.REJECTED}
    ),
    SubmissionState.REJECTED: frozenset({SubmissionState.ACCEPTED}),
    SubmissionState.FILED: frozenset({SubmissionState.RELEASED, SubmissionState.HELD, SubmissionState.REJECTED}),
    SubmissionState.HELD: frozenset({SubmissionState.RELEASED}),
    SubmissionState.RELEASED: frozenset(),
    SubmissionState.FAILED: _ANSWERS | {SubmissionState.PENDING, SubmissionState.DELIVERED},
}


def source_states(moves: Mapping[S, frozenset[S]], target: S) -> list[S]:
    """Return the states that `target` may be reached from: the WHERE of the guarded UPDATE."""
    return [state for state, targets in moves.items() if target in targets]
