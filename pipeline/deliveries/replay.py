"""Replays: enqueue a partner's messages again with the same ids, if the partner lost them."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, case, exists, func, or_, select
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts.models import Partner
from pipeline.core.db import database_now
from pipeline.core.errors import NotFound
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.outbox.outbox import BROKER, DeliveryStream
from pipeline.deliveries.schemas.messages import HELD_UNTIL_SUPERSEDED
from pipeline.deliveries.schemas.views import ReplayReport, ReplayRequest
from pipeline.deliveries.submissions import submissions
from pipeline.documents.repository import PURGED
from pipeline.exports import events
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.states import DeliveryState, SubmissionState

#: Limits of one page, which is one transaction. An export is never split: a larger one is a page of its own.
EXPORTS_PER_PAGE: Final = 200
MESSAGES_PER_PAGE: Final = 10_000

#: When a message was delivered; for a dead one, when it was enqueued.
_sent_at: Final = case(
    (col(Delivery.state) == DeliveryState.DELIVERED.value, col(Delivery.delivered_at)), else_=col(Delivery.created_at)
)


def replay_messages(
    runtime: Runtime, account_id: str, partner_id: str, request: ReplayRequest, actor: str, *, test_only: bool = False
) -> tuple[ReplayReport, list[DeliveryStream]]:
    """Requeue one page of a partner's messages, each with the same id. Return the report and the streams, by export.

    Messages that a newer revision replaced are left out, because the partner gets the newer ones. `test_only` leaves
    out live exports and plans. Raises NotFound.
    """
    with runtime.db.write() as session:
        # Deliveries may be addressed to the account's own id, which is not a partner.
        if partner_id != account_id and session.get(Partner, (account_id, partner_id)) is None:
            raise NotFound(f"there is no partner {partner_id} in this account")
        until = request.until or session.execute(select(database_now())).scalar_one()
        wanted = _replay_conditions(account_id, partner_id, request, test_only=test_only)
        wanted += [_sent_at >= request.since, _sent_at <= until]
        page, following = _select_page(session, wanted, request.after)
        # Lock first, in a fixed order, as each writer of a log does.
        exports = _lock_in_order(session, Export, page)
        _lock_in_order(session, PlanSnapshot, [each for each in page if each not in exports])
        requeued = outbox.requeue(session, *wanted, col(Delivery.subject_id).in_(page))
        counts: dict[str, int] = {}
        for row in requeued:
            counts[row.subject_id] = counts.get(row.subject_id, 0) + 1
        _reset_handoffs(
            session,
            runtime.settings,
            partner_id,
            {(row.subject_id, row.channel) for row in requeued if row.audience == BROKER},
        )
        for export_id in sorted(exports & counts.keys()):
            count = counts[export_id]
            data = {"partnerId": partner_id, "messages": count, "since": request.since.isoformat()}
            events.append(session, export_id, actor, [NewEvent(EventType.DELIVERY_RESENT, data)])
        if requeued:
            detail = {"since": request.since.isoformat(), "messages": len(requeued)}
            record_act(session, account_id, actor, Action.DELIVERIES_REPLAYED, partner_id, detail)
    # The database returns the rows in any order.
    streams = [
        DeliveryStream(subject_id, partner_id, channel)
        for subject_id, channel in sorted({(row.subject_id, row.channel) for row in requeued})
    ]
    report = ReplayReport(
        partner_id=partner_id,
        since=request.since,
        until=until,
        messages=len(requeued),
        exports=len(exports & counts.keys()),
        next=following,
    )
    return report, streams


def _replay_conditions(
    account_id: str, partner_id: str, request: ReplayRequest, *, test_only: bool
) -> list[ColumnElement[bool]]:
    of_message = col(Notification.id) == col(Delivery.notification_id)
    of_plan = col(PlanSnapshot.id) == col(Delivery.subject_id)
    newer = select(col(Export.supersedes_id)).where(
        col(Export.account_id) == account_id, col(Export.supersedes_id).is_not(None)
    )
    withdrawn = select(col(Export.id)).where(
        col(Export.account_id) == account_id, col(Export.withdrawal_seq).is_not(None)
    )
    wanted = [
        col(Delivery.account_id) == account_id,
        col(Delivery.partner_id) == partner_id,
        col(Delivery.state).in_(request.states),
        ~exists().where(col(Export.id) == col(Delivery.subject_id), col(Export.purged_at).is_not(None)),
        ~exists().where(of_plan, col(PlanSnapshot.document) == PURGED),
        ~exists().where(
            of_message,
            col(Notification.event_type).in_(HELD_UNTIL_SUPERSEDED),
            or_(col(Notification.export_id).in_(newer), col(Notification.export_id).in_(withdrawn)),
        ),
    ]
    if request.event_types is not None:
        types = [each.value for each in request.event_types]
        wanted.append(exists().where(of_message, col(Notification.event_type).in_(types)))
    if test_only:
        of_test = exists().where(col(Export.id) == col(Delivery.subject_id), col(Export.test).is_(True))
        wanted.append(or_(of_test, exists().where(of_plan, col(PlanSnapshot.test).is_(True))))
    return wanted


def _lock_in_order(session: Session, model: type[Export | PlanSnapshot], ids: Sequence[str]) -> set[str]:
    """Lock the rows of those exports or plans that exist, and return their ids."""
    if not ids:
        return set()
    return {
        *session.scalars(select(col(model.id)).where(col(model.id).in_(ids)).order_by(col(model.id)).with_for_update())
    }


def _select_page(
    session: Session, wanted: Sequence[ColumnElement[bool]], after: str | None
) -> tuple[list[str], str | None]:
    """Return the exports and plans of the page, in order. Also return the last one if more pages follow, else None."""
    found = session.execute(
        select(col(Delivery.subject_id), func.count())
        .where(*wanted, col(Delivery.subject_id) > (after or ""))
        .group_by(col(Delivery.subject_id))
        .order_by(col(Delivery.subject_id))
        .limit(EXPORTS_PER_PAGE + 1)
    ).all()
    page: list[str] = []
    messages = 0
    for export_id, count in found[:EXPORTS_PER_PAGE]:
        if page and messages + count > MESSAGES_PER_PAGE:
            break
        page.append(export_id)
        messages += count
    return page, page[-1] if len(page) < len(found) else None


def _reset_handoffs(session: Session, settings: Settings, partner_id: str, streams: set[tuple[str, str]]) -> None:
    """Reset failed handoffs to the first status if their channel is retried."""
    failed = session.execute(
        select(col(BrokerSubmission.id), col(BrokerSubmission.export_id), col(BrokerSubmission.channel)).where(
            col(BrokerSubmission.export_id).in_([export_id for export_id, _ in streams]),
            col(BrokerSubmission.partner_id) == partner_id,
            col(BrokerSubmission.state) == SubmissionState.FAILED.value,
        )
    ).all()
    for submission_id, export_id, channel in failed:
        if (export_id, channel) in streams:
            submissions.advance_status(session, settings, submission_id, SubmissionState.PENDING, error_message=None)
