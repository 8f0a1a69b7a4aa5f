"""Lists of an account's exports, newest first, walked by a cursor that new exports do not move."""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import exists, not_, select
from sqlmodel import Session, col
from sqlmodel import select as sqlmodel_select

from pipeline.core.json_input import failed
from pipeline.core.problems import Issue
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.outcomes import HANDOFF, SET_ASIDE, outcome, set_aside
from pipeline.exports.models import Event, Export
from pipeline.exports.queries import event_view
from pipeline.exports.schemas.export import EventView, ExportPage, ExportSummary
from pipeline.exports.states import UNANSWERED, UNENDED, DeliveryState, ExportState, Outcome


@dataclass(frozen=True)
class Filter:
    """Which exports are wanted; what is None, or no outcome at all, does not matter."""

    state: ExportState | None = None
    broker_id: str | None = None
    warehouse_id: str | None = None
    accepted_after: datetime | None = None
    accepted_before: datetime | None = None
    quarantined: bool | None = None
    outcomes: Collection[Outcome] = ()


def listed(session: Session, account_id: str, wanted: Filter, *, cursor: str | None, limit: int) -> ExportPage:
    """Return the page behind `cursor`.

    Raises ValidationFailed where that is no cursor, or a time has no offset.
    """
    became = outcome(col(Delivery.account_id) == account_id)
    query = (
        select(Export, became).join(BrokerSubmission, HANDOFF, isouter=True).where(col(Export.account_id) == account_id)
    )
    if wanted.outcomes:
        query = query.where(became.in_([each.value for each in wanted.outcomes]))
    if wanted.state is not None:
        query = query.where(col(Export.state) == wanted.state.value)
    if wanted.quarantined is not None:
        query = query.where(SET_ASIDE if wanted.quarantined else not_(SET_ASIDE))
    if wanted.broker_id is not None:
        query = query.where(col(Export.broker_id) == wanted.broker_id)
    if wanted.warehouse_id is not None:
        query = query.where(col(Export.warehouse_id) == wanted.warehouse_id)
    if wanted.accepted_after is not None:
        query = query.where(col(Export.accepted_at) > _aware(wanted.accepted_after, "acceptedAfter"))
    if wanted.accepted_before is not None:
        query = query.where(col(Export.accepted_at) < _aware(wanted.accepted_before, "acceptedBefore"))
    if cursor is not None:
        # Ids are ordered by time, so the id alone is the key of the page.
        query = query.where(col(Export.id) < _id_of(cursor))
    rows = session.execute(query.order_by(col(Export.id).desc()).limit(limit + 1)).all()
    return ExportPage(
        items=[_summary(row, Outcome(said)) for row, said in rows[:limit]],
        next_cursor=_cursor_of(rows[limit - 1][0].id) if len(rows) > limit else None,
    )


def _summary(row: Export, said: Outcome) -> ExportSummary:
    return ExportSummary(
        export_id=row.id,
        batch_id=row.batch_id,
        state=ExportState(row.state),
        outcome=said,
        plan_hash=row.plan_hash,
        revision=row.revision,
        test=row.test,
        broker_id=row.broker_id,
        warehouse_id=row.warehouse_id,
        units_total=row.units_total,
        units_closed=row.units_closed,
        failure=row.failure,
        quarantined=set_aside(row),
        accepted_at=row.accepted_at,
        updated_at=row.updated_at,
        link=f"/api/exports/{row.id}",
    )


def _cursor_of(export_id: str) -> str:
    return base64.urlsafe_b64encode(export_id.encode()).decode().rstrip("=")


def _id_of(cursor: str) -> str:
    try:
        export_id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        if not export_id.isprintable():
            raise ValueError("an id is printable")
    except ValueError:
        message = "is no cursor of a list; leave it out to begin with the newest"
        raise failed([Issue(path="/query/cursor", message=message, code="cursor")]) from None
    return export_id


def _aware(given: datetime, name: str) -> datetime:
    if given.tzinfo is None:
        message = "must say its offset, such as 2026-11-24T15:04:05Z"
        raise failed([Issue(path=f"/query/{name}", message=message, code="timezone_aware")])
    return given


_UNTOLD: Final = (DeliveryState.WAITING.value, DeliveryState.PENDING.value)


@dataclass(frozen=True)
class Stretch:
    """Events in order; `settled` where there are none and none are to come unless somebody intervenes."""

    events: Sequence[EventView]
    settled: bool


def log_after(session: Session, export_id: str, seq: int, limit: int) -> Stretch:
    """Return the events after the number `seq`, at most `limit`."""
    rows = session.exec(
        sqlmodel_select(Event)
        .where(col(Event.export_id) == export_id, col(Event.seq) > seq)
        .order_by(col(Event.seq))
        .limit(limit)
    ).all()
    return Stretch([event_view(row) for row in rows], not rows and _settled(session, export_id))


def _settled(session: Session, export_id: str) -> bool:
    unended = sqlmodel_select(Export.id).where(col(Export.id) == export_id, col(Export.state).in_(UNENDED))
    untold = (
        sqlmodel_select(Delivery.id)
        .where(col(Delivery.export_id) == export_id, col(Delivery.state).in_(_UNTOLD))
        .limit(1)
    )
    # Nobody waits for an answer to what a newer revision has replaced.
    superseded = exists().where(col(Export.id) == export_id, col(Export.state) == ExportState.SUPERSEDED.value)
    unanswered = sqlmodel_select(BrokerSubmission.id).where(
        ~superseded,
        col(BrokerSubmission.export_id) == export_id,
        col(BrokerSubmission.state).in_(UNANSWERED),
        col(BrokerSubmission.overdue_at).is_(None),
    )
    return not any(session.scalar(query) is not None for query in (unended, untold, unanswered))
