"""Notifies the operators once of each overdue submission status."""

from collections.abc import Sequence
from typing import Final

import structlog
from sqlalchemy import bindparam, func, select, update
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
_LATE: Final = (
    select(_submissions.id, _submissions.export_id)
    .join(table(Export), _exports.id == _submissions.export_id)
    .where(
        _submissions.deadline_at <= statement_now(),
        _submissions.overdue_at.is_(None),
        _exports.state != ExportState.SUPERSEDED.value,
    )
    .order_by(_submissions.deadline_at)
    .limit(bindparam("most"))
)


def notify_overdue(runtime: Runtime) -> list[DeliveryStream]:
    """Notify the operators of each status whose deadline has passed; return the streams to publish.

    Each status has its own transaction: if one fails, the others continue and the next sweep retries it. Each status is
    notified once, by the first sweep that finds it; the next status has its own deadline. Superseded handoffs are
    skipped.
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
    found = session.execute(
        update(BrokerSubmission)
        .where(
            col(BrokerSubmission.id) == submission_id,
            col(BrokerSubmission.deadline_at) <= database_now(),
            col(BrokerSubmission.overdue_at).is_(None),
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
        )
        .execution_options(synchronize_session=False)
    ).first()
    if found is None:
        return ()
    late = OverdueStatus(*found)
    fact = {
        "submissionId": late.submission_id,
        "partnerId": late.partner_id,
        "channel": late.channel,
        "submissionStatus": late.status,
        "deadlineAt": format_utc(late.deadline_at),
    }
    enqueued = operator_messages.enqueue_handoff_overdue(session, late)
    events.append(session, export_id, ACTOR, [NewEvent(EventType.HANDOFF_OVERDUE, {**fact, **enqueued.fact})])
    return enqueued.streams
