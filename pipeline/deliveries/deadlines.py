"""What is due next in an account, the earliest first."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, SQLColumnExpression, literal, or_, select, tuple_
from sqlmodel import Session, col

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

_submission_id = col(BrokerSubmission.id)

#: When something of each kind is due, and when the operators were notified that it is overdue.
_DUE: Final = {
    DeadlineKind.HANDOFF: (col(BrokerSubmission.deadline_at), col(BrokerSubmission.overdue_at)),
    DeadlineKind.SUMMARY: (col(BrokerSubmission.summary_due_at), col(BrokerSubmission.summary_overdue_at)),
}

#: The last part of the place of a summary: the handoff may be due at the same instant.
_OF_SUMMARY: Final = ".summary"


@dataclass(frozen=True)
class DeadlineFilter:
    """Which deadlines are wanted: those due `within_hours`, those of one partner, those after the last of a page."""

    within_hours: int | None = None
    partner_id: str | None = None
    after: str | None = None


def list_deadlines(runtime: Runtime, account_id: str, wanted: DeadlineFilter, *, limit: int) -> DeadlinePage:
    """Return what is due next, also what is overdue; each page is read from an index of each kind.

    Raises ValidationFailed if no page gave `after`.
    """
    with runtime.db.read() as session:
        found = [_build_view(row) for row in find_deadlines(session, account_id, wanted, limit + 1)]
    items = found[:limit]
    return DeadlinePage(items=items, next_after=_name_place(items[-1]) if len(found) > limit else None)


def find_deadlines(session: Session, account_id: str, wanted: DeadlineFilter, limit: int) -> list[Row[Any]]:
    """Return the first that are due of the account, the earliest first. Raises ValidationFailed as `list_deadlines`."""
    place = None if wanted.after is None else _parse_place(wanted.after)
    ahead = 0.0 if wanted.within_hours is None else read_ahead(session, account_id, test=True).total_seconds()
    found = []
    for kind, (due_at, _) in _DUE.items():
        query = _select_deadlines(account_id, kind, limit)
        if wanted.partner_id is not None:
            query = query.where(col(BrokerSubmission.partner_id) == wanted.partner_id)
        if place is not None:
            at, submission_id, placed = place
            here = tuple_(due_at, _submission_id)
            # The summary comes after the handoff that is due at the same instant.
            is_next = kind is DeadlineKind.SUMMARY and placed is DeadlineKind.HANDOFF
            query = query.where(here >= (at, submission_id) if is_next else here > (at, submission_id))
        if wanted.within_hours is not None:
            query = query.where(*_are_due(due_at, wanted.within_hours * 3600, ahead))
        found.append(session.execute(query).all())
    return [*islice(merge(*found, key=lambda row: (row.due_at, row.BrokerSubmission.id)), limit)]


def _select_deadlines(account_id: str, kind: DeadlineKind, limit: int) -> Select[*tuple[Any, ...]]:
    """Return the query of the account's first submissions with a deadline of this kind, with their export and partner."""
    due_at, late_at = _DUE[kind]
    return (
        select(
            BrokerSubmission,
            literal(kind.value).label("kind"),
            due_at.label("due_at"),
            late_at.label("late_at"),
            *(col(each) for each in (Export.batch_id, Export.revision, Export.test, Partner.name)),
        )
        .join(Export, col(Export.id) == col(BrokerSubmission.export_id))
        .join(
            Partner,
            (col(Partner.account_id) == col(BrokerSubmission.account_id))
            & (col(Partner.id) == col(BrokerSubmission.partner_id)),
        )
        .where(col(BrokerSubmission.account_id) == account_id, due_at.is_not(None))
        .order_by(due_at, _submission_id)
        .limit(limit)
    )


def _are_due(due_at: SQLColumnExpression[Any], seconds: float, ahead: float) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions of what is due within `seconds`; the clock of test exports is `ahead`."""
    yield due_at <= statement_now(seconds + ahead)
    if ahead:
        yield or_(col(BrokerSubmission.test_account_id).is_not(None), due_at <= statement_now(seconds))


def _build_view(row: Row[Any]) -> DeadlineView:
    submission = row.BrokerSubmission
    return DeadlineView(
        kind=DeadlineKind(row.kind),
        export_id=submission.export_id,
        batch_id=row.batch_id,
        revision=row.revision,
        test=row.test,
        partner_id=submission.partner_id,
        partner_name=row.name,
        submission_id=submission.id,
        submission_status=submission.state,
        deadline_at=row.due_at,
        overdue_at=row.late_at,
        arrives_at=submission.arrives_at,
    )


def _name_place(last: DeadlineView) -> str:
    # The deadline, too: the handoff may be answered before the next page is read.
    kind = _OF_SUMMARY if last.kind is DeadlineKind.SUMMARY else ""
    return f"{format_utc(last.deadline_at)}.{last.submission_id}{kind}"


def _parse_place(after: str) -> tuple[datetime, str, DeadlineKind]:
    named = after.removesuffix(_OF_SUMMARY)
    at, _, submission_id = named.rpartition(".")
    try:
        deadline_at = datetime.fromisoformat(at)
        if deadline_at.tzinfo is None:
            raise _unknown_place()
        kind = DeadlineKind.HANDOFF if named == after else DeadlineKind.SUMMARY
        return deadline_at.astimezone(UTC), submission_id, kind
    except (ValueError, OverflowError):
        raise _unknown_place() from None


def _unknown_place() -> ValidationFailed:
    message = "is not the `nextAfter` of a page; leave it out to begin with the earliest"
    return validation_failed([Issue(path="/query/after", message=message, code="cursor")])
