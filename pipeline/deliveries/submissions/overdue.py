"""Notifies the operators once of each overdue submission status, and once more when its goods arrive without a release."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import ColumnElement, Select, and_, bindparam, false, func, or_, select, union_all, update
from sqlmodel import Session, col

from pipeline.core.clock import format_utc
from pipeline.core.db import database_now, statement_now, table
from pipeline.core.errors import DatabaseBusy
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.outbox import operator_messages
from pipeline.deliveries.outbox.operator_messages import OverdueStatus
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.exports import events
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export
from pipeline.exports.states import ExportState

log = structlog.get_logger(__name__)

ACTOR: Final = "deadlines"


_submissions, _exports = table(BrokerSubmission).c, table(Export).c


def _find_late(due_at: ColumnElement[datetime], *conditions: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    return (
        select(_submissions.id, _submissions.export_id)
        .join(table(Export), _exports.id == _submissions.export_id)
        .where(due_at <= statement_now(), *conditions, _exports.state != ExportState.SUPERSEDED.value)
        .order_by(due_at)
        .limit(bindparam("most"))
        .subquery()
        .select()
    )


_LATE: Final = union_all(
    _find_late(_submissions.deadline_at, _submissions.overdue_at.is_(None)),
    # Overdue since before the arrival, and a status is still expected.
    _find_late(
        _submissions.arrives_at,
        _submissions.overdue_at < _submissions.arrives_at,
        _submissions.deadline_at.is_not(None),
    ),
)


def notify_overdue(runtime: Runtime) -> list[DeliveryStream]:
    """Notify the operators of each status whose deadline has passed; return the streams to publish.

    Each status has its own transaction: if one fails, the others continue and the next sweep retries it. Each status is
    notified once, by the first sweep that finds it, and once more if the goods arrive later without a release; the next
    status has its own deadline. Superseded handoffs are skipped.
    """
    with runtime.db.read() as session:
        found = session.execute(_LATE, {"most": runtime.settings.sweep_limit}).all()
    streams: list[DeliveryStream] = []
    for submission_id, export_id in found:
        try:
            with runtime.db.write() as session:
                streams += _notify_once(session, submission_id, export_id)
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
    has_arrived = col(BrokerSubmission.arrives_at) <= database_now()
    found = session.execute(
        update(BrokerSubmission)
        .where(
            col(BrokerSubmission.id) == submission_id,
            col(BrokerSubmission.deadline_at) <= database_now(),
            or_(
                col(BrokerSubmission.overdue_at).is_(None),
                and_(has_arrived, col(BrokerSubmission.overdue_at) < col(BrokerSubmission.arrives_at)),
            ),
        )
        .values(
            overdue_at=database_now(),
            first_overdue_at=func.coalesce(col(BrokerSubmission.first_overdue_at), database_now()),
        )
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
