"""The outcome of exports, which triggers keep in their rows, and the searches that an index bounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, SQLColumnExpression, and_, bindparam, literal_column, select, true, tuple_
from sqlmodel import Session, col

from pipeline.core.db import index_constant
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.exports.models import Export
from pipeline.exports.states import ACTIVE_STATES, DeliveryState, ExportState, Milestone, Outcome, SubmissionState


def delivery_is(state: DeliveryState) -> ColumnElement[bool]:
    """Return the condition, on a row of `deliveries`, that it has this state."""
    # The conditions of the index of pending deliveries, or of that of idle ones.
    column, active = col(Delivery.state), (DeliveryState.PENDING, DeliveryState.DELIVERED)
    others = () if state in active else [column != index_constant(each) for each in active]
    return and_(column == index_constant(state), *others)


DEAD: Final = delivery_is(DeliveryState.DEAD)

#: The condition of the index of a partner's deliveries by state, as the index says it.
IS_UNDELIVERED: Final[ColumnElement[bool]] = literal_column("(deliveries.state <> 'delivered') IS TRUE")

#: Joins the handoff of an export: at most one row, by a unique index.
HANDOFF: Final = and_(
    col(BrokerSubmission.export_id) == col(Export.id), col(BrokerSubmission.partner_id) == col(Export.broker_id)
)

#: Quarantined, and not retried, cancelled or superseded since.
QUARANTINED: Final = and_(col(Export.quarantined).is_(True), col(Export.state) == ExportState.FAILED.value)

#: An answer is late and still expected. An amendment and a purge clear the deadline, but not `overdue_at`.
OVERDUE: Final = and_(col(BrokerSubmission.overdue_at).is_not(None), col(BrokerSubmission.deadline_at).is_not(None))


def has_arrived(row: BrokerSubmission | Row[Any]) -> bool:
    """Return whether the operators were notified of an overdue submission after its goods arrived, by the plan."""
    return row.arrives_at is not None and row.overdue_at is not None and row.arrives_at <= row.overdue_at


#: When the handoff of an export reached each milestone, or NULL.
REACHED_AT: Final[Mapping[Milestone, SQLColumnExpression[datetime | None]]] = {
    Milestone.ACCEPTED: col(BrokerSubmission.first_accepted_at),
    Milestone.SENT_BACK: col(BrokerSubmission.first_sent_back_at),
    Milestone.OVERDUE: col(BrokerSubmission.first_overdue_at),
}

_READ_OUTCOME: Final = select(col(Export.outcome)).where(col(Export.id) == bindparam("of_export"))

#: The outcomes that follow from the export's state alone, each with its states. All others are of executed exports.
_STATES: Final = {
    Outcome.IN_PROGRESS: (ExportState.ACCEPTED, ExportState.EXECUTING),
    Outcome.HANDOFF_HELD: (ExportState.ACCEPTED, ExportState.EXECUTING),
    Outcome.NEEDS_ATTENTION: (ExportState.FAILED,),
    Outcome.CANCELLED: (ExportState.CANCELLED,),
    Outcome.SUPERSEDED: (ExportState.SUPERSEDED,),
}

#: The answers that count before a dead letter or a missed deadline.
_ANSWERS_FIRST: Final = (
    SubmissionState.REJECTED,
    SubmissionState.QUERY,
    SubmissionState.HELD,
    SubmissionState.WITHDRAWN,
    SubmissionState.NOT_WITHDRAWN,
)


def read_outcome(session: Session, export_id: str) -> Outcome:
    """Return the outcome of one export, as this transaction sees it.

    Only dead letters to the warehouse count in it. For the customs broker, the submission's status counts: after an
    answer, a dead copy on another channel changes nothing. Dead letters to operators do not count.
    """
    return Outcome(session.execute(_READ_OUTCOME, {"of_export": export_id}).scalar_one())


def derive_outcome(
    state: ExportState, handoff: SubmissionState | None, *, held: bool, undelivered: bool, overdue: bool
) -> Outcome:
    """Return the outcome that the triggers keep, from the facts themselves.

    `handoff` is the status of the submission, `held` says that a person holds the handoff of an active export, and
    `undelivered` that a message to the warehouse is dead.
    """
    if held and state.value in ACTIVE_STATES:
        return Outcome.HANDOFF_HELD
    for outcome, states in _STATES.items():
        if state in states:
            return outcome
    if handoff is None:
        return Outcome.WITH_BROKER
    if handoff in _ANSWERS_FIRST:
        return Outcome(handoff.value)
    if undelivered or handoff is SubmissionState.FAILED:
        return Outcome.UNDELIVERABLE
    if overdue:
        return Outcome.OVERDUE
    return Outcome(handoff.value) if handoff.value in {*Outcome} else Outcome.WITH_BROKER


def can_have_outcome(state: ExportState, outcome: Outcome) -> bool:
    """Return whether an export in this state can have the outcome."""
    return state in _STATES.get(outcome, (ExportState.EXECUTED,))


@dataclass(frozen=True)
class Search:
    """The columns by which an index finds exports, newest first.

    The last column is the id of the exports. The others have the given `values` in all exports that are found.
    """

    columns: Sequence[SQLColumnExpression[str]]
    values: Sequence[str] = ()

    @property
    def newest_first(self) -> list[ColumnElement[str]]:
        """The order of the exports."""
        return [column.desc() for column in self.columns]

    def where(
        self, *, first: str | None = None, last: str | None = None, after: str | None = None
    ) -> ColumnElement[bool]:
        """Return the condition that an export is found, its id is between two ids, and comes after a third one."""
        # A range and its order. With `=` PostgreSQL expects to find a common value soon, and reads the exports by id; but
        # the newest hundred thousand may have another. A bound of ids is one with the values, else it bounds no index.
        row, values = tuple_(*self.columns), list(zip(self.columns, self.values, strict=False))
        found = [row >= (*self.values, first)] if first is not None else [column >= value for column, value in values]
        # SQLite takes one upper bound for the index, so there is only one.
        if after is not None and (last is None or after <= last):
            found.append(row < (*self.values, after))
        elif last is not None:
            found.append(row <= (*self.values, last))
        else:
            found += [column <= value for column, value in values]
        return and_(true(), *found)


def account_search(account_id: str) -> Search:
    """Return the search for all exports of an account."""
    return Search([col(Export.account_id), col(Export.id)], [account_id])


def state_search(state: ExportState) -> Search:
    """Return the search for an account's exports in this state."""
    return Search([col(Export.state), col(Export.id)], [state.value])


def outcome_search(outcome: Outcome) -> Search:
    """Return the search for an account's exports with this outcome."""
    return Search([col(Export.outcome), col(Export.id)], [outcome.value])


def is_quarantined(export: Export) -> bool:
    """Return whether the row satisfies `QUARANTINED`."""
    return export.quarantined and export.state == ExportState.FAILED.value
