"""The outcome of exports, as SQL: the same expression shows it in a list, filters by it and tells it of one export."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, ColumnExpressionArgument, and_, case, literal_column, select
from sqlmodel import col

from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.outbox import WAREHOUSE
from pipeline.exports.models import Export
from pipeline.exports.states import ACTIVE_STATES, DeliveryState, ExportState, Outcome, SubmissionState

#: Written out, so that both databases see that their index of dead letters fits.
DEAD: Final = col(Delivery.state) == literal_column(f"'{DeliveryState.DEAD.value}'")

#: The row that the handoff of an export has: at most one, by a unique index.
HANDOFF: Final = and_(
    col(BrokerSubmission.export_id) == col(Export.id), col(BrokerSubmission.partner_id) == col(Export.broker_id)
)

#: Quarantined, and neither retried, cancelled nor superseded since.
QUARANTINED: Final = and_(col(Export.quarantined).is_(True), col(Export.state) == ExportState.FAILED.value)

#: An answer is late and still waited for: an amendment and a purge take the deadline away, and leave when it was late.
OVERDUE: Final = and_(col(BrokerSubmission.overdue_at).is_not(None), col(BrokerSubmission.deadline_at).is_not(None))

#: The answers of the customs broker that are outcomes by the same name: those that need a person, and the others.
_NEEDS_PERSON: Final = (SubmissionState.REJECTED.value, SubmissionState.QUERY.value, SubmissionState.HELD.value)
_AGREED: Final = (SubmissionState.ACCEPTED.value, SubmissionState.FILED.value, SubmissionState.RELEASED.value)


def outcome_expression(*conditions: ColumnExpressionArgument[bool]) -> ColumnElement[str]:
    """Return the outcome of an export as an expression; the statement joins `HANDOFF` from the outside.

    `conditions` are those conditions on deliveries that bound the search for dead letters: an account, or one export.
    A dead letter of the customs broker counts by the handoff itself: once it has answered, a copy by another channel that
    was given up changes nothing. What was not delivered to operators is no fault of the export.
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
    """Return what `QUARANTINED` says of the row."""
    return export.quarantined and export.state == ExportState.FAILED.value
