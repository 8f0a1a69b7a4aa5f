"""Notifies the operators once of each overdue status or summary, and once more when goods arrive without a release."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Float,
    Row,
    Select,
    and_,
    bindparam,
    false,
    func,
    literal_column,
    or_,
    select,
    union_all,
    update,
)
from sqlmodel import Session, col

from pipeline.core.clock import format_utc
from pipeline.core.db import database_now, statement_now, table
from pipeline.core.errors import DatabaseBusy
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.outbox import operator_messages
from pipeline.deliveries.outbox.operator_messages import OverdueStatus
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.submissions import summaries
from pipeline.deliveries.submissions.summaries import ACTOR
from pipeline.deliveries.submissions.waits import AHEAD
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Account, Export
from pipeline.exports.states import ExportState

log = structlog.get_logger(__name__)

_submissions, _exports, _accounts = table(BrokerSubmission).c, table(Export).c, table(Account).c


def _find_late(
    now: ColumnElement[datetime],
    due_at: ColumnElement[datetime],
    *conditions: ColumnElement[bool],
    is_summary: ColumnElement[int] = literal_column("0"),  # noqa: B008 - it never changes
) -> Select[*tuple[Any, ...]]:
    return (
        select(_submissions.id, _submissions.export_id, is_summary.label("is_summary"))
        .join(table(Export), _exports.id == _submissions.export_id)
        .where(due_at <= now, *conditions, _exports.state != ExportState.SUPERSEDED.value)
        .order_by(due_at)
        .limit(bindparam("most"))
        .subquery()
        .select()
    )


def _select_late(now: ColumnElement[datetime], *conditions: ColumnElement[bool]) -> CompoundSelect[*tuple[Any, ...]]:
    return union_all(
        _find_late(now, _submissions.deadline_at, _submissions.overdue_at.is_(None), *conditions),
        # Overdue since before the arrival, and a status is still expected.
        _find_late(
            now,
            _submissions.arrives_at,
            _submissions.overdue_at < _submissions.arrives_at,
            _submissions.deadline_at.is_not(None),
            *conditions,
        ),
        _find_late(
            now,
            _submissions.summary_due_at,
            _submissions.summary_overdue_at.is_(None),
            *conditions,
            is_summary=literal_column("1"),
        ),
    )


_LATE: Final = _select_late(statement_now())
#: The accounts whose test clock was moved, and what is late by that of one. SQLite would not begin a join with them.
_MOVED: Final = select(_accounts.id, _accounts.test_clock_seconds).where(
    _accounts.test_clock_seconds > literal_column("0")
)
_LATE_BY_TEST_CLOCK: Final = _select_late(
    statement_now(bindparam("ahead", type_=Float())),
    _submissions.test_account_id == bindparam("of_account"),
    _submissions.account_id == bindparam("of_account"),
)


def notify_overdue(runtime: Runtime) -> list[DeliveryStream]:
    """Notify the operators of each status whose deadline has passed; return the streams to publish.

    Each status has its own transaction: if one fails, the others continue and the next sweep retries it. Each status is
    notified once, by the first sweep that finds it, and once more if the goods arrive later without a release; the next
    status has its own deadline. Superseded handoffs are skipped.
    """
    most = {"most": runtime.settings.sweep_limit}
    with runtime.db.read() as session:
        found = [*session.execute(_LATE, most)]
        for account_id, seconds in session.execute(_MOVED).all():
            found += session.execute(_LATE_BY_TEST_CLOCK, most | {"of_account": account_id, "ahead": seconds})
    return _notify_each(runtime, found)


def notify_overdue_tests(runtime: Runtime, account_id: str, ahead_seconds: int, most: int) -> list[DeliveryStream]:
    """Notify the operators of at most thrice `most` statuses that are late by the account's test clock.

    Return the streams to publish. The next sweep notifies them of the others.
    """
    with runtime.db.read() as session:
        late = {"of_account": account_id, "ahead": ahead_seconds, "most": most}
        found = session.execute(_LATE_BY_TEST_CLOCK, late).all()
    return _notify_each(runtime, found)


def _notify_each(runtime: Runtime, found: Iterable[Row[*tuple[Any, ...]]]) -> list[DeliveryStream]:
    streams: list[DeliveryStream] = []
    for submission_id, export_id, is_summary in found:
        notify = summaries.notify_late if is_summary else _notify_once
        try:
            with runtime.db.write() as session:
                late = notify(session, submission_id, export_id)
                failpoint("overdue.mid")
            failpoint("overdue.after")
            streams += late
        except DatabaseBusy as busy:
            log.warning("overdue_not_notified", submission_id=submission_id, reason=str(busy))
            break  # the others would also wait
        except Exception:
            log.exception("overdue_not_notified", submission_id=submission_id)
    return streams


def _notify_once(session: Session, submission_id: str, export_id: str) -> Sequence[DeliveryStream]:
    # Lock the export's row first, as each writer of its log does. A concurrent answer is then before or after this.
    events.lock_export(session, export_id)
    before = session.scalar(select(col(BrokerSubmission.overdue_at)).where(col(BrokerSubmission.id) == submission_id))
    now = database_now(AHEAD)
    has_arrived = col(BrokerSubmission.arrives_at) <= now
    found = session.execute(
        update(BrokerSubmission)
        .where(
            col(BrokerSubmission.id) == submission_id,
            col(BrokerSubmission.deadline_at) <= now,
            or_(
                col(BrokerSubmission.overdue_at).is_(None),
                and_(has_arrived, col(BrokerSubmission.overdue_at) < col(BrokerSubmission.arrives_at)),
            ),
        )
        .values(overdue_at=now, first_overdue_at=func.coalesce(col(BrokerSubmission.first_overdue_at), database_now()))
        .returning(
            col(BrokerSubmission.id),
            col(BrokerSubmission.export_id),
            col(BrokerSubmission.partner_id),
            col(BrokerSubmission.channel),
            col(BrokerSubmission.state),
            col(BrokerSubmission.deadline_at),
            col(BrokerSubmission.arrives_at),
            func.coalesce(has_arrived, false()),
        )
        .execution_options(synchronize_session=False)
    ).first()
    if found is None:
        return ()
    late = replace(OverdueStatus(*found), repeated=before is not None)
    fact = {
        "submissionId": late.submission_id,
        "partnerId": late.partner_id,
        "channel": late.channel,
        "submissionStatus": late.status,
        "deadlineAt": format_utc(late.deadline_at),
        **({} if late.arrives_at is None else {"arrivesAt": format_utc(late.arrives_at)}),
        **({"arrived": True} if late.has_arrived else {}),
        **({"repeated": True} if late.repeated else {}),
    }
    enqueued = operator_messages.enqueue_handoff_overdue(session, late)
    events.append(session, export_id, ACTOR, [NewEvent(EventType.HANDOFF_OVERDUE, {**fact, **enqueued.fact})])
    return enqueued.streams
