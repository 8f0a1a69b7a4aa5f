"""The outcome of exports as an SQL expression, used to list, filter and show exports."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, ColumnExpressionArgument, and_, case, literal_column, select
from sqlmodel import col

from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.outbox import WAREHOUSE
from pipeline.exports.models import Export
from pipeline.exports.states import ACTIVE_STATES, DeliveryState, ExportState, Outcome, SubmissionState

#: A literal, so that both databases use their index of dead letters.
DEAD: Final = col(Delivery.state) == literal_column(f"'{DeliveryState.DEAD.value}'")

#: Joins the handoff of an export: at most one row, by a unique index.
HANDOFF: Final = and_(
    col(BrokerSubmission.export_id) == col(Export.id), col(BrokerSubmission.partner_id) == col(Export.broker_id)
)

#: Quarantined, and not retried, cancelled or superseded since.
QUARANTINED: Final = and_(col(Export.quarantined).is_(True), col(Export.state) == ExportState.FAILED.value)

#: An answer is late and still expected. An amendment and a purge clear the deadline, but not `overdue_at`.
OVERDUE: Final = and_(col(BrokerSubmission.overdue_at).is_not(None), col(BrokerSubmission.deadline_at).is_not(None))

#: Answers of the customs broker that are outcomes by the same name: those that need a person, and the others.
_NEEDS_PERSON: Final = (SubmissionState.REJECTED.value, SubmissionState.QUERY.value, SubmissionState.HELD.value)
_AGREED: Final = (SubmissionState.ACCEPTED.value, SubmissionState.FILED.value, SubmissionState.RELEASED.value)


def outcome_expression(*conditions: ColumnExpressionArgument[bool]) -> ColumnElement[str]:
    """Return the outcome of an export as an expression. The statement must outer join `HANDOFF`.

    `conditions` limit the search for dead letters: to an account, or to one export. Only dead letters to the warehouse
    count here. For the customs broker, the submission's status counts: after an answer, a dead copy on another channel
    changes nothing. Dead letters to operators do not count.
    """
    status, state = col(BrokerSubmission.state), col(Export.state)
    undelivered = select(col(Delivery.export_id)).where(*conditions, DEAD, col(Delivery.audience) == WAREHOUSE)
    return case(
        (state.in_(ACTIVE_STATES), Outcome.IN_PROGRESS.value),
        (state == ExportState.FAILED.value, Outcome.NEEDS_ATTENTION.value),
        (state == ExportState.CANCELLED.value, Outcome.CANCELLED.value),
        (state == ExportState.SUPERSEDED.value, Outcome.SUPERSEDED.value),
        (status.in_(_NEEDS_PERSON), status),
        (status == SubmissionState.FAILED.value, Outcome.UNDELIVERABLE.value),
        (col(Export.id).in_(undelivered), Outcome.UNDELIVERABLE.value),
        (OVERDUE, Outcome.OVERDUE.value),
        (status.in_(_AGREED), status),
        else_=Outcome.WITH_BROKER.value,
    )


def is_quarantined(export: Export) -> bool:
    """Return whether the row satisfies `QUARANTINED`."""
    return export.quarantined and export.state == ExportState.FAILED.value
