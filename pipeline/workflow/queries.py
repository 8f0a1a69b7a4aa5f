"""Lists of an account's exports, newest first, with a cursor that new exports do not move."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, exists, func, not_, select, tuple_, union_all
from sqlmodel import Session, col
from sqlmodel import select as sqlmodel_select

from pipeline.core.ids import first_id, last_id
from pipeline.core.json_input import validation_failed
from pipeline.core.pages import unknown_cursor
from pipeline.core.problems import Issue
from pipeline.deliveries.entries.entries import describe_differing
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.outcomes import (
    QUARANTINED,
    REACHED_AT,
    Search,
    account_search,
    can_have_outcome,
    is_quarantined,
    outcome_search,
    state_search,
)
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export
from pipeline.exports.queries import event_view
from pipeline.exports.schemas.export import EventView, ExportPage, ExportSummary
from pipeline.exports.schemas.filters import ExportFilter
from pipeline.exports.states import ACTIVE_STATES, UNANSWERED_STATES, DeliveryState, ExportState, Milestone, Outcome

#: The most entries that a page of exports reads.
MAX_ENTRIES_READ: Final = 5_000


def list_exports(
    session: Session, account_id: str, filters: ExportFilter, *, cursor: str | None, limit: int
) -> ExportPage:
    """Return the page after `cursor`.

    Raises ValidationFailed if the cursor is invalid, a time has no UTC offset, or the milestone of a time is missing.
    """
    if filters.reached is not None:
        return _list_reached(session, account_id, filters, filters.reached, cursor=cursor, limit=limit)
    for name, given in (("reachedAfter", filters.reached_after), ("reachedBefore", filters.reached_before)):
        if given is not None:
            message = f"needs reached: one of {', '.join(Milestone)}"
            raise validation_failed([Issue(path=f"/query/{name}", message=message, code="missing")])
    outcomes = _find_searched_outcomes(filters)
    search, query = _choose_search(account_id, filters, by_outcome=outcomes is not None)
    # An id begins with the millisecond of acceptance, so the index of ids bounds these searches too.
    first = None if filters.accepted_after is None else first_id("exp", filters.accepted_after)
    last = None if filters.accepted_before is None else last_id("exp", filters.accepted_before)

    after = None if cursor is None else _decode_cursor(cursor)

    def page(search: Search, query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
        # Ids are ordered by time, so the id is the only key of a page.
        found = query.where(search.where(first=first, last=last, after=after))
        return found.order_by(*search.newest_first).limit(limit + 1)

    if outcomes is not None:
        # The index has the exports of each outcome in the order of ids: a page of each is read.
        ids = query.with_only_columns(col(Export.id)).where(search.where())
        pages = [page(outcome_search(each), ids).subquery() for each in outcomes]
        if not pages:
            return ExportPage(items=[], next_cursor=None)
        query = query.where(col(Export.id).in_(union_all(*(select(each.c.id) for each in pages))))
        search = Search([col(Export.id)])
    rows = session.scalars(page(search, query)).all()
    return ExportPage(
        items=_summarize(session, rows[:limit]),
        next_cursor=_encode_cursor(rows[limit - 1].id) if len(rows) > limit else None,
    )


def _choose_search(
    account_id: str, filters: ExportFilter, *, by_outcome: bool
) -> tuple[Search, Select[*tuple[Any, ...]]]:
    """Return the search by the column whose index bounds it, and the query with the conditions of all other filters."""
    left, search = filters, Search([col(Export.id)])
    account = [col(Export.account_id) == account_id]
    # The index of the outcome, of quarantined exports or of ids bounds the searches by these.
    elsewhere = by_outcome or (filters.quarantined, filters.accepted_after, filters.accepted_before) != (
        None,
        None,
        None,
    )
    if filters.state is not None:
        search = state_search(filters.state)
    elif not elsewhere and filters.broker is not None:
        search = Search([col(Export.broker_id), col(Export.id)], [filters.broker])
        left = filters.model_copy(update={"broker": None})
    elif not elsewhere and filters.warehouse is not None:
        search = Search([col(Export.warehouse_id), col(Export.id)], [filters.warehouse])
        left = filters.model_copy(update={"warehouse": None})
    elif not elsewhere:
        search, account = account_search(account_id), []
    if left.broker is not None:
        account.append(col(Export.broker_id) == left.broker)
    return search, select(Export).where(*account, *_build_conditions(left))


def _build_conditions(filters: ExportFilter) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions on the row of an export that no index bounds alone."""
    if filters.quarantined is not None:
        yield QUARANTINED if filters.quarantined else not_(QUARANTINED)
    if filters.warehouse is not None:
        yield col(Export.warehouse_id) == filters.warehouse
    if filters.accepted_after is not None:
        yield col(Export.accepted_at) > _require_offset(filters.accepted_after, "acceptedAfter")
    if filters.accepted_before is not None:
        yield col(Export.accepted_at) < _require_offset(filters.accepted_before, "acceptedBefore")


def _list_reached(
    session: Session, account_id: str, filters: ExportFilter, reached: Milestone, *, cursor: str | None, limit: int
) -> ExportPage:
    """Return the page of exports whose handoff reached the milestone, the newest milestone first.

    The index of the milestone, or of the customs broker's, bounds the search.
    """
    at, export_id = REACHED_AT[reached], col(BrokerSubmission.export_id)
    query = select(Export, at).join(Export, col(Export.id) == export_id)
    query = query.where(at.is_not(None), col(BrokerSubmission.account_id) == account_id)
    if filters.broker is not None:
        query = query.where(col(BrokerSubmission.partner_id) == filters.broker)
    if filters.reached_after is not None:
        query = query.where(at > _require_offset(filters.reached_after, "reachedAfter"))
    if filters.reached_before is not None:
        query = query.where(at < _require_offset(filters.reached_before, "reachedBefore"))
    if cursor is not None:
        after_at, after_id = _decode_reached_cursor(cursor)
        query = query.where(at <= after_at, tuple_(at, export_id) < (after_at, after_id))
    if filters.state is not None:
        query = query.where(col(Export.state) == filters.state.value)
    if filters.outcome:
        query = query.where(col(Export.outcome).in_(sorted(filters.outcome)))
    for condition in _build_conditions(filters):
        query = query.where(condition)
    rows = session.execute(query.order_by(at.desc(), export_id.desc()).limit(limit + 1)).all()
    last = rows[limit - 1] if len(rows) > limit else None
    items = _summarize(session, [row for row, _ in rows[:limit]])
    return ExportPage(
        items=[each.model_copy(update={"reached_at": at}) for each, (_, at) in zip(items, rows, strict=False)],
        next_cursor=None if last is None else _encode_cursor(f"{last[1].isoformat()} {last[0].id}"),
    )


def _find_searched_outcomes(filters: ExportFilter) -> Sequence[Outcome] | None:
    """Return the outcomes to search for, without those that the other filters exclude; None if each outcome is wanted."""
    state = ExportState.FAILED if filters.quarantined else filters.state
    wanted = {*filters.outcome} or {*Outcome}
    possible = {each for each in Outcome if state is None or can_have_outcome(state, each)}
    return None if possible <= wanted else sorted(possible & wanted)


def _summarize(session: Session, rows: Sequence[Export]) -> list[ExportSummary]:
    wanted, units = [], 0
    for row in rows:
        # The worst entry gives the outcome: those of a released export do not differ.
        if row.units_total > 1 and row.state == ExportState.EXECUTED and row.outcome != Outcome.RELEASED:
            units += row.units_total
            if units <= MAX_ENTRIES_READ:
                wanted.append(row.id)
    entries = describe_differing(session, wanted)
    return [_summary(row, entries.get(row.id)) for row in rows]


def _summary(row: Export, entries: str | None) -> ExportSummary:
    return ExportSummary(
        export_id=row.id,
        batch_id=row.batch_id,
        state=ExportState(row.state),
        outcome=Outcome(row.outcome),
        plan_hash=row.plan_hash,
        revision=row.revision,
        test=row.test,
        broker_id=row.broker_id,
        warehouse_id=row.warehouse_id,
        units_total=row.units_total,
        units_closed=row.units_closed,
        entries=entries,
        failure=row.failure,
        quarantined=is_quarantined(row),
        accepted_at=row.accepted_at,
        updated_at=row.updated_at,
        link=f"/api/exports/{row.id}",
    )


def _encode_cursor(export_id: str) -> str:
    return base64.urlsafe_b64encode(export_id.encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> str:
    try:
        export_id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        if not export_id.isprintable():
            raise ValueError("an id is printable")
    except ValueError:
        raise unknown_cursor() from None
    return export_id


def _decode_reached_cursor(cursor: str) -> tuple[datetime, str]:
    instant, _, export_id = _decode_cursor(cursor).partition(" ")
    try:
        at = datetime.fromisoformat(instant)
    except ValueError:
        raise unknown_cursor() from None
    if at.tzinfo is None or not export_id:
        raise unknown_cursor()
    return at, export_id


def _require_offset(given: datetime, name: str) -> datetime:
    if given.tzinfo is None:
        message = "must have a UTC offset, such as 2026-11-24T15:04:05Z"
        raise validation_failed([Issue(path=f"/query/{name}", message=message, code="timezone_aware")])
    return given


_UNSENT: Final = (DeliveryState.WAITING.value, DeliveryState.PENDING.value)


@dataclass(frozen=True)
class EventBatch:
    """Events in order; `settled` if there are none and none will come unless a person intervenes."""

    events: Sequence[EventView]
    settled: bool


def events_after(session: Session, export_id: str, seq: int, limit: int) -> EventBatch:
    """Return the events after the number `seq`, at most `limit`."""
    rows = session.exec(
        sqlmodel_select(Event)
        .where(col(Event.export_id) == export_id, col(Event.seq) > seq)
        .order_by(col(Event.seq))
        .limit(limit)
    ).all()
    return EventBatch([event_view(row) for row in rows], not rows and _is_settled(session, export_id))


def read_export_version(session: Session, export_id: str) -> str:
    """Return a text that changes with each event of the export and each attempt at one of its deliveries."""
    last_seq = sqlmodel_select(func.max(col(Event.seq))).where(col(Event.export_id) == export_id).scalar_subquery()
    attempts = (
        sqlmodel_select(func.sum(col(Delivery.attempts))).where(col(Delivery.subject_id) == export_id).scalar_subquery()
    )
    row = session.execute(select(last_seq, attempts)).one()
    return f"{row[0]}.{row[1] or 0}"


def read_account_version(session: Session, account_id: str) -> str:
    """Return a text that changes with each event of the account; empty if there was none."""
    # Each event writes its time in its export's row.
    updated_at = col(Export.updated_at)
    newest = session.scalar(
        select(updated_at).where(col(Export.account_id) == account_id).order_by(updated_at.desc()).limit(1)
    )
    return "" if newest is None else newest.isoformat()


def _is_settled(session: Session, export_id: str) -> bool:
    active = sqlmodel_select(Export.id).where(col(Export.id) == export_id, col(Export.state).in_(ACTIVE_STATES))
    unsent = (
        sqlmodel_select(Delivery.id)
        .where(col(Delivery.subject_id) == export_id, col(Delivery.state).in_(_UNSENT))
        .limit(1)
    )
    # A submission of a superseded export is not expected to be answered.
    superseded = exists().where(col(Export.id) == export_id, col(Export.state) == ExportState.SUPERSEDED.value)
    unanswered = sqlmodel_select(BrokerSubmission.id).where(
        ~superseded,
        col(BrokerSubmission.export_id) == export_id,
        col(BrokerSubmission.state).in_(UNANSWERED_STATES),
        col(BrokerSubmission.overdue_at).is_(None),
    )
    return not any(session.scalar(query) is not None for query in (active, unsent, unanswered))
