"""The outcome of exports as an SQL expression, used to list, filter and show exports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    ColumnElement,
    SQLColumnExpression,
    and_,
    bindparam,
    case,
    exists,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlmodel import Session, col

from pipeline.core.db import index_constant
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.outbox import WAREHOUSE
from pipeline.exports.models import Export
from pipeline.exports.states import ACTIVE_STATES, DeliveryState, ExportState, Outcome, SubmissionState


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

#: The outcomes that follow from the export's state alone.
_STATES: Final = {
    Outcome.IN_PROGRESS: ACTIVE_STATES,
    Outcome.NEEDS_ATTENTION: (ExportState.FAILED.value,),
    Outcome.CANCELLED: (ExportState.CANCELLED.value,),
    Outcome.SUPERSEDED: (ExportState.SUPERSEDED.value,),
}
#: Answers of the customs broker that are outcomes by the same name: those that need a person, and the others.
_NEEDS_PERSON: Final = (SubmissionState.REJECTED.value, SubmissionState.QUERY.value, SubmissionState.HELD.value)
_AGREED: Final = (SubmissionState.ACCEPTED.value, SubmissionState.FILED.value, SubmissionState.RELEASED.value)
_ENDED: Final = (*_NEEDS_PERSON, SubmissionState.FAILED.value)
_WITH_BROKER: Final = tuple(each.value for each in SubmissionState if each.value not in (*_ENDED, *_AGREED))


def outcome_expression() -> ColumnElement[str]:
    """Return the outcome of an export as an expression. The statement must outer join `HANDOFF`.

    Only dead letters to the warehouse count here. For the customs broker, the submission's status counts: after an
    answer, a dead copy on another channel changes nothing. Dead letters to operators do not count.
    """
    status, state = col(BrokerSubmission.state), col(Export.state)
    # With IN or EXISTS, PostgreSQL may read all dead letters at once, however few exports are listed.
    dead_letter = (
        select(literal_column("1"))
        .where(col(Delivery.export_id) == col(Export.id), DEAD, col(Delivery.audience) == WAREHOUSE)
        .limit(1)
        .correlate(Export)
        .scalar_subquery()
    )
    return case(
        *((state.in_(states), outcome.value) for outcome, states in _STATES.items()),
        (status.in_(_NEEDS_PERSON), status),
        (status == SubmissionState.FAILED.value, Outcome.UNDELIVERABLE.value),
        (dead_letter.is_not(None), Outcome.UNDELIVERABLE.value),
        (OVERDUE, Outcome.OVERDUE.value),
        (status.in_(_AGREED), status),
        else_=Outcome.WITH_BROKER.value,
    )


_READ_OUTCOME: Final = (
    select(outcome_expression())
    .select_from(Export)
    .join(BrokerSubmission, HANDOFF, isouter=True)
    .where(col(Export.id) == bindparam("of_export"))
)


def read_outcome(session: Session, export_id: str) -> Outcome:
    """Return the outcome of one export, as this transaction sees it."""
    return Outcome(session.execute(_READ_OUTCOME, {"of_export": export_id}).scalar_one())


@dataclass(frozen=True)
class Search:
    """The columns by which an index finds exports, newest first, and a further condition.

    The last column is an id of the exports. The others have the given `values` in all exports that are found.
    """

    condition: ColumnElement[bool]
    columns: Sequence[SQLColumnExpression[str]]
    values: Sequence[str] = ()

    @property
    def newest_first(self) -> list[ColumnElement[str]]:
        """The order of the exports."""
        return [column.desc() for column in self.columns]

    def where(self, after: str | None = None) -> ColumnElement[bool]:
        """Return the condition that an export is found, and comes after the one with this id."""
        # A range and its order. With `=` PostgreSQL expects to find a common value soon, and reads the exports by id; but
        # the newest hundred thousand may have another.
        found = [column >= value for column, value in zip(self.columns, self.values, strict=False)]
        if after is None:
            found += [column <= value for column, value in zip(self.columns, self.values, strict=False)]
        else:
            found.append(tuple_(*self.columns) < (*self.values, after))
        return and_(self.condition, *found)


def outcome_searches(outcome: Outcome, account_id: str | SQLColumnExpression[str]) -> Sequence[Search]:
    """Return the searches that find the account's exports with this outcome: each finds some, and no other export.

    They say the same as `outcome_expression`. The statement must outer join `HANDOFF`.
    """
    if outcome in _STATES:
        return [state_search(state) for state in _STATES[outcome]]
    executed = and_(col(Export.state) == ExportState.EXECUTED.value, col(BrokerSubmission.account_id) == account_id)
    dead = and_(DEAD, col(Delivery.audience) == WAREHOUSE, col(Delivery.account_id) == account_id)
    # NOT EXISTS, because PostgreSQL charges each row of a join for the whole list of a NOT IN.
    sound = and_(executed, ~exists().where(col(Delivery.export_id) == col(Export.id), dead))
    status, by_id = col(BrokerSubmission.state), [col(Export.id)]
    if outcome is Outcome.UNDELIVERABLE:
        undelivered = col(Export.id).in_(select(col(Delivery.export_id)).where(dead))
        return [
            _status_search(SubmissionState.FAILED.value, executed),
            Search(and_(executed, status.not_in(_NEEDS_PERSON), undelivered), by_id),
        ]
    if outcome is Outcome.OVERDUE:
        return [Search(and_(sound, OVERDUE, status.not_in(_ENDED)), by_id)]
    if outcome in _NEEDS_PERSON:
        return [_status_search(outcome.value, executed)]
    statuses = _WITH_BROKER if outcome is Outcome.WITH_BROKER else (outcome.value,)
    return [_status_search(each, and_(sound, ~OVERDUE)) for each in statuses]


def account_search(account_id: str) -> Search:
    """Return the search for all exports of an account."""
    return Search(true(), [col(Export.account_id), col(Export.id)], [account_id])


def state_search(state: ExportState | str) -> Search:
    """Return the search for an account's exports in this state."""
    return Search(true(), [col(Export.state), col(Export.id)], [str(state)])


def _status_search(status: str, condition: ColumnElement[bool]) -> Search:
    return Search(condition, [col(BrokerSubmission.state), col(BrokerSubmission.export_id)], [status])


def is_quarantined(export: Export) -> bool:
    """Return whether the row satisfies `QUARANTINED`."""
    return export.quarantined and export.state == ExportState.FAILED.value
