"""What is due next in an account, the earliest first."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, or_, select, tuple_
from sqlmodel import col

from pipeline.accounts.models import Partner
from pipeline.core.clock import format_utc
from pipeline.core.db import statement_now
from pipeline.core.errors import ValidationFailed
from pipeline.core.json_input import validation_failed
from pipeline.core.problems import Issue
from pipeline.core.runtime import Runtime
from pipeline.deliveries.account_clock import read_ahead
from pipeline.deliveries.models import BrokerSubmission
from pipeline.exports.models import Export
from pipeline.exports.schemas.deadlines import DeadlineKind, DeadlinePage, DeadlineView

_PLACE = col(BrokerSubmission.deadline_at), col(BrokerSubmission.id)


def list_deadlines(
    runtime: Runtime,
    account_id: str,
    *,
    within_hours: int | None = None,
    partner_id: str | None = None,
    after: str | None = None,
    limit: int,
) -> DeadlinePage:
    """Return the open handoffs whose next status is due, also those overdue; each page is read from an index.

    Only those due `within_hours`, only those to one partner, and only those after the last of a page, if given. Raises
    ValidationFailed if no page gave `after`.
    """
    query = select_deadlines(account_id, limit + 1)
    if partner_id is not None:
        query = query.where(col(BrokerSubmission.partner_id) == partner_id)
    if after is not None:
        query = query.where(tuple_(*_PLACE) > _parse_place(after))
    with runtime.db.read() as session:
        if within_hours is not None:
            ahead = read_ahead(session, account_id, test=True)
            query = query.where(*_are_due(within_hours * 3600, ahead.total_seconds()))
        found = [_build_view(row) for row in session.execute(query)]
    items = found[:limit]
    return DeadlinePage(items=items, next_after=_name_place(items[-1]) if len(found) > limit else None)


def select_deadlines(account_id: str, limit: int) -> Select[*tuple[Any, ...]]:
    """Return the query of the account's first open handoffs, the earliest first, with their export and partner."""
    return (
        select(BrokerSubmission, col(Export.batch_id), col(Export.revision), col(Export.test), col(Partner.name))
        .join(Export, col(Export.id) == col(BrokerSubmission.export_id))
        .join(
            Partner,
            (col(Partner.account_id) == col(BrokerSubmission.account_id))
            & (col(Partner.id) == col(BrokerSubmission.partner_id)),
        )
        .where(col(BrokerSubmission.account_id) == account_id, col(BrokerSubmission.deadline_at).is_not(None))
        .order_by(*_PLACE)
        .limit(limit)
    )


def _are_due(seconds: float, ahead: float) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of what is due within `seconds`; the clock of test exports is `ahead`."""
    due_at = col(BrokerSubmission.deadline_at)
    yield due_at <= statement_now(seconds + ahead)
    if ahead:
        yield or_(col(BrokerSubmission.test_account_id).is_not(None), due_at <= statement_now(seconds))


def _build_view(row: Row[Any]) -> DeadlineView:
    submission = row.BrokerSubmission
    return DeadlineView(
        kind=DeadlineKind.HANDOFF,
        export_id=submission.export_id,
        batch_id=row.batch_id,
        revision=row.revision,
        test=row.test,
        partner_id=submission.partner_id,
        partner_name=row.name,
        submission_id=submission.id,
        submission_status=submission.state,
        deadline_at=submission.deadline_at,
        overdue_at=submission.overdue_at,
        arrives_at=submission.arrives_at,
    )


def _name_place(last: DeadlineView) -> str:
    # The deadline, too: the handoff may be answered before the next page is read.
    return f"{format_utc(last.deadline_at)}.{last.submission_id}"


def _parse_place(after: str) -> tuple[datetime, str]:
    at, _, submission_id = after.rpartition(".")
    try:
        deadline_at = datetime.fromisoformat(at)
        if deadline_at.tzinfo is None:
            raise _unknown_place()
        return deadline_at.astimezone(UTC), submission_id
    except (ValueError, OverflowError):
        raise _unknown_place() from None


def _unknown_place() -> ValidationFailed:
    message = "is not the `nextAfter` of a page; leave it out to begin with the earliest"
    return validation_failed([Issue(path="/query/after", message=message, code="cursor")])
